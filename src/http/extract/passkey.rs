//! Reads what an authenticator has answered, in the form that a browser's `PublicKeyCredential.toJSON()` gives it. Whatever
//! else is in it is ignored.

use base64::Engine as _;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;
use utoipa::ToSchema;

use crate::accounts::passkeys::relying_party::{PasskeyAssertion, PasskeyAttestation};
use crate::domain::passkey::CredentialId;
use crate::http::error::ApiError;
use crate::http::json::Malformed;

/// The alphabet for URLs. Browsers write no padding, and some libraries do.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A passkey that was made: `PublicKeyCredential.toJSON()` after `navigator.credentials.create()`. Its other members are
/// ignored.
#[derive(Deserialize, ToSchema)]
#[schema(as = NewPasskey)]
pub(crate) struct AttestationRequest {
    #[serde(rename = "rawId")]
    #[schema(nullable = false, required, format = "base64url")]
    raw_id: Option<String>,
    #[schema(nullable = false, required)]
    response: Option<AttestationResponse>,
}

/// What the authenticator answered.
#[derive(Deserialize, ToSchema)]
#[schema(as = NewPasskeyResponse)]
pub(crate) struct AttestationResponse {
    #[serde(rename = "clientDataJSON")]
    #[schema(nullable = false, required, format = "base64url")]
    client_data: Option<String>,
    #[serde(rename = "attestationObject")]
    #[schema(nullable = false, required, format = "base64url")]
    attestation_object: Option<String>,
}

/// A passkey that was used: `PublicKeyCredential.toJSON()` after `navigator.credentials.get()`. Its other members are
/// ignored.
#[derive(Deserialize, ToSchema)]
#[schema(as = UsedPasskey)]
pub(crate) struct AssertionRequest {
    #[serde(rename = "rawId")]
    #[schema(nullable = false, required, format = "base64url")]
    raw_id: Option<String>,
    #[schema(nullable = false, required)]
    response: Option<AssertionResponse>,
}

/// What the authenticator answered.
#[derive(Deserialize, ToSchema)]
#[schema(as = UsedPasskeyResponse)]
pub(crate) struct AssertionResponse {
    #[serde(rename = "clientDataJSON")]
    #[schema(nullable = false, required, format = "base64url")]
    client_data: Option<String>,
    #[serde(rename = "authenticatorData")]
    #[schema(nullable = false, required, format = "base64url")]
    authenticator_data: Option<String>,
    #[schema(nullable = false, required, format = "base64url")]
    signature: Option<String>,
    /// An authenticator may leave it out where it was told which passkeys the account has.
    #[serde(rename = "userHandle")]
    #[schema(nullable = false, format = "base64url")]
    user_handle: Option<String>,
}

impl AttestationRequest {
    pub(crate) fn read(self) -> Result<PasskeyAttestation, ApiError> {
        let response = self.response.ok_or(Malformed::Missing("response"))?;
        Ok(PasskeyAttestation {
            credential_id: CredentialId::from_bytes(required("rawId", self.raw_id)?),
            client_data: required("clientDataJSON", response.client_data)?,
            attestation_object: required("attestationObject", response.attestation_object)?,
        })
    }
}

impl AssertionRequest {
    pub(crate) fn read(self) -> Result<PasskeyAssertion, ApiError> {
        let response = self.response.ok_or(Malformed::Missing("response"))?;
        Ok(PasskeyAssertion {
            credential_id: CredentialId::from_bytes(required("rawId", self.raw_id)?),
            client_data: required("clientDataJSON", response.client_data)?,
            authenticator_data: required("authenticatorData", response.authenticator_data)?,
            signature: required("signature", response.signature)?,
            user_handle: response.user_handle.map(|text| decode("userHandle", &text)).transpose()?,
        })
    }
}

fn required(field: &'static str, text: Option<String>) -> Result<Vec<u8>, ApiError> {
    decode(field, &text.ok_or(Malformed::Missing(field))?)
}

fn decode(field: &'static str, text: &str) -> Result<Vec<u8>, ApiError> {
    BASE64.decode(text).map_err(|_| ApiError::InvalidData(format!("{field} must be base64url")))
}
