//! Guards the files that SQLite has open: they must still be found at their names, and hold what was committed.
//!
//! SQLite goes on writing to a database, a WAL or a WAL index that was deleted, moved or replaced, and the next process
//! to open the database finds nothing of that. It also goes on where another program has truncated the database or the
//! WAL. So the writer checks before each transaction, and again after each COMMIT before anyone is told that it
//! succeeded.
//!
//! The header of the WAL index says what the WAL must hold, whichever process wrote last: the number of frames, and the
//! checksum of the last one. Once the next commit is confirmed, an earlier frame is not checked again.

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

/// The sizes of the WAL's header, and of the header of each frame.
const HEADER: usize = 32;
const FRAME_HEADER: usize = 24;

/// The first bytes of every WAL, without the last bit.
const MAGIC: u32 = 0x377f_0682;

/// The size of the header of the WAL index. The index begins with two copies of it.
const INDEX_HEADER: usize = 48;

/// How often to read the files again where another process changes them meanwhile.
const TRIES: u32 = 100;

/// What has happened to the files. The messages are for the operator.
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

/// Which file a name led to: its device and inode.
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

    /// The file's metadata; an error where another file, or none, has its name. `None` where the name cannot be looked
    /// up for another reason: the file may be there.
    fn look(&self) -> Result<Option<Metadata>, ()> {
        match fs::metadata(&self.name) {
            Ok(found) if (found.dev(), found.ino()) == (self.device, self.inode) => Ok(Some(found)),
            Err(error) if error.kind() != io::ErrorKind::NotFound => Ok(None),
            _ => Err(()),
        }
    }
}

/// The header of the WAL index after the last commit of any process. SQLite documents it as part of the "WAL-mode File
/// Format".
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct IndexHeader([u8; INDEX_HEADER]);

impl IndexHeader {
    const FRAMES: usize = 16;
    const PAGES: usize = 20;
    const CHECKSUM: usize = 24;
    const SALTS: Range<usize> = 32..40;

    /// A number, in the machine's own byte order.
    fn number(&self, at: usize) -> u32 {
        self.0.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |bytes| u32::from_ne_bytes(*bytes))
    }

    /// How many frames the WAL has.
    fn frames(&self) -> u64 {
        self.number(Self::FRAMES).into()
    }

    /// How many pages the database has, with those in the WAL; 0 where the index does not say.
    fn pages(&self) -> u64 {
        self.number(Self::PAGES).into()
    }

    /// The salts: at byte 16 of the WAL's header and at byte 8 of each frame. They change whenever the WAL is
    /// restarted.
    fn salts(&self) -> &[u8] {
        &self.0[Self::SALTS]
    }

    /// The checksum of the last frame, which has it at byte 16.
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
    /// To read the WAL. SQLite holds no locks on this file, so it may be closed at any time.
    wal_file: File,
    /// To read the header of the WAL index. Closing it would drop SQLite's locks on it (POSIX advisory locks), so it
    /// stays open for as long as the database does.
    index_file: File,
    page_size: u64,
    /// The least length of the database, in bytes.
    least: Mutex<u64>,
    /// What has happened and cannot be repaired while the files are open.
    lost: OnceLock<Lost>,
    is_reported: AtomicBool,
    rescue_begun: AtomicBool,
}

impl FileGuard {
    /// A guard of the database of this name, which is open and in WAL mode.
    pub(super) fn of(database: PathBuf, page_size: u64) -> io::Result<Self> {
        let (wal, index) = (with_suffix(&database, "-wal"), with_suffix(&database, "-shm"));
        let index_name = index.clone();
        Ok(Self {
            wal_file: File::open(&wal)?,
            wal: FileIdentity::of(wal)?,
            index: FileIdentity::of(index)?,
            database: FileIdentity::of(database)?,
            // Last: where a later step failed, it would be closed.
            index_file: File::open(index_name)?,
            page_size,
            least: Mutex::default(),
            lost: OnceLock::new(),
            is_reported: AtomicBool::new(false),
            rescue_begun: AtomicBool::new(false),
        })
    }

    /// Checks that each file still has its name, the database its length, and the WAL its header and its last frame. A
    /// failure is logged once.
    pub(super) fn check(&self) -> Result<(), Lost> {
        self.check_files(|index| self.begins_with(index) && self.ends_with(index)).map(drop)
    }

    /// The same, but for the WAL's header: [`FileGuard::confirm`] checks that early enough. Answers the header of the
    /// WAL index before the transaction, which `confirm` needs; `None` where it cannot be read.
    pub(super) fn check_before(&self) -> Result<Option<IndexHeader>, Lost> {
        self.check_files(|index| self.ends_with(index))
    }

    /// Checks that a commit, and the one `before` it, is where the next start will find it.
    pub(super) fn confirm(&self, before: Option<&IndexHeader>) -> Result<(), Lost> {
        let after = self.check_files(|index| self.begins_with(index) && self.ends_with(index))?;
        match (before, after) {
            // The WAL was not restarted, so no frame may have been overwritten.
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
        // One check at a time.
        let mut least = self.least.lock().unwrap_or_else(PoisonError::into_inner);
        let Ok(database) = self.database.look() else {
            if !self.is_reported.swap(true, Ordering::SeqCst) {
                log::error!("{}", Lost::Database);
            }
            return Err(Lost::Database);
        };
        self.is_reported.store(false, Ordering::SeqCst);
        if self.index.look().is_err() {
            return Err(self.lose(Lost::WalIndex));
        }
        if self.wal.look().is_err() {
            return Err(self.lose(Lost::Wal));
        }
        let index = self.find(holds).map_err(|()| self.lose(Lost::WalContent))?;
        if let Some(length) = database.map(|found| found.len()) {
            // A checkpoint makes the database as long as the last commit says. Only commits of other processes make
            // that less.
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

    /// Another process has committed, and may have made the database shorter.
    pub(super) fn changed_by_others(&self) {
        *self.least.lock().unwrap_or_else(PoisonError::into_inner) = 0;
    }

    /// Records, and logs once, what cannot be repaired until the files are opened anew.
    fn lose(&self, lost: Lost) -> Lost {
        if self.lost.set(lost).is_ok() {
            log::error!("{lost}");
        }
        *self.lost.get().unwrap_or(&lost)
    }

    /// What has happened and cannot be repaired.
    pub(super) fn lost(&self) -> Option<Lost> {
        self.lost.get().copied()
    }

    /// Whether a rescue of the WAL has yet to be tried; `true` once.
    pub(super) fn begin_rescue(&self) -> bool {
        !self.rescue_begun.swap(true, Ordering::SeqCst)
    }

    /// Whether the WAL may be checkpointed at the end: it is whole, and this process has all of it.
    pub(super) fn may_be_saved(&self) -> bool {
        match self.lost() {
            None => true,
            // A process that committed since then did so in another WAL, and the index shows that.
            Some(Lost::Wal) => {
                matches!(self.find(|index| self.begins_with(index) && self.ends_with(index)), Ok(Some(_)))
            }
            // Other processes may have appended to the same WAL what this one does not know; the next start reads it.
            Some(Lost::Database | Lost::DatabaseContent | Lost::WalContent | Lost::WalIndex) => false,
        }
    }

    /// The header of the index, once `holds` confirms it; an error where it does not. `None` where the index cannot be
    /// read. Another process may change the WAL and then the index at any time, so a mismatch is read again.
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

    /// `None` where it cannot be read, or another process is changing it.
    fn read_index(&self) -> Option<IndexHeader> {
        let mut both = [[0; INDEX_HEADER]; 2];
        self.index_file.read_exact_at(both.as_flattened_mut(), 0).ok()?;
        let [first, second] = both;
        (first == second).then_some(IndexHeader(first))
    }

    /// Whether the WAL's header is as this index says.
    fn begins_with(&self, index: &IndexHeader) -> bool {
        let mut header = [0; HEADER];
        // A WAL without frames may be empty, or still have the frames from before its restart.
        index.frames() == 0
            || (self.wal_file.read_exact_at(&mut header, 0).is_ok()
                && header.first_chunk().is_some_and(|magic| u32::from_be_bytes(*magic) & !1 == MAGIC)
                && &header[16..24] == index.salts())
    }

    /// Whether the WAL has the frame that was its last by this index.
    fn ends_with(&self, index: &IndexHeader) -> bool {
        let Some(others) = index.frames().checked_sub(1) else { return true };
        let frame_size = FRAME_HEADER as u64 + self.page_size;
        let mut frame = vec![0; usize::try_from(frame_size).unwrap_or_default()];
        self.wal_file.read_exact_at(&mut frame, HEADER as u64 + others * frame_size).is_ok()
            && &frame[8..16] == index.salts()
            && frame[16..24] == index.checksum()
    }
}
