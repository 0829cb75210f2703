//! Other services that may ask whose a token is.

use crate::domain::field::InvalidField;
use crate::system::clock::Timestamp;

/// How many services there may be. They are kept in memory, so that a wrong key costs no look at the store.
pub const MAX_SERVICES: usize = 1_000;

/// A service's name: 1 to 32 characters of `a-z 0-9 _ . -`, the first a letter or a digit. It needs no escape where
/// HTTP's Basic authentication has it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceName(String);

impl ServiceName {
    const MAX_LENGTH: usize = 32;

    /// Reads a name.
    ///
    /// # Errors
    /// [`InvalidField`] where the text is none.
    pub fn parse(text: &str) -> Result<Self, InvalidField> {
        let begins_well = text.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
        let is_name = begins_well
            && text.len() <= Self::MAX_LENGTH
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_.-".contains(&b));
        let rule = "must be 1 to 32 characters of a-z 0-9 _ . - and begin with a letter or a digit";
        if is_name { Ok(Self(text.to_owned())) } else { Err(InvalidField { field: "name", rule: rule.to_owned() }) }
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A service, as the operator sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct ServiceDetails {
    pub name: ServiceName,
    pub created: Timestamp,
    /// Up to a minute old where it is in constant use; `None` where it never was.
    pub last_used: Option<Timestamp>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_short_and_needs_no_escape() {
        for good in ["a", "0", "wiki", "git.example-2_x", &"a".repeat(32)] {
            assert!(ServiceName::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "Wiki", "-a", "_a", ".a", "a b", "a:b", "a%62", "é", &"a".repeat(33)] {
            assert!(ServiceName::parse(bad).is_err(), "{bad}");
        }
    }
}
