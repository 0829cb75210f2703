//! Giving the second factor of a login whose first was right.

use thiserror::Error;

use super::given::{GivenFactor, SealingError};
use crate::accounts::kept_identity::{read_for_link, read_methods};
use crate::accounts::service::{Accounts, Client};
use crate::accounts::sign_in::{OpenedSession, Opening, Verified};
use crate::accounts::throttle::limits::Call;
use crate::accounts::throttle::{Admission, Begun, NotBegun, Throttled};
use crate::domain::event::EventKind;
use crate::domain::token::PlainToken;
use crate::repository::{FirstFactor, RepositoryError};

/// Why a second factor opened no session.
#[derive(Debug, Error)]
pub enum SecondFactorError {
    /// It is wrong or was used before, or the login is over: which of these is not told.
    #[error("the code is wrong, or the login has expired")]
    Refused,
    /// Too many attempts at the account have failed.
    #[error(transparent)]
    Throttled(#[from] Throttled),
    /// The stored secret cannot be opened.
    #[error(transparent)]
    Sealing(#[from] SealingError),
    /// The store failed.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
}

impl From<NotBegun> for SecondFactorError {
    fn from(error: NotBegun) -> Self {
        match error {
            NotBegun::Throttled(error) => Self::Throttled(error),
            NotBegun::Repository(error) => Self::Repository(error),
        }
    }
}

impl Accounts {
    /// Opens the session of a login that lacks its second factor.
    ///
    /// # Errors
    /// See [`SecondFactorError`].
    pub async fn give_second_factor(
        &self,
        admission: Admission<'_>,
        token: &PlainToken,
        given: GivenFactor,
        client: &impl Client,
    ) -> Result<OpenedSession, SecondFactorError> {
        admission.confirm(Call::LogIn);
        let begun = Begun::now();
        let (digest, now) = (token.digest(), self.clock.now());
        let username = self.repository.find_factor_owner(digest, now).await?.ok_or(SecondFactorError::Refused)?;
        self.merge_failures(&username).await?;
        // What is throttled here is no try: no code is looked at.
        let attempt = self.throttle.begin_login(&username, client.ip(), begun).await?;
        // Before the code is looked at: of many at once, five are.
        let pending = self.repository.begin_factor_try(digest, now).await?.ok_or(SecondFactorError::Refused)?;
        if let Some((second, replacement)) =
            self.read_second_factor(pending.user_id, pending.totp_secret, &given).await?
        {
            let linking = read_for_link(pending.user_id, &pending.state).map(Box::new);
            let first = FirstFactor::Challenge(digest, linking);
            match self.open_session(Verified::SecondStep(first, second, read_methods(&pending.state)), client).await? {
                Opening::Session(opened) => {
                    attempt.succeeded();
                    return Ok(OpenedSession { recovery_code: replacement, ..opened });
                }
                // Somebody else has finished it, or the account's app is gone.
                Opening::Refused
                | Opening::IdentityRefused
                | Opening::EmailNotVerified
                | Opening::SecondFactorDue(_) => {
                    return Err(SecondFactorError::Refused);
                }
                Opening::SecondFactorRefused(_) => {}
            }
        }
        let (kind, username) = (EventKind::SecondFactorFailed, pending.username);
        self.throttle.fail(attempt, kind, Some(username), client.ip()).await;
        Err(SecondFactorError::Refused)
    }
}
