//! What the service asks of a store, and what every store must keep.
//!
//! [`Repository`] is narrow on purpose: a method is one thing that the service means, done whole or not at all, and not
//! a table. Time, digests and hashes are arguments, so a store needs neither a clock nor a generator. No driver's type
//! crosses this door: a second store has only this page and the contract suite in `tests/repository.rs` to satisfy.

mod schema;
pub mod sqlite;
mod writer;

use std::error::Error;
use std::sync::Arc;

use async_trait::async_trait;
use thiserror::Error as ThisError;

use crate::clock::Timestamp;
use crate::token::{NewSession, TokenDigest};
use crate::user::{Credentials, NewUser, PasswordHash, User, UserId, Username};

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

    /// Opens a session for a verified login, moves `last_login`, and stores the new hash where there is one. `None` when
    /// the account is gone, may not be used, or has another password by now.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn open_session(
        &self,
        login: VerifiedLogin,
        session: NewSession,
        now: Timestamp,
    ) -> Result<Option<User>, RepositoryError>;

    /// Whose live session this is. The account of a live session may be used.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn find_session(&self, digest: &TokenDigest) -> Result<Option<UserId>, RepositoryError>;

    /// Ends a session for good. `false` when there was none, so that of two at once one ends it.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn revoke_session(&self, digest: &TokenDigest) -> Result<bool, RepositoryError>;

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
