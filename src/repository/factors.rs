//! The trait [`Factors`]: the authenticator app of an account, and its recovery codes.

use std::fmt;
use std::iter::Sum;

use async_trait::async_trait;

use crate::domain::challenge::NewChallenge;
use crate::domain::rights::Actor;
use crate::domain::session::Caller;
use crate::domain::token::TokenDigest;
use crate::domain::user::{UserId, Username};
use crate::repository::error::RepositoryError;
use crate::repository::proof::{SecondFactor, TotpUse};
use crate::system::clock::Timestamp;

/// How an account can be got into, as facts without secrets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct SecurityState {
    pub has_password: bool,
    /// When its authenticator app was added; `None` where it has none.
    pub totp: Option<Timestamp>,
    /// How many recovery codes are left.
    pub recovery_codes: u32,
    pub passkeys: u32,
    pub identities: u32,
    /// Until when the caller's session is fresh, where it is.
    pub fresh_until: Option<Timestamp>,
}

/// An authenticator app as it is stored.
#[derive(Clone)]
#[expect(missing_docs, reason = "the names say it")]
pub struct StoredTotp {
    pub user_id: UserId,
    pub username: Username,
    /// Its secret, sealed for the account.
    pub secret: Vec<u8>,
    pub created: Timestamp,
    pub is_confirmed: bool,
}

/// What came of a change to a factor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FactorChange {
    /// It is made.
    Done,
    /// The caller's session is not fresh. Nothing happened.
    NotFresh,
    /// The account has no authenticator app, or has one already, where the change needs the contrary. Nothing happened.
    NoSuchState,
    /// The second factor is worth nothing (any more). Nothing happened.
    Refused,
}

/// How many sealed secrets there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SealedSecrets {
    /// Authenticator apps.
    pub totp: u64,
    /// Refresh tokens of providers, also those that wait for their revocation.
    pub refresh_tokens: u64,
    /// Secrets of webhooks, also those that sign for a while beside a new one.
    pub webhooks: u64,
}

impl SealedSecrets {
    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Of secrets that are listed by the ids of their keys: how many this key has sealed, and how many any other.
    pub(super) fn of_key(listed: &[(Vec<u8>, Self)], key_id: &[u8]) -> (Self, Self) {
        let sum = |is_own| listed.iter().filter(|(id, _)| (id == key_id) == is_own).map(|(_, secrets)| *secrets).sum();
        (sum(true), sum(false))
    }
}

impl Sum for SealedSecrets {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, secrets| Self {
            totp: sum.totp + secrets.totp,
            refresh_tokens: sum.refresh_tokens + secrets.refresh_tokens,
            webhooks: sum.webhooks + secrets.webhooks,
        })
    }
}

impl fmt::Display for SealedSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counted = |count, what: &str| match count {
            0 => None,
            1 => Some(format!("1 {what}")),
            count => Some(format!("{count} {what}s")),
        };
        let parts = [
            counted(self.totp, "authenticator app"),
            counted(self.refresh_tokens, "refresh token"),
            counted(self.webhooks, "webhook secret"),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        match parts.split_last() {
            None => f.write_str("nothing"),
            Some((last, [])) => f.write_str(last),
            Some((last, others)) => write!(f, "{} and {last}", others.join(", ")),
        }
    }
}

/// The second factors of accounts.
#[async_trait]
pub trait Factors: Send + Sync {
    /// How the caller's account can be got into.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn find_security(&self, caller: &Caller, now: Timestamp) -> Result<SecurityState, RepositoryError>;

    /// How another account can be got into, for whoever may manage it. `None` where there is no account of this name.
    ///
    /// # Errors
    /// [`RepositoryError::Forbidden`] as in every method that takes an actor.
    async fn find_account_security(
        &self,
        actor: &Actor,
        username: &Username,
    ) -> Result<Option<SecurityState>, RepositoryError>;

    /// Stores the sealed secret of an authenticator app that waits for its first code, in the place of one that waits.
    /// [`FactorChange::NoSuchState`] where the account has one that does not wait.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn begin_totp(
        &self,
        caller: &Caller,
        secret: Vec<u8>,
        now: Timestamp,
    ) -> Result<FactorChange, RepositoryError>;

    /// The caller's authenticator app, also one that waits.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn find_own_totp(&self, caller: &Caller) -> Result<Option<StoredTotp>, RepositoryError>;

    /// The sealed secret of an account's authenticator app, where it has one that does not wait.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn find_totp_secret(&self, user_id: UserId) -> Result<Option<Vec<u8>>, RepositoryError>;

    /// Confirms the authenticator app that waits by its first code, stores the recovery codes, and ends the account's other
    /// sessions and its challenges. [`FactorChange::Refused`] where another secret, or none, waits by now.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn confirm_totp(
        &self,
        caller: &Caller,
        code: TotpUse,
        recovery_codes: Vec<TokenDigest>,
        now: Timestamp,
    ) -> Result<FactorChange, RepositoryError>;

    /// Deletes some of the authenticator apps that have waited for their first code since `begun` or longer; says how many,
    /// 0 where there is none left.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn prune_waiting_totp(&self, begun: Timestamp) -> Result<usize, RepositoryError>;

    /// Removes the authenticator app and the recovery codes, and ends the account's challenges: in a fresh session, which is
    /// not fresh any more then, and with the second factor.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn remove_totp(
        &self,
        caller: &Caller,
        second: SecondFactor,
        now: Timestamp,
    ) -> Result<FactorChange, RepositoryError>;

    /// Stores recovery codes in the place of those that are left: in a fresh session, and with the second factor.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn replace_recovery_codes(
        &self,
        caller: &Caller,
        second: SecondFactor,
        recovery_codes: Vec<TokenDigest>,
        now: Timestamp,
    ) -> Result<FactorChange, RepositoryError>;

    /// Stores the challenge by which a passkey is to be added, in a fresh session, and with the second factor where the
    /// account has an authenticator app: a passkey is both factors, and must not be had for one. Never
    /// [`FactorChange::NoSuchState`].
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn begin_passkey(
        &self,
        caller: &Caller,
        second: SecondFactor,
        challenge: NewChallenge,
        now: Timestamp,
    ) -> Result<FactorChange, RepositoryError>;

    /// Removes an account's authenticator app, its recovery codes and its passkeys, and its challenges. `false` where there
    /// is no account of this name.
    ///
    /// # Errors
    /// [`RepositoryError::Forbidden`] as in every method that takes an actor.
    async fn reset_factors(&self, actor: &Actor, username: &Username, now: Timestamp) -> Result<bool, RepositoryError>;

    /// How many secrets were sealed with the key of this id, and how many with any other.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn count_sealed(&self, key_id: Vec<u8>) -> Result<(SealedSecrets, SealedSecrets), RepositoryError>;

    /// Notes that all secrets are sealed with the key of this id from now on, where that of no other is noted yet, and
    /// answers with the one that is. An empty id is that of no key. A store that only one process uses notes none, and
    /// answers with this one.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn claim_sealing_key(&self, key_id: Vec<u8>) -> Result<Vec<u8>, RepositoryError>;

    /// Notes that all secrets are sealed with the key of this id from now on, whichever was noted, and answers with that one.
    /// An empty id is that of no key.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn replace_sealing_key(&self, key_id: Vec<u8>) -> Result<Vec<u8>, RepositoryError>;

    /// Forgets every secret that was sealed with another key than that of this id: the accounts have no authenticator app
    /// then, and the webhooks are disabled. How many there were. Logins and links that are not finished may hold some, which are not counted: they end.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn forget_sealed(&self, key_id: Vec<u8>, now: Timestamp) -> Result<SealedSecrets, RepositoryError>;
}
