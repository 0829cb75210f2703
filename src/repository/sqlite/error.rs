//! Maps SQLite's errors to the repository's, and says why a file could not be opened.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rusqlite::{ErrorCode, ffi};
use thiserror::Error;

use super::schema::SchemaError;
use crate::repository::{self, BackupError, Cause, RepositoryError};

/// Why a file could not be opened. Each message is one sentence for a person.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum OpenError {
    #[error("cannot make the folder {path}: {source}")]
    Folder { path: PathBuf, source: io::Error },
    /// The database file, or a lock file beside it.
    #[error("cannot open {path}: {source}")]
    File { path: PathBuf, source: io::Error },
    #[error("there is no database at {path}")]
    Missing { path: PathBuf },
    #[error(
        "{path} is in use by the server of an older release, which must be stopped first, or its schema is being upgraded"
    )]
    InUseByOlder { path: PathBuf },
    #[error("{path} is in use by another authtokens server")]
    InUse { path: PathBuf },
    #[error("a restore or a copy of {path} is running")]
    Restoring { path: PathBuf },
    /// Without the copy there is no way back, so there is no upgrade.
    #[error(
        "cannot upgrade {path}, because it cannot be kept as it was ({source}): mend that or make room, or set \
         keep_before_upgrade = false under [database]"
    )]
    NotKept { path: PathBuf, source: BackupError },
    /// A restore cannot replace the file meanwhile.
    #[error("a command is using {path}: wait until it is done")]
    InUseByCommand { path: PathBuf },
    /// Beside its other name it could have a second WAL.
    #[error("{path} has another name (a hard link): a database must have one")]
    HardLink { path: PathBuf },
    /// Only the file's owner rolls it back.
    #[error("{path} has a hot journal, of an interrupted change: run this as its owner, or start the server once")]
    HotJournal { path: PathBuf },
    /// A connection that only reads cannot roll it back.
    #[error("{path} has a hot journal ({path}-journal), of an interrupted change: open it once with what wrote it")]
    HotJournalOfBackup { path: PathBuf },
    /// SQLite would delete the WAL beside an empty database.
    #[error(
        "{path} is empty or missing, and its WAL ({path}-wal) is not: another program has emptied or moved the database. \
         Put it back, or restore a backup, which keeps the WAL"
    )]
    Emptied { path: PathBuf },
    #[error("{path} is not a plain file")]
    NotAFile { path: PathBuf },
    /// SQLite keeps the WAL index beside the file, also to read it.
    #[error("cannot use {path}: there is no room for its index beside it")]
    NoRoom { path: PathBuf },
    #[error("cannot use {path}: it is on a read-only file system")]
    ReadOnly { path: PathBuf },
    #[error("{path} is not a SQLite database")]
    NotADatabase { path: PathBuf },
    #[error("cannot use {path}: {source}")]
    Schema { path: PathBuf, source: SchemaError },
    /// The row of a superuser.
    #[error("{path} holds what the service never wrote: {finding}: restore a backup")]
    InvalidRow { path: PathBuf, finding: String },
    /// The connections or the threads of the store.
    #[error("cannot start reading and writing {path}: {source}")]
    Start { path: PathBuf, source: Box<dyn std::error::Error + Send + Sync> },
}

impl From<OpenError> for repository::OpenError {
    fn from(error: OpenError) -> Self {
        Self::new(error)
    }
}

impl From<OpenError> for BackupError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::NotADatabase { path } => Self::NotADatabase { path },
            other => Self::Database(other.into()),
        }
    }
}

#[derive(Debug, Error)]
#[error("SQLite found the file damaged; the server must be stopped and the file restored")]
pub(super) struct Damaged;

/// The error of work on a connection: SQLite's, or one that is mapped already.
pub(super) enum Failure {
    Sqlite(rusqlite::Error),
    Repository(RepositoryError),
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<RepositoryError> for Failure {
    fn from(error: RepositoryError) -> Self {
        Self::Repository(error)
    }
}

impl Failure {
    pub(super) fn mapped(self, damaged: &AtomicBool) -> RepositoryError {
        match self {
            Self::Repository(error) => error,
            Self::Sqlite(error) => map_error(error, damaged),
        }
    }
}

pub(super) fn is_busy(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error_code();
    matches!(code, Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::FileLockingProtocolFailed))
}

/// The only mapping of SQLite's errors to the repository's.
pub(super) fn map_error(error: rusqlite::Error, damaged: &AtomicBool) -> RepositoryError {
    let code = error.sqlite_error_code();
    let is_invalid_value =
        matches!(error, rusqlite::Error::FromSqlConversionFailure(..) | rusqlite::Error::InvalidColumnType(..));
    let cause: Cause = match error {
        // Only the reason, without SQLite's column number.
        rusqlite::Error::FromSqlConversionFailure(_, _, why) => Arc::from(why),
        error => Arc::new(error),
    };
    match code {
        Some(
            ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked
            | ErrorCode::FileLockingProtocolFailed
            | ErrorCode::DiskFull
            | ErrorCode::ReadOnly
            | ErrorCode::SystemIoFailure
            | ErrorCode::CannotOpen
            | ErrorCode::PermissionDenied
            | ErrorCode::OperationInterrupted,
        ) => RepositoryError::Unavailable(cause),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            damaged.store(true, Ordering::Relaxed);
            RepositoryError::Inconsistent(cause)
        }
        None if is_invalid_value => RepositoryError::Inconsistent(cause),
        _ => RepositoryError::Backend(cause),
    }
}

pub(super) fn schema_error(path: &Path, source: SchemaError) -> OpenError {
    let path = path.to_owned();
    match &source {
        SchemaError::Sqlite(error) if error.sqlite_error_code() == Some(ErrorCode::NotADatabase) => {
            OpenError::NotADatabase { path }
        }
        SchemaError::Sqlite(error) if is_without_index(error) => OpenError::NoRoom { path },
        _ => OpenError::Schema { path, source },
    }
}

/// Whether there is a hot journal: of a transaction that a killed process left unfinished, and that only a writer can
/// roll back.
pub(super) fn has_hot_journal(error: &rusqlite::Error) -> bool {
    extended_code(error) == Some(ffi::SQLITE_READONLY_ROLLBACK)
}

/// Whether the disk has no room for the WAL index.
pub(super) fn is_without_index(error: &rusqlite::Error) -> bool {
    extended_code(error).is_some_and(|code| {
        [ffi::SQLITE_IOERR_SHMSIZE, ffi::SQLITE_IOERR_SHMOPEN, ffi::SQLITE_IOERR_SHMMAP].contains(&code)
    })
}

fn extended_code(error: &rusqlite::Error) -> Option<i32> {
    error.sqlite_error().map(|error| error.extended_code)
}

/// Whether SQLite could not open the file, or its WAL or WAL index.
pub(super) fn is_not_opened(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::CannotOpen)
}
