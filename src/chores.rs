//! What the service does by itself, beside answering: it stores when sessions were last used, and forgets dead ones.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::last_used::LastUsed;
use crate::repository::{Repository, RepositoryError};
use crate::session::SessionPolicy;

/// How often uses go to the store.
const STORE_EVERY: Duration = Duration::from_secs(1);

/// How often dead sessions are looked for.
const PRUNE_EVERY: Duration = Duration::from_secs(60 * 60);

/// What the chores need.
pub struct Chores {
    /// Where the sessions are.
    pub repository: Arc<dyn Repository>,
    /// Where their use is noted.
    pub last_used: Arc<LastUsed>,
    /// How long they live.
    pub policy: SessionPolicy,
    /// What time it is.
    pub clock: Clock,
}

impl Chores {
    /// Does the chores again and again; never ends by itself.
    pub async fn keep_doing(&self) {
        tokio::join!(self.keep_storing(), self.keep_pruning());
    }

    async fn keep_storing(&self) {
        loop {
            tokio::time::sleep(STORE_EVERY).await;
            self.store_uses().await;
        }
    }

    async fn keep_pruning(&self) {
        loop {
            match self.prune().await {
                Ok(0) => {}
                Ok(count) => log::info!("forgot {count} sessions that had ended by themselves"),
                Err(error) => log::warn!("sessions that have ended could not be forgotten: {error}"),
            }
            tokio::time::sleep(PRUNE_EVERY).await;
        }
    }

    /// Brings what has been noted to the store. Where that fails, a later use of the session is noted again.
    pub async fn store_uses(&self) {
        let uses = self.last_used.take();
        if uses.is_empty() {
            return;
        }
        if let Err(error) = self.repository.record_use(uses).await {
            log::warn!("when sessions were last used could not be stored: {error}");
        }
    }

    async fn prune(&self) -> Result<usize, RepositoryError> {
        let live = self.policy.live_at(self.clock.now());
        let mut forgotten = 0;
        loop {
            match self.repository.prune_sessions(live).await? {
                0 => return Ok(forgotten),
                count => forgotten += count,
            }
        }
    }
}
