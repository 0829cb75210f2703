//! The certificates of the authorities that a peer's certificate is checked with, a TLS client that does so, and a sentence
//! for each way in which it can fail.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::{CertificateError, ClientConfig, Error, RootCertStore};

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

/// How a peer is named in a sentence on its certificate.
pub struct Peer<'a> {
    /// "The certificate of …".
    pub certificate: &'a str,
    /// The name that it must be for.
    pub name: &'a str,
    /// The setting that names a file of authorities.
    pub ca_setting: &'a str,
}

/// The error of TLS that is in a chain of causes, where one is.
#[must_use]
pub fn find_error<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        // An I/O error that wraps TLS's has it inside, not as its source.
        let inside = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if let Some(found) = inside.and_then(|inside| inside.downcast_ref()) {
            return Some(found);
        }
        next = error.source();
    }
    None
}

/// Why a peer's certificate is not accepted, in a sentence; `None` for another error of TLS.
#[must_use]
pub fn tell(error: &Error, Peer { certificate, name, ca_setting }: &Peer<'_>) -> Option<String> {
    let Error::InvalidCertificate(error) = error else { return None };
    Some(match error {
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            format!("{certificate} is for another name than {name}")
        }
        // A bad signature: an authority of that name is trusted, and it has another key.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => format!(
            "{certificate} is by an authority that is not trusted; name the authority's in {ca_setting} if it is yours"
        ),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            format!("{certificate} has expired, or this machine's clock is wrong")
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            format!("{certificate} is not valid yet, or this machine's clock is wrong")
        }
        error => format!("{certificate} is not valid: {error}"),
    })
}
