//! The database as a file: its owner and mode, its header, how it is opened, and its locks.
//!
//! Commands that root runs work in a folder of the service's user, who can replace anything there by a link at any
//! moment. So nothing is changed by its name alone: a file is created or opened without following a link, and changed
//! through that handle.

use std::fs::{self, DirBuilder, File, Metadata, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read as _};
use std::iter;
use std::ops::Range;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};
use rustix::fs::OFlags;

use super::error::{OpenError, schema_error};
use super::schema::{self, SchemaError};

/// The suffix of the lock file that a restore locks exclusively, and everyone else shared.
pub(super) const RESTORE_LOCK: &str = ".restore.lock";

/// The user and the group that own a file.
#[derive(Clone, Copy, PartialEq)]
pub(super) struct Owner {
    user: u32,
    group: u32,
}

impl Owner {
    pub(super) fn of(file: &Metadata) -> Self {
        Self { user: file.uid(), group: file.gid() }
    }

    pub(super) fn is_users(self, file: &Metadata) -> bool {
        self.user == file.uid()
    }

    pub(super) fn is_this_user(self) -> bool {
        self.user == rustix::process::geteuid().as_raw()
    }

    /// The owner of a file that is created beside the database of this name: that of the database, or else of its
    /// folder.
    fn beside(path: &Path) -> io::Result<Self> {
        fs::metadata(path).or_else(|_| fs::metadata(folder_of(path))).map(|found| Self::of(&found))
    }

    pub(super) fn take(self, file: &File) -> io::Result<()> {
        if Self::of(&file.metadata()?) == self { Ok(()) } else { fchown(file, Some(self.user), Some(self.group)) }
    }
}

/// Gives a new file to the owner of the database of this name, or of its folder: the service must be able to open what
/// a command of root creates. Only root can change an owner; for other users the file stays their own.
pub(super) fn give(made: &File, path: &Path) {
    let _ = Owner::beside(path).and_then(|owner| owner.take(made));
}

pub(super) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Creates a folder, with the owner of its parent.
fn make_one_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(path)?;
    let give = || {
        let made =
            OpenOptions::new().read(true).custom_flags(flags(OFlags::NOFOLLOW | OFlags::DIRECTORY)).open(path)?;
        Owner::of(&fs::metadata(folder_of(path))?).take(&made)
    };
    let _: io::Result<()> = give();
    Ok(())
}

fn flags(flags: OFlags) -> i32 {
    flags.bits().cast_signed()
}

/// Opens an existing file without following a link (`O_NOFOLLOW`), and without waiting for a pipe.
pub(super) fn open_unlinked(options: &OpenOptions, path: &Path) -> io::Result<File> {
    options.clone().custom_flags(flags(OFlags::NOFOLLOW | OFlags::NONBLOCK)).open(path).map_err(|error| {
        if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) {
            io::Error::new(error.kind(), "it is a symbolic link")
        } else {
            error
        }
    })
}

/// Whether there is something of this name; an error where that cannot be found out.
pub(super) fn exists(path: &Path) -> Result<bool, OpenError> {
    match path.try_exists() {
        // No file can have a name that is too long.
        Err(error) if error.kind() == io::ErrorKind::InvalidFilename => Ok(false),
        found => found.map_err(|source| OpenError::File { path: path.to_owned(), source }),
    }
}

/// Takes all permissions on a file from everyone but its owner. What is missing, or is not a plain file with one name,
/// is not changed.
pub(super) fn close_to_others(path: &Path) -> io::Result<()> {
    let closed_to_others = |found: &Metadata| {
        let is_open = found.is_file() && found.nlink() == 1 && found.mode() & 0o077 != 0;
        is_open.then(|| Permissions::from_mode(found.mode() & 0o700))
    };
    // `O_PATH`: closing a handle that could read the file would drop SQLite's locks.
    #[cfg(target_os = "linux")]
    let change = || {
        use std::os::fd::AsRawFd as _;
        let named = OpenOptions::new().read(true).custom_flags(flags(OFlags::PATH | OFlags::NOFOLLOW)).open(path)?;
        let Some(permissions) = closed_to_others(&named.metadata()?) else { return Ok(()) };
        fs::set_permissions(format!("/proc/self/fd/{}", named.as_raw_fd()), permissions)
    };
    #[cfg(not(target_os = "linux"))]
    let change = || {
        let Some(permissions) = closed_to_others(&fs::symlink_metadata(path)?) else { return Ok(()) };
        fs::set_permissions(path, permissions)
    };
    match change() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}

/// Whether this name is a mount point: no file can be renamed to it.
pub(super) fn is_mount_point(path: &Path) -> bool {
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statx};
        statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::empty())
            .is_ok_and(|found| found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = path;
        false
    }
}

/// Opens a lock file of the database, and creates it where it is missing. Only a new file changes its owner: a link of
/// this name could lead to a file that is not the folder owner's.
pub(super) fn open_lock(own_name: &Path, suffix: &str) -> io::Result<File> {
    let path = with_suffix(own_name, suffix);
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    match options.clone().create_new(true).open(&path) {
        Ok(made) => {
            give(&made, own_name);
            Ok(made)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => open_unlinked(&options, &path),
        Err(error) => Err(error),
    }
}

/// A lock file that is locked.
pub(super) struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing is not enough: a process that is being started at this moment may have inherited a copy of the
        // handle.
        let _ = self.0.unlock();
    }
}

impl Lock {
    /// Locks it exclusively; `None` where another process has it locked.
    pub(super) fn exclusive(file: File) -> io::Result<Option<Self>> {
        let locked = file.try_lock();
        Self::of(file, locked)
    }

    /// Locks it shared; `None` where another process has it locked exclusively.
    fn shared(file: File) -> io::Result<Option<Self>> {
        let locked = file.try_lock_shared();
        Self::of(file, locked)
    }

    fn of(file: File, locked: Result<(), TryLockError>) -> io::Result<Option<Self>> {
        match locked {
            Ok(()) => Ok(Some(Self(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

/// A shared lock of a process that uses the database by its name: while there is one, no restore replaces the file.
/// SQLite's own locks are not enough: a process that waits for one of them has the old file open already.
pub(super) struct SharedLock {
    /// `None` on a read-only file system without a lock file: nothing can be replaced there.
    _lock: Option<Lock>,
    /// Whether the file system is read-only.
    pub(super) is_read_only: bool,
}

impl SharedLock {
    /// Takes the lock, unless the database is being restored.
    pub(super) fn begin(own_name: &Path, path: &Path) -> Result<Self, OpenError> {
        let lock_path = with_suffix(own_name, RESTORE_LOCK);
        let (file, is_read_only) = match open_lock(own_name, RESTORE_LOCK) {
            Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => {
                (open_unlinked(OpenOptions::new().read(true), &lock_path), true)
            }
            file => (file, false),
        };
        if is_read_only && file.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
            return Ok(Self { _lock: None, is_read_only });
        }
        match file.and_then(Lock::shared) {
            Ok(Some(lock)) => Ok(Self { _lock: Some(lock), is_read_only }),
            Ok(None) => Err(OpenError::Restoring { path: path.to_owned() }),
            Err(source) => Err(OpenError::File { path: lock_path, source }),
        }
    }
}

/// Locks the database exclusively, against all other uses, for as long as the lock lives.
pub(super) fn lock_exclusively(own_name: &Path, path: &Path) -> Result<Lock, OpenError> {
    match open_lock(own_name, RESTORE_LOCK).and_then(Lock::exclusive) {
        Ok(Some(lock)) => Ok(lock),
        // The lock of a server, or of another restore, explains it; else it is a command.
        Ok(None) => lock_beside(own_name, path).and(Err(OpenError::InUseByCommand { path: path.to_owned() })),
        Err(source) => Err(OpenError::File { path: with_suffix(own_name, RESTORE_LOCK), source }),
    }
}

/// The first bytes of a file. Not for one that this process may have open: closing the handle would drop SQLite's locks
/// (POSIX advisory locks).
fn head_of(path: &Path) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    File::open(path).and_then(|file| file.take(100).read_to_end(&mut head))?;
    Ok(head)
}

/// Whether a database's header says WAL mode. The limit of [`head_of`] applies.
pub(super) fn is_in_wal_mode(path: &Path) -> io::Result<bool> {
    const READ_VERSION: usize = 19;
    Ok(head_of(path)?.get(READ_VERSION) == Some(&2))
}

/// Refuses, by its header, a file that cannot be ours. The limit of [`head_of`] applies.
pub(super) fn refuse_foreign_head(path: &Path) -> Result<(), OpenError> {
    const MAGIC: &[u8] = b"SQLite format 3\0";
    const SCHEMA_COOKIE: Range<usize> = 40..44;
    const USER_VERSION: Range<usize> = 60..64;
    const APPLICATION_ID: Range<usize> = 68..72;
    let head = match head_of(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        head => head.map_err(|source| OpenError::File { path: path.to_owned(), source })?,
    };
    // An empty file is an empty database.
    if head.is_empty() {
        return Ok(());
    }
    if !head.starts_with(MAGIC) {
        return Err(OpenError::NotADatabase { path: path.to_owned() });
    }
    let number = |field| head.get::<Range<usize>>(field)?.try_into().ok().map(i32::from_be_bytes);
    // A database without a schema may be a new one of ours, whose schema is still in its WAL.
    let is_new = number(APPLICATION_ID) == Some(0) && number(SCHEMA_COOKIE) == Some(0);
    let source = match number(USER_VERSION) {
        _ if is_new => return Ok(()),
        _ if number(APPLICATION_ID) != Some(schema::APPLICATION_ID) => SchemaError::Foreign,
        Some(found) if found > schema::VERSION => SchemaError::Newer { found },
        _ => return Ok(()),
    };
    Err(OpenError::Schema { path: path.to_owned(), source })
}

/// Refuses a database that is empty or missing but has a WAL with content: SQLite would delete the WAL. The service
/// never leaves that behind, for the first page is in the file before there is a WAL.
pub(super) fn refuse_emptied(own_name: &Path, path: &Path) -> Result<(), OpenError> {
    let length = |name: &Path| match fs::metadata(name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        found => found.map(|found| found.len()).map_err(|source| OpenError::File { path: name.to_owned(), source }),
    };
    if length(own_name)? == 0 && length(&with_suffix(own_name, "-wal"))? > 0 {
        return Err(OpenError::Emptied { path: path.to_owned() });
    }
    Ok(())
}

/// Rolls back a hot journal (see [`super::error::has_hot_journal`]) of a database that is ours. SQLite does it at the
/// first read of a connection that may write. `path` is the name in messages. The limit of [`head_of`] applies.
pub(super) fn roll_back_hot_journal(own_name: &Path, path: &Path, busy_timeout: Duration) -> Result<(), OpenError> {
    refuse_foreign_head(path)?;
    let found = fs::metadata(own_name).map_err(|source| OpenError::File { path: path.to_owned(), source })?;
    if !is_own(&found) {
        return Err(OpenError::HotJournal { path: path.to_owned() });
    }
    let roll_back = || {
        let writer = open(own_name, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        writer.busy_timeout(busy_timeout)?;
        writer.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))
    };
    roll_back().map_err(|error| schema_error(path, error.into()))
}

/// Whether a file belongs to the user that this process runs as. Root does not roll back another user's journal: it may
/// name a file that SQLite then deletes.
pub(super) fn is_own(found: &Metadata) -> bool {
    found.uid() == rustix::process::geteuid().as_raw()
}

/// Opens a database by its name without links. Nothing else in the store opens one: SQLite gives some names a meaning
/// beyond a path, and would run the triggers and views of a file's schema.
pub(super) fn open(own_name: &Path, flags: OpenFlags) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(own_name, flags | OPEN_FLAGS)?;
    distrust(&connection)?;
    Ok(connection)
}

/// The flags of every connection. The name is absolute, so it is neither `:memory:` nor a URI, and has no links.
pub(super) const OPEN_FLAGS: OpenFlags = OpenFlags::SQLITE_OPEN_NO_MUTEX.union(OpenFlags::SQLITE_OPEN_NOFOLLOW);

/// Keeps a file's schema from running code (triggers, views, functions) and from being written to directly. To be
/// called before the first read.
pub(super) fn distrust(connection: &Connection) -> rusqlite::Result<()> {
    for (setting, is_on) in [
        (DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false),
        (DbConfig::SQLITE_DBCONFIG_ENABLE_VIEW, false),
        (DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false),
        (DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true),
    ] {
        connection.set_db_config(setting, is_on)?;
    }
    Ok(())
}

/// Whether a file's file system is read-only. The limit of [`head_of`] applies.
pub(super) fn is_on_read_only_disk(path: &Path) -> bool {
    let opened = OpenOptions::new().write(true).open(path);
    opened.is_err_and(|error| error.kind() == io::ErrorKind::ReadOnlyFilesystem)
}

/// Opens, to read it, a file that nobody writes, without a WAL index: where SQLite cannot create one, as on a read-only
/// file system, or must not. `None` where a WAL or a journal beside the file has to be read, too.
pub(super) fn open_without_index(own_name: &Path) -> Option<rusqlite::Result<Connection>> {
    let has_content = |suffix| fs::metadata(with_suffix(own_name, suffix)).is_ok_and(|found| found.len() > 0);
    if has_content("-wal") || has_content("-journal") {
        return None;
    }
    Some(open_alone(own_name))
}

/// Opens, to read it, a file that nobody writes, and no file beside it (`immutable`).
pub(super) fn open_alone(own_name: &Path) -> rusqlite::Result<Connection> {
    let name = format!("file:{}?immutable=1", escaped(own_name));
    open(Path::new(&name), OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI)
}

/// A path, percent-encoded for a URI.
fn escaped(path: &Path) -> String {
    use std::fmt::Write as _;
    use std::os::unix::ffi::OsStrExt as _;
    path.as_os_str().as_bytes().iter().fold(String::new(), |mut text, byte| {
        if byte.is_ascii_alphanumeric() || b"/-_.".contains(byte) {
            text.push(char::from(*byte));
        } else {
            let _ = write!(text, "%{byte:02X}");
        }
        text
    })
}

/// The database's name without links, also where there is no database yet.
pub(super) fn own_name(path: &Path) -> Result<PathBuf, OpenError> {
    let file_error = |source| OpenError::File { path: path.to_owned(), source };
    match fs::metadata(path) {
        Ok(found) if !found.is_file() => Err(OpenError::NotAFile { path: path.to_owned() }),
        Ok(found) if found.nlink() > 1 => Err(OpenError::HardLink { path: path.to_owned() }),
        Ok(_) => fs::canonicalize(path).map_err(file_error),
        // Nothing can be created under the name of a dangling link.
        Err(source) if source.kind() != io::ErrorKind::NotFound || fs::symlink_metadata(path).is_ok() => {
            Err(file_error(source))
        }
        Err(_) => {
            let folder = fs::canonicalize(folder_of(path)).map_err(file_error)?;
            Ok(folder.join(path.file_name().unwrap_or_default()))
        }
    }
}

pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// This name, or the first free one with a number appended.
pub(super) fn free_name(name: &Path) -> PathBuf {
    let others = (2_u32..).map(|number| with_suffix(name, &format!("-{number}")));
    let mut names = iter::once(name.to_owned()).chain(others);
    names.find(|name| fs::symlink_metadata(name).is_err()).unwrap_or_else(|| name.to_owned())
}

/// Creates the database's folder, and its parents, where they are missing. Each gets the owner of its parent.
pub(super) fn make_folder(path: &Path) -> Result<(), OpenError> {
    let folder = folder_of(path);
    let missing: Vec<_> =
        folder.ancestors().take_while(|part| !part.as_os_str().is_empty() && is_missing(part)).collect();
    for part in missing.into_iter().rev() {
        match make_one_folder(part) {
            // Another process was faster, or there is a `..` in the path.
            Err(_) if part.is_dir() => {}
            made => made.map_err(|source| OpenError::Folder { path: folder.to_owned(), source })?,
        }
    }
    Ok(())
}

/// Whether a folder has to be created. One that cannot be looked at counts as there: the next step in it fails and says
/// why.
fn is_missing(folder: &Path) -> bool {
    match fs::metadata(folder) {
        Ok(found) => !found.is_dir(),
        Err(error) => [io::ErrorKind::NotFound, io::ErrorKind::NotADirectory].contains(&error.kind()),
    }
}

/// Creates the file where it is missing. SQLite gives the WAL and the WAL index its mode and owner.
pub(super) fn make_file(own_name: &Path, path: &Path) -> Result<(), OpenError> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(own_name) {
        Ok(made) => {
            give(&made, folder_of(own_name));
            Ok(())
        }
        Err(source) if source.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(source) => Err(OpenError::File { path: path.to_owned(), source }),
    }
}

/// Takes all permissions on the files from everyone but their owner.
pub(super) fn make_private(own_name: &Path) -> Result<(), OpenError> {
    for path in [own_name.to_owned(), with_suffix(own_name, "-wal"), with_suffix(own_name, "-shm")] {
        close_to_others(&path).map_err(|source| OpenError::File { path, source })?;
    }
    Ok(())
}

/// Takes the server's lock. It is on a file of its own: closing a handle of the database itself would drop SQLite's
/// locks.
pub(super) fn lock_beside(own_name: &Path, path: &Path) -> Result<Lock, OpenError> {
    match open_lock(own_name, ".lock").and_then(Lock::exclusive) {
        Ok(Some(lock)) => Ok(lock),
        Ok(None) => Err(OpenError::InUse { path: path.to_owned() }),
        Err(source) => Err(OpenError::File { path: with_suffix(own_name, ".lock"), source }),
    }
}
