//! Makes a new database, brings an older one up to date, and refuses one that is not ours.
//!
//! `PRAGMA user_version` numbers the schema and `PRAGMA application_id` says whose file it is. Everything that one start
//! has to do happens in one transaction: a process killed half-way leaves the file as it was.

use rusqlite::{Connection, TransactionBehavior};
use thiserror::Error;

/// The version of `schema.sql`.
pub const VERSION: i32 = 3;

/// What brings a file from each version to the next, the first from 1 to 2. A new file needs none of them.
const UPGRADES: [&str; 2] = [
    // Sessions are listed newest first.
    "DROP INDEX tokens_by_user; CREATE INDEX tokens_by_user ON tokens (user_id, created);",
    // Security events, failures that outlive a restart, and a way to the superusers.
    "CREATE INDEX superusers ON users (id) WHERE is_superuser = 1; \
     CREATE TABLE events (id INTEGER PRIMARY KEY AUTOINCREMENT, at INTEGER NOT NULL, kind TEXT NOT NULL, \
         user_id INTEGER, username TEXT NOT NULL, actor TEXT NOT NULL, ip TEXT NOT NULL, detail TEXT NOT NULL) STRICT; \
     CREATE INDEX events_by_user ON events (user_id, id); \
     CREATE INDEX events_by_name ON events (lower(username), id); \
     CREATE INDEX events_of_logins ON events (user_id, id) WHERE kind IN ('registered', 'logged_in'); \
     CREATE TABLE login_failures (user_id INTEGER NOT NULL PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE, \
         failures INTEGER NOT NULL, last_failed INTEGER NOT NULL) STRICT;",
];

/// `AuTk` in ASCII: marks the file as ours, for us and for `file(1)`.
pub const APPLICATION_ID: i32 = 0x4175_546b;

/// The whole current schema.
pub(super) const SCHEMA: &str = include_str!("../../schema.sql");

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

/// Says whether the file may be used, changing nothing, and which version its schema has: 0 where it has none yet.
///
/// # Errors
/// [`SchemaError`] when it may not.
pub fn check(connection: &Connection) -> Result<i32, SchemaError> {
    // One statement, that reads one moment: another process may be making the schema just now.
    let (application_id, version, tables): (i32, i32, i64) = connection.query_row(
        "SELECT application_id, user_version, (SELECT count(*) FROM sqlite_schema) \
         FROM pragma_application_id, pragma_user_version",
        [],
        |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
    )?;
    let is_empty = application_id == 0 && version == 0 && tables == 0;
    let is_ours = application_id == APPLICATION_ID && version > 0;
    if !is_ours && !is_empty {
        return Err(SchemaError::Foreign);
    }
    if version > VERSION {
        return Err(SchemaError::Newer { found: version });
    }
    Ok(version)
}

/// Makes the schema where there is none yet, or brings an older one up to date. One transaction: all of it, or none.
///
/// # Errors
/// [`SchemaError`] when the file may not be used or SQLite fails; the file is then as it was.
pub fn create_or_upgrade(connection: &mut Connection) -> Result<(), SchemaError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let version = check(&transaction)?;
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

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn a_file_whose_schema_is_being_made_is_empty_or_ours_at_every_moment() {
        for _ in 0..20 {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("a.db");
            let mut writer = Connection::open(&path).unwrap();
            writer.pragma_update(None, "journal_mode", "wal").unwrap();
            let reader = Connection::open(&path).unwrap();
            let made = thread::spawn(move || create_or_upgrade(&mut writer).unwrap());
            while check(&reader).unwrap() == 0 {}
            made.join().unwrap();
        }
    }
}
