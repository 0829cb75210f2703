//! Setting up an authenticator app, removing it, and what a session's holder does with its codes.

use std::collections::HashSet;

use reqwest::Method;
use serde_json::{Value, json};

use super::{
    MINUTE, NOT_FRESH, Owner, STEP, WRONG_IN_SESSION, begin, codes_of, confirm, due, give, lives, log_in_with,
    new_owner, opened, pending, security, set_up,
};
use crate::helpers::{TestApp, error_of};

#[tokio::test]
async fn an_app_is_set_up_in_a_fresh_session_and_counts_from_its_first_code_on() {
    let app = TestApp::spawn();
    let token = app.new_user("AzureDiamond").await;
    let other = opened(app.log_in("AzureDiamond", "hunter2").await).await;
    assert_eq!(error_of(app.ask(Method::POST, "/api/user/totp", &token, None).await, 400).await, NOT_FRESH);
    let off = "The account has no authenticator app.";
    assert_eq!(error_of(confirm(&app, &token, "123456").await, 409).await, off);

    app.get(Method::POST, "/api/user/reauthenticate", &token, Some(&json!({"password": "hunter2"}))).await;
    let response = app.ask(Method::POST, "/api/user/totp", &token, None).await;
    assert_eq!(response.headers()["cache-control"], "no-store");
    let begun: Value = response.json().await.unwrap();
    assert_eq!(begun.as_object().unwrap().len(), 3, "{begun}");
    let secret = begun["secret"].as_str().unwrap();
    assert_eq!(secret.len(), 32, "160 bits in base 32");
    let uri = begun["uri"].as_str().unwrap();
    assert!(uri.starts_with("otpauth://totp/") && uri.contains(secret) && uri.contains("AzureDiamond"), "{uri}");
    assert!(begun["qr_svg"].as_str().unwrap().contains("<svg"));

    // Until then it counts for nothing.
    assert_eq!(app.log_in("AzureDiamond", "hunter2").await.status(), 200);
    assert_eq!(security(&app, &token).await["totp"], json!({"enabled": false, "since": null}));
    let theirs = begin(&app, &token).await;
    assert_eq!(error_of(confirm(&app, &token, &theirs.wrong_code(&app)).await, 400).await, WRONG_IN_SESSION);
    assert!(lives(&app, &other).await);

    let confirmed = confirm(&app, &token, &theirs.code(&app, 0)).await;
    assert_eq!(confirmed.headers()["cache-control"], "no-store");
    let codes = codes_of(&confirmed.json().await.unwrap());
    assert_eq!((codes.len(), codes.iter().collect::<HashSet<_>>().len()), (10, 10));
    assert!(codes.iter().all(|code| code.len() == 29 && code.matches('-').count() == 5), "120 bits in base 32");
    assert!(lives(&app, &token).await && !lives(&app, &other).await, "other sessions end");
    let state = security(&app, &token).await;
    let since = app.clock.now().to_string();
    assert_eq!(state["totp"], json!({"enabled": true, "since": since}));
    assert_eq!(state["recovery_codes"], 10);
    due(app.log_in("AzureDiamond", "hunter2").await).await;

    let on = "The account has an authenticator app. Remove it first.";
    assert_eq!(error_of(app.ask(Method::POST, "/api/user/totp", &token, None).await, 409).await, on);
    assert_eq!(error_of(confirm(&app, &token, &theirs.code(&app, 1)).await, 409).await, on);
    assert_eq!((app.count_events("totp_added"), app.count("totp")), (1, 1));
}

#[tokio::test]
async fn an_app_waits_for_its_first_code_for_15_minutes_and_another_one_takes_its_place() {
    let app = TestApp::spawn();
    let token = app.new_user("AzureDiamond").await;
    let late = begin(&app, &token).await;
    app.clock.advance(MINUTE * 15);
    let off = "The account has no authenticator app.";
    assert_eq!(error_of(confirm(&app, &token, &late.code(&app, 0)).await, 409).await, off);
    let former = begin(&app, &token).await;
    let theirs = begin(&app, &token).await;
    assert_eq!(error_of(confirm(&app, &token, &former.code(&app, 0)).await, 400).await, WRONG_IN_SESSION);
    app.clock.advance((MINUTE * 15).saturating_sub(STEP));
    assert_eq!(confirm(&app, &token, &theirs.code(&app, 0)).await.status(), 200);
}

#[tokio::test]
async fn an_app_is_removed_and_recovery_codes_are_replaced_in_a_fresh_session_and_with_a_code_alone() {
    let app = TestApp::spawn();
    let Owner { token, app: theirs, recovery_codes } = new_owner(&app, "AzureDiamond").await;
    let calls = [(Method::DELETE, "/api/user/totp"), (Method::POST, "/api/user/recovery_codes")];
    app.clock.advance(MINUTE * 10);
    for (method, path) in calls.clone() {
        let body = json!({"recovery_code": recovery_codes[0]});
        assert_eq!(error_of(app.ask(method.clone(), path, &token, Some(&body)).await, 400).await, NOT_FRESH);
    }
    app.get(Method::POST, "/api/user/reauthenticate", &token, Some(&json!({"password": "hunter2"}))).await;
    for (method, path) in calls {
        for (body, sentence) in [
            (json!({}), "Invalid Data: code is required"),
            (json!({"code": 123_456}), "Invalid Data: code must be a string"),
            (json!({"code": "12345"}), "Invalid Data: code must be six digits"),
            (json!({"recovery_code": "x"}), "Invalid Data: recovery_code must be 24 letters and digits"),
            (json!({"code": "123456", "recovery_code": "x"}), "Invalid Data: give either code or recovery_code"),
            (json!({"code": theirs.wrong_code(&app)}), WRONG_IN_SESSION),
            (json!({"recovery_code": "0000-0000-0000-0000-0000-0000"}), WRONG_IN_SESSION),
        ] {
            let response = app.ask(method.clone(), path, &token, Some(&body)).await;
            assert_eq!(error_of(response, 400).await, sentence, "{path} {body}");
        }
    }
    let body = json!({"recovery_code": recovery_codes[0]});
    let replaced = codes_of(&app.get(Method::POST, "/api/user/recovery_codes", &token, Some(&body)).await);
    assert_eq!((replaced.len(), app.count("recovery_codes")), (10, 10));
    assert_eq!(log_in_with(&app, "AzureDiamond", "recovery_code", &*recovery_codes[1]).await.status(), 401);
    assert_eq!(log_in_with(&app, "AzureDiamond", "recovery_code", &*replaced[0]).await.status(), 200);

    let waiting = pending(&app, "AzureDiamond").await;
    let body = json!({"code": theirs.code(&app, 0)});
    app.get(Method::DELETE, "/api/user/totp", &token, Some(&body)).await;
    let state = security(&app, &token).await;
    assert_eq!((&state["totp"]["enabled"], &state["recovery_codes"]), (&json!(false), &json!(0)));
    assert_eq!(state["fresh_until"], json!(null), "it is not fresh any more");
    assert_eq!(app.log_in("AzureDiamond", "hunter2").await.status(), 200);
    assert_eq!(give(&app, &waiting, "code", theirs.code(&app, 1)).await.status(), 401, "what was begun ends too");
    assert_eq!(app.count("totp") + app.count("recovery_codes") + app.count("challenges"), 0);
    assert_eq!(app.count_events("totp_removed"), 1);
    set_up(&app, &token).await;
}

#[tokio::test]
async fn a_code_of_the_app_makes_a_session_fresh_once() {
    let app = TestApp::spawn();
    let token = app.new_user("AzureDiamond").await;
    let path = "/api/user/reauthenticate";
    let ask = async |body: Value| app.ask(Method::POST, path, &token, Some(&body)).await;
    let off = "The account has no authenticator app.";
    assert_eq!(error_of(ask(json!({"code": "123456"})).await, 409).await, off);
    let theirs = begin(&app, &token).await;
    app.clock.advance(MINUTE * 10);
    assert_eq!(error_of(ask(json!({"code": theirs.code(&app, 0)})).await, 409).await, off, "it waits still");

    let Owner { app: theirs, recovery_codes, .. } = set_up(&app, &token).await;
    app.clock.advance(MINUTE * 10);
    assert_eq!(security(&app, &token).await["fresh_until"], json!(null));
    for (body, sentence) in [
        (json!({"code": "12345"}), "Invalid Data: code must be six digits"),
        (json!({"code": theirs.wrong_code(&app)}), WRONG_IN_SESSION),
        (
            json!({"code": "123456", "password": "hunter2"}),
            "Invalid Data: give one of password, code, request and code, passkey, provider and id_token, code and code_verifier",
        ),
        (json!({"recovery_code": recovery_codes[0]}), "Invalid Data: password is required"),
    ] {
        assert_eq!(error_of(ask(body.clone()).await, 400).await, sentence, "{body}");
    }
    let body = json!({"code": theirs.code(&app, 0)});
    assert_eq!(ask(body.clone()).await.status(), 200);
    let until = app.clock.now().plus(MINUTE * 10).to_string();
    assert_eq!(security(&app, &token).await["fresh_until"], json!(until));
    assert_eq!(error_of(ask(body.clone()).await, 400).await, WRONG_IN_SESSION, "used");
    assert_eq!(log_in_with(&app, "AzureDiamond", "code", body["code"].clone()).await.status(), 401, "used");
    assert_eq!(app.count_events("reauthenticated"), 3);
}

#[tokio::test]
async fn the_facts_of_an_account_are_its_owners_alone() {
    let app = TestApp::spawn();
    let token = app.new_user("AzureDiamond").await;
    let facts = json!({
        "has_password": true, "totp": {"enabled": false, "since": null}, "recovery_codes": 0, "passkeys": 0,
        "identities": 0, "fresh_until": null,
    });
    assert_eq!(security(&app, &token).await, facts);
    let request = app.client.get(app.url("/api/user/security"));
    error_of(request.send().await.unwrap(), 401).await;
}

#[tokio::test]
async fn an_account_without_a_password_is_given_its_first_in_a_fresh_session() {
    let app = TestApp::spawn();
    let Owner { token, app: theirs, .. } = new_owner(&app, "AzureDiamond").await;
    app.set("AzureDiamond", |account| account.password_hash = "!".to_owned());
    app.clock.advance(MINUTE * 10);
    assert_eq!(security(&app, &token).await["has_password"], false);
    assert_eq!(app.log_in("AzureDiamond", "!").await.status(), 401);
    let first = json!({"new_password": "correct horse"});
    let path = "/api/user/password";
    let refused = app.ask(Method::POST, path, &token, Some(&first)).await;
    assert_eq!(error_of(refused, 400).await, "Invalid Data: current_password is required");
    for password in ["!", "hunter2"] {
        let body = json!({"current_password": password, "new_password": "correct horse"});
        let refused = app.ask(Method::POST, path, &token, Some(&body)).await;
        assert_eq!(error_of(refused, 400).await, "Invalid Data: current_password is wrong");
    }
    let code = json!({"code": theirs.code(&app, 0)});
    app.get(Method::POST, "/api/user/reauthenticate", &token, Some(&code)).await;
    app.get(Method::POST, path, &token, Some(&first)).await;
    assert_eq!(security(&app, &token).await["has_password"], true);
    due(app.log_in("AzureDiamond", "correct horse").await).await;
}

#[tokio::test]
async fn nothing_that_a_factor_is_given_with_stands_in_the_store() {
    let app = TestApp::spawn();
    let Owner { token, app: theirs, recovery_codes } = new_owner(&app, "AzureDiamond").await;
    let waiting = pending(&app, "AzureDiamond").await;
    log_in_with(&app, "AzureDiamond", "code", theirs.wrong_code(&app)).await;
    let used = log_in_with(&app, "AzureDiamond", "recovery_code", &*recovery_codes[0]).await;
    let replacement: Value = used.json().await.unwrap();
    app.get(Method::GET, "/api/user/events", &token, None).await;
    let base32 = theirs.0.to_base32();
    let mut secrets = vec![theirs.0.as_ref().to_vec(), base32.into_bytes(), waiting.into_bytes()];
    for code in recovery_codes.iter().map(String::as_str).chain(replacement["recovery_code"].as_str()) {
        secrets.extend([code.as_bytes().to_vec(), code.replace('-', "").into_bytes()]);
    }
    for secret in secrets {
        assert!(!app.store.contains(&secret), "{secret:?}");
    }
}
