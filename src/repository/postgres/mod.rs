//! The store in PostgreSQL: a pool of connections, a session cache under a lease that all nodes keep, and all of the SQL.
//!
//! Any number of copies of the service ("nodes") share a database. Nothing is acknowledged before PostgreSQL has committed
//! it, and with a synchronous standby before that has it. What a node has read is believed only while its lease holds
//! (`watcher.rs`), so that neither a cache nor a former primary can answer for a session that has ended.
//!
//! Each unit of work runs as a task on the store's own threads, beside the connections: a client that goes away does not
//! end it in the middle. A unit that changes an account locks the account's row first.
//!
//! This module hands work to a connection. The work itself is in one file a trait.

mod accounts;
mod address;
mod administration;
mod challenges;
mod emails;
mod error;
mod events;
mod factors;
mod horizon;
mod identities;
mod imports;
mod lists;
mod lookup;
mod maintenance;
#[cfg(test)]
mod model;
pub(super) mod moving;
mod offers;
mod one_time_codes;
mod open;
mod outbox;
mod passkeys;
mod pending;
mod pool;
mod pooler;
mod protocol;
mod pruning;
mod reach;
mod rows;
mod schema;
mod services;
mod sessions;
mod sql;
mod status;
mod tokens;
mod transaction;
mod unit;
mod users;
mod watcher;
mod ways_in;
mod webhooks;
mod writer;

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::{BoxFuture, join};
use tokio::runtime::Runtime;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;
use tokio::time::timeout;

pub(super) use self::address::{hosts, shown};
pub use self::error::OpenError;
use self::error::{Failure, LinkError, Remedy};
use self::horizon::Horizon;
use self::pool::{Connection, POOL_TIMEOUT, Pool, STATEMENT_TIMEOUT};
use self::pruning::Pruner;
pub use self::schema::VERSION as SCHEMA_VERSION;
use self::transaction::Transaction;
use self::unit::{Unit, Work};
pub use self::watcher::MAX_STALENESS;
use self::watcher::Watcher;
use self::writer::Writer;
use crate::config::secret::Secret;
use crate::repository::session_cache::SessionCache;
use crate::repository::{Cause, Notices, RepositoryError, Upgrade};
use crate::system::watched::WatchedThreads;

/// The deadline of a scan that a client waits for, and of one that only a job waits for.
const SCAN_WITHIN: Duration = Duration::from_secs(10);
const LONG_SCAN_WITHIN: Duration = Duration::from_secs(600);

/// The settings of the store.
#[derive(Clone)]
pub struct PostgresSettings {
    /// `postgres://user:password@host/database`.
    pub url: Secret,
    /// The authorities that the server's certificate is checked with: this file's, or the system's.
    pub ca_file: Option<PathBuf>,
    /// How many connections the pool has. One more is for the feed.
    pub connections: usize,
    /// The size of the session cache, in bytes.
    pub cache: usize,
    /// How long what was read may be believed, from a look at the feed on: [`MAX_STALENESS`], and up to a second.
    pub max_staleness: Duration,
    /// Which notices are put in the outbox.
    pub notices: Notices,
}

/// The store.
pub struct PostgresRepository {
    /// `None` while it is dropped.
    runtime: Option<Runtime>,
    pool: Arc<Pool>,
    /// Permits for scans: half as many as there are connections.
    scans: Arc<Semaphore>,
    cache: Arc<SessionCache>,
    watcher: Arc<Watcher>,
    writer: Arc<Writer>,
    proving: Arc<AtomicBool>,
    /// A permit a unit of work that is under way; closed where no more are accepted.
    units: Arc<Semaphore>,
    background: Mutex<Option<Background>>,
    threads: WatchedThreads,
    upgrade: Option<Upgrade>,
    /// Up to which number all events are known.
    horizon: Mutex<Horizon>,
}

/// More units of work than there ever are at once.
const UNITS: u32 = 1 << 20;

/// What goes on beside the units of work, where this is a server.
struct Background {
    watching: JoinHandle<()>,
    pruning: JoinHandle<()>,
}

/// How a read sees what others commit meanwhile.
#[derive(Clone, Copy, PartialEq, Eq)]
enum View {
    /// One statement, which is of one moment by itself.
    Statement,
    /// Several statements, as of one moment.
    Snapshot,
    /// The same, for a background job: nobody is answered by it, so it needs no lease, and keeps no looks going.
    Unconfirmed,
    /// The same, and each statement may take as long as this.
    Scan(Duration),
}

impl View {
    /// How a read is begun, where it needs a transaction.
    fn begin(self) -> Option<String> {
        let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
        match self {
            Self::Statement => None,
            Self::Snapshot | Self::Unconfirmed => Some(begin.to_owned()),
            Self::Scan(within) => Some(format!("{begin}; SET LOCAL statement_timeout = {}", within.as_millis())),
        }
    }

    /// How long the client waits.
    fn patience(self) -> Duration {
        match self {
            Self::Statement | Self::Snapshot | Self::Unconfirmed => STATEMENT_TIMEOUT * 2,
            Self::Scan(within) => within + STATEMENT_TIMEOUT,
        }
    }
}

impl PostgresRepository {
    /// A read of one statement.
    async fn read<A, T, W>(&self, arguments: A, work: W) -> Result<T, RepositoryError>
    where
        A: Send + Sync + 'static,
        T: Send + 'static,
        W: for<'a> Fn(&'a Connection, &'a A) -> BoxFuture<'a, Result<T, Failure>> + Send + Sync + 'static,
    {
        self.read_as(View::Statement, None, arguments, work).await
    }

    /// A read of several statements, as of one moment.
    async fn read_snapshot<A, T, W>(&self, arguments: A, work: W) -> Result<T, RepositoryError>
    where
        A: Send + Sync + 'static,
        T: Send + 'static,
        W: for<'a> Fn(&'a Connection, &'a A) -> BoxFuture<'a, Result<T, Failure>> + Send + Sync + 'static,
    {
        self.read_as(View::Snapshot, None, arguments, work).await
    }

    /// What a background job looks at, as of one moment.
    async fn peek<A, T, W>(&self, arguments: A, work: W) -> Result<T, RepositoryError>
    where
        A: Send + Sync + 'static,
        T: Send + 'static,
        W: for<'a> Fn(&'a Connection, &'a A) -> BoxFuture<'a, Result<T, Failure>> + Send + Sync + 'static,
    {
        self.read_as(View::Unconfirmed, None, arguments, work).await
    }

    /// A scan: a read, as of one moment, whose work grows with the store. It waits for other scans and leaves the pool
    /// connections for everything else. Each of its statements is ended after `within`.
    async fn scan<A, T, W>(&self, within: Duration, arguments: A, work: W) -> Result<T, RepositoryError>
    where
        A: Send + Sync + 'static,
        T: Send + 'static,
        W: for<'a> Fn(&'a Connection, &'a A) -> BoxFuture<'a, Result<T, Failure>> + Send + Sync + 'static,
    {
        let permit = timeout(POOL_TIMEOUT, Arc::clone(&self.scans).acquire_owned()).await;
        let Ok(Ok(permit)) = permit else { return Err(pool::unavailable(LinkError::PoolTimeout(POOL_TIMEOUT))) };
        self.read_as(View::Scan(within), Some(permit), arguments, work).await
    }

    async fn read_as<A, T, W>(
        &self,
        view: View,
        permit: Option<OwnedSemaphorePermit>,
        arguments: A,
        work: W,
    ) -> Result<T, RepositoryError>
    where
        A: Send + Sync + 'static,
        T: Send + 'static,
        W: for<'a> Fn(&'a Connection, &'a A) -> BoxFuture<'a, Result<T, Failure>> + Send + Sync + 'static,
    {
        let unit = Arc::new(Unit::new(arguments, work));
        self.run_read(view, permit, Arc::clone(&unit) as Arc<dyn Work<Connection>>).await?;
        Ok(unit.take())
    }

    /// A transaction that changes something. `work` may be run more than once.
    async fn write<A, T, W>(&self, arguments: A, work: W) -> Result<T, RepositoryError>
    where
        A: Send + Sync + 'static,
        T: Send + 'static,
        W: for<'a> Fn(&'a Transaction, &'a A) -> BoxFuture<'a, Result<T, Failure>> + Send + Sync + 'static,
    {
        let unit = Arc::new(Unit::new(arguments, work));
        self.run_write(Arc::clone(&unit) as Arc<dyn Work<Transaction>>).await?;
        Ok(unit.take())
    }

    fn run_read(
        &self,
        view: View,
        permit: Option<OwnedSemaphorePermit>,
        work: Arc<dyn Work<Connection>>,
    ) -> BoxFuture<'_, Result<(), RepositoryError>> {
        let (pool, watcher) = (Arc::clone(&self.pool), Arc::clone(&self.watcher));
        let reading = async move {
            // It is dropped when the read has ended, whether or not anybody still waits for it.
            let _permit = permit;
            let mut tries = 0;
            loop {
                tries += 1;
                let failure = match read_once(&pool, &watcher, view, &*work).await {
                    Ok(()) => return Ok(()),
                    Err(failure) => failure,
                };
                if failure.remedy() == Remedy::Report || tries >= 3 {
                    return Err(failure.mapped());
                }
            }
        };
        Box::pin(self.run(RepositoryError::Backend, Box::pin(reading)))
    }

    fn run_write(&self, work: Arc<dyn Work<Transaction>>) -> BoxFuture<'_, Result<(), RepositoryError>> {
        let writer = Arc::clone(&self.writer);
        let writing = async move { writer.write(&*work).await };
        Box::pin(self.run(RepositoryError::OutcomeUnknown, Box::pin(writing)))
    }

    /// Runs a unit of work to its end on the store's threads, whether or not anybody still waits for it. Where it cannot
    /// come to its end, because the store is dropped or it panics, that is `cut_off`.
    async fn run(
        &self,
        cut_off: fn(Cause) -> RepositoryError,
        work: BoxFuture<'static, Result<(), RepositoryError>>,
    ) -> Result<(), RepositoryError> {
        let closed = || pool::unavailable(LinkError::Closed);
        let runtime = self.runtime.as_ref().ok_or_else(closed)?;
        let unit = Arc::clone(&self.units).try_acquire_owned().map_err(|_| closed())?;
        let work = async move {
            let _unit = unit;
            work.await
        };
        runtime.spawn(work).await.unwrap_or_else(|error| Err(cut_off(Arc::new(error))))
    }

    /// Starts what goes on beside the units of work.
    fn start_watching(&self) {
        let Some(runtime) = &self.runtime else { return };
        let (watcher, threads) = (Arc::clone(&self.watcher), self.threads.clone());
        let watching = runtime.spawn(async move {
            let watching = tokio::spawn(async move { watcher.run().await });
            let ended = watching.await;
            if !matches!(ended, Ok(Ok(()))) {
                if let Ok(Err(why)) = ended {
                    log::error!("{why}");
                }
                threads.report_end("authtokens postgres");
            }
        });
        let pruning = runtime.spawn(Pruner::new(Arc::clone(&self.pool)).run());
        *self.background.lock().unwrap_or_else(PoisonError::into_inner) = Some(Background { watching, pruning });
    }
}

async fn read_once(pool: &Pool, watcher: &Watcher, view: View, work: &dyn Work<Connection>) -> Result<(), Failure> {
    if view != View::Unconfirmed {
        watcher.ensure_looking()?;
    }
    let connection = pool.get().await?;
    connection.is_in_doubt();
    let worked = timeout(view.patience(), async {
        let Some(begin) = view.begin() else { return work.run(&connection).await };
        let (opened, outcome) = join(connection.batch(&begin), work.run(&connection)).await;
        opened?;
        connection.batch("ROLLBACK").await?;
        outcome
    });
    let value = worked.await.unwrap_or_else(|_| Err(LinkError::Late(view.patience()).into()));
    let value = match value {
        Err(failure) if !matches!(failure, Failure::Repository(_)) => {
            if failure.remedy() == Remedy::Report
                && !failure.is_late()
                && let Ok(Ok(())) = timeout(STATEMENT_TIMEOUT, connection.batch("ROLLBACK")).await
            {
                connection.is_clean_again();
            }
            return Err(failure);
        }
        value => value,
    };
    if view != View::Unconfirmed {
        watcher.confirm(connection.instance).await?;
    }
    connection.is_clean_again();
    value
}

impl Drop for PostgresRepository {
    fn drop(&mut self) {
        self.watcher.close();
        self.pool.close();
        if let Some(runtime) = self.runtime.take() {
            // It may be dropped on an async thread, which must not wait.
            runtime.shutdown_background();
        }
    }
}
