//! The JSON of an address, and of a mail that was asked for.

use serde::Serialize;
use utoipa::ToSchema;

use crate::domain::token::PlainToken;
use crate::repository::EmailState;

/// An account's address as its owner sees it.
#[derive(Serialize, ToSchema)]
pub(crate) struct EmailResponse {
    /// Empty where there is none.
    #[schema(example = "azure@diamond.example")]
    email: String,
    /// Whether it was shown to be the account's.
    #[schema(example = true)]
    verified: bool,
    /// The address that waits for its confirmation.
    #[schema(required)]
    pending: Option<PendingEmail>,
}

/// An address that waits for its confirmation.
#[derive(Serialize, ToSchema)]
pub(crate) struct PendingEmail {
    #[schema(example = "blue@diamond.example")]
    email: String,
    /// When it stops waiting.
    #[schema(example = "2015-01-05T22:51:35.144Z", format = DateTime)]
    expires: String,
}

impl From<EmailState> for EmailResponse {
    fn from(state: EmailState) -> Self {
        let pending = state.pending.map(|(email, expires)| PendingEmail { email, expires: expires.to_string() });
        Self { email: state.email, verified: state.is_verified, pending }
    }
}

impl EmailResponse {
    /// Whether it is verified, and what waits.
    pub(crate) fn into_parts(self) -> (bool, Option<PendingEmail>) {
        (self.verified, self.pending)
    }
}

/// A mail that was asked for, whether or not there is an account to send it to.
#[derive(Serialize, ToSchema)]
pub(crate) struct MailRequestResponse {
    /// The request id, with which the code of the mail counts. Only this answer shows it.
    #[schema(example = "0beec7b5ea3f0fdbc95d0dd47f3c5bc275da8a33", pattern = "^[0-9a-f]{40}$")]
    request: String,
}

impl From<PlainToken> for MailRequestResponse {
    fn from(request: PlainToken) -> Self {
        Self { request: request.reveal().to_owned() }
    }
}
