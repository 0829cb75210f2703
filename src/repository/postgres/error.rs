//! Maps PostgreSQL's errors to the repository's, and says why a database could not be opened.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio_postgres::error::SqlState;

use super::address::UrlError;
use crate::repository::{self, Cause, RepositoryError};
use crate::system::error_chain::Chain;

/// Why a database could not be opened. Each message is one sentence for a person.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum OpenError {
    #[error(transparent)]
    Url(#[from] UrlError),
    /// The certificates of the authorities.
    #[error("{0}")]
    Tls(String),
    #[error("cannot reach {shown}: {why}")]
    Unreachable { shown: String, why: String },
    #[error("{shown} is of version {version}: PostgreSQL 13 or newer is needed")]
    TooOld { shown: String, version: String },
    #[error("{shown} stores text as {encoding}: the database must be made with ENCODING 'UTF8'")]
    NotUtf8 { shown: String, encoding: String },
    #[error(
        "the role {role} may make nothing in the schema that it uses of {shown}, and each server makes a sequence there: let it \
         own the database, or GRANT CREATE ON SCHEMA"
    )]
    NoRight { shown: String, role: String },
    #[error("the schema of {shown} is of version {version}, of a newer release that this one cannot work beside")]
    TooNew { shown: String, version: i32 },
    #[error("{shown} holds tables that are not authtokens': {why}; it needs a database of its own")]
    NotOurs { shown: String, why: String },
    #[error(
        "{shown} was moved to {to}, and is not used any more; to use it again as it was then, run authtokens database reopen"
    )]
    Moved { shown: String, to: String },
    #[error("{shown} has no schema yet: start the server once, or run authtokens database migrate")]
    Missing { shown: String },
    #[error("cannot use {shown}: {why}")]
    Failed { shown: String, why: String },
    /// The threads of the store.
    #[error("cannot start the threads for {shown}: {source}")]
    Start { shown: String, source: io::Error },
}

impl From<OpenError> for repository::OpenError {
    fn from(error: OpenError) -> Self {
        Self::new(error)
    }
}

/// What went wrong on the way to the database, and not in it.
#[derive(Debug, Error)]
pub(super) enum LinkError {
    #[error("no connection was free for {} s", .0.as_secs())]
    PoolTimeout(Duration),
    #[error("the database did not answer for {} s", .0.as_secs())]
    Late(Duration),
    #[error("the database could not be reached: {0}")]
    Connect(String),
    #[error("the store is closed")]
    Closed,
    #[error("the answer came from a database that is not known to be the primary")]
    Unconfirmed,
    #[error("the connection is to another server than the one that the lease is on")]
    OtherServer,
    #[error("the connection was lost before the transaction was committed")]
    NotCommitted,
    #[error("the database was moved elsewhere: authtokens database status says where to")]
    Moved,
    #[error("whether the transaction was committed could not be found out for {} s", .0.as_secs())]
    NotSettled(Duration),
}

impl From<LinkError> for Cause {
    fn from(error: LinkError) -> Self {
        Arc::new(error)
    }
}

/// The error of work on a connection: PostgreSQL's, one on the way to it, or one that is mapped already.
#[derive(Debug)]
pub(super) enum Failure {
    Postgres(tokio_postgres::Error),
    Link(LinkError),
    /// A row holds what the service never wrote.
    Invalid(Cause),
    Repository(RepositoryError),
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Postgres(error)
    }
}

impl From<LinkError> for Failure {
    fn from(error: LinkError) -> Self {
        Self::Link(error)
    }
}

impl From<RepositoryError> for Failure {
    fn from(error: RepositoryError) -> Self {
        Self::Repository(error)
    }
}

/// What may be done about a failure of a transaction that was not committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Remedy {
    /// Another transaction was in the way: again, on the same connection.
    Again,
    /// The connection is worth nothing any more: again, on another one.
    Reconnect,
    /// None.
    Report,
}

impl Failure {
    pub(super) fn remedy(&self) -> Remedy {
        let error = match self {
            Self::Postgres(error) => error,
            Self::Link(LinkError::OtherServer | LinkError::NotCommitted) => return Remedy::Reconnect,
            Self::Link(_) | Self::Invalid(_) | Self::Repository(_) => return Remedy::Report,
        };
        let Some(state) = error.code() else {
            return if error.is_closed() || is_io(error) { Remedy::Reconnect } else { Remedy::Report };
        };
        match *state {
            // A unique violation is another's insertion a moment ago: the next try sees it.
            SqlState::T_R_SERIALIZATION_FAILURE | SqlState::T_R_DEADLOCK_DETECTED | SqlState::UNIQUE_VIOLATION => {
                Remedy::Again
            }
            SqlState::READ_ONLY_SQL_TRANSACTION
            | SqlState::ADMIN_SHUTDOWN
            | SqlState::CRASH_SHUTDOWN
            | SqlState::CANNOT_CONNECT_NOW
            | SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT => Remedy::Reconnect,
            _ if state.code().starts_with("08") => Remedy::Reconnect,
            _ => Remedy::Report,
        }
    }

    /// Whether the answer was not waited for.
    pub(super) fn is_late(&self) -> bool {
        matches!(self, Self::Link(LinkError::Late(_)))
    }

    /// The only mapping of PostgreSQL's errors to the repository's.
    pub(super) fn mapped(self) -> RepositoryError {
        match self {
            Self::Repository(error) => error,
            Self::Link(error) => RepositoryError::Unavailable(error.into()),
            Self::Invalid(cause) => RepositoryError::Inconsistent(cause),
            Self::Postgres(error) => map_error(error),
        }
    }
}

fn map_error(error: tokio_postgres::Error) -> RepositoryError {
    let Some(state) = error.code() else {
        let is_unavailable = error.is_closed() || is_io(&error);
        let cause: Cause = Arc::new(error);
        return if is_unavailable { RepositoryError::Unavailable(cause) } else { RepositoryError::Backend(cause) };
    };
    if is_moved(&error) {
        return RepositoryError::Unavailable(LinkError::Moved.into());
    }
    let (state, cause) = (state.clone(), Arc::new(error) as Cause);
    match state {
        SqlState::DATA_CORRUPTED | SqlState::INDEX_CORRUPTED => RepositoryError::Inconsistent(cause),
        SqlState::READ_ONLY_SQL_TRANSACTION
        | SqlState::T_R_SERIALIZATION_FAILURE
        | SqlState::T_R_DEADLOCK_DETECTED
        | SqlState::LOCK_NOT_AVAILABLE
        | SqlState::IO_ERROR
        | SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT => RepositoryError::Unavailable(cause),
        // Connections; authorization; resources; operator's intervention.
        _ if ["08", "28", "53", "57"].iter().any(|class| state.code().starts_with(class)) => {
            RepositoryError::Unavailable(cause)
        }
        _ => RepositoryError::Backend(cause),
    }
}

/// Whether the transaction could not leave its receipt, because the database was moved.
fn is_moved(error: &tokio_postgres::Error) -> bool {
    error.as_db_error().is_some_and(|error| error.constraint() == Some("moved"))
}

fn is_io(error: &tokio_postgres::Error) -> bool {
    std::error::Error::source(error).is_some_and(<dyn std::error::Error>::is::<io::Error>)
}

/// The whole of what went wrong, in one line.
pub(super) fn told(error: &tokio_postgres::Error) -> String {
    Chain(error).to_string()
}
