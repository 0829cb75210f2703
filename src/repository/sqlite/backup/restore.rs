//! The restore: replaces the database by a backup.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Instant;

use rusqlite::config::DbConfig;
use rusqlite::{ErrorCode, OpenFlags};
use rustix::fs::{AtFlags, Mode, OFlags, openat, statat};
use rustix::io::Errno;
use rustix::process::geteuid;

use super::check::inspect;
use super::copy::copy_checked;
use super::error::{copy_error, read_error, sqlite_error, write_error};
use super::partial::{Partial, flush_folder, is_same};
use super::source::{JOURNALS, Kind, open, open_found, open_reader, set};
use crate::repository::sqlite::error::{OpenError, schema_error};
use crate::repository::sqlite::file::{
    self, Owner, folder_of, free_name, lock_beside, make_folder, own_name, with_suffix,
};
use crate::repository::sqlite::schema::{self, SchemaError};
use crate::repository::{BackupError, Progress, RestoreReport, Rules, Stop};

/// The tables whose rows are not restored, and which of them: ID tokens that were used stay used.
const FORGOTTEN: [(&str, &str); 3] =
    [("one_time_codes", "TRUE"), ("outbox", "TRUE"), ("challenges", "purpose <> 'used_id_token'")];

/// Replaces the database, which no server may be using, by a backup. Its codes, links, waiting mails and what was begun
/// are not restored: what was used since must not be worth something again, and a mail must not be sent once more. The old database is kept beside it, under a name
/// with the time. A backup of an older release is accepted: the next start upgrades it. A backup with invalid rows is
/// refused: the service would trust them.
///
/// # Errors
/// [`BackupError`]. The database is then as it was before.
pub fn restore(
    backup: &Path,
    database: &Path,
    rules: &Rules,
    stop: &Stop,
    progress: &mut dyn FnMut(Progress),
) -> Result<RestoreReport, BackupError> {
    // A kill or a power cut at any point leaves a database that can be used, for each step is synced before the next
    // one begins:
    //
    // 1. The backup is copied to a temporary name and checked, and loses its mails. Nothing else has changed.
    // 2. The WAL of the old database is checkpointed and deleted. SQLite does this in a transaction of its own: whoever
    //    opens the file next undoes or completes it. The old database has its name and is whole.
    // 3. The old database is copied to the name under which it is kept, and still has its own name, too. It is neither
    //    renamed nor linked: the next start would create an empty database where there is none, and would refuse one
    //    with two names.
    // 4. What is left of its WAL or journal is deleted. Something is left only where step 2 met damage, and step 3 has
    //    kept it. This comes before the new file, never after it: SQLite would take the old file's WAL for the new
    //    one's.
    // 5. The copy of step 1 is renamed to the database's name, atomically.
    //
    // Locks keep everyone else away meanwhile, the server and all commands. Otherwise their changes would go to the old
    // file or, worse, to a WAL that is then read as the new file's.
    let started = Instant::now();
    if !fs::metadata(backup).map_err(|error| read_error(backup, error))?.is_file() {
        return Err(OpenError::NotADatabase { path: backup.to_owned() }.into());
    }
    if !file::exists(folder_of(database))? {
        // A first check, so that no folder is created for a bad backup. Where there is a folder, the check of the copy
        // is enough.
        inspect(&open_reader(backup, Kind::Backup)?, backup, Some(rules), stop, progress)?;
    }
    make_folder(database)?;
    let own_name = own_name(database)?;
    let _exclusive_lock = file::lock_exclusively(&own_name, database)?;
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
    // The server must be able to open the file, also where root restores it.
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
    let mut check = copy_checked(reader, backup, &partial, Some(rules), stop, progress)?;
    for (name, forgotten) in forget(&partial)? {
        check.tables.iter_mut().filter(|table| table.name == name).for_each(|table| table.rows -= forgotten);
    }
    if let Some(old) = &old {
        checkpoint_old(&own_name, old)?;
    }
    keep(&own_name, &kept, owner, old.is_some())?;
    for suffix in JOURNALS.into_iter().chain(["-shm"]) {
        remove(&with_suffix(&own_name, suffix))?;
    }
    flush_folder(&own_name)?;
    partial.publish().inspect_err(|_| {
        // The old database is still there, so its kept copy is of no use; unless a WAL was kept with it, which is
        // deleted.
        let is_unchanged =
            old.as_ref().is_some_and(|old| fs::symlink_metadata(&own_name).is_ok_and(|found| is_same(old, &found)));
        if is_unchanged && JOURNALS.iter().all(|suffix| fs::symlink_metadata(with_suffix(&kept, suffix)).is_err()) {
            let _ = fs::remove_file(&kept);
        }
    })?;
    Ok(RestoreReport { check, kept: old.map(|_| kept), took: started.elapsed() })
}

/// Deletes codes, links, mails that wait and what was begun from an unfinished copy of a backup. Answers how many rows of
/// which table.
fn forget(copy: &Partial) -> Result<Vec<(&'static str, u64)>, BackupError> {
    let failed = |error| copy_error(&copy.target, &copy.target, error);
    let connection = copy.open(|path| file::open(path, OpenFlags::SQLITE_OPEN_READ_WRITE))?.map_err(failed)?;
    let mut forgotten = Vec::new();
    for (table, which) in FORGOTTEN {
        // An older release had none.
        if connection.table_exists(None, table).map_err(failed)? {
            // An unfinished copy needs no journal of its own, and is synced when it is published.
            set(&connection, "journal_mode", "memory").map_err(failed)?;
            connection.pragma_update(None, "synchronous", "off").map_err(failed)?;
            connection.pragma_update_and_check(None, "secure_delete", "on", |_| Ok(())).map_err(failed)?;
            let deleted = connection.execute(&format!("DELETE FROM {table} WHERE {which}"), []).map_err(failed)?;
            forgotten.push((table, deleted as u64));
        }
    }
    connection.close().map_err(|(_, error)| failed(error))?;
    Ok(forgotten)
}

/// Makes the old database a single file: its WAL is checkpointed and deleted. A damaged database is left as it is.
fn checkpoint_old(database: &Path, old: &Metadata) -> Result<(), BackupError> {
    if !file::is_own(old) && file::exists(&with_suffix(database, "-journal"))? {
        return Ok(());
    }
    if let Err(OpenError::Emptied { .. }) = file::refuse_emptied(database, database) {
        return Ok(());
    }
    let checkpointed =
        open(database, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(SchemaError::from).and_then(|connection| {
            // A checkpoint that fails below must not happen when the connection is closed either.
            connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
            // Only its version is read: it is kept even where its schema was altered or is newer.
            schema::version(&connection)?;
            connection.pragma_update(None, "synchronous", "full")?;
            // It needs the database to itself, so it fails where another process has it open.
            Ok(set(&connection, "journal_mode", "delete")?)
        });
    match checkpointed {
        Ok(()) => flush_folder(database),
        Err(SchemaError::Sqlite(error)) => match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Ok(()),
            _ => Err(sqlite_error(database, error)),
        },
        Err(refused) => Err(schema_error(database, refused).into()),
    }
}

/// Copies the old database, and a WAL or journal that could not be checkpointed, to the names under which they are
/// kept. The database comes last: where its copy is, the others are complete. There may be a WAL without a database.
fn keep(database: &Path, kept: &Path, owner: Owner, is_there: bool) -> Result<(), BackupError> {
    for suffix in JOURNALS.into_iter().chain([""]) {
        let from = with_suffix(database, suffix);
        let mut old = match file::open_unlinked(OpenOptions::new().read(true), &from) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && !(suffix.is_empty() && is_there) => continue,
            old => old.map_err(|error| read_error(&from, error))?,
        };
        let found = old.metadata().map_err(|error| read_error(&from, error))?;
        // Root must not hand out, as a part of the database, a file that the database's owner cannot read.
        if !(found.is_file() && found.nlink() == 1 && owner.is_users(&found)) {
            let error = io::Error::other("it is not a plain file of the user who has the database");
            return Err(read_error(&from, error));
        }
        let to = with_suffix(kept, suffix);
        let mut partial = Partial::create_for(owner, &to)?;
        io::copy(&mut old, &mut partial.file).map_err(|source| write_error(&to, source))?;
        partial.publish()?;
    }
    Ok(())
}

fn remove(path: &Path) -> Result<(), BackupError> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(write_error(path, source)),
        _ => Ok(()),
    }
}

/// The backup `path`, whose content `owner` will be able to read. A file that root can read and `owner` cannot is
/// refused: the folder's owner could have put a link to it there.
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

/// What an absolute path leads to, opened folder by folder; `None` where a link on the way can be changed by another
/// user.
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
