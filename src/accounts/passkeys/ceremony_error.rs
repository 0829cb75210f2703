//! Why an authenticator's answer is not accepted.

use thiserror::Error;
use webauthn_rs::prelude::WebauthnError;

/// Why an authenticator's answer is not accepted.
#[derive(Debug, Error)]
pub enum CeremonyError {
    /// It is malformed, or was not made for this.
    #[error("it was not made for this")]
    Refused,
    /// The library refuses it.
    #[error("it does not verify: {0}")]
    Unverified(#[from] WebauthnError),
    /// What is stored cannot be read.
    #[error("what is stored of a passkey cannot be read")]
    Stored(#[from] serde_json::Error),
    /// The system gives no random numbers.
    #[error("the system gives no random numbers")]
    NoRandomNumbers,
}
