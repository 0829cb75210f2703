//! The trait [`Services`]: other services, and what they are told of a token.

use async_trait::async_trait;

use crate::domain::holder::HeldToken;
use crate::domain::rights::Actor;
use crate::domain::service::{ServiceDetails, ServiceName};
use crate::domain::session::Caller;
use crate::domain::token::TokenDigest;
use crate::repository::error::RepositoryError;
use crate::system::clock::Timestamp;

/// What came of adding a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServiceAdded {
    /// It is there.
    Done,
    /// There is one of this name.
    Taken,
    /// There are as many as there may be.
    Full,
}

/// Other services: added, listed, revoked, and asked for by their key; and what they are told of a token.
#[async_trait]
pub trait Services: Send + Sync {
    /// Adds a service by the digest of its key. Of two of one name at once, one is added.
    ///
    /// # Errors
    /// [`RepositoryError::Forbidden`] where the actor is neither the operator nor a superuser.
    async fn add_service(
        &self,
        actor: &Actor,
        name: ServiceName,
        digest: TokenDigest,
        now: Timestamp,
    ) -> Result<ServiceAdded, RepositoryError>;

    /// Revokes a service: its key is worth nothing on any node once this is acknowledged. `false` where there is none of
    /// this name.
    ///
    /// # Errors
    /// [`RepositoryError::Forbidden`] where the actor is neither the operator nor a superuser.
    async fn revoke_service(&self, actor: &Actor, name: ServiceName, now: Timestamp) -> Result<bool, RepositoryError>;

    /// All services, in the order of their names.
    ///
    /// # Errors
    /// [`RepositoryError::Forbidden`] where the actor is neither the operator nor a superuser.
    async fn list_services(&self, actor: &Actor) -> Result<Vec<ServiceDetails>, RepositoryError>;

    /// Whether this service is there, with the key of this digest.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn has_service(&self, name: &ServiceName, digest: &TokenDigest) -> Result<bool, RepositoryError>;

    /// Stores when services were last used. Those that are revoked, or have a later use stored, are not changed.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn record_service_use(&self, uses: Vec<(ServiceName, Timestamp)>) -> Result<(), RepositoryError>;

    /// The caller's live session, with what other services are told of it.
    ///
    /// # Errors
    /// [`RepositoryError::NoSession`] where it is not live.
    async fn find_held_token(&self, caller: &Caller) -> Result<HeldToken, RepositoryError>;
}
