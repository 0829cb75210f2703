//! The OpenAPI document as it is served: the one that is committed. So the binary has nothing of what makes it.

use std::io::Read as _;
use std::sync::LazyLock;

use bytes::Bytes;
use flate2::bufread::GzDecoder;

/// The document as it is served.
pub(crate) static SERVED: LazyLock<Bytes> = LazyLock::new(|| {
    let packed: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/openapi.json.gz"));
    let mut json = Vec::new();
    // It is what the build has packed.
    GzDecoder::new(packed).read_to_end(&mut json).unwrap_or_default();
    json.into()
});
