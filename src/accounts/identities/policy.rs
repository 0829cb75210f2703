//! What the configuration lets logins by providers of identities do.

use std::sync::Arc;

use super::exchanged::Exchanged;
use crate::providers::Providers;

/// What logins by providers of identities may do.
pub struct IdentityPolicy {
    /// Those that are asked.
    pub providers: Arc<Providers>,
    /// Whether somebody without an account is given one.
    pub registers: bool,
    /// Where a browser may be sent back to.
    pub return_to: Vec<String>,
    /// The address of this service, of which a provider is told where to send a browser; without one no browser is sent.
    pub public_url: Option<String>,
    /// Which ID tokens have brought an exchange.
    pub exchanged: Exchanged,
}
