//! An identity as it is kept in a challenge, for a link that is made later.

use serde::{Deserialize, Serialize};

use crate::domain::authentication_methods::AuthenticationMethods;
use crate::domain::identity::Subject;
use crate::domain::token::{TokenDigest, bytes_of_hex, hex};
use crate::domain::user::UserId;
use crate::repository::{FirstFactor, IdTokenUse, IdentityUse, VerifiedIdentity};
use crate::system::clock::Timestamp;

/// A login that lacks its second factor, by an identity that is to be linked by this address, as it is kept.
#[derive(Serialize, Deserialize)]
struct KeptUse {
    identity: KeptIdentity,
    by_email: String,
}

/// An identity as it is kept. The refresh token is sealed.
#[derive(Serialize, Deserialize)]
pub(super) struct KeptIdentity {
    issuer: String,
    subject: String,
    provider: String,
    email: String,
    /// The digest of the ID token, in hex, and when it expires.
    token: Option<(String, i64)>,
    /// In hex.
    refresh_token: Option<String>,
}

impl KeptIdentity {
    pub(super) fn of(VerifiedIdentity { subject, provider, email, token, refresh_token }: &VerifiedIdentity) -> Self {
        Self {
            issuer: subject.issuer.clone(),
            subject: subject.subject.clone(),
            provider: provider.clone(),
            email: email.clone(),
            token: token.as_ref().map(|token| (hex(token.digest.as_bytes()), token.expires.as_millis())),
            refresh_token: refresh_token.as_deref().map(hex),
        }
    }

    pub(super) fn read(self) -> Option<VerifiedIdentity> {
        let token = match self.token {
            Some((digest, expires)) => Some(IdTokenUse {
                digest: TokenDigest::from_bytes(bytes_of_hex(&digest)?.try_into().ok()?),
                expires: Timestamp::from_millis(expires)?,
            }),
            None => None,
        };
        let refresh_token = match self.refresh_token {
            Some(text) => Some(bytes_of_hex(&text)?),
            None => None,
        };
        let subject = Subject { issuer: self.issuer, subject: self.subject };
        Some(VerifiedIdentity { subject, provider: self.provider, email: self.email, token, refresh_token })
    }
}

/// By what the first factor of a login was shown, as it is kept.
#[derive(Serialize, Deserialize)]
struct KeptMethods {
    methods: String,
}

/// What is kept of a login that may lack its second factor: an identity that is linked once that is given, whose ID token
/// is used up before; or else by what the first factor was shown.
pub(super) fn keep(first: &FirstFactor) -> String {
    let FirstFactor::Identity(IdentityUse { identity, by_email: Some(by_email), .. }) = first else {
        return serde_json::to_string(&KeptMethods { methods: first.methods().to_stored() }).unwrap_or_default();
    };
    let identity = KeptIdentity { token: None, ..KeptIdentity::of(identity) };
    serde_json::to_string(&KeptUse { identity, by_email: by_email.clone() }).unwrap_or_default()
}

/// By what the first factor was shown, of what [`keep`] has written.
pub(super) fn read_methods(json: &str) -> AuthenticationMethods {
    let kept = serde_json::from_str::<KeptMethods>(json).ok();
    kept.and_then(|kept| AuthenticationMethods::from_stored(&kept.methods)).unwrap_or_default()
}

/// The identity of what [`keep`] has written; `None` where there is nothing to be linked.
pub(super) fn read_for_link(user_id: UserId, json: &str) -> Option<IdentityUse> {
    let KeptUse { identity, by_email } = serde_json::from_str(json).ok()?;
    Some(IdentityUse { user_id, identity: identity.read()?, by_email: Some(by_email) })
}
