//! Brings to the store what requests only noted, and notices what other processes did to the limits.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use crate::accounts::activity::LastUsed;
use crate::accounts::throttle::failed_attempts::FailedAttempts;
use crate::accounts::throttle::limits::Limits;
use crate::jobs::{Job, JobError};
use crate::repository::{Repository, RepositoryError, ResetCursor};
use crate::system::clock::Clock;

/// How often each of these jobs is done.
const STORE_EVERY: Duration = Duration::from_secs(1);

/// How many accounts' failures are remembered over a restart.
const REMEMBERED: u32 = 65_536;

/// Stores when sessions were last used.
pub struct StoreLastUsed {
    /// Where it is stored.
    pub repository: Arc<dyn Repository>,
    /// Where it is noted.
    pub last_used: Arc<LastUsed>,
}

impl StoreLastUsed {
    /// Stores some uses; `false` where there are none. Where it fails, a later use of the session is noted again.
    async fn store_some(&self) -> Result<bool, JobError> {
        let uses = self.last_used.take();
        if uses.is_empty() {
            return Ok(false);
        }
        let outcome = self.repository.record_use(uses).await;
        self.last_used.stored();
        outcome.map_err(JobError::because("when sessions were last used could not be stored"))?;
        Ok(true)
    }
}

#[async_trait]
impl Job for StoreLastUsed {
    fn name(&self) -> &'static str {
        "last_used"
    }

    fn interval(&self) -> Duration {
        STORE_EVERY
    }

    async fn run(&self) -> Result<(), JobError> {
        self.store_some().await?;
        Ok(())
    }

    async fn finish(&self) -> Result<(), JobError> {
        let mut outcome = Ok(());
        loop {
            match self.store_some().await {
                Ok(true) => {}
                Ok(false) => return outcome,
                Err(error) => outcome = Err(error),
            }
        }
    }
}

/// Stores which attempts were refused.
pub struct StoreFailedAttempts {
    /// Where they are stored.
    pub repository: Arc<dyn Repository>,
    /// Where they are noted.
    pub failed_attempts: Arc<FailedAttempts>,
    /// What time it is.
    pub clock: Clock,
}

#[async_trait]
impl Job for StoreFailedAttempts {
    fn name(&self) -> &'static str {
        "failed_attempts"
    }

    fn interval(&self) -> Duration {
        STORE_EVERY
    }

    async fn run(&self) -> Result<(), JobError> {
        let attempts = self.failed_attempts.take();
        if attempts.is_empty() {
            return Ok(());
        }
        let stored = self.repository.record_failed_attempts(attempts.clone(), self.clock.now()).await;
        let Err(error) = stored else { return Ok(()) };
        let what = format!("{} refused attempts could not be stored", attempts.len());
        // Where it may have happened after all, once is better than twice.
        if matches!(error, RepositoryError::Unavailable(_)) {
            self.failed_attempts.put_back(attempts);
        }
        Err(JobError::because(what)(error))
    }

    async fn finish(&self) -> Result<(), JobError> {
        self.run().await
    }
}

/// Keeps the limits as strict as the store's own count of failures, and no stricter: failures outlive a restart, and a
/// password that was set by another process, such as a command, makes its account's forgotten here too.
pub struct NoticeResets {
    repository: Arc<dyn Repository>,
    limits: Arc<Limits>,
    clock: Clock,
    /// Up to where resets were looked at, once it is known.
    looked_at: Mutex<Option<ResetCursor>>,
}

impl NoticeResets {
    /// Has looked at nothing yet.
    #[must_use]
    pub fn new(repository: Arc<dyn Repository>, limits: Arc<Limits>, clock: Clock) -> Self {
        Self { repository, limits, clock, looked_at: Mutex::default() }
    }

    /// Puts back the failures that an earlier process counted. Without them an attacker would gain by a restart.
    async fn restore_failures(&self) -> Result<(), RepositoryError> {
        let stored = self.repository.list_failures(REMEMBERED).await?;
        let (now, time) = (self.clock.monotonic(), self.clock.now());
        // The most come first, and stay where there is no room for all.
        for failures in stored.iter().rev() {
            // What lies in the future counts as of now.
            let last = now.minus(time.since(failures.last));
            self.limits.restore(&failures.username, failures.count, last);
        }
        Ok(())
    }
}

#[async_trait]
impl Job for NoticeResets {
    fn name(&self) -> &'static str {
        "password_resets"
    }

    fn interval(&self) -> Duration {
        STORE_EVERY
    }

    async fn start(&self) -> Result<(), JobError> {
        // First from where to look: a password that is set while the failures are read is noticed afterwards.
        let looked = self.run().await;
        let restored = self.restore_failures().await;
        restored.map_err(JobError::because("failed attempts before this start could not be read"))?;
        looked
    }

    async fn run(&self) -> Result<(), JobError> {
        let looked_at = *self.looked_at.lock().unwrap_or_else(PoisonError::into_inner);
        // The first time there is nothing to notice yet, only where to look from.
        let resets = self.repository.list_resets(looked_at).await;
        let resets = resets.map_err(JobError::because("whether passwords were set anew could not be read"))?;
        resets.usernames.iter().for_each(|username| self.limits.clear_failures(username));
        *self.looked_at.lock().unwrap_or_else(PoisonError::into_inner) = Some(resets.next);
        Ok(())
    }
}
