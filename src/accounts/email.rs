//! The caller's address: shown, changed, and shown to be the account's.
//!
//! An address is changed by a session that is fresh, or with the password. The account keeps its address until the new
//! one is confirmed by the code or the link that is mailed to it, so a typing error locks nobody out. No answer tells
//! whether another account has the address: its owner is told by mail.

use std::cell::Cell;

use thiserror::Error;

use super::reauthenticate::ReauthenticationError;
use super::service::{Accounts, Client, MailPolicy};
use super::throttle::Admission;
use super::throttle::limits::{Call, Origin};
use super::throttle::mail_limits::Asker;
use crate::domain::email::EmailAddress;
use crate::domain::one_time::Code;
use crate::domain::session::Caller;
use crate::domain::token::PlainToken;
use crate::domain::user::User;
use crate::passwords::PlainPassword;
use crate::repository::{Confirmed, EmailState, NewEmailChange, RepositoryError};

/// A request for another address.
#[expect(missing_docs, reason = "the names say it")]
pub struct EmailChange {
    pub email: EmailAddress,
    /// Without it, the session must be fresh.
    pub password: Option<PlainPassword>,
    pub link: Option<String>,
}

/// Why an address was not confirmed.
#[derive(Debug, Error)]
pub enum ConfirmError {
    /// What was presented is worth nothing, or no more.
    #[error("the code or the link is wrong, was used, or has expired")]
    Refused,
    /// Another account has verified the address meanwhile.
    #[error("another account has verified the address")]
    Taken,
    /// The store failed.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
}

impl Accounts {
    /// The caller's address.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    pub async fn find_email(&self, caller: &Caller) -> Result<EmailState, RepositoryError> {
        self.repository.find_email(caller, self.clock.now()).await
    }

    /// Asks for a confirmation of the address that the caller's account is to have. Returns the request id.
    ///
    /// # Errors
    /// See [`ReauthenticationError`].
    pub async fn change_email(
        &self,
        policy: &MailPolicy,
        admission: Admission<'_>,
        caller: &Caller,
        EmailChange { email, password, link }: EmailChange,
        client: &impl Client,
    ) -> Result<PlainToken, ReauthenticationError> {
        admission.confirm(Call::LogIn);
        let username = self.repository.find_own_credentials(caller).await?.username;
        let id = PlainToken::generate();
        let change = NewEmailChange { email, request: id.digest(), link };
        // Counted once the password is right, and once although it may be verified twice.
        let is_counted = Cell::new(false);
        let request = async |proof| {
            if !is_counted.replace(true) {
                self.throttle.admit_own_mail(&policy.limits, &username, Asker::OwnAddress, client.ip())?;
            }
            Ok(self.repository.request_email_change(caller, proof, change.clone(), self.clock.now()).await?)
        };
        self.as_owner(caller, password, client, request).await?;
        policy.requests.wake();
        Ok(id)
    }

    /// Withdraws the caller's change of the address, where there is one.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    pub async fn withdraw_email_change(&self, caller: &Caller) -> Result<(), RepositoryError> {
        self.repository.withdraw_email_change(caller, self.clock.now()).await.map(drop)
    }

    /// Confirms the caller's pending address by the code of its mail. `request` is checked where it is given.
    ///
    /// # Errors
    /// See [`ConfirmError`].
    pub async fn confirm_own_email(
        &self,
        policy: &MailPolicy,
        admission: Admission<'_>,
        caller: &Caller,
        request: Option<PlainToken>,
        code: Code,
        client: &impl Client,
    ) -> Result<User, ConfirmError> {
        admission.confirm(Call::LogIn);
        let request = request.map(|request| request.digest());
        let confirmed = self.repository.confirm_email_by_code(caller, request, code, self.clock.now()).await?;
        self.confirmed(policy, confirmed, Origin::Session, client).await
    }

    /// Confirms an address by the link of its mail.
    ///
    /// # Errors
    /// See [`ConfirmError`].
    pub async fn confirm_email(
        &self,
        policy: &MailPolicy,
        admission: Admission<'_>,
        token: &PlainToken,
        client: &impl Client,
    ) -> Result<User, ConfirmError> {
        admission.confirm(Call::LogIn);
        let now = self.clock.now();
        let confirmed = self.repository.confirm_email_by_link(token.digest(), client.ip(), now).await?;
        self.confirmed(policy, confirmed, Origin::Anywhere(client.ip()), client).await
    }

    async fn confirmed(
        &self,
        policy: &MailPolicy,
        confirmed: Confirmed,
        origin: Origin,
        client: &impl Client,
    ) -> Result<User, ConfirmError> {
        match confirmed {
            Confirmed::Done(user) => {
                self.clear_failures_after_one_factor(&user.username).await?;
                // The former address may have a notice.
                policy.requests.wake();
                Ok(*user)
            }
            Confirmed::Refused(of) => {
                if let Some(username) = of {
                    self.throttle.note_wrong_code(username, origin, client.ip());
                }
                Err(ConfirmError::Refused)
            }
            Confirmed::Taken => Err(ConfirmError::Taken),
        }
    }
}
