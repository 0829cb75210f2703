//! The trait [`Accounts`]: an account as its owner uses it, from registration to deletion.

use async_trait::async_trait;
use bytes::Bytes;

use crate::domain::email::EmailAddress;
use crate::domain::event::Event;
use crate::domain::identity::IdentityDetails;
use crate::domain::item::ItemId;
use crate::domain::passkey::PasskeyDetails;
use crate::domain::profile::ProfileChanges;
use crate::domain::session::{Caller, NewSession, Session, SessionDetails};
use crate::domain::user::{Credentials, NewUser, PasswordHash, User, Username};
use crate::repository::error::{Cause, RepositoryError};
use crate::repository::factors::SecurityState;
use crate::repository::one_time_codes::NewEmailChange;
use crate::repository::proof::Proof;
use crate::system::clock::Timestamp;

/// Renders a user as a response shows it.
pub type Render = fn(User) -> Result<Bytes, Cause>;

/// How many events an export has at most. Older ones are found in the list of events.
pub const MAX_EXPORTED_EVENTS: u32 = 10_000;

/// Everything that is stored about a user but secrets.
#[expect(missing_docs, reason = "the names say it")]
pub struct Export {
    pub user: User,
    /// The items, and when each was added.
    pub cellar: Vec<(ItemId, Timestamp)>,
    /// The items, and when each was added.
    pub wants: Vec<(ItemId, Timestamp)>,
    /// The live sessions, newest first.
    pub sessions: Vec<SessionDetails>,
    /// Whether and since when it has an authenticator app, and how many recovery codes are left.
    pub security: SecurityState,
    /// Oldest first, as are the identities.
    pub passkeys: Vec<PasskeyDetails>,
    pub identities: Vec<IdentityDetails>,
    /// The newest [`MAX_EXPORTED_EVENTS`] events, newest first.
    pub events: Vec<Event>,
}

/// An account as its owner uses it: registered, read, changed, deleted.
#[async_trait]
pub trait Accounts: Send + Sync {
    /// Creates an account and its first session. With a `confirmation`, which is of the profile's own address, a mail that
    /// confirms it is put in the outbox.
    ///
    /// # Errors
    /// [`RepositoryError::Conflict`] when the name is taken, also by somebody who took it a moment ago.
    async fn register_user(
        &self,
        user: NewUser,
        session: NewSession,
        confirmation: Option<NewEmailChange>,
        now: Timestamp,
    ) -> Result<User, RepositoryError>;

    /// The credentials that a login under this name is verified against.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn find_credentials(&self, username: &Username) -> Result<Option<Credentials>, RepositoryError>;

    /// The credentials of the account that has verified this address.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn find_credentials_by_email(&self, email: &EmailAddress) -> Result<Option<Credentials>, RepositoryError>;

    /// The caller's session and user as of one moment.
    ///
    /// # Errors
    /// [`RepositoryError::NoSession`], as in every method that takes a caller.
    async fn find_user(&self, caller: &Caller) -> Result<(Session, User), RepositoryError>;

    /// The same, with the user rendered by `render`, which must be the same function in every call: a store may cache
    /// what it renders. It must not answer from the cache once the user or the session has changed.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn find_rendered_user(&self, caller: &Caller, render: Render) -> Result<(Session, Bytes), RepositoryError>;

    /// Everything that is stored about the caller but secrets, as of one moment.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn export_user(&self, caller: &Caller) -> Result<Export, RepositoryError>;

    /// Sets the given fields of the profile and leaves the others as they are. Another address is not verified, and ends
    /// the codes and links that were mailed to the former one. `modified` is set to `now` where the
    /// value of one of them changes.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn update_profile(
        &self,
        caller: &Caller,
        changes: ProfileChanges,
        now: Timestamp,
    ) -> Result<User, RepositoryError>;

    /// The credentials that the caller's password is verified against.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn find_own_credentials(&self, caller: &Caller) -> Result<Credentials, RepositoryError>;

    /// Stores a new password hash, ends the account's other sessions, and the freshness of this one. `false`, and no
    /// change, when the proof does not hold.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn change_password(
        &self,
        caller: &Caller,
        proof: Proof,
        new_hash: PasswordHash,
        now: Timestamp,
    ) -> Result<bool, RepositoryError>;

    /// Deletes the account with its lists and its sessions. `false`, and no change, when the proof does not hold.
    ///
    /// # Errors
    /// [`RepositoryError::LastSuperuser`] when no other active account is a superuser.
    async fn delete_user(&self, caller: &Caller, proof: Proof, now: Timestamp) -> Result<bool, RepositoryError>;
}
