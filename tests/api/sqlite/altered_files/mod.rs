//! Files that another hand has changed: a schema that runs code, rows that the service never wrote, links
//! instead of files. None is believed.

mod links;
mod rows;
mod schema;

use std::path::Path;

use rusqlite::Connection;
use rusqlite::config::DbConfig;

use crate::sqlite::backups::bytes;

/// Changes a file as its owner can who knows SQLite, with nothing in the way.
fn alter(path: &Path, statements: &str) {
    let file = Connection::open(path).unwrap();
    file.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, false).unwrap();
    file.execute_batch("PRAGMA foreign_keys = OFF; PRAGMA ignore_check_constraints = ON").unwrap();
    file.execute_batch(statements).unwrap_or_else(|error| panic!("{statements}: {error}"));
}

/// Changes what the schema's SQL says, and not what is in the file.
fn rewrite(name: &str, from: &str, to: &str) -> String {
    let quoted = |text: &str| text.replace('\'', "''");
    let (from, to) = (quoted(from), quoted(to));
    format!(
        "PRAGMA writable_schema = ON; \
         UPDATE sqlite_schema SET sql = replace(sql, '{from}', '{to}') WHERE name = '{name}'; \
         PRAGMA writable_schema = OFF; VACUUM"
    )
}

/// Whether a change of a file has changed it, so that no case passes for want of one.
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
