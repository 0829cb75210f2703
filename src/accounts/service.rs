//! What the use cases work with, and who asks for them.

use std::net::IpAddr;
use std::sync::Arc;

use super::activity::LastUsed;
use super::throttle::LoginThrottle;
use crate::domain::field::InvalidField;
use crate::domain::session::{SessionPolicy, UserAgent};
use crate::passwords::{PasswordPolicy, Passwords, PlainPassword};
use crate::repository::Repository;
use crate::system::clock::Clock;

/// What the use cases work with.
pub struct Accounts {
    /// The store.
    pub repository: Arc<dyn Repository>,
    /// What hashes and verifies.
    pub passwords: Passwords,
    /// What a new password must satisfy.
    pub password_policy: PasswordPolicy,
    /// How long sessions live, and how many an account has.
    pub session_policy: SessionPolicy,
    /// What counts attempts.
    pub throttle: LoginThrottle,
    /// Where the use of sessions is noted.
    pub last_used: Arc<LastUsed>,
    /// What time it is.
    pub clock: Clock,
}

/// Whoever waits for an answer.
pub trait Client {
    /// Where they are, where that is known.
    fn ip(&self) -> Option<IpAddr>;

    /// What their program says it is.
    fn user_agent(&self) -> &UserAgent;

    /// Resolves when they wait for nothing any more.
    fn gone(&self) -> impl Future<Output = ()>;
}

/// A password that the policy has accepted. Only such a one is ever hashed for an account.
#[derive(Clone)]
pub struct NewPassword(pub(super) PlainPassword);

impl NewPassword {
    /// Holds a password, sent in `field`, against the policy.
    ///
    /// # Errors
    /// [`InvalidField`] naming the rule that it breaks.
    pub fn accept(policy: &PasswordPolicy, field: &'static str, password: PlainPassword) -> Result<Self, InvalidField> {
        policy.check(field, &password)?;
        Ok(Self(password))
    }
}

/// How often a password is verified for one request. The stored hash may change in between, and the password be right
/// all the same: another login has just hashed it anew at another cost.
pub(super) const ATTEMPTS: usize = 2;
