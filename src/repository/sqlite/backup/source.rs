//! Opens what is copied or checked: a database that may be in use, or a file that may be a backup.

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

/// What SQLite may keep beside a database and would read as a part of it.
pub(super) const JOURNALS: [&str; 2] = ["-wal", "-journal"];

/// What a file is that is read.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    /// The database, which is ours to mend.
    Database {
        /// Found out without a handle on the database itself, which this process may have open.
        is_on_read_only_disk: bool,
    },
    /// A backup, or a file that might be one: nothing is written to it.
    Backup,
}

pub(super) fn database_at(path: &Path) -> Result<Metadata, BackupError> {
    fs::metadata(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => OpenError::Missing { path: path.to_owned() }.into(),
        _ => read_error(path, error),
    })
}

/// Whether the file has another name, beside which its WAL may be. A server that has it keeps the WAL beside the name
/// that it knows.
pub(super) fn is_wal_elsewhere(found: &Metadata, file: &Path) -> Result<bool, OpenError> {
    Ok(found.is_file() && found.nlink() > 1 && !file::exists(&with_suffix(file, "-wal"))?)
}

/// Opens a file that was looked at, to read it, and tells whether it is known to be the same: whoever has its folder
/// can put another in its place, or a link to one. A process that has the file open already may use a handle again, and
/// then it is not known.
pub(super) fn open_found(path: &Path, found: &Metadata, kind: Kind) -> Result<(Connection, bool), BackupError> {
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
pub(super) fn open_reader(path: &Path, kind: Kind) -> Result<Connection, BackupError> {
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
    // SQLite would make a WAL and an index of it for a file that says that it has a WAL, also to read it, and leave
    // them: a copy of the database's file alone would look like a database in use from then on. Whoever has such a file
    // open has a WAL beside it.
    let has_lost_its_wal =
        || Ok::<_, io::Error>(!with_suffix(&own_name, "-wal").try_exists()? && file::is_in_wal_mode(&own_name)?);
    if matches!(kind, Kind::Backup)
        && has_lost_its_wal().map_err(|error| read_error(path, error))?
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

/// Opens a file by its own name; waits for whoever has it locked.
pub(super) fn open(own_name: &Path, flags: OpenFlags) -> rusqlite::Result<Connection> {
    let connection = file::open(own_name, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    Ok(connection)
}

/// Sets a pragma that answers what it is now, and insists.
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
