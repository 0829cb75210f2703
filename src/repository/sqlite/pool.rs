//! The pools of connections that read, and the permits to use one.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use r2d2::Pool;
use r2d2_sqlite::SqliteConnectionManager;
use rusqlite::OpenFlags;
use scheduled_thread_pool::ScheduledThreadPool;
use thiserror::Error;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::connection::{open_wal, prepare_connection};
use super::file;
use crate::repository::RepositoryError;

/// How long a read waits for a free connection before it is refused: the store is overloaded.
pub(super) const POOL_TIMEOUT: Duration = Duration::from_secs(2);

/// Counters of the reads, for the metrics.
#[derive(Default)]
pub(super) struct Reads {
    pub(super) asked: AtomicU64,
    pub(super) delayed: AtomicU64,
    /// How long they waited, in microseconds.
    pub(super) delay: AtomicU64,
    pub(super) refused: AtomicU64,
}

/// A pool, and as many permits as it has connections: waiting for a permit blocks no thread.
pub(super) struct Readers {
    pub(super) pool: Pool<SqliteConnectionManager>,
    pub(super) permits: Arc<Semaphore>,
}

impl Readers {
    pub(super) fn new(pool: Pool<SqliteConnectionManager>) -> Self {
        let permits = usize::try_from(pool.max_size()).unwrap_or(1);
        Self { pool, permits: Arc::new(Semaphore::new(permits)) }
    }
}

impl Reads {
    /// A permit to read. Only a read that must wait reads the clock.
    pub(super) async fn permit(&self, readers: &Readers) -> Result<OwnedSemaphorePermit, RepositoryError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        if let Ok(permit) = Arc::clone(&readers.permits).try_acquire_owned() {
            return Ok(permit);
        }
        let since = Instant::now();
        let permit = timeout(POOL_TIMEOUT, Arc::clone(&readers.permits).acquire_owned()).await;
        self.delayed.fetch_add(1, Ordering::Relaxed);
        self.delay.fetch_add(u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
        permit.ok().and_then(Result::ok).ok_or_else(|| {
            self.refused.fetch_add(1, Ordering::Relaxed);
            RepositoryError::Unavailable(Arc::new(LateRead))
        })
    }
}

#[derive(Debug, Error)]
#[error("the read has waited for a connection for {} s", POOL_TIMEOUT.as_secs())]
struct LateRead;

/// How many blocking threads a store with so many readers can use at once. One of them is for other work than reads.
#[must_use]
pub fn blocking_threads(readers: u32) -> usize {
    usize::try_from(readers + scanners(readers) + 1).unwrap_or(usize::MAX)
}

/// How many connections are for scans, beside so many readers.
pub(super) fn scanners(readers: u32) -> u32 {
    (readers / 2).max(1)
}

/// The number of cores: no more short reads than that run at once.
pub(super) fn cores() -> u32 {
    thread::available_parallelism().ok().and_then(|cores| u32::try_from(cores.get()).ok()).unwrap_or(1)
}

/// Opens all connections now: so they have the writer's file, even if the file of that name is replaced later.
pub(super) fn open_readers(
    own_name: &Path,
    count: u32,
    busy_timeout: Duration,
) -> Result<Pool<SqliteConnectionManager>, r2d2::Error> {
    let manager = SqliteConnectionManager::file(own_name)
        .with_flags(OpenFlags::SQLITE_OPEN_READ_ONLY | file::OPEN_FLAGS)
        .with_init(move |connection| {
            file::distrust(connection)?;
            prepare_connection(connection, busy_timeout)?;
            open_wal(connection);
            Ok(())
        });
    Pool::builder()
        .max_size(count)
        .connection_timeout(POOL_TIMEOUT)
        .idle_timeout(None)
        .max_lifetime(None)
        .test_on_check_out(false)
        .thread_pool(Arc::new(ScheduledThreadPool::new(1)))
        .build(manager)
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::*;
    use crate::domain::session::{Caller, SessionCutoffs};
    use crate::domain::token::TokenDigest;
    use crate::domain::user::Username;
    use crate::repository::sqlite::test_store::{obstacle, open_in, worker};
    use crate::repository::{Accounts as _, Maintenance as _};

    #[tokio::test]
    async fn a_search_takes_nobodys_export_away_and_a_count_of_everything_has_an_end() {
        let folder = tempfile::tempdir().unwrap();
        let mut repository = open_in(folder.path());
        let caller = Caller { digest: TokenDigest::from_bytes([7; 32]), cutoffs: SessionCutoffs::EVER, ip: None };
        let all = u32::try_from(repository.scanners.permits.available_permits()).unwrap();
        let searching = Arc::clone(&repository.scanners.permits).acquire_many_owned(all).await.unwrap();
        let exported = repository.export_user(&caller).await;
        assert!(matches!(exported, Err(RepositoryError::NoSession)), "it was looked for");
        drop(searching);

        let fill = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000) \
             INSERT INTO users (username, username_key, password_hash, date_joined, created, modified, last_login) \
             SELECT 'u' || i, 'u' || i, '', 0, 0, 0, 0 FROM n";
        Connection::open(folder.path().join("test.db")).unwrap().execute_batch(fill).unwrap();
        assert_eq!(repository.count().await.unwrap().users, 20_000);
        repository.scan_within = Duration::ZERO;
        assert!(matches!(repository.count().await, Err(RepositoryError::Unavailable(_))));
    }

    #[test]
    fn a_read_that_finds_no_connection_in_time_is_refused_and_counted_and_holds_no_thread() {
        let folder = tempfile::tempdir().unwrap();
        let repository = Arc::new(open_in(folder.path()));
        worker(2).block_on(async {
            let mut releases = Vec::new();
            for _ in 0..2 {
                let (release, begun, hold) = obstacle();
                let repository = Arc::clone(&repository);
                releases.push((release, tokio::spawn(async move { repository.read(|_| hold()).await })));
                begun.await.unwrap();
            }
            let (reads, count) = (&repository.reads, |counter: &AtomicU64| counter.load(Ordering::Relaxed));
            let find = |connection: &Connection| Ok(connection.query_row("SELECT 1", [], |row| row.get::<_, i64>(0))?);
            let late: Vec<_> = (0..10).map(|_| repository.read(find)).collect();
            for late in futures_util::future::join_all(late).await {
                assert!(matches!(late, Err(RepositoryError::Unavailable(_))));
            }
            assert_eq!([count(&reads.asked), count(&reads.delayed), count(&reads.refused)], [12, 10, 10]);
            assert!(Duration::from_micros(count(&reads.delay)) >= POOL_TIMEOUT * 10);
            for (release, held) in releases {
                drop(release);
                held.await.unwrap().unwrap();
            }
            assert_eq!(repository.read(find).await.unwrap(), 1);
            assert_eq!(count(&reads.refused), 10);
        });
    }

    #[test]
    fn short_reads_do_not_wait_behind_long_ones_and_a_long_one_is_given_up_after_a_while() {
        let folder = tempfile::tempdir().unwrap();
        let repository = Arc::new(open_in(folder.path()));
        worker(2).block_on(async {
            let (release, begun, hold) = obstacle();
            let holding = tokio::spawn({
                let repository = Arc::clone(&repository);
                async move { repository.scan(None, |_| hold()).await }
            });
            begun.await.unwrap();
            let search = |within| {
                repository.scan(within, |connection| {
                    let endless =
                        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n";
                    Ok(connection.query_row(endless, [], |row| row.get::<_, i64>(0))?)
                })
            };
            assert!(matches!(search(None).await, Err(RepositoryError::Unavailable(_))), "it found no connection");
            let nobody = Username::parse("nobody").unwrap();
            assert!(repository.find_credentials(&nobody).await.unwrap().is_none());
            assert!(repository.read(|_| Ok(())).await.is_ok());
            assert_eq!(repository.reads.delayed.load(Ordering::Relaxed), 1);
            drop(release);
            holding.await.unwrap().unwrap();
            let given_up = search(Some(Duration::from_millis(50))).await;
            assert!(matches!(given_up, Err(RepositoryError::Unavailable(_))), "{given_up:?}");
            // The connection goes on without a deadline.
            let slow = repository.scan(None, |connection| {
                thread::sleep(Duration::from_millis(100));
                let steps = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 100000) \
                             SELECT max(i) FROM n";
                Ok(connection.query_row(steps, [], |row| row.get::<_, i64>(0))?)
            });
            assert_eq!(slow.await.unwrap(), 100_000);
        });
    }
}
