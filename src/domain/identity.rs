//! Identities: who an account is at Apple, at Google, at any OpenID provider.

use std::time::Duration;

use sha2::{Digest as _, Sha256};

use crate::domain::token::hex;
use crate::system::clock::Timestamp;

/// How many identities an account may have.
pub const MAX_IDENTITIES: u32 = 20;

/// How long a refresh token is tried to be revoked.
pub const REVOKED_WITHIN: Duration = Duration::from_secs(2 * 24 * 60 * 60);

/// Somebody at a provider: its issuer, and its own id of them. No address is part of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Subject {
    pub issuer: String,
    pub subject: String,
}

impl Subject {
    /// What a secret of this identity is sealed for: the SHA-256 of both.
    #[must_use]
    pub fn binding(&self) -> [u8; 32] {
        // No issuer has a NUL: it is a URL.
        Sha256::digest(format!("{}\0{}", self.issuer, self.subject)).into()
    }

    /// What it is called in a path.
    #[must_use]
    pub fn id(&self) -> IdentityId {
        let mut text = hex(&self.binding());
        text.truncate(IdentityId::LENGTH);
        IdentityId(text)
    }
}

/// What the refresh token of an identity is sealed for, by its [`Subject::binding`].
#[must_use]
pub fn refresh_token_binding(binding: &[u8; 32]) -> String {
    format!("identities.refresh_token:{}", hex(binding))
}

/// What an identity is called in a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityId(String);

impl IdentityId {
    const LENGTH: usize = 20;

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

/// An identity as its owner sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct IdentityDetails {
    pub subject: Subject,
    /// Its name in the configuration when it was linked.
    pub provider: String,
    /// What the provider last said, or nothing.
    pub email: String,
    pub created: Timestamp,
    pub last_used: Timestamp,
}
