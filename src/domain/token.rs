//! Tokens: what a client holds, and the digest that the service stores of it.
//!
//! A token is 160 bits from the operating system's generator, written as 40 lowercase hex digits. It exists in clear
//! only on its way to the client and in a request's header; everything stored or compared is a [`TokenDigest`].

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hash, Hasher};

use rand::TryRng as _;
use rand::rngs::SysRng;
use sha2::{Digest as _, Sha256};

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
    fn a_digest_is_the_sha_256_of_the_forty_characters() {
        // printf %s d96163b8bc9127d8c5d5839018580123c64a324b | sha256sum
        let token = PlainToken::parse("d96163b8bc9127d8c5d5839018580123c64a324b").unwrap();
        assert_eq!(hex(token.digest().as_bytes()), "09c43a24ff91ab15efa9a9f84f553978b17f936857d210b3f53d8d60c487ed3c");
    }

    proptest! {
        #[test]
        fn nothing_but_forty_lowercase_hex_digits_is_a_token(text in "[0-9a-fA-F g]{38,42}") {
            let expected = text.len() == 40 && text.chars().all(|c| "0123456789abcdef".contains(c));
            prop_assert_eq!(PlainToken::parse(&text).is_some(), expected);
        }
    }
}
