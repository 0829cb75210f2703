//! What SQLite's errors mean, and why a file could not be opened.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rusqlite::{ErrorCode, ffi};
use thiserror::Error;

use super::schema::SchemaError;
use crate::repository::{self, BackupError, Cause, RepositoryError};

/// Why a file could not be opened. Each is one sentence for a person.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The folder cannot be made.
    #[error("cannot make the folder {path}: {source}")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file, or the lock file beside it, cannot be opened.
    #[error("cannot open {path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There is no file, and none is to be made.
    #[error("there is no database at {path}")]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// An older release's server has the file.
    #[error("{path} is in use by the server of an older release: stop it first")]
    InUseByOlder {
        /// The database file.
        path: PathBuf,
    },
    /// Another server has the file.
    #[error("{path} is in use by another authtokens server")]
    InUse {
        /// The database file.
        path: PathBuf,
    },
    /// A restore is about to put another file in its place.
    #[error("a restore of {path} is running")]
    Restoring {
        /// The database file.
        path: PathBuf,
    },
    /// A command has the file, and it cannot be replaced meanwhile.
    #[error("a command is using {path}: wait until it is done")]
    InUseByCommand {
        /// The database file.
        path: PathBuf,
    },
    /// The file has a second name, and through it a second WAL.
    #[error("{path} has another name (a hard link): a database must have one")]
    HardLink {
        /// The file.
        path: PathBuf,
    },
    /// Whoever wrote it was killed in the middle of a change, and that is undone only by the user whose file it is.
    #[error("{path} has a hot journal, of an interrupted change: run this as its owner, or start the server once")]
    HotJournal {
        /// The file.
        path: PathBuf,
    },
    /// Whoever wrote it was killed in the middle of a change, and reading alone cannot undo that.
    #[error("{path} has a hot journal ({path}-journal), of an interrupted change: open it once with what wrote it")]
    HotJournalOfBackup {
        /// The file.
        path: PathBuf,
    },
    /// SQLite would delete a WAL beside a database that has nothing in it.
    #[error(
        "{path} is empty or missing, and its WAL ({path}-wal) is not: another program has emptied or moved the database. \
         Put it back, or restore a backup, which keeps the WAL"
    )]
    Emptied {
        /// The database file.
        path: PathBuf,
    },
    /// There is something of this name that cannot be a database.
    #[error("{path} is not a plain file")]
    NotAFile {
        /// The name.
        path: PathBuf,
    },
    /// SQLite keeps an index of the WAL beside the file, also to read it.
    #[error("cannot use {path}: there is no room for its index beside it")]
    NoRoom {
        /// The file.
        path: PathBuf,
    },
    /// The file cannot be used where nothing can be written.
    #[error("cannot use {path}: it is on a read-only file system")]
    ReadOnly {
        /// The file.
        path: PathBuf,
    },
    /// The file is there, and is not a database.
    #[error("{path} is not a SQLite database")]
    NotADatabase {
        /// The file.
        path: PathBuf,
    },
    /// It is a database that this release must not touch.
    #[error("cannot use {path}: {source}")]
    Schema {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: SchemaError,
    },
    /// A superuser that the service did not make.
    #[error("{path} holds what the service never wrote: {finding}: restore a backup")]
    InvalidRow {
        /// The file.
        path: PathBuf,
        /// Which row, and what is wrong with it.
        finding: String,
    },
    /// The readers or the writer could not be started.
    #[error("cannot start reading and writing {path}: {source}")]
    Start {
        /// The file.
        path: PathBuf,
        /// What failed.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
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

/// What a piece of writing may end with: SQLite's error, or one that already has its meaning.
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

/// The one reading of SQLite's errors.
pub(super) fn map_error(error: rusqlite::Error, damaged: &AtomicBool) -> RepositoryError {
    let code = error.sqlite_error_code();
    let is_invalid_value =
        matches!(error, rusqlite::Error::FromSqlConversionFailure(..) | rusqlite::Error::InvalidColumnType(..));
    let cause: Cause = match error {
        // What is wrong with it, without SQLite's number of its column.
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

/// Whether there is a hot journal: a killed process left a change half done, which only a writer can undo.
pub(super) fn has_hot_journal(error: &rusqlite::Error) -> bool {
    extended_code(error) == Some(ffi::SQLITE_READONLY_ROLLBACK)
}

/// Whether the disk has no room for the index that SQLite keeps beside a file with a WAL.
pub(super) fn is_without_index(error: &rusqlite::Error) -> bool {
    extended_code(error).is_some_and(|code| {
        [ffi::SQLITE_IOERR_SHMSIZE, ffi::SQLITE_IOERR_SHMOPEN, ffi::SQLITE_IOERR_SHMMAP].contains(&code)
    })
}

fn extended_code(error: &rusqlite::Error) -> Option<i32> {
    error.sqlite_error().map(|error| error.extended_code)
}

/// Whether SQLite could not open the file, or what belongs beside it.
pub(super) fn is_not_opened(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::CannotOpen)
}
