//! An account, as its owner has it: made, read, changed and deleted.

use async_trait::async_trait;
use bytes::Bytes;

use crate::domain::event::Event;
use crate::domain::item::ItemId;
use crate::domain::profile::ProfileChanges;
use crate::domain::session::{Caller, NewSession, Session, SessionDetails};
use crate::domain::user::{Credentials, NewUser, PasswordHash, User, Username};
use crate::repository::error::{Cause, RepositoryError};
use crate::system::clock::Timestamp;

/// Writes a user as an answer shows it.
pub type Render = fn(User) -> Result<Bytes, Cause>;

/// How many events an export has. The others are in the list of events.
pub const MAX_EXPORTED_EVENTS: u32 = 10_000;

/// Everything that is stored about a user but secrets.
pub struct Export {
    /// The account with its lists.
    pub user: User,
    /// What is in the cellar, and since when.
    pub cellar: Vec<(ItemId, Timestamp)>,
    /// What is on the wish list, and since when.
    pub wants: Vec<(ItemId, Timestamp)>,
    /// The live sessions, newest first.
    pub sessions: Vec<SessionDetails>,
    /// The newest [`MAX_EXPORTED_EVENTS`] events, newest first.
    pub events: Vec<Event>,
}

/// An account, as its owner has it: made, read, changed and deleted.
#[async_trait]
pub trait Accounts: Send + Sync {
    /// Makes an account and its first session.
    ///
    /// # Errors
    /// [`RepositoryError::Conflict`] when the name is taken, whoever took it a moment ago.
    async fn register_user(&self, user: NewUser, session: NewSession, now: Timestamp) -> Result<User, RepositoryError>;

    /// What a login under this name is checked against.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn find_credentials(&self, username: &Username) -> Result<Option<Credentials>, RepositoryError>;

    /// The caller's session and user as of one moment.
    ///
    /// # Errors
    /// [`RepositoryError::NoSession`], as in every method that takes a caller.
    async fn find_user(&self, caller: &Caller) -> Result<(Session, User), RepositoryError>;

    /// The same, with the user as `render` writes it. It is always the same `render`: a store may keep what it has
    /// written, and must not answer with it once the user or the session has changed.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn find_rendered_user(&self, caller: &Caller, render: Render) -> Result<(Session, Bytes), RepositoryError>;

    /// Everything that is stored about the caller but secrets, as of one moment.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn export_user(&self, caller: &Caller) -> Result<Export, RepositoryError>;

    /// Sets the profile's fields that are given and leaves the others as they are by then. `modified` moves when one of
    /// them was different.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn update_profile(
        &self,
        caller: &Caller,
        changes: ProfileChanges,
        now: Timestamp,
    ) -> Result<User, RepositoryError>;

    /// What the caller's password is checked against.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn find_own_credentials(&self, caller: &Caller) -> Result<Credentials, RepositoryError>;

    /// Stores a new password hash and ends the account's other sessions. `false` when the account has another password
    /// by now than the one that was verified.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn change_password(
        &self,
        caller: &Caller,
        verified_against: PasswordHash,
        new_hash: PasswordHash,
        now: Timestamp,
    ) -> Result<bool, RepositoryError>;

    /// Deletes the account with its lists and its sessions. `false` when the account has another password by now than
    /// the one that was verified.
    ///
    /// # Errors
    /// [`RepositoryError::LastSuperuser`] when no other active account is one.
    async fn delete_user(
        &self,
        caller: &Caller,
        verified_against: PasswordHash,
        now: Timestamp,
    ) -> Result<bool, RepositoryError>;
}
