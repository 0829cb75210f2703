//! Reauthenticating: whoever holds a token shows once more that the account is theirs.

use thiserror::Error;

use super::service::{ATTEMPTS, Accounts, Client};
use super::throttle::Throttled;
use crate::domain::event::EventKind;
use crate::domain::session::Caller;
use crate::domain::user::PasswordHash;
use crate::passwords::{PasswordError, PlainPassword};
use crate::repository::RepositoryError;

/// Why what needs the account's password was not done.
#[derive(Debug, Error)]
pub enum ReauthenticationError {
    /// The password is not the account's. The session is as good as before.
    #[error("the password is wrong")]
    WrongPassword,
    /// Too many passwords were wrong.
    #[error(transparent)]
    Throttled(#[from] Throttled),
    /// The password was not verified, or the new one not hashed.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// The store failed, or would not do it.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
}

impl Accounts {
    /// Does `work` for a caller who knows the account's password. It is given the hash that the password was verified
    /// against, and answers `false` where the account has another by then: so what is verified is verified anew.
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

    /// Verifies the caller's password; the hash that it was verified against. Whoever holds a token may not guess without
    /// end either.
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
