//! A file that is written under a temporary name, and renamed when it is finished.

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

/// What the temporary name ends with, before the id of the process that writes the file.
const PARTIAL: &str = ".authtokens-partial-";

/// The longest name to which SQLite can still append its suffixes.
const LONGEST_NAME: usize = 255 - "-journal".len();

/// An unfinished file. Dropping it before [`Partial::publish`] removes it. What a killed process left behind is known
/// by its free lock, and is removed when the next one is made in the same folder.
pub(in crate::repository::sqlite) struct Partial {
    /// The temporary name. Its folder is reached without links.
    path: PathBuf,
    pub(super) target: PathBuf,
    pub(super) file: File,
    is_published: bool,
}

impl Partial {
    /// Creates it beside `target`, with mode 0600.
    pub(super) fn create(target: &Path) -> Result<Self, BackupError> {
        let error = |source| write_error(target, source);
        let Some(name) = target.file_name() else {
            return Err(error(io::Error::from(io::ErrorKind::InvalidInput)));
        };
        let folder = fs::canonicalize(folder_of(target)).map_err(error)?;
        sweep(&folder).map_err(error)?;
        let end = format!("{PARTIAL}{}", std::process::id());
        // The name is cut to what fits.
        let name = name.as_bytes();
        let mut own_name = OsString::from(".");
        own_name.push(OsStr::from_bytes(&name[..name.len().min(LONGEST_NAME - 1 - end.len())]));
        own_name.push(end);
        let path = folder.join(own_name);
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path).map_err(error)?;
        let partial = Self { path, target: target.to_owned(), file, is_published: false };
        partial.file.try_lock().map_err(|failure| error(failure.into()))?;
        // The umask may have taken more than it should.
        partial.file.set_permissions(Permissions::from_mode(0o600)).map_err(error)?;
        // Before it was locked, another process may have removed it as one that was left behind.
        if partial.file.metadata().map_err(error)?.nlink() == 0 {
            return Err(error(io::Error::from(io::ErrorKind::NotFound)));
        }
        Ok(partial)
    }

    /// The same, with another owner; an error where the owner cannot be set.
    pub(super) fn create_for(owner: Owner, target: &Path) -> Result<Self, BackupError> {
        let partial = Self::create(target)?;
        owner.take(&partial.file).map_err(|source| write_error(target, source))?;
        Ok(partial)
    }

    /// Has SQLite open it with `open`, which needs its name. The folder's owner can put another file there, which a
    /// copy by root would overwrite. So nothing is read or written before SQLite is known to have this very file open.
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

    /// Whether the temporary name still leads to this file.
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

    /// Syncs it and renames it to its target.
    pub(super) fn publish(mut self) -> Result<(), BackupError> {
        self.flush()?;
        let replaced = || BackupError::Replaced { path: self.target.clone() };
        if !self.has_its_name() {
            return Err(replaced());
        }
        fs::rename(&self.path, &self.target).map_err(|source| write_error(&self.target, source))?;
        if !self.is_at(&self.target) {
            return Err(replaced());
        }
        self.is_published = true;
        flush_folder(&self.target)
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.is_published {
            remove_partial(&self.path);
        }
    }
}

/// Removes what killed processes left behind in a folder: files with a temporary name that nobody has locked.
pub(super) fn sweep(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let is_partial = name.starts_with('.')
            && name.rsplit_once(PARTIAL).is_some_and(|(_, process)| process.bytes().all(|byte| byte.is_ascii_digit()));
        if !is_partial || !entry.file_type()?.is_file() {
            continue;
        }
        // One that cannot be opened belongs to another user, whose processes remove it.
        if let Ok(file) = file::open_unlinked(OpenOptions::new().read(true).write(true), &entry.path())
            && file.try_lock().is_ok()
        {
            remove_partial(&entry.path());
        }
    }
    Ok(())
}

/// The file itself is removed last: the sweep finds the others by its name.
fn remove_partial(path: &Path) {
    for suffix in ["-wal", "-shm", "-journal", ""] {
        let _ = fs::remove_file(with_suffix(path, suffix));
    }
}

pub(super) fn is_same(one: &Metadata, other: &Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

/// How many handles (file descriptors) of a file this process has.
pub(super) fn count_handles(own: &Metadata) -> io::Result<usize> {
    let listed = fs::read_dir("/proc/self/fd").or_else(|_| fs::read_dir("/dev/fd"))?;
    // One that was closed meanwhile does not count.
    let of_it = |path: PathBuf| fs::metadata(path).is_ok_and(|found| is_same(own, &found));
    Ok(listed.filter_map(Result::ok).filter(|handle| of_it(handle.path())).count())
}

/// Syncs a file's folder: what was renamed, created or removed in it.
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
    fn what_replaces_an_unfinished_file_is_neither_opened_nor_published() {
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
            assert!(matches!(partial.publish(), Err(BackupError::Replaced { .. })));
            assert!(fs::symlink_metadata(&target).is_err());
        }
        assert_eq!(fs::read(&victim).unwrap(), before);
    }
}
