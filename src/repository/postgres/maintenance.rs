//! [`Maintenance`] in PostgreSQL.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use thiserror::Error;
use tokio::time::timeout;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::error::{Failure, LinkError};
use super::lookup::times_of;
use super::pool::{Connection, unavailable};
use super::rows::get;
use super::transaction::Transaction;
use super::{LONG_SCAN_WITHIN, PostgresRepository, SCAN_WITHIN, UNITS, events, sql};
use crate::domain::identity::REVOKED_WITHIN;
use crate::domain::session::SessionCutoffs;
use crate::domain::user::UserId;
use crate::repository::FigureValue::{Counter, Gauge, GaugeSeconds, Seconds};
use crate::repository::session_cache::Change;
use crate::repository::{Cause, Figure, Maintenance, RepositoryError, StoreCounts, StoreStatistics};
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

/// How long the work that was accepted may take to finish when the store is closed.
const CLOSED_WITHIN: Duration = Duration::from_secs(20);

#[async_trait]
impl Maintenance for PostgresRepository {
    async fn prune_sessions(&self, cutoffs: SessionCutoffs) -> Result<usize, RepositoryError> {
        let times = times_of(cutoffs);
        let dead = self
            .scan(LONG_SCAN_WITHIN, times, |connection, [created, used, expires]| {
                Box::pin(async move {
                    let limit = i64::from(PRUNED_AT_ONCE);
                    let rows = connection.query(sql::FIND_DEAD_TOKENS, &[created, used, expires, &limit]).await?;
                    read_keys::<Vec<u8>>(&rows)
                })
            })
            .await?;
        if dead.is_empty() {
            return Ok(0);
        }
        self.write((dead, times), |transaction, (dead, [created, used, expires])| {
            Box::pin(async move {
                let rows = transaction.query(sql::DELETE_DEAD_TOKENS, &[dead, created, used, expires]).await?;
                note_changed(transaction, &rows)
            })
        })
        .await
    }

    async fn prune_events(&self, before: Timestamp, keep: u64, now: Timestamp) -> Result<usize, RepositoryError> {
        let old = self
            .scan(LONG_SCAN_WITHIN, (before, keep, now), |connection, (before, keep, now)| {
                Box::pin(events::find_old(connection, *before, *keep, *now))
            })
            .await?;
        if old.is_empty() {
            return Ok(0);
        }
        self.write(old, |transaction, old| {
            Box::pin(async move {
                transaction.execute(sql::COUNT_LOST_EVENTS, &[old]).await?;
                Ok(counted(transaction.execute(sql::DELETE_EVENTS, &[old]).await?))
            })
        })
        .await
    }

    async fn clamp_times(&self, now: Timestamp) -> Result<usize, RepositoryError> {
        let future =
            self.scan(LONG_SCAN_WITHIN, now, |connection, now| Box::pin(find_future(connection, *now))).await?;
        if future.is_empty() {
            return Ok(0);
        }
        self.write((future, now), |transaction, (future, now)| Box::pin(clamp(transaction, future, *now))).await
    }

    async fn check_ready(&self) -> Result<(), RepositoryError> {
        // It is answered where a lease holds: what was not the primary a moment ago has none.
        let read = self.read((), |connection, ()| Box::pin(async move { connection.query_one("SELECT 1", &[]).await }));
        read.await?;
        let late = || RepositoryError::Unavailable(Arc::new(LateProof));
        if self.proving.swap(true, Ordering::SeqCst) {
            // The last probe still waits for its COMMIT.
            return Err(late());
        }
        // The transaction's own receipt is what it writes. The guard is dropped after the COMMIT, whoever waits for it.
        let proof = self.write(Proving(Arc::clone(&self.proving)), |_, _| Box::pin(async { Ok(()) }));
        timeout(PROOF_WITHIN, proof).await.map_err(|_| late())?
    }

    async fn statistics(&self) -> StoreStatistics {
        let (pool, writes, looks) = (&self.pool, &self.writer.tally, &self.watcher.tally);
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let gauge = |number: usize| Some(Gauge(u64::try_from(number).unwrap_or(u64::MAX)));
        let (connections, in_use) = pool.size();
        let delay = Duration::from_micros(count(&pool.delay));
        let figures = [
            ("authtokens_store_connections", "Connections to PostgreSQL in the pool.", gauge(connections)),
            ("authtokens_store_max_connections", "Connections that the pool may have.", gauge(pool.max_size())),
            ("authtokens_store_connections_in_use", "Connections of the pool that are in use.", gauge(in_use)),
            (
                "authtokens_store_connections_made_total",
                "Connections to PostgreSQL that were made.",
                Some(Counter(pool.connector().made())),
            ),
            (
                "authtokens_store_connection_requests_total",
                "Reads and transactions that asked the pool for a connection.",
                Some(Counter(count(&pool.asked))),
            ),
            (
                "authtokens_store_delayed_connection_requests_total",
                "Reads and transactions that had to wait for a connection.",
                Some(Counter(count(&pool.delayed))),
            ),
            (
                "authtokens_store_connection_delay_seconds_total",
                "Time that reads and transactions waited for a connection, all together.",
                Some(Seconds(delay)),
            ),
            ("authtokens_store_commits_total", "Commits.", Some(Counter(count(&writes.commits)))),
            (
                "authtokens_store_retries_total",
                "Transactions that were begun once more, because another one was in the way or the connection was lost.",
                Some(Counter(count(&writes.retries))),
            ),
            (
                "authtokens_store_settled_commits_total",
                "Commits without an answer, whose outcome was looked up.",
                Some(Counter(count(&writes.settled))),
            ),
            (
                "authtokens_store_unknown_commits_total",
                "Commits without an answer, whose outcome could not be looked up either.",
                Some(Counter(count(&writes.unknown))),
            ),
            (
                "authtokens_store_looks_total",
                "Looks at the feed of changes, each of which renews the lease of the session cache.",
                Some(Counter(count(&looks.looks))),
            ),
            (
                "authtokens_store_feed_lag_seconds",
                "Time since the last look at the feed of changes. Absent while nobody asks: then nothing looks.",
                self.watcher.lag().map(GaugeSeconds),
            ),
            (
                "authtokens_store_feed_changes_total",
                "Changes that were read from the feed.",
                Some(Counter(count(&looks.changes))),
            ),
            (
                "authtokens_store_leases_lost_total",
                "Leases of the session cache that ran out, or were given up, while they were needed.",
                Some(Counter(count(&looks.lost))),
            ),
            (
                "authtokens_store_failovers_total",
                "Changes of the primary that were seen.",
                Some(Counter(count(&looks.failovers))),
            ),
        ];
        StoreStatistics {
            figures: figures
                .into_iter()
                .filter_map(|(name, help, value)| Some(Figure { name, help, value: value? }))
                .collect(),
            refused: vec![("pool_timeout", count(&pool.refused))],
        }
    }

    async fn count(&self) -> Result<StoreCounts, RepositoryError> {
        self.scan(SCAN_WITHIN, (), |connection, ()| {
            Box::pin(async move {
                Ok(StoreCounts {
                    users: count_rows(connection, sql::COUNT_USERS).await?,
                    sessions: count_rows(connection, sql::COUNT_TOKENS).await?,
                    revocations: count_rows(connection, sql::COUNT_REVOCATIONS).await?,
                })
            })
        })
        .await
    }

    /// PostgreSQL checks its pages itself, and says so.
    fn is_damaged(&self) -> bool {
        false
    }

    async fn wait_for_failure(&self) -> Cause {
        Arc::new(EndedByItself(self.threads.failure().await))
    }

    async fn close(&self) -> Result<(), RepositoryError> {
        // First the units of work: they need the lease. No other one is accepted from here on.
        let finished = timeout(CLOSED_WITHIN, self.units.acquire_many(UNITS)).await;
        self.units.close();
        self.watcher.close();
        let background = std::mem::take(&mut *self.background.lock().unwrap_or_else(PoisonError::into_inner));
        if let Some(background) = background {
            background.pruning.abort();
            // It takes its row out of `nodes`, so that no other node waits for it.
            let _ = timeout(CLOSED_WITHIN, background.watching).await;
        }
        self.pool.close();
        match finished {
            Ok(_) => Ok(()),
            Err(_) => Err(unavailable(LinkError::Late(CLOSED_WITHIN))),
        }
    }
}

/// The keys that a scan has found.
fn read_keys<T: for<'a> tokio_postgres::types::FromSql<'a>>(rows: &[Row]) -> Result<Vec<T>, Failure> {
    rows.iter().map(|row| get(row, 0)).collect()
}

/// Notes the users whose sessions have changed, and says how many these are.
fn note_changed(transaction: &Transaction, rows: &[Row]) -> Result<usize, Failure> {
    for row in rows {
        transaction.changes(UserId(get(row, 0)?), Change::Sessions);
    }
    Ok(rows.len())
}

fn counted(rows: u64) -> usize {
    usize::try_from(rows).unwrap_or(usize::MAX)
}

async fn count_rows(connection: &Connection, statement: &str) -> Result<u64, Failure> {
    Ok(get::<i64>(&connection.query_one(statement, &[]).await?, 0)?.unsigned_abs())
}

/// The keys of rows with times in the future.
struct Future {
    tokens: Vec<Vec<u8>>,
    failures: Vec<i64>,
    offers: Vec<Vec<u8>>,
    mails: Vec<i64>,
    challenges: Vec<Vec<u8>>,
    revocations: Vec<i64>,
}

impl Future {
    fn is_empty(&self) -> bool {
        self.tokens.is_empty()
            && self.failures.is_empty()
            && self.offers.is_empty()
            && self.mails.is_empty()
            && self.challenges.is_empty()
            && self.revocations.is_empty()
    }
}

/// From when on a time is clamped, and from when on a mail or a revocation waits for longer than any.
fn far(now: Timestamp) -> [i64; 3] {
    [CLAMPED_BEYOND, CLAMPED_BEYOND + LONGEST_WAIT, CLAMPED_BEYOND + REVOKED_WITHIN]
        .map(|far| now.plus(far).as_millis())
}

async fn find_future(connection: &Connection, now: Timestamp) -> Result<Future, Failure> {
    let ([far, longest, longest_revoked], limit) = (far(now), i64::from(PRUNED_AT_ONCE));
    Ok(Future {
        tokens: read_keys(&connection.query(sql::FIND_FUTURE_TOKENS, &[&far, &limit]).await?)?,
        failures: read_keys(&connection.query(sql::FIND_FUTURE_FAILURES, &[&far, &limit]).await?)?,
        offers: read_keys(&connection.query(sql::FIND_FUTURE_OFFERS, &[&far, &limit]).await?)?,
        mails: read_keys(&connection.query(sql::FIND_FUTURE_MAILS, &[&far, &longest, &limit]).await?)?,
        challenges: read_keys(&connection.query(sql::FIND_FUTURE_CHALLENGES, &[&far, &limit]).await?)?,
        revocations: read_keys(&connection.query(sql::FIND_FUTURE_REVOCATIONS, &[&longest_revoked, &limit]).await?)?,
    })
}

async fn clamp(transaction: &Transaction, future: &Future, now: Timestamp) -> Result<usize, Failure> {
    let [far, longest, longest_revoked] = far(now);
    let (revoked_within, now) = (now.plus(REVOKED_WITHIN).as_millis(), now.as_millis());
    let clamped = transaction.query(sql::CLAMP_TOKENS, &[&future.tokens, &now]).await?;
    let tokens = note_changed(transaction, &clamped)?;
    let failures = transaction.execute(sql::CLAMP_FAILURES, &[&future.failures, &now]).await?;
    let offers = transaction.execute(sql::DELETE_FUTURE_OFFERS, &[&future.offers, &now]).await?;
    let parameters: [&(dyn ToSql + Sync); 4] = [&future.mails, &now, &far, &longest];
    let mails = transaction.execute(sql::CLAMP_MAILS, &parameters).await?;
    let challenges = transaction.execute(sql::DELETE_FUTURE_CHALLENGES, &[&future.challenges, &now]).await?;
    let parameters: [&(dyn ToSql + Sync); 4] = [&future.revocations, &now, &revoked_within, &longest_revoked];
    let revocations = transaction.execute(sql::CLAMP_REVOCATIONS, &parameters).await?;
    Ok(tokens + counted(failures + offers + mails + challenges + revocations))
}

#[derive(Debug, Error)]
#[error("a change that changes nothing has taken more than {} s", PROOF_WITHIN.as_secs())]
struct LateProof;

#[derive(Debug, Error)]
#[error("the thread \"{}\" has ended by itself", .0.0)]
struct EndedByItself(ThreadEnded);

/// A write probe under way.
struct Proving(Arc<AtomicBool>);

impl Drop for Proving {
    fn drop(&mut self) {
        self.0.store(false, Ordering::SeqCst);
    }
}
