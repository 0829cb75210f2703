//! Second factors: an authenticator app (TOTP), the recovery codes that stand for a lost one, and passkeys.

use std::time::Duration;

use rand::TryRng as _;
use rand::rngs::SysRng;
use sha2::{Digest as _, Sha256};

use crate::domain::token::TokenDigest;
use crate::domain::user::UserId;

/// What the secret of an account's authenticator app is sealed for.
#[must_use]
pub fn totp_binding(user_id: UserId) -> String {
    format!("totp.secret:{}", user_id.0)
}

/// How a second factor is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    /// A code of the authenticator app.
    Totp,
    /// A recovery code.
    RecoveryCode,
    /// A passkey.
    Passkey,
}

impl Method {
    /// Its name, as shown.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Totp => "totp",
            Self::RecoveryCode => "recovery_code",
            Self::Passkey => "passkey",
        }
    }
}

/// How long an authenticator app waits for its first code.
pub const CONFIRMED_WITHIN: Duration = Duration::from_secs(15 * 60);

/// How many recovery codes are handed out at once.
pub const RECOVERY_CODES: usize = 10;

/// A recovery code: 120 bits from the operating system's generator, written in Crockford's base 32, which has no letter
/// that looks like a digit. It has no `Debug`, no `Display` and no `Serialize`, as a token has none.
#[derive(Clone)]
pub struct RecoveryCode([u8; RecoveryCode::LENGTH]);

impl RecoveryCode {
    const LENGTH: usize = 24;
    const DIGITS: &'static [u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

    /// A new code.
    ///
    /// # Panics
    /// When the operating system has no random numbers: no code made then could be trusted.
    #[must_use]
    pub fn generate() -> Self {
        let mut bytes = [0_u8; Self::LENGTH];
        SysRng.try_fill_bytes(&mut bytes).expect("the operating system gives random numbers");
        Self(bytes.map(|byte| Self::DIGITS[usize::from(byte % 32)]))
    }

    /// Reads a code as a person types it: in either case, with spaces and hyphens, and with the letters o, i and l for the
    /// digits that they look like.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let read = |byte: u8| match byte.to_ascii_lowercase() {
            b'o' => Some(b'0'),
            b'i' | b'l' => Some(b'1'),
            digit => Self::DIGITS.contains(&digit).then_some(digit),
        };
        if text.len() > 4 * Self::LENGTH {
            return None;
        }
        let typed = text.bytes().filter(|byte| !matches!(byte, b' ' | b'-'));
        let digits: Vec<u8> = typed.map(read).collect::<Option<_>>()?;
        Some(Self(digits.try_into().ok()?))
    }

    /// The code in clear, in groups of four, for the one answer that gives it to its owner.
    #[must_use]
    pub fn reveal(&self) -> String {
        let groups: Vec<&str> = self.0.chunks(4).filter_map(|group| str::from_utf8(group).ok()).collect();
        groups.join("-")
    }

    /// The SHA-256 of its 24 characters: what is stored.
    #[must_use]
    pub fn digest(&self) -> TokenDigest {
        TokenDigest::from_bytes(Sha256::digest(self.0).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recovery_code_is_read_however_it_is_typed() {
        let code = RecoveryCode::generate();
        let shown = code.reveal();
        assert_eq!((shown.len(), shown.matches('-').count()), (29, 5));
        for typed in [shown.clone(), shown.to_uppercase(), shown.replace('-', " "), shown.replace('-', "")] {
            assert!(RecoveryCode::parse(&typed).unwrap().digest() == code.digest(), "{typed}");
        }
        let looks_alike = RecoveryCode::parse("0000-1111-1111-0000-0000-0000").unwrap();
        assert!(RecoveryCode::parse("OoOo-IiLl-1111-0000-0000-0000").unwrap().digest() == looks_alike.digest());
        for bad in ["", "0000", "u000-0000-0000-0000-0000-0000", &"0".repeat(25), &"-".repeat(200)] {
            assert!(RecoveryCode::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn codes_differ_and_use_all_digits() {
        let codes: Vec<String> = (0..200).map(|_| RecoveryCode::generate().reveal()).collect();
        let distinct: std::collections::HashSet<&String> = codes.iter().collect();
        assert_eq!(distinct.len(), 200);
        assert!(RecoveryCode::DIGITS.iter().all(|digit| codes.iter().any(|code| code.contains(char::from(*digit)))));
    }
}
