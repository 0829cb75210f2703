//! What the writer looks after: what other processes have changed, and whether the files are still there.

use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::checkpoint::Checkpoints;
use super::guard::{FileGuard, IndexHeader, Lost};
use super::session_cache::SessionCache;
use crate::system::error_chain::Chain;

/// For whom the writer writes.
pub(super) enum Role {
    /// The one server that has the file.
    Server {
        /// Is told of every change.
        cache: Arc<SessionCache>,
        /// Checkpoints the WAL.
        checkpoints: Checkpoints,
        /// Tells whether the files are still there.
        guard: Arc<FileGuard>,
    },
    /// A command beside it, which waits for its turn that long, and then until a server has noticed what it did. It
    /// leaves the WAL to the server.
    Command {
        /// How long.
        patience: Duration,
        /// Tells whether the files are still there; `None` where nothing can be written.
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

    /// Whether what the WAL holds may go into the file when it is closed.
    pub(super) fn may_be_saved(&self) -> bool {
        match self {
            Self::Server { checkpoints, .. } => checkpoints.may_be_saved(),
            Self::Command { guard, .. } => guard.as_ref().is_none_or(|guard| guard.may_be_saved()),
        }
    }

    /// How long the writer may wait without looking after anything.
    pub(super) fn idle_for(&self) -> Duration {
        match self {
            Self::Server { checkpoints, .. } => checkpoints.idle_for(),
            // Nothing at all.
            Self::Command { .. } => Duration::MAX,
        }
    }
}

/// Notices what other processes have written, on behalf of the cache.
pub(super) struct Watcher<'a> {
    pub(super) role: &'a Role,
    pub(super) connection: &'a Connection,
    /// A number that changes with every commit of another connection.
    pub(super) last_version: &'a Cell<Option<i64>>,
}

impl Watcher<'_> {
    /// Looks what other processes have changed.
    pub(super) fn look(&self) {
        let began = Instant::now();
        // Without an answer there was no look, and soon nothing is believed any more.
        if let (Ok(()), Some(cache)) = (self.notice(), self.role.cache()) {
            cache.looked(began);
        }
    }

    /// Tells everyone of what other processes have changed since the last time.
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

    /// Looks without a transaction, and does what there is to do.
    pub(super) fn inspect(&self) {
        self.look();
        if let Some(guard) = self.role.guard() {
            // The log is told, and whoever wants to change something.
            let _ = guard.check();
        }
        self.rescue();
    }

    /// Whether a transaction, which has begun, finds the files as the last one left them, and what they were.
    pub(super) fn check(&self) -> Result<Option<IndexHeader>, Lost> {
        self.look();
        self.role.guard().map_or(Ok(None), FileGuard::check_before)
    }

    /// What has happened to the files, where that may be why a transaction could not begin; else the error itself.
    pub(super) fn why(&self, error: rusqlite::Error) -> Result<Lost, rusqlite::Error> {
        match self.role.guard().map(FileGuard::check) {
            Some(Err(lost)) => Ok(lost),
            _ => Err(error),
        }
    }

    /// Whether what was committed just now is where the next start looks for it. `before` is what the check has found.
    pub(super) fn confirm(&self, before: Option<&IndexHeader>) -> Result<(), Lost> {
        self.role.guard().map_or(Ok(()), |guard| guard.confirm(before))
    }

    /// Saves what a WAL holds that has lost its name: nobody else can.
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
