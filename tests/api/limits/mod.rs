//! The throttle: how many attempts are let through, and ways around it that must not exist.

mod accounts;
mod addresses;
mod familiar;
mod nodes;
mod remembering;

use std::time::Duration;

use authtokens::config::Config;
use authtokens::domain::rate::Rate;
use authtokens::system::clock::Timestamp;
use serde_json::json;

use crate::helpers::{Response, TestApp, error_of, session_of};

const OWNER: &str = "192.0.2.1";

const STRANGER: &str = "203.0.113.9";

/// Limits are on, and a trusted proxy on this machine says where requests come from.
fn behind_a_proxy(config: &mut Config) {
    config.rate_limit.enabled = true;
    config.server.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
}

/// The same, but only accounts are limited.
fn accounts_alone(config: &mut Config) {
    behind_a_proxy(config);
    let plenty = Rate { count: 1_000_000, period: Duration::from_secs(1) };
    (config.rate_limit.login, config.rate_limit.register) = (plenty, plenty);
}

async fn post_from(app: &TestApp, ip: &str, path: &str, username: &str, password: &str) -> Response {
    let request = app.client.post(app.url(path)).header("X-Forwarded-For", ip);
    request.json(&json!({"username": username, "password": password})).send().await.unwrap()
}

async fn log_in_from(app: &TestApp, ip: &str, username: &str, password: &str) -> u16 {
    post_from(app, ip, "/api/login", username, password).await.status().as_u16()
}

/// Registers from the owner's address. Returns the token.
async fn new_owner(app: &TestApp) -> String {
    session_of(post_from(app, OWNER, "/api/register", "AzureDiamond", "hunter2").await).await.0
}

/// Fails until strangers are refused.
async fn lock_out(app: &TestApp, username: &str) {
    lock_out_from(app, STRANGER, username).await;
}

async fn lock_out_from(app: &TestApp, stranger: &str, username: &str) {
    for attempt in 0..10 {
        assert_eq!(log_in_from(app, stranger, username, "wrong").await, 401, "attempt {attempt}");
    }
    assert_eq!(log_in_from(app, stranger, username, "wrong").await, 429);
}

/// How long a 429 asks to wait.
async fn retry_after(response: Response) -> u64 {
    let seconds = response.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert_eq!(error_of(response, 429).await, "There were too many attempts. Try again later.");
    seconds
}

/// Sets the wall clock by so many seconds; the monotonic clock stays.
fn set_clock_by(app: &TestApp, seconds: i64) {
    app.clock.set(Timestamp::from_millis(app.clock.now().as_millis() + seconds * 1_000).unwrap());
}

const HOUR: i64 = 60 * 60;

const YEAR: i64 = 365 * 24 * HOUR;
