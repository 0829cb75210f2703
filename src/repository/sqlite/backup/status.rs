//! What a database file is and holds, whether or not this release can work on it.

use std::path::Path;

use super::check::{count_rows, open_to_check};
use super::error::sqlite_error;
use crate::repository::sqlite::error::schema_error;
use crate::repository::sqlite::schema;
use crate::repository::{BackupError, StoreStatus};

/// Reads what a file holds. A server may be using it.
///
/// # Errors
/// [`BackupError`] where it cannot be read or is not ours.
pub(in crate::repository) fn status(path: &Path) -> Result<StoreStatus, BackupError> {
    let (reader, _shared_lock) = open_to_check(path)?;
    let version = schema::version(&reader).map_err(|error| schema_error(path, error))?;
    let mut tables = count_rows(&reader).map_err(|error| sqlite_error(path, error))?;
    let moved_to = schema::moved_to(&reader).map_err(|error| schema_error(path, error))?;
    if moved_to.is_some() {
        tables.retain(|table| table.name != "moved");
    }
    Ok(StoreStatus {
        store: path.display().to_string(),
        engine: format!("SQLite {}", rusqlite::version()),
        schema_version: (version > 0).then_some(version),
        newest_version: schema::VERSION,
        moved_to,
        tables,
        cluster: None,
    })
}
