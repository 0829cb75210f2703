//! What a database is and holds, whether or not this release can work on it; and the mark of a move, taken away.

use std::time::Duration;

use tokio_postgres::Client;

use super::error::{OpenError, told};
use super::open::{connector, outside, reach};
use super::schema::{self, Found};
use super::{PostgresRepository, PostgresSettings, moving};
use crate::repository::moving::TABLES;
use crate::repository::{ClusterStatus, MoveError, NodeStatus, StandbyStatus, StoreStatus, TableReport};

/// For how long the nodes' beats are counted: longer than any lease.
const WATCHED_FOR: Duration = Duration::from_millis(1_200);

const FIND_SERVER: &str = "SELECT current_setting('server_version'), current_setting('synchronous_commit'), \
     current_setting('synchronous_standby_names')";

const FIND_BEATS: &str = "SELECT id, coalesce(pg_sequence_last_value(beats), 0), lease FROM nodes ORDER BY id";

const FIND_STANDBYS: &str = "SELECT coalesce(application_name, ''), sync_state FROM pg_stat_replication \
     ORDER BY application_name";

impl PostgresRepository {
    /// Checks the URL and the certificates of the authorities, and connects to nothing.
    ///
    /// # Errors
    /// [`OpenError`], for what is wrong.
    pub fn check(settings: &PostgresSettings) -> Result<(), OpenError> {
        connector(settings).map(|_| ())
    }

    /// Reads what the database holds. Servers may be using it.
    ///
    /// # Errors
    /// [`OpenError`] where it cannot be reached.
    pub fn status(settings: &PostgresSettings) -> Result<StoreStatus, OpenError> {
        let connector = connector(settings)?;
        let shown = connector.shown().to_owned();
        outside(&shown.clone(), async move {
            let connection = reach(&connector).await?;
            find_status(&connection, &shown).await.map_err(|error| OpenError::Failed { shown, why: told(&error) })
        })
    }

    /// Takes the mark of a move away. Answers where the database was moved to; `None` where it has no mark.
    ///
    /// # Errors
    /// [`MoveError`]. The database is then as it was before.
    pub fn reopen(settings: &PostgresSettings) -> Result<Option<String>, MoveError> {
        let connector = connector(settings)?;
        let shown = connector.shown().to_owned();
        outside(&shown.clone(), async move {
            let mut connection = reach(&connector).await?;
            Ok(moving::reopen(&mut connection, &shown).await)
        })?
    }
}

async fn find_status(client: &Client, shown: &str) -> Result<StoreStatus, tokio_postgres::Error> {
    let server = client.query_one(FIND_SERVER, &[]).await?;
    let found = schema::find(client).await?;
    let mut status = StoreStatus {
        store: shown.to_owned(),
        engine: format!("PostgreSQL {}", server.get::<_, String>(0)),
        schema_version: None,
        newest_version: schema::VERSION,
        moved_to: None,
        tables: Vec::new(),
        cluster: None,
    };
    match found {
        Found::Empty | Found::Foreign => return Ok(status),
        Found::Moved { to } => status.moved_to = Some(to),
        Found::Version { .. } => {}
    }
    // A large table takes a while to count.
    client.batch_execute("SET statement_timeout = 0").await?;
    status.schema_version = Some(client.query_one("SELECT version FROM schema_version", &[]).await?.get(0));
    for table in &TABLES {
        let rows = count(client, table.name).await?;
        status.tables.push(TableReport { name: table.name.to_owned(), rows });
    }
    status.tables.sort_by(|one, other| one.name.cmp(&other.name));
    let standbys = client.query(FIND_STANDBYS, &[]).await?;
    status.cluster = Some(ClusterStatus {
        nodes: find_nodes(client).await?,
        changes: count(client, "changes").await?,
        synchronous_commit: server.get(1),
        synchronous_standby_names: server.get(2),
        standbys: standbys.iter().map(|row| StandbyStatus { name: row.get(0), sync_state: row.get(1) }).collect(),
    });
    Ok(status)
}

async fn count(client: &Client, table: &str) -> Result<u64, tokio_postgres::Error> {
    let row = client.query_one(&format!("SELECT count(*) FROM {table}"), &[]).await?;
    Ok(row.get::<_, i64>(0).unsigned_abs())
}

/// The nodes whose beats grow.
async fn find_nodes(client: &Client) -> Result<Vec<NodeStatus>, tokio_postgres::Error> {
    let before = client.query(FIND_BEATS, &[]).await?;
    if before.is_empty() {
        return Ok(Vec::new());
    }
    tokio::time::sleep(WATCHED_FOR).await;
    let now = client.query(FIND_BEATS, &[]).await?;
    let beats = |of: &tokio_postgres::Row| (of.get::<_, i64>(0), of.get::<_, i64>(1));
    let before: Vec<_> = before.iter().map(beats).collect();
    let read = |row: &tokio_postgres::Row| {
        let (id, beat) = beats(row);
        let earlier = before.iter().find(|(node, _)| *node == id).map_or(0, |(_, beat)| *beat);
        let looks = u32::try_from(beat - earlier).ok().filter(|looks| *looks > 0)?;
        let lease = Duration::from_millis(row.get::<_, i64>(2).unsigned_abs());
        Some(NodeStatus { lease, lag: WATCHED_FOR / looks })
    };
    Ok(now.iter().filter_map(read).collect())
}
