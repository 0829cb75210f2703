//! A client's connection, with the deadlines and the last words that the framework leaves out.
//!
//! actix-web times only the first head of a connection: a client that sends a second one byte by byte would hold it for
//! ever. It answers what it cannot parse with an empty body, which no layer above sees. And it keeps to itself that a
//! client has closed its side. This wrapper around the socket adds the three: a deadline for every head, a JSON body for
//! the framework's own answers, and [`ConnectionState::client_gone`].

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use actix_rt::net::{ActixStream, Ready, TcpStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;
use tokio::time::{Instant, Sleep, sleep_until};

/// What every connection of a server has in common.
pub struct ConnectionSettings {
    /// How long a request's head may take, from its first byte.
    pub header_timeout: Duration,
    /// Writes the whole response to a request that never reached a handler.
    pub refuse: Box<dyn Fn(Refusal) -> Vec<u8>>,
}

/// A request that ended before any handler saw it.
pub struct Refusal {
    /// The status that it is answered with.
    pub status: u16,
    /// Who sent it.
    pub peer: Option<SocketAddr>,
}

/// What the layers above tell a connection, and learn from it.
pub struct ConnectionState {
    in_exchange: Cell<bool>,
    head_deadline: Cell<Option<Instant>>,
    gone: watch::Sender<bool>,
}

impl ConnectionState {
    /// Marks the time from a request's arrival at the service to its response: no head is awaited meanwhile.
    #[must_use]
    pub fn exchange(self: &Rc<Self>) -> Exchange {
        self.in_exchange.set(true);
        self.head_deadline.set(None);
        Exchange(Rc::clone(self))
    }

    /// Resolves when the client has closed its side.
    pub fn client_gone(&self) -> impl Future<Output = ()> + use<> {
        let mut gone = self.gone.subscribe();
        async move {
            if gone.wait_for(|gone| *gone).await.is_err() {
                // The connection itself is gone, and this future with it in a moment.
                std::future::pending::<()>().await;
            }
        }
    }
}

/// An exchange that lasts until this is dropped.
pub struct Exchange(Rc<ConnectionState>);

impl Drop for Exchange {
    fn drop(&mut self) {
        self.0.in_exchange.set(false);
    }
}

/// A socket that keeps the deadlines.
pub struct Connection {
    stream: TcpStream,
    peer: Option<SocketAddr>,
    settings: Rc<ConnectionSettings>,
    state: Rc<ConnectionState>,
    /// Wakes the connection's task at `state.head_deadline`.
    alarm: Option<Pin<Box<Sleep>>>,
    heard_anything: bool,
    refusal: Option<PendingRefusal>,
}

/// Our response on its way out in the place of the framework's.
struct PendingRefusal {
    bytes: Vec<u8>,
    sent: usize,
    /// How many of the framework's bytes it stands for.
    replaces: usize,
}

impl Connection {
    /// Takes an accepted socket. Its first head is awaited from now on.
    #[must_use]
    pub fn new(stream: TcpStream, settings: Rc<ConnectionSettings>) -> Self {
        let peer = stream.peer_addr().ok();
        let state = Rc::new(ConnectionState {
            in_exchange: Cell::new(false),
            head_deadline: Cell::new(Some(Instant::now() + settings.header_timeout)),
            gone: watch::Sender::new(false),
        });
        Self { stream, peer, settings, state, alarm: None, heard_anything: false, refusal: None }
    }

    /// Who is at the other end.
    #[must_use]
    pub fn peer(&self) -> Option<SocketAddr> {
        self.peer
    }

    /// The side of it that the layers above see.
    #[must_use]
    pub fn state(&self) -> Rc<ConnectionState> {
        Rc::clone(&self.state)
    }

    /// Ready when the head that is awaited has not come in time; otherwise the task is woken when that is so.
    fn poll_overdue(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(deadline) = self.state.head_deadline.get() else {
            self.alarm = None;
            return Poll::Pending;
        };
        let alarm = self.alarm.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if alarm.deadline() != deadline {
            alarm.as_mut().reset(deadline);
        }
        alarm.as_mut().poll(cx)
    }

    fn refuse(&self, status: u16) -> Vec<u8> {
        (self.settings.refuse)(Refusal { status, peer: self.peer })
    }
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        if let Poll::Ready(result) = Pin::new(&mut this.stream).poll_read(cx, buf) {
            result?;
            if buf.filled().len() == before {
                this.state.gone.send_replace(true);
            } else {
                this.heard_anything = true;
                if !this.state.in_exchange.get() && this.state.head_deadline.get().is_none() {
                    this.state.head_deadline.set(Some(Instant::now() + this.settings.header_timeout));
                }
            }
            return Poll::Ready(Ok(()));
        }
        ready!(this.poll_overdue(cx));
        if this.heard_anything {
            // The client may not be reading either: what does not fit at once is not worth waiting for.
            let _ = this.stream.try_write(&this.refuse(408));
        }
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.refusal.is_none()
            && let Some((start, status)) = bare_answer(buf)
        {
            if start > 0 {
                return Pin::new(&mut this.stream).poll_write(cx, &buf[..start]);
            }
            this.refusal = Some(PendingRefusal { bytes: this.refuse(status), sent: 0, replaces: buf.len() });
        }
        let Some(refusal) = &mut this.refusal else {
            return Pin::new(&mut this.stream).poll_write(cx, buf);
        };
        while refusal.sent < refusal.bytes.len() {
            match ready!(Pin::new(&mut this.stream).poll_write(cx, &refusal.bytes[refusal.sent..]))? {
                0 => return Poll::Ready(Ok(0)),
                sent => refusal.sent += sent,
            }
        }
        let replaces = refusal.replaces;
        this.refusal = None;
        Poll::Ready(Ok(replaces))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

impl ActixStream for Connection {
    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<Ready>> {
        ActixStream::poll_read_ready(&self.stream, cx)
    }

    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<Ready>> {
        ActixStream::poll_write_ready(&self.stream, cx)
    }
}

/// Where in `buf` an error of the framework's own begins, and its status. Such an answer is the last thing in the
/// buffer, has no body, and lacks the request id that every response of the service carries.
fn bare_answer(buf: &[u8]) -> Option<(usize, u16)> {
    const STATUS_LINE: &[u8] = b"HTTP/1.";
    if !buf.ends_with(b"\r\n\r\n") {
        return None;
    }
    let start = buf.windows(STATUS_LINE.len()).rposition(|window| window == STATUS_LINE)?;
    let head = std::str::from_utf8(&buf[start..]).ok()?.to_ascii_lowercase();
    let status = head.get("http/1.1 ".len()..)?.get(..3)?.parse().ok()?;
    (status >= 400 && !head.contains("\r\nx-request-id:")).then_some((start, status))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_error_without_a_request_id_at_the_end_of_what_is_written_is_the_frameworks_own() {
        let bare = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n".as_slice();
        let ours = b"HTTP/1.1 404 NOT FOUND\r\nX-Request-Id: 1\r\nContent-Length: 0\r\n\r\n".as_slice();
        assert_eq!(bare_answer(bare), Some((0, 400)));
        assert_eq!(bare_answer(ours), None);
        assert_eq!(bare_answer(&[ours, bare].concat()), Some((ours.len(), 400)));
        assert_eq!(bare_answer(b"HTTP/1.1 100 Continue\r\n\r\n"), None);
        assert_eq!(bare_answer(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 2\r\n\r\n{}"), None);
        assert_eq!(bare_answer(b""), None);
    }
}
