//! The trait [`Passkeys`]: the passkeys of accounts.

use async_trait::async_trait;

use crate::domain::passkey::{CredentialId, PasskeyDetails, PasskeyId, PasskeyName, UserHandle};
use crate::domain::session::Caller;
use crate::domain::user::{UserId, Username};
use crate::repository::error::RepositoryError;
use crate::system::clock::Timestamp;

/// A passkey that is to be added.
#[derive(Clone)]
#[expect(missing_docs, reason = "the names say it")]
pub struct NewPasskey {
    pub credential_id: CredentialId,
    pub user_handle: UserHandle,
    pub rp_id: String,
    pub name: PasskeyName,
    /// Its public key, its counter and its flags, as JSON.
    pub credential: String,
}

/// A passkey as it is stored.
#[derive(Clone)]
#[expect(missing_docs, reason = "the names say it")]
pub struct StoredPasskey {
    pub credential_id: CredentialId,
    pub user_id: UserId,
    pub username: Username,
    pub user_handle: UserHandle,
    pub credential: String,
}

/// Whom a passkey is to be added for.
#[derive(Clone)]
#[expect(missing_docs, reason = "the names say it")]
pub struct PasskeyOwner {
    pub user_id: UserId,
    pub username: Username,
    /// What the authenticator of its oldest passkey calls the account, where it has one.
    pub user_handle: Option<UserHandle>,
    /// Those that it has.
    pub credentials: Vec<CredentialId>,
}

/// What came of adding a passkey.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PasskeyAdded {
    /// It is there.
    Done(PasskeyDetails),
    /// The caller's session is not fresh. Nothing happened.
    NotFresh,
    /// An account, this one or another, has a passkey of this id. Nothing happened.
    Taken,
    /// The account has as many as it may have. Nothing happened.
    Full,
}

/// Which ways into accounts this service offers, beside passwords: a passkey or an identity that is stored may be none.
#[derive(Clone, Debug)]
pub struct OfferedWays {
    /// Whether a passkey is one.
    pub passkeys: bool,
    /// The issuers whose identities are.
    pub issuers: Vec<String>,
}

/// What came of removing a way into an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// It is gone.
    Done,
    /// There is none of this id. Nothing happened.
    NotFound,
    /// The caller's session is not fresh. Nothing happened.
    NotFresh,
    /// The account has no password, and no other passkey or identity that is offered. Nothing happened.
    LastWayIn,
}

/// The passkeys of accounts.
#[async_trait]
pub trait Passkeys: Send + Sync {
    /// The caller's passkeys, oldest first.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn list_passkeys(&self, caller: &Caller) -> Result<Vec<PasskeyDetails>, RepositoryError>;

    /// Whom a passkey is to be added for: the caller.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn find_passkey_owner(&self, caller: &Caller) -> Result<PasskeyOwner, RepositoryError>;

    /// Adds a passkey to the caller's account, in a fresh session. An account has at most
    /// [`MAX_PASSKEYS`](crate::domain::passkey::MAX_PASSKEYS). Of those that were begun before it had any, each may have a
    /// user handle of its own.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn add_passkey(
        &self,
        caller: &Caller,
        passkey: NewPasskey,
        now: Timestamp,
    ) -> Result<PasskeyAdded, RepositoryError>;

    /// The passkey of this credential, where its account is active.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn find_passkey(&self, credential: &CredentialId) -> Result<Option<StoredPasskey>, RepositoryError>;

    /// The credential ids of an account's passkeys, oldest first.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn list_credentials(&self, user_id: UserId) -> Result<Vec<StoredPasskey>, RepositoryError>;

    /// Calls one of the caller's passkeys otherwise. `None` where there is none of this id.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn rename_passkey(
        &self,
        caller: &Caller,
        id: PasskeyId,
        name: PasskeyName,
    ) -> Result<Option<PasskeyDetails>, RepositoryError>;

    /// Removes one of the caller's passkeys, in a fresh session, and ends the account's challenges: somebody may have begun
    /// a login by it.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn remove_passkey(
        &self,
        caller: &Caller,
        id: PasskeyId,
        offered: OfferedWays,
        now: Timestamp,
    ) -> Result<Removal, RepositoryError>;

    /// The domains that passkeys were made for, and how many for each.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn count_passkeys_by_domain(&self) -> Result<Vec<(String, u64)>, RepositoryError>;
}
