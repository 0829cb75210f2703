//! The key that secrets are sealed with: where it is, whether it is the one with which the store's were sealed, and what
//! is forgotten where it is lost.
//!
//! A store that several servers use is sealed with one key, from the first start with one on. A key is made only where
//! nothing was sealed yet. Else the start is refused: with another key the service would work,
//! but nobody's authenticator app would, and a key that is put back later could not open what was sealed meanwhile.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::config::Config;
use crate::repository::{Repository, RepositoryError, SealedSecrets};
use crate::system::clock::Timestamp;
use crate::system::error_chain::Chain;
use crate::system::sealing::{KeyError, SealingKey, create_key, read_key};

/// Where the key is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyPlace {
    /// In the setting `sealing.key`.
    Setting,
    /// In a file beside the database.
    File(PathBuf),
}

impl KeyPlace {
    /// Where it is by this configuration. With PostgreSQL there is no file: several servers need the same key.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        if config.sealing.key.is_some() || config.database.url.is_some() {
            return Self::Setting;
        }
        Self::File(key_file(&config.database.path))
    }
}

impl fmt::Display for KeyPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Setting => f.write_str("sealing.key"),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

/// Why the service cannot start with the key that it finds. Each is one sentence for a person.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum SealingKeyError {
    #[error("sealing.key is no key: {0}")]
    Setting(#[source] KeyError),
    #[error("the key in {path} cannot be used: {source}")]
    File { path: PathBuf, source: KeyError },
    #[error(
        "{place}, the key to {}, cannot be used ({source}): put the right one back, or move it away and run \
         `authtokens database new-key` to forget what it opens",
        told(.sealed)
    )]
    Unusable { place: KeyPlace, sealed: SealedSecrets, source: KeyError },
    #[error(
        "{place} is missing, the key to {}: put it back, or run `authtokens database new-key` to forget what it opens",
        told(.sealed)
    )]
    Missing { place: KeyPlace, sealed: SealedSecrets },
    #[error(
        "{place} is not the key to {}: put the right one back, or run `authtokens database new-key` to forget what \
         it opens",
        told(.sealed)
    )]
    Another { place: KeyPlace, sealed: SealedSecrets },
    #[error("sealing.key is not given: give the new key there first, the same to every server")]
    NotGiven,
    #[error("the sealed secrets cannot be counted: {}", Chain(.0))]
    Repository(#[from] RepositoryError),
}

/// What a key opens. One may be noted in the store that has sealed nothing yet.
fn told(sealed: &SealedSecrets) -> String {
    if sealed.is_empty() { "this database".to_owned() } else { sealed.to_string() }
}

/// Where the key of a database is that no setting gives: beside it.
fn key_file(database: &Path) -> PathBuf {
    if database.extension().is_some_and(|extension| extension == "key") {
        let mut name = OsString::from(database);
        name.push(".key");
        return name.into();
    }
    database.with_extension("key")
}

/// Reads the key of the configuration, or that of the file; `None` where there is none.
///
/// # Errors
/// [`SealingKeyError::Setting`] or [`SealingKeyError::File`].
pub fn read(config: &Config) -> Result<Option<SealingKey>, SealingKeyError> {
    if let Some(key) = &config.sealing.key {
        return SealingKey::parse(key.expose()).map(Some).map_err(SealingKeyError::Setting);
    }
    match KeyPlace::of(config) {
        KeyPlace::Setting => Ok(None),
        KeyPlace::File(path) => read_key(&path).map_err(|source| SealingKeyError::File { path, source }),
    }
}

/// Checks the key of the configuration. What is wrong with a file is told by [`find_key`], which knows what it opens.
///
/// # Errors
/// [`SealingKeyError::Setting`].
pub fn check_setting(config: &Config) -> Result<(), SealingKeyError> {
    match read(config) {
        Err(error @ SealingKeyError::Setting(_)) => Err(error),
        _ => Ok(()),
    }
}

/// Checks the key of the configuration, and that of the file where this user may read it.
///
/// # Errors
/// [`SealingKeyError`] where one of them is none.
pub fn check(config: &Config) -> Result<(), SealingKeyError> {
    match read(config) {
        Err(SealingKeyError::File { source: KeyError::Io(_), .. }) | Ok(_) => Ok(()),
        Err(error) => Err(error),
    }
}

/// What is wrong where `sealed` was sealed with other keys than this one; `None` where nothing was.
#[must_use]
pub fn mismatch(config: &Config, key: Option<&SealingKey>, sealed: SealedSecrets) -> Option<SealingKeyError> {
    (!sealed.is_empty()).then(|| wrong_key(config, key, sealed))
}

fn wrong_key(config: &Config, key: Option<&SealingKey>, sealed: SealedSecrets) -> SealingKeyError {
    let place = KeyPlace::of(config);
    match key {
        None => SealingKeyError::Missing { place, sealed },
        Some(_) => SealingKeyError::Another { place, sealed },
    }
}

/// The id by which the store knows what was sealed with this key. Where there is no key, it is that of none.
fn id_of(key: Option<&SealingKey>) -> Vec<u8> {
    key.map(|key| key.id().to_vec()).unwrap_or_default()
}

/// How many secrets were sealed with other keys than this one.
///
/// # Errors
/// See [`RepositoryError`].
pub async fn count_lost(
    repository: &dyn Repository,
    key: Option<&SealingKey>,
) -> Result<SealedSecrets, RepositoryError> {
    Ok(repository.count_sealed(id_of(key)).await?.1)
}

/// Finds the key for the server, and makes the file where there is none and nothing was sealed. `None` with PostgreSQL
/// where no setting gives a key: nothing is sealed then.
///
/// # Errors
/// [`SealingKeyError`], each a sentence for the person who starts the server.
pub async fn find_key(config: &Config, repository: &dyn Repository) -> Result<Option<SealingKey>, SealingKeyError> {
    let key = match read(config) {
        Err(SealingKeyError::File { path, source }) => {
            let sealed = count_lost(repository, None).await?;
            return Err(if sealed.is_empty() {
                SealingKeyError::File { path, source }
            } else {
                SealingKeyError::Unusable { place: KeyPlace::File(path), sealed, source }
            });
        }
        read => read?,
    };
    if let Some(error) = mismatch(config, key.as_ref(), count_lost(repository, key.as_ref()).await?) {
        return Err(error);
    }
    let id = id_of(key.as_ref());
    if repository.claim_sealing_key(id.clone()).await? != id {
        return Err(wrong_key(config, key.as_ref(), SealedSecrets::default()));
    }
    if key.is_some() {
        return Ok(key);
    }
    let made = make(config)?;
    if made.is_none() {
        log::info!("sealing.key is not given: authenticator apps are not offered, and no refresh tokens are kept");
    }
    Ok(made)
}

/// Makes a key in the file where there is to be one.
fn make(config: &Config) -> Result<Option<SealingKey>, SealingKeyError> {
    match KeyPlace::of(config) {
        KeyPlace::Setting => Ok(None),
        KeyPlace::File(path) => {
            create_key(&path, &config.database.path).map(Some).map_err(|source| SealingKeyError::File { path, source })
        }
    }
}

/// The key that takes the place of a lost one.
pub struct ReplacedKey {
    /// Whether it was made.
    pub is_made: bool,
    id: Vec<u8>,
    lost_id: Vec<u8>,
}

/// Makes a key where there is none. From now on the store refuses servers with another one.
///
/// # Errors
/// [`SealingKeyError::NotGiven`] where it must be given: without one, a server with the lost one would be let in. Or another.
pub async fn replace_key(config: &Config, repository: &dyn Repository) -> Result<ReplacedKey, SealingKeyError> {
    let found = read(config)?;
    if found.is_none() && KeyPlace::of(config) == KeyPlace::Setting {
        return Err(SealingKeyError::NotGiven);
    }
    // The key first: where none can be made, nothing is forgotten.
    let made = if found.is_none() { make(config)? } else { None };
    let id = id_of(found.as_ref().or(made.as_ref()));
    let lost_id = repository.replace_sealing_key(id.clone()).await?;
    Ok(ReplacedKey { is_made: made.is_some(), id, lost_id })
}

impl ReplacedKey {
    /// Has the store refuse and accept the servers that it did before.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    pub async fn put_back(self, repository: &dyn Repository) -> Result<(), RepositoryError> {
        repository.replace_sealing_key(self.lost_id).await.map(drop)
    }

    /// Forgets every secret that was sealed with another key; how many there were.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    pub async fn forget_lost(
        &self,
        repository: &dyn Repository,
        now: Timestamp,
    ) -> Result<SealedSecrets, RepositoryError> {
        repository.forget_sealed(self.id.clone(), now).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_beside_the_database_and_never_the_database_itself() {
        for (database, key) in [
            ("data/authtokens.db", "data/authtokens.key"),
            ("authtokens", "authtokens.key"),
            ("data/a.b.sqlite3", "data/a.b.key"),
            ("data/odd.key", "data/odd.key.key"),
        ] {
            assert_eq!(key_file(Path::new(database)), Path::new(key));
        }
    }

    #[test]
    fn what_is_refused_names_what_it_touches() {
        let place = || KeyPlace::File("data/authtokens.key".into());
        let sealed = SealedSecrets { totp: 12, refresh_tokens: 3, webhooks: 0 };
        assert_eq!(
            SealingKeyError::Missing { place: place(), sealed }.to_string(),
            "data/authtokens.key is missing, the key to 12 authenticator apps and 3 refresh tokens: put it back, or run \
             `authtokens database new-key` to forget what it opens"
        );
        let sealed = SealedSecrets { totp: 1, refresh_tokens: 0, webhooks: 0 };
        assert_eq!(
            SealingKeyError::Another { place: KeyPlace::Setting, sealed }.to_string(),
            "sealing.key is not the key to 1 authenticator app: put the right one back, or run `authtokens database \
             new-key` to forget what it opens"
        );
        assert_eq!(SealedSecrets { totp: 0, refresh_tokens: 1, webhooks: 0 }.to_string(), "1 refresh token");
        let all = SealedSecrets { totp: 1, refresh_tokens: 2, webhooks: 3 };
        assert_eq!(all.to_string(), "1 authenticator app, 2 refresh tokens and 3 webhook secrets");
    }
}
