//! Prunes what only the nodes read: the feed of changes, the receipts, and the rows of nodes that are gone.
//!
//! Nobody needs what was committed a minute ago: a node that has not looked for half of it forgets everything, and whoever
//! looks for a receipt gives up sooner. What is old is told by a snapshot that was taken so long ago by the monotonic
//! clock: each row of a transaction below its xmin was there then. No wall clock is asked. Every node does it, and those
//! that find another at it leave it to that one.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::error::{Failure, LinkError};
use super::pool::{Connection, Instance, Pool, Pooled};
use super::rows::get;
use super::sql;
use super::watcher::FEED_KEPT_FOR;
use crate::system::clock::{Clock, Monotonic};
use crate::system::error_chain::Chain;

/// How many rows are deleted in one transaction.
const PRUNED_AT_ONCE: i64 = 5_000;

/// How long a transaction of it may take.
const PRUNED_WITHIN: Duration = Duration::from_secs(10);

/// Prunes, for as long as the store is open.
pub(super) struct Pruner {
    pool: Arc<Pool>,
    clock: Clock,
    seen: Option<Seen>,
}

/// What a server was seen to hold.
struct Seen {
    instance: Instance,
    at: Monotonic,
    /// The xmin of a snapshot: what every transaction below it has left is in that.
    xmin: String,
    /// Each node's beat and whether it is leaving, and since when that is known to be so.
    nodes: HashMap<i64, ((i64, bool), Monotonic)>,
    /// The sequences that no node has.
    unused: HashSet<String>,
}

/// What is deleted beside the feed and the receipts.
struct Gone {
    /// Nodes that have not beaten for a minute. They are told to leave first, and deleted a minute later: a beat that is
    /// under way as they are told gives a lease that has run out by then.
    silent: Vec<i64>,
    leaving: Vec<i64>,
    /// A minute after their nodes: nobody asks for them any more.
    sequences: Vec<String>,
}

impl Pruner {
    pub(super) fn new(pool: Arc<Pool>) -> Self {
        Self { pool, clock: Clock::system(), seen: None }
    }

    /// Never returns.
    pub(super) async fn run(mut self) {
        loop {
            sleep(FEED_KEPT_FOR).await;
            if let Err(failure) = self.prune().await {
                // What was not pruned now is pruned in a minute.
                log::warn!("the feed of changes was not pruned: {}", Chain(&failure.mapped()));
            }
        }
    }

    async fn prune(&mut self) -> Result<(), Failure> {
        let connection = self.pool.get().await?;
        connection.is_in_doubt();
        let mut now = within(look(&connection, &self.clock)).await?;
        connection.is_clean_again();
        drop(connection);
        let Some(before) = self.seen.take().filter(|before| before.instance == now.instance) else {
            // On another server the numbers of transactions may mean others.
            self.seen = Some(now);
            return Ok(());
        };
        for (id, (beat, since)) in &mut now.nodes {
            if let Some((_, earlier)) = before.nodes.get(id).filter(|(known, _)| known == beat) {
                *since = *earlier;
            }
        }
        if now.at.since(before.at) < FEED_KEPT_FOR {
            self.seen = Some(before);
            return Ok(());
        }
        let gone = |is_leaving: bool| {
            let is_gone = |((_, leaving), since): &((i64, bool), Monotonic)| {
                *leaving == is_leaving && now.at.since(*since) >= FEED_KEPT_FOR
            };
            now.nodes.iter().filter(|(_, node)| is_gone(node)).map(|(id, _)| *id).collect()
        };
        let sequences = now.unused.intersection(&before.unused).cloned().collect();
        let gone = Gone { silent: gone(false), leaving: gone(true), sequences };
        let instance = now.instance;
        self.seen = Some(now);
        self.delete(instance, &before.xmin, &gone).await
    }

    async fn delete(&self, instance: Instance, xmin: &str, gone: &Gone) -> Result<(), Failure> {
        loop {
            let connection = self.pool.get().await?;
            if connection.instance != instance {
                return Err(LinkError::OtherServer.into());
            }
            connection.is_in_doubt();
            let is_done = within(delete_some(&connection, xmin, gone)).await?;
            connection.is_clean_again();
            if is_done {
                self.drop_sequences(connection, &gone.sequences).await;
                return Ok(());
            }
        }
    }

    /// Each by itself, and without waiting: a dump holds them all to its end. What is not dropped now is dropped in a minute.
    async fn drop_sequences(&self, connection: Pooled, names: &[String]) {
        for name in names {
            let drop = format!("SET LOCAL lock_timeout = 100; DROP SEQUENCE IF EXISTS {name}");
            if let Err(failure) = within(connection.batch(&drop)).await {
                log::debug!("the sequence {name} was not dropped: {}", Chain(&failure.mapped()));
            }
        }
    }
}

async fn within<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    timeout(PRUNED_WITHIN, work).await.unwrap_or_else(|_| Err(LinkError::Late(PRUNED_WITHIN).into()))
}

/// What there is.
async fn look(connection: &Connection, clock: &Clock) -> Result<Seen, Failure> {
    let xmin = get(&connection.query_one(sql::FIND_XMIN, &[]).await?, 0)?;
    let rows = connection.query(sql::LIST_BEATS, &[]).await?;
    let unused = connection.query(sql::LIST_UNUSED_BEATS, &[]).await?;
    let unused = unused.iter().map(|row| get(row, 0)).collect::<Result<_, Failure>>()?;
    // Behind both: neither is younger than it is said to be.
    let at = clock.monotonic();
    let nodes = rows
        .iter()
        .map(|row| Ok((get(row, 0)?, ((get(row, 1)?, get(row, 2)?), at))))
        .collect::<Result<_, Failure>>()?;
    Ok(Seen { instance: connection.instance, at, xmin, nodes, unused })
}

/// Deletes a bounded number of rows; `true` where none are left, or another node is at it.
async fn delete_some(connection: &Connection, xmin: &str, gone: &Gone) -> Result<bool, Failure> {
    connection.batch("BEGIN").await?;
    let is_locked: bool = get(&connection.query_one(sql::TRY_LOCK_PRUNING, &[]).await?, 0)?;
    let mut is_done = true;
    if is_locked {
        for statement in [sql::PRUNE_CHANGES, sql::PRUNE_RECEIPTS] {
            let deleted = connection.execute(statement, &[&xmin, &PRUNED_AT_ONCE]).await?;
            is_done &= i64::try_from(deleted).is_ok_and(|deleted| deleted < PRUNED_AT_ONCE);
        }
        connection.execute(sql::DELETE_NODES, &[&gone.leaving]).await?;
        connection.execute(sql::EXPEL_NODES, &[&gone.silent]).await?;
    }
    connection.batch("COMMIT").await?;
    Ok(is_done)
}
