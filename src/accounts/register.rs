//! Registering: an account and its first session.

use thiserror::Error;

use super::service::{Accounts, Client, NewPassword};
use super::sign_in::{OpenedSession, Opening, Verified};
use super::throttle::Admission;
use super::throttle::limits::Call;
use super::throttle::mail_limits::Asker;
use crate::domain::email::EmailAddress;
use crate::domain::field::InvalidField;
use crate::domain::profile::Profile;
use crate::domain::token::PlainToken;
use crate::domain::user::{NewUser, Username};
use crate::passwords::PasswordError;
use crate::repository::{NewEmailChange, RepositoryError, UniqueField};

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
    /// Mail is sent, and none can be sent to the address; or the name is another address.
    #[error(transparent)]
    Invalid(#[from] InvalidField),
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
        let confirmation = self.confirmation_of(&profile)?;
        let email = confirmation.as_ref().map(|confirmation| &confirmation.email);
        self.check_name(&username, email)?;
        admission.confirm(Call::Register);
        // Saves the hash for a name that is taken. The store alone decides who is first.
        if self.repository.find_credentials(&username).await?.is_some() {
            return Err(RegisterError::Taken);
        }
        let password_hash = self.passwords.hash(password.0, client.gone()).await?;
        let (name, has_confirmation) = (username.clone(), confirmation.is_some());
        let user = NewUser { username, password_hash, profile };
        let opened = self.open_session(Verified::Registration(Box::new(user), confirmation), client).await?;
        self.send_mails_of_registration(&name, has_confirmation, client);
        match opened {
            Opening::Session(opened) => Ok(opened),
            _ => Err(RegisterError::Taken),
        }
    }

    /// Has the mails sent that a new account's registration has put in the outbox.
    pub(super) fn send_mails_of_registration(&self, username: &Username, has_confirmation: bool, client: &impl Client) {
        let Some(policy) = &self.mail else { return };
        if has_confirmation {
            // Whoever asks again at once is told to wait, and the code that is on its way stays good.
            let _ = self.throttle.admit_own_mail(&policy.limits, username, Asker::OwnAddress, client.ip());
        }
        policy.requests.wake();
    }

    /// Refuses, where mail is sent, a name that is an address other than the one that is given: a name wins in a login,
    /// so the owner of the address could no longer log in by it. Whether there is such an owner does not matter.
    pub(super) fn check_name(&self, username: &Username, email: Option<&EmailAddress>) -> Result<(), InvalidField> {
        let address = EmailAddress::parse(username.as_str()).ok().filter(|_| self.mail.is_some());
        if address.is_none_or(|address| email.map(EmailAddress::key) == Some(address.key())) {
            return Ok(());
        }
        Err(InvalidField { field: "username", rule: "must be no e-mail address but the one given in email".to_owned() })
    }

    /// Where mail is sent, the confirmation of the address that was given. Nobody is given its request id: the code
    /// counts in a session of the account.
    pub(super) fn confirmation_of(&self, profile: &Profile) -> Result<Option<NewEmailChange>, InvalidField> {
        if self.mail.is_none() || profile.email.is_empty() {
            return Ok(None);
        }
        let email = EmailAddress::parse(&profile.email)?;
        Ok(Some(NewEmailChange { email, request: PlainToken::generate().digest(), link: None }))
    }
}
