//! The store in one SQLite file: pools of readers, one writer, a session cache, and all of the SQL.
//!
//! The file is in WAL mode, so readers never wait for the writer, nor it for them. `synchronous = FULL` makes a COMMIT
//! survive a power cut. The file, its WAL and its WAL index have mode 0600, and a lock file beside them keeps a second
//! server away.
//!
//! This module hands work to a reader or to the writer. The work itself is in one file a trait.

mod accounts;
mod administration;
pub mod backup;
mod challenges;
mod checkpoint;
mod connection;
mod emails;
mod error;
mod events;
mod factors;
mod file;
mod guard;
mod identities;
mod imports;
mod inline;
mod lists;
mod lookup;
mod maintenance;
mod offers;
mod one_time_codes;
mod open;
mod outbox;
mod passkeys;
mod pending;
mod pool;
mod rows;
mod schema;
mod services;
mod sessions;
mod sql;
#[cfg(test)]
mod test_store;
mod tokens;
mod transaction;
mod users;
mod watcher;
mod ways_in;
mod webhooks;
mod work;
mod writer;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use r2d2::Pool;
use r2d2_sqlite::SqliteConnectionManager;
use rusqlite::Connection;

pub use self::error::OpenError;
use self::error::{Damaged, Failure, is_busy};
use self::file::{Lock, SharedLock};
use self::guard::FileGuard;
use self::inline::Inline;
pub use self::pool::blocking_threads;
use self::pool::{Readers, Reads};
pub use self::schema::VERSION as SCHEMA_VERSION;
use self::transaction::Transaction;
pub use self::watcher::MAX_STALENESS;
use self::writer::Writer;
use crate::repository::session_cache::SessionCache;
use crate::repository::{Maintenance, Notices, RepositoryError, Upgrade};
use crate::system::blocking;
use crate::system::clock::Timestamp;
use crate::system::watched::WatchedThreads;

/// How many of SQLite's instructions a read with a deadline runs between two looks at the time.
const SCAN_STEPS: i32 = 10_000;

/// The settings of the store.
#[derive(Clone, Debug)]
pub struct SqliteSettings {
    /// The database file; its folder is created where it is missing.
    pub path: PathBuf,
    /// How many connections the pool of readers has. Half as many more are for scans, and one a core for short reads.
    pub readers: u32,
    /// How long to wait for a lock that another process holds.
    pub busy_timeout: Duration,
    /// The size of the session cache, in bytes.
    pub cache: usize,
    /// The time, after which the copy is named that is kept before an upgrade; without it, none is kept.
    pub keep_before_upgrade: Option<Timestamp>,
    /// Which notices are put in the outbox.
    pub notices: Notices,
}

/// The store. Dropping it without [`Maintenance::close`] loses nothing; the WAL is then read at the next start.
pub struct SqliteRepository {
    /// For reads on blocking threads.
    readers: Readers,
    /// For scans, reads whose work grows with the store: no other read waits behind one.
    scanners: Readers,
    /// The deadline of a scan that a client waits for.
    scan_within: Duration,
    /// For short reads, which run inline on the async threads.
    quick_readers: Pool<SqliteConnectionManager>,
    /// The circuit breaker of these.
    inline: Inline,
    reads: Reads,
    writer: Writer,
    threads: WatchedThreads,
    guard: Option<Arc<FileGuard>>,
    /// Whether a write probe is under way.
    proving: Arc<AtomicBool>,
    cache: Arc<SessionCache>,
    damaged: Arc<AtomicBool>,
    /// The file's name without links: SQLite keeps its WAL beside that.
    file: PathBuf,
    upgrade: Option<Upgrade>,
    /// The server's lock, held for as long as the store is open.
    _lock: Option<Lock>,
    /// Keeps a restore away, held as long.
    _shared_lock: SharedLock,
}

impl SqliteRepository {
    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, RepositoryError> {
        self.read_by(&self.readers, work).await
    }

    async fn read_by<T: Send + 'static>(
        &self,
        readers: &Readers,
        work: impl FnOnce(&Connection) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, RepositoryError> {
        self.refuse_when_damaged()?;
        // Before the hop: a wait for a blocking thread would have no deadline.
        let permit = self.reads.permit(readers).await?;
        let pool = readers.pool.clone();
        let damaged = Arc::clone(&self.damaged);
        let outcome = blocking::run(move || {
            // Dropped after the connection.
            let _permit = permit;
            let connection = pool.get().map_err(|error| RepositoryError::Unavailable(Arc::new(error)))?;
            work(&connection).map_err(|failure| failure.mapped(&damaged))
        })
        .await
        .unwrap_or_else(|error| Err(RepositoryError::Backend(Arc::new(error))));
        self.after_read(outcome)
    }

    /// After a failed read the writer checks the files: they may have been moved or replaced.
    fn after_read<T>(&self, outcome: Result<T, RepositoryError>) -> Result<T, RepositoryError> {
        if let Err(RepositoryError::Unavailable(_) | RepositoryError::Inconsistent(_)) = outcome {
            self.writer.tally().failed();
            self.writer.watch();
        }
        outcome
    }

    /// A scan: a read, in one transaction, whose work grows with the store. It waits for other scans only, and is
    /// interrupted after `within`.
    async fn scan<T: Send + 'static>(
        &self,
        within: Option<Duration>,
        work: impl FnOnce(&Connection) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, RepositoryError> {
        self.read_by(&self.scanners, move |connection| {
            if let Some(within) = within {
                let began = Instant::now();
                connection.progress_handler(SCAN_STEPS, Some(move || began.elapsed() >= within))?;
            }
            let outcome = connection.unchecked_transaction().map_err(Failure::from).and_then(|moment| work(&moment));
            connection.progress_handler(0, None::<fn() -> bool>)?;
            outcome
        })
        .await
    }

    /// A short read, by keys only, that runs inline on the async thread: the hop to another thread would cost several
    /// times as much as the read. It runs on a blocking thread like any other read where the circuit breaker is open,
    /// no reader is free, or the file is locked.
    async fn read_inline<T: Send + 'static>(
        &self,
        work: impl Fn(&Connection) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, RepositoryError> {
        self.refuse_when_damaged()?;
        if let Some(turn) = self.inline.begin()
            && let Some(connection) = self.quick_readers.try_get()
        {
            self.reads.asked.fetch_add(1, Ordering::Relaxed);
            let outcome = work(&connection);
            self.inline.end(&turn);
            match outcome {
                Err(Failure::Sqlite(error)) if is_busy(&error) => {}
                outcome => return self.after_read(outcome.map_err(|failure| failure.mapped(&self.damaged))),
            }
        }
        self.read(work).await
    }

    async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, RepositoryError> {
        self.refuse_when_damaged()?;
        let damaged = Arc::clone(&self.damaged);
        self.writer.write(move |connection| work(connection).map_err(|failure| failure.mapped(&damaged))).await
    }

    /// The cache. The writer polls for other processes' changes for as long as it is in use.
    fn watched_cache(&self) -> Result<&SessionCache, RepositoryError> {
        self.refuse_when_damaged()?;
        if self.cache.is_on() && self.cache.lease().needs_look() && !self.writer.watch() {
            self.cache.lease().was_not_asked();
        }
        Ok(&self.cache)
    }

    /// Several reads in one transaction, as of one moment.
    async fn read_snapshot<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, RepositoryError> {
        self.read(move |connection| {
            let transaction = connection.unchecked_transaction()?;
            work(&transaction)
        })
        .await
    }

    /// A damaged file is neither read nor written any more: what it holds may be wrong, and a write may make it worse.
    fn refuse_when_damaged(&self) -> Result<(), RepositoryError> {
        if self.is_damaged() {
            return Err(RepositoryError::Unavailable(Arc::new(Damaged)));
        }
        Ok(())
    }
}
