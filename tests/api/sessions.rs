//! `/api/user/tokens`, `/api/logoutall`, and how sessions end by themselves.

use std::sync::LazyLock;
use std::time::Duration;

use authtokens::system::clock::Timestamp;
use reqwest::Method;
use serde_json::{Value, json};

use crate::helpers::{HOUR, TestApp, error_of, session_of};
use crate::store::StoredSession;

/// A year after the release: a plausible time for a clock that is right.
static RIGHT: LazyLock<Timestamp> = LazyLock::new(|| Timestamp::BEFORE_THIS_RELEASE.plus(DAY * 400));

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// So many days, less a millisecond.
fn just_under(days: u64) -> Duration {
    Duration::from_millis(days * 24 * 60 * 60 * 1_000 - 1)
}

async fn sessions(app: &TestApp, token: &str) -> Vec<Value> {
    app.get(Method::GET, "/api/user/tokens", token, None).await.as_array().unwrap().clone()
}

/// Waits until a noted use is stored: a second, or longer on a busy machine.
async fn until_stored(app: &TestApp, token: &str, last_used: &str) {
    for _ in 0..200 {
        if sessions(app, token).await.iter().any(|session| session["last_used"] == last_used) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{last_used} is not stored: {:?}", sessions(app, token).await);
}

#[tokio::test]
async fn sessions_are_listed_newest_first_with_what_their_owner_may_know() {
    let app = TestApp::spawn();
    let first = app.new_user("AzureDiamond").await;
    app.new_user("other").await;
    app.clock.advance(Duration::from_secs(1));
    let request = app
        .client
        .post(app.url("/api/login"))
        .header("User-Agent", "Cellar/1.0 (iPhone)")
        .json(&json!({"username": "AzureDiamond", "password": "hunter2"}));
    let (second, _) = session_of(request.send().await.unwrap()).await;
    let listed = sessions(&app, &second).await;
    let keys: Vec<_> = listed[0].as_object().unwrap().keys().cloned().collect();
    assert_eq!(keys.len(), 7);
    assert_eq!(
        listed[0],
        json!({
            "id": listed[0]["id"], "created": "2015-01-04T22:51:36.144Z", "last_used": "2015-01-04T22:51:36.144Z",
            "expires": "2015-02-03T22:51:36.144Z", "user_agent": "Cellar/1.0 (iPhone)", "ip": "127.0.0.1",
            "current": true,
        })
    );
    assert_eq!(listed.len(), 2);
    assert_eq!((&listed[1]["created"], &listed[1]["current"]), (&json!("2015-01-04T22:51:35.144Z"), &json!(false)));
    let text = json!(listed).to_string();
    assert!(!text.contains(&first) && !text.contains(&second), "a list of tokens shows none");
}

#[tokio::test]
async fn one_session_is_ended_by_its_id_and_anothers_is_404() {
    let app = TestApp::spawn();
    let first = app.new_user("AzureDiamond").await;
    app.clock.advance(Duration::from_secs(1));
    let (second, _) = session_of(app.log_in("AzureDiamond", "hunter2").await).await;
    let others = app.new_user("other").await;
    let id = sessions(&app, &second).await[1]["id"].as_str().unwrap().to_owned();
    let path = format!("/api/user/tokens/{id}");
    assert_eq!(
        error_of(app.ask(Method::DELETE, &path, &others, None).await, 404).await,
        "There is nothing at this path."
    );
    assert_eq!(app.get(Method::DELETE, &path, &second, None).await, json!({"status": "success"}));
    assert_eq!(app.ask(Method::GET, "/api/user", &first, None).await.status(), 401);
    assert_eq!(app.ask(Method::DELETE, &path, &second, None).await.status(), 404);
    for id in ["x", "0123456789abcdef", "0123456789ABCDEF", &first, "%00"] {
        let response = app.ask(Method::DELETE, &format!("/api/user/tokens/{id}"), &second, None).await;
        assert!([404, 405].contains(&response.status().as_u16()), "{id} {}", response.status());
    }
    assert_eq!(sessions(&app, &second).await.len(), 1);
    let own = sessions(&app, &second).await[0]["id"].as_str().unwrap().to_owned();
    app.get(Method::DELETE, &format!("/api/user/tokens/{own}"), &second, None).await;
    assert_eq!(app.ask(Method::GET, "/api/user", &second, None).await.status(), 401);
}

#[tokio::test]
async fn logoutall_ends_all_of_the_callers_sessions_this_one_too() {
    let app = TestApp::spawn();
    let first = app.new_user("AzureDiamond").await;
    let (second, _) = session_of(app.log_in("AzureDiamond", "hunter2").await).await;
    let others = app.new_user("other").await;
    assert_eq!(app.get(Method::POST, "/api/logoutall", &second, None).await, json!({"status": "success"}));
    for token in [&first, &second] {
        assert_eq!(app.ask(Method::GET, "/api/user", token, None).await.status(), 401);
        assert_eq!(app.ask(Method::POST, "/api/logoutall", token, None).await.status(), 401);
    }
    assert_eq!(app.ask(Method::GET, "/api/user", &others, None).await.status(), 200);
}

#[tokio::test]
async fn a_token_ends_30_days_after_its_last_use_as_if_it_never_was() {
    let app = TestApp::spawn();
    let token = app.new_user("AzureDiamond").await;
    app.clock.advance(just_under(30));
    assert_eq!(app.ask(Method::GET, "/api/user", &token, None).await.status(), 200);
    until_stored(&app, &token, "2015-02-03T22:51:35.143Z").await;
    app.clock.advance(just_under(30));
    assert_eq!(app.ask(Method::GET, "/api/user", &token, None).await.status(), 200);
    until_stored(&app, &token, "2015-03-05T22:51:35.142Z").await;
    // The store may not know of a use in the last minute, and nobody may lose a session for that.
    app.clock.advance(DAY * 30 + Duration::from_secs(60));
    let response = app.ask(Method::GET, "/api/user", &token, None).await;
    assert_eq!(error_of(response, 401).await, "A valid token is required.");
    assert_eq!(app.log_out(&token).await.status(), 401);
}

#[tokio::test]
async fn a_token_ends_365_days_after_its_login_however_much_it_is_used() {
    let app = TestApp::spawn_with(|config| config.tokens.idle_timeout = None);
    let token = app.new_user("AzureDiamond").await;
    assert_eq!(sessions(&app, &token).await[0]["expires"], "2016-01-04T22:51:35.144Z");
    app.clock.advance(just_under(365));
    assert_eq!(app.ask(Method::GET, "/api/user", &token, None).await.status(), 200);
    app.clock.advance(Duration::from_millis(1));
    assert_eq!(app.ask(Method::GET, "/api/user", &token, None).await.status(), 401);
}

#[tokio::test]
async fn a_token_that_never_ends_has_no_end() {
    let app = TestApp::spawn_with(|config| {
        config.tokens.idle_timeout = None;
        config.tokens.lifetime = None;
    });
    let token = app.new_user("AzureDiamond").await;
    app.clock.advance(DAY * 36_500);
    assert_eq!(sessions(&app, &token).await[0]["expires"], Value::Null);
}

#[tokio::test]
async fn a_last_use_is_stored_at_most_once_a_minute() {
    let app = TestApp::spawn();
    let token = app.new_user("AzureDiamond").await;
    app.clock.advance(Duration::from_secs(59));
    app.get(Method::GET, "/api/user", &token, None).await;
    app.clock.advance(Duration::from_secs(1));
    app.get(Method::GET, "/api/user", &token, None).await;
    app.clock.advance(Duration::from_secs(30));
    app.get(Method::GET, "/api/user", &token, None).await;
    until_stored(&app, &token, "2015-01-04T22:52:35.144Z").await;
    app.get(Method::GET, "/api/user", &token, None).await;
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(sessions(&app, &token).await[0]["last_used"], "2015-01-04T22:52:35.144Z");
}

#[tokio::test]
async fn the_least_recently_used_session_makes_room() {
    let app = TestApp::spawn_with(|config| config.tokens.max_per_user = 3);
    let first = app.new_user("AzureDiamond").await;
    let mut tokens = vec![first.clone()];
    for _ in 0..2 {
        app.clock.advance(Duration::from_secs(1));
        tokens.push(session_of(app.log_in("AzureDiamond", "hunter2").await).await.0);
    }
    app.clock.advance(Duration::from_secs(120));
    app.get(Method::GET, "/api/user", &first, None).await;
    until_stored(&app, &first, "2015-01-04T22:53:37.144Z").await;
    tokens.push(session_of(app.log_in("AzureDiamond", "hunter2").await).await.0);
    let mut statuses = Vec::new();
    for token in &tokens {
        statuses.push(app.ask(Method::GET, "/api/user", token, None).await.status().as_u16());
    }
    assert_eq!(statuses, [200, 401, 200, 200]);
}

#[tokio::test]
async fn ended_sessions_are_pruned_in_the_background() {
    let app = TestApp::spawn();
    let token = app.new_user("AzureDiamond").await;
    app.store.change_sessions(&|session| session.created -= 366 * 86_400_000);
    app.new_user("other").await;
    let restarted = app.spawn_copy_with(|_| {});
    restarted.clock.advance(HOUR);
    for _ in 0..200 {
        if restarted.count("tokens") == 1 {
            assert_eq!(restarted.ask(Method::GET, "/api/user", &token, None).await.status(), 401);
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the dead session is still stored");
}

/// Sets the clock ahead hour by hour, until the service has done what it does once an hour.
async fn hours_until(app: &TestApp, what: &str, happened: impl Fn() -> bool) {
    for _ in 0..100 {
        app.clock.advance(HOUR);
        for _ in 0..30 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            if happened() {
                return;
            }
        }
    }
    panic!("{what} does not happen");
}

async fn status(app: &TestApp, token: &str) -> u16 {
    app.ask(Method::GET, "/api/user", token, None).await.status().as_u16()
}

#[tokio::test]
async fn a_token_that_was_made_while_the_clock_was_ahead_lives_no_longer_than_others_once_it_is_put_right() {
    let app = TestApp::spawn_with(|config| config.tokens.idle_timeout = None);
    app.clock.set(*RIGHT);
    let before = app.new_user("before").await;
    app.clock.set(RIGHT.plus(DAY * 3_650));
    let ahead = app.new_user("AzureDiamond").await;
    let used_ahead = session_of(app.log_in("AzureDiamond", "hunter2").await).await.0;
    app.clock.set(*RIGHT);
    for token in [&before, &ahead, &used_ahead] {
        assert_eq!(status(&app, token).await, 200);
    }
    let latest = || {
        let sessions = app.store.sessions();
        let latest = |time: fn(&StoredSession) -> i64| sessions.iter().map(time).max().unwrap();
        [latest(|session| session.created), latest(|session| session.last_used)]
    };
    let as_it_was = latest();
    hours_until(&app, "putting right", || latest() != as_it_was).await;
    let now = app.clock.now().as_millis();
    assert_eq!(latest(), [now, now]);
    assert_eq!(sessions(&app, &ahead).await[0]["expires"], app.clock.now().plus(DAY * 365).to_string());
    assert_eq!(status(&app, &before).await, 200);
    app.clock.advance(just_under(365));
    assert_eq!(status(&app, &ahead).await, 200);
    app.clock.advance(Duration::from_millis(1));
    for token in [&before, &ahead, &used_ahead] {
        assert_eq!(status(&app, token).await, 401);
    }
}

#[tokio::test]
async fn a_clock_that_is_wrong_for_less_than_an_hour_ends_no_session_for_good() {
    let app = TestApp::spawn();
    app.clock.set(*RIGHT);
    let token = app.new_user("AzureDiamond").await;
    let stored = || app.dump();
    let before = stored();
    for wrong in [RIGHT.plus(DAY * 3_650), RIGHT.minus(DAY), RIGHT.minus(DAY * 365)] {
        app.clock.set(wrong);
        assert_eq!(status(&app, &token).await, if wrong > *RIGHT { 401 } else { 200 });
        app.clock.advance(HOUR);
        // Long enough for the job to look at the clock.
        tokio::time::sleep(Duration::from_millis(2_500)).await;
        assert_eq!(stored(), before, "{wrong}");
        app.clock.set(*RIGHT);
        assert_eq!(status(&app, &token).await, 200, "{wrong}");
        app.clock.advance(HOUR);
        tokio::time::sleep(Duration::from_millis(2_500)).await;
        app.clock.set(*RIGHT);
    }
}

#[tokio::test]
async fn a_clock_that_says_a_time_before_the_release_makes_no_session_older() {
    let app = TestApp::spawn();
    app.clock.set(*RIGHT);
    let token = app.new_user("AzureDiamond").await;
    let app = app.restart_with(|_| {});
    app.clock.set(Timestamp::from_millis(0).unwrap());
    for _ in 0..3 {
        app.clock.advance(HOUR);
        tokio::time::sleep(Duration::from_millis(1_500)).await;
    }
    assert_eq!(status(&app, &token).await, 200);
    app.clock.set(RIGHT.plus(HOUR * 3));
    assert_eq!(status(&app, &token).await, 200);
}

#[tokio::test]
async fn a_forwarded_address_counts_only_from_a_trusted_proxy() {
    for (trusted, ip) in [(Vec::new(), "127.0.0.1"), (vec!["127.0.0.0/8".parse().unwrap()], "203.0.113.9")] {
        let app = TestApp::spawn_with(|config| config.server.trusted_proxies = trusted);
        let request = app
            .client
            .post(app.url("/api/register"))
            .header("X-Forwarded-For", "198.51.100.1, 203.0.113.9")
            .json(&json!({"username": "a", "password": "p"}));
        let (token, _) = session_of(request.send().await.unwrap()).await;
        assert_eq!(sessions(&app, &token).await[0]["ip"], ip);
    }
}
