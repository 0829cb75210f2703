//! A password in clear, on its way from a client to a hash.

use std::sync::Arc;

use crate::domain::field::InvalidField;

/// A password in clear: any text but the empty one. It has no `Debug`, no `Display` and no `Serialize`.
#[derive(Clone)]
pub struct PlainPassword(Arc<str>);

impl PlainPassword {
    /// Takes a password as a client sent it in `field`: exactly as it is.
    ///
    /// # Errors
    /// [`InvalidField`] for the empty text, which is far more often a fault of a form than a wish.
    pub fn parse(field: &'static str, text: String) -> Result<Self, InvalidField> {
        if text.is_empty() {
            return Err(InvalidField { field, rule: "must not be empty".to_owned() });
        }
        Ok(Self(text.into()))
    }

    /// The password itself, for whoever hashes or judges it.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}
