//! Mails: which there are, how long each is worth sending, and where its link leads.

use std::net::IpAddr;
use std::time::Duration;

use crate::domain::email::EmailAddress;
use crate::domain::event::EventKind;
use crate::domain::one_time::{Code, Purpose};
use crate::domain::session::UserAgent;
use crate::domain::token::PlainToken;
use crate::system::clock::Timestamp;

/// What a mail is about. Each has a template of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MailKind {
    /// A code and a link that show that an address is the account's.
    ConfirmEmail,
    /// In the place of [`MailKind::ConfirmEmail`], where the address is another account's already.
    EmailTaken,
    /// A code and a link to set a new password.
    ResetPassword,
    /// A code and a link to open a session.
    SignIn,
    /// A code that makes a session fresh.
    Reauthenticate,
    /// A notice: the password was changed by its owner.
    PasswordChanged,
    /// A notice: the password was set by staff or the operator.
    PasswordSet,
    /// A notice: the password was set by means of a mail.
    PasswordReset,
    /// A notice to the present address: another was asked for.
    EmailChangeRequested,
    /// A notice to the former address: the account has another.
    EmailChanged,
    /// A notice: somebody logged in from an unknown network with an unknown program.
    UnfamiliarSignIn,
    /// A notice: the account has an authenticator app.
    TotpAdded,
    /// A notice: the authenticator app was removed.
    TotpRemoved,
    /// A notice: a recovery code was used in the place of the authenticator app.
    RecoveryCodeUsed,
    /// A notice: there are new recovery codes.
    RecoveryCodesReplaced,
    /// A notice: the account has one more passkey.
    PasskeyAdded,
    /// A notice: a passkey was removed.
    PasskeyRemoved,
    /// A notice: the account was linked to an identity.
    IdentityLinked,
    /// A notice: an identity was unlinked.
    IdentityUnlinked,
    /// A notice: staff or the operator removed the authenticator app, the recovery codes and the passkeys.
    FactorsReset,
    /// A notice: the account was deleted.
    AccountDeleted,
    /// To superusers and staff: a webhook was disabled because it has failed, or its receiver is gone.
    WebhookDisabled,
}

impl MailKind {
    /// All of them.
    pub const ALL: [Self; 22] = [
        Self::ConfirmEmail,
        Self::EmailTaken,
        Self::ResetPassword,
        Self::SignIn,
        Self::Reauthenticate,
        Self::PasswordChanged,
        Self::PasswordSet,
        Self::PasswordReset,
        Self::EmailChangeRequested,
        Self::EmailChanged,
        Self::UnfamiliarSignIn,
        Self::TotpAdded,
        Self::TotpRemoved,
        Self::RecoveryCodeUsed,
        Self::RecoveryCodesReplaced,
        Self::PasskeyAdded,
        Self::PasskeyRemoved,
        Self::IdentityLinked,
        Self::IdentityUnlinked,
        Self::FactorsReset,
        Self::AccountDeleted,
        Self::WebhookDisabled,
    ];

    /// Its name: of its template, in the store, in the metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ConfirmEmail => "confirm_email",
            Self::EmailTaken => "email_taken",
            Self::ResetPassword => "reset_password",
            Self::SignIn => "sign_in",
            Self::Reauthenticate => "reauthenticate",
            Self::PasswordChanged => "password_changed",
            Self::PasswordSet => "password_set",
            Self::PasswordReset => "password_reset",
            Self::EmailChangeRequested => "email_change_requested",
            Self::EmailChanged => "email_changed",
            Self::UnfamiliarSignIn => "unfamiliar_sign_in",
            Self::TotpAdded => "totp_added",
            Self::TotpRemoved => "totp_removed",
            Self::RecoveryCodeUsed => "recovery_code_used",
            Self::RecoveryCodesReplaced => "recovery_codes_replaced",
            Self::PasskeyAdded => "passkey_added",
            Self::PasskeyRemoved => "passkey_removed",
            Self::IdentityLinked => "identity_linked",
            Self::IdentityUnlinked => "identity_unlinked",
            Self::FactorsReset => "factors_reset",
            Self::AccountDeleted => "account_deleted",
            Self::WebhookDisabled => "webhook_disabled",
        }
    }

    /// The kind of this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// The notice that goes with an event; `None` where its owner is not told.
    #[must_use]
    pub const fn telling_of(event: EventKind) -> Option<Self> {
        match event {
            EventKind::PasswordChanged => Some(Self::PasswordChanged),
            EventKind::PasswordSet => Some(Self::PasswordSet),
            EventKind::PasswordReset => Some(Self::PasswordReset),
            EventKind::EmailChangeRequested => Some(Self::EmailChangeRequested),
            EventKind::EmailChanged => Some(Self::EmailChanged),
            EventKind::UnfamiliarLogin => Some(Self::UnfamiliarSignIn),
            EventKind::TotpAdded => Some(Self::TotpAdded),
            EventKind::TotpRemoved => Some(Self::TotpRemoved),
            EventKind::RecoveryCodeUsed => Some(Self::RecoveryCodeUsed),
            EventKind::RecoveryCodesReplaced => Some(Self::RecoveryCodesReplaced),
            EventKind::PasskeyAdded => Some(Self::PasskeyAdded),
            EventKind::PasskeyRemoved => Some(Self::PasskeyRemoved),
            EventKind::IdentityLinked => Some(Self::IdentityLinked),
            EventKind::IdentityUnlinked => Some(Self::IdentityUnlinked),
            EventKind::FactorsReset => Some(Self::FactorsReset),
            EventKind::Deleted => Some(Self::AccountDeleted),
            _ => None,
        }
    }

    /// What its link is for; `None` where it has none.
    #[must_use]
    pub const fn purpose(self) -> Option<Purpose> {
        match self {
            Self::ConfirmEmail => Some(Purpose::ConfirmEmail),
            Self::ResetPassword => Some(Purpose::ResetPassword),
            Self::SignIn => Some(Purpose::SignIn),
            Self::Reauthenticate => Some(Purpose::Reauthenticate),
            Self::PasswordChanged
            | Self::PasswordSet
            | Self::PasswordReset
            | Self::EmailChangeRequested
            | Self::EmailChanged
            | Self::UnfamiliarSignIn
            | Self::TotpAdded
            | Self::TotpRemoved
            | Self::RecoveryCodeUsed
            | Self::RecoveryCodesReplaced
            | Self::PasskeyAdded
            | Self::PasskeyRemoved
            | Self::IdentityLinked
            | Self::IdentityUnlinked
            | Self::FactorsReset => Some(Purpose::NotMe),
            Self::EmailTaken | Self::AccountDeleted | Self::WebhookDisabled => None,
        }
    }

    /// Whether it tells of a provider.
    #[must_use]
    pub const fn names_provider(self) -> bool {
        matches!(self, Self::IdentityLinked | Self::IdentityUnlinked)
    }

    /// Whether it tells of a webhook.
    #[must_use]
    pub const fn names_webhook(self) -> bool {
        matches!(self, Self::WebhookDisabled)
    }

    /// Whether it needs to know what its event tells beside its kind: a session's id, a provider, or a webhook's id.
    #[must_use]
    pub const fn needs_detail(self) -> bool {
        self.names_provider() || self.names_webhook() || matches!(self, Self::UnfamiliarSignIn)
    }

    /// Whether it shows a code.
    #[must_use]
    pub const fn has_code(self) -> bool {
        matches!(self, Self::ConfirmEmail | Self::ResetPassword | Self::SignIn | Self::Reauthenticate)
    }

    /// The name of the service's own page that its link leads to, below `/account/`; `None` where it has no link. A code
    /// that makes a session fresh is entered where the session is.
    #[must_use]
    pub const fn page(self) -> Option<&'static str> {
        match self.purpose() {
            Some(Purpose::ConfirmEmail) => Some("confirm"),
            Some(Purpose::ResetPassword) => Some("reset"),
            Some(Purpose::SignIn) => Some("login"),
            Some(Purpose::NotMe) => Some("not-me"),
            Some(Purpose::Reauthenticate) | None => None,
        }
    }

    /// How long after its cause a mail of the outbox is still sent. A confirmation is worth as long as its link; a notice
    /// is news for a day.
    #[must_use]
    pub const fn lifetime(self) -> Duration {
        Duration::from_secs(24 * 60 * 60)
    }
}

/// A mail that is about to be sent, with its secrets in clear. It exists in memory alone, and has no `Debug`.
#[expect(missing_docs, reason = "the names say it")]
pub struct Mail {
    pub kind: MailKind,
    pub to: EmailAddress,
    /// The account's name; `None` where the address is not verified: to such a one no mail carries text that a user chose.
    pub username: Option<String>,
    pub code: Option<Code>,
    /// The token of its link.
    pub token: Option<PlainToken>,
    /// When code and token were made: they are valid from then on.
    pub made: Timestamp,
    /// Where its link leads, where not to the service's own page. The token is added behind a `#`.
    pub link: Option<String>,
    /// What it tells of: when, and where known and verified, from where and by which program.
    pub at: Timestamp,
    pub ip: Option<IpAddr>,
    pub user_agent: Option<UserAgent>,
    /// The provider that it tells of, as the configuration calls it.
    pub provider: Option<String>,
    /// The id of the webhook that it tells of.
    pub webhook: Option<String>,
}

/// How long after each failed delivery a mail of the outbox is tried again. After the last it is given up.
pub const RETRY_AFTER: [Duration; 4] = [
    Duration::from_secs(60),
    Duration::from_secs(5 * 60),
    Duration::from_secs(30 * 60),
    Duration::from_secs(2 * 60 * 60),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_name_of_its_own_and_is_found_by_it() {
        for kind in MailKind::ALL {
            assert_eq!(MailKind::parse(kind.name()), Some(kind));
        }
        assert_eq!(MailKind::parse("anything"), None);
    }
}
