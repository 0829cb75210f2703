//! `POST /api/login`.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;

use crate::helpers::{JSON, TestApp, error_of, post_bytes, session_of};

#[tokio::test]
async fn each_login_makes_a_new_token_and_the_others_live_on() {
    let app = TestApp::spawn();
    let (first, _) = session_of(app.register("AzureDiamond", "hunter2").await).await;
    let (second, _) = session_of(app.log_in("AzureDiamond", "hunter2").await).await;
    let (third, _) = session_of(app.log_in("AzureDiamond", "hunter2").await).await;
    assert!(first != second && second != third && first != third);
    for token in [first, second, third] {
        assert_eq!(app.log_out(&token).await.status(), 200);
    }
}

#[tokio::test]
async fn a_name_is_found_without_regard_to_case_and_answered_as_it_was_typed_at_first() {
    let app = TestApp::spawn();
    app.register("AzureDiamond", "hunter2").await;
    for name in ["azurediamond", "AZUREDIAMOND", "aZuReDiAmOnD"] {
        let (_, user) = session_of(app.log_in(name, "hunter2").await).await;
        assert_eq!(user["username"], "AzureDiamond");
    }
}

#[tokio::test]
async fn last_login_moves_at_each_login_and_nothing_else_does() {
    let app = TestApp::spawn();
    let (_, registered) = session_of(app.register("AzureDiamond", "hunter2").await).await;
    app.clock.advance(Duration::from_millis(1_234));
    let (_, user) = session_of(app.log_in("AzureDiamond", "hunter2").await).await;
    assert_eq!(user["last_login"], "2015-01-04T22:51:36.378Z");
    for (key, value) in registered.as_object().unwrap() {
        if key != "last_login" {
            assert_eq!(&user[key], value, "{key}");
        }
    }
}

#[tokio::test]
async fn an_unknown_user_a_wrong_password_and_an_inactive_user_get_the_same_bytes() {
    let app = TestApp::spawn();
    app.register("wrong", "hunter2").await;
    app.register("inactive", "hunter2").await;
    app.deactivate("inactive");
    let answers: Vec<String> =
        [("unknown", "hunter2"), ("wrong", "hunter3"), ("inactive", "hunter2"), ("inactive", "x")]
            .into_iter()
            .map(|(username, password)| {
                let body = json!({"username": username, "password": password}).to_string();
                let response = app.raw(post_bytes("/api/login", JSON, body));
                response.assert_error(401);
                assert_eq!(response.header("WWW-Authenticate"), Some("Token"));
                // What differs between any two responses: the id, perhaps the second, and the framework's order of
                // headers.
                let text = String::from_utf8(response.bytes.clone()).unwrap();
                let text = text
                    .replace(response.header("X-Request-Id").unwrap(), "-")
                    .replace(response.header("Date").unwrap(), "-");
                let mut lines: Vec<&str> = text.split("\r\n").collect();
                lines.sort_unstable();
                lines.join("\n")
            })
            .collect();
    assert_eq!(answers[0], answers[1]);
    assert_eq!(answers[0], answers[2]);
    assert_eq!(answers[0], answers[3]);
    assert_eq!(app.count("tokens"), 2, "a refused login leaves nothing");
}

#[tokio::test]
async fn a_missing_or_mistyped_field_is_400() {
    let app = TestApp::spawn();
    for body in [
        json!({}),
        json!({"username": "a"}),
        json!({"password": "p"}),
        json!({"username": 1, "password": "p"}),
        json!({"username": "a", "password": ["p"]}),
        json!({"username": "a", "password": ""}),
        json!({"username": "a b", "password": "p"}),
    ] {
        let error = error_of(app.post("/api/login", &body).await, 400).await;
        assert!(error.starts_with("Invalid Data: "), "{error}");
    }
}

#[tokio::test]
async fn a_password_is_verified_exactly_as_received() {
    let app = TestApp::spawn_with(|config| config.server.password_body_limit = config.server.body_limit);
    let passwords = [
        "P".to_owned(),
        "P\0P".to_owned(),
        "a".repeat(72),
        "a".repeat(73),
        " hunter2 ".to_owned(),
        "\u{e9}".to_owned(),
        "e\u{301}".to_owned(),
        "pässwörd☃\n\u{feff}".to_owned(),
        "x".repeat(900_000),
    ];
    for (number, password) in passwords.iter().enumerate() {
        assert_eq!(app.register(&format!("user{number}"), password).await.status(), 201);
    }
    for number in 0..passwords.len() {
        for (other, password) in passwords.iter().enumerate() {
            let status = app.log_in(&format!("user{number}"), password).await.status();
            assert_eq!(status, if other == number { 200 } else { 401 }, "user{number} with password {other}");
        }
    }
}

#[tokio::test]
async fn a_password_policy_is_never_asked_at_login() {
    let app = TestApp::spawn();
    app.register("AzureDiamond", "1").await;
    let strict = app.spawn_copy_with(|config| {
        config.password.min_length = 12;
        config.password.reject_common = true;
    });
    assert_eq!(strict.log_in("AzureDiamond", "1").await.status(), 200);
}

#[tokio::test]
async fn a_login_whose_stored_cost_differs_stores_a_new_hash_and_the_password_still_opens() {
    let app = TestApp::spawn();
    app.register("AzureDiamond", "hunter2").await;
    let costlier = app.spawn_copy_with(|config| config.password.bcrypt_cost = 5);
    let stored = |app: &TestApp| app.stored_hash("AzureDiamond");
    assert!(stored(&costlier).starts_with("$bcrypt-sha256$v=2,t=2b,r=4$"));
    assert_eq!(costlier.log_in("AzureDiamond", "hunter3").await.status(), 401);
    assert!(stored(&costlier).starts_with("$bcrypt-sha256$v=2,t=2b,r=4$"), "only a match makes a new hash");
    for _ in 0..2 {
        assert_eq!(costlier.log_in("AzureDiamond", "hunter2").await.status(), 200);
        assert!(stored(&costlier).starts_with("$bcrypt-sha256$v=2,t=2b,r=5$"));
    }
    assert_eq!(costlier.log_in("AzureDiamond", "hunter3").await.status(), 401);
}

#[tokio::test]
async fn of_many_right_logins_at_once_after_a_change_of_cost_every_one_succeeds() {
    let app = TestApp::spawn();
    app.register("AzureDiamond", "hunter2").await;
    let costlier = std::sync::Arc::new(app.spawn_copy_with(|config| config.password.bcrypt_cost = 6));
    let attempts: Vec<_> = (0..12)
        .map(|_| {
            let app = std::sync::Arc::clone(&costlier);
            tokio::spawn(async move { app.log_in("AzureDiamond", "hunter2").await.status().as_u16() })
        })
        .collect();
    for attempt in attempts {
        assert_eq!(attempt.await.unwrap(), 200);
    }
}

#[tokio::test]
async fn a_malformed_stored_hash_is_a_500_for_that_request_alone() {
    let app = TestApp::spawn();
    app.register("broken", "hunter2").await;
    app.register("whole", "hunter2").await;
    for hash in ["", "$2b$12$short", "$bcrypt-sha256$v=2,t=2b,r=99$x$y", "not a hash \u{fc}"] {
        app.set("broken", |account| hash.clone_into(&mut account.password_hash));
        let error = error_of(app.log_in("broken", "hunter2").await, 500).await;
        assert!(!error.contains("hash"), "{error}");
        assert_eq!(app.log_in("whole", "hunter2").await.status(), 200);
    }
}

#[tokio::test]
async fn a_session_remembers_where_the_login_came_from() {
    let app = TestApp::spawn();
    let agent = format!("Cellar/1.0 \u{fc}{}", "x".repeat(400));
    let request = app
        .client
        .post(app.url("/api/register"))
        .header("User-Agent", agent.as_bytes())
        .header("X-Forwarded-For", "203.0.113.9")
        .json(&json!({"username": "a", "password": "p"}));
    assert_eq!(request.send().await.unwrap().status(), 201);
    let session = app.store.sessions().remove(0);
    assert_eq!(session.user_agent, agent.chars().take(256).collect::<String>());
    assert_eq!(session.ip, "127.0.0.1", "a forwarded address is not believed");
}

/// Hashes of `hunter2` by Django, passlib, Go and argon2-cffi.
const IMPORTED: [&str; 8] = [
    "pbkdf2_sha256$7$RQdcgxNqh44h$LIQWmcB/tEGVQyBGfUgkFG5XuNmoCRLR9cL8+2CUUns=",
    "pbkdf2_sha1$7$bPe5xQ1iBpmD$Fk8NdE/WwrjVzMOKadzwqk1ZCXo=",
    "bcrypt$$2b$05$79DWB7eryPKQyhp9zMiNB.T0WibIcl6FIfk6rmQGKtet.aYGr76Cq",
    "bcrypt_sha256$$2b$05$ngxhemFwoOkVLjX5NBuULes5nib65/m/.qVgOWrZ80yWdYcucNHUq",
    "scrypt$16$x$8$1$LgXts+zPrDLvym90cFpfVpGrble+S1r4hYEbDspTsP/v8xj5UQBD0w/QWDtKg9YU/8Cp928kbf6Knn3K3pjg7Q==",
    "argon2$argon2id$v=19$m=1024,t=2,p=2$c29tZXNhbHQ$rVT1OByOi/FxWnZv5xshx1ex69KEtDrPd6Pii7EP4H4",
    "$argon2i$v=16$m=64,t=1,p=1$c29tZXNhbHQ$Aj9pixLbD2giRjh5ji4SkVZgszFyHwpJtbJjfKtwy+0",
    "$2a$04$PK0ZJQl7oAiYSXaNN.iA0OpNgK4xGv8msPsmJus6Evm3jLyGtCmPy",
];

#[tokio::test]
async fn an_imported_hash_opens_with_its_password_alone_and_is_ours_from_then_on() {
    let app = TestApp::spawn();
    let (token, _) = session_of(app.register("AzureDiamond", "something else").await).await;
    for imported in IMPORTED {
        app.set("AzureDiamond", |account| imported.clone_into(&mut account.password_hash));
        for wrong in ["hunter3", "something else", imported, "!", " hunter3 "] {
            assert_eq!(app.log_in("AzureDiamond", wrong).await.status(), 401, "{imported}");
        }
        assert_eq!(app.stored_hash("AzureDiamond"), imported, "a refusal changes nothing");
        session_of(app.log_in("AzureDiamond", "hunter2").await).await;
        let stored = app.stored_hash("AzureDiamond");
        assert!(stored.starts_with("$bcrypt-sha256$v=2,t=2b,r=4$"), "{stored} of {imported}");
        session_of(app.log_in("AzureDiamond", "hunter2").await).await;
        assert_eq!(app.stored_hash("AzureDiamond"), stored);

        // Where the password is asked for again, too.
        app.set("AzureDiamond", |account| imported.clone_into(&mut account.password_hash));
        let path = "/api/user/reauthenticate";
        for (password, status) in [("hunter3", 400), ("hunter2", 200), ("hunter2\n", 200)] {
            let body = json!({"password": password});
            assert_eq!(app.ask(Method::POST, path, &token, Some(&body)).await.status(), status, "{imported}");
        }
    }
}

#[tokio::test]
async fn an_imported_hash_opens_with_outer_white_space_too_and_the_password_without_it_goes_on_opening() {
    let app = TestApp::spawn();
    app.register("AzureDiamond", "something else").await;
    for imported in IMPORTED {
        app.set("AzureDiamond", |account| imported.clone_into(&mut account.password_hash));
        session_of(app.log_in("AzureDiamond", "  hunter2 ").await).await;
        session_of(app.log_in("AzureDiamond", "hunter2").await).await;
        assert_ne!(app.stored_hash("AzureDiamond"), imported);
        assert_eq!(app.log_in("AzureDiamond", "  hunter2 ").await.status(), 401, "{imported}: it is ours by now");
    }
}

#[tokio::test]
async fn a_password_with_outer_white_space_is_as_it_was_typed_where_the_hash_is_ours() {
    let app = TestApp::spawn();
    app.register("AzureDiamond", "hunter2").await;
    assert_eq!(app.log_in("AzureDiamond", "hunter2 ").await.status(), 401);
}
