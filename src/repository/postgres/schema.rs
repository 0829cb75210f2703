//! The schema: creates it in a new database, upgrades an older one, and refuses what is not ours or too new.
//!
//! A migration is one transaction under an advisory lock, so that any number of nodes may start at once. A newer release
//! migrates while older ones go on serving: each version says which is the oldest that can still work on it. What an older
//! one cannot work on comes in a later release, when none is left (expand, then contract).

use tokio_postgres::Client;

use super::error::{OpenError, told};
use crate::repository::{Kept, Upgrade};

/// The version of `schema.sql`; the same as that of SQLite's.
pub const VERSION: i32 = 6;

/// The oldest version whose releases can work on this schema.
pub(super) const OLDEST_SERVING: i32 = 5;

/// The schema of a new database.
const SCHEMA: &str = include_str!("schema.sql");

/// The first version that there is for PostgreSQL.
const FIRST: i32 = 5;

/// The upgrades from each version to the next, beginning with the first.
const UPGRADES: &[&str] = &[
    // What is imported from other systems.
    "ALTER TABLE users ADD COLUMN imported_hash_work BIGINT; \
     CREATE INDEX users_with_imported_hash ON users (imported_hash_work) WHERE imported_hash_work IS NOT NULL; \
     ALTER TABLE tokens ADD COLUMN expires BIGINT; \
     ALTER TABLE tokens ADD COLUMN imported TEXT COLLATE \"C\" CHECK (imported IN ('sha512', 'sha256')); \
     CREATE INDEX imported_tokens ON tokens (imported) WHERE imported IS NOT NULL; \
     CREATE TABLE imported (source TEXT COLLATE \"C\" NOT NULL, source_id TEXT COLLATE \"C\" NOT NULL, \
         fingerprint BYTEA NOT NULL CHECK (length(fingerprint) = 32), has_other_name BOOLEAN NOT NULL, \
         at BIGINT NOT NULL, PRIMARY KEY (source, source_id)); \
     CREATE INDEX imported_with_other_name ON imported (has_other_name) WHERE has_other_name;",
];

/// The advisory lock of migrations: "authtok" in ASCII.
const LOCK: &str = "SELECT pg_advisory_xact_lock(27431030084431723)";

/// What a database is found to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// It has no tables.
    Empty,
    /// It has a schema of ours.
    Version { version: i32, oldest_serving: i32 },
    /// It has other tables.
    Foreign,
    /// It has a schema of ours, and all rows were moved to another store.
    Moved { to: String },
}

/// The mark of a database whose rows were moved to another store: where to, and the `oldest_serving` of before. Until it
/// is taken away no release can serve.
pub(super) const MARK: &str = "CREATE TABLE moved (target TEXT NOT NULL, oldest_serving INTEGER NOT NULL)";

/// Whether, and in which version, the schema is there.
pub(super) async fn find(client: &Client) -> Result<Found, tokio_postgres::Error> {
    let tables = "SELECT to_regclass('schema_version') IS NOT NULL, \
         EXISTS (SELECT 1 FROM pg_class WHERE relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = current_schema()) AND relkind IN ('r', 'p')), \
         to_regclass('schema_version') IS NOT NULL AND to_regclass('moved') IS NOT NULL";
    let row = client.query_one(tables, &[]).await?;
    if row.get(2) {
        return Ok(Found::Moved { to: client.query_one("SELECT target FROM moved", &[]).await?.get(0) });
    }
    match (row.get(0), row.get(1)) {
        (true, _) => {
            let row = client.query_one("SELECT version, oldest_serving FROM schema_version", &[]).await?;
            Ok(Found::Version { version: row.get(0), oldest_serving: row.get(1) })
        }
        (false, true) => Ok(Found::Foreign),
        (false, false) => Ok(Found::Empty),
    }
}

/// Creates the schema or upgrades it. `None` where there was nothing to upgrade.
pub(super) async fn migrate(client: &mut Client, shown: &str) -> Result<Option<Upgrade>, OpenError> {
    let failed = |error: tokio_postgres::Error| OpenError::Failed { shown: shown.to_owned(), why: told(&error) };
    // Without the lock where there is nothing to do.
    if is_current(find(client).await.map_err(failed)?, shown)? {
        return Ok(None);
    }
    let transaction = client.transaction().await.map_err(failed)?;
    transaction.batch_execute("SET LOCAL lock_timeout = 0; SET LOCAL statement_timeout = 0").await.map_err(failed)?;
    transaction.batch_execute(LOCK).await.map_err(failed)?;
    let found = find(transaction.client()).await.map_err(failed)?;
    if is_current(found.clone(), shown)? {
        return Ok(None);
    }
    let from = match found {
        Found::Version { version, .. } => version,
        Found::Empty | Found::Foreign | Found::Moved { .. } => {
            transaction.batch_execute(SCHEMA).await.map_err(failed)?;
            VERSION
        }
    };
    let done = usize::try_from(from - FIRST).unwrap_or_default();
    for upgrade in UPGRADES.iter().skip(done) {
        transaction.batch_execute(upgrade).await.map_err(failed)?;
    }
    let set = format!("DELETE FROM schema_version; INSERT INTO schema_version VALUES ({VERSION}, {OLDEST_SERVING})");
    transaction.batch_execute(&set).await.map_err(failed)?;
    transaction.commit().await.map_err(failed)?;
    let upgrade = Upgrade { path: shown.into(), from, to: VERSION, kept: Kept::NotAsked };
    Ok((from != VERSION).then_some(upgrade))
}

/// Whether nothing needs to be done; refuses what cannot be worked on.
fn is_current(found: Found, shown: &str) -> Result<bool, OpenError> {
    let shown = shown.to_owned();
    match found {
        Found::Empty => Ok(false),
        Found::Moved { to } => Err(OpenError::Moved { shown, to }),
        Found::Foreign => Err(OpenError::NotOurs { shown, why: "there is no table schema_version".to_owned() }),
        Found::Version { version, .. } if version < FIRST => {
            Err(OpenError::NotOurs { shown, why: format!("the version {version} never was") })
        }
        Found::Version { version, oldest_serving } if oldest_serving > VERSION => {
            Err(OpenError::TooNew { shown, version })
        }
        Found::Version { version, .. } => Ok(version >= VERSION),
    }
}
