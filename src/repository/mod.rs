//! What the service asks of a store, and what every store must keep.
//!
//! [`Repository`] is narrow on purpose: a method is one thing that the service means, done whole or not at all, and not
//! a table. Time, digests and hashes are arguments, so a store needs neither a clock nor a generator. No driver's type
//! crosses this door: a second store has only this page and the contract suite in `tests/repository` to satisfy.

pub mod sqlite;

use std::collections::BTreeSet;
use std::error::Error;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use thiserror::Error as ThisError;

use crate::domain::event::{Event, EventQuery, FailedAttempt};
use crate::domain::item::{ItemId, List};
use crate::domain::profile::ProfileChanges;
use crate::domain::rights::{AccountChange, Actor, Permission, Rights, UserQuery};
use crate::domain::session::{Caller, NewSession, Session, SessionCutoffs, SessionDetails, SessionId};
use crate::domain::token::TokenDigest;
use crate::domain::user::{Credentials, NewUser, PasswordHash, User, UserId, Username};
use crate::system::clock::Timestamp;

pub use sqlite::session_cache::MAX_STALENESS;

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
    /// Whoever asks may not do this. Nothing happened.
    #[error("the session has no right to this")]
    Forbidden,
    /// It would leave no superuser who could undo it. Nothing happened.
    #[error("it is the last superuser")]
    LastSuperuser,
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

/// Writes a user as an answer shows it.
pub type Render = fn(User) -> Result<Bytes, Cause>;

/// A login that has been verified, about to become a session.
pub struct VerifiedLogin {
    /// Whose it is.
    pub user_id: UserId,
    /// The hash that the password was verified against. Where the account has another by now, there is no session.
    pub verified_against: PasswordHash,
    /// A hash of the same password at the configured cost, where the stored one has another cost.
    pub rehashed: Option<PasswordHash>,
}

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

/// An account's failures in a row, as they were stored.
pub struct StoredFailures {
    /// Whose.
    pub username: Username,
    /// How many.
    pub count: u32,
    /// When the last one was.
    pub last: Timestamp,
}

/// Which accounts were given a new password since one asked last.
pub struct Resets {
    /// What to ask behind next time.
    pub last_event: i64,
    /// The accounts.
    pub usernames: Vec<Username>,
}

/// How busy the store is, for whoever watches over the process. Counters start at 0 with the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreStatistics {
    /// The size of what the store holds, in bytes, where it can tell.
    pub size: Option<u64>,
    /// The size of the log of changes that is not yet moved into the rest, in bytes, where there is one.
    pub log_size: Option<u64>,
    /// How many reads were asked for.
    pub reads: u64,
    /// How many of them had to wait for a free connection.
    pub delayed_reads: u64,
    /// How long they waited, all together.
    pub read_delay: Duration,
    /// How many of them waited for too long and were refused.
    pub refused_reads: u64,
    /// How many writes wait for their turn.
    pub waiting_writes: u64,
    /// How many writes were begun.
    pub writes: u64,
    /// How many commits made them durable.
    pub commits: u64,
    /// How many writes were refused because too many waited.
    pub refused_writes: u64,
}

/// How much the store holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreCounts {
    /// Accounts.
    pub users: u64,
    /// Sessions; one that ended by its age or its rest counts until it is forgotten.
    pub sessions: u64,
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

    /// The caller's live sessions, newest first.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn list_sessions(&self, caller: &Caller) -> Result<Vec<SessionDetails>, RepositoryError>;

    /// Ends the session that asks, for good. Of two at once one ends it.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn revoke_own_session(&self, caller: &Caller, now: Timestamp) -> Result<(), RepositoryError>;

    /// Ends one of the caller's live sessions. `false` when the caller has none of this name.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn revoke_session(&self, caller: &Caller, id: SessionId, now: Timestamp) -> Result<bool, RepositoryError>;

    /// Ends all of the caller's sessions, the one that asks too.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn revoke_all_sessions(&self, caller: &Caller, now: Timestamp) -> Result<(), RepositoryError>;

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
    async fn prune_sessions(&self, cutoffs: SessionCutoffs) -> Result<usize, RepositoryError>;

    /// Sets every time of a session or a failure that is more than a minute later than `now` to `now`, so that it
    /// begins to age: the clock was ahead when it was stored. A bounded number at a time; says how many. None are left
    /// when it answers 0.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn clamp_times(&self, now: Timestamp) -> Result<usize, RepositoryError>;

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

    /// The caller's own events. What others did shows that they did it, and not who they are or where they sat.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn list_own_events(&self, caller: &Caller, query: EventQuery) -> Result<Vec<Event>, RepositoryError>;

    /// Makes an account without a session: the operator's way to the first one with rights.
    ///
    /// # Errors
    /// [`RepositoryError::Conflict`] when the name is taken.
    async fn create_account(&self, user: NewUser, rights: Rights, now: Timestamp) -> Result<User, RepositoryError>;

    /// Whether the actor may do this to the account that is named, or to any where none is: before anything else is
    /// looked at, and anything is hashed. Whoever may do anything to others may look at all. What is then done looks
    /// again. `false` when there is no account of this name.
    ///
    /// # Errors
    /// [`RepositoryError::Forbidden`], as in every method below that takes an actor, when it has no right to this. For an
    /// actor who may do nothing to others, whether there is such an account is not looked at.
    async fn check_rights(
        &self,
        actor: &Actor,
        permission: Permission,
        username: Option<&Username>,
    ) -> Result<bool, RepositoryError>;

    /// Accounts, in the order of their folded names, until they are as many as [`UserQuery::is_full`] says.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn list_accounts(&self, actor: &Actor, query: UserQuery) -> Result<Vec<User>, RepositoryError>;

    /// An account.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn find_account(&self, actor: &Actor, username: &Username) -> Result<Option<User>, RepositoryError>;

    /// Changes an account, whole or not at all. A new password and a deactivation end its sessions. `None` when there is
    /// none of this name.
    ///
    /// # Errors
    /// [`RepositoryError::LastSuperuser`] when no other active account would be one.
    async fn change_account(
        &self,
        actor: &Actor,
        username: &Username,
        change: AccountChange,
        now: Timestamp,
    ) -> Result<Option<User>, RepositoryError>;

    /// Deletes an account with its lists and its sessions. `false` when there is none of this name.
    ///
    /// # Errors
    /// [`RepositoryError::LastSuperuser`] when no other active account is one.
    async fn delete_account(&self, actor: &Actor, username: &Username, now: Timestamp)
    -> Result<bool, RepositoryError>;

    /// An account's live sessions, newest first. `None` when there is no account of this name.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn list_account_sessions(
        &self,
        actor: &Actor,
        username: &Username,
        cutoffs: SessionCutoffs,
    ) -> Result<Option<Vec<SessionDetails>>, RepositoryError>;

    /// Ends one of an account's live sessions, or all of its sessions where none is named. `None` when there is no
    /// account of this name, else how many it ended.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn revoke_account_sessions(
        &self,
        actor: &Actor,
        username: &Username,
        id: Option<SessionId>,
        cutoffs: SessionCutoffs,
        now: Timestamp,
    ) -> Result<Option<usize>, RepositoryError>;

    /// Events, newest first.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn list_events(&self, actor: &Actor, query: EventQuery) -> Result<Vec<Event>, RepositoryError>;

    /// Stores refused attempts as events, and counts a failed login at the account that it was for, unless a success or
    /// a new password has followed it by now. What is stored under a later time than that did not follow it.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn record_failed_attempts(&self, attempts: Vec<FailedAttempt>, now: Timestamp)
    -> Result<(), RepositoryError>;

    /// Forgets events that are no younger than `before`, and the oldest beyond `keep` of them, a bounded number at a
    /// time, and says how many. None are left when it answers 0. One from after `now` is as old as the next one behind
    /// it.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn prune_events(&self, before: Timestamp, keep: u64, now: Timestamp) -> Result<usize, RepositoryError>;

    /// The networks from which an account has logged in of late; none where there is no such account.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn list_familiar_addresses(&self, username: &Username) -> Result<Vec<IpAddr>, RepositoryError>;

    /// The accounts at which logins have failed since the last success, those with the most failures first.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn list_failures(&self, limit: u32) -> Result<Vec<StoredFailures>, RepositoryError>;

    /// Which accounts were given a new password by staff or the operator behind an event, whichever process did it.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn list_resets(&self, behind: i64) -> Result<Resets, RepositoryError>;

    /// Reads, and changes nothing by a write, which reaches the disk where it is not known that writes do: whether the store
    /// can do its work.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn check_ready(&self) -> Result<(), RepositoryError>;

    /// How busy the store is. Costs the store nothing.
    async fn statistics(&self) -> StoreStatistics;

    /// How much the store holds. The more it is the longer it takes: not for every request.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn count(&self) -> Result<StoreCounts, RepositoryError>;

    /// Finishes what was accepted and leaves the store tidy. Nothing may be asked of it afterwards.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn close(&self) -> Result<(), RepositoryError>;
}
