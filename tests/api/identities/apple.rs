//! What Apple asks for: what it gave is revoked with the account, and what is withdrawn there ends here.

use std::time::Duration;

use authtokens::domain::rate::Rate;
use reqwest::Method;
use serde_json::json;

use super::{claims, identities, link, link_token, log_in, session, spawn, with_email, with_mail};
use crate::helpers::{JSON, Response, START_MILLIS, TestApp, until};
use crate::metrics::{ANY_PORT, read_metrics, value};
use crate::provider::{CLIENT_ID, Provider};

/// Logs in as an app does that was given an authorization code, too.
async fn log_in_with_code(app: &TestApp, provider: &Provider, subject: &str, code: &str) -> Response {
    let id_token = provider.sign(&claims("apple", provider, subject));
    let body = json!({"provider": "apple", "id_token": id_token, "authorization_code": code});
    app.post("/api/login/oidc", &body).await
}

async fn make_fresh(app: &TestApp, provider: &Provider, token: &str) {
    let body = json!({"provider": "apple", "id_token": provider.sign(&claims("apple", provider, "1"))});
    assert_eq!(app.ask(Method::POST, "/api/user/reauthenticate", token, Some(&body)).await.status(), 200);
}

#[tokio::test]
async fn what_apple_gave_is_revoked_when_the_account_is_deleted_and_the_deletion_waits_for_nothing() {
    let provider = Provider::start();
    let app = spawn(&provider, |config| config.metrics.listen = Some(ANY_PORT));
    provider.give("c1", &claims("apple", &provider, "1"), Some("refresh-1"), None);
    let (token, _) = session(log_in_with_code(&app, &provider, "1", "c1").await, 201).await;
    assert!(!app.dump().join("\n").contains("refresh-1"), "it is sealed");
    make_fresh(&app, &provider, &token).await;
    provider.set_down(true);
    assert_eq!(app.ask(Method::DELETE, "/api/user", &token, None).await.status(), 200);
    assert_eq!(app.usernames(), [""; 0]);
    app.clock.advance(Duration::from_secs(11));
    until("it is tried", || provider.asked("/auth/revoke") > 0).await;
    assert_eq!(app.count("revocations"), 1);
    assert_eq!(value(&read_metrics(&app), "authtokens_revocations_waiting"), Some(1.0));
    provider.set_down(false);
    let revoked = || {
        app.clock.advance(Duration::from_secs(60));
        provider.revoked() == ["refresh-1"]
    };
    until("it is revoked", revoked).await;
    until("it is forgotten", || app.count("revocations") == 0).await;
}

#[tokio::test]
async fn what_apple_gave_is_revoked_when_the_identity_is_unlinked() {
    let provider = Provider::start();
    let app = spawn(&provider, |_| {});
    provider.give("c1", &claims("apple", &provider, "1"), Some("refresh-1"), None);
    let (token, _) = session(log_in_with_code(&app, &provider, "1", "c1").await, 201).await;
    make_fresh(&app, &provider, &token).await;
    let password = json!({"new_password": "correct horse battery staple"});
    assert_eq!(app.ask(Method::POST, "/api/user/password", &token, Some(&password)).await.status(), 200);
    make_fresh(&app, &provider, &token).await;
    let path = format!("/api/user/identities/{}", identities(&app, &token).await[0]["id"].as_str().unwrap());
    assert_eq!(app.ask(Method::DELETE, &path, &token, None).await.status(), 200);
    app.clock.advance(Duration::from_secs(11));
    until("it is revoked", || provider.revoked() == ["refresh-1"]).await;
}

#[tokio::test]
async fn a_code_that_apple_does_not_take_does_not_stand_in_the_way_and_one_of_somebody_else_is_not_kept() {
    let provider = Provider::start();
    let app = spawn(&provider, |_| {});
    session(log_in_with_code(&app, &provider, "1", "unknown").await, 201).await;
    provider.give("c2", &claims("apple", &provider, "2"), Some("refresh-2"), None);
    let (token, _) = session(log_in_with_code(&app, &provider, "1", "c2").await, 200).await;
    make_fresh(&app, &provider, &token).await;
    assert_eq!(app.ask(Method::DELETE, "/api/user", &token, None).await.status(), 200);
    assert_eq!(app.count("revocations"), 0);
}

#[tokio::test]
async fn what_apple_gave_is_revoked_also_where_the_identity_was_linked_by_a_link_token() {
    let provider = Provider::start();
    let app = spawn(&provider, |config| config.identities.register = false);
    provider.give("c1", &claims("apple", &provider, "1"), Some("refresh-1"), None);
    let offered = link_token(log_in_with_code(&app, &provider, "1", "c1").await).await;
    assert!(!app.dump().join("\n").contains("refresh-1"), "it is sealed");
    let token = app.new_user("AzureDiamond").await;
    assert_eq!(link(&app, &token, json!({"link_token": offered})).await.status(), 200);
    make_fresh(&app, &provider, &token).await;
    assert_eq!(app.ask(Method::DELETE, "/api/user", &token, None).await.status(), 200);
    app.clock.advance(Duration::from_secs(11));
    until("it is revoked", || provider.revoked() == ["refresh-1"]).await;
}

#[tokio::test]
async fn an_identity_that_is_found_by_its_address_is_linked_once_the_second_factor_is_given_with_what_apple_gave() {
    let provider = Provider::start();
    let app = spawn(&provider, with_mail);
    let told = |name| with_email(claims(name, &provider, "1"), "azure@gmail.com");
    let (token, username) = session(log_in(&app, "google", &provider.sign(&told("google"))).await, 201).await;
    let body = json!({"provider": "google", "id_token": provider.sign(&told("google"))});
    assert_eq!(app.ask(Method::POST, "/api/user/reauthenticate", &token, Some(&body)).await.status(), 200);
    let owner = crate::second_factor::set_up_fresh(&app, &token).await;
    provider.give("c1", &told("apple"), Some("refresh-1"), None);
    let id_token = provider.sign(&told("apple"));
    let body = json!({"provider": "apple", "id_token": id_token, "authorization_code": "c1"});
    let due = crate::second_factor::due(app.post("/api/login/oidc", &body).await).await;
    assert_eq!(identities(&app, &token).await.len(), 1, "the second factor is due");
    assert!(!app.dump().join("\n").contains("refresh-1"), "it is sealed");
    let body = json!({"token": due["token"], "code": owner.code(&app, 0)});
    let (second, again) = session(app.post("/api/login/second", &body).await, 200).await;
    assert_eq!(again, username);
    assert_eq!(identities(&app, &second).await.len(), 2);
    assert_eq!(log_in(&app, "apple", &id_token).await.status(), 401, "it was used");
    make_fresh(&app, &provider, &second).await;
    assert_eq!(app.ask(Method::DELETE, "/api/user", &second, None).await.status(), 200);
    app.clock.advance(Duration::from_secs(11));
    until("it is revoked", || provider.revoked() == ["refresh-1"]).await;
}

#[tokio::test]
async fn a_code_is_not_used_up_for_a_name_that_is_taken() {
    let provider = Provider::start();
    let app = spawn(&provider, |_| {});
    app.new_user("AzureDiamond").await;
    provider.give("c1", &claims("apple", &provider, "1"), Some("refresh-1"), None);
    let id_token = provider.sign(&claims("apple", &provider, "1"));
    let log_in_as = async |username: &str| {
        let body = json!({
            "provider": "apple", "id_token": id_token, "authorization_code": "c1", "username": username,
        });
        app.post("/api/login/oidc", &body).await
    };
    assert_eq!(log_in_as("azurediamond").await.status(), 400);
    let (token, _) = session(log_in_as("Other").await, 201).await;
    make_fresh(&app, &provider, &token).await;
    assert_eq!(app.ask(Method::DELETE, "/api/user", &token, None).await.status(), 200);
    app.clock.advance(Duration::from_secs(11));
    until("it is revoked", || provider.revoked() == ["refresh-1"]).await;
}

#[tokio::test]
async fn a_code_is_exchanged_with_the_client_id_that_the_id_token_is_for_and_with_no_other() {
    let provider = Provider::start();
    let app = spawn(&provider, |config| {
        config.provider[1].client_ids =
            ["org.example.signin", CLIENT_ID, "org.example.other"].map(str::to_owned).into();
    });
    for client_id in ["org.example.signin", CLIENT_ID, "org.example.other"] {
        let mut told = claims("apple", &provider, client_id);
        told["aud"] = client_id.into();
        // Apple refuses the code, which is no reason to try it with another id.
        let body = json!({"provider": "apple", "id_token": provider.sign(&told), "authorization_code": "unknown"});
        session(app.post("/api/login/oidc", &body).await, 201).await;
    }
    assert_eq!(provider.exchanging(), ["org.example.signin", CLIENT_ID, "org.example.other"]);
}

#[tokio::test]
async fn an_id_token_brings_one_request_to_apple_however_often_it_is_presented() {
    let provider = Provider::start();
    let app = spawn(&provider, |config| config.identities.register = false);
    let id_token = provider.sign(&claims("apple", &provider, "1"));
    for number in 0..3 {
        let code = format!("unknown-{number}");
        let body = json!({"provider": "apple", "id_token": id_token, "authorization_code": code});
        assert_eq!(app.post("/api/login/oidc", &body).await.status(), 409);
    }
    assert_eq!(provider.exchanging().len(), 1);
}

/// A notice as Apple signs it.
fn notice(provider: &Provider, kind: &str, subject: &str) -> serde_json::Value {
    notice_after(provider, kind, subject, 0)
}

/// The same of what has happened so many seconds after the start of the test.
fn notice_after(provider: &Provider, kind: &str, subject: &str, seconds: i64) -> serde_json::Value {
    let happened = START_MILLIS + seconds * 1000;
    let events = json!({"type": kind, "sub": subject, "event_time": happened}).to_string();
    let told = json!({
        "iss": "https://appleid.apple.com", "aud": CLIENT_ID, "iat": happened / 1000, "jti": "j", "events": events,
    });
    json!({"payload": provider.sign(&told)})
}

#[tokio::test]
async fn what_is_withdrawn_at_apple_ends_here() {
    for kind in ["consent-revoked", "account-delete"] {
        let provider = Provider::start();
        let app = spawn(&provider, |_| {});
        let id_token = || provider.sign(&claims("apple", &provider, "1"));
        let (token, username) = session(log_in(&app, "apple", &id_token()).await, 201).await;
        for other in ["email-disabled", "email-enabled", "of another time"] {
            let answer = app.post("/api/apple/notifications", &notice(&provider, other, "1")).await;
            assert_eq!(answer.status(), 200, "{other}");
        }
        assert_eq!(app.ask(Method::GET, "/api/user", &token, None).await.status(), 200);
        for _ in 0..2 {
            let answer = app.post("/api/apple/notifications", &notice(&provider, kind, "1")).await;
            assert_eq!(answer.status(), 200);
        }
        assert_eq!(app.ask(Method::GET, "/api/user", &token, None).await.status(), 401);
        assert_eq!(app.post("/api/apple/notifications", &notice(&provider, kind, "unknown")).await.status(), 200);
        // It was the only way in, so it stays one.
        assert_eq!(session(log_in(&app, "apple", &id_token()).await, 200).await.1, username);
    }
}

#[tokio::test]
async fn what_was_withdrawn_before_the_identity_was_used_again_ends_nothing() {
    let provider = Provider::start();
    let app = spawn(&provider, |_| {});
    let link = async |token: &str| {
        super::make_fresh(&app, token).await;
        let id_token = provider.sign(&claims("apple", &provider, "1"));
        let body = json!({"provider": "apple", "id_token": id_token});
        assert_eq!(super::link(&app, token, body).await.status(), 200);
    };
    let first = app.new_user("AzureDiamond").await;
    link(&first).await;
    let early = notice_after(&provider, "consent-revoked", "1", 10);
    app.clock.advance(Duration::from_secs(20));
    assert_eq!(app.post("/api/apple/notifications", &early).await.status(), 200);
    assert_eq!(app.ask(Method::GET, "/api/user", &first, None).await.status(), 401);
    let (again, _) = session(app.log_in("AzureDiamond", "hunter2").await, 200).await;
    link(&again).await;
    for _ in 0..2 {
        assert_eq!(app.post("/api/apple/notifications", &early).await.status(), 200);
        assert_eq!(identities(&app, &again).await.len(), 1);
    }
    let late = notice_after(&provider, "consent-revoked", "1", 30);
    assert_eq!(app.post("/api/apple/notifications", &late).await.status(), 200);
    assert_eq!(app.ask(Method::GET, "/api/user", &again, None).await.status(), 401);
}

#[tokio::test]
async fn notices_count_for_their_address_before_a_key_is_fetched_or_a_body_read() {
    let provider = Provider::start();
    let app = spawn(&provider, |config| {
        config.rate_limit.enabled = true;
        config.rate_limit.login = Rate { count: 2, period: Duration::from_secs(60) };
    });
    for _ in 0..2 {
        let answer = app.post("/api/apple/notifications", &json!({"payload": "a.b.c"})).await;
        assert_eq!(answer.status(), 400);
    }
    let genuine = notice(&provider, "account-delete", "1");
    assert_eq!(app.post("/api/apple/notifications", &genuine).await.status(), 429);
    assert_eq!(provider.asked("/auth/keys"), 0);
    // No byte of the body ever comes.
    let head = "POST /api/apple/notifications HTTP/1.1\r\nHost: x\r\n";
    app.raw(format!("{head}{JSON}Content-Length: 100\r\n\r\n")).assert_error(429);
}

#[tokio::test]
async fn what_apple_has_not_signed_ends_nothing() {
    let (provider, other) = (Provider::start(), Provider::start());
    let app = spawn(&provider, |_| {});
    let (token, _) = session(log_in(&app, "apple", &provider.sign(&claims("apple", &provider, "1"))).await, 201).await;
    for body in [notice(&other, "account-delete", "1"), json!({"payload": "a.b.c"}), json!({"payload": ""}), json!({})]
    {
        assert_eq!(app.post("/api/apple/notifications", &body).await.status(), 400, "{body}");
    }
    assert_eq!(app.ask(Method::GET, "/api/user", &token, None).await.status(), 200);
    let app = spawn(&provider, |config| drop(config.provider.remove(1)));
    assert_eq!(app.post("/api/apple/notifications", &notice(&provider, "account-delete", "1")).await.status(), 404);
}
