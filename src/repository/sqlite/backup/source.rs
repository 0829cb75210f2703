//! Opens the source of a copy or a check: a database that may be in use, or a file that may be a backup.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::error::{read_error, sqlite_error};
use super::partial::count_handles;
use crate::repository::BackupError;
use crate::repository::sqlite::error::{OpenError, has_hot_journal, is_not_opened};
use crate::repository::sqlite::file::{self, with_suffix};

/// How long to wait for a lock that another program holds.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// The suffixes of the files beside a database that SQLite would read as a part of it.
pub(super) const JOURNALS: [&str; 2] = ["-wal", "-journal"];

/// What kind of file is read.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    /// The database: a hot journal of it may be rolled back.
    Database {
        /// Found out without opening the database, which this process may have open already.
        is_on_read_only_disk: bool,
    },
    /// A backup, or a file that may be one: nothing is written to it.
    Backup,
}

pub(super) fn database_at(path: &Path) -> Result<Metadata, BackupError> {
    fs::metadata(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => OpenError::Missing { path: path.to_owned() }.into(),
        _ => read_error(path, error),
    })
}

/// Whether the file's WAL may be beside another of its names (hard links): a server keeps the WAL beside the name under
/// which it opened the file.
pub(super) fn is_wal_elsewhere(found: &Metadata, file: &Path) -> Result<bool, OpenError> {
    Ok(found.is_file() && found.nlink() > 1 && !file::exists(&with_suffix(file, "-wal"))?)
}

/// Opens, to read it, a file that was looked at before, and tells whether it is known to be the same file: the folder's
/// owner could have replaced it, or put a link there. It is not known where SQLite uses a handle again that this
/// process has open already.
pub(super) fn open_found(path: &Path, found: &Metadata, kind: Kind) -> Result<(Connection, bool), BackupError> {
    let count = || count_handles(found).map_err(|error| read_error(path, error));
    let before = count()?;
    let reader = open_reader(path, kind)?;
    match count()? {
        0 => Err(BackupError::Swapped { path: path.to_owned() }),
        after => Ok((reader, after > before)),
    }
}

/// Opens an existing file to read it. Only SQLite opens it, where it can: closing a handle of our own would drop all
/// locks that this process has on the file (POSIX advisory locks).
pub(super) fn open_reader(path: &Path, kind: Kind) -> Result<Connection, BackupError> {
    let found = fs::metadata(path).map_err(|error| read_error(path, error))?;
    if !found.is_file() {
        return Err(OpenError::NotADatabase { path: path.to_owned() }.into());
    }
    let own_name = fs::canonicalize(path).map_err(|error| read_error(path, error))?;
    file::refuse_emptied(&own_name, path)?;
    let open_and_read = || {
        let reader = open(&own_name, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        // SQLite opens the file at the first read.
        reader.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
        Ok(reader)
    };
    // For a file in WAL mode SQLite creates a WAL and a WAL index, also to read it, and leaves them: a plain copy of
    // the database file would look like a database in use from then on. A file in WAL mode without a WAL is open in no
    // process, so it is read without them.
    let is_without_wal =
        || Ok::<_, io::Error>(!with_suffix(&own_name, "-wal").try_exists()? && file::is_in_wal_mode(&own_name)?);
    if matches!(kind, Kind::Backup)
        && is_without_wal().map_err(|error| read_error(path, error))?
        && let Some(opened) = file::open_without_index(&own_name)
    {
        return opened.map_err(|error| sqlite_error(path, error));
    }
    let opened = match (open_and_read(), kind) {
        (Err(error), Kind::Database { .. }) if has_hot_journal(&error) => {
            file::roll_back_hot_journal(&own_name, path, BUSY_TIMEOUT)?;
            open_and_read()
        }
        (Err(error), Kind::Backup) if has_hot_journal(&error) => {
            return Err(OpenError::HotJournalOfBackup { path: path.to_owned() }.into());
        }
        (Err(error), kind) if is_not_opened(&error) => {
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

/// Opens a file by its name without links; waits for locks.
pub(super) fn open(own_name: &Path, flags: OpenFlags) -> rusqlite::Result<Connection> {
    let connection = file::open(own_name, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    Ok(connection)
}

/// Sets a pragma; an error where SQLite keeps another value.
pub(super) fn set(connection: &Connection, pragma: &'static str, value: &'static str) -> rusqlite::Result<()> {
    let now: String = connection.pragma_update_and_check(None, pragma, value, |row| row.get(0))?;
    if now == value {
        return Ok(());
    }
    let error = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_ERROR);
    Err(rusqlite::Error::SqliteFailure(error, Some(format!("its {pragma} stays {now}"))))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn what_replaces_a_file_that_was_looked_at_is_not_read() {
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
