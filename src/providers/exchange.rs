//! Logins by way of a browser: where it is sent, and what the code is exchanged for that it brings back. OAuth 2.0 with
//! PKCE (RFC 7636), and RFC 9207.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use form_urlencoded::byte_serialize;
use serde::Deserialize;
use url::Url;
use zeroize::Zeroizing;

use super::endpoints::Endpoints;
use super::{AuthorizationRequest, Exchanged, Provider, ProviderError, Providers, apple, claims, github};
use crate::config::identity::Preset;
use crate::outbound::Response;
use crate::system::clock::Timestamp;

/// How long a code may be that a browser or an app brings.
const MAX_CODE: usize = 4096;

/// What a provider answers when a code is exchanged.
#[derive(Deserialize)]
struct Answer {
    access_token: Option<String>,
    id_token: Option<String>,
    refresh_token: Option<String>,
    error: Option<String>,
}

impl Providers {
    /// The address that a browser is sent to.
    ///
    /// # Errors
    /// [`ProviderError::NotOffered`] where browsers are not sent there; others where it cannot be asked for its addresses.
    pub async fn authorization_url(
        &self,
        provider: &Provider,
        request: &AuthorizationRequest<'_>,
    ) -> Result<String, ProviderError> {
        let AuthorizationRequest { state, nonce, code_challenge, redirect_uri, asks_again } = *request;
        let client_id = provider.browser_client()?;
        let endpoints = self.endpoints(provider).await?;
        let mut url = Url::parse(&endpoints.authorization)
            .map_err(|_| ProviderError::Answer("the address that browsers are sent to cannot be read"))?;
        {
            let mut query = url.query_pairs_mut();
            query
                .append_pair("response_type", "code")
                .append_pair("client_id", client_id)
                .append_pair("redirect_uri", redirect_uri)
                .append_pair("scope", &provider.scope())
                .append_pair("state", state)
                .append_pair("code_challenge", code_challenge)
                .append_pair("code_challenge_method", "S256");
            if provider.is_for_apps() {
                query.append_pair("nonce", nonce);
            }
            if asks_again && provider.is_for_apps() {
                // Google refuses the standard's word, and has none that is stronger.
                let prompt = if provider.preset() == Preset::Google { "select_account" } else { "login" };
                query.append_pair("prompt", prompt).append_pair("max_age", "0");
            }
            if provider.posts_back() {
                query.append_pair("response_mode", "form_post");
            }
        }
        Ok(url.into())
    }

    /// Checks the `iss` that a browser came back with: RFC 9207. It must be there where the provider announces it.
    ///
    /// # Errors
    /// [`ProviderError::Refused`] for another's, or none.
    pub async fn check_issuer(&self, provider: &Provider, iss: Option<&str>) -> Result<(), ProviderError> {
        let endpoints = self.endpoints(provider).await?;
        let is_fine = match iss {
            Some(iss) => iss == endpoints.issuer || claims::canonical_issuer(&provider.config, iss).is_some(),
            None => !endpoints.gives_issuer,
        };
        if is_fine { Ok(()) } else { Err(ProviderError::Refused("a browser came back from another provider")) }
    }

    /// Exchanges the code that a browser came back with.
    ///
    /// # Errors
    /// [`ProviderError::Refused`] where the provider refuses it; others where it cannot be asked.
    pub async fn exchange_code(
        &self,
        provider: &Provider,
        code: &str,
        code_verifier: &str,
        nonce: &str,
        redirect_uri: &str,
        now: Timestamp,
    ) -> Result<Exchanged, ProviderError> {
        let client_id = provider.browser_client()?;
        let fields = [("redirect_uri", redirect_uri), ("code_verifier", code_verifier)];
        let answer = self.exchange(provider, client_id, code, &fields, now).await?;
        let claims = if provider.is_for_apps() {
            let id_token = answer.id_token.ok_or(ProviderError::Answer("it gives no ID token"))?;
            self.verify_id_token(provider, &id_token, Some(nonce), now).await?
        } else {
            let token = Zeroizing::new(answer.access_token.ok_or(ProviderError::Answer("it gives no access token"))?);
            github::ask(&self.client, provider, &token, now).await?
        };
        Ok(Exchanged { claims, refresh_token: answer.refresh_token.map(|token| keep(client_id, &token)) })
    }

    /// Exchanges the authorization code that Apple has given to an app. It belongs to the client id to which the ID token
    /// that came with it was given; no other is tried.
    ///
    /// # Errors
    /// [`ProviderError::Refused`] where Apple refuses it; others where it cannot be asked.
    pub async fn exchange_app_code(
        &self,
        provider: &Provider,
        client_id: &str,
        code: &str,
        now: Timestamp,
    ) -> Result<Exchanged, ProviderError> {
        if !provider.gives_refresh_tokens() {
            return Err(ProviderError::NotOffered);
        }
        let answer = self.exchange(provider, client_id, code, &[], now).await?;
        let id_token = answer.id_token.ok_or(ProviderError::Answer("it gives no ID token"))?;
        // Whoever asks compares it with the token that the app has presented, whose nonce was checked.
        let claims = self.verify_exchanged(provider, &id_token, now).await?;
        Ok(Exchanged { claims, refresh_token: answer.refresh_token.map(|token| keep(client_id, &token)) })
    }

    /// Revokes a refresh token, as [`Exchanged`] has it. One that the provider does not know is revoked.
    ///
    /// # Errors
    /// Where the provider cannot be asked, or does not say that it has.
    pub async fn revoke(&self, provider: &Provider, refresh_token: &str, now: Timestamp) -> Result<(), ProviderError> {
        let endpoints = self.endpoints(provider).await?;
        let address = endpoints.revocation.as_deref().ok_or(ProviderError::NotOffered)?;
        let (client_id, token) =
            refresh_token.split_once(' ').ok_or(ProviderError::Refused("the refresh token has another form"))?;
        let fields = [("token", token), ("token_type_hint", "refresh_token")];
        let answer = self.post(provider, &endpoints, address, client_id, &fields, now).await?;
        match answer.status {
            200..=299 => Ok(()),
            // It has expired, or was revoked before.
            400 if error_of(&answer)
                .is_some_and(|error| ["invalid_grant", "invalid_token"].contains(&error.as_str())) =>
            {
                Ok(())
            }
            _ => Err(ProviderError::Answer("it does not revoke a token")),
        }
    }

    async fn exchange(
        &self,
        provider: &Provider,
        client_id: &str,
        code: &str,
        fields: &[(&str, &str)],
        now: Timestamp,
    ) -> Result<Answer, ProviderError> {
        if code.is_empty() || code.len() > MAX_CODE {
            return Err(ProviderError::Refused("the code is none"));
        }
        let endpoints = self.endpoints(provider).await?;
        let fields = [&[("grant_type", "authorization_code"), ("code", code)], fields].concat();
        let answer = self.post(provider, &endpoints, &endpoints.token, client_id, &fields, now).await?;
        let is_error = answer.status >= 500 || answer.status == 429;
        let read = serde_json::from_slice::<Answer>(&answer.body).ok().filter(|_| !is_error);
        let read = read.ok_or(ProviderError::Answer("it does not answer as it should when a code is exchanged"))?;
        match read.error.as_deref() {
            // GitHub's word, and everybody else's.
            Some("bad_verification_code" | "invalid_grant") => {
                Err(ProviderError::Refused("the provider refuses the code"))
            }
            Some("invalid_client" | "incorrect_client_credentials") => {
                Err(ProviderError::Answer("it does not take the client's id and secret"))
            }
            None if answer.status == 200 => Ok(read),
            _ => Err(ProviderError::Answer("it does not exchange a code")),
        }
    }

    /// Posts a form, with which the client authenticates.
    async fn post(
        &self,
        provider: &Provider,
        endpoints: &Endpoints,
        address: &str,
        client_id: &str,
        fields: &[(&str, &str)],
        now: Timestamp,
    ) -> Result<Response, ProviderError> {
        let config = &provider.config;
        let secret = if config.preset == Preset::Apple {
            apple::client_secret(config, client_id, now)?
        } else {
            let secret = config.client_secret.as_ref().ok_or(ProviderError::NotOffered)?;
            Zeroizing::new(secret.expose().to_owned())
        };
        let mut fields = fields.to_vec();
        let mut headers = vec![("accept", "application/json")];
        let basic =
            Zeroizing::new(format!("Basic {}", BASE64_STANDARD.encode(encoded_pair(client_id, &secret).as_bytes())));
        if endpoints.is_basic {
            headers.push(("authorization", &basic));
        } else {
            fields.extend([("client_id", client_id), ("client_secret", secret.as_str())]);
        }
        Ok(self.client.post_form(address, &headers, &fields).await?)
    }
}

impl Provider {
    /// The id with which a browser is sent there.
    pub(super) fn browser_client(&self) -> Result<&str, ProviderError> {
        let first = self.client_ids().first().filter(|_| self.is_for_browsers());
        first.map(String::as_str).ok_or(ProviderError::NotOffered)
    }

    /// What is asked for. GitHub has words of its own; everybody else gives an ID token for `openid` alone.
    fn scope(&self) -> String {
        let scopes = self.config.scopes.iter().map(String::as_str);
        let (needed, scopes): (_, Vec<_>) = match self.config.preset {
            Preset::Github => ("user:email", scopes.filter(|s| !["openid", "email", "profile"].contains(s)).collect()),
            _ => ("openid", scopes.collect()),
        };
        let needed = (!scopes.contains(&needed)).then_some(needed);
        needed.into_iter().chain(scopes).collect::<Vec<_>>().join(" ")
    }
}

/// A refresh token as it is kept: with the client that it was given to, which alone can revoke it.
fn keep(client_id: &str, token: &str) -> String {
    format!("{client_id} {token}")
}

/// A client's id and secret in a header: RFC 6749, 2.3.1.
fn encoded_pair(client_id: &str, secret: &str) -> Zeroizing<String> {
    let encode = |text: &str| byte_serialize(text.as_bytes()).collect::<String>();
    Zeroizing::new(format!("{}:{}", encode(client_id), encode(secret)))
}

/// The error that an answer names.
fn error_of(answer: &Response) -> Option<String> {
    serde_json::from_slice::<Answer>(&answer.body).ok()?.error
}
