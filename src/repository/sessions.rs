//! Sessions: opened, looked up by their token, listed, revoked.

use async_trait::async_trait;

use crate::domain::session::{Caller, NewSession, Session, SessionDetails, SessionId};
use crate::domain::token::TokenDigest;
use crate::domain::user::{PasswordHash, User, UserId};
use crate::repository::error::RepositoryError;
use crate::system::clock::Timestamp;

/// A login that has been verified, about to become a session.
pub struct VerifiedLogin {
    /// Whose it is.
    pub user_id: UserId,
    /// The hash that the password was verified against. Where the account has another by now, there is no session.
    pub verified_against: PasswordHash,
    /// A hash of the same password at the configured cost, where the stored one has another cost.
    pub rehashed: Option<PasswordHash>,
}

/// Sessions: opened, looked up by their token, listed, revoked.
#[async_trait]
pub trait Sessions: Send + Sync {
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
}
