//! The pruning jobs: one deletes dead sessions, old events and expired codes, and clamps stored times that are in the
//! future; the other deletes expired challenges, which strangers can make many of, and authenticator apps that were begun and
//! not confirmed in time.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use crate::config::EventsConfig;
use crate::domain::factor::CONFIRMED_WITHIN;
use crate::domain::session::{SessionCutoffs, SessionPolicy};
use crate::jobs::{Job, JobError};
use crate::repository::{Repository, RepositoryError};
use crate::system::clock::{Clock, Monotonic, Timestamp};

/// How often the job runs; the first time so long after the start. A run is skipped where the clock was set meanwhile:
/// what is pruned because of a wrong clock does not come back when the clock is corrected.
const PRUNE_EVERY: Duration = Duration::from_secs(60 * 60);

/// How often challenges are pruned: they are valid for some minutes.
const PRUNE_CHALLENGES_EVERY: Duration = Duration::from_secs(60);

/// How far the wall clock may drift from the monotonic clock in that time; beyond it the wall clock was set. A clock
/// that is slewed drifts by a few seconds.
const MAX_DRIFT: Duration = Duration::from_secs(60);

/// The job.
pub struct Pruning {
    repository: Arc<dyn Repository>,
    policy: SessionPolicy,
    events: EventsConfig,
    clock: Clock,
    /// What the clocks said at the last run, or at the start.
    last: Mutex<Reading>,
}

impl Pruning {
    /// A job that prunes by these rules. Its first interval begins now.
    #[must_use]
    pub fn new(repository: Arc<dyn Repository>, policy: SessionPolicy, events: EventsConfig, clock: Clock) -> Self {
        Self { repository, policy, events, last: Mutex::new(Reading::of(&clock)), clock }
    }

    async fn prune(&self) -> Result<(), RepositoryError> {
        let now = self.clock.now();
        let sessions = prune_sessions(self.repository.as_ref(), self.policy.cutoffs_at(now)).await?;
        let events = prune_events(self.repository.as_ref(), self.events, now).await?;
        if (sessions, events) != (0, 0) {
            log::info!("pruned {sessions} sessions that had ended and {events} old events");
        }
        // What has expired is worth nothing already, so nobody needs to know how much there was.
        while self.repository.prune_codes(now).await? > 0 {}
        Ok(())
    }

    /// Clamps times that were stored while the clock was ahead. Not while the clock itself is known to be behind: it
    /// would make every session so old that it ends as soon as the clock is corrected.
    async fn clamp_times(&self) -> Result<(), RepositoryError> {
        let mut clamped = 0;
        loop {
            let now = self.clock.now();
            let count = if now < Timestamp::BEFORE_THIS_RELEASE { 0 } else { self.repository.clamp_times(now).await? };
            if count == 0 {
                break;
            }
            clamped += count;
        }
        if clamped > 0 {
            log::warn!("the clock was ahead: the times of {clamped} sessions and failures were set to now");
        }
        Ok(())
    }
}

#[async_trait]
impl Job for Pruning {
    fn name(&self) -> &'static str {
        "pruning"
    }

    fn interval(&self) -> Duration {
        PRUNE_EVERY
    }

    async fn run(&self) -> Result<(), JobError> {
        let now = Reading::of(&self.clock);
        let last = std::mem::replace(&mut *self.last.lock().unwrap_or_else(PoisonError::into_inner), now);
        if now.was_set_since(last) {
            log::warn!("the clock was set: nothing is pruned until it has gone an hour without that");
            return Ok(());
        }
        // Each is tried, whether or not the other fails.
        let pruned = self.prune().await;
        let clamped = self.clamp_times().await;
        pruned.map_err(JobError::because("ended sessions, old events and expired codes could not be pruned"))?;
        clamped.map_err(JobError::because("stored times in the future could not be looked for"))
    }
}

/// The job that prunes challenges, and authenticator apps that were never confirmed.
pub struct PruneChallenges {
    repository: Arc<dyn Repository>,
    clock: Clock,
    /// What the clocks said at the last run, or at the start.
    last: Mutex<Reading>,
}

impl PruneChallenges {
    /// A job whose first interval begins now.
    #[must_use]
    pub fn new(repository: Arc<dyn Repository>, clock: Clock) -> Self {
        Self { repository, last: Mutex::new(Reading::of(&clock)), clock }
    }
}

#[async_trait]
impl Job for PruneChallenges {
    fn name(&self) -> &'static str {
        "prune_challenges"
    }

    fn interval(&self) -> Duration {
        PRUNE_CHALLENGES_EVERY
    }

    async fn run(&self) -> Result<(), JobError> {
        let now = Reading::of(&self.clock);
        let last = std::mem::replace(&mut *self.last.lock().unwrap_or_else(PoisonError::into_inner), now);
        // An ID token that was used must not be good again because the clock was ahead for a while.
        if now.was_set_since(last) {
            return Ok(());
        }
        let failed = JobError::because("expired challenges could not be pruned");
        let prune = async {
            while self.repository.prune_challenges(now.wall).await? > 0 {}
            // Its secret is sealed: without the key, one that nobody can confirm any more would still refuse the start.
            while self.repository.prune_waiting_totp(now.wall.minus(CONFIRMED_WITHIN)).await? > 0 {}
            Ok::<_, RepositoryError>(())
        };
        prune.await.map_err(failed)
    }
}

/// What the wall clock and the monotonic clock say at one moment.
#[derive(Clone, Copy)]
struct Reading {
    wall: Timestamp,
    monotonic: Monotonic,
}

impl Reading {
    fn of(clock: &Clock) -> Self {
        Self { wall: clock.now(), monotonic: clock.monotonic() }
    }

    /// Whether the wall clock was set between the two readings. Not where it was set back to the right time by then.
    fn was_set_since(self, last: Self) -> bool {
        let (wall, time) = (self.wall.since(last.wall), self.monotonic.since(last.monotonic));
        wall.abs_diff(time) > MAX_DRIFT
    }
}

/// Deletes every session that has ended by its age or its idle timeout; says how many.
///
/// # Errors
/// See [`RepositoryError`].
pub async fn prune_sessions(repository: &dyn Repository, cutoffs: SessionCutoffs) -> Result<usize, RepositoryError> {
    let mut pruned = 0;
    loop {
        match repository.prune_sessions(cutoffs).await? {
            0 => return Ok(pruned),
            count => pruned += count,
        }
    }
}

/// Deletes every event that is too old, and the oldest beyond the most that are kept; says how many.
///
/// # Errors
/// See [`RepositoryError`].
pub async fn prune_events(
    repository: &dyn Repository,
    config: EventsConfig,
    now: Timestamp,
) -> Result<usize, RepositoryError> {
    let mut pruned = 0;
    loop {
        match repository.prune_events(now.minus(config.retention), config.max, now).await? {
            0 => return Ok(pruned),
            count => pruned += count,
        }
    }
}
