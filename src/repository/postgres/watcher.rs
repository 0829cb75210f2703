//! The watcher: looks at the feed of changes, renews this node's lease, and lets a change be acknowledged only when every
//! node knows of it. The protocol and its proof are in docs/decisions/0016-leases-across-nodes.md.
//!
//! A look is three statements on a connection of its own, one after the other, each a transaction:
//!
//! 1. the beat: this node's sequence gets a greater number. Its COMMIT is confirmed as every write is, which a primary that
//!    has been deposed cannot do;
//! 2. the feed: what was changed since the last look;
//! 3. the other nodes' beats.
//!
//! A lease holds for [`MAX_STALENESS`] from the beginning of a look. Whoever changes a user commits, reads all beats, and
//! waits until each other node has begun and ended a look since, or its lease has run out. What no cache answers is
//! believed where a lease on the same server holds, or where a look at that server has succeeded that began later.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use rand::RngExt as _;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::error::{Failure, LinkError};
use super::pool::{Connection, Instance, Pool};
use super::protocol::{has_looked_since, has_run_out, runs_out_in};
use super::reach::why_not;
use super::{schema, sql};
use crate::domain::user::UserId;
use crate::repository::lease::Lease;
use crate::repository::session_cache::{Change, SessionCache};
use crate::system::clock::Monotonic;
use crate::system::error_chain::Chain;

/// The lease of a node: how long what it has read may be believed, from the beginning of a look on.
pub const MAX_STALENESS: Duration = Duration::from_millis(250);

/// How many looks fit in a lease: a node looks at the feed that often, while it is asked.
const LOOKS_A_LEASE: u32 = 10;

/// The longest lease that a node may have. A later release must not have a longer one while this one runs beside it.
pub(super) const LONGEST_LEASE: Duration = Duration::from_secs(1);

/// How long the looks go on after the last time that somebody asked.
const LINGER: Duration = Duration::from_secs(5);

/// How long to wait at most before the next look after one that failed.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// How long a look may take.
const LOOK_WITHIN: Duration = Duration::from_secs(3);

/// How long an answer waits for a look that confirms it; and how long looks may fail until nobody is kept waiting.
const CONFIRMED_WITHIN: Duration = Duration::from_secs(3);

/// How many changes are read one by one; with more, everything is forgotten.
const MOST_CHANGES: i64 = 10_000;

/// After how long without a look the feed may have been pruned: everything is forgotten.
pub(super) const FEED_KEPT_FOR: Duration = Duration::from_secs(60);

/// Setting a sequence is confirmed by the COMMIT as a changed row is, leaves no dead version of a row, and is seen by others
/// at once. Nothing comes back where the row is gone or is leaving.
const BEAT: &str = "SELECT setval(beats, $2) FROM nodes WHERE id = $1 AND NOT is_leaving";

/// One row a change that was not visible at the last look; or one without a change. Numbers of transactions are not in the
/// order of their commits, so the whole snapshot is remembered: what it did not see is what had not begun by then, or was
/// under way. A number that was not given yet is of a row that was restored from a dump of another server.
const READ_FEED: &str = "WITH now AS MATERIALIZED (SELECT pg_current_snapshot() AS snapshot, \
         (SELECT oldest_serving FROM schema_version) AS oldest_serving), \
     found AS (SELECT user_id, is_text FROM changes WHERE xid >= pg_snapshot_xmax($1::text::pg_snapshot) \
             AND xid < pg_snapshot_xmax(pg_current_snapshot()) \
         UNION ALL SELECT user_id, is_text FROM changes \
         WHERE xid IN (SELECT pg_snapshot_xip($1::text::pg_snapshot))) \
     SELECT snapshot::text, oldest_serving, user_id, is_text FROM now LEFT JOIN found ON TRUE LIMIT $2";

const BEGIN_FEED: &str = "SELECT pg_current_snapshot()::text";

const FIND_NODES: &str = "SELECT id, coalesce(pg_sequence_last_value(beats), 0), lease FROM nodes";

const LEAVE: &str = "DELETE FROM nodes WHERE id = $1";

/// The beats of all nodes, by their ids.
pub(super) type Beats = HashMap<i64, Beat>;

/// A node's last beat, and for how long a look of this node is believed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Beat {
    number: i64,
    lease: Duration,
}

/// Looks at the feed.
pub(super) struct Watcher {
    /// This node's id: a random number, another one for each connection that it looks by. So nothing that arrives late on
    /// an earlier one counts.
    node: AtomicI64,
    pool: Arc<Pool>,
    lease: Arc<Lease>,
    cache: Arc<SessionCache>,
    /// Whether it looks: a command does not.
    is_on: bool,
    wake: Notify,
    is_closed: AtomicBool,
    /// The server that the last look was at.
    instance: AtomicI64,
    /// How the last look went, and what it saw of the other nodes.
    view: watch::Sender<View>,
    /// Whether there were tokens of other systems as of the last look.
    has_imported_tokens: AtomicBool,
    /// The schema's `oldest_serving` as of the last look.
    oldest_serving: AtomicI32,
    pub(super) tally: Tally,
}

/// Counters, for the metrics.
#[derive(Default)]
pub(super) struct Tally {
    pub(super) looks: AtomicU64,
    pub(super) lost: AtomicU64,
    pub(super) failovers: AtomicU64,
    /// Changes by other nodes and by this one that were read.
    pub(super) changes: AtomicU64,
    /// When the last look began, in the lease's time.
    last: AtomicI64,
    /// Whether nobody asks for looks.
    is_resting: AtomicBool,
}

/// How the last look went, and what it saw of the nodes.
#[derive(Clone, Debug, Default)]
struct View {
    /// When the last look that succeeded began, and at which server it was.
    last: Option<(Monotonic, Instance)>,
    /// When the first of the looks began that have failed since.
    failing_since: Option<Monotonic>,
    nodes: HashMap<i64, Seen>,
}

/// A node's beat, and since when it is known to be that.
#[derive(Clone, Copy, Debug)]
struct Seen {
    number: i64,
    since: Monotonic,
}

/// What a run of looks on one connection has in common.
struct Link {
    connection: Connection,
    /// Its row in `nodes`.
    node: i64,
    /// The snapshot of the last look; `None` before the first.
    snapshot: Option<String>,
    /// When the last look began.
    looked: Monotonic,
}

impl Watcher {
    pub(super) fn new(pool: Arc<Pool>, cache: Arc<SessionCache>, lease: Arc<Lease>, is_on: bool) -> Self {
        Self {
            node: AtomicI64::new(0),
            pool,
            lease,
            cache,
            is_on,
            wake: Notify::new(),
            is_closed: AtomicBool::new(false),
            instance: AtomicI64::new(0),
            view: watch::Sender::default(),
            has_imported_tokens: AtomicBool::new(true),
            oldest_serving: AtomicI32::new(0),
            tally: Tally::default(),
        }
    }

    /// The cache, for a look-up. The looks go on for as long as there are any.
    pub(super) fn cache(&self) -> &SessionCache {
        self.ask();
        &self.cache
    }

    /// Whether there are tokens of other systems; `None` where no lease says so. An import is acknowledged when every node
    /// has looked.
    pub(super) fn has_imported_tokens(&self) -> Option<bool> {
        self.ask();
        self.lease.holds().then(|| self.has_imported_tokens.load(Ordering::SeqCst))
    }

    /// Has the looks begin where they have ended.
    fn ask(&self) {
        if self.lease.needs_look() {
            self.wake.notify_one();
        }
    }

    /// How often it looks.
    fn pace(&self) -> Duration {
        self.lease.max_staleness() / LOOKS_A_LEASE
    }

    /// The time by the clock of the lease.
    pub(super) fn now(&self) -> Monotonic {
        self.lease.now()
    }

    /// How long ago the last look began; `None` before the first, and while nobody asks for any.
    pub(super) fn lag(&self) -> Option<Duration> {
        let last = self.tally.last.load(Ordering::Relaxed);
        if last == 0 || self.tally.is_resting.load(Ordering::Relaxed) {
            return None;
        }
        let now = self.lease.now().since(Monotonic::default());
        Some(now.saturating_sub(Duration::from_nanos(u64::try_from(last).unwrap_or_default())))
    }

    /// Refuses where looks have failed for so long that nothing could be confirmed: nobody is kept waiting then.
    pub(super) fn ensure_looking(&self) -> Result<(), LinkError> {
        if !self.is_on {
            return Ok(());
        }
        let failing_since = self.view.borrow().failing_since;
        if failing_since.is_none_or(|since| self.lease.now().since(since) < CONFIRMED_WITHIN) {
            return Ok(());
        }
        self.ask();
        Err(LinkError::Late(CONFIRMED_WITHIN))
    }

    /// Waits until what was read of this server before can be believed: until a lease on it holds; or, where looks take
    /// longer than a lease lasts, until one at it has succeeded that began after the read.
    pub(super) async fn confirm(&self, instance: Instance) -> Result<(), LinkError> {
        if !self.is_on {
            return Ok(());
        }
        let asked_at = self.lease.now();
        let deadline = Instant::now() + CONFIRMED_WITHIN;
        let mut view = self.view.subscribe();
        loop {
            let confirmed = if self.lease.holds() {
                // In this order: a look notes the server before it renews the lease.
                Some(self.instance.load(Ordering::SeqCst))
            } else {
                view.borrow().last.filter(|(began, _)| *began >= asked_at).map(|(_, server)| server)
            };
            if let Some(server) = confirmed {
                return if server == instance { Ok(()) } else { Err(LinkError::OtherServer) };
            }
            if self.is_closed.load(Ordering::SeqCst) {
                return Err(LinkError::Closed);
            }
            self.ask();
            match timeout_at(deadline, view.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return Err(LinkError::Unconfirmed),
            }
        }
    }

    /// The beats of all nodes, as of now.
    pub(super) async fn find_nodes(&self, connection: &Connection) -> Result<Beats, Failure> {
        Ok(read_nodes(&connection.query(FIND_NODES, &[]).await?))
    }

    /// Waits until every node knows of what was committed on this server before these beats were read on it; `None` where
    /// they could not be.
    pub(super) async fn wait_for_others(&self, beats: Option<Beats>, instance: Instance) {
        let read_at = Instant::now();
        let Some(mut waiting) = beats else { return sleep_until(read_at + runs_out_in(LONGEST_LEASE)).await };
        // This node's own cache knows of it already. But its reads are believed by its lease: one on another server, which
        // has been deposed then, must run out as any other node's.
        if self.instance.load(Ordering::SeqCst) == instance {
            waiting.remove(&self.node.load(Ordering::SeqCst));
        }
        let mut view = self.view.subscribe();
        let now = self.lease.now();
        {
            let seen = &view.borrow_and_update().nodes;
            let has_run_out =
                |beat: &Beat, seen: &Seen| has_run_out(beat.number, seen.number, now.since(seen.since), beat.lease);
            waiting.retain(|id, beat| !seen.get(id).is_some_and(|seen| has_run_out(beat, seen)));
        }
        let Some(longest) = waiting.values().map(|beat| beat.lease).max() else { return };
        let deadline = read_at + runs_out_in(longest.min(LONGEST_LEASE));
        if !self.is_on {
            return sleep_until(deadline).await;
        }
        loop {
            // So that this node looks, too.
            self.ask();
            if !matches!(timeout_at(deadline, view.changed()).await, Ok(Ok(()))) {
                return sleep_until(deadline).await;
            }
            let seen = &view.borrow_and_update().nodes;
            waiting.retain(|id, beat| !seen.get(id).is_some_and(|seen| has_looked_since(beat.number, seen.number)));
            if waiting.is_empty() {
                return;
            }
        }
    }

    /// Looks for as long as somebody asks. It returns when the store is closed, and fails when it cannot go on.
    pub(super) async fn run(&self) -> Result<(), String> {
        let mut link: Option<Link> = None;
        let mut beat = 0;
        let mut failures: u32 = 0;
        let mut unasked_since = Instant::now();
        while !self.is_closed.load(Ordering::SeqCst) {
            if self.lease.is_in_use() {
                unasked_since = Instant::now();
            } else if unasked_since.elapsed() >= LINGER {
                self.lease.end();
                // Whoever asks next waits for a look.
                self.view.send_modify(|view| view.failing_since = None);
                self.tally.is_resting.store(true, Ordering::Relaxed);
                self.wake.notified().await;
                self.tally.is_resting.store(false, Ordering::Relaxed);
                unasked_since = Instant::now();
                continue;
            }
            let (began, began_at) = (Instant::now(), self.lease.now());
            beat += 1;
            if let Err(error) = self.look(&mut link, beat, began_at).await {
                // At once: the beat may have been counted, and others take the next one as a sign that what was committed
                // before this look is known here.
                if self.lease.end() {
                    self.tally.lost.fetch_add(1, Ordering::Relaxed);
                }
                link = None;
                let is_first = self.view.borrow().failing_since.is_none();
                if is_first {
                    log::warn!("the feed of changes cannot be read: {error}");
                }
                failures = if is_first { 1 } else { failures.saturating_add(1) };
                self.view.send_modify(|view| _ = view.failing_since.get_or_insert(began_at));
                // Longer each time: each try makes a row and a sequence, where it gets so far.
                sleep((self.pace() * 4 * 2_u32.pow(failures.min(6) - 1)).min(LONGEST_PAUSE)).await;
                continue;
            }
            let oldest = self.oldest_serving.load(Ordering::SeqCst);
            if oldest > schema::VERSION {
                return Err(if oldest == i32::MAX {
                    "the database was moved elsewhere: authtokens database status says where to".to_owned()
                } else {
                    format!("the database was upgraded to a schema that serves releases from {oldest} on")
                });
            }
            sleep_until(began + self.pace()).await;
        }
        self.lease.end();
        if let Some(link) = link {
            let _ = timeout(LOOK_WITHIN, link.connection.execute(LEAVE, &[&link.node])).await;
        }
        Ok(())
    }

    async fn look(&self, link: &mut Option<Link>, beat: i64, began: Monotonic) -> Result<(), String> {
        let late = |_| LinkError::Late(LOOK_WITHIN).to_string();
        let linked = if let Some(linked) = link {
            linked
        } else {
            let joined = timeout(LOOK_WITHIN, self.join(began)).await.map_err(late)?;
            link.insert(joined?)
        };
        let looked = timeout(LOOK_WITHIN, self.look_by(linked, beat)).await.map_err(late)?;
        let (changes, nodes) = looked.map_err(|failure| Chain(&failure.mapped()).to_string())?;
        let seen_at = self.lease.now();
        match changes {
            // Before the lease is renewed.
            Some(changes) if began.since(linked.looked) < FEED_KEPT_FOR / 2 => {
                self.tally.changes.fetch_add(u64::try_from(changes.len()).unwrap_or(u64::MAX), Ordering::Relaxed);
                self.apply(&changes);
            }
            _ => self.cache.change_all(),
        }
        let instance = linked.connection.instance;
        let before = self.instance.swap(instance, Ordering::SeqCst);
        if before != 0 && before != instance {
            log::warn!("PostgreSQL has another primary now: {}", self.pool.connector().shown());
            self.tally.failovers.fetch_add(1, Ordering::Relaxed);
            self.pool.connector().forget_all();
        }
        if self.lease.has_lapsed(began) {
            self.tally.lost.fetch_add(1, Ordering::Relaxed);
        }
        linked.looked = began;
        self.lease.looked(began);
        self.tally.looks.fetch_add(1, Ordering::Relaxed);
        let last = i64::try_from(began.since(Monotonic::default()).as_nanos()).unwrap_or(i64::MAX);
        self.tally.last.store(last, Ordering::Relaxed);
        self.view.send_modify(|view| {
            view.last = Some((began, instance));
            view.failing_since = None;
            let known = std::mem::take(&mut view.nodes);
            view.nodes = nodes
                .into_iter()
                .map(|(id, Beat { number, .. })| {
                    let same = known.get(&id).filter(|seen| seen.number == number);
                    (id, Seen { number, since: same.map_or(seen_at, |seen| seen.since) })
                })
                .collect();
        });
        Ok(())
    }

    /// Connects, and makes the row and the sequence of this node, in the place of those that it had. It has no lease now: so
    /// nobody needs to wait for the former ones any more.
    async fn join(&self, began: Monotonic) -> Result<Link, String> {
        let connection = self.pool.connector().connect().await.map_err(|error| why_not(&error))?;
        let node: i64 = rand::rng().random_range(1..i64::MAX);
        let (lease, former) = (self.lease.max_staleness().as_millis(), self.node.load(Ordering::SeqCst));
        let join = format!(
            "CREATE SEQUENCE beats_{node}; GRANT SELECT ON SEQUENCE beats_{node} TO PUBLIC; INSERT INTO nodes (id, lease, beats) VALUES ({node}, {lease}, 'beats_{node}'); \
             DELETE FROM nodes WHERE id = {former}"
        );
        connection.batch(&join).await.map_err(|failure| Chain(&failure.mapped()).to_string())?;
        self.node.store(node, Ordering::SeqCst);
        Ok(Link { connection, node, snapshot: None, looked: began })
    }

    /// The changes since the last look on this connection, `None` where that was the first one or they are too many; and
    /// the beats of all nodes.
    async fn look_by(&self, link: &mut Link, beat: i64) -> Result<(Option<Vec<(i64, bool)>>, Beats), Failure> {
        let connection = &link.connection;
        let beating: [&(dyn ToSql + Sync); 2] = [&link.node, &beat];
        let Some(before) = &link.snapshot else {
            let statements =
                [(BEAT, &beating as &[_]), (BEGIN_FEED, &[]), (FIND_NODES, &[]), (sql::FIND_IMPORTED_TOKEN, &[])];
            let [beaten, begun, nodes, imported] = connection.query_in_order(statements).await?;
            let (Some(_), Some(begun)) = (beaten.first(), begun.first()) else {
                return Err(LinkError::Unconfirmed.into());
            };
            link.snapshot = Some(begun.get(0));
            self.has_imported_tokens.store(!imported.is_empty(), Ordering::SeqCst);
            return Ok((None, read_nodes(&nodes)));
        };
        // In one go: the server runs them one after the other, each as a transaction of its own.
        let limit = MOST_CHANGES + 1;
        let reading: [&(dyn ToSql + Sync); 2] = [before, &limit];
        let statements =
            [(BEAT, &beating as &[_]), (READ_FEED, &reading), (FIND_NODES, &[]), (sql::FIND_IMPORTED_TOKEN, &[])];
        let [beaten, rows, nodes, imported] = connection.query_in_order(statements).await?;
        let (Some(_), Some(first)) = (beaten.first(), rows.first()) else { return Err(LinkError::Unconfirmed.into()) };
        let snapshot: String = first.get(0);
        self.oldest_serving.store(first.get(1), Ordering::SeqCst);
        self.has_imported_tokens.store(!imported.is_empty(), Ordering::SeqCst);
        let is_whole = rows.len() <= usize::try_from(MOST_CHANGES).unwrap_or(usize::MAX);
        let changes = rows.iter().filter_map(|row| Some((row.get::<_, Option<i64>>(2)?, row.get(3)))).collect();
        link.snapshot = Some(snapshot);
        Ok((is_whole.then_some(changes), read_nodes(&nodes)))
    }

    fn apply(&self, changes: &[(i64, bool)]) {
        if changes.iter().any(|(user_id, _)| *user_id == 0) {
            return self.cache.change_all();
        }
        let changes: Vec<_> = changes
            .iter()
            .map(|(user_id, is_text)| (UserId(*user_id), if *is_text { Change::Text } else { Change::Sessions }))
            .collect();
        self.cache.change(&changes);
    }

    /// Ends the lease and the looks.
    pub(super) fn close(&self) {
        self.is_closed.store(true, Ordering::SeqCst);
        self.lease.end();
        // For whoever waits for a look.
        self.view.send_modify(|_| {});
        self.wake.notify_one();
    }
}

fn read_nodes(rows: &[Row]) -> Beats {
    let read = |row: &Row| {
        let lease = Duration::from_millis(u64::try_from(row.get::<_, i64>(2)).unwrap_or(u64::MAX));
        (row.get(0), Beat { number: row.get(1), lease })
    };
    rows.iter().map(read).collect()
}
