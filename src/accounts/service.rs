//! [`Accounts`], whose methods are the use cases, and [`Client`], who waits for their answers.

use std::net::IpAddr;
use std::sync::Arc;

use thiserror::Error;

use super::activity::LastUsed;
use super::identities::policy::IdentityPolicy;
use super::mail_requests::MailRequests;
use super::passkeys::relying_party::RelyingParty;
use super::service_uses::ServiceUses;
use super::throttle::LoginThrottle;
use super::throttle::mail_limits::MailLimits;
use crate::domain::field::InvalidField;
use crate::domain::session::{SessionPolicy, UserAgent};
use crate::passwords::{PasswordPolicy, Passwords, PlainPassword};
use crate::repository::Repository;
use crate::system::clock::Clock;
use crate::system::sealing::SealingKey;

/// The parts that the use cases need. Each use case is a method, in a file of its own.
#[expect(missing_docs, reason = "the names say it")]
pub struct Accounts {
    pub repository: Arc<dyn Repository>,
    /// Hashes and verifies passwords.
    pub passwords: Passwords,
    pub password_policy: PasswordPolicy,
    /// How long sessions live, and how many an account has.
    pub session_policy: SessionPolicy,
    /// Limits attempts at passwords.
    pub throttle: LoginThrottle,
    /// What accounts may do by means of mail; `None` where none is sent.
    pub mail: Option<MailPolicy>,
    /// What logins by providers of identities may do.
    pub identities: IdentityPolicy,
    /// What the service calls itself: in authenticator apps, and where passkeys are asked for.
    pub service_name: String,
    /// What passkeys are made for and verified by; `None` where there are none.
    pub passkeys: Option<RelyingParty>,
    /// What secrets are sealed with; `None` where there is no key.
    pub sealing: Option<Arc<SealingKey>>,
    /// Notes the last uses of sessions.
    pub last_used: Arc<LastUsed>,
    /// Notes the last uses of services.
    pub service_uses: Arc<ServiceUses>,
    pub clock: Clock,
}

/// What accounts may do by means of mail.
pub struct MailPolicy {
    /// Where mails are asked for.
    pub requests: Arc<MailRequests>,
    /// Whether a login needs a verified address.
    pub require_verified_email: bool,
    /// Whether a mail may open a session without a password.
    pub login_by_mail: bool,
    /// Whether staff may set passwords.
    pub staff_set_passwords: bool,
    /// Beginnings of the links that a client may ask for.
    pub app_links: Vec<String>,
    /// How many mails may be asked for, and how many a mailbox is sent.
    pub limits: MailLimits,
}

/// Why there is nothing that a call could do: the configuration does not offer it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NoMail {
    /// No mail is sent.
    #[error("this service sends no mail")]
    Off,
    /// Mail is sent, but opens no session.
    #[error("this service opens no session by mail")]
    NoLogin,
}

impl Accounts {
    /// What accounts may do by means of mail.
    ///
    /// # Errors
    /// [`NoMail`] where none is sent.
    pub fn mail(&self) -> Result<&MailPolicy, NoMail> {
        self.mail.as_ref().ok_or(NoMail::Off)
    }

    /// The same, where a mail may open a session.
    ///
    /// # Errors
    /// [`NoMail`] where none may.
    pub fn login_by_mail(&self) -> Result<&MailPolicy, NoMail> {
        let policy = self.mail()?;
        if policy.login_by_mail { Ok(policy) } else { Err(NoMail::NoLogin) }
    }
}

/// Whoever waits for an answer, as far as the use cases know them.
pub trait Client {
    /// Their address, where it is known.
    fn ip(&self) -> Option<IpAddr>;

    /// What their program calls itself.
    fn user_agent(&self) -> &UserAgent;

    /// Resolves when they no longer wait.
    fn gone(&self) -> impl Future<Output = ()>;
}

/// A password that the policy has accepted. No other is ever hashed for an account.
#[derive(Clone)]
pub struct NewPassword(pub(super) PlainPassword);

impl NewPassword {
    /// Checks a password that was sent in `field` against the policy.
    ///
    /// # Errors
    /// [`InvalidField`] naming the rule that it breaks.
    pub fn accept(policy: &PasswordPolicy, field: &'static str, password: PlainPassword) -> Result<Self, InvalidField> {
        policy.check(field, &password)?;
        Ok(Self(password))
    }
}

/// How often a password is verified for one request. The stored hash may change meanwhile although the password stays
/// right: another login may have hashed it anew at the configured cost.
pub(super) const ATTEMPTS: usize = 2;
