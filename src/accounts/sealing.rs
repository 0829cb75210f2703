//! The key that secrets are sealed with: where it is, and whether it is the one with which the store's were sealed.

use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::config::Config;
use crate::system::sealing::{KeyError, SealingKey, create_key, read_key};

/// Why the service cannot start with the key that it finds. Each is one sentence for a person.
#[derive(Debug, Error)]
pub enum SealingKeyError {
    /// The setting holds none.
    #[error("sealing.key is no key: {0}")]
    Setting(#[source] KeyError),
    /// The file holds none.
    #[error("the key in {path} cannot be used: {source}")]
    #[expect(missing_docs, reason = "the names say it")]
    File { path: PathBuf, source: KeyError },
}

/// Where the key is that no setting gives: beside the database.
#[must_use]
pub fn key_file(database: &Path) -> PathBuf {
    database.with_extension("key")
}

/// The key: that of the configuration, or that of the file beside the database, which is made where there is none. `None`
/// with PostgreSQL, where no setting gives one: several servers need the same.
///
/// # Errors
/// [`SealingKeyError`], each a sentence for the person who starts the server.
pub fn find_key(config: &Config) -> Result<Option<SealingKey>, SealingKeyError> {
    if let Some(key) = &config.sealing.key {
        return SealingKey::parse(key.expose()).map(Some).map_err(SealingKeyError::Setting);
    }
    if config.database.url.is_some() {
        return Ok(None);
    }
    let path = key_file(&config.database.path);
    let failed = |source| SealingKeyError::File { path: path.clone(), source };
    match read_key(&path).map_err(failed)? {
        Some(key) => Ok(Some(key)),
        None => create_key(&path).map(Some).map_err(failed),
    }
}
