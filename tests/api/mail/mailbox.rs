//! A server whose mail reaches a mailbox, and accounts with an address there.

use std::time::Duration;

use authtokens::config::Config;
use authtokens::domain::rate::Rate;
use reqwest::Method;
use serde_json::{Value, json};

use super::smtp_server::{Behaviour, Received, SmtpServer};
use crate::helpers::{Response, TestApp, error_of, session_of};

/// What a code or link that is worth nothing is answered.
pub const WORTHLESS: &str = "Invalid Data: the code or the link is wrong, was used, or has expired";

/// A code that is no mail's: tests do not meet the one of a million.
pub const WRONG_CODE: &str = "000000";

/// A server, and the mailbox that all its mail reaches.
pub struct Post {
    // In this order: the server stops first.
    pub app: TestApp,
    pub smtp: SmtpServer,
}

impl Post {
    pub fn spawn() -> Self {
        Self::spawn_with(|_| {})
    }

    pub fn spawn_with(configure: impl FnOnce(&mut Config)) -> Self {
        let smtp = SmtpServer::start(Behaviour::default());
        let app = TestApp::spawn_with(|config| {
            smtp.configure(config);
            configure(config);
        });
        Self { app, smtp }
    }

    /// The next mail, which must be to this address.
    pub async fn mail_to(&self, email: &str) -> Received {
        let mail = self.smtp.next().await;
        assert_eq!(mail.to, email, "{}", mail.subject());
        mail
    }

    /// Registers with an address that stays unverified. Returns the token and the mail that confirms it.
    pub async fn register(&self, username: &str, email: &str) -> (String, Received) {
        let body = json!({"username": username, "password": "hunter2", "email": email});
        let (token, _) = session_of(self.app.post("/api/register", &body).await).await;
        (token, self.mail_to(email).await)
    }

    /// Registers with a verified address. Returns the token.
    pub async fn new_owner(&self, username: &str, email: &str) -> String {
        let (token, mail) = self.register(username, email).await;
        let confirmed = self.app.post("/api/email/confirm", &json!({"token": mail.token()})).await;
        assert_eq!(confirmed.status(), 200);
        token
    }

    /// Asks for a mail that resets a password. Returns the request id, and the mail.
    pub async fn forget(&self, username: &str, email: &str) -> (String, Received) {
        let request = request_of(self.app.post("/api/password/forgot", &json!({"username": username})).await).await;
        (request, self.mail_to(email).await)
    }

    pub async fn reset(&self, body: &Value) -> Response {
        self.app.post("/api/password/reset", body).await
    }

    pub async fn post(&self, path: &str, token: &str, body: &Value) -> Response {
        self.app.ask(Method::POST, path, token, Some(body)).await
    }

    pub async fn email_of(&self, token: &str) -> Value {
        self.app.get(Method::GET, "/api/user/email", token, None).await
    }

    pub async fn status_of(&self, token: &str) -> u16 {
        self.app.ask(Method::GET, "/api/user", token, None).await.status().as_u16()
    }

    /// The status of a login.
    pub async fn log_in(&self, username: &str, password: &str) -> u16 {
        self.app.log_in(username, password).await.status().as_u16()
    }
}

/// Limits at accounts alone.
pub fn accounts_alone(config: &mut Config) {
    config.rate_limit.enabled = true;
    let plenty = Rate { count: 1_000_000, period: Duration::from_secs(1) };
    (config.rate_limit.login, config.rate_limit.register) = (plenty, plenty);
}

/// The request id of a mail that was asked for.
pub async fn request_of(response: Response) -> String {
    assert_eq!(response.status(), 202);
    let body: Value = response.json().await.unwrap();
    assert_eq!(body.as_object().unwrap().keys().collect::<Vec<_>>(), ["request"], "{body}");
    body["request"].as_str().unwrap().to_owned()
}

pub async fn assert_worthless(response: Response, why: &str) {
    assert_eq!(error_of(response, 400).await, WORTHLESS, "{why}");
}
