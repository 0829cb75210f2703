//! `/api/introspect`: what other services are told of a token, and who may ask.

use std::time::Duration;

use authtokens::domain::rate::Rate;
use authtokens::domain::rights::Actor;
use authtokens::domain::service::ServiceName;
use authtokens::domain::token::PlainToken;
use authtokens::repository::ServiceAdded;
use reqwest::header::HeaderName;
use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::helpers::{TestApp, UNKNOWN_TOKEN, error_of, session_of, until};
use crate::second_factor::{due, set_up_fresh};

const PATH: &str = "/api/introspect";

/// Adds a service beside the server, as the command does; its key.
pub async fn add_service(app: &TestApp, name: &str) -> String {
    let (name, key) = (ServiceName::parse(name).unwrap(), PlainToken::generate());
    let (store, now) = (app.store.open_beside(), app.clock.now());
    let added = store.add_service(&Actor::CommandLine, name, key.digest(), now).await.unwrap();
    assert_eq!(added, ServiceAdded::Done);
    key.reveal().to_owned()
}

async fn revoke_service(app: &TestApp, name: &str) {
    let name = ServiceName::parse(name).unwrap();
    assert!(app.store.open_beside().revoke_service(&Actor::CommandLine, name, app.clock.now()).await.unwrap());
}

async fn ask(app: &TestApp, key: &str, form: &str) -> Response {
    let request = app.client.post(app.url(PATH)).basic_auth("wiki", Some(key));
    request.header("Content-Type", "application/x-www-form-urlencoded").body(form.to_owned()).send().await.unwrap()
}

async fn told(app: &TestApp, key: &str, token: &str) -> Value {
    let response = ask(app, key, &format!("token={token}")).await;
    assert_eq!(response.status(), 200);
    response.json().await.unwrap()
}

/// What is told of a token that is worth nothing, to the byte.
async fn assert_inactive(app: &TestApp, key: &str, token: &str) {
    let response = ask(app, key, &format!("token={token}")).await;
    assert_eq!(
        (response.status().as_u16(), response.text().await.unwrap().as_str()),
        (200, "{\"active\":false}"),
        "{token}"
    );
}

#[tokio::test]
async fn a_service_is_told_whose_a_live_token_is() {
    let app = TestApp::spawn();
    let key = add_service(&app, "wiki").await;
    let token = app.new_user("AzureDiamond").await;
    let sessions = app.get(Method::GET, "/api/user/tokens", &token, None).await;
    let answer = told(&app, &key, &token).await;
    let sub = answer["sub"].as_str().unwrap().to_owned();
    assert!(sub.len() == 32 && sub.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)), "{sub}");
    assert_eq!(
        answer,
        json!({
            "active": true, "sub": sub, "username": "AzureDiamond", "iat": 1_420_411_895, "exp": 1_423_003_895,
            "session": sessions[0]["id"], "groups": ["users"], "amr": ["pwd"], "auth_time": 1_420_411_895,
            "email_verified": false,
        })
    );
    app.clock.advance(Duration::from_secs(10));
    let (second, _) = session_of(app.log_in("azurediamond", "hunter2").await).await;
    let answer = told(&app, &key, &second).await;
    assert_eq!((&answer["sub"], &answer["iat"]), (&json!(sub), &json!(1_420_411_905)), "the account keeps its id");
    let other = app.new_user("other").await;
    assert_ne!(told(&app, &key, &other).await["sub"], json!(sub));
    app.make_staff("AzureDiamond");
    app.make_superuser("AzureDiamond");
    assert_eq!(told(&app, &key, &token).await["groups"], json!(["users", "staff", "superusers"]));
}

#[tokio::test]
async fn a_person_who_has_shown_once_more_who_they_are_has_a_later_auth_time() {
    let app = TestApp::spawn();
    let key = add_service(&app, "wiki").await;
    let token = app.new_user("AzureDiamond").await;
    assert_eq!(told(&app, &key, &token).await["auth_time"], 1_420_411_895);
    app.clock.advance(Duration::from_secs(60));
    app.get(Method::POST, "/api/user/reauthenticate", &token, Some(&json!({"password": "hunter2"}))).await;
    let answer = told(&app, &key, &token).await;
    assert_eq!((&answer["auth_time"], &answer["iat"]), (&json!(1_420_411_955), &json!(1_420_411_895)));
}

#[tokio::test]
async fn a_login_by_a_password_and_a_code_is_by_two_factors_in_one_step_and_in_two() {
    let app = TestApp::spawn();
    let key = add_service(&app, "wiki").await;
    let owner = app.new_user("AzureDiamond").await;
    app.get(Method::POST, "/api/user/reauthenticate", &owner, Some(&json!({"password": "hunter2"}))).await;
    let theirs = set_up_fresh(&app, &owner).await;
    let both = json!(["pwd", "otp", "mfa"]);
    let login = json!({"username": "AzureDiamond", "password": "hunter2", "code": theirs.code(&app, 0)});
    let (in_one, _) = session_of(app.post("/api/login", &login).await).await;
    assert_eq!(told(&app, &key, &in_one).await["amr"], both);
    app.clock.advance(Duration::from_secs(30));
    let waits = due(app.log_in("AzureDiamond", "hunter2").await).await;
    let second = json!({"token": waits["token"], "code": theirs.code(&app, 0)});
    let (in_two, _) = session_of(app.post("/api/login/second", &second).await).await;
    assert_eq!(told(&app, &key, &in_two).await["amr"], both);
}

#[tokio::test]
async fn a_session_that_never_ends_has_no_exp() {
    let app = TestApp::spawn_with(|config| (config.tokens.lifetime, config.tokens.idle_timeout) = (None, None));
    let key = add_service(&app, "wiki").await;
    let token = app.new_user("AzureDiamond").await;
    assert!(told(&app, &key, &token).await.get("exp").is_none());
}

#[tokio::test]
async fn of_a_token_that_is_worth_nothing_a_service_is_told_nothing_whatever_the_reason() {
    let app = TestApp::spawn();
    let key = add_service(&app, "wiki").await;
    let expired = app.new_user("expired").await;
    app.store.change_sessions(&|session| session.last_used -= 31 * 86_400_000);
    let ended = app.new_user("ended").await;
    assert_eq!(told(&app, &key, &ended).await["active"], true);
    app.log_out(&ended).await;
    let deactivated = app.new_user("deactivated").await;
    assert_eq!(told(&app, &key, &deactivated).await["active"], true);
    app.deactivate("deactivated");
    for token in [&expired, &ended, &deactivated, UNKNOWN_TOKEN, "", "x", "a%20b", &"f".repeat(300)] {
        assert_inactive(&app, &key, token).await;
    }
}

#[tokio::test]
async fn the_form_is_read_strictly_and_a_hint_is_ignored() {
    let app = TestApp::spawn();
    let key = add_service(&app, "wiki").await;
    let token = app.new_user("AzureDiamond").await;
    let hinted = ask(&app, &key, &format!("token_type_hint=refresh_token&token={token}&resource=x")).await;
    assert_eq!(hinted.json::<Value>().await.unwrap()["active"], true);
    for form in ["", "token_type_hint=x", &format!("token={token}&token={token}"), "token", "token=%zz"] {
        error_of(ask(&app, &key, form).await, 400).await;
    }
    let json = app.client.post(app.url(PATH)).basic_auth("wiki", Some(&key)).json(&json!({"token": token}));
    error_of(json.send().await.unwrap(), 415).await;
    error_of(ask(&app, &key, &format!("token={}", "x".repeat(20_000))).await, 413).await;
}

#[tokio::test]
async fn a_caller_that_is_no_service_is_refused_before_its_body_is_read() {
    let app = TestApp::spawn_with(|config| config.rate_limit.enabled = false);
    let key = add_service(&app, "wiki").await;
    let token = app.new_user("AzureDiamond").await;
    let request = || app.client.post(app.url(PATH)).body("not a form");
    for request in [
        request(),
        request().basic_auth("wiki", Some(UNKNOWN_TOKEN)),
        request().basic_auth("wiki", Some(key.to_uppercase())),
        request().basic_auth("other", Some(&key)),
        request().basic_auth("Wiki", Some(&key)),
        request().header("Authorization", format!("Token {token}")),
        request().header("Authorization", format!("Bearer {key}")),
    ] {
        let response = request.send().await.unwrap();
        assert_eq!(response.headers()["www-authenticate"], "Basic realm=\"authtokens\"");
        error_of(response, 401).await;
    }
    // The body never comes.
    let refused = app.raw(format!("POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n"));
    assert_eq!((refused.status(), refused.header("access-control-allow-origin")), (401, None));
}

#[tokio::test]
async fn no_page_of_any_origin_may_read_it() {
    let app = TestApp::spawn();
    let key = add_service(&app, "wiki").await;
    let token = app.new_user("AzureDiamond").await;
    let preflight = app.client.request(Method::OPTIONS, app.url(PATH)).header("Origin", "https://evil.example");
    let preflight = preflight.header("Access-Control-Request-Method", "POST").send().await.unwrap();
    let asked = app.client.post(app.url(PATH)).basic_auth("wiki", Some(&key)).header("Origin", "https://evil.example");
    let asked = asked
        .header("Content-Type", "application/x-www-form-urlencoded")
        .body(format!("token={token}"))
        .send()
        .await
        .unwrap();
    assert_eq!(asked.status(), 200);
    for response in [preflight, asked] {
        let of_cors = |name: &&str| name.starts_with("access-control-");
        assert_eq!(response.headers().keys().map(HeaderName::as_str).find(of_cors), None);
        assert_eq!(response.headers()["x-content-type-options"], "nosniff");
    }
}

#[tokio::test]
async fn a_service_may_ask_so_often_and_who_has_a_wrong_key_as_often_as_an_address_may_log_in() {
    let app = TestApp::spawn_with(|config| {
        config.rate_limit.enabled = true;
        config.rate_limit.introspect = Rate { count: 3, period: Duration::from_secs(60) };
        config.rate_limit.login = Rate { count: 2, period: Duration::from_secs(60) };
    });
    let (key, other) = (add_service(&app, "wiki").await, add_service(&app, "git").await);
    for _ in 0..3 {
        assert_inactive(&app, &key, UNKNOWN_TOKEN).await;
    }
    let response = ask(&app, &key, "token=x").await;
    assert_eq!(response.headers()["retry-after"], "20");
    error_of(response, 429).await;
    let others = app
        .client
        .post(app.url(PATH))
        .basic_auth("git", Some(&other))
        .header("Content-Type", "application/x-www-form-urlencoded")
        .body(format!("token={}", "x"));
    assert_eq!(others.send().await.unwrap().status(), 200, "each has a limit of its own");
    for expected in [401, 401, 429] {
        error_of(ask(&app, UNKNOWN_TOKEN, "token=x").await, expected).await;
    }
    app.clock.advance(Duration::from_secs(20));
    assert_inactive(&app, &key, UNKNOWN_TOKEN).await;
}

#[tokio::test]
async fn a_revoked_services_key_is_worth_nothing_at_once() {
    let app = TestApp::spawn();
    let key = add_service(&app, "wiki").await;
    assert_inactive(&app, &key, UNKNOWN_TOKEN).await;
    revoke_service(&app, "wiki").await;
    error_of(ask(&app, &key, "token=x").await, 401).await;
    let new = add_service(&app, "wiki").await;
    assert_inactive(&app, &new, UNKNOWN_TOKEN).await;
    error_of(ask(&app, &key, "token=x").await, 401).await;
    assert_eq!((app.count_events("service_added"), app.count_events("service_revoked")), (2, 1));
    assert!(!app.store.contains(key.as_bytes()) && !app.store.contains(new.as_bytes()), "no key is stored");
}

#[tokio::test]
async fn when_a_service_was_last_used_is_stored_by_the_way() {
    let app = TestApp::spawn();
    let key = add_service(&app, "wiki").await;
    let last_used = async || {
        let services = app.store.open_beside().list_services(&Actor::CommandLine).await.unwrap();
        services[0].last_used.map(|at| at.to_string())
    };
    assert_eq!(last_used().await, None);
    assert_inactive(&app, &key, UNKNOWN_TOKEN).await;
    for _ in 0..200 {
        if last_used().await.is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(last_used().await.as_deref(), Some("2015-01-04T22:51:35.144Z"));
    until("a key is nowhere in the store", || !app.store.contains(key.as_bytes())).await;
}
