//! The JSON of passkeys: what a browser needs for making and using them, and how their owner sees them.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use serde::Serialize;
use utoipa::ToSchema;

use crate::accounts::passkeys::relying_party::{CreationOptions, RequestOptions};
use crate::domain::challenge::ChallengePurpose;
use crate::domain::factor::RecoveryCode;
use crate::domain::passkey::{CredentialId, PasskeyDetails};

/// What `navigator.credentials.create()` takes, once `PublicKeyCredential.parseCreationOptionsFromJSON()` has read the value
/// of `publicKey`.
#[derive(Serialize, ToSchema)]
#[schema(as = PasskeyCreation)]
pub(crate) struct CreationResponse {
    #[serde(rename = "publicKey")]
    public_key: PublicKeyCreation,
    /// Where a recovery code was used: the one that is in its place from now on.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "0a1b-2c3d-4e5f-6g7h-8j9k-mnpq", nullable = false)]
    recovery_code: Option<String>,
}

/// The options of WebAuthn.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = PasskeyCreationOptions)]
pub(crate) struct PublicKeyCreation {
    rp: RelyingPartyResponse,
    user: UserEntity,
    #[schema(format = "base64url")]
    challenge: String,
    pub_key_cred_params: Vec<Parameters>,
    /// In milliseconds.
    timeout: u64,
    exclude_credentials: Vec<Descriptor>,
    authenticator_selection: Selection,
    #[schema(example = "none")]
    attestation: &'static str,
}

#[derive(Serialize, ToSchema)]
#[schema(as = PasskeyRelyingParty)]
pub(crate) struct RelyingPartyResponse {
    #[schema(example = "example.org")]
    id: String,
    name: String,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = PasskeyUser)]
pub(crate) struct UserEntity {
    /// Random, and the same for all passkeys of an account.
    #[schema(format = "base64url")]
    id: String,
    #[schema(example = "AzureDiamond")]
    name: String,
    #[schema(example = "AzureDiamond")]
    display_name: String,
}

#[derive(Serialize, ToSchema)]
#[schema(as = PasskeyParameters)]
pub(crate) struct Parameters {
    #[schema(example = "public-key")]
    r#type: &'static str,
    /// ES256, `EdDSA` with Ed25519, RS256.
    #[schema(example = -7)]
    alg: i32,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = PasskeySelection)]
pub(crate) struct Selection {
    #[schema(example = "required")]
    resident_key: &'static str,
    require_resident_key: bool,
    #[schema(example = "required")]
    user_verification: &'static str,
}

#[derive(Serialize, ToSchema)]
#[schema(as = PasskeyDescriptor)]
pub(crate) struct Descriptor {
    #[schema(example = "public-key")]
    r#type: &'static str,
    #[schema(format = "base64url")]
    id: String,
}

/// What `navigator.credentials.get()` takes, once `PublicKeyCredential.parseRequestOptionsFromJSON()` has read the value of
/// `publicKey`.
#[derive(Serialize, ToSchema)]
#[schema(as = PasskeyRequest)]
pub(crate) struct RequestResponse {
    #[serde(rename = "publicKey")]
    public_key: PublicKeyRequest,
}

/// The options of WebAuthn.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = PasskeyRequestOptions)]
pub(crate) struct PublicKeyRequest {
    #[schema(format = "base64url")]
    challenge: String,
    /// In milliseconds.
    timeout: u64,
    #[schema(example = "example.org")]
    rp_id: String,
    /// Empty where any passkey of the service will do.
    allow_credentials: Vec<Descriptor>,
    #[schema(example = "required")]
    user_verification: &'static str,
}

/// The algorithms that are accepted, the best known first.
const ALGORITHMS: [i32; 3] = [-7, -8, -257];

fn timeout(purpose: ChallengePurpose) -> u64 {
    purpose.lifetime().as_secs() * 1_000
}

fn describe(credentials: &[CredentialId]) -> Vec<Descriptor> {
    let describe = |id: &CredentialId| Descriptor { r#type: "public-key", id: BASE64.encode(id.as_bytes()) };
    credentials.iter().map(describe).collect()
}

impl CreationResponse {
    pub(crate) fn of(options: CreationOptions, replacement: Option<&RecoveryCode>) -> Self {
        Self {
            recovery_code: replacement.map(RecoveryCode::reveal),
            public_key: PublicKeyCreation {
                rp: RelyingPartyResponse { id: options.rp_id, name: options.rp_name },
                user: UserEntity {
                    id: BASE64.encode(options.user_handle),
                    name: options.username.clone(),
                    display_name: options.username,
                },
                challenge: BASE64.encode(options.challenge),
                pub_key_cred_params: ALGORITHMS.map(|alg| Parameters { r#type: "public-key", alg }).into(),
                timeout: timeout(ChallengePurpose::AddPasskey),
                exclude_credentials: describe(&options.exclude),
                authenticator_selection: Selection {
                    resident_key: "required",
                    require_resident_key: true,
                    user_verification: "required",
                },
                attestation: "none",
            },
        }
    }
}

impl From<RequestOptions> for RequestResponse {
    fn from(options: RequestOptions) -> Self {
        Self {
            public_key: PublicKeyRequest {
                challenge: BASE64.encode(options.challenge),
                timeout: timeout(ChallengePurpose::UsePasskey),
                rp_id: options.rp_id,
                allow_credentials: describe(&options.allow),
                user_verification: "required",
            },
        }
    }
}

/// A passkey.
#[derive(Serialize, ToSchema)]
#[schema(as = Passkey)]
pub(crate) struct PasskeyResponse {
    /// What it is called in a path.
    #[schema(example = "5f0c1d3a9b7e24685f0c", pattern = "^[0-9a-f]{20}$")]
    id: String,
    #[schema(example = "Phone")]
    name: String,
    #[schema(example = "2015-01-04T22:51:35.144Z", format = DateTime)]
    created: String,
    /// `null` where it was never used.
    #[schema(example = "2015-01-04T22:51:35.144Z", format = DateTime, required)]
    last_used: Option<String>,
}

impl From<PasskeyDetails> for PasskeyResponse {
    fn from(passkey: PasskeyDetails) -> Self {
        Self {
            id: passkey.id.as_str().to_owned(),
            name: passkey.name.as_str().to_owned(),
            created: passkey.created.to_string(),
            last_used: passkey.last_used.map(|at| at.to_string()),
        }
    }
}
