//! What a provider says, once it is believed.

use crate::domain::identity::Subject;
use crate::domain::token::TokenDigest;
use crate::system::clock::Timestamp;

/// What a provider says of somebody.
#[derive(Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct IdentityClaims {
    /// Its issuer in one spelling, and its own id of them.
    pub subject: Subject,
    /// The client id of ours that it was told to: an ID token names it in `aud`.
    pub client_id: String,
    /// Empty where it says none.
    pub email: String,
    pub is_email_verified: bool,
    /// Whether it is believed that the address is this person's.
    pub speaks_for_email: bool,
    /// When the token was made; where there is none, when the provider was asked.
    pub issued: Timestamp,
    /// When the person last authenticated there, where it says so.
    pub auth_time: Option<Timestamp>,
    /// The digest of the ID token, and until when it must be remembered that it was used. GitHub has none.
    pub token: Option<(TokenDigest, Timestamp)>,
}

impl std::fmt::Debug for IdentityClaims {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Who it is, is nobody's business.
        f.debug_struct("IdentityClaims").finish_non_exhaustive()
    }
}

impl IdentityClaims {
    /// When this person has shown who they are at the latest: of both times that it says, the earlier.
    #[must_use]
    pub fn authenticated(&self) -> Timestamp {
        self.auth_time.map_or(self.issued, |at| at.min(self.issued))
    }
}

/// What a notice of Apple's is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoticeKind {
    /// The person has withdrawn their consent, or their account is gone.
    Withdrawn,
    /// Mail to the address is forwarded, or no longer; or something that is not known.
    Other,
}

/// A notice that Apple has signed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Notice {
    pub kind: NoticeKind,
    pub subject: Subject,
    /// When what it tells of has happened.
    pub happened: Timestamp,
}
