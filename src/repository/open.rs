//! Chooses and opens the store that the configuration names: the only file that names a backend.
//!
//! What works on a store from outside, such as a backup, is dispatched here too. All of it blocks: it is for the start,
//! for a thread of its own, or for the command line.

use std::path::Path;
use std::sync::Arc;

use crate::config::{Config, DatabaseConfig};
use crate::repository::postgres::{self, PostgresRepository, PostgresSettings};
use crate::repository::sqlite::{self, SqliteRepository, SqliteSettings};
use crate::repository::{
    BackupError, BackupReport, CheckReport, Existing, Notices, OpenError, Progress, Repository, RestoreReport, Rules,
    Stop, Upgrade,
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
    sqlite::backup::check(file.unwrap_or(&config.path), rules, stop, progress)
}
