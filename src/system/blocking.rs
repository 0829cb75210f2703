//! Blocking work, run off the async threads.
//!
//! A worker's thread serves many connections; a read of the database file that waits for the disk would stop all of
//! them. Such work goes through [`run`] to the runtime's blocking threads. Password hashing does not: it has threads of
//! its own ([`crate::passwords::threads`]), so that a flood of logins cannot use these up.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use thiserror::Error;
use tokio::sync::oneshot;

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
    let result = Arc::new(Mutex::new(None));
    let kept = Arc::clone(&result);
    // Without the types of the work, so that the runtime's side of it is compiled once and not once a call.
    let work: Box<dyn FnOnce() + Send> = Box::new(move || {
        let value = work();
        *kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(value);
    });
    tokio::task::spawn_blocking(work).await.map_err(Interrupted)?;
    let value = result.lock().unwrap_or_else(PoisonError::into_inner).take();
    Ok(value.unwrap_or_else(|| unreachable!("work that has ended without a panic has a result")))
}

/// Runs `work` on a thread of its own, for which nothing waits: where the result is no longer wanted it may go on, and the
/// end of the runtime and of the process do not wait for it, as they do with [`run`]. It is for work that may hang and
/// that nobody can stop; whoever calls this bounds how many there are.
///
/// # Errors
/// When the system gives no thread, or the work panicked.
pub async fn run_detached<T: Send + 'static>(name: &str, work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    let (done, result) = oneshot::channel();
    thread::Builder::new().name(name.to_owned()).spawn(move || {
        // Whoever wanted it may have gone away.
        let _ = done.send(work());
    })?;
    result.await.map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use futures_util::FutureExt as _;
    use tokio::runtime;

    use super::*;

    #[test]
    fn the_end_of_the_runtime_does_not_wait_for_detached_work_that_hangs() {
        let (release, hanging) = mpsc::channel::<()>();
        let (begun, has_begun) = mpsc::channel();
        let (ended, has_ended) = mpsc::channel();
        let running = thread::spawn(move || {
            let runtime = runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                assert_eq!(run_detached("quick", || 1).await.unwrap(), 1);
                assert!(run_detached::<()>("panics", || panic!("on purpose")).await.is_err());
                let hangs = run_detached("hangs", move || {
                    begun.send(()).unwrap();
                    let _ = hanging.recv();
                });
                assert!(hangs.now_or_never().is_none());
                has_begun.recv().unwrap();
            });
            drop(runtime);
            ended.send(()).unwrap();
        });
        has_ended.recv_timeout(Duration::from_secs(60)).unwrap();
        drop(release);
        running.join().unwrap();
    }
}
