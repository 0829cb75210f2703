//! Backups by the clock: one is made when it is due, tried, and the oldest ones make room.
//!
//! When the first one is due follows from the newest good one in the folder, so a restart neither skips one nor makes
//! one too many. From then on the monotonic clock counts, and setting the wall clock neither stops nor hurries them.
//! The work is done by a thread of its own that steps aside for whatever else there is to do.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, Thread};
use std::time::Duration;

use thiserror::Error;
use tokio::sync::watch;

use crate::repository::sqlite::OpenError;
use crate::repository::sqlite::backup::{self, BackupError, BackupReport, Existing, Stop};
use crate::system::clock::{Clock, Monotonic, Timestamp};
use crate::system::error_chain::Chain;
use crate::system::priority::lower_priority;

/// How far a backup steps aside: it is in no hurry.
const NICENESS: i32 = 15;

/// How often the clock is asked. Sleeping until the next backup would miss a machine that was suspended.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How far the clock may be set back behind the newest backup before its name is no time to tell of.
const PUT_RIGHT_WITHIN: Duration = Duration::from_secs(60);

/// How soon a backup that failed is tried again, at the latest.
const RETRY_AFTER: Duration = Duration::from_secs(5 * 60);

/// What the name of a backup begins and ends with, around its time.
const NAME: (&str, &str) = ("authtokens-", ".db");

/// What is put behind the name of a backup that was found to be damaged.
const DAMAGED: &str = ".damaged";

/// What stands beside a database that is or was in use, and never beside a backup.
const IN_USE: [&str; 2] = ["-wal", ".lock"];

/// What is backed up, where to and how often.
#[derive(Clone, Debug)]
pub struct BackupSettings {
    /// The database.
    pub database: PathBuf,
    /// Where the backups are; made where it is missing.
    pub folder: PathBuf,
    /// How long after a backup the next one is due.
    pub every: Duration,
    /// How many are kept.
    pub keep: usize,
}

/// How the backups are doing. Clones show the same.
#[derive(Clone, Debug, Default)]
pub struct BackupStatus(Arc<Mutex<BackupFigures>>);

/// How the backups are doing as of one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BackupFigures {
    /// The moment that the newest good backup holds.
    pub last_good: Option<Timestamp>,
    /// When a backup last failed.
    pub last_failed: Option<Timestamp>,
    /// How large the last backup that this process made is, in bytes.
    pub size: u64,
    /// How long it took.
    pub took: Duration,
    /// How many backups there are.
    pub kept: usize,
    /// How many backups this process has made.
    pub made: u64,
    /// How many failed.
    pub failed: u64,
}

impl BackupStatus {
    /// As of now.
    #[must_use]
    pub fn figures(&self) -> BackupFigures {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn update(&self, update: impl FnOnce(&mut BackupFigures)) {
        update(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// The thread that makes them. It is told to stop when this is dropped.
pub struct Backups {
    status: BackupStatus,
    stop: Stop,
    thread: Thread,
    /// Its other end goes away with the thread.
    ended: watch::Receiver<()>,
}

impl Backups {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system gives none.
    pub fn start(settings: BackupSettings, clock: Clock) -> io::Result<Self> {
        let status = BackupStatus::default();
        let stop = Stop::default();
        let (end, ended) = watch::channel(());
        let mut schedule = Schedule {
            mounted_at: mount_point_of(&settings.folder),
            settings,
            clock,
            stop: stop.clone(),
            status: status.clone(),
            newest: None,
            bad: Vec::new(),
        };
        let thread = thread::Builder::new().name("authtokens backup".to_owned()).spawn(move || {
            lower_priority("the backup thread", NICENESS);
            schedule.keep_backing_up();
            drop(end);
        })?;
        Ok(Self { status, stop, thread: thread.thread().clone(), ended })
    }

    /// How they are doing.
    #[must_use]
    pub fn status(&self) -> BackupStatus {
        self.status.clone()
    }

    /// Tells the thread to stop. A backup that is being made is given up.
    pub fn tell_to_stop(&self) {
        self.stop.ask();
        self.thread.unpark();
    }

    /// Tells the thread to stop and waits until it has.
    pub async fn stop(&self) {
        self.tell_to_stop();
        let _ = self.ended.clone().changed().await;
    }
}

impl Drop for Backups {
    fn drop(&mut self) {
        self.tell_to_stop();
    }
}

/// Why there is no new backup.
#[derive(Debug, Error)]
enum RunError {
    #[error("cannot make the folder {path}: {source}")]
    Folder { path: PathBuf, source: io::Error },
    #[error("nothing is mounted at {path} any more, where the disk of the backups was")]
    Unmounted { path: PathBuf },
    #[error(transparent)]
    Backup(#[from] BackupError),
    #[error("it panicked")]
    Panicked,
}

struct Schedule {
    settings: BackupSettings,
    clock: Clock,
    stop: Stop,
    status: BackupStatus,
    /// The newest good backup, and the moment that it holds.
    newest: Option<(Timestamp, PathBuf)>,
    /// Where the disk is mounted that the last backup was made on, where that is not the one of the whole system.
    mounted_at: Option<PathBuf>,
    /// The backups that are known to be no good and have kept their names. A person may still want them.
    bad: Vec<PathBuf>,
}

impl Schedule {
    fn keep_backing_up(&mut self) {
        let mut due = self.due_by_the_newest();
        while !self.stop.is_asked() {
            let (now, monotonic) = (self.clock.now(), self.clock.monotonic());
            // Somebody may have deleted it.
            let is_gone = self.newest.as_ref().is_some_and(|(_, path)| !path.is_file());
            // The clock may have been set back behind it.
            let is_from_the_future = self.newest.as_ref().is_some_and(|(time, _)| *time > now.plus(PUT_RIGHT_WITHIN));
            if is_gone || is_from_the_future {
                // It takes its time to read the one before it.
                self.status.update(|figures| figures.last_good = None);
                let due_by_the_newest = self.due_by_the_newest();
                if is_gone {
                    due = due_by_the_newest;
                }
            }
            if monotonic < due {
                thread::park_timeout(LOOK_EVERY);
                continue;
            }
            match guarded(|| self.back_up(now)) {
                Ok(()) => due = monotonic.plus(self.settings.every),
                Err(RunError::Backup(BackupError::Stopped)) => {}
                Err(error) => {
                    let retry_after = self.settings.every.min(RETRY_AFTER);
                    log::error!(
                        "no backup was made, and it is tried again in {} s: {}",
                        retry_after.as_secs(),
                        Chain(&error)
                    );
                    self.status.update(|figures| {
                        figures.last_failed = Some(now);
                        figures.failed += 1;
                    });
                    due = self.clock.monotonic().plus(retry_after);
                }
            }
        }
    }

    /// When the next one is due by the newest good one in the folder: at once where there is none.
    fn due_by_the_newest(&mut self) -> Monotonic {
        let (now, monotonic) = (self.clock.now(), self.clock.monotonic());
        let newest = guarded(|| Ok(self.find_newest(now))).unwrap_or_default();
        let wait = newest.as_ref().map(|(time, _)| self.settings.every.saturating_sub(now.since(*time)));
        let due = monotonic.plus(wait.unwrap_or_default());
        self.status.update(|figures| figures.last_good = newest.as_ref().map(|(time, _)| *time));
        self.newest = newest;
        due
    }

    fn find_newest(&mut self, now: Timestamp) -> Option<(Timestamp, PathBuf)> {
        let found = self.list().unwrap_or_default();
        self.status.update(|figures| figures.kept = found.len());
        // A name from the future tells of a clock that was wrong, and not when the backup was made.
        for (time, path) in found.into_iter().rev().filter(|(time, _)| *time <= now) {
            if self.bad.contains(&path) {
                continue;
            }
            match backup::check(&path, None, &self.stop, &mut |_| {}) {
                Ok(_) => return Some((time, path)),
                Err(BackupError::Stopped) => break,
                Err(error) => {
                    log::error!("a backup is no good: {}", Chain(&error));
                    self.set_aside(path, &error);
                }
            }
        }
        None
    }

    /// Keeps a backup that is no good out of the way: by another name where it will never be good, so that no later start
    /// takes it for one that may be deleted.
    fn set_aside(&mut self, path: PathBuf, error: &BackupError) {
        let is_damaged = matches!(
            error,
            BackupError::Damaged { .. }
                | BackupError::Empty { .. }
                | BackupError::Database(OpenError::NotADatabase { .. })
        );
        let mut aside = path.clone().into_os_string();
        aside.push(DAMAGED);
        if is_damaged && fs::symlink_metadata(&aside).is_err() && fs::rename(&path, &aside).is_ok() {
            log::error!("the damaged backup is now {}", aside.display());
        } else {
            self.bad.push(path);
        }
    }

    fn back_up(&mut self, now: Timestamp) -> Result<(), RunError> {
        let BackupSettings { database, folder, keep, .. } = &self.settings;
        // A backup in the folder over which a disk is soon mounted again would fill the wrong disk, and nobody would see it.
        if let Some(path) = self.mounted_at.as_ref().filter(|path| !is_mount_point(path)) {
            return Err(RunError::Unmounted { path: path.clone() });
        }
        let folder_error = |source| RunError::Folder { path: folder.clone(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(folder_error)?;
        let path = folder.join(format!("{}{}{}", NAME.0, now.compact(), NAME.1));
        let BackupReport { check, took } = backup::back_up(database, &path, Existing::Refuse, &self.stop, &mut |_| {})?;
        // Once more, under its own name and as whoever restores it finds it.
        match backup::check(&path, None, &self.stop, &mut |_| {}) {
            Ok(_) => {}
            // It was checked before it took its name, and the next start tries it again.
            Err(BackupError::Stopped) => return Err(BackupError::Stopped.into()),
            Err(error) => {
                let _ = fs::remove_file(&path);
                return Err(error.into());
            }
        }
        log::info!("backed up to {}: {} bytes in {} ms", path.display(), check.size(), took.as_millis());
        self.status.update(|figures| {
            figures.last_good = Some(now);
            figures.size = check.size();
            figures.took = took;
            figures.made += 1;
        });
        self.make_room(now, &path, *keep);
        self.mounted_at = mount_point_of(&self.settings.folder);
        self.newest = Some((now, path));
        Ok(())
    }

    /// Deletes the oldest beyond `keep`, and never the one that was just `made`. What is no good, and what has a name
    /// from the future, takes nobody's room.
    fn make_room(&self, now: Timestamp, made: &Path, keep: usize) {
        let found = match self.list() {
            Ok(found) => found,
            Err(error) => {
                let folder = self.settings.folder.display();
                return log::error!("the old backups in {folder} cannot be listed: {}", Chain(&error));
            }
        };
        let older: Vec<&PathBuf> = found
            .iter()
            .filter(|(time, path)| *time <= now && path != made && !self.bad.contains(path))
            .map(|(_, path)| path)
            .collect();
        let mut kept = found.len();
        for path in &older[..older.len().saturating_sub(keep.saturating_sub(1))] {
            match fs::remove_file(path) {
                Ok(()) => kept -= 1,
                Err(error) => log::error!("the old backup {} could not be deleted: {}", path.display(), Chain(&error)),
            }
        }
        self.status.update(|figures| figures.kept = kept);
    }

    /// The backups in the folder, oldest first: plain files with a backup's name, but for the database itself and
    /// whatever else is served under such a name.
    fn list(&self) -> io::Result<Vec<(Timestamp, PathBuf)>> {
        let database = fs::metadata(&self.settings.database).ok().map(|found| (found.dev(), found.ino()));
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.settings.folder)? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            let time = name.strip_prefix(NAME.0).and_then(|name| name.strip_suffix(NAME.1));
            let Some(time) = time.and_then(Timestamp::from_compact) else { continue };
            let file = entry.metadata()?;
            let is_in_use = database == Some((file.dev(), file.ino()))
                || IN_USE.iter().any(|suffix| {
                    let beside = entry.path().with_file_name(format!("{name}{suffix}"));
                    // What cannot be looked at may be there, and what may be in use is not deleted.
                    beside.try_exists().unwrap_or(true)
                });
            if file.is_file() && !is_in_use {
                found.push((time, entry.path()));
            }
        }
        found.sort();
        Ok(found)
    }
}

/// The folder at which the disk of this one is mounted; `None` for the disk of the whole system, and for a folder that is
/// not there yet.
fn mount_point_of(folder: &Path) -> Option<PathBuf> {
    let folder = fs::canonicalize(folder).ok()?;
    folder.ancestors().find(|part| is_mount_point(part)).map(Path::to_owned)
}

/// Whether a folder is on another disk than the one above it.
fn is_mount_point(folder: &Path) -> bool {
    let device = |folder: &Path| fs::metadata(folder).map(|found| found.dev()).ok();
    folder.parent().is_some_and(|above| device(folder) != device(above))
}

/// A panic fails the backup that it meets and not those to come.
fn guarded<T>(work: impl FnOnce() -> Result<T, RunError>) -> Result<T, RunError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or(Err(RunError::Panicked))
}
