//! Passkeys: the ids and the names of WebAuthn credentials.

use sha2::{Digest as _, Sha256};

use crate::domain::field::InvalidField;
use crate::domain::token::hex;
use crate::system::clock::Timestamp;
use crate::system::visible::is_unseen;

/// How many passkeys an account may have.
pub const MAX_PASSKEYS: u32 = 20;

/// What an authenticator calls an account: random, so that it tells nothing of it.
pub type UserHandle = [u8; 16];

/// The id of a credential, which an authenticator chose. It is unique over all accounts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CredentialId(Vec<u8>);

impl CredentialId {
    /// As it came, or as it was stored.
    #[must_use]
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// As it is stored.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// What a passkey is called in a path: the beginning of the SHA-256 of its credential's id, which may be long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PasskeyId(String);

impl PasskeyId {
    const LENGTH: usize = 20;

    /// That of a credential.
    #[must_use]
    pub fn of(credential: &CredentialId) -> Self {
        let mut text = hex(&Sha256::digest(&credential.0));
        text.truncate(Self::LENGTH);
        Self(text)
    }

    /// Reads one out of a path.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let fits = text.len() == Self::LENGTH && text.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
        fits.then(|| Self(text.to_owned()))
    }

    /// As it is shown.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What an owner calls a passkey.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PasskeyName(String);

impl PasskeyName {
    const MAX_CHARS: usize = 64;

    /// Reads a name.
    ///
    /// # Errors
    /// [`InvalidField`] where it is empty or too long, or has characters that are not seen.
    pub fn parse(text: &str) -> Result<Self, InvalidField> {
        let text = text.trim();
        let fits = !text.is_empty()
            && text.chars().take(Self::MAX_CHARS + 1).count() <= Self::MAX_CHARS
            && !text.chars().any(is_unseen);
        if fits {
            return Ok(Self(text.to_owned()));
        }
        let rule = format!("must be 1 to {} characters, none of them a control character", Self::MAX_CHARS);
        Err(InvalidField { field: "name", rule })
    }

    /// As it was stored.
    #[must_use]
    pub fn from_stored(text: String) -> Self {
        Self(text)
    }

    /// As it is stored.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A passkey as its owner sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct PasskeyDetails {
    pub id: PasskeyId,
    pub name: PasskeyName,
    pub created: Timestamp,
    pub last_used: Option<Timestamp>,
}
