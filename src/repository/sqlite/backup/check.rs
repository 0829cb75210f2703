//! The check of a database file: reads all of it, and tells what it holds or what is wrong with it.

use std::fs;
use std::path::Path;

use rusqlite::Connection;

use super::error::{read_error, sqlite_error};
use super::source::{Kind, database_at, is_wal_elsewhere, open_reader};
use crate::repository::sqlite::error::{OpenError, schema_error};
use crate::repository::sqlite::factors::list_sealed;
use crate::repository::sqlite::file::{self, RESTORE_LOCK, SharedLock, with_suffix};
use crate::repository::sqlite::rows::find_invalid_rows;
use crate::repository::sqlite::schema::{self, SchemaError};
use crate::repository::{BackupError, CheckReport, Progress, Rules, SealedSecrets, Stop, TableReport};

/// How many of SQLite's instructions run between two checks of the stop flag.
const INSTRUCTIONS_A_LOOK: i32 = 1_000;

/// How many findings a message lists at most.
const FINDINGS: usize = 3;

/// Reads all of a database, or of a backup, and tells what it holds. Nothing is written; a server may be using it. With
/// `rules`, every row is checked against the rules by which the service writes. A new backup is checked without them: a
/// copy with an invalid row is better than no copy.
///
/// # Errors
/// [`BackupError::Damaged`] where the database contradicts itself, [`BackupError::Invalid`] where a row breaks a rule,
/// or another where it cannot be read or is not ours.
pub fn check(
    path: &Path,
    rules: Option<&Rules>,
    stop: &Stop,
    progress: &mut dyn FnMut(Progress),
) -> Result<CheckReport, BackupError> {
    let (reader, _shared_lock) = open_to_check(path)?;
    inspect(&reader, path, rules, stop, progress)
}

pub(super) fn open_to_check(path: &Path) -> Result<(Connection, Option<SharedLock>), BackupError> {
    let found = database_at(path)?;
    let file = fs::canonicalize(path).map_err(|error| read_error(path, error))?;
    // A backup has no WAL, so it may have several names (hard links).
    if is_wal_elsewhere(&found, &file)? && file::is_in_wal_mode(&file).map_err(|error| read_error(path, error))? {
        return Err(OpenError::HardLink { path: path.to_owned() }.into());
    }
    // Only a database has lock files beside it. One that only commands have opened lacks the server's.
    let is_database = file::exists(&with_suffix(&file, ".lock"))? || file::exists(&with_suffix(&file, RESTORE_LOCK))?;
    let shared_lock = is_database.then(|| SharedLock::begin(&file, path)).transpose()?;
    let kind = shared_lock
        .as_ref()
        .map_or(Kind::Backup, |shared_lock| Kind::Database { is_on_read_only_disk: shared_lock.is_read_only });
    Ok((open_reader(path, kind)?, shared_lock))
}

/// Reads everything, in one transaction. `path` is the name in messages.
pub(super) fn inspect(
    connection: &Connection,
    path: &Path,
    rules: Option<&Rules>,
    stop: &Stop,
    progress: &mut dyn FnMut(Progress),
) -> Result<CheckReport, BackupError> {
    let sqlite_error = |error: rusqlite::Error| sqlite_error(path, error);
    stop.check()?;
    progress(Progress::Checking);
    let asked = stop.clone();
    connection.progress_handler(INSTRUCTIONS_A_LOOK, Some(move || asked.is_asked())).map_err(sqlite_error)?;
    connection.execute_batch("BEGIN").map_err(sqlite_error)?;
    let schema_version = require_ours(connection, path)?;
    let findings = find_damage(connection).map_err(sqlite_error)?;
    if !findings.is_empty() {
        return Err(BackupError::Damaged { path: path.to_owned(), findings: findings.join("; ") });
    }
    if let Some(rules) = rules {
        if schema_version < schema::VERSION {
            schema::show_added_columns(connection).map_err(sqlite_error)?;
        }
        let invalid = find_invalid_rows(connection, rules, FINDINGS).map_err(sqlite_error)?;
        if invalid.count > 0 {
            let others = invalid.count - invalid.told.len() as u64;
            let others = (others > 0).then(|| format!("and {others} more"));
            let findings: Vec<_> = invalid.told.into_iter().chain(others).collect();
            return Err(BackupError::Invalid { path: path.to_owned(), findings: findings.join("; ") });
        }
    }
    let number = |pragma| {
        let number: i64 = connection.pragma_query_value(None, pragma, |row| row.get(0)).map_err(sqlite_error)?;
        Ok::<_, BackupError>(number.unsigned_abs())
    };
    Ok(CheckReport {
        schema_version,
        pages: number("page_count")?,
        page_size: number("page_size")?,
        tables: count_rows(connection).map_err(sqlite_error)?,
        sealed: count_sealed(connection).map_err(sqlite_error)?,
    })
}

/// Refuses a file that is not our database, that is empty, whose schema was altered, or that a newer release wrote.
/// Answers the version of its schema.
pub(super) fn require_ours(connection: &Connection, path: &Path) -> Result<i32, BackupError> {
    match schema::check(connection) {
        Ok(0) => Err(BackupError::Empty { path: path.to_owned() }),
        Ok(version) => Ok(version),
        Err(SchemaError::Sqlite(error)) => Err(sqlite_error(path, error)),
        Err(refused) => Err(schema_error(path, refused).into()),
    }
}

/// The first contradictions in a file that has the schema of a release.
fn find_damage(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    const MISSING: &str = "SELECT 'a row of ' || \"table\" || ' belongs to a row of ' || parent || ' that is missing' \
         FROM pragma_foreign_key_check";
    let mut findings = texts(connection, &format!("PRAGMA integrity_check({FINDINGS})"), FINDINGS)?;
    if findings == ["ok"] {
        findings = texts(connection, MISSING, FINDINGS)?;
    }
    // SQLite's findings have headings and so several lines; a message is one line.
    Ok(findings.iter().map(|finding| finding.split_whitespace().collect::<Vec<_>>().join(" ")).collect())
}

pub(super) fn count_rows(connection: &Connection) -> rusqlite::Result<Vec<TableReport>> {
    const TABLES: &str =
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name";
    let count = |name: String| {
        let statement = format!("SELECT count(*) FROM \"{}\"", name.replace('"', "\"\""));
        let rows: i64 = connection.query_row(&statement, [], |row| row.get(0))?;
        Ok(TableReport { name, rows: rows.unsigned_abs() })
    };
    texts(connection, TABLES, usize::MAX)?.into_iter().map(count).collect()
}

/// The sealed secrets by the ids of their keys. An older release had none.
fn count_sealed(connection: &Connection) -> rusqlite::Result<Vec<(Vec<u8>, SealedSecrets)>> {
    if !connection.table_exists(None, "totp")? {
        return Ok(Vec::new());
    }
    list_sealed(connection)
}

fn texts(connection: &Connection, statement: &str, most: usize) -> rusqlite::Result<Vec<String>> {
    connection.prepare(statement)?.query_map([], |row| row.get(0))?.take(most).collect()
}
