//! Chooses and opens the store that the configuration names: the only file that names a backend.
//!
//! What works on a store from outside, such as a backup, is dispatched here too. All of it blocks: it is for the start,
//! for a thread of its own, or for the command line.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::secret::Secret;
use crate::config::{Config, DatabaseConfig};
use crate::repository::postgres::{self, PostgresRepository, PostgresSettings};
use crate::repository::sqlite::{self, SqliteRepository, SqliteSettings};
use crate::repository::{
    BackupError, BackupReport, CheckReport, CopyReport, Existing, MoveError, Notices, OpenError, Progress, Repository,
    RestoreReport, Rules, Stop, StoreStatus, Upgrade, moving,
};
use crate::system::clock::Timestamp;

/// A store that was opened for a command.
#[expect(missing_docs, reason = "the names say it")]
pub struct Opened {
    pub repository: Arc<dyn Repository>,
    /// `None` where the schema was up to date.
    pub upgrade: Option<Upgrade>,
}

/// Opens the store for the server, and creates it where there is none. `now` is for the name of the copy that
/// is kept before an upgrade.
///
/// # Errors
/// [`OpenError`]. A store that is refused is not changed.
pub fn open(config: &Config, now: Timestamp) -> Result<Arc<dyn Repository>, OpenError> {
    if let Some(settings) = postgres_settings(config) {
        return Ok(Arc::new(PostgresRepository::open(&settings)?));
    }
    let settings = SqliteSettings {
        path: config.database.path.clone(),
        readers: config.database.readers,
        busy_timeout: config.database.busy_timeout,
        cache: cache(config),
        keep_before_upgrade: config.database.keep_before_upgrade.then_some(now),
        notices: notices(config),
    };
    Ok(Arc::new(SqliteRepository::open(&settings)?))
}

/// Opens the store for a command, whether or not a server has it open. Creates it only where `make` says so. `now`
/// is as for [`open`].
///
/// # Errors
/// [`OpenError`]. A store that is refused is not changed.
pub fn open_shared(config: &Config, now: Timestamp, make: bool) -> Result<Opened, OpenError> {
    if let Some(settings) = postgres_settings(config) {
        // A command makes one request at a time.
        let settings = PostgresSettings { connections: 2, cache: 0, ..settings };
        let repository = PostgresRepository::open_shared(&settings, make)?;
        let upgrade = repository.upgrade().cloned();
        return Ok(Opened { repository: Arc::new(repository), upgrade });
    }
    let settings = SqliteSettings {
        path: config.database.path.clone(),
        // A command makes one request at a time.
        readers: 1,
        busy_timeout: config.database.busy_timeout,
        cache: 0,
        keep_before_upgrade: config.database.keep_before_upgrade.then_some(now),
        notices: notices(config),
    };
    let repository = SqliteRepository::open_shared(&settings, make)?;
    let upgrade = repository.upgrade().cloned();
    Ok(Opened { repository: Arc::new(repository), upgrade })
}

/// The settings of PostgreSQL, where the store is there.
fn postgres_settings(config: &Config) -> Option<PostgresSettings> {
    let DatabaseConfig { url, ca_file, connections, .. } = &config.database;
    Some(PostgresSettings {
        url: url.clone()?,
        ca_file: ca_file.clone(),
        connections: *connections,
        cache: cache(config),
        max_staleness: postgres::MAX_STALENESS,
        notices: notices(config),
    })
}

fn cache(config: &Config) -> usize {
    usize::try_from(config.database.cache.as_u64()).unwrap_or(usize::MAX)
}

fn notices(config: &Config) -> Notices {
    Notices { enabled: config.sends_mail(), sign_ins: config.mail.sign_in_notices }
}

/// Whether the store exists.
///
/// # Errors
/// [`OpenError`] where that cannot be found out.
pub fn exists(config: &Config) -> Result<bool, OpenError> {
    match postgres_settings(config) {
        Some(settings) => Ok(PostgresRepository::exists(&settings)?),
        None => Ok(SqliteRepository::exists(&config.database.path)?),
    }
}

/// Checks how the store is reached, and connects to nothing.
///
/// # Errors
/// [`OpenError`], for what is wrong.
pub fn check_settings(config: &Config) -> Result<(), OpenError> {
    match postgres_settings(config) {
        Some(settings) => Ok(PostgresRepository::check(&settings)?),
        None => Ok(()),
    }
}

/// The servers of the store that are reached by the network, by their names or addresses.
#[must_use]
pub fn hosts(config: &DatabaseConfig) -> Vec<String> {
    config.url.as_ref().map(postgres::hosts).unwrap_or_default()
}

/// How messages name the store.
#[must_use]
pub fn shown(config: &DatabaseConfig) -> String {
    config.url.as_ref().map_or_else(|| config.path.display().to_string(), postgres::shown)
}

/// How many blocking threads the store uses at most.
#[must_use]
pub fn blocking_threads(config: &DatabaseConfig) -> usize {
    sqlite::blocking_threads(config.readers)
}

/// Copies the store, which a server may be using, to the file `target`.
///
/// # Errors
/// [`BackupError`]. The target is then as it was before.
pub fn back_up(
    config: &DatabaseConfig,
    target: &Path,
    existing: Existing,
    stop: &Stop,
    progress: &mut dyn FnMut(Progress),
) -> Result<BackupReport, BackupError> {
    refuse_elsewhere(config, "back it up by PostgreSQL's own means, such as pg_dump or pgBackRest")?;
    sqlite::backup::back_up(&config.path, target, existing, stop, progress)
}

/// Restores a backup: it replaces the store, which no server may be using. The old data is kept.
///
/// # Errors
/// [`BackupError`]. The store is then as it was before.
pub fn restore(
    config: &DatabaseConfig,
    backup: &Path,
    rules: &Rules,
    stop: &Stop,
    progress: &mut dyn FnMut(Progress),
) -> Result<RestoreReport, BackupError> {
    require_file(config)?;
    sqlite::backup::restore(backup, &config.path, rules, stop, progress)
}

/// Reads all of the backup `file`, or of the store where none is given, and tells what it holds. With `rules`, every
/// row is checked against the rules by which the service writes. A server may be using the store.
///
/// # Errors
/// [`BackupError::Damaged`] where the database contradicts itself, [`BackupError::Invalid`] where a row breaks a rule,
/// or another where it cannot be read or is not ours.
pub fn check(
    config: &DatabaseConfig,
    file: Option<&Path>,
    rules: Option<&Rules>,
    stop: &Stop,
    progress: &mut dyn FnMut(Progress),
) -> Result<CheckReport, BackupError> {
    if file.is_none() {
        refuse_elsewhere(config, "check it by PostgreSQL's own means, such as pg_amcheck and data checksums")?;
    }
    sqlite::backup::check(file.unwrap_or(&config.path), rules, stop, progress)
}

/// Refuses a restore where the store is in PostgreSQL.
///
/// # Errors
/// [`BackupError::Elsewhere`], with what does it instead.
pub fn require_file(config: &DatabaseConfig) -> Result<(), BackupError> {
    refuse_elsewhere(config, "restore it by PostgreSQL's own means, such as pg_restore or pgBackRest")
}

/// Refuses what is for a file alone, where the store is in PostgreSQL.
///
/// # Errors
/// [`BackupError::Elsewhere`], with what does it instead.
fn refuse_elsewhere(config: &DatabaseConfig, what: &'static str) -> Result<(), BackupError> {
    let Some(url) = &config.url else { return Ok(()) };
    Err(BackupError::Elsewhere { store: postgres::shown(url), what })
}

/// A store that is named at the command line.
#[derive(Clone)]
pub enum Place {
    /// A SQLite file.
    File(PathBuf),
    /// PostgreSQL: the URL, and the file of the authorities that its certificate is checked with.
    Url(Secret, Option<PathBuf>),
}

impl Place {
    /// The configured store.
    #[must_use]
    pub fn configured(config: &DatabaseConfig) -> Self {
        match &config.url {
            Some(url) => Self::Url(url.clone(), config.ca_file.clone()),
            None => Self::File(config.path.clone()),
        }
    }

    /// Whether both are the same store, as far as their names tell.
    fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::File(one), Self::File(other)) => {
                one == other || one.canonicalize().is_ok_and(|one| other.canonicalize().is_ok_and(|other| one == other))
            }
            (Self::Url(one, _), Self::Url(other, _)) => postgres::shown(one) == postgres::shown(other),
            _ => false,
        }
    }

    fn shown(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Url(url, _) => postgres::shown(url),
        }
    }
}

/// Copies all of a store to another one, which is empty, and marks the source as moved. No server may be using either.
///
/// # Errors
/// [`MoveError`]. The target is then empty and the source as it was before, where the error does not say otherwise.
pub fn copy(
    from: &Place,
    to: &Place,
    stop: &Stop,
    progress: &mut dyn FnMut(Progress),
) -> Result<CopyReport, MoveError> {
    if from.is(to) {
        return Err(MoveError::Same(from.shown()));
    }
    let source = match from {
        Place::File(path) => sqlite::backup::source(path)?,
        Place::Url(url, ca_file) => postgres::moving::source(url, ca_file.clone())?,
    };
    let target = match to {
        Place::File(path) => sqlite::backup::target(path)?,
        Place::Url(url, ca_file) => postgres::moving::target(url, ca_file.clone())?,
    };
    moving::copy(source, target, stop, progress)
}

/// Refuses a database that a server or another command is using. A file is refused when it is opened for the server.
///
/// # Errors
/// [`MoveError::InUse`], or another where that cannot be found out.
pub fn refuse_users(config: &DatabaseConfig) -> Result<(), MoveError> {
    match &config.url {
        Some(url) => postgres::moving::refuse_users(url, config.ca_file.clone()),
        None => Ok(()),
    }
}

/// Takes away the mark that says that the store was moved. Answers where to; `None` where it has no mark.
///
/// # Errors
/// [`MoveError`]. The store is then as it was before.
pub fn reopen(config: &Config) -> Result<Option<String>, MoveError> {
    match postgres_settings(config) {
        Some(settings) => PostgresRepository::reopen(&settings),
        None => sqlite::backup::reopen(&config.database.path),
    }
}

/// What the store is and holds, whether or not this release can work on it.
///
/// # Errors
/// [`BackupError`] where it cannot be read.
pub fn status(config: &Config) -> Result<StoreStatus, BackupError> {
    match postgres_settings(config) {
        Some(settings) => Ok(PostgresRepository::status(&settings).map_err(OpenError::from)?),
        None => sqlite::backup::status(&config.database.path),
    }
}

/// A store whose schema is up to date.
#[expect(missing_docs, reason = "the names say it")]
pub struct Migrated {
    pub store: String,
    /// The version before; `None` where there was no schema.
    pub from: Option<i32>,
    pub to: i32,
    pub upgrade: Option<Upgrade>,
}

/// Creates the store's schema or brings it up to date. `now` is as for [`open`].
///
/// # Errors
/// [`OpenError`]. A store that is refused is not changed.
pub fn migrate(config: &Config, now: Timestamp) -> Result<Migrated, OpenError> {
    let is_there = exists(config)?;
    let Opened { upgrade, .. } = open_shared(config, now, true)?;
    let to = if config.database.url.is_some() { postgres::SCHEMA_VERSION } else { sqlite::SCHEMA_VERSION };
    let from = upgrade.as_ref().map_or(to, |upgrade| upgrade.from);
    Ok(Migrated { store: shown(&config.database), from: is_there.then_some(from), to, upgrade })
}
