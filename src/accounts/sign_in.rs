//! Signing in: verifies a password and opens a session.

use std::borrow::Cow;
use std::fmt;

use sha2::{Digest as _, Sha256};
use thiserror::Error;

use super::kept_identity::keep;
use super::second_factor::given::{GivenFactor, SealingError};
use super::service::{ATTEMPTS, Accounts, Client};
use super::throttle::limits::Call;
use super::throttle::{Admission, Begun, NotBegun, Throttled};
use crate::domain::authentication_methods::AuthenticationMethods;
use crate::domain::challenge::{ChallengePurpose, NewChallenge};
use crate::domain::email::EmailAddress;
use crate::domain::event::EventKind;
use crate::domain::factor::{Method, RecoveryCode};
use crate::domain::field::InvalidField;
use crate::domain::session::NewSession;
use crate::domain::token::{PlainToken, hex};
use crate::domain::user::{Credentials, NewUser, User, Username};
use crate::passwords::{PasswordError, PlainPassword};
use crate::repository::{
    FirstFactor, IdentityRegistered, NewEmailChange, RepositoryError, SecondFactor, SessionOutcome, SessionRequest,
    VerifiedIdentity, VerifiedLogin,
};
use crate::system::clock::Timestamp;

/// A name and a password, and perhaps a second factor, of which nothing is verified yet.
#[expect(missing_docs, reason = "the names say it")]
pub struct SignIn {
    pub name: LoginName,
    pub password: PlainPassword,
    pub second: Option<GivenFactor>,
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
    /// They have just registered it by means of an identity, whose address the provider may speak for.
    IdentityRegistration(Box<NewUser>, bool, Option<NewEmailChange>, Box<VerifiedIdentity>),
    /// They have shown the first factor or, by a challenge, both.
    Factors(FirstFactor, SecondFactor),
    /// The same in two steps: by what the first factor was shown before is known from its challenge.
    SecondStep(FirstFactor, SecondFactor, AuthenticationMethods),
}

/// A session that has just been opened. Only here is its token known.
#[expect(missing_docs, reason = "the names say it")]
pub struct OpenedSession {
    pub token: PlainToken,
    pub user: User,
    /// Where a recovery code was used: the one in its place. Only here is it known.
    pub recovery_code: Option<RecoveryCode>,
}

impl OpenedSession {
    fn new(token: PlainToken, user: User) -> Self {
        Self { token, user, recovery_code: None }
    }
}

/// A login that lacks its second factor. Only here is its token known.
#[expect(missing_docs, reason = "the names say it")]
pub struct SecondFactorDue {
    pub token: PlainToken,
    pub methods: Vec<Method>,
    pub expires: Timestamp,
}

impl fmt::Debug for SecondFactorDue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecondFactorDue").field("methods", &self.methods).finish_non_exhaustive()
    }
}

/// What came of a login.
#[expect(clippy::large_enum_variant, reason = "nearly every one is the large one, and each lives for a moment")]
pub(super) enum Opening {
    /// There is a session.
    Session(OpenedSession),
    /// The first factor was right, and the second is due.
    SecondFactorDue(SecondFactorDue),
    /// The first factor was right, and the second wrong.
    SecondFactorRefused(Username),
    /// The account's address is not verified, as it must be.
    EmailNotVerified,
    /// The account is gone or inactive, or what was shown is worth nothing any more.
    Refused,
    /// An ID token was used before, or its identity has become another account's.
    IdentityRefused,
}

/// Why there is no new session.
#[derive(Debug, Error)]
pub enum SignInError {
    /// The name and the password open no active account. Which of the two is wrong is not told.
    #[error("the username or the password is wrong")]
    Refused,
    /// The first factor is right, and the second is due.
    #[error("the second factor is due")]
    SecondFactorDue(Box<SecondFactorDue>),
    /// The first factor is right, and the second wrong.
    #[error("the second factor is wrong")]
    SecondFactorRefused,
    /// The password is right, and the account's address was never shown to be its own.
    #[error("the account's address is not verified")]
    EmailNotVerified,
    /// Too many attempts at the account have failed.
    #[error(transparent)]
    Throttled(#[from] Throttled),
    /// The password was not verified.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// A stored secret cannot be opened.
    #[error(transparent)]
    Sealing(#[from] SealingError),
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
        SignIn { name, password, second }: SignIn,
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

            let read = match &second {
                Some(given) => {
                    let secret = self.repository.find_totp_secret(credentials.user_id).await?;
                    self.read_second_factor(credentials.user_id, secret, given).await?
                }
                None => Some((SecondFactor::NotGiven, None)),
            };
            let Some((second, replacement)) = read else {
                self.throttle.fail(attempt, EventKind::SecondFactorFailed, named, client.ip()).await;
                return Err(SignInError::SecondFactorRefused);
            };
            let first = FirstFactor::Password(VerifiedLogin {
                user_id: credentials.user_id,
                verified_against: credentials.password_hash,
                rehashed: verification.rehashed,
            });
            match self.open_session(Verified::Factors(first, second), client).await? {
                Opening::Session(opened) => {
                    attempt.succeeded();
                    return Ok(OpenedSession { recovery_code: replacement, ..opened });
                }
                // Neither a success nor a failure: whoever knows the password must not clear the count of wrong codes.
                Opening::SecondFactorDue(due) => return Err(SignInError::SecondFactorDue(Box::new(due))),
                Opening::SecondFactorRefused(username) => {
                    let kind = EventKind::SecondFactorFailed;
                    self.throttle.fail(attempt, kind, Some(username), client.ip()).await;
                    return Err(SignInError::SecondFactorRefused);
                }
                Opening::EmailNotVerified => return Err(SignInError::EmailNotVerified),
                Opening::Refused | Opening::IdentityRefused => {}
            }
        }
        self.throttle.fail(attempt, EventKind::LoginFailed, named, client.ip()).await;
        Err(SignInError::Refused)
    }

    /// Opens a session for somebody who has proved that the account is theirs. Nothing else opens one: whatever the door,
    /// the store asks here, in one transaction, whether the account is active and whether a second factor is due.
    pub(super) async fn open_session(
        &self,
        verified: Verified,
        client: &impl Client,
    ) -> Result<Opening, RepositoryError> {
        let Some(metrics) = &self.throttle.metrics else { return self.store_session(verified, client).await };
        let is_registration = matches!(verified, Verified::Registration(..) | Verified::IdentityRegistration(..));
        let (way, second_factor) = labels_of(&verified);
        let opening = self.store_session(verified, client).await?;
        match &opening {
            Opening::Session(_) if is_registration => metrics.registered(&way),
            Opening::Session(_) => metrics.signed_in(&way, second_factor),
            Opening::SecondFactorDue(_) => metrics.second_factor_due(&way),
            Opening::SecondFactorRefused(_)
            | Opening::EmailNotVerified
            | Opening::Refused
            | Opening::IdentityRefused => {}
        }
        Ok(opening)
    }

    async fn store_session(&self, verified: Verified, client: &impl Client) -> Result<Opening, RepositoryError> {
        let token = PlainToken::generate();
        let methods = match &verified {
            Verified::Registration(..) => AuthenticationMethods::PASSWORD,
            Verified::IdentityRegistration(..) => AuthenticationMethods::NONE,
            Verified::Factors(first, _) => first.methods(),
            Verified::SecondStep(_, _, first_methods) => *first_methods,
        };
        let (user_agent, ip) = (client.user_agent().clone(), client.ip());
        let session = NewSession { digest: token.digest(), user_agent, ip, methods };
        let (max_sessions, now) = (self.session_policy.max_per_user, self.clock.now());
        match verified {
            Verified::Registration(user, confirmation) => {
                let user = self.repository.register_user(*user, session, confirmation, now).await?;
                Ok(Opening::Session(OpenedSession::new(token, user)))
            }
            Verified::IdentityRegistration(user, is_email_verified, confirmation, identity) => {
                let (store, user, identity) = (&self.repository, *user, *identity);
                let registered =
                    store.register_by_identity(user, is_email_verified, confirmation, identity, session, now);
                Ok(match registered.await? {
                    IdentityRegistered::Opened(user) => Opening::Session(OpenedSession::new(token, *user)),
                    IdentityRegistered::IdentityTaken | IdentityRegistered::TokenUsed => Opening::IdentityRefused,
                })
            }
            Verified::Factors(first, second) | Verified::SecondStep(first, second, _) => {
                let purpose = ChallengePurpose::SecondFactor;
                let (challenge_token, expires) = (PlainToken::generate(), now.plus(purpose.lifetime()));
                let needs_verified_email = self.mail.as_ref().is_some_and(|policy| policy.require_verified_email);
                let challenge =
                    NewChallenge { digest: challenge_token.digest(), purpose, state: keep(&first), expires };
                let request = SessionRequest { first, second, session, challenge, max_sessions, needs_verified_email };
                Ok(match self.repository.open_session(request, now).await? {
                    SessionOutcome::Opened(user) => Opening::Session(OpenedSession::new(token, *user)),
                    SessionOutcome::SecondFactorDue(_, mut methods) => {
                        // Passkeys may have been configured once, and not be any more.
                        methods.retain(|method| *method != Method::Passkey || self.passkeys.is_some());
                        Opening::SecondFactorDue(SecondFactorDue { token: challenge_token, methods, expires })
                    }
                    SessionOutcome::SecondFactorRefused(username) => Opening::SecondFactorRefused(username),
                    SessionOutcome::EmailNotVerified => Opening::EmailNotVerified,
                    SessionOutcome::Refused => Opening::Refused,
                })
            }
        }
    }
}

/// How the metrics call what was shown first, and second. Of a login in two steps the first was counted as it was asked
/// for the second.
fn labels_of(verified: &Verified) -> (Cow<'static, str>, &'static str) {
    let (first, second) = match verified {
        Verified::Registration(..) => return (Cow::Borrowed("registration"), "none"),
        Verified::IdentityRegistration(_, _, _, identity) => return (Cow::Owned(identity.provider.clone()), "none"),
        Verified::Factors(first, second) | Verified::SecondStep(first, second, _) => (first, second),
    };
    let way = match first {
        FirstFactor::Password(_) => Cow::Borrowed("password"),
        FirstFactor::Mail(_) => Cow::Borrowed("mail"),
        FirstFactor::Passkey(_) => Cow::Borrowed("passkey"),
        FirstFactor::Identity(used) => Cow::Owned(used.identity.provider.clone()),
        FirstFactor::Challenge(..) => Cow::Borrowed("second_step"),
    };
    let second = match second {
        SecondFactor::NotGiven => "none",
        SecondFactor::Totp(_) => Method::Totp.name(),
        SecondFactor::RecoveryCode { .. } => Method::RecoveryCode.name(),
        SecondFactor::Passkey(_) => Method::Passkey.name(),
    };
    (way, second)
}
