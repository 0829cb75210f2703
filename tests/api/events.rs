//! Security events: which are stored, and what they must never hold.

use std::time::Duration;

use authtokens::config::Config;
use authtokens::domain::event::EventKind;
use reqwest::Method;
use serde_json::{Value, json};

use crate::helpers::test_config;
use crate::helpers::{HOUR, Response, TestApp, session_of, until};
use crate::store::{self, StoredEvent};

const OWNER: &str = "192.0.2.1";

const STAFF: &str = "192.0.2.7";

const STRANGER: &str = "203.0.113.9";

fn behind_a_proxy(config: &mut Config) {
    config.server.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
}

/// A request from an address, with a token where there is one.
async fn ask(app: &TestApp, ip: &str, call: &str, token: &str, body: &Value) -> Response {
    let (method, path) = call.split_once(' ').unwrap();
    let mut request = app.client.request(method.parse().unwrap(), app.url(path)).header("X-Forwarded-For", ip);
    if !token.is_empty() {
        request = request.header("Authorization", format!("Token {token}"));
    }
    if !body.is_null() {
        request = request.json(body);
    }
    request.send().await.unwrap()
}

fn credentials(username: &str, password: &str) -> Value {
    json!({"username": username, "password": password})
}

/// The id of a token's session.
async fn id_of(app: &TestApp, token: &str) -> String {
    let sessions = app.get(Method::GET, "/api/user/tokens", token, None).await;
    let own = sessions.as_array().unwrap().iter().find(|session| session["current"] == true).unwrap();
    own["id"].as_str().unwrap().to_owned()
}

/// The events after the first `seen`, as `kind|username|actor|ip|detail`.
fn news(app: &TestApp, seen: &mut usize) -> Vec<String> {
    let all = app.store.events();
    let news = &all[std::mem::replace(seen, all.len())..];
    let shown = |StoredEvent { kind, username, actor, ip, detail, .. }: &StoredEvent| {
        [kind, username, actor, ip, detail].map(String::as_str).join("|")
    };
    news.iter().map(shown).collect()
}

/// Those that are stored a moment later.
async fn late_news(app: &TestApp, seen: &mut usize) -> Vec<String> {
    let before = i64::try_from(*seen).unwrap();
    until("storing", || app.count("events") > before).await;
    news(app, seen)
}

#[tokio::test]
async fn each_kind_is_written_once_by_the_call_that_causes_it_with_who_and_where() {
    let app = TestApp::spawn_with(|config| {
        behind_a_proxy(config);
        config.rate_limit.enabled = true;
    });
    let mut seen = 0;
    let mut kinds = std::collections::BTreeSet::from(["created".to_owned()]);
    let mut told = |news: Vec<String>, expected: &[String]| {
        assert_eq!(news, expected);
        kinds.extend(news.iter().map(|event| event.split('|').next().unwrap().to_owned()));
    };

    let (root, _) = session_of(ask(&app, STAFF, "POST /api/register", "", &credentials("Root", "p")).await).await;
    app.make_superuser("Root");
    let (first, _) = session_of(ask(&app, OWNER, "POST /api/register", "", &credentials("Azure", "p")).await).await;
    let (root_id, first_id) = (id_of(&app, &root).await, id_of(&app, &first).await);
    told(
        news(&app, &mut seen),
        &[format!("registered|Root|Root|{STAFF}|{root_id}"), format!("registered|Azure|Azure|{OWNER}|{first_id}")],
    );
    let (second, _) = session_of(ask(&app, OWNER, "POST /api/login", "", &credentials("aZURE", "p")).await).await;
    let second_id = id_of(&app, &second).await;
    told(news(&app, &mut seen), &[format!("logged_in|Azure|Azure|{OWNER}|{second_id}")]);

    ask(&app, STRANGER, "POST /api/login", "", &credentials("AZURE", "wrong")).await;
    told(late_news(&app, &mut seen).await, &[format!("login_failed|Azure||{STRANGER}|")]);
    ask(&app, STRANGER, "POST /api/login", "", &credentials("TypedByMistake", "wrong")).await;
    told(late_news(&app, &mut seen).await, &[format!("login_failed|||{STRANGER}|")]);
    for call in ["POST /api/user/password", "DELETE /api/user", "POST /api/user/reauthenticate"] {
        ask(&app, STRANGER, call, &second, &json!({"password": "x", "current_password": "x", "new_password": "q"}))
            .await;
        told(late_news(&app, &mut seen).await, &[format!("reauthentication_failed|Azure|Azure|{STRANGER}|")]);
    }

    let right = json!({"password": "p", "current_password": "p", "new_password": "q"});
    assert_eq!(ask(&app, OWNER, "POST /api/user/reauthenticate", &second, &right).await.status(), 200);
    told(news(&app, &mut seen), &[format!("reauthenticated|Azure|Azure|{OWNER}|{second_id}")]);
    assert_eq!(ask(&app, OWNER, "POST /api/user/password", &second, &right).await.status(), 200);
    told(news(&app, &mut seen), &[format!("password_changed|Azure|Azure|{OWNER}|")]);
    assert_eq!(ask(&app, OWNER, "POST /api/logout", &second, &Value::Null).await.status(), 200);
    told(news(&app, &mut seen), &[format!("logged_out|Azure|Azure|{OWNER}|{second_id}")]);

    let mut tokens = Vec::new();
    for _ in 0..4 {
        let (token, _) = session_of(ask(&app, OWNER, "POST /api/login", "", &credentials("Azure", "q")).await).await;
        let id = id_of(&app, &token).await;
        told(news(&app, &mut seen), &[format!("logged_in|Azure|Azure|{OWNER}|{id}")]);
        tokens.push((token, id));
    }
    let path = format!("DELETE /api/user/tokens/{}", tokens[1].1);
    assert_eq!(ask(&app, OWNER, &path, &tokens[0].0, &Value::Null).await.status(), 200);
    told(news(&app, &mut seen), &[format!("session_revoked|Azure|Azure|{OWNER}|{}", tokens[1].1)]);
    let path = format!("DELETE /api/users/azure/tokens/{}", tokens[2].1);
    assert_eq!(ask(&app, STAFF, &path, &root, &Value::Null).await.status(), 200);
    told(news(&app, &mut seen), &[format!("session_revoked|Azure|Root|{STAFF}|{}", tokens[2].1)]);
    assert_eq!(ask(&app, OWNER, "POST /api/logoutall", &tokens[0].0, &Value::Null).await.status(), 200);
    told(news(&app, &mut seen), &[format!("all_sessions_revoked|Azure|Azure|{OWNER}|")]);
    ask(&app, OWNER, "POST /api/login", "", &credentials("Azure", "q")).await;
    news(&app, &mut seen);
    assert_eq!(ask(&app, STAFF, "DELETE /api/users/azure/tokens", &root, &Value::Null).await.status(), 200);
    told(news(&app, &mut seen), &[format!("all_sessions_revoked|Azure|Root|{STAFF}|")]);

    for (change, expected) in [
        (json!({"is_active": false}), ["deactivated|Azure|Root|192.0.2.7|"].as_slice()),
        (json!({"is_active": false}), &[]),
        (json!({"is_active": true}), &["activated|Azure|Root|192.0.2.7|"]),
        (json!({"is_staff": true}), &["promoted|Azure|Root|192.0.2.7|staff"]),
        (json!({"is_staff": true, "is_superuser": true}), &["promoted|Azure|Root|192.0.2.7|superuser"]),
        (
            json!({"is_staff": false, "is_superuser": false}),
            &["demoted|Azure|Root|192.0.2.7|staff", "demoted|Azure|Root|192.0.2.7|superuser"],
        ),
        (json!({"password": "p"}), &["password_set|Azure|Root|192.0.2.7|"]),
        (json!({}), &[]),
    ] {
        assert_eq!(ask(&app, STAFF, "PATCH /api/users/azure", &root, &change).await.status(), 200, "{change}");
        told(news(&app, &mut seen), &expected.iter().map(|event| (*event).to_owned()).collect::<Vec<_>>());
    }
    assert_eq!(ask(&app, STAFF, "DELETE /api/users/azure", &root, &Value::Null).await.status(), 200);
    told(news(&app, &mut seen), &[format!("deleted|Azure|Root|{STAFF}|")]);
    let (own, _) = session_of(ask(&app, OWNER, "POST /api/register", "", &credentials("own", "p")).await).await;
    news(&app, &mut seen);
    assert_eq!(ask(&app, OWNER, "DELETE /api/user", &own, &json!({"password": "p"})).await.status(), 200);
    told(news(&app, &mut seen), &[format!("deleted|own|own|{OWNER}|")]);

    for number in 0..10 {
        ask(&app, &format!("198.51.100.{number}"), "POST /api/login", "", &credentials("root", "wrong")).await;
    }
    until("storing", || app.count("events") == i64::try_from(seen).unwrap() + 10).await;
    news(&app, &mut seen);
    for name in ["root", "ROOT", "rOOt"] {
        assert_eq!(ask(&app, "198.51.100.99", "POST /api/login", "", &credentials(name, "wrong")).await.status(), 429);
    }
    told(late_news(&app, &mut seen).await, &["throttled|Root||198.51.100.99|account".to_owned()]);
    for number in 0..60 {
        ask(&app, "198.51.100.77", "POST /api/login", "", &credentials(&format!("u{number}"), "wrong")).await;
    }
    until("storing", || app.count("events") == i64::try_from(seen).unwrap() + 31).await;
    let refused: std::collections::BTreeSet<_> = news(&app, &mut seen).into_iter().collect();
    told(
        refused.into_iter().collect(),
        &["login_failed|||198.51.100.77|".to_owned(), "throttled|||198.51.100.77|address".to_owned()],
    );
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    told(news(&app, &mut seen), &[]);
    assert_eq!(kinds, kinds_without_mail(), "each kind has been caused");
}

/// The kinds of what happens while no mail is sent; those behind them are caused by mail alone.
fn kinds_without_mail() -> std::collections::BTreeSet<String> {
    let without_mail = EventKind::ALL.into_iter().take_while(|kind| *kind != EventKind::EmailChangeRequested);
    // An import is a command's.
    without_mail.filter(|kind| *kind != EventKind::Imported).map(|kind| kind.name().to_owned()).collect()
}

#[tokio::test]
async fn a_call_that_fails_writes_no_event_of_a_success() {
    let app = TestApp::spawn_with(behind_a_proxy);
    let root = app.new_user("root").await;
    app.make_superuser("root");
    let token = app.new_user("AzureDiamond").await;
    let before = app.store.events();
    let id = id_of(&app, &root).await;
    for (call, token, body, status) in [
        ("POST /api/register", "", credentials("azurediamond", "p"), 400),
        ("POST /api/register", "", credentials("a b", "p"), 400),
        ("POST /api/login", "", json!({"username": "root"}), 400),
        ("POST /api/logout", "", Value::Null, 401),
        ("POST /api/logoutall", "x", Value::Null, 401),
        ("POST /api/user/password", &token, json!({"current_password": "hunter2", "new_password": ""}), 400),
        (&format!("DELETE /api/user/tokens/{id}"), &token, Value::Null, 404),
        ("DELETE /api/user", &root, json!({"password": "hunter2"}), 409),
        ("PATCH /api/users/azurediamond", &root, json!({"is_staff": true, "x": 1}), 400),
        ("PATCH /api/users/nobody", &root, json!({"is_staff": true}), 404),
        ("PATCH /api/users/root", &root, json!({"is_staff": true}), 403),
        ("PATCH /api/users/azurediamond", &token, json!({"is_staff": true}), 403),
        ("DELETE /api/users/nobody", &root, Value::Null, 404),
        ("DELETE /api/users/root", &root, Value::Null, 403),
        ("DELETE /api/users/root/tokens", &token, Value::Null, 403),
        (&format!("DELETE /api/users/azurediamond/tokens/{id}"), &root, Value::Null, 404),
    ] {
        assert_eq!(ask(&app, OWNER, call, token, &body).await.status(), status, "{call} {body}");
        assert_eq!(app.store.events(), before, "{call} {body}");
    }
}

#[tokio::test]
async fn an_owner_is_told_what_staff_did_and_staff_are_told_who_did_it() {
    let app = TestApp::spawn_with(behind_a_proxy);
    let (root, _) = session_of(ask(&app, STAFF, "POST /api/register", "", &credentials("root", "p")).await).await;
    app.make_superuser("root");
    ask(&app, OWNER, "POST /api/register", "", &credentials("Azure", "p")).await;
    ask(&app, STRANGER, "POST /api/login", "", &credentials("azure", "wrong")).await;
    until("storing", || app.count("events") == 3).await;
    ask(&app, STAFF, "PATCH /api/users/azure", &root, &json!({"password": "p", "is_staff": true})).await;
    let (token, _) = session_of(ask(&app, OWNER, "POST /api/login", "", &credentials("Azure", "p")).await).await;

    let shown = |events: &Value| -> Vec<Value> {
        let shown = |event: &Value| json!([event["kind"], event["username"], event["actor"], event["ip"]]);
        events.as_array().unwrap().iter().map(shown).collect()
    };
    let own = app.get(Method::GET, "/api/user/events", &token, None).await;
    assert_eq!(
        shown(&own),
        [
            json!(["logged_in", "Azure", "Azure", OWNER]),
            json!(["password_set", "Azure", "staff", null]),
            json!(["promoted", "Azure", "staff", null]),
            json!(["login_failed", "Azure", null, STRANGER]),
            json!(["registered", "Azure", "Azure", OWNER]),
        ]
    );
    assert!(!own.to_string().contains(STAFF) && !own.to_string().contains("root"), "{own}");
    let keys: Vec<_> = own[0].as_object().unwrap().keys().collect();
    assert_eq!(keys, ["actor", "at", "detail", "id", "ip", "kind", "username"]);
    assert_eq!(own[0]["at"], "2015-01-04T22:51:35.144Z");
    let export = app.get(Method::GET, "/api/user/export", &token, None).await;
    assert_eq!(export["events"], own);

    let staffs = app.get(Method::GET, "/api/events?username=AZURE", &root, None).await;
    assert_eq!(
        shown(&staffs)[1..3],
        [json!(["password_set", "Azure", "root", STAFF]), json!(["promoted", "Azure", "root", STAFF])]
    );
    assert_eq!(app.get(Method::GET, "/api/events?kind=registered", &root, None).await.as_array().unwrap().len(), 2);
    assert_eq!(app.get(Method::GET, "/api/user/events?kind=promoted", &token, None).await, json!([own[2]]));
    assert_eq!(app.get(Method::GET, "/api/events?username=nobody", &root, None).await, json!([]));
    // The events of a deleted account are still found under its name, but not by the next owner of the name.
    ask(&app, STAFF, "DELETE /api/users/azure", &root, &Value::Null).await;
    let left = app.get(Method::GET, "/api/events?username=azure", &root, None).await;
    assert_eq!(left.as_array().unwrap().len(), 6);
    let (successor, _) = session_of(ask(&app, OWNER, "POST /api/register", "", &credentials("azure", "p")).await).await;
    let own = app.get(Method::GET, "/api/user/events", &successor, None).await;
    assert_eq!(shown(&own), [json!(["registered", "azure", "azure", OWNER])]);
}

#[tokio::test]
async fn events_are_given_in_pages_newest_first() {
    let app = TestApp::spawn();
    let token = app.new_user("root").await;
    app.make_staff("root");
    let kinds: Vec<_> = (0..119).map(|number| if number % 2 == 0 { "logged_in" } else { "login_failed" }).collect();
    app.store.add_events("root", &kinds);
    for (first, sizes) in [
        ("/api/events", [50, 50, 20].as_slice()),
        ("/api/events?username=root&limit=60", &[60, 60, 0]),
        ("/api/user/events?limit=100", &[100, 20]),
        ("/api/user/events/?kind=logged_in&limit=40", &[40, 20]),
        ("/api/events?kind=login_failed&before=4", &[1]),
        ("/api/events?before=0", &[0]),
        ("/api/events?before=-9223372036854775808", &[0]),
    ] {
        let mut next = Some(first.to_owned());
        let (mut ids, mut found) = (Vec::new(), Vec::new());
        while let Some(path) = next {
            let response = app.ask(Method::GET, &path, &token, None).await;
            next = response.headers().get("link").map(|link| {
                let link = link.to_str().unwrap();
                link.strip_prefix('<').unwrap().strip_suffix(">; rel=\"next\"").unwrap().to_owned()
            });
            let page: Vec<Value> = response.json().await.unwrap();
            found.push(page.len());
            ids.extend(page.iter().map(|event| event["id"].as_i64().unwrap()));
        }
        assert_eq!(found, sizes, "{first}");
        assert!(ids.is_sorted_by(|newer, older| newer > older), "{first}: {ids:?}");
    }
}

/// Whose events are stored, oldest first.
fn whose_events(app: &TestApp) -> Vec<String> {
    app.store.events().into_iter().map(|event| event.username).collect()
}

#[tokio::test]
async fn old_events_and_those_beyond_the_most_are_pruned() {
    let app = TestApp::spawn();
    app.new_user("first").await;
    app.clock.advance(2 * HOUR);
    app.new_user("second").await;
    app.clock.advance((90 * 24 - 2) * HOUR);
    let app = app.restart_with(|_| {});
    app.clock.advance(HOUR);
    until("pruning", || app.count("events") == 1).await;
    assert_eq!(whose_events(&app), ["second"]);
    for name in ["a", "b", "c"] {
        app.new_user(name).await;
    }
    let app = app.restart_with(|config| config.events.max = 2);
    app.clock.advance(HOUR);
    until("pruning", || app.count("events") == 2).await;
    assert_eq!(whose_events(&app), ["b", "c"]);
    assert_eq!(app.store.events().last().unwrap().id, 5);
}

#[tokio::test]
async fn an_event_from_the_future_is_kept_no_longer_than_what_happened_after_it() {
    let app = TestApp::spawn();
    let from_the_future = |name| {
        app.store.change_events(&|event| event.at += if event.username == name { 500_000_000_000 } else { 0 });
    };
    app.new_user("first").await;
    app.new_user("second").await;
    app.clock.advance(2 * HOUR);
    app.new_user("third").await;
    from_the_future("first");
    from_the_future("third");
    app.new_user("fourth").await;
    app.clock.advance((90 * 24 - 2) * HOUR);
    let app = app.restart_with(|_| {});
    app.clock.advance(HOUR);
    until("pruning", || whose_events(&app) == ["third", "fourth"]).await;
    // There is room for one, and an event from the future does not keep it.
    let app = app.restart_with(|config| config.events.max = 1);
    app.clock.advance(HOUR / 2);
    app.new_user("fifth").await;
    app.clock.advance(HOUR / 2);
    until("pruning", || whose_events(&app) == ["fifth"]).await;
}

#[tokio::test]
async fn neither_the_store_nor_a_copy_of_it_nor_an_event_holds_a_secret_or_a_name_that_nobody_has() {
    let app = TestApp::spawn();
    let root = app.new_user("root").await;
    app.make_superuser("root");
    let (password, wrong, reset) = ("pa55-4711-UNIQUE", "wr0ng-4711-UNIQUE", "r3set-4711-UNIQUE");
    let typed = "MyPa55word-4711";
    let (first, _) = session_of(app.register("AzureDiamond", password).await).await;
    let (second, _) = session_of(app.log_in("AzureDiamond", password).await).await;
    app.log_in("AzureDiamond", wrong).await;
    app.log_in(typed, wrong).await;
    app.log_in(typed, typed).await;
    app.register("AzureDiamond", wrong).await;
    let change = json!({"current_password": wrong, "new_password": typed});
    app.ask(Method::POST, "/api/user/password", &second, Some(&change)).await;
    app.ask(Method::DELETE, "/api/user", &second, Some(&json!({"password": wrong}))).await;
    app.ask(Method::GET, &format!("/api/users/{typed}"), &root, None).await;
    app.ask(Method::GET, &format!("/api/users?search={typed}"), &root, None).await;
    app.ask(Method::GET, &format!("/api/events?username={typed}"), &root, None).await;
    app.ask(Method::DELETE, &format!("/api/users/{typed}"), &root, None).await;
    app.get(Method::PATCH, "/api/users/azurediamond", &root, Some(&json!({"password": reset}))).await;
    let (third, _) = session_of(app.log_in("AzureDiamond", reset).await).await;
    until("storing", || app.count_events("login_failed") + app.count_events("reauthentication_failed") == 5).await;

    let secrets = [password, wrong, reset, typed, &typed.to_lowercase(), &first, &second, &third, &root];
    let check = |what: &str, holds: &dyn Fn(&[u8]) -> bool| {
        for secret in &secrets {
            let unhexed = (secret.len() == 40).then(|| {
                (0..40).step_by(2).map(|at| u8::from_str_radix(&secret[at..at + 2], 16).unwrap()).collect::<Vec<_>>()
            });
            for form in std::iter::once(secret.as_bytes().to_vec()).chain(unhexed) {
                assert!(!holds(&form), "{secret} is in {what}");
            }
        }
    };
    let folder = tempfile::tempdir().unwrap();
    let config = test_config(&folder);
    app.store.copy_to(&config);
    let copy = store::of(&config);
    for (what, store) in [("the store", &app.store), ("a copy of it", &copy)] {
        assert!(store.contains(b"AzureDiamond"), "{what} is one");
        check(what, &|bytes| store.contains(bytes));
    }
    let holds = |text: String| move |bytes: &[u8]| text.as_bytes().windows(bytes.len()).any(|window| window == bytes);
    for path in ["/api/events?limit=100", "/api/user/events"] {
        check(path, &holds(app.ask(Method::GET, path, &root, None).await.text().await.unwrap()));
    }
    for path in ["/api/user/events", "/api/user/export"] {
        check(path, &holds(app.ask(Method::GET, path, &third, None).await.text().await.unwrap()));
    }
}

#[tokio::test]
async fn staff_find_the_events_of_whoever_had_a_name_before() {
    let app = TestApp::spawn();
    let root = app.new_user("root").await;
    app.make_staff("root");
    let token = app.new_user("mallory").await;
    app.get(Method::DELETE, "/api/user", &token, Some(&json!({"password": "hunter2"}))).await;
    app.new_user("MALLORY").await;
    let events = app.get(Method::GET, "/api/events?username=Mallory", &root, None).await;
    let kinds: Vec<_> = events.as_array().unwrap().iter().map(|event| event["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["registered", "deleted", "registered"]);
}

#[tokio::test]
async fn a_session_that_makes_room_for_another_leaves_an_event() {
    let app = TestApp::spawn_with(|config| config.tokens.max_per_user = 1);
    app.new_user("AzureDiamond").await;
    let (token, _) = session_of(app.log_in("AzureDiamond", "hunter2").await).await;
    let events = app.get(Method::GET, "/api/user/events?kind=session_revoked", &token, None).await;
    assert_eq!(events[0]["detail"], "max_per_user");
}
