//! The trait [`Imports`]: accounts that come from another system, each written whole, once.

use async_trait::async_trait;

use crate::domain::item::ItemId;
use crate::domain::profile::Profile;
use crate::domain::rights::Rights;
use crate::domain::token::TokenDigest;
use crate::domain::user::{PasswordHash, Username};
use crate::repository::error::RepositoryError;
use crate::system::clock::Timestamp;

/// An account of another system, as it is to be written.
#[derive(Clone)]
#[expect(missing_docs, reason = "the names say it")]
pub struct ImportedAccount {
    /// Its id in the other system.
    pub source_id: String,
    /// The SHA-256 of its name and its date of joining there: the same id with another fingerprint is another account.
    pub fingerprint: [u8; 32],
    pub username: Username,
    pub password_hash: PasswordHash,
    /// How much work it is to verify the hash, in rounds of bcrypt, where it is not our own.
    pub hash_work: Option<u64>,
    pub profile: Profile,
    /// Whether the other system had verified the address. It counts unless another account has verified it.
    pub is_email_verified: bool,
    pub is_active: bool,
    pub rights: Rights,
    pub date_joined: Timestamp,
    pub created: Timestamp,
    pub modified: Timestamp,
    pub last_login: Timestamp,
    /// Ascending and without doubles, as is `wants`.
    pub cellar: Vec<ItemId>,
    pub wants: Vec<ItemId>,
    pub tokens: Vec<ImportedToken>,
}

/// A token of another system. Its session begins with the import.
#[derive(Clone, Copy)]
pub struct ImportedToken {
    /// The SHA-256 of its characters or, where that is not known, the beginning of a SHA-512.
    pub digest: TokenDigest,
    /// Whether the digest is the beginning of a SHA-512, of its characters or of the bytes that they stand for in hex.
    pub is_sha512: bool,
    /// When it ends, whatever else holds.
    pub expires: Option<Timestamp>,
}

/// What became of an account that was to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImportOutcome {
    /// It is there, with so many of its tokens: one that a session has already stays that session's.
    Imported {
        /// How many.
        tokens: usize,
    },
    /// It was imported before, and nothing was changed, whatever has become of it since.
    Already,
    /// The id was imported before, with another fingerprint. Nothing was changed.
    Another,
    /// An account has the name. Nothing was written.
    NameTaken,
}

/// Accounts that come from another system.
#[async_trait]
pub trait Imports: Send + Sync {
    /// The fingerprints under which these ids of a system were imported, in the order of the ids.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn find_imported(&self, source: &str, ids: Vec<String>) -> Result<Vec<Option<[u8; 32]>>, RepositoryError>;

    /// Which of these names an account has, in their order.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn find_taken(&self, names: Vec<Username>) -> Result<Vec<bool>, RepositoryError>;

    /// Writes accounts of a system, each whole or not at all, with its lists, its tokens and its event, and remembers
    /// their ids. Says what became of each, in their order. All of them are durable then.
    ///
    /// # Errors
    /// See [`RepositoryError`]. None of them was written then.
    async fn import_accounts(
        &self,
        source: &str,
        accounts: Vec<ImportedAccount>,
        now: Timestamp,
    ) -> Result<Vec<ImportOutcome>, RepositoryError>;

    /// Whether an account was ever imported whose name breaks the rule for new names.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn has_imported_names(&self) -> Result<bool, RepositoryError>;

    /// How much work the hardest of the imported hashes is that are left, in rounds of bcrypt.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn hardest_imported_hash(&self) -> Result<Option<u64>, RepositoryError>;
}
