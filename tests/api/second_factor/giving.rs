//! A login that needs the second factor, and how it is given.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use super::{MINUTE, Owner, STEP, WRONG, due, give, log_in_with, new_owner, opened, pending, security};
use crate::helpers::{TestApp, UNKNOWN_TOKEN, error_of};

const REFUSED: &str = "The username or the password is wrong.";

#[tokio::test]
async fn a_login_without_a_code_is_an_error_that_says_how_to_finish_it() {
    let app = TestApp::spawn();
    let Owner { token: owner, app: theirs, .. } = new_owner(&app, "AzureDiamond").await;
    let (sessions, last_login) = (app.count("tokens"), app.count_events("logged_in"));
    let second = due(app.log_in("AzureDiamond", "hunter2").await).await;
    let expires = app.clock.now().plus(MINUTE * 5).to_string();
    assert_eq!(second["methods"], json!(["totp", "recovery_code"]));
    assert_eq!(second["expires"], json!(expires));
    assert_eq!((app.count("tokens"), app.count_events("logged_in")), (sessions, last_login), "nothing is open");
    let events = app.get(Method::GET, "/api/user/events", &owner, None).await;
    let last = &events[0];
    assert_eq!((&last["kind"], &last["actor"]), (&json!("second_factor_asked"), &Value::Null), "the owner sees it");
    assert_eq!(last["ip"], "127.0.0.1");
    let token = second["token"].as_str().unwrap();
    assert_eq!(app.ask(Method::GET, "/api/user", token, None).await.status(), 401, "it is no session's token");

    let answer = give(&app, token, "code", theirs.code(&app, 0)).await;
    assert_eq!((answer.status().as_u16(), &answer.headers()["cache-control"]), (200, &"no-store".parse().unwrap()));
    let body: Value = answer.json().await.unwrap();
    assert_eq!(body.as_object().unwrap().keys().collect::<Vec<_>>(), ["token", "user"], "as a login");
    assert_eq!(app.ask(Method::GET, "/api/user", body["token"].as_str().unwrap(), None).await.status(), 200);
    app.clock.advance(STEP);
    assert_eq!(error_of(give(&app, token, "code", theirs.code(&app, 0)).await, 401).await, WRONG, "finished");
}

#[tokio::test]
async fn a_wrong_password_is_answered_alike_whether_or_not_there_is_an_app_and_whatever_code_comes_with_it() {
    let app = TestApp::spawn();
    let Owner { app: theirs, recovery_codes, .. } = new_owner(&app, "AzureDiamond").await;
    app.new_user("Plain").await;
    for username in ["AzureDiamond", "Plain", "Nobody"] {
        for (field, value) in
            [("x", "x".to_owned()), ("code", theirs.code(&app, 0)), ("recovery_code", recovery_codes[0].clone())]
        {
            let body = json!({"username": username, "password": "wrong", field: value});
            assert_eq!(error_of(app.post("/api/login", &body).await, 401).await, REFUSED, "{username} {field}");
        }
    }
    assert_eq!(log_in_with(&app, "AzureDiamond", "code", theirs.code(&app, 0)).await.status(), 200, "unused");
}

#[tokio::test]
async fn codes_are_strings_of_six_digits_and_one_factor_is_given() {
    let app = TestApp::spawn();
    let Owner { app: theirs, recovery_codes, .. } = new_owner(&app, "AzureDiamond").await;
    let waiting = pending(&app, "AzureDiamond").await;
    for (given, sentence) in [
        (json!({"code": 123_456}), "code must be a string"),
        (json!({"code": null}), "code must be a string"),
        (json!({"code": ""}), "code must be six digits"),
        (json!({"code": "1234567"}), "code must be six digits"),
        (json!({"code": "１２３４５６"}), "code must be six digits"),
        (json!({"recovery_code": "0000"}), "recovery_code must be 24 letters and digits"),
        (
            json!({"code": theirs.code(&app, 0), "recovery_code": recovery_codes[0]}),
            "give either code or recovery_code",
        ),
    ] {
        let mut login = json!({"username": "AzureDiamond", "password": "hunter2"});
        let mut second = json!({"token": waiting});
        for (body, path) in [(&mut login, "/api/login"), (&mut second, "/api/login/second")] {
            body.as_object_mut().unwrap().extend(given.as_object().unwrap().clone());
            let error = error_of(app.post(path, body).await, 400).await;
            assert_eq!(error, format!("Invalid Data: {sentence}"), "{path} {given}");
        }
    }
    for (body, sentence) in [
        (json!({"code": "123456"}), "token is required"),
        (json!({"token": waiting}), "code is required"),
        (json!({"token": waiting, "code": "123456", "passkey": {}}), "give one of code, recovery_code and passkey"),
    ] {
        let error = error_of(app.post("/api/login/second", &body).await, 400).await;
        assert_eq!(error, format!("Invalid Data: {sentence}"));
    }
    // None of these was a try.
    let spaced = theirs.code(&app, 0);
    let spaced = format!("{} {}", &spaced[..3], &spaced[3..]);
    assert_eq!(give(&app, &waiting, "code", spaced).await.status(), 200);
}

#[tokio::test]
async fn a_code_is_right_one_step_early_and_one_step_late_and_no_more() {
    let app = TestApp::spawn();
    for (number, (steps, status)) in [(-2, 401), (-1, 200), (0, 200), (1, 200), (2, 401)].into_iter().enumerate() {
        for (way, is_second_step) in [("direct", false), ("later", true)] {
            let username = format!("{way}{number}");
            let Owner { app: theirs, .. } = new_owner(&app, &username).await;
            app.clock.advance(STEP * 5);
            let code = theirs.code(&app, steps);
            let answer = if is_second_step {
                give(&app, &pending(&app, &username).await, "code", code).await
            } else {
                log_in_with(&app, &username, "code", code).await
            };
            assert_eq!(answer.status(), status, "{way} {steps}");
        }
    }
}

#[tokio::test]
async fn a_step_counts_once_at_whichever_door_and_no_earlier_one_after_it() {
    let app = TestApp::spawn();
    let Owner { app: theirs, .. } = new_owner(&app, "AzureDiamond").await;
    let (first, second) = (pending(&app, "AzureDiamond").await, pending(&app, "AzureDiamond").await);
    let code = theirs.code(&app, 1);
    assert_eq!(give(&app, &first, "code", &*code).await.status(), 200);
    assert_eq!(error_of(give(&app, &second, "code", &*code).await, 401).await, WRONG);
    assert_eq!(error_of(log_in_with(&app, "AzureDiamond", "code", &*code).await, 401).await, WRONG);
    assert_eq!(give(&app, &second, "code", theirs.code(&app, 0)).await.status(), 401, "an earlier step");
    app.clock.advance(STEP);
    assert_eq!(give(&app, &second, "code", theirs.code(&app, 1)).await.status(), 200, "the next");
}

#[tokio::test]
async fn a_recovery_code_is_used_up_and_another_one_is_handed_out_in_its_place() {
    let app = TestApp::spawn();
    let Owner { token, recovery_codes, .. } = new_owner(&app, "AzureDiamond").await;
    let other = new_owner(&app, "Other").await;
    let stranger = log_in_with(&app, "Other", "recovery_code", &*recovery_codes[0]).await;
    assert_eq!(error_of(stranger, 401).await, WRONG, "another account's");

    let mut next = recovery_codes[0].to_uppercase().replace('-', " ");
    for _ in 0..3 {
        let answer = log_in_with(&app, "AzureDiamond", "recovery_code", &*next).await;
        let body: Value = answer.json().await.unwrap();
        assert_eq!(body.as_object().unwrap().keys().collect::<Vec<_>>(), ["recovery_code", "token", "user"]);
        assert_eq!(error_of(log_in_with(&app, "AzureDiamond", "recovery_code", &*next).await, 401).await, WRONG);
        body["recovery_code"].as_str().unwrap().clone_into(&mut next);
        let waiting = pending(&app, "AzureDiamond").await;
        let body: Value = give(&app, &waiting, "recovery_code", &*next).await.json().await.unwrap();
        body["recovery_code"].as_str().unwrap().clone_into(&mut next);
    }
    assert_eq!(security(&app, &token).await["recovery_codes"], 10);
    assert_eq!(app.count_events("recovery_code_used"), 6);
    assert_eq!(security(&app, &other.token).await["recovery_codes"], 10);
}

#[tokio::test]
async fn a_code_that_nothing_asks_for_does_no_harm_and_uses_nothing_up() {
    let app = TestApp::spawn();
    let Owner { recovery_codes, .. } = new_owner(&app, "Other").await;
    app.new_user("AzureDiamond").await;
    for (field, value) in [("code", "123456"), ("recovery_code", &*recovery_codes[0])] {
        let answer: Value = log_in_with(&app, "AzureDiamond", field, value).await.json().await.unwrap();
        assert_eq!(answer.as_object().unwrap().keys().collect::<Vec<_>>(), ["token", "user"], "{field}");
    }
    assert_eq!(log_in_with(&app, "Other", "recovery_code", &*recovery_codes[0]).await.status(), 200);
}

#[tokio::test]
async fn a_login_waits_for_its_second_factor_for_five_minutes_and_five_tries() {
    let app = TestApp::spawn();
    let Owner { app: theirs, recovery_codes, .. } = new_owner(&app, "AzureDiamond").await;
    assert_eq!(error_of(give(&app, UNKNOWN_TOKEN, "code", theirs.code(&app, 0)).await, 401).await, WRONG);
    assert_eq!(error_of(give(&app, "no token", "code", theirs.code(&app, 0)).await, 401).await, WRONG);

    let waiting = pending(&app, "AzureDiamond").await;
    app.clock.advance(MINUTE * 5);
    assert_eq!(error_of(give(&app, &waiting, "code", theirs.code(&app, 0)).await, 401).await, WRONG);
    let waiting = pending(&app, "AzureDiamond").await;
    app.clock.advance((MINUTE * 5).saturating_sub(Duration::from_millis(1)));
    for _ in 0..4 {
        assert_eq!(error_of(give(&app, &waiting, "code", theirs.wrong_code(&app)).await, 401).await, WRONG);
    }
    assert_eq!(give(&app, &waiting, "code", theirs.code(&app, 0)).await.status(), 200, "the fifth");
    let waiting = pending(&app, "AzureDiamond").await;
    for _ in 0..5 {
        let wrong = "0000-0000-0000-0000-0000-0000";
        assert_eq!(error_of(give(&app, &waiting, "recovery_code", wrong).await, 401).await, WRONG);
    }
    assert_eq!(error_of(give(&app, &waiting, "recovery_code", &*recovery_codes[0]).await, 401).await, WRONG);
    assert_eq!(log_in_with(&app, "AzureDiamond", "recovery_code", &*recovery_codes[0]).await.status(), 200);
}

#[tokio::test]
async fn who_knows_the_password_ends_no_login_of_the_owners_by_logins_of_their_own() {
    let app = TestApp::spawn();
    let Owner { app: theirs, .. } = new_owner(&app, "AzureDiamond").await;
    let waiting = pending(&app, "AzureDiamond").await;
    // More than a network may begin by default while one waits.
    for _ in 0..180 {
        pending(&app, "AzureDiamond").await;
    }
    opened(give(&app, &waiting, "code", theirs.code(&app, 0)).await).await;
}

#[tokio::test]
async fn a_login_that_waits_ends_with_its_account_its_activity_and_its_password() {
    let app = TestApp::spawn();
    let gone = new_owner(&app, "Gone").await;
    let waiting = pending(&app, "Gone").await;
    app.get(Method::DELETE, "/api/user", &gone.token, Some(&json!({"password": "hunter2"}))).await;
    assert_eq!(error_of(give(&app, &waiting, "code", gone.app.code(&app, 0)).await, 401).await, WRONG);
    assert_eq!(app.count("totp") + app.count("recovery_codes") + app.count("challenges"), 0);

    let idle = new_owner(&app, "Idle").await;
    let waiting = pending(&app, "Idle").await;
    app.deactivate("Idle");
    assert_eq!(error_of(give(&app, &waiting, "code", idle.app.code(&app, 0)).await, 401).await, WRONG);
    let refused = log_in_with(&app, "Idle", "code", idle.app.code(&app, 0)).await;
    assert_eq!(error_of(refused, 401).await, REFUSED, "as if it did not exist");

    let changed = new_owner(&app, "Changed").await;
    let waiting = pending(&app, "Changed").await;
    let change = json!({"current_password": "hunter2", "new_password": "hunter3"});
    app.get(Method::POST, "/api/user/password", &changed.token, Some(&change)).await;
    assert_eq!(error_of(give(&app, &waiting, "code", changed.app.code(&app, 0)).await, 401).await, WRONG);
    let waiting = due(app.log_in("Changed", "hunter3").await).await["token"].as_str().unwrap().to_owned();
    opened(give(&app, &waiting, "code", changed.app.code(&app, 0)).await).await;
}

#[tokio::test]
async fn a_server_that_is_started_anew_knows_the_apps_and_the_logins_that_wait() {
    let app = TestApp::spawn();
    let Owner { app: theirs, .. } = new_owner(&app, "AzureDiamond").await;
    let waiting = pending(&app, "AzureDiamond").await;
    let app = app.restart_with(|_| {});
    assert_eq!(give(&app, &waiting, "code", theirs.code(&app, 0)).await.status(), 200);
}
