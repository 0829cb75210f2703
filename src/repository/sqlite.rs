//! The store in one SQLite file: a pool of readers, the one writer, and all of the SQL.
//!
//! The file is in WAL mode, so readers never wait for the writer, nor it for them. `synchronous = FULL` makes a COMMIT
//! survive a power cut. The file, its log and its index are readable by their owner only, and a lock file beside them
//! keeps a second server away.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read as _};
use std::ops::Range;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use r2d2::Pool;
use r2d2_sqlite::SqliteConnectionManager;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension as _, Row, params};
use scheduled_thread_pool::ScheduledThreadPool;
use thiserror::Error;

use super::schema::{self, SchemaError};
use super::writer::Writer;
use super::{Cause, Export, Repository, RepositoryError, UniqueField, VerifiedLogin};
use crate::blocking;
use crate::clock::Timestamp;
use crate::item::{ItemId, List};
use crate::session::{Caller, Liveness, NewSession, Session, SessionDetails, SessionId, UserAgent};
use crate::token::TokenDigest;
use crate::user::{Credentials, NewUser, PasswordHash, Profile, ProfileChanges, User, UserId, Username};

/// How long a read waits for a free connection before the store says that it is overloaded.
const POOL_TIMEOUT: Duration = Duration::from_secs(2);

/// How many statements a connection keeps prepared: all of [`sql`], with room.
const STATEMENT_CACHE: usize = 48;

/// How many dead sessions are forgotten in one transaction, so that no other write waits long.
const PRUNED_AT_ONCE: u32 = 500;

/// Every statement that is run on behalf of a request. A test asks SQLite for the plan of each.
mod sql {
    use crate::item::List;

    pub const FIND_CREDENTIALS: &str = "SELECT id, password_hash, is_active FROM users WHERE username_key = ?1";

    pub const FIND_OWN_CREDENTIALS: &str = "SELECT id, password_hash, is_active FROM users WHERE id = ?1";

    pub const FIND_SESSION: &str = "SELECT tokens.user_id, tokens.last_used \
         FROM tokens JOIN users ON users.id = tokens.user_id \
         WHERE tokens.digest = ?1 AND tokens.created > ?2 AND tokens.last_used > ?3 AND users.is_active = 1";

    pub const INSERT_USER: &str = "INSERT INTO users (username, username_key, password_hash, first_name, last_name, \
         email, address, address2, city, state, zipcode, date_joined, created, modified, last_login) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?12, ?12, ?12) \
         ON CONFLICT (username_key) DO NOTHING RETURNING id";

    pub const INSERT_TOKEN: &str = "INSERT INTO tokens (digest, user_id, created, last_used, user_agent, ip) \
         VALUES (?1, ?2, ?3, ?3, ?4, ?5)";

    pub const RECORD_LOGIN: &str = "UPDATE users SET last_login = ?1, password_hash = coalesce(?2, password_hash) \
         WHERE id = ?3 AND password_hash = ?4 AND is_active = 1";

    /// All but the `?2` that were used last.
    pub const MAKE_ROOM: &str = "DELETE FROM tokens WHERE digest IN (SELECT digest FROM tokens WHERE user_id = ?1 \
         ORDER BY last_used DESC, created DESC, digest LIMIT 9223372036854775807 OFFSET ?2)";

    pub const FIND_USER: &str = "SELECT username, first_name, last_name, email, address, address2, city, state, \
         zipcode, is_active, is_superuser, is_staff, last_login, created, modified, date_joined \
         FROM users WHERE id = ?1";

    pub const UPDATE_PROFILE: &str = "UPDATE users SET first_name = ?2, last_name = ?3, email = ?4, address = ?5, \
         address2 = ?6, city = ?7, state = ?8, zipcode = ?9, modified = ?10 WHERE id = ?1";

    pub const TOUCH_USER: &str = "UPDATE users SET modified = ?2 WHERE id = ?1";

    pub const SET_PASSWORD: &str = "UPDATE users SET password_hash = ?3 WHERE id = ?1 AND password_hash = ?2";

    pub const DELETE_USER: &str = "DELETE FROM users WHERE id = ?1 AND password_hash = ?2";

    pub const LIST_SESSIONS: &str = "SELECT digest, created, last_used, user_agent, ip FROM tokens \
         WHERE user_id = ?1 AND created > ?2 AND last_used > ?3 ORDER BY created DESC, digest DESC";

    pub const DELETE_TOKEN: &str = "DELETE FROM tokens WHERE digest = ?1";

    pub const DELETE_OTHER_TOKENS: &str = "DELETE FROM tokens WHERE user_id = ?1 AND digest <> ?2";

    pub const DELETE_ALL_TOKENS: &str = "DELETE FROM tokens WHERE user_id = ?1";

    pub const RECORD_USE: &str = "UPDATE tokens SET last_used = ?2 WHERE digest = ?1 AND last_used < ?2";

    pub const FIND_DEAD_TOKENS: &str = "SELECT digest FROM tokens WHERE created <= ?1 OR last_used <= ?2 LIMIT ?3";

    pub const DELETE_DEAD_TOKEN: &str = "DELETE FROM tokens WHERE digest = ?1 AND (created <= ?2 OR last_used <= ?3)";

    /// The statements of one list.
    pub struct Items {
        pub list: &'static str,
        pub count: &'static str,
        pub insert: &'static str,
        pub delete: &'static str,
    }

    pub const CELLAR: Items = Items {
        list: "SELECT item_id, added FROM cellar WHERE user_id = ?1 ORDER BY item_id",
        count: "SELECT count(*) FROM cellar WHERE user_id = ?1",
        insert: "INSERT INTO cellar (user_id, item_id, added) VALUES (?1, ?2, ?3) \
             ON CONFLICT (user_id, item_id) DO NOTHING",
        delete: "DELETE FROM cellar WHERE user_id = ?1 AND item_id = ?2",
    };

    pub const WANTS: Items = Items {
        list: "SELECT item_id, added FROM wants WHERE user_id = ?1 ORDER BY item_id",
        count: "SELECT count(*) FROM wants WHERE user_id = ?1",
        insert: "INSERT INTO wants (user_id, item_id, added) VALUES (?1, ?2, ?3) \
             ON CONFLICT (user_id, item_id) DO NOTHING",
        delete: "DELETE FROM wants WHERE user_id = ?1 AND item_id = ?2",
    };

    pub const fn items(list: List) -> Items {
        match list {
            List::Cellar => CELLAR,
            List::Wants => WANTS,
        }
    }

    #[cfg(test)]
    pub const ALL: [&str; 26] = [
        FIND_CREDENTIALS,
        FIND_OWN_CREDENTIALS,
        FIND_SESSION,
        INSERT_USER,
        INSERT_TOKEN,
        RECORD_LOGIN,
        MAKE_ROOM,
        FIND_USER,
        UPDATE_PROFILE,
        TOUCH_USER,
        SET_PASSWORD,
        DELETE_USER,
        LIST_SESSIONS,
        DELETE_TOKEN,
        DELETE_OTHER_TOKENS,
        DELETE_ALL_TOKENS,
        RECORD_USE,
        DELETE_DEAD_TOKEN,
        CELLAR.list,
        CELLAR.count,
        CELLAR.insert,
        CELLAR.delete,
        WANTS.list,
        WANTS.count,
        WANTS.insert,
        WANTS.delete,
    ];
}

/// Where the file is and how it is used.
#[derive(Clone, Debug)]
pub struct SqliteSettings {
    /// The database file; its folder is made where it is missing.
    pub path: PathBuf,
    /// How many connections read at once.
    pub readers: u32,
    /// How long to wait for a lock that another process holds.
    pub busy_timeout: Duration,
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
    /// Another server has the file.
    #[error("{path} is in use by another authtokens server")]
    InUse {
        /// The database file.
        path: PathBuf,
    },
    /// The file has a second name, and through it a second log.
    #[error("{path} has another name (a hard link): a database must have one")]
    HardLink {
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
    readers: Pool<SqliteConnectionManager>,
    writer: Writer,
    damaged: Arc<AtomicBool>,
    /// Held for as long as the store is open.
    _lock: File,
}

impl SqliteRepository {
    /// Opens the file, making it and its schema where they are missing.
    ///
    /// # Errors
    /// [`OpenError`], each a sentence for the person who starts the server. A file that is refused is not changed.
    pub fn open(settings: &SqliteSettings) -> Result<Self, OpenError> {
        make_folder(&settings.path)?;
        refuse_foreign(&settings.path)?;
        make_file(&settings.path)?;
        // One file has one lock, whatever it is called: SQLite, too, keeps its log beside the file's own name.
        let path = &settings.path;
        let lock = lock_beside(&own_name(path)?, path)?;
        // Through a connection that cannot write: what is refused stays as it was, byte for byte.
        open_connection(settings, OpenFlags::SQLITE_OPEN_READ_ONLY)
            .map_err(SchemaError::from)
            .and_then(|reader| schema::check(&reader))
            .map_err(|error| schema_error(path, error))?;
        make_private(path)?;
        let mut writer = open_connection(settings, OpenFlags::SQLITE_OPEN_READ_WRITE)
            .and_then(|writer| prepare_writer(&writer).map(|()| writer))
            .map_err(|error| schema_error(path, error.into()))?;
        schema::create_or_upgrade(&mut writer).map_err(|error| schema_error(path, error))?;

        let damaged = Arc::new(AtomicBool::new(false));
        let start_error = |source| OpenError::Start { path: path.clone(), source };
        Ok(Self {
            readers: open_readers(settings).map_err(|error| start_error(Box::new(error)))?,
            writer: Writer::start(writer, {
                let damaged = Arc::clone(&damaged);
                move |error| map_error(error, &damaged)
            })
            .map_err(|error| start_error(Box::new(error)))?,
            damaged,
            _lock: lock,
        })
    }

    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, RepositoryError> {
        self.refuse_when_damaged()?;
        let readers = self.readers.clone();
        let damaged = Arc::clone(&self.damaged);
        blocking::run(move || {
            let connection = readers.get().map_err(|error| RepositoryError::Unavailable(Arc::new(error)))?;
            work(&connection).map_err(|failure| failure.mapped(&damaged))
        })
        .await
        .unwrap_or_else(|error| Err(RepositoryError::Backend(Arc::new(error))))
    }

    async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, RepositoryError> {
        self.refuse_when_damaged()?;
        let damaged = Arc::clone(&self.damaged);
        self.writer.write(move |connection| work(connection).map_err(|failure| failure.mapped(&damaged))).await
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
        if self.damaged.load(Ordering::Relaxed) {
            return Err(RepositoryError::Unavailable(Arc::new(Damaged)));
        }
        Ok(())
    }
}

#[derive(Debug, Error)]
#[error("SQLite found the file damaged; the server must be stopped and the file restored")]
struct Damaged;

#[derive(Debug, Error)]
#[error("{0} is out of range")]
struct OutOfRange(&'static str);

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
            Ok(find_user(connection, user_id)?)
        })
        .await
    }

    async fn find_credentials(&self, username: &Username) -> Result<Option<Credentials>, RepositoryError> {
        let key = username.key();
        self.read(move |connection| {
            let mut statement = connection.prepare_cached(sql::FIND_CREDENTIALS)?;
            Ok(statement.query_row([key], read_credentials).optional()?)
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
            connection.prepare_cached(sql::MAKE_ROOM)?.execute(params![login.user_id.0, others])?;
            insert_token(connection, login.user_id, &session, now)?;
            Ok(Some(find_user(connection, login.user_id)?))
        })
        .await
    }

    async fn find_session(&self, caller: &Caller) -> Result<Option<Session>, RepositoryError> {
        let caller = *caller;
        self.read(move |connection| Ok(find_session(connection, &caller)?)).await
    }

    async fn find_user(&self, caller: &Caller) -> Result<(Session, User), RepositoryError> {
        let caller = *caller;
        self.read_at_once(move |connection| {
            let session = require_session(connection, &caller)?;
            Ok((session, find_user(connection, session.user_id)?))
        })
        .await
    }

    async fn export_user(&self, caller: &Caller) -> Result<Export, RepositoryError> {
        let caller = *caller;
        self.read_at_once(move |connection| {
            let user_id = require_session(connection, &caller)?.user_id;
            Ok(Export {
                user: find_user(connection, user_id)?,
                cellar: list_items(connection, List::Cellar, user_id)?,
                wants: list_items(connection, List::Wants, user_id)?,
                sessions: list_sessions(connection, user_id, caller.live)?
                    .into_iter()
                    .map(|(_, details)| details)
                    .collect(),
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
            let user_id = require_session(connection, &caller)?.user_id;
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
    ) -> Result<bool, RepositoryError> {
        let caller = *caller;
        self.write(move |connection| {
            let user_id = require_session(connection, &caller)?.user_id;
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
            Ok(true)
        })
        .await
    }

    async fn delete_user(&self, caller: &Caller, verified_against: PasswordHash) -> Result<bool, RepositoryError> {
        let caller = *caller;
        self.write(move |connection| {
            let user_id = require_session(connection, &caller)?.user_id;
            let mut delete = connection.prepare_cached(sql::DELETE_USER)?;
            Ok(delete.execute(params![user_id.0, verified_against.as_stored()])? > 0)
        })
        .await
    }

    async fn list_sessions(&self, caller: &Caller) -> Result<Vec<SessionDetails>, RepositoryError> {
        let caller = *caller;
        self.read_at_once(move |connection| {
            let user_id = require_session(connection, &caller)?.user_id;
            let sessions = list_sessions(connection, user_id, caller.live)?;
            Ok(sessions.into_iter().map(|(_, details)| details).collect())
        })
        .await
    }

    async fn revoke_own_session(&self, caller: &Caller) -> Result<(), RepositoryError> {
        let caller = *caller;
        self.write(move |connection| {
            require_session(connection, &caller)?;
            connection.prepare_cached(sql::DELETE_TOKEN)?.execute([caller.digest.as_bytes()])?;
            Ok(())
        })
        .await
    }

    async fn revoke_session(&self, caller: &Caller, id: SessionId) -> Result<bool, RepositoryError> {
        let caller = *caller;
        self.write(move |connection| {
            let user_id = require_session(connection, &caller)?.user_id;
            let sessions = list_sessions(connection, user_id, caller.live)?;
            let Some((digest, _)) = sessions.into_iter().find(|(_, details)| details.id == id) else {
                return Ok(false);
            };
            Ok(connection.prepare_cached(sql::DELETE_TOKEN)?.execute([digest.as_bytes()])? > 0)
        })
        .await
    }

    async fn revoke_all_sessions(&self, caller: &Caller) -> Result<(), RepositoryError> {
        let caller = *caller;
        self.write(move |connection| {
            let user_id = require_session(connection, &caller)?.user_id;
            connection.prepare_cached(sql::DELETE_ALL_TOKENS)?.execute([user_id.0])?;
            Ok(())
        })
        .await
    }

    async fn record_use(&self, uses: Vec<(TokenDigest, Timestamp)>) -> Result<(), RepositoryError> {
        self.write(move |connection| {
            let mut record = connection.prepare_cached(sql::RECORD_USE)?;
            for (digest, at) in uses {
                record.execute(params![digest.as_bytes(), at.as_millis()])?;
            }
            Ok(())
        })
        .await
    }

    async fn prune_sessions(&self, live: Liveness) -> Result<usize, RepositoryError> {
        let (created, used) = (live.created_after.as_millis(), live.used_after.as_millis());
        let dead: Vec<[u8; 32]> = self
            .read(move |connection| {
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
                deleted += delete.execute(params![digest, created, used])?;
            }
            Ok(deleted)
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
            let user_id = require_session(connection, &caller)?.user_id;
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
            let user_id = require_session(connection, &caller)?.user_id;
            if insert_item(connection, list, user_id, item, now)? {
                let count: i64 =
                    connection.prepare_cached(sql::items(list).count)?.query_row([user_id.0], |row| row.get(0))?;
                if usize::try_from(count).is_ok_and(|count| count > max_items) {
                    return Err(RepositoryError::ListFull.into());
                }
                touch_user(connection, user_id, now)?;
            }
            Ok(item_ids(connection, list, user_id)?)
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
            let user_id = require_session(connection, &caller)?.user_id;
            if delete_item(connection, list, user_id, item)? {
                touch_user(connection, user_id, now)?;
            }
            Ok(item_ids(connection, list, user_id)?)
        })
        .await
    }

    async fn check_ready(&self) -> Result<(), RepositoryError> {
        self.read(|connection| Ok(connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?)).await?;
        // Setting the version to what it is writes a page, and so goes all the way to the disk.
        self.write(|connection| Ok(connection.pragma_update(None, "user_version", schema::VERSION)?)).await
    }

    async fn close(&self) -> Result<(), RepositoryError> {
        // To move the log into a damaged file could make it worse.
        self.refuse_when_damaged()?;
        self.writer.close().await
    }
}

fn find_session(connection: &Connection, caller: &Caller) -> rusqlite::Result<Option<Session>> {
    connection
        .prepare_cached(sql::FIND_SESSION)?
        .query_row(
            params![
                caller.digest.as_bytes(),
                caller.live.created_after.as_millis(),
                caller.live.used_after.as_millis(),
            ],
            |row| Ok(Session { user_id: UserId(row.get(0)?), last_used: read_time(row, "last_used")? }),
        )
        .optional()
}

/// The session in whose name the rest of the transaction is done.
fn require_session(connection: &Connection, caller: &Caller) -> Result<Session, Failure> {
    Ok(find_session(connection, caller)?.ok_or(RepositoryError::NoSession)?)
}

fn read_credentials(row: &Row<'_>) -> rusqlite::Result<Credentials> {
    Ok(Credentials {
        user_id: UserId(row.get(0)?),
        password_hash: PasswordHash::from_stored(row.get(1)?),
        is_active: row.get(2)?,
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
        session.ip.map(|ip| ip.to_string()).unwrap_or_default(),
    ])?;
    Ok(())
}

fn find_user(connection: &Connection, user_id: UserId) -> rusqlite::Result<User> {
    let mut user = connection.prepare_cached(sql::FIND_USER)?.query_row([user_id.0], read_user)?;
    user.cellar = item_ids(connection, List::Cellar, user_id)?;
    user.wants = item_ids(connection, List::Wants, user_id)?;
    Ok(user)
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
    live: Liveness,
) -> rusqlite::Result<Vec<(TokenDigest, SessionDetails)>> {
    connection
        .prepare_cached(sql::LIST_SESSIONS)?
        .query_map(params![user_id.0, live.created_after.as_millis(), live.used_after.as_millis()], |row| {
            let digest = TokenDigest::from_bytes(row.get("digest")?);
            let details = SessionDetails {
                id: SessionId::of(&digest),
                created: read_time(row, "created")?,
                last_used: read_time(row, "last_used")?,
                user_agent: UserAgent::from_stored(row.get("user_agent")?),
                ip: row.get::<_, String>("ip")?.parse().ok(),
            };
            Ok((digest, details))
        })?
        .collect()
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
    ItemId::new(row.get(0)?).map_err(|error| invalid_column(row, "item_id", error))
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

fn read_user(row: &Row<'_>) -> rusqlite::Result<User> {
    let username: String = row.get("username")?;
    Ok(User {
        username: Username::parse(&username).map_err(|error| invalid_column(row, "username", error))?,
        profile: Profile {
            first_name: row.get("first_name")?,
            last_name: row.get("last_name")?,
            email: row.get("email")?,
            address: row.get("address")?,
            address2: row.get("address2")?,
            city: row.get("city")?,
            state: row.get("state")?,
            zipcode: row.get("zipcode")?,
        },
        is_active: row.get("is_active")?,
        is_superuser: row.get("is_superuser")?,
        is_staff: row.get("is_staff")?,
        last_login: read_time(row, "last_login")?,
        cellar: Vec::new(),
        wants: Vec::new(),
        created: read_time(row, "created")?,
        modified: read_time(row, "modified")?,
        date_joined: read_time(row, "date_joined")?,
    })
}

fn read_time(row: &Row<'_>, column: &'static str) -> rusqlite::Result<Timestamp> {
    Timestamp::from_millis(row.get(column)?).ok_or_else(|| invalid_column(row, column, OutOfRange(column)))
}

/// A value that SQLite could read and the service never wrote.
fn invalid_column(row: &Row<'_>, column: &str, why: impl std::error::Error + Send + Sync + 'static) -> rusqlite::Error {
    let index = row.as_ref().column_index(column).unwrap_or_default();
    rusqlite::Error::FromSqlConversionFailure(index, rusqlite::types::Type::Null, Box::new(why))
}

/// The one reading of SQLite's errors.
fn map_error(error: rusqlite::Error, damaged: &AtomicBool) -> RepositoryError {
    let code = error.sqlite_error_code();
    let is_odd_value =
        matches!(error, rusqlite::Error::FromSqlConversionFailure(..) | rusqlite::Error::InvalidColumnType(..));
    let cause: Cause = Arc::new(error);
    match code {
        Some(
            ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked
            | ErrorCode::DiskFull
            | ErrorCode::ReadOnly
            | ErrorCode::SystemIoFailure
            | ErrorCode::CannotOpen
            | ErrorCode::PermissionDenied,
        ) => RepositoryError::Unavailable(cause),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            damaged.store(true, Ordering::Relaxed);
            RepositoryError::Inconsistent(cause)
        }
        None if is_odd_value => RepositoryError::Inconsistent(cause),
        _ => RepositoryError::Backend(cause),
    }
}

fn schema_error(path: &Path, source: SchemaError) -> OpenError {
    if let SchemaError::Sqlite(error) = &source
        && error.sqlite_error_code() == Some(ErrorCode::NotADatabase)
    {
        return OpenError::NotADatabase { path: path.to_owned() };
    }
    OpenError::Schema { path: path.to_owned(), source }
}

fn make_folder(path: &Path) -> Result<(), OpenError> {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() && !folder.is_dir() => DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(|source| OpenError::Folder { path: folder.to_owned(), source }),
        _ => Ok(()),
    }
}

/// Refuses, by a look at its first bytes, a file that cannot be ours. It comes before anything is made beside the file.
/// Not while a lock file is there: a server may have the file, and if it is this very process, then SQLite would lose
/// its locks with the handle that is closed here.
fn refuse_foreign(path: &Path) -> Result<(), OpenError> {
    const MAGIC: &[u8] = b"SQLite format 3\0";
    const SCHEMA_COOKIE: Range<usize> = 40..44;
    const APPLICATION_ID: Range<usize> = 68..72;
    if with_suffix(path, ".lock").exists() {
        return Ok(());
    }
    let mut head = Vec::new();
    match File::open(path).and_then(|file| file.take(100).read_to_end(&mut head)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(OpenError::File { path: path.to_owned(), source }),
        // An empty file is an empty database.
        Ok(0) => return Ok(()),
        Ok(_) => {}
    }
    if !head.starts_with(MAGIC) {
        return Err(OpenError::NotADatabase { path: path.to_owned() });
    }
    let is = |field: Range<usize>, value: i32| head.get(field) == Some(value.to_be_bytes().as_slice());
    // A database without a schema may be one of ours whose making is still in its log.
    if is(APPLICATION_ID, schema::APPLICATION_ID) || (is(APPLICATION_ID, 0) && is(SCHEMA_COOKIE, 0)) {
        Ok(())
    } else {
        Err(OpenError::Schema { path: path.to_owned(), source: SchemaError::Foreign })
    }
}

/// The file's name without links.
fn own_name(path: &Path) -> Result<PathBuf, OpenError> {
    let file_error = |source| OpenError::File { path: path.to_owned(), source };
    let links = fs::metadata(path).map_err(file_error)?.nlink();
    if links > 1 && path.is_file() {
        return Err(OpenError::HardLink { path: path.to_owned() });
    }
    fs::canonicalize(path).map_err(file_error)
}

/// Takes the lock that says "a server has this file". It is on a file of its own: a handle on the database itself would
/// take SQLite's locks with it when it is closed.
fn lock_beside(own_name: &Path, path: &Path) -> Result<File, OpenError> {
    let lock_path = with_suffix(own_name, ".lock");
    let file_error = |source| OpenError::File { path: lock_path.clone(), source };
    let lock =
        OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&lock_path).map_err(file_error)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse { path: path.to_owned() }),
        Err(TryLockError::Error(source)) => Err(file_error(source)),
    }
}

/// Makes the file where it is missing. SQLite gives its log and its index the mode of the file.
fn make_file(path: &Path) -> Result<(), OpenError> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Err(source) if source.kind() != io::ErrorKind::AlreadyExists => {
            Err(OpenError::File { path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}

/// Closes the files to everyone but their owner, where an earlier hand left them open.
fn make_private(path: &Path) -> Result<(), OpenError> {
    let file_error = |source| OpenError::File { path: path.to_owned(), source };
    for file in [path.to_owned(), with_suffix(path, "-wal"), with_suffix(path, "-shm")] {
        match fs::metadata(&file) {
            Ok(metadata) if metadata.is_file() && metadata.mode() & 0o077 != 0 => {
                let owners_part = Permissions::from_mode(metadata.mode() & 0o700);
                fs::set_permissions(&file, owners_part).map_err(file_error)?;
            }
            _ => {}
        }
    }
    Ok(())
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn open_connection(settings: &SqliteSettings, flags: OpenFlags) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(&settings.path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    prepare_connection(&connection, settings.busy_timeout)?;
    Ok(connection)
}

/// What every connection has, the wait for locks first: the other settings may already need it.
fn prepare_connection(connection: &Connection, busy_timeout: Duration) -> rusqlite::Result<()> {
    connection.busy_timeout(busy_timeout)?;
    connection.set_prepared_statement_cache_capacity(STATEMENT_CACHE);
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "trusted_schema", false)
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
    connection.pragma_update(None, "synchronous", "FULL")
}

fn open_readers(settings: &SqliteSettings) -> Result<Pool<SqliteConnectionManager>, r2d2::Error> {
    let busy_timeout = settings.busy_timeout;
    let manager = SqliteConnectionManager::file(&settings.path)
        .with_flags(OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)
        .with_init(move |connection| prepare_connection(connection, busy_timeout));
    Pool::builder()
        .max_size(settings.readers)
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
        let settings =
            SqliteSettings { path: folder.join("test.db"), readers: 2, busy_timeout: Duration::from_secs(1) };
        SqliteRepository::open(&settings).unwrap()
    }

    /// What SQLite says that it will do for each statement.
    fn plans(connection: &Connection) -> Vec<(&'static str, Vec<String>)> {
        let plan = |statement: &'static str| {
            let mut plan = connection.prepare(&format!("EXPLAIN QUERY PLAN {statement}")).unwrap();
            let parameters = vec![rusqlite::types::Null; plan.parameter_count()];
            let steps = plan.query_map(rusqlite::params_from_iter(parameters), |row| row.get("detail")).unwrap();
            (statement, steps.collect::<Result<_, _>>().unwrap())
        };
        sql::ALL.into_iter().map(plan).collect()
    }

    #[test]
    fn no_statement_scans_a_table_or_sorts_what_an_index_could_give_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let repository = open_in(folder.path());
        for (statement, steps) in plans(&repository.readers.get().unwrap()) {
            for step in &steps {
                // To make room, one user's few sessions are sorted by their last use: an index on it would have to be
                // written at every use.
                let may_sort = statement == sql::MAKE_ROOM;
                assert!(!step.contains("SCAN"), "{statement}: {steps:?}");
                assert!(may_sort || !step.contains("TEMP B-TREE"), "{statement}: {steps:?}");
            }
        }
    }

    #[test]
    fn every_index_is_used_by_a_statement() {
        let folder = tempfile::tempdir().unwrap();
        let repository = open_in(folder.path());
        let connection = repository.readers.get().unwrap();
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
        let reader = repository.readers.get().unwrap();
        assert_eq!(reader.pragma_query_value(None, "foreign_keys", |row| row.get::<_, i64>(0)).unwrap(), 1);
        assert!(reader.execute_batch("DELETE FROM users").is_err(), "a reader cannot write");
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
