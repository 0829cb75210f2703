//! The store's own threads, watched: without one of them the store only seems to work.

use std::future::pending;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use thiserror::Error;
use tokio::sync::watch;

use crate::repository::Cause;

#[derive(Debug, Error)]
#[error("the thread \"{0}\" has ended by itself")]
struct Ended(&'static str);

/// Starts threads that return when they are told to, and tells of one that panics. Clones tell of the same threads.
#[derive(Clone, Default)]
pub(super) struct Threads(watch::Sender<Option<Cause>>);

impl Threads {
    /// Starts one.
    pub(super) fn spawn(&self, name: &'static str, work: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
        let failure = self.0.clone();
        thread::Builder::new().name(name.to_owned()).spawn(move || {
            if let Err(panic) = catch_unwind(AssertUnwindSafe(work)) {
                failure.send_replace(Some(Arc::new(Ended(name))));
                resume_unwind(panic);
            }
        })
    }

    /// Resolves when one of them has ended by itself.
    pub(super) async fn wait_for_failure(&self) -> Cause {
        let mut failure = self.0.subscribe();
        let cause = failure.wait_for(Option::is_some).await.ok().and_then(|cause| cause.clone());
        match cause {
            Some(cause) => cause,
            None => pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn a_thread_that_panics_is_told_of_and_one_that_returns_is_not() {
        let threads = Threads::default();
        threads.spawn("returns", || {}).unwrap().join().unwrap();
        assert!(threads.wait_for_failure().now_or_never().is_none());
        let waiting = tokio::spawn({
            let threads = threads.clone();
            async move { threads.wait_for_failure().await.to_string() }
        });
        assert!(threads.spawn("panics", || panic!("on purpose")).unwrap().join().is_err());
        let told = tokio::time::timeout(Duration::from_secs(60), waiting).await.unwrap().unwrap();
        assert_eq!(told, "the thread \"panics\" has ended by itself");
        assert!(threads.wait_for_failure().now_or_never().is_some(), "whoever asks later is told too");
    }
}
