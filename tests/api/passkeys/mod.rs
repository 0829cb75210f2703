//! Passkeys, from an authenticator of software.

mod adding;
#[path = "../../support/authenticator.rs"]
pub mod authenticator;
mod domain;
mod using;

use authtokens::config::Config;
use reqwest::Method;
use serde_json::{Value, json};

use self::authenticator::{Algorithm, Authenticator, ORIGIN, RP_ID};
use crate::helpers::{Response, TestApp};

const NO_PASSKEYS: &str = "This service has no passkeys.";
const REFUSED: &str = "Invalid Data: the passkey does not verify, or its challenge has expired";
const NOT_SIGNED_IN: &str = "The passkey opens no account.";

pub fn with_passkeys(config: &mut Config) {
    config.passkeys.rp_id = Some(RP_ID.to_owned());
    config.passkeys.origins = vec![ORIGIN.to_owned()];
}

fn spawn() -> TestApp {
    TestApp::spawn_with(with_passkeys)
}

async fn freshen(app: &TestApp, token: &str) {
    let body = json!({"password": "hunter2"});
    assert_eq!(app.ask(Method::POST, "/api/user/reauthenticate", token, Some(&body)).await.status(), 200);
}

/// A new user, whose session is fresh.
async fn fresh_user(app: &TestApp, username: &str) -> String {
    let token = app.new_user(username).await;
    freshen(app, &token).await;
    token
}

async fn creation_options(app: &TestApp, token: &str) -> Value {
    app.get(Method::POST, "/api/user/passkeys/options", token, None).await
}

async fn add(app: &TestApp, token: &str, passkey: &Value) -> Response {
    let body = json!({"name": "Key", "passkey": passkey});
    app.ask(Method::POST, "/api/user/passkeys", token, Some(&body)).await
}

/// Adds a passkey to the account of a session.
pub async fn added(app: &TestApp, token: &str, algorithm: Algorithm) -> (Authenticator, Value) {
    added_with(app, token, algorithm, &json!({})).await
}

/// The same for an account with an authenticator app, with the second factor.
async fn added_with(app: &TestApp, token: &str, algorithm: Algorithm, factor: &Value) -> (Authenticator, Value) {
    let mut authenticator = Authenticator::new(algorithm);
    let options = app.get(Method::POST, "/api/user/passkeys/options", token, Some(factor)).await;
    let passkey = authenticator.create(&options);
    let response = add(app, token, &passkey).await;
    assert_eq!(response.status(), 201, "{algorithm:?}: {:?}", response.text().await);
    (authenticator, response.json().await.unwrap())
}

pub async fn login_options(app: &TestApp) -> Value {
    let response = app.post("/api/login/passkey/options", &json!({})).await;
    assert_eq!(response.status(), 200);
    response.json().await.unwrap()
}

async fn log_in(app: &TestApp, passkey: &Value) -> Response {
    app.post("/api/login/passkey", &json!({"passkey": passkey})).await
}
