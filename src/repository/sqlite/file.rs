//! The database as a file: whose it is, what its first bytes say, how it is opened, and who is kept away from it while
//! it is used.
//!
//! Root's commands work in a folder of the service's user, who can put a link in the place of anything there at any
//! moment. So nothing is changed by its name alone: what was made or opened without following a link is changed through
//! that handle.

use std::fs::{self, DirBuilder, File, Metadata, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read as _};
use std::ops::Range;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};
use rustix::fs::OFlags;

use super::error::{OpenError, schema_error};
use super::schema::{self, SchemaError};

/// What the name of the lock ends with that a restore holds alone and everyone else together.
pub(super) const RESTORE_LOCK: &str = ".restore.lock";

/// Whom a file belongs to.
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

    /// Whom a file must belong to that is made for the database of this name: whoever has the database, or its folder.
    fn beside(path: &Path) -> io::Result<Self> {
        fs::metadata(path).or_else(|_| fs::metadata(folder_of(path))).map(|found| Self::of(&found))
    }

    pub(super) fn take(self, file: &File) -> io::Result<()> {
        if Self::of(&file.metadata()?) == self { Ok(()) } else { fchown(file, Some(self.user), Some(self.group)) }
    }
}

/// Gives what was just made to whoever has the database of this name, or its folder: what root makes by a command, the
/// service must be able to open. Only root can give to another; whoever else makes something keeps it.
pub(super) fn give(made: &File, path: &Path) {
    let _ = Owner::beside(path).and_then(|owner| owner.take(made));
}

pub(super) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Makes a new folder, for whoever has the folder that it is in.
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

/// Opens what is there by this very name: no link is followed, and no pipe waited for.
pub(super) fn open_unlinked(options: &OpenOptions, path: &Path) -> io::Result<File> {
    options.clone().custom_flags(flags(OFlags::NOFOLLOW | OFlags::NONBLOCK)).open(path).map_err(|error| {
        if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) {
            io::Error::new(error.kind(), "it is a symbolic link")
        } else {
            error
        }
    })
}

/// Whether there is something of this name. Where that cannot be found out, it is not taken for missing.
pub(super) fn exists(path: &Path) -> Result<bool, OpenError> {
    match path.try_exists() {
        // Nothing can have a name that is too long.
        Err(error) if error.kind() == io::ErrorKind::InvalidFilename => Ok(false),
        found => found.map_err(|source| OpenError::File { path: path.to_owned(), source }),
    }
}

/// Takes a file from everyone but its owner, where an earlier hand left it open. What is missing, or is no plain file
/// with one name, is left alone.
pub(super) fn close_to_others(path: &Path) -> io::Result<()> {
    let closed_to_others = |found: &Metadata| {
        let is_open = found.is_file() && found.nlink() == 1 && found.mode() & 0o077 != 0;
        is_open.then(|| Permissions::from_mode(found.mode() & 0o700))
    };
    // A handle that only names the file: to close one that could read it would take SQLite's locks away.
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

/// Whether something is mounted at this very name, so that no file can be renamed to it.
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

/// Opens a lock file of the database, making it where it is missing. Only what is new is given away: whoever has the
/// folder could otherwise be given, by root, whatever file a link of this name leads to.
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
        // Closing alone leaves the lock to a process that is being started at this moment and has a copy of the handle.
        let _ = self.0.unlock();
    }
}

impl Lock {
    /// Holds it alone; `None` where someone has it.
    pub(super) fn alone(file: File) -> io::Result<Option<Self>> {
        let locked = file.try_lock();
        Self::of(file, locked)
    }

    /// Holds it together with others who do; `None` where someone holds it alone.
    fn together(file: File) -> io::Result<Option<Self>> {
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

/// Someone who uses the database by its name: while there is one, no restore puts another file in its place. SQLite's
/// own locks do not do that, for whoever waits for one of them already has the old file.
pub(super) struct SharedLock {
    /// `None` on a read-only file system that has no such file: nothing is put in place there.
    _lock: Option<Lock>,
    /// Whether the file system is read-only.
    pub(super) is_read_only: bool,
}

impl SharedLock {
    /// Begins to use it, unless it is being restored.
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
        match file.and_then(Lock::together) {
            Ok(Some(lock)) => Ok(Self { _lock: Some(lock), is_read_only }),
            Ok(None) => Err(OpenError::Restoring { path: path.to_owned() }),
            Err(source) => Err(OpenError::File { path: lock_path, source }),
        }
    }
}

/// Keeps everyone away from the database for as long as the lock lives that it answers.
pub(super) fn keep_everyone_away(own_name: &Path, path: &Path) -> Result<Lock, OpenError> {
    match open_lock(own_name, RESTORE_LOCK).and_then(Lock::alone) {
        Ok(Some(lock)) => Ok(lock),
        // A server says so by a lock of its own; another restore holds that one, too.
        Ok(None) => lock_beside(own_name, path).and(Err(OpenError::InUseByCommand { path: path.to_owned() })),
        Err(source) => Err(OpenError::File { path: with_suffix(own_name, RESTORE_LOCK), source }),
    }
}

/// What a file begins with. Not for one that this process may have open: SQLite would lose its locks with the handle
/// that is closed here.
fn head_of(path: &Path) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    File::open(path).and_then(|file| file.take(100).read_to_end(&mut head))?;
    Ok(head)
}

/// Whether a database says of itself that it is in WAL mode. See [`head_of`] for when it may be asked.
pub(super) fn is_in_wal_mode(path: &Path) -> io::Result<bool> {
    const READ_VERSION: usize = 19;
    Ok(head_of(path)?.get(READ_VERSION) == Some(&2))
}

/// Refuses, by a look at its first bytes, a file that cannot be ours. See [`head_of`] for when it may be asked.
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
    // A database without a schema may be one of ours whose making is still in its WAL.
    let is_new = number(APPLICATION_ID) == Some(0) && number(SCHEMA_COOKIE) == Some(0);
    let source = match number(USER_VERSION) {
        _ if is_new => return Ok(()),
        _ if number(APPLICATION_ID) != Some(schema::APPLICATION_ID) => SchemaError::Foreign,
        Some(found) if found > schema::VERSION => SchemaError::Newer { found },
        _ => return Ok(()),
    };
    Err(OpenError::Schema { path: path.to_owned(), source })
}

/// Refuses a database that is empty or missing and has a WAL that is not: SQLite would delete the WAL. The service
/// itself never leaves it so, for the first page is in the file before there is a WAL.
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

/// Rolls back the hot journal that [`super::error::has_hot_journal`] tells of, in a database that is ours. SQLite does
/// it with the first read of a connection that may write. `path` is what the sentences speak of. See [`head_of`] for
/// when it may be asked.
pub(super) fn roll_back_hot_journal(own_name: &Path, path: &Path, busy_timeout: Duration) -> Result<(), OpenError> {
    refuse_foreign_head(path)?;
    let found = fs::metadata(own_name).map_err(|source| OpenError::File { path: path.to_owned(), source })?;
    if !is_own(&found) {
        return Err(OpenError::HotJournal { path: path.to_owned() });
    }
    let undo = || {
        let writer = open(own_name, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        writer.busy_timeout(busy_timeout)?;
        writer.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))
    };
    undo().map_err(|error| schema_error(path, error.into()))
}

/// Whether a file belongs to the user that this process runs as. Root does not undo another user's half-made change:
/// what is undone may name a file that SQLite then deletes.
pub(super) fn is_own(found: &Metadata) -> bool {
    found.uid() == rustix::process::geteuid().as_raw()
}

/// Opens a database by its own name. Nothing else opens one: SQLite would take some names for more than a path, and
/// would run what a file's schema has of triggers and views.
pub(super) fn open(own_name: &Path, flags: OpenFlags) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(own_name, flags | OPEN_FLAGS)?;
    distrust(&connection)?;
    Ok(connection)
}

/// What every connection is opened with. The name is absolute, and so neither `:memory:` nor a URI, and has no link in
/// it.
pub(super) const OPEN_FLAGS: OpenFlags = OpenFlags::SQLITE_OPEN_NO_MUTEX.union(OpenFlags::SQLITE_OPEN_NOFOLLOW);

/// Keeps the schema of a file from running anything on its own, and from being written to. Comes before the first read.
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

/// Whether the file system of a file is read-only. See [`head_of`] for when it may be asked.
pub(super) fn is_on_read_only_disk(path: &Path) -> bool {
    let opened = OpenOptions::new().write(true).open(path);
    opened.is_err_and(|error| error.kind() == io::ErrorKind::ReadOnlyFilesystem)
}

/// Opens, to read it, a file that nobody writes and beside which SQLite can keep no index, as on a read-only file
/// system, or is not to; `None` where a WAL or a journal beside the file has to be read, too.
pub(super) fn open_without_index(own_name: &Path) -> Option<rusqlite::Result<Connection>> {
    let has_content = |suffix| fs::metadata(with_suffix(own_name, suffix)).is_ok_and(|found| found.len() > 0);
    if has_content("-wal") || has_content("-journal") {
        return None;
    }
    Some(open_alone(own_name))
}

/// Opens, to read it, a file that nobody writes, and nothing that is beside it.
pub(super) fn open_alone(own_name: &Path) -> rusqlite::Result<Connection> {
    let name = format!("file:{}?immutable=1", escaped(own_name));
    open(Path::new(&name), OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI)
}

/// A path as a URI has it.
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

/// The name of the database without links, also where there is no database yet.
pub(super) fn own_name(path: &Path) -> Result<PathBuf, OpenError> {
    let file_error = |source| OpenError::File { path: path.to_owned(), source };
    match fs::metadata(path) {
        Ok(found) if !found.is_file() => Err(OpenError::NotAFile { path: path.to_owned() }),
        Ok(found) if found.nlink() > 1 => Err(OpenError::HardLink { path: path.to_owned() }),
        Ok(_) => fs::canonicalize(path).map_err(file_error),
        // A link to nothing is not a name that a file can be made under.
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

/// Makes what is missing of the database's folder, for whoever has the folder above.
pub(super) fn make_folder(path: &Path) -> Result<(), OpenError> {
    let folder = folder_of(path);
    let missing: Vec<_> =
        folder.ancestors().take_while(|part| !part.as_os_str().is_empty() && is_missing(part)).collect();
    for part in missing.into_iter().rev() {
        match make_one_folder(part) {
            // Another process was faster, or the path goes back up.
            Err(_) if part.is_dir() => {}
            made => made.map_err(|source| OpenError::Folder { path: folder.to_owned(), source })?,
        }
    }
    Ok(())
}

/// Whether a folder has to be made. One that cannot be looked at is there: what is done in it next tells why not.
fn is_missing(folder: &Path) -> bool {
    match fs::metadata(folder) {
        Ok(found) => !found.is_dir(),
        Err(error) => [io::ErrorKind::NotFound, io::ErrorKind::NotADirectory].contains(&error.kind()),
    }
}

/// Makes the file where it is missing. SQLite gives its WAL and its WAL index the mode and the owner of the file.
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

/// Closes the files to everyone but their owner, where an earlier hand left them open.
pub(super) fn make_private(own_name: &Path) -> Result<(), OpenError> {
    for path in [own_name.to_owned(), with_suffix(own_name, "-wal"), with_suffix(own_name, "-shm")] {
        close_to_others(&path).map_err(|source| OpenError::File { path, source })?;
    }
    Ok(())
}

/// Takes the lock that says "a server has this file". It is on a file of its own: a handle on the database itself would
/// take SQLite's locks with it when it is closed.
pub(super) fn lock_beside(own_name: &Path, path: &Path) -> Result<Lock, OpenError> {
    match open_lock(own_name, ".lock").and_then(Lock::alone) {
        Ok(Some(lock)) => Ok(lock),
        Ok(None) => Err(OpenError::InUse { path: path.to_owned() }),
        Err(source) => Err(OpenError::File { path: with_suffix(own_name, ".lock"), source }),
    }
}
