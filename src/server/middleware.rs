//! The middleware: what every request and response have in common.
//!
//! This is the outermost layer around the application: it sees each request first and each response last. It gives each
//! request an id, adds the headers that every response has, turns other errors (the framework's, a handler's panic)
//! into the service's own, counts the request where metrics are on, and writes its line to the log.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use actix_http::{ConnectionType, Request, Response};
use actix_service::Service;
use actix_web::HttpResponse;
use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::ServiceResponse;
use actix_web::http::header::{
    self, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, HeaderMap, HeaderName, HeaderValue,
};
use actix_web::http::{Method, StatusCode, Uri};
use bytes::Bytes;
use futures_util::FutureExt as _;

use crate::domain::token::hex;
use crate::http::error::{self, ApiError};
use crate::http::extract::caller::client_behind;
use crate::http::extract::proxy::TrustedProxies;
use crate::http::routes::{Matched, Scope};
use crate::system::error_chain::Chain;
use crate::telemetry::metrics::Metrics;
use crate::transport::connection::{ConnectionState, RefusedRequest, Serving};

/// The value of `Access-Control-Allow-Origin` for every origin.
static ANY_ORIGIN: HeaderValue = HeaderValue::from_static("*");
/// The headers that a page of another origin may send.
static ALLOW_HEADERS: HeaderValue = HeaderValue::from_static("Content-Type, Authorization");
/// The methods that a page of another origin may use.
static ALLOW_METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
/// The headers that a page of another origin may read.
static EXPOSE_HEADERS: HeaderValue =
    HeaderValue::from_static("Allow, Link, Retry-After, WWW-Authenticate, X-Request-Id");
/// Forbids browsers to guess another type (MIME sniffing).
static NOSNIFF: HeaderValue = HeaderValue::from_static("nosniff");
/// Forbids caches to store an answer.
static NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
/// The type of an answer whose handler sets none.
static JSON: HeaderValue = HeaderValue::from_static("application/json");
/// What a page may do (Content-Security-Policy): load its own files and ask its own server. Swagger UI has inline
/// styles, and pictures in `data:` URLs.
static PAGE_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; \
     base-uri 'self'; form-action 'none'; frame-ancestors 'none'",
);
/// What a page with a form may do: load its own style and script, and send its form to its own server.
static FORM_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; style-src 'self'; script-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
);
/// Forbids search engines to list a page.
static NOINDEX: HeaderValue = HeaderValue::from_static("noindex");
/// Forbids pages to tell other servers where a link was.
static NO_REFERRER: HeaderValue = HeaderValue::from_static("no-referrer");
/// How many characters of a method and of a path are logged, so that long ones do not fill the disk.
const METHOD_IN_LOG: usize = 16;
const PATH_IN_LOG: usize = 256;
/// How much of an answer is given to the framework at once.
const PIECE: usize = 16 * 1024;
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const X_ROBOTS_TAG: HeaderName = HeaderName::from_static("x-robots-tag");

/// The middleware, with what it needs of the configuration.
pub struct RequestLayer {
    /// Whether every origin may read the answers.
    pub any_origin: bool,
    /// The proxies whose `X-Forwarded-For` is believed.
    pub proxies: Arc<TrustedProxies>,
    /// `None` where metrics are off.
    pub metrics: Option<Arc<Metrics>>,
}

/// What is known of a request before it is handled.
struct Incoming {
    id: String,
    /// Whether it comes from a page in a browser. Other clients have no use for the long CORS headers.
    is_from_page: bool,
    method: Method,
    uri: Uri,
    peer: Option<Rc<str>>,
    /// The client, where the peer is a trusted proxy.
    client: Option<IpAddr>,
    started: Instant,
}

impl RequestLayer {
    /// Passes a request to the application and finishes its response.
    ///
    /// # Errors
    /// Never: every error becomes a response. The framework asks for a `Result`.
    pub fn handle<S, B>(
        self: Rc<Self>,
        mut request: Request,
        application: &S,
    ) -> impl Future<Output = Result<Response<BoxBody>, actix_web::Error>> + use<S, B>
    where
        S: Service<Request, Response = ServiceResponse<B>, Error = actix_web::Error>,
        B: MessageBody + 'static,
    {
        let incoming = Incoming {
            id: new_request_id(),
            is_from_page: request.head().headers.contains_key(header::ORIGIN),
            method: request.method().clone(),
            uri: request.uri().clone(),
            peer: request.conn_data::<Rc<ConnectionState>>().map(|connection| connection.peer()),
            client: self.client_behind_peer(&request),
            started: Instant::now(),
        };
        let has_body = has_body(&request);
        // What follows a CONNECT is not a request.
        let is_last = request.head().connection_type() == ConnectionType::Close || *request.method() == Method::CONNECT;
        let serving = request.conn_data::<Rc<ConnectionState>>().map(ConnectionState::serve);
        let answer = if matches!(serving, Some(None)) {
            None
        } else {
            drop_last_slash(&mut request);
            Some(AssertUnwindSafe(application.call(request)).catch_unwind())
        };
        async move {
            let mut matched = None;
            let mut response = match answer {
                // The connection is closing: its last answer said `Connection: close`, and no other may follow.
                None => std::future::pending().await,
                Some(answer) => match answer.await {
                    Ok(Ok(response)) => {
                        matched = response.request().app_data::<Matched>().copied();
                        as_ours(response.into_parts().1.map_into_boxed_body())
                    }
                    Ok(Err(error)) => as_ours(HttpResponse::from_error(error)),
                    Err(_) => HttpResponse::from_error(ApiError::Internal("a handler panicked".into())),
                },
            };
            incoming.log(&response);
            if let Some(metrics) = &self.metrics {
                let took = Some(incoming.started.elapsed());
                metrics.answered(
                    matched.map(|matched| matched.route),
                    incoming.method.as_str(),
                    response.status().as_u16(),
                    took,
                );
            }
            let scope = matched.map_or_else(|| scope_of(incoming.uri.path()), |matched| matched.scope);
            self.add_headers(
                scope,
                HeaderValue::try_from(incoming.id).ok(),
                incoming.is_from_page,
                response.headers_mut(),
            );
            let head = response.head_mut();
            head.set_camel_case_headers(true);
            head.reason = reason(head.status);
            let mut serving = serving.flatten();
            if let Some(serving) = &mut serving
                // The unread remainder of a body cannot be told from the next request.
                && (is_last || (has_body && !serving.body_was_read()))
            {
                head.set_connection_type(ConnectionType::Close);
                serving.end_connection();
            }
            Ok(in_pieces(response.into(), serving))
        }
    }

    fn client_behind_peer(&self, request: &Request) -> Option<IpAddr> {
        let peer = request.peer_addr()?.ip().to_canonical();
        Some(client_behind(&self.proxies, peer, &request.head().headers)).filter(|client| *client != peer)
    }

    /// The whole response to a request that the framework refused before the application saw it.
    #[must_use]
    pub fn refuse(&self, refused: &RefusedRequest) -> Vec<u8> {
        let status = StatusCode::from_u16(refused.status).unwrap_or(StatusCode::BAD_REQUEST);
        let id = new_request_id();
        log::info!(
            target: ACCESS_LOG,
            "method=- path=- status={} latency_ms=0 peer={} request_id={id}",
            refused.status,
            refused.peer,
        );
        if let Some(metrics) = &self.metrics {
            metrics.answered(None, "", refused.status, None);
        }
        let body = error::body_for(error::sentence_for(status));
        let mut headers = HeaderMap::new();
        self.add_headers(Scope::Api, HeaderValue::try_from(id).ok(), true, &mut headers);
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        let reason = reason(status).unwrap_or_default();
        let mut response = format!("HTTP/1.1 {} {reason}\r\n", refused.status).into_bytes();
        for (name, value) in &headers {
            response.extend_from_slice(camel_case(name.as_str()).as_bytes());
            response.extend_from_slice(b": ");
            response.extend_from_slice(value.as_bytes());
            response.extend_from_slice(b"\r\n");
        }
        response.extend_from_slice(b"\r\n");
        response.extend_from_slice(&body);
        response
    }

    /// The headers that every response has, and those of its scope. Where origins are restricted, the CORS middleware
    /// inside of this one has decided already whether the page may read.
    fn add_headers(&self, scope: Scope, request_id: Option<HeaderValue>, is_from_page: bool, headers: &mut HeaderMap) {
        if scope == Scope::Form || scope == Scope::Service {
            // No page of another origin may read these, whatever the origins of the API are.
            let of_cors = |name: &&HeaderName| name.as_str().starts_with("access-control-");
            let added: Vec<HeaderName> = headers.keys().filter(of_cors).cloned().collect();
            for name in added {
                headers.remove(name);
            }
        } else {
            self.add_cors_headers(is_from_page, headers);
        }
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, NOSNIFF.clone());
        // Only the pages at /docs and the files of pages set it themselves: they are the same for everyone.
        if !headers.contains_key(header::CACHE_CONTROL) {
            headers.insert(header::CACHE_CONTROL, NO_STORE.clone());
        }
        if !headers.contains_key(header::CONTENT_TYPE) {
            headers.insert(header::CONTENT_TYPE, JSON.clone());
        }
        if scope == Scope::Page || scope == Scope::Form {
            let policy = if scope == Scope::Form { &FORM_POLICY } else { &PAGE_POLICY };
            headers.insert(header::CONTENT_SECURITY_POLICY, policy.clone());
            headers.insert(header::REFERRER_POLICY, NO_REFERRER.clone());
        }
        if scope == Scope::Form {
            headers.insert(X_ROBOTS_TAG, NOINDEX.clone());
        }
        if let Some(id) = request_id {
            headers.insert(X_REQUEST_ID, id);
        }
    }

    /// The headers that let pages of other origins read an answer.
    fn add_cors_headers(&self, is_from_page: bool, headers: &mut HeaderMap) {
        if self.any_origin {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, ANY_ORIGIN.clone());
        }
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, ALLOW_HEADERS.clone());
        if is_from_page {
            headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSE_HEADERS.clone());
        }
        if headers.contains_key(ACCESS_CONTROL_ALLOW_METHODS) {
            headers.insert(ACCESS_CONTROL_ALLOW_METHODS, ALLOW_METHODS.clone());
        }
    }
}

/// The scope of an answer that comes from before the routes: to a preflight, which a path for other services refuses by
/// saying nothing of origins.
fn scope_of(path: &str) -> Scope {
    if path.trim_end_matches('/') == "/api/introspect" { Scope::Service } else { Scope::Api }
}

/// The target of the request lines; `RUST_LOG=authtokens::access=off` silences only them.
const ACCESS_LOG: &str = "authtokens::access";

impl Incoming {
    /// Logs the request's line and, where the service itself is at fault, the chain of causes.
    fn log(&self, response: &HttpResponse) {
        if let Some(cause) = error::behind(response).and_then(ApiError::cause) {
            log::error!("request {}: {}", self.id, Chain(cause));
        }
        if !log::log_enabled!(target: ACCESS_LOG, log::Level::Info) {
            return;
        }
        // Written piece by piece: one format string took a twentieth of the time of a token check.
        let mut line = String::with_capacity(192);
        line.push_str("method=");
        line.push_str(start_of(self.method.as_str(), METHOD_IN_LOG));
        line.push_str(" path=");
        line.push_str(start_of(self.uri.path(), PATH_IN_LOG));
        line.push_str(" status=");
        line.push_str(response.status().as_str());
        line.push_str(" latency_ms=");
        let took = self.started.elapsed().as_micros();
        let _ = write!(line, "{}.{:03}", took / 1_000, took % 1_000);
        if let Some(client) = self.client {
            let _ = write!(line, " client={client}");
        }
        line.push_str(" peer=");
        line.push_str(self.peer.as_deref().unwrap_or("-"));
        line.push_str(" request_id=");
        line.push_str(&self.id);
        log::info!(target: ACCESS_LOG, "{line}");
    }
}

/// The first characters of a text.
fn start_of(text: &str, characters: usize) -> &str {
    if text.len() <= characters {
        return text;
    }
    text.char_indices().nth(characters).map_or(text, |(end, _)| &text[..end])
}

/// Paths work with and without a trailing slash. A route for both would be a regular expression.
fn drop_last_slash(request: &mut Request) {
    let uri = request.uri();
    let Some(path) = uri.path().strip_suffix('/').filter(|path| !path.is_empty()) else { return };
    let target = match uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    if let Ok(uri) = target.parse() {
        request.head_mut().uri = uri;
    }
}

fn has_body(request: &Request) -> bool {
    let headers = &request.head().headers;
    headers.contains_key(header::TRANSFER_ENCODING)
        || headers.get(header::CONTENT_LENGTH).is_some_and(|length| length.as_bytes() != b"0")
}

fn new_request_id() -> String {
    hex(&rand::random::<[u8; 8]>())
}

/// Turns an error that is not ours, such as the CORS middleware's, into one of ours with the same status.
fn as_ours(response: HttpResponse) -> HttpResponse {
    let is_foreign = response.error().is_some() && error::behind(&response).is_none();
    if is_foreign { HttpResponse::from_error(ApiError::Framework(response.status())) } else { response }
}

/// Writes a large answer piece by piece: what the client has no room for yet is not copied into a buffer. The request
/// counts as being served until its last piece is handed over.
fn in_pieces(response: Response<BoxBody>, serving: Option<Serving>) -> Response<BoxBody> {
    if !matches!(response.body().size(), BodySize::Sized(size) if size > PIECE as u64) {
        return response;
    }
    response.map_body(|_, body| match body.try_into_bytes() {
        Ok(remaining) => BoxBody::new(Pieces { remaining, serving }),
        Err(body) => body,
    })
}

struct Pieces {
    remaining: Bytes,
    /// Dropped with the last piece; where no piece is handed over, as in an answer to HEAD, with the whole body.
    serving: Option<Serving>,
}

impl MessageBody for Pieces {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        BodySize::Sized(self.remaining.len() as u64)
    }

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, Infallible>>> {
        let this = self.get_mut();
        let piece = this.remaining.split_to(this.remaining.len().min(PIECE));
        if this.remaining.is_empty() {
            this.serving = None;
        }
        Poll::Ready((!piece.is_empty()).then_some(Ok(piece)))
    }
}

/// The reason phrase in capitals, as the API specification has it.
fn reason(status: StatusCode) -> Option<&'static str> {
    Some(match status {
        StatusCode::CREATED => "CREATED",
        StatusCode::NO_CONTENT => "NO CONTENT",
        StatusCode::BAD_REQUEST => "BAD REQUEST",
        StatusCode::UNAUTHORIZED => "UNAUTHORIZED",
        StatusCode::FORBIDDEN => "FORBIDDEN",
        StatusCode::NOT_FOUND => "NOT FOUND",
        StatusCode::METHOD_NOT_ALLOWED => "METHOD NOT ALLOWED",
        StatusCode::REQUEST_TIMEOUT => "REQUEST TIMEOUT",
        StatusCode::CONFLICT => "CONFLICT",
        StatusCode::PAYLOAD_TOO_LARGE => "CONTENT TOO LARGE",
        StatusCode::UNSUPPORTED_MEDIA_TYPE => "UNSUPPORTED MEDIA TYPE",
        StatusCode::TOO_MANY_REQUESTS => "TOO MANY REQUESTS",
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => "REQUEST HEADER FIELDS TOO LARGE",
        StatusCode::INTERNAL_SERVER_ERROR => "INTERNAL SERVER ERROR",
        StatusCode::SERVICE_UNAVAILABLE => "SERVICE UNAVAILABLE",
        other => return other.canonical_reason(),
    })
}

fn camel_case(name: &str) -> String {
    let mut at_start = true;
    name.chars()
        .map(|c| {
            let c = if at_start { c.to_ascii_uppercase() } else { c };
            at_start = c == '-';
            c
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use actix_service::fn_service;
    use actix_web::test::TestRequest;
    use actix_web::{HttpRequest, rt};

    use super::*;

    #[test]
    fn a_panic_in_a_handler_is_one_500_in_json_and_the_worker_goes_on() {
        rt::System::new().block_on(async {
            let proxies = Arc::new(TrustedProxies::new(Vec::new()));
            let layer = Rc::new(RequestLayer { any_origin: true, proxies, metrics: None });
            let application = fn_service(|request: Request| async move {
                assert_ne!(request.path(), "/panics", "on purpose");
                let request: HttpRequest = TestRequest::default().to_http_request();
                Ok(ServiceResponse::new(request, HttpResponse::Ok().finish()))
            });
            for (path, expected) in [("/panics", 500), ("/works", 200)] {
                let request = TestRequest::get().uri(path).to_request();
                let response = Rc::clone(&layer).handle(request, &application).await.unwrap();
                assert_eq!(response.status().as_u16(), expected, "{path}");
                assert_eq!(response.headers().get("content-type").unwrap(), "application/json");
                assert!(response.headers().contains_key("x-request-id"));
            }
        });
    }
}
