//! The JSON of an identity.

use serde::Serialize;
use utoipa::ToSchema;

use crate::domain::identity::{IdentityDetails, Subject};
use crate::providers::Provider;

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

/// A provider that people can log in by.
#[derive(Serialize, ToSchema)]
#[schema(as = Provider)]
pub(crate) struct ProviderResponse {
    /// What paths and requests call it.
    #[schema(example = "google")]
    name: String,
    /// What people call it.
    #[schema(example = "Google")]
    label: String,
    /// Whether `POST /api/login/oidc` takes its ID tokens.
    #[schema(example = true)]
    id_tokens: bool,
    /// Whether `GET /api/login/oidc/{provider}/start` sends a browser there.
    #[schema(example = true)]
    web: bool,
}

impl ProviderResponse {
    /// A provider, and whether browsers are sent there.
    pub(crate) fn new(provider: &Provider, web: bool) -> Self {
        Self {
            name: provider.name().to_owned(),
            label: provider.label().to_owned(),
            id_tokens: provider.is_for_apps(),
            web,
        }
    }
}

/// How a login is answered whose identity is linked to no account, and an account has its address or none may be made.
#[derive(Serialize, ToSchema)]
#[schema(as = LinkOffer)]
pub(crate) struct LinkOfferResponse {
    #[schema(example = "Log in to your account otherwise, and link this identity there.")]
    error: String,
    /// What `POST /api/user/identities` takes, once, in a session of the account.
    #[schema(example = "d96163b8bc9127d8c5d5839018580123c64a324b", pattern = "^[0-9a-f]{40}$")]
    link_token: String,
    /// When the token is worth nothing.
    #[schema(example = "2015-01-04T23:01:35.144Z", format = DateTime)]
    expires: String,
}
