//! Tokens: what a client holds, and the digest that the service stores of it.
//!
//! A token is 160 bits from the operating system's generator, written as 40 lowercase hex digits. It exists in clear
//! only on its way to the client and in a request's header; everything stored or compared is a [`TokenDigest`].

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hash, Hasher};

use rand::TryRng as _;
use rand::rngs::SysRng;
use sha2::{Digest as _, Sha256, Sha512};

/// A token in clear. It has no `Debug`, no `Display` and no `Serialize`: showing it takes a deliberate
/// [`PlainToken::reveal`].
#[derive(Clone)]
pub struct PlainToken([u8; PlainToken::LENGTH]);

impl PlainToken {
    pub(crate) const LENGTH: usize = 40;

    /// A new token from the operating system's generator.
    ///
    /// # Panics
    /// When the operating system has no random numbers: no token made then could be trusted.
    #[must_use]
    pub fn generate() -> Self {
        let mut bytes = [0_u8; Self::LENGTH / 2];
        SysRng.try_fill_bytes(&mut bytes).expect("the operating system gives random numbers");
        let mut digits = [0; Self::LENGTH];
        digits.copy_from_slice(hex(&bytes).as_bytes());
        Self(digits)
    }

    /// Reads a token as a client presents it: exactly 40 lowercase hex digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digits: [u8; Self::LENGTH] = text.as_bytes().try_into().ok()?;
        digits.iter().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f')).then_some(Self(digits))
    }

    /// The SHA-256 of the token's 40 characters.
    #[must_use]
    pub fn digest(&self) -> TokenDigest {
        TokenDigest(Sha256::digest(self.0).into())
    }

    /// The token in clear, for the one answer that gives it to its client.
    #[must_use]
    pub fn reveal(&self) -> &str {
        // It holds nothing but hex digits.
        str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// What a client presents as its token: one of ours by its form, or perhaps one of another system, whose tokens were
/// imported. It shows itself as little as a [`PlainToken`] does.
#[derive(Clone)]
pub enum PresentedToken {
    /// By its form. Another system may have had the same.
    Ours(PlainToken),
    /// Any other `token68` of RFC 9110 of a bounded length.
    Other(Box<str>),
}

impl PresentedToken {
    /// How long the token of another system may be.
    const MAX_LENGTH: usize = 256;

    /// Reads a token of either form.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(token) = PlainToken::parse(text) {
            return Some(Self::Ours(token));
        }
        let is_token = |b: u8| b.is_ascii_alphanumeric() || b"-._~+/".contains(&b);
        let letters = text.trim_end_matches('=');
        let fits = text.len() <= Self::MAX_LENGTH && !letters.is_empty() && letters.bytes().all(is_token);
        fits.then(|| Self::Other(text.into()))
    }

    /// The SHA-256 of its characters. Another system may read hex in either case, so that two spellings are one token; 40
    /// digits in upper case are none.
    #[must_use]
    pub fn digest(&self) -> TokenDigest {
        match self {
            Self::Ours(token) => token.digest(),
            Self::Other(text) if is_hex(text) && text.len() != PlainToken::LENGTH => {
                TokenDigest(Sha256::digest(text.to_ascii_lowercase()).into())
            }
            Self::Other(text) => TokenDigest(Sha256::digest(text.as_bytes()).into()),
        }
    }

    /// What another system may have stored of it: the beginnings of the SHA-512 of its characters and, where they are
    /// hex, of the bytes that they stand for.
    #[must_use]
    pub fn foreign_digests(&self) -> Vec<TokenDigest> {
        let text = self.characters();
        [Some(text.as_bytes().to_vec()), bytes_of_hex(text)].into_iter().flatten().map(beginning_of_sha512).collect()
    }

    fn characters(&self) -> &str {
        match self {
            Self::Ours(token) => token.reveal(),
            Self::Other(text) => text,
        }
    }
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|digit| digit.is_ascii_hexdigit())
}

fn beginning_of_sha512(bytes: Vec<u8>) -> TokenDigest {
    let digest = Sha512::digest(bytes);
    TokenDigest(std::array::from_fn(|number| digest[number]))
}

/// The SHA-256 of a token: what is stored, and what a presented token is looked up by.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TokenDigest([u8; 32]);

impl TokenDigest {
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

impl Hash for TokenDigest {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // Not the first or the last byte: the map itself may have been chosen by one of these.
        if let Some(bytes) = self.0[8..].first_chunk() {
            state.write_u64(u64::from_le_bytes(*bytes));
        }
    }
}

/// A map by digest that uses part of the digest as the hash.
pub(crate) type DigestMap<V> = HashMap<TokenDigest, V, BuildHasherDefault<DigestHasher>>;

/// Takes part of a digest as its hash: a SHA-256 digest is random already, and a client can choose one only by trying
/// tokens.
#[derive(Default)]
pub(crate) struct DigestHasher(u64);

impl Hasher for DigestHasher {
    fn write(&mut self, _: &[u8]) {
        unreachable!("a digest writes one number");
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// Lowercase hex of `bytes`.
#[must_use]
pub(crate) fn hex(bytes: &[u8]) -> String {
    let digit = |number: u8| char::from(b"0123456789abcdef"[usize::from(number)]);
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(digit(byte >> 4));
        text.push(digit(byte & 15));
    }
    text
}

/// The bytes that hex digits of either case stand for.
pub(crate) fn bytes_of_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return None };
    pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_token_is_40_lowercase_hex_digits_and_no_two_are_alike() {
        let tokens: std::collections::HashSet<String> =
            (0..1_000).map(|_| PlainToken::generate().reveal().to_owned()).collect();
        assert_eq!(tokens.len(), 1_000);
        assert!(tokens.iter().all(|token| PlainToken::parse(token).is_some()));
    }

    #[test]
    fn hex_of_another_system_is_one_token_in_either_case_and_forty_digits_in_upper_case_are_none_of_ours() {
        let digest = |text: &str| *PresentedToken::parse(text).unwrap().digest().as_bytes();
        assert_eq!(digest(&"ab".repeat(32)), digest(&"AB".repeat(32)));
        assert_ne!(digest(&"xy".repeat(32)), digest(&"XY".repeat(32)));
        assert_ne!(digest(&"ab".repeat(20)), digest(&"AB".repeat(20)));
    }

    #[test]
    fn a_digest_is_the_sha_256_of_the_forty_characters() {
        // printf %s d96163b8bc9127d8c5d5839018580123c64a324b | sha256sum
        let token = PlainToken::parse("d96163b8bc9127d8c5d5839018580123c64a324b").unwrap();
        assert_eq!(hex(token.digest().as_bytes()), "09c43a24ff91ab15efa9a9f84f553978b17f936857d210b3f53d8d60c487ed3c");
    }

    #[test]
    fn what_another_system_may_have_stored_is_known_by_the_characters_and_by_the_bytes_of_hex() {
        let digests = |text: &str| {
            let digests = PresentedToken::parse(text).unwrap().foreign_digests();
            digests.iter().map(|digest| hex(digest.as_bytes())).collect::<Vec<_>>()
        };
        // printf %s abcd | sha512sum; printf '\xab\xcd' | sha512sum
        let of_characters = "d8022f2060ad6efd297ab73dcc5355c9b214054b0d1776a136a669d26a7d3b14";
        let of_bytes = "9b3a86c5dddf6c13acb969db8f54ebb9fa50dc4f902eff843380cebfc9cc53ff";
        assert_eq!(digests("abcd"), [of_characters, of_bytes]);
        assert_eq!(digests("ABCD")[1], of_bytes);
        assert_eq!(digests("abc").len(), 1, "no whole bytes");
        assert_eq!(digests("abcx").len(), 1);
        assert_eq!(digests("d96163b8bc9127d8c5d5839018580123c64a324b").len(), 2, "it may be another system's, too");
    }

    #[test]
    fn a_token_of_another_system_has_up_to_256_characters_of_a_credential() {
        let is_other = |text: &str| matches!(PresentedToken::parse(text), Some(PresentedToken::Other(_)));
        for text in ["a", "A.b-c_d~e+f/g==", "D96163B8BC9127D8C5D5839018580123C64A324B", &"f".repeat(256)] {
            assert!(is_other(text), "{text}");
        }
        for text in ["", "=", "a=b", "a b", "a,b", "\"a\"", "ä", "a\0", &"f".repeat(257)] {
            assert!(PresentedToken::parse(text).is_none(), "{text:?}");
        }
        assert!(matches!(PresentedToken::parse(&"0".repeat(40)), Some(PresentedToken::Ours(_))));
    }

    proptest! {
        #[test]
        fn nothing_but_forty_lowercase_hex_digits_is_a_token(text in "[0-9a-fA-F g]{38,42}") {
            let expected = text.len() == 40 && text.chars().all(|c| "0123456789abcdef".contains(c));
            prop_assert_eq!(PlainToken::parse(&text).is_some(), expected);
        }
    }
}
