//! What the writer watches: changes by other processes, and whether the files are still at their names.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::Connection;

use super::checkpoint::Checkpoints;
use super::guard::{FileGuard, IndexHeader, Lost};
use crate::repository::lease::Lease;
use crate::repository::session_cache::SessionCache;
use crate::system::error_chain::Chain;

/// The lease of the session cache: how long a change by another process may go unnoticed.
pub const MAX_STALENESS: Duration = Duration::from_millis(20);

/// For whom the writer writes.
pub(super) enum Role {
    /// The one server that has the file.
    Server {
        /// Invalidated by every change.
        cache: Arc<SessionCache>,
        /// Checkpoints the WAL.
        checkpoints: Checkpoints,
        /// Checks the files.
        guard: Arc<FileGuard>,
    },
    /// A command beside it. After a commit it waits until a server has noticed the change. It leaves the WAL to the
    /// server.
    Command {
        /// How long it waits for the write lock.
        patience: Duration,
        /// Checks the files; `None` where nothing can be written.
        guard: Option<Arc<FileGuard>>,
    },
}

impl Role {
    pub(super) fn cache(&self) -> Option<&SessionCache> {
        match self {
            Self::Server { cache, .. } => Some(cache),
            Self::Command { .. } => None,
        }
    }

    pub(super) fn guard(&self) -> Option<&FileGuard> {
        match self {
            Self::Server { guard, .. } => Some(guard),
            Self::Command { guard, .. } => guard.as_deref(),
        }
    }

    /// Whether the WAL may be checkpointed when the file is closed.
    pub(super) fn may_be_saved(&self) -> bool {
        match self {
            Self::Server { checkpoints, .. } => checkpoints.may_be_saved(),
            Self::Command { guard, .. } => guard.as_ref().is_none_or(|guard| guard.may_be_saved()),
        }
    }

    /// How long the writer may wait for work before it watches again.
    pub(super) fn idle_for(&self) -> Duration {
        match self {
            Self::Server { checkpoints, .. } => checkpoints.idle_for(),
            // A command watches nothing while it waits.
            Self::Command { .. } => Duration::MAX,
        }
    }
}

/// Polls for changes by other processes, and checks the files.
pub(super) struct Watcher<'a> {
    pub(super) role: &'a Role,
    pub(super) connection: &'a Connection,
    /// The last `PRAGMA data_version`, which changes with every commit of another connection.
    pub(super) last_version: &'a Cell<Option<i64>>,
}

impl Watcher<'_> {
    /// Polls for other processes' changes, and renews the cache's lease.
    pub(super) fn look(&self) {
        let lease = self.role.cache().map(SessionCache::lease);
        let began = lease.map(Lease::now);
        // A poll that fails does not renew the lease, and soon the cache is not used any more.
        if let (Ok(()), Some(lease), Some(began)) = (self.notice(), lease, began) {
            lease.looked(began);
        }
    }

    /// Polls once: where other processes have committed since the last time, tells the cache and the guard.
    pub(super) fn notice(&self) -> rusqlite::Result<()> {
        let version = self.connection.prepare_cached("PRAGMA data_version")?.query_row([], |row| row.get(0))?;
        if self.last_version.replace(Some(version)) != Some(version) {
            if let Some(cache) = self.role.cache() {
                cache.change_all();
            }
            if let Some(guard) = self.role.guard() {
                guard.changed_by_others();
            }
        }
        Ok(())
    }

    /// Polls and checks outside of a transaction, and rescues a lost WAL.
    pub(super) fn inspect(&self) {
        self.look();
        if let Some(guard) = self.role.guard() {
            // A failure is logged, and the next transaction meets it again.
            let _ = guard.check();
        }
        self.rescue();
    }

    /// To be called when a transaction has begun: polls, and checks that the files are as the last transaction left
    /// them. Answers what [`Watcher::confirm`] needs.
    pub(super) fn check(&self) -> Result<Option<IndexHeader>, Lost> {
        self.look();
        self.role.guard().map_or(Ok(None), FileGuard::check_before)
    }

    /// Why a transaction could not begin: what has happened to the files, or else the error itself.
    pub(super) fn why(&self, error: rusqlite::Error) -> Result<Lost, rusqlite::Error> {
        match self.role.guard().map(FileGuard::check) {
            Some(Err(lost)) => Ok(lost),
            _ => Err(error),
        }
    }

    /// Checks that the last commit is where the next start will find it. `before` is the answer of [`Watcher::check`].
    pub(super) fn confirm(&self, before: Option<&IndexHeader>) -> Result<(), Lost> {
        self.role.guard().map_or(Ok(()), |guard| guard.confirm(before))
    }

    /// Saves what a WAL holds that was moved or deleted: no other process can.
    pub(super) fn rescue(&self) {
        let Role::Server { checkpoints, guard, .. } = self.role else { return };
        if guard.lost() == Some(Lost::Wal) && guard.begin_rescue() {
            checkpoints.rescue(self.connection);
        }
    }

    pub(super) fn roll_back(&self) {
        if !self.connection.is_autocommit()
            && let Err(error) = self.connection.execute_batch("ROLLBACK")
        {
            log::error!("a transaction could not be rolled back: {}", Chain(&error));
        }
    }
}
