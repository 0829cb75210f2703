//! One-time codes and links: what a mail carries, and what of it is stored.
//!
//! A mail has both a link with a token of 160 bits and a code of six digits; using one ends the other. The token is a
//! [`PlainToken`], of which the SHA-256 is stored. A code is short, so it counts only together with the request id,
//! another [`PlainToken`], which is known to the client that asked for the mail. The row is found by the request id's
//! SHA-256 and holds `HMAC-SHA-256(request id, code)`: the store alone tells neither.
//!
//! The code of a confirmation is the exception: its mail may be made by another process than the one that knew the
//! request id. It counts only in a session of the account, so the key of its MAC is the digest of the request id.

use std::time::Duration;

use hmac::{Hmac, KeyInit as _, Mac as _};
use rand::TryRng as _;
use rand::rngs::SysRng;
use sha2::Sha256;

use crate::domain::token::{PlainToken, TokenDigest};

/// What a code and a link are for. One that was made for another purpose is worth nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// To show that an address is the account's.
    ConfirmEmail,
    /// To set a new password.
    ResetPassword,
    /// To open a session.
    SignIn,
    /// To make a session fresh.
    Reauthenticate,
    /// To disown what a notice tells of.
    NotMe,
}

impl Purpose {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::ConfirmEmail, Self::ResetPassword, Self::SignIn, Self::Reauthenticate, Self::NotMe];

    /// Its name, as stored.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ConfirmEmail => "confirm_email",
            Self::ResetPassword => "reset_password",
            Self::SignIn => "sign_in",
            Self::Reauthenticate => "reauthenticate",
            Self::NotMe => "not_me",
        }
    }

    /// The purpose of this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|purpose| purpose.name() == name)
    }

    /// How long a link is valid.
    #[must_use]
    pub const fn lifetime(self) -> Duration {
        Duration::from_secs(match self {
            Self::SignIn | Self::Reauthenticate => 10 * 60,
            Self::ResetPassword => 30 * 60,
            Self::ConfirmEmail => 24 * 60 * 60,
            Self::NotMe => 7 * 24 * 60 * 60,
        })
    }
}

/// How long a code is valid.
pub const CODE_LIFETIME: Duration = Duration::from_secs(10 * 60);

/// What the link of a notice about a changed address has in the place of a session's id: it restores the former address.
pub const RESTORES_EMAIL: &str = "email_changed";

/// How many wrong codes end an offer.
pub const MAX_TRIES: u32 = 5;

/// A code of six digits. It has no `Debug`, no `Display` and no `Serialize`, as a token has none.
#[derive(Clone)]
pub struct Code([u8; Code::LENGTH]);

impl Code {
    const LENGTH: usize = 6;

    /// A new code from the operating system's generator, each of the million equally likely.
    ///
    /// # Panics
    /// When the operating system has no random numbers: no code made then could be trusted.
    #[must_use]
    pub fn generate() -> Self {
        const CODES: u32 = 1_000_000;
        // Numbers from here on would make the small codes more likely.
        const LIMIT: u32 = u32::MAX - u32::MAX % CODES;
        loop {
            let number = SysRng.try_next_u32().expect("the operating system gives random numbers");
            if number < LIMIT {
                let mut digits = [0; Self::LENGTH];
                digits.copy_from_slice(format!("{:06}", number % CODES).as_bytes());
                return Self(digits);
            }
        }
    }

    /// Reads a code as a person types it: six digits, perhaps with spaces.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b' ').collect();
        let digits: [u8; Self::LENGTH] = digits.try_into().ok()?;
        digits.iter().all(u8::is_ascii_digit).then_some(Self(digits))
    }

    /// The code in clear, for the mail.
    #[must_use]
    pub fn reveal(&self) -> &str {
        str::from_utf8(&self.0).unwrap_or_default()
    }

    /// What is stored of it, for whoever knows the request id.
    #[must_use]
    pub fn mac(&self, request: &PlainToken) -> CodeMac {
        self.keyed(request.reveal().as_bytes())
    }

    /// What is stored of the code of a confirmation, which counts only in a session of the account.
    #[must_use]
    pub fn mac_in_session(&self, request: &TokenDigest) -> CodeMac {
        self.keyed(request.as_bytes())
    }

    fn keyed(&self, key: &[u8]) -> CodeMac {
        // HMAC takes a key of any length.
        let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key of any length");
        mac.update(&self.0);
        CodeMac(mac.finalize().into_bytes().into())
    }
}

/// The MAC of a code: what is stored.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct CodeMac([u8; 32]);

impl CodeMac {
    /// As it was stored.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// As it is stored.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// What a client presents of a mail, for anything that needs no session.
pub enum Presented {
    /// The token of the link.
    Link(TokenDigest),
    /// The request id's digest, and the MAC of the code.
    Code(TokenDigest, CodeMac),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_six_digits_however_it_is_typed_and_its_mac_depends_on_the_request() {
        let codes: std::collections::HashSet<String> = (0..200).map(|_| Code::generate().reveal().to_owned()).collect();
        assert!(codes.len() > 190 && codes.iter().all(|code| Code::parse(code).is_some()));
        assert_eq!(Code::parse(" 123 456 ").unwrap().reveal(), "123456");
        for bad in ["", "12345", "1234567", "12345a", "１２３４５６", "-12345"] {
            assert!(Code::parse(bad).is_none(), "{bad}");
        }
        let (request, other) = (PlainToken::generate(), PlainToken::generate());
        let code = Code::parse("123456").unwrap();
        assert!(code.mac(&request) == Code::parse("123 456").unwrap().mac(&request));
        assert!(
            code.mac(&request) != code.mac(&other)
                && code.mac(&request) != Code::parse("123457").unwrap().mac(&request)
        );
        assert!(code.mac(&request) != code.mac_in_session(&request.digest()));
    }

    #[test]
    fn a_mac_is_the_hmac_sha_256_of_the_code_under_the_forty_characters_of_the_request_id() {
        // printf %s 123456 | openssl dgst -sha256 -hmac d96163b8bc9127d8c5d5839018580123c64a324b
        let request = PlainToken::parse("d96163b8bc9127d8c5d5839018580123c64a324b").unwrap();
        let mac = Code::parse("123456").unwrap().mac(&request);
        assert_eq!(
            crate::domain::token::hex(mac.as_bytes()),
            "4facdce114e7241fc6fe2527d83c2dff39930bcfd7c800f98d86c84f004b68cd"
        );
    }

    #[test]
    fn every_purpose_has_a_name_of_its_own_and_is_found_by_it() {
        for purpose in Purpose::ALL {
            assert_eq!(Purpose::parse(purpose.name()), Some(purpose));
        }
        assert_eq!(Purpose::parse("anything"), None);
    }
}
