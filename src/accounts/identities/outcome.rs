//! What is given to show an identity, and why that did not do what it was to do.

use thiserror::Error;

use crate::accounts::reauthenticate::ReauthenticationError;
use crate::accounts::service::Accounts;
use crate::accounts::sign_in::SecondFactorDue;
use crate::accounts::throttle::Throttled;
use crate::domain::field::InvalidField;
use crate::domain::token::PlainToken;
use crate::providers::{Provider, ProviderError};
use crate::repository::{RepositoryError, UniqueField};
use crate::system::clock::Timestamp;

/// An ID token as an app sends it, of which nothing is verified yet.
#[expect(missing_docs, reason = "the names say it")]
pub struct GivenIdToken {
    pub provider: String,
    pub id_token: String,
    pub nonce: Option<String>,
    /// Apple's, which is exchanged for the refresh token.
    pub authorization_code: Option<String>,
}

/// What a browser has brought back to its app, and the verifier to which the app gave the challenge.
#[expect(missing_docs, reason = "the names say it")]
pub struct GivenCode {
    pub code: String,
    pub code_verifier: String,
}

/// How somebody shows an identity, of which nothing is verified yet.
#[expect(missing_docs, reason = "the names say it")]
pub enum GivenIdentity {
    IdToken(GivenIdToken),
    /// By way of a browser.
    Code(GivenCode),
}

/// An identity that is linked by whoever logs in to the account. Only here is its token known.
#[expect(missing_docs, reason = "the names say it")]
pub struct LinkOffer {
    pub token: PlainToken,
    pub expires: Timestamp,
}

impl std::fmt::Debug for LinkOffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LinkOffer").finish_non_exhaustive()
    }
}

/// Why an identity did not do what it was to do.
#[derive(Debug, Error)]
pub enum IdentityError {
    /// There is no such provider, or it does not offer this.
    #[error("the provider is not offered")]
    NotOffered,
    /// What was given is worth nothing, was used before, or is that of an account that may not be used.
    #[error("what the provider said is worth nothing")]
    Refused,
    /// The first factor is right, and the second is due.
    #[error("the second factor is due")]
    SecondFactorDue(Box<SecondFactorDue>),
    /// The account's address was never shown to be its own.
    #[error("the account's address is not verified")]
    EmailNotVerified,
    /// An account is there that it may be, or none may be made: it is linked by whoever logs in.
    #[error("the identity is not linked")]
    NotLinked(Box<LinkOffer>),
    /// Another account is linked to it.
    #[error("another account is linked to the identity")]
    Taken,
    /// The account has as many as it may have.
    #[error("the account has too many identities")]
    Full,
    /// It is the only way into the account.
    #[error("it is the last way into the account")]
    LastWayIn,
    /// The account has no such identity.
    #[error("the account has no such identity")]
    NotFound,
    /// The session is not fresh.
    #[error("the session is not fresh")]
    NotFresh,
    /// A field of what was given breaks its rule.
    #[error(transparent)]
    Invalid(#[from] InvalidField),
    /// There were too many attempts.
    #[error(transparent)]
    Throttled(#[from] Throttled),
    /// The provider cannot be asked now.
    #[error("the provider cannot be asked")]
    Unreachable(#[source] ProviderError),
    /// The store failed.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
}

impl From<ProviderError> for IdentityError {
    fn from(error: ProviderError) -> Self {
        match error {
            ProviderError::NotOffered => Self::NotOffered,
            error if error.is_refusal() => Self::Refused,
            error => Self::Unreachable(error),
        }
    }
}

impl From<ReauthenticationError> for IdentityError {
    fn from(error: ReauthenticationError) -> Self {
        match error {
            ReauthenticationError::Throttled(error) => Self::Throttled(error),
            ReauthenticationError::Repository(error) => Self::Repository(error),
            ReauthenticationError::NotFresh
            | ReauthenticationError::WrongPassword
            | ReauthenticationError::Password(_) => Self::NotFresh,
        }
    }
}

impl IdentityError {
    /// Whether the name that a new account was to have is another's.
    #[must_use]
    pub fn is_taken_name(&self) -> bool {
        matches!(self, Self::Repository(RepositoryError::Conflict(UniqueField::Username)))
    }

    /// Whether somebody meets it whose first login another one of theirs has overtaken.
    pub(super) fn is_of_a_first_login(&self) -> bool {
        matches!(self, Self::Refused | Self::Throttled(_)) || self.is_taken_name()
    }
}

impl Accounts {
    /// The provider of this name.
    ///
    /// # Errors
    /// [`IdentityError::NotOffered`] where there is none.
    pub fn provider(&self, name: &str) -> Result<&Provider, IdentityError> {
        self.identities.providers.find(name).ok_or(IdentityError::NotOffered)
    }
}
