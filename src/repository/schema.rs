//! Makes a new database, brings an older one up to date, and refuses one that is not ours.
//!
//! `PRAGMA user_version` numbers the schema and `PRAGMA application_id` says whose file it is. Everything that one start
//! has to do happens in one transaction: a process killed half-way leaves the file as it was.

use rusqlite::{Connection, TransactionBehavior};
use thiserror::Error;

/// The version of `schema.sql`.
pub const VERSION: i32 = 2;

/// What brings a file from each version to the next, the first from 1 to 2. A new file needs none of them.
const UPGRADES: [&str; 1] = [
    // Sessions are listed newest first.
    "DROP INDEX tokens_by_user; CREATE INDEX tokens_by_user ON tokens (user_id, created);",
];

/// `AuTk` in ASCII: marks the file as ours, for us and for `file(1)`.
pub const APPLICATION_ID: i32 = 0x4175_546b;

/// The whole current schema.
const SCHEMA: &str = include_str!("../../schema.sql");

/// Why a file cannot be used.
#[derive(Debug, Error)]
pub enum SchemaError {
    /// A newer release wrote it: an older one must not guess what its columns mean.
    #[error("its schema is version {found}, and this release knows versions up to {VERSION}: use a newer release")]
    Newer {
        /// The version that the file has.
        found: i32,
    },
    /// A SQLite database, but of another program.
    #[error("it is a database of another program")]
    Foreign,
    /// SQLite could not read or write it.
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
}

/// Says whether the file may be used, changing nothing.
///
/// # Errors
/// [`SchemaError`] when it may not.
pub fn check(connection: &Connection) -> Result<(), SchemaError> {
    let application_id: i32 = connection.query_row("PRAGMA application_id", [], |row| row.get(0))?;
    let version: i32 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    let is_empty = application_id == 0 && version == 0 && tables == 0;
    let is_ours = application_id == APPLICATION_ID && version > 0;
    if !is_ours && !is_empty {
        return Err(SchemaError::Foreign);
    }
    if version > VERSION {
        return Err(SchemaError::Newer { found: version });
    }
    Ok(())
}

/// Makes the schema where there is none yet, or brings an older one up to date. One transaction: all of it, or none.
///
/// # Errors
/// [`SchemaError`] when the file may not be used or SQLite fails; the file is then as it was.
pub fn create_or_upgrade(connection: &mut Connection) -> Result<(), SchemaError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    check(&transaction)?;
    let version: i32 = transaction.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if version == 0 {
        transaction.execute_batch(SCHEMA)?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    } else {
        let done = usize::try_from(version - 1).unwrap_or_default();
        for upgrade in UPGRADES.iter().skip(done) {
            transaction.execute_batch(upgrade)?;
        }
    }
    if version != VERSION {
        transaction.pragma_update(None, "user_version", VERSION)?;
    }
    transaction.commit()?;
    Ok(())
}
