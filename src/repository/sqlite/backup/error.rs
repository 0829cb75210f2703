//! Maps the system's and SQLite's errors to [`BackupError`].

use std::io;
use std::path::Path;
use std::sync::Arc;

use rusqlite::ErrorCode;

use crate::repository::BackupError;
use crate::repository::sqlite::error::{OpenError, is_without_index};

pub(super) fn write_error(path: &Path, source: io::Error) -> BackupError {
    BackupError::Write { path: path.to_owned(), source }
}

pub(super) fn read_error(path: &Path, error: io::Error) -> BackupError {
    BackupError::Read { path: path.to_owned(), source: Arc::new(error) }
}

pub(super) fn copy_error(from: &Path, to: &Path, error: rusqlite::Error) -> BackupError {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => sqlite_error(from, error),
        _ => BackupError::Copy { from: from.to_owned(), to: to.to_owned(), source: Arc::new(error) },
    }
}

/// What SQLite's error says about the file that it was reading.
pub(super) fn sqlite_error(path: &Path, error: rusqlite::Error) -> BackupError {
    let path = path.to_owned();
    match error.sqlite_error_code() {
        _ if is_without_index(&error) => OpenError::NoRoom { path }.into(),
        Some(ErrorCode::NotADatabase) => OpenError::NotADatabase { path }.into(),
        Some(ErrorCode::DatabaseCorrupt) => BackupError::Damaged { path, findings: error.to_string() },
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => BackupError::Busy { path },
        Some(ErrorCode::OperationInterrupted) => BackupError::Stopped,
        _ => BackupError::Read { path, source: Arc::new(error) },
    }
}
