//! The second factor as it is given, and why what is stored of it cannot be used.

use thiserror::Error;

use crate::accounts::passkeys::relying_party::PasskeyAssertion;
use crate::domain::factor::RecoveryCode;
use crate::domain::one_time::Code;
use crate::repository::RepositoryError;
use crate::system::sealing::UnsealError;

/// A second factor as it was given, of which nothing is verified yet.
#[derive(Clone)]
pub enum GivenFactor {
    /// A code of the authenticator app.
    Totp(Code),
    /// A recovery code.
    RecoveryCode(RecoveryCode),
    /// A passkey.
    Passkey(Box<PasskeyAssertion>),
}

/// Why a secret cannot be sealed, or one that is stored cannot be opened.
#[derive(Debug, Error)]
pub enum SealingError {
    /// There is no key.
    #[error("there is no key to seal secrets with")]
    NoKey,
    /// What is stored was sealed with another key, or altered.
    #[error("a sealed secret cannot be opened: {0}")]
    Unsealing(#[from] UnsealError),
    /// What is sealed is no secret of an authenticator app.
    #[error("a sealed secret is none of an authenticator app")]
    Malformed,
    /// The store failed.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
}
