//! Making a session fresh by a code that is mailed to the verified address.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;

use super::mailbox::{Post, WRONG_CODE, assert_worthless, request_of};
use crate::helpers::{Response, error_of, session_of};

const AZURE: &str = "azure@diamond.example";

async fn ask(post: &Post, token: &str) -> Response {
    post.app.ask(Method::POST, "/api/user/reauthenticate/mail", token, None).await
}

async fn give(post: &Post, token: &str, request: &str, code: &str) -> Response {
    post.post("/api/user/reauthenticate", token, &json!({"request": request, "code": code})).await
}

#[tokio::test]
async fn a_mailed_code_makes_this_session_fresh_once_and_no_other() {
    let post = Post::spawn();
    let token = post.new_owner("AzureDiamond", AZURE).await;
    let (other, _) = session_of(post.app.log_in("AzureDiamond", "hunter2").await).await;
    let request = request_of(ask(&post, &token).await).await;
    let mail = post.mail_to(AZURE).await;
    assert!(!mail.text().contains('#'), "it has a code alone: {}", mail.text());
    assert_worthless(give(&post, &token, &request, WRONG_CODE).await, "wrong").await;
    assert_eq!(give(&post, &token, &request, &mail.code()).await.status(), 200);
    assert_worthless(give(&post, &token, &request, &mail.code()).await, "used").await;
    assert_eq!(post.app.ask(Method::DELETE, "/api/user", &other, Some(&json!({}))).await.status(), 400);
    assert_eq!(post.app.ask(Method::DELETE, "/api/user", &token, Some(&json!({}))).await.status(), 200);
}

#[tokio::test]
async fn a_request_counts_in_a_session_of_its_own_account_alone() {
    let post = Post::spawn();
    let token = post.new_owner("AzureDiamond", AZURE).await;
    let stranger = post.new_owner("stranger", "stranger@diamond.example").await;
    let request = request_of(ask(&post, &token).await).await;
    let code = post.mail_to(AZURE).await.code();
    assert_worthless(give(&post, &stranger, &request, &code).await, "another account's").await;
    for _ in 0..6 {
        assert_worthless(give(&post, &stranger, &request, WRONG_CODE).await, "another account's").await;
    }
    assert_eq!(give(&post, &token, &request, &code).await.status(), 200, "strangers do not use it up");
}

#[tokio::test]
async fn only_a_verified_address_is_mailed_a_code_and_it_is_worth_nothing_for_anything_else() {
    let post = Post::spawn_with(|config| config.accounts.login_by_mail = true);
    let (unverified, _) = post.register("blue", "blue@diamond.example").await;
    let nobody = post.app.new_user("nomail").await;
    for token in [unverified, nobody] {
        assert_eq!(error_of(ask(&post, &token).await, 400).await, "Invalid Data: the account has no verified address");
    }
    let token = post.new_owner("AzureDiamond", AZURE).await;
    let request = request_of(ask(&post, &token).await).await;
    let code = post.mail_to(AZURE).await.code();
    let reset = json!({"request": request, "code": code, "new_password": "correct horse"});
    assert_worthless(post.reset(&reset).await, "no reset").await;
    let login = json!({"request": request, "code": code});
    assert_worthless(post.app.post("/api/login/mail/confirm", &login).await, "no login").await;
    post.app.clock.advance(Duration::from_secs(10 * 60));
    assert_worthless(give(&post, &token, &request, &code).await, "expired").await;
}

#[tokio::test]
async fn either_the_password_or_a_code_is_given_and_an_account_is_mailed_one_a_minute() {
    let post = Post::spawn_with(|config| config.rate_limit.enabled = true);
    let token = post.new_owner("AzureDiamond", AZURE).await;
    let both = json!({"password": "hunter2", "request": "x", "code": "123456"});
    let error = error_of(post.post("/api/user/reauthenticate", &token, &both).await, 400).await;
    assert_eq!(
        error,
        "Invalid Data: give one of password, code, request and code, passkey, provider and id_token, code and code_verifier"
    );
    let error = error_of(post.post("/api/user/reauthenticate", &token, &json!({})).await, 400).await;
    assert_eq!(error, "Invalid Data: password is required");
    request_of(ask(&post, &token).await).await;
    error_of(ask(&post, &token).await, 429).await;
    post.app.clock.advance(Duration::from_secs(61));
    request_of(ask(&post, &token).await).await;
}
