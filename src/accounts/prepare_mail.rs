//! Preparing mails: what turns a [`MailRequest`] or a row of the outbox into a [`Mail`] that can be sent.
//!
//! Only here are codes and tokens of mails made, a moment before they leave, and only here is looked up whose account a
//! stranger's request is for. The job that sends mail calls it, never a request: so no answer tells what is stored.

use std::net::IpAddr;
use std::time::Duration;

use super::mail_requests::{MailRequest, Requested};
use super::service::{Accounts, MailPolicy};
use super::throttle::limits::TooMany;
use super::throttle::mail_limits::Asker;
use crate::domain::email::EmailAddress;
use crate::domain::mail::{Mail, MailKind};
use crate::domain::one_time::{Code, Purpose};
use crate::domain::token::PlainToken;
use crate::repository::{NewOffer, OutboxMail, Recipient, Repository, RepositoryError, Whom};
use crate::system::clock::Clock;

/// The least time that a confirmation waits where all of them together have had enough.
const LEAST_WAIT: Duration = Duration::from_secs(5 * 60);

impl Accounts {
    /// Makes the mail that somebody asked for. `None` where none is to be sent: there is no such account, it may not do
    /// this, or its mailbox has had enough.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    pub async fn prepare_mail(&self, wanted: &MailRequest) -> Result<Option<Mail>, RepositoryError> {
        let Some(policy) = &self.mail else { return Ok(None) };
        let MailRequest { purpose, ip, .. } = *wanted;
        let request = Some(wanted.request.clone());
        let (recipient, asker, request) = match &wanted.whom {
            Requested::Somebody(whom) => {
                let recipient = self.repository.find_recipient(whom, ip).await?;
                let is_familiar = recipient.as_ref().is_some_and(|recipient| recipient.is_familiar);
                (recipient, Some(if is_familiar { Asker::Familiar } else { Asker::Stranger }), request)
            }
            // Its limit was kept when it was asked for.
            Requested::Own(recipient) => (Some(recipient.clone()), None, request),
            Requested::Entitled(username) => {
                let recipient = self.repository.find_recipient(&Whom::Username(username.clone()), ip).await?;
                // A stranger's later request must not end it.
                let recipient = recipient.map(|recipient| Recipient { is_familiar: true, ..recipient });
                (recipient, Some(Asker::Entitled), None)
            }
        };
        let Some(recipient) = recipient.filter(|recipient| policy.may_have(purpose, recipient)) else {
            return Ok(None);
        };
        if asker.is_some_and(|asker| self.admit_to(policy, recipient.email.key(), asker, purpose.name()).is_err()) {
            return Ok(None);
        }
        // So many guesses in a row are enough (NIST SP 800-63B): a link cannot be guessed.
        self.merge_failures(&recipient.username).await?;
        let may_be_guessed = !self.throttle.limits.is_locked(&recipient.username);
        let request = request.filter(|_| may_be_guessed || purpose == Purpose::Reauthenticate);
        let link = wanted.link.as_ref().map(|link| policy.link_at(recipient.is_verified, link));
        let mailbox = recipient.email.key().to_owned();
        let offer = Offer { purpose, recipient, request, link };
        let made = offer.make(self.repository.as_ref(), &self.clock, ip).await;
        if let (Err(_), Some(asker)) = (&made, asker) {
            // Nothing was sent, and it is tried again.
            policy.limits.give_back(&mailbox, asker);
        }
        made
    }

    /// Makes a mail of the outbox.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    pub async fn prepare_outbox_mail(&self, waiting: &OutboxMail) -> Result<PreparedMail, RepositoryError> {
        let Some(policy) = &self.mail else { return Ok(PreparedMail::Drop) };
        let Ok(to) = EmailAddress::parse(&waiting.recipient) else {
            log::error!("a mail of the outbox has a recipient that no mail can be sent to; it is dropped");
            return Ok(PreparedMail::Drop);
        };
        let mut kind = waiting.kind;
        if kind == MailKind::ConfirmEmail {
            if let Err(TooMany { retry_after }) = self.admit_to(policy, to.key(), Asker::Confirmation, kind.name()) {
                return Ok(PreparedMail::Later(Duration::from_secs(retry_after)));
            }
            if let Err(TooMany { retry_after }) = policy.limits.admit_confirmation(self.clock.monotonic()) {
                policy.limits.give_back(to.key(), Asker::Confirmation);
                policy.limits.note_limited();
                // Very many may wait, for the next that is free: they must not all come back for it, again and again.
                let wait = Duration::from_secs(retry_after).max(LEAST_WAIT);
                return Ok(PreparedMail::Later(wait.mul_f64(1.0 + rand::random::<f64>())));
            }
        } else if kind != MailKind::EmailChanged && waiting.attempts == 0 {
            // More notices of one kind tell nothing more. But the one that undoes a change of the address is always sent.
            let asker = Asker::Notice(kind);
            if self.admit_to(policy, to.key(), asker, kind.name()).is_err() {
                return Ok(PreparedMail::Drop);
            }
        }
        let mut code = (kind == MailKind::ConfirmEmail).then(Code::generate);
        let mut token = None;
        if let Some(purpose) = kind.purpose() {
            let new = PlainToken::generate();
            let (digest, now) = (new.digest(), self.clock.now());
            if !self.repository.store_outbox_offer(waiting.id, purpose, code.clone(), digest, now).await? {
                return Ok(PreparedMail::Drop);
            }
            token = Some(new);
        }
        // Until here all is the same for an address that is taken: nobody is told the code that is stored, but wrong
        // ones are counted and end it. Else whoever asked for the confirmation would learn from them whether it is.
        if kind == MailKind::ConfirmEmail && self.repository.is_email_taken(waiting.user_id, to.key()).await? {
            (kind, code, token) = (MailKind::EmailTaken, None, None);
        }
        let is_verified = waiting.is_verified;
        Ok(PreparedMail::Send(Box::new(Mail {
            kind,
            to,
            username: is_verified.then(|| waiting.username.as_str().to_owned()),
            code,
            token,
            link: waiting.link.as_ref().map(|link| policy.link_at(is_verified, link)),
            at: waiting.at,
            made: if kind.purpose() == Some(Purpose::NotMe) { waiting.at } else { self.clock.now() },
            ip: waiting.ip.filter(|_| is_verified),
            user_agent: is_verified.then(|| waiting.user_agent.clone()),
            provider: Some(waiting.detail.clone()).filter(|_| kind.names_provider()),
            webhook: Some(waiting.detail.clone()).filter(|_| kind.names_webhook()),
        })))
    }

    fn admit_to(&self, policy: &MailPolicy, mailbox: &str, asker: Asker, what: &str) -> Result<(), TooMany> {
        policy.limits.admit_to(mailbox, asker, self.clock.monotonic()).inspect_err(|_| {
            policy.limits.note_limited();
            log::debug!("a mail ({what}) is not sent now: its mailbox has had enough");
        })
    }
}

/// What becomes of a mail of the outbox that is due.
pub enum PreparedMail {
    /// It is sent.
    Send(Box<Mail>),
    /// It is not to be sent any more.
    Drop,
    /// Its mailbox has had enough, and may have another after this time.
    Later(Duration),
}

impl MailPolicy {
    /// Where the link of a mail leads, for which a client has asked for this link into an app. To an address that is not
    /// verified no mail carries text that a user chose: there the configured beginning stands alone.
    fn link_at(&self, is_verified: bool, link: &str) -> String {
        let beginning =
            self.app_links.iter().filter(|prefix| link.starts_with(prefix.as_str())).max_by_key(|it| it.len());
        if is_verified { link.to_owned() } else { beginning.cloned().unwrap_or_default() }
    }

    /// Whether an account may have a mail for this purpose. The owner of an inactive account may reset its password: it
    /// stays inactive.
    fn may_have(&self, purpose: Purpose, recipient: &Recipient) -> bool {
        match purpose {
            Purpose::ResetPassword => true,
            Purpose::SignIn => recipient.is_active && self.login_by_mail,
            Purpose::Reauthenticate => recipient.is_active && recipient.is_verified,
            Purpose::ConfirmEmail | Purpose::NotMe => false,
        }
    }
}

/// A code and a link that are about to be made and mailed.
pub(super) struct Offer {
    pub(super) purpose: Purpose,
    pub(super) recipient: Recipient,
    /// The request id that the client was given, where a code may be used with it. Without one the mail has a link
    /// alone.
    pub(super) request: Option<PlainToken>,
    pub(super) link: Option<String>,
}

impl Offer {
    /// Makes the code and the link, stores what is needed to know them again, and returns the mail with both. `None`
    /// where the account has changed meanwhile.
    pub(super) async fn make(
        self,
        repository: &dyn Repository,
        clock: &Clock,
        ip: Option<IpAddr>,
    ) -> Result<Option<Mail>, RepositoryError> {
        let Self { purpose, recipient, request, link } = self;
        let kind = match purpose {
            Purpose::ResetPassword => MailKind::ResetPassword,
            Purpose::SignIn => MailKind::SignIn,
            Purpose::Reauthenticate => MailKind::Reauthenticate,
            Purpose::ConfirmEmail | Purpose::NotMe => return Ok(None),
        };
        let (code, token, now) = (Code::generate(), PlainToken::generate(), clock.now());
        let has_code = request.is_some();
        // The store has a request id and a MAC for every offer. Those of a request id that nobody has fit no code.
        let request = request.unwrap_or_else(PlainToken::generate);
        let offer = NewOffer {
            purpose,
            user_id: recipient.user_id,
            email_key: recipient.email.key().to_owned(),
            is_familiar: recipient.is_familiar,
            request: request.digest(),
            mac: code.mac(&request),
            token: token.digest(),
        };
        if !repository.store_offer(offer, ip, now).await? {
            return Ok(None);
        }
        let is_verified = recipient.is_verified;
        Ok(Some(Mail {
            kind,
            to: recipient.email,
            username: is_verified.then(|| recipient.username.as_str().to_owned()),
            code: has_code.then_some(code),
            // A session is made fresh where it is: by the code.
            token: (purpose != Purpose::Reauthenticate).then_some(token),
            link,
            at: now,
            made: now,
            ip: ip.filter(|_| is_verified),
            user_agent: None,
            provider: None,
            webhook: None,
        }))
    }
}
