//! The domain that passkeys are made for, at the start: those that are stored work for no other.

use thiserror::Error;
use webauthn_rs::prelude::WebauthnError;

use super::relying_party::RelyingParty;
use crate::config::Config;
use crate::repository::{Repository, RepositoryError};

/// Why the service does not start.
#[derive(Debug, Error)]
pub enum PasskeyDomainError {
    /// Passkeys are stored for another domain. They would be dead without a word, and others made beside them.
    #[error(
        "passkeys.rp_id is {configured}, and the store has {count} passkeys for {stored}, which work for no other domain: \
         set it back, or have their owners remove them first"
    )]
    Other {
        /// What is configured.
        configured: String,
        /// What is stored.
        stored: String,
        /// How many.
        count: u64,
    },
    /// The library refuses the configuration.
    #[error("passkeys cannot be used as they are configured: {0}")]
    Refused(#[from] WebauthnError),
    /// The store failed.
    #[error("the passkeys of the store cannot be counted: {0}")]
    Repository(#[from] RepositoryError),
}

/// What passkeys are made for and verified by; `None` where there are none.
///
/// # Errors
/// See [`PasskeyDomainError`].
pub async fn find_relying_party(
    config: &Config,
    repository: &dyn Repository,
) -> Result<Option<RelyingParty>, PasskeyDomainError> {
    let stored = repository.count_passkeys_by_domain().await?;
    match &config.passkeys.rp_id {
        Some(configured) => {
            if let Some((stored, count)) = stored.into_iter().find(|(stored, _)| stored != configured) {
                return Err(PasskeyDomainError::Other { configured: configured.clone(), stored, count });
            }
        }
        None if !stored.is_empty() => {
            log::warn!("passkeys are stored and passkeys.rp_id is not set: nobody can use them");
        }
        None => {}
    }
    Ok(RelyingParty::new(&config.passkeys, &config.server.name)?)
}
