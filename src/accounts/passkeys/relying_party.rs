//! The relying party of WebAuthn: what is asked of authenticators, and what of their answers is accepted.
//!
//! The library verifies. What it leaves to its callers is here: an origin is one of the configured ones as a whole, a page
//! in a frame of another origin is refused, the attestation is dropped before anything parses it, and the user handle is
//! the account's.

use std::ops::RangeInclusive;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use webauthn_rs::prelude::{
    COSEAlgorithm, DiscoverableAuthentication, Passkey, PasskeyRegistration, Url, Uuid, WebauthnError,
};
use webauthn_rs::{Webauthn, WebauthnBuilder};

use super::ceremony_error::CeremonyError;
use super::ed25519;
use crate::config::PasskeysConfig;
use crate::domain::passkey::{CredentialId, UserHandle};
use crate::domain::token::TokenDigest;
use crate::repository::{PasskeyOwner, PasskeyUse, StoredPasskey};

/// How long a credential's id may be: WebAuthn asks for 100 bits of entropy at least, and for 1,023 bytes at most.
const ID_LENGTHS: RangeInclusive<usize> = 16..=1023;

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
    #[serde(default, rename = "topOrigin")]
    top_origin: Option<IgnoredAny>,
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
        Ok(Some(Self { library, rp_id, name: name.to_owned(), origins: config.origins.clone() }))
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
        let exclude = owner.credentials.iter().map(|credential| credential.as_bytes().to_vec()).collect();
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
            challenge: options.public_key.challenge,
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
        if !is_offered || !has_its_id || !ID_LENGTHS.contains(&made.credential_id.as_bytes().len()) {
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
        let challenge = options.public_key.challenge;
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
        let (verified_by, signature) =
            ed25519::stand_in(passkey.clone(), &used.authenticator_data, &used.client_data, used.signature.clone())?;
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
    /// more loosely, and looks at frames only when a passkey is made. What is above a frame is named only of one of another
    /// origin.
    fn check_client(&self, client_data: &[u8]) -> Result<(), CeremonyError> {
        let client: ClientData = serde_json::from_slice(client_data).map_err(|_| CeremonyError::Refused)?;
        let is_framed = client.cross_origin.unwrap_or(false) || client.top_origin.is_some();
        if self.origins.contains(&client.origin) && !is_framed { Ok(()) } else { Err(CeremonyError::Refused) }
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

#[cfg(test)]
mod tests {
    //! With vectors that WebAuthn level 3 publishes in its section 16. Most are of authenticators that verify no user: so
    //! they are tried as they are, which is refused, and with a challenge that does not ask for it.

    use serde_json::Value;

    use super::*;
    use crate::domain::user::{UserId, Username};

    struct Vector {
        id: &'static str,
        making: (&'static str, &'static str),
        /// The authenticator's data of its attestation object: the statement is dropped.
        made: &'static str,
        using: (&'static str, &'static str),
        data: &'static str,
        signature: &'static str,
    }

    /// 16.3, packed-self.ES256.
    const ES256: Vector = Vector {
        id: "455ef34e2043a87db3d4afeb39bbcb6cc32df9347c789a865ecdca129cbef58c",
        making: (
            "7869c2b772d4b58eba9378cf8f29e26cf935aa77df0da89fa99c0bdc0a76f7e5",
            "7b2274797065223a22776562617574686e2e637265617465222c226368616c6c656e6765223a2265476e4374334c55745936366b336a506a796e6962506b31716e666644616966715a774c33417032392d55222c226f726967696e223a2268747470733a2f2f6578616d706c652e6f7267222c2263726f73734f726967696e223a66616c73652c22657874726144617461223a22636c69656e74446174614a534f4e206d617920626520657874656e6465642077697468206164646974696f6e616c206669656c647320696e20746865206675747572652c207375636820617320746869733a205539685458764b453255526b4d6e625f307859485667227d",
        ),
        made: "bfabc37432958b063360d3ad6461c9c4735ae7f8edd46592a5e0f01452b2e4b55d00000000df850e09db6afbdfab51697791506cfc0020455ef34e2043a87db3d4afeb39bbcb6cc32df9347c789a865ecdca129cbef58ca5010203262001215820eb151c8176b225cc651559fecf07af450fd85802046656b34c18f6cf193843c5225820927b8aa427a2be1b8834d233a2d34f61f13bfd44119c325d5896e183fee484f2",
        using: (
            "4478a10b1352348dd160c1353b0d469b5db19eb91c27f7dfa6fed39fe26af20b",
            "7b2274797065223a22776562617574686e2e676574222c226368616c6c656e6765223a225248696843784e534e493352594d45314f7731476d3132786e726b634a5f6666707637546e2d4a71386773222c226f726967696e223a2268747470733a2f2f6578616d706c652e6f7267222c2263726f73734f726967696e223a66616c73652c22657874726144617461223a22636c69656e74446174614a534f4e206d617920626520657874656e6465642077697468206164646974696f6e616c206669656c647320696e20746865206675747572652c207375636820617320746869733a206754623533727a36456853576f6d58477a696d433151227d",
        ),
        data: "bfabc37432958b063360d3ad6461c9c4735ae7f8edd46592a5e0f01452b2e4b50900000000",
        signature: "304402203310b9431903c401f1be2bdc8d23a4007682dbbddcf846994947b7f465daf84002204e94dd00047b316061b3b99772b7efd95994a83ef584b3b6b825ea3550251b66",
    };

    /// 16.11, packed.EdDSA.
    const ED25519: Vector = Vector {
        id: "ce9f840ed96599580cd140fbc7bb3230633f50f61041aff73308ae71caa8a2bd",
        making: (
            "a8abf9dabdc6b0df63466b39bda9e8a34a34e185337a59f1c579990676d3b3bd",
            "7b2274797065223a22776562617574686e2e637265617465222c226368616c6c656e6765223a22714b763532723347734e396a526d733576616e6f6f306f303459557a656c6e7878586d5a426e6254733730222c226f726967696e223a2268747470733a2f2f6578616d706c652e6f7267222c2263726f73734f726967696e223a66616c73652c22657874726144617461223a22636c69656e74446174614a534f4e206d617920626520657874656e6465642077697468206164646974696f6e616c206669656c647320696e20746865206675747572652c207375636820617320746869733a20425f44543567375a445f2d394f544c59583549764551227d",
        ),
        made: "bfabc37432958b063360d3ad6461c9c4735ae7f8edd46592a5e0f01452b2e4b54100000000d5aa33581e8ca478e20fe713f5d32ff20020ce9f840ed96599580cd140fbc7bb3230633f50f61041aff73308ae71caa8a2bda401010327200621582044e06ddd331c36a8dc667bab52bcae63486c916aa5e339e6acebaa84934bf832",
        using: (
            "895957e01c633a698348a2d8a31a54b7db27e8c1c43b2080d79ae2190267bfd2",
            "7b2274797065223a22776562617574686e2e676574222c226368616c6c656e6765223a2269566c583442786a4f6d6d44534b4c596f7870557439736e364d48454f7943413135726947514a6e763949222c226f726967696e223a2268747470733a2f2f6578616d706c652e6f7267222c2263726f73734f726967696e223a66616c73657d",
        ),
        data: "bfabc37432958b063360d3ad6461c9c4735ae7f8edd46592a5e0f01452b2e4b50100000000",
        signature: "f5c59c7e46c34f6f8cc197101ddf9934fa2595f68eb1913a637e8419eb9ba4cfdfc48f85393bc0d40b011f0d6fecb097d6607525713223a0dc0d453993dae00b",
    };

    /// 16.4, none.ES256.crossOrigin.
    const IN_A_FRAME: Vector = Vector {
        id: "6e1050c0d2ca2f07c755cb2c66a74c64fa43065c18f938354d9915db2bd5ce57",
        making: (
            "3be5aacd03537142472340ab5969f240f1d87716e20b6807ac230655fa4b3b49",
            "7b2274797065223a22776562617574686e2e637265617465222c226368616c6c656e6765223a224f2d57717a514e5463554a484930437257576e7951504859647862694332674872434d475666704c4f306b222c226f726967696e223a2268747470733a2f2f6578616d706c652e6f7267222c2263726f73734f726967696e223a747275652c22657874726144617461223a22636c69656e74446174614a534f4e206d617920626520657874656e6465642077697468206164646974696f6e616c206669656c647320696e20746865206675747572652c207375636820617320746869733a207a5a7175457444523944577170573574425754467567227d",
        ),
        made: "bfabc37432958b063360d3ad6461c9c4735ae7f8edd46592a5e0f01452b2e4b54500000000883f4f6014f19c09d87aa38123be48d000206e1050c0d2ca2f07c755cb2c66a74c64fa43065c18f938354d9915db2bd5ce57a501020326200121582022200a473f90b11078851550d03b4e44a2279f8c4eca27b3153dedfe03e4e97d225820cbd0be95e746ad6f5a8191be11756e4c0420e72f65b466d39bc56b8b123a9c6e",
        using: ("", ""),
        data: "",
        signature: "",
    };

    fn bytes(hex: &str) -> Vec<u8> {
        hex.as_bytes().chunks(2).map(|two| u8::from_str_radix(str::from_utf8(two).unwrap(), 16).unwrap()).collect()
    }

    fn relying_party() -> RelyingParty {
        let config = PasskeysConfig {
            rp_id: Some("example.org".to_owned()),
            origins: vec!["https://example.org".to_owned()],
            apple_apps: Vec::new(),
            android_apps: Vec::new(),
        };
        RelyingParty::new(&config, "test").unwrap().unwrap()
    }

    /// A state with the vector's challenge, which asks for a verified user or does not.
    fn with_challenge(state: &str, path: &str, challenge: &str, policy: &str) -> String {
        let mut state: Value = serde_json::from_str(state).unwrap();
        let inner = state.pointer_mut(path).unwrap();
        assert_eq!(inner["policy"], "required");
        inner["challenge"] = BASE64.encode(bytes(challenge)).into();
        inner["policy"] = policy.into();
        state.to_string()
    }

    fn make(party: &RelyingParty, vector: &Vector, policy: &str) -> Result<StoredPasskey, CeremonyError> {
        let username = Username::parse("a").unwrap();
        let owner =
            PasskeyOwner { user_id: UserId(1), username: username.clone(), user_handle: None, credentials: Vec::new() };
        let (_, state) = party.begin_making(owner).unwrap();
        let state = with_challenge(&state, "/state/rs", vector.making.0, policy);
        let made = PasskeyAttestation {
            credential_id: CredentialId::from_bytes(bytes(vector.id)),
            client_data: bytes(vector.making.1),
            attestation_object: without_attestation(&bytes(vector.made)).unwrap(),
        };
        assert!(challenge_of(&made.client_data) == Some(digest_of(&bytes(vector.making.0))));
        let MadePasskey { credential_id, user_handle, credential } = party.finish_making(&made, &state)?;
        Ok(StoredPasskey { credential_id, user_id: UserId(1), username, user_handle, credential })
    }

    fn use_it(
        party: &RelyingParty,
        vector: &Vector,
        stored: &StoredPasskey,
        policy: &str,
        change: impl Fn(&mut PasskeyAssertion),
    ) -> Result<PasskeyUse, CeremonyError> {
        let (_, state) = party.begin_use(Vec::new()).unwrap();
        let state = with_challenge(&state, "/ast", vector.using.0, policy);
        let mut used = PasskeyAssertion {
            credential_id: CredentialId::from_bytes(bytes(vector.id)),
            client_data: bytes(vector.using.1),
            authenticator_data: bytes(vector.data),
            signature: bytes(vector.signature),
            user_handle: Some(stored.user_handle.to_vec()),
        };
        change(&mut used);
        party.finish_use(&used, &state, stored.clone(), false)
    }

    #[test]
    fn published_vectors_verify_but_for_the_user_that_they_do_not_verify() {
        let party = relying_party();
        for vector in [ES256, ED25519] {
            let stored = make(&party, &vector, "discouraged").unwrap();
            use_it(&party, &vector, &stored, "discouraged", |_| {}).unwrap();
            let unverified = use_it(&party, &vector, &stored, "required", |_| {}).err();
            assert!(matches!(unverified, Some(CeremonyError::Unverified(WebauthnError::UserNotVerified))));
            let changes: [fn(&mut PasskeyAssertion); 4] = [
                |used| used.signature[10] ^= 1,
                |used| used.authenticator_data[36] ^= 1,
                |used| used.client_data.push(b' '),
                |used| used.signature.clear(),
            ];
            for change in changes {
                assert!(use_it(&party, &vector, &stored, "discouraged", change).is_err());
            }
        }
        assert!(make(&party, &ES256, "required").is_ok(), "it verified its user when it was made");
        assert!(make(&party, &ED25519, "required").is_err());
        assert!(matches!(make(&party, &IN_A_FRAME, "discouraged"), Err(CeremonyError::Refused)));
    }

    #[test]
    fn a_key_of_ed25519_is_stored_as_its_own_and_the_library_alone_refuses_it() {
        let party = relying_party();
        let stored = make(&party, &ED25519, "discouraged").unwrap();
        let passkey: Passkey = serde_json::from_str(&stored.credential).unwrap();
        assert_eq!(passkey.cred_algorithm(), &COSEAlgorithm::EDDSA);
        let (_, state) = party.begin_use(Vec::new()).unwrap();
        let state = with_challenge(&state, "/ast", ED25519.using.0, "discouraged");
        let credential = serde_json::from_value(json!({
            "id": "", "rawId": BASE64.encode(bytes(ED25519.id)), "type": "public-key",
            "response": {
                "clientDataJSON": BASE64.encode(bytes(ED25519.using.1)),
                "authenticatorData": BASE64.encode(bytes(ED25519.data)),
                "signature": BASE64.encode(bytes(ED25519.signature)),
            },
        }));
        let state = serde_json::from_str(&state).unwrap();
        assert!(party.library.finish_discoverable_authentication_v2(&credential.unwrap(), state, &passkey).is_err());
    }
}
