//! Write transactions: begun, tried again where another was in the way, committed, and settled where the connection was
//! lost while the COMMIT was under way.
//!
//! Each transaction leaves a receipt, a row under a random id. Where nobody knows whether a COMMIT has succeeded, the
//! receipt says so: [`Writer::settle`] puts a row of the same id in its place that says "not committed". If that succeeds, the
//! transaction is not committed and never will be, for its own receipt could not be inserted any more. If it finds the
//! receipt, the transaction is committed. While the transaction is still under way, PostgreSQL makes it wait.
//!
//! What has changed a user is acknowledged when every node knows of it: see [`super::watcher`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::join;
use rand::RngExt as _;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::error::{Failure, LinkError, Remedy};
use super::pool::{Instance, Pool, Pooled, unavailable};
use super::transaction::Transaction;
use super::unit::Work;
use super::watcher::{FEED_KEPT_FOR, Watcher};
use crate::repository::session_cache::SessionCache;
use crate::repository::{Notices, RepositoryError};
use crate::system::clock::Monotonic;

/// How often a transaction is tried, and for how long: none is begun later.
const TRIES: u32 = 10;
const BEGUN_WITHIN: Duration = Duration::from_secs(5);

/// How long the work of a transaction may take, and how long its COMMIT.
const WORK_WITHIN: Duration = Duration::from_secs(3);
const COMMIT_WITHIN: Duration = Duration::from_secs(2);

/// How long a client waits, nearly always, until it is told at least that the outcome is unknown.
const ANSWERED_WITHIN: Duration = Duration::from_secs(10);

/// How long after a COMMIT its receipt is there for certain: one that was pruned tells nothing. The time is that of the
/// clock that goes on while the machine is suspended.
const RECEIPT_GOOD_FOR: Duration = FEED_KEPT_FOR.checked_div(2).unwrap();

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
enum Tried {
    Committed,
    Failed(Failure),
}

impl Writer {
    /// Runs `work` in a transaction, as often as it takes, and waits until its changes are durable and known to every
    /// node.
    pub(super) async fn write(&self, work: &dyn Work<Transaction>) -> Result<(), RepositoryError> {
        let since = Instant::now();
        let mut tries = 0;
        self.watcher.ensure_looking().map_err(unavailable)?;
        loop {
            tries += 1;
            let connection = timeout_at(since + BEGUN_WITHIN, self.pool.get()).await;
            let connection = connection.unwrap_or_else(|_| Err(LinkError::PoolTimeout(BEGUN_WITHIN).into()));
            let connection = connection.map_err(Failure::mapped)?;
            let failure = match self.attempt(connection, since + ANSWERED_WITHIN, work).await? {
                Tried::Committed => return Ok(()),
                Tried::Failed(failure) => failure,
            };
            if failure.remedy() == Remedy::Report || tries >= TRIES || since.elapsed() >= BEGUN_WITHIN {
                return Err(failure.mapped());
            }
            self.tally.retries.fetch_add(1, Ordering::Relaxed);
            sleep(backoff(tries)).await;
        }
    }

    async fn attempt(
        &self,
        connection: Pooled,
        deadline: Instant,
        work: &dyn Work<Transaction>,
    ) -> Result<Tried, RepositoryError> {
        let instance = connection.instance;
        let transaction = Transaction::new(connection, self.notices);
        let receipt: Receipt = rand::rng().random();
        transaction.is_in_doubt();
        let worked = timeout(WORK_WITHIN, async {
            // Before anything is sent: a statement that had to be prepared first would come behind the work's.
            transaction.prepare_cached(INSERT_RECEIPT).await?;
            // In one go: the server runs them one after the other.
            let id: &[u8] = &receipt;
            let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 1] = [&id];
            let begun = join(transaction.batch(BEGIN), transaction.execute(INSERT_RECEIPT, &parameters));
            let ((begun, receipt), outcome) = join(begun, work.run(&transaction)).await;
            match (begun, &receipt) {
                // Each statement was a transaction of its own.
                (Err(failure), Ok(_)) => {
                    return Err(RepositoryError::OutcomeUnknown(Arc::new(failure.mapped())).into());
                }
                (begun, _) => begun?,
            }
            receipt?;
            outcome
        });
        let worked = worked.await.unwrap_or_else(|_| Err(LinkError::Late(WORK_WITHIN).into()));
        match worked {
            Ok(()) => {}
            Err(Failure::Repository(unknown @ RepositoryError::OutcomeUnknown(_))) => return Err(unknown),
            Err(failure) => {
                roll_back(transaction, &failure).await;
                return Ok(Tried::Failed(self.confirmed(failure, instance).await));
            }
        }
        let committing_since = self.watcher.now();
        let committed =
            timeout(COMMIT_WITHIN, join(transaction.batch("COMMIT"), self.watcher.find_nodes(&transaction)));
        let committed = committed.await;
        let (is_committed, nodes) = match committed {
            Ok((Ok(()), nodes)) => {
                transaction.is_clean_again();
                (true, nodes.ok())
            }
            // The COMMIT itself was refused.
            Ok((Err(failure @ Failure::Postgres(_)), _)) if was_refused(&failure) => {
                roll_back(transaction, &failure).await;
                return Ok(Tried::Failed(failure));
            }
            Ok((Err(_), _)) | Err(_) => (false, None),
        };
        let (connection, changed) = transaction.into_parts();
        // It goes back to the pool, or is thrown away there.
        drop(connection);
        let settled = if is_committed { Ok(true) } else { self.settle(&receipt, committing_since, deadline).await };
        // Whether or not it was committed: one read more than needed does no harm.
        self.cache.change(&changed);
        if !settled? {
            return Ok(Tried::Failed(LinkError::NotCommitted.into()));
        }
        self.tally.commits.fetch_add(1, Ordering::Relaxed);
        if !changed.is_empty() {
            self.watcher.wait_for_others(nodes, instance).await;
        }
        Ok(Tried::Committed)
    }

    /// What the work has failed by. It refuses by what it has read, which no COMMIT has confirmed: so a lease must, as for
    /// any other read.
    async fn confirmed(&self, failure: Failure, instance: Instance) -> Failure {
        match failure {
            Failure::Repository(_) => self.watcher.confirm(instance).await.map_or_else(Failure::from, |()| failure),
            failure => failure,
        }
    }

    /// Finds out whether a transaction was committed, and sees to it that it is not from now on where it was not.
    async fn settle(
        &self,
        receipt: &Receipt,
        committing_since: Monotonic,
        deadline: Instant,
    ) -> Result<bool, RepositoryError> {
        self.tally.settled.fetch_add(1, Ordering::Relaxed);
        let settled = timeout_at(deadline.max(Instant::now() + COMMIT_WITHIN), async {
            loop {
                if let Ok(Ok(is_fence)) = timeout(WORK_WITHIN, self.fence(receipt)).await {
                    return !is_fence;
                }
                sleep(Duration::from_millis(200)).await;
            }
        });
        match settled.await {
            Ok(is_committed) if self.watcher.now().since(committing_since) < RECEIPT_GOOD_FOR => Ok(is_committed),
            _ => {
                self.tally.unknown.fetch_add(1, Ordering::Relaxed);
                Err(RepositoryError::OutcomeUnknown(LinkError::NotSettled(ANSWERED_WITHIN).into()))
            }
        }
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

/// Ends a transaction that was not committed, so that its connection can be used again. One that does not answer is
/// thrown away: PostgreSQL ends what was begun on it.
async fn roll_back(transaction: Transaction, failure: &Failure) {
    if failure.remedy() != Remedy::Reconnect
        && !failure.is_late()
        && let Ok(Ok(())) = timeout(COMMIT_WITHIN, transaction.batch("ROLLBACK")).await
    {
        transaction.is_clean_again();
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
