//! The second factor: an authenticator app and its recovery codes, set up, asked for and given.

mod at_once;
mod giving;
mod limits;
mod mail;
mod set_up;
mod telling;

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use totp_rs::{Algorithm, Builder, Secret};

use crate::helpers::{Response, TestApp, session_of};

/// How long a code of an app is shown.
const STEP: Duration = Duration::from_secs(30);

const MINUTE: Duration = Duration::from_secs(60);

/// What a login is answered whose code is worth nothing.
const WRONG: &str = "The code is wrong, was used before, or the login has expired.";

/// What a session is answered for a code that is worth nothing.
pub const WRONG_IN_SESSION: &str = "Invalid Data: the code is wrong, or was used before";

/// What a call is answered that needs a fresh session.
const NOT_FRESH: &str = "Invalid Data: the session is not fresh: POST /api/user/reauthenticate first";

/// Somebody's app: what it knows is what a QR code has told it.
pub struct App(Secret);

impl App {
    /// The app that was given this secret.
    pub fn new(secret: &str) -> Self {
        Self(Secret::try_from_base32(secret).unwrap())
    }

    /// The code that it shows at the server's time, or so many steps before or after.
    pub fn code(&self, app: &TestApp, steps: i64) -> String {
        self.code_at(app.clock.now().as_millis() / 1_000 + steps * 30)
    }

    /// The code that it shows at a time, in seconds since 1970.
    pub fn code_at(&self, seconds: i64) -> String {
        let totp = Builder::new().with_algorithm(Algorithm::SHA1).with_digits(6).with_step_duration(30);
        let totp = totp.with_secret(self.0.clone()).with_account_name("a").build().unwrap();
        totp.generate(u64::try_from(seconds).unwrap()).to_string()
    }

    /// Six digits that it does not show now, nor a step before or after.
    pub fn wrong_code(&self, app: &TestApp) -> String {
        let shown: Vec<String> = (-2..3).map(|steps| self.code(app, steps)).collect();
        let mut codes = (0..10).map(|number| format!("{number:06}"));
        codes.find(|code| !shown.contains(code)).unwrap()
    }
}

/// An account with an authenticator app.
pub struct Owner {
    pub token: String,
    pub app: App,
    pub recovery_codes: Vec<String>,
}

/// Makes a session fresh, and begins to set up an app there.
async fn begin(app: &TestApp, token: &str) -> App {
    let fresh = json!({"password": "hunter2"});
    app.get(Method::POST, "/api/user/reauthenticate", token, Some(&fresh)).await;
    let begun = app.get(Method::POST, "/api/user/totp", token, None).await;
    App::new(begun["secret"].as_str().unwrap())
}

async fn confirm(app: &TestApp, token: &str, code: &str) -> Response {
    app.ask(Method::POST, "/api/user/totp/confirm", token, Some(&json!({"code": code}))).await
}

fn codes_of(answer: &Value) -> Vec<String> {
    answer["recovery_codes"].as_array().unwrap().iter().map(|code| code.as_str().unwrap().to_owned()).collect()
}

/// Sets up an app in a session that is fresh.
pub async fn set_up_fresh(app: &TestApp, token: &str) -> App {
    let begun = app.get(Method::POST, "/api/user/totp", token, None).await;
    let theirs = App::new(begun["secret"].as_str().unwrap());
    let code = theirs.code(app, 0);
    app.get(Method::POST, "/api/user/totp/confirm", token, Some(&json!({"code": code}))).await;
    app.clock.advance(STEP);
    theirs
}

/// Sets up an app for the account of this session. The step of its first code is over.
async fn set_up(app: &TestApp, token: &str) -> Owner {
    let theirs = begin(app, token).await;
    let code = theirs.code(app, 0);
    let confirmed = app.get(Method::POST, "/api/user/totp/confirm", token, Some(&json!({"code": code}))).await;
    app.clock.advance(STEP);
    Owner { token: token.to_owned(), app: theirs, recovery_codes: codes_of(&confirmed) }
}

/// A new account with an app.
pub async fn new_owner(app: &TestApp, username: &str) -> Owner {
    let token = app.new_user(username).await;
    set_up(app, &token).await
}

/// A login with more than a name and a password.
async fn log_in_with(app: &TestApp, username: &str, field: &str, value: impl Into<Value>) -> Response {
    let mut body = json!({"username": username, "password": "hunter2"});
    body[field] = value.into();
    app.post("/api/login", &body).await
}

/// What a login lacks whose password was right.
pub async fn due(response: Response) -> Value {
    assert_eq!(response.status(), 401);
    assert_eq!(response.headers()["www-authenticate"], "Token");
    assert_eq!(response.headers()["cache-control"], "no-store");
    let body: Value = response.json().await.unwrap();
    assert_eq!(body.as_object().unwrap().keys().collect::<Vec<_>>(), ["error", "second_factor"]);
    assert_eq!(body["error"], "The second factor is required.");
    body["second_factor"].clone()
}

/// The token of a login that lacks its second factor.
async fn pending(app: &TestApp, username: &str) -> String {
    due(app.log_in(username, "hunter2").await).await["token"].as_str().unwrap().to_owned()
}

async fn give(app: &TestApp, token: &str, field: &str, value: impl Into<Value>) -> Response {
    let mut body = json!({"token": token});
    body[field] = value.into();
    app.post("/api/login/second", &body).await
}

async fn security(app: &TestApp, token: &str) -> Value {
    app.get(Method::GET, "/api/user/security", token, None).await
}

async fn lives(app: &TestApp, token: &str) -> bool {
    app.ask(Method::GET, "/api/user", token, None).await.status() == 200
}

/// The token of a session that was opened, and whether there was nothing but it and the user in the answer.
async fn opened(response: Response) -> String {
    session_of(response).await.0
}
