//! Names that came from another system: longer than the API's, in other scripts, with signs that mean something elsewhere.

use std::time::Duration;

use authtokens::config::Config;
use authtokens::domain::rate::Rate;
use authtokens::domain::user::Username;
use reqwest::Method;
use serde_json::{Value, json};

use crate::helpers::{JSON, TestApp, error_of, post_bytes, session_of, until};
use crate::store::StoredAccount;

/// What means something in paths, queries, HTML, templates, formats of text, shells or SQL.
pub const NASTY: [&str; 15] = [
    "a/b",
    "a/tokens",
    "../users/root",
    "50% & more",
    "%2F",
    "a+b c",
    "?limit=1#top",
    "<b>\"bold\"</b>",
    "{{ code }}{% if a %}",
    "it's; DROP TABLE users --",
    "back\\slash",
    "@d96163b8bc9127d8c5d5839018580",
    "José Ärger",
    "山田 太郎",
    "a@b@c",
];

/// Whether a new account may have it, too.
fn is_new(name: &str) -> bool {
    Username::parse(name).is_ok()
}

/// Makes an account as an import does, with the password `hunter2`.
pub async fn import(app: &TestApp, name: &str, email: &str) {
    if !app.usernames().contains(&"root".to_owned()) {
        app.new_user("root").await;
        app.make_superuser("root");
        app.store.remember_imported_name();
    }
    let password_hash = app.stored_hash("root");
    let account = StoredAccount { password_hash, email: email.to_owned(), ..StoredAccount::named(name.to_owned()) };
    app.store.add_accounts(&[account]);
}

async fn root(app: &TestApp) -> String {
    session_of(app.log_in("root", "hunter2").await).await.0
}

/// A text as one segment of a path.
fn segment(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

fn limits_of_accounts(config: &mut Config) {
    config.rate_limit.enabled = true;
    let plenty = Rate { count: 1_000_000, period: Duration::from_secs(1) };
    (config.rate_limit.login, config.rate_limit.register) = (plenty, plenty);
}

#[tokio::test]
async fn where_no_such_name_was_imported_a_login_with_one_is_400_and_elsewhere_401() {
    let app = TestApp::spawn();
    app.new_user("azure").await;
    let rule = "Invalid Data: username must be 1 to 30 characters of A-Z a-z 0-9 _ @ + . -";
    for name in NASTY.into_iter().filter(|name| !is_new(name)) {
        assert_eq!(error_of(app.log_in(name, "hunter2").await, 400).await, rule, "{name}");
    }
    app.store.remember_imported_name();
    for name in NASTY {
        error_of(app.log_in(name, "hunter2").await, 401).await;
        let response = app.register(name, "hunter2").await;
        assert_eq!(response.status(), if is_new(name) { 201 } else { 400 }, "{name}: none is made");
    }
    let long = "x".repeat(255);
    for no_name in
        ["", " azure", "azure ", "a\tb", "a\0b", "a\u{200b}b", "a\u{a0}b", "Command Line", "a\u{e000}", &long]
    {
        assert_eq!(error_of(app.log_in(no_name, "hunter2").await, 400).await, rule, "{no_name:?}");
    }
}

#[tokio::test]
async fn an_imported_name_logs_in_in_any_case_and_form_and_is_answered_as_it_is() {
    let app = TestApp::spawn();
    let longest = "ẞ".repeat(254);
    for name in NASTY.into_iter().chain([longest.as_str()]) {
        import(&app, name, "").await;
        for typed in [name.to_owned(), name.to_lowercase()] {
            let (token, user) = session_of(app.log_in(&typed, "hunter2").await).await;
            assert_eq!(user["username"], name);
            assert_eq!(app.get(Method::GET, "/api/user", &token, None).await["username"], name);
            assert_eq!(app.get(Method::GET, "/api/user/events", &token, None).await[0]["username"], name);
            let again = json!({"password": "hunter2"});
            let fresh = app.ask(Method::POST, "/api/user/reauthenticate", &token, Some(&again)).await;
            assert_eq!(fresh.status(), 200, "{name}");
        }
    }
    let (_, user) = session_of(app.log_in("JOSE\u{301} a\u{308}RGER", "hunter2").await).await;
    assert_eq!(user["username"], "José Ärger");
    error_of(app.log_in("Jose Arger", "hunter2").await, 401).await;
}

#[tokio::test]
async fn an_unknown_a_wrong_and_an_inactive_imported_name_get_the_same_bytes_and_cost_a_hash_each() {
    let app = TestApp::spawn();
    import(&app, "José <1>", "").await;
    import(&app, "José <2>", "").await;
    app.deactivate("José <2>");
    let answers = [("José <1>", "wrong"), ("José <2>", "hunter2"), ("José <3>", "hunter2")].map(|(name, password)| {
        let body = json!({"username": name, "password": password}).to_string();
        let response = app.raw(post_bytes("/api/login", JSON, body));
        response.assert_error(401);
        let text = String::from_utf8(response.bytes.clone()).unwrap();
        let text = text.replace(response.header("X-Request-Id").unwrap(), "-");
        let text = text.replace(response.header("Date").unwrap(), "-");
        let mut lines: Vec<String> = text.split("\r\n").map(str::to_owned).collect();
        lines.sort_unstable();
        lines
    });
    assert_eq!(answers[0], answers[1]);
    assert_eq!(answers[0], answers[2]);
    // Of the name that nobody has nothing is stored.
    until("the events", || app.count_events("login_failed") == 3).await;
    let events = app.store.events();
    let failed = events.iter().filter(|event| event.kind == "login_failed");
    let mut names: Vec<_> = failed.map(|event| event.username.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["", "José <1>", "José <2>"]);
}

#[tokio::test]
async fn failures_count_at_an_imported_name_in_every_spelling_and_at_one_of_nobody_alike() {
    let app = TestApp::spawn_with(limits_of_accounts);
    import(&app, "José Ärger", "").await;
    for spellings in [["José Ärger", "JOSE\u{301} a\u{308}RGER"], ["Zoë Ärger", "ZOE\u{308} a\u{308}RGER"]] {
        for number in 0..10 {
            error_of(app.log_in(spellings[number % 2], "wrong").await, 401).await;
        }
        for name in spellings {
            let response = app.log_in(name, "hunter2").await;
            assert_eq!(response.headers()["retry-after"], "1", "{name}");
            error_of(response, 429).await;
        }
    }
}

#[tokio::test]
async fn staff_find_change_and_delete_an_account_of_any_imported_name_by_its_path() {
    let app = TestApp::spawn();
    for name in NASTY {
        import(&app, name, "").await;
    }
    import(&app, "a", "").await;
    let root = root(&app).await;
    let mut left = app.usernames().len();
    for name in NASTY {
        let path = format!("/api/users/{}", segment(name));
        assert_eq!(app.get(Method::GET, &path, &root, None).await["username"], name);
        let changed = app.get(Method::PATCH, &path, &root, Some(&json!({"is_staff": true}))).await;
        assert_eq!((&changed["username"], &changed["is_staff"]), (&json!(name), &json!(true)));
        session_of(app.log_in(name, "hunter2").await).await;
        let sessions = app.get(Method::GET, &format!("{path}/tokens"), &root, None).await;
        let id = sessions[0]["id"].as_str().unwrap();
        assert_eq!(app.ask(Method::DELETE, &format!("{path}/tokens/{id}"), &root, None).await.status(), 200);
        assert_eq!(app.ask(Method::DELETE, &format!("{path}/tokens"), &root, None).await.status(), 200);
        assert_eq!(app.ask(Method::DELETE, &path, &root, None).await.status(), 200, "{name}");
        left -= 1;
        assert_eq!(app.usernames().len(), left, "{name} alone is gone");
        assert_eq!(app.ask(Method::GET, &path, &root, None).await.status(), 404, "{name}");
    }
    assert_eq!(app.usernames().iter().filter(|name| ["a", "root"].contains(&name.as_str())).count(), 2);
    for no_name in ["%00", "%0A", "a%20", "%E2%80%8B", "%FF"] {
        let response = app.ask(Method::GET, &format!("/api/users/{no_name}"), &root, None).await;
        assert!([400, 404].contains(&response.status().as_u16()), "{no_name}: {}", response.status());
    }
}

#[tokio::test]
async fn a_list_in_pages_of_one_has_every_imported_name_once_also_those_that_grow_when_they_are_folded() {
    let app = TestApp::spawn();
    let growing = ["İ".repeat(254), "\u{fb2c}".repeat(254)];
    let mut expected: Vec<String> = NASTY.into_iter().map(str::to_owned).chain(growing).collect();
    for name in &expected {
        import(&app, name, "").await;
    }
    let root = root(&app).await;
    expected.push("root".to_owned());
    let mut listed = Vec::new();
    let mut next = Some("/api/users?limit=1".to_owned());
    while let Some(path) = next {
        let response = app.ask(Method::GET, &path, &root, None).await;
        assert_eq!(response.status(), 200, "{path}");
        next = response.headers().get("link").map(|link| {
            link.to_str().unwrap().strip_prefix('<').unwrap().strip_suffix(">; rel=\"next\"").unwrap().to_owned()
        });
        let page: Value = response.json().await.unwrap();
        listed.extend(page.as_array().unwrap().iter().map(|user| user["username"].as_str().unwrap().to_owned()));
        assert!(listed.len() <= expected.len(), "{path} does not end");
    }
    expected.sort_unstable();
    listed.sort_unstable();
    assert_eq!(listed, expected);
    let too_long = format!("/api/users?after={}", "x".repeat(763));
    error_of(app.ask(Method::GET, &too_long, &root, None).await, 400).await;
}

#[tokio::test]
async fn events_are_found_by_an_imported_name_as_it_is() {
    let app = TestApp::spawn();
    for name in NASTY {
        import(&app, name, "").await;
        session_of(app.log_in(name, "hunter2").await).await;
    }
    let root = root(&app).await;
    for name in NASTY.into_iter().filter(|name| *name == name.to_lowercase() || name.is_ascii()) {
        let path = format!("/api/events?username={}", segment(name));
        let events = app.get(Method::GET, &path, &root, None).await;
        assert_eq!((&events[0]["username"], &events[0]["actor"]), (&json!(name), &json!(name)), "{path}");
        assert_eq!(events.as_array().unwrap().len(), 1);
    }
}
