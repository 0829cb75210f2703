//! Whether the files that SQLite has open are still those that are found at their names.
//!
//! SQLite goes on with a database, a WAL or a WAL index that was deleted, moved or replaced, and whoever opens the database
//! next finds nothing of what it wrote. It also goes on behind the end of a WAL that another program has shortened. So the
//! writer looks before each transaction, and again after each COMMIT before anyone is told that it succeeded.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use thiserror::Error;

use super::Cause;
use super::sqlite::with_suffix;

/// The sizes of what a WAL begins with and of what is before each page in it.
const HEADER: usize = 32;
const FRAME_HEADER: u64 = 24;

/// What each WAL begins with, but for its last bit.
const MAGIC: u32 = 0x377f_0682;

/// What has happened to the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(super) enum Lost {
    #[error(
        "the database was moved, deleted or replaced: what is written to it would be lost with it, so no change is \
         accepted until it is back"
    )]
    Database,
    #[error(
        "the WAL of the database (-wal) was moved, deleted or replaced, so no change is accepted. Stop the server, which \
         then saves what the WAL holds; move away a -wal that is there by then; start the server again"
    )]
    Wal,
    #[error(
        "another program has shortened or overwritten the WAL of the database (-wal): changes may be lost, and no more \
         are accepted. Stop the server, verify the database, and restore a backup where it is damaged"
    )]
    WalContent,
    #[error(
        "the WAL index of the database (-shm) was moved, deleted or replaced: other programs would write over the \
         server's changes, so none is accepted. Stop the server and start it again"
    )]
    WalIndex,
}

impl From<Lost> for Cause {
    fn from(lost: Lost) -> Self {
        Arc::new(lost)
    }
}

/// Which file had a name.
struct FileIdentity {
    name: PathBuf,
    device: u64,
    inode: u64,
}

impl FileIdentity {
    fn of(name: PathBuf) -> io::Result<Self> {
        let found = fs::metadata(&name)?;
        Ok(Self { device: found.dev(), inode: found.ino(), name })
    }

    /// Whether the file still has its name.
    fn is_kept(&self) -> bool {
        match fs::metadata(&self.name) {
            Ok(found) => (found.dev(), found.ino()) == (self.device, self.inode),
            // Whatever else keeps it from being looked at, it may be there.
            Err(error) => error.kind() != io::ErrorKind::NotFound,
        }
    }
}

/// A WAL as a commit left it.
#[derive(Clone, Copy)]
struct Content {
    header: [u8; HEADER],
    length: u64,
}

/// The files of one database, as they were opened.
pub(super) struct FileGuard {
    database: FileIdentity,
    wal: FileIdentity,
    index: FileIdentity,
    /// To read the WAL's header. SQLite has no lock on this file that closing it could take away.
    wal_file: File,
    frame_size: u64,
    /// What the last commit left, where nobody else has changed it since by right.
    content: Mutex<Option<Content>>,
    /// What happened and cannot be made good while the files are open.
    lost: OnceLock<Lost>,
    told: AtomicBool,
    /// Whether others may have changed something since: what the WAL that this process has open holds is then not all.
    changed_by_others: AtomicBool,
    rescue_begun: AtomicBool,
}

impl FileGuard {
    /// Of a database of this name, which is open and has a WAL.
    pub(super) fn of(database: PathBuf, page_size: u64) -> io::Result<Self> {
        let (wal, index) = (with_suffix(&database, "-wal"), with_suffix(&database, "-shm"));
        Ok(Self {
            wal_file: File::open(&wal)?,
            wal: FileIdentity::of(wal)?,
            index: FileIdentity::of(index)?,
            database: FileIdentity::of(database)?,
            frame_size: FRAME_HEADER + page_size,
            content: Mutex::default(),
            lost: OnceLock::new(),
            told: AtomicBool::new(false),
            changed_by_others: AtomicBool::new(false),
            rescue_begun: AtomicBool::new(false),
        })
    }

    /// Whether each file still has its name. The log is told once of one that does not.
    pub(super) fn check(&self) -> Result<(), Lost> {
        if let Some(lost) = self.lost.get() {
            return Err(*lost);
        }
        if !self.database.is_kept() {
            if !self.told.swap(true, Ordering::SeqCst) {
                log::error!("{}", Lost::Database);
            }
            return Err(Lost::Database);
        }
        self.told.store(false, Ordering::SeqCst);
        if !self.index.is_kept() {
            return Err(self.lose(Lost::WalIndex));
        }
        if !self.wal.is_kept() {
            return Err(self.lose(Lost::Wal));
        }
        Ok(())
    }

    /// The files are of no use any more until they are opened anew.
    pub(super) fn lose(&self, lost: Lost) -> Lost {
        if self.lost.set(lost).is_ok() {
            log::error!("{lost}");
        }
        *self.lost.get().unwrap_or(&lost)
    }

    /// What has happened and cannot be made good.
    pub(super) fn lost(&self) -> Option<Lost> {
        self.lost.get().copied()
    }

    /// Others have changed something, and perhaps to other files than those that this process has open.
    pub(super) fn changed_by_others(&self) {
        self.changed_by_others.store(true, Ordering::SeqCst);
    }

    /// Whether the rescue of the WAL is still to be tried.
    pub(super) fn begin_rescue(&self) -> bool {
        !self.rescue_begun.swap(true, Ordering::SeqCst)
    }

    /// Whether the WAL may be checkpointed at the end: it is whole, and this process has all of it.
    pub(super) fn may_be_saved(&self) -> bool {
        match self.lost() {
            None => true,
            Some(Lost::Wal) => !self.changed_by_others.load(Ordering::SeqCst),
            // Others may have written to the same WAL behind what this process knows of; the next start reads it.
            Some(Lost::Database | Lost::WalContent | Lost::WalIndex) => false,
        }
    }

    /// Whether the WAL still is as the last commit left it. Another process may change it by right at any time but while
    /// this one holds the write lock.
    pub(super) fn is_content_kept(&self) -> bool {
        let Some(content) = *self.content() else { return true };
        self.read().is_ok_and(|found| found.length >= content.length && found.header == content.header)
    }

    /// Another process has changed the WAL by right, or this one has emptied it.
    pub(super) fn forget_content(&self) {
        *self.content() = None;
    }

    /// Notes what a commit has left; `false` where that is less than the `frames` that the WAL must have, or no WAL.
    pub(super) fn note_content(&self, frames: Option<u64>) -> bool {
        let least = frames.map_or(0, |frames| HEADER as u64 + frames * self.frame_size);
        let Ok(found) = self.read() else { return false };
        let is_wal = found.header.first_chunk().is_some_and(|magic| u32::from_be_bytes(*magic) & !1 == MAGIC);
        let is_good = found.length >= least && (is_wal || (frames.is_none() && found.length == 0));
        *self.content() = is_good.then_some(found);
        is_good
    }

    fn read(&self) -> io::Result<Content> {
        let mut header = [0; HEADER];
        let length = self.wal_file.metadata()?.len();
        if length > 0 {
            self.wal_file.read_exact_at(&mut header, 0)?;
        }
        Ok(Content { header, length })
    }

    fn content(&self) -> MutexGuard<'_, Option<Content>> {
        // Nothing that can panic runs under this lock.
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
