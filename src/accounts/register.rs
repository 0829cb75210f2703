//! Registering: an account and its first session.

use thiserror::Error;

use super::service::{Accounts, Client, NewPassword};
use super::sign_in::{OpenedSession, Verified};
use super::throttle::Admission;
use super::throttle::limits::Call;
use crate::domain::profile::Profile;
use crate::domain::user::{NewUser, Username};
use crate::passwords::PasswordError;
use crate::repository::{RepositoryError, UniqueField};

/// A request for an account.
#[expect(missing_docs, reason = "the names say it")]
pub struct Registration {
    pub username: Username,
    pub password: NewPassword,
    pub profile: Profile,
}

/// Why there is no new account.
#[derive(Debug, Error)]
pub enum RegisterError {
    /// Another account has the name.
    #[error("the username is taken")]
    Taken,
    /// The password was not hashed.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// The store failed.
    #[error(transparent)]
    Repository(RepositoryError),
}

impl From<RepositoryError> for RegisterError {
    fn from(error: RepositoryError) -> Self {
        match error {
            RepositoryError::Conflict(UniqueField::Username) => Self::Taken,
            other => Self::Repository(other),
        }
    }
}

impl Accounts {
    /// Makes an account and opens its first session.
    ///
    /// # Errors
    /// See [`RegisterError`].
    pub async fn register(
        &self,
        admission: Admission<'_>,
        registration: Registration,
        client: &impl Client,
    ) -> Result<OpenedSession, RegisterError> {
        let Registration { username, password, profile } = registration;
        admission.confirm(Call::Register);
        // Saves the hash for a name that is taken. The store alone decides who is first.
        if self.repository.find_credentials(&username).await?.is_some() {
            return Err(RegisterError::Taken);
        }
        let password_hash = self.passwords.hash(password.0, client.gone()).await?;
        let user = NewUser { username, password_hash, profile };
        self.open_session(Verified::Registration(user), client).await?.ok_or(RegisterError::Taken)
    }
}
