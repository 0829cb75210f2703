//! What the service does by itself, beside answering: it stores when sessions were last used and which attempts were
//! refused, forgets dead sessions and old events, puts right what was stored while the clock was ahead, and notices
//! what the command line did to the limits.

pub mod backups;

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use crate::accounts::activity::LastUsed;
use crate::accounts::throttle::failed_attempts::FailedAttempts;
use crate::accounts::throttle::limits::Limits;
use crate::config::EventsConfig;
use crate::domain::session::{SessionCutoffs, SessionPolicy};
use crate::repository::{Repository, RepositoryError, ResetCursor};
use crate::system::clock::{Clock, Monotonic, Timestamp};
use crate::system::error_chain::Chain;

/// How often what was noted goes to the store.
const STORE_EVERY: Duration = Duration::from_secs(1);

/// How many accounts' failures are remembered over a restart.
const REMEMBERED: u32 = 65_536;

/// How often dead sessions and old events are looked for, and how long after the start for the first time. The clock
/// must not have been set meanwhile: what is forgotten for a wrong clock does not come back when it is put right.
const PRUNE_EVERY: Duration = Duration::from_secs(60 * 60);

/// How far the two sides of the clock may go apart in that time before the wall clock has been set. One that is only
/// put right bit by bit goes a few seconds faster or slower.
const SET_BEYOND: Duration = Duration::from_secs(60);

/// How often it is looked whether it is time: a sleep of an hour would miss a machine that is suspended.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What the chores need.
pub struct Chores {
    /// Where the sessions are.
    pub repository: Arc<dyn Repository>,
    /// Where their use is noted.
    pub last_used: Arc<LastUsed>,
    /// Where refused attempts are noted.
    pub failed_attempts: Arc<FailedAttempts>,
    /// What counts them.
    pub limits: Arc<Limits>,
    /// How long sessions live.
    pub policy: SessionPolicy,
    /// How long events are kept.
    pub events: EventsConfig,
    /// What time it is.
    pub clock: Clock,
    /// What it said at the start.
    pub started: Reading,
}

impl Chores {
    /// Does the chores again and again; never ends by itself. Passwords that were set behind `last_event` are noticed.
    pub async fn keep_doing(&self, last_event: Option<ResetCursor>) {
        tokio::join!(self.keep_storing(last_event), self.keep_pruning());
    }

    async fn keep_storing(&self, last_event: Option<ResetCursor>) {
        let last_event = Cell::new(last_event);
        loop {
            tokio::time::sleep(STORE_EVERY).await;
            self.store_uses().await;
            self.store_failed_attempts().await;
            self.notice_resets(&last_event).await;
        }
    }

    async fn keep_pruning(&self) {
        let mut last = self.started;
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let now = Reading::of(&self.clock);
            if now.monotonic.since(last.monotonic) < PRUNE_EVERY {
                continue;
            }
            if now.was_set_since(last) {
                log::warn!("the clock was set: nothing is forgotten until it has gone an hour without that");
            } else {
                self.prune().await;
            }
            last = now;
        }
    }

    async fn prune(&self) {
        match self.forget_what_is_old().await {
            Ok((0, 0)) => {}
            Ok((sessions, events)) => {
                log::info!("forgot {sessions} sessions that had ended and {events} old events");
            }
            Err(error) => log::warn!("ended sessions and old events could not be forgotten: {}", Chain(&error)),
        }
        match self.clamp_times().await {
            Ok(0) => {}
            Ok(count) => {
                log::warn!("the clock was ahead: {count} sessions and failures from the future are now of now");
            }
            Err(error) => {
                log::warn!("whether anything is stored from the future could not be found out: {}", Chain(&error));
            }
        }
    }

    /// Puts back the failures that an earlier process counted. Without them an attacker would gain by a restart. The last
    /// event before that, where it is known: a password that is set behind it makes them forgotten.
    pub async fn remember_failures(&self) -> Option<ResetCursor> {
        let last_event = Cell::new(None);
        self.notice_resets(&last_event).await;
        match self.repository.list_failures(REMEMBERED).await {
            Ok(stored) => {
                let (now, time) = (self.clock.monotonic(), self.clock.now());
                // The most come first, and stay where there is no room for all.
                for failures in stored.iter().rev() {
                    // What lies in the future counts as of now.
                    let last = now.minus(time.since(failures.last));
                    self.limits.restore(&failures.username, failures.count, last);
                }
            }
            Err(error) => log::warn!("failed attempts before this start could not be remembered: {}", Chain(&error)),
        }
        last_event.get()
    }

    /// A password that was set by another process, such as a command, forgets its account's failures here too.
    async fn notice_resets(&self, last_event: &Cell<Option<ResetCursor>>) {
        // The first time there is nothing to notice yet, only a place to look from.
        match self.repository.list_resets(last_event.get()).await {
            Ok(resets) => {
                resets.usernames.iter().for_each(|username| self.limits.forget(username));
                last_event.set(Some(resets.next));
            }
            Err(error) => log::warn!("whether passwords were set anew could not be read: {}", Chain(&error)),
        }
    }

    /// Brings all that has been noted to the store, before the end.
    pub async fn store_what_was_noted(&self) {
        self.store_failed_attempts().await;
        while self.store_uses().await {}
    }

    async fn store_failed_attempts(&self) {
        let failed_attempts = self.failed_attempts.take();
        if failed_attempts.is_empty() {
            return;
        }
        if let Err(error) = self.repository.record_failed_attempts(failed_attempts.clone(), self.clock.now()).await {
            log::warn!("{} refused attempts could not be stored: {}", failed_attempts.len(), Chain(&error));
            // Where it may have happened after all, once is better than twice.
            if matches!(error, RepositoryError::Unavailable(_)) {
                self.failed_attempts.put_back(failed_attempts);
            }
        }
    }

    /// Stores some uses; `false` where there are none. Where it fails, a later use of the session is noted again.
    async fn store_uses(&self) -> bool {
        let uses = self.last_used.take();
        if uses.is_empty() {
            return false;
        }
        if let Err(error) = self.repository.record_use(uses).await {
            log::warn!("when sessions were last used could not be stored: {}", Chain(&error));
        }
        self.last_used.stored();
        true
    }

    async fn forget_what_is_old(&self) -> Result<(usize, usize), RepositoryError> {
        let now = self.clock.now();
        let sessions = prune_sessions(self.repository.as_ref(), self.policy.cutoffs_at(now)).await?;
        Ok((sessions, prune_events(self.repository.as_ref(), self.events, now).await?))
    }

    /// Puts right what was stored while the clock was ahead, unless it is the clock that is behind: it would end every
    /// session as soon as it is put right.
    async fn clamp_times(&self) -> Result<usize, RepositoryError> {
        let mut clamped = 0;
        loop {
            let now = self.clock.now();
            if now < Timestamp::BEFORE_THIS_RELEASE {
                return Ok(clamped);
            }
            match self.repository.clamp_times(now).await? {
                0 => return Ok(clamped),
                count => clamped += count,
            }
        }
    }
}

/// What both sides of the clock say at one moment.
#[derive(Clone, Copy)]
pub struct Reading {
    wall: Timestamp,
    monotonic: Monotonic,
}

impl Reading {
    /// What they say now.
    #[must_use]
    pub fn of(clock: &Clock) -> Self {
        Self { wall: clock.now(), monotonic: clock.monotonic() }
    }

    /// Whether the wall clock was set between the two, or at least was not put back to what it would say without that.
    fn was_set_since(self, last: Self) -> bool {
        let (wall, time) = (self.wall.since(last.wall), self.monotonic.since(last.monotonic));
        wall.abs_diff(time) > SET_BEYOND
    }
}

/// Forgets every session that has ended by itself; says how many.
///
/// # Errors
/// See [`RepositoryError`].
pub async fn prune_sessions(repository: &dyn Repository, cutoffs: SessionCutoffs) -> Result<usize, RepositoryError> {
    let mut forgotten = 0;
    loop {
        match repository.prune_sessions(cutoffs).await? {
            0 => return Ok(forgotten),
            count => forgotten += count,
        }
    }
}

/// Forgets every event that is too old, or one too many; says how many.
///
/// # Errors
/// See [`RepositoryError`].
pub async fn prune_events(
    repository: &dyn Repository,
    config: EventsConfig,
    now: Timestamp,
) -> Result<usize, RepositoryError> {
    let mut forgotten = 0;
    loop {
        match repository.prune_events(now.minus(config.retention), config.max, now).await? {
            0 => return Ok(forgotten),
            count => forgotten += count,
        }
    }
}
