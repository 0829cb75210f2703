//! The schedule of the backups: when one is due, and what is done then.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use thiserror::Error;

use crate::config::DatabaseConfig;
use crate::jobs::backups::folder::{Folder, FolderError};
use crate::jobs::backups::status::{BackupFigures, BackupStatus};
use crate::repository::{BackupError, BackupReport, Existing, Stop, open};
use crate::system::clock::{Clock, Monotonic, Timestamp};
use crate::system::error_chain::Chain;

/// How often the clock is read. One long sleep until the next backup would not count the time of a suspended machine.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How far the clock may be behind the newest backup's time. Beyond it that time is taken for wrong.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(60);

/// How long to wait, at most, before a failed backup is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(5 * 60);

/// What is backed up, where to and how often.
#[derive(Clone, Debug)]
pub struct BackupSettings {
    /// The database to back up.
    pub database: DatabaseConfig,
    /// Where the backups go; made where it is missing.
    pub folder: PathBuf,
    /// How long after a backup the next one is due.
    pub every: Duration,
    /// How many backups are kept.
    pub keep: usize,
}

/// Why there is no new backup.
#[derive(Debug, Error)]
enum RunError {
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error(transparent)]
    Backup(#[from] BackupError),
    #[error("it panicked")]
    Panicked,
}

/// Makes a backup whenever one is due.
pub(super) struct Schedule {
    settings: BackupSettings,
    folder: Folder,
    clock: Clock,
    stop: Stop,
    status: BackupStatus,
    /// The newest good backup, and the time of its snapshot.
    newest: Option<(Timestamp, PathBuf)>,
}

impl Schedule {
    pub(super) fn new(settings: BackupSettings, clock: Clock, stop: Stop, status: BackupStatus) -> Self {
        let folder = Folder::new(settings.folder.clone(), settings.database.path.clone());
        Self { settings, folder, clock, stop, status, newest: None }
    }

    /// Runs until it is told to stop.
    pub(super) fn keep_backing_up(&mut self) {
        let mut due = self.due_by_the_newest();
        while !self.stop.is_asked() {
            let (now, monotonic) = (self.clock.now(), self.clock.monotonic());
            // Somebody may have deleted the newest backup.
            let is_gone = self.newest.as_ref().is_some_and(|(_, path)| !path.is_file());
            // The clock may have been set back behind it.
            let is_from_the_future = self.newest.as_ref().is_some_and(|(time, _)| *time > now.plus(CLOCK_TOLERANCE));
            if is_gone || is_from_the_future {
                // To check the one before it may take minutes. Until then no good backup is known.
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
                    self.status.runs().failed();
                    due = self.clock.monotonic().plus(retry_after);
                }
            }
        }
    }

    /// When the next backup is due: one interval after the newest good one in the folder, or at once where there is
    /// none.
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
        for (time, path) in self.folder.candidates(now) {
            match open::check(&self.settings.database, Some(&path), None, &self.stop, &mut |_| {}) {
                Ok(_) => return Some((time, path)),
                Err(BackupError::Stopped) => break,
                Err(error) => {
                    log::error!("a backup did not pass its check: {}", Chain(&error));
                    self.folder.set_aside(path, &error);
                }
            }
        }
        None
    }

    fn back_up(&mut self, now: Timestamp) -> Result<(), RunError> {
        let BackupSettings { database, keep, .. } = &self.settings;
        let path = self.folder.path_for(now)?;
        let BackupReport { check, took } = open::back_up(database, &path, Existing::Refuse, &self.stop, &mut |_| {})?;
        // A second check, under its own name: the file as a restore finds it.
        match open::check(&self.settings.database, Some(&path), None, &self.stop, &mut |_| {}) {
            Ok(_) => {}
            // The file stays: it was checked before it got its name, and the next start checks it again.
            Err(BackupError::Stopped) => return Err(BackupError::Stopped.into()),
            Err(error) => {
                let _ = fs::remove_file(&path);
                return Err(error.into());
            }
        }
        log::info!("backed up to {}: {} bytes in {} ms", path.display(), check.size(), took.as_millis());
        self.status.update(|figures| *figures = BackupFigures { last_good: Some(now), size: check.size() });
        self.status.runs().succeeded(now);
        self.folder.prune(now, &path, *keep);
        self.folder.remember_disk();
        self.newest = Some((now, path));
        Ok(())
    }
}

/// Turns a panic into an error, so that it fails this backup and not those to come.
fn guarded<T>(work: impl FnOnce() -> Result<T, RunError>) -> Result<T, RunError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or(Err(RunError::Panicked))
}
