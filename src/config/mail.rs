//! Mail: how it is sent, and who it is from.

use std::fmt;
use std::net::IpAddr;

use serde_json::Value;
use url::Url;

use crate::config::value::{Kind, Raw};
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
    // What looks like a host could be a user or a password; and for some readers `\\` is a `/`.
    let is_plain = url.fragment().is_none()
        && url.query().is_none()
        && url.username().is_empty()
        && url.password().is_none()
        && !text.contains(|c: char| c.is_whitespace() || c == '\\');
    let is_complete = match url.scheme() {
        "https" => url.has_host() && text.matches('/').count() >= 3,
        "http" | "javascript" | "data" | "file" | "blob" | "vbscript" | "about" => false,
        _ => text.contains("://"),
    };
    is_plain && is_complete
}

/// Whether a host is this machine by its name or its address.
pub(super) fn is_loopback(host: &str) -> bool {
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host.eq_ignore_ascii_case("localhost")
        || address.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

/// Whether an address of the web leads to this machine.
#[must_use]
pub fn is_on_this_machine(url: &str) -> bool {
    Url::parse(url).is_ok_and(|url| url.host_str().is_some_and(is_loopback))
}

/// Whether an address of the web is plain HTTP to another machine.
pub(super) fn is_in_clear(url: &str) -> bool {
    Url::parse(url).is_ok_and(|url| url.scheme() == "http") && !is_on_this_machine(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_beginning_of_a_link_into_an_app_ends_its_host_and_hides_none() {
        for good in [
            "https://app.example.org/",
            "https://app.example.org/account",
            "https://app.example.org:8443/@app/",
            "diamonds://account",
            "diamonds://",
        ] {
            assert!(is_prefix(good), "{good}");
        }
        for bad in [
            "https://app.example.org",
            "https://user:password@app.example.org/",
            "https://app.example.org@evil.example/",
            "https://:password@app.example.org/",
            "https:////user@app.example.org/",
            "https://app.example.org\\@evil.example/",
            "diamonds://user@account",
            "diamonds://user:password@account/",
            "diamonds:account",
            "http://app.example.org/",
            "https://app.example.org/?a",
            "https://app.example.org/#a",
            "javascript://account",
            "",
        ] {
            assert!(!is_prefix(bad), "{bad}");
        }
    }
}
