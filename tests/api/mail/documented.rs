//! The calls that need mail, where it is sent, against what the OpenAPI document says of them.

use reqwest::Method;
use serde_json::{Value, json};

use super::mailbox::Post;
use crate::documentation::{document, example_of, needs_mail, operations, refused_bodies, schema_of};
use crate::helpers::error_of;

const AZURE: &str = "azure@diamond.example";

/// A server with everything on, an account with a verified address, and the token of a superuser.
async fn with_accounts() -> (Post, String, String) {
    let post = Post::spawn_with(|config| config.accounts.login_by_mail = true);
    let admin = post.app.new_user("Admin").await;
    post.app.make_superuser("Admin");
    let token = post.new_owner("AzureDiamond", AZURE).await;
    (post, token, admin)
}

/// The calls that need mail.
async fn calls(post: &Post) -> (Value, Vec<(Method, String, Value)>) {
    let document = document(&post.app).await;
    let calls = operations(&document).into_iter().filter(|(_, _, operation)| needs_mail(operation)).collect();
    (document, calls)
}

#[tokio::test]
async fn a_body_is_refused_beyond_what_is_documented_of_it_and_changes_nothing() {
    let (post, token, admin) = with_accounts().await;
    let (document, calls) = calls(&post).await;
    let mut refused = 0;
    for (method, path, operation) in calls {
        let Some(schema) = schema_of(&document, &operation) else { continue };
        let example = example_of(&document, &operation["requestBody"]["content"]["application/json"]);
        let token = if path.starts_with("/api/users") { &admin } else { &token };
        for (body, sentence) in refused_bodies(schema, &example) {
            let before = post.app.dump();
            let error = error_of(post.app.ask(method.clone(), &path, token, Some(&body)).await, 400).await;
            let told =
                error.strip_prefix("Invalid Data: ").unwrap_or_else(|| panic!("{method} {path} {body}: {error}"));
            assert!(told.starts_with(&sentence), "{method} {path} {body}: {error}");
            assert_eq!(post.app.dump(), before, "{method} {path} {body}");
            refused += 1;
        }
    }
    assert!(refused > 40, "{refused}");
}

#[tokio::test]
async fn the_documented_sentences_are_those_that_are_answered() {
    let (post, token, admin) = with_accounts().await;
    post.app.new_user("nomail").await;
    let nomail = crate::helpers::session_of(post.app.log_in("nomail", "hunter2").await).await.0;
    let (_, calls) = calls(&post).await;
    let mut tried = 0;
    for (method, path, operation) in calls {
        let documented = &operation["responses"]["400"]["content"]["application/json"]["example"]["error"];
        if documented.is_null() {
            continue;
        }
        let unknown = "d96163b8bc9127d8c5d5839018580123c64a324b";
        let body = match path.as_str() {
            "/api/user/email" => Some(json!({"email": "x", "password": "hunter2"})),
            "/api/user/email/confirm" => Some(json!({"code": "123456"})),
            "/api/password/forgot" => Some(json!({})),
            "/api/password/reset" => Some(json!({"token": unknown, "new_password": "x"})),
            "/api/login/mail" => Some(json!({"email": "x"})),
            "/api/email/confirm" | "/api/login/mail/confirm" | "/api/not-me" => Some(json!({"token": unknown})),
            _ => None,
        };
        let token = match path.as_str() {
            "/api/user/reauthenticate/mail" => &nomail,
            path if path.starts_with("/api/users") => &admin,
            _ => &token,
        };
        let path = path.replace("{username}", "nomail");
        let error = error_of(post.app.ask(method.clone(), &path, token, body.as_ref()).await, 400).await;
        assert_eq!(documented, &json!(error), "{method} {path}");
        tried += 1;
    }
    assert_eq!(tried, 11);
}

#[tokio::test]
async fn without_a_session_each_is_401_that_is_documented_to_need_one_and_changes_nothing() {
    let (post, ..) = with_accounts().await;
    let before = post.app.dump();
    let (_, calls) = calls(&post).await;
    let mut guarded = 0;
    for (method, path, operation) in calls {
        if operation["security"].is_array() {
            let request = post.app.client.request(method.clone(), post.app.url(&path)).json(&json!({"token": "x"}));
            error_of(request.send().await.unwrap(), 401).await;
            guarded += 1;
        }
    }
    assert_eq!((guarded, post.app.dump()), (7, before));
}
