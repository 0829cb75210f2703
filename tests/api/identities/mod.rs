//! Identities: logins by providers, from apps and by way of browsers, links, and what Apple asks for.

mod apple;
mod linking;
mod sign_in;
mod web;

use std::io::Write as _;

use authtokens::config::identity::Preset;
use authtokens::config::mail::{Sender, Transport};
use authtokens::config::{Config, ProviderConfig, Settings};
use authtokens::domain::email::EmailAddress;
use reqwest::Method;
use serde_json::{Value, json};

use crate::helpers::{Response, START_MILLIS, TestApp};
use crate::provider::{CLIENT_ID, Provider};

/// Where the app is.
const RETURN_TO: &str = "https://app.diamond.example/in";

/// How `POST /api/login/oidc` answers what opens no account.
const REFUSED: &str = "What the provider said opens no account.";

/// How a provider is answered that the configuration does not have, or not for this.
const NOT_OFFERED: &str = "This service does not offer this provider, or not this way.";

/// A provider of the configuration that stands at this one.
pub fn configured(name: &str, preset: Preset, provider: &Provider) -> ProviderConfig {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(written(name, preset, provider).as_bytes()).unwrap();
    let settings = Settings::gather(Some(file.path()), [], []).unwrap();
    Config::from_settings(settings).unwrap().provider.remove(0)
}

/// The same as a file of the configuration has it.
pub fn written(name: &str, preset: Preset, provider: &Provider) -> String {
    let text = match preset {
        Preset::None => format!("issuer = \"{}\"", provider.url()),
        Preset::Google => format!("preset = \"google\"\ntest_address = \"{}\"", provider.url()),
        Preset::Apple => format!("preset = \"apple\"\ntest_address = \"{}\"", provider.url()),
        Preset::Github => format!("preset = \"github\"\ntest_address = \"{}\"", provider.url()),
    };
    let secret = if preset == Preset::Apple {
        let key = rcgen::KeyPair::generate().unwrap().serialize_pem();
        format!("apple_team = \"ABCDE12345\"\napple_key_id = \"ABC123DEFG\"\napple_key = \"\"\"\n{key}\"\"\"")
    } else {
        "client_secret = \"s3cret\"".to_owned()
    };
    format!("[[provider]]\nname = \"{name}\"\nclient_ids = [\"{CLIENT_ID}\"]\n{text}\n{secret}\n")
}

/// A server with Google, Apple, GitHub and a provider of none of these, all of which are this one.
fn spawn(provider: &Provider, configure: impl FnOnce(&mut Config)) -> TestApp {
    TestApp::spawn_with(|config| {
        config.outbound.allow = vec!["127.0.0.0/8".parse().unwrap()];
        config.server.public_url = Some("https://diamond.example".to_owned());
        config.identities.return_to = vec![RETURN_TO.to_owned(), "diamonds://in?x=1".to_owned()];
        let presets =
            [("google", Preset::Google), ("apple", Preset::Apple), ("github", Preset::Github), ("plain", Preset::None)];
        config.provider = presets.map(|(name, preset)| configured(name, preset, provider)).into();
        configure(config);
    })
}

/// The configuration also sends mail, so that addresses are verified.
fn with_mail(config: &mut Config) {
    config.mail.transport = Transport::Folder;
    config.mail.from = Some(Sender { name: None, email: EmailAddress::parse("noreply@diamond.example").unwrap() });
}

fn issuer_of(name: &str, provider: &Provider) -> String {
    match name {
        "google" => "https://accounts.google.com".to_owned(),
        "apple" => "https://appleid.apple.com".to_owned(),
        _ => provider.url(),
    }
}

/// What a provider says of somebody at the test's time.
pub fn claims(name: &str, provider: &Provider, subject: &str) -> Value {
    let now = START_MILLIS / 1000;
    json!({
        "iss": issuer_of(name, provider), "aud": CLIENT_ID, "sub": subject, "iat": now, "exp": now + 600,
        // No two tokens are alike.
        "jti": rand::random::<u64>().to_string(),
    })
}

/// The same with an address that the provider says is verified.
fn with_email(mut claims: Value, email: &str) -> Value {
    claims["email"] = email.into();
    claims["email_verified"] = true.into();
    claims
}

async fn log_in(app: &TestApp, name: &str, id_token: &str) -> Response {
    app.post("/api/login/oidc", &json!({"provider": name, "id_token": id_token})).await
}

/// The token and the name of a login that must succeed.
async fn session(response: Response, status: u16) -> (String, String) {
    let found = response.status().as_u16();
    let body: Value = response.json().await.unwrap();
    assert_eq!(found, status, "{body}");
    (body["token"].as_str().unwrap().to_owned(), body["user"]["username"].as_str().unwrap().to_owned())
}

/// The link token of a login that found no link.
async fn link_token(response: Response) -> String {
    assert_eq!(response.status(), 409);
    let body: Value = response.json().await.unwrap();
    assert!(body["expires"].is_string() && body["error"].is_string(), "{body}");
    body["link_token"].as_str().unwrap().to_owned()
}

async fn link(app: &TestApp, token: &str, body: Value) -> Response {
    app.ask(Method::POST, "/api/user/identities", token, Some(&body)).await
}

async fn identities(app: &TestApp, token: &str) -> Vec<Value> {
    let list = app.get(Method::GET, "/api/user/identities", token, None).await;
    list.as_array().unwrap().clone()
}

async fn make_fresh(app: &TestApp, token: &str) {
    let body = json!({"password": "hunter2"});
    assert_eq!(app.ask(Method::POST, "/api/user/reauthenticate", token, Some(&body)).await.status(), 200);
}
