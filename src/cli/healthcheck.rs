//! The command that asks the server on this machine whether it is ready, for a container that has neither a shell nor a
//! client.

use std::fmt;
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::Value;
use thiserror::Error;

use crate::config::ConfigError;

/// How long it takes at most, from connecting to the end of the answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// The longest answer that is read. The server's own has some 500 bytes.
const LONGEST: usize = 16 << 10;

/// The most header fields that an answer may have.
const HEADERS: usize = 32;

/// Why the server does not count as ready.
#[derive(Debug, Error)]
pub enum Unhealthy {
    /// The configuration does not say where it listens. A check has no other code for failures than 1.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The system chose the port.
    #[error("server.listen is {0}, a port that the system chooses: name the one that it chose with --listen")]
    AnyPort(SocketAddr),
    /// It was not reached, or did not answer in time.
    #[error("the server at {address} does not answer: {source}")]
    Silent {
        /// Where it was looked for.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// What answers is no such server.
    #[error("what listens at {0} is not authtokens")]
    Stranger(SocketAddr),
    /// It says that it is not ready.
    #[error("the server at {address} is not ready: it answered {status}")]
    NotReady {
        /// Where it is.
        address: SocketAddr,
        /// The status of its answer.
        status: u16,
    },
}

/// A server that is ready.
#[derive(Serialize)]
pub struct Healthy {
    /// Where it was asked.
    address: SocketAddr,
    status: &'static str,
}

impl fmt::Display for Healthy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "The server at {} is ready.", self.address)
    }
}

/// Asks `GET /readyz` of the server that listens on this address.
///
/// # Errors
/// [`Unhealthy`] where it is not ready, or not there.
pub fn check(listen: SocketAddr) -> Result<Healthy, Unhealthy> {
    let address = reachable(listen)?;
    let answer = ask(address).map_err(|source| Unhealthy::Silent { address, source })?;
    let (status, body) = parse(&answer).ok_or(Unhealthy::Stranger(address))?;
    match status {
        200 if body["status"] == "ready" => Ok(Healthy { address, status: "ready" }),
        _ if body["error"].is_string() => Err(Unhealthy::NotReady { address, status }),
        _ => Err(Unhealthy::Stranger(address)),
    }
}

/// Where a server is reached from its own machine: one that listens on all addresses, on the loopback address.
fn reachable(listen: SocketAddr) -> Result<SocketAddr, Unhealthy> {
    if listen.port() == 0 {
        return Err(Unhealthy::AnyPort(listen));
    }
    let ip = match listen.ip() {
        ip if !ip.is_unspecified() => ip,
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    Ok(SocketAddr::new(ip, listen.port()))
}

/// Sends the request, and reads until the server closes.
fn ask(address: SocketAddr) -> io::Result<Vec<u8>> {
    let end = Instant::now() + PATIENCE;
    // A duration of zero is no duration at all to the system's calls.
    let left = || {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(io::Error::from(io::ErrorKind::TimedOut)) } else { Ok(left) }
    };
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_write_timeout(Some(left()?))?;
    let request = format!("GET /readyz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let (mut answer, mut read) = (Vec::new(), [0; 4 << 10]);
    while answer.len() < LONGEST {
        stream.set_read_timeout(Some(left()?))?;
        match stream.read(&mut read) {
            Ok(0) => break,
            Ok(count) => answer.extend_from_slice(&read[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // As a timeout of read(2) is called.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(io::ErrorKind::TimedOut.into()),
            Err(error) => return Err(error),
        }
    }
    Ok(answer)
}

/// The status of an answer, and its body as JSON. `None` where it is not HTTP, or not JSON.
fn parse(answer: &[u8]) -> Option<(u16, Value)> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(length) = response.parse(answer).ok()? else { return None };
    Some((response.code?, serde_json::from_slice(&answer[length..]).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_listens_on_all_addresses_is_asked_on_the_loopback_address() {
        for (listen, asked) in [
            ("127.0.0.1:8000", "127.0.0.1:8000"),
            ("0.0.0.0:8000", "127.0.0.1:8000"),
            ("[::]:8000", "[::1]:8000"),
            ("10.0.0.1:80", "10.0.0.1:80"),
        ] {
            assert_eq!(reachable(listen.parse().unwrap()).unwrap().to_string(), asked);
        }
        assert!(reachable("127.0.0.1:0".parse().unwrap()).is_err());
    }

    #[test]
    fn what_is_not_http_with_json_is_no_answer() {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{\"status\": \"ready\"}";
        assert_eq!(parse(answer).unwrap(), (200, serde_json::json!({"status": "ready"})));
        for other in [&b""[..], b"SSH-2.0-x\r\n", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\n\r\n<html>"] {
            assert_eq!(parse(other), None);
        }
    }
}
