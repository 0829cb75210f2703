//! The extractor for the client: its address, its user agent, and whether it is still there.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::net::IpAddr;
use std::rc::Rc;

use actix_web::dev::Payload;
use actix_web::http::header::USER_AGENT;
use actix_web::{FromRequest, HttpRequest};

use crate::accounts::Client;
use crate::domain::session::UserAgent;
use crate::http::extract::caller::client_ip;
use crate::transport::connection::ConnectionState;

/// The client at the other end of the connection, for the use cases.
pub(crate) struct HttpClient {
    user_agent: UserAgent,
    ip: Option<IpAddr>,
    connection: Option<Rc<ConnectionState>>,
}

impl Client for HttpClient {
    fn ip(&self) -> Option<IpAddr> {
        self.ip
    }

    fn user_agent(&self) -> &UserAgent {
        &self.user_agent
    }

    /// Resolves when the client has closed its side.
    async fn gone(&self) {
        match &self.connection {
            Some(connection) => connection.client_gone().await,
            None => std::future::pending().await,
        }
    }
}

impl FromRequest for HttpClient {
    type Error = Infallible;
    type Future = Ready<Result<Self, Infallible>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let headers = request.headers();
        let user_agent = headers.get(USER_AGENT).map(|value| String::from_utf8_lossy(value.as_bytes()));
        ready(Ok(Self {
            user_agent: UserAgent::from_header(user_agent.as_deref().unwrap_or_default()),
            ip: client_ip(request),
            connection: request.conn_data::<Rc<ConnectionState>>().cloned(),
        }))
    }
}
