//! Security events: what happened to an account, when, by whom and from where.
//!
//! They are the audit trail. An event is written in the same transaction as what it records, so that neither exists
//! without the other. It is never changed, and pruned when it is too old. None holds a secret: a session is named by
//! its id, and a submitted name is stored only where it is an account's.

use std::fmt;
use std::net::IpAddr;

use crate::domain::user::Username;
use crate::system::clock::Timestamp;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// The account was created by its owner.
    Registered,
    /// The account was created by the operator.
    Created,
    /// The account was imported from another system by the operator.
    Imported,
    /// A session was opened.
    LoggedIn,
    /// A password was wrong, or the account does not exist or is inactive.
    LoginFailed,
    /// A session's holder gave the password again.
    Reauthenticated,
    /// The password that a session's holder gave again was wrong.
    ReauthenticationFailed,
    /// An attempt was refused because there had been too many.
    Throttled,
    /// A session was ended with its own token.
    LoggedOut,
    /// A session was ended with another token of its account, or by staff.
    SessionRevoked,
    /// All sessions were ended.
    AllSessionsRevoked,
    /// The password was changed by its owner.
    PasswordChanged,
    /// The password was set by staff or the operator.
    PasswordSet,
    /// The account was activated.
    Activated,
    /// The account was deactivated.
    Deactivated,
    /// The account was given a right.
    Promoted,
    /// The account lost a right.
    Demoted,
    /// The account was deleted.
    Deleted,
    /// Another address was asked for.
    EmailChangeRequested,
    /// The change of the address was withdrawn, or disowned by means of a mail.
    EmailChangeWithdrawn,
    /// The address was shown to be the account's.
    EmailVerified,
    /// The account has another address.
    EmailChanged,
    /// The former address was restored by means of the mail that told of the change.
    EmailRestored,
    /// A mail that resets the password was made.
    ResetRequested,
    /// The password was set by means of a mail.
    PasswordReset,
    /// A code from a mail was wrong.
    CodeFailed,
    /// The login before was from an unknown network with an unknown program, and its owner was told.
    UnfamiliarLogin,
    /// What a notice told of was disowned by means of its mail.
    Disowned,
    /// A mail could not be delivered.
    MailFailed,
    /// The first factor of a login was right, and the second was asked for.
    SecondFactorAsked,
    /// The second factor of a login was wrong, and its first was right.
    SecondFactorFailed,
    /// The account has an authenticator app.
    TotpAdded,
    /// The authenticator app and the recovery codes were removed.
    TotpRemoved,
    /// A recovery code was used in the place of the authenticator app.
    RecoveryCodeUsed,
    /// There are new recovery codes.
    RecoveryCodesReplaced,
    /// The account has one more passkey.
    PasskeyAdded,
    /// A passkey was removed.
    PasskeyRemoved,
    /// The account was linked to an identity.
    IdentityLinked,
    /// An identity was unlinked, or withdrawn by its provider.
    IdentityUnlinked,
    /// The authenticator app, the recovery codes and the passkeys were removed by staff or the operator.
    FactorsReset,
    /// A webhook was added.
    WebhookAdded,
    /// A webhook has a new secret.
    WebhookRotated,
    /// Nothing is sent to a webhook any more: by the operator, by its receiver, or because it has failed for so long.
    WebhookDisabled,
    /// Events are sent to a webhook again.
    WebhookEnabled,
    /// Events that were sent before are sent to a webhook again.
    WebhookReplayed,
    /// A webhook was removed.
    WebhookRemoved,
    /// Another service may ask whose a token is. It is no account's event.
    ServiceAdded,
    /// Another service may ask no more.
    ServiceRevoked,
}

impl EventKind {
    /// All of them.
    pub const ALL: [Self; 48] = [
        Self::Registered,
        Self::Created,
        Self::Imported,
        Self::LoggedIn,
        Self::LoginFailed,
        Self::Reauthenticated,
        Self::ReauthenticationFailed,
        Self::Throttled,
        Self::LoggedOut,
        Self::SessionRevoked,
        Self::AllSessionsRevoked,
        Self::PasswordChanged,
        Self::PasswordSet,
        Self::Activated,
        Self::Deactivated,
        Self::Promoted,
        Self::Demoted,
        Self::Deleted,
        Self::EmailChangeRequested,
        Self::EmailChangeWithdrawn,
        Self::EmailVerified,
        Self::EmailChanged,
        Self::EmailRestored,
        Self::ResetRequested,
        Self::PasswordReset,
        Self::CodeFailed,
        Self::UnfamiliarLogin,
        Self::Disowned,
        Self::MailFailed,
        Self::SecondFactorAsked,
        Self::SecondFactorFailed,
        Self::TotpAdded,
        Self::TotpRemoved,
        Self::RecoveryCodeUsed,
        Self::RecoveryCodesReplaced,
        Self::PasskeyAdded,
        Self::PasskeyRemoved,
        Self::IdentityLinked,
        Self::IdentityUnlinked,
        Self::FactorsReset,
        Self::WebhookAdded,
        Self::WebhookRotated,
        Self::WebhookDisabled,
        Self::WebhookEnabled,
        Self::WebhookReplayed,
        Self::WebhookRemoved,
        Self::ServiceAdded,
        Self::ServiceRevoked,
    ];

    /// Whether it happened to a webhook. No webhook is sent it.
    #[must_use]
    pub const fn is_of_webhooks(self) -> bool {
        matches!(
            self,
            Self::WebhookAdded
                | Self::WebhookRotated
                | Self::WebhookDisabled
                | Self::WebhookEnabled
                | Self::WebhookReplayed
                | Self::WebhookRemoved
        )
    }

    /// Whether it is a failed attempt that counts at its account. Failed reauthentications are counted apart, and only in
    /// memory.
    #[must_use]
    pub const fn counts_at_account(self) -> bool {
        matches!(self, Self::LoginFailed | Self::CodeFailed | Self::SecondFactorFailed)
    }

    /// Its name, as stored and shown.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Registered => "registered",
            Self::Created => "created",
            Self::Imported => "imported",
            Self::LoggedIn => "logged_in",
            Self::LoginFailed => "login_failed",
            Self::Reauthenticated => "reauthenticated",
            Self::ReauthenticationFailed => "reauthentication_failed",
            Self::Throttled => "throttled",
            Self::LoggedOut => "logged_out",
            Self::SessionRevoked => "session_revoked",
            Self::AllSessionsRevoked => "all_sessions_revoked",
            Self::PasswordChanged => "password_changed",
            Self::PasswordSet => "password_set",
            Self::Activated => "activated",
            Self::Deactivated => "deactivated",
            Self::Promoted => "promoted",
            Self::Demoted => "demoted",
            Self::Deleted => "deleted",
            Self::EmailChangeRequested => "email_change_requested",
            Self::EmailChangeWithdrawn => "email_change_withdrawn",
            Self::EmailVerified => "email_verified",
            Self::EmailChanged => "email_changed",
            Self::EmailRestored => "email_restored",
            Self::ResetRequested => "reset_requested",
            Self::PasswordReset => "password_reset",
            Self::CodeFailed => "code_failed",
            Self::UnfamiliarLogin => "unfamiliar_login",
            Self::Disowned => "disowned",
            Self::MailFailed => "mail_failed",
            Self::SecondFactorAsked => "second_factor_asked",
            Self::SecondFactorFailed => "second_factor_failed",
            Self::TotpAdded => "totp_added",
            Self::TotpRemoved => "totp_removed",
            Self::RecoveryCodeUsed => "recovery_code_used",
            Self::RecoveryCodesReplaced => "recovery_codes_replaced",
            Self::PasskeyAdded => "passkey_added",
            Self::PasskeyRemoved => "passkey_removed",
            Self::IdentityLinked => "identity_linked",
            Self::IdentityUnlinked => "identity_unlinked",
            Self::FactorsReset => "factors_reset",
            Self::WebhookAdded => "webhook_added",
            Self::WebhookRotated => "webhook_rotated",
            Self::WebhookDisabled => "webhook_disabled",
            Self::WebhookEnabled => "webhook_enabled",
            Self::WebhookReplayed => "webhook_replayed",
            Self::WebhookRemoved => "webhook_removed",
            Self::ServiceAdded => "service_added",
            Self::ServiceRevoked => "service_revoked",
        }
    }

    /// The kind of this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// An event as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Event {
    /// A later event has a greater one.
    pub id: i64,
    pub at: Timestamp,
    pub kind: EventKind,
    /// The account's name; empty where no account has the name that was given.
    pub username: String,
    /// Who did it: a name, [`COMMAND_LINE`](crate::domain::user::COMMAND_LINE), or empty where nobody was authenticated.
    pub actor: String,
    pub ip: Option<IpAddr>,
    /// A session's id, a right, a limit, a mail's kind, a webhook's id, a service's name, or nothing.
    pub detail: String,
}

/// A cursor into a list of events. A store makes it, a client sees it as an event's number and gives it back for the
/// next page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventCursor(i64);

impl EventCursor {
    /// After the event with this number.
    pub(crate) fn behind(id: i64) -> Self {
        Self(id)
    }

    /// The number of the event that it points after.
    pub(crate) fn id(self) -> i64 {
        self.0
    }

    /// Reads a cursor that a client gave back.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        text.parse().ok().map(Self)
    }
}

impl fmt::Display for EventCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Which events to list, newest first. `None` filters nothing.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the names say it")]
pub struct EventQuery {
    pub username: Option<Username>,
    pub kind: Option<EventKind>,
    /// Only events older than the last one of a page.
    pub before: Option<EventCursor>,
    pub limit: u32,
}

/// An attempt that failed or was throttled. It changes nothing, so it is stored a moment later, many at a time.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names say it")]
pub struct FailedAttempt {
    pub at: Timestamp,
    pub kind: EventKind,
    /// The name that was given, where one was.
    pub username: Option<Username>,
    pub ip: Option<IpAddr>,
    /// Which limit it exceeded, where it was throttled.
    pub detail: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_name_of_its_own_and_is_found_by_it() {
        for kind in EventKind::ALL {
            assert_eq!(EventKind::parse(kind.name()), Some(kind));
        }
        assert_eq!(EventKind::parse("anything"), None);
    }
}
