//! `/api/check`: what a proxy is told of a request.

use std::time::Duration;

use reqwest::{Method, Response};
use serde_json::json;

use crate::helpers::{TestApp, UNKNOWN_TOKEN, error_of, session_of};
use crate::imported_names::import;
use crate::introspection::add_service;

const HEADERS: [&str; 4] = ["remote-user", "remote-id", "remote-groups", "remote-email"];

async fn check(app: &TestApp, query: &str, token: &str) -> Response {
    app.ask(Method::GET, &format!("/api/check{query}"), token, None).await
}

/// The four headers of an answer, each of which is there once, not empty, and printable ASCII.
fn told(response: &Response) -> [String; 4] {
    HEADERS.map(|name| {
        let values: Vec<_> = response.headers().get_all(name).iter().collect();
        assert_eq!(values.len(), 1, "{name}");
        let value = values[0].to_str().unwrap();
        assert!(!value.is_empty() && value.bytes().all(|byte| byte.is_ascii_graphic()), "{name}: {value}");
        value.to_owned()
    })
}

#[tokio::test]
async fn a_live_token_may_pass_and_four_headers_say_whose_it_is() {
    let app = TestApp::spawn();
    let token = app.new_user("AzureDiamond").await;
    let response = check(&app, "", &token).await;
    assert_eq!(response.status(), 200);
    let [user, id, groups, email] = told(&response);
    assert_eq!([user.as_str(), &groups, &email], ["AzureDiamond", "users", "none"]);
    let key = add_service(&app, "wiki").await;
    let asked = app
        .client
        .post(app.url("/api/introspect"))
        .basic_auth("wiki", Some(key))
        .header("Content-Type", "application/x-www-form-urlencoded")
        .body(format!("token={token}"));
    assert_eq!(asked.send().await.unwrap().json::<serde_json::Value>().await.unwrap()["sub"], json!(id));
    app.make_staff("AzureDiamond");
    assert_eq!(told(&check(&app, "", &token).await)[2], "users,staff");
    app.make_superuser("AzureDiamond");
    assert_eq!(told(&check(&app, "", &token).await)[2], "users,staff,superusers");
    app.set("AzureDiamond", |account| account.is_staff = false);
    assert_eq!(told(&check(&app, "", &token).await)[2], "users,superusers");
}

#[tokio::test]
async fn an_address_is_told_where_it_is_verified_and_printable() {
    let app = TestApp::spawn();
    let token = app.new_user("AzureDiamond").await;
    app.get(Method::PATCH, "/api/user", &token, Some(&json!({"email": "azure@diamond.example"}))).await;
    assert_eq!(told(&check(&app, "", &token).await)[3], "none");
    error_of(check(&app, "?verified=1", &token).await, 403).await;
    verify(&app, "AzureDiamond").await;
    assert_eq!(told(&check(&app, "", &token).await)[3], "azure@diamond.example");
    assert_eq!(check(&app, "?verified=1", &token).await.status(), 200);
}

/// As `user verify-email` does it.
async fn verify(app: &TestApp, username: &str) {
    let username = authtokens::domain::user::Username::parse(username).unwrap();
    let store = app.store.open_beside();
    let (actor, now) = (authtokens::domain::rights::Actor::CommandLine, app.clock.now());
    store.verify_account_email(&actor, &username, now).await.unwrap();
}

#[tokio::test]
async fn a_name_that_is_not_printable_ascii_is_percent_encoded() {
    let app = TestApp::spawn();
    import(&app, "Zoë 100%", "").await;
    let (token, _) = session_of(app.log_in("Zoë 100%", "hunter2").await).await;
    let response = check(&app, "", &token).await;
    assert_eq!(told(&response)[0], "Zo%C3%AB%20100%25");
}

#[tokio::test]
async fn a_refusal_is_401_or_403_and_nothing_else() {
    let app = TestApp::spawn_with(|config| {
        config.rate_limit.enabled = true;
        config.rate_limit.login.count = 2;
    });
    let live = app.new_user("live").await;
    let ended = app.new_user("ended").await;
    app.log_out(&ended).await;
    for _ in 0..20 {
        for token in [UNKNOWN_TOKEN, ended.as_str(), "x", "\"", &"f".repeat(300)] {
            let response = check(&app, "?staff=1", token).await;
            assert_eq!(response.headers()["www-authenticate"], "Token");
            error_of(response, 401).await;
        }
    }
    assert_eq!(app.client.get(app.url("/api/check")).send().await.unwrap().status(), 401);
    for query in ["?staff=1", "?staff=1&verified=1", "?staff=0", "?staff=true", "?staff=1&staff=1", "?admin=1", "?%zz"]
    {
        error_of(check(&app, query, &live).await, 403).await;
    }
    app.make_staff("live");
    assert_eq!(check(&app, "?staff=1", &live).await.status(), 200);
    app.deactivate("live");
    error_of(check(&app, "", &live).await, 401).await;
}

#[tokio::test]
async fn the_body_is_ignored_and_head_answers_alike() {
    let app = TestApp::spawn();
    let token = app.new_user("AzureDiamond").await;
    let with_body = format!(
        "GET /api/check HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Length: 4\r\n\r\n{{\"a\""
    );
    let answer = app.raw(with_body);
    assert_eq!((answer.status(), answer.header("remote-user")), (200, Some("AzureDiamond")));
    let head = app.ask(Method::HEAD, "/api/check", &token, None).await;
    assert_eq!(head.status(), 200);
    told(&head);
    // What a client forges is nothing that is looked at.
    let forged = app.client.get(app.url("/api/check")).header("Remote-User", "admin").header("X-Forwarded-Uri", "/");
    assert_eq!(forged.send().await.unwrap().status(), 401);
}

#[tokio::test]
async fn a_use_through_a_proxy_keeps_a_session_alive() {
    let app = TestApp::spawn();
    let token = app.new_user("AzureDiamond").await;
    app.clock.advance(Duration::from_secs(29 * 86_400));
    assert_eq!(check(&app, "", &token).await.status(), 200);
    for _ in 0..200 {
        if app.store.sessions()[0].last_used > app.store.sessions()[0].created {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    app.clock.advance(Duration::from_secs(29 * 86_400));
    assert_eq!(check(&app, "", &token).await.status(), 200);
}
