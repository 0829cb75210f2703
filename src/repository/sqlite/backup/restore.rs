//! Puts a backup in the place of the database.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::iter;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use rusqlite::config::DbConfig;
use rusqlite::{ErrorCode, OpenFlags};
use rustix::fs::{AtFlags, Mode, OFlags, openat, statat};
use rustix::io::Errno;
use rustix::process::geteuid;

use super::check::inspect;
use super::copy::copy_checked;
use super::error::{read_error, sqlite_error, write_error};
use super::partial::{Partial, flush_folder, is_same};
use super::source::{JOURNALS, Kind, open, open_found, open_reader, set};
use crate::repository::sqlite::error::{OpenError, schema_error};
use crate::repository::sqlite::file::{self, Owner, folder_of, lock_beside, make_folder, own_name, with_suffix};
use crate::repository::sqlite::schema::{self, SchemaError};
use crate::repository::{BackupError, Progress, RestoreReport, Rules, Stop};

/// Puts a backup in the place of the database, which no server may be using. What was there is kept beside it, under a
/// name that tells the time. An older backup is welcome: the next start brings it up to date. One that holds what the
/// service never wrote is not: it would be believed from then on.
///
/// # Errors
/// [`BackupError`]. The database is then what it was.
pub fn restore(
    backup: &Path,
    database: &Path,
    rules: &Rules,
    stop: &Stop,
    progress: &mut dyn FnMut(Progress),
) -> Result<RestoreReport, BackupError> {
    // A kill at any point, or a power cut, leaves a database that can be used, for each step is on the disk before the
    // next one begins:
    //
    // 1. The backup is copied to a name of its own and checked. Nothing else has changed.
    // 2. The old database checkpoints its WAL, and has none from then on. This is a change of SQLite's own and is
    //    undone or completed by whoever opens the file next. The old database is in its place and whole.
    // 3. The old database is copied to the name under which it is kept. It is still in its place. It is neither renamed
    //    nor linked: without a file in its place the next start would make an empty one, and a file with two names
    //    would be refused.
    // 4. What is left of its WAL or journal goes. There is something left only where step 2 met damage, and step 3 has
    //    kept it. A WAL goes before the new file comes, and never the other way round: SQLite would take the WAL of the
    //    old file for that of the new one.
    // 5. The copy of step 1 takes the database's name in one step.
    //
    // Nobody else opens the database meanwhile, and nobody has it open who did so before: not the server, and no
    // command, whose changes would go to the old file or, worse, to a WAL that is then read as the new file's.
    let started = Instant::now();
    if !fs::metadata(backup).map_err(|error| read_error(backup, error))?.is_file() {
        return Err(OpenError::NotADatabase { path: backup.to_owned() }.into());
    }
    if !file::exists(folder_of(database))? {
        // Nothing is made for a backup that is no good. Where there is a folder already, once is enough.
        inspect(&open_reader(backup, Kind::Backup)?, backup, Some(rules), stop, progress)?;
    }
    make_folder(database)?;
    let own_name = own_name(database)?;
    let _alone = file::keep_everyone_away(&own_name, database)?;
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
    // Whoever restores, root perhaps, the server must be able to open what it finds.
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
    let check = copy_checked(reader, backup, &partial, Some(rules), stop, progress)?;
    if let Some(old) = &old {
        take_in_wal(&own_name, old)?;
    }
    keep(&own_name, &kept, owner, old.is_some())?;
    for suffix in JOURNALS.into_iter().chain(["-shm"]) {
        remove(&with_suffix(&own_name, suffix))?;
    }
    flush_folder(&own_name)?;
    partial.place().inspect_err(|_| {
        // A second copy of what is still in its place is of no use, unless a WAL was kept with it that is gone.
        let is_unchanged =
            old.as_ref().is_some_and(|old| fs::symlink_metadata(&own_name).is_ok_and(|found| is_same(old, &found)));
        if is_unchanged && JOURNALS.iter().all(|suffix| fs::symlink_metadata(with_suffix(&kept, suffix)).is_err()) {
            let _ = fs::remove_file(&kept);
        }
    })?;
    Ok(RestoreReport { check, kept: old.map(|_| kept), took: started.elapsed() })
}

/// This name, or with a number behind it the first that nothing has.
fn free_name(name: &Path) -> PathBuf {
    let others = (2_u32..).map(|number| with_suffix(name, &format!("-{number}")));
    let mut names = iter::once(name.to_owned()).chain(others);
    names.find(|name| fs::symlink_metadata(name).is_err()).unwrap_or_else(|| name.to_owned())
}

/// Makes an old database one file: its WAL is checkpointed and deleted. It may be damaged, and is then left as it is.
fn take_in_wal(database: &Path, old: &Metadata) -> Result<(), BackupError> {
    if !file::is_own(old) && file::exists(&with_suffix(database, "-journal"))? {
        return Ok(());
    }
    if let Err(OpenError::Emptied { .. }) = file::refuse_emptied(database, database) {
        return Ok(());
    }
    let taken_in =
        open(database, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(SchemaError::from).and_then(|connection| {
            // What cannot be taken in as it should is not taken in when the connection is closed either.
            connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
            // It is kept, whatever release wrote it, and whoever has changed its schema since.
            schema::version(&connection)?;
            connection.pragma_update(None, "synchronous", "full")?;
            // It takes nothing less than being alone: whoever else has the database open is met here.
            Ok(set(&connection, "journal_mode", "delete")?)
        });
    match taken_in {
        Ok(()) => flush_folder(database),
        Err(SchemaError::Sqlite(error)) => match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Ok(()),
            _ => Err(sqlite_error(database, error)),
        },
        Err(refused) => Err(schema_error(database, refused).into()),
    }
}

/// Copies the old database, and a WAL or journal that it could not take in, to the names under which they are kept. The
/// database comes last: where it is, the others are. A WAL may be there without a database.
fn keep(database: &Path, kept: &Path, owner: Owner, is_there: bool) -> Result<(), BackupError> {
    for suffix in JOURNALS.into_iter().chain([""]) {
        let from = with_suffix(database, suffix);
        let mut old = match file::open_unlinked(OpenOptions::new().read(true), &from) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && !(suffix.is_empty() && is_there) => continue,
            old => old.map_err(|error| read_error(&from, error))?,
        };
        let found = old.metadata().map_err(|error| read_error(&from, error))?;
        // What root can read and the database's owner cannot is not given away as a part of the database.
        if !(found.is_file() && found.nlink() == 1 && owner.is_users(&found)) {
            let error = io::Error::other("it is not a plain file of the user who has the database");
            return Err(read_error(&from, error));
        }
        let to = with_suffix(kept, suffix);
        let mut partial = Partial::create_for(owner, &to)?;
        io::copy(&mut old, &mut partial.file).map_err(|source| write_error(&to, source))?;
        partial.place()?;
    }
    Ok(())
}

fn remove(path: &Path) -> Result<(), BackupError> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(write_error(path, source)),
        _ => Ok(()),
    }
}

/// The backup `path`, from which `owner` is given what it holds. What root can read and the owner cannot is no backup
/// of theirs: whoever has the folder could have put a link to it there.
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

/// What an absolute path leads to, folder by folder; `None` where that takes a link that another user can change.
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
