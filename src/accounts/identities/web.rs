//! Logging in by way of a browser: to the provider, back to us, back to the app, which fetches the session.
//!
//! No session token is ever in an address. The way to the provider is held together by a token of ours, which is its
//! `state`, and from which the nonce and our verifier for it are made: the database holds nothing that finishes a login.
//! The way back to the app is held together by the app's own `state` and `code_challenge`: only who knows the verifier
//! fetches the session, and an app that began nothing knows none. So a login that somebody else began ends nowhere, and
//! no cookie is needed.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use form_urlencoded::Serializer;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::outcome::{GivenCode, IdentityError};
use super::sign_in::{Newcomer, SignedIn};
use super::told::Told;
use crate::accounts::service::{Accounts, Client};
use crate::accounts::throttle::Admission;
use crate::accounts::throttle::limits::Call;
use crate::domain::challenge::{ChallengePurpose, NewChallenge};
use crate::domain::field::InvalidField;
use crate::domain::token::{PlainToken, hex};
use crate::providers::{AuthorizationRequest, Provider};
use crate::system::error_chain::Chain;

/// How long an app's `state` may be.
const MAX_STATE: usize = 512;

/// What an app begins a login with.
#[expect(missing_docs, reason = "the names say it")]
pub struct FlowStart {
    pub return_to: String,
    pub code_challenge: String,
    pub state: String,
    /// Whether the person is to show the provider again who they are.
    pub asks_again: bool,
}

/// Where a browser is sent that begins.
pub struct Started(pub String);

/// What a browser brings back from a provider.
#[derive(Default)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Callback {
    pub state: String,
    pub code: Option<String>,
    pub error: Option<String>,
    pub iss: Option<String>,
}

/// Where a browser is sent that has come back.
pub struct Returned(pub String);

/// A login that is under way, as it is stored.
#[derive(Serialize, Deserialize)]
struct Flow {
    provider: String,
    return_to: String,
    code_challenge: String,
    state: String,
}

/// What came of it, as it is stored.
#[derive(Serialize, Deserialize)]
struct FlowResult {
    told: String,
    code_challenge: String,
    /// In milliseconds: until then it is kept again for who chose a name that is taken.
    kept_until: i64,
}

/// Why a browser comes back without a code, in the words of OAuth.
#[derive(Clone, Copy)]
enum Failure {
    AccessDenied,
    LoginFailed,
}

impl Failure {
    const fn name(self) -> &'static str {
        match self {
            Self::AccessDenied => "access_denied",
            Self::LoginFailed => "login_failed",
        }
    }
}

impl Accounts {
    /// Begins a login by way of a browser. What all strangers together may begin is limited as with passkeys.
    ///
    /// # Errors
    /// [`IdentityError::NotOffered`] where the provider is not asked so, [`IdentityError::Invalid`] for what the app gives,
    /// [`IdentityError::Throttled`] where too much was begun.
    pub async fn begin_web_sign_in(
        &self,
        admission: Admission<'_>,
        provider: &str,
        start: FlowStart,
        client: &impl Client,
    ) -> Result<Started, IdentityError> {
        let provider = self.provider(provider)?;
        let redirect_uri = self.redirect_uri(provider)?;
        let FlowStart { return_to, code_challenge, state, asks_again } = start;
        // Compared as it is written. What would have to be understood first could be understood in two ways.
        if !self.identities.return_to.contains(&return_to) {
            return Err(invalid("return_to", "must be one of identities.return_to, as it is written there"));
        }
        if code_challenge.len() != 43 || !code_challenge.bytes().all(is_base64url) {
            return Err(invalid("code_challenge", "must be the base64url SHA-256 of the verifier"));
        }
        if state.len() > MAX_STATE || state.chars().any(char::is_control) {
            return Err(invalid("state", "must be at most 512 bytes without control characters"));
        }
        admission.confirm(Call::LogIn);
        self.throttle.admit_ceremony(client.ip(), "providers")?;
        let (token, now, purpose) = (PlainToken::generate(), self.clock.now(), ChallengePurpose::ProviderFlow);
        let (nonce, challenge) = (nonce_of(&token), challenge_of(&verifier_of(&token)));
        let providers = &self.identities.providers;
        let asked = AuthorizationRequest {
            state: token.reveal(),
            nonce: &nonce,
            code_challenge: &challenge,
            redirect_uri: &redirect_uri,
            asks_again,
        };
        let url = providers.authorization_url(provider, &asked).await?;
        let flow = Flow { provider: provider.name().to_owned(), return_to, code_challenge, state };
        let state = serde_json::to_string(&flow).unwrap_or_default();
        let challenge = NewChallenge { digest: token.digest(), purpose, state, expires: now.plus(purpose.lifetime()) };
        self.repository.store_challenge(None, challenge, now).await?;
        Ok(Started(url))
    }

    /// Takes a browser that comes back from a provider, and says where it goes on to.
    ///
    /// # Errors
    /// [`IdentityError::Refused`] where no such login is under way: then it is not known where to go on.
    pub async fn end_web_sign_in(
        &self,
        provider: &str,
        callback: Callback,
        client: &impl Client,
    ) -> Result<Returned, IdentityError> {
        let (now, purpose) = (self.clock.now(), ChallengePurpose::ProviderFlow);
        let token = PlainToken::parse(&callback.state).ok_or(IdentityError::Refused)?;
        // First of all: whatever else is wrong, it is over.
        let found = self.repository.take_challenge(None, purpose, token.digest(), now).await?;
        let flow = found.and_then(|found| serde_json::from_str::<Flow>(&found.state).ok());
        let flow = flow.ok_or(IdentityError::Refused)?;
        // The configuration may be another by now.
        if !self.identities.return_to.contains(&flow.return_to) {
            return Err(IdentityError::Refused);
        }
        let outcome = match self.ask_provider(provider, &flow, &token, &callback).await {
            Ok(told) => {
                let code = PlainToken::generate();
                let kept_until = self.clock.now().plus(ChallengePurpose::ProviderFlow.lifetime()).as_millis();
                let result = FlowResult { told: told.to_json(), code_challenge: flow.code_challenge, kept_until };
                self.store_result(&code, &result).await?;
                ("code", code.reveal().to_owned())
            }
            Err(failure) => {
                if let Failure::LoginFailed = failure {
                    self.note_refused_identity(client);
                }
                ("error", failure.name().to_owned())
            }
        };
        Ok(Returned(with_query(&flow.return_to, outcome, &flow.state)))
    }

    /// Exchanges what a provider has sent a browser back with.
    async fn ask_provider(
        &self,
        provider: &str,
        flow: &Flow,
        token: &PlainToken,
        callback: &Callback,
    ) -> Result<Told, Failure> {
        let failed = |_| Failure::LoginFailed;
        // One provider must not finish what was begun at another.
        if flow.provider != provider {
            return Err(Failure::LoginFailed);
        }
        let provider = self.provider(provider).map_err(failed)?;
        let redirect_uri = self.redirect_uri(provider).map_err(failed)?;
        if self.identities.providers.check_issuer(provider, callback.iss.as_deref()).await.is_err() {
            return Err(Failure::LoginFailed);
        }
        if let Some(error) = &callback.error {
            let is_denial = ["access_denied", "user_cancelled_authorize"].contains(&error.as_str());
            return Err(if is_denial { Failure::AccessDenied } else { Failure::LoginFailed });
        }
        let code = callback.code.as_deref().ok_or(Failure::LoginFailed)?;
        let (verifier, nonce, now) = (verifier_of(token), nonce_of(token), self.clock.now());
        let providers = &self.identities.providers;
        match providers.exchange_code(provider, code, &verifier, &nonce, &redirect_uri, now).await {
            Ok(exchanged) => {
                let subject = &exchanged.claims.subject;
                let refresh_token = exchanged.refresh_token.filter(|_| provider.gives_refresh_tokens());
                let sealed = refresh_token.and_then(|token| self.seal_refresh_token(subject, &token));
                Ok(Told::of(provider, exchanged.claims, sealed))
            }
            Err(error) => {
                log::warn!("a login by {} has failed: {}", provider.name(), Chain(&error));
                Err(Failure::LoginFailed)
            }
        }
    }

    /// Opens the session of a login by way of a browser, for the app that began it.
    ///
    /// # Errors
    /// See [`IdentityError`].
    pub async fn finish_web_sign_in(
        &self,
        admission: Admission<'_>,
        given: &GivenCode,
        newcomer: Newcomer,
        client: &impl Client,
    ) -> Result<SignedIn, IdentityError> {
        admission.confirm(Call::LogIn);
        let result = self.take_flow_result(given).await?;
        let told = result.as_ref().and_then(|result| Told::from_json(&result.told));
        let (Some(result), Some(told)) = (result, told) else {
            self.note_refused_identity(client);
            return Err(IdentityError::Refused);
        };
        let signed_in = self.sign_in_as_told(told, newcomer, client).await;
        // Whoever is to choose another name, or to wait, does not go to the provider again.
        if let (Err(error), Some(code)) = (&signed_in, PlainToken::parse(&given.code))
            && self.clock.now().as_millis() < result.kept_until
            && (error.is_taken_name() || matches!(error, IdentityError::Invalid(_) | IdentityError::Throttled(_)))
        {
            self.store_result(&code, &result).await?;
        }
        signed_in
    }

    async fn store_result(&self, code: &PlainToken, result: &FlowResult) -> Result<(), IdentityError> {
        let (now, purpose) = (self.clock.now(), ChallengePurpose::ProviderResult);
        let state = serde_json::to_string(result).unwrap_or_default();
        let challenge = NewChallenge { digest: code.digest(), purpose, state, expires: now.plus(purpose.lifetime()) };
        Ok(self.repository.store_challenge(None, challenge, now).await?)
    }

    /// Takes what came of a login; `None` where the code or the verifier is wrong. The code is used up in any case.
    pub(super) async fn take_result(&self, given: &GivenCode) -> Result<Option<Told>, IdentityError> {
        Ok(self.take_flow_result(given).await?.and_then(|result| Told::from_json(&result.told)))
    }

    async fn take_flow_result(&self, given: &GivenCode) -> Result<Option<FlowResult>, IdentityError> {
        let Some(code) = PlainToken::parse(&given.code) else { return Ok(None) };
        let (now, purpose) = (self.clock.now(), ChallengePurpose::ProviderResult);
        let found = self.repository.take_challenge(None, purpose, code.digest(), now).await?;
        let result = found.and_then(|found| serde_json::from_str::<FlowResult>(&found.state).ok());
        Ok(result.filter(|result| is_same(&result.code_challenge, &challenge_of(&given.code_verifier))))
    }

    /// Where a provider sends a browser back to.
    fn redirect_uri(&self, provider: &Provider) -> Result<String, IdentityError> {
        let url = self.identities.public_url.as_deref().filter(|_| provider.is_for_browsers());
        let url = url.filter(|_| !self.identities.return_to.is_empty()).ok_or(IdentityError::NotOffered)?;
        Ok(format!("{}/api/login/oidc/{}/callback", url.trim_end_matches('/'), provider.name()))
    }

    /// Whether a browser can be sent to this provider.
    #[must_use]
    pub fn sends_browsers_to(&self, provider: &Provider) -> bool {
        self.redirect_uri(provider).is_ok()
    }
}

fn invalid(field: &'static str, rule: &str) -> IdentityError {
    InvalidField { field, rule: rule.to_owned() }.into()
}

fn is_base64url(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'
}

/// What is made of a token for one use: the token cannot be told from it.
fn derived(token: &PlainToken, purpose: &str) -> String {
    hex(&Sha256::digest(format!("authtokens {purpose}\0{}", token.reveal())))
}

fn nonce_of(token: &PlainToken) -> String {
    derived(token, "nonce")
}

fn verifier_of(token: &PlainToken) -> String {
    derived(token, "verifier")
}

/// The S256 of RFC 7636.
fn challenge_of(verifier: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(verifier))
}

/// Whether two texts are the same, in a time that does not tell where they differ.
fn is_same(one: &str, other: &str) -> bool {
    one.len() == other.len() && one.bytes().zip(other.bytes()).fold(0, |all, (a, b)| all | (a ^ b)) == 0
}

/// An address, which has no fragment, with what came of a login in its query, behind what it has of its own.
fn with_query(address: &str, (name, value): (&str, String), state: &str) -> String {
    let mut query = Serializer::new(String::new());
    query.append_pair(name, &value);
    if !state.is_empty() {
        query.append_pair("state", state);
    }
    let joint = match address.split_once('?') {
        None => "?",
        Some((_, own)) if own.is_empty() || own.ends_with('&') => "",
        Some(_) => "&",
    };
    format!("{address}{joint}{}", query.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_is_that_of_rfc_7636() {
        let verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
        assert_eq!(challenge_of(verifier), "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
        assert!(is_same("a", "a") && !is_same("a", "b") && !is_same("a", "ab"));
    }

    #[test]
    fn what_is_made_of_a_token_is_made_again_and_no_two_are_alike() {
        let token = PlainToken::generate();
        assert_eq!(nonce_of(&token), nonce_of(&token));
        assert_ne!(nonce_of(&token), verifier_of(&token));
        assert_eq!(verifier_of(&token).len(), 64, "RFC 7636 has it at 43 to 128");
    }

    #[test]
    fn an_address_keeps_its_own_query() {
        let code = || ("code", "c".to_owned());
        for (address, expected) in [
            ("https://a.example/in", "https://a.example/in?code=c&state=s%26t"),
            ("https://a.example/in?x=1", "https://a.example/in?x=1&code=c&state=s%26t"),
            ("https://a.example", "https://a.example?code=c&state=s%26t"),
            ("https://a.example/?", "https://a.example/?code=c&state=s%26t"),
            ("diamonds://in", "diamonds://in?code=c&state=s%26t"),
            ("org.example.app:/in", "org.example.app:/in?code=c&state=s%26t"),
        ] {
            assert_eq!(with_query(address, code(), "s&t"), expected);
        }
        assert_eq!(with_query("https://a.example/", code(), ""), "https://a.example/?code=c");
    }
}
