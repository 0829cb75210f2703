//! A request that is sent byte by byte as it is given: for trials of what a proxy makes of it. Only the operator names where
//! to, so private addresses are reached, too.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::rustls::pki_types::ServerName;

use super::{Client, MAX_ANSWER, OutboundError, Target};

/// How long an answer may take.
const ANSWERED_WITHIN: Duration = Duration::from_secs(10);

/// Where requests are sent as they are.
pub struct RawTarget {
    target: Target,
    client: Client,
    /// Where to connect to, in the place of what the name leads to.
    address: Option<SocketAddr>,
}

impl RawTarget {
    /// Reads where to.
    ///
    /// # Errors
    /// [`OutboundError`] where it is no URL of HTTP.
    pub fn read(url: &str, address: Option<SocketAddr>) -> Result<Self, OutboundError> {
        let target = Target::read(url).map_err(|why| OutboundError { host: "the address".to_owned(), why })?;
        Ok(Self { target, client: Client::new(Vec::new(), ANSWERED_WITHIN), address })
    }

    /// The path with its query, as a request line has it.
    #[must_use]
    pub fn path(&self) -> String {
        let query = self.target.url.query().map(|query| format!("?{query}")).unwrap_or_default();
        format!("{}{query}", self.target.url.path())
    }

    /// The value of `Host`.
    #[must_use]
    pub fn host(&self) -> String {
        self.target
            .url
            .port()
            .map_or_else(|| self.target.host.to_string(), |port| format!("{}:{port}", self.target.host))
    }

    /// Sends a request, and answers the status; `None` where the connection was closed without one.
    ///
    /// # Errors
    /// [`OutboundError`] where nobody can be asked, or there is no answer in time.
    pub async fn send(&self, request: &[u8]) -> Result<Option<u16>, OutboundError> {
        let failed = |why: String| OutboundError { host: self.target.host.to_string(), why };
        let asked = async {
            let connected = match self.address {
                Some(address) => TcpStream::connect(address).await,
                None => TcpStream::connect((self.target.name(), self.target.port)).await,
            };
            let stream = connected.map_err(|error| format!("it cannot be connected to: {error}"))?;
            if self.target.is_tls {
                let name = ServerName::try_from(self.target.name()).map_err(|_| "it has no name for TLS".to_owned())?;
                let stream = self.client.tls().await?.connect(name, stream).await.map_err(|error| error.to_string())?;
                exchange(stream, request).await
            } else {
                exchange(stream, request).await
            }
        };
        let answer = timeout(ANSWERED_WITHIN, asked).await;
        answer.unwrap_or_else(|_| Err(format!("no answer within {} s", ANSWERED_WITHIN.as_secs()))).map_err(failed)
    }
}

async fn exchange<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, request: &[u8]) -> Result<Option<u16>, String> {
    // Whoever refuses a request may close before it has read all of it.
    let _ = stream.write_all(request).await;
    let _ = stream.flush().await;
    let mut answer = Vec::new();
    let mut part = [0; 4096];
    while !answer.windows(4).any(|end| end == b"\r\n\r\n") && answer.len() < MAX_ANSWER {
        match stream.read(&mut part).await {
            Ok(0) | Err(_) => break,
            Ok(length) => answer.extend_from_slice(&part[..length]),
        }
    }
    let line = answer.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let status = str::from_utf8(line).ok().and_then(|line| line.strip_prefix("HTTP/1.")?.get(2..5)?.parse().ok());
    Ok(status)
}
