//! What a provider publishes, kept for as long as it says: one request for all who wait, and what is kept goes on serving
//! where a request fails.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, OwnedMutexGuard};

use super::error::ProviderError;
use crate::outbound::Response;
use crate::system::error_chain::Chain;

/// How often what is kept is fetched anew for something that is missing in it, and after a failure.
const PAUSE: Duration = Duration::from_secs(30);

/// How often it is fetched after a failure where nothing is kept: nobody can log in meanwhile.
const FIRST_PAUSE: Duration = Duration::from_secs(5);

/// How long something is kept whose provider cannot be asked.
const KEPT: Duration = Duration::from_secs(24 * 60 * 60);

/// Something that is fetched.
pub(super) struct Cached<T>(Arc<Inner<T>>);

struct Inner<T> {
    kept: RwLock<Option<Kept<T>>>,
    /// Held by whoever fetches.
    attempts: Arc<Mutex<Attempts>>,
}

struct Kept<T> {
    value: Arc<T>,
    fetched: Instant,
    fresh_for: Duration,
}

#[derive(Default)]
struct Attempts {
    failed: Option<Instant>,
    renewed: Option<Instant>,
}

impl<T: Send + Sync + 'static> Cached<T> {
    pub(super) fn new() -> Self {
        Self(Arc::new(Inner { kept: RwLock::new(None), attempts: Arc::default() }))
    }

    /// What is kept, or what is fetched now.
    pub(super) async fn get<F>(&self, fetch: impl FnOnce() -> F) -> Result<Arc<T>, ProviderError>
    where
        F: Future<Output = Result<(T, Duration), ProviderError>> + Send + 'static,
    {
        if let Some(fresh) = self.0.fresh() {
            return Ok(fresh);
        }
        let attempts = Arc::clone(&self.0.attempts).lock_owned().await;
        // Another may have fetched it meanwhile.
        if let Some(fresh) = self.0.fresh() {
            return Ok(fresh);
        }
        let usable = self.0.usable();
        if is_within(if usable.is_some() { PAUSE } else { FIRST_PAUSE }, attempts.failed) {
            return usable.ok_or(ProviderError::Answer("it could not be asked a moment ago"));
        }
        match self.fetch(attempts, fetch()).await {
            Ok(value) => Ok(value),
            Err(error) => self.0.usable().ok_or(error),
        }
    }

    /// Fetches it again, because `seen` lacks something; `None` where that was done a moment ago, or fails.
    pub(super) async fn renew<F>(&self, seen: &Arc<T>, fetch: impl FnOnce() -> F) -> Option<Arc<T>>
    where
        F: Future<Output = Result<(T, Duration), ProviderError>> + Send + 'static,
    {
        let mut attempts = Arc::clone(&self.0.attempts).lock_owned().await;
        if let Some(other) = self.0.usable().filter(|kept| !Arc::ptr_eq(kept, seen)) {
            return Some(other);
        }
        if is_within(PAUSE, attempts.renewed) || is_within(PAUSE, attempts.failed) {
            return None;
        }
        attempts.renewed = Some(Instant::now());
        self.fetch(attempts, fetch()).await.ok()
    }

    /// Fetches in a task of its own: whoever goes away in the middle neither stops it for those who wait nor begins it again.
    async fn fetch<F>(&self, mut attempts: OwnedMutexGuard<Attempts>, fetched: F) -> Result<Arc<T>, ProviderError>
    where
        F: Future<Output = Result<(T, Duration), ProviderError>> + Send + 'static,
    {
        let inner = Arc::clone(&self.0);
        let task = tokio::spawn(async move {
            match fetched.await {
                Ok((value, fresh_for)) => {
                    let value = Arc::new(value);
                    attempts.failed = None;
                    let kept = Kept { value: Arc::clone(&value), fetched: Instant::now(), fresh_for };
                    *inner.kept.write().unwrap_or_else(PoisonError::into_inner) = Some(kept);
                    Ok(value)
                }
                Err(error) => {
                    log::warn!("what a provider publishes cannot be fetched: {}", Chain(&error));
                    attempts.failed = Some(Instant::now());
                    Err(error)
                }
            }
        });
        task.await.unwrap_or(Err(ProviderError::Answer("it could not be asked")))
    }
}

impl<T> Inner<T> {
    fn fresh(&self) -> Option<Arc<T>> {
        self.kept_for(|kept| kept.fresh_for)
    }

    fn usable(&self) -> Option<Arc<T>> {
        self.kept_for(|kept| KEPT.max(kept.fresh_for))
    }

    fn kept_for(&self, time: impl Fn(&Kept<T>) -> Duration) -> Option<Arc<T>> {
        let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
        kept.as_ref().filter(|kept| kept.fetched.elapsed() < time(kept)).map(|kept| Arc::clone(&kept.value))
    }
}

fn is_within(pause: Duration, at: Option<Instant>) -> bool {
    at.is_some_and(|at| at.elapsed() < pause)
}

/// For how long an answer is fresh: what it says, within bounds.
pub(super) fn fresh_for(answer: &Response) -> Duration {
    let said = answer.header("cache-control").and_then(|value| {
        value.split(',').find_map(|part| {
            let (name, value) = part.trim().split_once('=')?;
            name.eq_ignore_ascii_case("max-age").then(|| value.trim_matches('"').parse().ok())?
        })
    });
    Duration::from_secs(said.unwrap_or(60 * 60)).clamp(Duration::from_secs(60), Duration::from_secs(24 * 60 * 60))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The last failure was so long ago.
    async fn failed_before(cached: &Cached<u32>, time: Duration) {
        cached.0.attempts.lock().await.failed = Some(Instant::now().checked_sub(time).unwrap());
    }

    async fn get(cached: &Cached<u32>, answer: Option<u32>) -> Option<u32> {
        let answer = answer.map(|value| (value, Duration::ZERO)).ok_or(ProviderError::Answer("it fails"));
        cached.get(|| async { answer }).await.ok().map(|value| *value)
    }

    #[tokio::test]
    async fn after_a_failure_a_provider_is_asked_soon_where_nothing_is_kept_and_else_later() {
        let cached = Cached::new();
        assert_eq!(get(&cached, None).await, None);
        assert_eq!(get(&cached, Some(1)).await, None, "a moment ago");
        failed_before(&cached, FIRST_PAUSE).await;
        assert_eq!(get(&cached, Some(1)).await, Some(1));
        assert_eq!(get(&cached, None).await, Some(1), "it is kept");
        failed_before(&cached, FIRST_PAUSE).await;
        assert_eq!(get(&cached, Some(2)).await, Some(1), "a moment ago");
        failed_before(&cached, PAUSE).await;
        assert_eq!(get(&cached, Some(2)).await, Some(2));
    }
}
