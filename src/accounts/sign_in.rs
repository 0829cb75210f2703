//! Signing in: verifies a password and opens a session.

use sha2::{Digest as _, Sha256};
use thiserror::Error;

use super::service::{ATTEMPTS, Accounts, Client};
use super::throttle::limits::Call;
use super::throttle::{Admission, Begun, NotBegun, Throttled};
use crate::domain::email::EmailAddress;
use crate::domain::event::EventKind;
use crate::domain::field::InvalidField;
use crate::domain::one_time::Presented;
use crate::domain::session::NewSession;
use crate::domain::token::{PlainToken, hex};
use crate::domain::user::{Credentials, NewUser, User, Username};
use crate::passwords::{PasswordError, PlainPassword};
use crate::repository::{NewEmailChange, RepositoryError, VerifiedLogin};

/// A name and a password, of which nothing is verified yet.
#[expect(missing_docs, reason = "the names say it")]
pub struct SignIn {
    pub name: LoginName,
    pub password: PlainPassword,
}

/// What was given as the name in a login.
pub enum LoginName {
    /// A name.
    Username(Username),
    /// Where mail is sent, the address that an account has verified, or a name, which wins.
    Address {
        /// The address.
        email: EmailAddress,
        /// The name, where it is one.
        username: Option<Username>,
    },
}

impl LoginName {
    /// The name that was given, for an event.
    fn username(&self) -> Option<&Username> {
        match self {
            Self::Username(username) => Some(username),
            Self::Address { username, .. } => username.as_ref(),
        }
    }

    /// Where failures count while it is no account's. Those at an address count together, however it is spelled, as they
    /// do where it is an account's.
    fn stand_in(&self) -> Username {
        match self {
            Self::Username(username) => username.clone(),
            Self::Address { email, .. } => Username::standing_for(&hex(&Sha256::digest(email.key()))),
        }
    }
}

/// Why a name was not read.
#[derive(Debug, Error)]
pub enum NameError {
    /// It is none.
    #[error(transparent)]
    Invalid(#[from] InvalidField),
    /// The store failed.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
}

/// How somebody has proved that an account is theirs.
pub enum Verified {
    /// They have just registered it.
    Registration(Box<NewUser>, Option<NewEmailChange>),
    /// They know its password.
    Password(VerifiedLogin),
    /// They read the mail that was sent to its address.
    Mail(Presented),
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
    /// The password is right, and the account's address was never shown to be its own.
    #[error("the account's address is not verified")]
    EmailNotVerified,
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
    /// Reads a name that an account may have. What no new account could be called is a name once such names were
    /// imported. Which accounts there are does not matter, and is not told.
    ///
    /// # Errors
    /// See [`NameError`].
    pub async fn read_name(&self, text: &str) -> Result<Username, NameError> {
        let error = match Username::parse(text) {
            Ok(username) => return Ok(username),
            Err(error) => error,
        };
        let existing = Username::parse_existing(text);
        if existing.is_ok() && !self.repository.has_imported_names().await? {
            return Err(error.into());
        }
        existing.map_err(|_| error.into())
    }

    /// Reads the name of a login.
    ///
    /// # Errors
    /// [`NameError`], also for what can be neither a name nor, where mail is sent, an address.
    pub async fn read_login_name(&self, text: &str) -> Result<LoginName, NameError> {
        let username = match self.read_name(text).await {
            Err(NameError::Repository(error)) => return Err(error.into()),
            username => username,
        };
        match self.mail.as_ref().and_then(|_| EmailAddress::parse(text).ok()) {
            Some(email) => Ok(LoginName::Address { email, username: username.ok() }),
            None => username.map(LoginName::Username),
        }
    }

    /// Finds what a login under this name is verified against. What is a name and an address is looked up as both, always.
    async fn find_login(&self, name: &LoginName) -> Result<Option<Credentials>, RepositoryError> {
        let by_name = match name.username() {
            Some(username) => self.repository.find_credentials(username).await?,
            None => None,
        };
        let by_email = match name {
            LoginName::Address { email, .. } => self.repository.find_credentials_by_email(email).await?,
            LoginName::Username(_) => None,
        };
        Ok(by_name.or(by_email))
    }

    /// Whom a login under this name counts at: the account itself, so that its address is no second way to guess.
    pub(super) async fn count_login_at(&self, name: &LoginName) -> Result<Username, RepositoryError> {
        match name {
            LoginName::Username(username) => Ok(username.clone()),
            LoginName::Address { .. } => {
                Ok(self.find_login(name).await?.map_or_else(|| name.stand_in(), |found| found.username))
            }
        }
    }

    /// What a login under this name is verified against, where it counts at this account. The throttle is told of the
    /// failures that the store has counted there.
    async fn find_counted(&self, name: &LoginName, counted: &Username) -> Result<Option<Credentials>, RepositoryError> {
        let before = self.throttle.limits.stored_before(counted);
        let found = self.find_login(name).await?;
        // The address may have become another account's since it was found out where to count.
        let found = found.filter(|credentials| credentials.username.key() == counted.key());
        if let Some(credentials) = &found {
            self.throttle.merge(counted, before, credentials.failures);
        }
        Ok(found)
    }

    /// Tells the throttle of the failures that the store has counted at this account.
    pub(super) async fn merge_failures(&self, username: &Username) -> Result<(), RepositoryError> {
        let name = LoginName::Username(username.clone());
        self.find_counted(&name, username).await.map(drop)
    }

    /// Verifies a password and opens a session.
    ///
    /// # Errors
    /// See [`SignInError`].
    pub async fn sign_in(
        &self,
        admission: Admission<'_>,
        SignIn { name, password }: SignIn,
        client: &impl Client,
    ) -> Result<OpenedSession, SignInError> {
        admission.confirm(Call::LogIn);
        let begun = Begun::now();
        let counted = self.count_login_at(&name).await?;
        let mut found = self.find_counted(&name, &counted).await?;
        let attempt = self.throttle.begin_login(&counted, client.ip(), begun).await?;
        let hardest = self.repository.hardest_imported_hash().await?;
        let named = if found.is_some() { Some(counted.clone()) } else { name.username().cloned() };
        for number in 0..ATTEMPTS {
            if number > 0 {
                found = self.find_counted(&name, &counted).await?;
            }
            // An inactive account is treated like one that does not exist, from here to the last byte of the answer.
            let credentials = found.take().filter(|credentials| credentials.is_active);
            let verification =
                self.passwords.verify(password.clone(), credentials.as_ref(), hardest, client.gone()).await?;
            let Some(credentials) = credentials.filter(|_| verification.matches) else { break };

            if self.mail.as_ref().is_some_and(|policy| policy.require_verified_email) && !credentials.is_email_verified
            {
                attempt.succeeded();
                return Err(SignInError::EmailNotVerified);
            }
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
        self.throttle.fail(attempt, EventKind::LoginFailed, named, client.ip()).await;
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
        let (max_sessions, now) = (self.session_policy.max_per_user, self.clock.now());
        let user = match verified {
            Verified::Registration(user, confirmation) => {
                Some(self.repository.register_user(*user, session, confirmation, now).await?)
            }
            Verified::Password(login) => self.repository.open_session(login, session, max_sessions, now).await?,
            Verified::Mail(presented) => {
                self.repository.open_session_by_mail(presented, session, max_sessions, now).await?
            }
        };
        Ok(user.map(|user| OpenedSession { token, user }))
    }
}
