//! Providers of identities: what they are asked, and whether what they say is believed.
//!
//! Signatures are verified by jsonwebtoken with ring, by a key of the provider's own that it publishes at an address which
//! the configuration or its discovery document names. Nothing that a token brings along leads anywhere.

mod apple;
mod cached;
mod claims;
mod crypto;
mod endpoints;
mod error;
mod exchange;
mod github;
mod keys;

use std::sync::Arc;
use std::time::Duration;

use cached::{Cached, fresh_for};
use claims::{Claims, Expected, NoticeClaims};
use endpoints::Endpoints;
use keys::{KeySet, Signed};

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
    /// With a preset they are known.
    endpoints: Cached<Endpoints>,
    keys: Cached<KeySet>,
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
    client: Arc<Client>,
}

impl Providers {
    /// Those of the configuration. Nothing is asked yet.
    ///
    /// # Errors
    /// A sentence, where a key cannot be read.
    pub fn new(configs: &[ProviderConfig], client: Arc<Client>) -> Result<Self, String> {
        crypto::install();
        for config in configs {
            apple::check_key(config)?;
        }
        let provider = |config: &ProviderConfig| Provider {
            config: config.clone(),
            endpoints: Cached::new(),
            keys: Cached::new(),
        };
        Ok(Self { providers: configs.iter().map(provider).collect(), client })
    }

    /// None.
    #[must_use]
    pub fn none() -> Self {
        Self { providers: Vec::new(), client: Arc::new(Client::new(Vec::new(), Duration::from_secs(10))) }
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
    /// A token that carries a nonce is taken also where the app gives none: Google's library for iOS makes one that the app
    /// does not know. `require_nonce` is for who wants more.
    ///
    /// # Errors
    /// [`ProviderError::Refused`] for one that is worth nothing; others where the provider cannot be asked for its keys.
    pub async fn verify_id_token(
        &self,
        provider: &Provider,
        id_token: &str,
        nonce: Option<&str>,
        now: Timestamp,
    ) -> Result<IdentityClaims, ProviderError> {
        let claims: Claims = self.verify_signed(provider, id_token).await?;
        let requires_nonce = provider.config.require_nonce;
        claims.check(id_token, &Expected { config: &provider.config, nonce, requires_nonce, now })
    }

    /// Verifies an ID token that the provider itself has given to us. No nonce stands for it.
    async fn verify_exchanged(
        &self,
        provider: &Provider,
        id_token: &str,
        now: Timestamp,
    ) -> Result<IdentityClaims, ProviderError> {
        let claims: Claims = self.verify_signed(provider, id_token).await?;
        claims.check(id_token, &Expected { config: &provider.config, nonce: None, requires_nonce: false, now })
    }

    /// Verifies a notice that Apple has sent.
    ///
    /// # Errors
    /// [`ProviderError::NotOffered`] where no provider is Apple, [`ProviderError::Refused`] for what it has not signed.
    pub async fn verify_apple_notice(&self, payload: &str, now: Timestamp) -> Result<Notice, ProviderError> {
        let mut outcome = Err(ProviderError::NotOffered);
        // There may be one for each of several teams.
        for provider in self.iter().filter(|provider| provider.preset() == Preset::Apple) {
            outcome = match self.verify_signed::<NoticeClaims>(provider, payload).await {
                Ok(claims) => claims.check(&provider.config, now),
                Err(error) => Err(error),
            };
            if outcome.is_ok() {
                break;
            }
        }
        outcome
    }

    /// Verifies that the provider has signed this, and reads it.
    async fn verify_signed<T: serde::de::DeserializeOwned>(
        &self,
        provider: &Provider,
        token: &str,
    ) -> Result<T, ProviderError> {
        if !provider.is_for_apps() {
            return Err(ProviderError::NotOffered);
        }
        let signed = Signed::read(token)?;
        let address = self.endpoints(provider).await?.keys.clone();
        let fetch = || fetch_keys(Arc::clone(&self.client), address.clone());
        let mut keys = provider.keys.get(fetch).await?;
        // The provider may have begun to use another key.
        if !signed.is_for(&keys)
            && let Some(renewed) = provider.keys.renew(&keys, fetch).await
        {
            keys = renewed;
        }
        signed.verify(&keys)
    }

    /// The provider's addresses: those of its preset, or those that it publishes.
    async fn endpoints(&self, provider: &Provider) -> Result<Arc<Endpoints>, ProviderError> {
        let config = &provider.config;
        if let Some(known) = Endpoints::of_preset(config) {
            return Ok(Arc::new(known));
        }
        let issuer = config.issuer.clone().ok_or(ProviderError::NotOffered)?;
        provider.endpoints.get(|| discover(Arc::clone(&self.client), issuer)).await
    }
}

async fn fetch_keys(client: Arc<Client>, address: String) -> Result<(KeySet, Duration), ProviderError> {
    let answer = client.get(&address, &[("accept", "application/json")]).await?;
    if answer.status != 200 {
        return Err(ProviderError::Answer("it does not give its keys"));
    }
    let keys = KeySet::parse(&answer.body).ok_or(ProviderError::Answer("its keys cannot be read, or used"))?;
    Ok((keys, fresh_for(&answer)))
}

async fn discover(client: Arc<Client>, issuer: String) -> Result<(Endpoints, Duration), ProviderError> {
    let address = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
    let answer = client.get(&address, &[("accept", "application/json")]).await?;
    if answer.status != 200 {
        return Err(ProviderError::Answer("it does not give its discovery document"));
    }
    Ok((Endpoints::discovered(&issuer, &answer.body)?, fresh_for(&answer)))
}
