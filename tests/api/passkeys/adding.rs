//! Making passkeys: what is asked of authenticators, what is accepted, and what an owner may do with it.

use std::time::Duration;

use authtokens::config::Config;
use authtokens::config::identity::Preset;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use super::authenticator::{Algorithm, Authenticator, PRESENT, VERIFIED};
use super::{
    NO_PASSKEYS, REFUSED, add, added, creation_options, fresh_user, freshen, log_in, login_options, spawn,
    with_passkeys,
};
use crate::helpers::{TestApp, error_of, session_of, until};
use crate::identities::{claims, configured};
use crate::mail::mailbox::accounts_alone;
use crate::provider::Provider;
use crate::second_factor::{WRONG_IN_SESSION, new_owner, set_up_fresh};

/// How an authenticator misbehaves.
type Wrong = fn(&mut Authenticator);

const LIST: &str = "/api/user/passkeys";
const NOT_FRESH: &str = "Invalid Data: the session is not fresh: POST /api/user/reauthenticate first";

#[tokio::test]
async fn a_browser_is_asked_for_a_discoverable_passkey_that_verifies_its_user() {
    let app = spawn();
    let token = fresh_user(&app, "AzureDiamond").await;
    let options = creation_options(&app, &token).await;
    let public_key = &options["publicKey"];
    assert_eq!(public_key["rp"], json!({"id": "diamond.example", "name": "authtokens"}));
    assert_eq!(public_key["user"]["name"], "AzureDiamond");
    let kinds: Vec<_> = public_key["pubKeyCredParams"].as_array().unwrap().iter().map(|kind| &kind["alg"]).collect();
    assert_eq!(kinds, [-7, -8, -257]);
    assert_eq!(public_key["authenticatorSelection"]["residentKey"], "required");
    assert_eq!(public_key["authenticatorSelection"]["userVerification"], "required");
    assert_eq!(public_key["attestation"], "none");
    assert_eq!(public_key["excludeCredentials"], json!([]));
    assert_eq!(BASE64.decode(public_key["challenge"].as_str().unwrap()).unwrap().len(), 32);
    let (authenticator, _) = added(&app, &token, Algorithm::Es256).await;
    let again = creation_options(&app, &token).await;
    let excluded = json!([{"type": "public-key", "id": BASE64.encode(&authenticator.id)}]);
    assert_eq!(again["publicKey"]["excludeCredentials"], excluded);
    let handle = authenticator.user_handle.unwrap();
    assert_eq!(BASE64.decode(again["publicKey"]["user"]["id"].as_str().unwrap()).unwrap(), handle);
    let other = fresh_user(&app, "Other").await;
    let others = creation_options(&app, &other).await;
    assert_ne!(others["publicKey"]["user"]["id"], again["publicKey"]["user"]["id"]);
}

#[tokio::test]
async fn a_passkey_of_each_algorithm_is_added_listed_renamed_and_removed() {
    let app = spawn();
    let token = fresh_user(&app, "AzureDiamond").await;
    for algorithm in Algorithm::ALL {
        let (_, passkey) = added(&app, &token, algorithm).await;
        assert_eq!((&passkey["name"], &passkey["last_used"]), (&json!("Key"), &Value::Null));
        assert_eq!(app.get(Method::GET, LIST, &token, None).await, json!([passkey]));
        let path = format!("{LIST}/{}", passkey["id"].as_str().unwrap());
        let renamed = app.get(Method::PATCH, &path, &token, Some(&json!({"name": " Phone "}))).await;
        assert_eq!(renamed["name"], "Phone");
        let stranger = app.new_user(&format!("{algorithm:?}")).await;
        freshen(&app, &stranger).await;
        for method in [Method::PATCH, Method::DELETE] {
            let body = json!({"name": "Mine"});
            assert_eq!(app.ask(method, &path, &stranger, Some(&body)).await.status(), 404);
        }
        app.get(Method::DELETE, &path, &token, None).await;
        assert_eq!(app.get(Method::GET, LIST, &token, None).await, json!([]));
    }
    assert_eq!((app.count_events("passkey_added"), app.count_events("passkey_removed")), (3, 3));
}

#[tokio::test]
async fn passkeys_are_added_and_removed_in_a_fresh_session_only() {
    let app = spawn();
    let token = fresh_user(&app, "AzureDiamond").await;
    let options = creation_options(&app, &token).await;
    let (_, passkey) = added(&app, &token, Algorithm::Es256).await;
    app.clock.advance(Duration::from_secs(10 * 60));
    let made = Authenticator::new(Algorithm::Es256).create(&options);
    let path = format!("{LIST}/{}", passkey["id"].as_str().unwrap());
    assert_eq!(error_of(app.ask(Method::POST, "/api/user/passkeys/options", &token, None).await, 400).await, NOT_FRESH);
    assert_eq!(error_of(add(&app, &token, &made).await, 400).await, NOT_FRESH);
    assert_eq!(error_of(app.ask(Method::DELETE, &path, &token, None).await, 400).await, NOT_FRESH);
    assert_eq!(app.get(Method::GET, LIST, &token, None).await, json!([passkey]));
}

#[tokio::test]
async fn where_there_is_an_app_a_passkey_is_begun_with_its_code_alone_which_is_used_up() {
    let app = spawn();
    let owner = new_owner(&app, "AzureDiamond").await;
    let begin = async |factor: Option<Value>| {
        app.ask(Method::POST, "/api/user/passkeys/options", &owner.token, factor.as_ref()).await
    };
    let right = json!({"code": owner.app.code(&app, 0)});
    app.clock.advance(Duration::from_secs(10 * 60));
    assert_eq!(error_of(begin(Some(right)).await, 400).await, NOT_FRESH);
    // One factor makes the session fresh, and is not enough.
    freshen(&app, &owner.token).await;
    for nothing in [None, Some(json!({}))] {
        assert_eq!(error_of(begin(nothing).await, 400).await, "Invalid Data: code is required");
    }
    let wrong = json!({"code": owner.app.wrong_code(&app)});
    assert_eq!(error_of(begin(Some(wrong)).await, 400).await, WRONG_IN_SESSION);
    until("storing", || app.count_events("reauthentication_failed") == 1).await;
    assert_eq!(app.count("challenges"), 0);

    let right = json!({"code": owner.app.code(&app, 0)});
    assert_eq!(begin(Some(right.clone())).await.status(), 200);
    assert_eq!(error_of(begin(Some(right.clone())).await, 400).await, WRONG_IN_SESSION, "used");
    assert_eq!(
        error_of(app.ask(Method::DELETE, "/api/user/totp", &owner.token, Some(&right)).await, 400).await,
        WRONG_IN_SESSION
    );
    let code = json!({"recovery_code": owner.recovery_codes[0]});
    let options: Value = begin(Some(code.clone())).await.json().await.unwrap();
    assert_eq!(error_of(begin(Some(code)).await, 400).await, WRONG_IN_SESSION, "used");
    let again: Value = begin(Some(json!({"recovery_code": options["recovery_code"]}))).await.json().await.unwrap();
    let made = Authenticator::new(Algorithm::Es256).create(&again);
    assert_eq!(add(&app, &owner.token, &made).await.status(), 201);
}

#[tokio::test]
async fn guesses_at_a_code_for_a_passkey_are_limited_as_those_for_turning_the_app_off_are() {
    let app = TestApp::spawn_with(|config| {
        with_passkeys(config);
        accounts_alone(config);
    });
    let owner = new_owner(&app, "AzureDiamond").await;
    let begin = async |code: String| {
        let body = json!({"code": code});
        app.ask(Method::POST, "/api/user/passkeys/options", &owner.token, Some(&body)).await
    };
    for number in 0..10 {
        freshen(&app, &owner.token).await;
        assert_eq!(begin(owner.app.wrong_code(&app)).await.status(), 400, "{number}");
    }
    assert_eq!(begin(owner.app.code(&app, 0)).await.status(), 429);
    let right = json!({"code": owner.app.code(&app, 0)});
    assert_eq!(app.ask(Method::DELETE, "/api/user/totp", &owner.token, Some(&right)).await.status(), 429);
}

#[tokio::test]
async fn a_passkey_that_was_begun_before_the_app_is_not_added_after_it() {
    let app = spawn();
    let token = fresh_user(&app, "AzureDiamond").await;
    let made = Authenticator::new(Algorithm::Es256).create(&creation_options(&app, &token).await);
    set_up_fresh(&app, &token).await;
    assert_eq!(error_of(add(&app, &token, &made).await, 400).await, REFUSED);
    assert_eq!(app.get(Method::GET, LIST, &token, None).await, json!([]));
}

#[tokio::test]
async fn the_last_way_in_stays_where_it_is_a_passkey() {
    let provider = Provider::start();
    let app = TestApp::spawn_with(|config| {
        with_passkeys(config);
        config.outbound.allow = vec!["127.0.0.0/8".parse().unwrap()];
        config.provider = vec![configured("google", Preset::Google, &provider)];
    });
    let shown = || json!({"provider": "google", "id_token": provider.sign(&claims("google", &provider, "1"))});
    let (token, user) = session_of(app.post("/api/login/oidc", &shown()).await).await;
    app.get(Method::POST, "/api/user/reauthenticate", &token, Some(&shown())).await;
    let (mut authenticator, passkey) = added(&app, &token, Algorithm::Es256).await;
    // It is another way in, so that the identity may go.
    let identities = app.get(Method::GET, "/api/user/identities", &token, None).await;
    let path = format!("/api/user/identities/{}", identities[0]["id"].as_str().unwrap());
    app.get(Method::DELETE, &path, &token, None).await;
    let path = format!("{LIST}/{}", passkey["id"].as_str().unwrap());
    let last = error_of(app.ask(Method::DELETE, &path, &token, None).await, 409).await;
    assert_eq!(last, "This is the last way into the account. Add another one first.");
    let options = login_options(&app).await;
    let (_, again) = session_of(log_in(&app, &authenticator.get(&options)).await).await;
    assert_eq!(again["username"], user["username"]);
}

#[tokio::test]
async fn a_way_in_that_the_configuration_offers_no_more_is_none() {
    let provider = Provider::start();
    let configure = |passkeys: bool, provider: Option<&Provider>| {
        let provider = provider.map(|provider| configured("google", Preset::Google, provider));
        move |config: &mut Config| {
            if passkeys {
                with_passkeys(config);
            }
            config.outbound.allow = vec!["127.0.0.0/8".parse().unwrap()];
            config.provider = provider.into_iter().collect();
        }
    };
    let app = TestApp::spawn_with(configure(true, Some(&provider)));
    let shown = || json!({"provider": "google", "id_token": provider.sign(&claims("google", &provider, "1"))});
    let (token, _) = session_of(app.post("/api/login/oidc", &shown()).await).await;
    app.get(Method::POST, "/api/user/reauthenticate", &token, Some(&shown())).await;
    let (_, passkey) = added(&app, &token, Algorithm::Es256).await;
    let passkey = format!("{LIST}/{}", passkey["id"].as_str().unwrap());
    let identities = app.get(Method::GET, "/api/user/identities", &token, None).await;
    let identity = format!("/api/user/identities/{}", identities[0]["id"].as_str().unwrap());
    let app = app.restart_with(configure(true, None));
    assert_eq!(app.ask(Method::DELETE, &passkey, &token, None).await.status(), 409);
    let app = app.restart_with(configure(false, Some(&provider)));
    assert_eq!(app.ask(Method::DELETE, &identity, &token, None).await.status(), 409);
    let app = app.restart_with(configure(true, None));
    app.get(Method::DELETE, &identity, &token, None).await;
    assert_eq!(app.ask(Method::DELETE, &passkey, &token, None).await.status(), 409);
}

#[tokio::test]
async fn what_an_authenticator_says_of_its_maker_is_not_looked_at() {
    let app = spawn();
    let token = fresh_user(&app, "AzureDiamond").await;
    for attestation in [
        &b"\x63fmt\x66packed\x67attStmt\xa2\x63alg\x26\x63sig\x41\x00"[..],
        b"\x63fmt\x63tpm\x67attStmt\xa1\x63ver\x632.0",
        b"\x63fmt\x67unheard\x67attStmt\xf6",
    ] {
        let mut authenticator = Authenticator::new(Algorithm::Es256);
        authenticator.attestation = attestation.to_vec();
        let made = authenticator.create(&creation_options(&app, &token).await);
        assert_eq!(add(&app, &token, &made).await.status(), 201);
    }
}

#[tokio::test]
async fn what_was_not_made_for_this_is_refused_and_its_challenge_is_gone() {
    let app = spawn();
    let token = fresh_user(&app, "AzureDiamond").await;
    let wrongs: [(&str, Wrong); 13] = [
        ("another origin", |a| a.origin = "https://diamond.test".to_owned()),
        ("a path", |a| a.origin = "https://diamond.example/".to_owned()),
        ("an origin below it", |a| a.origin = "https://a.diamond.example".to_owned()),
        ("another port", |a| a.origin = "https://diamond.example:8443".to_owned()),
        ("plain http", |a| a.origin = "http://diamond.example".to_owned()),
        ("another domain", |a| a.rp_id = "diamond.test".to_owned()),
        ("no user verified", |a| a.flags = PRESENT),
        ("no user present", |a| a.flags = VERIFIED),
        ("a foreign frame", |a| a.cross_origin = true),
        ("a frame that is not foreign", |a| a.top_origin = Some("https://diamond.example")),
        ("another ceremony", |a| a.ceremony = Some("webauthn.get")),
        ("a short id", |a| a.id.truncate(15)),
        ("a long id", |a| a.id.resize(1024, 7)),
    ];
    for algorithm in [Algorithm::Es256, Algorithm::Ed25519] {
        for (what, wrong) in wrongs {
            let mut authenticator = Authenticator::new(algorithm);
            wrong(&mut authenticator);
            let options = creation_options(&app, &token).await;
            let made = authenticator.create(&options);
            assert_eq!(error_of(add(&app, &token, &made).await, 400).await, REFUSED, "{what}");
            let made = Authenticator::new(algorithm).create(&options);
            assert_eq!(error_of(add(&app, &token, &made).await, 400).await, REFUSED, "{what}: the challenge is used");
        }
    }
    assert_eq!(app.get(Method::GET, LIST, &token, None).await, json!([]));
}

#[tokio::test]
async fn a_key_that_was_not_asked_for_and_broken_data_are_refused() {
    let app = spawn();
    let token = fresh_user(&app, "AzureDiamond").await;
    let authenticator = Authenticator::new(Algorithm::Ed25519);
    let own = authenticator.public_key();
    let mut ed448 = own.clone();
    ed448[6] = 7;
    // The same key with its parameters in another order: CTAP2 allows one.
    let reordered = [b"\xa4\x03\x27\x01\x01\x20\x06\x21\x58\x20", &own[10..]].concat();
    // The identity: any message has a signature that verifies with it, as these do.
    let mut of_small_order = own.clone();
    of_small_order[10..].fill(0);
    of_small_order[10] = 1;
    let ecdsa = Authenticator::new(Algorithm::Es256).public_key();
    let mut off_the_curve = ecdsa.clone();
    off_the_curve[20] ^= 1;
    let mut of_p384 = ecdsa.clone();
    of_p384[4] = 0x38;
    let nested = vec![0x81; 8_000];
    for (what, key) in [
        ("Ed448", ed448),
        ("of small order", of_small_order),
        ("reordered", reordered),
        ("cut", own[..41].to_vec()),
        ("none", Vec::new()),
        ("off the curve", off_the_curve),
        ("ES384", of_p384),
        ("nested", nested),
        ("endless", vec![0x9f; 100]),
        ("a huge length", b"\xa4\x5b\xff\xff\xff\xff\xff\xff\xff\xff".to_vec()),
    ] {
        let made = authenticator.create_with(&creation_options(&app, &token).await, &key);
        assert_eq!(error_of(add(&app, &token, &made).await, 400).await, REFUSED, "{what}");
    }
    for (what, object) in [
        ("nothing", Vec::new()),
        ("nested", vec![0x81; 10_000]),
        ("a huge map", b"\xbb\xff\xff\xff\xff\xff\xff\xff\xff".to_vec()),
        ("no data", b"\xa2\x63fmt\x64none\x67attStmt\xa0".to_vec()),
        ("short data", b"\xa3\x63fmt\x64none\x67attStmt\xa0\x68authData\x41\x00".to_vec()),
        ("data twice", b"\xa2\x68authData\x41\x00\x68authData\x41\x00".to_vec()),
    ] {
        let made = authenticator.attested(&creation_options(&app, &token).await, &object);
        assert_eq!(error_of(add(&app, &token, &made).await, 400).await, REFUSED, "{what}");
    }
    assert_eq!(app.get(Method::GET, LIST, &token, None).await, json!([]));
}

#[tokio::test]
async fn a_challenge_is_the_callers_own_for_this_alone_for_five_minutes_and_once() {
    let app = spawn();
    let token = fresh_user(&app, "AzureDiamond").await;
    let other = fresh_user(&app, "Other").await;
    let mine = creation_options(&app, &token).await;
    let made = Authenticator::new(Algorithm::Es256).create(&mine);
    assert_eq!(error_of(add(&app, &other, &made).await, 400).await, REFUSED, "another account's");
    // Nobody else's try uses it up.
    assert_eq!(add(&app, &token, &made).await.status(), 201);
    let again = Authenticator::new(Algorithm::Es256).create(&mine);
    assert_eq!(error_of(add(&app, &token, &again).await, 400).await, REFUSED, "used");
    let login = super::login_options(&app).await;
    let mut of_a_login = mine.clone();
    of_a_login["publicKey"]["challenge"] = login["publicKey"]["challenge"].clone();
    let made = Authenticator::new(Algorithm::Es256).create(&of_a_login);
    assert_eq!(error_of(add(&app, &token, &made).await, 400).await, REFUSED, "of a login");
    let late = Authenticator::new(Algorithm::Es256).create(&creation_options(&app, &token).await);
    app.clock.advance(Duration::from_secs(5 * 60));
    assert_eq!(error_of(add(&app, &token, &late).await, 400).await, REFUSED, "late");
    freshen(&app, &token).await;
    let options = creation_options(&app, &token).await;
    let made: Vec<_> = (0..10).map(|_| Authenticator::new(Algorithm::Es256).create(&options)).collect();
    let statuses = join_all(made.iter().map(|made| add(&app, &token, made))).await;
    assert_eq!(statuses.iter().filter(|response| response.status() == 201).count(), 1, "at once");
}

#[tokio::test]
async fn a_credential_belongs_to_one_account_and_an_account_has_twenty_at_most() {
    let app = spawn();
    let token = fresh_user(&app, "AzureDiamond").await;
    let other = fresh_user(&app, "Other").await;
    let (first, _) = added(&app, &token, Algorithm::Es256).await;
    let mut same = Authenticator::new(Algorithm::Es256);
    same.id = first.id;
    let made = same.create(&creation_options(&app, &other).await);
    assert_eq!(error_of(add(&app, &other, &made).await, 409).await, "This passkey is an account's already.");
    for _ in 1..20 {
        added(&app, &token, Algorithm::Es256).await;
    }
    let made = Authenticator::new(Algorithm::Es256).create(&creation_options(&app, &token).await);
    let full = "The account has as many passkeys as it may have. Remove one first.";
    assert_eq!(error_of(add(&app, &token, &made).await, 409).await, full);
}

#[tokio::test]
async fn passkeys_that_are_begun_before_the_account_has_one_are_all_added_and_all_log_in() {
    let app = spawn();
    let token = fresh_user(&app, "AzureDiamond").await;
    let begun = [creation_options(&app, &token).await, creation_options(&app, &token).await];
    for options in begun {
        let mut authenticator = Authenticator::new(Algorithm::Es256);
        authenticator.id.resize(1023, 7);
        let made = authenticator.create(&options);
        assert_eq!(add(&app, &token, &made).await.status(), 201);
        let used = authenticator.get(&login_options(&app).await);
        assert_eq!(session_of(log_in(&app, &used).await).await.1["username"], "AzureDiamond");
    }
    let excluded = &creation_options(&app, &token).await["publicKey"]["excludeCredentials"];
    assert_eq!(excluded.as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_malformed_passkey_is_told_what_it_lacks_and_has_no_key_twice() {
    let app = spawn();
    let token = fresh_user(&app, "AzureDiamond").await;
    for (body, sentence) in [
        ("{}", "passkey is required"),
        (r#"{"passkey": 1}"#, "passkey must be an object"),
        (r#"{"passkey": {}}"#, "response is required"),
        (r#"{"passkey": {"response": {}}}"#, "rawId is required"),
        (r#"{"passkey": {"rawId": "AA", "response": {}}}"#, "clientDataJSON is required"),
        (r#"{"passkey": {"rawId": "!", "response": {}}}"#, "rawId must be base64url"),
        (r#"{"passkey": {"rawId": "AA", "rawId": "AA"}}"#, "the body must not have a key twice"),
        (r#"{"passkey": {"response": {"x": {"a": 1, "a": 1}}}}"#, "the body must not have a key twice"),
        (r#"{"name": "", "passkey": {}}"#, "name must be 1 to 64 characters, none of them a control character"),
    ] {
        let request = app.client.post(app.url(LIST)).header("Authorization", format!("Token {token}"));
        let request = request.header("Content-Type", "application/json").body(body);
        assert_eq!(error_of(request.send().await.unwrap(), 400).await, format!("Invalid Data: {sentence}"), "{body}");
    }
    let huge = json!({"passkey": "x".repeat(16 * 1024)});
    assert_eq!(app.ask(Method::POST, LIST, &token, Some(&huge)).await.status(), 413);
}

#[tokio::test]
async fn without_a_domain_there_are_no_passkeys() {
    let app = TestApp::spawn();
    let token = fresh_user(&app, "AzureDiamond").await;
    for path in ["/api/user/passkeys/options", LIST, "/api/user/reauthenticate/passkey"] {
        assert_eq!(error_of(app.ask(Method::POST, path, &token, None).await, 404).await, NO_PASSKEYS, "{path}");
    }
    for path in ["/api/login/passkey/options", "/api/login/passkey"] {
        assert_eq!(error_of(app.client.post(app.url(path)).body("x").send().await.unwrap(), 404).await, NO_PASSKEYS);
    }
    assert_eq!(app.get(Method::GET, LIST, &token, None).await, json!([]));
}
