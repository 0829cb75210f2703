//! How many attempts are let through, and the ways round it that must not be.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::time::{Duration, Instant};

use authtokens::config::Config;
use authtokens::domain::rate::Rate;
use authtokens::domain::rights::{AccountChange, Actor};
use authtokens::domain::user::{PasswordHash, Username};
use authtokens::repository::sqlite::{SqliteRepository, SqliteSettings};
use authtokens::repository::{Administration as _, Maintenance as _};
use authtokens::server::application::Application;
use authtokens::system::clock::Timestamp;
use reqwest::Method;
use serde_json::json;

use crate::helpers::{
    JSON, PATIENCE, RawResponse, Response, START_MILLIS, TestApp, error_of, post_bytes, session_of, test_config, until,
};

const OWNER: &str = "192.0.2.1";
const STRANGER: &str = "203.0.113.9";

/// Limits are on, and a proxy on this machine says where requests come from.
fn behind_a_proxy(config: &mut Config) {
    config.rate_limit.enabled = true;
    config.server.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
}

/// The same, but only accounts are limited.
fn accounts_alone(config: &mut Config) {
    behind_a_proxy(config);
    let plenty = Rate { count: 1_000_000, period: Duration::from_secs(1) };
    (config.rate_limit.login, config.rate_limit.register) = (plenty, plenty);
}

async fn post_from(app: &TestApp, ip: &str, path: &str, username: &str, password: &str) -> Response {
    let request = app.client.post(app.url(path)).header("X-Forwarded-For", ip);
    request.json(&json!({"username": username, "password": password})).send().await.unwrap()
}

async fn log_in_from(app: &TestApp, ip: &str, username: &str, password: &str) -> u16 {
    post_from(app, ip, "/api/login", username, password).await.status().as_u16()
}

/// Registers from the owner's address; the token.
async fn new_owner(app: &TestApp) -> String {
    session_of(post_from(app, OWNER, "/api/register", "AzureDiamond", "hunter2").await).await.0
}

/// Fails until strangers are refused.
async fn lock_out(app: &TestApp, username: &str) {
    lock_out_from(app, STRANGER, username).await;
}

async fn lock_out_from(app: &TestApp, stranger: &str, username: &str) {
    for attempt in 0..10 {
        assert_eq!(log_in_from(app, stranger, username, "wrong").await, 401, "attempt {attempt}");
    }
    assert_eq!(log_in_from(app, stranger, username, "wrong").await, 429);
}

/// How long a 429 asks to wait.
async fn retry_after(response: Response) -> u64 {
    let seconds = response.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert_eq!(error_of(response, 429).await, "There were too many attempts. Try again later.");
    seconds
}

#[tokio::test]
async fn an_address_over_its_limit_is_refused_before_its_body_is_read() {
    let app = TestApp::spawn_with(|config| config.rate_limit.enabled = true);
    let (token, _) = session_of(app.register("AzureDiamond", "hunter2").await).await;
    for number in 1..20 {
        app.register(&format!("user{number}"), "hunter2").await;
    }
    for number in 0..30 {
        assert_eq!(app.log_in(&format!("nobody{number}"), "wrong").await.status(), 401);
    }
    let authorization = format!("Authorization: Token {token}\r\n");
    for request in [
        "POST /api/register HTTP/1.1\r\n",
        "POST /api/login HTTP/1.1\r\n",
        "POST /api/user/password HTTP/1.1\r\n",
        "DELETE /api/user HTTP/1.1\r\n",
    ] {
        // No byte of the body ever comes.
        let response = app.raw(format!("{request}Host: x\r\n{authorization}{JSON}Content-Length: 100\r\n\r\n"));
        response.assert_error(429);
        assert!(response.header("Retry-After").is_some());
        assert_eq!(
            response.header("Connection"),
            Some("close"),
            "{request}: the body is not to be taken for a request"
        );
    }
}

#[tokio::test]
async fn a_request_that_is_no_good_costs_an_address_no_attempt() {
    let app = TestApp::spawn_with(|config| config.rate_limit.enabled = true);
    for body in ["", "[]", "{}", r#"{"username": "a b", "password": "x"}"#, r#"{"username": "a", "password": ""}"#] {
        for _ in 0..30 {
            app.raw(post_bytes("/api/register", JSON, body)).assert_error(400);
            app.raw(post_bytes("/api/login", JSON, body)).assert_error(400);
        }
    }
    assert_eq!(app.register("AzureDiamond", "hunter2").await.status(), 201);
    assert_eq!(app.log_in("AzureDiamond", "hunter2").await.status(), 200);
}

#[test]
fn no_address_has_more_bodies_in_flight_than_its_limit_has_attempts() {
    let app = TestApp::spawn_with(|config| config.rate_limit.enabled = true);
    let head = format!("POST /api/login HTTP/1.1\r\nHost: x\r\n{JSON}Content-Length: 100\r\n\r\n{{");
    let begin = || {
        let mut stream = app.connect();
        stream.write_all(head.as_bytes()).unwrap();
        stream
    };
    let in_flight: Vec<_> = (0..30).map(|_| begin()).collect();
    std::thread::sleep(Duration::from_millis(300));
    RawResponse::read_from(&mut begin()).assert_error(429);
    drop(in_flight);
}

#[tokio::test]
async fn an_address_has_thirty_logins_a_minute_and_no_header_of_its_own_gives_it_more() {
    for trusted in [false, true] {
        let app = TestApp::spawn_with(|config| {
            config.rate_limit.enabled = true;
            if trusted {
                behind_a_proxy(config);
            }
        });
        let mut answers = Vec::new();
        for number in 0..40 {
            let spoofed = format!("198.51.100.{number}");
            // What a client wrote stands before what the proxy adds; without a proxy nothing of it is believed.
            let forwarded = match (trusted, number % 4) {
                (true, 0) => format!("X-Forwarded-For: {spoofed}, {STRANGER}\r\n"),
                (true, 1) => format!("X-Forwarded-For: {spoofed}\r\nX-Forwarded-For: {STRANGER}\r\n"),
                (true, 2) => format!("X-Forwarded-For: junk, ,,{spoofed},\"x\",   {STRANGER}:4711 \r\n"),
                (true, _) => format!("X-Forwarded-For: \u{fc}{spoofed}, {STRANGER}\r\n"),
                (false, 0) => format!("X-Forwarded-For: {spoofed}\r\n"),
                (false, 1) => format!("X-Forwarded-For: {spoofed}, 127.0.0.1\r\nX-Forwarded-For: {spoofed}\r\n"),
                (false, 2) => format!("x-forwarded-for: [2001:db8:{number}::1]:80\r\n"),
                (false, _) => "X-Forwarded-For: \u{fc}\r\n".to_owned(),
            };
            let headers = format!(
                "{JSON}{forwarded}Forwarded: for={spoofed}\r\nX-Real-IP: {spoofed}\r\nClient-IP: {spoofed}\r\n\
                 True-Client-IP: {spoofed}\r\nCF-Connecting-IP: {spoofed}\r\nVia: 1.1 {spoofed}\r\n"
            );
            let path = if number % 2 == 0 { "/api/login" } else { "/api/login/" };
            let body = json!({"username": format!("nobody{number}"), "password": "p"}).to_string();
            let response = app.raw(post_bytes(path, &headers, body));
            if response.status() == 429 {
                assert_eq!(response.header("Retry-After"), Some("2"), "{response:?}");
                response.assert_error(429);
            }
            answers.push(response.status());
        }
        let expected: Vec<u16> = [[401].repeat(30), [429].repeat(10)].concat();
        assert_eq!(answers, expected, "trusted: {trusted}");
        app.clock.advance(Duration::from_secs(2));
        let mut after = Vec::new();
        for _ in 0..2 {
            after.push(log_in_from(&app, STRANGER, "nobody", "p").await);
        }
        assert_eq!(after, [401, 429], "one more every two seconds");
        // An address of its own has a count of its own, where it is believed.
        assert_eq!(log_in_from(&app, "198.51.100.1", "nobody", "p").await, if trusted { 401 } else { 429 });
        app.clock.advance(Duration::from_secs(60));
        assert_eq!(log_in_from(&app, STRANGER, "nobody", "p").await, 401);
    }
}

#[tokio::test]
async fn a_header_that_is_no_text_does_not_hide_the_address_that_the_proxy_wrote() {
    let app = TestApp::spawn_with(behind_a_proxy);
    let body = json!({"username": "a", "password": "p"}).to_string();
    let head = format!("POST /api/register HTTP/1.1\r\nHost: a\r\n{JSON}Content-Length: {}\r\n", body.len());
    let forwarded = b"X-Forwarded-For: \xff\xfe, 203.0.113.9\r\n\r\n";
    let request = [head.as_bytes(), forwarded, body.as_bytes()].concat();
    assert_eq!(app.raw(request).status(), 201);
    assert_eq!(app.rows("SELECT ip FROM tokens"), [STRANGER]);
}

#[tokio::test]
async fn an_ipv6_client_counts_by_its_64_and_an_address_in_another_spelling_is_the_same() {
    let app = TestApp::spawn_with(|config| {
        behind_a_proxy(config);
        config.rate_limit.login = Rate { count: 3, period: Duration::from_secs(60) };
    });
    for (ip, status) in [
        ("2001:db8::1", 401),
        ("2001:DB8:0:0:ffff::2", 401),
        ("[2001:db8::3]:443", 401),
        ("2001:db8::ffff:ffff:ffff:ffff", 429),
        ("2001:db8:0:1::1", 401),
        ("203.0.113.9", 401),
        ("::ffff:203.0.113.9", 401),
        ("::ffff:cb00:7109", 401),
        ("203.0.113.9:4711", 429),
        ("203.0.113.10", 401),
    ] {
        assert_eq!(log_in_from(&app, ip, "nobody", "p").await, status, "{ip}");
    }
}

#[tokio::test]
async fn an_address_has_twenty_registrations_an_hour_and_taken_names_count() {
    let app = TestApp::spawn_with(behind_a_proxy);
    new_owner(&app).await;
    for number in 0..20 {
        let (name, status) =
            if number % 2 == 0 { ("azurediamond".to_owned(), 400) } else { (format!("u{number}"), 201) };
        let path = if number % 3 == 0 { "/api/register" } else { "/api/register/" };
        let response = post_from(&app, STRANGER, path, &name, "hunter2").await;
        assert_eq!(response.status().as_u16(), status, "{number}");
    }
    let stored = || (app.rows("SELECT * FROM users"), app.rows("SELECT * FROM tokens"));
    let before = stored();
    for name in ["azurediamond", "fresh"] {
        let refused = post_from(&app, STRANGER, "/api/register", name, "hunter2").await;
        assert_eq!(retry_after(refused).await, 180, "{name}");
    }
    assert_eq!(stored(), before, "neither an account nor a session");
    assert_eq!(post_from(&app, OWNER, "/api/register", "other", "hunter2").await.status(), 201);
    assert_eq!(log_in_from(&app, STRANGER, "AzureDiamond", "hunter2").await, 200, "logins are counted apart");
    app.clock.advance(Duration::from_secs(180));
    assert_eq!(post_from(&app, STRANGER, "/api/register", "fresh", "hunter2").await.status(), 201);
}

#[tokio::test]
async fn failures_count_for_the_account_whatever_the_spelling_and_wherever_they_come_from() {
    let app = TestApp::spawn_with(behind_a_proxy);
    new_owner(&app).await;
    let spellings = ["AzureDiamond", "azurediamond", "AZUREDIAMOND", "aZuReDiAmOnD"];
    for number in 0..10 {
        let ip = format!("198.51.100.{number}");
        assert_eq!(log_in_from(&app, &ip, spellings[number % 4], "wrong").await, 401);
        for name in ["AzureDiamond ", " AzureDiamond", "AzureDiamond\u{0}", "Azurediamon\u{ff44}", "AzureD\u{131}amond"]
        {
            assert_eq!(log_in_from(&app, &ip, name, "wrong").await, 400, "{name:?} is no name");
        }
    }
    for (number, name) in spellings.into_iter().enumerate() {
        let refused = post_from(&app, &format!("198.51.100.{}", 100 + number), "/api/login", name, "hunter2").await;
        assert_eq!(retry_after(refused).await, 1, "{name}");
    }
}

#[tokio::test]
async fn the_delay_doubles_to_a_quarter_of_an_hour_and_is_a_day_from_the_hundredth_failure_on() {
    let app = TestApp::spawn_with(accounts_alone);
    new_owner(&app).await;
    lock_out(&app, "AzureDiamond").await;
    for failures in 10..=100_u32 {
        let refused = post_from(&app, STRANGER, "/api/login", "AzureDiamond", "hunter2").await;
        let wait = retry_after(refused).await;
        let expected = if failures == 100 { 86_400 } else { 2_u64.pow((failures - 10).min(20)).min(900) };
        assert_eq!(wait, expected, "after {failures} failures");
        app.clock.advance(Duration::from_millis(wait * 1_000 - 1));
        assert_eq!(log_in_from(&app, STRANGER, "AzureDiamond", "hunter2").await, 429, "a millisecond too early");
        app.clock.advance(Duration::from_millis(1));
        if failures < 100 {
            assert_eq!(log_in_from(&app, STRANGER, "AzureDiamond", "wrong").await, 401);
        }
    }
    assert_eq!(log_in_from(&app, STRANGER, "AzureDiamond", "hunter2").await, 200, "a day later");
    lock_out_from(&app, "198.51.100.1", "AzureDiamond").await;
}

/// Sets the wall clock by so many seconds; no time goes by.
fn set_clock_by(app: &TestApp, seconds: i64) {
    app.clock.set(Timestamp::from_millis(app.clock.now().as_millis() + seconds * 1_000).unwrap());
}

const HOUR: i64 = 60 * 60;
const YEAR: i64 = 365 * 24 * HOUR;

#[tokio::test]
async fn whoever_is_told_to_wait_waits_so_long_and_no_longer_whatever_the_clock_is_set_to() {
    for by in [-HOUR, -10 * YEAR, HOUR, 10 * YEAR] {
        let app = TestApp::spawn_with(behind_a_proxy);
        new_owner(&app).await;
        let log_in = async |name: &str| post_from(&app, STRANGER, "/api/login", name, "wrong").await;
        let register = async || post_from(&app, STRANGER, "/api/register", "AzureDiamond", "hunter2").await;
        for number in 0..30 {
            assert_eq!(log_in(&format!("nobody{number}")).await.status(), 401);
        }
        for _ in 0..20 {
            assert_eq!(register().await.status(), 400);
        }
        set_clock_by(&app, by);
        for _ in 0..2 {
            assert_eq!(retry_after(log_in("nobody").await).await, 2, "{by}");
            app.clock.advance(Duration::from_secs(2));
            assert_eq!(log_in("nobody").await.status(), 401, "{by}");
        }
        app.clock.advance(Duration::from_secs(180 - 5));
        assert_eq!(retry_after(register().await).await, 1, "{by}");
        app.clock.advance(Duration::from_secs(1));
        assert_eq!(register().await.status(), 400, "{by}");
    }
}

#[tokio::test]
async fn the_delay_of_an_account_is_as_long_whatever_the_clock_is_set_to_and_over_a_restart_no_longer() {
    for by in [-HOUR, -10 * YEAR, HOUR, 10 * YEAR] {
        let app = TestApp::spawn_with(accounts_alone);
        new_owner(&app).await;
        let guess = async |app: &TestApp| post_from(app, STRANGER, "/api/login", "AzureDiamond", "wrong").await;
        lock_out(&app, "AzureDiamond").await;
        set_clock_by(&app, by);
        for wait in [1, 2, 4, 8] {
            assert_eq!(retry_after(guess(&app).await).await, wait, "{by}");
            app.clock.advance(Duration::from_secs(wait));
            assert_eq!(guess(&app).await.status(), 401, "{by}");
        }
        // By the wall clock, which is all that a restart has: a failure from the future counts as one of now.
        set_clock_by(&app, -by.abs());
        let app = app.restart_with(accounts_alone);
        assert_eq!(retry_after(guess(&app).await).await, 16, "{by}");
        app.clock.advance(Duration::from_secs(16));
        assert_eq!(guess(&app).await.status(), 401, "{by}");
    }
}

#[tokio::test]
async fn that_somebody_is_throttled_is_noted_once_a_minute_whatever_the_clock_is_set_to() {
    for by in [-HOUR, HOUR] {
        let app = TestApp::spawn_with(|config| {
            accounts_alone(config);
            config.rate_limit.login = Rate { count: 1, period: Duration::from_secs(1_000_000) };
        });
        assert_eq!(log_in_from(&app, STRANGER, "nobody", "wrong").await, 401);
        let noted = || app.rows("SELECT count(*) FROM events WHERE kind = 'throttled'").remove(0);
        assert_eq!(log_in_from(&app, STRANGER, "nobody", "wrong").await, 429);
        until("noting", || noted() == "1").await;
        set_clock_by(&app, by);
        app.clock.advance(Duration::from_secs(59));
        assert_eq!(log_in_from(&app, STRANGER, "nobody", "wrong").await, 429);
        app.clock.advance(Duration::from_secs(1));
        assert_eq!(log_in_from(&app, STRANGER, "nobody", "wrong").await, 429);
        until("noting again", || noted() == "2").await;
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        assert_eq!(noted(), "2", "{by}");
    }
}

#[tokio::test]
async fn an_attempt_after_retry_after_is_let_through_by_the_account_and_by_the_address() {
    let app = TestApp::spawn_with(behind_a_proxy);
    new_owner(&app).await;
    let guess = async || post_from(&app, STRANGER, "/api/login", "AzureDiamond", "wrong").await;
    for _ in 0..10 {
        assert_eq!(guess().await.status(), 401);
    }
    for number in 11..30 {
        assert_eq!(retry_after(guess().await).await, 1, "{number}: the account's");
    }
    // The address has no attempt left, and gets one every two seconds.
    assert_eq!(retry_after(guess().await).await, 2, "the account's refusal, and the address's wait");
    app.clock.advance(Duration::from_secs(2));
    assert_eq!(guess().await.status(), 401);
}

#[tokio::test]
async fn of_two_hundred_wrong_passwords_at_once_in_any_spelling_ten_are_checked() {
    let app = std::sync::Arc::new(TestApp::spawn_with(|config| {
        accounts_alone(config);
        config.password.hash_queue = 1_000;
    }));
    new_owner(&app).await;
    for name in ["azurediamond", "nobody"] {
        let attempts: Vec<_> = (0..200_usize)
            .map(|number| {
                let app = std::sync::Arc::clone(&app);
                let spelling: String = name
                    .chars()
                    .enumerate()
                    .map(|(at, c)| if number >> (at % 7) & 1 == 1 { c.to_ascii_uppercase() } else { c })
                    .collect();
                let ip = format!("198.51.100.{number}");
                tokio::spawn(async move { log_in_from(&app, &ip, &spelling, "wrong").await })
            })
            .collect();
        let mut counts = BTreeMap::new();
        for attempt in attempts {
            *counts.entry(attempt.await.unwrap()).or_insert(0) += 1;
        }
        assert_eq!(counts, BTreeMap::from([(401, 10), (429, 190)]), "{name}");
    }
}

#[tokio::test]
async fn nothing_is_hashed_for_an_attempt_that_is_refused() {
    let app = TestApp::spawn_with(|config| {
        behind_a_proxy(config);
        config.rate_limit.login = Rate { count: 12, period: Duration::from_secs(60) };
    });
    new_owner(&app).await;
    lock_out(&app, "AzureDiamond").await;
    // Whoever verifies against this hash answers 500.
    app.set("AzureDiamond", "password_hash = 'broken'");
    for password in ["wrong", "hunter2"] {
        assert_eq!(log_in_from(&app, "203.0.113.10", "AzureDiamond", password).await, 429, "of the account");
    }
    app.clock.advance(Duration::from_secs(1));
    // The address's last one.
    assert_eq!(log_in_from(&app, STRANGER, "AzureDiamond", "hunter2").await, 500);
    assert_eq!(log_in_from(&app, STRANGER, "AzureDiamond", "hunter2").await, 429, "of the address");
    assert_eq!(log_in_from(&app, "203.0.113.10", "AzureDiamond", "hunter2").await, 500, "it was no failure");
}

#[tokio::test]
async fn while_strangers_are_refused_a_familiar_address_and_a_live_token_let_the_owner_in() {
    let app = TestApp::spawn_with(accounts_alone);
    let token = new_owner(&app).await;
    session_of(post_from(&app, "2001:db8::1", "/api/login", "AzureDiamond", "hunter2").await).await;
    lock_out(&app, "AzureDiamond").await;
    assert_eq!(log_in_from(&app, STRANGER, "AzureDiamond", "hunter2").await, 429, "a stranger who knows it");

    let change = json!({"current_password": "hunter2", "new_password": "hunter3"});
    assert_eq!(app.ask(Method::POST, "/api/user/password", &token, Some(&change)).await.status(), 200);
    lock_out(&app, "AzureDiamond").await;
    assert_eq!(log_in_from(&app, "2001:db8::ffff", "AzureDiamond", "hunter3").await, 200, "of the same network");
    lock_out(&app, "AzureDiamond").await;
    assert_eq!(log_in_from(&app, OWNER, "azurediamond", "hunter3").await, 200);
    assert_eq!(log_in_from(&app, STRANGER, "AzureDiamond", "hunter3").await, 200, "a success forgets the failures");
    // From here on the stranger is familiar: the account has logged in from there.
    let other = "198.51.100.77";
    for _ in 0..10 {
        assert_eq!(log_in_from(&app, other, "AzureDiamond", "wrong").await, 401);
    }
    // A familiar address may not guess without end either.
    for _ in 0..10 {
        assert_eq!(log_in_from(&app, OWNER, "AzureDiamond", "wrong").await, 401);
    }
    assert_eq!(log_in_from(&app, OWNER, "AzureDiamond", "hunter3").await, 429);
    assert_eq!(log_in_from(&app, STRANGER, "AzureDiamond", "hunter3").await, 200, "another familiar one");
}

#[tokio::test]
async fn a_familiar_network_has_ten_guesses_however_many_addresses_it_has() {
    let app = TestApp::spawn_with(accounts_alone);
    session_of(post_from(&app, "203.0.113.7", "/api/register", "victim", "hunter2").await).await;
    session_of(post_from(&app, "2001:db8:7::7", "/api/login", "victim", "hunter2").await).await;
    lock_out_from(&app, "198.51.100.1", "victim").await;
    for (network, number_of) in [("203.0.113.", 30), ("2001:db8:7:", 30)] {
        let mut answers = Vec::new();
        for number in 10..10 + number_of {
            let end = if network.contains(':') { "::1" } else { "" };
            answers.push(log_in_from(&app, &format!("{network}{number}{end}"), "victim", "wrong").await);
        }
        assert_eq!(answers, [[401].repeat(10), [429].repeat(20)].concat(), "{network}");
    }
}

#[tokio::test]
async fn a_familiar_address_has_ten_guesses_and_not_ten_more_as_a_stranger() {
    let app = TestApp::spawn_with(accounts_alone);
    new_owner(&app).await;
    lock_out_from(&app, OWNER, "AzureDiamond").await;
    // What failed at home delays whoever comes from elsewhere too, but a newcomer's attempt is there.
    assert_eq!(log_in_from(&app, STRANGER, "AzureDiamond", "hunter2").await, 200);
}

#[tokio::test]
async fn after_a_hundred_failures_a_familiar_network_has_one_guess_a_day_and_a_live_token_goes_on() {
    let app = TestApp::spawn_with(accounts_alone);
    let token = new_owner(&app).await;
    lock_out(&app, "AzureDiamond").await;
    for _ in 10..100 {
        app.clock.advance(Duration::from_secs(900));
        assert_eq!(log_in_from(&app, STRANGER, "AzureDiamond", "wrong").await, 401);
    }
    assert_eq!(log_in_from(&app, OWNER, "AzureDiamond", "wrong").await, 401, "of a network that has not failed");
    let refused = post_from(&app, OWNER, "/api/login", "AzureDiamond", "hunter2").await;
    assert_eq!(retry_after(refused).await, 86_400);
    let app = app.restart_with(accounts_alone);
    assert_eq!(log_in_from(&app, OWNER, "AzureDiamond", "wrong").await, 401, "what a restart gives anew");
    assert_eq!(log_in_from(&app, OWNER, "AzureDiamond", "hunter2").await, 429, "the hundred are remembered");
    let change = json!({"current_password": "hunter2", "new_password": "hunter3"});
    assert_eq!(app.ask(Method::POST, "/api/user/password", &token, Some(&change)).await.status(), 200);
    assert_eq!(log_in_from(&app, OWNER, "AzureDiamond", "hunter3").await, 200);
}

#[tokio::test]
async fn who_has_many_networks_side_by_side_cannot_keep_out_an_owner_who_is_somewhere_new() {
    let app = TestApp::spawn_with(accounts_alone);
    session_of(post_from(&app, "192.0.2.1", "/api/register", "victim", "hunter2").await).await;
    let guess_from_all_over = async |to: u32| {
        let mut statuses = Vec::new();
        for number in 0..to {
            // The addresses of one /48, its neighbours in one /32, and those of one /16.
            for address in
                [format!("2001:db8:0:{number:x}::1"), format!("2001:db8:{number:x}::1"), format!("198.51.{number}.1")]
            {
                statuses.push(log_in_from(&app, &address, "victim", "wrong").await);
            }
        }
        assert!(statuses.contains(&429), "the guesses are many enough to be refused: {statuses:?}");
    };
    guess_from_all_over(12).await;
    assert_eq!(log_in_from(&app, "203.0.113.9", "victim", "mistyped").await, 401, "from the tenth failure on");
    for day in 0..4 {
        guess_from_all_over(12).await;
        app.clock.advance(Duration::from_secs(86_400));
        guess_from_all_over(12).await;
        assert_eq!(log_in_from(&app, &format!("203.{day}.113.9"), "victim", "mistyped").await, 401, "day {day}");
    }
    assert_eq!(log_in_from(&app, "203.77.113.9", "victim", "hunter2").await, 200);
}

#[tokio::test]
async fn a_refusal_comes_as_late_for_a_name_that_is_nobodys_as_for_one_that_has_logged_in_often() {
    let app = TestApp::spawn_with(accounts_alone);
    new_owner(&app).await;
    for _ in 0..20 {
        assert_eq!(log_in_from(&app, OWNER, "AzureDiamond", "hunter2").await, 200);
    }
    for name in ["AzureDiamond", "nobody"] {
        lock_out(&app, name).await;
        for _ in 0..20 {
            let asked = Instant::now();
            assert_eq!(log_in_from(&app, STRANGER, name, "wrong").await, 429);
            assert!(asked.elapsed() >= Duration::from_millis(10), "{name}: not before a look may be over");
        }
    }
}

#[tokio::test]
async fn the_holder_of_a_token_has_ten_guesses_too_and_they_are_counted_apart() {
    let app = TestApp::spawn_with(accounts_alone);
    let token = new_owner(&app).await;
    let guess = async |password: &str, number: usize| {
        let (method, path, body) = if number.is_multiple_of(2) {
            let body = json!({"current_password": password, "new_password": "hunter2"});
            (Method::POST, "/api/user/password", body)
        } else {
            (Method::DELETE, "/api/user", json!({"password": password}))
        };
        app.ask(method, path, &token, Some(&body)).await
    };
    for number in 0..10 {
        assert_eq!(guess("wrong", number).await.status(), 400);
    }
    for number in 0..2 {
        assert_eq!(retry_after(guess("hunter2", number).await).await, 1);
    }
    assert_eq!(log_in_from(&app, STRANGER, "AzureDiamond", "hunter2").await, 200, "logins are counted apart");
    app.clock.advance(Duration::from_secs(1));
    assert_eq!(guess("hunter2", 0).await.status(), 200);
    for number in 0..10 {
        assert_eq!(guess("wrong", number).await.status(), 400, "a success forgets the failures");
    }
}

#[tokio::test]
async fn a_restart_does_not_forget_the_failures_at_an_account() {
    let app = TestApp::spawn_with(accounts_alone);
    new_owner(&app).await;
    lock_out(&app, "AzureDiamond").await;
    for wait in [1, 2, 4] {
        app.clock.advance(Duration::from_secs(wait));
        assert_eq!(log_in_from(&app, STRANGER, "AzureDiamond", "wrong").await, 401);
    }
    let app = app.restart_with(accounts_alone);
    let refused = post_from(&app, STRANGER, "/api/login", "aZUREdIAMOND", "hunter2").await;
    assert_eq!(retry_after(refused).await, 8);
    assert_eq!(log_in_from(&app, OWNER, "AzureDiamond", "hunter2").await, 200, "a familiar address is known too");
    let app = app.restart_with(accounts_alone);
    lock_out(&app, "AzureDiamond").await;
}

#[tokio::test]
async fn a_failure_is_in_the_file_a_moment_later_whatever_becomes_of_the_process() {
    let app = TestApp::spawn_with(accounts_alone);
    new_owner(&app).await;
    lock_out(&app, "AzureDiamond").await;
    until("storing", || app.rows("SELECT failures FROM login_failures") == ["10"]).await;
    assert_eq!(log_in_from(&app, OWNER, "AzureDiamond", "hunter2").await, 200);
    assert_eq!(app.count("login_failures"), 0);
}

/// Sets a password as a command on the server does: through a store of its own on the same file.
async fn reset_from_another_process(app: &TestApp) {
    let settings =
        SqliteSettings { path: app.database.clone(), readers: 1, busy_timeout: Duration::from_secs(30), cache: 0 };
    let store = SqliteRepository::open_shared(&settings, false).unwrap();
    let hash: String = app.rows("SELECT password_hash FROM users").remove(0);
    let change = AccountChange { password_hash: Some(PasswordHash::from_stored(hash)), ..AccountChange::default() };
    let now = Timestamp::from_millis(START_MILLIS).unwrap();
    let name = Username::parse("AzureDiamond").unwrap();
    assert!(store.change_account(&Actor::CommandLine, &name, change, now).await.unwrap().is_some());
    store.close().await.unwrap();
}

/// Waits until a login from a stranger's address is no longer refused.
async fn until_let_in(app: &TestApp, ip: &str) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match log_in_from(app, ip, "AzureDiamond", "hunter2").await {
            429 => assert!(Instant::now() < deadline, "nobody notices"),
            status => return assert_eq!(status, 200),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn a_password_that_staff_or_a_command_set_makes_the_failures_forgotten() {
    let app = TestApp::spawn_with(accounts_alone);
    new_owner(&app).await;
    let (root, _) = session_of(post_from(&app, OWNER, "/api/register", "root", "hunter2").await).await;
    app.set("root", "is_superuser = 1");
    lock_out(&app, "AzureDiamond").await;
    let reset = json!({"password": "hunter2"});
    app.get(Method::PATCH, "/api/users/AZUREdiamond", &root, Some(&reset)).await;
    assert_eq!(log_in_from(&app, STRANGER, "AzureDiamond", "hunter2").await, 200, "at once");
    // For as long as the service takes to notice its own reset once more.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let other = "198.51.100.1";
    lock_out_from(&app, other, "AzureDiamond").await;
    reset_from_another_process(&app).await;
    until_let_in(&app, other).await;
}

#[tokio::test]
async fn failures_right_before_a_new_password_do_not_come_back_with_the_next_restart() {
    let app = TestApp::spawn_with(accounts_alone);
    let token = new_owner(&app).await;
    let (root, _) = session_of(post_from(&app, OWNER, "/api/register", "root", "hunter2").await).await;
    app.set("root", "is_superuser = 1");
    let own = json!({"current_password": "hunter2", "new_password": "hunter2"});
    let stored = || app.rows("SELECT count(*) FROM events WHERE kind = 'login_failed'").remove(0);
    for (method, path, token, body, failures) in [
        (Method::POST, "/api/user/password", &token, own, "10"),
        (Method::PATCH, "/api/users/azurediamond", &root, json!({"password": "hunter2"}), "20"),
    ] {
        lock_out(&app, "AzureDiamond").await;
        app.get(method, path, token, Some(&body)).await;
        until("storing", || stored() == failures).await;
        assert_eq!(app.count("login_failures"), 0, "{path}");
    }
    lock_out(&app, "AzureDiamond").await;
    reset_from_another_process(&app).await;
    until("storing", || stored() == "30").await;
    assert_eq!(app.count("login_failures"), 0, "a command's");
}

#[tokio::test]
async fn a_password_that_a_command_sets_right_after_a_start_makes_the_failures_forgotten() {
    let app = TestApp::spawn_with(accounts_alone);
    new_owner(&app).await;
    lock_out(&app, "AzureDiamond").await;
    let app = app.restart_with(accounts_alone);
    assert_eq!(log_in_from(&app, STRANGER, "AzureDiamond", "hunter2").await, 429);
    reset_from_another_process(&app).await;
    until_let_in(&app, STRANGER).await;
}

#[tokio::test]
async fn a_name_that_no_account_has_is_refused_exactly_like_one_that_is_somebodys() {
    let app = TestApp::spawn_with(accounts_alone);
    new_owner(&app).await;
    app.new_user("Deactivated0").await;
    app.deactivate("Deactivated0");
    let mut told = Vec::new();
    for name in ["AzureDiamond", "NoSuchPerson", "Deactivated0"] {
        let mut answers = Vec::new();
        for attempt in 0..60_u64 {
            app.clock.advance(Duration::from_millis(700 * (attempt % 5)));
            let body = json!({"username": name, "password": "wrong"}).to_string();
            let headers = format!("{JSON}X-Forwarded-For: {STRANGER}\r\n");
            let mut answer = app.raw(post_bytes("/api/login", &headers, body));
            assert!([401, 429].contains(&answer.status()), "{answer:?}");
            answer.headers.retain(|(header, _)| !["X-Request-Id", "Date"].contains(&header.as_str()));
            answers.push((answer.status_line, answer.headers, answer.body));
        }
        told.push(answers);
    }
    assert!(told[0].iter().any(|(status, ..)| status.contains("429")));
    assert_eq!(told[0], told[1], "nobody's");
    assert_eq!(told[0], told[2], "of an account that may not be used");
}

#[tokio::test]
async fn a_client_that_sends_all_at_once_or_closes_its_sending_half_has_no_more_guesses() {
    let app = TestApp::spawn_with(accounts_alone);
    new_owner(&app).await;
    let guess = |name: &str| {
        let body = json!({"username": name, "password": "wrong"}).to_string();
        post_bytes("/api/login", &format!("{JSON}X-Forwarded-For: {STRANGER}\r\n"), body)
    };
    let mut stream = app.connect();
    stream.write_all(&guess("AzureDiamond").repeat(40)).unwrap();
    let answers: Vec<u16> = (0..40).map(|_| RawResponse::read_from(&mut stream).status()).collect();
    assert_eq!(answers, [[401].repeat(10), [429].repeat(30)].concat(), "in one go");

    let mut checked = 0;
    for _ in 0..40 {
        let mut stream = app.connect();
        stream.write_all(&guess("nobody")).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        match RawResponse::read_from(&mut stream).status() {
            401 => checked += 1,
            status => assert!([429, 503].contains(&status), "{status}"),
        }
    }
    assert_eq!(checked, 10, "each with its sending half closed");
}

#[tokio::test]
async fn a_token_of_another_account_makes_nobody_familiar() {
    let app = TestApp::spawn_with(accounts_alone);
    new_owner(&app).await;
    let other = app.new_user("other").await;
    lock_out(&app, "AzureDiamond").await;
    // The token is another account's: it makes nobody familiar with this one.
    let request = app.client.post(app.url("/api/login")).header("Authorization", format!("Token {other}"));
    let request = request.header("X-Forwarded-For", STRANGER);
    let refused = request.json(&json!({"username": "AzureDiamond", "password": "hunter2"})).send().await.unwrap();
    assert_eq!(retry_after(refused).await, 1);
}

#[tokio::test]
async fn no_password_is_tried_before_the_failures_are_known_again() {
    let app = TestApp::spawn_with(accounts_alone);
    new_owner(&app).await;
    lock_out(&app, "AzureDiamond").await;
    until("storing", || app.rows("SELECT failures FROM login_failures") == ["10"]).await;
    let (folder, copy) = app.copy_database();
    let (address_of, address) = std::sync::mpsc::channel();
    let (go_on, may_go_on) = std::sync::mpsc::channel::<()>();
    let clock = app.clock.clone();
    let serving = std::thread::spawn(move || {
        let mut config = test_config(&folder);
        accounts_alone(&mut config);
        config.database.path = copy;
        actix_rt::System::new().block_on(async move {
            let application = Application::build(&config, clock).unwrap();
            address_of.send(application.address()).unwrap();
            // The server can be reached, and is not yet served.
            may_go_on.recv().unwrap();
            application.run_until_stopped(tokio::time::sleep(Duration::from_secs(1))).await.unwrap();
        });
    });
    let address = address.recv().unwrap();
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    let body = json!({"username": "AzureDiamond", "password": "wrong"}).to_string();
    stream.write_all(&post_bytes("/api/login", &format!("{JSON}X-Forwarded-For: {STRANGER}\r\n"), body)).unwrap();
    std::thread::sleep(Duration::from_millis(500));
    go_on.send(()).unwrap();
    assert_eq!(RawResponse::read_from(&mut stream).status(), 429);
    serving.join().unwrap();
}
