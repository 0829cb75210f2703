//! A piece of work for the writer. It is begun, or given up while it is queued, and answered once the outcome of its
//! transaction is known.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use thiserror::Error;
use tokio::sync::oneshot;

use super::transaction::Transaction;
use crate::repository::{Cause, RepositoryError};

/// The capacity of the writer's queue. Beyond it writes are refused at once (load shedding), so that nobody waits too
/// long.
pub(super) const QUEUE: usize = 1024;

/// How long work may wait in the queue: a disk that hangs must not let clients wait for ever.
pub(super) const QUEUED_FOR: Duration = Duration::from_secs(5);

#[derive(Debug, Error)]
pub(super) enum WriterError {
    #[error("{QUEUE} writes are waiting already")]
    QueueFull,
    #[error("the write has waited for its turn for {} s", QUEUED_FOR.as_secs())]
    Late,
    #[error("the writer has stopped")]
    Stopped,
    #[error("the work panicked")]
    Panicked,
    #[error("SQLite ended the transaction")]
    RolledBack,
}

impl From<WriterError> for Cause {
    fn from(error: WriterError) -> Self {
        Arc::new(error)
    }
}

/// A piece of work, without the type of its result.
pub(super) trait Work: Send {
    /// Claims it for the writer; `false` where whoever asked has given it up, and was told that nothing happened.
    fn claim(&self) -> bool;
    /// Runs it. `sees_uncommitted` says whether earlier work has changed something in this transaction.
    fn run(&mut self, transaction: &Transaction<'_>, sees_uncommitted: bool) -> Ran;
    /// Answers whoever asked, with the outcome of the transaction.
    fn answer(self: Box<Self>, transaction: Result<(), RepositoryError>);
}

/// The outcome of a piece of work.
#[derive(PartialEq)]
pub(super) enum Ran {
    /// It succeeded, and its changes are kept.
    Kept,
    /// It was refused, and its changes are rolled back.
    Refused,
    /// It was unavailable: rolled back, too, because the store cannot do it now.
    Failed,
}

pub(super) struct Task<F, T> {
    pub(super) work: Option<F>,
    pub(super) outcome: Option<Result<T, RepositoryError>>,
    pub(super) sees_uncommitted: bool,
    /// Set by the first of two: the writer, which begins it, or whoever asked, who gives it up.
    pub(super) claimed: Arc<AtomicBool>,
    pub(super) reply: oneshot::Sender<Result<T, RepositoryError>>,
}

impl<F, T> Work for Task<F, T>
where
    F: FnOnce(&Transaction<'_>) -> Result<T, RepositoryError> + Send,
    T: Send,
{
    fn claim(&self) -> bool {
        !self.claimed.swap(true, Ordering::SeqCst)
    }

    fn run(&mut self, transaction: &Transaction<'_>, sees_uncommitted: bool) -> Ran {
        let Some(work) = self.work.take() else { return Ran::Refused };
        self.sees_uncommitted = sees_uncommitted;
        let outcome = catch_unwind(AssertUnwindSafe(|| work(transaction)))
            .unwrap_or_else(|_| Err(RepositoryError::Backend(WriterError::Panicked.into())));
        match self.outcome.insert(outcome) {
            Ok(_) => Ran::Kept,
            Err(RepositoryError::Unavailable(_)) => Ran::Failed,
            Err(_) => Ran::Refused,
        }
    }

    fn answer(self: Box<Self>, transaction: Result<(), RepositoryError>) {
        let answer = match (self.outcome, transaction) {
            (Some(outcome), Ok(())) => outcome,
            // The refusal stands although the transaction failed: it saw only what was committed before, or is a fault.
            (Some(Err(error)), Err(_)) if !self.sees_uncommitted || is_fault(&error) => Err(error),
            (_, Err(error)) => Err(error),
            (None, Ok(())) => Err(RepositoryError::Unavailable(WriterError::Stopped.into())),
        };
        // Whoever asked may be gone; the work is committed all the same.
        let _ = self.reply.send(answer);
    }
}

/// Whether an error is a fault of the store, and not a refusal because of what it holds.
fn is_fault(error: &RepositoryError) -> bool {
    match error {
        RepositoryError::Unavailable(_)
        | RepositoryError::OutcomeUnknown(_)
        | RepositoryError::Inconsistent(_)
        | RepositoryError::Backend(_) => true,
        RepositoryError::Conflict(_)
        | RepositoryError::NoSession
        | RepositoryError::Forbidden
        | RepositoryError::LastSuperuser
        | RepositoryError::ListFull => false,
    }
}
