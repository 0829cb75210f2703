//! What the service asks of a store, and what every store must keep.
//!
//! [`Repository`] is narrow on purpose: a method is one thing that the service means, done whole or not at all, and not
//! a table. Time, digests and hashes are arguments, so a store needs neither a clock nor a generator. No driver's type
//! crosses this door: a second store has only this page and the contract suite in `tests/repository` to satisfy.

mod schema;
pub mod sqlite;
mod writer;

use std::collections::BTreeSet;
use std::error::Error;
use std::sync::Arc;

use async_trait::async_trait;
use thiserror::Error as ThisError;

use crate::clock::Timestamp;
use crate::item::{ItemId, List};
use crate::session::{Caller, Liveness, NewSession, Session, SessionDetails, SessionId};
use crate::token::TokenDigest;
use crate::user::{Credentials, NewUser, PasswordHash, ProfileChanges, User, UserId, Username};

/// What lies under a failure, for the log.
pub type Cause = Arc<dyn Error + Send + Sync>;

/// A value that the store holds once only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UniqueField {
    /// An account's name, without regard to case.
    Username,
}

/// Why the store did not do what it was asked.
#[derive(Clone, Debug, ThisError)]
pub enum RepositoryError {
    /// Another row has this value already. Nothing happened.
    #[error("the {0:?} is taken")]
    Conflict(UniqueField),
    /// The session of whoever asks is over, or never was. Nothing happened.
    #[error("the session is over")]
    NoSession,
    /// The list would hold more than it may. Nothing happened.
    #[error("the list is full")]
    ListFull,
    /// The store cannot do it now: it is locked, full, read-only or overloaded. Nothing happened.
    #[error("the store cannot do this now")]
    Unavailable(#[source] Cause),
    /// The store failed while it made the change durable: it may have happened. Read again before trying again.
    #[error("the store may or may not have done this")]
    OutcomeUnknown(#[source] Cause),
    /// What the store holds cannot be right: damage, or a value that the service never wrote.
    #[error("the store holds something that cannot be right")]
    Inconsistent(#[source] Cause),
    /// Anything else: a fault of the service itself. Nothing happened.
    #[error("the store failed")]
    Backend(#[source] Cause),
}

/// A login that has been verified, about to become a session.
pub struct VerifiedLogin {
    /// Whose it is.
    pub user_id: UserId,
    /// The hash that the password was verified against. Where the account has another by now, there is no session.
    pub verified_against: PasswordHash,
    /// A hash of the same password at the configured cost, where the stored one has another cost.
    pub rehashed: Option<PasswordHash>,
}

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
}

/// The accounts, their lists and their sessions.
///
/// Each method is atomic and, when it answers `Ok` to a change, the change is durable. "Not there" is `None` or `false`,
/// never an error.
#[async_trait]
pub trait Repository: Send + Sync {
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

    /// Opens a session for a verified login, moves `last_login`, and stores the new hash where there is one. Where the
    /// account has `max_sessions` already, the one that was used least recently makes room. `None` when the account is
    /// gone, may not be used, or has another password by now.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn open_session(
        &self,
        login: VerifiedLogin,
        session: NewSession,
        max_sessions: u32,
        now: Timestamp,
    ) -> Result<Option<User>, RepositoryError>;

    /// The caller's session, where it is live and its account may be used.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn find_session(&self, caller: &Caller) -> Result<Option<Session>, RepositoryError>;

    /// The caller's session and user as of one moment.
    ///
    /// # Errors
    /// [`RepositoryError::NoSession`], as in every method below that takes a caller.
    async fn find_user(&self, caller: &Caller) -> Result<(Session, User), RepositoryError>;

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
    ) -> Result<bool, RepositoryError>;

    /// Deletes the account with its lists and its sessions. `false` when the account has another password by now than
    /// the one that was verified.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn delete_user(&self, caller: &Caller, verified_against: PasswordHash) -> Result<bool, RepositoryError>;

    /// The caller's live sessions, newest first.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn list_sessions(&self, caller: &Caller) -> Result<Vec<SessionDetails>, RepositoryError>;

    /// Ends the session that asks, for good. Of two at once one ends it.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn revoke_own_session(&self, caller: &Caller) -> Result<(), RepositoryError>;

    /// Ends one of the caller's live sessions. `false` when the caller has none of this name.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn revoke_session(&self, caller: &Caller, id: SessionId) -> Result<bool, RepositoryError>;

    /// Ends all of the caller's sessions, the one that asks too.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn revoke_all_sessions(&self, caller: &Caller) -> Result<(), RepositoryError>;

    /// Notes when sessions were last used. Those that are gone, or were used later, stay as they are.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn record_use(&self, uses: Vec<(TokenDigest, Timestamp)>) -> Result<(), RepositoryError>;

    /// Forgets sessions that are no longer live, a bounded number at a time, and says how many. None are left when it
    /// answers 0.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn prune_sessions(&self, live: Liveness) -> Result<usize, RepositoryError>;

    /// One of the caller's lists, ascending.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn list_items(&self, caller: &Caller, list: List) -> Result<Vec<ItemId>, RepositoryError>;

    /// Makes one of the caller's lists hold these items and no others; answers it. `modified` moves when that changed
    /// anything.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn replace_items(
        &self,
        caller: &Caller,
        list: List,
        items: BTreeSet<ItemId>,
        now: Timestamp,
    ) -> Result<Vec<ItemId>, RepositoryError>;

    /// Adds an item where it is not there yet; answers the list.
    ///
    /// # Errors
    /// [`RepositoryError::ListFull`] when the list would hold more than `max_items`.
    async fn add_item(
        &self,
        caller: &Caller,
        list: List,
        item: ItemId,
        max_items: usize,
        now: Timestamp,
    ) -> Result<Vec<ItemId>, RepositoryError>;

    /// Removes an item where it is there; answers the list.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn remove_item(
        &self,
        caller: &Caller,
        list: List,
        item: ItemId,
        now: Timestamp,
    ) -> Result<Vec<ItemId>, RepositoryError>;

    /// Reads, and writes durably, changing nothing: whether the store can do its work.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn check_ready(&self) -> Result<(), RepositoryError>;

    /// Finishes what was accepted and leaves the store tidy. Nothing may be asked of it afterwards.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn close(&self) -> Result<(), RepositoryError>;
}
