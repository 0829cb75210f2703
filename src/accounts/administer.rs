//! Administering: what staff and the operator do to accounts that are not theirs.
//!
//! Who may do what is decided by the store, in the transaction that does it. The checks here come earlier for two
//! reasons: a refused change costs no hash, and a caller without rights does not learn which accounts exist.

use thiserror::Error;

use super::mail_requests::{MailRequest, QueueFull, Requested};
use super::prepare_mail::Offer;
use super::service::{Accounts, Client, MailPolicy, NewPassword};
use super::throttle::Throttled;
use super::throttle::limits::Call;
use crate::domain::event::{Event, EventCursor, EventQuery};
use crate::domain::mail::Mail;
use crate::domain::one_time::Purpose;
use crate::domain::rights::{AccountChange, AccountCursor, Actor, Permission, Rights, UserQuery};
use crate::domain::service::{ServiceDetails, ServiceName};
use crate::domain::session::{SessionCutoffs, SessionDetails, SessionId};
use crate::domain::token::PlainToken;
use crate::domain::user::{NewUser, User, Username};
use crate::passwords::PasswordError;
use crate::repository::{
    EmailVerification, Page, Recipient, Repository, RepositoryError, SecurityState, ServiceAdded, UniqueField, Whom,
};
use crate::system::clock::Clock;

/// Why nothing was done to an account.
#[derive(Debug, Error)]
pub enum AdministerError {
    /// No account has this name.
    #[error("there is no such account")]
    NoAccount,
    /// The account has no session with this id.
    #[error("the account has no such session")]
    NoSession,
    /// Another account has the name.
    #[error("the username is taken")]
    Taken,
    /// It would leave no active superuser.
    #[error("it is the last superuser")]
    LastSuperuser,
    /// The account has no address that mail can be sent to.
    #[error("the account has no address that mail can be sent to")]
    NoAddress,
    /// Another account has verified the address.
    #[error("another account has verified the address")]
    EmailTaken,
    /// Where mail is sent, its owner sets the password, by means of a mail.
    #[error("passwords are set by their owners, by means of a mail")]
    SetsNoPasswords,
    /// Too many mails wait.
    #[error(transparent)]
    Full(#[from] QueueFull),
    /// Too many passwords came from this address.
    #[error(transparent)]
    Throttled(#[from] Throttled),
    /// The new password was not hashed.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// The store failed, or refused the actor.
    #[error(transparent)]
    Repository(RepositoryError),
}

impl From<RepositoryError> for AdministerError {
    fn from(error: RepositoryError) -> Self {
        match error {
            RepositoryError::Conflict(UniqueField::Username) => Self::Taken,
            RepositoryError::LastSuperuser => Self::LastSuperuser,
            other => Self::Repository(other),
        }
    }
}

/// Why a service was not added.
#[derive(Debug, Error)]
pub enum AddServiceError {
    /// There is one of this name.
    #[error("the name is taken")]
    Taken,
    /// There are as many as there may be.
    #[error("there are as many services as there may be")]
    Full,
    /// The store failed, or refused the actor.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
}

/// Which of an account's sessions are to end.
pub enum Ended {
    /// This one.
    One(SessionId),
    /// All of them.
    All,
}

/// What a request changes about an account. The new password is not hashed yet.
#[derive(Default)]
#[expect(missing_docs, reason = "the names say it")]
pub struct RequestedChange {
    pub is_active: Option<bool>,
    pub is_staff: Option<bool>,
    pub is_superuser: Option<bool>,
    pub password: Option<NewPassword>,
}

/// What an actor does to accounts.
pub struct Administration<'a> {
    repository: &'a dyn Repository,
    clock: &'a Clock,
    actor: Actor,
}

impl<'a> Administration<'a> {
    /// On behalf of an actor.
    #[must_use]
    pub fn new(repository: &'a dyn Repository, clock: &'a Clock, actor: Actor) -> Self {
        Self { repository, clock, actor }
    }

    /// Checks that the actor has this permission on the account, or on any account where none is named. Tells whether
    /// the account exists.
    ///
    /// # Errors
    /// [`RepositoryError::Forbidden`] where the actor has not.
    pub async fn authorize(
        &self,
        permission: Permission,
        username: Option<&Username>,
    ) -> Result<bool, RepositoryError> {
        self.repository.check_rights(&self.actor, permission, username).await
    }

    /// Adds a service that may ask whose a token is. Its key is known only here.
    ///
    /// # Errors
    /// See [`AddServiceError`].
    pub async fn add_service(&self, name: ServiceName) -> Result<PlainToken, AddServiceError> {
        let key = PlainToken::generate();
        match self.repository.add_service(&self.actor, name, key.digest(), self.clock.now()).await? {
            ServiceAdded::Done => Ok(key),
            ServiceAdded::Taken => Err(AddServiceError::Taken),
            ServiceAdded::Full => Err(AddServiceError::Full),
        }
    }

    /// Revokes a service; `false` where there is none of this name.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    pub async fn revoke_service(&self, name: ServiceName) -> Result<bool, RepositoryError> {
        self.repository.revoke_service(&self.actor, name, self.clock.now()).await
    }

    /// Lists the services in the order of their names.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    pub async fn list_services(&self) -> Result<Vec<ServiceDetails>, RepositoryError> {
        self.repository.list_services(&self.actor).await
    }

    /// Lists accounts in the order of their names.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    pub async fn list_accounts(&self, query: UserQuery) -> Result<Page<User, AccountCursor>, RepositoryError> {
        self.repository.list_accounts(&self.actor, query).await
    }

    /// Finds an account.
    ///
    /// # Errors
    /// See [`AdministerError`].
    pub async fn find_account(&self, username: &Username) -> Result<User, AdministerError> {
        self.repository.find_account(&self.actor, username).await?.ok_or(AdministerError::NoAccount)
    }

    /// Creates an account, without a session: the operator's way to the first one with rights.
    ///
    /// # Errors
    /// [`RepositoryError::Forbidden`] for any other actor.
    pub async fn create_account(&self, user: NewUser, rights: Rights) -> Result<User, AdministerError> {
        if !self.actor.is_operator() {
            return Err(RepositoryError::Forbidden.into());
        }
        Ok(self.repository.create_account(user, rights, self.clock.now()).await?)
    }

    /// Changes an account, whole or not at all. The new password is hashed already: a client's goes through
    /// [`Accounts::change_account`], which counts it first.
    ///
    /// # Errors
    /// See [`AdministerError`].
    pub async fn apply_change(&self, username: &Username, change: AccountChange) -> Result<User, AdministerError> {
        let changed = self.repository.change_account(&self.actor, username, change, self.clock.now()).await?;
        changed.ok_or(AdministerError::NoAccount)
    }

    /// Deletes an account with its lists and its sessions.
    ///
    /// # Errors
    /// See [`AdministerError`].
    pub async fn delete_account(&self, username: &Username) -> Result<(), AdministerError> {
        let is_deleted = self.repository.delete_account(&self.actor, username, self.clock.now()).await?;
        if is_deleted { Ok(()) } else { Err(AdministerError::NoAccount) }
    }

    /// Lists an account's live sessions, newest first.
    ///
    /// # Errors
    /// See [`AdministerError`].
    pub async fn list_sessions(
        &self,
        username: &Username,
        cutoffs: SessionCutoffs,
    ) -> Result<Vec<SessionDetails>, AdministerError> {
        let sessions = self.repository.list_account_sessions(&self.actor, username, cutoffs).await?;
        sessions.ok_or(AdministerError::NoAccount)
    }

    /// Ends one of an account's sessions, or all of them. Returns how many ended.
    ///
    /// # Errors
    /// See [`AdministerError`].
    pub async fn revoke_sessions(
        &self,
        username: &Username,
        which: Ended,
        cutoffs: SessionCutoffs,
    ) -> Result<usize, AdministerError> {
        let id = match which {
            Ended::One(id) => Some(id),
            Ended::All => None,
        };
        let is_one = id.is_some();
        let now = self.clock.now();
        let ended = self.repository.revoke_account_sessions(&self.actor, username, id, cutoffs, now).await?;
        match ended.ok_or(AdministerError::NoAccount)? {
            0 if is_one => Err(AdministerError::NoSession),
            count => Ok(count),
        }
    }

    /// Counts an account's address as verified, on the actor's word.
    ///
    /// # Errors
    /// See [`AdministerError`].
    pub async fn verify_email(&self, username: &Username) -> Result<User, AdministerError> {
        let outcome = self.repository.verify_account_email(&self.actor, username, self.clock.now()).await?;
        match outcome.ok_or(AdministerError::NoAccount)? {
            EmailVerification::Verified => self.find_account(username).await,
            EmailVerification::NoAddress => Err(AdministerError::NoAddress),
            EmailVerification::Taken => Err(AdministerError::EmailTaken),
        }
    }

    /// Finds how an account can be got into.
    ///
    /// # Errors
    /// See [`AdministerError`].
    pub async fn find_security(&self, username: &Username) -> Result<SecurityState, AdministerError> {
        let found = self.repository.find_account_security(&self.actor, username).await?;
        found.ok_or(AdministerError::NoAccount)
    }

    /// Removes an account's authenticator app, its recovery codes and its passkeys, for an owner who has lost them. The
    /// password, the identities and the sessions stay.
    ///
    /// # Errors
    /// See [`AdministerError`].
    pub async fn reset_factors(&self, username: &Username) -> Result<(), AdministerError> {
        let is_reset = self.repository.reset_factors(&self.actor, username, self.clock.now()).await?;
        if is_reset { Ok(()) } else { Err(AdministerError::NoAccount) }
    }

    /// Finds where a mail that resets the account's password would go.
    async fn find_reset_recipient(&self, username: &Username) -> Result<Recipient, AdministerError> {
        if !self.authorize(Permission::ManageAccount, Some(username)).await? {
            return Err(AdministerError::NoAccount);
        }
        let recipient = self.repository.find_recipient(&Whom::Username(username.clone()), self.actor.ip()).await?;
        recipient.ok_or(AdministerError::NoAddress)
    }

    /// Makes the mail that resets an account's password, for the operator, who sends it at once. It has a link alone.
    ///
    /// # Errors
    /// See [`AdministerError`].
    pub async fn prepare_reset(&self, username: &Username) -> Result<Mail, AdministerError> {
        let recipient = self.find_reset_recipient(username).await?;
        // A stranger's later request must not end it.
        let recipient = Recipient { is_familiar: true, ..recipient };
        let offer = Offer { purpose: Purpose::ResetPassword, recipient, request: None, link: None };
        offer.make(self.repository, self.clock, self.actor.ip()).await?.ok_or(AdministerError::NoAccount)
    }

    /// Lists events, newest first.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    pub async fn list_events(&self, query: EventQuery) -> Result<Page<Event, EventCursor>, RepositoryError> {
        self.repository.list_events(&self.actor, query).await
    }
}

impl Accounts {
    /// What an actor does to accounts.
    #[must_use]
    pub fn administration(&self, actor: Actor) -> Administration<'_> {
        Administration::new(self.repository.as_ref(), &self.clock, actor)
    }

    /// Changes an account for a client. A new password is hashed here, and counts as a login of the client's address.
    ///
    /// # Errors
    /// See [`AdministerError`].
    pub async fn change_account(
        &self,
        actor: Actor,
        username: &Username,
        requested: RequestedChange,
        client: &impl Client,
    ) -> Result<User, AdministerError> {
        let RequestedChange { is_active, is_staff, is_superuser, password } = requested;
        let mut change = AccountChange { is_active, is_staff, is_superuser, password_hash: None };
        let is_reset = password.is_some();
        if is_reset && self.mail.as_ref().is_some_and(|policy| !policy.staff_set_passwords) {
            return Err(AdministerError::SetsNoPasswords);
        }
        if let Some(password) = password {
            self.throttle.admit(Call::LogIn, client.ip())?.confirm(Call::LogIn);
            change.password_hash = Some(self.passwords.hash(password.0, client.gone()).await?);
        }
        let changed = self.administration(actor).apply_change(username, change).await;
        if is_reset && changed.is_ok() {
            self.throttle.clear_failures(username);
        }
        changed
    }

    /// Has a mail sent to an account's address that resets its password. The actor learns nothing that opens it.
    ///
    /// # Errors
    /// See [`AdministerError`].
    pub async fn send_reset(
        &self,
        policy: &MailPolicy,
        actor: Actor,
        username: &Username,
        client: &impl Client,
    ) -> Result<(), AdministerError> {
        self.administration(actor).find_reset_recipient(username).await?;
        self.throttle.admit(Call::LogIn, client.ip())?.confirm(Call::LogIn);
        let whom = Requested::Entitled(username.clone());
        let (purpose, request) = (Purpose::ResetPassword, PlainToken::generate());
        policy.requests.push(MailRequest { whom, purpose, request, ip: client.ip(), link: None })?;
        Ok(())
    }
}
