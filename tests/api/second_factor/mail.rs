//! Where mail is sent: no mail is a way past the second factor.

use serde_json::json;

use super::{due, give, log_in_with, set_up};
use crate::helpers::{TestApp, error_of, until};
use crate::mail::mailbox::{Post, accounts_alone, request_of};

const AZURE: &str = "azure@diamond.example";

fn with_login(config: &mut authtokens::config::Config) {
    accounts_alone(config);
    config.accounts.login_by_mail = true;
}

async fn mailed_code(post: &Post) -> (String, String) {
    let request = request_of(post.app.post("/api/login/mail", &json!({"email": AZURE})).await).await;
    (request, post.mail_to(AZURE).await.code())
}

#[tokio::test]
async fn a_mail_that_logs_in_leaves_the_second_factor_due_and_is_used_up() {
    let post = Post::spawn_with(with_login);
    let app: &TestApp = &post.app;
    let token = post.new_owner("AzureDiamond", AZURE).await;
    let owner = set_up(app, &token).await;
    post.mail_to(AZURE).await;
    let (request, code) = mailed_code(&post).await;
    let body = json!({"request": request, "code": code});
    let second = due(app.post("/api/login/mail/confirm", &body).await).await;
    assert_eq!(app.post("/api/login/mail/confirm", &body).await.status(), 400, "used up");
    let waiting = second["token"].as_str().unwrap();
    assert_eq!(give(app, waiting, "code", owner.app.wrong_code(app)).await.status(), 401);
    assert_eq!(give(app, waiting, "code", owner.app.code(app, 0)).await.status(), 200);
}

#[tokio::test]
async fn a_reset_of_the_password_leaves_the_factor_on_ends_what_waits_and_clears_no_wrong_codes() {
    let post = Post::spawn_with(accounts_alone);
    let app: &TestApp = &post.app;
    let token = post.new_owner("AzureDiamond", AZURE).await;
    let owner = set_up(app, &token).await;
    post.mail_to(AZURE).await;
    let waiting = due(app.log_in("AzureDiamond", "hunter2").await).await["token"].as_str().unwrap().to_owned();
    let (_, mail) = post.forget("AzureDiamond", AZURE).await;
    for _ in 0..10 {
        let wrong = log_in_with(app, "AzureDiamond", "code", owner.app.wrong_code(app)).await;
        assert_eq!(wrong.status(), 401);
    }
    let reset = post.reset(&json!({"token": mail.token(), "new_password": "hunter2"})).await;
    assert_eq!(reset.status(), 200);
    until("storing", || app.count_events("second_factor_failed") == 10).await;
    assert_eq!(app.store.failures(), [10], "also where they were stored only then");
    error_of(app.log_in("AzureDiamond", "hunter2").await, 429).await;
    app.clock.advance(super::MINUTE);
    assert_eq!(give(app, &waiting, "code", owner.app.code(app, 0)).await.status(), 401, "what waited is over");
    due(app.log_in("AzureDiamond", "hunter2").await).await;
    let code = owner.app.code(app, 0);
    assert_eq!(log_in_with(app, "AzureDiamond", "code", code).await.status(), 200, "the factor is still on");
}

#[tokio::test]
async fn a_mailed_code_and_a_code_of_the_app_each_make_a_session_fresh() {
    let post = Post::spawn();
    let app: &TestApp = &post.app;
    let token = post.new_owner("AzureDiamond", AZURE).await;
    let owner = set_up(app, &token).await;
    post.mail_to(AZURE).await;
    let path = "/api/user/reauthenticate";
    let request = request_of(post.post("/api/user/reauthenticate/mail", &token, &json!({})).await).await;
    let code = post.mail_to(AZURE).await.code();
    let by_mail = json!({"request": request, "code": code});
    assert_eq!(post.post(path, &token, &by_mail).await.status(), 200);
    assert_eq!(post.post(path, &token, &json!({"code": owner.app.code(app, 0)})).await.status(), 200);
    let error = error_of(post.post(path, &token, &json!({"request": request})).await, 400).await;
    assert_eq!(error, "Invalid Data: code is required");
}
