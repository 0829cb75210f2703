//! The JSON of what other services are told of a token (RFC 7662).

use serde::Serialize;
use utoipa::ToSchema;

use crate::domain::holder::HeldToken;
use crate::domain::session::{SessionId, SessionPolicy};
use crate::domain::token::TokenDigest;
use crate::system::clock::Timestamp;

/// What a token is worth. Of one that is worth nothing, `active` is all that is told.
#[derive(Serialize, ToSchema)]
#[schema(as = Introspection)]
pub(crate) struct IntrospectionResponse {
    /// Whether it is live.
    active: bool,
    #[serde(flatten)]
    of_live: Option<LiveToken>,
}

/// The answer of a token that is worth nothing, whatever the reason, to the byte.
pub(crate) const INACTIVE: &str = "{\"active\":false}";

impl IntrospectionResponse {
    /// Of a live token.
    pub(crate) fn of(held: &HeldToken, digest: &TokenDigest, policy: &SessionPolicy) -> Self {
        Self { active: true, of_live: Some(LiveToken::of(held, digest, policy)) }
    }
}

/// What is told of a live token.
#[derive(Serialize, ToSchema)]
struct LiveToken {
    /// The account: random, and never given twice. Keep what belongs to it under this, and not under its name.
    #[schema(example = "8d3f0c5b1e7a49d2a6c4f1b09e2d7835", pattern = "^[0-9a-f]{32}$")]
    sub: String,
    #[schema(example = "AzureDiamond")]
    username: String,
    /// When the session began, in seconds since 1970.
    #[schema(example = 1_420_411_895)]
    iat: i64,
    /// When the session ends if it is not used again. It is missing where it does not end by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = 1_423_003_895, nullable = false)]
    exp: Option<i64>,
    /// The session's `id` in `GET /api/user/tokens`.
    #[schema(example = "5f0c1d3a9b7e2468")]
    session: String,
    /// `users`, `staff` and `superusers`, as far as the account is one.
    #[schema(example = json!(["users", "staff"]))]
    groups: Vec<&'static str>,
    /// How the person showed who they are when the session was opened, in names of RFC 8176: `pwd`, `otp`, `pop` and `user`
    /// (a passkey), `mfa`. It is empty where there is no name for it, or it is not known.
    #[schema(example = json!(["pwd", "otp", "mfa"]))]
    amr: Vec<&'static str>,
    /// When the person last showed who they are. It is missing where that is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = 1_420_411_895, nullable = false)]
    auth_time: Option<i64>,
    /// Whether the account has a verified address.
    email_verified: bool,
    /// The address, where it is verified.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "azure@diamond.example", nullable = false)]
    email: Option<String>,
}

impl LiveToken {
    fn of(held: &HeldToken, digest: &TokenDigest, policy: &SessionPolicy) -> Self {
        let seconds = |time: Timestamp| time.as_millis().div_euclid(1_000);
        let holder = &held.holder;
        Self {
            sub: holder.public_id.to_string(),
            username: holder.username.as_str().to_owned(),
            iat: seconds(held.created),
            exp: policy.expires(held.created, held.session.last_used, held.expires).map(seconds),
            session: SessionId::of(digest).as_str().to_owned(),
            groups: holder.groups().collect(),
            amr: holder.methods.names().collect(),
            auth_time: held.authenticated().map(seconds),
            email_verified: holder.verified_email.is_some(),
            email: holder.verified_email.clone(),
        }
    }
}
