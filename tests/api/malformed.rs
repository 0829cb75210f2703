//! Malformed requests: each gets its 4xx, and the server goes on.

use std::io::Write as _;
use std::time::Duration;

use reqwest::Method;
use serde_json::json;

use crate::helpers::{JSON, RawResponse, TestApp, UNKNOWN_TOKEN, post_bytes};

/// The sentence and the status of a body that cannot be taken.
fn refuse(app: &TestApp, body: impl AsRef<[u8]>) -> String {
    let mut sentence = String::new();
    for path in ["/api/register", "/api/login"] {
        let response = app.raw(post_bytes(path, JSON, body.as_ref()));
        response.assert_error(400);
        response.json()["error"].as_str().unwrap().clone_into(&mut sentence);
    }
    assert_eq!(app.count("users"), 0);
    sentence
}

#[test]
fn a_body_that_is_not_one_json_object_with_each_key_once_is_400() {
    let app = TestApp::spawn();
    let not_json = "Invalid Data: the body must be valid JSON in UTF-8";
    let not_an_object = "Invalid Data: the body must be a JSON object";
    let duplicate = "Invalid Data: the body must not have a key twice";
    let deep_arrays = format!(r#"{{"username": "a", "password": "p", "x": {}"#, "[".repeat(10_000));
    let deep_objects = r#"{"a":"#.repeat(3_000);
    for (body, sentence) in [
        ("", not_json),
        (" ", not_json),
        ("{", not_json),
        ("null", not_an_object),
        ("7", not_an_object),
        (r#""AzureDiamond""#, not_an_object),
        (r#"["AzureDiamond", "hunter2"]"#, not_an_object),
        (r#"[{"username": "a", "password": "p"}]"#, not_an_object),
        (r#"{"username": "a", "password": "p"} {}"#, not_json),
        (r#"{"username": "a", "password": "p",}"#, not_json),
        (r"{'username': 'a', 'password': 'p'}", not_json),
        (r#"{"username": "a", "password": "\ud800"}"#, not_json),
        (r#"{"username": "a", "password": "\udc00\ud800"}"#, not_json),
        (r#"{"username": "a", "password": "p", "x": 1e999}"#, not_json),
        (r#"{"username": "a", "password": "p", "x": NaN}"#, not_json),
        ("{\"username\": \"a\", \"password\": \"line\nbreak\"}", not_json),
        (r#"{"username": "a", "password": "p", "password": "q"}"#, duplicate),
        (r#"{"username": "a", "password": "p", "\u0070assword": "q"}"#, duplicate),
        (r#"{"username": "a", "password": "p", "x": {"y": 1, "y": 1}}"#, duplicate),
        ("\u{feff}{}", not_json),
        (&deep_arrays, not_json),
        (&deep_objects, not_json),
    ] {
        assert_eq!(refuse(&app, body), sentence, "{body:.80}");
    }
    assert_eq!(refuse(&app, b"{\"username\": \"a\", \"password\": \"\xff\xfe\"}"), not_json);
    assert_eq!(refuse(&app, b"{\"username\": \"a\", \"password\": \"\xed\xa0\x80\"}"), not_json);
    assert_eq!(refuse(&app, "username=a&password=p"), not_json);
}

#[test]
fn a_nul_in_a_name_is_400_and_in_a_password_is_a_character_like_any_other() {
    let app = TestApp::spawn();
    let name = r#"{"username": "a\u0000b", "password": "p"}"#;
    assert!(refuse(&app, name).starts_with("Invalid Data: username must be"));
    let password = r#"{"username": "a", "password": "p\u0000q"}"#;
    assert_eq!(app.raw(post_bytes("/api/register", JSON, password)).status(), 201);
    let shorter = r#"{"username": "a", "password": "p"}"#;
    assert_eq!(app.raw(post_bytes("/api/login", JSON, shorter)).status(), 401);
}

#[tokio::test]
async fn a_call_with_a_password_takes_16_kib_and_more_where_it_is_configured() {
    let longest = |app: &TestApp| {
        let token = app.raw(post_bytes("/api/login", JSON, r#"{"username": "root", "password": "hunter2"}"#));
        let token = token.json()["token"].as_str().unwrap().to_owned();
        [
            post_bytes("/api/register", JSON, ""),
            post_bytes("/api/login", JSON, ""),
            post_bytes("/api/user/password", JSON, ""),
            post_bytes("/api/user", JSON, ""),
            post_bytes("/api/users/AzureDiamond", JSON, ""),
        ]
        .map(|request| String::from_utf8(request).unwrap())
        .map(|request| {
            let request = request
                .replace("POST /api/user ", "DELETE /api/user ")
                .replace("POST /api/users", "PATCH /api/users")
                .replace("localhost:8000", &format!("x\r\nAuthorization: Token {token}"));
            move |size: usize| {
                let body = format!("{{\"password\": \"{}\"}}", "x".repeat(size - 16));
                assert_eq!(body.len(), size);
                request.replace("Content-Length: 0", &format!("Content-Length: {size}")) + &body
            }
        })
    };
    for (limit, configured) in [(16 * 1024, None), (512 * 1024, Some(bytesize::ByteSize::kib(512)))] {
        let app = TestApp::spawn_with(|config| {
            config.server.password_body_limit = configured.unwrap_or(config.server.password_body_limit);
        });
        app.register("root", "hunter2").await;
        app.register("AzureDiamond", "hunter2").await;
        app.make_superuser("root");
        for request in longest(&app) {
            app.raw(request(limit + 1)).assert_error(413);
            assert_ne!(app.raw(request(limit)).status(), 413);
        }
    }
}

#[tokio::test]
async fn bodies_in_flight_share_a_budget_of_which_long_ones_leave_room_for_logins() {
    let app = TestApp::spawn_with(|config| {
        config.server.body_limit = bytesize::ByteSize::kib(512);
        config.server.body_budget = bytesize::ByteSize::mib(1);
        config.metrics.listen = Some(([127, 0, 0, 1], 0).into());
    });
    let token = app.new_user("AzureDiamond").await;
    let unfinished = || {
        let mut stream = app.connect();
        let head = format!("PUT /api/user/cellar HTTP/1.1\r\nHost: x\r\nAuthorization: Token {token}\r\n{JSON}");
        stream.write_all(format!("{head}Content-Length: 350000\r\n\r\n[{}", "1,".repeat(150_000)).as_bytes()).unwrap();
        stream
    };
    // Two take 600,000 of the 786,432 bytes that long ones may have; a third does not fit.
    let mut held = vec![unfinished(), unfinished()];
    tokio::time::sleep(Duration::from_millis(300)).await;
    let mut third = unfinished();
    let refused = RawResponse::read_from(&mut third);
    refused.assert_error(503);
    assert_eq!(refused.header("Retry-After"), Some("1"));
    let metrics = app.client.get(format!("http://{}/metrics", app.metrics_address.unwrap()));
    let metrics = metrics.send().await.unwrap().text().await.unwrap();
    assert!(metrics.contains("authtokens_rejected_total{reason=\"body_budget\"} 1"), "{metrics}");
    assert_eq!(app.log_in("AzureDiamond", "hunter2").await.status(), 200);
    for stream in &mut held {
        stream.write_all(format!("{}1]", "1,".repeat(24_998)).as_bytes()).unwrap();
        stream.write_all(b" ").unwrap();
    }
    for stream in &mut held {
        assert_eq!(RawResponse::read_from(stream).status(), 200);
    }
    app.get(Method::PUT, "/api/user/cellar", &token, Some(&json!([1]))).await;
}

#[test]
fn a_length_that_could_be_read_in_two_ways_is_400_and_the_connection_closes() {
    let app = TestApp::spawn();
    let body = r#"{"username": "a", "password": "p"}"#;
    let length = body.len();
    for headers in [
        format!("Content-Length: {length}\r\nTransfer-Encoding: chunked"),
        format!("Transfer-Encoding: chunked\r\nContent-Length: {length}"),
        format!("Content-Length: {length}\r\nContent-Length: 5"),
        format!("Content-Length: {length}\r\nContent-Length: {length}"),
        format!("Content-Length: +{length}"),
        "Content-Length: +5".to_owned(),
        "Content-Length: -1".to_owned(),
        "Content-Length: 5, 5".to_owned(),
        "Content-Length: 0x22".to_owned(),
        "Content-Length: 99999999999999999999999".to_owned(),
        "Content-Length: ".to_owned(),
        "Transfer-Encoding: gzip, chunked".to_owned(),
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked".to_owned(),
        "Transfer-Encoding : chunked".to_owned(),
    ] {
        let response = app.raw(format!("POST /api/register HTTP/1.1\r\nHost: a\r\n{JSON}{headers}\r\n\r\n{body}"));
        response.assert_error(400);
        assert_eq!(response.header("Connection"), Some("close"), "{headers}");
    }
    assert_eq!(app.count("users"), 0);
}

#[test]
fn bytes_that_are_not_http_are_400_and_the_connection_closes() {
    let app = TestApp::spawn();
    let tls_hello = [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".as_slice(), &[0x2a; 500]].concat();
    for bytes in [
        tls_hello.as_slice(),
        b"\0\0\0\0\r\n\r\n",
        b"GARBAGE\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nBad Header: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n folded: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n",
        b"GET /\x01 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"POST /api/register HTTP/1.0\r\nContent-Type: application/json\r\n\r\n{}",
    ] {
        let mut stream = app.connect();
        std::io::Write::write_all(&mut stream, bytes).unwrap();
        let response = crate::helpers::RawResponse::read_from(&mut stream);
        response.assert_error(400);
        assert_eq!(response.header("Connection"), Some("close"));
        let mut behind = Vec::new();
        let _ = std::io::Read::read_to_end(&mut stream, &mut behind);
        assert_eq!(behind, b"", "nothing behind the answer");
    }
    assert_eq!(app.raw("GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").status(), 200);
}

#[test]
fn a_head_that_is_too_large_is_431() {
    let app = TestApp::spawn();
    let token = format!("Authorization: Token {UNKNOWN_TOKEN}\r\n");
    for headers in [
        format!("X-Large: {}\r\n", "x".repeat(100_000)),
        format!("X-Larger: {}\r\n", "x".repeat(200_000)),
        "X-Many: x\r\n".repeat(97),
        format!("Authorization: Token {}\r\n", "a".repeat(100_000)),
    ] {
        app.raw(post_bytes("/api/logout", &format!("{headers}{token}"), "")).assert_error(431);
    }
    let long_path = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(40_000));
    app.raw(long_path).assert_error(431);
    let fits = format!("X-Large: {}\r\n{token}", "x".repeat(16_000));
    app.raw(post_bytes("/api/logout", &fits, "")).assert_error(401);
}

#[test]
fn an_answer_before_garbage_stays_whole_and_the_garbage_gets_its_own() {
    let app = TestApp::spawn();
    let mut stream = app.connect();
    std::io::Write::write_all(&mut stream, b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\nGARBAGE\r\n\r\n").unwrap();
    let first = crate::helpers::RawResponse::read_from(&mut stream);
    assert_eq!((first.status(), first.body.as_str()), (200, r#"{"status": "alive"}"#));
    crate::helpers::RawResponse::read_from(&mut stream).assert_error(400);
}
