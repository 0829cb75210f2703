//! Tokens that were imported from another system: they work as they are, in every call, until they end.

use std::sync::Arc;
use std::time::Duration;

use authtokens::domain::profile::Profile;
use authtokens::domain::rights::Rights;
use authtokens::domain::token::PresentedToken;
use authtokens::domain::user::{PasswordHash, Username};
use authtokens::repository::{ImportOutcome, ImportedAccount, ImportedToken};
use authtokens::system::clock::Timestamp;
use reqwest::Method;
use serde_json::{Value, json};

use crate::helpers::{HOUR, TestApp, UNKNOWN_TOKEN};

/// How another system has stored a token.
#[derive(Clone, Copy)]
enum Stored {
    /// By the SHA-256 of its characters.
    Sha256,
    /// By the SHA-512 of its characters.
    Sha512,
    /// By the SHA-512 of the bytes that it stands for.
    Sha512OfBytes,
}

/// Imports an account with these tokens beside the running server. Each ends a day from now.
async fn import(app: &TestApp, username: &str, tokens: &[(&str, Stored)]) {
    let now = app.clock.now();
    let imported = |(text, stored): &(&str, Stored)| {
        let token = PresentedToken::parse(text).unwrap();
        let digest = match stored {
            Stored::Sha256 => token.digest(),
            Stored::Sha512 => token.foreign_digests()[0],
            Stored::Sha512OfBytes => token.foreign_digests()[1],
        };
        ImportedToken { digest, is_sha512: !matches!(stored, Stored::Sha256), expires: Some(now.plus(HOUR * 24)) }
    };
    let account = ImportedAccount {
        source_id: username.to_owned(),
        fingerprint: [0; 32],
        username: Username::parse_existing(username).unwrap(),
        password_hash: PasswordHash::none(),
        hash_work: None,
        profile: Profile::default(),
        is_email_verified: false,
        is_active: true,
        rights: Rights::default(),
        date_joined: Timestamp::from_millis(-877).unwrap(),
        created: now,
        modified: now,
        last_login: now,
        cellar: Vec::new(),
        wants: Vec::new(),
        tokens: tokens.iter().map(imported).collect(),
    };
    let outcomes = app.store.open_beside().import_accounts("django", vec![account], now).await.unwrap();
    assert_eq!(outcomes, [ImportOutcome::Imported { tokens: tokens.len() }]);
}

async fn status(app: &TestApp, method: Method, path: &str, token: &str) -> u16 {
    app.ask(method, path, token, None).await.status().as_u16()
}

#[tokio::test]
async fn a_token_of_another_system_works_whatever_it_looks_like_and_each_call_may_be_its_first() {
    let app = TestApp::spawn();
    let long = "f".repeat(256);
    let tokens = [
        ("9944b09199c62bcf9418ad846dd0e4bbdfc6ee4b", Stored::Sha256),
        ("0944b09199c62bcf9418ad846dd0e4bbdfc6ee4b", Stored::Sha512),
        ("8944b09199c62bcf9418ad846dd0e4bbdfc6ee4b9944b09199c62bcf9418ad84", Stored::Sha512OfBytes),
        ("cellar_44b09199c62bcf9418ad846dd0e4bbdfc6ee4b9944b09199c62bcf94", Stored::Sha512),
        ("A.b-c_d~e+f/g==", Stored::Sha512),
        (&long, Stored::Sha512),
    ];
    import(&app, "Ana", &tokens).await;
    let calls = [
        (Method::GET, "/api/user"),
        (Method::GET, "/api/user/tokens"),
        (Method::PUT, "/api/user/cellar/1"),
        (Method::PATCH, "/api/user"),
        (Method::GET, "/api/user/export"),
        (Method::GET, "/api/user"),
    ];
    for ((token, _), (method, path)) in tokens.iter().zip(calls) {
        let body = (method == Method::PATCH).then(|| json!({ "city": "Porto" }));
        for _ in 0..2 {
            let response = app.ask(method.clone(), path, token, body.as_ref()).await;
            assert_eq!(response.status(), 200, "{token} {path}");
        }
    }
    let user = app.get(Method::GET, "/api/user", &long, None).await;
    assert_eq!((&user["username"], &user["city"], &user["cellar"]), (&json!("Ana"), &json!("Porto"), &json!([1])));
    assert_eq!(user["date_joined"], "1969-12-31T23:59:59.123Z");

    let app = app.restart_with(|_| {});
    for (token, _) in tokens {
        assert_eq!(status(&app, Method::GET, "/api/user", token).await, 200, "{token}");
        assert_eq!(app.log_out(token).await.status(), 200, "{token}");
        assert_eq!(app.log_out(token).await.status(), 401, "{token}");
        assert_eq!(status(&app, Method::GET, "/api/user", token).await, 401, "{token}");
    }
    assert_eq!(app.count("tokens"), 0);
}

#[tokio::test]
async fn a_logout_may_be_the_first_call_of_a_token() {
    let app = TestApp::spawn();
    let tokens = ["cellar_1", "cellar_2", "cellar_3"];
    import(&app, "Ana", &tokens.map(|token| (token, Stored::Sha512))).await;
    assert_eq!(app.log_out("cellar_1").await.status(), 200);
    assert_eq!(app.log_out("cellar_1").await.status(), 401);
    assert_eq!(app.count("tokens"), 2);
    assert_eq!(status(&app, Method::POST, "/api/logoutall", "cellar_2").await, 200);
    assert_eq!(status(&app, Method::GET, "/api/user", "cellar_3").await, 401, "it was never presented");
    assert_eq!(app.count("tokens"), 0);
}

#[tokio::test]
async fn of_a_token_that_is_first_presented_by_many_requests_at_once_all_are_answered() {
    let app = Arc::new(TestApp::spawn());
    for round in 0..8 {
        let token = format!("cellar_{round}");
        import(&app, &format!("user{round}"), &[(&token, Stored::Sha512)]).await;
        let requests: Vec<_> = (0..16)
            .map(|number| {
                let (app, token) = (Arc::clone(&app), token.clone());
                let path = if number % 2 == 0 { "/api/user" } else { "/api/user/tokens" };
                tokio::spawn(async move { status(&app, Method::GET, path, &token).await })
            })
            .collect();
        for request in requests {
            assert_eq!(request.await.unwrap(), 200, "{round}");
        }
    }
    assert_eq!(app.count("tokens"), 8);
}

#[tokio::test]
async fn an_imported_session_is_listed_with_its_own_end_and_ends_then() {
    let app = TestApp::spawn();
    import(&app, "Ana", &[("cellar_1", Stored::Sha512), ("cellar_2", Stored::Sha512)]).await;
    let sessions = app.get(Method::GET, "/api/user/tokens", "cellar_1", None).await;
    let [one, other] = &sessions.as_array().unwrap()[..] else { panic!("two sessions: {sessions}") };
    for session in [one, other] {
        assert_eq!(session["expires"], "2015-01-05T22:51:35.144Z");
        assert_eq!((&session["user_agent"], &session["ip"]), (&json!("imported from django"), &Value::Null));
    }
    assert!(one["current"] == true || other["current"] == true);
    app.clock.advance(Duration::from_millis(24 * 3_600_000 - 1));
    assert_eq!(status(&app, Method::GET, "/api/user", "cellar_1").await, 200);
    app.clock.advance(Duration::from_millis(1));
    for token in ["cellar_1", "cellar_2"] {
        assert_eq!(status(&app, Method::GET, "/api/user", token).await, 401, "{token}");
        assert_eq!(app.log_out(token).await.status(), 401, "{token}");
    }
}

#[tokio::test]
async fn what_is_no_imported_token_is_refused_beside_those_that_are() {
    let app = TestApp::spawn();
    let refused = ["cellar_2", "CELLAR_1", "cellar_1=", UNKNOWN_TOKEN, &"f".repeat(257), "cellar 1", "cellar_1,"];
    for token in refused {
        assert_eq!(status(&app, Method::GET, "/api/user", token).await, 401, "{token}");
    }
    import(&app, "Ana", &[("cellar_1", Stored::Sha512)]).await;
    for token in refused {
        assert_eq!(status(&app, Method::GET, "/api/user", token).await, 401, "{token}");
        assert_eq!(app.log_out(token).await.status(), 401, "{token}");
    }
    assert_eq!(status(&app, Method::GET, "/api/user", "cellar_1").await, 200);
}
