//! Wrong codes count at the account, and nothing but a second factor clears them.

use std::time::Duration;

use authtokens::config::Config;
use authtokens::config::identity::Preset;
use authtokens::domain::rate::Rate;
use reqwest::Method;
use serde_json::json;

use super::{NOT_FRESH, Owner, STEP, due, give, log_in_with, new_owner, pending, set_up};
use crate::helpers::{Response, TestApp, error_of, session_of, until};
use crate::identities::{claims, configured};
use crate::provider::Provider;

/// Only accounts are limited, and a trusted proxy on this machine says where requests come from.
fn accounts_alone(config: &mut Config) {
    config.rate_limit.enabled = true;
    config.server.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    let plenty = Rate { count: 1_000_000, period: Duration::from_secs(1) };
    (config.rate_limit.login, config.rate_limit.register) = (plenty, plenty);
}

async fn post_from(app: &TestApp, ip: &str, path: &str, body: &serde_json::Value) -> Response {
    app.client.post(app.url(path)).header("X-Forwarded-For", ip).json(body).send().await.unwrap()
}

#[tokio::test]
async fn wrong_codes_count_at_the_account_and_the_password_alone_does_not_clear_them() {
    let app = TestApp::spawn_with(accounts_alone);
    let Owner { token, app: theirs, .. } = new_owner(&app, "AzureDiamond").await;
    for number in 0..10 {
        due(app.log_in("AzureDiamond", "hunter2").await).await;
        // At either door.
        let answer = if number % 2 == 0 {
            log_in_with(&app, "AzureDiamond", "code", theirs.wrong_code(&app)).await
        } else {
            give(&app, &pending(&app, "AzureDiamond").await, "code", theirs.wrong_code(&app)).await
        };
        assert_eq!(answer.status(), 401, "{number}");
        let password = json!({"password": "hunter2"});
        app.get(Method::POST, "/api/user/reauthenticate", &token, Some(&password)).await;
    }
    until("storing", || app.store.failures() == [10]).await;
    assert_eq!(app.count_events("second_factor_failed"), 10);
    let change = json!({"current_password": "hunter2", "new_password": "hunter2"});
    app.get(Method::POST, "/api/user/password", &token, Some(&change)).await;
    app.get(Method::POST, "/api/user/reauthenticate", &token, Some(&json!({"password": "hunter2"}))).await;
    app.get(Method::POST, "/api/user/password", &token, Some(&json!({"new_password": "hunter2"}))).await;
    for _ in 0..3 {
        let refused = log_in_with(&app, "AzureDiamond", "code", theirs.code(&app, 0)).await;
        assert!(refused.headers().contains_key("retry-after"));
        error_of(refused, 429).await;
        error_of(app.log_in("AzureDiamond", "hunter2").await, 429).await;
    }
    assert_eq!(app.store.failures(), [10]);

    // The owner has the factor, and a session.
    let code = json!({"code": theirs.code(&app, 0)});
    app.get(Method::POST, "/api/user/reauthenticate", &token, Some(&code)).await;
    assert_eq!(app.store.failures(), [] as [i64; 0]);
    app.clock.advance(STEP);
    assert_eq!(log_in_with(&app, "AzureDiamond", "code", theirs.code(&app, 0)).await.status(), 200);
}

#[tokio::test]
async fn a_change_of_the_password_just_after_wrong_codes_gives_no_new_guesses() {
    let app = TestApp::spawn_with(accounts_alone);
    let Owner { token, app: theirs, .. } = new_owner(&app, "AzureDiamond").await;
    let change = json!({"current_password": "hunter2", "new_password": "hunter2"});
    for _ in 0..5 {
        for _ in 0..2 {
            assert_eq!(log_in_with(&app, "AzureDiamond", "code", theirs.wrong_code(&app)).await.status(), 401);
        }
        // Most likely before they are stored, and certainly in the same millisecond.
        app.get(Method::POST, "/api/user/password", &token, Some(&change)).await;
    }
    until("storing", || app.count_events("second_factor_failed") == 10).await;
    assert_eq!(app.store.failures(), [10]);
    error_of(log_in_with(&app, "AzureDiamond", "code", theirs.code(&app, 0)).await, 429).await;
}

#[tokio::test]
async fn a_login_that_is_throttled_at_its_account_costs_none_of_its_tries() {
    let app = TestApp::spawn_with(accounts_alone);
    let Owner { app: theirs, .. } = new_owner(&app, "AzureDiamond").await;
    let waiting = pending(&app, "AzureDiamond").await;
    for _ in 0..10 {
        assert_eq!(log_in_with(&app, "AzureDiamond", "code", theirs.wrong_code(&app)).await.status(), 401);
    }
    for _ in 0..5 {
        assert_eq!(give(&app, &waiting, "code", theirs.code(&app, 0)).await.status(), 429);
    }
    app.clock.advance(STEP);
    assert_eq!(give(&app, &waiting, "code", theirs.code(&app, 0)).await.status(), 200);
}

#[tokio::test]
async fn a_login_with_both_factors_clears_the_failures() {
    let app = TestApp::spawn_with(accounts_alone);
    let Owner { app: theirs, .. } = new_owner(&app, "AzureDiamond").await;
    for round in 0..3 {
        for _ in 0..9 {
            assert_eq!(log_in_with(&app, "AzureDiamond", "code", theirs.wrong_code(&app)).await.status(), 401);
        }
        let code = theirs.code(&app, 0);
        assert_eq!(log_in_with(&app, "AzureDiamond", "code", code).await.status(), 200, "{round}");
        app.clock.advance(STEP);
    }
}

#[tokio::test]
async fn guesses_in_a_session_are_limited_and_the_password_does_not_clear_them() {
    let app = TestApp::spawn_with(accounts_alone);
    let Owner { token, app: theirs, .. } = new_owner(&app, "AzureDiamond").await;
    let wrong = json!({"code": theirs.wrong_code(&app)});
    for number in 0..10 {
        app.get(Method::POST, "/api/user/reauthenticate", &token, Some(&json!({"password": "hunter2"}))).await;
        let (method, path) = [
            (Method::DELETE, "/api/user/totp"),
            (Method::POST, "/api/user/recovery_codes"),
            (Method::POST, "/api/user/reauthenticate"),
        ][number % 3]
            .clone();
        assert_eq!(app.ask(method, path, &token, Some(&wrong)).await.status(), 400, "{number}");
    }
    let right = json!({"code": theirs.code(&app, 0)});
    error_of(app.ask(Method::DELETE, "/api/user/totp", &token, Some(&right)).await, 429).await;
    error_of(app.ask(Method::POST, "/api/user/reauthenticate", &token, Some(&wrong)).await, 429).await;
    app.clock.advance(STEP);
    let right = json!({"code": theirs.code(&app, 0)});
    assert_eq!(app.ask(Method::DELETE, "/api/user/totp", &token, Some(&right)).await.status(), 200, "a second later");
}

#[tokio::test]
async fn guesses_in_a_session_are_limited_and_an_identity_does_not_clear_them() {
    let provider = Provider::start();
    let app = TestApp::spawn_with(|config| {
        accounts_alone(config);
        config.outbound.allow = vec!["127.0.0.0/8".parse().unwrap()];
        config.provider = vec![configured("google", Preset::Google, &provider)];
    });
    let token = app.new_user("AzureDiamond").await;
    app.get(Method::POST, "/api/user/reauthenticate", &token, Some(&json!({"password": "hunter2"}))).await;
    let shown = || json!({"provider": "google", "id_token": provider.sign(&claims("google", &provider, "1"))});
    app.get(Method::POST, "/api/user/identities", &token, Some(&shown())).await;
    let Owner { token, app: theirs, .. } = set_up(&app, &token).await;
    let wrong = json!({"code": theirs.wrong_code(&app)});
    for number in 0..10 {
        app.get(Method::POST, "/api/user/reauthenticate", &token, Some(&shown())).await;
        let guess = app.ask(Method::POST, "/api/user/reauthenticate", &token, Some(&wrong)).await;
        assert_eq!(guess.status(), 400, "{number}");
    }
    let right = json!({"code": theirs.code(&app, 0)});
    error_of(app.ask(Method::POST, "/api/user/reauthenticate", &token, Some(&right)).await, 429).await;
}

#[tokio::test]
async fn whoever_knows_the_password_and_guesses_codes_does_not_lock_the_owner_out() {
    let app = TestApp::spawn_with(accounts_alone);
    let (owner, stranger) = ("192.0.2.1", "203.0.113.9");
    let credentials = json!({"username": "AzureDiamond", "password": "hunter2"});
    let (token, _) = session_of(post_from(&app, owner, "/api/register", &credentials).await).await;
    let Owner { app: theirs, recovery_codes, .. } = set_up(&app, &token).await;
    let mut guess = credentials.clone();
    guess["code"] = json!(theirs.wrong_code(&app));
    let mut guesses = 0;
    while guesses < app.store.most_failures() {
        guess["code"] = json!(theirs.wrong_code(&app));
        match post_from(&app, stranger, "/api/login", &guess).await.status().as_u16() {
            401 => guesses += 1,
            429 => app.clock.advance(Duration::from_secs(900)),
            other => panic!("{other}"),
        }
    }
    assert_eq!(post_from(&app, stranger, "/api/login", &credentials).await.status(), 429);
    // From a network that the account has logged in from, in one step or in two.
    let due = due(post_from(&app, owner, "/api/login", &credentials).await).await;
    let second = json!({"token": due["token"], "code": theirs.code(&app, 0)});
    assert_eq!(post_from(&app, owner, "/api/login/second", &second).await.status(), 200);
    let mut with_code = credentials.clone();
    with_code["recovery_code"] = json!(recovery_codes[0]);
    assert_eq!(post_from(&app, stranger, "/api/login", &with_code).await.status(), 200, "a login has cleared them");
}

#[tokio::test]
async fn what_cannot_be_a_code_and_a_session_that_is_not_fresh_cost_an_address_no_attempt_and_a_guess_does() {
    let few = |config: &mut Config| {
        config.rate_limit.enabled = true;
        config.rate_limit.login = Rate { count: 6, period: Duration::from_secs(3_600) };
    };
    let app = TestApp::spawn_with(few);
    let Owner { token, app: theirs, .. } = new_owner(&app, "AzureDiamond").await;
    app.clock.advance(Duration::from_secs(3_600));
    for _ in 0..10 {
        let malformed = log_in_with(&app, "AzureDiamond", "code", "x").await;
        error_of(malformed, 400).await;
        let code = json!({"code": theirs.code(&app, 0)});
        for (method, path) in [(Method::DELETE, "/api/user/totp"), (Method::POST, "/api/user/recovery_codes")] {
            assert_eq!(error_of(app.ask(method, path, &token, Some(&code)).await, 400).await, NOT_FRESH);
        }
    }
    let waiting = pending(&app, "AzureDiamond").await;
    for _ in 0..5 {
        assert_eq!(give(&app, &waiting, "code", theirs.wrong_code(&app)).await.status(), 401);
    }
    assert_eq!(give(&app, &waiting, "code", theirs.code(&app, 0)).await.status(), 429);
    let code = json!({"code": theirs.code(&app, 0)});
    assert_eq!(app.ask(Method::POST, "/api/user/reauthenticate", &token, Some(&code)).await.status(), 429);
}
