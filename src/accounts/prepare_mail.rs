//! Preparing mails: what turns a [`MailRequest`] or a row of the outbox into a [`Mail`] that can be sent.
//!
//! Only here are codes and tokens of mails made, a moment before they leave, and only here is looked up whose account a
//! stranger's request is for. The job that sends mail calls it, never a request: so no answer tells what is stored.

use std::net::IpAddr;

use super::mail_requests::{MailRequest, Requested};
use super::service::{Accounts, MailPolicy};
use super::throttle::mail_limits::Asker;
use crate::domain::email::EmailAddress;
use crate::domain::mail::{Mail, MailKind};
use crate::domain::one_time::{Code, Purpose};
use crate::domain::token::PlainToken;
use crate::repository::{NewOffer, OutboxMail, Recipient, Repository, RepositoryError, Whom};
use crate::system::clock::Clock;

impl Accounts {
    /// Makes the mail that somebody asked for. `None` where none is to be sent: there is no such account, it may not do
    /// this, or its mailbox has had enough.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    pub async fn prepare_mail(&self, request: MailRequest) -> Result<Option<Mail>, RepositoryError> {
        let Some(policy) = &self.mail else { return Ok(None) };
        let MailRequest { whom, purpose, request, ip, link } = request;
        let (recipient, asker, request) = match whom {
            Requested::Somebody(whom) => {
                let recipient = self.repository.find_recipient(&whom, ip).await?;
                let is_familiar = recipient.as_ref().is_some_and(|recipient| recipient.is_familiar);
                (recipient, Some(if is_familiar { Asker::Familiar } else { Asker::Stranger }), Some(request))
            }
            // Its limit was kept when it was asked for.
            Requested::Own(recipient) => (Some(recipient), None, Some(request)),
            Requested::Entitled(username) => {
                let recipient = self.repository.find_recipient(&Whom::Username(username), ip).await?;
                // A stranger's later request must not end it.
                let recipient = recipient.map(|recipient| Recipient { is_familiar: true, ..recipient });
                (recipient, Some(Asker::Entitled), None)
            }
        };
        let Some(recipient) = recipient.filter(|recipient| policy.may_have(purpose, recipient)) else {
            return Ok(None);
        };
        if asker.is_some_and(|asker| !self.has_room(policy, recipient.email.key(), asker, purpose.name())) {
            return Ok(None);
        }
        let offer = Offer { purpose, recipient, request, link };
        offer.make(self.repository.as_ref(), &self.clock, ip).await
    }

    /// Makes a mail of the outbox. `None` where it is not to be sent any more.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    pub async fn prepare_outbox_mail(&self, waiting: &OutboxMail) -> Result<Option<Mail>, RepositoryError> {
        let Some(policy) = &self.mail else { return Ok(None) };
        let Ok(to) = EmailAddress::parse(&waiting.recipient) else {
            log::error!("a mail of the outbox has a recipient that no mail can be sent to; it is dropped");
            return Ok(None);
        };
        let mut kind = waiting.kind;
        if kind == MailKind::ConfirmEmail {
            if self.repository.is_email_taken(waiting.user_id, to.key()).await? {
                kind = MailKind::EmailTaken;
            }
            // What is tried again was counted before.
            let is_first = waiting.attempts == 0;
            if is_first && !self.has_room(policy, to.key(), Asker::Confirmation, kind.name()) {
                return Ok(None);
            }
        }
        let code = (kind == MailKind::ConfirmEmail).then(Code::generate);
        let mut token = None;
        if let Some(purpose) = kind.purpose() {
            let new = PlainToken::generate();
            let (digest, now) = (new.digest(), self.clock.now());
            if !self.repository.store_outbox_offer(waiting.id, purpose, code.clone(), digest, now).await? {
                return Ok(None);
            }
            token = Some(new);
        }
        let is_verified = waiting.is_verified;
        Ok(Some(Mail {
            kind,
            to,
            username: is_verified.then(|| waiting.username.as_str().to_owned()),
            code,
            token,
            link: waiting.link.clone(),
            at: waiting.at,
            made: self.clock.now(),
            ip: waiting.ip.filter(|_| is_verified),
            user_agent: is_verified.then(|| waiting.user_agent.clone()),
        }))
    }

    fn has_room(&self, policy: &MailPolicy, mailbox: &str, asker: Asker, what: &str) -> bool {
        let has_room = policy.limits.admit_to(mailbox, asker, self.clock.monotonic()).is_ok();
        if !has_room {
            policy.limits.drop_mail();
            log::debug!("a mail ({what}) is not sent: its mailbox has had enough");
        }
        has_room
    }
}

impl MailPolicy {
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
    /// The request id that the client was given. Without one, no code could be used: the mail has a link alone.
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
        }))
    }
}
