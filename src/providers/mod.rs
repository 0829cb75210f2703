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
mod said;

use std::sync::Arc;
use std::time::Duration;

use cached::{Cached, fresh_for};
use claims::{Claims, Expected, NoticeClaims};
use endpoints::Endpoints;
use keys::{KeySet, Signed};

use crate::config::ProviderConfig;
use crate::config::identity::Preset;
use crate::outbound::Client;
use crate::system::clock::Timestamp;

pub use self::error::ProviderError;
pub use self::said::{IdentityClaims, Notice, NoticeKind};

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

    /// The issuer of its identities.
    #[must_use]
    pub fn issuer(&self) -> Option<&str> {
        claims::issuer_of(&self.config)
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

/// What a browser is sent to a provider with.
#[expect(missing_docs, reason = "the names say it")]
pub struct AuthorizationRequest<'a> {
    pub state: &'a str,
    pub nonce: &'a str,
    /// The S256 of the verifier.
    pub code_challenge: &'a str,
    pub redirect_uri: &'a str,
    /// Whether the person is to be asked who they are also where the provider knows it. GitHub cannot be told.
    pub asks_again: bool,
}

/// What a code was exchanged for.
#[expect(missing_docs, reason = "the names say it")]
pub struct Exchanged {
    pub claims: IdentityClaims,
    pub refresh_token: Option<String>,
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
    if keys.left_out > 0 {
        log::warn!("{address} has too many keys: the last {} are not used", keys.left_out);
    }
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

#[cfg(test)]
mod tests {
    #![expect(clippy::needless_pass_by_value, reason = "the values are written where they are given")]

    use std::collections::HashMap;
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;
    use std::sync::Mutex;
    use std::thread;

    use base64::Engine as _;
    use base64::prelude::BASE64_URL_SAFE_NO_PAD;
    use hmac::{KeyInit as _, Mac as _};
    use ring::rand::SystemRandom;
    use ring::signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
    };
    use serde_json::{Value, json};
    use sha2::{Digest as _, Sha256};

    use super::*;
    use crate::config::secret::Secret;

    /// 2027-01-15T08:00:00Z, in seconds.
    const NOW: i64 = 1_800_000_000;

    // A public key of RSA, and what its other half has signed for these tests: the claims of `usual`.
    const RSA_N: &str = "tM3r9ESfUgIl7lpc-yQuLS72QpMsnrm8rUsTnhIU3SynOrKz61ilE5zRR4o8ry4vG_aCLM7J0Gx1Y4ITjCCTC56P1zxHRi2O\
        vmKF9-W4-Yh20LD_kvx6g4-fCACh3e63sa24Jf-rcpoGqZJNkxMFHtZwql-eT7GnqmbhwV6W9Naqu9S8VK5j--Lyo0warTkU\
        qW9Y5INsmG_35JZI9_J29H-HhiL6WI4_i0TY4J7TBCo5tp8HQlTHpTY_0e1EZxZ45-RWacQSY4kAERx3kO7PDruTbnX3Kw7M\
        tm2cAWQSY414xnVf_-i0xM7FF9kUlWSuo0r6ct6Ad7LDJC7FZpOX2w";
    const BY_RS256: &str = "OZI3Or7YbE5bN0Kq_AEnvtymi-9FA4kDrUJXPLi4RkxkiE4J3YUa0D5017dTG4kHfcofeMAE4EiU6KI9uIX_sW8Nw8S4wvaU\
        MW0BogvI_CxMQifVXb4o54nGwlLKSWgpv2y24v2yfOKnlOipKMi9nQUeJkzGLG_Vh6hoSjHovF0nLTTZ1hBULUyGPw65Kumj\
        _YC0A7reMRcKGHRdTRZQ5Mm2gejrVckO4xsH_Xf36Kk4hd8BjT9o5G0uUZttSZUvEp07dq1vytscQ-rtBTuIDut3B35m2qIY\
        nisWqOQ7hOy-Xz-_Yh8Lw-gA4rVKTobNm-JP5AdOBdq0sbYmYj7Ckw";
    const BY_PS256: &str = "mStf2LoaBsNjCT_T0iGEsgXp9LqOmlsr8i8069OCtLrzhiRItHP98RqToH8BMwXi531195bgruaRtjQzd-XAUCoNRfuYJQNq\
        VURYt-zRbVqTxLslr711aBhCSVwumIB8ZDobhr_Aum91q4lye3S2C4QS01eDyxMYEP5AL1ZtJF68a2dZk0PjQI1q4LRpPWFA\
        hvwwtdDq9IjU3kz6cHhfVqtLNRKVmrzJ8JyD8rsd9sAxJtoIxEvUpP4ftobYPpOHAUeoSXm3wcFDZuEO13WfhfXgLH5dJLbt\
        ink1QmOn7lx4lr8WvY--gAGq5ofm1kx1xW4DcwrebgMkrLH9L_4q_g";

    fn now() -> Timestamp {
        Timestamp::from_millis(NOW * 1000).unwrap()
    }

    fn encoded(bytes: impl AsRef<[u8]>) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(bytes)
    }

    fn usual() -> Value {
        json!({"iss": "https://id.example", "sub": "1", "aud": "cellar", "exp": NOW + 3600, "iat": NOW})
    }

    fn with(mut claims: Value, changes: Value) -> Value {
        for (name, value) in changes.as_object().unwrap().clone() {
            if value.is_null() {
                claims.as_object_mut().unwrap().remove(&name);
            } else {
                claims[name] = value;
            }
        }
        claims
    }

    /// A key that tokens are signed with.
    enum Pair {
        P256(EcdsaKeyPair),
        P384(EcdsaKeyPair),
        Ed(Ed25519KeyPair),
    }

    impl Pair {
        fn p256() -> Self {
            let random = SystemRandom::new();
            let key = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
            Self::P256(EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, key.as_ref(), &random).unwrap())
        }

        fn p384() -> Self {
            let random = SystemRandom::new();
            let key = EcdsaKeyPair::generate_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, &random).unwrap();
            Self::P384(EcdsaKeyPair::from_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, key.as_ref(), &random).unwrap())
        }

        fn ed() -> Self {
            let key = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
            Self::Ed(Ed25519KeyPair::from_pkcs8(key.as_ref()).unwrap())
        }

        fn algorithm(&self) -> &'static str {
            match self {
                Self::P256(_) => "ES256",
                Self::P384(_) => "ES384",
                Self::Ed(_) => "EdDSA",
            }
        }

        fn published(&self, id: &str) -> Value {
            let point = |key: &EcdsaKeyPair, curve| {
                let point = &key.public_key().as_ref()[1..];
                let (x, y) = point.split_at(point.len() / 2);
                json!({"kty": "EC", "crv": curve, "kid": id, "x": encoded(x), "y": encoded(y)})
            };
            match self {
                Self::P256(key) => point(key, "P-256"),
                Self::P384(key) => point(key, "P-384"),
                Self::Ed(key) => {
                    json!({"kty": "OKP", "crv": "Ed25519", "kid": id, "x": encoded(key.public_key().as_ref())})
                }
            }
        }

        fn sign(&self, header: &str, claims: &str) -> String {
            let message = format!("{}.{}", encoded(header), encoded(claims));
            let signature = match self {
                Self::P256(key) | Self::P384(key) => {
                    key.sign(&SystemRandom::new(), message.as_bytes()).unwrap().as_ref().to_vec()
                }
                Self::Ed(key) => key.sign(message.as_bytes()).as_ref().to_vec(),
            };
            format!("{message}.{}", encoded(signature))
        }

        fn token(&self, id: &str, claims: &Value) -> String {
            let header = json!({"alg": self.algorithm(), "kid": id, "typ": "JWT"});
            self.sign(&header.to_string(), &claims.to_string())
        }
    }

    fn config(preset: Preset) -> ProviderConfig {
        ProviderConfig {
            name: "example".to_owned(),
            preset,
            label: None,
            issuer: Some("https://id.example".to_owned()),
            client_ids: vec!["cellar".to_owned(), "org.example.cellar".to_owned()],
            client_secret: Some(Secret::from("a secret of a client".to_owned())),
            scopes: vec!["openid".to_owned(), "email".to_owned()],
            trust_email: false,
            require_nonce: false,
            apple_team: None,
            apple_key_id: None,
            apple_key: None,
            test_address: None,
        }
    }

    fn set(keys: &[Value]) -> KeySet {
        KeySet::parse(json!({ "keys": keys }).to_string().as_bytes()).unwrap()
    }

    /// What becomes of a token whose keys are known.
    fn verify_with(
        config: &ProviderConfig,
        keys: &KeySet,
        token: &str,
        nonce: Option<&str>,
    ) -> Result<IdentityClaims, ProviderError> {
        let claims: Claims = Signed::read(token)?.verify(keys)?;
        claims.check(token, &Expected { config, nonce, requires_nonce: config.require_nonce, now: now() })
    }

    fn assert_refused(outcome: Result<IdentityClaims, ProviderError>, case: &str) {
        assert!(matches!(outcome, Err(ProviderError::Refused(_))), "{case}");
    }

    #[test]
    fn a_token_signed_by_a_key_of_the_provider_is_taken_by_every_algorithm() {
        let config = config(Preset::None);
        for pair in [Pair::p256(), Pair::p384(), Pair::ed()] {
            let keys = set(&[pair.published("1")]);
            let claims = verify_with(&config, &keys, &pair.token("1", &usual()), None).unwrap();
            assert_eq!(claims.subject.issuer, "https://id.example");
            assert_eq!(claims.subject.subject, "1");
            assert_eq!(claims.token.unwrap().1.as_millis(), (NOW + 3660) * 1000);
        }
        let rsa = json!({"kty": "RSA", "kid": "rsa", "n": RSA_N, "e": "AQAB"});
        // As they were signed, in this order.
        let claims =
            format!(r#"{{"iss":"https://id.example","sub":"1","aud":"cellar","exp":{},"iat":{NOW}}}"#, NOW + 3600);
        for (algorithm, signature) in [("RS256", BY_RS256), ("PS256", BY_PS256)] {
            let header = format!(r#"{{"alg":"{algorithm}","kid":"rsa"}}"#);
            let token = format!("{}.{}.{signature}", encoded(header), encoded(&claims));
            verify_with(&config, &set(std::slice::from_ref(&rsa)), &token, None).unwrap();
            // The key's own algorithm is the only one then.
            let other = if algorithm == "RS256" { "PS256" } else { "RS256" };
            let keys = set(&[with(rsa.clone(), json!({ "alg": other }))]);
            assert_refused(verify_with(&config, &keys, &token, None), algorithm);
        }
    }

    #[test]
    fn an_algorithm_that_is_not_of_the_keys_type_is_refused() {
        let (config, pair) = (config(Preset::None), Pair::p256());
        let keys = set(&[pair.published("1")]);
        let claims = usual().to_string();
        let public = json!({ "keys": [pair.published("1")] }).to_string();
        for algorithm in
            ["none", "None", "NONE", "", "HS256", "HS384", "HS512", "RS256", "PS256", "ES384", "EdDSA", "ES256K"]
        {
            let header = json!({"alg": algorithm, "kid": "1"}).to_string();
            assert_refused(verify_with(&config, &keys, &pair.sign(&header, &claims), None), algorithm);
            let message = format!("{}.{}", encoded(&header), encoded(&claims));
            assert_refused(verify_with(&config, &keys, &format!("{message}."), None), algorithm);
            // With the public key as if it were a shared secret.
            let mut mac = hmac::Hmac::<Sha256>::new_from_slice(public.as_bytes()).unwrap();
            mac.update(message.as_bytes());
            let token = format!("{message}.{}", encoded(mac.finalize().into_bytes()));
            assert_refused(verify_with(&config, &keys, &token, None), algorithm);
        }
    }

    #[test]
    fn only_keys_for_signatures_of_a_safe_size_are_used() {
        let parse = |key: Value| KeySet::parse(json!({ "keys": [key] }).to_string().as_bytes()).is_some();
        let rsa = json!({"kty": "RSA", "n": RSA_N, "e": "AQAB"});
        assert!(parse(rsa.clone()) && parse(Pair::p256().published("1")));
        for (change, case) in [
            (json!({"n": encoded([255; 255])}), "2040 bits"),
            (json!({"n": encoded([255; 1025])}), "8200 bits"),
            (json!({"n": encoded([0; 256])}), "nothing but zeros"),
            (json!({"n": ""}), "no modulus"),
            (json!({"e": encoded([1; 9])}), "a large exponent"),
            (json!({"use": "enc"}), "for encryption"),
            (json!({"key_ops": ["encrypt"]}), "for encryption"),
            (json!({"alg": "HS256"}), "HMAC"),
            (json!({"alg": "RSA-OAEP"}), "for encryption"),
            (json!({"alg": "ES256"}), "of another type"),
            (json!({"kty": "oct", "k": "AAAA"}), "a shared secret"),
        ] {
            assert!(!parse(with(rsa.clone(), change)), "{case}");
        }
        assert!(!parse(with(Pair::p256().published("1"), json!({"crv": "P-384"}))));
        assert!(!parse(with(Pair::p256().published("1"), json!({"crv": "secp256k1"}))));
        for body in ["", "[]", "{}", r#"{"keys":[]}"#, r#"{"keys":{}}"#, "<html>", &"[".repeat(60_000)] {
            assert!(KeySet::parse(body.as_bytes()).is_none());
        }
        // One that cannot be read does not hide the others.
        assert!(KeySet::parse(json!({"keys": [1, {"kty": "AKP"}, rsa]}).to_string().as_bytes()).is_some());
    }

    #[test]
    fn a_token_is_verified_by_the_key_that_it_names_and_by_the_only_one_where_it_names_none() {
        let (config, one, two) = (config(Preset::None), Pair::p256(), Pair::p256());
        let both = set(&[one.published("1"), two.published("2")]);
        verify_with(&config, &both, &two.token("2", &usual()), None).unwrap();
        assert_refused(verify_with(&config, &both, &two.token("1", &usual()), None), "another's id");
        assert_refused(verify_with(&config, &both, &two.token("3", &usual()), None), "an id that is not known");
        let nameless = one.sign(r#"{"alg":"ES256"}"#, &usual().to_string());
        assert_refused(verify_with(&config, &both, &nameless, None), "one of two");
        verify_with(&config, &set(&[one.published("1")]), &nameless, None).unwrap();
        // Two of one id are both tried.
        verify_with(&config, &set(&[one.published("1"), two.published("1")]), &two.token("1", &usual()), None).unwrap();
    }

    #[test]
    fn what_a_token_brings_along_to_be_verified_with_is_not_used() {
        let (config, pair, mallory) = (config(Preset::None), Pair::p256(), Pair::p256());
        let keys = set(&[pair.published("1")]);
        for extra in [
            json!({"jwk": mallory.published("1")}),
            json!({"jku": "http://127.0.0.1:1/keys"}),
            json!({"x5u": "http://127.0.0.1:1/cert"}),
            json!({"x5c": [encoded("cert")]}),
        ] {
            let header = with(json!({"alg": "ES256", "kid": "1"}), extra).to_string();
            assert_refused(verify_with(&config, &keys, &mallory.sign(&header, &usual().to_string()), None), &header);
        }
    }

    #[test]
    fn a_header_that_asks_for_more_than_is_understood_is_refused() {
        let (config, pair) = (config(Preset::None), Pair::p256());
        let keys = set(&[pair.published("1")]);
        for header in [
            r#"{"alg":"ES256","kid":"1","crit":["exp"]}"#,
            r#"{"alg":"ES256","kid":"1","crit":[]}"#,
            r#"{"alg":"ES256","kid":"1","b64":false,"crit":["b64"]}"#,
            r#"{"alg":"ES256","kid":"1","b64":false}"#,
            r#"{"alg":"ES256","kid":"1","typ":"at+jwt"}"#,
            r#"{"alg":"ES256","kid":"1","typ":"logout+jwt"}"#,
            r#"{"alg":"ES256","alg":"ES256","kid":"1"}"#,
            r#"{"alg":"ES256","kid":"1","kid":"1"}"#,
            r#"{"kid":"1"}"#,
            "[]",
            "",
        ] {
            assert_refused(verify_with(&config, &keys, &pair.sign(header, &usual().to_string()), None), header);
        }
    }

    #[test]
    fn a_token_of_another_form_or_size_is_refused() {
        let (config, pair) = (config(Preset::None), Pair::p256());
        let keys = set(&[pair.published("1")]);
        let token = pair.token("1", &usual());
        let (message, signature) = token.rsplit_once('.').unwrap();
        for bad in [
            String::new(),
            "..".to_owned(),
            message.to_owned(),
            format!("{message}."),
            format!("{token}.{signature}"),
            format!("{token}="),
            format!(" {token}"),
            format!("{message}.{}", encoded([0; 64])),
            format!("{message}.{}", encoded([0; 63])),
            format!("{}.{signature}", message.replace('e', "f")),
            pair.token("1", &with(usual(), json!({"more": "x".repeat(16 * 1024)}))),
            pair.sign(r#"{"alg":"ES256","kid":"1"}"#, &usual().to_string().replacen('{', r#"{"sub":"2","#, 1)),
            pair.sign(r#"{"alg":"ES256","kid":"1"}"#, &usual().to_string().replacen('{', r#"{"aud":"x","#, 1)),
            pair.sign(r#"{"alg":"ES256","kid":"1"}"#, "[]"),
        ] {
            assert_refused(verify_with(&config, &keys, &bad, None), &bad);
        }
    }

    #[test]
    fn claims_must_be_of_this_provider_for_one_of_our_apps_and_of_this_time() {
        let (config, pair) = (config(Preset::None), Pair::p256());
        let keys = set(&[pair.published("1")]);
        let verify = |changes: Value| verify_with(&config, &keys, &pair.token("1", &with(usual(), changes)), None);
        for good in [
            json!({"aud": "org.example.cellar"}),
            json!({"aud": ["cellar"]}),
            json!({"aud": ["cellar", "org.example.cellar"]}),
            json!({"aud": ["cellar", "other"], "azp": "cellar"}),
            // An app of Android has an id of its own, and asks for a token for the server.
            json!({"azp": "app-of-android"}),
            json!({"exp": NOW - 59}),
            json!({"iat": NOW + 60}),
            json!({"iat": NOW - 3600}),
            json!({"nbf": NOW + 60}),
            json!({"auth_time": NOW + 60}),
            json!({"auth_time": NOW - 86_400}),
            json!({"iat": 1_800_000_000.5}),
            json!({"nonce": "unknown to the app"}),
        ] {
            assert!(verify(good.clone()).is_ok(), "{good}");
        }
        for bad in [
            json!({"iss": "https://id.example/"}),
            json!({"iss": "http://id.example"}),
            json!({"iss": "https://ID.example"}),
            json!({"iss": ["https://id.example"]}),
            json!({"iss": null}),
            json!({"sub": null}),
            json!({"sub": ""}),
            json!({"sub": 1}),
            json!({"sub": "x".repeat(256)}),
            json!({"sub": "a\u{0}b"}),
            json!({"aud": null}),
            json!({"aud": []}),
            json!({"aud": "other"}),
            json!({"aud": "Cellar"}),
            json!({"aud": ["cellar", "other"]}),
            json!({"aud": ["cellar", "other"], "azp": "other"}),
            json!({"aud": {"cellar": true}}),
            json!({"exp": null}),
            json!({"exp": NOW - 60}),
            json!({"exp": "1900000000"}),
            json!({"exp": 1e300, "iat": NOW}),
            json!({"exp": -1e300}),
            json!({"iat": null}),
            json!({"iat": NOW + 61}),
            json!({"iat": NOW - 3661}),
            json!({"nbf": NOW + 61}),
            json!({"auth_time": NOW + 61}),
            json!({"events": {"http://schemas.openid.net/event/backchannel-logout": {}}}),
        ] {
            assert_refused(verify(bad.clone()), &bad.to_string());
        }
    }

    #[test]
    fn a_nonce_is_what_the_client_gives_or_its_digest() {
        let (mut config, pair) = (config(Preset::None), Pair::p256());
        let keys = set(&[pair.published("1")]);
        let token = |nonce: &str| pair.token("1", &with(usual(), json!({ "nonce": nonce })));
        let digest = Sha256::digest("a nonce");
        let hex = crate::domain::token::hex(&digest);
        for good in ["a nonce", &hex, &encoded(digest)] {
            assert!(verify_with(&config, &keys, &token(good), Some("a nonce")).is_ok(), "{good}");
        }
        for bad in ["A nonce", "", "a nonce ", &hex.to_uppercase()] {
            assert_refused(verify_with(&config, &keys, &token(bad), Some("a nonce")), bad);
        }
        assert_refused(verify_with(&config, &keys, &pair.token("1", &usual()), Some("a nonce")), "none in the token");
        // Whoever has seen a token knows its nonce's digest, which is not the nonce.
        assert_refused(verify_with(&config, &keys, &token(&hex), Some("another")), "another");
        config.require_nonce = true;
        assert_refused(verify_with(&config, &keys, &token("a nonce"), None), "required");
        assert!(verify_with(&config, &keys, &token("a nonce"), Some("a nonce")).is_ok());
    }

    #[test]
    fn a_provider_speaks_for_the_addresses_that_are_its_own() {
        let pair = Pair::p256();
        let keys = set(&[pair.published("1")]);
        let speaks = |config: &ProviderConfig, changes: Value| {
            let claims = with(with(usual(), json!({"email": "a@example.org", "email_verified": true})), changes);
            verify_with(config, &keys, &pair.token("1", &claims), None).unwrap().speaks_for_email
        };
        let google = json!({"iss": "accounts.google.com"});
        let config_of = |preset, trust_email| ProviderConfig { trust_email, ..config(preset) };
        let g = |changes| speaks(&config_of(Preset::Google, true), with(google.clone(), changes));
        assert!(
            g(json!({"email": "a@gmail.com"})) && g(json!({"email": "a@GMAIL.com"})) && g(json!({"hd": "example.org"}))
        );
        assert!(!g(json!({})) && !g(json!({"hd": ""})) && !g(json!({"email": "a@gmail.com.example"})));
        assert!(
            !g(json!({"hd": "example.org", "email_verified": false})) && !g(json!({"email": "gmail.com@example.org"}))
        );
        assert!(!g(json!({"hd": "example.org", "email_verified": "true"})));

        let a = |changes| {
            speaks(&config_of(Preset::Apple, false), with(json!({"iss": "https://appleid.apple.com"}), changes))
        };
        assert!(a(json!({})) && a(json!({"email_verified": "true"})));
        assert!(
            !a(json!({"email_verified": "false"}))
                && !a(json!({"email_verified": []}))
                && !a(json!({"email_verified": 1}))
        );

        assert!(
            speaks(&config_of(Preset::None, true), json!({})) && !speaks(&config_of(Preset::None, false), json!({}))
        );
        assert!(!speaks(&config_of(Preset::None, true), json!({"email_verified": "true"})));
        for issuer in [
            "https://login.microsoftonline.com/9188040d-6c67-4c5b-b112-36a304b66dad/v2.0",
            "https://sts.windows.net/9188040d/",
            "https://LOGIN.microsoftonline.com./x",
            "https://tenant.ciamlogin.com/tenant/v2.0",
            "https://tenant.b2clogin.com/tenant/v2.0/",
        ] {
            let config = ProviderConfig { issuer: Some(issuer.to_owned()), ..config_of(Preset::None, true) };
            assert!(!speaks(&config, json!({ "iss": issuer })), "{issuer}");
        }
        let config = ProviderConfig { issuer: Some("https://notlive.com".to_owned()), ..config_of(Preset::None, true) };
        assert!(speaks(&config, json!({"iss": "https://notlive.com"})));
    }

    #[test]
    fn two_spellings_of_an_issuer_are_one_and_no_preset_takes_anothers() {
        let pair = Pair::p256();
        let keys = set(&[pair.published("1")]);
        let of = |preset, iss: &str| {
            let claims = with(usual(), json!({ "iss": iss }));
            verify_with(&config(preset), &keys, &pair.token("1", &claims), None)
                .ok()
                .map(|claims| claims.subject.issuer)
        };
        for iss in ["https://accounts.google.com", "accounts.google.com"] {
            assert_eq!(of(Preset::Google, iss).as_deref(), Some("https://accounts.google.com"));
            assert_eq!(of(Preset::Apple, iss), None);
            assert_eq!(of(Preset::None, iss), None);
        }
        for iss in ["https://appleid.apple.com", "https://account.apple.com"] {
            assert_eq!(of(Preset::Apple, iss).as_deref(), Some("https://appleid.apple.com"));
            assert_eq!(of(Preset::Google, iss), None);
        }
        assert_eq!(of(Preset::Google, "https://id.example"), None);
        // Apple's are made for one login each.
        let old = with(usual(), json!({"iss": "https://appleid.apple.com", "iat": NOW - 661}));
        assert_refused(verify_with(&config(Preset::Apple), &keys, &pair.token("1", &old), None), "eleven minutes");
    }

    /// A provider on this machine: what it answers to each path, and how often it was asked.
    #[derive(Clone)]
    struct Peer {
        address: String,
        answers: Arc<Mutex<HashMap<String, String>>>,
        asked: Arc<Mutex<Vec<String>>>,
    }

    impl Peer {
        fn start() -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = format!("http://{}", listener.local_addr().unwrap());
            let peer = Self { address, answers: Arc::default(), asked: Arc::default() };
            let serving = peer.clone();
            thread::spawn(move || {
                for stream in listener.incoming() {
                    let (mut stream, serving) = (stream.unwrap(), serving.clone());
                    thread::spawn(move || {
                        let mut head = Vec::new();
                        let mut buffer = [0; 4096];
                        while !is_whole(&head) {
                            let read = stream.read(&mut buffer).unwrap_or(0);
                            if read == 0 {
                                return;
                            }
                            head.extend_from_slice(&buffer[..read]);
                        }
                        let head = String::from_utf8(head).unwrap();
                        let path = head.split([' ', '?']).nth(1).unwrap().to_owned();
                        serving.asked.lock().unwrap().push(head);
                        let answer = serving.answers.lock().unwrap().get(&path).cloned();
                        let answer =
                            answer.unwrap_or_else(|| "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".to_owned());
                        let _ = stream.write_all(answer.as_bytes());
                    });
                }
            });
            peer
        }

        fn answer(&self, path: &str, status: u16, body: &Value) {
            let body = body.to_string();
            let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\ncache-control: max-age=600", body.len());
            self.answers.lock().unwrap().insert(path.to_owned(), format!("{head}\r\n\r\n{body}"));
        }

        /// With a discovery document, and these keys.
        fn publish(&self, keys: &[Value]) {
            let at = |path: &str| format!("{}{path}", self.address);
            let document = json!({
                "issuer": self.address, "authorization_endpoint": at("/authorize?tenant=1"), "token_endpoint": at("/token"),
                "jwks_uri": at("/keys"), "authorization_response_iss_parameter_supported": true
            });
            self.answer("/.well-known/openid-configuration", 200, &document);
            self.answer("/keys", 200, &json!({ "keys": keys }));
        }

        fn times_asked(&self, path: &str) -> usize {
            let start = format!(" {path} ");
            self.asked.lock().unwrap().iter().filter(|head| head.contains(&start)).count()
        }

        fn providers(&self, preset: Preset) -> Providers {
            Self::providers_of(ProviderConfig {
                issuer: Some(self.address.clone()),
                test_address: Some(self.address.clone()),
                ..config(preset)
            })
        }

        fn providers_of(config: ProviderConfig) -> Providers {
            let client = Client::new(vec!["127.0.0.0/8".parse().unwrap()], Duration::from_secs(5));
            Providers::new(&[config], Arc::new(client)).unwrap()
        }
    }

    fn is_whole(request: &[u8]) -> bool {
        let text = String::from_utf8_lossy(request);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
        body.len() >= length.unwrap_or(0)
    }

    async fn verify(providers: &Providers, token: &str) -> Result<IdentityClaims, ProviderError> {
        providers.verify_id_token(providers.find("example").unwrap(), token, None, now()).await
    }

    #[tokio::test]
    async fn keys_are_fetched_once_for_many_and_again_for_one_that_is_not_known_but_not_for_each() {
        let (peer, one, two) = (Peer::start(), Pair::p256(), Pair::p256());
        let claims = with(usual(), json!({"iss": peer.address}));
        peer.publish(&[one.published("1")]);
        let providers = peer.providers(Preset::None);
        let token = one.token("1", &claims);
        let many = (0..20).map(|_| verify(&providers, &token));
        assert!(futures_util::future::join_all(many).await.into_iter().all(|outcome| outcome.is_ok()));
        assert_eq!((peer.times_asked("/keys"), peer.times_asked("/.well-known/openid-configuration")), (1, 1));

        peer.publish(&[two.published("2")]);
        assert!(verify(&providers, &two.token("2", &claims)).await.is_ok());
        assert_eq!(peer.times_asked("/keys"), 2);
        // What was withdrawn counts no longer, and ids that are made up make no more requests.
        for id in 0..20 {
            assert_refused(verify(&providers, &one.token(&format!("made up {id}"), &claims)).await, "made up");
        }
        assert_refused(verify(&providers, &token).await, "withdrawn");
        assert_eq!(peer.times_asked("/keys"), 2);
    }

    #[tokio::test]
    async fn keys_that_are_kept_go_on_serving_where_the_provider_fails() {
        let (peer, pair) = (Peer::start(), Pair::p256());
        let claims = with(usual(), json!({"iss": peer.address}));
        peer.publish(&[pair.published("1")]);
        let providers = peer.providers(Preset::None);
        assert!(verify(&providers, &pair.token("1", &claims)).await.is_ok());
        peer.answer("/keys", 500, &json!({}));
        assert_refused(verify(&providers, &pair.token("2", &claims)).await, "not known");
        assert!(verify(&providers, &pair.token("1", &claims)).await.is_ok());

        // One that was never reached is not asked again at once, and nobody is refused for it.
        let fresh = peer.providers(Preset::None);
        for _ in 0..5 {
            let error = verify(&fresh, &pair.token("1", &claims)).await.unwrap_err();
            assert!(!error.is_refusal());
        }
        assert_eq!(peer.times_asked("/keys"), 3);
    }

    #[tokio::test]
    async fn a_discovery_document_of_another_issuer_or_with_addresses_without_tls_is_not_used() {
        let (peer, pair) = (Peer::start(), Pair::p256());
        peer.publish(&[pair.published("1")]);
        for issuer in [format!("{}/", peer.address), "https://id.example".to_owned()] {
            let body = json!({"issuer": issuer, "authorization_endpoint": "https://a", "token_endpoint": "https://a",
                "jwks_uri": format!("{}/keys", peer.address)});
            peer.answer("/.well-known/openid-configuration", 200, &body);
            let error = verify(&peer.providers(Preset::None), &pair.token("1", &usual())).await.unwrap_err();
            assert!(matches!(error, ProviderError::Answer(_)));
        }
        let document = |keys: &str| {
            json!({"issuer": "https://id.example", "authorization_endpoint": "https://a", "token_endpoint": "https://a",
                "jwks_uri": keys})
        };
        let read = |keys| Endpoints::discovered("https://id.example", document(keys).to_string().as_bytes());
        assert!(read("https://a/keys").is_ok());
        for bad in ["http://a/keys", "http://127.0.0.1/keys", "file:///etc/passwd", "javascript:1", "/keys", ""] {
            assert!(read(bad).is_err(), "{bad}");
        }
        assert_eq!(peer.times_asked("/keys"), 0);
    }

    #[tokio::test]
    async fn a_browser_is_sent_with_state_nonce_and_challenge_and_its_code_is_exchanged() {
        let (peer, pair) = (Peer::start(), Pair::p256());
        peer.publish(&[pair.published("1")]);
        let providers = peer.providers(Preset::None);
        let provider = providers.find("example").unwrap();
        let asked = AuthorizationRequest {
            state: "state",
            nonce: "nonce",
            code_challenge: "challenge",
            redirect_uri: "https://us.example/back",
            asks_again: false,
        };
        let url = providers.authorization_url(provider, &asked).await;
        let url = url::Url::parse(&url.unwrap()).unwrap();
        let query: HashMap<_, _> = url.query_pairs().into_owned().collect();
        for (name, value) in [
            ("tenant", "1"),
            ("response_type", "code"),
            ("client_id", "cellar"),
            ("state", "state"),
            ("nonce", "nonce"),
            ("code_challenge", "challenge"),
            ("code_challenge_method", "S256"),
            ("scope", "openid email"),
            ("redirect_uri", "https://us.example/back"),
        ] {
            assert_eq!(query[name], value);
        }
        assert!(providers.check_issuer(provider, Some(&peer.address)).await.is_ok());
        for other in [None, Some(""), Some("https://id.example")] {
            assert!(providers.check_issuer(provider, other).await.unwrap_err().is_refusal());
        }

        let exchange =
            || providers.exchange_code(provider, "a code", "verifier", "nonce", "https://us.example/back", now());
        let claims = with(usual(), json!({"iss": peer.address, "nonce": "nonce"}));
        peer.answer("/token", 200, &json!({"access_token": "x", "id_token": pair.token("1", &claims)}));
        assert_eq!(exchange().await.unwrap().claims.subject.subject, "1");
        let request = peer.asked.lock().unwrap().iter().find(|head| head.contains(" /token ")).unwrap().clone();
        assert!(
            request.contains("grant_type=authorization_code&code=a+code&redirect_uri=https%3A%2F%2Fus.example%2Fback")
        );
        assert!(request.contains("code_verifier=verifier") && !request.contains("client_secret"));
        // RFC 6749, 2.3.1: `cellar:a+secret+of+a+client`.
        assert!(request.contains("authorization: Basic Y2VsbGFyOmErc2VjcmV0K29mK2ErY2xpZW50"));

        let other = with(usual(), json!({"iss": peer.address, "nonce": "another"}));
        peer.answer("/token", 200, &json!({"access_token": "x", "id_token": pair.token("1", &other)}));
        assert!(exchange().await.err().unwrap().is_refusal());
        peer.answer("/token", 400, &json!({"error": "invalid_grant"}));
        assert!(exchange().await.err().unwrap().is_refusal());
        for (status, body) in
            [(401, json!({"error": "invalid_client"})), (500, json!({})), (200, json!({})), (200, json!([]))]
        {
            peer.answer("/token", status, &body);
            assert!(!exchange().await.err().unwrap().is_refusal());
        }
    }

    #[tokio::test]
    async fn github_is_asked_who_somebody_is() {
        let peer = Peer::start();
        let providers = peer.providers(Preset::Github);
        let provider = providers.find("example").unwrap();
        peer.answer("/login/oauth/access_token", 200, &json!({"access_token": "gho_1"}));
        peer.answer("/user", 200, &json!({"id": 583_231, "login": "octocat", "email": "public@example.org"}));
        let exchange = || async {
            providers.exchange_code(provider, "code", "verifier", "nonce", "https://us.example/back", now()).await
        };
        for (is_verified, expected) in [(true, true), (false, false)] {
            peer.answer(
                "/user/emails",
                200,
                &json!([
                    {"email": "other@example.org", "primary": false, "verified": true},
                    {"email": "first@example.org", "primary": true, "verified": is_verified}
                ]),
            );
            let claims = exchange().await.unwrap().claims;
            assert_eq!(
                (claims.subject.issuer.as_str(), claims.subject.subject.as_str()),
                ("https://github.com", "583231")
            );
            assert_eq!((claims.email.as_str(), claims.speaks_for_email), ("first@example.org", expected));
            assert!(claims.token.is_none());
        }
        peer.answer("/user/emails", 404, &json!({}));
        assert_eq!(exchange().await.unwrap().claims.email, "");
        peer.answer("/login/oauth/access_token", 200, &json!({"error": "bad_verification_code"}));
        assert!(exchange().await.err().unwrap().is_refusal());
        assert!(matches!(verify(&providers, "a.b.c").await, Err(ProviderError::NotOffered)));
    }

    /// Apple's config with a key of these tests.
    fn apple(peer: &Peer) -> (ProviderConfig, Vec<u8>) {
        let random = SystemRandom::new();
        let key = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let pem = base64::prelude::BASE64_STANDARD.encode(key.as_ref());
        let begin = "-----BEGIN PRIVATE KEY-----";
        let config = ProviderConfig {
            apple_team: Some("ABCDE12345".to_owned()),
            apple_key_id: Some("ABC123DEFG".to_owned()),
            apple_key: Some(Secret::from(format!("{begin}\n{pem}\n{}\n", begin.replace("BEGIN", "END")))),
            client_secret: None,
            test_address: Some(peer.address.clone()),
            ..config(Preset::Apple)
        };
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, key.as_ref(), &random).unwrap();
        (config, pair.public_key().as_ref().to_vec())
    }

    #[tokio::test]
    async fn apple_is_asked_with_a_secret_that_is_signed_and_its_refresh_tokens_are_revoked() {
        let (peer, pair) = (Peer::start(), Pair::p256());
        let (config, public) = apple(&peer);
        peer.answer("/auth/keys", 200, &json!({"keys": [pair.published("1")]}));
        let claims =
            with(usual(), json!({"iss": "https://appleid.apple.com", "aud": "org.example.cellar", "nonce": "n"}));
        peer.answer("/auth/token", 200, &json!({"id_token": pair.token("1", &claims), "refresh_token": "r.1"}));
        let providers = Peer::providers_of(config.clone());
        let provider = providers.find("example").unwrap();
        assert!(provider.gives_refresh_tokens() && provider.is_for_browsers());
        let exchanged = providers.exchange_app_code(provider, "org.example.cellar", "code", now()).await.unwrap();
        assert_eq!(exchanged.refresh_token.as_deref(), Some("org.example.cellar r.1"));

        peer.answer("/auth/revoke", 200, &json!({}));
        providers.revoke(provider, "org.example.cellar r.1", now()).await.unwrap();
        let request = peer.asked.lock().unwrap().last().unwrap().clone();
        let form: HashMap<_, _> =
            form_urlencoded::parse(request.split("\r\n\r\n").nth(1).unwrap().as_bytes()).into_owned().collect();
        assert_eq!((form["token"].as_str(), form["client_id"].as_str()), ("r.1", "org.example.cellar"));
        let secret = &form["client_secret"];
        let parts: Vec<&str> = secret.split('.').collect();
        let part = |number: usize| -> Value {
            serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(parts[number]).unwrap()).unwrap()
        };
        assert_eq!(part(0), json!({"typ": "JWT", "alg": "ES256", "kid": "ABC123DEFG"}));
        assert_eq!(
            part(1),
            json!({"iss": "ABCDE12345", "iat": NOW, "exp": NOW + 300, "aud": "https://appleid.apple.com",
            "sub": "org.example.cellar"})
        );
        let signature = BASE64_URL_SAFE_NO_PAD.decode(parts[2]).unwrap();
        ring::signature::UnparsedPublicKey::new(&ring::signature::ECDSA_P256_SHA256_FIXED, public)
            .verify(format!("{}.{}", parts[0], parts[1]).as_bytes(), &signature)
            .unwrap();

        peer.answer("/auth/revoke", 400, &json!({"error": "invalid_grant"}));
        providers.revoke(provider, "org.example.cellar r.1", now()).await.unwrap();
        peer.answer("/auth/revoke", 503, &json!({}));
        assert!(providers.revoke(provider, "org.example.cellar r.1", now()).await.is_err());

        let no_key = ProviderConfig { apple_key: Some(Secret::from("nonsense".to_owned())), ..config };
        assert!(Providers::new(&[no_key], Arc::new(Client::new(Vec::new(), Duration::from_secs(1)))).is_err());
    }

    #[tokio::test]
    async fn a_notice_of_apples_is_no_id_token_and_no_id_token_is_a_notice() {
        let (peer, pair) = (Peer::start(), Pair::p256());
        peer.answer("/auth/keys", 200, &json!({"keys": [pair.published("1")]}));
        let providers = Peer::providers_of(apple(&peer).0);
        let of = |kind: &str| {
            let events = json!({"type": kind, "sub": "1", "event_time": 1}).to_string();
            json!({"iss": "https://appleid.apple.com", "aud": "cellar", "iat": NOW, "jti": "1", "events": events})
        };
        for (kind, expected) in [
            ("consent-revoked", NoticeKind::Withdrawn),
            ("account-delete", NoticeKind::Withdrawn),
            ("email-disabled", NoticeKind::Other),
            ("email-enabled", NoticeKind::Other),
            ("unknown", NoticeKind::Other),
        ] {
            let notice = providers.verify_apple_notice(&pair.token("1", &of(kind)), now()).await.unwrap();
            assert_eq!((notice.kind, notice.subject.subject.as_str()), (expected, "1"));
        }
        // In seconds, in milliseconds, not there, and much later than the notice.
        for (event_time, seconds) in [
            (json!(NOW - 9), NOW - 9),
            (json!((NOW - 9) * 1000), NOW - 9),
            (json!(null), NOW),
            (json!(NOW + 900), NOW + 60),
        ] {
            let events = json!({"type": "consent-revoked", "sub": "1", "event_time": event_time}).to_string();
            let token = pair.token("1", &with(of(""), json!({"events": events})));
            let notice = providers.verify_apple_notice(&token, now()).await.unwrap();
            assert_eq!(notice.happened.as_millis(), seconds * 1000, "{event_time}");
        }
        for changes in [
            json!({"aud": "other"}),
            json!({"iss": "https://id.example"}),
            json!({"iat": NOW - 300_000}),
            json!({"iat": NOW + 100}),
            json!({"events": "{}"}),
            json!({"events": null}),
            json!({"exp": NOW - 100}),
        ] {
            let token = pair.token("1", &with(of("consent-revoked"), changes));
            assert!(providers.verify_apple_notice(&token, now()).await.unwrap_err().is_refusal());
        }
        let mallory = Pair::p256().token("1", &of("consent-revoked"));
        assert!(providers.verify_apple_notice(&mallory, now()).await.unwrap_err().is_refusal());
        let as_id_token = with(of("consent-revoked"), json!({"sub": "1", "exp": NOW + 600}));
        assert_refused(verify(&providers, &pair.token("1", &as_id_token)).await, "a notice");
        let id_token = with(usual(), json!({"iss": "https://appleid.apple.com"}));
        assert!(providers.verify_apple_notice(&pair.token("1", &id_token), now()).await.unwrap_err().is_refusal());
        assert!(verify(&providers, &pair.token("1", &id_token)).await.is_ok());
    }
}
