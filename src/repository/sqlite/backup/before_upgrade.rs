//! The copy of a database that is kept before its schema is upgraded: going back to the older release is a rename.

use std::fs;
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use rustix::fs::statvfs;

use super::copy::copy_checked;
use super::error::{read_error, sqlite_error};
use super::partial::{Partial, sweep};
use super::source::{Kind, open_found};
use crate::repository::sqlite::file::{Owner, folder_of, free_name, with_suffix};
use crate::repository::{BackupError, Kept, Stop};
use crate::system::clock::Timestamp;

/// How many times the database's size must be free: once for the copy, and once more so that the upgrade and then the
/// service have room to write.
const TIMES_FREE: u64 = 2;

/// A copy that is made, checked and synced, and has its name only when the upgrade is about to be committed: an upgrade
/// that is killed half way, again and again, does not fill the disk with copies.
pub(in crate::repository::sqlite) enum Copied {
    Whole(Partial),
    NoRoom,
    NotAsked,
}

impl Copied {
    /// Copies the database, which only reads from now on, beside itself. `now` is the time in the copy's name; without
    /// it no copy is made.
    pub(in crate::repository::sqlite) fn make(
        own_name: &Path,
        version: i32,
        now: Option<Timestamp>,
    ) -> Result<Self, BackupError> {
        // First: what a killed upgrade has left takes the room. One that cannot be removed is in nobody's way.
        let _ = sweep(folder_of(own_name));
        let Some(now) = now else { return Ok(Self::NotAsked) };
        let found = fs::symlink_metadata(own_name).map_err(|error| read_error(own_name, error))?;
        let (reader, is_found) = open_found(own_name, &found, Kind::Database { is_on_read_only_disk: false })?;
        // Root must not give the folder's owner, as a copy of their file, what they cannot read.
        if !is_found {
            return Err(BackupError::Swapped { path: own_name.to_owned() });
        }
        let size = size_of(&reader).map_err(|error| sqlite_error(own_name, error))?;
        if !has_room(folder_of(own_name), size) {
            return Ok(Self::NoRoom);
        }
        let kept = free_name(&with_suffix(own_name, &format!(".before-upgrade-from-v{version}-{}", now.compact())));
        let owner = Owner::of(&found);
        // The group of this user's own file may be one that the user is not in.
        let partial = if owner.is_this_user() { Partial::create(&kept)? } else { Partial::create_for(owner, &kept)? };
        copy_checked(reader, own_name, &partial, None, &Stop::default(), &mut |_| {})?;
        Ok(Self::Whole(partial))
    }

    /// Gives the copy its name.
    pub(in crate::repository::sqlite) fn publish(self) -> Result<Kept, BackupError> {
        match self {
            Self::Whole(partial) => {
                let kept: PathBuf = partial.target.clone();
                partial.publish().map(|()| Kept::As(kept))
            }
            Self::NoRoom => Ok(Kept::NoRoom),
            Self::NotAsked => Ok(Kept::NotAsked),
        }
    }
}

/// The size of a database with what its WAL holds.
fn size_of(reader: &Connection) -> rusqlite::Result<u64> {
    let size: i64 =
        reader.query_row("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size", [], |row| {
            row.get(0)
        })?;
    Ok(size.unsigned_abs())
}

/// Whether a copy may be made. Some file systems do not tell how much room they have: there it is tried.
fn has_room(folder: &Path, size: u64) -> bool {
    statvfs(folder).map_or(true, |disk| {
        disk.f_blocks == 0 || disk.f_bavail.saturating_mul(disk.f_frsize) >= size.saturating_mul(TIMES_FREE)
    })
}
