//! Who may do what: every state of a caller against every call of the API.

use std::time::Duration;

use authtokens::routes::PATHS;
use reqwest::Method;
use serde_json::{Value, json};

use crate::helpers::{TestApp, UNKNOWN_TOKEN, error_of, session_of};

/// Every call that needs a session, with a body that it would take.
fn guarded_calls() -> Vec<(Method, String, Option<Value>)> {
    let mut calls = Vec::new();
    for (path, allow) in PATHS {
        let is_open = ["/api/register", "/api/login", "/api/openapi.json"].contains(&path);
        if !path.starts_with("/api/") || is_open {
            continue;
        }
        for method in allow.split(", ").filter(|method| *method != "HEAD") {
            let body = match (method, path) {
                ("PATCH", "/api/user") => Some(json!({"city": "Chicago"})),
                ("DELETE", "/api/user") => Some(json!({"password": "hunter2"})),
                ("POST", "/api/user/password") => {
                    Some(json!({"current_password": "hunter2", "new_password": "hunter3"}))
                }
                ("PUT", "/api/user/cellar" | "/api/user/wants") => Some(json!([1, 2])),
                _ => None,
            };
            let path = path.replace("{id}", "ID").replace("{item_id}", "7");
            calls.push((method.parse().unwrap(), path, body));
        }
    }
    assert_eq!(calls.len(), 17, "every guarded call of the issue's table: {calls:?}");
    calls
}

#[tokio::test]
async fn without_a_live_session_every_guarded_call_is_401_and_does_nothing() {
    let app = TestApp::spawn();
    let expired = app.new_user("expired").await;
    app.sqlite().execute("UPDATE tokens SET last_used = last_used - 31 * 86400000", []).unwrap();
    let revoked = app.new_user("revoked").await;
    app.log_out(&revoked).await;
    let deactivated = app.new_user("deactivated").await;
    app.deactivate("deactivated");
    let live = app.new_user("live").await;
    let id = app.get(Method::GET, "/api/user/tokens", &live, None).await[0]["id"].as_str().unwrap().to_owned();
    let dump = || -> String {
        app.sqlite()
            .query_row(
                "SELECT json_group_array(json_array(username, password_hash, city, modified, is_active, last_login)) \
                 || (SELECT json_group_array(json_array(hex(digest), user_id)) FROM tokens) \
                 || (SELECT count(*) FROM cellar) || (SELECT count(*) FROM wants) FROM users",
                [],
                |row| row.get(0),
            )
            .unwrap()
    };
    let before = dump();
    let states = [
        ("no token", None),
        ("bad token", Some("Token x".to_owned())),
        ("another scheme", Some(format!("Basic {live}"))),
        ("unknown token", Some(format!("Token {UNKNOWN_TOKEN}"))),
        ("expired token", Some(format!("Token {expired}"))),
        ("revoked token", Some(format!("Token {revoked}"))),
        ("token of a deactivated user", Some(format!("Token {deactivated}"))),
    ];
    for (method, path, body) in guarded_calls() {
        for (state, header) in &states {
            let mut request = app.client.request(method.clone(), app.url(&path.replace("ID", &id)));
            if let Some(header) = header {
                request = request.header("Authorization", header);
            }
            if let Some(body) = &body {
                request = request.json(body);
            }
            let response = request.send().await.unwrap();
            assert_eq!(response.status(), 401, "{state}: {method} {path}");
            assert_eq!(response.headers()["www-authenticate"], "Token", "{state}: {method} {path}");
            assert_eq!(error_of(response, 401).await, "A valid token is required.", "{state}: {method} {path}");
            assert_eq!(dump(), before, "{state}: {method} {path}");
        }
    }
}

#[tokio::test]
async fn with_a_live_session_every_guarded_call_does_its_work_on_the_callers_own_account_alone() {
    for (method, path, body) in guarded_calls() {
        let app = TestApp::spawn();
        let token = app.new_user("own").await;
        app.clock.advance(Duration::from_millis(1));
        let (second, _) = session_of(app.log_in("own", "hunter2").await).await;
        let others = app.new_user("other").await;
        app.get(Method::PUT, "/api/user/cellar", &others, Some(&json!([7]))).await;
        let untouched = app.get(Method::GET, "/api/user/export", &others, None).await;

        let foreign = app.get(Method::GET, "/api/user/tokens", &others, None).await[0]["id"].clone();
        if path.contains("ID") {
            let foreign = path.replace("ID", foreign.as_str().unwrap());
            assert_eq!(app.ask(method.clone(), &foreign, &token, None).await.status(), 404, "another user's id");
        }
        let own = app.get(Method::GET, "/api/user/tokens", &second, None).await[1]["id"].clone();
        let path = path.replace("ID", own.as_str().unwrap());
        let response = app.ask(method.clone(), &path, &token, body.as_ref()).await;
        assert_eq!(response.status(), 200, "{method} {path}");

        assert_eq!(app.get(Method::GET, "/api/user/export", &others, None).await, untouched, "{method} {path}");
    }
}

#[tokio::test]
async fn a_deactivated_users_tokens_stop_working_on_their_next_request() {
    let app = TestApp::spawn();
    let token = app.new_user("AzureDiamond").await;
    assert_eq!(app.ask(Method::GET, "/api/user", &token, None).await.status(), 200);
    app.deactivate("AzureDiamond");
    assert_eq!(app.ask(Method::GET, "/api/user", &token, None).await.status(), 401);
}
