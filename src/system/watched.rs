//! Threads that must not end unnoticed.
//!
//! A background thread that has died leaves a process that looks alive and does half of its work. So whoever starts one
//! for good starts it here, and whoever runs the process waits for [`WatchedThreads::failure`] beside its work: it is
//! better to end and be started again.

use std::io;
use std::sync::Arc;
use std::thread::{self, Thread};

use thiserror::Error;
use tokio::sync::watch;

/// A thread ended that nobody had told to.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("the thread \"{0}\" has ended, and the service cannot do without it")]
pub struct ThreadEnded(pub String);

/// The threads of one process. Clones watch over the same ones.
#[derive(Clone, Default)]
pub struct WatchedThreads(Arc<watch::Sender<State>>);

#[derive(Default)]
struct State {
    /// Whether threads may end from now on.
    may_end: bool,
    /// The first that ended before it might.
    failed: Option<ThreadEnded>,
}

impl WatchedThreads {
    /// Starts a thread. It may return, or panic, only once [`WatchedThreads::expect_ends`] was called.
    ///
    /// # Errors
    /// When the system gives none.
    pub fn spawn(&self, name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<Thread> {
        let (own_name, threads) = (name.to_owned(), self.clone());
        let thread = thread::Builder::new().name(name.to_owned()).spawn(move || {
            let _end = EndOfThread { name: own_name, threads };
            work();
        })?;
        Ok(thread.thread().clone())
    }

    /// From now on it is no failure when a thread ends.
    pub fn expect_ends(&self) {
        self.0.send_modify(|state| state.may_end = true);
    }

    /// Resolves when a thread has ended that should not have.
    pub async fn failure(&self) -> ThreadEnded {
        let mut state = self.0.subscribe();
        let failed = state.wait_for(|state| state.failed.is_some()).await.map(|state| state.failed.clone());
        match failed {
            Ok(Some(ended)) => ended,
            _ => unreachable!("the sender is in self, and there is a failure"),
        }
    }

    /// Reports the end of a thread, also of one that was started elsewhere.
    pub fn report_end(&self, name: &str) {
        self.0.send_modify(|state| {
            if !state.may_end && state.failed.is_none() {
                state.failed = Some(ThreadEnded(name.to_owned()));
            }
        });
    }
}

/// Dropped when the thread's work returns, and when it panics.
struct EndOfThread {
    name: String,
    threads: WatchedThreads,
}

impl Drop for EndOfThread {
    fn drop(&mut self) {
        self.threads.report_end(&self.name);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn a_thread_that_returns_or_panics_before_it_may_is_a_failure_that_names_it() {
        let panic: fn() = || panic!("on purpose");
        for work in [panic, || {}] {
            let threads = WatchedThreads::default();
            let (_running, wait) = mpsc::channel::<()>();
            threads.spawn("goes on", move || assert!(wait.recv().is_err())).unwrap();
            threads.spawn("ends", work).unwrap();
            assert_eq!(threads.failure().await, ThreadEnded("ends".to_owned()));
            assert_eq!(threads.failure().await, ThreadEnded("ends".to_owned()), "for whoever asks later too");
        }
    }

    #[tokio::test]
    async fn a_thread_that_ends_once_it_may_is_no_failure() {
        let threads = WatchedThreads::default();
        let (told, wait) = mpsc::channel::<()>();
        let (ended, has_ended) = mpsc::channel::<()>();
        // What a thread owns is dropped before its end is reported.
        let watcher = threads.clone();
        threads.spawn("ends", move || drop((wait.recv(), ended, watcher))).unwrap();
        assert!(threads.failure().now_or_never().is_none());
        threads.expect_ends();
        drop(told);
        assert!(has_ended.recv().is_err());
        while Arc::strong_count(&threads.0) > 1 {
            std::thread::yield_now();
        }
        assert!(threads.failure().now_or_never().is_none());
    }
}
