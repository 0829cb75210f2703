//! The store in one SQLite file: a pool of readers, the one writer, and all of the SQL.
//!
//! The file is in WAL mode, so readers never wait for the writer, nor it for them. `synchronous = FULL` makes a COMMIT
//! survive a power cut. The file, its log and its index are readable by their owner only, and a lock file beside them
//! keeps a second server away.

pub mod backup;
mod checkpoint;
mod events;
mod file;
mod guard;
mod inline;
pub(crate) mod readable;
mod schema;
pub(crate) mod session_cache;
mod sql;
mod staff;
mod writer;

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use r2d2::Pool;
use r2d2_sqlite::SqliteConnectionManager;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension as _, Row, RowIndex, params};
use scheduled_thread_pool::ScheduledThreadPool;
use thiserror::Error;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use self::inline::Inline;

use crate::domain::event::{Event, EventKind, EventQuery, FailedAttempt};
use crate::domain::item::{ItemId, List};
use crate::domain::profile::{Profile, ProfileChanges};
use crate::domain::rights::{AccountChange, Actor, Permission, Rights, UserQuery};
use crate::domain::session::{Caller, NewSession, Session, SessionCutoffs, SessionDetails, SessionId, UserAgent};
use crate::domain::token::TokenDigest;
use crate::domain::user::{Credentials, NewUser, PasswordHash, User, UserId, Username};
use crate::repository::sqlite::checkpoint::{Checkpoints, FileState, PACE};
use crate::repository::sqlite::file::{Lock, SharedLock, folder_of, own_name};
use crate::repository::sqlite::guard::FileGuard;
use crate::repository::sqlite::schema::SchemaError;
use crate::repository::sqlite::session_cache::{Change, SessionCache};
use crate::repository::sqlite::writer::{Role, Transaction, Writer};
use crate::repository::{
    Cause, Export, MAX_EXPORTED_EVENTS, Render, Repository, RepositoryError, Resets, StoreCounts, StoreStatistics,
    StoredFailures, UniqueField, VerifiedLogin,
};
use crate::system::blocking;
use crate::system::clock::Timestamp;

/// How long a read waits for a free connection before the store says that it is overloaded.
const POOL_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a read may take whose work grows with the store, where a client waits for it.
const SCAN_WITHIN: Duration = Duration::from_secs(10);

/// After how many of SQLite's steps such a read looks at the time.
const SCAN_STEPS: i32 = 10_000;

/// How long readiness waits for the proof that changes can be made.
const PROOF_WITHIN: Duration = Duration::from_secs(2);

/// How long a command waits for another one that makes the file or brings it up to date, and how often it looks.
const PREPARED_WITHIN: Duration = Duration::from_secs(5);
const PREPARED_LOOK: Duration = Duration::from_millis(20);

/// How many statements a connection keeps prepared: all of [`sql`], with room.
const STATEMENT_CACHE: usize = 64;

/// How far in the future a stored time must be before it is set to now. Clocks that are looked after go less wrong.
const CLAMPED_BEYOND: Duration = Duration::from_secs(60);

/// How many sessions are forgotten or changed in one transaction, so that no other write waits long.
const PRUNED_AT_ONCE: u32 = 500;

/// Where the file is and how it is used.
#[derive(Clone, Debug)]
pub struct SqliteSettings {
    /// The database file; its folder is made where it is missing.
    pub path: PathBuf,
    /// How many connections read at once, beside those of the short reads; half as many more are for reads whose work
    /// grows with the store.
    pub readers: u32,
    /// How long to wait for a lock that another process holds.
    pub busy_timeout: Duration,
    /// How many bytes of sessions and users are kept in memory.
    pub cache: usize,
}

/// Why a file could not be opened. Each is one sentence for a person.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The folder cannot be made.
    #[error("cannot make the folder {path}: {source}")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file, or the lock file beside it, cannot be opened.
    #[error("cannot open {path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There is no file, and none is to be made.
    #[error("there is no database at {path}")]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// An older release's server has the file.
    #[error("{path} is in use by the server of an older release: stop it first")]
    InUseByOlder {
        /// The database file.
        path: PathBuf,
    },
    /// Another server has the file.
    #[error("{path} is in use by another authtokens server")]
    InUse {
        /// The database file.
        path: PathBuf,
    },
    /// A restore is about to put another file in its place.
    #[error("a restore of {path} is running")]
    Restoring {
        /// The database file.
        path: PathBuf,
    },
    /// A command has the file, and it cannot be replaced meanwhile.
    #[error("a command is using {path}: wait until it is done")]
    InUseByCommand {
        /// The database file.
        path: PathBuf,
    },
    /// The file has a second name, and through it a second log.
    #[error("{path} has another name (a hard link): a database must have one")]
    HardLink {
        /// The file.
        path: PathBuf,
    },
    /// Whoever wrote it was killed in the middle of a change, and that is undone only by the user whose file it is.
    #[error("{path} has a hot journal, of an interrupted change: run this as its owner, or start the server once")]
    HotJournal {
        /// The file.
        path: PathBuf,
    },
    /// SQLite would delete a WAL beside a database that has nothing in it.
    #[error(
        "{path} is empty or missing, and its WAL ({path}-wal) is not: another program has emptied or moved the database. \
         Put it back, or restore a backup, which keeps the WAL"
    )]
    Emptied {
        /// The database file.
        path: PathBuf,
    },
    /// There is something of this name that cannot be a database.
    #[error("{path} is not a plain file")]
    NotAFile {
        /// The name.
        path: PathBuf,
    },
    /// SQLite keeps an index of the log beside the file, also to read it.
    #[error("cannot use {path}: there is no room for its index beside it")]
    NoRoom {
        /// The file.
        path: PathBuf,
    },
    /// The file cannot be used where nothing can be written.
    #[error("cannot use {path}: it is on a read-only file system")]
    ReadOnly {
        /// The file.
        path: PathBuf,
    },
    /// The file is there, and is not a database.
    #[error("{path} is not a SQLite database")]
    NotADatabase {
        /// The file.
        path: PathBuf,
    },
    /// It is a database that this release must not touch.
    #[error("cannot use {path}: {source}")]
    Schema {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: SchemaError,
    },
    /// A superuser that the service did not make.
    #[error("{path} holds what the service never wrote: {finding}: restore a backup")]
    InvalidRow {
        /// The file.
        path: PathBuf,
        /// Which row, and what is wrong with it.
        finding: String,
    },
    /// The readers or the writer could not be started.
    #[error("cannot start reading and writing {path}: {source}")]
    Start {
        /// The file.
        path: PathBuf,
        /// What failed.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// The store. Dropping it without [`Repository::close`] loses nothing; the log is then read at the next start.
pub struct SqliteRepository {
    /// For reads on blocking threads.
    readers: Readers,
    /// For those whose work grows with the store: nobody else waits behind them.
    scanners: Readers,
    /// How long such a read may take that somebody waits for.
    scan_within: Duration,
    /// For short reads, done where they are asked for.
    quick_readers: Pool<SqliteConnectionManager>,
    /// Whether they are.
    inline: Inline,
    reads: Reads,
    writer: Writer,
    guard: Option<Arc<FileGuard>>,
    /// Whether it is being proven that changes can be made.
    proving: Arc<AtomicBool>,
    cache: Arc<SessionCache>,
    damaged: Arc<AtomicBool>,
    /// The file's name without links: SQLite keeps its log beside that.
    file: PathBuf,
    upgraded_from: Option<i32>,
    /// The server's, held for as long as the store is open.
    _lock: Option<Lock>,
    /// Keeps a restore away, held as long.
    _presence: SharedLock,
}

/// What became of the reads that were asked for.
#[derive(Default)]
struct Reads {
    asked: AtomicU64,
    delayed: AtomicU64,
    /// How long they waited, in microseconds.
    delay: AtomicU64,
    refused: AtomicU64,
}

/// Connections that read, and as many permits: who waits for one of them holds up no thread meanwhile.
struct Readers {
    pool: Pool<SqliteConnectionManager>,
    permits: Arc<Semaphore>,
}

impl Readers {
    fn new(pool: Pool<SqliteConnectionManager>) -> Self {
        let permits = usize::try_from(pool.max_size()).unwrap_or(1);
        Self { pool, permits: Arc::new(Semaphore::new(permits)) }
    }
}

impl Reads {
    /// A permit to read. Only a read that must wait looks at the time.
    async fn permit(&self, readers: &Readers) -> Result<OwnedSemaphorePermit, RepositoryError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        if let Ok(permit) = Arc::clone(&readers.permits).try_acquire_owned() {
            return Ok(permit);
        }
        let since = Instant::now();
        let permit = timeout(POOL_TIMEOUT, Arc::clone(&readers.permits).acquire_owned()).await;
        self.delayed.fetch_add(1, Ordering::Relaxed);
        self.delay.fetch_add(u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
        permit.ok().and_then(Result::ok).ok_or_else(|| {
            self.refused.fetch_add(1, Ordering::Relaxed);
            RepositoryError::Unavailable(Arc::new(Late::Read))
        })
    }
}

/// A file that is ready, in the order in which its parts are to go, where nobody wants them: the lock outlives the
/// connection.
struct Prepared {
    /// The connection that may write.
    writer: Connection,
    /// What keeps servers away meanwhile.
    lock: Lock,
    /// The version that its schema had, where that was an older one.
    upgraded_from: Option<i32>,
}

/// Set for as long as it is being proven that changes can be made.
struct Proving(Arc<AtomicBool>);

impl Drop for Proving {
    fn drop(&mut self) {
        self.0.store(false, Ordering::SeqCst);
    }
}

impl SqliteRepository {
    /// Opens the file, making it and its schema where they are missing.
    ///
    /// # Errors
    /// [`OpenError`], each a sentence for the person who starts the server. A file that is refused is not changed.
    pub fn open(settings: &SqliteSettings) -> Result<Self, OpenError> {
        let (file, shared_lock) = claim_for_use(&settings.path)?;
        let Prepared { writer, lock, upgraded_from } = Self::prepare(settings, &file)?;
        Ok(Self { upgraded_from, ..Self::start(settings, file, writer, Some(lock), shared_lock)? })
    }

    /// Opens the file beside a server that has it, or where there is none, for as long as a command takes. The file is
    /// made only where `make` says so.
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
            let upgraded_from = Self::make_current(settings, &file)?;
            let writer = open_writer(settings, &file)?;
            Ok(Self { upgraded_from, ..Self::start(settings, file, writer, None, shared_lock)? })
        };
        open().map_err(|error| match error {
            OpenError::File { .. } | OpenError::Schema { source: SchemaError::Sqlite(_), .. } if is_read_only => {
                OpenError::ReadOnly { path: path.clone() }
            }
            other => other,
        })
    }

    /// Prepares the file where it has not this release's schema yet; the version that it had, where that was an older one.
    fn make_current(settings: &SqliteSettings, file: &Path) -> Result<Option<i32>, OpenError> {
        let path = &settings.path;
        let is_current = || match open_connection(settings, file, OpenFlags::SQLITE_OPEN_READ_ONLY)
            .map_err(SchemaError::from)
            .and_then(|reader| schema::check(&reader))
        {
            Err(SchemaError::Sqlite(error)) if file::has_hot_journal(&error) => Ok(false),
            version => version.map(|version| version == schema::VERSION).map_err(|error| schema_error(path, error)),
        };
        let started = Instant::now();
        while !file::exists(path)? || !is_current()? {
            match Self::prepare(settings, file) {
                Ok(Prepared { upgraded_from, .. }) => return Ok(upgraded_from),
                // Another command may be at it, and is soon done; a server of an older release would have the file on.
                Err(OpenError::InUse { .. }) if started.elapsed() < PREPARED_WITHIN => thread::sleep(PREPARED_LOOK),
                // It has a file that is not at its name any more.
                Err(OpenError::InUse { path }) if !file::exists(&path)? => return Err(OpenError::InUse { path }),
                Err(OpenError::InUse { path }) => return Err(OpenError::InUseByOlder { path }),
                Err(other) => return Err(other),
            }
        }
        Ok(None)
    }

    /// Makes the file and its schema, or brings them up to date. `file` is the file's own name: one file has one lock,
    /// whatever it is called.
    fn prepare(settings: &SqliteSettings, file: &Path) -> Result<Prepared, OpenError> {
        let path = &settings.path;
        let lock = lock_beside(file, path)?;
        make_file(file, path)?;
        // Through a connection that cannot write: what is refused stays as it was, byte for byte.
        let check = || {
            let reader = open_connection(settings, file, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
            let is_new = schema::check(&reader)? == 0;
            let invalid = if is_new { None } else { readable::find_invalid_superuser(&reader)? };
            Ok((reader, invalid))
        };
        let checked = match check() {
            Err(SchemaError::Sqlite(error)) if file::has_hot_journal(&error) => {
                file::roll_back_hot_journal(file, path, settings.busy_timeout)?;
                check()
            }
            checked => checked,
        };
        let (reader, invalid) = checked.map_err(|error| schema_error(path, error))?;
        if let Some(finding) = invalid {
            return Err(OpenError::InvalidRow { path: path.clone(), finding });
        }
        make_private(file)?;
        let mut writer = open_writer(settings, file)?;
        // Not before: whoever closes a file last takes its log and its index away, and the next one makes them again.
        drop(reader);
        let version = schema::create_or_upgrade(&mut writer).map_err(|error| schema_error(path, error))?;
        let upgraded_from = (1..schema::VERSION).contains(&version).then_some(version);
        if let Some(version) = upgraded_from {
            let path = path.display();
            log::info!("the schema of {path} was brought up to date, from version {version} to {}", schema::VERSION);
        }
        Ok(Prepared { writer, lock, upgraded_from })
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
        // A command that runs beside the server asks little, and only once.
        let cache = Arc::new(SessionCache::new(if lock.is_some() { settings.cache } else { 0 }));
        let start_error = |source| OpenError::Start { path: path.clone(), source };
        let guarded = guard_files(&writer, file.clone()).map(Arc::new);
        let guard = guarded.as_ref().ok().cloned();
        let role = if lock.is_some() {
            guarded.and_then(|guard| {
                let state = FileState { damaged: Arc::clone(&damaged), guard: Arc::clone(&guard) };
                let checkpoints = start_checkpoints(settings, &file, state)?;
                Ok(Role::Server { cache: Arc::clone(&cache), checkpoints, guard })
            })
        } else {
            // Where nothing can be written there may be no WAL.
            Ok(Role::Command { patience: settings.busy_timeout, guard: guard.clone() })
        };
        let role = role.map_err(|error| start_error(Box::new(error)))?;
        // Beside each other: a start is soon over, and opening files is a good part of it.
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
            writer: Writer::start(writer, role, {
                let damaged = Arc::clone(&damaged);
                move |error| map_error(error, &damaged)
            })
            .map_err(|error| start_error(Box::new(error)))?,
            cache,
            damaged,
            file,
            upgraded_from: None,
            _lock: lock,
            _presence: shared_lock,
        })
    }

    /// The version that the schema had before it was brought up to date, and the one that it has now; `None` where it was
    /// up to date.
    #[must_use]
    pub fn upgraded(&self) -> Option<(i32, i32)> {
        self.upgraded_from.map(|version| (version, schema::VERSION))
    }

    /// Whether SQLite has found the file damaged. Nothing but a look at the file should be done then.
    #[must_use]
    pub fn is_damaged(&self) -> bool {
        self.damaged.load(Ordering::Relaxed)
    }

    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, RepositoryError> {
        self.read_by(&self.readers, work).await
    }

    async fn read_by<T: Send + 'static>(
        &self,
        readers: &Readers,
        work: impl FnOnce(&Connection) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, RepositoryError> {
        self.refuse_when_damaged()?;
        // Before the hop, so that nobody waits for a thread: that would have no end.
        let permit = self.reads.permit(readers).await?;
        let pool = readers.pool.clone();
        let damaged = Arc::clone(&self.damaged);
        let outcome = blocking::run(move || {
            // Goes behind the connection.
            let _permit = permit;
            let connection = pool.get().map_err(|error| RepositoryError::Unavailable(Arc::new(error)))?;
            work(&connection).map_err(|failure| failure.mapped(&damaged))
        })
        .await
        .unwrap_or_else(|error| Err(RepositoryError::Backend(Arc::new(error))));
        self.after_read(outcome)
    }

    /// What cannot be read may be no more what it was: the writer looks.
    fn after_read<T>(&self, outcome: Result<T, RepositoryError>) -> Result<T, RepositoryError> {
        if let Err(RepositoryError::Unavailable(_) | RepositoryError::Inconsistent(_)) = outcome {
            self.writer.tally().failed();
            self.writer.watch();
        }
        outcome
    }

    /// A read whose work grows with the store, as of one moment. It waits for others of its kind alone, and is given up
    /// after a while where that is said.
    async fn scan<T: Send + 'static>(
        &self,
        within: Option<Duration>,
        work: impl FnOnce(&Connection) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, RepositoryError> {
        self.read_by(&self.scanners, move |connection| {
            if let Some(within) = within {
                let began = Instant::now();
                connection.progress_handler(SCAN_STEPS, Some(move || began.elapsed() >= within))?;
            }
            let outcome = connection.unchecked_transaction().map_err(Failure::from).and_then(|moment| work(&moment));
            connection.progress_handler(0, None::<fn() -> bool>)?;
            outcome
        })
        .await
    }

    /// A short read, by keys alone, done where it is asked for: the hop to another thread would cost several times as
    /// much as the read. Where the file is locked, the disk must be waited for, or no reader is free, it is done on a
    /// blocking thread like any other.
    async fn read_here<T: Send + 'static>(
        &self,
        work: impl Fn(&Connection) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, RepositoryError> {
        self.refuse_when_damaged()?;
        if let Some(turn) = self.inline.begin()
            && let Some(connection) = self.quick_readers.try_get()
        {
            self.reads.asked.fetch_add(1, Ordering::Relaxed);
            let outcome = work(&connection);
            self.inline.end(&turn);
            match outcome {
                Err(Failure::Sqlite(error)) if is_busy(&error) => {}
                outcome => return self.after_read(outcome.map_err(|failure| failure.mapped(&self.damaged))),
            }
        }
        self.read(work).await
    }

    async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, RepositoryError> {
        self.refuse_when_damaged()?;
        let damaged = Arc::clone(&self.damaged);
        self.writer.write(move |connection| work(connection).map_err(|failure| failure.mapped(&damaged))).await
    }

    /// The cache, and the writer set to look for other processes' changes for as long as it is in use.
    fn watched_cache(&self) -> Result<&SessionCache, RepositoryError> {
        self.refuse_when_damaged()?;
        if self.cache.needs_poller() && !self.writer.watch() {
            self.cache.was_not_asked();
        }
        Ok(&self.cache)
    }

    async fn find_caller(&self, caller: &Caller) -> Result<FoundCaller, RepositoryError> {
        let caller = *caller;
        let find = move |connection: &Connection, statement| {
            let found = connection.prepare_cached(statement)?.query_row(live(&caller), |row| {
                let (session, created) = read_session(row)?;
                let user = read_user(row, 3).map_err(|error| readable::odd_account(row, error))?;
                Ok(FoundCaller { session, created, user })
            });
            found.optional()?.ok_or_else(|| RepositoryError::NoSession.into())
        };
        let found = self.read_here(move |connection| find(connection, sql::FIND_CALLER)).await?;
        if found.user.cellar.len().max(found.user.wants.len()) <= sql::SHORT_LIST {
            return Ok(found);
        }
        // Long lists take longer than others should wait for.
        self.read(move |connection| find(connection, sql::FIND_CALLER_WITH_LONG_LISTS)).await
    }

    /// Several statements that must see the file as of one moment.
    async fn read_at_once<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, RepositoryError> {
        self.read(move |connection| {
            let transaction = connection.unchecked_transaction()?;
            work(&transaction)
        })
        .await
    }

    /// A damaged file is neither read nor written any more: what it says may be false, and writing may make it worse.
    fn refuse_when_damaged(&self) -> Result<(), RepositoryError> {
        if self.is_damaged() {
            return Err(RepositoryError::Unavailable(Arc::new(Damaged)));
        }
        Ok(())
    }
}

/// A session, when it was opened, and its user.
struct FoundCaller {
    session: Session,
    created: Timestamp,
    user: User,
}

#[derive(Debug, Error)]
#[error("SQLite found the file damaged; the server must be stopped and the file restored")]
struct Damaged;

/// What took too long.
#[derive(Debug, Error)]
enum Late {
    #[error("the read has waited for a connection for {} s", POOL_TIMEOUT.as_secs())]
    Read,
    #[error("a change that changes nothing has taken more than {} s", PROOF_WITHIN.as_secs())]
    Proof,
}

#[derive(Debug, Error)]
#[error("{0} is out of range")]
struct OutOfRange(&'static str);

#[derive(Debug, Error)]
#[error("it is neither 0 nor 1")]
struct NotATruth;

/// What a piece of writing may end with: SQLite's error, or one that already has its meaning.
enum Failure {
    Sqlite(rusqlite::Error),
    Repository(RepositoryError),
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<RepositoryError> for Failure {
    fn from(error: RepositoryError) -> Self {
        Self::Repository(error)
    }
}

impl Failure {
    fn mapped(self, damaged: &AtomicBool) -> RepositoryError {
        match self {
            Self::Repository(error) => error,
            Self::Sqlite(error) => map_error(error, damaged),
        }
    }
}

#[async_trait]
impl Repository for SqliteRepository {
    async fn register_user(&self, user: NewUser, session: NewSession, now: Timestamp) -> Result<User, RepositoryError> {
        self.write(move |connection| {
            let user_id =
                insert_user(connection, &user, now)?.ok_or(RepositoryError::Conflict(UniqueField::Username))?;
            insert_token(connection, user_id, &session, now)?;
            events::by_owner(connection, EventKind::Registered, user_id, session.ip, &id_of(&session.digest), now)?;
            Ok(find_user(connection, user_id)?)
        })
        .await
    }

    async fn find_credentials(&self, username: &Username) -> Result<Option<Credentials>, RepositoryError> {
        let key = username.key();
        self.read_here(move |connection| {
            let mut statement = connection.prepare_cached(sql::FIND_CREDENTIALS)?;
            let found = statement.query_row([&key], read_credentials).optional()?;
            found.iter().try_for_each(|found| readable::require_own_key(found, &key))?;
            Ok(found)
        })
        .await
    }

    async fn open_session(
        &self,
        login: VerifiedLogin,
        session: NewSession,
        max_sessions: u32,
        now: Timestamp,
    ) -> Result<Option<User>, RepositoryError> {
        self.write(move |connection| {
            connection.changes(login.user_id, Change::Text);
            let recorded = connection.prepare_cached(sql::RECORD_LOGIN)?.execute(params![
                now.as_millis(),
                login.rehashed.as_ref().map(PasswordHash::as_stored),
                login.user_id.0,
                login.verified_against.as_stored(),
            ])?;
            if recorded == 0 {
                return Ok(None);
            }
            let others = max_sessions.saturating_sub(1);
            if connection.prepare_cached(sql::MAKE_ROOM)?.execute(params![login.user_id.0, others])? > 0 {
                connection.changes(login.user_id, Change::Sessions);
                let kind = EventKind::SessionRevoked;
                events::by_owner(connection, kind, login.user_id, session.ip, "max_per_user", now)?;
            }
            insert_token(connection, login.user_id, &session, now)?;
            connection.prepare_cached(sql::FORGET_FAILURES)?.execute([login.user_id.0])?;
            let (kind, id) = (EventKind::LoggedIn, id_of(&session.digest));
            events::by_owner(connection, kind, login.user_id, session.ip, &id, now)?;
            Ok(Some(find_user(connection, login.user_id)?))
        })
        .await
    }

    async fn find_session(&self, caller: &Caller) -> Result<Option<Session>, RepositoryError> {
        if let Some(session) = self.watched_cache()?.find_session(caller) {
            return Ok(Some(session));
        }
        let caller = *caller;
        let ticket = self.cache.ticket();
        let found = self.read_here(move |connection| Ok(find_session(connection, &caller)?)).await?;
        if let Some((session, created)) = found {
            self.cache.keep(ticket, caller.digest, session, created, None);
        }
        Ok(found.map(|(session, _)| session))
    }

    async fn find_user(&self, caller: &Caller) -> Result<(Session, User), RepositoryError> {
        let found = self.find_caller(caller).await?;
        Ok((found.session, found.user))
    }

    async fn find_rendered_user(&self, caller: &Caller, render: Render) -> Result<(Session, Bytes), RepositoryError> {
        if let Some(kept) = self.watched_cache()?.find(caller) {
            return Ok(kept);
        }
        let ticket = self.cache.ticket();
        let found = self.find_caller(caller).await?;
        let text = render(found.user).map_err(RepositoryError::Backend)?;
        self.cache.keep(ticket, caller.digest, found.session, found.created, Some(&text));
        Ok((found.session, text))
    }

    async fn export_user(&self, caller: &Caller) -> Result<Export, RepositoryError> {
        let caller = *caller;
        // It grows with the account and not with the store, and so waits behind nobody's search.
        self.read_at_once(move |connection| {
            let user_id = require_session(connection, &caller)?.user_id;
            Ok(Export {
                user: find_user(connection, user_id)?,
                cellar: list_items(connection, List::Cellar, user_id)?,
                wants: list_items(connection, List::Wants, user_id)?,
                sessions: list_sessions(connection, user_id, caller.cutoffs)?
                    .into_iter()
                    .map(|(_, details)| details)
                    .collect(),
                events: events::list_own(connection, user_id, None, i64::MAX, MAX_EXPORTED_EVENTS)?,
            })
        })
        .await
    }

    async fn update_profile(
        &self,
        caller: &Caller,
        changes: ProfileChanges,
        now: Timestamp,
    ) -> Result<User, RepositoryError> {
        let caller = *caller;
        self.write(move |connection| {
            let user_id = begin_change(connection, &caller, Change::Text)?.user_id;
            let mut user = find_user(connection, user_id)?;
            let before = user.profile.clone();
            for change in changes {
                user.profile.set(change);
            }
            if user.profile != before {
                user.modified = now;
                update_profile(connection, user_id, &user.profile, now)?;
            }
            Ok(user)
        })
        .await
    }

    async fn find_own_credentials(&self, caller: &Caller) -> Result<Credentials, RepositoryError> {
        let caller = *caller;
        self.read_at_once(move |connection| {
            let user_id = require_session(connection, &caller)?.user_id;
            let mut statement = connection.prepare_cached(sql::FIND_OWN_CREDENTIALS)?;
            Ok(statement.query_row([user_id.0], read_credentials)?)
        })
        .await
    }

    async fn change_password(
        &self,
        caller: &Caller,
        verified_against: PasswordHash,
        new_hash: PasswordHash,
        now: Timestamp,
    ) -> Result<bool, RepositoryError> {
        let caller = *caller;
        self.write(move |connection| {
            let user_id = begin_change(connection, &caller, Change::Sessions)?.user_id;
            let changed = connection.prepare_cached(sql::SET_PASSWORD)?.execute(params![
                user_id.0,
                verified_against.as_stored(),
                new_hash.as_stored(),
            ])?;
            if changed == 0 {
                return Ok(false);
            }
            let mut others = connection.prepare_cached(sql::DELETE_OTHER_TOKENS)?;
            others.execute(params![user_id.0, caller.digest.as_bytes()])?;
            connection.prepare_cached(sql::FORGET_FAILURES)?.execute([user_id.0])?;
            events::by_owner(connection, EventKind::PasswordChanged, user_id, caller.ip, "", now)?;
            Ok(true)
        })
        .await
    }

    async fn delete_user(
        &self,
        caller: &Caller,
        verified_against: PasswordHash,
        now: Timestamp,
    ) -> Result<bool, RepositoryError> {
        let caller = *caller;
        self.write(move |connection| {
            let user_id = begin_change(connection, &caller, Change::Sessions)?.user_id;
            let credentials =
                connection.prepare_cached(sql::FIND_OWN_CREDENTIALS)?.query_row([user_id.0], read_credentials)?;
            if credentials.password_hash != verified_against {
                return Ok(false);
            }
            staff::keep_a_superuser(connection, &staff::target_of(connection, user_id)?)?;
            // While it is still there to be named.
            events::by_owner(connection, EventKind::Deleted, user_id, caller.ip, "", now)?;
            connection.prepare_cached(sql::DELETE_ACCOUNT)?.execute([user_id.0])?;
            Ok(true)
        })
        .await
    }

    async fn list_sessions(&self, caller: &Caller) -> Result<Vec<SessionDetails>, RepositoryError> {
        let caller = *caller;
        self.read_at_once(move |connection| {
            let user_id = require_session(connection, &caller)?.user_id;
            let sessions = list_sessions(connection, user_id, caller.cutoffs)?;
            Ok(sessions.into_iter().map(|(_, details)| details).collect())
        })
        .await
    }

    async fn revoke_own_session(&self, caller: &Caller, now: Timestamp) -> Result<(), RepositoryError> {
        let caller = *caller;
        self.write(move |connection| {
            let user_id = begin_change(connection, &caller, Change::Sessions)?.user_id;
            connection.prepare_cached(sql::DELETE_TOKEN)?.execute([caller.digest.as_bytes()])?;
            let id = id_of(&caller.digest);
            events::by_owner(connection, EventKind::LoggedOut, user_id, caller.ip, &id, now)?;
            Ok(())
        })
        .await
    }

    async fn revoke_session(&self, caller: &Caller, id: SessionId, now: Timestamp) -> Result<bool, RepositoryError> {
        let caller = *caller;
        self.write(move |connection| {
            let user_id = begin_change(connection, &caller, Change::Sessions)?.user_id;
            if !delete_session(connection, user_id, &id, caller.cutoffs)? {
                return Ok(false);
            }
            events::by_owner(connection, EventKind::SessionRevoked, user_id, caller.ip, id.as_str(), now)?;
            Ok(true)
        })
        .await
    }

    async fn revoke_all_sessions(&self, caller: &Caller, now: Timestamp) -> Result<(), RepositoryError> {
        let caller = *caller;
        self.write(move |connection| {
            let user_id = begin_change(connection, &caller, Change::Sessions)?.user_id;
            connection.prepare_cached(sql::DELETE_ALL_TOKENS)?.execute([user_id.0])?;
            events::by_owner(connection, EventKind::AllSessionsRevoked, user_id, caller.ip, "", now)?;
            Ok(())
        })
        .await
    }

    async fn record_use(&self, uses: Vec<(TokenDigest, Timestamp)>) -> Result<(), RepositoryError> {
        let stored = self
            .write(move |connection| {
                let mut record = connection.prepare_cached(sql::RECORD_USE)?;
                let mut stored = Vec::new();
                for (digest, at) in uses {
                    // A session may have ended meanwhile, and then nothing may speak of its use.
                    if record.execute(params![digest.as_bytes(), at.as_millis()])? > 0 {
                        stored.push((digest, at));
                    }
                }
                Ok(stored)
            })
            .await?;
        self.cache.used(&stored);
        Ok(())
    }

    async fn prune_sessions(&self, cutoffs: SessionCutoffs) -> Result<usize, RepositoryError> {
        let (created, used) = (cutoffs.created_after.as_millis(), cutoffs.used_after.as_millis());
        let dead: Vec<[u8; 32]> = self
            .scan(None, move |connection| {
                let mut find = connection.prepare_cached(sql::FIND_DEAD_TOKENS)?;
                Ok(find
                    .query_map(params![created, used, PRUNED_AT_ONCE], |row| row.get(0))?
                    .collect::<Result<_, _>>()?)
            })
            .await?;
        if dead.is_empty() {
            return Ok(0);
        }
        self.write(move |connection| {
            let mut delete = connection.prepare_cached(sql::DELETE_DEAD_TOKEN)?;
            let mut deleted = 0;
            for digest in dead {
                let user_id = delete.query_row(params![digest, created, used], |row| row.get(0)).optional()?;
                if let Some(user_id) = user_id {
                    connection.changes(UserId(user_id), Change::Sessions);
                    deleted += 1;
                }
            }
            Ok(deleted)
        })
        .await
    }

    async fn clamp_times(&self, now: Timestamp) -> Result<usize, RepositoryError> {
        let (tokens, failures) = self
            .read(move |connection| {
                let far = params![now.plus(CLAMPED_BEYOND).as_millis(), PRUNED_AT_ONCE];
                let mut tokens = connection.prepare_cached(sql::FIND_FUTURE_TOKENS)?;
                let tokens = tokens.query_map(far, |row| row.get(0))?.collect::<Result<Vec<[u8; 32]>, _>>()?;
                let mut failures = connection.prepare_cached(sql::FIND_FUTURE_FAILURES)?;
                let failures = failures.query_map(far, |row| row.get(0))?.collect::<Result<Vec<i64>, _>>()?;
                Ok((tokens, failures))
            })
            .await?;
        if tokens.is_empty() && failures.is_empty() {
            return Ok(0);
        }
        self.write(move |connection| {
            let mut clamped = 0;
            let mut clamp = connection.prepare_cached(sql::CLAMP_TOKEN)?;
            for digest in tokens {
                let user_id = clamp.query_row(params![digest, now.as_millis()], |row| row.get(0)).optional()?;
                if let Some(user_id) = user_id {
                    connection.changes(UserId(user_id), Change::Sessions);
                    clamped += 1;
                }
            }
            let mut clamp = connection.prepare_cached(sql::CLAMP_FAILURES)?;
            for user_id in failures {
                clamped += clamp.execute(params![user_id, now.as_millis()])?;
            }
            Ok(clamped)
        })
        .await
    }

    async fn list_items(&self, caller: &Caller, list: List) -> Result<Vec<ItemId>, RepositoryError> {
        let caller = *caller;
        self.read_at_once(move |connection| {
            let user_id = require_session(connection, &caller)?.user_id;
            Ok(item_ids(connection, list, user_id)?)
        })
        .await
    }

    async fn replace_items(
        &self,
        caller: &Caller,
        list: List,
        items: BTreeSet<ItemId>,
        now: Timestamp,
    ) -> Result<Vec<ItemId>, RepositoryError> {
        let caller = *caller;
        self.write(move |connection| {
            let user_id = begin_change(connection, &caller, Change::Text)?.user_id;
            let before: BTreeSet<ItemId> = item_ids(connection, list, user_id)?.into_iter().collect();
            for item in before.difference(&items) {
                delete_item(connection, list, user_id, *item)?;
            }
            for item in items.difference(&before) {
                insert_item(connection, list, user_id, *item, now)?;
            }
            if items != before {
                touch_user(connection, user_id, now)?;
            }
            Ok(items.into_iter().collect())
        })
        .await
    }

    async fn add_item(
        &self,
        caller: &Caller,
        list: List,
        item: ItemId,
        max_items: usize,
        now: Timestamp,
    ) -> Result<Vec<ItemId>, RepositoryError> {
        let caller = *caller;
        self.write(move |connection| {
            let user_id = begin_change(connection, &caller, Change::Text)?.user_id;
            let is_new = insert_item(connection, list, user_id, item, now)?;
            let items = item_ids(connection, list, user_id)?;
            if is_new {
                if items.len() > max_items {
                    return Err(RepositoryError::ListFull.into());
                }
                touch_user(connection, user_id, now)?;
            }
            Ok(items)
        })
        .await
    }

    async fn remove_item(
        &self,
        caller: &Caller,
        list: List,
        item: ItemId,
        now: Timestamp,
    ) -> Result<Vec<ItemId>, RepositoryError> {
        let caller = *caller;
        self.write(move |connection| {
            let user_id = begin_change(connection, &caller, Change::Text)?.user_id;
            if delete_item(connection, list, user_id, item)? {
                touch_user(connection, user_id, now)?;
            }
            Ok(item_ids(connection, list, user_id)?)
        })
        .await
    }

    async fn list_own_events(&self, caller: &Caller, query: EventQuery) -> Result<Vec<Event>, RepositoryError> {
        let caller = *caller;
        self.read_at_once(move |connection| {
            let user_id = require_session(connection, &caller)?.user_id;
            let before = query.before.unwrap_or(i64::MAX);
            Ok(events::list_own(connection, user_id, query.kind, before, query.limit)?)
        })
        .await
    }

    async fn create_account(&self, user: NewUser, rights: Rights, now: Timestamp) -> Result<User, RepositoryError> {
        self.write(move |connection| staff::create(connection, &user, rights, now)).await
    }

    async fn check_rights(
        &self,
        actor: &Actor,
        permission: Permission,
        username: Option<&Username>,
    ) -> Result<bool, RepositoryError> {
        let (actor, username) = (*actor, username.cloned());
        self.read_at_once(move |connection| staff::check_rights(connection, &actor, permission, username.as_ref()))
            .await
    }

    async fn list_accounts(&self, actor: &Actor, query: UserQuery) -> Result<Vec<User>, RepositoryError> {
        let actor = *actor;
        self.scan(Some(self.scan_within), move |connection| staff::list(connection, &actor, &query)).await
    }

    async fn find_account(&self, actor: &Actor, username: &Username) -> Result<Option<User>, RepositoryError> {
        let (actor, username) = (*actor, username.clone());
        self.read_at_once(move |connection| staff::find(connection, &actor, &username)).await
    }

    async fn change_account(
        &self,
        actor: &Actor,
        username: &Username,
        change: AccountChange,
        now: Timestamp,
    ) -> Result<Option<User>, RepositoryError> {
        let (actor, username) = (*actor, username.clone());
        self.write(move |connection| staff::change(connection, &actor, &username, &change, now)).await
    }

    async fn delete_account(
        &self,
        actor: &Actor,
        username: &Username,
        now: Timestamp,
    ) -> Result<bool, RepositoryError> {
        let (actor, username) = (*actor, username.clone());
        self.write(move |connection| staff::delete(connection, &actor, &username, now)).await
    }

    async fn list_account_sessions(
        &self,
        actor: &Actor,
        username: &Username,
        cutoffs: SessionCutoffs,
    ) -> Result<Option<Vec<SessionDetails>>, RepositoryError> {
        let (actor, username) = (*actor, username.clone());
        self.read_at_once(move |connection| staff::list_sessions(connection, &actor, &username, cutoffs)).await
    }

    async fn revoke_account_sessions(
        &self,
        actor: &Actor,
        username: &Username,
        id: Option<SessionId>,
        cutoffs: SessionCutoffs,
        now: Timestamp,
    ) -> Result<Option<usize>, RepositoryError> {
        let (actor, username) = (*actor, username.clone());
        self.write(move |connection| staff::revoke_sessions(connection, &actor, &username, id.as_ref(), cutoffs, now))
            .await
    }

    async fn list_events(&self, actor: &Actor, query: EventQuery) -> Result<Vec<Event>, RepositoryError> {
        let actor = *actor;
        self.scan(Some(self.scan_within), move |connection| {
            staff::require(connection, &actor)?;
            Ok(events::list(connection, &query)?)
        })
        .await
    }

    async fn record_failed_attempts(
        &self,
        attempts: Vec<FailedAttempt>,
        now: Timestamp,
    ) -> Result<(), RepositoryError> {
        self.write(move |connection| Ok(events::record_failed_attempts(connection, &attempts, now)?)).await
    }

    async fn prune_events(&self, before: Timestamp, keep: u64, now: Timestamp) -> Result<usize, RepositoryError> {
        let old = self.scan(None, move |connection| Ok(events::find_old(connection, before, keep, now)?)).await?;
        if old.is_empty() {
            return Ok(0);
        }
        self.write(move |connection| {
            let mut delete = connection.prepare_cached(sql::DELETE_EVENT)?;
            let mut deleted = 0;
            for id in old {
                deleted += delete.execute([id])?;
            }
            Ok(deleted)
        })
        .await
    }

    async fn list_familiar_addresses(&self, username: &Username) -> Result<Vec<IpAddr>, RepositoryError> {
        let username = username.clone();
        self.read_at_once(move |connection| Ok(events::list_familiar(connection, &username)?)).await
    }

    async fn list_failures(&self, limit: u32) -> Result<Vec<StoredFailures>, RepositoryError> {
        // Before the first request, so that nobody waits for this but the start.
        self.read_here(move |connection| Ok(events::list_failures(connection, limit)?)).await
    }

    async fn list_resets(&self, behind: i64) -> Result<Resets, RepositoryError> {
        self.read_here(move |connection| {
            let transaction = connection.unchecked_transaction()?;
            Ok(events::list_resets(&transaction, behind)?)
        })
        .await
    }

    async fn check_ready(&self) -> Result<(), RepositoryError> {
        let guard = self.guard.clone();
        let readable = self.read(move |connection| {
            if let Some(guard) = &guard {
                guard.check().map_err(|lost| RepositoryError::Unavailable(lost.into()))?;
            }
            Ok(connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?)
        });
        readable.await?;
        // Otherwise it is a transaction of nothing: it meets locks and a writer that is stuck, and writes nothing.
        let needs_proof = self.writer.tally().needs_proof();
        let late = || RepositoryError::Unavailable(Arc::new(Late::Proof));
        if self.proving.swap(true, Ordering::SeqCst) {
            // The last one is still under way, and waits for the disk.
            return Err(late());
        }
        let proving = Proving(Arc::clone(&self.proving));
        let proof = self.write(move |connection| {
            if needs_proof {
                connection.prepare_cached(sql::INSERT_PROOF)?.execute([])?;
                connection.prepare_cached(sql::DELETE_PROOF)?.execute([])?;
            }
            // It ends with the answer, and that comes behind the COMMIT.
            Ok(proving)
        });
        timeout(PROOF_WITHIN, proof).await.map_err(|_| late())??;
        if needs_proof {
            self.writer.tally().proven();
        }
        Ok(())
    }

    async fn statistics(&self) -> StoreStatistics {
        let file = self.file.clone();
        let size = |path: &Path| fs::metadata(path).ok().map(|metadata| metadata.len());
        let sizes = blocking::run(move || (size(&file), size(&with_suffix(&file, "-wal")))).await;
        let (size, log_size) = sizes.unwrap_or_default();
        let writes = self.writer.tally();
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        // In this order, so that what is taken out in between is not taken for more than was put in.
        let begun = count(&writes.begun);
        StoreStatistics {
            size,
            log_size,
            reads: count(&self.reads.asked),
            delayed_reads: count(&self.reads.delayed),
            read_delay: Duration::from_micros(count(&self.reads.delay)),
            refused_reads: count(&self.reads.refused),
            waiting_writes: count(&writes.queued).saturating_sub(begun + count(&writes.late)),
            writes: begun,
            commits: count(&writes.commits),
            refused_writes: count(&writes.refused),
        }
    }

    async fn count(&self) -> Result<StoreCounts, RepositoryError> {
        self.scan(Some(self.scan_within), |connection| {
            let count = |statement| connection.query_row(statement, [], |row| row.get(0)).map(i64::unsigned_abs);
            Ok(StoreCounts { users: count(sql::COUNT_USERS)?, sessions: count(sql::COUNT_TOKENS)? })
        })
        .await
    }

    async fn close(&self) -> Result<(), RepositoryError> {
        // To move the log into a damaged file could make it worse.
        self.refuse_when_damaged()?;
        self.writer.close().await
    }
}

/// The name of a token's session, as events tell it.
fn id_of(digest: &TokenDigest) -> String {
    SessionId::of(digest).as_str().to_owned()
}

/// The caller's live session, and when it was opened.
fn find_session(connection: &Connection, caller: &Caller) -> rusqlite::Result<Option<(Session, Timestamp)>> {
    connection.prepare_cached(sql::FIND_SESSION)?.query_row(live(caller), read_session).optional()
}

/// What a statement that looks for a live session is told.
fn live(caller: &Caller) -> impl rusqlite::Params {
    (*caller.digest.as_bytes(), caller.cutoffs.created_after.as_millis(), caller.cutoffs.used_after.as_millis())
}

fn read_session(row: &Row<'_>) -> rusqlite::Result<(Session, Timestamp)> {
    Ok((Session { user_id: UserId(row.get(0)?), last_used: read_time(row, 1)? }, read_time(row, 2)?))
}

/// The session in whose name the rest of the transaction changes something of its user.
fn begin_change(transaction: &Transaction<'_>, caller: &Caller, change: Change) -> Result<Session, Failure> {
    let session = match transaction.known_session(caller) {
        Some(session) => session,
        None => require_session(transaction, caller)?,
    };
    transaction.changes(session.user_id, change);
    Ok(session)
}

/// The session in whose name the rest of the transaction is done.
fn require_session(connection: &Connection, caller: &Caller) -> Result<Session, Failure> {
    let (session, _) = find_session(connection, caller)?.ok_or(RepositoryError::NoSession)?;
    Ok(session)
}

fn read_credentials(row: &Row<'_>) -> rusqlite::Result<Credentials> {
    Ok(Credentials {
        user_id: UserId(row.get("id")?),
        username: read_username(row, "username")?,
        password_hash: PasswordHash::from_stored(row.get("password_hash")?),
        is_active: read_truth(row, "is_active")?,
    })
}

fn insert_user(connection: &Connection, user: &NewUser, now: Timestamp) -> rusqlite::Result<Option<UserId>> {
    connection
        .prepare_cached(sql::INSERT_USER)?
        .query_row(
            params![
                user.username.as_str(),
                user.username.key(),
                user.password_hash.as_stored(),
                user.profile.first_name,
                user.profile.last_name,
                user.profile.email,
                user.profile.address,
                user.profile.address2,
                user.profile.city,
                user.profile.state,
                user.profile.zipcode,
                now.as_millis(),
            ],
            |row| Ok(UserId(row.get(0)?)),
        )
        .optional()
}

fn insert_token(
    connection: &Connection,
    user_id: UserId,
    session: &NewSession,
    now: Timestamp,
) -> rusqlite::Result<()> {
    connection.prepare_cached(sql::INSERT_TOKEN)?.execute(params![
        session.digest.as_bytes(),
        user_id.0,
        now.as_millis(),
        session.user_agent.as_str(),
        ip_text(session.ip),
    ])?;
    Ok(())
}

/// An address as it is stored.
fn ip_text(ip: Option<IpAddr>) -> String {
    ip.map(|ip| ip.to_string()).unwrap_or_default()
}

fn read_ip(row: &Row<'_>) -> rusqlite::Result<Option<IpAddr>> {
    Ok(row.get::<_, String>("ip")?.parse().ok())
}

fn find_user(connection: &Connection, user_id: UserId) -> rusqlite::Result<User> {
    connection
        .prepare_cached(sql::FIND_USER)?
        .query_row([user_id.0], |row| read_user(row, 0).map_err(|error| readable::odd_account(row, error)))
}

fn update_profile(connection: &Connection, user_id: UserId, profile: &Profile, now: Timestamp) -> rusqlite::Result<()> {
    connection.prepare_cached(sql::UPDATE_PROFILE)?.execute(params![
        user_id.0,
        profile.first_name,
        profile.last_name,
        profile.email,
        profile.address,
        profile.address2,
        profile.city,
        profile.state,
        profile.zipcode,
        now.as_millis(),
    ])?;
    Ok(())
}

fn touch_user(connection: &Connection, user_id: UserId, now: Timestamp) -> rusqlite::Result<()> {
    connection.prepare_cached(sql::TOUCH_USER)?.execute(params![user_id.0, now.as_millis()])?;
    Ok(())
}

/// A user's live sessions, newest first, each with the digest of its token.
fn list_sessions(
    connection: &Connection,
    user_id: UserId,
    cutoffs: SessionCutoffs,
) -> rusqlite::Result<Vec<(TokenDigest, SessionDetails)>> {
    connection
        .prepare_cached(sql::LIST_SESSIONS)?
        .query_map(
            params![user_id.0, cutoffs.created_after.as_millis(), cutoffs.used_after.as_millis()],
            read_session_details,
        )?
        .collect()
}

fn read_session_details(row: &Row<'_>) -> rusqlite::Result<(TokenDigest, SessionDetails)> {
    let digest = TokenDigest::from_bytes(row.get("digest")?);
    let details = SessionDetails {
        id: SessionId::of(&digest),
        created: read_time(row, "created")?,
        last_used: read_time(row, "last_used")?,
        user_agent: UserAgent::from_stored(row.get("user_agent")?),
        ip: read_ip(row)?,
    };
    Ok((digest, details))
}

/// Ends one of a user's live sessions; `false` when there is none of this name.
fn delete_session(
    connection: &Connection,
    user_id: UserId,
    id: &SessionId,
    cutoffs: SessionCutoffs,
) -> rusqlite::Result<bool> {
    let sessions = list_sessions(connection, user_id, cutoffs)?;
    let Some((digest, _)) = sessions.into_iter().find(|(_, details)| details.id == *id) else {
        return Ok(false);
    };
    Ok(connection.prepare_cached(sql::DELETE_TOKEN)?.execute([digest.as_bytes()])? > 0)
}

/// A list's items and since when they are there, ascending.
fn list_items(connection: &Connection, list: List, user_id: UserId) -> rusqlite::Result<Vec<(ItemId, Timestamp)>> {
    connection
        .prepare_cached(sql::items(list).list)?
        .query_map([user_id.0], |row| Ok((read_item(row)?, read_time(row, "added")?)))?
        .collect()
}

fn item_ids(connection: &Connection, list: List, user_id: UserId) -> rusqlite::Result<Vec<ItemId>> {
    connection.prepare_cached(sql::items(list).list)?.query_map([user_id.0], read_item)?.collect()
}

fn read_item(row: &Row<'_>) -> rusqlite::Result<ItemId> {
    ItemId::new(row.get(0)?).map_err(|error| invalid_column(0, error))
}

/// `false` when it was there already.
fn insert_item(
    connection: &Connection,
    list: List,
    user_id: UserId,
    item: ItemId,
    now: Timestamp,
) -> rusqlite::Result<bool> {
    let mut insert = connection.prepare_cached(sql::items(list).insert)?;
    Ok(insert.execute(params![user_id.0, item.get(), now.as_millis()])? > 0)
}

/// `false` when it was not there.
fn delete_item(connection: &Connection, list: List, user_id: UserId, item: ItemId) -> rusqlite::Result<bool> {
    let mut delete = connection.prepare_cached(sql::items(list).delete)?;
    Ok(delete.execute(params![user_id.0, item.get()])? > 0)
}

/// A user whose columns begin at `first`, in the order in which the statements have them: to look for each by its name
/// takes longer than to find the row.
fn read_user(row: &Row<'_>, first: usize) -> rusqlite::Result<User> {
    Ok(User {
        username: read_username(row, first)?,
        profile: Profile {
            first_name: row.get(first + 1)?,
            last_name: row.get(first + 2)?,
            email: row.get(first + 3)?,
            address: row.get(first + 4)?,
            address2: row.get(first + 5)?,
            city: row.get(first + 6)?,
            state: row.get(first + 7)?,
            zipcode: row.get(first + 8)?,
        },
        is_active: read_truth(row, first + 9)?,
        is_superuser: read_truth(row, first + 10)?,
        is_staff: read_truth(row, first + 11)?,
        last_login: read_time(row, first + 12)?,
        created: read_time(row, first + 13)?,
        modified: read_time(row, first + 14)?,
        date_joined: read_time(row, first + 15)?,
        cellar: read_items(row, first + 16)?,
        wants: read_items(row, first + 17)?,
    })
}

/// A list as `group_concat` writes it; nothing where it is empty.
fn read_items(row: &Row<'_>, column: usize) -> rusqlite::Result<Vec<ItemId>> {
    let Some(list) = row.get_ref(column)?.as_str_or_null()? else { return Ok(Vec::new()) };
    let items: Option<_> = list.split(',').map(|item| ItemId::new(item.parse().ok()?).ok()).collect();
    items.ok_or_else(|| invalid_column(column, OutOfRange("an item's id")))
}

fn read_username(row: &Row<'_>, column: impl RowIndex + Copy) -> rusqlite::Result<Username> {
    let column = column.idx(row.as_ref())?;
    Username::parse(row.get_ref(column)?.as_str()?).map_err(|error| invalid_column(column, error))
}

fn read_time(row: &Row<'_>, column: impl RowIndex + Copy) -> rusqlite::Result<Timestamp> {
    let column = column.idx(row.as_ref())?;
    Timestamp::from_millis(row.get(column)?).ok_or_else(|| invalid_column(column, OutOfRange("a time")))
}

fn read_truth(row: &Row<'_>, column: impl RowIndex + Copy) -> rusqlite::Result<bool> {
    let column = column.idx(row.as_ref())?;
    match row.get(column)? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(invalid_column(column, NotATruth)),
    }
}

/// A value that SQLite could read and the service never wrote.
fn invalid_column(column: usize, why: impl std::error::Error + Send + Sync + 'static) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Null, Box::new(why))
}

pub(crate) fn is_busy(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error_code();
    matches!(code, Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::FileLockingProtocolFailed))
}

/// The one reading of SQLite's errors.
fn map_error(error: rusqlite::Error, damaged: &AtomicBool) -> RepositoryError {
    let code = error.sqlite_error_code();
    let is_odd_value =
        matches!(error, rusqlite::Error::FromSqlConversionFailure(..) | rusqlite::Error::InvalidColumnType(..));
    let cause: Cause = match error {
        // What is wrong with it, without SQLite's number of its column.
        rusqlite::Error::FromSqlConversionFailure(_, _, why) => Arc::from(why),
        error => Arc::new(error),
    };
    match code {
        Some(
            ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked
            | ErrorCode::FileLockingProtocolFailed
            | ErrorCode::DiskFull
            | ErrorCode::ReadOnly
            | ErrorCode::SystemIoFailure
            | ErrorCode::CannotOpen
            | ErrorCode::PermissionDenied
            | ErrorCode::OperationInterrupted,
        ) => RepositoryError::Unavailable(cause),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            damaged.store(true, Ordering::Relaxed);
            RepositoryError::Inconsistent(cause)
        }
        None if is_odd_value => RepositoryError::Inconsistent(cause),
        _ => RepositoryError::Backend(cause),
    }
}

pub(crate) fn schema_error(path: &Path, source: SchemaError) -> OpenError {
    let path = path.to_owned();
    match &source {
        SchemaError::Sqlite(error) if error.sqlite_error_code() == Some(ErrorCode::NotADatabase) => {
            OpenError::NotADatabase { path }
        }
        SchemaError::Sqlite(error) if file::is_without_index(error) => OpenError::NoRoom { path },
        _ => OpenError::Schema { path, source },
    }
}

/// Makes what is missing of the database's folder, for whoever has the folder above.
pub(crate) fn make_folder(path: &Path) -> Result<(), OpenError> {
    let folder = folder_of(path);
    let missing: Vec<_> =
        folder.ancestors().take_while(|part| !part.as_os_str().is_empty() && is_missing(part)).collect();
    for part in missing.into_iter().rev() {
        match file::make_folder(part) {
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

/// What comes before anything is made beside the file: its own name, a look at whose it is, and the word to a restore
/// that it is in use from now on.
fn claim_for_use(path: &Path) -> Result<(PathBuf, SharedLock), OpenError> {
    make_folder(path)?;
    let file = own_name(path)?;
    // Not while a lock file is there: a server may have the file, and if it is this very process, then SQLite would
    // lose its locks with the handle that is closed there.
    if !file::exists(&with_suffix(&file, ".lock"))? {
        file::refuse_foreign_head(path)?;
    }
    file::refuse_emptied(&file, path)?;
    let shared_lock = SharedLock::begin(&file, path)?;
    Ok((file, shared_lock))
}

/// Takes the lock that says "a server has this file". It is on a file of its own: a handle on the database itself would
/// take SQLite's locks with it when it is closed.
pub(crate) fn lock_beside(own_name: &Path, path: &Path) -> Result<Lock, OpenError> {
    match file::open_lock(own_name, ".lock").and_then(Lock::alone) {
        Ok(Some(lock)) => Ok(lock),
        Ok(None) => Err(OpenError::InUse { path: path.to_owned() }),
        Err(source) => Err(OpenError::File { path: with_suffix(own_name, ".lock"), source }),
    }
}

/// Makes the file where it is missing. SQLite gives its log and its index the mode and the owner of the file.
fn make_file(own_name: &Path, path: &Path) -> Result<(), OpenError> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(own_name) {
        Ok(made) => {
            file::give(&made, folder_of(own_name));
            Ok(())
        }
        Err(source) if source.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(source) => Err(OpenError::File { path: path.to_owned(), source }),
    }
}

/// Closes the files to everyone but their owner, where an earlier hand left them open.
fn make_private(own_name: &Path) -> Result<(), OpenError> {
    for path in [own_name.to_owned(), with_suffix(own_name, "-wal"), with_suffix(own_name, "-shm")] {
        file::close_to_others(&path).map_err(|source| OpenError::File { path, source })?;
    }
    Ok(())
}

pub(crate) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn open_connection(settings: &SqliteSettings, own_name: &Path, flags: OpenFlags) -> rusqlite::Result<Connection> {
    let connection = file::open(own_name, flags)?;
    prepare_connection(&connection, settings.busy_timeout)?;
    Ok(connection)
}

fn open_writer(settings: &SqliteSettings, own_name: &Path) -> Result<Connection, OpenError> {
    open_connection(settings, own_name, OpenFlags::SQLITE_OPEN_READ_WRITE)
        .and_then(|writer| prepare_writer(&writer).map(|()| writer))
        .map_err(|error| schema_error(&settings.path, error.into()))
}

/// A guard over the files that the writer has open.
fn guard_files(writer: &Connection, file: PathBuf) -> io::Result<FileGuard> {
    let page_size: i64 = writer.pragma_query_value(None, "page_size", |row| row.get(0)).map_err(io::Error::other)?;
    FileGuard::of(file, page_size.unsigned_abs())
}

fn start_checkpoints(settings: &SqliteSettings, file: &Path, state: FileState) -> io::Result<Checkpoints> {
    let patience = settings.busy_timeout;
    // It waits for nobody: what it cannot do now it does the next time.
    let settings = SqliteSettings { busy_timeout: Duration::ZERO, ..settings.clone() };
    let own_name = file.to_owned();
    let open = move || {
        let connection = open_connection(&settings, &own_name, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        open_wal(&connection);
        Ok(connection)
    };
    Checkpoints::start(open, with_suffix(file, "-wal"), PACE, patience, state)
}

/// What every connection has, the wait for locks first: the other settings may already need it.
fn prepare_connection(connection: &Connection, busy_timeout: Duration) -> rusqlite::Result<()> {
    connection.busy_timeout(busy_timeout)?;
    connection.set_prepared_statement_cache_capacity(STATEMENT_CACHE);
    connection.pragma_update(None, "foreign_keys", true)?;
    staff::add_functions(connection)
}

/// What only the writer needs, and what would change a file that must not be touched.
fn prepare_writer(connection: &Connection) -> rusqlite::Result<()> {
    // A file system that cannot do WAL answers with the mode that is left.
    let mode: String = connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
    if mode != "wal" {
        return Err(rusqlite::Error::SqliteFailure(
            rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_IOERR),
            Some(format!("the file system offers journal mode {mode}, not wal")),
        ));
    }
    // What is deleted is overwritten, not only let go: an address does not outlive its account in the file.
    connection.pragma_update_and_check(None, "secure_delete", "ON", |_| Ok(()))?;
    // For a command that has the file to itself: a server's log is moved by `checkpoints.rs`, and is seldom as long.
    connection.pragma_update(None, "wal_autocheckpoint", 32_000)?;
    // What a piece of work may still have to undo is kept in memory: it is a few pages.
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.pragma_update(None, "synchronous", "FULL")
}

/// Opens the WAL, too, by its name: SQLite does so with the first read. Whatever the name means later, it is the one that
/// the writer has. Where the file is locked just now, that read is the first one.
fn open_wal(connection: &Connection) {
    let _ = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()));
}

/// How many threads can have work of a store with so many readers at once; one is for what is no read.
#[must_use]
pub fn blocking_threads(readers: u32) -> usize {
    usize::try_from(readers + scanners(readers) + 1).unwrap_or(usize::MAX)
}

/// How many connections are for reads whose work grows with the store, beside so many others.
fn scanners(readers: u32) -> u32 {
    (readers / 2).max(1)
}

/// As many short reads as there can be at one moment.
fn cores() -> u32 {
    thread::available_parallelism().ok().and_then(|cores| u32::try_from(cores.get()).ok()).unwrap_or(1)
}

/// All of them now: whatever the file's name means later, they read the file that the writer has.
fn open_readers(
    own_name: &Path,
    count: u32,
    busy_timeout: Duration,
) -> Result<Pool<SqliteConnectionManager>, r2d2::Error> {
    let manager = SqliteConnectionManager::file(own_name)
        .with_flags(OpenFlags::SQLITE_OPEN_READ_ONLY | file::OPEN_FLAGS)
        .with_init(move |connection| {
            file::distrust(connection)?;
            prepare_connection(connection, busy_timeout)?;
            open_wal(connection);
            Ok(())
        });
    Pool::builder()
        .max_size(count)
        .connection_timeout(POOL_TIMEOUT)
        .idle_timeout(None)
        .max_lifetime(None)
        .test_on_check_out(false)
        .thread_pool(Arc::new(ScheduledThreadPool::new(1)))
        .build(manager)
}

#[cfg(test)]
mod tests {
    use rusqlite::types::Value::{Integer, Text};

    use super::*;

    fn open_in(folder: &Path) -> SqliteRepository {
        let settings = SqliteSettings {
            path: folder.join("test.db"),
            readers: 2,
            busy_timeout: Duration::from_secs(1),
            cache: 1 << 20,
        };
        SqliteRepository::open(&settings).unwrap()
    }

    #[tokio::test]
    async fn a_search_takes_nobodys_export_away_and_a_count_of_everything_has_an_end() {
        let folder = tempfile::tempdir().unwrap();
        let mut repository = open_in(folder.path());
        let caller = Caller {
            digest: TokenDigest::from_bytes([7; 32]),
            cutoffs: SessionCutoffs { created_after: Timestamp::MIN, used_after: Timestamp::MIN },
            ip: None,
        };
        let all = u32::try_from(repository.scanners.permits.available_permits()).unwrap();
        let searching = Arc::clone(&repository.scanners.permits).acquire_many_owned(all).await.unwrap();
        let exported = repository.export_user(&caller).await;
        assert!(matches!(exported, Err(RepositoryError::NoSession)), "it was looked for");
        drop(searching);

        let fill = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000) \
             INSERT INTO users (username, username_key, password_hash, date_joined, created, modified, last_login) \
             SELECT 'u' || i, 'u' || i, '', 0, 0, 0, 0 FROM n";
        Connection::open(folder.path().join("test.db")).unwrap().execute_batch(fill).unwrap();
        assert_eq!(repository.count().await.unwrap().users, 20_000);
        repository.scan_within = Duration::ZERO;
        assert!(matches!(repository.count().await, Err(RepositoryError::Unavailable(_))));
    }

    /// What SQLite says that it will do for each statement.
    fn plans(connection: &Connection) -> Vec<(&'static str, Vec<String>)> {
        let plan = |statement: &'static str| {
            let mut plan = connection.prepare(&format!("EXPLAIN QUERY PLAN {statement}")).unwrap();
            let parameters = vec![rusqlite::types::Null; plan.parameter_count()];
            let steps = plan.query_map(rusqlite::params_from_iter(parameters), |row| row.get("detail")).unwrap();
            (statement, steps.collect::<Result<_, _>>().unwrap())
        };
        sql::ALL.iter().map(|(statement, _)| plan(statement)).collect()
    }

    #[test]
    fn a_statement_visits_no_more_rows_than_it_says() {
        let folder = tempfile::tempdir().unwrap();
        let repository = open_in(folder.path());
        let names: Vec<&str> = include_str!("sql.rs")
            .lines()
            .filter_map(|line| line.strip_prefix("pub const ")?.split_once(": &str"))
            .map(|(name, _)| name)
            .collect();
        assert_eq!(sql::ALL.len(), names.len() + 6, "each of them, and three of each list: {names:?}");
        let connection = repository.readers.pool.get().unwrap();
        for (statement, steps) in plans(&connection) {
            let visits = &sql::ALL.iter().find(|(text, _)| *text == statement).unwrap().1;
            for step in &steps {
                // To make room, one user's few sessions are sorted by their last use: an index on it would have to be
                // written at every use. And the few accounts with failures are sorted once, at the start.
                let may_sort = [sql::MAKE_ROOM, sql::LIST_FAILURES, sql::LIST_NEW_PASSWORDS].contains(&statement);
                assert!(may_sort || !step.contains("TEMP B-TREE"), "{statement}: {steps:?}");
            }
            // Of superusers there are a few, and a list within a list was found by its key.
            let is_short =
                |step: &str| step == "SCAN users USING INDEX superusers" || step.starts_with("SCAN (subquery");
            // Without a key that it is equal to, a search begins somewhere and goes on to the end; without any key it looks
            // at the first row or the last.
            let is_walk = |step: &&String| {
                (step.starts_with("SCAN ") && !is_short(step))
                    || (step.starts_with("SEARCH ") && step.contains('(') && !step.contains("=?"))
            };
            let walks: Vec<_> = steps.iter().filter(is_walk).collect();
            match visits {
                sql::Visits::Few => assert!(walks.is_empty(), "{statement}: {steps:?}"),
                sql::Visits::Many(why) => assert!(!walks.is_empty(), "no longer {why}: {statement}: {steps:?}"),
            }
        }
    }

    #[test]
    fn counting_reads_an_index_and_no_table() {
        let folder = tempfile::tempdir().unwrap();
        let repository = open_in(folder.path());
        let connection = repository.readers.pool.get().unwrap();
        for statement in [sql::COUNT_USERS, sql::COUNT_TOKENS] {
            let plan: String =
                connection.query_row(&format!("EXPLAIN QUERY PLAN {statement}"), [], |row| row.get("detail")).unwrap();
            assert!(plan.contains("USING COVERING INDEX"), "{plan}");
        }
    }

    /// As a worker of the server has it.
    fn worker(readers: u32) -> tokio::runtime::Runtime {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().max_blocking_threads(blocking_threads(readers)).build().unwrap()
    }

    /// Work that takes as long as the first of these is kept, and tells the second that it has begun.
    fn obstacle()
    -> (std::sync::mpsc::Sender<()>, tokio::sync::oneshot::Receiver<()>, impl FnOnce() -> Result<(), Failure> + Send)
    {
        let (release, wait) = std::sync::mpsc::channel::<()>();
        let (tell, begun) = tokio::sync::oneshot::channel();
        let work = move || {
            let _ = tell.send(());
            let _ = wait.recv();
            Ok(())
        };
        (release, begun, work)
    }

    #[test]
    fn a_read_that_finds_no_connection_in_time_is_refused_and_counted_and_holds_no_thread() {
        let folder = tempfile::tempdir().unwrap();
        let repository = Arc::new(open_in(folder.path()));
        worker(2).block_on(async {
            let mut releases = Vec::new();
            for _ in 0..2 {
                let (release, begun, hold) = obstacle();
                let repository = Arc::clone(&repository);
                releases.push((release, tokio::spawn(async move { repository.read(|_| hold()).await })));
                begun.await.unwrap();
            }
            let count = |connection: &Connection| Ok(connection.query_row("SELECT 1", [], |row| row.get::<_, i64>(0))?);
            let late: Vec<_> = (0..10).map(|_| repository.read(count)).collect();
            for late in futures_util::future::join_all(late).await {
                assert!(matches!(late, Err(RepositoryError::Unavailable(_))));
            }
            let statistics = repository.statistics().await;
            assert_eq!((statistics.reads, statistics.delayed_reads, statistics.refused_reads), (12, 10, 10));
            assert!(statistics.read_delay >= POOL_TIMEOUT * 10);
            for (release, held) in releases {
                drop(release);
                held.await.unwrap().unwrap();
            }
            assert_eq!(repository.read(count).await.unwrap(), 1);
            assert_eq!(repository.statistics().await.refused_reads, 10);
        });
    }

    #[test]
    fn short_reads_do_not_wait_behind_long_ones_and_a_long_one_is_given_up_after_a_while() {
        let folder = tempfile::tempdir().unwrap();
        let repository = Arc::new(open_in(folder.path()));
        worker(2).block_on(async {
            let (release, begun, hold) = obstacle();
            let holding = tokio::spawn({
                let repository = Arc::clone(&repository);
                async move { repository.scan(None, |_| hold()).await }
            });
            begun.await.unwrap();
            let search = |within| {
                repository.scan(within, |connection| {
                    let endless =
                        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n";
                    Ok(connection.query_row(endless, [], |row| row.get::<_, i64>(0))?)
                })
            };
            assert!(matches!(search(None).await, Err(RepositoryError::Unavailable(_))), "it found no connection");
            let nobody = Username::parse("nobody").unwrap();
            assert!(repository.find_credentials(&nobody).await.unwrap().is_none());
            assert!(repository.read(|_| Ok(())).await.is_ok());
            assert_eq!(repository.statistics().await.delayed_reads, 1);
            drop(release);
            holding.await.unwrap().unwrap();
            let given_up = search(Some(Duration::from_millis(50))).await;
            assert!(matches!(given_up, Err(RepositoryError::Unavailable(_))), "{given_up:?}");
            // The connection goes on without a deadline.
            let slow = repository.scan(None, |connection| {
                thread::sleep(Duration::from_millis(100));
                let steps = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 100000) \
                             SELECT max(i) FROM n";
                Ok(connection.query_row(steps, [], |row| row.get::<_, i64>(0))?)
            });
            assert_eq!(slow.await.unwrap(), 100_000);
        });
    }

    #[test]
    fn a_write_that_finds_no_place_or_waits_for_too_long_is_refused_and_never_done() {
        let folder = tempfile::tempdir().unwrap();
        let repository = Arc::new(open_in(folder.path()));
        worker(2).block_on(async {
            let (release, begun, hold) = obstacle();
            let mut obstacle = Box::pin(repository.write(|_| hold()));
            assert!(futures_util::FutureExt::now_or_never(obstacle.as_mut()).is_none());
            begun.await.unwrap();
            let done = Arc::new(AtomicU64::new(0));
            let write = || {
                let done = Arc::clone(&done);
                Box::pin(repository.write(move |_| {
                    done.fetch_add(1, Ordering::SeqCst);
                    Ok(())
                }))
            };
            let mut queued = Vec::new();
            let full = loop {
                let mut write = write();
                match futures_util::FutureExt::now_or_never(write.as_mut()) {
                    Some(refused) => break refused,
                    None => queued.push(write),
                }
            };
            assert!(matches!(full, Err(RepositoryError::Unavailable(_))), "{full:?}");
            let statistics = repository.statistics().await;
            assert_eq!((statistics.waiting_writes, statistics.refused_writes), (1024, 1));
            for late in futures_util::future::join_all(queued).await {
                assert!(matches!(late, Err(RepositoryError::Unavailable(_))), "{late:?}");
            }
            let statistics = repository.statistics().await;
            assert_eq!((statistics.waiting_writes, statistics.refused_writes), (0, 1025));
            drop(release);
            obstacle.await.unwrap();
            // Until the writer has thrown the others away, its queue is full.
            while write().await.is_err() {
                tokio::task::yield_now().await;
            }
            assert_eq!(done.load(Ordering::SeqCst), 1, "what was refused was not done");
            assert_eq!(repository.statistics().await.writes, 2);
        });
    }

    #[test]
    fn what_was_refused_because_of_a_change_that_was_undone_is_not_answered_with_the_refusal() {
        let folder = tempfile::tempdir().unwrap();
        let repository = Arc::new(open_in(folder.path()));
        worker(2).block_on(async {
            let now = Timestamp::from_millis(0).unwrap();
            let mut callers = Vec::new();
            for number in 0..2 {
                let (user, session) = registration(number);
                let cutoffs = SessionCutoffs { created_after: Timestamp::MIN, used_after: Timestamp::MIN };
                callers.push(Caller { digest: session.digest, cutoffs, ip: None });
                repository.register_user(user, session, now).await.unwrap();
            }
            let unknown = Caller { digest: crate::domain::token::PlainToken::generate().digest(), ..callers[0] };
            let item = ItemId::new(1).unwrap();
            let (release, begun, hold) = obstacle();
            let mut obstacle = Box::pin(repository.write(|_| hold()));
            assert!(futures_util::FutureExt::now_or_never(obstacle.as_mut()).is_none());
            begun.await.unwrap();
            let (user, session) = registration(2);
            let (same_name, other_session) = registration(2);
            // Deferred to the COMMIT, which then fails, after all of them have run.
            let orphan = repository.write(|connection| {
                connection.pragma_update(None, "defer_foreign_keys", true)?;
                connection.execute("INSERT INTO cellar (user_id, item_id, added) VALUES (99, 1, 0)", [])?;
                Ok(())
            });
            let together = futures_util::future::join(
                futures_util::future::join3(
                    repository.add_item(&unknown, List::Cellar, item, 10, now),
                    repository.revoke_own_session(&callers[0], now),
                    repository.add_item(&callers[0], List::Cellar, item, 10, now),
                ),
                futures_util::future::join4(
                    repository.register_user(user, session, now),
                    repository.register_user(same_name, other_session, now),
                    repository.add_item(&unknown, List::Cellar, item, 10, now),
                    orphan,
                ),
            );
            let mut together = Box::pin(together);
            assert!(futures_util::FutureExt::now_or_never(together.as_mut()).is_none());
            drop(release);
            obstacle.await.unwrap();
            let ((first, log_out, after), (register, conflict, last, orphan)) = together.await;
            assert!(matches!(first, Err(RepositoryError::NoSession)), "it saw what is committed: {first:?}");
            for undone in [log_out.err(), after.err(), register.err(), conflict.err(), last.err(), orphan.err()] {
                assert!(matches!(undone, Some(RepositoryError::Backend(_))), "{undone:?}");
            }
            assert!(repository.find_session(&callers[0]).await.unwrap().is_some(), "it did not end");
            let (user, session) = registration(2);
            repository.register_user(user, session, now).await.unwrap();
        });
    }

    #[test]
    fn that_changes_can_be_made_is_proven_by_one_that_reaches_the_disk_and_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let repository = open_in(folder.path());
        let size = || fs::metadata(folder.path().join("test.db-wal")).unwrap().len();
        worker(2).block_on(async {
            let before = size();
            repository.check_ready().await.unwrap();
            assert!(size() > before + 16 * 4096, "more than any request writes");
            let proven = size();
            for _ in 0..100 {
                repository.check_ready().await.unwrap();
            }
            assert_eq!(size(), proven, "it is believed for a while");
            assert_eq!(rows(&repository), [0, 0, 0]);
            let (user, session) = registration(1);
            repository.register_user(user, session, Timestamp::from_millis(0).unwrap()).await.unwrap();
            let first: i64 =
                repository.read(|c| Ok(c.query_row("SELECT id FROM events", [], |row| row.get(0))?)).await.unwrap();
            assert_eq!(first, 1, "it took no event's number");
        });
    }

    #[tokio::test]
    async fn a_read_that_fails_has_it_proven_again_that_changes_can_be_made() {
        let folder = tempfile::tempdir().unwrap();
        let repository = open_in(folder.path());
        repository.check_ready().await.unwrap();
        assert!(!repository.writer.tally().needs_proof());
        let failure = || rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_IOERR), None);
        assert!(repository.read_here(move |_| Err::<(), _>(failure().into())).await.is_err());
        assert!(repository.writer.tally().needs_proof());
        repository.check_ready().await.unwrap();
        assert!(!repository.writer.tally().needs_proof());
    }

    #[test]
    fn every_index_is_used_by_a_statement() {
        let folder = tempfile::tempdir().unwrap();
        let repository = open_in(folder.path());
        let connection = repository.readers.pool.get().unwrap();
        let plans = plans(&connection);
        let mut indices = connection
            .prepare("SELECT name FROM sqlite_schema WHERE type = 'index' AND name NOT LIKE 'sqlite_autoindex_%'")
            .unwrap();
        for index in indices.query_map([], |row| row.get::<_, String>(0)).unwrap() {
            let index = index.unwrap();
            assert!(plans.iter().flat_map(|plan| &plan.1).any(|step| step.contains(&index)), "{index}");
        }
    }

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

    /// How many rows the tables of accounts have.
    fn rows(repository: &SqliteRepository) -> Vec<i64> {
        let connection = repository.readers.pool.get().unwrap();
        let count =
            |table| connection.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap();
        ["users", "tokens", "events"].into_iter().map(count).collect()
    }

    fn registration(number: u32) -> (NewUser, NewSession) {
        let user = NewUser {
            username: Username::parse(&format!("user{number}")).unwrap(),
            password_hash: PasswordHash::from_stored("$".to_owned()),
            profile: Profile { address: "x".repeat(255), ..Profile::default() },
        };
        let digest = crate::domain::token::PlainToken::generate().digest();
        (user, NewSession { digest, user_agent: UserAgent::default(), ip: None })
    }

    #[tokio::test]
    async fn a_file_that_may_not_grow_refuses_whole_writes_serves_reads_and_recovers() {
        let folder = tempfile::tempdir().unwrap();
        let repository = open_in(folder.path());
        let now = Timestamp::from_millis(0).unwrap();
        let set = |pragma: &'static str| repository.write(move |connection| Ok(connection.execute_batch(pragma)?));
        set("PRAGMA max_page_count = 40").await.unwrap();
        let mut number = 0;
        let (refused, before) = loop {
            number += 1;
            assert!(number < 10_000);
            let (user, session) = registration(number);
            let before = rows(&repository);
            if let Err(error) = repository.register_user(user, session, now).await {
                break (error, before);
            }
        };
        assert!(matches!(refused, RepositoryError::Unavailable(_)), "{refused:?}");
        assert!(matches!(repository.check_ready().await, Err(RepositoryError::Unavailable(_))), "it is not ready");
        assert_eq!(rows(&repository), before, "no half rows");
        let username = Username::parse("user1").unwrap();
        assert!(repository.find_credentials(&username).await.unwrap().is_some(), "reads go on");
        // As many as there can be.
        set("PRAGMA max_page_count = 4294967294").await.unwrap();
        let (user, session) = registration(number);
        repository.register_user(user, session, now).await.unwrap();
        repository.check_ready().await.unwrap();
    }

    #[test]
    fn a_write_that_panics_or_fails_takes_none_of_its_neighbours_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let repository = open_in(folder.path());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let insert = |name: &'static str, then: fn() -> Result<(), Failure>| {
            repository.write(move |connection| {
                connection.execute(
                    "INSERT INTO users (username, username_key, password_hash, date_joined, created, modified, \
                     last_login) VALUES (?1, ?1, '', 0, 0, 0, 0)",
                    [name],
                )?;
                then()
            })
        };
        runtime.block_on(async {
            let (kept, panicked, failed, last) = tokio::join!(
                insert("kept", || Ok(())),
                insert("panicked", || panic!("on purpose")),
                insert("failed", || Err(rusqlite::Error::InvalidQuery.into())),
                insert("last", || Ok(())),
            );
            assert!(kept.is_ok() && last.is_ok());
            assert!(matches!(panicked, Err(RepositoryError::Backend(_))));
            assert!(matches!(failed, Err(RepositoryError::Backend(_))));
        });
        let names: Vec<String> = repository
            .readers
            .pool
            .get()
            .unwrap()
            .prepare("SELECT username FROM users ORDER BY id")
            .unwrap()
            .query_map([], |row| row.get(0))
            .unwrap()
            .collect::<Result<_, _>>()
            .unwrap();
        assert_eq!(names, ["kept", "last"]);
    }
}
