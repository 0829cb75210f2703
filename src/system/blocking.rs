//! Blocking work, run off the async threads.
//!
//! A worker's thread serves many connections; a read of the database file that waits for the disk would stop all of
//! them. Such work goes through [`run`] to the runtime's blocking threads. Password hashing does not: it has threads of
//! its own ([`crate::passwords::threads`]), so that a flood of logins cannot use these up.

use thiserror::Error;

/// The work ended without a result: it panicked, or the runtime is shutting down.
#[derive(Debug, Error)]
#[error("work on a blocking thread ended without a result")]
pub struct Interrupted(#[source] tokio::task::JoinError);

/// Runs `work` on a blocking thread and waits for its result without blocking the async thread.
///
/// # Errors
/// [`Interrupted`] when the work panicked or the runtime is shutting down.
#[expect(clippy::disallowed_methods, reason = "the one module that may use it")]
pub async fn run<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Interrupted> {
    tokio::task::spawn_blocking(work).await.map_err(Interrupted)
}
