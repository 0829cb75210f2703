//! What goes wrong with mail, as sentences that show nothing that is somebody's.

use thiserror::Error;

/// Why a mail was not delivered: a sentence for the operator. It shows no code, no token, no password and no recipient.
#[derive(Debug, Error)]
#[error("{why}")]
pub struct DeliveryError {
    pub(super) why: String,
    /// Whether another attempt is of no use: the server has refused the mail for good.
    pub is_permanent: bool,
}

impl DeliveryError {
    pub(super) fn temporary(why: String) -> Self {
        Self { why, is_permanent: false }
    }

    pub(super) fn permanent(why: String) -> Self {
        Self { why, is_permanent: true }
    }
}

/// What keeps mail from being sent as it is configured: a sentence for whoever starts the service.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct MailError(pub(super) String);
