//! E-mail addresses that mail is sent to: the address as it was typed, and the key by which two spellings are one.
//!
//! A profile takes any address that RFC 5321 and 5322 allow. Mail is sent to fewer: the local part is ASCII, so that no
//! letter that only looks or folds like another (a dotless i, a long s) can stand for somebody else's mailbox.

use email_address::{EmailAddress as Parsed, Options};

use crate::domain::field::InvalidField;

/// How many characters an address may have: RFC 5321, 4.5.3.1.3, without the angle brackets.
const MAX_CHARS: usize = 254;

/// One mailbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EmailAddress {
    text: String,
    key: String,
}

impl EmailAddress {
    /// Reads one bare address, such as `azure@diamond.example`.
    ///
    /// # Errors
    /// [`InvalidField`], which names `email`.
    pub fn parse(text: &str) -> Result<Self, InvalidField> {
        let refused = || InvalidField {
            field: "email",
            rule: "must be one e-mail address with an ASCII name before the @".to_owned(),
        };
        let key = key_of(text).ok_or_else(refused)?;
        Ok(Self { text: text.to_owned(), key })
    }

    /// The address as it was typed.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What is unique among verified addresses: the local part lower-cased, the domain in its ASCII form (IDNA) and
    /// lower-cased. Dots and plus signs are the mail provider's business and are not folded.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The address as SMTP takes it: the local part as it was typed, the domain in its ASCII form.
    #[must_use]
    pub fn to_ascii(&self) -> String {
        let local = self.text.rsplit_once('@').map_or("", |(local, _)| local);
        let domain = self.key.rsplit_once('@').map_or("", |(_, domain)| domain);
        format!("{local}@{domain}")
    }
}

/// The key of an address; `None` where mail cannot be sent to it.
#[must_use]
pub fn key_of(text: &str) -> Option<String> {
    let is_plain = text.chars().count() <= MAX_CHARS && !text.contains(|c: char| c == ',' || c.is_control());
    let (local, domain) = text.rsplit_once('@').filter(|_| is_plain)?;
    let is_unquoted = !local.contains(['"', '\\', ' ', '(', ')', '<', '>', '[', ']', ':', ';', '@']);
    if !local.is_ascii() || !is_unquoted {
        return None;
    }
    let domain = idna::domain_to_ascii_strict(domain).ok()?.to_ascii_lowercase();
    let key = format!("{}@{domain}", local.to_ascii_lowercase());
    let bare = Options::default().without_display_text().without_domain_literal().with_minimum_sub_domains(2);
    (key.len() <= MAX_CHARS && Parsed::parse_with_options(&key, bare).is_ok()).then_some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_found_in_any_case_and_its_dots_and_plus_signs_are_its_own() {
        for (text, key) in [
            ("azure@diamond.example", "azure@diamond.example"),
            ("Azure@DIAMOND.Example", "azure@diamond.example"),
            ("a.b+c@sub.example.org", "a.b+c@sub.example.org"),
            ("jurgen@exämple.de", "jurgen@xn--exmple-cua.de"),
            ("jurgen@EXÄMPLE.de", "jurgen@xn--exmple-cua.de"),
        ] {
            let address = EmailAddress::parse(text).unwrap();
            assert_eq!((address.as_str(), address.key()), (text, key));
        }
        assert_eq!(EmailAddress::parse("Jurgen@EXÄMPLE.de").unwrap().to_ascii(), "Jurgen@xn--exmple-cua.de");
    }

    #[test]
    fn what_is_not_one_plain_address_is_refused() {
        for bad in [
            "",
            "azure",
            "@example.org",
            "azure@",
            "azure@localhost",
            "a@example.org,b@example.org",
            "a@example.org b@example.org",
            "A <a@example.org>",
            "\"a b\"@example.org",
            "a@[127.0.0.1]",
            "a@b@example.org",
            "a@example.org\r\nBcc: b@example.org",
            "a\0@example.org",
            "jürgen@example.org",
            // A dotless i and a long s, which some foldings make the letters of another's mailbox.
            "m\u{131}ke@example.org",
            "mu\u{17f}ter@example.org",
        ] {
            assert!(EmailAddress::parse(bad).is_err(), "{bad:?}");
        }
        assert!(EmailAddress::parse(&format!("{}@example.org", "a".repeat(250))).is_err());
    }
}
