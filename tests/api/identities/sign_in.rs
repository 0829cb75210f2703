//! Logins by ID tokens.

use std::time::Duration;

use authtokens::domain::rate::Rate;
use reqwest::Method;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{
    NOT_OFFERED, REFUSED, claims, identities, link, link_token, log_in, make_fresh, session, spawn, with_email,
    with_mail,
};
use crate::helpers::{HOUR, START_MILLIS, TestApp, error_of, until};
use crate::mail::mailbox::accounts_alone;
use crate::mail::smtp_server::{Behaviour, SmtpServer};
use crate::provider::Provider;

#[tokio::test]
async fn somebody_new_is_given_an_account_with_a_name_of_nothing_personal_and_finds_it_again() {
    let provider = Provider::start();
    let app = spawn(&provider, |_| {});
    for name in ["google", "apple", "plain"] {
        let told = || with_email(claims(name, &provider, "1"), "azure@diamond.example");
        let (token, username) = session(log_in(&app, name, &provider.sign(&told())).await, 201).await;
        assert!(username.starts_with("user-") && !username.contains("azure"), "{username}");
        let user = app.get(Method::GET, "/api/user", &token, None).await;
        assert_eq!((&user["first_name"], &user["last_name"]), (&json!(""), &json!("")));
        let (_, again) = session(log_in(&app, name, &provider.sign(&told())).await, 200).await;
        assert_eq!(again, username);
        app.ask(Method::POST, "/api/logoutall", &token, None).await;
        // The address is the account's no more, so that the next provider finds none by it.
        app.set(&username, |account| account.email.clear());
    }
    assert_eq!(app.count_events("identity_linked"), 3);
}

#[tokio::test]
async fn of_first_logins_of_one_identity_at_once_all_open_sessions_of_one_account() {
    let provider = Provider::start();
    let app = spawn(&provider, |_| {});
    for (subject, username) in [("1", None), ("2", Some("AzureDiamond"))] {
        let logins = (0..20).map(|_| {
            let mut body =
                json!({"provider": "google", "id_token": provider.sign(&claims("google", &provider, subject))});
            body.as_object_mut().unwrap().extend(username.map(|name| ("username".to_owned(), json!(name))));
            let app = &app;
            async move { app.post("/api/login/oidc", &body).await.status().as_u16() }
        });
        let mut statuses = futures_util::future::join_all(logins).await;
        statuses.sort_unstable();
        assert_eq!(statuses, [vec![200; 19], vec![201]].concat(), "{username:?}");
    }
    assert_eq!(app.usernames().len(), 2);
}

#[tokio::test]
async fn a_new_account_has_the_name_that_the_client_gives_and_a_taken_one_is_refused() {
    let provider = Provider::start();
    let app = spawn(&provider, |_| {});
    app.new_user("AzureDiamond").await;
    let id_token = provider.sign(&claims("google", &provider, "1"));
    let body = |username: &str| json!({"provider": "google", "id_token": id_token, "username": username, "first_name": "Azure"});
    let refused = app.post("/api/login/oidc", &body("azurediamond")).await;
    assert_eq!(error_of(refused, 400).await, "Invalid Data: column username is not unique");
    assert!(error_of(app.post("/api/login/oidc", &body("no spaces")).await, 400).await.contains("username"));
    // Nothing was used up.
    let (token, username) = session(app.post("/api/login/oidc", &body("Crystal")).await, 201).await;
    assert_eq!(username, "Crystal");
    assert_eq!(app.get(Method::GET, "/api/user", &token, None).await["first_name"], "Azure");
}

#[tokio::test]
async fn each_id_token_opens_one_session() {
    let provider = Provider::start();
    let app = spawn(&provider, |_| {});
    let id_token = provider.sign(&claims("google", &provider, "1"));
    session(log_in(&app, "google", &id_token).await, 201).await;
    assert_eq!(error_of(log_in(&app, "google", &id_token).await, 401).await, REFUSED);
    let id_token = provider.sign(&claims("google", &provider, "1"));
    let all = futures_util::future::join_all((0..10).map(|_| log_in(&app, "google", &id_token))).await;
    assert_eq!(all.iter().filter(|response| response.status() == 200).count(), 1);
    assert_eq!(all.iter().filter(|response| response.status() == 401).count(), 9);
    app.clock.advance(Duration::from_secs(2));
    until("the failures are events", || app.count_events("login_failed") >= 10).await;
}

#[tokio::test]
async fn what_is_no_id_token_for_us_opens_nothing_and_makes_nothing() {
    let provider = Provider::start();
    let app = spawn(&provider, |_| {});
    let good = claims("google", &provider, "1");
    let now = START_MILLIS / 1000;
    for (key, value) in [
        ("iss", json!("https://accounts.google.com.evil.example")),
        ("iss", json!("https://appleid.apple.com")),
        ("aud", json!("another")),
        ("aud", json!([])),
        ("exp", json!(now - 120)),
        ("iat", json!(now + 600)),
        ("sub", json!("")),
        ("nonce", json!("of a nonce that nobody gave")),
    ] {
        let mut told = good.clone();
        told[key] = value.clone();
        // A nonce that the client did not give is not compared.
        let status = if key == "nonce" { 201 } else { 401 };
        assert_eq!(log_in(&app, "google", &provider.sign(&told)).await.status(), status, "{key} {value}");
    }
    let other = Provider::start();
    assert_eq!(error_of(log_in(&app, "google", &other.sign(&good)).await, 401).await, REFUSED);
    for text in ["", "a", "a.b.c", &"a".repeat(15_000)] {
        assert_eq!(log_in(&app, "google", text).await.status(), 401, "{}", text.len());
    }
    for name in ["unknown", "github"] {
        assert_eq!(error_of(log_in(&app, name, "a.b.c").await, 404).await, NOT_OFFERED, "{name}");
    }
    assert_eq!(app.usernames().len(), 1, "that of the token with a nonce");
}

#[tokio::test]
async fn a_nonce_that_the_client_gives_must_be_in_the_token_as_it_is_or_as_its_sha_256() {
    let provider = Provider::start();
    let app = spawn(&provider, |_| {});
    let hashed: Vec<String> = Sha256::digest("n-0S6_WzA2Mj").iter().map(|byte| format!("{byte:02x}")).collect();
    let hashed = hashed.concat();
    for (nonce, is_right) in [("n-0S6_WzA2Mj", true), (hashed.as_str(), true), ("another", false)] {
        let mut told = claims("google", &provider, "1");
        told["nonce"] = nonce.into();
        let body = json!({"provider": "google", "id_token": provider.sign(&told), "nonce": "n-0S6_WzA2Mj"});
        let status = app.post("/api/login/oidc", &body).await.status();
        assert_eq!(status.is_success(), is_right, "{nonce} {status}");
    }
    let body =
        json!({"provider": "google", "id_token": provider.sign(&claims("google", &provider, "1")), "nonce": "n"});
    assert_eq!(app.post("/api/login/oidc", &body).await.status(), 401, "none is in the token");
}

/// A user with an address, which staff say is verified, or not.
async fn user_with_address(app: &TestApp, username: &str, email: &str, is_verified: bool) {
    let body = json!({"username": username, "password": "hunter2", "email": email});
    assert_eq!(app.post("/api/register", &body).await.status(), 201);
    if is_verified {
        let staff = app.new_user("Boss").await;
        app.make_superuser("Boss");
        let path = format!("/api/users/{username}/verify-email");
        assert_eq!(app.ask(Method::POST, &path, &staff, None).await.status(), 200);
    }
}

#[tokio::test]
async fn an_account_is_linked_by_its_address_only_where_both_sides_have_verified_it() {
    // Who tells, what it tells, whether the account has verified its address, and the answer.
    for (name, email, more, is_verified, status) in [
        ("google", "azure@gmail.com", json!({"email_verified": true}), true, 200),
        ("google", "Azure@GMAIL.com", json!({"email_verified": true}), true, 200),
        ("google", "azure@diamond.example", json!({"email_verified": true, "hd": "diamond.example"}), true, 200),
        ("google", "azure@diamond.example", json!({"email_verified": true}), true, 409),
        ("google", "azure@diamond.example", json!({"email_verified": false, "hd": "diamond.example"}), true, 409),
        ("apple", "azure@diamond.example", json!({"email_verified": "true"}), true, 200),
        ("apple", "azure@diamond.example", json!({"email_verified": "false"}), true, 409),
        ("plain", "azure@diamond.example", json!({"email_verified": true}), true, 409),
        // An address that nobody has verified is anybody's: it neither links nor stands in the way.
        ("google", "azure@gmail.com", json!({"email_verified": true}), false, 201),
    ] {
        let provider = Provider::start();
        let app = spawn(&provider, with_mail);
        user_with_address(&app, "AzureDiamond", &email.to_lowercase(), is_verified).await;
        let mut told = claims(name, &provider, "1");
        told["email"] = email.into();
        for (key, value) in more.as_object().unwrap() {
            told[key] = value.clone();
        }
        let response = log_in(&app, name, &provider.sign(&told)).await;
        assert_eq!(response.status().as_u16(), status, "{name} {email} {more} {is_verified}");
        match status {
            200 => {
                let (token, username) = session(response, 200).await;
                assert_eq!(username, "AzureDiamond");
                assert_eq!(identities(&app, &token).await.len(), 1);
            }
            409 => drop(link_token(response).await),
            _ => assert_ne!(session(response, 201).await.1, "AzureDiamond"),
        }
    }
}

#[tokio::test]
async fn trust_in_the_addresses_of_a_provider_is_a_setting_of_its_own() {
    let provider = Provider::start();
    let app = spawn(&provider, |config| {
        with_mail(config);
        config.provider[3].trust_email = true;
    });
    user_with_address(&app, "AzureDiamond", "azure@diamond.example", true).await;
    let mut told = claims("plain", &provider, "1");
    told["email"] = "azure@diamond.example".into();
    drop(link_token(log_in(&app, "plain", &provider.sign(&told)).await).await);
    let told = with_email(claims("plain", &provider, "1"), "azure@diamond.example");
    assert_eq!(session(log_in(&app, "plain", &provider.sign(&told)).await, 200).await.1, "AzureDiamond");
}

#[tokio::test]
async fn an_address_that_the_provider_does_not_speak_for_is_mailed_a_confirmation_as_at_any_registration() {
    let provider = Provider::start();
    let smtp = SmtpServer::start(Behaviour::default());
    let app = spawn(&provider, |config| smtp.configure(config));
    let email_of = async |token: &str| app.get(Method::GET, "/api/user/email", token, None).await;
    let told = with_email(claims("plain", &provider, "1"), "azure@diamond.example");
    let (token, _) = session(log_in(&app, "plain", &provider.sign(&told)).await, 201).await;
    assert_eq!(email_of(&token).await["verified"], false);
    let mail = smtp.next().await;
    assert_eq!(mail.to, "azure@diamond.example");
    let confirmed = app.post("/api/email/confirm", &json!({"token": mail.token()})).await;
    assert_eq!(confirmed.status(), 200);
    assert_eq!(email_of(&token).await["verified"], true);
    // Where it speaks for the address, there is nothing to confirm.
    let told = with_email(claims("google", &provider, "2"), "azure@gmail.com");
    let (token, _) = session(log_in(&app, "google", &provider.sign(&told)).await, 201).await;
    let expected = json!({"email": "azure@gmail.com", "verified": true, "pending": null});
    assert_eq!(email_of(&token).await, expected);
}

#[tokio::test]
async fn where_none_is_registered_somebody_new_is_told_to_log_in_otherwise() {
    let provider = Provider::start();
    let app = spawn(&provider, |config| config.identities.register = false);
    drop(link_token(log_in(&app, "google", &provider.sign(&claims("google", &provider, "1"))).await).await);
    assert_eq!(app.usernames(), [""; 0]);
}

#[tokio::test]
async fn a_login_by_an_identity_ends_the_lockout_of_an_account_without_a_second_factor() {
    let provider = Provider::start();
    let app = spawn(&provider, accounts_alone);
    let token = app.new_user("AzureDiamond").await;
    make_fresh(&app, &token).await;
    let id_token = || provider.sign(&claims("google", &provider, "1"));
    let linked = link(&app, &token, json!({"provider": "google", "id_token": id_token()})).await;
    assert_eq!(linked.status(), 200);
    for _ in 0..10 {
        assert_eq!(app.log_in("AzureDiamond", "wrong").await.status(), 401);
    }
    assert_eq!(app.log_in("AzureDiamond", "hunter2").await.status(), 429);
    session(log_in(&app, "google", &id_token()).await, 200).await;
    assert_eq!(app.log_in("AzureDiamond", "hunter2").await.status(), 200);
}

#[tokio::test]
async fn a_deactivated_account_is_like_none_whatever_links_it() {
    let provider = Provider::start();
    let app = spawn(&provider, with_mail);
    user_with_address(&app, "AzureDiamond", "azure@gmail.com", true).await;
    let told = || with_email(claims("google", &provider, "1"), "azure@gmail.com");
    session(log_in(&app, "google", &provider.sign(&told())).await, 200).await;
    app.deactivate("AzureDiamond");
    let answer = error_of(log_in(&app, "google", &provider.sign(&told())).await, 401).await;
    assert_eq!(answer, error_of(log_in(&app, "google", "a.b.c").await, 401).await);
}

#[tokio::test]
async fn a_login_that_needs_a_verified_address_needs_it_here_too() {
    let provider = Provider::start();
    let app = spawn(&provider, |config| {
        with_mail(config);
        config.accounts.require_verified_email = true;
    });
    let plain = || provider.sign(&claims("plain", &provider, "1"));
    session(log_in(&app, "plain", &plain()).await, 201).await;
    assert_eq!(log_in(&app, "plain", &plain()).await.status(), 403);
    // A provider that speaks for the address has it verified from the beginning.
    let google = || provider.sign(&with_email(claims("google", &provider, "2"), "azure@gmail.com"));
    session(log_in(&app, "google", &google()).await, 201).await;
    session(log_in(&app, "google", &google()).await, 200).await;
}

#[tokio::test]
async fn a_provider_that_cannot_be_asked_is_no_refusal() {
    let provider = Provider::start();
    let app = spawn(&provider, |_| {});
    provider.set_down(true);
    let response = log_in(&app, "google", &provider.sign(&claims("google", &provider, "1"))).await;
    assert_eq!(response.status(), 503);
    assert!(response.headers().contains_key("retry-after"));
    provider.set_down(false);
}

#[tokio::test]
async fn the_providers_are_listed_in_the_order_of_the_configuration() {
    let provider = Provider::start();
    let app = spawn(&provider, |config| {
        config.provider[0].label = Some("Google".to_owned());
        config.provider[0].client_secret = None;
    });
    let list: Value = app.client.get(app.url("/api/login/providers")).send().await.unwrap().json().await.unwrap();
    assert_eq!(
        list,
        json!([
            {"name": "google", "label": "Google", "id_tokens": true, "web": false},
            {"name": "apple", "label": "apple", "id_tokens": true, "web": true},
            {"name": "github", "label": "github", "id_tokens": false, "web": true},
            {"name": "plain", "label": "plain", "id_tokens": true, "web": true},
        ])
    );
}

#[tokio::test]
async fn too_many_from_one_address_wait_and_a_new_account_counts_as_a_registration() {
    let provider = Provider::start();
    let app = spawn(&provider, |config| {
        config.rate_limit.enabled = true;
        config.rate_limit.register = Rate { count: 1, period: HOUR };
    });
    let new = |subject: &str| provider.sign(&claims("google", &provider, subject));
    session(log_in(&app, "google", &new("1")).await, 201).await;
    assert_eq!(log_in(&app, "google", &new("2")).await.status(), 429);
    session(log_in(&app, "google", &new("1")).await, 200).await;
    let mut last = 0;
    for _ in 0..40 {
        last = log_in(&app, "google", "a.b.c").await.status().as_u16();
    }
    assert_eq!(last, 429);
}
