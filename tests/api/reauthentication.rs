//! Reauthentication: the password given again in a call of its own, and what a fresh session may do without it.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use authtokens::config::Config;
use authtokens::domain::rate::Rate;
use authtokens::system::clock::Timestamp;
use reqwest::Method;
use serde_json::{Value, json};

use crate::helpers::{
    JSON, RawResponse, Response, START_MILLIS, TestApp, UNKNOWN_TOKEN, error_of, post_bytes, session_of, until,
};

const PATH: &str = "/api/user/reauthenticate";

/// The answers of a session that is not fresh.
const PASSWORD_REQUIRED: &str = "Invalid Data: password is required";
const CURRENT_PASSWORD_REQUIRED: &str = "Invalid Data: current_password is required";
const NOT_JSON: &str = "The body must have the Content-Type application/json.";

const MINUTE: Duration = Duration::from_secs(60);

async fn reauthenticate(app: &TestApp, token: &str, password: &str) -> Response {
    app.ask(Method::POST, PATH, token, Some(&json!({"password": password}))).await
}

/// A new user, whose session is fresh.
async fn fresh_user(app: &TestApp) -> String {
    let token = app.new_user("AzureDiamond").await;
    assert_eq!(reauthenticate(app, &token, "hunter2").await.status(), 200);
    token
}

/// Asks for a change that a fresh session may make and that then fails for another reason, so that nothing changes.
async fn is_fresh(app: &TestApp, token: &str) -> bool {
    let empty = json!({"new_password": ""});
    let error = error_of(app.ask(Method::POST, "/api/user/password", token, Some(&empty)).await, 400).await;
    assert!(
        [CURRENT_PASSWORD_REQUIRED, "Invalid Data: new_password must not be empty"].contains(&error.as_str()),
        "{error}"
    );
    error != CURRENT_PASSWORD_REQUIRED
}

async fn delete(app: &TestApp, token: &str, body: Option<&Value>) -> Response {
    app.ask(Method::DELETE, "/api/user", token, body).await
}

fn delete_raw(app: &TestApp, token: &str, headers: &str) -> RawResponse {
    app.raw(format!("DELETE /api/user HTTP/1.1\r\nHost: a\r\nAuthorization: Token {token}\r\n{headers}\r\n"))
}

#[tokio::test]
async fn the_password_given_again_makes_this_session_fresh_and_no_other() {
    let app = TestApp::spawn();
    let token = app.new_user("AzureDiamond").await;
    let (other, _) = session_of(app.log_in("AzureDiamond", "hunter2").await).await;
    let lists = async || {
        let sessions = app.get(Method::GET, "/api/user/tokens", &token, None).await;
        let mut export = app.get(Method::GET, "/api/user/export", &token, None).await;
        export["events"].take();
        (sessions, export, app.get(Method::GET, "/api/user", &token, None).await)
    };
    let before = lists().await;
    let response = reauthenticate(&app, &token, "hunter2").await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.text().await.unwrap(), r#"{"status": "success"}"#);
    assert!(is_fresh(&app, &token).await && !is_fresh(&app, &other).await);
    assert_eq!(lists().await, before, "no list shows it");
    let events = app.get(Method::GET, "/api/user/events?kind=reauthenticated", &token, None).await;
    assert_eq!(events.as_array().unwrap().len(), 1, "{events}");
}

#[tokio::test]
async fn neither_a_registration_nor_a_login_nor_any_use_makes_a_session_fresh() {
    let app = TestApp::spawn();
    let registered = app.new_user("AzureDiamond").await;
    let (logged_in, _) = session_of(app.log_in("AzureDiamond", "hunter2").await).await;
    for token in [&registered, &logged_in] {
        app.get(Method::PUT, "/api/user/cellar/7", token, None).await;
        let wrong = json!({"password": "wrong"});
        assert_eq!(delete(&app, token, Some(&wrong)).await.status(), 400);
        assert_eq!(reauthenticate(&app, token, "wrong").await.status(), 400);
        assert!(!is_fresh(&app, token).await);
        assert_eq!(error_of(delete(&app, token, None).await, 415).await, NOT_JSON);
        assert_eq!(error_of(delete(&app, token, Some(&json!({}))).await, 400).await, PASSWORD_REQUIRED);
    }
    assert_eq!(app.usernames(), ["AzureDiamond"]);
}

#[tokio::test]
async fn a_session_is_fresh_for_ten_minutes_and_anew_with_each_reauthentication() {
    let app = TestApp::spawn();
    let token = fresh_user(&app).await;
    app.clock.advance(MINUTE * 9);
    assert_eq!(reauthenticate(&app, &token, "hunter2").await.status(), 200);
    app.clock.advance(Duration::from_millis(599_999));
    assert!(is_fresh(&app, &token).await);
    app.clock.advance(Duration::from_millis(1));
    assert!(!is_fresh(&app, &token).await);
    assert_eq!(error_of(delete(&app, &token, None).await, 415).await, NOT_JSON);
    let change = json!({"new_password": "hunter3"});
    let refused = app.ask(Method::POST, "/api/user/password", &token, Some(&change)).await;
    assert_eq!(error_of(refused, 400).await, CURRENT_PASSWORD_REQUIRED);
}

#[tokio::test]
async fn freshness_survives_a_restart() {
    let app = TestApp::spawn();
    let token = fresh_user(&app).await;
    let app = app.restart_with(|_| {});
    app.clock.advance(MINUTE * 9);
    assert!(is_fresh(&app, &token).await);
    app.clock.advance(MINUTE);
    assert!(!is_fresh(&app, &token).await);
}

#[tokio::test]
async fn a_session_is_not_fresh_while_the_clock_is_set_back_before_its_reauthentication() {
    let app = TestApp::spawn();
    let token = fresh_user(&app).await;
    app.clock.set(Timestamp::from_millis(START_MILLIS - 1).unwrap());
    assert!(!is_fresh(&app, &token).await);
    assert_eq!(delete(&app, &token, None).await.status(), 415);
}

#[tokio::test]
async fn a_fresh_session_deletes_the_account_without_a_body_and_with_one_that_has_no_password() {
    for headers in ["", "Content-Length: 0\r\n"] {
        let app = TestApp::spawn();
        let token = fresh_user(&app).await;
        let answer = delete_raw(&app, &token, headers);
        assert_eq!((answer.status(), answer.body.as_str()), (200, r#"{"status": "success"}"#), "{headers}");
        assert_eq!(app.count("users") + app.count("tokens"), 0, "{headers}");
        assert_eq!(delete(&app, &token, None).await.status(), 401, "{headers}");
    }
    let app = TestApp::spawn();
    let token = fresh_user(&app).await;
    assert_eq!(delete(&app, &token, Some(&json!({}))).await.status(), 200);
    assert_eq!(app.count("users"), 0);
}

#[tokio::test]
async fn a_body_is_read_as_strictly_in_a_fresh_session_and_a_password_in_it_is_checked() {
    let app = TestApp::spawn();
    let token = fresh_user(&app).await;
    for (body, sentence) in [
        (json!({"password": "hunter3"}), "Invalid Data: password is wrong"),
        (json!({"password": null}), "Invalid Data: password must be a string"),
        (json!({"password": ""}), "Invalid Data: password must not be empty"),
        (json!([]), "Invalid Data: the body must be a JSON object"),
    ] {
        assert_eq!(error_of(delete(&app, &token, Some(&body)).await, 400).await, sentence);
    }
    for (headers, status) in [
        ("Content-Type: application/json\r\n", 400),
        ("Content-Type: application/json\r\nContent-Length: 0\r\n", 400),
        ("Content-Type: text/plain\r\n", 415),
        ("Content-Length: 2\r\n\r\n{}", 415),
        ("Transfer-Encoding: chunked\r\n\r\n0\r\n", 415),
    ] {
        let headers =
            if headers.contains("\r\n\r\n") { headers.to_owned() } else { format!("Connection: close\r\n{headers}") };
        let answer = delete_raw(&app, &token, &headers);
        answer.assert_error(status);
    }
    for (body, sentence) in [
        (json!({}), "Invalid Data: new_password is required"),
        (json!({"new_password": null}), "Invalid Data: new_password must be a string"),
        (
            json!({"current_password": null, "new_password": "hunter3"}),
            "Invalid Data: current_password must be a string",
        ),
        (json!({"current_password": ""}), "Invalid Data: new_password is required"),
        (json!({"current_password": "", "new_password": "a"}), "Invalid Data: current_password must not be empty"),
        (json!({"current_password": "wrong", "new_password": "hunter3"}), "Invalid Data: current_password is wrong"),
    ] {
        let response = app.ask(Method::POST, "/api/user/password", &token, Some(&body)).await;
        assert_eq!(error_of(response, 400).await, sentence, "{body}");
    }
    assert_eq!(app.log_in("AzureDiamond", "hunter2").await.status(), 200, "nothing happened");
}

#[tokio::test]
async fn a_fresh_session_changes_the_password_stays_and_is_not_fresh_any_more() {
    let app = TestApp::spawn_with(|config| config.password.min_length = 7);
    let token = fresh_user(&app).await;
    let (other, _) = session_of(app.log_in("AzureDiamond", "hunter2").await).await;
    let change = async |new: &str| {
        app.ask(Method::POST, "/api/user/password", &token, Some(&json!({"new_password": new}))).await
    };
    let short = "Invalid Data: new_password must be at least 7 characters";
    assert_eq!(error_of(change("short").await, 400).await, short);
    let changed = change("hunter3").await;
    assert_eq!(changed.text().await.unwrap(), r#"{"status": "success"}"#);
    assert_eq!(app.ask(Method::GET, "/api/user", &other, None).await.status(), 401);
    assert_eq!(app.ask(Method::GET, "/api/user", &token, None).await.status(), 200);
    for new in ["hunter4", "short"] {
        assert_eq!(
            error_of(change(new).await, 400).await,
            CURRENT_PASSWORD_REQUIRED,
            "before the new one is looked at"
        );
    }
    assert_eq!(delete(&app, &token, None).await.status(), 415);
    assert_eq!(app.log_in("AzureDiamond", "hunter2").await.status(), 401);
    assert_eq!(app.log_in("AzureDiamond", "hunter3").await.status(), 200);
    assert_eq!(reauthenticate(&app, &token, "hunter2").await.status(), 400);
    assert_eq!(reauthenticate(&app, &token, "hunter3").await.status(), 200);
    assert!(is_fresh(&app, &token).await);
}

#[tokio::test]
async fn freshness_ends_with_a_password_that_its_owner_gives_or_staff_set_and_with_the_session() {
    let app = TestApp::spawn();
    let token = fresh_user(&app).await;
    let change = json!({"current_password": "hunter2", "new_password": "hunter3"});
    app.get(Method::POST, "/api/user/password", &token, Some(&change)).await;
    assert!(!is_fresh(&app, &token).await);

    assert_eq!(reauthenticate(&app, &token, "hunter3").await.status(), 200);
    let root = app.new_user("Root").await;
    app.make_superuser("Root");
    app.get(Method::PATCH, "/api/users/AzureDiamond", &root, Some(&json!({"password": "hunter4"}))).await;
    assert_eq!(delete(&app, &token, None).await.status(), 401);

    let (token, _) = session_of(app.log_in("AzureDiamond", "hunter4").await).await;
    assert_eq!(reauthenticate(&app, &token, "hunter4").await.status(), 200);
    assert_eq!(app.log_out(&token).await.status(), 200);
    assert_eq!(delete(&app, &token, None).await.status(), 401);
    let (next, _) = session_of(app.log_in("AzureDiamond", "hunter4").await).await;
    assert!(!is_fresh(&app, &next).await, "nor is the next one");
    assert_eq!(app.count("users"), 2);
}

#[tokio::test]
async fn the_last_superuser_is_kept_from_a_fresh_session_too() {
    let app = TestApp::spawn();
    let token = fresh_user(&app).await;
    app.make_superuser("AzureDiamond");
    error_of(delete(&app, &token, None).await, 409).await;
    assert!(is_fresh(&app, &token).await);
}

#[tokio::test]
async fn a_reauthentication_is_401_before_its_body_is_read_and_400_for_what_is_no_password() {
    let app = TestApp::spawn();
    let token = app.new_user("AzureDiamond").await;
    for wrong in ["", &format!("Authorization: Token {UNKNOWN_TOKEN}\r\n")] {
        // No byte of the body ever comes.
        let head = format!("POST {PATH} HTTP/1.1\r\nHost: a\r\n{JSON}{wrong}Content-Length: 100\r\n\r\n");
        app.raw(head).assert_error(401);
    }
    let authorization = format!("Authorization: Token {token}\r\n");
    let ask = |headers: &str, body: &str| app.raw(post_bytes(PATH, &format!("{headers}{authorization}"), body));
    for (body, sentence) in [
        ("", "the body must be valid JSON in UTF-8"),
        ("[]", "the body must be a JSON object"),
        ("{}", "password is required"),
        (r#"{"password": 1}"#, "password must be a string"),
        (r#"{"password": null}"#, "password must be a string"),
        (r#"{"password": ""}"#, "password must not be empty"),
        (r#"{"password": "hunter2", "password": "hunter2"}"#, "the body must not have a key twice"),
        (r#"{"password": "Hunter2"}"#, "password is wrong"),
    ] {
        let answer = ask(JSON, body);
        answer.assert_error(400);
        assert_eq!(answer.json()["error"], format!("Invalid Data: {sentence}"));
    }
    ask("", r#"{"password": "hunter2"}"#).assert_error(415);
    ask(JSON, &json!({"password": "x".repeat(16 * 1024)}).to_string()).assert_error(413);
    assert!(!is_fresh(&app, &token).await);
    until("storing", || app.count_events("reauthentication_failed") == 1).await;
    assert_eq!(app.count_events("reauthenticated"), 0);
}

#[tokio::test]
async fn a_call_that_is_refused_for_want_of_a_fresh_session_costs_an_address_no_attempt_and_one_that_is_made_does() {
    let few = |config: &mut Config| {
        config.rate_limit.enabled = true;
        config.rate_limit.login = Rate { count: 3, period: Duration::from_secs(3_600) };
    };
    let app = TestApp::spawn_with(few);
    let token = app.new_user("AzureDiamond").await;
    for _ in 0..10 {
        assert_eq!(delete(&app, &token, None).await.status(), 415);
        assert!(!is_fresh(&app, &token).await);
    }
    assert_eq!(reauthenticate(&app, &token, "hunter2").await.status(), 200);
    let change = json!({"new_password": "hunter3"});
    assert_eq!(app.ask(Method::POST, "/api/user/password", &token, Some(&change)).await.status(), 200);
    assert_eq!(reauthenticate(&app, &token, "hunter3").await.status(), 200);
    assert_eq!(delete(&app, &token, None).await.status(), 429);
}

#[tokio::test]
async fn a_reauthentication_that_finds_the_hashing_queue_full_is_503() {
    let app = TestApp::spawn_with(|config| {
        config.password.hash_threads = NonZeroUsize::MIN;
        config.password.hash_queue = 1;
        config.password.bcrypt_cost = 12;
    });
    let token = app.new_user("AzureDiamond").await;
    let app = Arc::new(app);
    let asked: Vec<_> = (0..8)
        .map(|_| {
            let (app, token) = (Arc::clone(&app), token.clone());
            tokio::spawn(async move { reauthenticate(&app, &token, "hunter2").await })
        })
        .collect();
    let mut statuses = std::collections::BTreeSet::new();
    for response in asked {
        let response = response.await.unwrap();
        statuses.insert(response.status().as_u16());
        if response.status() == 503 {
            assert!(response.headers().contains_key("retry-after"));
            error_of(response, 503).await;
        }
    }
    assert_eq!(statuses, [200, 503].into());
}

#[tokio::test]
async fn a_reauthentication_and_a_password_changed_in_a_fresh_session_reset_the_accounts_failures() {
    let app = TestApp::spawn_with(|config| {
        config.rate_limit.enabled = true;
        config.rate_limit.login = Rate { count: 1_000_000, period: Duration::from_secs(1) };
    });
    let token = fresh_user(&app).await;
    let lock_out = async || while app.log_in("AzureDiamond", "wrong").await.status() != 429 {};
    lock_out().await;
    let changed = json!({"new_password": "changed"});
    assert_eq!(app.ask(Method::POST, "/api/user/password", &token, Some(&changed)).await.status(), 200);
    assert_eq!(app.log_in("AzureDiamond", "changed").await.status(), 200);
    lock_out().await;
    assert_eq!(reauthenticate(&app, &token, "changed").await.status(), 200);
    assert_eq!(app.log_in("AzureDiamond", "changed").await.status(), 200);
}
