//! The caller's sessions: found, noted in use, ended.

use thiserror::Error;

use super::service::Accounts;
use crate::domain::session::{Caller, Session, SessionId};
use crate::domain::token::PresentedToken;
use crate::repository::RepositoryError;

/// Why a session was not found or not ended.
#[derive(Debug, Error)]
pub enum SessionError {
    /// The caller has no such session.
    #[error("there is no such session")]
    NotFound,
    /// The store failed, or the caller's own session is over.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
}

impl Accounts {
    /// Finds the caller's session, and notes that it is in use.
    ///
    /// # Errors
    /// [`RepositoryError::NoSession`] where it is over, or never was.
    pub async fn authenticate(&self, token: &PresentedToken, caller: &Caller) -> Result<Session, RepositoryError> {
        let find = async || self.repository.find_session(caller).await?.ok_or(RepositoryError::NoSession);
        let session = self.look_up(token, caller, find).await?;
        self.note_use(caller, &session);
        Ok(session)
    }

    /// Looks the caller up by the token that was presented, and once more where it is another system's and its digest had
    /// to be made one of ours first. Where no such tokens were imported, one of another form is not looked for.
    ///
    /// # Errors
    /// Those of `find`; [`RepositoryError::NoSession`] where nothing was looked for.
    pub async fn look_up<T>(
        &self,
        token: &PresentedToken,
        caller: &Caller,
        find: impl AsyncFn() -> Result<T, RepositoryError>,
    ) -> Result<T, RepositoryError> {
        if matches!(token, PresentedToken::Other(_)) && !self.repository.has_imported_tokens().await? {
            return Err(RepositoryError::NoSession);
        }
        let found = find().await;
        if !matches!(found, Err(RepositoryError::NoSession)) {
            return found;
        }
        if self.repository.adopt_token(token.foreign_digests(), caller.digest).await? { find().await } else { found }
    }

    /// Notes that the caller's session is in use.
    pub fn note_use(&self, caller: &Caller, session: &Session) {
        self.last_used.note(caller.digest, session, self.clock.now());
    }

    /// Ends the caller's own session, for good.
    ///
    /// # Errors
    /// [`RepositoryError::NoSession`] where it has ended already.
    pub async fn sign_out(&self, caller: &Caller) -> Result<(), RepositoryError> {
        self.repository.revoke_own_session(caller, self.clock.now()).await
    }

    /// Ends all of the caller's sessions, this one too.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    pub async fn sign_out_everywhere(&self, caller: &Caller) -> Result<(), RepositoryError> {
        self.repository.revoke_all_sessions(caller, self.clock.now()).await
    }

    /// Ends one of the caller's sessions.
    ///
    /// # Errors
    /// [`SessionError::NotFound`] where the caller has none with this id.
    pub async fn revoke_session(&self, caller: &Caller, id: SessionId) -> Result<(), SessionError> {
        let is_ended = self.repository.revoke_session(caller, id, self.clock.now()).await?;
        if is_ended { Ok(()) } else { Err(SessionError::NotFound) }
    }
}
