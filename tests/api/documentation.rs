//! The OpenAPI document and the pages that show it.

use std::collections::BTreeSet;

use authtokens::domain::profile::ProfileField;
use authtokens::http::routes::PATHS;
use reqwest::Method;
use serde_json::{Value, json};

use crate::helpers::{TestApp, UNKNOWN_TOKEN, error_of};

/// The routes that are no calls of the API: the documentation itself.
const NOT_CALLS: [&str; 1] = ["/api/openapi.json"];

/// Beginnings of the paths of pages.
const PAGES: [&str; 3] = ["/docs", "/account/", "/dev/"];

/// The calls that need no session.
const OPEN: [&str; 17] = [
    "/api/register",
    "/api/login",
    "/api/login/second",
    "/api/email/confirm",
    "/api/password/forgot",
    "/api/password/reset",
    "/api/login/mail",
    "/api/login/mail/confirm",
    "/api/login/passkey/options",
    "/api/login/passkey",
    "/api/not-me",
    "/api/login/providers",
    "/api/login/oidc",
    "/api/login/oidc/exchange",
    "/api/login/oidc/{provider}/start",
    "/api/login/oidc/{provider}/callback",
    "/api/apple/notifications",
];

/// The calls with a body of which no example can be taken: what they take is made by the server, or by an app.
const NO_EXAMPLE: [&str; 4] =
    ["/api/login/second", "/api/user/totp", "/api/user/totp/confirm", "/api/user/recovery_codes"];

/// What a call that needs mail answers, and is documented to answer, where none is sent.
const NO_MAIL: &str = "This service sends no mail.";

/// Whether a call needs mail.
pub fn needs_mail(operation: &Value) -> bool {
    operation["responses"]["404"]["content"]["application/json"]["example"]["error"] == NO_MAIL
}

/// Beginnings of the paths of calls that take what an authenticator or a provider has made: they are tried elsewhere.
const MADE_ELSEWHERE: [&str; 7] = [
    "/api/introspect",
    "/api/user/passkeys",
    "/api/login/passkey",
    "/api/user/reauthenticate/passkey",
    "/api/login/oidc",
    "/api/user/identities",
    "/api/apple/",
];

fn is_made_elsewhere(path: &str) -> bool {
    MADE_ELSEWHERE.iter().any(|call| path.starts_with(call))
}

pub async fn document(app: &TestApp) -> Value {
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
        .filter(|(path, _)| !NOT_CALLS.contains(path) && !PAGES.iter().any(|pages| path.starts_with(pages)))
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
            let is_good = |status: &String| status.starts_with('2') || status == "303";
            assert!(answers.keys().any(is_good), "{call}");
            let is_open = !path.starts_with("/api/") || OPEN.contains(&path.as_str());
            assert_eq!(operation["security"].is_array(), !is_open, "{call}");
            assert!(is_open || answers.contains_key("401"), "{call}");
        }
    }
    assert_eq!(document["components"]["securitySchemes"]["Token"]["scheme"], "bearer");
    assert_eq!(document["components"]["securitySchemes"]["Service"]["scheme"], "basic");
}

#[tokio::test]
async fn a_name_that_cannot_be_deleted_by_a_client_is_documented() {
    let app = TestApp::spawn();
    let document = document(&app).await;
    let answers = &document["paths"]["/api/users/{username}"]["delete"]["responses"];
    assert!(answers["400"]["description"].as_str().unwrap().contains("`tokens`"), "{answers}");
}

#[tokio::test]
async fn the_examples_are_the_specifications() {
    let app = TestApp::spawn();
    let text = document(&app).await.to_string();
    for example in ["AzureDiamond", "hunter2", "d96163b8bc9127d8c5d5839018580123c64a324b", "123 N Main St.", "60647"] {
        assert!(text.contains(example), "{example}");
    }
}

#[test]
fn the_committed_document_is_the_one_that_is_served() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/openapi.json");
    let served = authtokens::http::openapi::document().to_pretty_json().unwrap() + "\n";
    if std::env::var_os("UPDATE_OPENAPI").is_some() {
        std::fs::write(path, &served).unwrap();
    }
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    assert!(committed == served, "docs/openapi.json is stale: run UPDATE_OPENAPI=1 cargo test the_committed_document");
}

/// The calls of the document: method, path and description.
pub fn operations(document: &Value) -> Vec<(Method, String, Value)> {
    let mut operations = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
            operations.push((method, path.clone(), operation.clone()));
        }
    }
    operations
}

/// What a page shows as the example of a content: its own, its schema's, or one put together from the schema's parts.
pub fn example_of(document: &Value, content: &Value) -> Value {
    let own = content["examples"].as_object().and_then(|examples| examples.values().next()).map(|one| &one["value"]);
    own.or(content.get("example")).cloned().unwrap_or_else(|| example_of_schema(document, &content["schema"]))
}

fn example_of_schema(document: &Value, schema: &Value) -> Value {
    if let Some(name) = schema["$ref"].as_str() {
        return example_of_schema(document, document.pointer(&name[1..]).unwrap());
    }
    if let Some(example) = schema.get("example").or(schema.get("default")) {
        return example.clone();
    }
    match schema["type"].as_str() {
        Some("object") => schema["properties"]
            .as_object()
            .unwrap()
            .iter()
            .map(|(name, schema)| (name.clone(), example_of_schema(document, schema)))
            .collect(),
        Some("array") => json!([example_of_schema(document, &schema["items"])]),
        Some("boolean") => json!(true),
        Some("integer" | "number") => json!(0),
        _ => json!("string"),
    }
}

/// A server with the account of the examples, its token, and the token of a superuser.
async fn with_the_examples_account() -> (TestApp, String, String) {
    let app = TestApp::spawn();
    let admin = app.new_user("Admin").await;
    let token = app.new_user("AzureDiamond").await;
    app.make_superuser("Admin");
    (app, token, admin)
}

#[tokio::test]
async fn every_example_of_a_body_is_taken_as_it_stands_and_gives_nobody_a_right_or_a_password() {
    let document = document(&TestApp::spawn()).await;
    let mut tried = 0;
    for (method, path, operation) in operations(&document) {
        let content = &operation["requestBody"]["content"]["application/json"];
        if content.is_null() {
            continue;
        }
        let body = example_of(&document, content);
        if needs_mail(&operation) || NO_EXAMPLE.contains(&path.as_str()) || is_made_elsewhere(&path) {
            continue;
        }
        let (app, token, admin) = with_the_examples_account().await;
        if path == "/api/register" {
            let gone = app.ask(Method::DELETE, "/api/users/AzureDiamond", &admin, None).await;
            assert_eq!(gone.status(), 200);
        }
        let is_of_staff = path.starts_with("/api/users");
        let before = app.store.accounts();
        let response = app
            .ask(
                method.clone(),
                &path.replace("{username}", "AzureDiamond"),
                if is_of_staff { &admin } else { &token },
                Some(&body),
            )
            .await;
        assert!(response.status().is_success(), "{method} {path} {body}: {}", response.text().await.unwrap());
        if is_of_staff {
            assert_eq!(app.store.accounts(), before, "{method} {path} {body}");
        }
        tried += 1;
    }
    assert_eq!(tried, 9);
}

#[tokio::test]
async fn a_call_that_needs_mail_is_documented_to_answer_404_where_none_is_sent_and_does_before_its_body_is_read() {
    let (app, token, admin) = with_the_examples_account().await;
    let document = document(&app).await;
    let mut calls = 0;
    for (method, path, _) in operations(&document).into_iter().filter(|(_, _, call)| needs_mail(call)) {
        let token = if path.starts_with("/api/users") { &admin } else { &token };
        let path = path.replace("{username}", "AzureDiamond");
        let before = app.dump();
        let request = app.client.request(method.clone(), app.url(&path)).body("no JSON at all");
        let response = request.header("Authorization", format!("Token {token}")).send().await.unwrap();
        assert_eq!(error_of(response, 404).await, NO_MAIL, "{method} {path}");
        assert_eq!(app.dump(), before, "{method} {path}");
        calls += 1;
    }
    assert_eq!(calls, 13);
}

#[tokio::test]
async fn every_error_is_shown_with_the_sentence_that_is_really_answered() {
    let (app, token, admin) = with_the_examples_account().await;
    let document = document(&app).await;
    let azure = json!({"username": "AzureDiamond", "password": "hunter2"});
    let long = json!({"password": "x".repeat(16 * 1024)});
    let provoked = [
        ("POST /api/register", 400, "/api/register", Some(azure)),
        ("POST /api/login", 400, "/api/login", Some(json!({"username": "AzureDiamond"}))),
        ("POST /api/login", 401, "/api/login", Some(json!({"username": "AzureDiamond", "password": "x"}))),
        ("PATCH /api/user", 400, "/api/user", Some(json!({"username": "x"}))),
        ("DELETE /api/user", 400, "/api/user", Some(json!({"password": "x"}))),
        ("POST /api/user/reauthenticate", 400, "/api/user/reauthenticate", Some(json!({"password": "x"}))),
        (
            "POST /api/user/password",
            400,
            "/api/user/password",
            Some(json!({"current_password": "x", "new_password": "y"})),
        ),
        ("POST /api/login/second", 400, "/api/login/second", Some(json!({"token": UNKNOWN_TOKEN}))),
        ("POST /api/user/totp", 400, "/api/user/totp", None),
        ("POST /api/user/totp/confirm", 400, "/api/user/totp/confirm", Some(json!({"code": "12345"}))),
        ("DELETE /api/user/totp", 400, "/api/user/totp", Some(json!({"code": "123456"}))),
        ("POST /api/user/recovery_codes", 400, "/api/user/recovery_codes", Some(json!({"code": "123456"}))),
        ("PUT /api/user/cellar", 400, "/api/user/cellar", Some(json!([0]))),
        ("PUT /api/user/wants", 400, "/api/user/wants", Some(json!([0]))),
        ("PUT /api/user/cellar/{item_id}", 400, "/api/user/cellar/0", None),
        ("PUT /api/user/wants/{item_id}", 400, "/api/user/wants/0", None),
        ("DELETE /api/user/cellar/{item_id}", 400, "/api/user/cellar/0", None),
        ("DELETE /api/user/wants/{item_id}", 400, "/api/user/wants/0", None),
        ("GET /api/user/events", 400, "/api/user/events?limit=0", None),
        ("GET /api/events", 400, "/api/events?limit=0", None),
        ("GET /api/users", 400, "/api/users?is_active=x", None),
        ("PATCH /api/users/{username}", 400, "/api/users/AzureDiamond", Some(json!({"is_active": "x"}))),
        ("DELETE /api/users/{username}", 400, "/api/users/tokens", None),
        ("POST /api/register", 413, "/api/register", Some(long.clone())),
        ("POST /api/login", 413, "/api/login", Some(long.clone())),
        ("POST /api/user/password", 413, "/api/user/password", Some(long.clone())),
        ("POST /api/user/reauthenticate", 413, "/api/user/reauthenticate", Some(long.clone())),
        ("DELETE /api/user", 413, "/api/user", Some(long.clone())),
        ("PATCH /api/users/{username}", 413, "/api/users/AzureDiamond", Some(long)),
        // Those that are the same for every call.
        ("GET /api/users", 403, "/api/users", None),
        ("GET /api/users/{username}", 404, "/api/users/nobody", None),
    ];
    for (call, status, path, body) in provoked {
        let (method, of) = call.split_once(' ').unwrap();
        let is_of_staff = (path.starts_with("/api/users") || path.starts_with("/api/events")) && status != 403;
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let token = if is_of_staff { &admin } else { &token };
        let response = app.ask(method.clone(), path, token, body.as_ref()).await;
        let documented =
            &document["paths"][of][method.as_str().to_lowercase()]["responses"][status.to_string()]["content"];
        let error = error_of(response, status).await;
        assert_eq!(documented["application/json"]["example"], json!({"error": error}), "{call} {status}");
    }
    let mut own = BTreeSet::new();
    for (method, path, operation) in operations(&document) {
        for (status, answer) in operation["responses"].as_object().unwrap() {
            if status.starts_with(['4', '5']) {
                let sentence = answer["content"]["application/json"]["example"]["error"].as_str();
                assert!(sentence.is_some_and(|text| text.len() > 10), "{method} {path} {status}: {answer}");
                if status == "400" && !needs_mail(&operation) && !is_made_elsewhere(&path) {
                    own.insert(format!("{method} {path}"));
                }
            }
        }
    }
    assert_eq!(own.len(), 22, "each is provoked above: {own:?}");
    let unknown = error_of(app.ask(Method::GET, "/api/user", UNKNOWN_TOKEN, None).await, 401).await;
    let shown = &document["paths"]["/api/user"]["get"]["responses"]["401"]["content"]["application/json"]["example"];
    assert_eq!(shown, &json!({"error": unknown}));
}

#[tokio::test]
async fn the_page_and_its_files_come_whole_from_the_binary_with_and_without_a_trailing_slash() {
    let app = TestApp::spawn();
    for path in ["/docs", "/docs/", "/docs/index.html"] {
        let response = app.client.get(app.url(path)).send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/html; charset=utf-8");
        let html = response.text().await.unwrap();
        assert!(html.contains("<base href=\"/docs/\">"), "{html}");
        assert!(html.contains("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">"), "{html}");
        assert!(!html.contains("http://") && !html.contains("https://"), "nothing from elsewhere: {html}");
        let mut files = 0;
        for link in links(&html) {
            let file = app.client.get(app.url(&link)).send().await.unwrap();
            assert_eq!(file.status(), 200, "{link}");
            assert_eq!(file.headers()["x-content-type-options"], "nosniff");
            files += 1;
        }
        assert_eq!(files, 5, "{html}");
    }
    let start = app.client.get(app.url("/docs/page.js")).send().await.unwrap().text().await.unwrap();
    assert!(start.contains("/api/openapi.json"), "{start}");
    for missing in ["/docs/none.js", "/docs/..%2fconfig.toml", "/docs/page.html"] {
        assert_eq!(app.client.get(app.url(missing)).send().await.unwrap().status(), 404, "{missing}");
    }
}

/// The files that the page asks for.
fn links(html: &str) -> Vec<String> {
    let links = html.split('"').filter_map(|text| text.strip_prefix("./"));
    links.map(|link| format!("/docs/{link}")).collect()
}

#[tokio::test]
async fn a_browser_keeps_the_pages_files_for_a_day_and_asks_of_the_page_whether_it_has_changed() {
    let app = TestApp::spawn();
    let html = app.client.get(app.url("/docs")).send().await.unwrap().text().await.unwrap();
    let mut paths: Vec<(String, &str)> = links(&html).into_iter().map(|link| (link, "public, max-age=86400")).collect();
    assert!(paths.iter().all(|(path, _)| path.contains("?v=")), "{paths:?}");
    paths.push(("/docs".to_owned(), "no-cache"));
    for (path, cache_control) in paths {
        let first = app.client.get(app.url(&path)).send().await.unwrap();
        assert_eq!(first.headers()["cache-control"], cache_control, "{path}");
        let (tag, content_type) = (first.headers()["etag"].clone(), first.headers()["content-type"].clone());
        for (known, status) in [(tag.to_str().unwrap(), 304), ("W/\"other\"", 200), ("\"a\", *", 200), ("*", 304)] {
            let again = app.client.get(app.url(&path)).header("If-None-Match", known).send().await.unwrap();
            assert_eq!(again.status(), status, "{path} {known}");
            for (name, value) in [("etag", &tag), ("content-type", &content_type)] {
                assert_eq!(&again.headers()[name], value, "{path}: a cache takes over what a 304 says");
            }
            assert_eq!(again.headers()["cache-control"], cache_control, "{path}");
        }
    }
    for path in ["/docs/none.js", "/api/openapi.json", "/"] {
        let response = app.client.get(app.url(path)).send().await.unwrap();
        assert_eq!(response.headers()["cache-control"], "no-store", "{path}");
    }
}

#[tokio::test]
async fn the_pages_large_files_are_sent_compressed_to_whoever_takes_that_and_plain_to_others() {
    let app = TestApp::spawn();
    for (file, longest) in [("swagger-ui-bundle.js", 500_000), ("swagger-ui.css", 40_000)] {
        let ask = async |accepted: Option<&str>| {
            let mut request = app.client.get(app.url(&format!("/docs/{file}")));
            if let Some(accepted) = accepted {
                request = request.header("Accept-Encoding", accepted);
            }
            let response = request.send().await.unwrap();
            assert_eq!(response.headers()["vary"], "Accept-Encoding", "{file}");
            let is_gzip = response.headers().get("content-encoding").map(|coding| coding == "gzip");
            (is_gzip, response.bytes().await.unwrap())
        };
        let (coding, plain) = ask(None).await;
        assert_eq!(coding, None);
        for accepted in ["gzip", "br, gzip;q=0.5, identity;q=0.1", "gzip, deflate, br, zstd"] {
            let (coding, gzip) = ask(Some(accepted)).await;
            assert_eq!(coding, Some(true), "{file} {accepted}");
            assert!(gzip.len() < longest && gzip.len() * 3 < plain.len(), "{file}: {}", gzip.len());
            assert_eq!(inflated(&gzip), plain, "{file}");
        }
        for accepted in ["identity", "br", "gzip;q=0"] {
            assert_eq!(ask(Some(accepted)).await, (None, plain.clone()), "{file} {accepted}");
        }
    }
}

/// Decompressed by gzip(1).
fn inflated(gzip: &[u8]) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file.gz");
    std::fs::write(&file, gzip).unwrap();
    std::process::Command::new("gzip").arg("-dc").arg(&file).output().unwrap().stdout
}

#[tokio::test]
async fn a_page_for_browsers_runs_nothing_but_its_own_scripts_and_stands_in_no_frame() {
    let app = TestApp::spawn();
    let header = async |path: &str, name: &str| {
        let response = app.client.get(app.url(path)).send().await.unwrap();
        response.headers().get(name).map(|value| value.to_str().unwrap().to_owned())
    };
    for path in ["/docs", "/docs/page.js", "/docs/none.js"] {
        let policy = header(path, "content-security-policy").await.unwrap();
        for rule in ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'"] {
            assert!(policy.split("; ").any(|given| given == rule), "{path}: {policy}");
        }
        assert_eq!(header(path, "referrer-policy").await.as_deref(), Some("no-referrer"), "{path}");
    }
    for path in ["/", "/api/openapi.json", "/api/user", "/nothing"] {
        assert_eq!(header(path, "content-security-policy").await, None, "{path}");
    }
}

/// The schema of a body, with its reference resolved.
pub fn schema_of<'a>(document: &'a Value, operation: &'a Value) -> Option<&'a Value> {
    let schema = operation["requestBody"]["content"]["application/json"].get("schema")?;
    schema["$ref"].as_str().map_or(Some(schema), |name| document.pointer(&name[1..]))
}

/// Bodies that break this schema, one for each property, each with the beginning of its error.
pub fn refused_bodies(schema: &Value, example: &Value) -> Vec<(Value, String)> {
    let with = |name: &str, value: Value| {
        let mut body = example.clone();
        body[name] = value;
        body
    };
    let mut refused = Vec::new();
    for name in schema["required"].as_array().into_iter().flatten() {
        let name = name.as_str().unwrap();
        let mut body = example.clone();
        body.as_object_mut().unwrap().remove(name);
        refused.push((body, format!("{name} is required")));
    }
    for (name, property) in schema["properties"].as_object().unwrap() {
        if property["readOnly"] == true {
            refused.push((with(name, json!("changed")), format!("{name} ")));
            continue;
        }
        if property["type"] == "array" {
            refused.push((with(name, json!([4711])), format!("{name} cannot be set here")));
            continue;
        }
        refused.push((with(name, json!(null)), format!("{name} must be ")));
        refused.push((with(name, json!([])), format!("{name} must be ")));
        if let Some(most) = property["maxLength"].as_u64() {
            refused
                .push((with(name, json!("a".repeat(usize::try_from(most).unwrap() + 1))), format!("{name} must be ")));
        }
        if property["minLength"] == 1 {
            refused.push((with(name, json!("")), format!("{name} must ")));
        }
    }
    refused
}

#[tokio::test]
async fn a_body_is_taken_within_what_is_documented_of_it_and_refused_beyond() {
    let document = document(&TestApp::spawn()).await;
    let (mut accepted, mut refused) = (0, 0);
    for (method, path, operation) in operations(&document) {
        let Some(schema) = schema_of(&document, &operation).filter(|schema| schema["type"] == "object") else {
            continue;
        };
        if needs_mail(&operation) || is_made_elsewhere(&path) {
            continue;
        }
        let example = example_of(&document, &operation["requestBody"]["content"]["application/json"]);
        let (app, token, admin) = with_the_examples_account().await;
        let token = if path.starts_with("/api/users") { admin } else { token };
        let path = path.replace("{username}", "AzureDiamond");
        for (body, sentence) in refused_bodies(schema, &example) {
            let before = app.dump();
            let response = app.ask(method.clone(), &path, &token, Some(&body)).await;
            let error = error_of(response, 400).await;
            let told =
                error.strip_prefix("Invalid Data: ").unwrap_or_else(|| panic!("{method} {path} {body}: {error}"));
            assert!(told.starts_with(&sentence), "{method} {path} {body}: {error}");
            assert_eq!(app.dump(), before, "{method} {path} {body}");
            refused += 1;
        }
        for (name, property) in schema["properties"].as_object().unwrap() {
            let Some(most) = property["maxLength"].as_u64() else { continue };
            let mut body = example.clone();
            let longest = "a".repeat(usize::try_from(most).unwrap());
            body[name] = json!(if name == "email" { "a@b.example".to_owned() } else { longest.clone() });
            if path == "/api/register" && name != "username" {
                body["username"] = json!(name);
            }
            let status = app.ask(method.clone(), &path, &token, Some(&body)).await.status().as_u16();
            assert_ne!(status, 400, "{method} {path} {body}");
            accepted += 1;
        }
    }
    // Of the profile in two calls each field, and a name; nothing else has a longest text.
    assert_eq!(accepted, 2 * ProfileField::ALL.len() + 1);
    assert!(refused > 60, "{refused}");
}
