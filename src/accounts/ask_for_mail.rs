//! Asking for a mail: to reset a password, to sign in, to make a session fresh.
//!
//! Whoever has no session gets the same answer after the same work, whether or not there is such an account: nothing is
//! looked up here. The limits are of the network and of all strangers together; those of a mailbox are kept where the
//! mail is prepared.

use thiserror::Error;

use super::mail_requests::{MailRequest, QueueFull, Requested};
use super::service::{Accounts, Client, MailPolicy};
use super::throttle::limits::Call;
use super::throttle::mail_limits::Asker;
use super::throttle::{Admission, Throttled};
use crate::domain::field::InvalidField;
use crate::domain::one_time::Purpose;
use crate::domain::session::Caller;
use crate::domain::token::PlainToken;
use crate::repository::{RepositoryError, Whom};

/// Why a mail was not asked for.
#[derive(Debug, Error)]
pub enum AskError {
    /// The account has no verified address.
    #[error("the account has no verified address")]
    NotVerified,
    /// Too many mails were asked for.
    #[error(transparent)]
    Throttled(#[from] Throttled),
    /// Too many mails wait.
    #[error(transparent)]
    Full(#[from] QueueFull),
    /// The store failed.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
}

/// What somebody without a session asks for.
#[expect(missing_docs, reason = "the names say it")]
pub struct Asked {
    pub whom: Whom,
    pub purpose: Purpose,
    pub link: Option<String>,
}

impl Accounts {
    /// Asks for a mail for somebody without a session. Returns the request id, with which the mail's code counts.
    ///
    /// # Errors
    /// See [`AskError`].
    pub fn ask_for_mail(
        &self,
        policy: &MailPolicy,
        admission: Admission<'_>,
        Asked { whom, purpose, link }: Asked,
        client: &impl Client,
    ) -> Result<PlainToken, AskError> {
        admission.confirm(Call::LogIn);
        self.throttle.admit_mail(&policy.limits, client.ip())?;
        let request = PlainToken::generate();
        let id = request.clone();
        let name = match &whom {
            Whom::Username(username) => username.as_str(),
            Whom::Email(email) => email.as_str(),
        };
        let name = name.to_owned();
        let whom = Requested::Somebody(whom);
        policy.requests.push(MailRequest { whom, purpose, request, ip: client.ip(), link })?;
        self.throttle.guesses.remember(&id.digest(), name, self.clock.monotonic());
        Ok(id)
    }

    /// Asks for a code that makes the caller's session fresh. Returns the request id.
    ///
    /// # Errors
    /// See [`AskError`].
    pub async fn ask_for_own_code(
        &self,
        policy: &MailPolicy,
        caller: &Caller,
        client: &impl Client,
    ) -> Result<PlainToken, AskError> {
        let recipient = self.repository.find_own_recipient(caller).await?.ok_or(AskError::NotVerified)?;
        self.throttle.admit_own_mail(&policy.limits, &recipient.username, Asker::OwnSession, client.ip())?;
        let request = PlainToken::generate();
        let id = request.clone();
        let (whom, purpose) = (Requested::Own(recipient), Purpose::Reauthenticate);
        policy.requests.push(MailRequest { whom, purpose, request, ip: client.ip(), link: None })?;
        Ok(id)
    }
}

impl MailPolicy {
    /// Reads a link into an app that a client asks for: it begins with one of the configured prefixes, and goes on
    /// with nothing that could lead elsewhere. Where the prefix ends, a part of the link does: `diamonds://account.evil` is
    /// not below `diamonds://account`.
    ///
    /// # Errors
    /// [`InvalidField`], which names `link`.
    pub fn accept_link(&self, link: Option<String>) -> Result<Option<String>, InvalidField> {
        let Some(link) = link else { return Ok(None) };
        let is_path = |rest: &str| {
            rest.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/_.-".contains(&byte)) && !rest.contains("..")
        };
        let is_below = |prefix: &String| {
            let Some(rest) = link.strip_prefix(prefix.as_str()) else { return false };
            is_path(rest) && (prefix.ends_with('/') || rest.is_empty() || rest.starts_with('/'))
        };
        let is_ours = self.app_links.iter().any(is_below);
        // Not across the border of the two either.
        let is_good = is_ours && link.len() <= MAX_LINK && !link.contains("..");
        if is_good {
            return Ok(Some(link));
        }
        Err(InvalidField {
            field: "link",
            rule: format!(
                "must be one of mail.app_links or go on below it with A-Z a-z 0-9 / _ . - alone, and have at most {MAX_LINK} characters"
            ),
        })
    }
}

/// How long a link may be.
const MAX_LINK: usize = 500;
