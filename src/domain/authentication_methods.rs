//! How the person behind a session has shown who they are, in the names of RFC 8176 (`amr`).
//!
//! It is noted when a session is opened. What RFC 8176 has no name for, a mail and a provider of identities, is not
//! named. Whether a passkey is in hardware is not known, so neither `hwk` nor `swk` is claimed.

/// A set of methods.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AuthenticationMethods(u8);

impl AuthenticationMethods {
    /// None that has a name, or none that is known.
    pub const NONE: Self = Self(0);
    /// A password.
    pub const PASSWORD: Self = Self(1);
    /// A code of an authenticator app, or a recovery code in its place.
    pub const ONE_TIME_CODE: Self = Self(2);
    /// A passkey: a key was shown to be there, and so was a person.
    pub const PASSKEY: Self = Self(4 | 8);
    /// More than one factor.
    pub const SEVERAL: Self = Self(16);
    /// None: the session was imported from another system, and when its person last showed who they are is not known.
    pub const IMPORTED: Self = Self(32);

    const NAMES: [(Self, &'static str); 6] = [
        (Self::PASSWORD, "pwd"),
        (Self::ONE_TIME_CODE, "otp"),
        (Self(4), "pop"),
        (Self(8), "user"),
        (Self::SEVERAL, "mfa"),
        (Self::IMPORTED, "imported"),
    ];

    /// Both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether the session was imported.
    #[must_use]
    pub fn is_imported(self) -> bool {
        self == Self::IMPORTED
    }

    /// Their names in RFC 8176.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        self.stored_names().filter(|name| *name != "imported")
    }

    fn stored_names(self) -> impl Iterator<Item = &'static str> {
        Self::NAMES.into_iter().filter(move |(method, _)| self.0 & method.0 != 0).map(|(_, name)| name)
    }

    /// As they are stored: their names, with spaces between them.
    #[must_use]
    pub fn to_stored(self) -> String {
        self.stored_names().collect::<Vec<_>>().join(" ")
    }

    /// As they were stored; `None` where one has no such name.
    #[must_use]
    pub fn from_stored(text: &str) -> Option<Self> {
        text.split(' ').filter(|name| !name.is_empty()).try_fold(Self::NONE, |methods, name| {
            let (method, _) = Self::NAMES.into_iter().find(|(_, known)| *known == name)?;
            Some(methods.and(method))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_is_what_is_read() {
        for bits in 0..64 {
            let methods = AuthenticationMethods(bits);
            assert_eq!(AuthenticationMethods::from_stored(&methods.to_stored()), Some(methods));
        }
        assert_eq!(AuthenticationMethods::from_stored("pwd face"), None);
    }

    #[test]
    fn a_password_with_a_code_is_pwd_otp_mfa_and_an_import_is_none_of_them() {
        let both = AuthenticationMethods::PASSWORD
            .and(AuthenticationMethods::ONE_TIME_CODE)
            .and(AuthenticationMethods::SEVERAL);
        assert_eq!(both.names().collect::<Vec<_>>(), ["pwd", "otp", "mfa"]);
        assert_eq!(AuthenticationMethods::IMPORTED.names().count(), 0);
        assert!(AuthenticationMethods::IMPORTED.is_imported() && !both.is_imported());
    }
}
