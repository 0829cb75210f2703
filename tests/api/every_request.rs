//! What holds for every request and response: headers, paths, methods, types, origins.

use authtokens::http::routes::PATHS;
use reqwest::Method;
use reqwest::header::HeaderMap;
use serde_json::{Value, json};

use crate::helpers::{JSON, TestApp, UNKNOWN_TOKEN, assert_sentence, post_bytes, session_of};

/// Every path of the service that answers JSON to pages of other origins, too, with a value for each of its parameters, and its `Allow`.
fn paths() -> impl Iterator<Item = (String, &'static str)> {
    PATHS
        .into_iter()
        .filter(|(path, _)| {
            !["/docs", "/account/", "/dev/", "/api/introspect"].iter().any(|pages| path.starts_with(pages))
        })
        .map(|(path, allow)| {
            let path = path.replace("{id}", "0123456789abcdef").replace("{item_id}", "7");
            (path.replace("{username}", "AzureDiamond").replace("{provider}", "google"), allow)
        })
        .inspect(|(path, _)| assert!(!path.contains('{'), "{path}"))
}

fn assert_common_headers(headers: &HeaderMap) {
    assert_eq!(headers["access-control-allow-origin"], "*");
    assert_eq!(headers["access-control-allow-headers"], "Content-Type, Authorization");
    assert!(!headers.contains_key("access-control-allow-credentials"));
    assert_eq!(headers["x-content-type-options"], "nosniff");
    assert_eq!(headers["cache-control"], "no-store");
    assert_eq!(headers["content-type"], "application/json");
    assert!(!headers["x-request-id"].is_empty());
    for name in headers.keys() {
        assert_eq!(headers.get_all(name).iter().count(), 1, "{name} once");
    }
}

#[tokio::test]
async fn every_response_is_json_with_the_same_headers_whether_or_not_there_is_an_origin() {
    let app = TestApp::spawn();
    for origin in [None, Some("https://app.example.org"), Some("null")] {
        let others = ["/nothing/here", "/api", "/api/", "/api/register/x", "/docs/nothing", "/%2e%2e/etc/passwd"];
        for path in paths().map(|(path, _)| path).chain(others.map(str::to_owned)) {
            for method in
                [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::TRACE]
            {
                let mut request = app.client.request(method.clone(), app.url(&path));
                if let Some(origin) = origin {
                    request = request.header("Origin", origin);
                }
                let response = request.send().await.unwrap();
                assert_common_headers(response.headers());
                let tells_pages_more = response.headers().contains_key("access-control-expose-headers");
                assert_eq!(tells_pages_more, origin.is_some(), "{path}");
                let status = response.status();
                let body = response.text().await.unwrap();
                if method == Method::HEAD {
                    assert_eq!(body, "", "{path}");
                } else if status.is_success() {
                    let body = serde_json::from_str::<Value>(&body).unwrap();
                    assert!(body.is_object() || body.is_array(), "{path}");
                } else {
                    assert_sentence(&serde_json::from_str(&body).unwrap());
                }
            }
        }
    }
}

#[tokio::test]
async fn paths_work_with_and_without_a_trailing_slash_without_a_redirect() {
    let app = TestApp::spawn();
    for (path, _) in paths() {
        let bare = app.client.get(app.url(&path)).send().await.unwrap();
        let slashed = app.client.get(app.url(&format!("{}/", path.trim_end_matches('/')))).send().await.unwrap();
        assert_eq!(bare.status(), slashed.status(), "{path}");
        assert!(bare.url().path() == path && !bare.status().is_redirection(), "{path}");
        assert_eq!(bare.text().await.unwrap(), slashed.text().await.unwrap(), "{path}");
    }
    let credentials = json!({"username": "a", "password": "p"});
    assert_eq!(app.post("/api/register/", &credentials).await.status(), 201);
    assert_eq!(app.post("/api/login/", &credentials).await.status(), 200);
    assert_eq!(app.post("/api/login", &credentials).await.status(), 200);
}

#[tokio::test]
async fn a_method_that_a_path_does_not_have_is_405_with_allow() {
    let app = TestApp::spawn();
    for (path, allow) in paths() {
        for method in
            [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::TRACE]
        {
            let response = app.client.request(method.clone(), app.url(&path)).send().await.unwrap();
            if allow.split(", ").any(|allowed| allowed == method.as_str()) {
                assert_ne!(response.status(), 405, "{method} {path}");
            } else {
                assert_eq!(response.status(), 405, "{method} {path}");
                assert_eq!(response.headers()["allow"], allow, "{method} {path}");
            }
        }
        let options = app.client.request(Method::OPTIONS, app.url(&path)).send().await.unwrap();
        assert_eq!((options.status().as_u16(), &options.headers()["allow"]), (204, &allow.parse().unwrap()), "{path}");
    }
    assert_eq!(app.client.get(app.url("/nothing")).send().await.unwrap().status(), 404);
}

#[tokio::test]
async fn a_preflight_is_answered_for_every_path_with_methods_and_a_max_age() {
    let app = TestApp::spawn();
    for path in paths().map(|(path, _)| path).chain(["/api/login/", "/api/to/come", "/nothing"].map(str::to_owned)) {
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE"] {
            let response = app
                .client
                .request(Method::OPTIONS, app.url(&path))
                .header("Origin", "https://app.example.org")
                .header("Access-Control-Request-Method", method)
                .header("Access-Control-Request-Headers", "authorization, content-type, x-other")
                .send()
                .await
                .unwrap();
            assert_eq!(response.status(), 200, "{path}");
            assert_common_headers(response.headers());
            let methods = response.headers()["access-control-allow-methods"].to_str().unwrap();
            assert!(methods.split(", ").any(|allowed| allowed == method), "{methods}");
            assert!(response.headers()["access-control-max-age"].to_str().unwrap().parse::<u32>().unwrap() > 0);
        }
    }
}

#[tokio::test]
async fn origins_narrow_the_star_to_those_that_are_listed() {
    let app = TestApp::spawn_with(|config| {
        config.cors.origins = vec!["https://app.example.org".to_owned(), "http://localhost:3000".to_owned()];
    });
    for origin in ["https://app.example.org", "http://localhost:3000"] {
        let response = app.client.get(app.url("/healthz")).header("Origin", origin).send().await.unwrap();
        assert_eq!(response.headers()["access-control-allow-origin"], origin);
        assert!(response.headers()["vary"].to_str().unwrap().contains("Origin"));
    }
    for origin in [None, Some("https://evil.example"), Some("null"), Some("https://app.example.org.evil.example")] {
        let mut request = app.client.get(app.url("/healthz"));
        if let Some(origin) = origin {
            request = request.header("Origin", origin);
        }
        let response = request.send().await.unwrap();
        assert!(!response.headers().contains_key("access-control-allow-origin"), "{origin:?}");
        assert!(!response.headers().contains_key("access-control-allow-credentials"));
        assert_eq!(response.headers()["access-control-allow-headers"], "Content-Type, Authorization");
    }
    let refused = app
        .client
        .request(Method::OPTIONS, app.url("/api/login"))
        .header("Origin", "https://evil.example")
        .header("Access-Control-Request-Method", "POST")
        .send()
        .await
        .unwrap();
    assert!(!refused.headers().contains_key("access-control-allow-origin"));
    assert_sentence(&refused.json().await.unwrap());
}

#[tokio::test]
async fn a_body_of_another_type_is_415_and_a_charset_or_plus_json_is_fine() {
    let app = TestApp::spawn();
    let body = r#"{"username": "nobody", "password": "p"}"#;
    for (headers, status) in [
        ("", 415),
        ("Content-Type: text/plain\r\n", 415),
        ("Content-Type: application/x-www-form-urlencoded\r\n", 415),
        ("Content-Type: multipart/form-data; boundary=json\r\n", 415),
        ("Content-Type: application/jsonp\r\n", 415),
        ("Content-Type: application/json\r\n", 401),
        ("Content-Type: Application/JSON; charset=utf-8\r\n", 401),
        ("Content-Type: application/vnd.api+json\r\n", 401),
        ("Content-Type: application/json\r\nContent-Encoding: identity\r\n", 401),
    ] {
        app.raw(post_bytes("/api/login", headers, body)).assert_error(status);
    }
}

#[tokio::test]
async fn a_compressed_body_is_refused_and_never_inflated() {
    let app = TestApp::spawn();
    // gzip of {"username": "a", "password": "p"}
    let gzip = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\xabV*-N-\xcaK\xccMU\xb2RP\xaa\x04\x00";
    for encoding in ["gzip", "deflate", "br", "zstd", "identity, gzip", "x-unknown"] {
        let headers = format!("{JSON}Content-Encoding: {encoding}\r\n");
        app.raw(post_bytes("/api/register", &headers, gzip)).assert_error(415);
    }
    assert_eq!(app.count("users"), 0);
}

#[tokio::test]
async fn a_body_over_the_limit_is_413_whether_or_not_it_says_its_length() {
    let app = TestApp::spawn_with(|config| config.server.body_limit = bytesize::ByteSize::kib(4));
    let password = "x".repeat(5_000);
    let body = json!({"username": "a", "password": password}).to_string();
    app.raw(post_bytes("/api/register", JSON, &body)).assert_error(413);
    let chunked = format!(
        "POST /api/register HTTP/1.1\r\nHost: a\r\n{JSON}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
        body.len()
    );
    app.raw(chunked).assert_error(413);
    // The body is only announced: the answer does not wait for a body that it will not accept.
    app.raw(format!("POST /api/register HTTP/1.1\r\nHost: a\r\n{JSON}Content-Length: 999999999999\r\n\r\n"))
        .assert_error(413);
    assert_eq!(app.register("a", &"x".repeat(4_000)).await.status(), 201);
}

#[tokio::test]
async fn root_tells_a_person_or_a_program_what_this_is() {
    let app = TestApp::spawn();
    let body: Value = app.client.get(app.url("/")).send().await.unwrap().json().await.unwrap();
    assert_eq!(body["name"], "authtokens");
    assert_eq!(body["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(body["documentation"], "/docs");
    assert_eq!(body["openapi"], "/api/openapi.json");
    for path in ["/api/register", "/api/login", "/api/logout"] {
        assert!(body["calls"].to_string().contains(path), "{path}");
    }
}

#[tokio::test]
async fn healthz_is_200_while_the_process_serves_and_readyz_while_the_store_reads_and_writes() {
    let app = TestApp::spawn_with(|config| config.database.busy_timeout = std::time::Duration::from_millis(50));
    let status = |path: &'static str| {
        let request = app.client.get(app.url(path)).send();
        async move { request.await.unwrap().status().as_u16() }
    };
    let (token, _) = session_of(app.register("AzureDiamond", "hunter2").await).await;

    let lock = app.store.lock();
    let response = app.client.get(app.url("/readyz")).send().await.unwrap();
    assert_eq!(response.status(), 503);
    assert!(response.headers()["retry-after"].to_str().unwrap().parse::<u32>().unwrap() >= 1);
    assert_sentence(&response.json().await.unwrap());
    assert_eq!(status("/healthz").await, 200);
    // Reads go on; a write is refused and has not happened.
    assert_eq!(app.log_out(UNKNOWN_TOKEN).await.status(), 401);
    let refused = app.log_out(&token).await;
    assert_eq!(refused.status(), 503);
    assert!(refused.headers().contains_key("retry-after"));
    drop(lock);

    // Readiness reuses an answer of the store for a second.
    while status("/readyz").await != 200 {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(app.log_out(&token).await.status(), 200);
}
