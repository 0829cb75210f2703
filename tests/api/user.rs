//! `/api/user`: the account behind the token.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::helpers::{TestApp, error_of, session_of};

#[tokio::test]
async fn the_user_object_is_the_one_that_the_login_answered() {
    let app = TestApp::spawn();
    let (token, registered) = session_of(app.register("AzureDiamond", "hunter2").await).await;
    assert_eq!(app.get(Method::GET, "/api/user", &token, None).await, registered);
    let head = app.ask(Method::HEAD, "/api/user", &token, None).await;
    assert_eq!((head.status().as_u16(), head.text().await.unwrap().as_str()), (200, ""));
}

#[tokio::test]
async fn a_patch_changes_the_fields_that_it_names_and_moves_modified() {
    let app = TestApp::spawn();
    let token = app.new_user("AzureDiamond").await;
    app.clock.advance(Duration::from_secs(1));
    let changes = json!({
        "first_name": "Azure", "last_name": "Diamond", "email": "azure@diamond.example", "address": "123 N Main St.",
        "address2": "#100", "city": "Chicago", "state": "IL", "zipcode": "60647",
    });
    let user = app.get(Method::PATCH, "/api/user", &token, Some(&changes)).await;
    for (field, value) in changes.as_object().unwrap() {
        assert_eq!(&user[field], value, "{field}");
    }
    assert_eq!(user["modified"], "2015-01-04T22:51:36.144Z");
    assert_eq!(user["created"], "2015-01-04T22:51:35.144Z");
    assert_eq!(user["last_login"], "2015-01-04T22:51:35.144Z");

    app.clock.advance(Duration::from_secs(1));
    for nothing_new in [json!({}), json!({"city": "Chicago"}), changes] {
        assert_eq!(app.get(Method::PATCH, "/api/user", &token, Some(&nothing_new)).await, user);
    }
    let user = app.get(Method::PATCH, "/api/user", &token, Some(&json!({"city": ""}))).await;
    assert_eq!((&user["city"], &user["state"]), (&json!(""), &json!("IL")));
    assert_eq!(app.get(Method::GET, "/api/user", &token, None).await, user);
}

#[tokio::test]
async fn a_patch_is_all_or_nothing_and_names_the_field_that_may_not_be_set() {
    let app = TestApp::spawn();
    let token = app.new_user("AzureDiamond").await;
    let before = app.get(Method::GET, "/api/user", &token, None).await;
    for (field, value) in [
        ("username", json!("root")),
        ("password", json!("x")),
        ("is_staff", json!(true)),
        ("is_superuser", json!(true)),
        ("is_active", json!(false)),
        ("last_login", json!("2015-01-04T22:51:35.145Z")),
        ("created", json!(0)),
        ("modified", Value::Null),
        ("date_joined", json!("")),
        ("cellar", json!([1])),
        ("wants", json!([1])),
    ] {
        let error = error_of(
            app.ask(Method::PATCH, "/api/user", &token, Some(&json!({"city": "Chicago", field: value}))).await,
            400,
        )
        .await;
        assert_eq!(error, format!("Invalid Data: {field} cannot be set here"));
    }
    for (body, sentence) in [
        (json!({"city": "Chicago", "state": 7}), "Invalid Data: state must be a string"),
        (json!({"city": "Chicago", "zipcode": null}), "Invalid Data: zipcode must be a string"),
        (json!({"city": "Chicago", "email": "x"}), "Invalid Data: email must be empty or an e-mail address"),
        (json!({"city": "Chicago", "zipcode": "x".repeat(21)}), "Invalid Data: zipcode must be at most 20 characters"),
        (json!({"city": "a\u{0}b"}), "Invalid Data: city must not have control characters"),
        (json!(["city"]), "Invalid Data: the body must be a JSON object"),
    ] {
        assert_eq!(error_of(app.ask(Method::PATCH, "/api/user", &token, Some(&body)).await, 400).await, sentence);
    }
    let unknown = json!({"city": "Chicago", "nickname ECHO": "x"});
    let error = error_of(app.ask(Method::PATCH, "/api/user", &token, Some(&unknown)).await, 400).await;
    assert!(error.contains("only first_name, last_name") && !error.contains("ECHO"), "{error}");
    assert_eq!(app.get(Method::GET, "/api/user", &token, None).await, before);
}

#[tokio::test]
async fn a_whole_user_object_may_be_sent_back_with_changes_to_its_profile() {
    let app = TestApp::spawn();
    let token = app.new_user("AzureDiamond").await;
    app.get(Method::PUT, "/api/user/cellar", &token, Some(&json!([1, 2, 3]))).await;
    let mut user = app.get(Method::GET, "/api/user", &token, None).await;
    assert_eq!(app.get(Method::PATCH, "/api/user", &token, Some(&user)).await, user, "nothing is different");
    user["city"] = json!("Chicago");
    assert_eq!(app.get(Method::PATCH, "/api/user", &token, Some(&user)).await["city"], "Chicago");
    user["cellar"] = json!([1, 2]);
    user["city"] = json!("Boston");
    let error = error_of(app.ask(Method::PATCH, "/api/user", &token, Some(&user)).await, 400).await;
    assert_eq!(error, "Invalid Data: cellar cannot be set here");
    assert_eq!(app.get(Method::GET, "/api/user", &token, None).await["city"], "Chicago");
}

#[tokio::test]
async fn no_text_that_is_stored_has_the_character_nul_which_not_every_store_can_hold() {
    let app = TestApp::spawn();
    let token = app.new_user("AzureDiamond").await;
    for field in ["first_name", "last_name", "email", "address", "address2", "city", "state", "zipcode"] {
        let text = if field == "email" { "a\u{0}b@x.example" } else { "a\u{0}b" };
        let sentence = format!("Invalid Data: {field} must not have control characters");
        let change = json!({field: text});
        assert_eq!(error_of(app.ask(Method::PATCH, "/api/user", &token, Some(&change)).await, 400).await, sentence);
        let registration = json!({"username": "bob", "password": "p", field: text});
        assert_eq!(error_of(app.post("/api/register", &registration).await, 400).await, sentence);
    }
}

#[tokio::test]
async fn two_devices_that_edit_different_fields_both_win() {
    let app = std::sync::Arc::new(TestApp::spawn());
    let token = app.new_user("AzureDiamond").await;
    let fields = ["first_name", "last_name", "address", "address2", "city", "state", "zipcode"];
    let edits: Vec<_> = (0..56)
        .map(|number| {
            let (app, token, field) = (std::sync::Arc::clone(&app), token.clone(), fields[number % 7]);
            tokio::spawn(async move {
                app.get(Method::PATCH, "/api/user", &token, Some(&json!({field: field}))).await;
            })
        })
        .collect();
    for edit in edits {
        edit.await.unwrap();
    }
    let user = app.get(Method::GET, "/api/user", &token, None).await;
    for field in fields {
        assert_eq!(user[field], field);
    }
}

#[tokio::test]
async fn a_password_change_ends_every_other_token_and_the_presenting_one_lives_on() {
    let app = TestApp::spawn();
    let first = app.new_user("AzureDiamond").await;
    let (second, _) = session_of(app.log_in("AzureDiamond", "hunter2").await).await;
    let others = app.new_user("other").await;
    let change = json!({"current_password": "hunter2", "new_password": "hunter3"});
    let answer = app.get(Method::POST, "/api/user/password", &second, Some(&change)).await;
    assert_eq!(answer, json!({"status": "success"}));
    assert_eq!(app.ask(Method::GET, "/api/user", &first, None).await.status(), 401);
    assert_eq!(app.ask(Method::GET, "/api/user", &second, None).await.status(), 200);
    assert_eq!(app.ask(Method::GET, "/api/user", &others, None).await.status(), 200);
    assert_eq!(app.log_in("AzureDiamond", "hunter2").await.status(), 401);
    assert_eq!(app.log_in("AzureDiamond", "hunter3").await.status(), 200);
}

#[tokio::test]
async fn a_password_change_needs_the_current_and_a_new_one_that_the_policy_takes() {
    let app = TestApp::spawn_with(|config| config.password.min_length = 7);
    let token = app.new_user("AzureDiamond").await;
    let (other, _) = session_of(app.log_in("AzureDiamond", "hunter2").await).await;
    for (body, sentence) in [
        (json!({"new_password": "hunter3"}), "Invalid Data: current_password is required"),
        (json!({"current_password": "hunter2"}), "Invalid Data: new_password is required"),
        (json!({"current_password": "hunter2", "new_password": ""}), "Invalid Data: new_password must not be empty"),
        (json!({"current_password": 1, "new_password": "hunter3"}), "Invalid Data: current_password must be a string"),
        (
            json!({"current_password": "hunter2", "new_password": "short"}),
            "Invalid Data: new_password must be at least 7 characters",
        ),
        (json!({"current_password": "hunter1", "new_password": "hunter3"}), "Invalid Data: current_password is wrong"),
    ] {
        let response = app.ask(Method::POST, "/api/user/password", &token, Some(&body)).await;
        assert_eq!(error_of(response, 400).await, sentence);
    }
    assert_eq!(app.ask(Method::GET, "/api/user", &other, None).await.status(), 200, "nothing happened");
    assert_eq!(app.log_in("AzureDiamond", "hunter2").await.status(), 200);
}

#[tokio::test]
async fn a_deletion_needs_the_password_and_takes_the_account_its_lists_and_its_tokens() {
    let app = TestApp::spawn();
    let token = app.new_user("AzureDiamond").await;
    let (second, _) = session_of(app.log_in("AzureDiamond", "hunter2").await).await;
    app.get(Method::PUT, "/api/user/cellar", &token, Some(&json!([1, 2]))).await;
    app.get(Method::PUT, "/api/user/wants/9", &token, None).await;
    app.new_user("other").await;
    for (body, sentence) in [
        (json!({}), "Invalid Data: password is required"),
        (json!({"password": "hunter3"}), "Invalid Data: password is wrong"),
    ] {
        assert_eq!(error_of(app.ask(Method::DELETE, "/api/user", &token, Some(&body)).await, 400).await, sentence);
    }
    assert_eq!(app.ask(Method::DELETE, "/api/user", &token, None).await.status(), 415, "a body is required");
    let password = json!({"password": "hunter2"});
    assert_eq!(app.get(Method::DELETE, "/api/user", &token, Some(&password)).await, json!({"status": "success"}));
    for token in [&token, &second] {
        assert_eq!(app.ask(Method::GET, "/api/user", token, None).await.status(), 401);
    }
    assert_eq!(app.log_in("AzureDiamond", "hunter2").await.status(), 401);
    for (table, left) in [("users", 1), ("tokens", 1), ("cellar", 0), ("wants", 0)] {
        assert_eq!(app.count(table), left, "{table}");
    }
    let (_, successor) = session_of(app.register("azurediamond", "hunter2").await).await;
    assert_eq!(successor["wants"], json!([]));
}

#[tokio::test]
async fn an_export_is_everything_that_is_stored_but_secrets() {
    let app = TestApp::spawn();
    let token = app.new_user("AzureDiamond").await;
    app.get(Method::PATCH, "/api/user", &token, Some(&json!({"city": "Chicago"}))).await;
    app.get(Method::PUT, "/api/user/cellar", &token, Some(&json!([2, 1]))).await;
    app.clock.advance(Duration::from_secs(1));
    let user = app.get(Method::PUT, "/api/user/wants/9", &token, None).await;
    assert_eq!(user, json!([9]));
    let response = app.ask(Method::GET, "/api/user/export", &token, None).await;
    let text = response.text().await.unwrap();
    assert!(!text.contains(&token) && !text.contains("hunter2") && !text.contains("bcrypt"), "{text}");
    let export: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(export["exported"], "2015-01-04T22:51:36.144Z");
    assert_eq!(export["user"], app.get(Method::GET, "/api/user", &token, None).await);
    assert_eq!(
        export["cellar"],
        json!([
            {"item_id": 1, "added": "2015-01-04T22:51:35.144Z"},
            {"item_id": 2, "added": "2015-01-04T22:51:35.144Z"},
        ])
    );
    assert_eq!(export["wants"], json!([{"item_id": 9, "added": "2015-01-04T22:51:36.144Z"}]));
    assert_eq!(export["sessions"], app.get(Method::GET, "/api/user/tokens", &token, None).await);
}
