//! The error for a submitted value that breaks a rule.

use thiserror::Error;

/// The field of a submitted value, and the rule that the value breaks. The value itself is not kept: a password may
/// have been typed into the wrong field.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{field} {rule}")]
pub struct InvalidField {
    /// The field's name in the API.
    pub field: &'static str,
    /// The rule, as the end of a sentence that starts with the field's name.
    pub rule: String,
}
