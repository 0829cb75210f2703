//! HTTP requests that the service makes by itself.
//!
//! Whoever is asked is believed in nothing. The address is looked up once, is checked, and is the very one that is
//! connected to, so that no second look-up leads elsewhere. No redirect is followed. One deadline holds over all, the head
//! and the body are bounded, and so is how many requests there are at once. Connections are few and far between, so none
//! is kept.

mod addresses;
pub mod raw;

use std::collections::HashMap;
use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{Either, select};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST, HeaderName, HeaderValue, USER_AGENT};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use ipnet::IpNet;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{AcquireError, OnceCell, OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use url::{Host, Url};

use crate::system::{authorities, blocking};

/// How large an answer's head may be, and its body.
pub const MAX_ANSWER: usize = 64 * 1024;

/// How much the other side may say in one connection: TLS, interim answers without end, head and body.
const MAX_SAID: usize = 256 * 1024;

/// How many headers an answer may have.
const MAX_HEADERS: usize = 100;

/// How many requests are under way at most. The others wait, within their own timeout.
const AT_ONCE: usize = 16;

/// How many of them one host has at most: one that hangs must leave slots to the others.
const AT_ONE_HOST: usize = 4;

/// How many addresses of a name are tried.
const MAX_ADDRESSES: usize = 4;

/// How much of the body of an answer is read where only a glance at it is wanted, and for how long.
const GLANCE: usize = 1_024;
const GLANCED_WITHIN: Duration = Duration::from_secs(1);

/// Which addresses a request may lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Public ones and those of the client's own networks; without TLS those of this machine alone.
    Configured,
    /// Public ones, over TLS.
    Public,
    /// Public ones over TLS, and private ones with and without it. Never link-local ones, where clouds have their metadata.
    Private,
}

/// How much of an answer's body is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    All,
    /// Its beginning, and only where the answer tells of a failure. Nothing that is wrong with it matters.
    Glance,
}

/// What looks a name up.
type LookUp = Arc<dyn Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync>;

/// Why a request has no answer. It tells what went wrong, and nothing that was sent or received.
#[derive(Debug, Error)]
#[error("{host}: {why}")]
pub struct OutboundError {
    host: String,
    why: String,
}

/// An answer, whatever its status, but for redirects.
#[expect(missing_docs, reason = "the names say it")]
pub struct Response {
    pub status: u16,
    /// Their names are in lower case. A value that is no text is left out.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Response {
    /// The first header of this name, which is in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(of, _)| of == name).map(|(_, value)| value.as_str())
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response").field("status", &self.status).finish_non_exhaustive()
    }
}

/// Makes requests.
pub struct Client {
    allow: Vec<IpNet>,
    timeout: Duration,
    tls: OnceCell<TlsConnector>,
    slots: Arc<Semaphore>,
    /// The slots of each host and port that is being asked.
    hosts: Mutex<HashMap<(String, u16), Arc<Semaphore>>>,
    at_one_host: usize,
    look_up: LookUp,
}

/// What a request holds while it is under way, and its look-up of a name until that has ended.
type Slot = Arc<[OwnedSemaphorePermit; 2]>;

/// What a request is about, once its address has been read.
struct Target {
    url: Url,
    host: Host<String>,
    port: u16,
    is_tls: bool,
}

impl Client {
    /// A client that reaches public addresses, and others only of these networks.
    #[must_use]
    pub fn new(allow: Vec<IpNet>, timeout: Duration) -> Self {
        Self {
            allow,
            timeout,
            tls: OnceCell::new(),
            slots: Arc::new(Semaphore::new(AT_ONCE)),
            hosts: Mutex::default(),
            at_one_host: AT_ONE_HOST,
            look_up: Arc::new(|host, port| (host, port).to_socket_addrs().map(Vec::from_iter)),
        }
    }

    /// The same for a caller that bounds by itself how many requests it makes at once, for each of those that it asks: this
    /// many of them together, to whichever host.
    #[must_use]
    pub fn bounded_by_caller(timeout: Duration, at_once: usize) -> Self {
        let slots = Arc::new(Semaphore::new(at_once));
        Self { slots, at_one_host: at_once, ..Self::new(Vec::new(), timeout) }
    }

    /// How long a request may take.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Posts a body, and reads no more of the answer than its head and, where it tells of a failure, a kilobyte of its body.
    ///
    /// # Errors
    /// [`OutboundError`], also for a redirect.
    pub async fn post(
        &self,
        reach: Reach,
        url: &str,
        headers: &[(&str, &str)],
        (content_type, body): (&str, Vec<u8>),
    ) -> Result<Response, OutboundError> {
        self.ask((reach, Wanted::Glance), Method::POST, url, headers, Some((content_type, body))).await
    }

    /// Gets what is at an address.
    ///
    /// # Errors
    /// [`OutboundError`], also for a redirect.
    pub async fn get(&self, url: &str, headers: &[(&str, &str)]) -> Result<Response, OutboundError> {
        self.request(Method::GET, url, headers, None).await
    }

    /// Posts a form.
    ///
    /// # Errors
    /// [`OutboundError`], also for a redirect.
    pub async fn post_form(
        &self,
        url: &str,
        headers: &[(&str, &str)],
        fields: &[(&str, &str)],
    ) -> Result<Response, OutboundError> {
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        self.request(Method::POST, url, headers, Some(("application/x-www-form-urlencoded", body.into()))).await
    }

    /// Makes any request. The body comes with its type.
    ///
    /// # Errors
    /// [`OutboundError`], also for a redirect.
    pub async fn request(
        &self,
        method: Method,
        url: &str,
        headers: &[(&str, &str)],
        body: Option<(&str, Vec<u8>)>,
    ) -> Result<Response, OutboundError> {
        self.ask((Reach::Configured, Wanted::All), method, url, headers, body).await
    }

    async fn ask(
        &self,
        (reach, wanted): (Reach, Wanted),
        method: Method,
        url: &str,
        headers: &[(&str, &str)],
        body: Option<(&str, Vec<u8>)>,
    ) -> Result<Response, OutboundError> {
        let target = Target::read(url).map_err(|why| OutboundError { host: "an address".to_owned(), why })?;
        let host = target.host.to_string();
        let asked = async {
            let request = target.request(method, headers, body)?;
            let slot = self.wait_for_slot(&target).await.map_err(|error| error.to_string())?;
            let stream = self.connect(&target, reach, &slot).await?;
            if target.is_tls {
                let name = ServerName::try_from(target.name()).map_err(|_| "it has no name for TLS".to_owned())?;
                let stream = self.tls().await?.connect(name, stream).await.map_err(|error| tell(&error, &host))?;
                exchange(stream, request, wanted).await
            } else {
                exchange(stream, request, wanted).await
            }
        };
        let answer = match timeout(self.timeout, asked).await {
            Ok(answer) => answer,
            Err(_) => Err(format!("no answer within {} s", self.timeout.as_secs())),
        };
        answer.map_err(|why| OutboundError { host, why })
    }

    /// Waits for a slot of the host first: who waits for that holds none of those of all.
    async fn wait_for_slot(&self, target: &Target) -> Result<Slot, AcquireError> {
        let of_host = {
            let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
            // Only the map holds those of hosts that nobody asks any more.
            hosts.retain(|_, slots| Arc::strong_count(slots) > 1);
            let new = || Arc::new(Semaphore::new(self.at_one_host));
            Arc::clone(hosts.entry((target.name(), target.port)).or_insert_with(new))
        };
        let of_host = of_host.acquire_owned().await?;
        Ok(Arc::new([of_host, Arc::clone(&self.slots).acquire_owned().await?]))
    }

    /// Connects to the first of the target's addresses that may be reached and answers.
    async fn connect(&self, target: &Target, reach: Reach, slot: &Slot) -> Result<Bounded, String> {
        let mut found =
            self.look_up(target, slot).await.map_err(|error| format!("its address is not found: {error}"))?;
        found.retain(|address| self.may_reach(address.ip(), target.is_tls, reach));
        found.truncate(MAX_ADDRESSES);
        let share = self.timeout / (u32::try_from(found.len()).unwrap_or(1) + 1);
        let mut why = refusal(reach, target.is_tls).to_owned();
        for address in found {
            match timeout(share, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => return Ok(Bounded { stream, left: MAX_SAID }),
                Ok(Err(error)) => why = format!("it cannot be connected to: {error}"),
                Err(_) => "it does not accept a connection".clone_into(&mut why),
            }
        }
        Err(why)
    }

    fn may_reach(&self, ip: IpAddr, is_tls: bool, reach: Reach) -> bool {
        let ip = ip.to_canonical();
        if reach != Reach::Configured {
            return may_reach_by_itself(ip, is_tls, reach);
        }
        let is_allowed = self.allow.iter().any(|network| network.contains(&ip));
        if is_tls { is_allowed || addresses::is_public(ip) } else { is_allowed && ip.is_loopback() }
    }

    /// Nothing waits for a name server that hangs: neither a request beyond its timeout nor a stop of the process. The slot
    /// is held until it has answered, so that there are no more look-ups than slots.
    async fn look_up(&self, target: &Target, slot: &Slot) -> io::Result<Vec<SocketAddr>> {
        let port = target.port;
        let host = match &target.host {
            Host::Ipv4(ip) => return Ok(vec![(*ip, port).into()]),
            Host::Ipv6(ip) => return Ok(vec![(*ip, port).into()]),
            Host::Domain(host) => host.clone(),
        };
        let (slot, by) = (Arc::clone(slot), Arc::clone(&self.look_up));
        let look_up = move || {
            let _slot = slot;
            by(&host, port)
        };
        blocking::run_detached("outbound-look-up", look_up).await?
    }

    /// The system's authorities are read at the first request: a service that makes none does without.
    async fn tls(&self) -> Result<&TlsConnector, String> {
        let make = || async {
            let load = || authorities::load("SSL_CERT_FILE", None, "a provider's");
            let found = blocking::run(load).await.map_err(|error| error.to_string())??;
            let config = authorities::tls_client(found).map_err(|error| error.to_string())?;
            Ok(TlsConnector::from(Arc::new(config)))
        };
        self.tls.get_or_try_init(make).await
    }
}

/// A connection whose other side is cut off when it has said too much.
struct Bounded {
    stream: TcpStream,
    left: usize,
}

impl AsyncRead for Bounded {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.left == 0 {
            return Poll::Ready(Err(io::Error::other("it says too much")));
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        self.left = self.left.saturating_sub(buffer.filled().len() - before);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Bounded {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl Target {
    fn read(url: &str) -> Result<Self, String> {
        let url = Url::parse(url).map_err(|error| error.to_string())?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err("it holds a user or a password".to_owned());
        }
        let is_tls = match url.scheme() {
            "https" => true,
            "http" => false,
            _ => return Err("it is neither https nor http".to_owned()),
        };
        let host = url.host().ok_or("it has no host")?.to_owned();
        let port = url.port_or_known_default().ok_or("it has no port")?;
        Ok(Self { url, host, port, is_tls })
    }

    /// As TLS names it: without the brackets of IPv6.
    fn name(&self) -> String {
        match &self.host {
            Host::Domain(name) => name.clone(),
            Host::Ipv4(ip) => ip.to_string(),
            Host::Ipv6(ip) => ip.to_string(),
        }
    }

    fn request(
        &self,
        method: Method,
        headers: &[(&str, &str)],
        body: Option<(&str, Vec<u8>)>,
    ) -> Result<Request<Full<Bytes>>, String> {
        let query = self.url.query().map(|query| format!("?{query}")).unwrap_or_default();
        let host = self.url.port().map_or_else(|| self.host.to_string(), |port| format!("{}:{port}", self.host));
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{query}", self.url.path()))
            .header(HOST, host)
            .header(USER_AGENT, concat!("authtokens/", env!("CARGO_PKG_VERSION")));
        for (name, value) in headers {
            let mut value = HeaderValue::from_str(value).map_err(|_| "a header cannot be sent")?;
            value.set_sensitive(true);
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| "a header cannot be sent")?;
            request = request.header(name, value);
        }
        let (content_type, body) = body.unzip();
        if let Some(content_type) = content_type {
            request = request.header(CONTENT_TYPE, content_type);
        }
        request.body(Full::from(body.unwrap_or_default())).map_err(|_| "the request cannot be sent".to_owned())
    }
}

/// Sends a request and reads its answer. The connection ends with it.
async fn exchange<S>(stream: S, request: Request<Full<Bytes>>, wanted: Wanted) -> Result<Response, String>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let builder =
        http1::Builder::new().max_headers(MAX_HEADERS).max_header_size(MAX_ANSWER).max_buf_size(MAX_ANSWER).to_owned();
    let handshake = builder.handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|error| tell_http(&error))?;
    let asked = async move {
        let answer = sender.send_request(request).await.map_err(|error| tell_http(&error))?;
        let (head, body) = answer.into_parts();
        if head.status.is_redirection() {
            return Err("it answers with a redirect, and none is followed".to_owned());
        }
        let body = match wanted {
            Wanted::All => {
                let body = Limited::new(body, MAX_ANSWER).collect().await;
                let body = body.map_err(|_| format!("its answer breaks off, or is larger than {MAX_ANSWER} bytes"))?;
                body.to_bytes().to_vec()
            }
            Wanted::Glance if head.status.is_success() => Vec::new(),
            Wanted::Glance => glance_at(body).await,
        };
        let text = |(name, value): (&HeaderName, &HeaderValue)| {
            value.to_str().ok().map(|value| (name.as_str().to_owned(), value.to_owned()))
        };
        let headers = head.headers.iter().filter_map(text).collect();
        Ok(Response { status: head.status.as_u16(), headers, body })
    };
    // The connection is what moves the bytes. When it has ended, what it has read is still to be had.
    match select(Box::pin(asked), Box::pin(connection)).await {
        Either::Left((answer, _)) => answer,
        Either::Right((_, asked)) => asked.await,
    }
}

/// The beginning of a body, as far as it comes.
async fn glance_at(mut body: Incoming) -> Vec<u8> {
    let mut seen = Vec::new();
    let reading = async {
        while seen.len() < GLANCE
            && let Some(Ok(frame)) = body.frame().await
        {
            if let Some(data) = frame.data_ref() {
                seen.extend_from_slice(&data[..data.len().min(GLANCE - seen.len())]);
            }
        }
    };
    let _ = timeout(GLANCED_WITHIN, reading).await;
    seen
}

fn may_reach_by_itself(ip: IpAddr, is_tls: bool, reach: Reach) -> bool {
    (is_tls && addresses::is_public(ip)) || (reach == Reach::Private && addresses::is_private(ip))
}

/// Why no address of a name may be reached.
fn refusal(reach: Reach, is_tls: bool) -> &'static str {
    match (reach, is_tls) {
        (Reach::Configured, true) => "it leads to addresses that are not public, and outbound.allow names none of them",
        (Reach::Configured, false) => {
            "it is without TLS, which is only for this machine, where outbound.allow names its address"
        }
        (Reach::Public, true) => "it leads to addresses that are not public",
        (Reach::Public, false) => "it must begin with https://",
        (Reach::Private, true) => "it leads to addresses that are neither public nor of a private network",
        (Reach::Private, false) => "it is without TLS and leads to addresses that are not of a private network",
    }
}

/// Checks an address that is to be asked later, as far as that is possible without a look-up. Answers how it is written.
///
/// # Errors
/// What is wrong with it, as the end of a sentence.
pub fn check_url(url: &str, reach: Reach) -> Result<String, String> {
    let target = Target::read(url)?;
    let ip = match &target.host {
        Host::Ipv4(ip) => Some(IpAddr::from(*ip)),
        Host::Ipv6(ip) => Some(IpAddr::from(*ip)),
        Host::Domain(_) => None,
    };
    let may_be = match ip {
        Some(ip) => may_reach_by_itself(ip.to_canonical(), target.is_tls, reach),
        None => target.is_tls || reach == Reach::Private,
    };
    if !may_be {
        return Err(refusal(reach, target.is_tls).to_owned());
    }
    if target.url.fragment().is_some() {
        return Err("it has a part behind #, which is sent nowhere".to_owned());
    }
    Ok(target.url.into())
}

/// What is wrong with an answer. hyper's own words repeat nothing of it.
fn tell_http(error: &hyper::Error) -> String {
    match error.source() {
        Some(cause) if error.is_parse() => format!("its answer is not HTTP: {error} ({cause})"),
        Some(cause) => format!("{error} ({cause})"),
        None => error.to_string(),
    }
}

/// What is wrong with TLS.
fn tell(error: &io::Error, host: &str) -> String {
    let peer = authorities::Peer { certificate: "its certificate", name: host, ca_setting: "SSL_CERT_FILE" };
    let told = authorities::find_error(error).and_then(|error| authorities::tell(error, &peer));
    told.unwrap_or_else(|| format!("TLS has failed: {error}"))
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;
    use std::time::Instant;

    use super::*;

    /// A server that reads a little, and does this with each connection.
    fn serve(answer: impl Fn(&mut std::net::TcpStream) + Send + Sync + 'static) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let answer = Arc::new(answer);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (mut stream, answer) = (stream.unwrap(), Arc::clone(&answer));
                thread::spawn(move || {
                    let _ = stream.read(&mut [0; 4096]);
                    answer(&mut stream);
                });
            }
        });
        address
    }

    fn says(text: impl Into<Vec<u8>>) -> String {
        let text = text.into();
        serve(move |stream| {
            let _ = stream.write_all(&text);
        })
    }

    fn client() -> Client {
        Client::new(vec!["127.0.0.0/8".parse().unwrap()], Duration::from_secs(2))
    }

    async fn why_not(url: &str) -> String {
        client().get(url, &[]).await.unwrap_err().to_string()
    }

    #[tokio::test]
    async fn an_answer_is_had_with_its_head_and_its_body() {
        let url = says("HTTP/1.1 400 Bad Request\r\nCache-Control: max-age=5\r\ncontent-length: 5\r\n\r\nhello");
        let answer = client().get(&url, &[("authorization", "Bearer 1")]).await.unwrap();
        assert_eq!(
            (answer.status, answer.header("cache-control"), answer.body.clone()),
            (400, Some("max-age=5"), b"hello".to_vec())
        );
        // Without a length it ends with the connection.
        let answer = client().get(&says("HTTP/1.1 200 OK\r\n\r\nhello"), &[]).await.unwrap();
        assert_eq!(answer.body, b"hello");
    }

    #[tokio::test]
    async fn no_redirect_is_followed() {
        for to in ["http://127.0.0.1:1/", "http://169.254.169.254/latest/meta-data", "https://example.org/", "/"] {
            for status in [301, 302, 303, 307, 308] {
                let url = says(format!("HTTP/1.1 {status} X\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n"));
                assert!(why_not(&url).await.contains("redirect"), "{to}");
            }
        }
    }

    #[tokio::test]
    async fn an_answer_that_is_too_large_or_no_answer_or_endless_is_an_error() {
        let body = |length: usize| format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{}", "x".repeat(length));
        assert_eq!(client().get(&says(body(MAX_ANSWER)), &[]).await.unwrap().body.len(), MAX_ANSWER);
        for (text, case) in [
            (body(MAX_ANSWER + 1), "a large body"),
            (format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(MAX_ANSWER + 1)), "a large body of no length"),
            (format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "x".repeat(MAX_ANSWER)), "a large head"),
            (format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: y\r\n".repeat(MAX_HEADERS + 1)), "many headers"),
            ("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhello".to_owned(), "a body that breaks off"),
            ("\u{1}garbage\r\n\r\n".to_owned(), "garbage"),
            ("SSH-2.0-x\r\n".to_owned(), "another protocol"),
            (String::new(), "nothing"),
        ] {
            assert!(client().get(&says(text), &[]).await.is_err(), "{case}");
        }
        let endless = |part: &'static str| serve(move |stream| while stream.write_all(part.as_bytes()).is_ok() {});
        for part in ["x", "HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 200 OK\r\n"] {
            assert!(client().get(&endless(part), &[]).await.is_err(), "{part:?}");
        }
    }

    #[tokio::test]
    async fn one_that_says_nothing_or_dribbles_is_not_waited_for() {
        let silent = serve(|_| thread::sleep(Duration::from_secs(30)));
        let dribbling = serve(|stream| {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n");
            while stream.write_all(b"x").is_ok() {
                thread::sleep(Duration::from_millis(100));
            }
        });
        for url in [silent, dribbling] {
            let begun = Instant::now();
            assert!(why_not(&url).await.contains("no answer within 2 s"));
            assert!(begun.elapsed() < Duration::from_secs(20));
        }
    }

    #[tokio::test]
    async fn one_that_hangs_leaves_slots_to_the_others() {
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&asked);
        let hanging = serve(move |_| {
            counted.fetch_add(1, Ordering::SeqCst);
            thread::sleep(Duration::from_secs(30));
        });
        let answering = says("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
        let client = Arc::new(Client::new(vec!["127.0.0.0/8".parse().unwrap()], Duration::from_secs(20)));
        let ask = |url: String| {
            let client = Arc::clone(&client);
            tokio::spawn(async move { client.get(&url, &[]).await })
        };
        let waiting: Vec<_> = (0..2 * AT_ONCE).map(|_| ask(hanging.clone())).collect();
        while asked.load(Ordering::SeqCst) < AT_ONE_HOST {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        for _ in 0..AT_ONCE {
            ask(answering.clone()).await.unwrap().unwrap();
        }
        assert!(waiting.iter().all(|task| !task.is_finished()));
        assert_eq!(asked.load(Ordering::SeqCst), AT_ONE_HOST);
        for task in waiting {
            task.abort();
            let _ = task.await;
        }
        ask(answering).await.unwrap().unwrap();
        assert_eq!(client.hosts.lock().unwrap().len(), 1, "no host is remembered that is not asked");
    }

    #[tokio::test]
    async fn an_address_that_is_not_public_is_not_connected_to_unless_it_is_allowed() {
        let url = says("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
        let port = url.rsplit_once(':').unwrap().1;
        let strict = Client::new(Vec::new(), Duration::from_secs(2));
        for host in [
            "127.0.0.1",
            "localhost",
            "[::1]",
            "[::ffff:127.0.0.1]",
            "127.1",
            "2130706433",
            "0x7f.1",
            "0.0.0.0",
            "10.0.0.1",
            "169.254.169.254",
            "[fd00::1]",
        ] {
            for scheme in ["http", "https"] {
                let error = strict.get(&format!("{scheme}://{host}:{port}/"), &[]).await.unwrap_err().to_string();
                assert!(error.contains("outbound.allow"), "{host}: {error}");
            }
        }
        assert!(client().get(&format!("http://localhost:{port}/"), &[]).await.is_ok());
        // Without TLS nothing but this machine is asked, whatever is allowed.
        let open = Client::new(vec!["0.0.0.0/0".parse().unwrap()], Duration::from_secs(2));
        for host in ["8.8.8.8", "10.0.0.1"] {
            let error = open.get(&format!("http://{host}:{port}/"), &[]).await.unwrap_err().to_string();
            assert!(error.contains("without TLS"), "{error}");
        }
    }

    #[tokio::test]
    async fn an_address_that_is_none_is_not_asked_and_nothing_of_it_is_told() {
        for url in [
            "",
            "example.org",
            "ftp://127.0.0.1/",
            "file:///etc/passwd",
            "https://user:hunter2@127.0.0.1/",
            "https://hunter2@127.0.0.1/",
        ] {
            assert!(!why_not(url).await.contains("hunter2"), "{url}");
        }
        let bad = client().get("http://127.0.0.1:1/", &[("x", "a\r\nb: c")]).await.unwrap_err();
        assert!(bad.to_string().contains("header"));
    }

    #[tokio::test]
    async fn a_server_that_does_not_speak_tls_is_told_of() {
        let url = says("HTTP/1.1 200 OK\r\n\r\n").replace("http:", "https:");
        assert!(client().get(&url, &[]).await.is_err());
    }

    #[tokio::test]
    async fn the_address_that_was_checked_is_the_one_that_is_connected_to_however_a_name_changes_its_answer() {
        let url = says("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
        let port: u16 = url.rsplit_once(':').unwrap().1.parse().unwrap();
        // What a rebinding name server does: the first answer may be reached, all later ones may not, or the other way.
        let answering = |answers: [&'static str; 2]| {
            let asked = Arc::new(AtomicUsize::new(0));
            let mut client = Client::bounded_by_caller(Duration::from_secs(2), 4);
            client.look_up = Arc::new({
                let asked = Arc::clone(&asked);
                move |_, port| {
                    let answer = answers[asked.fetch_add(1, Ordering::SeqCst).min(1)];
                    Ok(answer.split(' ').map(|ip| SocketAddr::new(ip.parse().unwrap(), port)).collect())
                }
            });
            (client, asked)
        };
        let url = format!("http://rebinding.example:{port}/");
        let ask = async |client: &Client, reach| client.post(reach, &url, &[], ("text/plain", Vec::new())).await;
        let (client, asked) = answering(["127.0.0.1", "169.254.169.254"]);
        assert_eq!(ask(&client, Reach::Private).await.unwrap().status, 200);
        assert_eq!(asked.load(Ordering::SeqCst), 1, "it is looked up once");
        let error = ask(&client, Reach::Private).await.unwrap_err().to_string();
        assert!(error.contains("not of a private network"), "{error}");
        // Of several addresses only those that may be reached are tried.
        let (client, _) = answering(["169.254.169.254 8.8.8.8 127.0.0.1", "127.0.0.1"]);
        assert_eq!(ask(&client, Reach::Private).await.unwrap().status, 200);
        let (client, asked) = answering(["127.0.0.1", "127.0.0.1"]);
        assert!(ask(&client, Reach::Public).await.is_err());
        assert_eq!(asked.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn of_an_answer_that_is_only_glanced_at_the_status_counts_however_much_follows() {
        let endless = |head: &'static str| {
            serve(move |stream| {
                let _ = stream.write_all(head.as_bytes());
                while stream.write_all(&[b'x'; 4096]).is_ok() {}
            })
        };
        let client = Client::bounded_by_caller(Duration::from_secs(10), 4);
        let post = async |url: &str| client.post(Reach::Private, url, &[], ("text/plain", b"hello".to_vec())).await;
        let answer = post(&endless("HTTP/1.1 204 No Content\r\n\r\n")).await.unwrap();
        assert_eq!((answer.status, answer.body.len()), (204, 0));
        let answer = post(&endless("HTTP/1.1 200 OK\r\n\r\n")).await.unwrap();
        assert_eq!((answer.status, answer.body.len()), (200, 0));
        let answer = post(&endless("HTTP/1.1 500 X\r\n\r\n")).await.unwrap();
        assert_eq!((answer.status, answer.body.len()), (500, GLANCE));
        let hanging = serve(|stream| {
            let _ = stream.write_all(b"HTTP/1.1 429 X\r\nretry-after: 7\r\ncontent-length: 9\r\n\r\nslow");
            thread::sleep(Duration::from_secs(30));
        });
        let answer = post(&hanging).await.unwrap();
        assert_eq!(
            (answer.status, answer.header("retry-after"), answer.body.clone()),
            (429, Some("7"), b"slow".to_vec())
        );
    }

    #[test]
    fn an_address_is_checked_before_it_is_asked_as_far_as_it_can_be() {
        for (url, reach) in [
            ("https://example.org/hook?a=b", Reach::Public),
            ("https://8.8.8.8/", Reach::Public),
            ("http://example.org/", Reach::Private),
            ("http://127.0.0.1:8000/", Reach::Private),
            ("https://[fd00::1]/", Reach::Private),
        ] {
            assert_eq!(check_url(url, reach).as_deref(), Ok(url));
        }
        for (url, reach) in [
            ("http://example.org/", Reach::Public),
            ("https://127.0.0.1/", Reach::Public),
            ("https://[::ffff:10.0.0.1]/", Reach::Public),
            ("https://2130706433/", Reach::Public),
            ("http://8.8.8.8/", Reach::Private),
            ("http://169.254.169.254/", Reach::Private),
            ("https://user@example.org/", Reach::Public),
            ("https://example.org/#x", Reach::Public),
            ("ftp://example.org/", Reach::Private),
            ("example.org", Reach::Public),
        ] {
            assert!(check_url(url, reach).is_err(), "{url}");
        }
    }
}
