//! What a store is and holds, the same for every store.

use std::time::Duration;

use crate::repository::backup::TableReport;

/// A store as it is found, whether or not this release can work on it.
#[derive(Clone, Debug)]
pub struct StoreStatus {
    /// The file, or the host and the database.
    pub store: String,
    /// SQLite or PostgreSQL, and its version.
    pub engine: String,
    /// The version of its schema; `None` where there is none.
    pub schema_version: Option<i32>,
    /// The version that this release makes of it.
    pub newest_version: i32,
    /// Where all of it was moved to.
    pub moved_to: Option<String>,
    /// Its tables.
    pub tables: Vec<TableReport>,
    /// `None` for a file.
    pub cluster: Option<ClusterStatus>,
}

impl StoreStatus {
    /// Whether a migration is due.
    #[must_use]
    pub fn is_migration_due(&self) -> bool {
        self.schema_version.is_none_or(|version| version < self.newest_version)
    }
}

/// What only a store has that several nodes share.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the names say it")]
pub struct ClusterStatus {
    /// Those with a live lease. One that nobody asks for anything has none.
    pub nodes: Vec<NodeStatus>,
    /// How many changes the feed holds.
    pub changes: u64,
    pub synchronous_commit: String,
    pub synchronous_standby_names: String,
    /// The standbys, as far as this role may see them.
    pub standbys: Vec<StandbyStatus>,
}

/// A node with a live lease.
#[derive(Clone, Debug)]
pub struct NodeStatus {
    /// For how long a look at the feed is believed.
    pub lease: Duration,
    /// How far apart its looks are: what it knows of the others' changes is as old at most.
    pub lag: Duration,
}

/// A standby that follows the primary.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the names say it")]
pub struct StandbyStatus {
    pub name: String,
    /// `sync`, `quorum`, `async` or `potential`; `None` where this role may not see it.
    pub sync_state: Option<String>,
}
