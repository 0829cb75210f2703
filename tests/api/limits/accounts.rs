//! The lockout of accounts: how long an attempt waits after failures.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use authtokens::domain::rate::Rate;
use serde_json::json;

use super::{
    HOUR, OWNER, STRANGER, YEAR, accounts_alone, behind_a_proxy, lock_out, lock_out_from, log_in_from, new_owner,
    post_from, retry_after, set_clock_by,
};
use crate::helpers::{JSON, TestApp, post_bytes, until};

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
    let most = app.store.most_failures();
    for failures in 10..=most {
        let refused = post_from(&app, STRANGER, "/api/login", "AzureDiamond", "hunter2").await;
        let wait = retry_after(refused).await;
        let expected = if failures == most { 86_400 } else { 2_u64.pow((failures - 10).min(20)).min(900) };
        // Where nodes share the store, a failure that is being stored may count twice for a moment.
        let is_early = app.store.is_shared() && failures + 1 == most && wait == 86_400;
        assert!(wait == expected || is_early, "{wait} s instead of {expected} after {failures} failures");
        app.clock.advance(Duration::from_millis(wait * 1_000 - 1));
        assert_eq!(log_in_from(&app, STRANGER, "AzureDiamond", "hunter2").await, 429, "a millisecond too early");
        app.clock.advance(Duration::from_millis(1));
        if failures < most {
            assert_eq!(log_in_from(&app, STRANGER, "AzureDiamond", "wrong").await, 401);
        }
    }
    assert_eq!(log_in_from(&app, STRANGER, "AzureDiamond", "hunter2").await, 200, "a day later");
    lock_out_from(&app, "198.51.100.1", "AzureDiamond").await;
}

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
        // By the wall clock, because a restart has no other: a failure in the future counts as one of now.
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
        let noted = || app.count_events("throttled");
        assert_eq!(log_in_from(&app, STRANGER, "nobody", "wrong").await, 429);
        until("noting", || noted() == 1).await;
        set_clock_by(&app, by);
        app.clock.advance(Duration::from_secs(59));
        assert_eq!(log_in_from(&app, STRANGER, "nobody", "wrong").await, 429);
        app.clock.advance(Duration::from_secs(1));
        assert_eq!(log_in_from(&app, STRANGER, "nobody", "wrong").await, 429);
        until("noting again", || noted() == 2).await;
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        assert_eq!(noted(), 2, "{by}");
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
    // The address has no attempt left, and regains one every two seconds.
    assert_eq!(retry_after(guess().await).await, 2, "the longer of the two waits, which is the address's");
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
    // A verification against this hash would answer 500.
    app.set("AzureDiamond", |account| "broken".clone_into(&mut account.password_hash));
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
