//! A file that is being made, and takes its name only when it is finished.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::error::write_error;
use crate::repository::BackupError;
use crate::repository::sqlite::file::{self, Owner, folder_of, with_suffix};

/// What the name of a file that is not finished ends with, before the number of the process that makes it.
const PARTIAL: &str = ".authtokens-partial-";

/// How many bytes of a name leave room for what SQLite puts behind it.
const LONGEST_NAME: usize = 255 - "-journal".len();

/// A file that is not finished. Whoever drops it before it is placed removes it; what a killed process left behind is
/// known by its lock being free, and is swept by the next one that is made in the same folder.
pub(super) struct Partial {
    /// In a folder whose name has no links.
    path: PathBuf,
    pub(super) target: PathBuf,
    pub(super) file: File,
    is_placed: bool,
}

impl Partial {
    /// Makes it beside `target`, for its owner only.
    pub(super) fn create(target: &Path) -> Result<Self, BackupError> {
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
    pub(super) fn create_for(owner: Owner, target: &Path) -> Result<Self, BackupError> {
        let partial = Self::create(target)?;
        owner.take(&partial.file).map_err(|source| write_error(target, source))?;
        Ok(partial)
    }

    /// Has SQLite open it, by `open` and its name, as it must. Whoever has the folder can put another file there, so
    /// that what root copies would overwrite it: nothing is read or written before SQLite is known to have this very
    /// file.
    pub(super) fn open(
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

    pub(super) fn flush(&self) -> Result<(), BackupError> {
        self.file.sync_all().map_err(|source| write_error(&self.target, source))
    }

    /// Gives it its name, for good.
    pub(super) fn place(mut self) -> Result<(), BackupError> {
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

pub(super) fn is_same(one: &Metadata, other: &Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

/// How many handles of a file this process has.
pub(super) fn count_handles(own: &Metadata) -> io::Result<usize> {
    let listed = fs::read_dir("/proc/self/fd").or_else(|_| fs::read_dir("/dev/fd"))?;
    // One that was closed meanwhile is none.
    let of_it = |path: PathBuf| fs::metadata(path).is_ok_and(|found| is_same(own, &found));
    Ok(listed.filter_map(Result::ok).filter(|handle| of_it(handle.path())).count())
}

/// Brings what was renamed, made or removed in a file's folder to the disk.
pub(super) fn flush_folder(path: &Path) -> Result<(), BackupError> {
    let flushed = File::open(folder_of(path)).and_then(|folder| folder.sync_all());
    flushed.map_err(|source| write_error(path, source))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use rusqlite::OpenFlags;

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
}
