//! Who may do what: every state of a caller against every call of the API.

use std::time::Duration;

use authtokens::http::routes::PATHS;
use reqwest::Method;
use serde_json::{Value, json};

use crate::helpers::{TestApp, UNKNOWN_TOKEN, error_of, session_of};

/// A body that a call on the caller's own account would take.
fn own_body(method: &str, path: &str) -> Option<Value> {
    match (method, path) {
        ("PATCH", "/api/user") => Some(json!({"city": "Chicago"})),
        ("POST", "/api/user/email") => Some(json!({"email": "blue@diamond.example", "password": "hunter2"})),
        ("POST", "/api/user/email/confirm") => Some(json!({"code": "123456"})),
        ("DELETE", "/api/user") | ("POST", "/api/user/reauthenticate") => Some(json!({"password": "hunter2"})),
        ("POST", "/api/user/password") => Some(json!({"current_password": "hunter2", "new_password": "hunter3"})),
        ("POST", "/api/user/totp/confirm" | "/api/user/recovery_codes") | ("DELETE", "/api/user/totp") => {
            Some(json!({"code": "123456"}))
        }
        ("PUT", "/api/user/cellar" | "/api/user/wants") => Some(json!([1, 2])),
        ("POST", "/api/user/identities") => Some(json!({"provider": "google", "id_token": "a.b.c"})),
        ("POST", "/api/user/passkeys") | ("PATCH", "/api/user/passkeys/{id}") => Some(json!({"name": "Phone"})),
        _ => None,
    }
}

/// The calls without a session that open one by what somebody else has made, and how they answer where no provider and no
/// passkeys are configured.
const OPEN_BY_OTHERS: [(&str, u16); 8] = [
    ("/api/login/passkey/options", 404),
    ("/api/login/passkey", 404),
    ("/api/login/providers", 200),
    ("/api/login/oidc", 404),
    ("/api/login/oidc/exchange", 400),
    ("/api/login/oidc/{provider}/start", 400),
    ("/api/login/oidc/{provider}/callback", 400),
    ("/api/apple/notifications", 404),
];

fn open_by_others(path: &str) -> Option<u16> {
    OPEN_BY_OTHERS.iter().find(|(call, _)| *call == path).map(|(_, status)| *status)
}

/// The calls without a session that need mail.
const OPEN_BY_MAIL: [&str; 6] = [
    "/api/email/confirm",
    "/api/password/forgot",
    "/api/password/reset",
    "/api/login/mail",
    "/api/login/mail/confirm",
    "/api/not-me",
];

/// The calls with a session that need mail. Where none is sent, they answer 404.
const OWN_BY_MAIL: [&str; 3] = ["/api/user/email", "/api/user/email/confirm", "/api/user/reauthenticate/mail"];

/// How the calls on the ways into an account answer one that has only a password, in a session that is not fresh, where no
/// provider and no passkeys are configured.
fn refusal(method: &str, path: &str) -> Option<u16> {
    match (method, path) {
        (_, "/api/user/totp" | "/api/user/recovery_codes") | ("POST", "/api/user/identities") => Some(400),
        (_, "/api/user/totp/confirm") => Some(409),
        ("POST", "/api/user/passkeys" | "/api/user/passkeys/options" | "/api/user/reauthenticate/passkey")
        | ("PATCH" | "DELETE", "/api/user/passkeys/{id}" | "/api/user/identities/{id}") => Some(404),
        _ => None,
    }
}

/// Every call that needs a session, with a body that it would take.
fn guarded_calls() -> Vec<(Method, &'static str, Option<Value>)> {
    let mut calls = Vec::new();
    for (path, allow) in PATHS {
        let is_open = ["/api/register", "/api/login", "/api/login/second", "/api/introspect", "/api/openapi.json"]
            .contains(&path)
            || OPEN_BY_MAIL.contains(&path)
            || open_by_others(path).is_some();
        let is_for_staff = path.starts_with("/api/users") || path == "/api/events";
        if !path.starts_with("/api/") || is_open || is_for_staff {
            continue;
        }
        for method in allow.split(", ").filter(|method| *method != "HEAD") {
            calls.push((method.parse().unwrap(), path, own_body(method, path)));
        }
    }
    assert_eq!(calls.len(), 39, "every guarded call of the table: {calls:?}");
    calls
}

#[tokio::test]
async fn without_a_live_session_every_guarded_call_is_401_and_does_nothing() {
    let app = TestApp::spawn();
    let expired = app.new_user("expired").await;
    app.store.change_sessions(&|session| session.last_used -= 31 * 86_400_000);
    let revoked = app.new_user("revoked").await;
    app.log_out(&revoked).await;
    let deactivated = app.new_user("deactivated").await;
    app.deactivate("deactivated");
    let live = app.new_user("live").await;
    let id = app.get(Method::GET, "/api/user/tokens", &live, None).await[0]["id"].as_str().unwrap().to_owned();
    let before = app.dump();
    let states = [
        ("no token", None),
        ("bad token", Some("Token x".to_owned())),
        ("another scheme", Some(format!("Basic {live}"))),
        ("unknown token", Some(format!("Token {UNKNOWN_TOKEN}"))),
        ("expired token", Some(format!("Token {expired}"))),
        ("revoked token", Some(format!("Token {revoked}"))),
        ("token of a deactivated user", Some(format!("Token {deactivated}"))),
    ];
    for (method, template, body) in guarded_calls() {
        let path = template.replace("{id}", &id).replace("{item_id}", "7");
        for (state, header) in &states {
            let mut request = app.client.request(method.clone(), app.url(&path));
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
            assert_eq!(app.dump(), before, "{state}: {method} {path}");
        }
    }
}

#[tokio::test]
async fn with_a_live_session_every_guarded_call_does_its_work_on_the_callers_own_account_alone() {
    for (method, template, body) in guarded_calls() {
        let path = template.replace("{item_id}", "7");
        let app = TestApp::spawn();
        let token = app.new_user("own").await;
        app.clock.advance(Duration::from_millis(1));
        let (second, _) = session_of(app.log_in("own", "hunter2").await).await;
        let others = app.new_user("other").await;
        app.get(Method::PUT, "/api/user/cellar", &others, Some(&json!([7]))).await;
        let untouched = app.get(Method::GET, "/api/user/export", &others, None).await;

        let foreign = app.get(Method::GET, "/api/user/tokens", &others, None).await[0]["id"].clone();
        if path.contains("{id}") {
            let foreign = path.replace("{id}", foreign.as_str().unwrap());
            assert_eq!(
                app.ask(method.clone(), &foreign, &token, body.as_ref()).await.status(),
                404,
                "another user's id"
            );
        }
        let own = app.get(Method::GET, "/api/user/tokens", &second, None).await[1]["id"].clone();
        let path = path.replace("{id}", own.as_str().unwrap());
        let response = app.ask(method.clone(), &path, &token, body.as_ref()).await;
        let expected =
            if OWN_BY_MAIL.contains(&path.as_str()) { 404 } else { refusal(method.as_str(), template).unwrap_or(200) };
        assert_eq!(response.status(), expected, "{method} {path}");

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

/// Who may make a call, and on whose account.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    /// Whoever likes; it is answered so.
    Open(u16),
    /// Anybody with a session, on their own account.
    Own,
    /// Anybody with a session; it is refused so.
    Refused(u16),
    /// Anybody with a session; it is 404, because no mail is sent.
    NoMail,
    /// Staff, on all accounts at once.
    All,
    /// Staff, on any account.
    View,
    /// Staff on accounts without rights, superusers on any but their own.
    ManageAccount,
    /// Superusers, on any but their own.
    AdministerAccount,
    /// The same, and staff do not learn whether the account exists.
    Delete,
}

/// Every call of the route table in every form that matters for rights.
fn all_calls() -> Vec<(Kind, Method, &'static str, Option<Value>)> {
    let mut calls = Vec::new();
    for (path, allow) in PATHS {
        for method in allow.split(", ") {
            let forms: Vec<(Kind, Option<Value>)> = match (method, path) {
                ("POST", "/api/register") => {
                    vec![(Kind::Open(201), Some(json!({"username": "new", "password": "hunter2"})))]
                }
                ("POST", "/api/login") => {
                    vec![(Kind::Open(200), Some(json!({"username": "plain", "password": "hunter2"})))]
                }
                ("POST", "/api/introspect") => vec![(Kind::Open(401), Some(json!({})))],
                ("POST", "/api/login/second") => vec![(Kind::Open(400), Some(json!({})))],
                ("POST", path) if OPEN_BY_MAIL.contains(&path) => vec![(Kind::Open(404), Some(json!({})))],
                ("POST", "/api/login/oidc/{provider}/callback") => vec![(Kind::Open(415), Some(json!({})))],
                (_, path) if open_by_others(path).is_some() => {
                    let body = json!({"provider": "google", "id_token": "a.b.c", "payload": "a.b.c"});
                    vec![(Kind::Open(open_by_others(path).unwrap()), Some(body).filter(|_| method == "POST"))]
                }
                (_, path) if path.starts_with("/.well-known/") => vec![(Kind::Open(404), None)],
                ("POST", "/api/users/{username}/reset" | "/api/users/{username}/verify-email") => {
                    vec![(Kind::NoMail, None)]
                }
                (_, path) if OWN_BY_MAIL.contains(&path) => vec![(Kind::NoMail, None)],
                ("GET" | "HEAD", "/" | "/healthz" | "/readyz" | "/api/openapi.json" | "/docs" | "/docs/{file}") => {
                    vec![(Kind::Open(200), None)]
                }
                // Mail is off.
                (_, path) if path.starts_with("/account/") || path.starts_with("/dev/") => {
                    vec![(Kind::Open(404), None)]
                }
                ("GET" | "HEAD", "/api/users" | "/api/events") => vec![(Kind::All, None)],
                ("GET" | "HEAD", "/api/users/{username}" | "/api/users/{username}/tokens") => vec![(Kind::View, None)],
                ("POST", "/api/users/{username}/reset-factors") => vec![(Kind::ManageAccount, None)],
                ("DELETE", "/api/users/{username}/tokens" | "/api/users/{username}/tokens/{id}") => {
                    vec![(Kind::ManageAccount, None)]
                }
                ("DELETE", "/api/users/{username}") => vec![(Kind::Delete, None)],
                ("PATCH", "/api/users/{username}") => vec![
                    (Kind::ManageAccount, Some(json!({}))),
                    (Kind::ManageAccount, Some(json!({"is_active": true}))),
                    (Kind::ManageAccount, Some(json!({"is_active": false}))),
                    (Kind::ManageAccount, Some(json!({"password": "hunter3"}))),
                    (Kind::AdministerAccount, Some(json!({"is_staff": true}))),
                    (Kind::AdministerAccount, Some(json!({"is_staff": false}))),
                    (Kind::AdministerAccount, Some(json!({"is_superuser": true}))),
                    (Kind::AdministerAccount, Some(json!({"is_superuser": false}))),
                    (
                        Kind::AdministerAccount,
                        Some(json!({"password": "hunter3", "is_active": false, "is_staff": true})),
                    ),
                ],
                (_, path) if path.starts_with("/api/users") || !path.starts_with("/api/") => {
                    unreachable!("{method} {path} is not in this table yet")
                }
                (method, path) => {
                    vec![(refusal(method, path).map_or(Kind::Own, Kind::Refused), own_body(method, path))]
                }
            };
            calls.extend(forms.into_iter().map(|(kind, body)| (kind, method.parse().unwrap(), path, body)));
        }
    }
    calls
}

/// The status that the specification gives a role's call on a target.
fn expected(kind: Kind, role: &str, target: &str) -> u16 {
    match (kind, role) {
        (Kind::Open(status), _) => return status,
        (_, "anonymous" | "deactivated") => return 401,
        (Kind::Own, _) => return 200,
        (Kind::Refused(status), _) => return status,
        (Kind::NoMail, _) => return 404,
        (_, "plain" | "demoted") => return 403,
        (Kind::All, _) => return 200,
        _ => {}
    }
    let is_super = role == "superuser";
    let is_there = !["unknown", "malformed"].contains(&target);
    match kind {
        // No account can have such a name, so the answer shows nothing.
        Kind::AdministerAccount if target == "malformed" => 404,
        Kind::Delete | Kind::AdministerAccount if !is_super => 403,
        _ if !is_there => 404,
        Kind::View => 200,
        _ if target == role => 403,
        Kind::ManageAccount if is_super || target == "plain" => 200,
        Kind::AdministerAccount | Kind::Delete if is_super => 200,
        _ => 403,
    }
}

#[tokio::test]
async fn every_call_answers_every_role_on_every_target_as_specified_and_a_refusal_changes_nothing() {
    let app = TestApp::spawn();
    let mut tokens = std::collections::BTreeMap::new();
    let mut ids = std::collections::BTreeMap::new();
    for name in ["plain", "staff", "superuser", "deactivated", "demoted", "other-staff", "other-superuser"] {
        let token = app.new_user(name).await;
        app.log_in(name, "hunter2").await;
        let sessions = app.get(Method::GET, "/api/user/tokens", &token, None).await;
        let other = sessions.as_array().unwrap().iter().find(|session| session["current"] == false).unwrap();
        ids.insert(name, other["id"].as_str().unwrap().to_owned());
        tokens.insert(name, token);
    }
    for name in ["staff", "deactivated", "demoted", "other-staff"] {
        app.make_staff(name);
    }
    for name in ["superuser", "other-superuser"] {
        app.make_superuser(name);
    }
    app.deactivate("deactivated");
    assert_eq!(app.ask(Method::GET, "/api/users", &tokens["demoted"], None).await.status(), 200);
    app.set("demoted", |account| account.is_staff = false);

    let long = "x".repeat(255);
    let targets = [
        ("plain", "plain"),
        ("plain", "PLAIN"),
        ("staff", "staff"),
        ("other-staff", "other-staff"),
        ("superuser", "SuperUser"),
        ("other-superuser", "other-superuser"),
        ("unknown", "nobody"),
        ("malformed", "%20name"),
        ("unknown", "no%2Fname"),
        ("malformed", "%ff%00"),
        ("malformed", long.as_str()),
    ];
    let put_back = app.store.save();
    let before = app.dump();
    let mut answers = std::collections::BTreeSet::new();
    for (kind, method, template, body) in all_calls() {
        let is_on_target = template.contains("{username}");
        for role in ["anonymous", "plain", "demoted", "deactivated", "staff", "superuser"] {
            for (target, typed) in if is_on_target { targets.as_slice() } else { &targets[..1] } {
                let whose = if is_on_target { ids.get(target) } else { ids.get(role) };
                let id = whose.map_or("0123456789abcdef", String::as_str);
                let path = template.replace("{username}", typed).replace("{id}", id).replace("{item_id}", "7");
                let path = path.replace("{file}", "page.js").replace("{provider}", "google");
                let mut request = app.client.request(method.clone(), app.url(&path));
                if let Some(token) = tokens.get(role) {
                    request = request.header("Authorization", format!("Token {token}"));
                }
                if let Some(body) = &body {
                    request = request.json(body);
                }
                let response = request.send().await.unwrap();
                let call = format!("{role}: {method} {path} {body:?}");
                let status = response.status().as_u16();
                assert_eq!(status, expected(kind, role, target), "{call}");
                let answer = response.text().await.unwrap();
                if [401, 403].contains(&status) && method != Method::HEAD && !matches!(kind, Kind::Open(_)) {
                    answers.insert((status, answer));
                }
                if status >= 400 || [Method::GET, Method::HEAD].contains(&method) {
                    assert_eq!(app.dump(), before, "{call}");
                } else {
                    put_back();
                }
            }
        }
    }
    assert_eq!(answers.len(), 2, "every 401 and every 403 has the same bytes, whatever the name: {answers:?}");
}
