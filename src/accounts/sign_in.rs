//! Signing in: verifies a password and opens a session.

use thiserror::Error;

use super::service::{ATTEMPTS, Accounts, Client};
use super::throttle::limits::Call;
use super::throttle::{Admission, NotBegun, Throttled};
use crate::domain::event::EventKind;
use crate::domain::session::NewSession;
use crate::domain::token::PlainToken;
use crate::domain::user::{NewUser, User, Username};
use crate::passwords::{PasswordError, PlainPassword};
use crate::repository::{RepositoryError, VerifiedLogin};

/// A name and a password, of which nothing is verified yet.
#[expect(missing_docs, reason = "the names say it")]
pub struct SignIn {
    pub username: Username,
    pub password: PlainPassword,
}

/// How somebody has proved that an account is theirs.
pub enum Verified {
    /// They have just registered it.
    Registration(NewUser),
    /// They know its password.
    Password(VerifiedLogin),
}

/// A session that has just been opened. Only here is its token known.
#[expect(missing_docs, reason = "the names say it")]
pub struct OpenedSession {
    pub token: PlainToken,
    pub user: User,
}

/// Why there is no new session.
#[derive(Debug, Error)]
pub enum SignInError {
    /// The name and the password open no active account. Which of the two is wrong is not told.
    #[error("the username or the password is wrong")]
    Refused,
    /// Too many attempts at the account have failed.
    #[error(transparent)]
    Throttled(#[from] Throttled),
    /// The password was not verified.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// The store failed.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
}

impl From<NotBegun> for SignInError {
    fn from(error: NotBegun) -> Self {
        match error {
            NotBegun::Throttled(error) => Self::Throttled(error),
            NotBegun::Repository(error) => Self::Repository(error),
        }
    }
}

impl Accounts {
    /// Verifies a password and opens a session.
    ///
    /// # Errors
    /// See [`SignInError`].
    pub async fn sign_in(
        &self,
        admission: Admission<'_>,
        SignIn { username, password }: SignIn,
        client: &impl Client,
    ) -> Result<OpenedSession, SignInError> {
        admission.confirm(Call::LogIn);
        let attempt = self.throttle.begin_login(&username, client.ip()).await?;
        for _ in 0..ATTEMPTS {
            // An inactive account is treated like one that does not exist, from here to the last byte of the answer.
            let found = self.repository.find_credentials(&username).await?;
            let credentials = found.filter(|credentials| credentials.is_active);
            let verification = self.passwords.verify(password.clone(), credentials.as_ref(), client.gone()).await?;
            let Some(credentials) = credentials.filter(|_| verification.matches) else { break };

            let verified = Verified::Password(VerifiedLogin {
                user_id: credentials.user_id,
                verified_against: credentials.password_hash,
                rehashed: verification.rehashed,
            });
            if let Some(opened) = self.open_session(verified, client).await? {
                attempt.succeeded();
                return Ok(opened);
            }
        }
        self.throttle.fail(attempt, EventKind::LoginFailed, username, client.ip());
        Err(SignInError::Refused)
    }

    /// Opens a session for somebody who has proved that the account is theirs. Nothing else opens one. `None` where the
    /// account is gone, inactive, or has another password hash by now.
    pub(super) async fn open_session(
        &self,
        verified: Verified,
        client: &impl Client,
    ) -> Result<Option<OpenedSession>, RepositoryError> {
        let token = PlainToken::generate();
        let session = NewSession { digest: token.digest(), user_agent: client.user_agent().clone(), ip: client.ip() };
        let now = self.clock.now();
        let user = match verified {
            Verified::Registration(user) => Some(self.repository.register_user(user, session, None, now).await?),
            Verified::Password(login) => {
                self.repository.open_session(login, session, self.session_policy.max_per_user, now).await?
            }
        };
        Ok(user.map(|user| OpenedSession { token, user }))
    }
}
