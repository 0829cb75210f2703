//! What is GitHub's alone: it has no ID tokens, so it is asked who somebody is.

use serde::Deserialize;

use super::claims::GITHUB;
use super::endpoints::placed;
use super::{IdentityClaims, Provider, ProviderError};
use crate::domain::identity::Subject;
use crate::outbound::Client;
use crate::system::clock::Timestamp;

#[derive(Deserialize)]
struct User {
    /// A name can be given away, this cannot.
    id: u64,
}

#[derive(Deserialize)]
struct Email {
    #[serde(rename = "email")]
    address: String,
    primary: bool,
    verified: bool,
}

/// Whom an access token is of.
pub(super) async fn ask(
    client: &Client,
    provider: &Provider,
    access_token: &str,
    now: Timestamp,
) -> Result<IdentityClaims, ProviderError> {
    let user: User = get(client, provider, "https://api.github.com/user", access_token).await?;
    // Not everybody lets their addresses be seen.
    let emails: Vec<Email> = match get(client, provider, "https://api.github.com/user/emails", access_token).await {
        Ok(emails) => emails,
        Err(ProviderError::Answer(_)) => Vec::new(),
        Err(error) => return Err(error),
    };
    let client_id = provider.browser_client()?.to_owned();
    let primary = emails.into_iter().find(|email| email.primary && email.address.len() <= 254);
    let is_email_verified = primary.as_ref().is_some_and(|email| email.verified);
    Ok(IdentityClaims {
        subject: Subject { issuer: GITHUB.to_owned(), subject: user.id.to_string() },
        client_id,
        email: primary.map(|email| email.address).unwrap_or_default(),
        is_email_verified,
        speaks_for_email: is_email_verified,
        issued: now,
        auth_time: None,
        token: None,
    })
}

async fn get<T: serde::de::DeserializeOwned>(
    client: &Client,
    provider: &Provider,
    address: &str,
    access_token: &str,
) -> Result<T, ProviderError> {
    let authorization = format!("Bearer {access_token}");
    let headers = [
        ("authorization", authorization.as_str()),
        ("accept", "application/vnd.github+json"),
        ("x-github-api-version", "2022-11-28"),
    ];
    let answer = client.get(&placed(&provider.config, address), &headers).await?;
    if answer.status != 200 {
        return Err(ProviderError::Answer("it does not say who somebody is"));
    }
    serde_json::from_slice(&answer.body).map_err(|_| ProviderError::Answer("what it says of somebody cannot be read"))
}
