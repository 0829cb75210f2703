//! The backup itself: an online copy of a database that a server may be using.

use std::fs;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags};

use super::check::{inspect, require_ours};
use super::error::{copy_error, read_error, sqlite_error, write_error};
use super::partial::{Partial, is_same};
use super::source::{JOURNALS, Kind, database_at, is_wal_elsewhere, open_found, set};
use crate::repository::sqlite::error::OpenError;
use crate::repository::sqlite::file::{self, Owner, RESTORE_LOCK, SharedLock, folder_of, with_suffix};
use crate::repository::{BackupError, BackupReport, CheckReport, Existing, Progress, Rules, Stop};

/// How many pages are copied between two pauses: 256 KiB, well under a millisecond's work.
const PAGES_A_STEP: i32 = 64;

/// The shortest pause. A pause is as long as the step before it, so that a copy takes half of one core at most.
const SHORTEST_PAUSE: Duration = Duration::from_millis(1);

/// After how many steps the copy is synced. One sync of the whole copy at the end would delay the commits meanwhile.
const STEPS_A_FLUSH: u32 = 32;

/// Copies the database `source`, which a server may be using, to the file `target`.
///
/// # Errors
/// [`BackupError`]. The target is then as it was before.
pub fn back_up(
    source: &Path,
    target: &Path,
    existing: Existing,
    stop: &Stop,
    progress: &mut dyn FnMut(Progress),
) -> Result<BackupReport, BackupError> {
    let started = Instant::now();
    let found = database_at(source)?;
    refuse_target(source, target, existing)?;
    let file = fs::canonicalize(source).map_err(|error| read_error(source, error))?;
    if is_wal_elsewhere(&found, &file)? {
        return Err(OpenError::HardLink { path: source.to_owned() }.into());
    }
    let shared_lock = SharedLock::begin(&file, source)?;
    let kind = Kind::Database { is_on_read_only_disk: shared_lock.is_read_only };
    let (reader, is_found) = open_found(source, &found, kind)?;
    let partial = Partial::create(target)?;
    if is_found {
        // The service must be able to read a backup that root made. Only root can change the owner; for other users the
        // backup stays their own.
        let _ = Owner::of(&found).take(&partial.file);
    }
    let check = copy_checked(reader, source, &partial, None, stop, progress)?;
    // Again: the copy may have taken a while.
    refuse_target(source, target, existing)?;
    partial.publish()?;
    Ok(BackupReport { check, took: started.elapsed() })
}

/// Refuses a target that a backup of `source` must not have.
fn refuse_target(source: &Path, target: &Path, existing: Existing) -> Result<(), BackupError> {
    let own_name = fs::canonicalize(source).map_err(|error| read_error(source, error))?;
    let of_source = fs::metadata(&own_name).map_err(|error| read_error(source, error))?;
    let of_target = fs::metadata(target);
    let folder = fs::canonicalize(folder_of(target)).map_err(|source| write_error(target, source))?;
    let path = folder.join(target.file_name().unwrap_or_default());
    let is_beside =
        ["-wal", "-shm", "-journal", ".lock", RESTORE_LOCK].iter().any(|suffix| path == with_suffix(&own_name, suffix));
    if is_beside || of_target.is_ok_and(|target| is_same(&of_source, &target)) {
        return Err(BackupError::SameFile { path: target.to_owned() });
    }
    for suffix in JOURNALS {
        let path = with_suffix(target, suffix);
        if fs::symlink_metadata(&path).is_ok() {
            return Err(BackupError::InTheWay { path });
        }
    }
    match (fs::symlink_metadata(target), existing) {
        (Ok(_), Existing::Refuse) => Err(BackupError::Exists { path: target.to_owned() }),
        (Ok(found), Existing::Replace) if !found.is_file() => Err(BackupError::NotAFile { path: target.to_owned() }),
        (Ok(_), Existing::Replace) if file::is_mount_point(target) => {
            Err(BackupError::MountPoint { path: target.to_owned() })
        }
        (Err(source), _) if source.kind() != io::ErrorKind::NotFound => Err(write_error(target, source)),
        _ => Ok(()),
    }
}

/// Copies the database as of this moment, checks the copy and syncs it. Damage of the copy is damage of the source, and
/// is reported as such.
pub(super) fn copy_checked(
    source: Connection,
    from: &Path,
    partial: &Partial,
    rules: Option<&Rules>,
    stop: &Stop,
    progress: &mut dyn FnMut(Progress),
) -> Result<CheckReport, BackupError> {
    /// The offset of the write version and the read version in a database's header, and their value for "not in WAL
    /// mode".
    const FORMAT: (u64, [u8; 2]) = (18, [1, 1]);
    let to = &partial.target;
    // A read transaction is a snapshot, whoever writes meanwhile, and SQLite copies out of it. Without it each step
    // would be a transaction of its own, and a write between two of them would make the copy start over.
    source.execute_batch("BEGIN").map_err(|error| sqlite_error(from, error))?;
    require_ours(&source, from)?;
    copy_pages(&source, from, partial, stop, progress)?;
    // Until here the snapshot has kept the WAL from being restarted.
    drop(source);

    // The copy's header says WAL mode, as the original's does, but a backup is one file. SQLite would change the header
    // through a journal beside the file, under a name that somebody else may have taken.
    partial.file.write_all_at(&FORMAT.1, FORMAT.0).map_err(|source| write_error(to, source))?;
    partial.flush()?;
    let copy = partial.open(file::open_alone)?.map_err(|error| copy_error(from, to, error))?;
    inspect(&copy, from, rules, stop, progress)
}

fn copy_pages(
    source: &Connection,
    from: &Path,
    partial: &Partial,
    stop: &Stop,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), BackupError> {
    let copy_error = |error: rusqlite::Error| copy_error(from, &partial.target, error);
    let opened = partial.open(|path| file::open(path, OpenFlags::SQLITE_OPEN_READ_WRITE))?;
    let mut copy = opened.map_err(copy_error)?;
    // An unfinished copy is deleted, so it needs neither a rollback journal nor a sync of its own.
    set(&copy, "journal_mode", "memory").map_err(copy_error)?;
    copy.pragma_update(None, "synchronous", "off").map_err(copy_error)?;
    let backup = Backup::new(source, &mut copy).map_err(copy_error)?;
    for step in 1_u32.. {
        stop.check()?;
        let started = Instant::now();
        let result = backup.step(PAGES_A_STEP).map_err(copy_error)?;
        let pages = backup.progress();
        let [left, of] = [pages.remaining, pages.pagecount].map(|pages| u64::try_from(pages).unwrap_or_default());
        progress(Progress::Copying { done: of.saturating_sub(left), of });
        match result {
            StepResult::Done => break,
            StepResult::More if step % STEPS_A_FLUSH == 0 => partial.flush()?,
            _ => {}
        }
        thread::sleep(started.elapsed().max(SHORTEST_PAUSE));
    }
    drop(backup);
    copy.close().map_err(|(_, error)| copy_error(error))
}
