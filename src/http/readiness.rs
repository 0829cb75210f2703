//! Readiness: whether the store can read and write, asked at most once a second, and whether the server is not about to
//! stop.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use crate::http::error::ApiError;
use crate::repository::Repository;

/// How long an answer of the store is reused, so that nobody can make it write at will.
const BELIEVED_FOR: Duration = Duration::from_secs(1);

/// Whether requests should be sent here.
#[derive(Default)]
pub struct Readiness {
    /// When the store was last asked, and whether it could read and write. The lock is held while it is asked, so that
    /// nobody asks at the same time.
    last: Mutex<Option<(Instant, bool)>>,
    is_draining: AtomicBool,
}

impl Readiness {
    /// Not any more: the server is about to stop, and a balancer should send requests elsewhere.
    pub fn drain(&self) {
        self.is_draining.store(true, Ordering::SeqCst);
    }

    /// Whether the store can read and write, and the server goes on.
    pub(crate) async fn check(&self, repository: &dyn Repository) -> Result<(), ApiError> {
        if self.is_draining.load(Ordering::SeqCst) {
            return Err(ApiError::Unavailable { retry_after: 1, cause: None });
        }
        let mut last = self.last.lock().await;
        match *last {
            Some((at, true)) if at.elapsed() < BELIEVED_FOR => Ok(()),
            Some((at, false)) if at.elapsed() < BELIEVED_FOR => {
                Err(ApiError::Unavailable { retry_after: 1, cause: None })
            }
            _ => {
                let checked = repository.check_ready().await;
                *last = Some((Instant::now(), checked.is_ok()));
                checked.map_err(|error| ApiError::Unavailable { retry_after: 1, cause: Some(Box::new(error)) })
            }
        }
    }
}
