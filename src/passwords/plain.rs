//! A password in clear text, on its way from a client to a hash.

use std::sync::Arc;

use crate::domain::field::InvalidField;

/// A password in clear text, which is any text but the empty one. It has no `Debug`, no `Display` and no `Serialize`.
#[derive(Clone)]
pub struct PlainPassword(Arc<str>);

impl PlainPassword {
    /// Takes a password that a client sent in `field`, exactly as it is.
    ///
    /// # Errors
    /// [`InvalidField`] for the empty text: it is far more often a fault of a form than intended.
    pub fn parse(field: &'static str, text: String) -> Result<Self, InvalidField> {
        if text.is_empty() {
            return Err(InvalidField { field, rule: "must not be empty".to_owned() });
        }
        Ok(Self(text.into()))
    }

    /// Takes the digest of a password in its place.
    pub(super) fn of_digest(hex: String) -> Self {
        Self(hex.into())
    }

    /// The password itself, for hashing and for the policy.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// The password without outer white space, where it has some and anything is left. White space is what Python's
    /// `str.strip()` takes off, as the forms of Django sites do.
    pub(super) fn trimmed(&self) -> Option<Self> {
        // Python also counts the four separators of ASCII, which Unicode's White_Space lacks.
        let trimmed = self.0.trim_matches(|c: char| c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c));
        (!trimmed.is_empty() && trimmed.len() < self.0.len()).then(|| Self(trimmed.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trimmed(text: &str) -> Option<String> {
        Some(PlainPassword::parse("password", text.to_owned()).unwrap().trimmed()?.as_str().to_owned())
    }

    /// Found by CPython 3.11: `[c for c in map(chr, range(0x110000)) if c.isspace()]`, which is what `str.strip()` takes off.
    const WHITE: &str = "\t\n\u{b}\u{c}\r\u{1c}\u{1d}\u{1e}\u{1f} \u{85}\u{a0}\u{1680}\u{2000}\u{2001}\u{2002}\u{2003}\u{2004}\
                         \u{2005}\u{2006}\u{2007}\u{2008}\u{2009}\u{200a}\u{2028}\u{2029}\u{202f}\u{205f}\u{3000}";

    #[test]
    fn outer_white_space_is_what_python_takes_off() {
        for c in char::MIN..=char::MAX {
            let expected = WHITE.contains(c).then(|| "a b".to_owned());
            assert_eq!(trimmed(&format!("{c}a b")), expected, "{c:?} in front");
            assert_eq!(trimmed(&format!("a b{c}")), expected, "{c:?} behind");
        }
    }

    #[test]
    fn a_password_without_outer_white_space_or_of_nothing_else_has_no_trimmed_form() {
        for text in ["a", "a b", "a\u{200b}", "\u{feff}a", " ", "   ", "\u{1c}"] {
            assert_eq!(trimmed(text), None, "{text:?}");
        }
        assert_eq!(trimmed(" \u{3000}secret\r\n").as_deref(), Some("secret"));
    }
}
