//! What goes wrong with mail, as sentences that show nothing that is somebody's.

use thiserror::Error;

/// Why a mail was not delivered: a sentence for the operator. It shows no code, no token, no password and no recipient.
#[derive(Debug, Error)]
#[error("{why}")]
pub struct DeliveryError {
    pub(super) why: String,
    /// Whether another attempt is of no use: the server has refused the mail for good.
    pub is_permanent: bool,
    /// Whether it is the way out that fails, for any mail, and not this mail alone.
    pub is_of_server: bool,
}

impl DeliveryError {
    /// Of the way out.
    pub(super) fn of_server(why: String) -> Self {
        Self { why, is_permanent: false, is_of_server: true }
    }

    /// Of this mail.
    pub(super) fn of_mail(why: String, is_permanent: bool) -> Self {
        Self { why, is_permanent, is_of_server: false }
    }
}

/// What keeps mail from being sent as it is configured: a sentence for whoever starts the service.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct MailError(pub(super) String);
