//! The relying party of WebAuthn: what is asked of authenticators, and what of their answers is accepted.
//!
//! The library verifies. What it leaves to its callers is here: an origin is one of the configured ones as a whole, a page
//! in a frame of another origin is refused, the attestation is dropped before anything parses it, and the user handle is
//! the account's.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use thiserror::Error;
use webauthn_rs::prelude::{
    COSEAlgorithm, DiscoverableAuthentication, Passkey, PasskeyRegistration, Url, Uuid, WebauthnError,
};
use webauthn_rs::{Webauthn, WebauthnBuilder};

use super::ed25519;
use crate::accounts::throttle::limits::Together;
use crate::config::PasskeysConfig;
use crate::domain::passkey::{CredentialId, UserHandle};
use crate::domain::rate::Rate;
use crate::domain::token::TokenDigest;
use crate::repository::{PasskeyOwner, PasskeyUse, StoredPasskey};

/// How many sign-ins by a passkey strangers may begin, all together: each is a row of the store until it is finished or
/// has expired, so there are at most twice as many of these rows for each node.
const BEGUN_BY_STRANGERS: Rate = Rate { count: 10_000, period: std::time::Duration::from_secs(5 * 60) };

/// The least length of a credential's id: WebAuthn asks for 100 bits of entropy at least.
const LEAST_ID: usize = 16;

/// Why an authenticator's answer is not accepted.
#[derive(Debug, Error)]
pub enum CeremonyError {
    /// It is malformed, or was not made for this.
    #[error("it was not made for this")]
    Refused,
    /// The library refuses it.
    #[error("it does not verify: {0}")]
    Unverified(#[from] WebauthnError),
    /// What is stored cannot be read.
    #[error("what is stored of a passkey cannot be read")]
    Stored(#[from] serde_json::Error),
    /// The system gives no random numbers.
    #[error("the system gives no random numbers")]
    NoRandomNumbers,
}

/// What an authenticator answers when a passkey is made.
#[derive(Clone)]
#[expect(missing_docs, reason = "the names say it")]
pub struct PasskeyAttestation {
    pub credential_id: CredentialId,
    pub client_data: Vec<u8>,
    pub attestation_object: Vec<u8>,
}

/// What an authenticator answers when a passkey is used.
#[derive(Clone)]
#[expect(missing_docs, reason = "the names say it")]
pub struct PasskeyAssertion {
    pub credential_id: CredentialId,
    pub client_data: Vec<u8>,
    pub authenticator_data: Vec<u8>,
    pub signature: Vec<u8>,
    pub user_handle: Option<Vec<u8>>,
}

/// What a client needs for making a passkey.
#[expect(missing_docs, reason = "the names say it")]
pub struct CreationOptions {
    pub rp_id: String,
    pub rp_name: String,
    pub user_handle: UserHandle,
    pub username: String,
    pub challenge: Vec<u8>,
    pub exclude: Vec<CredentialId>,
}

/// What a client needs for using a passkey.
#[expect(missing_docs, reason = "the names say it")]
pub struct RequestOptions {
    pub rp_id: String,
    pub challenge: Vec<u8>,
    /// None where any will do.
    pub allow: Vec<CredentialId>,
}

/// A passkey that was made.
#[expect(missing_docs, reason = "the names say it")]
pub struct MadePasskey {
    pub credential_id: CredentialId,
    pub user_handle: UserHandle,
    /// The library's own form.
    pub credential: String,
}

/// What the client says of a ceremony, and the authenticator has signed.
#[derive(Deserialize)]
struct ClientData {
    challenge: String,
    origin: String,
    #[serde(default, rename = "crossOrigin")]
    cross_origin: Option<bool>,
}

/// The part of an attestation object that is looked at.
#[derive(Deserialize)]
struct AttestationObject<'a> {
    #[serde(borrow, rename = "authData")]
    auth_data: &'a [u8],
}

/// What finishing a registration needs.
#[derive(Serialize, Deserialize)]
struct Making {
    user_handle: UserHandle,
    state: PasskeyRegistration,
}

/// By what the store finds a challenge: the digest of what the client says that it has answered. That it has is verified
/// later, against what the store has found. `None` where it says nothing that can be read.
pub(super) fn challenge_of(client_data: &[u8]) -> Option<TokenDigest> {
    let ClientData { challenge, .. } = serde_json::from_slice(client_data).ok()?;
    Some(digest_of(&BASE64.decode(challenge).ok()?))
}

/// By what the store finds a challenge.
pub(super) fn digest_of(challenge: &[u8]) -> TokenDigest {
    TokenDigest::from_bytes(Sha256::digest(challenge).into())
}

/// The service as WebAuthn knows it.
pub struct RelyingParty {
    library: Webauthn,
    rp_id: String,
    name: String,
    origins: Vec<String>,
    /// Limits what strangers begin.
    pub(super) strangers: Together,
}

impl RelyingParty {
    /// The one that is configured; `None` where there is none. `name` is shown where a passkey is made.
    ///
    /// # Errors
    /// [`WebauthnError`] where the library refuses the configuration.
    pub fn new(config: &PasskeysConfig, name: &str) -> Result<Option<Self>, WebauthnError> {
        let Some(rp_id) = config.rp_id.clone() else { return Ok(None) };
        // The library wants an origin of the domain. Whether it is a configured one is decided here.
        let parse = |origin: &str| Url::parse(origin).map_err(|_| WebauthnError::Configuration);
        let own = parse(&format!("https://{rp_id}"))?;
        let mut builder = WebauthnBuilder::new(&rp_id, &own)?.rp_name(name);
        for origin in &config.origins {
            builder = builder.append_allowed_origin(&parse(origin)?);
        }
        let library = builder.build()?;
        let strangers = Together::new(BEGUN_BY_STRANGERS);
        Ok(Some(Self { library, rp_id, name: name.to_owned(), origins: config.origins.clone(), strangers }))
    }

    /// The domain that passkeys are made for.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.rp_id
    }

    /// Begins to make a passkey: what the client needs, and what finishing it does.
    pub(super) fn begin_making(&self, owner: PasskeyOwner) -> Result<(CreationOptions, String), CeremonyError> {
        let user_handle = owner.user_handle.map_or_else(generate_handle, Ok)?;
        let username = owner.username.as_str().to_owned();
        let exclude = owner.credentials.iter().map(|credential| credential.as_bytes().to_vec().into()).collect();
        let (options, state) = self.library.start_passkey_registration(
            Uuid::from_bytes(user_handle),
            &username,
            &username,
            Some(exclude),
        )?;
        let state = serde_json::to_string(&Making { user_handle, state })?;
        let options = CreationOptions {
            rp_id: self.rp_id.clone(),
            rp_name: self.name.clone(),
            user_handle,
            username,
            challenge: options.public_key.challenge.to_vec(),
            exclude: owner.credentials,
        };
        Ok((options, state))
    }

    /// Verifies what an authenticator has made.
    pub(super) fn finish_making(&self, made: &PasskeyAttestation, state: &str) -> Result<MadePasskey, CeremonyError> {
        self.check_client(&made.client_data)?;
        let Making { user_handle, state } = serde_json::from_str(state)?;
        let object: AttestationObject<'_> =
            serde_cbor_2::from_slice(&made.attestation_object).map_err(|_| CeremonyError::Refused)?;
        let mut auth_data = object.auth_data.to_vec();
        let other_key = ed25519::take_key(&mut auth_data)?;
        let id = BASE64.encode(made.credential_id.as_bytes());
        let credential = serde_json::from_value(json!({
            "id": id,
            "rawId": id,
            "type": "public-key",
            "response": {
                "clientDataJSON": BASE64.encode(&made.client_data),
                "attestationObject": BASE64.encode(without_attestation(&auth_data)?),
            },
        }))?;
        let passkey = self.library.finish_passkey_registration(&credential, &state)?;
        let is_offered = [COSEAlgorithm::ES256, COSEAlgorithm::RS256].contains(passkey.cred_algorithm());
        let has_its_id = passkey.cred_id().as_slice() == made.credential_id.as_bytes();
        if !is_offered || !has_its_id || made.credential_id.as_bytes().len() < LEAST_ID {
            return Err(CeremonyError::Refused);
        }
        let passkey = match other_key {
            Some(key) => ed25519::with_key(&passkey, &key)?,
            None => passkey,
        };
        let credential = serde_json::to_string(&passkey)?;
        Ok(MadePasskey { credential_id: made.credential_id.clone(), user_handle, credential })
    }

    /// Begins to use a passkey, one of `allow` where there are any.
    pub(super) fn begin_use(&self, allow: Vec<CredentialId>) -> Result<(RequestOptions, String), CeremonyError> {
        let (options, state) = self.library.start_discoverable_authentication()?;
        let challenge = options.public_key.challenge.to_vec();
        Ok((RequestOptions { rp_id: self.rp_id.clone(), challenge, allow }, serde_json::to_string(&state)?))
    }

    /// Verifies the use of a passkey. Without a user handle it is accepted only where the account is known otherwise.
    pub(super) fn finish_use(
        &self,
        used: &PasskeyAssertion,
        state: &str,
        stored: StoredPasskey,
        is_account_known: bool,
    ) -> Result<PasskeyUse, CeremonyError> {
        self.check_client(&used.client_data)?;
        let is_its_account = match &used.user_handle {
            Some(handle) => *handle == stored.user_handle,
            None => is_account_known,
        };
        if !is_its_account {
            return Err(CeremonyError::Refused);
        }
        let state: DiscoverableAuthentication = serde_json::from_str(state)?;
        let mut passkey: Passkey = serde_json::from_str(&stored.credential)?;
        let (verified_by, signature) = ed25519::stand_in(
            passkey.clone(),
            &used.authenticator_data,
            &used.client_data,
            used.signature.clone(),
        )?;
        let id = BASE64.encode(used.credential_id.as_bytes());
        let credential = serde_json::from_value(json!({
            "id": id,
            "rawId": id,
            "type": "public-key",
            "response": {
                "clientDataJSON": BASE64.encode(&used.client_data),
                "authenticatorData": BASE64.encode(&used.authenticator_data),
                "signature": BASE64.encode(signature),
                "userHandle": BASE64.encode(stored.user_handle),
            },
        }))?;
        let result = self.library.finish_discoverable_authentication_v2(&credential, state, &verified_by)?;
        let has_changed = passkey.update_credential(&result).ok_or(CeremonyError::Refused)?;
        let after = has_changed.then(|| serde_json::to_string(&passkey)).transpose()?;
        let StoredPasskey { user_id, credential_id, credential, .. } = stored;
        Ok(PasskeyUse { user_id, credential_id, before: credential, after })
    }

    /// Refuses what comes from a page that is not ours, or is in a frame of another origin. The library compares origins
    /// more loosely, and looks at frames only when a passkey is made.
    fn check_client(&self, client_data: &[u8]) -> Result<(), CeremonyError> {
        let client: ClientData = serde_json::from_slice(client_data).map_err(|_| CeremonyError::Refused)?;
        let is_ours = self.origins.contains(&client.origin) && !client.cross_origin.unwrap_or(false);
        if is_ours { Ok(()) } else { Err(CeremonyError::Refused) }
    }
}

/// An attestation object of the format `none`, in CBOR: what an authenticator may say of its maker is not asked for, and is
/// not parsed.
fn without_attestation(auth_data: &[u8]) -> Result<Vec<u8>, CeremonyError> {
    let length = u16::try_from(auth_data.len()).map_err(|_| CeremonyError::Refused)?;
    let mut object = b"\xa3\x63fmt\x64none\x67attStmt\xa0\x68authData\x59".to_vec();
    object.extend_from_slice(&length.to_be_bytes());
    object.extend_from_slice(auth_data);
    Ok(object)
}

fn generate_handle() -> Result<UserHandle, CeremonyError> {
    let mut handle = UserHandle::default();
    ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut handle)
        .map_err(|_| CeremonyError::NoRandomNumbers)?;
    Ok(handle)
}
