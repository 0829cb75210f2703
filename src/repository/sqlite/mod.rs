//! The store in one SQLite file: a pool of readers, the one writer, and all of the SQL.
//!
//! The file is in WAL mode, so readers never wait for the writer, nor it for them. `synchronous = FULL` makes a COMMIT
//! survive a power cut. The file, its WAL and its WAL index are readable by their owner only, and a lock file beside
//! them keeps a second server away.
//!
//! Here is how a piece of work gets to the file. What the work is stands in one file a trait.

mod accounts;
mod administration;
pub mod backup;
mod checkpoint;
mod connection;
mod error;
mod events;
mod file;
mod guard;
mod inline;
mod lists;
mod lookup;
mod maintenance;
mod open;
mod pool;
mod rows;
mod schema;
mod session_cache;
mod sessions;
mod sql;
#[cfg(test)]
mod test_store;
mod transaction;
mod watcher;
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
pub use self::session_cache::MAX_STALENESS;
use self::session_cache::SessionCache;
use self::transaction::Transaction;
use self::writer::Writer;
use crate::repository::{Maintenance, RepositoryError};
use crate::system::blocking;
use crate::system::watched::WatchedThreads;

/// After how many of SQLite's steps a read that may be given up looks at the time.
const SCAN_STEPS: i32 = 10_000;

/// Where the file is and how it is used.
#[derive(Clone, Debug)]
pub struct SqliteSettings {
    /// The database file; its folder is made where it is missing.
    pub path: PathBuf,
    /// How many connections read at once, beside those of the short reads; half as many more are for reads whose work
    /// grows with the store.
    pub readers: u32,
    /// How long to wait for a lock that another process holds.
    pub busy_timeout: Duration,
    /// How many bytes of sessions and users are kept in memory.
    pub cache: usize,
}

/// The store. Dropping it without [`Maintenance::close`] loses nothing; the WAL is then read at the next start.
pub struct SqliteRepository {
    /// For reads on blocking threads.
    readers: Readers,
    /// For those whose work grows with the store: nobody else waits behind them.
    scanners: Readers,
    /// How long such a read may take that somebody waits for.
    scan_within: Duration,
    /// For short reads, done where they are asked for.
    quick_readers: Pool<SqliteConnectionManager>,
    /// Whether they are.
    inline: Inline,
    reads: Reads,
    writer: Writer,
    threads: WatchedThreads,
    guard: Option<Arc<FileGuard>>,
    /// Whether it is being proven that changes can be made.
    proving: Arc<AtomicBool>,
    cache: Arc<SessionCache>,
    damaged: Arc<AtomicBool>,
    /// The file's name without links: SQLite keeps its WAL beside that.
    file: PathBuf,
    upgraded_from: Option<i32>,
    /// The server's, held for as long as the store is open.
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
        // Before the hop, so that nobody waits for a thread: that would have no end.
        let permit = self.reads.permit(readers).await?;
        let pool = readers.pool.clone();
        let damaged = Arc::clone(&self.damaged);
        let outcome = blocking::run(move || {
            // Goes behind the connection.
            let _permit = permit;
            let connection = pool.get().map_err(|error| RepositoryError::Unavailable(Arc::new(error)))?;
            work(&connection).map_err(|failure| failure.mapped(&damaged))
        })
        .await
        .unwrap_or_else(|error| Err(RepositoryError::Backend(Arc::new(error))));
        self.after_read(outcome)
    }

    /// What cannot be read may be no more what it was: the writer looks.
    fn after_read<T>(&self, outcome: Result<T, RepositoryError>) -> Result<T, RepositoryError> {
        if let Err(RepositoryError::Unavailable(_) | RepositoryError::Inconsistent(_)) = outcome {
            self.writer.tally().failed();
            self.writer.watch();
        }
        outcome
    }

    /// A read whose work grows with the store, as of one moment. It waits for others of its kind alone, and is given up
    /// after a while where that is said.
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

    /// A short read, by keys alone, done where it is asked for: the hop to another thread would cost several times as
    /// much as the read. Where the file is locked, the disk must be waited for, or no reader is free, it is done on a
    /// blocking thread like any other.
    async fn read_here<T: Send + 'static>(
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

    /// The cache, and the writer set to look for other processes' changes for as long as it is in use.
    fn watched_cache(&self) -> Result<&SessionCache, RepositoryError> {
        self.refuse_when_damaged()?;
        if self.cache.needs_poller() && !self.writer.watch() {
            self.cache.was_not_asked();
        }
        Ok(&self.cache)
    }

    /// Several statements that must see the file as of one moment.
    async fn read_at_once<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, RepositoryError> {
        self.read(move |connection| {
            let transaction = connection.unchecked_transaction()?;
            work(&transaction)
        })
        .await
    }

    /// A damaged file is neither read nor written any more: what it says may be false, and writing may make it worse.
    fn refuse_when_damaged(&self) -> Result<(), RepositoryError> {
        if self.is_damaged() {
            return Err(RepositoryError::Unavailable(Arc::new(Damaged)));
        }
        Ok(())
    }
}
