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

    /// The password itself, for hashing and for the policy.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}
