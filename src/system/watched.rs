//! Threads that must not end unnoticed.
//!
//! A background thread that has died leaves a process that looks alive and does half of its work. So whoever starts one
//! for good starts it here, and whoever runs the process waits for [`WatchedThreads::failure`] for as long as it wants the
//! threads to go on: it is better to end, and to be started again.

use std::io;
use std::sync::Arc;
use std::thread::{self, Thread};

use thiserror::Error;
use tokio::sync::watch;

/// A thread ended that should have gone on.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("the thread \"{0}\" has ended, and the service cannot do without it")]
pub struct ThreadEnded(pub String);

/// The threads of one process. Clones watch over the same ones.
#[derive(Clone, Default)]
pub struct WatchedThreads {
    /// The first that ended.
    ended: Arc<watch::Sender<Option<ThreadEnded>>>,
}

impl WatchedThreads {
    /// Starts a thread.
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

    /// Resolves when a thread has ended, whether it returned or panicked.
    pub async fn failure(&self) -> ThreadEnded {
        match self.ended.subscribe().wait_for(Option::is_some).await.as_deref() {
            Ok(Some(ended)) => ended.clone(),
            _ => unreachable!("the channel lives as long as self, and something has ended"),
        }
    }

    /// Reports the end of a thread, also of one that was started elsewhere.
    pub fn report_end(&self, name: &str) {
        self.ended.send_modify(|ended| _ = ended.get_or_insert_with(|| ThreadEnded(name.to_owned())));
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
    use std::time::Duration;

    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn a_thread_that_returns_or_panics_is_a_failure_that_names_it_and_one_that_goes_on_is_none() {
        let panic: fn() = || panic!("on purpose");
        for work in [panic, || {}] {
            let threads = WatchedThreads::default();
            let (_running, wait) = mpsc::channel::<()>();
            threads.spawn("goes on", move || assert!(wait.recv().is_err())).unwrap();
            assert!(threads.failure().now_or_never().is_none());
            threads.spawn("ends", work).unwrap();
            let ended = tokio::time::timeout(Duration::from_secs(60), threads.failure()).await.unwrap();
            assert_eq!(ended, ThreadEnded("ends".to_owned()));
            threads.report_end("ends later");
            assert_eq!(threads.failure().now_or_never(), Some(ended), "the first, for whoever asks later too");
        }
    }
}
