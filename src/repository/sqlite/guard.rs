//! Whether the files that SQLite has open are still those that are found at their names, and hold what was committed.
//!
//! SQLite goes on with a database, a WAL or a WAL index that was deleted, moved or replaced, and whoever opens the
//! database next finds nothing of what it wrote. It also goes on with a database that another program has emptied or
//! shortened, and behind the end of such a WAL. So the writer looks before each transaction, and again after each
//! COMMIT before anyone is told that it succeeded.
//!
//! What must be in the WAL is what the header of the WAL index says, whoever has written last: how many frames there
//! are, and the checksum of the last one. A frame before the last is not looked at again once the next commit has been.

use std::fs::{self, File, Metadata};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use thiserror::Error;

use super::file::with_suffix;
use crate::repository::Cause;

/// The sizes of what a WAL begins with and of what is before each page in it.
const HEADER: usize = 32;
const FRAME_HEADER: usize = 24;

/// What each WAL begins with, but for its last bit.
const MAGIC: u32 = 0x377f_0682;

/// The size of the header of the WAL index, which the index begins with, twice.
const INDEX_HEADER: usize = 48;

/// How often the files are read again where another process has changed them meanwhile.
const TRIES: u32 = 100;

/// What has happened to the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(super) enum Lost {
    #[error(
        "the database was moved, deleted or replaced: what is written to it would be lost with it, so no change is \
         accepted until it is back"
    )]
    Database,
    #[error(
        "another program has emptied or shortened the database: no more changes are accepted. Stop the server, and \
         restore a backup, which keeps what is left"
    )]
    DatabaseContent,
    #[error(
        "the WAL of the database (-wal) was moved, deleted or replaced, so no change is accepted. Stop the server, which \
         then saves what the WAL holds unless the log says that it cannot; move away a -wal that is there by then; start \
         the server again"
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

    /// What is at the name; an error says that the file is not. Nothing is said where that cannot be found out:
    /// whatever else keeps it from being looked at, it may be there.
    fn look(&self) -> Result<Option<Metadata>, ()> {
        match fs::metadata(&self.name) {
            Ok(found) if (found.dev(), found.ino()) == (self.device, self.inode) => Ok(Some(found)),
            Err(error) if error.kind() != io::ErrorKind::NotFound => Ok(None),
            _ => Err(()),
        }
    }
}

/// The header of the WAL index, as the last commit has left it, whoever's it was. SQLite documents it as part of the
/// "WAL-mode File Format".
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct IndexHeader([u8; INDEX_HEADER]);

impl IndexHeader {
    const FRAMES: usize = 16;
    const PAGES: usize = 20;
    const CHECKSUM: usize = 24;
    const SALTS: Range<usize> = 32..40;

    /// A number in the machine's own order of bytes.
    fn number(&self, at: usize) -> u32 {
        self.0.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |bytes| u32::from_ne_bytes(*bytes))
    }

    /// How many frames the WAL has.
    fn frames(&self) -> u64 {
        self.number(Self::FRAMES).into()
    }

    /// How many pages the database has with them; zero where only the database says so.
    fn pages(&self) -> u64 {
        self.number(Self::PAGES).into()
    }

    /// What the WAL's header has at 16 and each frame at 8. Every beginning of the WAL has its own.
    fn salts(&self) -> &[u8] {
        &self.0[Self::SALTS]
    }

    /// What the last frame has at 16.
    fn checksum(&self) -> [u8; 8] {
        let [first, second] = [0, 4].map(|at| u64::from(self.number(Self::CHECKSUM + at)));
        (first << 32 | second).to_be_bytes()
    }
}

/// The files of one database, as they were opened.
pub(super) struct FileGuard {
    database: FileIdentity,
    wal: FileIdentity,
    index: FileIdentity,
    /// To read the WAL. SQLite has no lock on this file that closing it could take away.
    wal_file: File,
    /// To read the header of the WAL index. Closing it takes SQLite's locks on it away from this process, so it stays
    /// open for as long as the database does.
    index_file: File,
    page_size: u64,
    /// How long the database must be at least.
    least: Mutex<u64>,
    /// What happened and cannot be made good while the files are open.
    lost: OnceLock<Lost>,
    told: AtomicBool,
    rescue_begun: AtomicBool,
}

impl FileGuard {
    /// Of a database of this name, which is open and has a WAL.
    pub(super) fn of(database: PathBuf, page_size: u64) -> io::Result<Self> {
        let (wal, index) = (with_suffix(&database, "-wal"), with_suffix(&database, "-shm"));
        let index_name = index.clone();
        Ok(Self {
            wal_file: File::open(&wal)?,
            wal: FileIdentity::of(wal)?,
            index: FileIdentity::of(index)?,
            database: FileIdentity::of(database)?,
            // Last: a failure after it would close it.
            index_file: File::open(index_name)?,
            page_size,
            least: Mutex::default(),
            lost: OnceLock::new(),
            told: AtomicBool::new(false),
            rescue_begun: AtomicBool::new(false),
        })
    }

    /// Whether each file still has its name, the database its length, and the WAL its beginning and its end. The log is
    /// told once of one that does not.
    pub(super) fn check(&self) -> Result<(), Lost> {
        self.check_files(|index| self.begins_with(index) && self.ends_with(index)).map(drop)
    }

    /// The same but for the beginning of the WAL, for which [`FileGuard::confirm`] comes early enough. What that needs
    /// to know of the time before the transaction; `None` where it cannot be read.
    pub(super) fn check_before(&self) -> Result<Option<IndexHeader>, Lost> {
        self.check_files(|index| self.ends_with(index))
    }

    /// Whether a commit, and the one `before` it, is where the next start looks for it.
    pub(super) fn confirm(&self, before: Option<&IndexHeader>) -> Result<(), Lost> {
        let after = self.check_files(|index| self.begins_with(index) && self.ends_with(index))?;
        match (before, after) {
            // The same WAL, in which nothing has been overwritten by right.
            (Some(before), Some(after)) if before.salts() == after.salts() && !self.ends_with(before) => {
                Err(self.lose(Lost::WalContent))
            }
            _ => Ok(()),
        }
    }

    fn check_files(&self, holds: impl Fn(&IndexHeader) -> bool) -> Result<Option<IndexHeader>, Lost> {
        if let Some(lost) = self.lost() {
            return Err(lost);
        }
        // Others who look at the same time do so before or after.
        let mut least = self.least.lock().unwrap_or_else(PoisonError::into_inner);
        let Ok(database) = self.database.look() else {
            if !self.told.swap(true, Ordering::SeqCst) {
                log::error!("{}", Lost::Database);
            }
            return Err(Lost::Database);
        };
        self.told.store(false, Ordering::SeqCst);
        if self.index.look().is_err() {
            return Err(self.lose(Lost::WalIndex));
        }
        if self.wal.look().is_err() {
            return Err(self.lose(Lost::Wal));
        }
        let index = self.find(holds).map_err(|()| self.lose(Lost::WalContent))?;
        if let Some(length) = database.map(|found| found.len()) {
            // A checkpoint makes it as long as its last commit says, and only the commits of others can make that less.
            let most = match index.as_ref().map_or(0, IndexHeader::pages) {
                0 => u64::MAX,
                pages => pages * self.page_size,
            };
            if length == 0 || length < most.min(*least) {
                return Err(self.lose(Lost::DatabaseContent));
            }
            *least = length.min(most);
        }
        Ok(index)
    }

    /// Others have changed something, and perhaps made the database shorter.
    pub(super) fn changed_by_others(&self) {
        *self.least.lock().unwrap_or_else(PoisonError::into_inner) = 0;
    }

    /// The files are of no use any more until they are opened anew.
    fn lose(&self, lost: Lost) -> Lost {
        if self.lost.set(lost).is_ok() {
            log::error!("{lost}");
        }
        *self.lost.get().unwrap_or(&lost)
    }

    /// What has happened and cannot be made good.
    pub(super) fn lost(&self) -> Option<Lost> {
        self.lost.get().copied()
    }

    /// Whether the rescue of the WAL is still to be tried.
    pub(super) fn begin_rescue(&self) -> bool {
        !self.rescue_begun.swap(true, Ordering::SeqCst)
    }

    /// Whether the WAL may be checkpointed at the end: it is whole, and this process has all of it.
    pub(super) fn may_be_saved(&self) -> bool {
        match self.lost() {
            None => true,
            // Whoever has changed something since has done so in another file, of which the index tells.
            Some(Lost::Wal) => {
                matches!(self.find(|index| self.begins_with(index) && self.ends_with(index)), Ok(Some(_)))
            }
            // Others may have written to the same WAL behind what this process knows of; the next start reads it.
            Some(Lost::Database | Lost::DatabaseContent | Lost::WalContent | Lost::WalIndex) => false,
        }
    }

    /// The header of the index, which the WAL holds what it must of; an error where it does not. `None` where the index
    /// cannot be read. Another process may change both at any time, the index last.
    fn find(&self, holds: impl Fn(&IndexHeader) -> bool) -> Result<Option<IndexHeader>, ()> {
        for _ in 0..TRIES {
            let index = self.read_index();
            match &index {
                Some(found) if holds(found) => return Ok(index),
                Some(_) if self.read_index() == index => return Err(()),
                None | Some(_) => {}
            }
        }
        Ok(None)
    }

    /// `None` also where another process is about to change it.
    fn read_index(&self) -> Option<IndexHeader> {
        let mut both = [[0; INDEX_HEADER]; 2];
        self.index_file.read_exact_at(both.as_flattened_mut(), 0).ok()?;
        let [first, second] = both;
        (first == second).then_some(IndexHeader(first))
    }

    /// Whether the WAL begins as this index says.
    fn begins_with(&self, index: &IndexHeader) -> bool {
        let mut header = [0; HEADER];
        // A WAL without frames may be empty, or have the frames of the one before.
        index.frames() == 0
            || (self.wal_file.read_exact_at(&mut header, 0).is_ok()
                && header.first_chunk().is_some_and(|magic| u32::from_be_bytes(*magic) & !1 == MAGIC)
                && &header[16..24] == index.salts())
    }

    /// Whether the WAL has what was its last frame by this index.
    fn ends_with(&self, index: &IndexHeader) -> bool {
        let Some(others) = index.frames().checked_sub(1) else { return true };
        let frame_size = FRAME_HEADER as u64 + self.page_size;
        let mut frame = vec![0; usize::try_from(frame_size).unwrap_or_default()];
        self.wal_file.read_exact_at(&mut frame, HEADER as u64 + others * frame_size).is_ok()
            && &frame[8..16] == index.salts()
            && frame[16..24] == index.checksum()
    }
}
