//! The trait [`Identities`]: who accounts are at providers.

use async_trait::async_trait;

use crate::domain::email::EmailAddress;
use crate::domain::identity::{IdentityDetails, IdentityId, Subject};
use crate::domain::session::{Caller, NewSession};
use crate::domain::user::{NewUser, User, UserId, Username};
use crate::repository::error::RepositoryError;
use crate::repository::one_time_codes::NewEmailChange;
use crate::repository::passkeys::{OfferedWays, Removal};
use crate::repository::proof::VerifiedIdentity;
use crate::system::clock::Timestamp;

/// The account that an identity, or a verified address, is of.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct IdentityOwner {
    pub user_id: UserId,
    pub username: Username,
    pub is_active: bool,
}

/// What came of registering by means of an identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IdentityRegistered {
    /// The account and its first session are there.
    Opened(Box<User>),
    /// Another account is linked to the identity by now. Nothing happened.
    IdentityTaken,
    /// The ID token was used before. Nothing happened.
    TokenUsed,
}

/// What came of linking an identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Linked {
    /// It is linked, or was before.
    Done,
    /// The caller's session is not fresh. Nothing happened.
    NotFresh,
    /// Another account is linked to it. Nothing happened.
    Taken,
    /// The ID token was used before. Nothing happened.
    TokenUsed,
    /// The account has as many as it may have. Nothing happened.
    Full,
}

/// A refresh token that is to be revoked, for as long as the claim to it holds.
#[derive(Clone)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Revocation {
    pub id: RevocationId,
    pub provider: String,
    /// What it was sealed for.
    pub binding: [u8; 32],
    /// Sealed.
    pub token: Vec<u8>,
    /// How often it was tried before.
    pub attempts: u32,
    /// When it is no longer worth trying.
    pub expires: Timestamp,
}

/// A claim to a revocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RevocationId {
    pub(super) id: i64,
    pub(super) claim: i64,
}

/// Who accounts are at providers.
#[async_trait]
pub trait Identities: Send + Sync {
    /// The account that is linked to an identity.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn find_identity_owner(&self, subject: &Subject) -> Result<Option<IdentityOwner>, RepositoryError>;

    /// The account that has verified this address.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn find_email_owner(&self, email: &EmailAddress) -> Result<Option<IdentityOwner>, RepositoryError>;

    /// Makes an account that is linked to an identity, and its first session. The profile's address counts as verified
    /// where `is_email_verified`, and no other account has verified it. With a `confirmation`, which is of the profile's own
    /// address, a mail that confirms it is put in the outbox.
    ///
    /// # Errors
    /// [`RepositoryError::Conflict`] when the name is taken.
    async fn register_by_identity(
        &self,
        user: NewUser,
        is_email_verified: bool,
        confirmation: Option<NewEmailChange>,
        identity: VerifiedIdentity,
        session: NewSession,
        now: Timestamp,
    ) -> Result<IdentityRegistered, RepositoryError>;

    /// The caller's identities, oldest first.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn list_identities(&self, caller: &Caller) -> Result<Vec<IdentityDetails>, RepositoryError>;

    /// Links an identity to the caller's account, whose session must be fresh where `needs_fresh_session`.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn link_identity(
        &self,
        caller: &Caller,
        needs_fresh_session: bool,
        identity: VerifiedIdentity,
        now: Timestamp,
    ) -> Result<Linked, RepositoryError>;

    /// Unlinks one of the caller's identities, in a fresh session, and ends the account's challenges: somebody may have
    /// begun a login by it. Its refresh token is put among the revocations.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn unlink_identity(
        &self,
        caller: &Caller,
        id: IdentityId,
        offered: OfferedWays,
        now: Timestamp,
    ) -> Result<Removal, RepositoryError>;

    /// Ends what an identity gave, because the provider says that its owner has withdrawn it: the sessions of its account
    /// end, and it is unlinked where another way into the account is left. `false` where no account is linked to it, or it
    /// was used after that has happened: a notice that comes late, or twice, does not end what its owner has agreed to since.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn withdraw_identity(
        &self,
        subject: &Subject,
        happened: Timestamp,
        offered: OfferedWays,
        now: Timestamp,
    ) -> Result<bool, RepositoryError>;

    /// Claims revocations that are due, until `claimed_until`. A claim that was never settled ends then.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn claim_revocations(
        &self,
        limit: u32,
        now: Timestamp,
        claimed_until: Timestamp,
    ) -> Result<Vec<Revocation>, RepositoryError>;

    /// Settles a claim: the revocation is tried again at `retry`, or is over. `false` where the claim is over.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn settle_revocation(&self, id: RevocationId, retry: Option<Timestamp>) -> Result<bool, RepositoryError>;
}
