//! HTTP requests that the service makes by itself.

use std::time::Duration;

use ipnet::IpNet;
use thiserror::Error;

/// Why a request has no answer. It tells what went wrong, and nothing that was sent or received.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct OutboundError(pub(crate) String);

/// An answer.
#[expect(missing_docs, reason = "the names say it")]
pub struct Response {
    pub status: u16,
    /// In lower case, as the answer has them.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

/// Makes requests.
pub struct Client;

impl Client {
    /// A client that reaches public addresses, and private ones of these networks.
    #[must_use]
    pub fn new(_allow: Vec<IpNet>, _timeout: Duration) -> Self {
        Self
    }
}
