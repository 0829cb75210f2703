//! A client's connection: the deadlines, limits and error bodies that actix-web lacks.
//!
//! actix-web has a deadline for the first head of a connection alone: none for a client that stops in the middle of a
//! chunked body, and none for one that never reads its answers. It reads on while a request is being served, until its
//! buffer is full, and then spins. It buffers whatever requests a client sends ahead (pipelining), parses heads that
//! its own types cannot hold, and takes an offer to change protocols (`Upgrade`) for a body without an end. It answers
//! what it cannot parse with an empty body, which no layer above sees. And it does not tell when a client has
//! disconnected. This wrapper around the socket solves all of it:
//!
//! - a connection is always in one phase (idle, reading a head, serving, …), and each phase that waits for the client
//!   has a deadline;
//! - one request at a time is handed to the framework: its head when that is complete and within its limit
//!   (`framing.rs`), its body when a handler reads it, and the next request when this one is answered;
//! - the framework's own answers get a JSON body;
//! - [`ConnectionState::client_gone`] watches the socket itself.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use actix_rt::net::{ActixStream, Ready, TcpStream};
use bytes::{Buf as _, BytesMut};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::{Instant, Sleep, sleep, sleep_until};

use crate::transport::framing::{Body, Head, MAX_HEAD, MalformedChunk};

/// How much is handed over before the framework must process it: a quarter of its buffer.
const BURST: usize = 32 * 1024;

/// How much of an answer the system buffers beyond what the client has room for (`TCP_NOTSENT_LOWAT`). The remainder is
/// buffered once, by us.
const UNSENT: u32 = 64 * 1024;

/// The capacity that an empty inbox keeps.
const KEPT: usize = 4 * 1024;

/// How long a client may take to close after its last answer.
const CLOSING: Duration = Duration::from_secs(5);

/// How much of what a client still sends is discarded before the connection is reset.
const MAX_DISCARDED: usize = 4 * 1024 * 1024;

/// How often a client is checked for having disconnected while it has sent bytes that nobody reads yet.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What every connection of a server has in common.
pub struct ConnectionSettings {
    /// How long a request's head may take, from its first byte; and how long a new connection may stay silent.
    pub header_timeout: Duration,
    /// The idle timeout: how long a connection may be idle between two requests.
    pub keep_alive: Duration,
    /// How long a client may take to read an answer.
    pub write_timeout: Duration,
    /// Makes the whole response to a request that never reached a handler.
    pub refuse: Box<dyn Fn(RefusedRequest) -> Vec<u8>>,
}

/// A request that ended before any handler saw it.
pub struct RefusedRequest {
    /// The status of its answer.
    pub status: u16,
    /// The client's address, or `-` where it is not known.
    pub peer: Rc<str>,
}

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Nothing of the next request has arrived. It must begin by this deadline.
    Idle(Instant),
    /// A request's head is arriving. It must be complete by this deadline; most heads are complete at once, and need
    /// none.
    Head(Option<Instant>),
    /// A request is being served, from the last byte of its head on. Nothing that the client sends is read.
    Serving,
    /// A request is being served, and its body is read. The deadline is the reader's.
    Receiving,
    /// The last answer is given. What the client still sends is discarded until it closes, or until this deadline.
    Closing(Instant),
}

/// The side of a connection that the layers above see.
pub struct ConnectionState {
    writer: Rc<OwnedWriteHalf>,
    /// The client's address, as it is logged.
    peer: Rc<str>,
    phase: Cell<Phase>,
    body_was_read: Cell<bool>,
    /// Whether the client awaits `100 Continue` before it sends its body.
    client_waits: Cell<bool>,
    keep_alive: Duration,
    /// The connection's task, where it wanted to read in a phase that does not read.
    waiting: RefCell<Option<Waker>>,
}

impl ConnectionState {
    /// The client's address, or `-` where it is not known.
    #[must_use]
    pub fn peer(&self) -> Rc<str> {
        Rc::clone(&self.peer)
    }

    /// Begins to serve a request. `None` when the last answer has been given: the client reads no other.
    #[must_use]
    pub fn serve(self: &Rc<Self>) -> Option<Serving> {
        if matches!(self.phase.get(), Phase::Closing(_)) {
            return None;
        }
        self.phase.set(Phase::Serving);
        self.body_was_read.set(false);
        Some(Serving { connection: Rc::clone(self), is_last: false })
    }

    /// Begins to read the body of the request that is being served.
    #[must_use]
    pub fn receive(self: &Rc<Self>) -> Receiving {
        if self.client_waits.take() {
            // All earlier answers have been sent. Where this write fails, the client sends the body all the same, a
            // moment later.
            let _ = self.writer.try_write(b"HTTP/1.1 100 Continue\r\n\r\n");
        }
        self.enter(Phase::Receiving);
        Receiving(Rc::clone(self))
    }

    /// Resolves when the client has closed its side, or the network has.
    pub fn client_gone(&self) -> impl Future<Output = ()> + use<> {
        let writer = Rc::clone(&self.writer);
        async move {
            loop {
                match writer.ready(Interest::READABLE).await {
                    Ok(ready) if !ready.is_read_closed() => sleep(LOOK_EVERY).await,
                    _ => return,
                }
            }
        }
    }

    /// Ends the connection, unless a request is being served. Tells whether it does.
    pub fn close_unless_serving(&self) -> bool {
        if matches!(self.phase.get(), Phase::Serving | Phase::Receiving) {
            return false;
        }
        // Wakes the connection's task, which then reads the end. It fails where the client has closed already, which is
        // as good.
        let stream: &TcpStream = (*self.writer).as_ref();
        let _ = SockRef::from(stream).shutdown(Shutdown::Both);
        true
    }

    /// Begins a phase that reads.
    fn enter(&self, phase: Phase) {
        self.phase.set(phase);
        self.wake();
    }

    fn wake(&self) {
        if let Some(waker) = self.waiting.take() {
            waker.wake();
        }
    }
}

/// A request that is being served until this is dropped: until all of its answer has been handed over.
pub struct Serving {
    connection: Rc<ConnectionState>,
    is_last: bool,
}

impl Serving {
    /// Whether the request's body has been read to its end.
    #[must_use]
    pub fn body_was_read(&self) -> bool {
        self.connection.body_was_read.get()
    }

    /// The answer that is about to be given is the connection's last.
    pub fn end_connection(&mut self) {
        self.is_last = true;
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        if self.is_last {
            self.connection.enter(Phase::Closing(Instant::now() + CLOSING));
        } else if !matches!(self.connection.phase.get(), Phase::Closing(_)) {
            self.connection.enter(Phase::Idle(Instant::now() + self.connection.keep_alive));
        }
    }
}

/// A body that is being read until this is dropped.
pub struct Receiving(Rc<ConnectionState>);

impl Receiving {
    /// The body has been read to its end.
    pub fn complete(self) {
        self.0.body_was_read.set(true);
    }
}

impl Drop for Receiving {
    fn drop(&mut self) {
        self.0.phase.set(Phase::Serving);
    }
}

/// A socket with deadlines and limits.
pub struct Connection {
    reader: OwnedReadHalf,
    writer: Rc<OwnedWriteHalf>,
    peer: Option<SocketAddr>,
    settings: Rc<ConnectionSettings>,
    state: Rc<ConnectionState>,
    /// Wakes the task when a phase has lasted long enough.
    read_alarm: Alarm,
    /// Wakes the task when an answer has not been read for long enough.
    write_alarm: Alarm,
    /// When the answers that are waiting must have been read; `None` while none is.
    write_deadline: Option<Instant>,
    /// What has arrived and is not handed over yet: at most a head, and what was read together with it.
    inbox: BytesMut,
    /// How much of the inbox has been searched for the end of a head.
    searched: usize,
    incoming: Incoming,
    /// How much has been handed over since the socket last had nothing.
    burst: usize,
    ended_sending: bool,
    /// How much has been discarded.
    discarded: usize,
    replacement: Option<Replacement>,
}

/// What is to be handed over next.
enum Incoming {
    /// A head whose end has not arrived.
    Head,
    /// So many bytes of a head, and then its body.
    Request { head: usize, body: Body },
    /// Whatever arrives: the framework refuses it.
    Malformed,
}

/// Our response, which is sent instead of the framework's.
struct Replacement {
    bytes: Vec<u8>,
    sent: usize,
    /// How many of the framework's bytes it replaces.
    replaces: usize,
}

/// A timer that is made when it is first needed.
#[derive(Default)]
struct Alarm(Option<Pin<Box<Sleep>>>);

impl Alarm {
    /// Ready when `at` has come; until then the task will be woken at that time. Each request postpones the deadline,
    /// but not the timer: it may fire too early, and is then set again.
    fn poll(&mut self, at: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let alarm = self.0.get_or_insert_with(|| Box::pin(sleep_until(at)));
        if alarm.deadline() > at {
            alarm.as_mut().reset(at);
        }
        while alarm.as_mut().poll(cx).is_ready() {
            if alarm.deadline() >= at {
                return Poll::Ready(());
            }
            alarm.as_mut().reset(at);
        }
        Poll::Pending
    }
}

impl Connection {
    /// Takes an accepted socket. Its first head is awaited from now on.
    #[must_use]
    pub fn new(stream: TcpStream, settings: Rc<ConnectionSettings>) -> Self {
        let peer = stream.peer_addr().ok();
        // Saves memory only: a failure does no harm.
        let _ = SockRef::from(&stream).set_tcp_notsent_lowat(UNSENT);
        let (reader, writer) = stream.into_split();
        let writer = Rc::new(writer);
        let state = Rc::new(ConnectionState {
            writer: Rc::clone(&writer),
            peer: peer.map_or_else(|| "-".into(), |peer| peer.to_string().into()),
            phase: Cell::new(Phase::Idle(Instant::now() + settings.header_timeout)),
            body_was_read: Cell::new(false),
            client_waits: Cell::new(false),
            keep_alive: settings.keep_alive,
            waiting: RefCell::new(None),
        });
        Self {
            reader,
            writer,
            peer,
            settings,
            state,
            read_alarm: Alarm::default(),
            write_alarm: Alarm::default(),
            write_deadline: None,
            inbox: BytesMut::new(),
            searched: 0,
            incoming: Incoming::Head,
            burst: 0,
            ended_sending: false,
            discarded: 0,
            replacement: None,
        }
    }

    /// The client's address, where it is known.
    #[must_use]
    pub fn peer(&self) -> Option<SocketAddr> {
        self.peer
    }

    /// See [`ConnectionState`].
    #[must_use]
    pub fn state(&self) -> Rc<ConnectionState> {
        Rc::clone(&self.state)
    }

    /// Reads what the socket has.
    fn poll_socket(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<usize>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.reader).poll_read(cx, buf))?;
        Poll::Ready(Ok(buf.filled().len() - before))
    }

    fn socket(&self) -> &TcpStream {
        self.reader.as_ref()
    }

    /// Writes what the socket accepts. A client that accepts nothing for too long is disconnected.
    fn poll_send(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            if self.socket().poll_write_ready(cx)?.is_pending() {
                let write_timeout = self.settings.write_timeout;
                let deadline = *self.write_deadline.get_or_insert_with(|| Instant::now() + write_timeout);
                ready!(self.write_alarm.poll(deadline, cx));
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            match self.writer.try_write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result),
            }
        }
    }

    /// Closes our half: tells the client that nothing more will come.
    fn end_sending(&mut self) {
        if !self.ended_sending {
            self.ended_sending = true;
            // Fails where the client has closed already, which is as good.
            let _ = SockRef::from(self.socket()).shutdown(Shutdown::Write);
        }
    }

    /// Reads nothing. If there is something to read already, the next phase that reads wakes the task. What arrives
    /// later wakes it by itself.
    fn wait(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.burst = 0;
        if !self.inbox.is_empty() || self.socket().poll_read_ready(cx).is_ready() {
            *self.state.waiting.borrow_mut() = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Hands over the head of the next request when it is whole.
    fn poll_head(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Incoming::Request { head: 0, body } = &self.incoming {
            if !body.is_over() {
                // The framework and we disagree on where the body ends (request smuggling). Nothing after it may be
                // taken for a request.
                return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
            }
            self.incoming = Incoming::Head;
        }
        while let Incoming::Head = self.incoming {
            let length = self.find_head();
            if length > MAX_HEAD {
                return self.poll_refuse_head(cx);
            }
            if let Incoming::Head = self.incoming {
                let before = buf.filled().len();
                let Poll::Ready(read) = self.poll_socket(cx, buf) else { return self.poll_late(cx) };
                if read? == 0 {
                    return Poll::Ready(Ok(()));
                }
                self.inbox.extend_from_slice(&buf.filled()[before..]);
                buf.set_filled(before);
            }
        }
        ready!(self.poll_request(cx, buf))?;
        if let Incoming::Request { head: 0, .. } = self.incoming {
            self.state.phase.set(Phase::Serving);
        }
        Poll::Ready(Ok(()))
    }

    /// Looks for the end of a head in the inbox. Returns the size of the head, as far as it has arrived.
    fn find_head(&mut self) -> usize {
        let is_idle = matches!(self.state.phase.get(), Phase::Idle(_));
        let new = &self.inbox[self.searched..];
        // A head ends with a line. So it is searched only when a line has ended: a client that sends one byte at a time
        // does not have the whole head searched for each.
        if new.is_empty() || !(is_idle || new.contains(&b'\n')) {
            return self.inbox.len();
        }
        self.searched = self.inbox.len();
        let mut length = self.inbox.len();
        match Head::find(&mut self.inbox) {
            Head::Nothing => return length,
            Head::Partial => {}
            Head::Malformed => self.incoming = Incoming::Malformed,
            Head::Whole(head, body, waits) => {
                self.state.client_waits.set(waits);
                (length, self.searched) = (head, 0);
                self.incoming = Incoming::Request { head, body };
            }
        }
        if is_idle {
            self.state.phase.set(Phase::Head(None));
        }
        length
    }

    /// Hands over what has arrived of a request, and keeps what has arrived of the next one.
    fn poll_request(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let is_from_inbox = !self.inbox.is_empty();
        if is_from_inbox {
            buf.put_slice(&self.inbox[..self.inbox.len().min(buf.remaining())]);
        } else {
            ready!(self.poll_socket(cx, buf))?;
        }
        let bytes = &buf.filled()[before..];
        let belongs = match &mut self.incoming {
            Incoming::Request { head: 0, body } => body.take(bytes),
            Incoming::Request { head, .. } => {
                let belongs = bytes.len().min(*head);
                *head -= belongs;
                Ok(belongs)
            }
            Incoming::Head | Incoming::Malformed => Ok(bytes.len()),
        };
        let belongs = belongs.unwrap_or_else(|MalformedChunk| {
            self.incoming = Incoming::Malformed;
            bytes.len()
        });
        if is_from_inbox {
            self.inbox.advance(belongs);
        } else {
            self.inbox.extend_from_slice(&bytes[belongs..]);
        }
        if self.inbox.is_empty() && self.inbox.capacity() > KEPT {
            self.inbox = BytesMut::new();
        }
        buf.set_filled(before + belongs);
        self.burst += belongs;
        Poll::Ready(Ok(()))
    }

    /// Nothing has arrived. Ends the connection once its deadline has passed.
    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.burst = 0;
        match self.state.phase.get() {
            Phase::Idle(until) => ready!(self.read_alarm.poll(until, cx)),
            Phase::Head(until) => {
                let until = until.unwrap_or_else(|| Instant::now() + self.settings.header_timeout);
                self.state.phase.set(Phase::Head(Some(until)));
                ready!(self.read_alarm.poll(until, cx));
                // The client may not be reading either, so what the socket does not take at once is dropped.
                let _ = self.writer.try_write(&self.refuse(408));
            }
            Phase::Serving | Phase::Receiving | Phase::Closing(_) => return Poll::Pending,
        }
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    /// A head is too large. It is answered here, before the framework sees any of it. All earlier answers have been
    /// sent.
    fn poll_refuse_head(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let _ = self.writer.try_write(&self.refuse(431));
        let until = Instant::now() + CLOSING;
        self.state.phase.set(Phase::Closing(until));
        self.end_sending();
        self.inbox = BytesMut::new();
        self.poll_closing(cx, until)
    }

    fn poll_closing(&mut self, cx: &mut Context<'_>, until: Instant) -> Poll<io::Result<()>> {
        ready!(self.poll_discard(cx, until));
        Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()))
    }

    /// Discards what arrives, until the client has closed or its time is over.
    fn poll_discard(&mut self, cx: &mut Context<'_>, until: Instant) -> Poll<()> {
        let mut scratch = [0; 4096];
        for _ in 0..BURST / scratch.len() {
            match self.poll_socket(cx, &mut ReadBuf::new(&mut scratch)) {
                Poll::Ready(Ok(read)) if read > 0 && self.discarded < MAX_DISCARDED => self.discarded += read,
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return self.read_alarm.poll(until, cx),
            }
        }
        cx.waker().wake_by_ref();
        self.read_alarm.poll(until, cx)
    }

    fn refuse(&self, status: u16) -> Vec<u8> {
        (self.settings.refuse)(RefusedRequest { status, peer: self.state.peer() })
    }
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let phase = this.state.phase.get();
        // A client that does not read its answers is not given more of them.
        if this.write_deadline.is_some() {
            return this.wait(cx);
        }
        if this.burst >= BURST {
            this.burst = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        match (phase, &this.incoming) {
            (Phase::Closing(until), _) => this.poll_closing(cx, until),
            (Phase::Idle(_) | Phase::Head(_), _) => this.poll_head(cx, buf),
            (Phase::Receiving, Incoming::Request { body, .. }) if !body.is_over() => {
                let result = this.poll_request(cx, buf);
                if result.is_pending() {
                    this.burst = 0;
                }
                result
            }
            (Phase::Receiving | Phase::Serving, _) => this.wait(cx),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.replacement.is_none()
            && let Some((start, status)) = bare_answer(buf)
        {
            if start > 0 {
                return this.poll_send(cx, &buf[..start]);
            }
            this.replacement = Some(Replacement { bytes: this.refuse(status), sent: 0, replaces: buf.len() });
            this.state.enter(Phase::Closing(Instant::now() + CLOSING));
        }
        let Some(mut replacement) = this.replacement.take() else { return this.poll_send(cx, buf) };
        while replacement.sent < replacement.bytes.len() {
            match this.poll_send(cx, &replacement.bytes[replacement.sent..]) {
                Poll::Ready(Ok(sent)) if sent > 0 => replacement.sent += sent,
                Poll::Ready(end) => return Poll::Ready(end),
                Poll::Pending => {
                    this.replacement = Some(replacement);
                    return Poll::Pending;
                }
            }
        }
        // The framework drops the socket as soon as this is written. If the client has sent bytes that nobody has read,
        // that resets the connection, and a reset can destroy the answer.
        this.end_sending();
        if let Phase::Closing(until) = this.state.phase.get()
            && this.poll_discard(cx, until).is_pending()
        {
            this.replacement = Some(replacement);
            return Poll::Pending;
        }
        Poll::Ready(Ok(replacement.replaces))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The framework flushes when the socket has taken all that there was.
        let this = self.get_mut();
        if this.write_deadline.take().is_some() {
            this.state.wake();
        }
        // An answer may have begun a phase with a deadline, for which nothing else wakes the task.
        let phase = this.state.phase.get();
        if matches!(phase, Phase::Closing(_)) {
            this.end_sending();
        }
        if let Phase::Idle(until) | Phase::Closing(until) = phase
            && this.read_alarm.poll(until, cx).is_ready()
        {
            cx.waker().wake_by_ref();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.end_sending();
        if let Phase::Closing(until) = this.state.phase.get() {
            // To close while the client is still sending would reset the connection, which can destroy the answer.
            ready!(this.poll_discard(cx, until));
        }
        Poll::Ready(Ok(()))
    }
}

impl ActixStream for Connection {
    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<Ready>> {
        ActixStream::poll_read_ready(self.socket(), cx)
    }

    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<Ready>> {
        ActixStream::poll_write_ready(self.socket(), cx)
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
