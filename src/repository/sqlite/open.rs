//! Opens the store, for a server or for a command beside it.

use std::fs;
use std::io;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OpenFlags};

use super::backup::Copied;
use super::checkpoint::{Checkpoints, FileState, PACE};
use super::connection::{open_connection, open_wal, prepare_writer};
use super::error::{OpenError, has_hot_journal, map_error, schema_error};
use super::file::{self, Lock, SharedLock, lock_beside, make_file, make_folder, make_private, own_name, with_suffix};
use super::guard::FileGuard;
use super::inline::Inline;
use super::pool::{Readers, Reads, cores, open_readers, scanners};
use super::rows;
use super::schema::{self, SchemaError};
use super::watcher::{MAX_STALENESS, Role};
use super::writer::Writer;
use super::{SqliteRepository, SqliteSettings};
use crate::repository::lease::Lease;
use crate::repository::session_cache::SessionCache;
use crate::repository::{Kept, Upgrade};
use crate::system::watched::WatchedThreads;

/// The deadline of a scan that a client waits for.
const SCAN_WITHIN: Duration = Duration::from_secs(10);

/// How long a command waits for another one that creates or upgrades the file, and how often it looks.
const PREPARED_WITHIN: Duration = Duration::from_secs(5);

const PREPARED_LOOK: Duration = Duration::from_millis(20);

/// A file that is ready for use. The fields are dropped in this order: the lock outlives the connection.
struct Prepared {
    /// The writer's connection.
    writer: Connection,
    /// The server's lock.
    lock: Lock,
    /// What was done to its schema, if it was older.
    upgrade: Option<Upgrade>,
}

impl SqliteRepository {
    /// Whether the database file exists.
    ///
    /// # Errors
    /// [`OpenError::File`] where that cannot be found out.
    pub fn exists(path: &Path) -> Result<bool, OpenError> {
        path.try_exists().map_err(|source| OpenError::File { path: path.to_owned(), source })
    }

    /// Opens the store for a server. Creates the file and its schema where they are missing.
    ///
    /// # Errors
    /// [`OpenError`], each a sentence for the person who starts the server. A file that is refused is not changed.
    pub fn open(settings: &SqliteSettings) -> Result<Self, OpenError> {
        let (file, shared_lock) = claim_for_use(&settings.path)?;
        let Prepared { writer, lock, upgrade } = Self::prepare(settings, &file)?;
        Ok(Self { upgrade, ..Self::start(settings, file, writer, Some(lock), shared_lock)? })
    }

    /// Opens the store for a command, whether or not a server has it open. Creates the file only where `make` says so.
    ///
    /// # Errors
    /// See [`SqliteRepository::open`].
    pub fn open_shared(settings: &SqliteSettings, make: bool) -> Result<Self, OpenError> {
        let path = &settings.path;
        if !file::exists(path)? && !make {
            return Err(OpenError::Missing { path: path.clone() });
        }
        let (file, shared_lock) = claim_for_use(path)?;
        let is_read_only = shared_lock.is_read_only;
        let open = || {
            let upgrade = Self::make_current(settings, &file)?;
            let writer = open_writer(settings, &file)?;
            Ok(Self { upgrade, ..Self::start(settings, file, writer, None, shared_lock)? })
        };
        open().map_err(|error| match error {
            OpenError::File { .. } | OpenError::Schema { source: SchemaError::Sqlite(_), .. } if is_read_only => {
                OpenError::ReadOnly { path: path.clone() }
            }
            other => other,
        })
    }

    /// Creates or upgrades the file where it does not have this release's schema. Answers what was upgraded.
    fn make_current(settings: &SqliteSettings, file: &Path) -> Result<Option<Upgrade>, OpenError> {
        let path = &settings.path;
        let is_current = || match open_connection(file, settings.busy_timeout, OpenFlags::SQLITE_OPEN_READ_ONLY)
            .map_err(SchemaError::from)
            .and_then(|reader| schema::check(&reader))
        {
            Err(SchemaError::Sqlite(error)) if has_hot_journal(&error) => Ok(false),
            version => version.map(|version| version == schema::VERSION).map_err(|error| schema_error(path, error)),
        };
        let started = Instant::now();
        while !file::exists(path)? || !is_current()? {
            match Self::prepare(settings, file) {
                Ok(Prepared { upgrade, .. }) => return Ok(upgrade),
                // Another command may be doing it and is soon done. A server of an older release would keep the lock.
                Err(OpenError::InUse { .. }) if started.elapsed() < PREPARED_WITHIN => thread::sleep(PREPARED_LOOK),
                // The lock's holder has a file that was moved or deleted.
                Err(OpenError::InUse { path }) if !file::exists(&path)? => return Err(OpenError::InUse { path }),
                Err(OpenError::InUse { path }) => return Err(OpenError::InUseByOlder { path }),
                Err(other) => return Err(other),
            }
        }
        Ok(None)
    }

    /// Creates or upgrades the file, under the server's lock. `file` is its name without links: one file has one lock,
    /// by whatever name it is opened.
    fn prepare(settings: &SqliteSettings, file: &Path) -> Result<Prepared, OpenError> {
        let path = &settings.path;
        let not_kept = |source| OpenError::NotKept { path: path.clone(), source };
        let lock = lock_beside(file, path)?;
        make_file(file, path)?;
        // By a read-only connection, so that a file that is refused stays as it was, byte for byte.
        let check = || {
            let reader = open_connection(file, settings.busy_timeout, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
            let version = schema::check(&reader)?;
            if is_older(version) {
                schema::show_added_columns(&reader)?;
            }
            let invalid = if version == 0 { None } else { rows::find_invalid_superuser(&reader)? };
            Ok((reader, version, invalid))
        };
        let checked = match check() {
            Err(SchemaError::Sqlite(error)) if has_hot_journal(&error) => {
                file::roll_back_hot_journal(file, path, settings.busy_timeout)?;
                check()
            }
            checked => checked,
        };
        let (reader, version, invalid) = checked.map_err(|error| schema_error(path, error))?;
        if let Some(finding) = invalid {
            return Err(OpenError::InvalidRow { path: path.clone(), finding });
        }
        let copied = if is_older(version) {
            Copied::make(file, version, settings.keep_before_upgrade).map_err(not_kept)?
        } else {
            Copied::NotAsked
        };
        make_private(file)?;
        let mut writer = open_writer(settings, file)?;
        // Not before the writer is open: the last connection to be closed deletes the WAL and the WAL index, and the
        // next one would create them again.
        drop(reader);
        let sqlite_error = |error: SchemaError| schema_error(path, error);
        let (transaction, from) = schema::create_or_upgrade(&mut writer).map_err(sqlite_error)?;
        let kept = copied.publish().map_err(not_kept)?;
        if let Err(error) = transaction.commit() {
            // A copy of what is unchanged is of no use. After some errors it is not known whether it is.
            if let (Kept::As(copy), Ok(true)) = (&kept, schema::version(&writer).map(|now| now == from)) {
                let _ = fs::remove_file(copy);
            }
            return Err(sqlite_error(error.into()));
        }
        let upgrade = is_older(from).then(|| Upgrade { path: path.clone(), from, to: schema::VERSION, kept });
        if let Some(upgrade) = &upgrade {
            let level = if upgrade.kept == Kept::NoRoom { log::Level::Warn } else { log::Level::Info };
            log::log!(level, "{upgrade}");
        }
        Ok(Prepared { writer, lock, upgrade })
    }

    /// Starts reading and writing a file that is ready for it.
    fn start(
        settings: &SqliteSettings,
        file: PathBuf,
        writer: Connection,
        lock: Option<Lock>,
        shared_lock: SharedLock,
    ) -> Result<Self, OpenError> {
        let path = &settings.path;
        let damaged = Arc::new(AtomicBool::new(false));
        // A command makes few requests, and none twice.
        let cache = Arc::new(SessionCache::new(
            if lock.is_some() { settings.cache } else { 0 },
            Arc::new(Lease::new(MAX_STALENESS)),
        ));
        let threads = WatchedThreads::default();
        let start_error = |source| OpenError::Start { path: path.clone(), source };
        let guarded = guard_files(&writer, file.clone()).map(Arc::new);
        let guard = guarded.as_ref().ok().cloned();
        let role = if lock.is_some() {
            guarded.and_then(|guard| {
                let state = FileState { damaged: Arc::clone(&damaged), guard: Arc::clone(&guard) };
                let checkpoints = start_checkpoints(&threads, settings, &file, state)?;
                Ok(Role::Server { cache: Arc::clone(&cache), checkpoints, guard })
            })
        } else {
            // On a read-only file system there may be no WAL to guard.
            Ok(Role::Command { patience: settings.busy_timeout, guard: guard.clone() })
        };
        let role = role.map_err(|error| start_error(Box::new(error)))?;
        // In parallel: opening connections is a good part of the start's time.
        let (readers, scanners, quick_readers) = thread::scope(|scope| {
            let readers = scope.spawn(|| open_readers(&file, settings.readers, settings.busy_timeout));
            let scanners = scope.spawn(|| open_readers(&file, scanners(settings.readers), settings.busy_timeout));
            let quick_readers = open_readers(&file, cores(), Duration::ZERO);
            let [readers, scanners] =
                [readers, scanners].map(|opened| opened.join().unwrap_or_else(|panic| resume_unwind(panic)));
            (readers, scanners, quick_readers)
        });
        let pool = |opened: Result<_, r2d2::Error>| opened.map_err(|error| start_error(Box::new(error)));
        Ok(Self {
            readers: Readers::new(pool(readers)?),
            scanners: Readers::new(pool(scanners)?),
            scan_within: SCAN_WITHIN,
            quick_readers: pool(quick_readers)?,
            inline: Inline::default(),
            reads: Reads::default(),
            guard,
            proving: Arc::default(),
            writer: Writer::start(&threads, writer, role, settings.notices, {
                let damaged = Arc::clone(&damaged);
                move |error| map_error(error, &damaged)
            })
            .map_err(|error| start_error(Box::new(error)))?,
            threads,
            cache,
            damaged,
            file,
            upgrade: None,
            _lock: lock,
            _shared_lock: shared_lock,
        })
    }

    /// The upgrade of the schema at the opening; `None` where it was up to date.
    #[must_use]
    pub fn upgrade(&self) -> Option<&Upgrade> {
        self.upgrade.as_ref()
    }
}

/// Whether this is the version of an older release's schema. 0 is none.
fn is_older(version: i32) -> bool {
    (1..schema::VERSION).contains(&version)
}

/// The first steps, before anything is created beside the file: finds its name without links, refuses a file that is
/// not ours, and takes the shared lock against restores.
fn claim_for_use(path: &Path) -> Result<(PathBuf, SharedLock), OpenError> {
    make_folder(path)?;
    let file = own_name(path)?;
    // Not where there is a lock file: a server may have the file open. If it is this very process, closing a handle of
    // the file would drop SQLite's locks.
    if !file::exists(&with_suffix(&file, ".lock"))? {
        file::refuse_foreign_head(path)?;
    }
    file::refuse_emptied(&file, path)?;
    let shared_lock = SharedLock::begin(&file, path)?;
    Ok((file, shared_lock))
}

fn open_writer(settings: &SqliteSettings, own_name: &Path) -> Result<Connection, OpenError> {
    open_connection(own_name, settings.busy_timeout, OpenFlags::SQLITE_OPEN_READ_WRITE)
        .and_then(|writer| prepare_writer(&writer).map(|()| writer))
        .map_err(|error| schema_error(&settings.path, error.into()))
}

/// A guard over the files that the writer has open.
fn guard_files(writer: &Connection, file: PathBuf) -> io::Result<FileGuard> {
    let page_size: i64 = writer.pragma_query_value(None, "page_size", |row| row.get(0)).map_err(io::Error::other)?;
    FileGuard::of(file, page_size.unsigned_abs())
}

fn start_checkpoints(
    threads: &WatchedThreads,
    settings: &SqliteSettings,
    file: &Path,
    state: FileState,
) -> io::Result<Checkpoints> {
    let patience = settings.busy_timeout;
    let own_name = file.to_owned();
    let open = move || {
        // It does not wait for locks: a checkpoint that fails is tried again later.
        let connection = open_connection(&own_name, Duration::ZERO, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        open_wal(&connection);
        Ok(connection)
    };
    Checkpoints::start(threads, open, with_suffix(file, "-wal"), PACE, patience, state)
}

#[cfg(test)]
mod tests {
    use rusqlite::types::Value::{Integer, Text};

    use super::*;
    use crate::repository::sqlite::test_store::open_in;

    #[test]
    fn the_writer_commits_durably_and_every_connection_keeps_foreign_keys() {
        let folder = tempfile::tempdir().unwrap();
        let repository = open_in(folder.path());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let pragma = |name: &'static str| {
            runtime.block_on(repository.write(move |connection| {
                Ok(connection.pragma_query_value(None, name, |row| row.get::<_, rusqlite::types::Value>(0))?)
            }))
        };
        assert_eq!(pragma("synchronous").unwrap(), Integer(2), "FULL");
        assert_eq!(pragma("journal_mode").unwrap(), Text("wal".to_owned()));
        assert_eq!(pragma("foreign_keys").unwrap(), Integer(1));
        assert_eq!(pragma("busy_timeout").unwrap(), Integer(1_000));
        let distrusts = |connection: &Connection| {
            use rusqlite::config::DbConfig;
            [
                (DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false),
                (DbConfig::SQLITE_DBCONFIG_ENABLE_VIEW, false),
                (DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false),
                (DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true),
            ]
            .into_iter()
            .all(|(setting, is_on)| connection.db_config(setting).unwrap() == is_on)
        };
        assert!(runtime.block_on(repository.write(move |connection| Ok(distrusts(connection)))).unwrap());
        assert!(distrusts(&repository.quick_readers.get().unwrap()));
        assert!(distrusts(&file::open_alone(&repository.file).unwrap()));
        let reader = repository.readers.pool.get().unwrap();
        assert!(distrusts(&reader));
        assert_eq!(reader.pragma_query_value(None, "foreign_keys", |row| row.get::<_, i64>(0)).unwrap(), 1);
        assert!(reader.execute_batch("DELETE FROM users").is_err(), "a reader cannot write");
    }
}
