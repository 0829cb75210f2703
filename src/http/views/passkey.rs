//! The JSON of a passkey.

use serde::Serialize;
use utoipa::ToSchema;

use crate::domain::passkey::PasskeyDetails;

/// A passkey, as its owner sees it.
#[derive(Serialize, ToSchema)]
#[schema(as = Passkey)]
pub(crate) struct PasskeyResponse {
    /// Its name among the caller's passkeys.
    #[schema(example = "5f0c1d3a9b7e24680f1e")]
    id: String,
    /// What its owner calls it.
    #[schema(example = "Phone")]
    name: String,
    /// When it was added.
    #[schema(example = "2015-01-04T22:51:35.144Z", format = DateTime)]
    created: String,
    /// When it was last used; `null` where it never was.
    #[schema(example = "2015-01-04T22:51:35.144Z", format = DateTime, required)]
    last_used: Option<String>,
}

impl From<PasskeyDetails> for PasskeyResponse {
    fn from(passkey: PasskeyDetails) -> Self {
        Self {
            id: passkey.id.as_str().to_owned(),
            name: passkey.name.as_str().to_owned(),
            created: passkey.created.to_string(),
            last_used: passkey.last_used.map(|at| at.to_string()),
        }
    }
}
