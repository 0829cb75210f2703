//! The trait [`Sessions`]: sessions are opened, looked up by their token, listed, revoked.

use async_trait::async_trait;

use crate::domain::session::{Caller, Session, SessionDetails, SessionId};
use crate::domain::token::TokenDigest;
use crate::repository::error::RepositoryError;
use crate::repository::proof::{Reauthentication, SessionOutcome, SessionRequest};
use crate::system::clock::Timestamp;

/// Sessions: opened, looked up by their token, listed, revoked.
#[async_trait]
pub trait Sessions: Send + Sync {
    /// Opens a session for somebody who has shown that an account is theirs, sets `last_login`, and uses up what counts
    /// once. Where the account has an authenticator app and the first factor is not a passkey, a second factor is asked
    /// for: without one, the first factor is used up and the challenge stored; with a wrong one, nothing happens but that
    /// the challenge that was presented stays. No session is opened in any other way, but by a registration.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn open_session(&self, request: SessionRequest, now: Timestamp) -> Result<SessionOutcome, RepositoryError>;

    /// The caller's session, where it is live and its account is active.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn find_session(&self, caller: &Caller) -> Result<Option<Session>, RepositoryError>;

    /// Whether there are tokens of other systems that may look otherwise than ours.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn has_imported_tokens(&self) -> Result<bool, RepositoryError>;

    /// Gives the token of another system that is stored under one of the `foreign` digests this one in its place: it is
    /// found by it from then on, as any other. `false` where there is none. Of two calls at once one does it, and both say
    /// so.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn adopt_token(&self, foreign: Vec<TokenDigest>, digest: TokenDigest) -> Result<bool, RepositoryError>;

    /// The caller's live sessions, newest first.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn list_sessions(&self, caller: &Caller) -> Result<Vec<SessionDetails>, RepositoryError>;

    /// Makes the caller's session [fresh](crate::domain::session::is_fresh) from `now` on. `false`, and no change, when
    /// what was shown is worth nothing (any more).
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn reauthenticate(
        &self,
        caller: &Caller,
        shown: Reauthentication,
        now: Timestamp,
    ) -> Result<bool, RepositoryError>;

    /// Whether the caller's session is [fresh](crate::domain::session::is_fresh).
    ///
    /// # Errors
    /// [`RepositoryError::NoSession`] when it is not live.
    async fn is_session_fresh(&self, caller: &Caller, now: Timestamp) -> Result<bool, RepositoryError>;

    /// Ends the caller's own session. Of two calls at once, one succeeds.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn revoke_own_session(&self, caller: &Caller, now: Timestamp) -> Result<(), RepositoryError>;

    /// Ends one of the caller's live sessions. `false` when the caller has none of this id.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn revoke_session(&self, caller: &Caller, id: SessionId, now: Timestamp) -> Result<bool, RepositoryError>;

    /// Ends all of the caller's sessions, its own too.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn revoke_all_sessions(&self, caller: &Caller, now: Timestamp) -> Result<(), RepositoryError>;

    /// Stores when sessions were last used. Sessions that have ended, or have a later use stored, are not changed.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn record_use(&self, uses: Vec<(TokenDigest, Timestamp)>) -> Result<(), RepositoryError>;
}
