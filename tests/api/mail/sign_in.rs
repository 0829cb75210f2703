//! Signing in by a mail, where the service offers it.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use super::mailbox::{Post, WRONG_CODE, assert_worthless, request_of};
use super::smtp_server::Received;
use crate::helpers::{Response, session_of};

const AZURE: &str = "azure@diamond.example";

fn spawn() -> Post {
    Post::spawn_with(|config| config.accounts.login_by_mail = true)
}

async fn ask(post: &Post, email: &str) -> String {
    request_of(post.app.post("/api/login/mail", &json!({"email": email})).await).await
}

async fn confirm(post: &Post, body: &Value) -> Response {
    post.app.post("/api/login/mail/confirm", body).await
}

#[tokio::test]
async fn the_link_or_the_code_opens_a_session_once_and_leaves_the_others_and_the_password() {
    for by_code in [false, true] {
        let post = spawn();
        let before = post.new_owner("AzureDiamond", AZURE).await;
        let request = ask(&post, "AZURE@Diamond.example").await;
        let mail = post.mail_to(AZURE).await;
        let (link, code) = (json!({"token": mail.token()}), json!({"request": request, "code": mail.code()}));
        let (used, other) = if by_code { (code, link) } else { (link, code) };
        let (token, opened) = session_of(confirm(&post, &used).await).await;
        assert_eq!((opened.as_object().unwrap().len(), &opened["username"]), (18, &json!("AzureDiamond")));
        assert_eq!((post.status_of(&token).await, post.status_of(&before).await), (200, 200));
        assert_worthless(confirm(&post, &used).await, "used").await;
        assert_worthless(confirm(&post, &other).await, "ended by the other").await;
        assert_eq!(post.log_in("AzureDiamond", "hunter2").await, 200);
    }
}

#[tokio::test]
async fn of_two_that_present_one_mail_at_once_one_gets_a_session() {
    let post = spawn();
    post.new_owner("AzureDiamond", AZURE).await;
    let request = ask(&post, AZURE).await;
    let mail = post.mail_to(AZURE).await;
    let (link, code) = (json!({"token": mail.token()}), json!({"request": request, "code": mail.code()}));
    let (first, second) = tokio::join!(confirm(&post, &link), confirm(&post, &code));
    let mut statuses = [first.status().as_u16(), second.status().as_u16()];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 400]);
}

#[tokio::test]
async fn an_inactive_account_an_unknown_address_and_a_wrong_code_are_answered_alike() {
    let post = spawn();
    post.new_owner("AzureDiamond", AZURE).await;
    let request = ask(&post, AZURE).await;
    let mail = post.mail_to(AZURE).await;
    let unknown = ask(&post, "nobody@diamond.example").await;
    assert_worthless(confirm(&post, &json!({"request": unknown, "code": mail.code()})).await, "unknown").await;
    assert_worthless(confirm(&post, &json!({"request": request, "code": WRONG_CODE})).await, "wrong").await;
    post.app.deactivate("AzureDiamond");
    assert_worthless(confirm(&post, &json!({"request": request, "code": mail.code()})).await, "inactive").await;
    assert_worthless(confirm(&post, &json!({"token": mail.token()})).await, "inactive").await;
    ask(&post, AZURE).await;
    // No mail for an inactive account: the next is what it asks for last.
    post.forget("AzureDiamond", AZURE).await;
    let subjects: Vec<String> = post.smtp.messages().iter().map(Received::subject).collect();
    assert_eq!(subjects.len(), 3, "{subjects:?}");
}

#[tokio::test]
async fn a_code_or_link_ends_after_ten_minutes_and_with_a_new_password() {
    let post = spawn();
    let token = post.new_owner("AzureDiamond", AZURE).await;
    let request = ask(&post, AZURE).await;
    let mail = post.mail_to(AZURE).await;
    post.app.clock.advance(Duration::from_secs(10 * 60));
    assert_worthless(confirm(&post, &json!({"token": mail.token()})).await, "expired").await;
    assert_worthless(confirm(&post, &json!({"request": request, "code": mail.code()})).await, "expired").await;

    ask(&post, AZURE).await;
    let mail = post.mail_to(AZURE).await;
    let body = json!({"current_password": "hunter2", "new_password": "hunter3"});
    post.app.get(Method::POST, "/api/user/password", &token, Some(&body)).await;
    assert_worthless(confirm(&post, &json!({"token": mail.token()})).await, "another password").await;
}

#[tokio::test]
async fn the_first_proof_of_a_mailbox_ends_what_a_stranger_set_up_before_and_the_owner_sets_a_password() {
    let post = spawn();
    let (squatter, _) = post.register("AzureDiamond", AZURE).await;
    ask(&post, AZURE).await;
    let mail = post.mail_to(AZURE).await;
    let (token, _) = session_of(confirm(&post, &json!({"token": mail.token()})).await).await;
    assert_eq!(post.status_of(&squatter).await, 401);
    assert_eq!(post.log_in("AzureDiamond", "hunter2").await, 401);
    assert_eq!(post.log_in("AzureDiamond", "!").await, 401, "none matches");
    assert_eq!(post.email_of(&token).await["verified"], true);
    let body = json!({"password": "hunter2"});
    assert_eq!(post.post("/api/user/reauthenticate", &token, &body).await.status(), 400);

    let request = request_of(post.app.ask(Method::POST, "/api/user/reauthenticate/mail", &token, None).await).await;
    let code = post.mail_to(AZURE).await.code();
    let body = json!({"request": request, "code": code});
    assert_eq!(post.post("/api/user/reauthenticate", &token, &body).await.status(), 200);
    let body = json!({"new_password": "correct horse"});
    assert_eq!(post.post("/api/user/password", &token, &body).await.status(), 200);
    assert_eq!(post.log_in("AzureDiamond", "correct horse").await, 200);
}
