//! Write transactions: begun, tried again where another was in the way, committed, and settled where the connection was
//! lost while the COMMIT was under way.
//!
//! Each transaction leaves a receipt, a row under a random id. Where nobody knows whether a COMMIT has succeeded, the
//! receipt says so: [`settle`] puts a row of the same id in its place that says "not committed". If that succeeds, the
//! transaction is not committed and never will be, for its own receipt could not be inserted any more. If it finds the
//! receipt, the transaction is committed. While the transaction is still under way, PostgreSQL makes it wait.
//!
//! What has changed a user is acknowledged when every node knows of it: see [`super::watcher`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::{BoxFuture, join};
use rand::RngExt as _;
use tokio::time::{sleep, timeout};

use super::error::{Failure, LinkError, Remedy};
use super::pool::{Pool, Pooled, unavailable};
use super::transaction::Transaction;
use super::watcher::Watcher;
use crate::repository::session_cache::SessionCache;
use crate::repository::{Notices, RepositoryError};

/// How often a transaction is tried, and for how long.
const TRIES: u32 = 10;
const TRIED_FOR: Duration = Duration::from_secs(4);

/// How long the work of a transaction may take, and how long its COMMIT.
const WORK_WITHIN: Duration = Duration::from_secs(4);
const COMMIT_WITHIN: Duration = Duration::from_secs(4);

/// How long it may take to find out whether a transaction was committed.
const SETTLED_WITHIN: Duration = Duration::from_secs(10);

const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE";

const INSERT_RECEIPT: &str = "INSERT INTO receipts (id) VALUES ($1)";

/// It changes a row in either case. So its COMMIT is confirmed as any other is, and with it the one that it finds.
const FENCE: &str = "INSERT INTO receipts (id, is_fence) VALUES ($1, TRUE) \
     ON CONFLICT (id) DO UPDATE SET xid = receipts.xid RETURNING is_fence";

/// The id of a transaction.
type Receipt = [u8; 16];

/// Makes write transactions.
pub(super) struct Writer {
    pub(super) pool: Arc<Pool>,
    pub(super) watcher: Arc<Watcher>,
    pub(super) cache: Arc<SessionCache>,
    pub(super) notices: Notices,
    pub(super) tally: Tally,
}

/// Counters, for the metrics.
#[derive(Default)]
pub(super) struct Tally {
    pub(super) commits: AtomicU64,
    pub(super) retries: AtomicU64,
    /// COMMITs whose outcome had to be found out, and those of which it could not be.
    pub(super) settled: AtomicU64,
    pub(super) unknown: AtomicU64,
}

/// The outcome of one try.
enum Tried<T> {
    Committed(T),
    Failed(Failure),
}

impl Writer {
    /// Runs `work` in a transaction, as often as it takes, and waits until its changes are durable and known to every
    /// node.
    pub(super) async fn write<A, T, W>(&self, arguments: &A, work: &W) -> Result<T, RepositoryError>
    where
        A: Sync,
        W: for<'a> Fn(&'a Transaction, &'a A) -> BoxFuture<'a, Result<T, Failure>>,
    {
        let since = Instant::now();
        let mut tries = 0;
        loop {
            tries += 1;
            let connection = self.pool.get().await.map_err(Failure::mapped)?;
            let failure = match self.attempt(connection, arguments, work).await? {
                Tried::Committed(value) => return Ok(value),
                Tried::Failed(failure) => failure,
            };
            if failure.remedy() == Remedy::Report || tries >= TRIES || since.elapsed() >= TRIED_FOR {
                return Err(failure.mapped());
            }
            self.tally.retries.fetch_add(1, Ordering::Relaxed);
            sleep(backoff(tries)).await;
        }
    }

    async fn attempt<A, T, W>(&self, connection: Pooled, arguments: &A, work: &W) -> Result<Tried<T>, RepositoryError>
    where
        A: Sync,
        W: for<'a> Fn(&'a Transaction, &'a A) -> BoxFuture<'a, Result<T, Failure>>,
    {
        let transaction = Transaction::new(connection, self.notices);
        let receipt: Receipt = rand::rng().random();
        transaction.is_in_doubt();
        let worked = timeout(WORK_WITHIN, async {
            // In one go: the server runs them one after the other.
            let id: &[u8] = &receipt;
            let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 1] = [&id];
            let begun = join(transaction.batch(BEGIN), transaction.execute(INSERT_RECEIPT, &parameters));
            let ((begun, receipt), outcome) = join(begun, work(&transaction, arguments)).await;
            begun?;
            receipt?;
            outcome
        });
        let worked = worked.await.unwrap_or_else(|_| Err(LinkError::Late(WORK_WITHIN).into()));
        let value = match worked {
            Ok(value) => value,
            Err(failure) => {
                self.roll_back(transaction, &failure).await;
                return Ok(Tried::Failed(failure));
            }
        };
        let committed =
            timeout(COMMIT_WITHIN, join(transaction.batch("COMMIT"), self.watcher.find_nodes(&transaction)));
        let committed = committed.await;
        self.tally.commits.fetch_add(1, Ordering::Relaxed);
        let (is_committed, nodes) = match committed {
            Ok((Ok(()), nodes)) => {
                transaction.is_clean_again();
                (true, nodes.ok())
            }
            // The COMMIT itself was refused.
            Ok((Err(failure @ Failure::Postgres(_)), _)) if was_refused(&failure) => {
                self.roll_back(transaction, &failure).await;
                return Ok(Tried::Failed(failure));
            }
            Ok((Err(_), _)) | Err(_) => (false, None),
        };
        let (connection, changed) = transaction.into_parts();
        // It goes back to the pool, or is thrown away there.
        drop(connection);
        let settled = if is_committed { Ok(true) } else { self.settle(&receipt).await };
        // Whether or not it was committed: one read more than needed does no harm.
        self.cache.change(&changed);
        if !settled? {
            return Err(unavailable(LinkError::Late(COMMIT_WITHIN)));
        }
        if !changed.is_empty() {
            self.watcher.wait_for_others(nodes).await;
        }
        Ok(Tried::Committed(value))
    }

    async fn roll_back(&self, transaction: Transaction, failure: &Failure) {
        if failure.remedy() != Remedy::Reconnect
            && let Ok(Ok(())) = timeout(COMMIT_WITHIN, transaction.batch("ROLLBACK")).await
        {
            transaction.is_clean_again();
        }
    }

    /// Finds out whether a transaction was committed, and sees to it that it is not from now on where it was not.
    async fn settle(&self, receipt: &Receipt) -> Result<bool, RepositoryError> {
        self.tally.settled.fetch_add(1, Ordering::Relaxed);
        let since = Instant::now();
        while since.elapsed() < SETTLED_WITHIN {
            if let Ok(Ok(is_fence)) = timeout(WORK_WITHIN, self.fence(receipt)).await {
                return Ok(!is_fence);
            }
            sleep(Duration::from_millis(200)).await;
        }
        self.tally.unknown.fetch_add(1, Ordering::Relaxed);
        Err(RepositoryError::OutcomeUnknown(LinkError::NotSettled(SETTLED_WITHIN).into()))
    }

    async fn fence(&self, receipt: &Receipt) -> Result<bool, Failure> {
        let connection = self.pool.get().await?;
        connection.is_in_doubt();
        let id: &[u8] = receipt;
        let is_fence = connection.query_one(FENCE, &[&id]).await?.get(0);
        connection.is_clean_again();
        Ok(is_fence)
    }
}

/// Whether the server has refused a COMMIT, and nothing of it is left; otherwise nobody knows.
fn was_refused(failure: &Failure) -> bool {
    failure.remedy() == Remedy::Again
}

/// How long to wait before the next try: longer each time, and not as long as another that waits, too.
fn backoff(tries: u32) -> Duration {
    let most = 1 << tries.min(7);
    Duration::from_millis(rand::rng().random_range(0..=most))
}
