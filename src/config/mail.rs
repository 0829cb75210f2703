//! Mail: how it is sent, and what a configuration that sends it must have.

use std::fmt;
use std::net::IpAddr;

use serde_json::Value;
use url::Url;

use crate::config::source::ConfigError;
use crate::config::value::{Kind, Raw};
use crate::config::{Config, SmtpConfig};
use crate::domain::email::EmailAddress;

/// How mail leaves the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// It does not: no call that needs mail works.
    Off,
    /// Each mail is a file in a folder, for development.
    Folder,
    /// By a mail server.
    Smtp,
}

/// How a connection to the mail server is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encryption {
    /// TLS from the first byte on.
    Tls,
    /// TLS after the command STARTTLS; nothing is sent without it.
    StartTls,
    /// None: to a loopback address only.
    None,
}

/// Who a mail is from.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Sender {
    pub name: Option<String>,
    pub email: EmailAddress,
}

/// One of a few words.
pub fn choice<T: Copy + PartialEq + 'static>(words: &'static [(&'static str, T)]) -> Kind<T> {
    let expected = words.iter().map(|(word, _)| format!("\"{word}\"")).collect::<Vec<_>>().join(" or ");
    let read = |raw: &Raw| words.iter().find(|(word, _)| raw.text() == Some(word)).map(|(_, value)| *value);
    let show =
        |value: &T| words.iter().find(|(_, other)| other == value).map_or(Value::Null, |(word, _)| (*word).into());
    Kind::new(expected, read, show)
}

/// The words for a transport.
pub const TRANSPORTS: &[(&str, Transport)] =
    &[("off", Transport::Off), ("folder", Transport::Folder), ("smtp", Transport::Smtp)];

/// The words for an encryption.
pub const ENCRYPTIONS: &[(&str, Encryption)] =
    &[("tls", Encryption::Tls), ("starttls", Encryption::StartTls), ("none", Encryption::None)];

/// A text without control characters.
#[must_use]
pub fn text() -> Kind<String> {
    let is_plain = |text: &&str| !text.is_empty() && !text.contains(char::is_control);
    let read = move |raw: &Raw| raw.text().filter(is_plain).map(str::to_owned);
    Kind::new("a text that is not empty", read, |text: &String| text.as_str().into())
}

/// Where browsers reach the service: an origin, perhaps with a path, and no slash at its end.
#[must_use]
pub fn public_url() -> Kind<String> {
    let read = |raw: &Raw| {
        let text = raw.text()?;
        let url = Url::parse(text).ok()?;
        let is_plain = ["http", "https"].contains(&url.scheme())
            && url.has_host()
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none();
        is_plain.then(|| url.as_str().trim_end_matches('/').to_owned())
    };
    let expected = "the address at which browsers reach the service, such as \"https://accounts.example.org\"";
    Kind::new(expected, read, |text: &String| text.as_str().into())
}

/// A bare address, or one behind a name as in `Diamonds <noreply@diamond.example>`.
#[must_use]
pub fn sender() -> Kind<Sender> {
    let read = |raw: &Raw| {
        let text = raw.text().filter(|text| !text.contains(char::is_control))?;
        let (name, email) = match text.strip_suffix('>').and_then(|text| text.rsplit_once('<')) {
            Some((name, email)) => (name.trim(), email),
            None => ("", text),
        };
        let name = name.trim_matches('"');
        Some(Sender { name: (!name.is_empty()).then(|| name.to_owned()), email: EmailAddress::parse(email).ok()? })
    };
    let expected = "an address, perhaps behind a name: \"Diamonds <noreply@diamond.example>\"";
    Kind::new(expected, read, |sender: &Sender| sender.to_string().into())
}

impl fmt::Display for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{name} <{}>", self.email.as_str()),
            None => f.write_str(self.email.as_str()),
        }
    }
}

/// Beginnings of links into apps.
#[must_use]
pub fn prefixes() -> Kind<Vec<String>> {
    let read = |raw: &Raw| raw.strings().filter(|links| links.iter().all(|link| is_prefix(link)));
    let expected =
        "a list of beginnings of links such as \"https://app.example.org/account/\" or \"diamonds://account\"";
    Kind::new(expected, read, |links: &Vec<String>| links.as_slice().into())
}

/// Whether a text can be the beginning of links into an app: an address of the web with a path, which ends the host, or a
/// scheme of the app's own.
fn is_prefix(text: &str) -> bool {
    let Ok(url) = Url::parse(text) else { return false };
    let is_plain = url.fragment().is_none() && url.query().is_none() && !text.contains(char::is_whitespace);
    let is_complete = match url.scheme() {
        "https" => url.has_host() && text.matches('/').count() >= 3,
        "http" | "javascript" | "data" | "file" | "blob" | "vbscript" | "about" => false,
        _ => text.contains("://"),
    };
    is_plain && is_complete
}

impl SmtpConfig {
    /// The port: by default the one that is usual for the encryption.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port.unwrap_or(match self.tls {
            Encryption::Tls => 465,
            Encryption::StartTls => 587,
            Encryption::None => 25,
        })
    }
}

impl Config {
    /// Whether mail is sent.
    #[must_use]
    pub fn sends_mail(&self) -> bool {
        self.mail.transport != Transport::Off
    }

    /// Refuses a configuration that sends mail and lacks what mail needs, or needs mail and sends none.
    pub(super) fn check_mail(&self) -> Result<(), ConfigError> {
        self.mail_conflict().map_or(Ok(()), |sentence| Err(ConfigError::Conflict(sentence)))
    }

    fn mail_conflict(&self) -> Option<String> {
        let SmtpConfig { host, tls, user, password, .. } = &self.mail.smtp;
        if !self.sends_mail() {
            let needing = [
                ("accounts.require_verified_email", self.accounts.require_verified_email),
                ("accounts.login_by_mail", self.accounts.login_by_mail),
            ];
            let (name, _) = needing.into_iter().find(|(_, is_on)| *is_on)?;
            return Some(format!("{name} is true and mail.transport is \"off\": it needs mail"));
        }
        if self.mail.from.is_none() {
            return Some("mail.from is missing: a mail needs a sender where mail.transport is not \"off\"".to_owned());
        }
        if self.server.public_url.is_none() {
            return Some(
                "server.public_url is missing: the links in mails are made of it where mail.transport is not \"off\""
                    .to_owned(),
            );
        }
        if self.mail.transport != Transport::Smtp {
            return None;
        }
        let Some(host) = host else {
            return Some("mail.smtp.host is missing: mail.transport is \"smtp\"".to_owned());
        };
        if user.is_some() != password.is_some() {
            let (given, missing) = if user.is_some() { ("user", "password") } else { ("password", "user") };
            return Some(format!("mail.smtp.{missing} is missing: mail.smtp.{given} is given"));
        }
        (*tls == Encryption::None && !is_loopback(host)).then(|| {
            format!(
                "mail.smtp.tls is \"none\" and mail.smtp.host is {host}: without TLS mail goes to this machine alone, to \
                 localhost or a loopback address"
            )
        })
    }
}

/// Whether a host is this machine by its name or its address.
pub(super) fn is_loopback(host: &str) -> bool {
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host.eq_ignore_ascii_case("localhost")
        || address.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

/// Whether an address of the web is plain HTTP to another machine.
pub(super) fn is_in_clear(url: &str) -> bool {
    Url::parse(url).is_ok_and(|url| url.scheme() == "http" && !url.host_str().is_some_and(is_loopback))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Settings;

    fn refusal(text: &str) -> Option<String> {
        let mut settings = Settings::default();
        settings.add_file(Path::new("config.toml"), text).unwrap();
        Config::from_settings(settings).err().map(|error| error.to_string())
    }

    const NEEDED: &str =
        "[server]\npublic_url = \"https://diamond.example\"\n[mail]\nfrom = \"noreply@diamond.example\"\n";

    #[test]
    fn a_configuration_that_sends_mail_has_what_mail_needs() {
        for (more, sentence) in [
            ("transport = \"folder\"", None),
            ("transport = \"smtp\"\nsmtp.host = \"mail.diamond.example\"", None),
            ("transport = \"smtp\"", Some("mail.smtp.host is missing: ")),
            (
                "transport = \"smtp\"\nsmtp.host = \"a.example\"\nsmtp.user = \"a\"",
                Some("mail.smtp.password is missing: mail.smtp.user is given"),
            ),
            (
                "transport = \"smtp\"\nsmtp.host = \"a.example\"\nsmtp.password = \"a\"",
                Some("mail.smtp.user is missing: mail.smtp.password is given"),
            ),
        ] {
            let refused = refusal(&format!("{NEEDED}{more}"));
            assert_eq!(refused.is_some(), sentence.is_some(), "{refused:?}");
            assert!(refused.unwrap_or_default().starts_with(sentence.unwrap_or_default()), "{more}");
        }
        let refused = refusal("[mail]\ntransport = \"folder\"\nfrom = \"a@diamond.example\"").unwrap();
        assert!(refused.starts_with("server.public_url is missing: "), "{refused}");
        let refused = refusal("[mail]\ntransport = \"folder\"").unwrap();
        assert!(refused.starts_with("mail.from is missing: "), "{refused}");
        for name in ["require_verified_email", "login_by_mail"] {
            let refused = refusal(&format!("[accounts]\n{name} = true")).unwrap();
            assert_eq!(refused, format!("accounts.{name} is true and mail.transport is \"off\": it needs mail"));
            assert_eq!(refusal(&format!("{NEEDED}transport = \"folder\"\n[accounts]\n{name} = true")), None);
        }
    }

    #[test]
    fn without_tls_mail_goes_to_this_machine_alone() {
        for (host, is_taken) in [
            ("localhost", true),
            ("LocalHost", true),
            ("127.0.0.1", true),
            ("127.9.9.9", true),
            ("::1", true),
            ("[::1]", true),
            ("::ffff:127.0.0.1", true),
            ("10.0.0.1", false),
            ("0.0.0.0", false),
            ("mail.diamond.example", false),
            ("localhost.diamond.example", false),
            ("127.0.0.1.diamond.example", false),
        ] {
            let refused =
                refusal(&format!("{NEEDED}transport = \"smtp\"\nsmtp.tls = \"none\"\nsmtp.host = \"{host}\""));
            assert_eq!(refused.is_none(), is_taken, "{host}: {refused:?}");
        }
    }
}
