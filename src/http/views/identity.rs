//! The JSON of an identity.

use serde::Serialize;
use utoipa::ToSchema;

use crate::domain::identity::{IdentityDetails, Subject};

/// Who an account is at a provider, as its owner sees it.
#[derive(Serialize, ToSchema)]
#[schema(as = Identity)]
pub(crate) struct IdentityResponse {
    /// Its name among the caller's identities.
    #[schema(example = "5f0c1d3a9b7e24680f1e")]
    id: String,
    /// What the service calls the provider.
    #[schema(example = "google")]
    provider: String,
    /// The provider's own name.
    #[schema(example = "https://accounts.google.com")]
    issuer: String,
    /// The provider's own id of them.
    #[schema(example = "110169484474386276334")]
    subject: String,
    /// The address that the provider last told, or nothing.
    #[schema(example = "azure@diamond.example")]
    email: String,
    /// When it was linked.
    #[schema(example = "2015-01-04T22:51:35.144Z", format = DateTime)]
    created: String,
    /// When it was last used.
    #[schema(example = "2015-01-04T22:51:35.144Z", format = DateTime)]
    last_used: String,
}

impl From<IdentityDetails> for IdentityResponse {
    fn from(identity: IdentityDetails) -> Self {
        let id = identity.subject.id().as_str().to_owned();
        let Subject { issuer, subject } = identity.subject;
        Self {
            id,
            provider: identity.provider,
            issuer,
            subject,
            email: identity.email,
            created: identity.created.to_string(),
            last_used: identity.last_used.to_string(),
        }
    }
}
