//! What goes wrong with a provider: what is refused, what is not offered, and what cannot be asked now.

use thiserror::Error;

use crate::outbound::OutboundError;

/// Why a provider's word was not taken, or not had.
#[derive(Debug, Error)]
pub enum ProviderError {
    /// The configuration does not offer this with that provider.
    #[error("the provider is not offered for this")]
    NotOffered,
    /// What was presented is worth nothing. The sentence says why, for the log, and holds nothing of it.
    #[error("what was presented is refused: {0}")]
    Refused(&'static str),
    /// The provider cannot be asked now.
    #[error("the provider cannot be asked")]
    Unreachable(#[from] OutboundError),
    /// The provider answers with something that it should not.
    #[error("the provider's answer cannot be used: {0}")]
    Answer(&'static str),
}

impl ProviderError {
    /// Whether whoever presented something is to be refused. Else the provider is to blame, or the configuration.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused(_))
    }
}
