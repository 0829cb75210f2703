//! The JSON of second factors: what a login lacks, what was set up, and how an account can be got into.

use serde::Serialize;
use utoipa::ToSchema;

use crate::accounts::SecondFactorDue;

/// What a login lacks whose first factor was right.
#[derive(Serialize, ToSchema)]
#[schema(as = SecondFactor)]
pub(crate) struct SecondFactorResponse {
    /// What `POST /api/login/second` takes with the factor.
    #[schema(example = "d96163b8bc9127d8c5d5839018580123c64a324b", pattern = "^[0-9a-f]{40}$")]
    token: String,
    /// How the factor may be given: `totp`, `recovery_code`, `passkey`.
    #[schema(example = json!(["totp", "recovery_code"]))]
    methods: Vec<&'static str>,
    /// When the token is worth nothing.
    #[schema(example = "2015-01-04T22:56:35.144Z", format = DateTime)]
    expires: String,
}

impl From<&SecondFactorDue> for SecondFactorResponse {
    fn from(due: &SecondFactorDue) -> Self {
        Self {
            token: due.token.reveal().to_owned(),
            methods: due.methods.iter().map(|method| method.name()).collect(),
            expires: due.expires.to_string(),
        }
    }
}

/// How a login is answered that lacks its second factor: an error for a client that knows nothing of factors.
#[derive(Serialize, ToSchema)]
pub(crate) struct SecondFactorDueResponse {
    #[schema(example = "The second factor is required.")]
    error: String,
    second_factor: SecondFactorResponse,
}
