//! What every connection is set to, and the writer's beside.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::{file, sql};

/// How many statements a connection keeps prepared: all of [`sql`], with room.
const STATEMENT_CACHE: usize = 64;

pub(super) fn open_connection(
    own_name: &Path,
    busy_timeout: Duration,
    flags: OpenFlags,
) -> rusqlite::Result<Connection> {
    let connection = file::open(own_name, flags)?;
    prepare_connection(&connection, busy_timeout)?;
    Ok(connection)
}

/// What every connection has, the wait for locks first: the other settings may already need it.
pub(super) fn prepare_connection(connection: &Connection, busy_timeout: Duration) -> rusqlite::Result<()> {
    connection.busy_timeout(busy_timeout)?;
    connection.set_prepared_statement_cache_capacity(STATEMENT_CACHE);
    connection.pragma_update(None, "foreign_keys", true)?;
    sql::add_functions(connection)
}

/// What only the writer needs, and what would change a file that must not be touched.
pub(super) fn prepare_writer(connection: &Connection) -> rusqlite::Result<()> {
    // A file system that cannot do WAL answers with the mode that is left.
    let mode: String = connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
    if mode != "wal" {
        return Err(rusqlite::Error::SqliteFailure(
            rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_IOERR),
            Some(format!("the file system offers journal mode {mode}, not wal")),
        ));
    }
    // What is deleted is overwritten, not only let go: an address does not outlive its account in the file.
    connection.pragma_update_and_check(None, "secure_delete", "ON", |_| Ok(()))?;
    // For a command that has the file to itself: a server's WAL is checkpointed by `checkpoint.rs`, and is seldom as
    // long.
    connection.pragma_update(None, "wal_autocheckpoint", 32_000)?;
    // What a piece of work may still have to undo is kept in memory: it is a few pages.
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.pragma_update(None, "synchronous", "FULL")
}

/// Opens the WAL, too, by its name: SQLite does so with the first read. Whatever the name means later, it is the one
/// that the writer has. Where the file is locked just now, that read is the first one.
pub(super) fn open_wal(connection: &Connection) {
    let _ = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()));
}
