//! Copies of the database that can be trusted: made while a server writes, checked, and put back.
//!
//! A backup is one SQLite file that needs nothing beside it. It is copied by SQLite itself out of one read transaction,
//! so it holds the database as of the moment at which the copy began, and nobody who writes meanwhile waits for it or
//! makes it begin again. It grows under another name and takes its own only when it is checked and on the disk: a file
//! with a backup's name is whole.
//!
//! Everything here blocks; it is for a thread of its own or for the command line.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::io;
use std::iter;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::backup::{Backup, StepResult};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};
use rustix::fs::{AtFlags, Mode, OFlags, openat, statat};
use rustix::io::Errno;
use rustix::process::geteuid;
use thiserror::Error;

use crate::repository::Cause;
use crate::repository::sqlite::file::{self, Owner, RESTORE_LOCK, SharedLock, folder_of, own_name};
pub use crate::repository::sqlite::readable::Rules;
use crate::repository::sqlite::readable::find_invalid_rows;
use crate::repository::sqlite::schema::{self, SchemaError};
use crate::repository::sqlite::{OpenError, lock_beside, make_folder, schema_error, with_suffix};

/// How many pages are copied between two rests: 256 KiB, well under a millisecond's work.
const PAGES_A_STEP: i32 = 64;

/// How long a rest is at least. It is as long as the step before it, so that a copy takes half of one core at most.
const SHORTEST_REST: Duration = Duration::from_millis(1);

/// How many steps go to the disk together. Left to the end, the whole copy would stand in the way of a commit at once.
const STEPS_A_FLUSH: u32 = 32;

/// How long to wait for a lock that another program holds.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// How many of SQLite's instructions pass between two looks at whether to stop.
const INSTRUCTIONS_A_LOOK: i32 = 1_000;

/// How many findings a sentence tells.
const FINDINGS: usize = 3;

/// What the name of a file that is not finished ends with, before the number of the process that makes it.
const PARTIAL: &str = ".authtokens-partial-";

/// How many bytes of a name leave room for what SQLite puts behind it.
const LONGEST_NAME: usize = 255 - "-journal".len();

/// What SQLite may keep beside a database and would read as a part of it.
const LOGS: [&str; 2] = ["-wal", "-journal"];

/// Why there is no backup, no restored database, or no good word for a file. Each is one sentence for a person.
#[derive(Debug, Error)]
pub enum BackupError {
    /// The file that is to be read is missing or cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What SQLite or the system said.
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
        /// What SQLite said.
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
    /// SQLite would read this file as a part of the one that is to be written.
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
    /// Whoever wrote it was killed in the middle of a change, and reading alone cannot undo that.
    #[error("{path} has a hot journal ({path}-journal), of an interrupted change: open it once with what wrote it")]
    HotJournal {
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

    fn check(&self) -> Result<(), BackupError> {
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

/// Copies the database `source`, which a server may be using, to the file `target`.
///
/// # Errors
/// [`BackupError`]. Whatever had the target's name before is then still there, and nothing new is.
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
    if is_log_elsewhere(&found, &file)? {
        return Err(OpenError::HardLink { path: source.to_owned() }.into());
    }
    let shared_lock = SharedLock::begin(&file, source)?;
    let kind = Kind::Database { is_on_read_only_disk: shared_lock.is_read_only };
    let (reader, is_found) = open_found(source, &found, kind)?;
    let partial = Partial::create(target)?;
    if is_found {
        // What root makes, the service must be able to read. Only root can give to another; whoever else makes one
        // keeps it.
        let _ = Owner::of(&found).take(&partial.file);
    }
    let check = copy_checked(reader, source, &partial, None, stop, progress)?;
    // Again, for the copy may have taken its time.
    refuse_target(source, target, existing)?;
    partial.place()?;
    Ok(BackupReport { check, took: started.elapsed() })
}

/// Reads all of a database, or of a backup, and tells what it holds. Nothing is written; a server may be using it. With
/// `rules`, every row is held against what the service itself keeps. A backup does not ask for as much: better a copy of
/// a row that nobody can read than no copy.
///
/// # Errors
/// [`BackupError::Damaged`] where it contradicts itself, [`BackupError::Invalid`] where a row breaks a rule, or another
/// where it cannot be read or is not ours.
pub fn check(
    path: &Path,
    rules: Option<&Rules>,
    stop: &Stop,
    progress: &mut dyn FnMut(Progress),
) -> Result<CheckReport, BackupError> {
    let (reader, _presence) = open_to_check(path)?;
    inspect(&reader, path, rules, stop, progress)
}

fn open_to_check(path: &Path) -> Result<(Connection, Option<SharedLock>), BackupError> {
    let found = database_at(path)?;
    let file = fs::canonicalize(path).map_err(|error| read_error(path, error))?;
    // A backup has no log of its own, and may have as many names as it likes.
    if is_log_elsewhere(&found, &file)? && file::has_log(&file).map_err(|error| read_error(path, error))? {
        return Err(OpenError::HardLink { path: path.to_owned() }.into());
    }
    // Only a database has locks beside it, and one that only commands have opened has but one.
    let is_database = file::exists(&with_suffix(&file, ".lock"))? || file::exists(&with_suffix(&file, RESTORE_LOCK))?;
    let shared_lock = is_database.then(|| SharedLock::begin(&file, path)).transpose()?;
    let kind = shared_lock
        .as_ref()
        .map_or(Kind::Backup, |shared_lock| Kind::Database { is_on_read_only_disk: shared_lock.is_read_only });
    Ok((open_reader(path, kind)?, shared_lock))
}

/// Puts a backup in the place of the database, which no server may be using. What was there is kept beside it, under a
/// name that tells the time. An older backup is welcome: the next start brings it up to date. One that holds what the
/// service never wrote is not: it would be believed from then on.
///
/// # Errors
/// [`BackupError`]. The database is then what it was.
pub fn restore(
    backup: &Path,
    database: &Path,
    rules: &Rules,
    stop: &Stop,
    progress: &mut dyn FnMut(Progress),
) -> Result<RestoreReport, BackupError> {
    // A kill at any point, or a power cut, leaves a database that can be used, for each step is on the disk before the
    // next one begins:
    //
    // 1. The backup is copied to a name of its own and checked. Nothing else has changed.
    // 2. The old database takes in its log, and has none from then on. This is a change of SQLite's own and is undone
    //    or completed by whoever opens the file next. The old database is in its place and whole.
    // 3. The old database is copied to the name under which it is kept. It is still in its place. It is neither renamed
    //    nor linked: without a file in its place the next start would make an empty one, and a file with two names
    //    would be refused.
    // 4. What is left of its logs goes. There is something left only where step 2 met damage, and step 3 has kept it. A
    //    log goes before the new file comes, and never the other way round: SQLite would take the log of the old file
    //    for that of the new one.
    // 5. The copy of step 1 takes the database's name in one step.
    //
    // Nobody else opens the database meanwhile, and nobody has it open who did so before: not the server, and no
    // command, whose changes would go to the old file or, worse, to a log that is then read as the new file's.
    let started = Instant::now();
    if !fs::metadata(backup).map_err(|error| read_error(backup, error))?.is_file() {
        return Err(OpenError::NotADatabase { path: backup.to_owned() }.into());
    }
    if !file::exists(folder_of(database))? {
        // Nothing is made for a backup that is no good. Where there is a folder already, once is enough.
        inspect(&open_reader(backup, Kind::Backup)?, backup, Some(rules), stop, progress)?;
    }
    make_folder(database)?;
    let own_name = own_name(database)?;
    let _alone = file::keep_everyone_away(&own_name, database)?;
    let _lock = lock_beside(&own_name, database)?;
    let old = match fs::symlink_metadata(&own_name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        old => Some(old.map_err(|error| read_error(database, error))?),
    };
    if file::is_mount_point(&own_name) {
        return Err(BackupError::MountPoint { path: database.to_owned() });
    }
    if old.as_ref().is_some_and(|old| fs::metadata(backup).is_ok_and(|backup| is_same(old, &backup))) {
        return Err(BackupError::SameFile { path: backup.to_owned() });
    }
    let kept = free_name(&with_suffix(&own_name, &format!(".before-restore-{}", rules.now.compact())));
    // Whoever restores, root perhaps, the server must be able to open what it finds.
    let owner = match &old {
        Some(old) => Owner::of(old),
        None => Owner::of(&fs::metadata(folder_of(&own_name)).map_err(|source| write_error(&own_name, source))?),
    };

    let found = backup_for(owner, backup)?;
    let (reader, is_found) = open_found(backup, &found, Kind::Backup)?;
    if !is_found {
        return Err(BackupError::Swapped { path: backup.to_owned() });
    }
    let partial = Partial::create_for(owner, &own_name)?;
    let check = copy_checked(reader, backup, &partial, Some(rules), stop, progress)?;
    if let Some(old) = &old {
        take_in_log(&own_name, old)?;
    }
    keep(&own_name, &kept, owner, old.is_some())?;
    for suffix in LOGS.into_iter().chain(["-shm"]) {
        remove(&with_suffix(&own_name, suffix))?;
    }
    flush_folder(&own_name)?;
    partial.place().inspect_err(|_| {
        // A second copy of what is still in its place is of no use, unless a log was kept with it that is gone.
        let is_unchanged =
            old.as_ref().is_some_and(|old| fs::symlink_metadata(&own_name).is_ok_and(|found| is_same(old, &found)));
        if is_unchanged && LOGS.iter().all(|suffix| fs::symlink_metadata(with_suffix(&kept, suffix)).is_err()) {
            let _ = fs::remove_file(&kept);
        }
    })?;
    Ok(RestoreReport { check, kept: old.map(|_| kept), took: started.elapsed() })
}

/// This name, or with a number behind it the first that nothing has.
fn free_name(name: &Path) -> PathBuf {
    let others = (2_u32..).map(|number| with_suffix(name, &format!("-{number}")));
    let mut names = iter::once(name.to_owned()).chain(others);
    names.find(|name| fs::symlink_metadata(name).is_err()).unwrap_or_else(|| name.to_owned())
}

/// A file that is not finished. Whoever drops it before it is placed removes it; what a killed process left behind is
/// known by its lock being free, and is swept by the next one that is made in the same folder.
struct Partial {
    /// In a folder whose name has no links.
    path: PathBuf,
    target: PathBuf,
    file: File,
    is_placed: bool,
}

impl Partial {
    /// Makes it beside `target`, for its owner only.
    fn create(target: &Path) -> Result<Self, BackupError> {
        let error = |source| write_error(target, source);
        let Some(name) = target.file_name() else {
            return Err(error(io::Error::from(io::ErrorKind::InvalidInput)));
        };
        let folder = fs::canonicalize(folder_of(target)).map_err(error)?;
        sweep(&folder).map_err(error)?;
        let end = format!("{PARTIAL}{}", std::process::id());
        // As much of the name as there is room for.
        let name = name.as_bytes();
        let mut own_name = OsString::from(".");
        own_name.push(OsStr::from_bytes(&name[..name.len().min(LONGEST_NAME - 1 - end.len())]));
        own_name.push(end);
        let path = folder.join(own_name);
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path).map_err(error)?;
        let partial = Self { path, target: target.to_owned(), file, is_placed: false };
        partial.file.try_lock().map_err(|failure| error(failure.into()))?;
        // The umask may have taken more than it should.
        partial.file.set_permissions(Permissions::from_mode(0o600)).map_err(error)?;
        // Between its making and its lock another process may have taken it for one that was left behind.
        if partial.file.metadata().map_err(error)?.nlink() == 0 {
            return Err(error(io::Error::from(io::ErrorKind::NotFound)));
        }
        Ok(partial)
    }

    /// The same, for another owner, whose it must be.
    fn create_for(owner: Owner, target: &Path) -> Result<Self, BackupError> {
        let partial = Self::create(target)?;
        owner.take(&partial.file).map_err(|source| write_error(target, source))?;
        Ok(partial)
    }

    /// Has SQLite open it, by `open` and its name, as it must. Whoever has the folder can put another file there, so that
    /// what root copies would overwrite it: nothing is read or written before SQLite is known to have this very file.
    fn open(
        &self,
        open: impl FnOnce(&Path) -> rusqlite::Result<Connection>,
    ) -> Result<rusqlite::Result<Connection>, BackupError> {
        let handles = || count_handles(&self.file.metadata()?);
        let count = || handles().map_err(|source| write_error(&self.target, source));
        let before = count()?;
        let opened = open(&self.path);
        let is_this = if opened.is_ok() { count()? > before } else { self.has_its_name() };
        if is_this { Ok(opened) } else { Err(BackupError::Replaced { path: self.target.clone() }) }
    }

    /// Whether its name still leads to it.
    fn has_its_name(&self) -> bool {
        self.is_at(&self.path)
    }

    fn is_at(&self, path: &Path) -> bool {
        let own = self.file.metadata();
        own.is_ok_and(|own| fs::symlink_metadata(path).is_ok_and(|found| is_same(&own, &found)))
    }

    fn flush(&self) -> Result<(), BackupError> {
        self.file.sync_all().map_err(|source| write_error(&self.target, source))
    }

    /// Gives it its name, for good.
    fn place(mut self) -> Result<(), BackupError> {
        self.flush()?;
        let replaced = || BackupError::Replaced { path: self.target.clone() };
        if !self.has_its_name() {
            return Err(replaced());
        }
        fs::rename(&self.path, &self.target).map_err(|source| write_error(&self.target, source))?;
        if !self.is_at(&self.target) {
            return Err(replaced());
        }
        self.is_placed = true;
        flush_folder(&self.target)
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.is_placed {
            remove_partial(&self.path);
        }
    }
}

/// Removes what killed processes left behind in a folder: files with a partial's name that nobody holds.
fn sweep(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let is_partial = name.starts_with('.')
            && name.rsplit_once(PARTIAL).is_some_and(|(_, process)| process.bytes().all(|byte| byte.is_ascii_digit()));
        if !is_partial || !entry.file_type()?.is_file() {
            continue;
        }
        // One that cannot be opened is someone else's to sweep.
        if let Ok(file) = file::open_unlinked(OpenOptions::new().read(true).write(true), &entry.path())
            && file.try_lock().is_ok()
        {
            remove_partial(&entry.path());
        }
    }
    Ok(())
}

/// The file itself goes last, so that nothing is left beside it whose name nobody knows.
fn remove_partial(path: &Path) {
    for suffix in ["-wal", "-shm", "-journal", ""] {
        let _ = fs::remove_file(with_suffix(path, suffix));
    }
}

/// Says whether a backup of `source` may take this name.
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
    for suffix in LOGS {
        let log = with_suffix(target, suffix);
        if fs::symlink_metadata(&log).is_ok() {
            return Err(BackupError::InTheWay { path: log });
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

fn is_same(one: &Metadata, other: &Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

/// How many handles of a file this process has.
fn count_handles(own: &Metadata) -> io::Result<usize> {
    let listed = fs::read_dir("/proc/self/fd").or_else(|_| fs::read_dir("/dev/fd"))?;
    // One that was closed meanwhile is none.
    let of_it = |path: PathBuf| fs::metadata(path).is_ok_and(|found| is_same(own, &found));
    Ok(listed.filter_map(Result::ok).filter(|handle| of_it(handle.path())).count())
}

/// Copies the database as of this moment, checks the copy and brings it to the disk. What is wrong with the copy is
/// wrong with what it was made from, and is told of that.
fn copy_checked(
    source: Connection,
    from: &Path,
    partial: &Partial,
    rules: Option<&Rules>,
    stop: &Stop,
    progress: &mut dyn FnMut(Progress),
) -> Result<CheckReport, BackupError> {
    /// Where a file says whether it has a log to be written and to be read, and how it says that it has none.
    const FORMAT: (u64, [u8; 2]) = (18, [1, 1]);
    let to = &partial.target;
    // From its first read on, the transaction sees one state of the database, whoever writes meanwhile. SQLite copies
    // out of it; without it, each step would be a transaction of its own and a write between two of them would make
    // the copy begin again.
    source.execute_batch("BEGIN").map_err(|error| sqlite_error(from, error))?;
    require_ours(&source, from)?;
    copy_pages(&source, from, partial, stop, progress)?;
    // Until here the log could not begin again at its start.
    drop(source);

    // The copy says of itself that it has a log, as the original does; a backup is one file. SQLite would change that
    // through a journal beside it, by a name that somebody else may have taken.
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
    // Half a copy is thrown away, so nothing has to be able to undo it: there was nothing in the file.
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
        thread::sleep(started.elapsed().max(SHORTEST_REST));
    }
    drop(backup);
    copy.close().map_err(|(_, error)| copy_error(error))
}

/// Reads everything, as of one moment. `path` is what the sentences speak of.
fn inspect(
    connection: &Connection,
    path: &Path,
    rules: Option<&Rules>,
    stop: &Stop,
    progress: &mut dyn FnMut(Progress),
) -> Result<CheckReport, BackupError> {
    let sqlite_error = |error: rusqlite::Error| sqlite_error(path, error);
    stop.check()?;
    progress(Progress::Checking);
    let asked = stop.clone();
    connection.progress_handler(INSTRUCTIONS_A_LOOK, Some(move || asked.is_asked())).map_err(sqlite_error)?;
    connection.execute_batch("BEGIN").map_err(sqlite_error)?;
    let schema_version = require_ours(connection, path)?;
    let findings = find_damage(connection).map_err(sqlite_error)?;
    if !findings.is_empty() {
        return Err(BackupError::Damaged { path: path.to_owned(), findings: findings.join("; ") });
    }
    if let Some(rules) = rules {
        let invalid = find_invalid_rows(connection, rules, FINDINGS).map_err(sqlite_error)?;
        if invalid.count > 0 {
            let others = invalid.count - invalid.told.len() as u64;
            let others = (others > 0).then(|| format!("and {others} more"));
            let findings: Vec<_> = invalid.told.into_iter().chain(others).collect();
            return Err(BackupError::Invalid { path: path.to_owned(), findings: findings.join("; ") });
        }
    }
    let number = |pragma| {
        let number: i64 = connection.pragma_query_value(None, pragma, |row| row.get(0)).map_err(sqlite_error)?;
        Ok::<_, BackupError>(number.unsigned_abs())
    };
    Ok(CheckReport {
        schema_version,
        pages: number("page_count")?,
        page_size: number("page_size")?,
        tables: count_rows(connection).map_err(sqlite_error)?,
    })
}

/// Refuses what is not a database of ours as a release made it, or is of a newer release, or is empty; tells its schema's
/// version.
fn require_ours(connection: &Connection, path: &Path) -> Result<i32, BackupError> {
    match schema::check(connection) {
        Ok(0) => Err(BackupError::Empty { path: path.to_owned() }),
        Ok(version) => Ok(version),
        Err(SchemaError::Sqlite(error)) => Err(sqlite_error(path, error)),
        Err(refused) => Err(schema_error(path, refused).into()),
    }
}

/// The first things that cannot be right, in a file with the schema of a release.
fn find_damage(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    const MISSING: &str = "SELECT 'a row of ' || \"table\" || ' belongs to a row of ' || parent || ' that is missing' \
         FROM pragma_foreign_key_check";
    let mut findings = texts(connection, &format!("PRAGMA integrity_check({FINDINGS})"), FINDINGS)?;
    if findings == ["ok"] {
        findings = texts(connection, MISSING, FINDINGS)?;
    }
    // SQLite's findings have headings and so several lines; ours is one.
    Ok(findings.iter().map(|finding| finding.split_whitespace().collect::<Vec<_>>().join(" ")).collect())
}

fn count_rows(connection: &Connection) -> rusqlite::Result<Vec<TableReport>> {
    const TABLES: &str =
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name";
    let count = |name: String| {
        let statement = format!("SELECT count(*) FROM \"{}\"", name.replace('"', "\"\""));
        let rows: i64 = connection.query_row(&statement, [], |row| row.get(0))?;
        Ok(TableReport { name, rows: rows.unsigned_abs() })
    };
    texts(connection, TABLES, usize::MAX)?.into_iter().map(count).collect()
}

fn texts(connection: &Connection, statement: &str, most: usize) -> rusqlite::Result<Vec<String>> {
    connection.prepare(statement)?.query_map([], |row| row.get(0))?.take(most).collect()
}

/// Makes an old database one file, without a log. It may be damaged, and is then left as it is.
fn take_in_log(database: &Path, old: &Metadata) -> Result<(), BackupError> {
    if !file::is_own(old) && file::exists(&with_suffix(database, "-journal"))? {
        return Ok(());
    }
    if let Err(OpenError::Emptied { .. }) = file::refuse_emptied(database, database) {
        return Ok(());
    }
    let taken_in =
        open(database, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(SchemaError::from).and_then(|connection| {
            // What cannot be taken in as it should is not taken in when the connection is closed either.
            connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
            // It is kept, whatever release wrote it, and whoever has changed its schema since.
            schema::version(&connection)?;
            connection.pragma_update(None, "synchronous", "full")?;
            // It takes nothing less than being alone: whoever else has the database open is met here.
            Ok(set(&connection, "journal_mode", "delete")?)
        });
    match taken_in {
        Ok(()) => flush_folder(database),
        Err(SchemaError::Sqlite(error)) => match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Ok(()),
            _ => Err(sqlite_error(database, error)),
        },
        Err(refused) => Err(schema_error(database, refused).into()),
    }
}

/// Copies the old database, and a log that it could not take in, to the names under which they are kept. The database
/// comes last: where it is, the rest is. A log may be there without a database.
fn keep(database: &Path, kept: &Path, owner: Owner, is_there: bool) -> Result<(), BackupError> {
    for suffix in LOGS.into_iter().chain([""]) {
        let from = with_suffix(database, suffix);
        let mut old = match file::open_unlinked(OpenOptions::new().read(true), &from) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && !(suffix.is_empty() && is_there) => continue,
            old => old.map_err(|error| read_error(&from, error))?,
        };
        let found = old.metadata().map_err(|error| read_error(&from, error))?;
        // What root can read and the database's owner cannot is not given away as a part of the database.
        if !(found.is_file() && found.nlink() == 1 && owner.is_users(&found)) {
            let error = io::Error::other("it is not a plain file of the user who has the database");
            return Err(read_error(&from, error));
        }
        let to = with_suffix(kept, suffix);
        let mut partial = Partial::create_for(owner, &to)?;
        io::copy(&mut old, &mut partial.file).map_err(|source| write_error(&to, source))?;
        partial.place()?;
    }
    Ok(())
}

fn remove(path: &Path) -> Result<(), BackupError> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(write_error(path, source)),
        _ => Ok(()),
    }
}

/// Brings what was renamed, made or removed in a file's folder to the disk.
fn flush_folder(path: &Path) -> Result<(), BackupError> {
    let flushed = File::open(folder_of(path)).and_then(|folder| folder.sync_all());
    flushed.map_err(|source| write_error(path, source))
}

/// What a file is that is read.
#[derive(Clone, Copy)]
enum Kind {
    /// The database, which is ours to mend.
    Database {
        /// Found out without a handle on the database itself, which this process may have open.
        is_on_read_only_disk: bool,
    },
    /// A backup, or a file that might be one: nothing is written to it.
    Backup,
}

fn database_at(path: &Path) -> Result<Metadata, BackupError> {
    fs::metadata(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => OpenError::Missing { path: path.to_owned() }.into(),
        _ => read_error(path, error),
    })
}

/// Whether the file has another name, beside which its log may be. A server that has it keeps the log beside the name
/// that it knows.
fn is_log_elsewhere(found: &Metadata, file: &Path) -> Result<bool, OpenError> {
    Ok(found.is_file() && found.nlink() > 1 && !file::exists(&with_suffix(file, "-wal"))?)
}

/// The backup `path`, from which `owner` is given what it holds. What root can read and the owner cannot is no backup of
/// theirs: whoever has the folder could have put a link to it there.
fn backup_for(owner: Owner, path: &Path) -> Result<Metadata, BackupError> {
    let error = |source| read_error(path, source);
    if owner.is_this_user() {
        return fs::metadata(path).map_err(error);
    }
    let found = walk(&std::path::absolute(path).map_err(error)?).map_err(error)?;
    let found = found.ok_or_else(|| BackupError::BehindLink { path: path.to_owned() })?;
    if owner.is_users(&found) || (file::is_own(&found) && found.nlink() == 1) {
        Ok(found)
    } else {
        Err(BackupError::NotTheirs { path: path.to_owned() })
    }
}

/// What an absolute path leads to, folder by folder; `None` where that takes a link that another user can change.
fn walk(path: &Path) -> io::Result<Option<Metadata>> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let mut reached = File::open("/")?;
    for name in path.components().skip(1) {
        let open = |flags| openat(&reached, name.as_os_str(), flags, Mode::empty()).map(File::from);
        reached = match open(flags | OFlags::NOFOLLOW) {
            Err(Errno::LOOP) => {
                let link = statat(&reached, name.as_os_str(), AtFlags::SYMLINK_NOFOLLOW)?;
                if link.st_uid != geteuid().as_raw() || !file::is_own(&reached.metadata()?) {
                    return Ok(None);
                }
                open(flags)?
            }
            opened => opened?,
        };
    }
    reached.metadata().map(Some)
}

/// Opens a file that was looked at, to read it, and tells whether it is known to be the same: whoever has its folder can
/// put another in its place, or a link to one. A process that has the file open already may use a handle again, and then
/// it is not known.
fn open_found(path: &Path, found: &Metadata, kind: Kind) -> Result<(Connection, bool), BackupError> {
    let count = || count_handles(found).map_err(|error| read_error(path, error));
    let before = count()?;
    let reader = open_reader(path, kind)?;
    match count()? {
        0 => Err(BackupError::Swapped { path: path.to_owned() }),
        after => Ok((reader, after > before)),
    }
}

/// Opens a file that is there, to read it. It is only ever opened by SQLite, unless SQLite cannot: a handle of our own
/// would take the locks of this whole process with it when it is closed.
fn open_reader(path: &Path, kind: Kind) -> Result<Connection, BackupError> {
    let found = fs::metadata(path).map_err(|error| read_error(path, error))?;
    if !found.is_file() {
        return Err(OpenError::NotADatabase { path: path.to_owned() }.into());
    }
    let own_name = fs::canonicalize(path).map_err(|error| read_error(path, error))?;
    file::refuse_emptied(&own_name, path)?;
    let open_and_read = || {
        let reader = open(&own_name, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        // SQLite opens a file with the first read of it.
        reader.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
        Ok(reader)
    };
    // SQLite would make a log and an index for a file that says that it has a log, also to read it, and leave them: a
    // copy of the database's file alone would look like a database in use from then on. Whoever has such a file open
    // has a log beside it.
    let has_lost_its_log =
        || Ok::<_, io::Error>(!with_suffix(&own_name, "-wal").try_exists()? && file::has_log(&own_name)?);
    if matches!(kind, Kind::Backup)
        && has_lost_its_log().map_err(|error| read_error(path, error))?
        && let Some(opened) = file::open_without_index(&own_name)
    {
        return opened.map_err(|error| sqlite_error(path, error));
    }
    let opened = match (open_and_read(), kind) {
        (Err(error), Kind::Database { .. }) if file::has_hot_journal(&error) => {
            file::roll_back_hot_journal(&own_name, path, BUSY_TIMEOUT)?;
            open_and_read()
        }
        (Err(error), Kind::Backup) if file::has_hot_journal(&error) => {
            return Err(BackupError::HotJournal { path: path.to_owned() });
        }
        (Err(error), kind) if file::is_not_opened(&error) => {
            let is_on_read_only_disk = match kind {
                Kind::Database { is_on_read_only_disk } => is_on_read_only_disk,
                Kind::Backup => file::is_on_read_only_disk(path),
            };
            let opened = if is_on_read_only_disk { file::open_without_index(&own_name) } else { None };
            opened.unwrap_or(Err(error))
        }
        (opened, _) => opened,
    };
    opened.map_err(|error| sqlite_error(path, error))
}

/// Opens a file by its own name; waits for whoever has it locked.
fn open(own_name: &Path, flags: OpenFlags) -> rusqlite::Result<Connection> {
    let connection = file::open(own_name, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    Ok(connection)
}

/// Sets a pragma that answers what it is now, and insists.
fn set(connection: &Connection, pragma: &'static str, value: &'static str) -> rusqlite::Result<()> {
    let now: String = connection.pragma_update_and_check(None, pragma, value, |row| row.get(0))?;
    if now == value {
        return Ok(());
    }
    let error = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_ERROR);
    Err(rusqlite::Error::SqliteFailure(error, Some(format!("its {pragma} stays {now}"))))
}

fn write_error(path: &Path, source: io::Error) -> BackupError {
    BackupError::Write { path: path.to_owned(), source }
}

fn read_error(path: &Path, error: io::Error) -> BackupError {
    BackupError::Read { path: path.to_owned(), source: Arc::new(error) }
}

fn copy_error(from: &Path, to: &Path, error: rusqlite::Error) -> BackupError {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => sqlite_error(from, error),
        _ => BackupError::Copy { from: from.to_owned(), to: to.to_owned(), source: Arc::new(error) },
    }
}

/// What SQLite's error says of the file that it was reading.
fn sqlite_error(path: &Path, error: rusqlite::Error) -> BackupError {
    let path = path.to_owned();
    match error.sqlite_error_code() {
        _ if file::is_without_index(&error) => OpenError::NoRoom { path }.into(),
        Some(ErrorCode::NotADatabase) => OpenError::NotADatabase { path }.into(),
        Some(ErrorCode::DatabaseCorrupt) => BackupError::Damaged { path, findings: error.to_string() },
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => BackupError::Busy { path },
        Some(ErrorCode::OperationInterrupted) => BackupError::Stopped,
        _ => BackupError::Read { path, source: Arc::new(error) },
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn what_is_put_in_the_place_of_an_unfinished_file_is_neither_opened_nor_placed() {
        let folder = tempfile::tempdir().unwrap();
        let victim = folder.path().join("victim.db");
        Connection::open(&victim).unwrap().execute_batch("CREATE TABLE theirs (a TEXT)").unwrap();
        let before = fs::read(&victim).unwrap();
        let swaps: [&dyn Fn(&Path); 4] = [
            &|path| symlink(&victim, path).unwrap(),
            &|path| fs::hard_link(&victim, path).unwrap(),
            &|path| drop(File::create(path).unwrap()),
            &|_| {},
        ];
        for swap in swaps {
            let target = folder.path().join("copy.db");
            let partial = Partial::create(&target).unwrap();
            let opened = partial.open(|path| file::open(path, OpenFlags::SQLITE_OPEN_READ_WRITE)).unwrap().unwrap();
            drop(opened);
            fs::remove_file(&partial.path).unwrap();
            swap(&partial.path);
            for open in [
                |path: &Path| file::open(path, OpenFlags::SQLITE_OPEN_READ_WRITE),
                |path: &Path| file::open_alone(path),
            ] {
                assert!(matches!(partial.open(open), Err(BackupError::Replaced { .. })));
            }
            assert!(matches!(partial.place(), Err(BackupError::Replaced { .. })));
            assert!(fs::symlink_metadata(&target).is_err());
        }
        assert_eq!(fs::read(&victim).unwrap(), before);
    }

    #[test]
    fn what_is_put_in_the_place_of_a_file_that_was_looked_at_is_not_read_for_it() {
        let folder = tempfile::tempdir().unwrap();
        let [looked_at, victim] = ["looked_at.db", "victim.db"].map(|name| folder.path().join(name));
        for path in [&looked_at, &victim] {
            Connection::open(path).unwrap().execute_batch("CREATE TABLE texts (a TEXT)").unwrap();
        }
        let found = fs::metadata(&looked_at).unwrap();
        let open = || open_found(&looked_at, &found, Kind::Backup);
        assert!(matches!(open(), Ok((_, true))));
        fs::rename(&looked_at, folder.path().join("moved.db")).unwrap();
        let swaps: [&dyn Fn(); 2] =
            [&|| symlink(&victim, &looked_at).unwrap(), &|| assert!(fs::copy(&victim, &looked_at).is_ok())];
        for swap in swaps {
            swap();
            assert!(matches!(open(), Err(BackupError::Swapped { .. })));
            fs::remove_file(&looked_at).unwrap();
        }
    }
}
