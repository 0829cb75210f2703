//! Reauthenticating: the holder of a token gives the account's password again, before a change that a stolen token must
//! not make. The password comes with the change, or before it in a call of its own, which makes the session fresh for
//! ten minutes.

use thiserror::Error;

use super::mail_proof::MailProofError;
use super::service::{ATTEMPTS, Accounts, Client};
use super::throttle::limits::{Call, Origin};
use super::throttle::{Admission, Throttled};
use crate::domain::event::EventKind;
use crate::domain::one_time::Code;
use crate::domain::session::Caller;
use crate::domain::token::PlainToken;
use crate::domain::user::PasswordHash;
use crate::passwords::{PasswordError, PlainPassword};
use crate::repository::{Proof, Reauthentication, RepositoryError};

/// Why a change that needs the account's password was not made.
#[derive(Debug, Error)]
pub enum ReauthenticationError {
    /// The password is not the account's. The session stays live.
    #[error("the password is wrong")]
    WrongPassword,
    /// No password was given, and the session is not fresh.
    #[error("the session is not fresh")]
    NotFresh,
    /// Too many attempts at the account have failed.
    #[error(transparent)]
    Throttled(#[from] Throttled),
    /// The password was not verified, or the new one not hashed.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// The store failed, or refused the change.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
}

impl Accounts {
    /// Makes the caller's session fresh.
    ///
    /// # Errors
    /// See [`ReauthenticationError`].
    pub async fn reauthenticate(
        &self,
        admission: Admission<'_>,
        caller: &Caller,
        password: PlainPassword,
        client: &impl Client,
    ) -> Result<(), ReauthenticationError> {
        admission.confirm(Call::LogIn);
        let reauthenticate = async |verified_against| {
            let shown = Reauthentication::Password(verified_against);
            Ok(self.repository.reauthenticate(caller, shown, self.clock.now()).await?)
        };
        self.with_password(caller, password, client, reauthenticate).await
    }

    /// The same by a code that was mailed for it.
    ///
    /// # Errors
    /// See [`MailProofError`].
    pub async fn reauthenticate_by_code(
        &self,
        admission: Admission<'_>,
        caller: &Caller,
        (request, code): (PlainToken, Code),
        client: &impl Client,
    ) -> Result<(), MailProofError> {
        admission.confirm(Call::LogIn);
        let (mac, now) = (code.mac(&request), self.clock.now());
        let tried = self.repository.reauthenticate_by_code(caller, request.digest(), mac, now).await?;
        let username = self.outcome_of(tried, Origin::Session, client)?;
        Ok(self.clear_failures_after_one_factor(&username).await?)
    }

    /// Refuses a caller whose session is not fresh. A change without a password begins with it, before the request is
    /// looked at further; the store checks again in the transaction of the change.
    ///
    /// # Errors
    /// See [`ReauthenticationError`].
    pub async fn require_fresh_session(&self, caller: &Caller) -> Result<(), ReauthenticationError> {
        let is_fresh = self.repository.is_session_fresh(caller, self.clock.now()).await?;
        if is_fresh { Ok(()) } else { Err(ReauthenticationError::NotFresh) }
    }

    /// Does `work` for the account's owner: a caller who knows its password, or, where none is given, one whose session
    /// is fresh. `work` answers `false` where the proof no longer holds.
    pub(super) async fn as_owner(
        &self,
        caller: &Caller,
        password: Option<PlainPassword>,
        client: &impl Client,
        work: impl AsyncFn(Proof) -> Result<bool, ReauthenticationError>,
    ) -> Result<(), ReauthenticationError> {
        if let Some(password) = password {
            let work = async |verified_against| work(Proof::Password(verified_against)).await;
            return self.with_password(caller, password, client, work).await;
        }
        if work(Proof::FreshSession).await? { Ok(()) } else { Err(ReauthenticationError::NotFresh) }
    }

    /// Does `work` for a caller who knows the account's password. `work` is given the hash that the password was
    /// verified against. It answers `false` where the account has another hash by then; the password is then verified
    /// once more.
    async fn with_password(
        &self,
        caller: &Caller,
        password: PlainPassword,
        client: &impl Client,
        work: impl AsyncFn(PasswordHash) -> Result<bool, ReauthenticationError>,
    ) -> Result<(), ReauthenticationError> {
        for _ in 0..ATTEMPTS {
            let verified_against = self.verify_own_password(caller, &password, client).await?;
            if work(verified_against).await? {
                return Ok(());
            }
        }
        Err(ReauthenticationError::WrongPassword)
    }

    /// Verifies the caller's password, and returns the hash that it was verified against. Guesses with a live token are
    /// throttled too.
    async fn verify_own_password(
        &self,
        caller: &Caller,
        password: &PlainPassword,
        client: &impl Client,
    ) -> Result<PasswordHash, ReauthenticationError> {
        let credentials = self.repository.find_own_credentials(caller).await?;
        let attempt = self.throttle.begin_reauthentication(&credentials.username, client.ip())?;
        let hardest = self.repository.hardest_imported_hash().await?;
        let verification = self.passwords.verify(password.clone(), Some(&credentials), hardest, client.gone()).await?;
        if verification.matches {
            if !self.has_second_factor(credentials.user_id).await? {
                attempt.succeeded();
            }
            return Ok(credentials.password_hash);
        }
        let kind = EventKind::ReauthenticationFailed;
        self.throttle.fail(attempt, kind, Some(credentials.username), client.ip()).await;
        Err(ReauthenticationError::WrongPassword)
    }
}
