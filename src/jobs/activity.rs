//! Write-behind jobs: they store what requests only noted in memory, and apply to the limits what other processes have
//! stored.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use crate::accounts::activity::LastUsed;
use crate::accounts::service_uses::ServiceUses;
use crate::accounts::throttle::failed_attempts::FailedAttempts;
use crate::accounts::throttle::limits::Limits;
use crate::jobs::{Job, JobError};
use crate::repository::{Repository, RepositoryError, ResetCursor};
use crate::system::clock::Clock;

/// How often each of these jobs runs.
const STORE_EVERY: Duration = Duration::from_secs(1);

/// How many accounts' failed attempts are read back at a start.
const MAX_RESTORED: u32 = 65_536;

/// Stores when sessions were last used.
#[expect(missing_docs, reason = "the names say it")]
pub struct StoreLastUsed {
    pub repository: Arc<dyn Repository>,
    pub last_used: Arc<LastUsed>,
}

impl StoreLastUsed {
    /// Stores one batch of uses; `false` where there are none. A batch that cannot be stored is dropped: the next use
    /// of the session is noted again.
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

/// Stores when services were last used. A use that cannot be stored is dropped: another one is noted a minute later.
#[expect(missing_docs, reason = "the names say it")]
pub struct StoreServiceUses {
    pub repository: Arc<dyn Repository>,
    pub uses: Arc<ServiceUses>,
}

#[async_trait]
impl Job for StoreServiceUses {
    fn name(&self) -> &'static str {
        "service_uses"
    }

    fn interval(&self) -> Duration {
        STORE_EVERY
    }

    async fn run(&self) -> Result<(), JobError> {
        let uses = self.uses.take();
        if uses.is_empty() {
            return Ok(());
        }
        let outcome = self.repository.record_service_use(uses).await;
        outcome.map_err(JobError::because("when services were last used could not be stored"))
    }

    async fn finish(&self) -> Result<(), JobError> {
        self.run().await
    }
}

/// Stores the failed attempts.
#[expect(missing_docs, reason = "the names say it")]
pub struct StoreFailedAttempts {
    pub repository: Arc<dyn Repository>,
    pub failed_attempts: Arc<FailedAttempts>,
    pub limits: Arc<Limits>,
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
        let Err(error) = stored else {
            for attempt in &attempts {
                self.limits.note_stored(attempt);
            }
            return Ok(());
        };
        let what = format!("{} refused attempts could not be stored", attempts.len());
        // Only what is known not to be stored is tried again: an attempt must not count twice.
        if matches!(error, RepositoryError::Unavailable(_)) {
            self.failed_attempts.put_back(attempts);
        }
        Err(JobError::because(what)(error))
    }

    async fn finish(&self) -> Result<(), JobError> {
        self.run().await
    }
}

/// Keeps the limits in step with the store's own count of failures. At a start the stored failures are restored, so
/// that they outlive a restart. From then on an account's failures are reset where another process, such as a command,
/// has set its password.
pub struct NoticeResets {
    repository: Arc<dyn Repository>,
    limits: Arc<Limits>,
    clock: Clock,
    /// Behind which event to look for the next password resets; `None` before the first run.
    looked_at: Mutex<Option<ResetCursor>>,
}

impl NoticeResets {
    /// A job that has read nothing yet.
    #[must_use]
    pub fn new(repository: Arc<dyn Repository>, limits: Arc<Limits>, clock: Clock) -> Self {
        Self { repository, limits, clock, looked_at: Mutex::default() }
    }

    /// Restores the failures that an earlier process counted. Without them a restart would give an attacker new tries.
    async fn restore_failures(&self) -> Result<(), RepositoryError> {
        let stored = self.repository.list_failures(MAX_RESTORED).await?;
        let (now, time) = (self.clock.monotonic(), self.clock.now());
        // Those with the most failures come first in the list. They are restored last, so that they are the last to be
        // evicted.
        for failures in stored.iter().rev() {
            // A time in the future counts as now.
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
        // The cursor comes first, so that a password that is set while the failures are read is noticed by the next
        // run.
        let looked = self.run().await;
        let restored = self.restore_failures().await;
        restored.map_err(JobError::because("failed attempts before this start could not be read"))?;
        looked
    }

    async fn run(&self) -> Result<(), JobError> {
        let looked_at = self.looked_at.lock().unwrap_or_else(PoisonError::into_inner).clone();
        // The first run only gets the cursor.
        let resets = self.repository.list_resets(looked_at).await;
        let resets = resets.map_err(JobError::because("whether passwords were set anew could not be read"))?;
        resets.usernames.iter().for_each(|username| self.limits.clear_failures(username));
        *self.looked_at.lock().unwrap_or_else(PoisonError::into_inner) = Some(resets.next);
        Ok(())
    }
}
