//! Security events, and the failed attempts that throttle an account.

use std::net::IpAddr;

use async_trait::async_trait;

use crate::domain::event::{Event, EventCursor, EventQuery, FailedAttempt};
use crate::domain::rights::Actor;
use crate::domain::session::Caller;
use crate::domain::user::Username;
use crate::repository::error::RepositoryError;
use crate::repository::page::Page;
use crate::system::clock::Timestamp;

/// An account's failures in a row, as they were stored.
pub struct StoredFailures {
    /// Whose.
    pub username: Username,
    /// How many.
    pub count: u32,
    /// When the last one was.
    pub last: Timestamp,
}

/// How far new passwords were looked for. What is in it is the store's own: events may become visible in another order
/// than that of their numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResetCursor(pub(super) i64);

/// Which accounts were given a new password since one asked last.
pub struct Resets {
    /// What to ask behind next time.
    pub next: ResetCursor,
    /// The accounts.
    pub usernames: Vec<Username>,
}

/// Security events, and the failed attempts that throttle an account.
#[async_trait]
pub trait Events: Send + Sync {
    /// The caller's own events. What others did shows that they did it, and not who they are or where they sat.
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

    /// Stores refused attempts as events, and counts a failed login at the account that it was for, unless a success or
    /// a new password has followed it by now. What is stored under a later time than that did not follow it.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn record_failed_attempts(&self, attempts: Vec<FailedAttempt>, now: Timestamp)
    -> Result<(), RepositoryError>;

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

    /// Which accounts were given a new password by staff or the operator since the cursor was made, whichever process did
    /// it; without one none, only a cursor.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn list_resets(&self, behind: Option<ResetCursor>) -> Result<Resets, RepositoryError>;
}
