//! The OpenAPI document and the pages that show it.

use std::collections::BTreeSet;

use authtokens::routes::PATHS;
use serde_json::Value;

use crate::helpers::TestApp;

/// What is in the route table and is no call of the API: the documentation itself.
const NOT_CALLS: [&str; 3] = ["/api/openapi.json", "/docs", "/docs/{file}"];

async fn document(app: &TestApp) -> Value {
    app.client.get(app.url("/api/openapi.json")).send().await.unwrap().json().await.unwrap()
}

#[tokio::test]
async fn the_route_table_and_the_document_tell_of_the_same_calls() {
    let app = TestApp::spawn();
    let document = document(&app).await;
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1."), "{}", document["openapi"]);
    let mut documented = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys() {
            documented.insert(format!("{} {path}", method.to_uppercase()));
        }
    }
    let routed: BTreeSet<String> = PATHS
        .into_iter()
        .filter(|(path, _)| !NOT_CALLS.contains(path))
        .flat_map(|(path, allow)| allow.split(", ").map(move |method| format!("{method} {path}")))
        .filter(|call| !call.starts_with("HEAD "))
        .collect();
    assert_eq!(documented, routed);
}

#[tokio::test]
async fn every_call_is_documented_with_its_answers_and_whether_it_needs_a_token() {
    let app = TestApp::spawn();
    let document = document(&app).await;
    let mut names = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let call = format!("{method} {path}");
            assert!(operation["summary"].as_str().unwrap().len() > 5, "{call}");
            assert!(names.insert(operation["operationId"].to_string()), "{call}: a name of its own");
            if operation["requestBody"].is_object() {
                for status in ["400", "408", "413", "415", "503"] {
                    assert!(operation["responses"][status].is_object(), "{call} {status}");
                }
            }
            let answers = operation["responses"].as_object().unwrap();
            assert!(answers.keys().any(|status| status.starts_with('2')), "{call}");
            let is_open = !path.starts_with("/api/") || ["/api/register", "/api/login"].contains(&path.as_str());
            assert_eq!(operation["security"].is_array(), !is_open, "{call}");
            assert!(is_open || answers.contains_key("401"), "{call}");
        }
    }
    assert_eq!(document["components"]["securitySchemes"]["Token"]["scheme"], "bearer");
}

#[tokio::test]
async fn a_name_that_cannot_be_deleted_by_a_client_is_documented() {
    let app = TestApp::spawn();
    let document = document(&app).await;
    let answers = &document["paths"]["/api/users/{username}"]["delete"]["responses"];
    assert!(answers["400"]["description"].as_str().unwrap().contains("`tokens`"), "{answers}");
}

#[tokio::test]
async fn the_examples_are_the_sources() {
    let app = TestApp::spawn();
    let text = document(&app).await.to_string();
    for example in ["AzureDiamond", "hunter2", "d96163b8bc9127d8c5d5839018580123c64a324b", "123 N Main St.", "60647"] {
        assert!(text.contains(example), "{example}");
    }
}

#[test]
fn the_committed_document_is_the_one_that_is_served() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/openapi.json");
    let served = authtokens::routes::document().to_pretty_json().unwrap() + "\n";
    if std::env::var_os("UPDATE_OPENAPI").is_some() {
        std::fs::write(path, &served).unwrap();
    }
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    assert!(committed == served, "docs/openapi.json is stale: run UPDATE_OPENAPI=1 cargo test the_committed_document");
}

#[tokio::test]
async fn the_pages_come_whole_from_the_binary_with_and_without_a_trailing_slash() {
    let app = TestApp::spawn();
    for path in ["/docs", "/docs/"] {
        let response = app.client.get(app.url(path)).send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/html; charset=utf-8");
        let html = response.text().await.unwrap();
        assert!(html.contains("<base href=\"/docs/\">"), "{html}");
        assert!(!html.contains("http://") && !html.contains("https://"), "nothing from elsewhere: {html}");
        let mut files = 0;
        for link in html.split(&['"', '\''][..]).filter(|text| text.starts_with("./")) {
            let file = app.client.get(app.url(&format!("/docs/{}", &link[2..]))).send().await.unwrap();
            assert_eq!(file.status(), 200, "{link}");
            assert_eq!(file.headers()["x-content-type-options"], "nosniff");
            files += 1;
        }
        assert!(files >= 4, "{html}");
    }
    let start = app.client.get(app.url("/docs/swagger-initializer.js")).send().await.unwrap().text().await.unwrap();
    assert!(start.contains("/api/openapi.json"), "{start}");
    for missing in ["/docs/none.js", "/docs/..%2fconfig.toml"] {
        assert_eq!(app.client.get(app.url(missing)).send().await.unwrap().status(), 404, "{missing}");
    }
}
