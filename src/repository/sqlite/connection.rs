//! The settings of every connection, and those of the writer's.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::{file, sql};

/// How many prepared statements a connection caches: more than there are in [`sql`].
const STATEMENT_CACHE: usize = 128;

pub(super) fn open_connection(
    own_name: &Path,
    busy_timeout: Duration,
    flags: OpenFlags,
) -> rusqlite::Result<Connection> {
    let connection = file::open(own_name, flags)?;
    prepare_connection(&connection, busy_timeout)?;
    Ok(connection)
}

/// The settings of every connection. The busy timeout comes first: the others may already wait for a lock.
pub(super) fn prepare_connection(connection: &Connection, busy_timeout: Duration) -> rusqlite::Result<()> {
    connection.busy_timeout(busy_timeout)?;
    connection.set_prepared_statement_cache_capacity(STATEMENT_CACHE);
    connection.pragma_update(None, "foreign_keys", true)?;
    sql::add_functions(connection)
}

/// The settings of the writer's connection. They change the file, so they come after all checks of it.
pub(super) fn prepare_writer(connection: &Connection) -> rusqlite::Result<()> {
    // Where the file system does not support WAL, SQLite answers the mode that it keeps.
    let mode: String = connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
    if mode != "wal" {
        return Err(rusqlite::Error::SqliteFailure(
            rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_IOERR),
            Some(format!("the file system offers journal mode {mode}, not wal")),
        ));
    }
    // Deleted data is overwritten with zeros: an address does not outlive its account in the file.
    connection.pragma_update_and_check(None, "secure_delete", "ON", |_| Ok(()))?;
    // For a command without a server. A server's WAL is checkpointed by `checkpoint.rs`, and is seldom as long.
    connection.pragma_update(None, "wal_autocheckpoint", 32_000)?;
    // Statement journals, of a few pages, are kept in memory.
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.pragma_update(None, "synchronous", "FULL")
}

/// Makes SQLite open the WAL now, which it does at the first read. So the connection has the same WAL as the writer,
/// even if the file of that name is replaced later. Where the database is locked just now, a later read opens the WAL.
pub(super) fn open_wal(connection: &Connection) {
    let _ = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()));
}
