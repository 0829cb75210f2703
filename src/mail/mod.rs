//! Mail: templates and the ways out. [`Postman`] renders a mail and delivers it.
//!
//! `templates` makes the words, `message` the bytes, `smtp` and `folder` bring them away. A mail's secrets are in its
//! body and nowhere else: no error shows them, nor who it was for.

mod error;
mod folder;
mod message;
mod program;
mod smtp;
mod templates;

use std::time::Duration;

use crate::config::Config;
use crate::config::mail::{Sender, Transport};
use crate::domain::email::EmailAddress;
use crate::domain::mail::{Mail, MailKind};
use crate::domain::one_time::{CODE_LIFETIME, Code};
use crate::domain::token::PlainToken;
use crate::system::clock::{Clock, Timestamp};

use folder::Folder;
use message::{Prepared, prepare};
use smtp::Smtp;
use templates::{TEST, Templates, Values, minutes, sample};

pub use error::{DeliveryError, MailError};
pub use templates::Rendered;

/// Renders mails and delivers them.
pub struct Postman {
    sender: Sender,
    public_url: String,
    templates: Templates,
    way: Way,
    clock: Clock,
}

/// The way out.
enum Way {
    Folder(Folder),
    Smtp(Box<Smtp>),
}

impl Postman {
    /// Checks the templates and the settings, and reads the certificates. Nothing is connected to.
    ///
    /// # Errors
    /// [`MailError`], for the first thing that is wrong.
    pub fn new(config: &Config, clock: Clock) -> Result<Self, MailError> {
        if config.mail.transport == Transport::Off {
            return Err(MailError("mail.transport is \"off\": no mail is sent".to_owned()));
        }
        let missing = |name: &str| MailError(format!("{name} is missing: mail needs it"));
        let sender = config.mail.from.clone().ok_or_else(|| missing("mail.from"))?;
        let public_url = config.server.public_url.clone().ok_or_else(|| missing("server.public_url"))?;
        let way = if config.mail.transport == Transport::Folder {
            Way::Folder(Folder::new(config.mail.folder.clone())?)
        } else {
            Way::Smtp(Box::new(Smtp::new(&config.mail.smtp, &sender.email)?))
        };
        let templates = Templates::load(config.mail.templates.as_deref())?;
        Ok(Self { sender, public_url, templates, way, clock })
    }

    /// Delivers a mail: once it returns, the mail server has taken it.
    ///
    /// # Errors
    /// See [`DeliveryError`].
    pub async fn deliver(&self, mail: &Mail) -> Result<(), DeliveryError> {
        let secrets = [mail.code.as_ref().map(Code::reveal), mail.token.as_ref().map(PlainToken::reveal)];
        self.send(mail.kind.name(), &mail.to, &self.values(mail), &secrets.map(Option::unwrap_or_default)).await
    }

    /// Delivers a short mail that only shows that mail arrives.
    ///
    /// # Errors
    /// See [`DeliveryError`].
    pub async fn deliver_test(&self, to: &EmailAddress) -> Result<(), DeliveryError> {
        self.send(TEST, to, &Values { service_name: service_name(&self.sender), ..Values::default() }, &[]).await
    }

    async fn send(
        &self,
        name: &str,
        to: &EmailAddress,
        values: &Values,
        secrets: &[&str],
    ) -> Result<(), DeliveryError> {
        // The templates were tried at the start. Should one fail nevertheless, its engine's words could show a value.
        let broken = |_| DeliveryError::of_mail(format!("the mail template {name} cannot be rendered"), false);
        let rendered = self.templates.render(name, values).map_err(broken)?;
        let now = self.clock.now();
        let Prepared { envelope, bytes } = prepare(&self.sender, to, &rendered, now)?;
        match &self.way {
            Way::Folder(folder) => folder.write(name, bytes, now).await,
            Way::Smtp(smtp) => smtp.send(&envelope, &bytes, secrets).await,
        }
    }

    fn values(&self, mail: &Mail) -> Values {
        // A mail that is sent again after a failure keeps its code and its link. What is left of a minute counts from its
        // half on: a mail that is sent at once has all of them.
        let age = self.clock.now().since(mail.made);
        let left = |lifetime: Duration| minutes(lifetime.saturating_sub(age) + Duration::from_secs(30));
        // Without a name the address is not verified, and no mail to it carries text that a user chose.
        let program = mail.user_agent.as_ref().filter(|_| mail.username.is_some());
        Values {
            service_name: service_name(&self.sender),
            username: mail.username.clone().unwrap_or_default(),
            code: mail.code.as_ref().map(|code| spaced(code.reveal())).unwrap_or_default(),
            link: self.link(mail).unwrap_or_default(),
            minutes: left(CODE_LIFETIME),
            link_minutes: mail.kind.purpose().map_or(0, |purpose| left(purpose.lifetime())),
            when: to_the_minute(mail.at),
            ip: mail.ip.map(|ip| ip.to_string()).unwrap_or_default(),
            program: program.map(program::name_of).unwrap_or_default(),
            provider: mail.provider.clone().unwrap_or_default(),
            webhook: mail.webhook.clone().unwrap_or_default(),
        }
    }

    /// The mail's link, with its token behind a `#`: what stands there is sent to no server by itself.
    fn link(&self, mail: &Mail) -> Option<String> {
        let token = mail.token.as_ref()?.reveal();
        let page = mail.kind.page()?;
        Some(match &mail.link {
            Some(link) => format!("{link}#{token}"),
            None => format!("{}/account/{page}#{token}", self.public_url),
        })
    }
}

/// Every mail's name, in the order in which they are listed: the kinds, and the one that tries the way out.
pub fn names() -> impl Iterator<Item = &'static str> {
    MailKind::ALL.map(MailKind::name).into_iter().chain([TEST])
}

/// Renders a mail with values of nobody's, whether mail is sent or not.
///
/// # Errors
/// [`MailError`] for a template that is wrong.
pub fn preview(config: &Config, name: &str) -> Result<Rendered, MailError> {
    let mut values = sample(name);
    if let Some(sender) = &config.mail.from {
        values.service_name = service_name(sender);
    }
    if let Some(url) = &config.server.public_url {
        values.link = values.link.replace("https://diamond.example", url);
    }
    let templates = Templates::load(config.mail.templates.as_deref())?;
    templates.render(name, &values)
}

/// Checks what can be checked before a mail is sent: the templates, and where mail is sent its settings.
///
/// # Errors
/// [`MailError`], for the first thing that is wrong.
pub fn check(config: &Config) -> Result<(), MailError> {
    if config.sends_mail() {
        Postman::new(config, Clock::system()).map(|_| ())
    } else {
        Templates::load(config.mail.templates.as_deref()).map(|_| ())
    }
}

/// What the service calls itself: its sender's name, or else its domain.
fn service_name(sender: &Sender) -> String {
    let domain = || sender.email.as_str().rsplit_once('@').map_or("", |(_, domain)| domain);
    sender.name.as_deref().unwrap_or_else(domain).to_owned()
}

/// `123 456`
fn spaced(code: &str) -> String {
    let (first, last) = code.split_at_checked(code.len() / 2).unwrap_or((code, ""));
    format!("{first} {last}")
}

/// `2015-01-04 22:51 UTC`
fn to_the_minute(at: Timestamp) -> String {
    let text = at.to_string();
    let (date, time) = text.split_once('T').unwrap_or((&text, ""));
    format!("{date} {} UTC", time.get(..5).unwrap_or(time))
}
