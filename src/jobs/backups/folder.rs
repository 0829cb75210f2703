//! The folder of the scheduled backups: which backups it holds, which of them are bad, and which are deleted.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::repository::BackupError;
use crate::system::clock::Timestamp;
use crate::system::error_chain::Chain;

/// What the name of a backup begins and ends with, around its time.
const NAME: (&str, &str) = ("authtokens-", ".db");

/// What is appended to the name of a backup that was found to be damaged.
const DAMAGED: &str = ".damaged";

/// The suffixes of the files beside a database that is or was in use. A backup has none of them.
const IN_USE: [&str; 2] = ["-wal", ".lock"];

/// Why no backup can be written to the folder.
#[derive(Debug, Error)]
pub(super) enum FolderError {
    #[error("cannot make the folder {path}: {source}")]
    Make { path: PathBuf, source: io::Error },
    #[error("nothing is mounted at {path} any more, where the disk of the backups was")]
    Unmounted { path: PathBuf },
}

/// The folder, and what is known of the backups in it.
pub(super) struct Folder {
    path: PathBuf,
    /// The database itself, which may be in there too.
    database: PathBuf,
    /// The mount point of the disk that the last backup was written to; `None` for the root file system.
    mounted_at: Option<PathBuf>,
    /// The backups that are known to be bad and have kept their names. A person may still want them.
    bad: Vec<PathBuf>,
}

impl Folder {
    pub(super) fn new(path: PathBuf, database: PathBuf) -> Self {
        Self { mounted_at: mount_point_of(&path), path, database, bad: Vec::new() }
    }

    /// The path of a backup of this moment. The folder is made where it is missing.
    pub(super) fn path_for(&self, now: Timestamp) -> Result<PathBuf, FolderError> {
        // Without its disk the folder is one of the root file system. A backup there would fill the wrong disk, and
        // would be hidden once the disk is mounted again.
        if let Some(path) = self.mounted_at.as_ref().filter(|path| !is_mount_point(path)) {
            return Err(FolderError::Unmounted { path: path.clone() });
        }
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&self.path);
        made.map_err(|source| FolderError::Make { path: self.path.clone(), source })?;
        Ok(self.path.join(format!("{}{}{}", NAME.0, now.compact(), NAME.1)))
    }

    /// The backups that may be good, newest first. Those with a name from the future are left out: the clock was wrong
    /// when they were made.
    pub(super) fn candidates(&self, now: Timestamp) -> Vec<(Timestamp, PathBuf)> {
        let found = self.list().unwrap_or_default().into_iter().rev();
        found.filter(|(time, path)| *time <= now && !self.bad.contains(path)).collect()
    }

    /// Takes a bad backup out of the rotation. One that is damaged for good is renamed, so that no later start counts
    /// it, or deletes it.
    pub(super) fn set_aside(&mut self, path: PathBuf, error: &BackupError) {
        let is_damaged =
            matches!(error, BackupError::Damaged { .. } | BackupError::Empty { .. } | BackupError::NotADatabase { .. });
        let mut aside = path.clone().into_os_string();
        aside.push(DAMAGED);
        if is_damaged && fs::symlink_metadata(&aside).is_err() && fs::rename(&path, &aside).is_ok() {
            log::error!("the damaged backup is now {}", aside.display());
        } else {
            self.bad.push(path);
        }
    }

    /// Retention: deletes the oldest backups beyond `keep`, and never the one that was just `made`. Bad backups, and
    /// those with a name from the future, neither count nor are deleted.
    pub(super) fn prune(&self, now: Timestamp, made: &Path, keep: usize) {
        let found = match self.list() {
            Ok(found) => found,
            Err(error) => {
                let folder = self.path.display();
                return log::error!("the old backups in {folder} cannot be listed: {}", Chain(&error));
            }
        };
        let older: Vec<&PathBuf> = found
            .iter()
            .filter(|(time, path)| *time <= now && path != made && !self.bad.contains(path))
            .map(|(_, path)| path)
            .collect();
        for path in &older[..older.len().saturating_sub(keep.saturating_sub(1))] {
            if let Err(error) = fs::remove_file(path) {
                log::error!("the old backup {} could not be deleted: {}", path.display(), Chain(&error));
            }
        }
    }

    /// Remembers which disk the folder is on, after a backup was made there.
    pub(super) fn remember_disk(&mut self) {
        self.mounted_at = mount_point_of(&self.path);
    }

    /// The backups in the folder, oldest first: plain files with a backup's name. The database itself, and any other
    /// database that is in use, is left out.
    fn list(&self) -> io::Result<Vec<(Timestamp, PathBuf)>> {
        let database = fs::metadata(&self.database).ok().map(|found| (found.dev(), found.ino()));
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            let time = name.strip_prefix(NAME.0).and_then(|name| name.strip_suffix(NAME.1));
            let Some(time) = time.and_then(Timestamp::from_compact) else { continue };
            let file = entry.metadata()?;
            let is_in_use = database == Some((file.dev(), file.ino()))
                || IN_USE.iter().any(|suffix| {
                    let beside = entry.path().with_file_name(format!("{name}{suffix}"));
                    // A file that cannot be looked at may be there, and a database that may be in use must not be
                    // deleted.
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

/// The mount point of the disk that a folder is on; `None` for the root file system, and for a folder that is missing.
fn mount_point_of(folder: &Path) -> Option<PathBuf> {
    let folder = fs::canonicalize(folder).ok()?;
    folder.ancestors().find(|part| is_mount_point(part)).map(Path::to_owned)
}

/// Whether a folder is on another disk than its parent.
fn is_mount_point(folder: &Path) -> bool {
    let device = |folder: &Path| fs::metadata(folder).map(|found| found.dev()).ok();
    folder.parent().is_some_and(|above| device(folder) != device(above))
}
