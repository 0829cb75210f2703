//! Says why PostgreSQL cannot be reached: one sentence, which names the setting to change. Nothing of it is a secret.

use std::error::Error as StdError;
use std::io;

use tokio_postgres::error::SqlState;

use super::error::told;
use crate::system::authorities::{self, Peer};

/// What is said of the certificate, as the sentence goes on behind "cannot reach …: ".
const PEER: Peer<'_> =
    Peer { certificate: "its certificate", name: "the host in database.url", ca_setting: "database.ca_file" };

/// Why a connection could not be made, as the end of a sentence about the server.
pub(super) fn why_not(error: &tokio_postgres::Error) -> String {
    if let Some(state) = error.code() {
        let said = error.as_db_error().and_then(|error| error.message().lines().next());
        return refused(state).map_or_else(|| format!("it refuses: {}", said.unwrap_or_default()), str::to_owned);
    }
    if let Some(tls) = authorities::find_error(error) {
        return authorities::tell(tls, &PEER).unwrap_or_else(|| format!("TLS with it failed: {tls}"));
    }
    let cause = error.source();
    if let Some(error) = cause.and_then(|cause| cause.downcast_ref::<io::Error>()) {
        return not_connected(error);
    }
    // The driver has no other mark of these than its words.
    match cause.map(ToString::to_string).unwrap_or_default().as_str() {
        "server does not support TLS" => {
            "it offers no TLS: set ssl = on in its postgresql.conf, or sslmode=disable in database.url where the network is \
             trusted"
                .to_owned()
        }
        "password missing" => "it asks for a password, and database.url has none".to_owned(),
        "unsupported SASL mechanism" | "unsupported authentication method" => {
            "it asks for a kind of login that is not supported: set scram-sha-256 in its pg_hba.conf".to_owned()
        }
        _ => told(error),
    }
}

/// What the server itself refuses.
fn refused(state: &SqlState) -> Option<&'static str> {
    Some(match *state {
        SqlState::INVALID_PASSWORD => "the user or the password in database.url is wrong",
        SqlState::INVALID_AUTHORIZATION_SPECIFICATION => {
            "it does not let the user in database.url in from here: its pg_hba.conf may not name the user or the network, or \
             ask for TLS; or the user may not log in"
        }
        SqlState::INVALID_CATALOG_NAME => {
            "it has no such database: create it, or name another at the end of database.url"
        }
        SqlState::TOO_MANY_CONNECTIONS => {
            "it has no connection left: lower database.connections, or raise its max_connections"
        }
        SqlState::CANNOT_CONNECT_NOW => "it is starting up, or shutting down",
        SqlState::INSUFFICIENT_PRIVILEGE => {
            "the user in database.url may not connect to the database: GRANT CONNECT ON DATABASE … lets it"
        }
        _ => return None,
    })
}

fn not_connected(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => {
            "nobody listens there: the host or the port in database.url may be wrong, or it is stopped".to_owned()
        }
        io::ErrorKind::NotFound => {
            "there is no socket of it there: the host in database.url may be wrong, or it is stopped".to_owned()
        }
        // So says the driver of a server whose transactions are read only.
        io::ErrorKind::PermissionDenied if error.get_ref().is_some() => {
            "it is a standby, which takes no writes: name the primary in database.url, or all hosts, with commas"
                .to_owned()
        }
        io::ErrorKind::TimedOut => {
            "it does not answer: the host in database.url may be wrong, or a firewall is in between".to_owned()
        }
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => {
            "it closes the connection: it may not be PostgreSQL, or it is shutting down".to_owned()
        }
        _ if error.to_string().starts_with("failed to lookup address") => {
            format!("the name of the host in database.url is not found: {error}")
        }
        _ => format!("it is not reached: {error}"),
    }
}
