//! [`Maintenance`] in SQLite.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use rusqlite::{OptionalExtension as _, params};
use thiserror::Error;
use tokio::time::timeout;

use super::file::with_suffix;
use super::{SqliteRepository, events, sql, webhooks};
use crate::domain::identity::REVOKED_WITHIN;
use crate::domain::session::SessionCutoffs;
use crate::domain::user::UserId;
use crate::repository::FigureValue::{Counter, Gauge, Seconds};
use crate::repository::session_cache::Change;
use crate::repository::{Cause, Figure, Maintenance, RepositoryError, StoreCounts, StoreStatistics};
use crate::system::blocking;
use crate::system::clock::Timestamp;
use crate::system::watched::ThreadEnded;

/// How long the readiness probe waits for its write.
const PROOF_WITHIN: Duration = Duration::from_secs(2);

/// How far in the future a stored time must be before it is clamped. A clock that is synchronized is off by less.
const CLAMPED_BEYOND: Duration = Duration::from_secs(60);

/// How long a mail waits for its next delivery at most, with time to spare.
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 60 * 60);

/// How many sessions are pruned or clamped in one transaction, so that no other write waits long.
const PRUNED_AT_ONCE: u32 = 500;

#[async_trait]
impl Maintenance for SqliteRepository {
    async fn prune_sessions(&self, cutoffs: SessionCutoffs) -> Result<usize, RepositoryError> {
        let [created, used, expires] =
            [cutoffs.created_after, cutoffs.used_after, cutoffs.expires_after].map(Timestamp::as_millis);
        let dead: Vec<[u8; 32]> = self
            .scan(None, move |connection| {
                let mut find = connection.prepare_cached(sql::FIND_DEAD_TOKENS)?;
                Ok(find
                    .query_map(params![created, used, expires, PRUNED_AT_ONCE], |row| row.get(0))?
                    .collect::<Result<_, _>>()?)
            })
            .await?;
        if dead.is_empty() {
            return Ok(0);
        }
        self.write(move |connection| {
            let mut delete = connection.prepare_cached(sql::DELETE_DEAD_TOKEN)?;
            let mut deleted = 0;
            for digest in dead {
                let user_id = delete.query_row(params![digest, created, used, expires], |row| row.get(0)).optional()?;
                if let Some(user_id) = user_id {
                    connection.changes(UserId(user_id), Change::Sessions);
                    deleted += 1;
                }
            }
            Ok(deleted)
        })
        .await
    }

    async fn prune_events(&self, before: Timestamp, keep: u64, now: Timestamp) -> Result<usize, RepositoryError> {
        let old = self.scan(None, move |connection| Ok(events::find_old(connection, before, keep, now)?)).await?;
        if old.is_empty() {
            return Ok(0);
        }
        self.write(move |connection| {
            let mut delete = connection.prepare_cached(sql::DELETE_EVENT)?;
            let mut deleted = 0;
            for id in old {
                webhooks::count_lost(connection, id)?;
                deleted += delete.execute([id])?;
            }
            Ok(deleted)
        })
        .await
    }

    async fn clamp_times(&self, now: Timestamp) -> Result<usize, RepositoryError> {
        let longest = now.plus(CLAMPED_BEYOND + LONGEST_WAIT).as_millis();
        let longest_revoked = now.plus(CLAMPED_BEYOND + REVOKED_WITHIN).as_millis();
        let (tokens, failures, offers, mails, challenges, revocations) = self
            .read(move |connection| {
                let far = params![now.plus(CLAMPED_BEYOND).as_millis(), PRUNED_AT_ONCE];
                let mut tokens = connection.prepare_cached(sql::FIND_FUTURE_TOKENS)?;
                let tokens = tokens.query_map(far, |row| row.get(0))?.collect::<Result<Vec<[u8; 32]>, _>>()?;
                let mut failures = connection.prepare_cached(sql::FIND_FUTURE_FAILURES)?;
                let failures = failures.query_map(far, |row| row.get(0))?.collect::<Result<Vec<i64>, _>>()?;
                let mut offers = connection.prepare_cached(sql::FIND_FUTURE_OFFERS)?;
                let offers = offers.query_map(far, |row| row.get(0))?.collect::<Result<Vec<[u8; 32]>, _>>()?;
                let mut mails = connection.prepare_cached(sql::FIND_FUTURE_MAILS)?;
                let far = params![now.plus(CLAMPED_BEYOND).as_millis(), longest, PRUNED_AT_ONCE];
                let mails = mails.query_map(far, |row| row.get(0))?.collect::<Result<Vec<i64>, _>>()?;
                let mut challenges = connection.prepare_cached(sql::FIND_FUTURE_CHALLENGES)?;
                let far = params![now.plus(CLAMPED_BEYOND).as_millis(), PRUNED_AT_ONCE];
                let challenges = challenges.query_map(far, |row| row.get(0))?.collect::<Result<Vec<[u8; 32]>, _>>()?;
                let mut revocations = connection.prepare_cached(sql::FIND_FUTURE_REVOCATIONS)?;
                let far = params![longest_revoked, PRUNED_AT_ONCE];
                let revocations = revocations.query_map(far, |row| row.get(0))?.collect::<Result<Vec<i64>, _>>()?;
                Ok((tokens, failures, offers, mails, challenges, revocations))
            })
            .await?;
        let is_nothing = tokens.is_empty() && failures.is_empty() && offers.is_empty() && mails.is_empty();
        if is_nothing && challenges.is_empty() && revocations.is_empty() {
            return Ok(0);
        }
        self.write(move |connection| {
            let mut clamped = 0;
            let mut clamp = connection.prepare_cached(sql::CLAMP_TOKEN)?;
            for digest in tokens {
                let user_id = clamp.query_row(params![digest, now.as_millis()], |row| row.get(0)).optional()?;
                if let Some(user_id) = user_id {
                    connection.changes(UserId(user_id), Change::Sessions);
                    clamped += 1;
                }
            }
            let mut clamp = connection.prepare_cached(sql::CLAMP_FAILURES)?;
            for user_id in failures {
                clamped += clamp.execute(params![user_id, now.as_millis()])?;
            }
            let mut delete = connection.prepare_cached(sql::DELETE_FUTURE_OFFER)?;
            for request in offers {
                clamped += delete.execute(params![request, now.as_millis()])?;
            }
            let mut clamp = connection.prepare_cached(sql::CLAMP_MAIL)?;
            for id in mails {
                clamped += clamp.execute([id, now.as_millis()])?;
            }
            let mut delete = connection.prepare_cached(sql::DELETE_FUTURE_CHALLENGE)?;
            for digest in challenges {
                clamped += delete.execute(params![digest, now.as_millis()])?;
            }
            let mut clamp = connection.prepare_cached(sql::CLAMP_REVOCATION)?;
            for id in revocations {
                clamped += clamp.execute([id, now.as_millis(), now.plus(REVOKED_WITHIN).as_millis()])?;
            }
            Ok(clamped)
        })
        .await
    }

    async fn check_ready(&self) -> Result<(), RepositoryError> {
        let guard = self.guard.clone();
        let readable = self.read(move |connection| {
            if let Some(guard) = &guard {
                guard.check().map_err(|lost| RepositoryError::Unavailable(lost.into()))?;
            }
            Ok(connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?)
        });
        readable.await?;
        // The write probe. Without need it is an empty transaction: it finds locks and a stuck writer, and writes
        // nothing.
        let needs_proof = self.writer.tally().needs_proof();
        let late = || RepositoryError::Unavailable(Arc::new(LateProof));
        if self.proving.swap(true, Ordering::SeqCst) {
            // The last probe still waits for the disk.
            return Err(late());
        }
        let proving = Proving(Arc::clone(&self.proving));
        let proof = self.write(move |connection| {
            if needs_proof {
                connection.prepare_cached(sql::INSERT_PROOF)?.execute([])?;
                connection.prepare_cached(sql::DELETE_PROOF)?.execute([])?;
            }
            // It is dropped with the answer, which comes after the COMMIT.
            Ok(proving)
        });
        timeout(PROOF_WITHIN, proof).await.map_err(|_| late())??;
        if needs_proof {
            self.writer.tally().proven();
        }
        Ok(())
    }

    async fn statistics(&self) -> StoreStatistics {
        let file = self.file.clone();
        let size = |path: &Path| fs::metadata(path).ok().map(|metadata| metadata.len());
        let sizes = blocking::run(move || (size(&file), size(&with_suffix(&file, "-wal")))).await;
        let (size, wal_size) = sizes.unwrap_or_default();
        let (reads, writes) = (&self.reads, self.writer.tally());
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        // In this order, so that the difference cannot be negative.
        let begun = count(&writes.begun);
        let waiting = count(&writes.queued).saturating_sub(begun + count(&writes.late));
        let delay = Duration::from_micros(count(&reads.delay));
        let figures = [
            ("authtokens_store_bytes", "Size of the database file, in bytes.", size.map(Gauge)),
            (
                "authtokens_store_wal_bytes",
                "Size of the WAL (write-ahead log) beside the database file, in bytes.",
                wal_size.map(Gauge),
            ),
            ("authtokens_store_reads_total", "Reads that the store was asked for.", Some(Counter(count(&reads.asked)))),
            (
                "authtokens_store_delayed_reads_total",
                "Reads that had to wait for a free connection.",
                Some(Counter(count(&reads.delayed))),
            ),
            (
                "authtokens_store_read_delay_seconds_total",
                "Time that reads waited for a free connection, all together.",
                Some(Seconds(delay)),
            ),
            ("authtokens_store_waiting_writes", "Writes that wait for their turn.", Some(Gauge(waiting))),
            ("authtokens_store_writes_total", "Writes that were begun.", Some(Counter(begun))),
            (
                "authtokens_store_commits_total",
                "Commits; one may hold many writes.",
                Some(Counter(count(&writes.commits))),
            ),
        ];
        StoreStatistics {
            figures: figures
                .into_iter()
                .filter_map(|(name, help, value)| Some(Figure { name, help, value: value? }))
                .collect(),
            refused: vec![("write_queue_full", count(&writes.refused)), ("pool_timeout", count(&reads.refused))],
        }
    }

    async fn count(&self) -> Result<StoreCounts, RepositoryError> {
        self.scan(Some(self.scan_within), |connection| {
            let count = |statement| connection.query_row(statement, [], |row| row.get(0)).map(i64::unsigned_abs);
            Ok(StoreCounts {
                users: count(sql::COUNT_USERS)?,
                sessions: count(sql::COUNT_TOKENS)?,
                revocations: count(sql::COUNT_REVOCATIONS)?,
            })
        })
        .await
    }

    fn is_damaged(&self) -> bool {
        self.damaged.load(Ordering::Relaxed)
    }

    async fn wait_for_failure(&self) -> Cause {
        Arc::new(EndedByItself(self.threads.failure().await))
    }

    async fn close(&self) -> Result<(), RepositoryError> {
        // A checkpoint into a damaged file could make it worse.
        self.refuse_when_damaged()?;
        self.writer.close().await
    }
}

#[derive(Debug, Error)]
#[error("a change that changes nothing has taken more than {} s", PROOF_WITHIN.as_secs())]
struct LateProof;

#[derive(Debug, Error)]
#[error("the thread \"{}\" has ended by itself", .0.0)]
struct EndedByItself(ThreadEnded);

/// Resets the flag of a write probe that is under way.
struct Proving(Arc<AtomicBool>);

impl Drop for Proving {
    fn drop(&mut self) {
        self.0.store(false, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::user::Username;
    use crate::repository::Accounts as _;
    use crate::repository::sqlite::test_store::{open_in, registration, rows, worker};

    #[test]
    fn the_write_probe_reaches_the_disk_and_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let repository = open_in(folder.path());
        let size = || fs::metadata(folder.path().join("test.db-wal")).unwrap().len();
        worker(2).block_on(async {
            let before = size();
            repository.check_ready().await.unwrap();
            assert!(size() > before + 16 * 4096, "more than any request writes");
            let proven = size();
            for _ in 0..100 {
                repository.check_ready().await.unwrap();
            }
            assert_eq!(size(), proven, "it is believed for a while");
            assert_eq!(rows(&repository), [0, 0, 0]);
            let (user, session) = registration(1);
            repository.register_user(user, session, None, Timestamp::from_millis(0).unwrap()).await.unwrap();
            let first: i64 =
                repository.read(|c| Ok(c.query_row("SELECT id FROM events", [], |row| row.get(0))?)).await.unwrap();
            assert_eq!(first, 1, "it took no event's number");
        });
    }

    #[tokio::test]
    async fn reads_writes_and_commits_are_counted_and_the_files_are_measured() {
        let folder = tempfile::tempdir().unwrap();
        let repository = open_in(folder.path());
        for number in 0..3 {
            let (user, session) = registration(number);
            repository.register_user(user, session, None, Timestamp::from_millis(0).unwrap()).await.unwrap();
        }
        for _ in 0..2 {
            assert!(repository.find_credentials(&Username::parse("user1").unwrap()).await.unwrap().is_some());
        }
        let statistics = repository.statistics().await;
        let value = |name| statistics.figures.iter().find(|figure| figure.name == name).map(|figure| figure.value);
        let [size, wal_size] =
            ["test.db", "test.db-wal"].map(|name| fs::metadata(folder.path().join(name)).unwrap().len());
        for (name, expected) in [
            ("authtokens_store_bytes", Gauge(size)),
            ("authtokens_store_wal_bytes", Gauge(wal_size)),
            ("authtokens_store_reads_total", Counter(2)),
            ("authtokens_store_delayed_reads_total", Counter(0)),
            ("authtokens_store_read_delay_seconds_total", Seconds(Duration::ZERO)),
            ("authtokens_store_waiting_writes", Gauge(0)),
            ("authtokens_store_writes_total", Counter(3)),
            ("authtokens_store_commits_total", Counter(3)),
        ] {
            assert_eq!(value(name), Some(expected), "{name}");
        }
        assert_eq!(statistics.refused, [("write_queue_full", 0), ("pool_timeout", 0)]);
    }

    #[tokio::test]
    async fn a_read_that_fails_has_the_next_write_probe_reach_the_disk() {
        let folder = tempfile::tempdir().unwrap();
        let repository = open_in(folder.path());
        repository.check_ready().await.unwrap();
        assert!(!repository.writer.tally().needs_proof());
        let failure = || rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_IOERR), None);
        assert!(repository.read_inline(move |_| Err::<(), _>(failure().into())).await.is_err());
        assert!(repository.writer.tally().needs_proof());
        repository.check_ready().await.unwrap();
        assert!(!repository.writer.tally().needs_proof());
    }

    #[tokio::test]
    async fn a_file_that_may_not_grow_refuses_whole_writes_serves_reads_and_recovers() {
        let folder = tempfile::tempdir().unwrap();
        let repository = open_in(folder.path());
        let now = Timestamp::from_millis(0).unwrap();
        let set = |pragma: &'static str| repository.write(move |connection| Ok(connection.execute_batch(pragma)?));
        set("PRAGMA max_page_count = 40").await.unwrap();
        let mut number = 0;
        let (refused, before) = loop {
            number += 1;
            assert!(number < 10_000);
            let (user, session) = registration(number);
            let before = rows(&repository);
            if let Err(error) = repository.register_user(user, session, None, now).await {
                break (error, before);
            }
        };
        assert!(matches!(refused, RepositoryError::Unavailable(_)), "{refused:?}");
        assert!(matches!(repository.check_ready().await, Err(RepositoryError::Unavailable(_))), "it is not ready");
        assert_eq!(rows(&repository), before, "no half rows");
        let username = Username::parse("user1").unwrap();
        assert!(repository.find_credentials(&username).await.unwrap().is_some(), "reads go on");
        // As many as there can be.
        set("PRAGMA max_page_count = 4294967294").await.unwrap();
        let (user, session) = registration(number);
        repository.register_user(user, session, None, now).await.unwrap();
        repository.check_ready().await.unwrap();
    }
}
