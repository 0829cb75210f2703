//! What a provider has told of somebody: read, kept for a later request, and made into what the store takes.

use serde::{Deserialize, Serialize};

use super::outcome::{GivenIdToken, GivenIdentity, IdentityError};
use crate::accounts::kept_identity::KeptIdentity;
use crate::accounts::service::{Accounts, Client};
use crate::domain::email::EmailAddress;
use crate::providers::{IdentityClaims, Provider, ProviderError};
use crate::repository::{IdTokenUse, VerifiedIdentity};
use crate::system::clock::Timestamp;

/// What a provider has told, and what becomes of it.
pub(super) struct Told {
    pub(super) identity: VerifiedIdentity,
    /// Whether the provider is believed that the address is this person's.
    pub(super) speaks_for_email: bool,
    /// When this person has shown there who they are.
    pub(super) authenticated: Timestamp,
    /// Apple's, until it is exchanged for the refresh token.
    pub(super) app_code: Option<AppCode>,
}

/// An authorization code that an app was given, together with an ID token for this client id.
pub(super) struct AppCode {
    pub(super) client_id: String,
    pub(super) code: String,
}

/// The same as it is kept in a challenge.
#[derive(Serialize, Deserialize)]
struct Kept {
    identity: KeptIdentity,
    speaks_for_email: bool,
    authenticated: i64,
}

impl Told {
    /// What an ID token or the provider itself has told. The token of the one counts once.
    pub(super) fn of(provider: &Provider, claims: IdentityClaims, refresh_token: Option<Vec<u8>>) -> Self {
        let authenticated = claims.authenticated();
        let token = claims.token.map(|(digest, expires)| IdTokenUse { digest, expires });
        let identity = VerifiedIdentity {
            subject: claims.subject,
            provider: provider.name().to_owned(),
            email: claims.email,
            token,
            refresh_token,
        };
        Self { identity, speaks_for_email: claims.speaks_for_email, authenticated, app_code: None }
    }

    /// The address, where it is one that mail can be sent to.
    pub(super) fn email(&self) -> Option<EmailAddress> {
        EmailAddress::parse(&self.identity.email).ok()
    }

    pub(super) fn to_json(&self) -> String {
        let kept = Kept {
            identity: KeptIdentity::of(&self.identity),
            speaks_for_email: self.speaks_for_email,
            authenticated: self.authenticated.as_millis(),
        };
        serde_json::to_string(&kept).unwrap_or_default()
    }

    /// Reads what [`Told::to_json`] has written; `None` for anything else.
    pub(super) fn from_json(json: &str) -> Option<Self> {
        let kept: Kept = serde_json::from_str(json).ok()?;
        Some(Self {
            identity: kept.identity.read()?,
            speaks_for_email: kept.speaks_for_email,
            authenticated: Timestamp::from_millis(kept.authenticated)?,
            app_code: None,
        })
    }
}

impl Accounts {
    /// What is told of an identity that is shown. A code of a browser is used up by it, an ID token is not.
    pub(super) async fn find_told(&self, given: &GivenIdentity) -> Result<Told, IdentityError> {
        match given {
            GivenIdentity::IdToken(given) => self.verify_given(given).await,
            GivenIdentity::Code(given) => self.take_result(given).await?.ok_or(IdentityError::Refused),
        }
    }

    /// What an ID token tells that an app was given.
    pub(super) async fn verify_given(&self, given: &GivenIdToken) -> Result<Told, IdentityError> {
        let provider = self.provider(&given.provider)?;
        let verified = self.identities.providers.verify_id_token(
            provider,
            &given.id_token,
            given.nonce.as_deref(),
            self.clock.now(),
        );
        let claims = verified.await.inspect_err(|error| {
            // Whoever presents it is told nothing: a wrong client id is for the operator to find.
            if let ProviderError::Refused(why) = error {
                log::info!("an ID token of {} is refused: {why}", provider.name());
            }
        })?;
        let client_id = claims.client_id.clone();
        let app_code = given.authorization_code.clone().map(|code| AppCode { client_id, code });
        Ok(Told { app_code, ..Told::of(provider, claims, None) })
    }

    /// Notes a login that was refused, of which no account is known.
    pub(super) fn note_refused_identity(&self, client: &impl Client) {
        self.throttle.note_unknown(client.ip());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::identity::Subject;
    use crate::domain::token::TokenDigest;

    #[test]
    fn what_is_kept_is_read_again_as_it_was() {
        let identity = VerifiedIdentity {
            subject: Subject { issuer: "https://id.example".to_owned(), subject: "1".to_owned() },
            provider: "example".to_owned(),
            email: "a@diamond.example".to_owned(),
            token: Some(IdTokenUse {
                digest: TokenDigest::from_bytes([7; 32]),
                expires: Timestamp::from_millis(1_000).unwrap(),
            }),
            refresh_token: Some(vec![1, 2, 255]),
        };
        let authenticated = Timestamp::from_millis(2_000).unwrap();
        let told = Told { identity, speaks_for_email: true, authenticated, app_code: None };
        let again = Told::from_json(&told.to_json()).unwrap();
        assert_eq!(again.to_json(), told.to_json());
        assert!(again.identity.token.unwrap().digest == TokenDigest::from_bytes([7; 32]));
        assert!(Told::from_json("{}").is_none());
    }
}
