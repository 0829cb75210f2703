//! Which store there is, by the configuration: the only file that names a backend.
//!
//! What is done to a store from outside, such as a backup, is dispatched here too. All of it blocks; it is for the start,
//! for a thread of its own, or for the command line.

use std::path::Path;
use std::sync::Arc;

use crate::config::DatabaseConfig;
use crate::repository::sqlite::{self, SqliteRepository, SqliteSettings};
use crate::repository::{
    BackupError, BackupReport, CheckReport, Existing, OpenError, Progress, Repository, RestoreReport, Rules, Stop,
};

/// A store that was opened for a command.
pub struct Opened {
    /// The store.
    pub repository: Arc<dyn Repository>,
    /// What opening it has brought up to date.
    pub upgrade: Option<Upgrade>,
}

/// A schema that was brought up to date.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Upgrade {
    /// The version that it had.
    pub from: i32,
    /// The version that it has now.
    pub to: i32,
}

/// Opens the store for the server, and makes it where there is none.
///
/// # Errors
/// [`OpenError`]. A store that is refused is not changed.
pub fn open(config: &DatabaseConfig) -> Result<Arc<dyn Repository>, OpenError> {
    let settings = SqliteSettings {
        path: config.path.clone(),
        readers: config.readers,
        busy_timeout: config.busy_timeout,
        cache: usize::try_from(config.cache.as_u64()).unwrap_or(usize::MAX),
    };
    Ok(Arc::new(SqliteRepository::open(&settings)?))
}

/// Opens the store beside a server that has it, or where there is none, for as long as a command takes; makes it only
/// where `make` says so.
///
/// # Errors
/// [`OpenError`]. A store that is refused is not changed.
pub fn open_shared(config: &DatabaseConfig, make: bool) -> Result<Opened, OpenError> {
    let settings = SqliteSettings {
        path: config.path.clone(),
        // A command does one thing after another.
        readers: 1,
        busy_timeout: config.busy_timeout,
        cache: 0,
    };
    let repository = SqliteRepository::open_shared(&settings, make)?;
    let upgrade = repository.upgraded().map(|(from, to)| Upgrade { from, to });
    Ok(Opened { repository: Arc::new(repository), upgrade })
}

/// Whether there is a store already.
///
/// # Errors
/// [`OpenError`] where that cannot be found out.
pub fn exists(config: &DatabaseConfig) -> Result<bool, OpenError> {
    Ok(SqliteRepository::exists(&config.path)?)
}

/// How many blocking threads the store's work takes at most.
#[must_use]
pub fn blocking_threads(config: &DatabaseConfig) -> usize {
    sqlite::blocking_threads(config.readers)
}

/// Copies the store, which a server may be using, to the file `target`.
///
/// # Errors
/// [`BackupError`]. Whatever had the target's name before is then still there, and nothing new is.
pub fn back_up(
    config: &DatabaseConfig,
    target: &Path,
    existing: Existing,
    stop: &Stop,
    progress: &mut dyn FnMut(Progress),
) -> Result<BackupReport, BackupError> {
    sqlite::backup::back_up(&config.path, target, existing, stop, progress)
}

/// Puts a backup in the place of the store, which no server may be using. What was there is kept.
///
/// # Errors
/// [`BackupError`]. The store is then what it was.
pub fn restore(
    config: &DatabaseConfig,
    backup: &Path,
    rules: &Rules,
    stop: &Stop,
    progress: &mut dyn FnMut(Progress),
) -> Result<RestoreReport, BackupError> {
    sqlite::backup::restore(backup, &config.path, rules, stop, progress)
}

/// Reads all of the backup `file`, or of the store where none is given, and tells what it holds. With `rules`, every row
/// is held against what the service itself keeps. A server may be using the store.
///
/// # Errors
/// [`BackupError::Damaged`] where it contradicts itself, [`BackupError::Invalid`] where a row breaks a rule, or another
/// where it cannot be read or is not ours.
pub fn check(
    config: &DatabaseConfig,
    file: Option<&Path>,
    rules: Option<&Rules>,
    stop: &Stop,
    progress: &mut dyn FnMut(Progress),
) -> Result<CheckReport, BackupError> {
    sqlite::backup::check(file.unwrap_or(&config.path), rules, stop, progress)
}
