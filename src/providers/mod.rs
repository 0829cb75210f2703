//! Providers of identities: what they are asked, and whether what they say is believed.

mod error;

use std::sync::Arc;
use std::time::Duration;

use crate::config::ProviderConfig;
use crate::config::identity::Preset;
use crate::domain::identity::Subject;
use crate::domain::token::TokenDigest;
use crate::outbound::Client;
use crate::system::clock::Timestamp;

pub use self::error::ProviderError;

/// A provider.
pub struct Provider {
    config: ProviderConfig,
}

impl Provider {
    /// What it is called in paths.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.config.name
    }

    /// What people read on its button.
    #[must_use]
    pub fn label(&self) -> &str {
        self.config.label.as_deref().unwrap_or(&self.config.name)
    }

    /// What is known of it beforehand.
    #[must_use]
    pub fn preset(&self) -> Preset {
        self.config.preset
    }

    /// The ids that it has given to our apps.
    #[must_use]
    pub fn client_ids(&self) -> &[String] {
        &self.config.client_ids
    }

    /// Whether an app may present an ID token of it. GitHub has none.
    #[must_use]
    pub fn is_for_apps(&self) -> bool {
        self.config.preset != Preset::Github
    }

    /// Whether a browser can be sent to it: the configuration has what the exchange of its codes needs.
    #[must_use]
    pub fn is_for_browsers(&self) -> bool {
        match self.config.preset {
            Preset::Apple => self.has_apple_key(),
            _ => self.config.client_secret.is_some(),
        }
    }

    /// Whether it gives refresh tokens that are kept, to be revoked with the account: Apple does, where there is a key.
    #[must_use]
    pub fn gives_refresh_tokens(&self) -> bool {
        self.config.preset == Preset::Apple && self.has_apple_key()
    }

    /// Whether it comes back by a form that it posts (Apple), and not by a link.
    #[must_use]
    pub fn posts_back(&self) -> bool {
        self.config.preset == Preset::Apple
    }

    fn has_apple_key(&self) -> bool {
        self.config.apple_team.is_some() && self.config.apple_key_id.is_some() && self.config.apple_key.is_some()
    }
}

/// What a provider says of somebody.
#[derive(Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct IdentityClaims {
    /// Its issuer in one spelling, and its own id of them.
    pub subject: Subject,
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

/// What a code was exchanged for.
#[expect(missing_docs, reason = "the names say it")]
pub struct Exchanged {
    pub claims: IdentityClaims,
    pub refresh_token: Option<String>,
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
}

/// All providers of the configuration.
pub struct Providers {
    providers: Vec<Provider>,
    _client: Arc<Client>,
}

#[expect(clippy::unused_async, reason = "stubs")]
impl Providers {
    /// Those of the configuration. Nothing is asked yet.
    ///
    /// # Errors
    /// A sentence, where a key cannot be read.
    pub fn new(configs: &[ProviderConfig], client: Arc<Client>) -> Result<Self, String> {
        let providers = configs.iter().map(|config| Provider { config: config.clone() }).collect();
        Ok(Self { providers, _client: client })
    }

    /// None.
    #[must_use]
    pub fn none() -> Self {
        Self { providers: Vec::new(), _client: Arc::new(Client::new(Vec::new(), Duration::from_secs(10))) }
    }

    /// All of them, in the order of the configuration.
    pub fn iter(&self) -> impl Iterator<Item = &Provider> {
        self.providers.iter()
    }

    /// The provider of this name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&Provider> {
        self.providers.iter().find(|provider| provider.name() == name)
    }

    /// Verifies an ID token that an app presents.
    ///
    /// # Errors
    /// [`ProviderError::Refused`] for one that is worth nothing; others where the provider cannot be asked for its keys.
    pub async fn verify_id_token(
        &self,
        _provider: &Provider,
        _id_token: &str,
        _nonce: Option<&str>,
        _now: Timestamp,
    ) -> Result<IdentityClaims, ProviderError> {
        Err(ProviderError::NotOffered)
    }

    /// The address that a browser is sent to. `code_challenge` is the S256 of the verifier.
    ///
    /// # Errors
    /// [`ProviderError::NotOffered`] where browsers are not sent there; others where it cannot be asked for its addresses.
    pub async fn authorization_url(
        &self,
        _provider: &Provider,
        _state: &str,
        _nonce: &str,
        _code_challenge: &str,
        _redirect_uri: &str,
    ) -> Result<String, ProviderError> {
        Err(ProviderError::NotOffered)
    }

    /// Checks the `iss` that a browser came back with: RFC 9207. It must be there where the provider announces it.
    ///
    /// # Errors
    /// [`ProviderError::Refused`] for another's, or none.
    pub async fn check_issuer(&self, _provider: &Provider, _iss: Option<&str>) -> Result<(), ProviderError> {
        Err(ProviderError::NotOffered)
    }

    /// Exchanges the code that a browser came back with.
    ///
    /// # Errors
    /// [`ProviderError::Refused`] where the provider refuses it; others where it cannot be asked.
    pub async fn exchange_code(
        &self,
        _provider: &Provider,
        _code: &str,
        _code_verifier: &str,
        _nonce: &str,
        _redirect_uri: &str,
        _now: Timestamp,
    ) -> Result<Exchanged, ProviderError> {
        Err(ProviderError::NotOffered)
    }

    /// Exchanges the authorization code that Apple has given to an app.
    ///
    /// # Errors
    /// [`ProviderError::Refused`] where Apple refuses it; others where it cannot be asked.
    pub async fn exchange_app_code(
        &self,
        _provider: &Provider,
        _code: &str,
        _now: Timestamp,
    ) -> Result<Exchanged, ProviderError> {
        Err(ProviderError::NotOffered)
    }

    /// Revokes a refresh token. One that the provider does not know is revoked.
    ///
    /// # Errors
    /// Where the provider cannot be asked, or does not say that it has.
    pub async fn revoke(
        &self,
        _provider: &Provider,
        _refresh_token: &str,
        _now: Timestamp,
    ) -> Result<(), ProviderError> {
        Err(ProviderError::NotOffered)
    }

    /// Verifies a notice that Apple has sent.
    ///
    /// # Errors
    /// [`ProviderError::NotOffered`] where no provider is Apple, [`ProviderError::Refused`] for what it has not signed.
    pub async fn verify_apple_notice(&self, _payload: &str, _now: Timestamp) -> Result<Notice, ProviderError> {
        Err(ProviderError::NotOffered)
    }
}
