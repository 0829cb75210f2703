//! What comes of ceremonies, and of changes to an account's passkeys.

use std::sync::Arc;

use thiserror::Error;

use super::ceremony_error::CeremonyError;
use crate::accounts::reauthenticate::ReauthenticationError;
use crate::accounts::second_factor::FactorError;
use crate::accounts::throttle::Throttled;
use crate::repository::{Cause, RepositoryError};

/// This service has no passkeys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("this service has no passkeys")]
pub struct NoPasskeys;

/// Why the passkeys of an account were not changed, or no challenge was made.
#[derive(Debug, Error)]
pub enum PasskeyError {
    /// There are none here.
    #[error(transparent)]
    NoPasskeys(#[from] NoPasskeys),
    /// What the authenticator answered was not made for this, does not verify, or comes too late.
    #[error("the passkey does not verify, or its challenge has expired")]
    Refused,
    /// It is an account's already.
    #[error("the passkey is an account's already")]
    Taken,
    /// The account has as many as it may have.
    #[error("the account has as many passkeys as it may have")]
    Full,
    /// There is none of this id.
    #[error("there is no such passkey")]
    NotFound,
    /// The account has no other way in.
    #[error("the account has no other way in")]
    LastWayIn,
    /// The account has an authenticator app, and no code of it was given.
    #[error("a code of the authenticator app is required")]
    CodeMissing,
    /// The second factor was refused, or could not be read.
    #[error(transparent)]
    Factor(#[from] FactorError),
    /// The session is not fresh.
    #[error(transparent)]
    Reauthentication(#[from] ReauthenticationError),
    /// Too many ceremonies were begun.
    #[error(transparent)]
    Throttled(#[from] Throttled),
    /// The store failed.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
}

/// What an answer has come to: `None` where it is refused. What is stored and cannot be read is nobody's answer.
pub(super) fn accepted<T>(outcome: Result<T, CeremonyError>) -> Result<Option<T>, RepositoryError> {
    match outcome {
        Ok(accepted) => Ok(Some(accepted)),
        Err(CeremonyError::Refused | CeremonyError::Unverified(_)) => Ok(None),
        Err(error) => Err(fault(error)),
    }
}

/// A fault of the service, not of whoever asks.
pub(super) fn fault(error: CeremonyError) -> RepositoryError {
    let is_of_the_store = matches!(error, CeremonyError::Stored(_));
    let cause: Cause = Arc::new(error);
    if is_of_the_store { RepositoryError::Inconsistent(cause) } else { RepositoryError::Backend(cause) }
}
