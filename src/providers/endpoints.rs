//! Where a provider is asked: known with a preset, else as its discovery document says (OpenID Connect Discovery 1.0).

use serde::Deserialize;
use url::Url;

use super::claims::{APPLE, GITHUB, GOOGLE};
use super::error::ProviderError;
use crate::config::ProviderConfig;
use crate::config::identity::Preset;

/// The addresses of a provider, and how it wants to be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Endpoints {
    /// As it names itself in the `iss` of a browser that comes back: RFC 9207.
    pub(super) issuer: String,
    pub(super) authorization: String,
    pub(super) token: String,
    /// Of GitHub, which has no keys, none is asked for them.
    pub(super) keys: String,
    pub(super) revocation: Option<String>,
    /// Whether the secret goes into the header, and not into the form.
    pub(super) is_basic: bool,
    /// Whether it announces that a browser brings `iss` back.
    pub(super) gives_issuer: bool,
}

#[derive(Deserialize)]
struct Document {
    issuer: String,
    authorization_endpoint: String,
    token_endpoint: String,
    jwks_uri: String,
    revocation_endpoint: Option<String>,
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
    #[serde(default)]
    authorization_response_iss_parameter_supported: bool,
}

impl Endpoints {
    /// Those of a preset, at its real addresses or at that of the tests.
    pub(super) fn of_preset(config: &ProviderConfig) -> Option<Self> {
        let [issuer, authorization, token, keys, revocation] = match config.preset {
            Preset::None => return None,
            Preset::Google => [
                GOOGLE,
                "https://accounts.google.com/o/oauth2/v2/auth",
                "https://oauth2.googleapis.com/token",
                "https://www.googleapis.com/oauth2/v3/certs",
                "https://oauth2.googleapis.com/revoke",
            ],
            Preset::Apple => [
                APPLE,
                "https://appleid.apple.com/auth/authorize",
                "https://appleid.apple.com/auth/token",
                "https://appleid.apple.com/auth/keys",
                "https://appleid.apple.com/auth/revoke",
            ],
            Preset::Github => [
                GITHUB,
                "https://github.com/login/oauth/authorize",
                "https://github.com/login/oauth/access_token",
                "",
                "",
            ],
        };
        Some(Self {
            issuer: issuer.to_owned(),
            authorization: placed(config, authorization),
            token: placed(config, token),
            keys: placed(config, keys),
            revocation: (!revocation.is_empty()).then(|| placed(config, revocation)),
            is_basic: false,
            gives_issuer: false,
        })
    }

    /// Reads a discovery document. It must be that of the issuer that was asked for it.
    pub(super) fn discovered(issuer: &str, body: &[u8]) -> Result<Self, ProviderError> {
        let document: Document =
            serde_json::from_slice(body).map_err(|_| ProviderError::Answer("its discovery document cannot be read"))?;
        if document.issuer != issuer {
            return Err(ProviderError::Answer("its discovery document is of another issuer"));
        }
        // What a browser is sent to, and our secret, is under TLS where the issuer is.
        let is_fine = |address: &str| {
            Url::parse(address)
                .is_ok_and(|url| url.scheme() == "https" || (url.scheme() == "http" && issuer.starts_with("http://")))
        };
        let addresses = [&document.authorization_endpoint, &document.token_endpoint, &document.jwks_uri];
        if !addresses.into_iter().chain(&document.revocation_endpoint).all(|address| is_fine(address)) {
            return Err(ProviderError::Answer("its discovery document has addresses without TLS"));
        }
        let methods = document.token_endpoint_auth_methods_supported;
        Ok(Self {
            issuer: document.issuer,
            authorization: document.authorization_endpoint,
            token: document.token_endpoint,
            keys: document.jwks_uri,
            revocation: document.revocation_endpoint,
            // Where it says nothing, the header is what every one takes.
            is_basic: methods.is_none_or(|methods| !methods.iter().any(|method| method == "client_secret_post")),
            gives_issuer: document.authorization_response_iss_parameter_supported,
        })
    }
}

/// An address of a preset, or the same path at the address for tests.
pub(super) fn placed(config: &ProviderConfig, address: &str) -> String {
    match (&config.test_address, Url::parse(address)) {
        (Some(test), Ok(url)) => format!("{}{}", test.trim_end_matches('/'), url.path()),
        _ => address.to_owned(),
    }
}
