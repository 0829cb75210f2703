//! The API specification's three conversations: its requests as bytes, its answers as it prints them.

use reqwest::Method;
use serde_json::{Value, json};

use crate::helpers::{RawResponse, TestApp};

/// The specification's request to register, byte for byte except for the length that it leaves out.
fn credentials_request(path: &str, version: &str) -> String {
    let body = r#"{"username": "AzureDiamond", "password":"hunter2"}"#;
    format!(
        "POST {path} {version}\r\nHost: localhost:8000\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n\
         {body}",
        body.len()
    )
}

/// The specification's request to log out.
fn logout_request(token: &str, version: &str) -> String {
    format!(
        "POST /api/logout/ {version}\r\nHost: localhost:8000\r\nContent-Length: 0\r\nAuthorization: Token {token}\r\n\
         Content-Type: text/plain;charset=UTF-8\r\n\r\n"
    )
}

/// The status line and the three headers that the specification prints above every answer, with its own spelling.
fn assert_head(response: &RawResponse, version: &str, status: &str) {
    assert_eq!(response.status_line, format!("{version} {status}"));
    for (name, value) in [
        ("Access-Control-Allow-Origin", "*"),
        ("Access-Control-Allow-Headers", "Content-Type, Authorization"),
        ("Content-Type", "application/json"),
    ] {
        assert!(response.headers.contains(&(name.to_owned(), value.to_owned())), "{name} in {response:?}");
    }
}

/// `token` and then the eighteen keys of `user`, in the specification's order and with its types.
fn assert_session(response: &RawResponse) -> (String, Value) {
    const KEYS: [&str; 18] = [
        "username",
        "first_name",
        "last_name",
        "email",
        "is_active",
        "is_superuser",
        "is_staff",
        "last_login",
        "cellar",
        "wants",
        "address",
        "address2",
        "city",
        "state",
        "zipcode",
        "created",
        "modified",
        "date_joined",
    ];
    let mut after = response.body.as_str();
    for key in ["token", "user"].iter().chain(&KEYS) {
        let at = after.find(&format!("\"{key}\": ")).unwrap_or_else(|| panic!("{key} in order in {}", response.body));
        after = &after[at..];
    }
    let body = response.json();
    assert_eq!(body.as_object().unwrap().len(), 2);
    let user = &body["user"];
    assert_eq!(user.as_object().unwrap().len(), 18);
    assert_eq!(user["username"], "AzureDiamond");
    assert_eq!([&user["is_active"], &user["is_superuser"], &user["is_staff"]], [true, false, false]);
    for list in ["cellar", "wants"] {
        assert_eq!(user[list], Value::Array(Vec::new()), "{list}");
    }
    for text in ["first_name", "last_name", "email", "address", "address2", "city", "state", "zipcode"] {
        assert_eq!(user[text], "", "{text}");
    }
    for time in ["last_login", "created", "modified", "date_joined"] {
        assert_eq!(user[time], "2015-01-04T22:51:35.144Z", "{time}");
    }
    let token = body["token"].as_str().unwrap().to_owned();
    assert!(token.len() == 40 && token.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')), "{token}");
    (token, user.clone())
}

fn converse(version: &str) {
    let app = TestApp::spawn();

    let registered = app.raw(credentials_request("/api/register/", version));
    assert_head(&registered, version, "201 CREATED");
    let (first_token, registered_user) = assert_session(&registered);

    let refused = app.raw(credentials_request("/api/register/", version));
    assert_head(&refused, version, "400 BAD REQUEST");
    assert_eq!(refused.body, r#"{"error": "Invalid Data: column username is not unique"}"#);

    let logged_in = app.raw(credentials_request("/api/login/", version));
    assert_head(&logged_in, version, "200 OK");
    let (second_token, user) = assert_session(&logged_in);
    assert_ne!(first_token, second_token);
    assert_eq!(user, registered_user);

    for token in [first_token, second_token] {
        let logged_out = app.raw(logout_request(&token, version));
        assert_head(&logged_out, version, "200 OK");
        assert_eq!(logged_out.body, r#"{"status": "success"}"#);
        assert_head(&app.raw(logout_request(&token, version)), version, "401 UNAUTHORIZED");
    }
}

#[test]
fn the_specifications_conversations_are_answered_as_it_prints_them_over_http_1_0() {
    converse("HTTP/1.0");
}

#[test]
fn the_specifications_conversations_are_answered_as_it_prints_them_over_http_1_1() {
    converse("HTTP/1.1");
}

#[tokio::test]
async fn lists_and_texts_are_printed_as_the_specification_prints_them() {
    let app = TestApp::spawn();
    let token = assert_session(&app.raw(credentials_request("/api/register/", "HTTP/1.1"))).0;
    let profile = json!({
        "address": "123 N Main St.", "address2": "#100", "city": "Chicago", "state": "IL", "zipcode": "60647"
    });
    app.get(Method::PATCH, "/api/user", &token, Some(&profile)).await;
    app.get(Method::PUT, "/api/user/cellar", &token, Some(&json!([3, 1, 2]))).await;
    app.get(Method::PUT, "/api/user/wants", &token, Some(&json!([5, 4]))).await;
    let body = app.raw(credentials_request("/api/login/", "HTTP/1.1")).body;
    assert!(
        body.contains(
            r##""cellar": [1, 2, 3], "wants": [4, 5], "address": "123 N Main St.", "address2": "#100", "city": "Chicago", "state": "IL", "zipcode": "60647", "created": "2015-01-04T22:51:35.144Z""##
        ),
        "{body}"
    );
    assert_eq!(app.raw(logout_request(&token, "HTTP/1.1")).body, r#"{"status": "success"}"#);
}
