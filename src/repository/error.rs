//! Why a store could not be opened, or did not do what it was asked.

use std::error::Error;
use std::sync::Arc;

use thiserror::Error as ThisError;

/// What lies under a failure, for the log.
pub type Cause = Arc<dyn Error + Send + Sync>;

/// A value that the store holds once only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UniqueField {
    /// An account's name, without regard to case.
    Username,
}

/// Why the store did not do what it was asked.
#[derive(Clone, Debug, ThisError)]
pub enum RepositoryError {
    /// Another row has this value already. Nothing happened.
    #[error("the {0:?} is taken")]
    Conflict(UniqueField),
    /// The session of whoever asks is over, or never was. Nothing happened.
    #[error("the session is over")]
    NoSession,
    /// Whoever asks may not do this. Nothing happened.
    #[error("the session has no right to this")]
    Forbidden,
    /// It would leave no superuser who could undo it. Nothing happened.
    #[error("it is the last superuser")]
    LastSuperuser,
    /// The list would hold more than it may. Nothing happened.
    #[error("the list is full")]
    ListFull,
    /// The store cannot do it now: it is locked, full, read-only or overloaded. Nothing happened.
    #[error("the store cannot do this now")]
    Unavailable(#[source] Cause),
    /// The store failed while it made the change durable: it may have happened. Read again before trying again.
    #[error("the store may or may not have done this")]
    OutcomeUnknown(#[source] Cause),
    /// What the store holds cannot be right: damage, or a value that the service never wrote.
    #[error("the store holds something that cannot be right")]
    Inconsistent(#[source] Cause),
    /// Anything else: a fault of the service itself. Nothing happened.
    #[error("the store failed")]
    Backend(#[source] Cause),
}

/// Why a store cannot be used, in one sentence for the person who starts it. What may be wrong is each store's own.
#[derive(Debug, ThisError)]
#[error(transparent)]
pub struct OpenError(Box<dyn Error + Send + Sync>);

impl OpenError {
    pub(super) fn new(error: impl Error + Send + Sync + 'static) -> Self {
        Self(Box::new(error))
    }
}
