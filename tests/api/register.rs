//! `POST /api/register`.

use std::collections::HashSet;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::helpers::{TestApp, error_of, session_of};

#[tokio::test]
async fn a_registration_answers_201_with_a_token_that_works_at_once() {
    let app = TestApp::spawn();
    let response = app.register("AzureDiamond", "hunter2").await;
    assert_eq!(response.status(), 201);
    let (token, user) = session_of(response).await;
    assert_eq!(user["username"], "AzureDiamond");
    assert_eq!(app.log_out(&token).await.status(), 200);
}

#[tokio::test]
async fn a_taken_name_is_refused_with_the_specifications_sentence_without_regard_to_case() {
    let app = TestApp::spawn();
    app.register("AzureDiamond", "hunter2").await;
    for name in ["AzureDiamond", "azurediamond", "AZUREDIAMOND"] {
        let error = error_of(app.register(name, "another").await, 400).await;
        assert_eq!(error, "Invalid Data: column username is not unique");
    }
    assert_eq!(app.count("users"), 1);
    assert_eq!(app.count("tokens"), 1);
}

#[tokio::test]
async fn of_64_registrations_of_one_name_at_once_one_succeeds() {
    let app = Arc::new(TestApp::spawn());
    let attempts: Vec<_> = (0..64)
        .map(|number| {
            let app = Arc::clone(&app);
            let name = if number % 2 == 0 { "AzureDiamond" } else { "azureDIAMOND" };
            tokio::spawn(async move { app.register(name, &format!("password {number}")).await })
        })
        .collect();
    let mut won = 0;
    for attempt in attempts {
        let response = attempt.await.unwrap();
        if response.status() == 201 {
            won += 1;
        } else {
            assert_eq!(error_of(response, 400).await, "Invalid Data: column username is not unique");
        }
    }
    assert_eq!(won, 1);
    assert_eq!((app.count("users"), app.count("tokens")), (1, 1));
}

#[tokio::test]
async fn a_username_outside_its_rules_is_400_and_leaves_no_row() {
    let app = TestApp::spawn();
    for name in ["", " ", "a b", "ünï", "a/b", "a\0b", "a\nb", "a'--", &"a".repeat(31), "\u{212a}elvin", "<script>"] {
        let error = error_of(app.register(name, "hunter2").await, 400).await;
        assert!(error.starts_with("Invalid Data: username must be 1 to 30 characters"), "{error}");
    }
    assert_eq!(app.count("users"), 0);
    for name in ["a", "_@+.-", &"A1".repeat(15)] {
        assert_eq!(app.register(name, "hunter2").await.status(), 201, "{name}");
    }
}

#[tokio::test]
async fn a_missing_or_mistyped_field_is_400_that_names_it_and_leaves_no_row() {
    let app = TestApp::spawn();
    for (body, sentence) in [
        (json!({}), "Invalid Data: username is required"),
        (json!({"username": "a"}), "Invalid Data: password is required"),
        (json!({"password": "p"}), "Invalid Data: username is required"),
        (json!({"username": 1, "password": "p"}), "Invalid Data: username must be a string"),
        (json!({"username": null, "password": "p"}), "Invalid Data: username must be a string"),
        (json!({"username": ["a"], "password": "p"}), "Invalid Data: username must be a string"),
        (json!({"username": "a", "password": {"a": "b"}}), "Invalid Data: password must be a string"),
        (json!({"username": "a", "password": true}), "Invalid Data: password must be a string"),
        (json!({"username": "a", "password": ""}), "Invalid Data: password must not be empty"),
        (json!({"username": "a", "password": "p", "city": 7}), "Invalid Data: city must be a string"),
    ] {
        assert_eq!(error_of(app.post("/api/register", &body).await, 400).await, sentence, "{body}");
    }
    assert_eq!(app.count("users"), 0);
}

#[tokio::test]
async fn a_registration_takes_the_profile_each_field_within_its_length() {
    let app = TestApp::spawn();
    let profile = json!({
        "username": "AzureDiamond", "password": "hunter2", "first_name": "Azure", "last_name": "Diamond",
        "email": "azure@diamond.example", "address": "123 N Main St.", "address2": "#100", "city": "Chicago",
        "state": "IL", "zipcode": "60647",
    });
    let (_, user) = session_of(app.post("/api/register", &profile).await).await;
    for (key, value) in profile.as_object().unwrap() {
        if key != "password" {
            assert_eq!(&user[key], value, "{key}");
        }
    }
    for (field, length) in [("first_name", 150), ("address", 255), ("city", 100), ("zipcode", 20)] {
        let body = json!({"username": "other", "password": "p", field: "x".repeat(length + 1)});
        let error = error_of(app.post("/api/register", &body).await, 400).await;
        assert_eq!(error, format!("Invalid Data: {field} must be at most {length} characters"));
    }
    for email in ["not an address", "a@", "@b.example"] {
        let body = json!({"username": "other", "password": "p", "email": email});
        let error = error_of(app.post("/api/register", &body).await, 400).await;
        assert_eq!(error, "Invalid Data: email must be empty or an e-mail address");
    }
    assert_eq!(app.count("users"), 1);
}

#[tokio::test]
async fn flags_times_and_lists_can_never_be_set_and_other_keys_are_ignored() {
    let app = TestApp::spawn();
    let body = json!({
        "username": "eve", "password": "p", "is_staff": true, "is_superuser": true, "is_active": false, "id": 7,
        "date_joined": "1999-01-01T00:00:00.000Z", "created": "x", "modified": 1, "last_login": null,
        "cellar": [1], "wants": [2], "password_hash": "x", "token": "x", "favourite": {"deep": [1, {"er": null}]},
    });
    let (_, user) = session_of(app.post("/api/register", &body).await).await;
    assert_eq!(user["is_staff"], false);
    assert_eq!(user["is_superuser"], false);
    assert_eq!(user["is_active"], true);
    assert_eq!(user["cellar"], json!([]));
    assert_eq!(user["wants"], json!([]));
    assert_eq!(user["date_joined"], "2015-01-04T22:51:35.144Z");
    assert_eq!(user.as_object().unwrap().len(), 18);
}

#[tokio::test]
async fn each_registration_makes_a_token_of_its_own_and_stores_only_its_digest() {
    let app = TestApp::spawn();
    let mut tokens = HashSet::new();
    for number in 0..20 {
        tokens.insert(session_of(app.register(&format!("user{number}"), "secret password").await).await.0);
    }
    assert_eq!(tokens.len(), 20);
    assert!(app.store.contains(b"user19") && !app.store.contains(b"secret password"));
    for token in &tokens {
        let raw: Vec<u8> =
            (0..20).map(|byte| u8::from_str_radix(&token[byte * 2..byte * 2 + 2], 16).unwrap()).collect();
        assert!(!app.store.contains(token.as_bytes()) && !app.store.contains(&raw));
    }
}

#[tokio::test]
async fn a_policy_can_ask_for_a_length_and_refuse_the_common_ones() {
    let app = TestApp::spawn_with(|config| {
        config.password.min_length = 8;
        config.password.reject_common = true;
    });
    for (password, sentence) in [
        ("hunter2", "Invalid Data: password must be at least 8 characters"),
        ("PassWord1", "Invalid Data: password must not be one of the most common passwords"),
    ] {
        assert_eq!(error_of(app.register("azure", password).await, 400).await, sentence);
    }
    assert_eq!(app.count("users"), 0);
    assert_eq!(app.register("azure", "a longer, rarer one").await.status(), 201);
}

#[tokio::test]
async fn no_error_echoes_what_was_submitted() {
    let app = TestApp::spawn();
    let mark = "ECHO me 4711";
    for body in [
        json!({"username": mark, "password": "p"}),
        json!({"username": "a", "password": "p", "email": mark}),
        json!({"username": "a", "password": "p", "zipcode": mark.repeat(9)}),
        json!({"username": {"x": mark}, "password": "p"}),
        Value::String(mark.to_owned()),
        json!([mark]),
    ] {
        let error = error_of(app.post("/api/register", &body).await, 400).await;
        assert!(error.starts_with("Invalid Data: ") && !error.contains("4711"), "{error}");
    }
}
