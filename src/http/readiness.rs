//! Readiness: whether the store can read and write, asked at most once a second.

use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use crate::http::error::ApiError;
use crate::repository::Repository;

/// How long an answer of the store is reused, so that nobody can make it write at will.
const BELIEVED_FOR: Duration = Duration::from_secs(1);

/// When the store was last asked, and whether it could read and write. The lock is held while it is asked, so that
/// nobody asks at the same time.
#[derive(Default)]
pub struct Readiness(Mutex<Option<(Instant, bool)>>);

impl Readiness {
    /// Whether the store can read and write.
    pub(crate) async fn check(&self, repository: &dyn Repository) -> Result<(), ApiError> {
        let mut last = self.0.lock().await;
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
