//! What an account is linked to: by whoever has shown that it is theirs, and not down to the last way in.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use super::{claims, identities, link, link_token, log_in, make_fresh, session, spawn, with_email};
use crate::helpers::{TestApp, error_of};
use crate::provider::Provider;

const NOT_FRESH: &str = "Invalid Data: the session is not fresh: POST /api/user/reauthenticate first";

const MINUTE: Duration = Duration::from_secs(60);

fn id_token(provider: &Provider, app: &TestApp, subject: &str) -> String {
    let mut told = claims("google", provider, subject);
    let now = app.clock.now().as_millis() / 1000;
    (told["iat"], told["exp"]) = (now.into(), (now + 600).into());
    provider.sign(&told)
}

fn by(id_token: &str) -> Value {
    json!({"provider": "google", "id_token": id_token})
}

#[tokio::test]
async fn an_identity_is_linked_and_unlinked_in_a_fresh_session_alone() {
    let provider = Provider::start();
    let app = spawn(&provider, |_| {});
    let token = app.new_user("AzureDiamond").await;
    let first = id_token(&provider, &app, "1");
    assert_eq!(error_of(link(&app, &token, by(&first)).await, 400).await, NOT_FRESH);
    make_fresh(&app, &token).await;
    assert_eq!(link(&app, &token, by(&first)).await.status(), 200);
    let listed = identities(&app, &token).await;
    assert_eq!((listed.len(), &listed[0]["provider"], &listed[0]["subject"]), (1, &json!("google"), &json!("1")));
    // The token was used for the link.
    assert_eq!(log_in(&app, "google", &first).await.status(), 401);
    let (other, username) = session(log_in(&app, "google", &id_token(&provider, &app, "1")).await, 200).await;
    assert_eq!(username, "AzureDiamond");
    let path = format!("/api/user/identities/{}", listed[0]["id"].as_str().unwrap());
    assert_eq!(error_of(app.ask(Method::DELETE, &path, &other, None).await, 400).await, NOT_FRESH);
    assert_eq!(app.ask(Method::DELETE, &path, &token, None).await.status(), 200);
    assert_eq!(app.ask(Method::DELETE, &path, &token, None).await.status(), 404);
    assert_eq!(identities(&app, &token).await, [Value::Null; 0]);
    assert_eq!((app.count_events("identity_linked"), app.count_events("identity_unlinked")), (1, 1));
}

#[tokio::test]
async fn the_last_way_in_stays() {
    let provider = Provider::start();
    let app = spawn(&provider, |_| {});
    let (token, _) = session(log_in(&app, "google", &id_token(&provider, &app, "1")).await, 201).await;
    let again = by(&id_token(&provider, &app, "1"));
    let fresh = app.ask(Method::POST, "/api/user/reauthenticate", &token, Some(&again)).await;
    assert_eq!(fresh.status(), 200);
    let path = format!("/api/user/identities/{}", identities(&app, &token).await[0]["id"].as_str().unwrap());
    let last = error_of(app.ask(Method::DELETE, &path, &token, None).await, 409).await;
    assert_eq!(last, "This is the last way into the account. Add another one first.");
    assert_eq!(identities(&app, &token).await.len(), 1);
    let password = json!({"new_password": "hunter2"});
    assert_eq!(app.ask(Method::POST, "/api/user/password", &token, Some(&password)).await.status(), 200);
    // Whoever sets a password shows it.
    make_fresh(&app, &token).await;
    assert_eq!(app.ask(Method::DELETE, &path, &token, None).await.status(), 200);
}

#[tokio::test]
async fn an_identity_of_another_account_is_not_taken_from_it() {
    let provider = Provider::start();
    let app = spawn(&provider, |_| {});
    session(log_in(&app, "google", &id_token(&provider, &app, "1")).await, 201).await;
    let token = app.new_user("AzureDiamond").await;
    make_fresh(&app, &token).await;
    let refused = error_of(link(&app, &token, by(&id_token(&provider, &app, "1"))).await, 409).await;
    assert_eq!(refused, "Another account is linked to this identity.");
}

#[tokio::test]
async fn a_link_token_counts_once_within_ten_minutes_in_a_session_that_was_just_opened_or_is_fresh() {
    let provider = Provider::start();
    let app = spawn(&provider, |config| config.identities.register = false);
    let old = app.new_user("AzureDiamond").await;
    app.clock.advance(MINUTE * 11);
    let offered = link_token(log_in(&app, "google", &id_token(&provider, &app, "1")).await).await;
    let body = || json!({"link_token": offered});
    assert_eq!(error_of(link(&app, &old, body()).await, 400).await, NOT_FRESH);
    let (token, _) = session(app.log_in("AzureDiamond", "hunter2").await, 200).await;
    assert_eq!(link(&app, &token, body()).await.status(), 200);
    assert_eq!(link(&app, &token, body()).await.status(), 400);
    session(log_in(&app, "google", &id_token(&provider, &app, "1")).await, 200).await;
    // One that is too old, and ones that are none.
    let offered = link_token(log_in(&app, "google", &id_token(&provider, &app, "2")).await).await;
    app.clock.advance(MINUTE * 10);
    make_fresh(&app, &token).await;
    for text in [offered.as_str(), "", "x", &"0".repeat(40)] {
        assert_eq!(link(&app, &token, json!({"link_token": text})).await.status(), 400, "{text}");
    }
    assert_eq!(identities(&app, &token).await.len(), 1);
}

#[tokio::test]
async fn a_session_becomes_fresh_by_a_new_id_token_of_its_own_identity_alone() {
    let provider = Provider::start();
    let app = spawn(&provider, |_| {});
    let (token, _) = session(log_in(&app, "google", &id_token(&provider, &app, "1")).await, 201).await;
    session(log_in(&app, "google", &id_token(&provider, &app, "2")).await, 201).await;
    let show = |body: Value| {
        let (app, token) = (&app, &token);
        async move { app.ask(Method::POST, "/api/user/reauthenticate", token, Some(&body)).await.status().as_u16() }
    };
    assert_eq!(show(by(&id_token(&provider, &app, "2"))).await, 400, "another account's");
    let (old, good) = (id_token(&provider, &app, "1"), id_token(&provider, &app, "1"));
    assert_eq!(show(by(&good)).await, 200);
    assert_eq!(show(by(&good)).await, 400, "it was used");
    app.clock.advance(MINUTE * 6);
    assert_eq!(show(by(&old)).await, 400, "it is too old");
    assert_eq!(show(json!({"provider": "google"})).await, 400);
    assert_eq!(show(json!({"provider": "none", "id_token": "a.b.c"})).await, 404);
    assert_eq!(show(json!({"provider": "google", "id_token": "a.b.c", "password": "x"})).await, 400);
}

#[tokio::test]
async fn a_second_factor_is_asked_after_an_identity_and_nothing_is_linked_before_it() {
    let provider = Provider::start();
    let app = spawn(&provider, super::with_mail);
    let told = |app: &TestApp| {
        let mut told = with_email(claims("google", &provider, "1"), "azure@gmail.com");
        let now = app.clock.now().as_millis() / 1000;
        (told["iat"], told["exp"]) = (now.into(), (now + 600).into());
        provider.sign(&told)
    };
    let (token, username) = session(log_in(&app, "google", &told(&app)).await, 201).await;
    let fresh = app.ask(Method::POST, "/api/user/reauthenticate", &token, Some(&by(&told(&app)))).await;
    assert_eq!(fresh.status(), 200);
    let owner = crate::second_factor::set_up_fresh(&app, &token).await;
    let id_token = told(&app);
    let due = crate::second_factor::due(log_in(&app, "google", &id_token).await).await;
    assert_eq!(log_in(&app, "google", &id_token).await.status(), 401, "it was used");
    let body = json!({"token": due["token"], "code": owner.code(&app, 0)});
    assert_eq!(session(app.post("/api/login/second", &body).await, 200).await.1, username);
}
