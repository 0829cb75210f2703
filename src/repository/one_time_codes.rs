//! The trait [`OneTimeCodes`]: an account's address, and what the codes and links of mails may do.

use std::net::IpAddr;

use async_trait::async_trait;

use crate::domain::email::EmailAddress;
use crate::domain::one_time::{Code, CodeMac, Presented, Purpose};
use crate::domain::session::{Caller, SessionId};
use crate::domain::token::TokenDigest;
use crate::domain::user::{PasswordHash, User, UserId, Username};
use crate::repository::error::RepositoryError;
use crate::repository::proof::Proof;
use crate::system::clock::Timestamp;

/// An account's address as its owner sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct EmailState {
    /// Empty where there is none.
    pub email: String,
    pub is_verified: bool,
    /// The address that waits for its confirmation, and when it stops waiting. It is the same as `email` where that is
    /// not verified yet.
    pub pending: Option<(String, Timestamp)>,
}

/// A change of the address that is to be confirmed.
#[derive(Clone)]
#[expect(missing_docs, reason = "the names say it")]
pub struct NewEmailChange {
    pub email: EmailAddress,
    /// The digest of the request id that the client is given.
    pub request: TokenDigest,
    /// Where the mail's link leads, where not to the service's own page.
    pub link: Option<String>,
}

/// Whom somebody wants a mail for, as it was typed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Whom {
    Username(Username),
    /// The account that has verified the address; else the oldest active account that has it, verified by nobody.
    Email(EmailAddress),
}

/// The account that a mail is for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Recipient {
    pub user_id: UserId,
    pub username: Username,
    pub email: EmailAddress,
    pub is_verified: bool,
    pub is_active: bool,
    /// Whether the account has logged in from the neighbourhood of the address that asks.
    pub is_familiar: bool,
}

/// A code and a link that are about to be mailed.
#[derive(Clone)]
#[expect(missing_docs, reason = "the names say it")]
pub struct NewOffer {
    pub purpose: Purpose,
    pub user_id: UserId,
    /// The address that it is mailed to: the offer is worth nothing once the account has another.
    pub email_key: String,
    /// See [`Recipient::is_familiar`]. A familiar network's offers and all others' replace only their own kind, so that a
    /// stranger cannot end what the owner has just asked for.
    pub is_familiar: bool,
    pub request: TokenDigest,
    pub mac: CodeMac,
    pub token: TokenDigest,
}

/// The outcome of presenting a code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tried {
    /// It is right, and still there.
    Right(Username),
    /// It is wrong, and was counted at the offer of this account, which has verified its address.
    Wrong(Username),
    /// There is no such offer; or the code is wrong, and was counted, and nobody is told whose it is, because the account has
    /// not verified the address: it may be somebody else's. Either took as long as a wrong code, which is written.
    Unknown,
}

/// The outcome of confirming an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Confirmed {
    /// The address is the account's, and verified.
    Done(Box<User>),
    /// There is no such offer, or the code is wrong: of this account, whose failure it is, where one is known.
    Refused(Option<Username>),
    /// Another account has verified the address meanwhile.
    Taken,
}

/// What a link that disowns something has done.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Disowned {
    pub username: Username,
    /// The session that ended, where it was one; else all of them did.
    pub session: Option<SessionId>,
    /// Whether a former address was restored, or a change of it withdrawn.
    pub email_kept: bool,
}

/// An account's address, and what the codes and links of mails may do.
///
/// A code or link is worth something once, until it expires, as long as the account exists and has the address that it
/// was mailed to. Of two that present one at once, one wins. A new one ends the earlier one of its account, purpose and
/// kind of network. Wrong, used, expired and unknown are not told apart. "Every code and link of the account" means all
/// but those that restore a former address: these end by their lifetime, or by an earlier one of them alone.
#[async_trait]
pub trait OneTimeCodes: Send + Sync {
    /// The caller's address.
    ///
    /// # Errors
    /// [`RepositoryError::NoSession`], as in every method that takes a caller.
    async fn find_email(&self, caller: &Caller, now: Timestamp) -> Result<EmailState, RepositoryError>;

    /// Begins a change of the caller's address, in the place of an earlier one: the confirmation to the new address, and
    /// the notice to the present one where that is verified, are put in the outbox. The account keeps its address until
    /// the new one is confirmed. A new password, a deactivation, and the end of a session by another or of all of them
    /// end the change: whoever had the session may have begun it. The address may be the account's own that is not verified yet. `false`, and no change,
    /// when the proof does not hold.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn request_email_change(
        &self,
        caller: &Caller,
        proof: Proof,
        change: NewEmailChange,
        now: Timestamp,
    ) -> Result<bool, RepositoryError>;

    /// Withdraws the caller's change of the address. `false` when there is none.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn withdraw_email_change(&self, caller: &Caller, now: Timestamp) -> Result<bool, RepositoryError>;

    /// Confirms the caller's pending address by the code of its mail: the account has the address from then on, and it is
    /// verified. Where it replaces a verified one, a notice to that one is put in the outbox, and every other code and
    /// link of the account ends. `request`, where it is given, must be that of the change.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn confirm_email_by_code(
        &self,
        caller: &Caller,
        request: Option<TokenDigest>,
        code: Code,
        now: Timestamp,
    ) -> Result<Confirmed, RepositoryError>;

    /// The same by the token of the link, without a session.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn confirm_email_by_link(
        &self,
        token: TokenDigest,
        ip: Option<IpAddr>,
        now: Timestamp,
    ) -> Result<Confirmed, RepositoryError>;

    /// The account that somebody at `ip` wants a mail for. `None` where there is none, or it has no address that mail can
    /// be sent to.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn find_recipient(&self, whom: &Whom, ip: Option<IpAddr>) -> Result<Option<Recipient>, RepositoryError>;

    /// The address of the caller, for a mail that makes the session fresh. `None` where it is not verified.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn find_own_recipient(&self, caller: &Caller) -> Result<Option<Recipient>, RepositoryError>;

    /// Stores a code and a link that are about to be mailed. A reset is an event, with `ip`. `false`, and nothing stored,
    /// when the account is gone or has another address by now.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn store_offer(&self, offer: NewOffer, ip: Option<IpAddr>, now: Timestamp) -> Result<bool, RepositoryError>;

    /// Tries a code, and uses nothing up: a wrong one is counted, and the last of
    /// [`MAX_TRIES`](crate::domain::one_time::MAX_TRIES) ends the offer. It is for an early refusal, before a password is
    /// hashed.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn try_code(
        &self,
        purpose: Purpose,
        request: TokenDigest,
        mac: CodeMac,
        now: Timestamp,
    ) -> Result<Tried, RepositoryError>;

    /// The account that a link is for, and uses nothing up. `None` where it is worth nothing.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn find_link(
        &self,
        purpose: Purpose,
        token: TokenDigest,
        now: Timestamp,
    ) -> Result<Option<Username>, RepositoryError>;

    /// Sets a new password by means of a mail. Every session and every other code and link of the account ends, its
    /// failed logins are forgotten, the address counts as verified (unless another account has verified it), and a notice
    /// is put in the outbox. An inactive account stays inactive. `None`, and no change, where what is presented is worth
    /// nothing.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn reset_password(
        &self,
        presented: Presented,
        new_hash: PasswordHash,
        ip: Option<IpAddr>,
        now: Timestamp,
    ) -> Result<Option<Username>, RepositoryError>;

    /// Makes the caller's session fresh by a code that was mailed for it. The offer must be the caller's own.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn reauthenticate_by_code(
        &self,
        caller: &Caller,
        request: TokenDigest,
        mac: CodeMac,
        now: Timestamp,
    ) -> Result<Tried, RepositoryError>;

    /// Disowns what a notice tells of. A login's session ends; for anything else all sessions do. The password is removed:
    /// whoever it was may know it. So is what was added since to the ways in: an authenticator app, recovery codes, passkeys,
    /// identities; what is older stays. A pending change of the address is withdrawn; where the notice told of a change that was made, the former address is restored, verified
    /// (unless another account has verified it meanwhile). Every code and link of the account ends, but for those that
    /// restore an address that the account had before: of two changes one after the other, the earlier one can still be
    /// undone, and the later one no more. `None`, and no change, where the link is worth nothing.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn disown(
        &self,
        token: TokenDigest,
        ip: Option<IpAddr>,
        now: Timestamp,
    ) -> Result<Option<Disowned>, RepositoryError>;

    /// Deletes what has expired, a bounded number at a time, and says how many.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn prune_codes(&self, now: Timestamp) -> Result<usize, RepositoryError>;
}
