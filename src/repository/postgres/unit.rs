//! A unit of work without its types. What tries it again, commits it and waits for it is large and compiled once; with the
//! types it would be compiled once a unit, and there are more than a hundred.

use std::sync::{Mutex, PoisonError};

use futures_util::future::BoxFuture;

use super::error::Failure;

/// A unit of work, as it is done on a connection or in a transaction.
pub(super) trait Work<On>: Send + Sync {
    /// Does it once, and keeps what came of it.
    fn run<'a>(&'a self, on: &'a On) -> BoxFuture<'a, Result<(), Failure>>;
}

/// A unit of work: what it is given, what it does, and what came of it the last time.
pub(super) struct Unit<A, T, W> {
    arguments: A,
    work: W,
    outcome: Mutex<Option<T>>,
}

impl<On, A, T, W> Work<On> for Unit<A, T, W>
where
    On: Sync,
    A: Send + Sync,
    T: Send,
    W: for<'a> Fn(&'a On, &'a A) -> BoxFuture<'a, Result<T, Failure>> + Send + Sync,
{
    fn run<'a>(&'a self, on: &'a On) -> BoxFuture<'a, Result<(), Failure>> {
        let worked = (self.work)(on, &self.arguments);
        Box::pin(async move {
            let value = worked.await?;
            *self.outcome.lock().unwrap_or_else(PoisonError::into_inner) = Some(value);
            Ok(())
        })
    }
}

impl<A, T, W> Unit<A, T, W> {
    pub(super) fn new(arguments: A, work: W) -> Self {
        Self { arguments, work, outcome: Mutex::default() }
    }

    /// What came of it, where it succeeded.
    pub(super) fn take(&self) -> T {
        let outcome = self.outcome.lock().unwrap_or_else(PoisonError::into_inner).take();
        outcome.unwrap_or_else(|| unreachable!("a unit of work that has succeeded has an outcome"))
    }
}
