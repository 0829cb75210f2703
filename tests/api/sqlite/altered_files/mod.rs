//! Files that somebody else has changed: a schema that runs code, rows that the service never wrote, links instead of
//! files. None is trusted.

mod links;
mod rows;
mod schema;

use std::path::Path;

use rusqlite::Connection;
use rusqlite::config::DbConfig;

use crate::sqlite::backups::bytes;

/// Changes a file as an owner who knows SQLite can, with all of SQLite's protections off.
fn alter(path: &Path, statements: &str) {
    let file = Connection::open(path).unwrap();
    file.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, false).unwrap();
    file.execute_batch("PRAGMA foreign_keys = OFF; PRAGMA ignore_check_constraints = ON").unwrap();
    file.execute_batch(statements).unwrap_or_else(|error| panic!("{statements}: {error}"));
}

/// Changes the schema's SQL, and none of the file's data.
fn rewrite(name: &str, from: &str, to: &str) -> String {
    let quoted = |text: &str| text.replace('\'', "''");
    let (from, to) = (quoted(from), quoted(to));
    format!(
        "PRAGMA writable_schema = ON; \
         UPDATE sqlite_schema SET sql = replace(sql, '{from}', '{to}') WHERE name = '{name}'; \
         PRAGMA writable_schema = OFF; VACUUM"
    )
}

/// Checks that a change has changed the file, so that no case passes without one.
fn changes(before: &[u8], path: &Path) -> bool {
    bytes(path) != before
}

/// A password on standard input.
fn password() -> std::process::Stdio {
    let file = tempfile::tempfile().unwrap();
    std::io::Write::write_all(&mut &file, b"hunter2\n").unwrap();
    std::io::Seek::rewind(&mut &file).unwrap();
    file.into()
}
