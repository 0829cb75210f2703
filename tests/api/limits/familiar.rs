//! Who is let in while an account is locked out for others: familiar networks, and holders of tokens.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;

use super::{OWNER, STRANGER, accounts_alone, lock_out, lock_out_from, log_in_from, new_owner, post_from, retry_after};
use crate::helpers::{TestApp, session_of};

#[tokio::test]
async fn while_strangers_are_refused_a_familiar_address_and_a_live_token_let_the_owner_in() {
    let app = TestApp::spawn_with(accounts_alone);
    let token = new_owner(&app).await;
    session_of(post_from(&app, "2001:db8::1", "/api/login", "AzureDiamond", "hunter2").await).await;
    lock_out(&app, "AzureDiamond").await;
    assert_eq!(log_in_from(&app, STRANGER, "AzureDiamond", "hunter2").await, 429, "a stranger who knows it");

    let change = json!({"current_password": "hunter2", "new_password": "hunter3"});
    assert_eq!(app.ask(Method::POST, "/api/user/password", &token, Some(&change)).await.status(), 200);
    // What fails in the millisecond of a new password or a login is taken to have come before it.
    let moment = || app.clock.advance(Duration::from_millis(2));
    moment();
    lock_out(&app, "AzureDiamond").await;
    assert_eq!(log_in_from(&app, "2001:db8::ffff", "AzureDiamond", "hunter3").await, 200, "of the same network");
    moment();
    lock_out(&app, "AzureDiamond").await;
    assert_eq!(log_in_from(&app, OWNER, "azurediamond", "hunter3").await, 200);
    assert_eq!(log_in_from(&app, STRANGER, "AzureDiamond", "hunter3").await, 200, "a success clears the failures");
    moment();
    // From here on the stranger is familiar: the account has logged in from there.
    let other = "198.51.100.77";
    for _ in 0..10 {
        assert_eq!(log_in_from(&app, other, "AzureDiamond", "wrong").await, 401);
    }
    // A familiar address has a limit too.
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
    for _ in 10..app.store.most_failures() {
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
async fn the_holder_of_a_token_has_ten_guesses_too_and_they_are_counted_apart() {
    let app = TestApp::spawn_with(accounts_alone);
    let token = new_owner(&app).await;
    let guess = async |password: &str, number: usize| {
        let (method, path, body) = match number % 3 {
            0 => {
                let body = json!({"current_password": password, "new_password": "hunter2"});
                (Method::POST, "/api/user/password", body)
            }
            1 => (Method::POST, "/api/user/reauthenticate", json!({"password": password})),
            _ => (Method::DELETE, "/api/user", json!({"password": password})),
        };
        app.ask(method, path, &token, Some(&body)).await
    };
    for number in 0..10 {
        assert_eq!(guess("wrong", number).await.status(), 400);
    }
    for number in 0..3 {
        assert_eq!(retry_after(guess("hunter2", number).await).await, 1);
    }
    assert_eq!(log_in_from(&app, STRANGER, "AzureDiamond", "hunter2").await, 200, "logins are counted apart");
    app.clock.advance(Duration::from_secs(1));
    for call in [0, 1] {
        assert_eq!(guess("hunter2", call).await.status(), 200);
        for number in 0..10 {
            assert_eq!(guess("wrong", number).await.status(), 400, "a success clears the failures");
        }
        app.clock.advance(Duration::from_secs(1));
    }
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
