//! [`Identities`] in PostgreSQL.

use async_trait::async_trait;

use super::{PostgresRepository, not_built};
use crate::domain::email::EmailAddress;
use crate::domain::identity::{IdentityDetails, IdentityId, Subject};
use crate::domain::session::{Caller, NewSession};
use crate::domain::user::NewUser;
use crate::repository::{
    Identities, IdentityOwner, IdentityRegistered, Linked, Removal, RepositoryError, Revocation, RevocationId,
    VerifiedIdentity,
};
use crate::system::clock::Timestamp;

#[async_trait]
impl Identities for PostgresRepository {
    async fn find_identity_owner(&self, _subject: &Subject) -> Result<Option<IdentityOwner>, RepositoryError> {
        Err(not_built())
    }

    async fn find_email_owner(&self, _email: &EmailAddress) -> Result<Option<IdentityOwner>, RepositoryError> {
        Err(not_built())
    }

    async fn register_by_identity(
        &self,
        _user: NewUser,
        _is_email_verified: bool,
        _identity: VerifiedIdentity,
        _session: NewSession,
        _now: Timestamp,
    ) -> Result<IdentityRegistered, RepositoryError> {
        Err(not_built())
    }

    async fn list_identities(&self, _caller: &Caller) -> Result<Vec<IdentityDetails>, RepositoryError> {
        Err(not_built())
    }

    async fn link_identity(
        &self,
        _caller: &Caller,
        _needs_fresh_session: bool,
        _identity: VerifiedIdentity,
        _now: Timestamp,
    ) -> Result<Linked, RepositoryError> {
        Err(not_built())
    }

    async fn unlink_identity(
        &self,
        _caller: &Caller,
        _id: IdentityId,
        _now: Timestamp,
    ) -> Result<Removal, RepositoryError> {
        Err(not_built())
    }

    async fn withdraw_identity(&self, _subject: &Subject, _now: Timestamp) -> Result<bool, RepositoryError> {
        Err(not_built())
    }

    async fn store_refresh_token(&self, _subject: &Subject, _token: Vec<u8>) -> Result<bool, RepositoryError> {
        Err(not_built())
    }

    async fn claim_revocations(
        &self,
        _limit: u32,
        _now: Timestamp,
        _claimed_until: Timestamp,
    ) -> Result<Vec<Revocation>, RepositoryError> {
        Err(not_built())
    }

    async fn settle_revocation(&self, _id: RevocationId, _retry: Option<Timestamp>) -> Result<bool, RepositoryError> {
        Err(not_built())
    }
}
