//! The trait [`Outbox`]: mails that are kept until they are delivered. They hold no secret: what a mail shows in clear is
//! made when it is sent.

use std::net::IpAddr;

use async_trait::async_trait;

use crate::domain::mail::MailKind;
use crate::domain::one_time::{Code, Purpose};
use crate::domain::session::UserAgent;
use crate::domain::token::TokenDigest;
use crate::domain::user::{UserId, Username};
use crate::repository::error::RepositoryError;
use crate::system::clock::Timestamp;

/// Which notices the store puts in the outbox, beside confirmations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Notices {
    /// Whether mail is sent at all: without it nothing is put in the outbox.
    pub enabled: bool,
    /// Whether owners hear of logins from unknown networks with unknown programs.
    pub sign_ins: bool,
}

/// A mail that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct OutboxMail {
    pub id: MailId,
    pub kind: MailKind,
    pub user_id: UserId,
    /// The address that it goes to.
    pub recipient: String,
    /// Whether the address is a verified one of the account: to another no mail carries text that a user chose.
    pub is_verified: bool,
    pub username: Username,
    /// What it tells of: when, from where, by which program.
    pub at: Timestamp,
    pub ip: Option<IpAddr>,
    pub user_agent: UserAgent,
    /// What else it tells of: a session's id, a provider as the configuration calls it, or nothing.
    pub detail: String,
    /// Where its link leads, where not to the service's own page.
    pub link: Option<String>,
    /// How often it was tried before.
    pub attempts: u32,
    /// When it is no longer worth sending.
    pub expires: Timestamp,
}

/// A mail of the outbox, for as long as a claim to it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MailId {
    pub(super) id: i64,
    /// How often it has been claimed: a claim that somebody else has taken over is worth nothing.
    pub(super) claim: i64,
}

/// What the outbox holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct OutboxStatistics {
    pub waiting: u64,
    /// When the mail that has waited longest was put there.
    pub oldest: Option<Timestamp>,
}

/// What becomes of a mail that was not delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Undelivered {
    /// It is tried again at this time.
    Retry(Timestamp),
    /// It was not tried, and is due at this time: it has as many attempts left as before.
    Later(Timestamp),
    /// It is given up, which is an event.
    GiveUp,
}

/// Mails that are kept until they are delivered, at least once each.
#[async_trait]
pub trait Outbox: Send + Sync {
    /// Claims mails that are due, the longest due first, until `claimed_until`: nobody else is given them before. A claim
    /// that was never settled ends then, and the mail is due again.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn claim_mails(
        &self,
        limit: u32,
        now: Timestamp,
        claimed_until: Timestamp,
    ) -> Result<Vec<OutboxMail>, RepositoryError>;

    /// Stores the link, and the code where it has one, of a claimed mail that is about to be sent: for a confirmation in
    /// the place of those of an earlier attempt. `false` where the mail is not to be sent any more: the claim is over, the
    /// account is gone, or the change was withdrawn.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn store_outbox_offer(
        &self,
        mail: MailId,
        purpose: Purpose,
        code: Option<Code>,
        token: TokenDigest,
        now: Timestamp,
    ) -> Result<bool, RepositoryError>;

    /// Whether another account has verified the address that a confirmation goes to.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn is_email_taken(&self, user_id: UserId, email_key: &str) -> Result<bool, RepositoryError>;

    /// Removes a mail that was delivered, or is not to be sent. `false` where the claim is over.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn complete_mail(&self, mail: MailId) -> Result<bool, RepositoryError>;

    /// Settles a claim to a mail that was not delivered. `false` where the claim is over.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn return_mail(
        &self,
        mail: MailId,
        undelivered: Undelivered,
        now: Timestamp,
    ) -> Result<bool, RepositoryError>;

    /// What waits.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn outbox_statistics(&self) -> Result<OutboxStatistics, RepositoryError>;
}
