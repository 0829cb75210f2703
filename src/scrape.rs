//! The listener that shows the metrics: `GET /metrics` on an address of its own, and nothing else.
//!
//! It shares no thread and no connection with the API, and whoever asks too often waits: neither a slow nor a greedy
//! scraper is felt by anyone else.

use std::io;
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_http::{ConnectionType, HttpService, KeepAlive, Request, Response, StatusCode};
use actix_rt::net::TcpStream;
use actix_server::Server;
use actix_service::{ServiceFactoryExt as _, fn_service};
use actix_web::body::BoxBody;
use actix_web::http::Method;
use actix_web::http::header::{self, HeaderValue};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until};

use crate::connection::{Connection, ConnectionSettings, ConnectionState};
use crate::metrics::Exposition;

/// The one path.
const PATH: &str = "/metrics";

/// The text format of Prometheus and its version.
const FORMAT: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// How many connections are open at once; more of them wait to be accepted.
const CONNECTIONS: usize = 8;

/// How long a scraper may take to send its request, and to read the answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// From one answer to the next, whoever asks: twenty a second are more than anyone needs.
const PAUSE: Duration = Duration::from_millis(50);

/// Serves what `exposition` shows on a thread of its own. The server must be polled, and stops when it is told to.
///
/// # Errors
/// When the system gives no thread.
pub fn serve(listener: TcpListener, exposition: &Arc<Exposition>) -> io::Result<Server> {
    let exposition = Arc::clone(exposition);
    let server = Server::build().workers(1).max_concurrent_connections(CONNECTIONS).disable_signals().listen(
        "authtokens metrics",
        listener,
        move || {
            let scrapes = Rc::new(Scrapes { exposition: Arc::clone(&exposition), next: Mutex::new(Instant::now()) });
            let http = HttpService::build()
                .keep_alive(KeepAlive::Disabled)
                // The connection itself keeps the time.
                .client_request_timeout(Duration::ZERO)
                .client_disconnect_timeout(PATIENCE)
                .on_connect_ext(|connection: &Connection, extensions| {
                    extensions.insert(connection.state());
                })
                .h1(fn_service(move |request: Request| {
                    let scrapes = Rc::clone(&scrapes);
                    async move { Ok::<_, actix_web::Error>(scrapes.answer(&request).await) }
                }));
            let settings = Rc::new(ConnectionSettings {
                header_timeout: PATIENCE,
                keep_alive: PATIENCE,
                write_timeout: PATIENCE,
                refuse: Box::new(|refusal| {
                    let status = refusal.status;
                    format!("HTTP/1.1 {status} \r\nContent-Length: 0\r\nConnection: close\r\n\r\n").into_bytes()
                }),
            });
            fn_service(move |stream: TcpStream| {
                let connection = Connection::new(stream, Rc::clone(&settings));
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

struct Scrapes {
    exposition: Arc<Exposition>,
    /// When the next answer may be given.
    next: Mutex<Instant>,
}

impl Scrapes {
    async fn answer(&self, request: &Request) -> Response<BoxBody> {
        let serving = request.conn_data::<Rc<ConnectionState>>().map(ConnectionState::serve);
        self.wait().await;
        let is_asked_for = request.path() == PATH && [Method::GET, Method::HEAD].contains(request.method());
        let mut response = if is_asked_for {
            self.exposition.text().await.map_or_else(
                |error| {
                    log::error!("the metrics cannot be shown: {error}");
                    text(StatusCode::INTERNAL_SERVER_ERROR, "The metrics cannot be shown.\n".to_owned())
                },
                |metrics| text(StatusCode::OK, metrics),
            )
        } else {
            text(StatusCode::NOT_FOUND, "GET /metrics is all there is.\n".to_owned())
        };
        // One answer a connection: no body is read, and nobody rests here.
        response.head_mut().set_connection_type(ConnectionType::Close);
        if let Some(serving) = serving.flatten() {
            serving.close();
        }
        response
    }

    async fn wait(&self) {
        let mut next = self.next.lock().await;
        sleep_until(*next).await;
        *next = Instant::now() + PAUSE;
    }
}

fn text(status: StatusCode, body: String) -> Response<BoxBody> {
    let mut response = Response::with_body(status, BoxBody::new(body));
    response.headers_mut().insert(header::CONTENT_TYPE, FORMAT);
    response
}
