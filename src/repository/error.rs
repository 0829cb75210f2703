//! The errors of a store: why it could not be opened, and why a method failed.

use std::error::Error;
use std::sync::Arc;

use thiserror::Error as ThisError;

/// The cause of a failure, for the log.
pub type Cause = Arc<dyn Error + Send + Sync>;

/// A field with a unique constraint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UniqueField {
    /// The account's name, compared without regard to case.
    Username,
}

/// Why a method of the store failed. Each variant says whether the change happened.
#[derive(Clone, Debug, ThisError)]
pub enum RepositoryError {
    /// Another row has this value already (a unique constraint). Nothing happened.
    #[error("the {0:?} is taken")]
    Conflict(UniqueField),
    /// The caller's session has ended or never existed. Nothing happened.
    #[error("the session is over")]
    NoSession,
    /// The actor lacks the permission. Nothing happened.
    #[error("the session has no right to this")]
    Forbidden,
    /// It would leave no active superuser. Nothing happened.
    #[error("it is the last superuser")]
    LastSuperuser,
    /// The list would have too many items. Nothing happened.
    #[error("the list is full")]
    ListFull,
    /// The store cannot do it now: it is locked, full, read-only or overloaded. Nothing happened.
    #[error("the store cannot do this now")]
    Unavailable(#[source] Cause),
    /// The store failed while it made the change durable: it may have happened. Read again before trying again.
    #[error("the store may or may not have done this")]
    OutcomeUnknown(#[source] Cause),
    /// The stored data is damaged, or holds a value that the service never wrote.
    #[error("the store holds something that cannot be right")]
    Inconsistent(#[source] Cause),
    /// A fault of the service itself. Nothing happened.
    #[error("the store failed")]
    Backend(#[source] Cause),
}

/// Why a store cannot be opened, in one sentence for the person who starts it. Each store has its own reasons.
#[derive(Debug, ThisError)]
#[error(transparent)]
pub struct OpenError(Box<dyn Error + Send + Sync>);

impl OpenError {
    pub(super) fn new(error: impl Error + Send + Sync + 'static) -> Self {
        Self(Box::new(error))
    }
}
