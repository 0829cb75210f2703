//! What a handler may know of the client's side of the connection.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::net::IpAddr;
use std::rc::Rc;

use actix_web::dev::Payload;
use actix_web::http::header::USER_AGENT;
use actix_web::{FromRequest, HttpRequest};

use crate::domain::session::{NewSession, UserAgent};
use crate::domain::token::TokenDigest;
use crate::http::extract::caller::client_ip;
use crate::transport::connection::ConnectionState;

/// The client at the other end.
pub(crate) struct Client {
    user_agent: UserAgent,
    /// Where it is, where that is known.
    pub(crate) ip: Option<IpAddr>,
    connection: Option<Rc<ConnectionState>>,
}

impl Client {
    /// A session for this client under a token's digest.
    pub(crate) fn session(&self, digest: TokenDigest) -> NewSession {
        NewSession { digest, user_agent: self.user_agent.clone(), ip: self.ip }
    }

    /// Resolves when the client has closed its side, and so waits for nothing any more.
    pub(crate) async fn gone(&self) {
        match &self.connection {
            Some(connection) => connection.client_gone().await,
            None => std::future::pending().await,
        }
    }
}

impl FromRequest for Client {
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
