//! Background threads whose unexpected end is reported.
//!
//! A process in which a background thread has died looks alive and does half of its work. So whoever starts a
//! long-lived thread starts it here. Whoever runs the process waits for [`WatchedThreads::failure`] for as long as the
//! threads are needed, and stops the process then: a supervisor starts it again.

use std::io;
use std::thread::{self, JoinHandle};

use thiserror::Error;
use tokio::sync::watch;

/// A thread ended that should have gone on.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("the thread \"{0}\" has ended, and the service cannot do without it")]
pub struct ThreadEnded(pub String);

/// A group of watched threads, of the process or of the store. Clones watch over the same ones.
#[derive(Clone, Default)]
pub struct WatchedThreads {
    /// The first that ended.
    ended: watch::Sender<Option<ThreadEnded>>,
}

impl WatchedThreads {
    /// Starts a thread that must neither return nor panic.
    ///
    /// # Errors
    /// When the system gives none.
    pub fn spawn(&self, name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
        self.start(name, false, work)
    }

    /// Starts a thread that may return, as when it is told to, and must not panic.
    ///
    /// # Errors
    /// When the system gives none.
    pub fn spawn_that_may_return(
        &self,
        name: &str,
        work: impl FnOnce() + Send + 'static,
    ) -> io::Result<JoinHandle<()>> {
        self.start(name, true, work)
    }

    fn start(&self, name: &str, may_return: bool, work: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
        let end = EndOfThread { name: name.to_owned(), may_return, threads: self.clone() };
        thread::Builder::new().name(name.to_owned()).spawn(move || {
            let _end = end;
            work();
        })
    }

    /// Resolves when a thread has ended that should have gone on.
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
    may_return: bool,
    threads: WatchedThreads,
}

impl Drop for EndOfThread {
    fn drop(&mut self) {
        if thread::panicking() || !self.may_return {
            self.threads.report_end(&self.name);
        }
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

    #[tokio::test]
    async fn of_threads_that_may_return_one_that_panics_is_a_failure_and_one_that_returns_is_none() {
        let threads = WatchedThreads::default();
        threads.spawn_that_may_return("returns", || {}).unwrap().join().unwrap();
        assert!(threads.failure().now_or_never().is_none());
        let waiting = tokio::spawn({
            let threads = threads.clone();
            async move { threads.failure().await }
        });
        assert!(threads.spawn_that_may_return("panics", || panic!("on purpose")).unwrap().join().is_err());
        let ended = tokio::time::timeout(Duration::from_secs(60), waiting).await.unwrap().unwrap();
        assert_eq!(ended, ThreadEnded("panics".to_owned()));
        assert_eq!(threads.failure().now_or_never(), Some(ended), "whoever asks later is told too");
    }
}
