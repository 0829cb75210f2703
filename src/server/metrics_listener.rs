//! The listener that shows the metrics: `GET /metrics` on an address of its own, and nothing else.
//!
//! It shares no thread and no connection with the API, and a client that asks too often waits: neither a slow nor a
//! greedy scraper (a program that reads metrics) slows anyone else. Where many connections are open, a new one evicts
//! the oldest that is not being served: clients that are silent, or do not read, keep no scraper out.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::net::TcpListener;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use actix_http::{ConnectionType, HttpService, KeepAlive, Request, Response, StatusCode};
use actix_rt::net::TcpStream;
use actix_server::Server;
use actix_service::{ServiceFactoryExt as _, fn_service};
use actix_web::body::BoxBody;
use actix_web::http::Method;
use actix_web::http::header::{self, HeaderValue};
use bytes::Bytes;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, sleep_until};

use crate::server::exposition::Exposition;
use crate::system::error_chain::Chain;
use crate::transport::connection::{Connection, ConnectionSettings, ConnectionState};

/// The one path.
const PATH: &str = "/metrics";

/// The text format of Prometheus and its version.
const FORMAT: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// How many connections are open at once. A new one beyond that evicts an old one.
const CONNECTIONS: usize = 64;

/// How many there may be while evicted ones have not closed yet. Any more wait to be accepted.
const ACCEPTED: usize = 4 * CONNECTIONS;

/// How long a scraper may take to send its request, and to read the answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// The least time from one answer to the next, for all clients together: twenty a second are more than anyone needs.
const PAUSE: Duration = Duration::from_millis(50);

/// Serves what `exposition` shows on a thread of its own. The server must be polled, and stops when its handle says so.
///
/// # Errors
/// When the system gives no thread.
pub fn serve(listener: TcpListener, exposition: &Arc<Exposition>) -> io::Result<Server> {
    let exposition = Arc::clone(exposition);
    let server = Server::build().workers(1).max_concurrent_connections(ACCEPTED).disable_signals().listen(
        "authtokens metrics",
        listener,
        move || {
            let endpoint = Rc::new(MetricsEndpoint { exposition: Arc::clone(&exposition), shown: Mutex::default() });
            let http = HttpService::build()
                .keep_alive(KeepAlive::Disabled)
                // The connection itself has the deadlines.
                .client_request_timeout(Duration::ZERO)
                .client_disconnect_timeout(PATIENCE)
                .on_connect_ext(|connection: &Connection, extensions| {
                    extensions.insert(connection.state());
                })
                .h1(fn_service(move |request: Request| {
                    let endpoint = Rc::clone(&endpoint);
                    async move { Ok::<_, actix_web::Error>(endpoint.answer(&request).await) }
                }));
            let settings = Rc::new(ConnectionSettings {
                header_timeout: PATIENCE,
                keep_alive: PATIENCE,
                write_timeout: PATIENCE,
                refuse: Box::new(|refused| {
                    let status = refused.status;
                    format!("HTTP/1.1 {status} \r\nContent-Length: 0\r\nConnection: close\r\n\r\n").into_bytes()
                }),
            });
            let open = RefCell::new(VecDeque::new());
            fn_service(move |stream: TcpStream| {
                let connection = Connection::new(stream, Rc::clone(&settings));
                make_room(&mut open.borrow_mut());
                open.borrow_mut().push_back(Rc::downgrade(&connection.state()));
                async move {
                    let peer = connection.peer();
                    Ok((connection, peer))
                }
            })
            .and_then(http)
        },
    )?;
    Ok(server.run())
}

/// Closes the oldest connections that are not being served, until there is room for another one.
fn make_room(open: &mut VecDeque<Weak<ConnectionState>>) {
    open.retain(|state| state.strong_count() > 0);
    let mut too_many = (open.len() + 1).saturating_sub(CONNECTIONS);
    open.retain(|state| {
        let goes = too_many > 0 && state.upgrade().is_none_or(|state| state.close_unless_serving());
        too_many -= usize::from(goes);
        !goes
    });
}

struct MetricsEndpoint {
    exposition: Arc<Exposition>,
    shown: Mutex<Option<Shown>>,
}

/// The page that was shown last.
struct Shown {
    at: Instant,
    /// `None` where it could not be made.
    metrics: Option<Bytes>,
}

impl MetricsEndpoint {
    async fn answer(&self, request: &Request) -> Response<BoxBody> {
        let serving = request.conn_data::<Rc<ConnectionState>>().map(ConnectionState::serve);
        let is_asked_for = request.path() == PATH && [Method::GET, Method::HEAD].contains(request.method());
        let mut response = if is_asked_for {
            self.metrics().await.map_or_else(
                || text(StatusCode::INTERNAL_SERVER_ERROR, Bytes::from_static(b"The metrics cannot be shown.\n")),
                |metrics| text(StatusCode::OK, metrics),
            )
        } else {
            sleep(PAUSE).await;
            text(StatusCode::NOT_FOUND, Bytes::from_static(b"GET /metrics is all there is.\n"))
        };
        // One answer a connection: no body is read, and no connection is kept alive.
        response.head_mut().set_connection_type(ConnectionType::Close);
        if let Some(mut serving) = serving.flatten() {
            serving.end_connection();
        }
        response
    }

    /// The metrics as they are now. All clients that wait for them are shown the same page, so that many wait no longer
    /// than one.
    async fn metrics(&self) -> Option<Bytes> {
        let asked_at = Instant::now();
        let mut shown = self.shown.lock().await;
        if let Some(shown) = shown.as_ref() {
            if shown.at > asked_at {
                return shown.metrics.clone();
            }
            sleep_until(shown.at + PAUSE).await;
        }
        let at = Instant::now();
        let metrics = self.exposition.text().await;
        let metrics = metrics.inspect_err(|error| log::error!("the metrics cannot be shown: {}", Chain(error))).ok();
        shown.insert(Shown { at, metrics: metrics.map(Bytes::from) }).metrics.clone()
    }
}

fn text(status: StatusCode, body: Bytes) -> Response<BoxBody> {
    let mut response = Response::with_body(status, BoxBody::new(body));
    response.headers_mut().insert(header::CONTENT_TYPE, FORMAT);
    response
}
