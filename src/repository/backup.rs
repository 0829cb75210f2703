//! The types of backups, checks and restores, the same for every store: options, progress, reports and errors.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use thiserror::Error;

use crate::domain::user::PasswordHash;
use crate::repository::error::{Cause, OpenError};
use crate::repository::factors::SealedSecrets;
use crate::system::clock::Timestamp;
use crate::system::sealing::SealingKey;

/// Why a backup, a restore or a check failed. Each message is one sentence for a person.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum BackupError {
    #[error("cannot read {path}: {source}")]
    Read { path: PathBuf, source: Cause },
    #[error("cannot write {path}: {source}")]
    Write { path: PathBuf, source: io::Error },
    #[error("cannot copy {from} to {to}: {source}")]
    Copy { from: PathBuf, to: PathBuf, source: Cause },
    #[error("{path} exists already")]
    Exists { path: PathBuf },
    #[error("{path} exists already and is not a plain file")]
    NotAFile { path: PathBuf },
    /// The copy would replace what is copied.
    #[error("{path} belongs to the database itself")]
    SameFile { path: PathBuf },
    #[error("{path} is a mount point, which no file can replace: mount its folder instead")]
    MountPoint { path: PathBuf },
    /// Another process was at work in the folder of what is written.
    #[error("what was made for {path} was moved or replaced by another program meanwhile")]
    Replaced { path: PathBuf },
    /// Another process was at work in the folder of what is read.
    #[error("{path} was moved or replaced by another program meanwhile")]
    Swapped { path: PathBuf },
    /// Whoever can change the link could get at a file that is not theirs.
    #[error("{path} is reached through a symbolic link that another user can change: name the file itself")]
    BehindLink { path: PathBuf },
    /// The database's owner could get at another user's file.
    #[error(
        "{path} belongs neither to this user nor to the one who has the database, who would be given what it holds: \
         copy it first"
    )]
    NotTheirs { path: PathBuf },
    /// A WAL or a journal that SQLite would read as a part of the file that is to be written.
    #[error("{path} is in the way: it belongs to a database of that name, which may be in use")]
    InTheWay { path: PathBuf },
    #[error("{path} is an empty database")]
    Empty { path: PathBuf },
    #[error("{path} is not a SQLite database")]
    NotADatabase { path: PathBuf },
    /// The database contradicts itself. `findings` are the first contradictions.
    #[error("{path} is damaged: {findings}")]
    Damaged { path: PathBuf, findings: String },
    /// `findings` are the first invalid rows.
    #[error("{path} is whole, but holds what the service never wrote: {findings}")]
    Invalid { path: PathBuf, findings: String },
    #[error("another program has {path} open")]
    Busy { path: PathBuf },
    /// Another store's own means do it.
    #[error("the database is {store}: {what}")]
    Elsewhere { store: String, what: &'static str },
    #[error("it was stopped before its end")]
    Stopped,
    /// The database may not be used: a server uses it, it is another program's, or a newer release wrote it.
    #[error(transparent)]
    Database(#[from] OpenError),
}

/// A cancellation flag. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Asks for an early end.
    pub fn ask(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether somebody has asked for it.
    #[must_use]
    pub fn is_asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn check(&self) -> Result<(), BackupError> {
        if self.is_asked() { Err(BackupError::Stopped) } else { Ok(()) }
    }
}

/// How far a backup, a restore, a check or a move is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// `done` pages or rows are copied, of so many.
    #[expect(missing_docs, reason = "the names say it")]
    Copying { done: u64, of: u64 },
    /// What was copied is being checked.
    Checking,
}

/// What to do with a file that has the backup's name already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// It is kept, and the backup fails.
    Refuse,
    /// The backup replaces it atomically.
    Replace,
}

/// What a good database file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckReport {
    /// The version of its schema. An older one is upgraded by the next start.
    pub schema_version: i32,
    /// The number of pages.
    pub pages: u64,
    /// The size of a page, in bytes.
    pub page_size: u64,
    /// Its tables, ordered by name.
    pub tables: Vec<TableReport>,
    /// Its sealed secrets, by the id of the key that each was sealed with.
    pub sealed: Vec<(Vec<u8>, SealedSecrets)>,
}

impl CheckReport {
    /// Its size in bytes when it was checked.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.pages * self.page_size
    }

    /// How many sealed secrets it has that were sealed with another key than that of this id, or at all where there is none.
    #[must_use]
    pub fn sealed_with_others(&self, key_id: Option<&[u8]>) -> SealedSecrets {
        let others = self.sealed.iter().filter(|(id, _)| Some(id.as_slice()) != key_id);
        others.map(|(_, secrets)| *secrets).sum()
    }
}

/// A table, and how many rows it has.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct TableReport {
    pub name: String,
    pub rows: u64,
}

/// A backup that was made.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the names say it")]
pub struct BackupReport {
    pub check: CheckReport,
    pub took: Duration,
}

/// A backup that was restored.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the names say it")]
pub struct RestoreReport {
    pub check: CheckReport,
    /// Under which name the old database is kept; `None` where there was none.
    pub kept: Option<PathBuf>,
    pub took: Duration,
}

/// What a check of every row must be told.
#[derive(Clone)]
pub struct Rules {
    /// The time. A restore names the old database after it.
    pub now: Timestamp,
    /// Whether a stored hash is one that a login can be verified against.
    pub is_hash: fn(&PasswordHash) -> bool,
    /// The key that opens the sealed secrets. What it has sealed must be as it was, and where it belongs.
    pub key: Option<Arc<SealingKey>>,
}
