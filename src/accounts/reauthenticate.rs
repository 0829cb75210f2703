//! Reauthenticating: the holder of a token gives the account's password again, before a change that a stolen token must
//! not make.

use thiserror::Error;

use super::service::{ATTEMPTS, Accounts, Client};
use super::throttle::Throttled;
use crate::domain::event::EventKind;
use crate::domain::session::Caller;
use crate::domain::user::PasswordHash;
use crate::passwords::{PasswordError, PlainPassword};
use crate::repository::RepositoryError;

/// Why a change that needs the account's password was not made.
#[derive(Debug, Error)]
pub enum ReauthenticationError {
    /// The password is not the account's. The session stays live.
    #[error("the password is wrong")]
    WrongPassword,
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
    /// Does `work` for a caller who knows the account's password. `work` is given the hash that the password was
    /// verified against. It answers `false` where the account has another hash by then; the password is then verified
    /// once more.
    pub(super) async fn reauthenticated(
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
        let verification = self.passwords.verify(password.clone(), Some(&credentials), client.gone()).await?;
        if verification.matches {
            attempt.succeeded();
            return Ok(credentials.password_hash);
        }
        self.throttle.fail(attempt, EventKind::ReauthenticationFailed, credentials.username, client.ip());
        Err(ReauthenticationError::WrongPassword)
    }
}
