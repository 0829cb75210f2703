//! `POST /api/logout`, and how every call reads the token.

use crate::helpers::{TestApp, UNKNOWN_TOKEN, post_bytes, session_of};

#[tokio::test]
async fn a_logout_ends_the_presented_token_only_at_once_and_for_good() {
    let app = TestApp::spawn();
    let (ended, _) = session_of(app.register("AzureDiamond", "hunter2").await).await;
    let (kept, _) = session_of(app.log_in("AzureDiamond", "hunter2").await).await;
    let (others, _) = session_of(app.register("other", "hunter2").await).await;
    assert_eq!(app.log_out(&ended).await.status(), 200);
    for _ in 0..3 {
        assert_eq!(app.log_out(&ended).await.status(), 401);
    }
    assert_eq!(app.log_out(&kept).await.status(), 200);
    assert_eq!(app.log_out(&others).await.status(), 200);
    assert_eq!(app.count("tokens"), 0);
}

#[tokio::test]
async fn of_many_logouts_of_one_token_at_once_one_succeeds() {
    let app = std::sync::Arc::new(TestApp::spawn());
    let (token, _) = session_of(app.register("AzureDiamond", "hunter2").await).await;
    let attempts: Vec<_> = (0..32)
        .map(|_| {
            let (app, token) = (std::sync::Arc::clone(&app), token.clone());
            tokio::spawn(async move { app.log_out(&token).await.status().as_u16() })
        })
        .collect();
    let mut statuses = Vec::new();
    for attempt in attempts {
        statuses.push(attempt.await.unwrap());
    }
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|status| **status == 401).count(), 31, "{statuses:?}");
}

#[tokio::test]
async fn the_token_of_an_inactive_user_stops_working() {
    let app = TestApp::spawn();
    let (token, _) = session_of(app.register("AzureDiamond", "hunter2").await).await;
    app.deactivate("AzureDiamond");
    assert_eq!(app.log_out(&token).await.status(), 401);
}

#[tokio::test]
async fn a_logout_ignores_its_body_and_its_content_type() {
    let app = TestApp::spawn();
    for (headers, body) in [
        ("Content-Type: text/plain;charset=UTF-8\r\n", "hello"),
        ("Content-Type: application/json\r\n", "{not json"),
        ("Content-Encoding: gzip\r\n", "x"),
        ("", ""),
    ] {
        let (token, _) = session_of(app.log_in_or_register().await).await;
        let headers = format!("{headers}Authorization: Token {token}\r\n");
        let response = app.raw(post_bytes("/api/logout", &headers, body));
        assert_eq!(response.status(), 200, "{headers} {response:?}");
        assert_eq!(response.body, r#"{"status": "success"}"#);
    }
    let (token, _) = session_of(app.log_in_or_register().await).await;
    let chunked = format!(
        "POST /api/logout HTTP/1.1\r\nHost: a\r\nAuthorization: Token {token}\r\nTransfer-Encoding: chunked\r\n\r\n\
         5\r\nhello\r\n0\r\n\r\n"
    );
    assert_eq!(app.raw(chunked).status(), 200);
}

#[tokio::test]
async fn a_token_is_read_as_token_or_bearer_from_authorization_or_else_from_authentication() {
    let app = TestApp::spawn();
    for header in [
        "Authorization: Token {}",
        "Authorization: token {}",
        "Authorization: TOKEN {}",
        "Authorization: Bearer {}",
        "authorization: bearer {}",
        "Authentication: Token {}",
        "Authorization: Token {}\r\nAuthorization: Token {}",
    ] {
        let (token, _) = session_of(app.log_in_or_register().await).await;
        let header = header.replace("{}", &token);
        assert_eq!(app.raw(post_bytes("/api/logout", &format!("{header}\r\n"), "")).status(), 200, "{header}");
    }
}

#[tokio::test]
async fn anything_else_is_401_with_www_authenticate_and_ends_no_session() {
    let app = TestApp::spawn();
    let (token, _) = session_of(app.register("AzureDiamond", "hunter2").await).await;
    let upper = token.to_uppercase();
    for header in [
        String::new(),
        "Authorization: \r\n".to_owned(),
        "Authorization: Token\r\n".to_owned(),
        format!("Authorization: {token}\r\n"),
        format!("Authorization: Token {UNKNOWN_TOKEN}\r\n"),
        format!("Authorization: Token {upper}\r\n").replace(&token, "x"),
        format!("Authorization: Token {}\r\n", &token[1..]),
        format!("Authorization: Token {token}0\r\n"),
        format!("Authorization: Token \"{token}\"\r\n"),
        format!("Authorization: Token token={token}\r\n"),
        format!("Authorization: Token\t{token}\r\n"),
        format!("Authorization: Basic {token}\r\n"),
        format!("Authorization: Token {token}, Token {UNKNOWN_TOKEN}\r\n"),
        format!("Authorization: Token {token}\r\nAuthorization: Token {UNKNOWN_TOKEN}\r\n"),
        format!("Authorization: Token {UNKNOWN_TOKEN}\r\nAuthorization: Token {token}\r\n"),
        format!("Authorization: Basic x\r\nAuthentication: Token {token}\r\n"),
        format!("Cookie: token={token}\r\n"),
        "Authorization: Token \u{fc}\r\n".to_owned(),
    ] {
        let response = app.raw(post_bytes("/api/logout", &header, ""));
        response.assert_error(401);
        assert_eq!(response.header("WWW-Authenticate"), Some("Token"), "{header}");
        assert_eq!(response.body, r#"{"error": "A valid token is required."}"#, "{header}");
    }
    assert_eq!(app.log_out(&token).await.status(), 200);
}

#[test]
fn a_request_that_fails_here_is_answered_before_its_body_is_read() {
    let app = TestApp::spawn();
    // The body that is announced never comes, and the answer does not wait for it.
    let response = app
        .raw("POST /api/logout HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\nAuthorization: Token x\r\n\r\n{\"a\"");
    response.assert_error(401);
    assert_eq!(response.header("Connection"), Some("close"), "what follows would be the body");
}

impl TestApp {
    /// Opens a session of the one user that these tests need.
    async fn log_in_or_register(&self) -> crate::helpers::Response {
        let response = self.register("AzureDiamond", "hunter2").await;
        if response.status() == 201 { response } else { self.log_in("AzureDiamond", "hunter2").await }
    }
}
