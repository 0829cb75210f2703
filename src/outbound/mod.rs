//! HTTP requests that the service makes by itself.
//!
//! Whoever is asked is believed in nothing. The address is looked up once, is checked, and is the very one that is
//! connected to, so that no second look-up leads elsewhere. No redirect is followed. One deadline holds over all, the head
//! and the body are bounded, and so is how many requests there are at once. Connections are few and far between, so none
//! is kept.

mod addresses;

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{Either, select};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST, HeaderName, HeaderValue, USER_AGENT};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use ipnet::IpNet;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{OnceCell, Semaphore};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use url::{Host, Url};

use crate::system::{authorities, blocking};

/// How large an answer's head may be, and its body.
pub const MAX_ANSWER: usize = 64 * 1024;

/// How many headers an answer may have.
const MAX_HEADERS: usize = 100;

/// How many requests are under way at most. The others wait, within their own timeout.
const AT_ONCE: usize = 16;

/// How many look-ups of names are under way at most. One that is not answered goes on after its request has ended.
const LOOK_UPS: usize = 4;

/// How many addresses of a name are tried.
const MAX_ADDRESSES: usize = 4;

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
    slots: Semaphore,
    look_ups: Arc<Semaphore>,
}

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
            slots: Semaphore::new(AT_ONCE),
            look_ups: Arc::new(Semaphore::new(LOOK_UPS)),
        }
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
        let target = Target::read(url).map_err(|why| OutboundError { host: "an address".to_owned(), why })?;
        let host = target.host.to_string();
        let asked = async {
            let request = target.request(method, headers, body)?;
            let _slot = self.slots.acquire().await.map_err(|error| error.to_string())?;
            let stream = self.connect(&target).await?;
            if target.is_tls {
                let name = ServerName::try_from(target.name()).map_err(|_| "it has no name for TLS".to_owned())?;
                let stream = self.tls().await?.connect(name, stream).await.map_err(|error| tell(&error, &host))?;
                exchange(stream, request).await
            } else {
                exchange(stream, request).await
            }
        };
        let answer = match timeout(self.timeout, asked).await {
            Ok(answer) => answer,
            Err(_) => Err(format!("no answer within {} s", self.timeout.as_secs())),
        };
        answer.map_err(|why| OutboundError { host, why })
    }

    /// Connects to the first of the target's addresses that may be reached and answers.
    async fn connect(&self, target: &Target) -> Result<TcpStream, String> {
        let mut found = self.look_up(target).await.map_err(|error| format!("its address is not found: {error}"))?;
        found.retain(|address| self.may_reach(address.ip(), target.is_tls));
        found.truncate(MAX_ADDRESSES);
        let share = self.timeout / (u32::try_from(found.len()).unwrap_or(1) + 1);
        let mut why = if target.is_tls {
            "it leads to addresses that are not public, and outbound.allow names none of them".to_owned()
        } else {
            "it is without TLS, which is only for this machine, where outbound.allow names its address".to_owned()
        };
        for address in found {
            match timeout(share, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => why = format!("it cannot be connected to: {error}"),
                Err(_) => "it does not accept a connection".clone_into(&mut why),
            }
        }
        Err(why)
    }

    fn may_reach(&self, ip: IpAddr, is_tls: bool) -> bool {
        let ip = ip.to_canonical();
        let is_allowed = self.allow.iter().any(|network| network.contains(&ip));
        if is_tls { is_allowed || addresses::is_public(ip) } else { is_allowed && ip.is_loopback() }
    }

    /// Nothing waits for a name server that hangs: neither a request beyond its timeout nor a stop of the process.
    async fn look_up(&self, target: &Target) -> io::Result<Vec<SocketAddr>> {
        let port = target.port;
        let host = match &target.host {
            Host::Ipv4(ip) => return Ok(vec![(*ip, port).into()]),
            Host::Ipv6(ip) => return Ok(vec![(*ip, port).into()]),
            Host::Domain(host) => host.clone(),
        };
        let begun = Arc::clone(&self.look_ups).acquire_owned().await.map_err(io::Error::other)?;
        let look_up = move || {
            let _begun = begun;
            (host.as_str(), port).to_socket_addrs().map(Vec::from_iter)
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
async fn exchange<S>(stream: S, request: Request<Full<Bytes>>) -> Result<Response, String>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let builder = http1::Builder::new().max_headers(MAX_HEADERS).max_buf_size(MAX_ANSWER).to_owned();
    let handshake = builder.handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|error| tell_http(&error))?;
    let asked = async move {
        let answer = sender.send_request(request).await.map_err(|error| tell_http(&error))?;
        let (head, body) = answer.into_parts();
        if head.status.is_redirection() {
            return Err("it answers with a redirect, and none is followed".to_owned());
        }
        let body = Limited::new(body, MAX_ANSWER).collect().await;
        let body = body.map_err(|_| format!("its answer breaks off, or is larger than {MAX_ANSWER} bytes"))?;
        let text = |(name, value): (&HeaderName, &HeaderValue)| {
            value.to_str().ok().map(|value| (name.as_str().to_owned(), value.to_owned()))
        };
        let headers = head.headers.iter().filter_map(text).collect();
        Ok(Response { status: head.status.as_u16(), headers, body: body.to_bytes().to_vec() })
    };
    // The connection is what moves the bytes. When it has ended, what it has read is still to be had.
    match select(Box::pin(asked), Box::pin(connection)).await {
        Either::Left((answer, _)) => answer,
        Either::Right((_, asked)) => asked.await,
    }
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
