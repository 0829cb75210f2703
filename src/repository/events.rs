//! The trait [`Events`]: security events, and the failed logins that throttle an account.

use std::net::IpAddr;

use async_trait::async_trait;

use crate::domain::event::{Event, EventCursor, EventQuery, FailedAttempt};
use crate::domain::rights::Actor;
use crate::domain::session::Caller;
use crate::domain::user::Username;
use crate::repository::error::RepositoryError;
use crate::repository::page::Page;
use crate::system::clock::Timestamp;

/// An account's failed logins in a row, as they are stored, and the time of the last one.
#[expect(missing_docs, reason = "the names say it")]
pub struct StoredFailures {
    pub username: Username,
    pub count: u32,
    pub last: Timestamp,
}

/// A cursor into the password resets. It is opaque, and each store's own: events may become visible in another order
/// than that of their numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResetCursor(pub(super) Behind);

/// What a [`ResetCursor`] is behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Behind {
    /// Of a store whose events become visible in the order of their numbers: the last one.
    Event(i64),
    /// Of one where they do not: which server was read, and what it showed then.
    Snapshot(i64, String),
}

/// The accounts that got a new password since the last call.
pub struct Resets {
    /// The cursor for the next call.
    pub next: ResetCursor,
    /// Their names.
    pub usernames: Vec<Username>,
}

/// Security events, and the failed logins that throttle an account.
#[async_trait]
pub trait Events: Send + Sync {
    /// The caller's own events, newest first. Of what others did, neither who they are nor their address is shown.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn list_own_events(
        &self,
        caller: &Caller,
        query: EventQuery,
    ) -> Result<Page<Event, EventCursor>, RepositoryError>;

    /// Events, newest first.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn list_events(&self, actor: &Actor, query: EventQuery) -> Result<Page<Event, EventCursor>, RepositoryError>;

    /// Stores failed attempts as events, and counts each failed login at its account: but not where a login or a new
    /// password has followed it by now. A login or a new password with a time after `now` did not follow it: the clock
    /// was ahead then.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn record_failed_attempts(&self, attempts: Vec<FailedAttempt>, now: Timestamp)
    -> Result<(), RepositoryError>;

    /// The addresses from which an account has logged in lately; none where there is no such account.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn list_familiar_addresses(&self, username: &Username) -> Result<Vec<IpAddr>, RepositoryError>;

    /// Whether other processes count failed logins in this store too.
    fn is_shared(&self) -> bool {
        false
    }

    /// The accounts with failed logins since their last success, those with the most failures first.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn list_failures(&self, limit: u32) -> Result<Vec<StoredFailures>, RepositoryError>;

    /// The accounts that staff or the operator gave a new password since the cursor was made, by whichever process, and
    /// those whose owner has reset it, unless they have an authenticator app: its wrong codes count on.
    /// Without a cursor: no accounts, only a cursor.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn list_resets(&self, behind: Option<ResetCursor>) -> Result<Resets, RepositoryError>;
}
