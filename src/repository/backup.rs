//! What is told of a backup, whichever store makes it: what is asked for, how far it is, what came of it and why not.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use thiserror::Error;

use crate::domain::user::PasswordHash;
use crate::repository::error::{Cause, OpenError};
use crate::system::clock::Timestamp;

/// Why there is no backup, no restored database, or no good word for a file. Each is one sentence for a person.
#[derive(Debug, Error)]
pub enum BackupError {
    /// The file that is to be read is missing or cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the store or the system said.
        source: Cause,
    },
    /// The file, or its folder, cannot be written.
    #[error("cannot write {path}: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Something went wrong between the two.
    #[error("cannot copy {from} to {to}: {source}")]
    Copy {
        /// What was read.
        from: PathBuf,
        /// What was written.
        to: PathBuf,
        /// What the store said.
        source: Cause,
    },
    /// Something has this name already.
    #[error("{path} exists already")]
    Exists {
        /// The name.
        path: PathBuf,
    },
    /// Something has this name already, and it is not a file that could be replaced.
    #[error("{path} exists already and is not a plain file")]
    NotAFile {
        /// The name.
        path: PathBuf,
    },
    /// The copy would take the place of what is copied.
    #[error("{path} belongs to the database itself")]
    SameFile {
        /// The name.
        path: PathBuf,
    },
    /// No file can be renamed to it.
    #[error("{path} is a mount point, which no file can replace: mount its folder instead")]
    MountPoint {
        /// The name.
        path: PathBuf,
    },
    /// Another hand was at work in the folder.
    #[error("what was made for {path} was moved or replaced by another program meanwhile")]
    Replaced {
        /// The name that it was made for.
        path: PathBuf,
    },
    /// Another hand was at work in the folder of what is read.
    #[error("{path} was moved or replaced by another program meanwhile")]
    Swapped {
        /// The file.
        path: PathBuf,
    },
    /// Whoever can change the link would be given what it leads to.
    #[error("{path} is reached through a symbolic link that another user can change: name the file itself")]
    BehindLink {
        /// The backup.
        path: PathBuf,
    },
    /// Whoever has the database would be given what another has.
    #[error(
        "{path} belongs neither to this user nor to the one who has the database, who would be given what it holds: \
         copy it first"
    )]
    NotTheirs {
        /// The backup.
        path: PathBuf,
    },
    /// This file would be read as a part of the one that is to be written.
    #[error("{path} is in the way: it belongs to a database of that name, which may be in use")]
    InTheWay {
        /// The file.
        path: PathBuf,
    },
    /// There is nothing in it.
    #[error("{path} is an empty database")]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// The file is there, and is no database.
    #[error("{path} is not a SQLite database")]
    NotADatabase {
        /// The file.
        path: PathBuf,
    },
    /// What it holds contradicts itself.
    #[error("{path} is damaged: {findings}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The first things that were found.
        findings: String,
    },
    /// It is whole, and holds what the service never wrote.
    #[error("{path} is whole, but holds what the service never wrote: {findings}")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// The first rows that break a rule.
        findings: String,
    },
    /// Another program is at work in it.
    #[error("another program has {path} open")]
    Busy {
        /// The file.
        path: PathBuf,
    },
    /// It was told to stop.
    #[error("it was stopped before its end")]
    Stopped,
    /// The database may not be used: a server has it, or it is not ours, or a newer release wrote it.
    #[error(transparent)]
    Database(#[from] OpenError),
}

/// Asks for an early end. Clones ask for the same one.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Asks for it.
    pub fn ask(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether someone has.
    #[must_use]
    pub fn is_asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn check(&self) -> Result<(), BackupError> {
        if self.is_asked() { Err(BackupError::Stopped) } else { Ok(()) }
    }
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Pages are being copied.
    Copying {
        /// How many are.
        done: u64,
        /// How many there are.
        of: u64,
    },
    /// The file is being checked.
    Checking,
}

/// What becomes of a file that has the backup's name already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// It stays, and there is no backup.
    Refuse,
    /// The backup takes its place in one step.
    Replace,
}

/// What a good file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckReport {
    /// The version of its schema. An older one than this release's is brought up to date by the next start.
    pub schema_version: i32,
    /// How many pages it has.
    pub pages: u64,
    /// How large a page is, in bytes.
    pub page_size: u64,
    /// Its tables by name.
    pub tables: Vec<TableReport>,
}

impl CheckReport {
    /// Its size in bytes, as of the moment at which it was checked.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.pages * self.page_size
    }
}

/// One table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableReport {
    /// Its name.
    pub name: String,
    /// How many rows it has.
    pub rows: u64,
}

/// A backup that was made.
#[derive(Clone, Debug)]
pub struct BackupReport {
    /// What it holds.
    pub check: CheckReport,
    /// How long it took.
    pub took: Duration,
}

/// A backup that was put back.
#[derive(Clone, Debug)]
pub struct RestoreReport {
    /// What the database holds now.
    pub check: CheckReport,
    /// Where the database is that was there before; `None` where there was none.
    pub kept: Option<PathBuf>,
    /// How long it took.
    pub took: Duration,
}

/// What rows are held against that they do not say themselves.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// The time, which a restore names what it keeps after.
    pub now: Timestamp,
    /// Whether a login may be checked against a hash.
    pub is_hash: fn(&PasswordHash) -> bool,
}
