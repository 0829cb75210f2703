//! Using passkeys: for a session without a password, and to make a session fresh.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use super::authenticator::{Algorithm, Authenticator, PRESENT, VERIFIED};
use super::{NOT_SIGNED_IN, added, added_with, fresh_user, freshen, log_in, login_options, spawn, with_passkeys};
use crate::helpers::{Response, TestApp, error_of, session_of, until};
use crate::mail::mailbox::accounts_alone;
use crate::second_factor::new_owner;

/// How an authenticator misbehaves.
type Wrong = fn(&mut Authenticator);

async fn ask_for_freshness(app: &TestApp, token: &str) -> Value {
    app.get(Method::POST, "/api/user/reauthenticate/passkey", token, None).await
}

async fn reauthenticate(app: &TestApp, token: &str, passkey: &Value) -> Response {
    app.ask(Method::POST, "/api/user/reauthenticate", token, Some(&json!({"passkey": passkey}))).await
}

#[tokio::test]
async fn a_passkey_of_each_algorithm_opens_a_session_without_a_name() {
    let app = spawn();
    let token = fresh_user(&app, "AzureDiamond").await;
    for algorithm in Algorithm::ALL {
        let (mut authenticator, _) = added(&app, &token, algorithm).await;
        for _ in 0..2 {
            let options = login_options(&app).await;
            assert_eq!(options["publicKey"]["allowCredentials"], json!([]));
            assert_eq!(options["publicKey"]["userVerification"], "required");
            assert_eq!(options["publicKey"]["rpId"], "diamond.example");
            let (session, user) = session_of(log_in(&app, &authenticator.get(&options)).await).await;
            assert_eq!(user["username"], "AzureDiamond");
            assert_eq!(app.get(Method::GET, "/api/user", &session, None).await["username"], "AzureDiamond");
        }
        let listed = app.get(Method::GET, "/api/user/passkeys", &token, None).await;
        assert!(listed.as_array().unwrap().iter().all(|passkey| passkey["last_used"].is_string()), "{listed}");
    }
}

#[tokio::test]
async fn what_was_not_signed_for_this_opens_nothing_and_is_told_nothing() {
    let app = spawn();
    let token = fresh_user(&app, "AzureDiamond").await;
    let other = fresh_user(&app, "Other").await;
    let wrongs: [(&str, Wrong); 12] = [
        ("another origin", |a| a.origin = "https://diamond.test".to_owned()),
        ("a path", |a| a.origin = "https://diamond.example/".to_owned()),
        ("another port", |a| a.origin = "https://diamond.example:8443".to_owned()),
        ("another domain", |a| a.rp_id = "diamond.test".to_owned()),
        ("no user verified", |a| a.flags = PRESENT),
        ("no user present", |a| a.flags = VERIFIED),
        ("it may be copied now", |a| a.flags |= 0x08),
        ("a foreign frame", |a| a.cross_origin = true),
        ("another ceremony", |a| a.ceremony = Some("webauthn.create")),
        ("no user handle", |a| a.user_handle = None),
        ("another user handle", |a| a.user_handle = Some(vec![7; 16])),
        ("an unknown credential", |a| a.id[0] ^= 1),
    ];
    let mut tried = 0;
    for algorithm in Algorithm::ALL {
        let (mut authenticator, _) = added(&app, &token, algorithm).await;
        let (others, _) = added(&app, &other, algorithm).await;
        for (what, wrong) in wrongs {
            let (id, user_handle, counter) =
                (authenticator.id.clone(), authenticator.user_handle.clone(), authenticator.counter);
            wrong(&mut authenticator);
            let options = login_options(&app).await;
            let used = authenticator.get(&options);
            assert_eq!(error_of(log_in(&app, &used).await, 401).await, NOT_SIGNED_IN, "{algorithm:?}: {what}");
            let fresh = Authenticator::new(Algorithm::Es256);
            (authenticator.id, authenticator.user_handle, authenticator.counter) = (id, user_handle, counter);
            authenticator.origin = fresh.origin;
            authenticator.rp_id = fresh.rp_id;
            authenticator.flags = fresh.flags;
            authenticator.cross_origin = false;
            authenticator.ceremony = None;
            // The challenge is used up, also by what was refused.
            let used = authenticator.get(&options);
            assert_eq!(error_of(log_in(&app, &used).await, 401).await, NOT_SIGNED_IN, "{algorithm:?}: {what}");
            tried += 2;
        }
        let handle = authenticator.user_handle.clone();
        let mut mixed = authenticator.get(&login_options(&app).await);
        mixed["response"]["userHandle"] = json!(BASE64.encode(others.user_handle.as_ref().unwrap()));
        assert_eq!(error_of(log_in(&app, &mixed).await, 401).await, NOT_SIGNED_IN, "another account's handle");
        let mut mixed = authenticator.get(&login_options(&app).await);
        mixed["rawId"] = json!(BASE64.encode(&others.id));
        assert_eq!(error_of(log_in(&app, &mixed).await, 401).await, NOT_SIGNED_IN, "another account's credential");
        mixed = authenticator.get(&login_options(&app).await);
        mixed["rawId"] = json!(BASE64.encode(&others.id));
        mixed["response"]["userHandle"] = json!(BASE64.encode(others.user_handle.as_ref().unwrap()));
        // All of RSA have one key here: making one takes long.
        let is_the_same_key = matches!(algorithm, Algorithm::Rs256);
        assert_eq!(log_in(&app, &mixed).await.status() == 200, is_the_same_key, "another account's signature");
        let mut forged = Authenticator::new(algorithm);
        (forged.id, forged.user_handle) = (authenticator.id.clone(), handle);
        let forged = forged.get(&login_options(&app).await);
        assert_eq!(log_in(&app, &forged).await.status() == 200, is_the_same_key, "{algorithm:?}: another key");
        for member in ["signature", "authenticatorData", "clientDataJSON"] {
            let mut cut = authenticator.get(&login_options(&app).await);
            let whole = BASE64.decode(cut["response"][member].as_str().unwrap()).unwrap();
            cut["response"][member] = json!(BASE64.encode(&whole[..whole.len() - 1]));
            assert_eq!(error_of(log_in(&app, &cut).await, 401).await, NOT_SIGNED_IN, "{algorithm:?}: {member} is cut");
        }
        tried += 5 + 2 * usize::from(!is_the_same_key);
        let right = authenticator.get(&login_options(&app).await);
        assert_eq!(log_in(&app, &right).await.status(), 200, "{algorithm:?}");
    }
    until("the failures are noted", || app.count_events("login_failed") == tried).await;
    assert_eq!(app.log_in("AzureDiamond", "hunter2").await.status(), 200, "no account is locked by them");
}

#[tokio::test]
async fn a_challenge_of_a_login_counts_for_five_minutes_once_and_for_nothing_else() {
    let app = spawn();
    let token = fresh_user(&app, "AzureDiamond").await;
    let (mut authenticator, _) = added(&app, &token, Algorithm::Es256).await;
    let used = authenticator.get(&login_options(&app).await);
    let responses = join_all((0..20).map(|_| log_in(&app, &used))).await;
    assert_eq!(responses.iter().filter(|response| response.status() == 200).count(), 1, "at once");
    let late = authenticator.get(&login_options(&app).await);
    app.clock.advance(Duration::from_secs(5 * 60));
    assert_eq!(error_of(log_in(&app, &late).await, 401).await, NOT_SIGNED_IN, "late");
    let of_a_session = authenticator.get(&ask_for_freshness(&app, &token).await);
    assert_eq!(error_of(log_in(&app, &of_a_session).await, 401).await, NOT_SIGNED_IN, "of a session");
    let of_a_login = authenticator.get(&login_options(&app).await);
    let wrong = "Invalid Data: passkey is wrong";
    assert_eq!(error_of(reauthenticate(&app, &token, &of_a_login).await, 400).await, wrong);
    let unheard = authenticator.get(&json!({"publicKey": {"challenge": BASE64.encode([7; 32])}}));
    assert_eq!(error_of(log_in(&app, &unheard).await, 401).await, NOT_SIGNED_IN, "never asked for");
}

#[tokio::test]
async fn a_counter_that_does_not_go_forward_opens_nothing() {
    let app = spawn();
    let token = fresh_user(&app, "AzureDiamond").await;
    for algorithm in [Algorithm::Es256, Algorithm::Ed25519] {
        let (mut authenticator, _) = added(&app, &token, algorithm).await;
        authenticator.counter = 5;
        assert_eq!(log_in(&app, &authenticator.get(&login_options(&app).await)).await.status(), 200);
        for counter in [5, 1, 0] {
            authenticator.counter = counter;
            let used = authenticator.get(&login_options(&app).await);
            assert_eq!(error_of(log_in(&app, &used).await, 401).await, NOT_SIGNED_IN, "{counter}");
        }
        authenticator.counter = 6;
        assert_eq!(log_in(&app, &authenticator.get(&login_options(&app).await)).await.status(), 200);
    }
}

#[tokio::test]
async fn a_passkey_opens_no_account_that_is_inactive_or_gone_and_none_once_it_is_removed() {
    let app = spawn();
    let token = fresh_user(&app, "AzureDiamond").await;
    let (mut removed, passkey) = added(&app, &token, Algorithm::Es256).await;
    let path = format!("/api/user/passkeys/{}", passkey["id"].as_str().unwrap());
    app.get(Method::DELETE, &path, &token, None).await;
    let used = removed.get(&login_options(&app).await);
    assert_eq!(error_of(log_in(&app, &used).await, 401).await, NOT_SIGNED_IN, "removed");
    let (mut authenticator, _) = added(&app, &token, Algorithm::Es256).await;
    let used = authenticator.get(&login_options(&app).await);
    app.deactivate("AzureDiamond");
    assert_eq!(error_of(log_in(&app, &used).await, 401).await, NOT_SIGNED_IN, "inactive");
}

#[tokio::test]
async fn a_passkey_of_the_account_makes_its_session_fresh_and_no_others() {
    let app = spawn();
    let token = fresh_user(&app, "AzureDiamond").await;
    let other = fresh_user(&app, "Other").await;
    let (mut authenticator, _) = added(&app, &token, Algorithm::Ed25519).await;
    let (mut others, _) = added(&app, &other, Algorithm::Es256).await;
    app.clock.advance(Duration::from_secs(10 * 60));
    let options = ask_for_freshness(&app, &token).await;
    let allowed = json!([{"type": "public-key", "id": BASE64.encode(&authenticator.id)}]);
    assert_eq!(options["publicKey"]["allowCredentials"], allowed);
    let wrong = "Invalid Data: passkey is wrong";
    let used = authenticator.get(&options);
    assert_eq!(error_of(reauthenticate(&app, &other, &used).await, 400).await, wrong, "another account's session");
    let foreign = others.get(&ask_for_freshness(&app, &token).await);
    assert_eq!(error_of(reauthenticate(&app, &token, &foreign).await, 400).await, wrong, "another account's passkey");
    assert_eq!(app.ask(Method::POST, "/api/user/passkeys/options", &token, None).await.status(), 400);
    assert_eq!(reauthenticate(&app, &token, &used).await.status(), 200);
    assert_eq!(app.ask(Method::POST, "/api/user/passkeys/options", &token, None).await.status(), 200);
    assert_eq!(error_of(reauthenticate(&app, &token, &used).await, 400).await, wrong, "used");
    // Which account it is is known: an authenticator need not say so.
    authenticator.user_handle = None;
    let used = authenticator.get(&ask_for_freshness(&app, &token).await);
    assert_eq!(reauthenticate(&app, &token, &used).await.status(), 200);
    let nobody = app.new_user("Nobody").await;
    assert_eq!(app.ask(Method::POST, "/api/user/reauthenticate/passkey", &nobody, None).await.status(), 404);
}

#[tokio::test]
async fn logins_by_passkey_are_limited_by_address_as_those_by_password_are() {
    let app = TestApp::spawn_with(|config| {
        with_passkeys(config);
        config.rate_limit.enabled = true;
        config.rate_limit.login.count = 3;
    });
    for _ in 0..3 {
        login_options(&app).await;
    }
    assert_eq!(app.post("/api/login/passkey/options", &json!({})).await.status(), 429);
    assert_eq!(app.post("/api/login/passkey", &json!({"passkey": {}})).await.status(), 429);
}

#[tokio::test]
async fn a_login_by_a_passkey_ends_the_lockout_also_of_an_account_with_an_authenticator_app() {
    let app = TestApp::spawn_with(|config| {
        with_passkeys(config);
        accounts_alone(config);
    });
    for (username, has_totp) in [("AzureDiamond", false), ("Cobalt", true)] {
        let (token, factor) = if has_totp {
            let owner = new_owner(&app, username).await;
            (owner.token, json!({"code": owner.app.code(&app, 0)}))
        } else {
            (app.new_user(username).await, json!({}))
        };
        freshen(&app, &token).await;
        let (mut authenticator, _) = added_with(&app, &token, Algorithm::Es256, &factor).await;
        for _ in 0..10 {
            assert_eq!(app.log_in(username, "wrong").await.status(), 401);
        }
        assert_eq!(app.log_in(username, "hunter2").await.status(), 429);
        let options = login_options(&app).await;
        session_of(log_in(&app, &authenticator.get(&options)).await).await;
        let status = if has_totp { 401 } else { 200 };
        assert_eq!(app.log_in(username, "hunter2").await.status(), status, "{username}");
    }
}

#[tokio::test]
async fn a_passkey_finishes_the_login_of_its_account_and_no_other_and_needs_no_second_factor_itself() {
    let app = spawn();
    let owner = new_owner(&app, "AzureDiamond").await;
    freshen(&app, &owner.token).await;
    let factor = json!({"code": owner.app.code(&app, 0)});
    let (mut authenticator, _) = added_with(&app, &owner.token, Algorithm::Ed25519, &factor).await;
    let other = fresh_user(&app, "Other").await;
    let (mut others, _) = added(&app, &other, Algorithm::Es256).await;
    let (session, _) = session_of(log_in(&app, &authenticator.get(&login_options(&app).await)).await).await;
    assert_eq!(app.get(Method::GET, "/api/user", &session, None).await["username"], "AzureDiamond");
    let due: Value = app.log_in("AzureDiamond", "hunter2").await.json().await.unwrap();
    let token = &due["second_factor"]["token"];
    assert!(due["second_factor"]["methods"].as_array().unwrap().contains(&json!("passkey")), "{due}");
    let give = async |passkey: Value| {
        app.post("/api/login/second", &json!({"token": token, "passkey": passkey})).await.status().as_u16()
    };
    assert_eq!(give(others.get(&login_options(&app).await)).await, 401, "another account's");
    let of_a_session = authenticator.get(&ask_for_freshness(&app, &owner.token).await);
    assert_eq!(give(of_a_session).await, 401, "asked for something else");
    let used = authenticator.get(&login_options(&app).await);
    assert_eq!(give(used.clone()).await, 200);
    assert_eq!(give(used).await, 401, "used");
}

#[tokio::test]
async fn a_passkey_is_no_way_to_finish_a_login_where_the_service_has_none_any_more() {
    let app = spawn();
    let owner = new_owner(&app, "AzureDiamond").await;
    freshen(&app, &owner.token).await;
    let factor = json!({"code": owner.app.code(&app, 0)});
    added_with(&app, &owner.token, Algorithm::Es256, &factor).await;
    let app = app.restart_with(|_| {});
    let due: Value = app.log_in("AzureDiamond", "hunter2").await.json().await.unwrap();
    assert_eq!(due["second_factor"]["methods"], json!(["totp", "recovery_code"]));
}
