//! The password policy: what a new password must satisfy.

use std::collections::HashSet;
use std::sync::LazyLock;

use crate::domain::field::InvalidField;
use crate::passwords::plain::PlainPassword;

/// The 3,000 most common passwords, one a line, lower case.
static COMMON: LazyLock<HashSet<&'static str>> =
    LazyLock::new(|| include_str!("common_passwords.txt").lines().collect());

/// What a new password must satisfy. By default it need only not be empty.
#[derive(Clone, Debug)]
pub struct PasswordPolicy {
    /// How many characters a password must have at least.
    pub min_length: usize,
    /// Whether the most common passwords are refused.
    pub reject_common: bool,
}

impl PasswordPolicy {
    /// Checks a new password that was sent in `field`. Never used at login: a policy is for new passwords alone.
    ///
    /// # Errors
    /// [`InvalidField`] naming the rule that it breaks.
    pub fn check(&self, field: &'static str, password: &PlainPassword) -> Result<(), InvalidField> {
        let refuse = |rule| Err(InvalidField { field, rule });
        if password.as_str().chars().count() < self.min_length {
            return refuse(format!("must be at least {} characters", self.min_length));
        }
        if self.reject_common && COMMON.contains(password.as_str().to_lowercase().as_str()) {
            return refuse("must not be one of the most common passwords".to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(text: &str) -> PlainPassword {
        PlainPassword::parse("password", text.to_owned()).unwrap()
    }

    #[test]
    fn by_default_any_password_will_do_and_a_policy_can_ask_for_more() {
        let open = PasswordPolicy { min_length: 1, reject_common: false };
        assert!(open.check("password", &plain("p")).is_ok());
        let strict = PasswordPolicy { min_length: 8, reject_common: true };
        assert!(strict.check("password", &plain("üüüüüüü")).is_err());
        assert!(strict.check("password", &plain("Password1")).is_err());
        assert!(strict.check("password", &plain("correct horse battery staple")).is_ok());
        assert_eq!(COMMON.len(), 3_000);
    }
}
