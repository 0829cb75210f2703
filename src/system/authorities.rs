//! The certificates of the authorities that a peer's certificate is checked with, and a TLS client that does so.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::{ClientConfig, Error, RootCertStore};

use crate::system::small_file;

/// The authorities of the file alone, or the system's. `setting` is the one that names the file, and `whose` the peer.
///
/// # Errors
/// A sentence, where the file cannot be read or there are none.
pub fn load(setting: &str, file: Option<&Path>, whose: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let mut authorities = match file {
        None => rustls_native_certs::load_native_certs().certs,
        Some(path) => {
            let unreadable =
                |error: &dyn fmt::Display| format!("{setting}: {} cannot be read: {error}", path.display());
            let text = small_file::read(path, small_file::ONE_MIB).map_err(|error| unreadable(&error))?;
            CertificateDer::pem_slice_iter(&text).collect::<Result<_, _>>().map_err(|error| unreadable(&error))?
        }
    };
    // The system's may have some that nobody can use.
    authorities.retain(|certificate| RootCertStore::empty().add(certificate.clone()).is_ok());
    if authorities.is_empty() {
        return Err(match file {
            Some(path) => format!("{setting}: {} has no certificate that can be used", path.display()),
            None => format!(
                "this machine has no certificates of authorities to check {whose} with: install them, in Debian as \
                 ca-certificates, or name a file of them in {setting}"
            ),
        });
    }
    Ok(authorities)
}

/// A client that checks its peers with these.
///
/// # Errors
/// Where TLS cannot be used at all.
pub fn tls_client(authorities: Vec<CertificateDer<'static>>) -> Result<ClientConfig, Error> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(authorities);
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    Ok(builder.with_safe_default_protocol_versions()?.with_root_certificates(roots).with_no_client_auth())
}
