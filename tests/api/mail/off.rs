//! Where no mail is sent, everything is as it was; and what a service that sends mail may still not offer.

use reqwest::Method;
use serde_json::json;

use super::mailbox::Post;
use crate::helpers::{TestApp, error_of};

#[tokio::test]
async fn without_mail_an_address_is_a_text_of_the_profile_and_nothing_tells_whether_it_is_verified() {
    let app = TestApp::spawn();
    let token = app.new_user("AzureDiamond").await;
    let staff = app.new_user("Admin").await;
    app.make_staff("Admin");
    for email in ["azure@diamond.example", "jürgen@exämple.de", ""] {
        let user = app.get(Method::PATCH, "/api/user", &token, Some(&json!({"email": email}))).await;
        assert_eq!(user["email"], email);
    }
    let shown = app.get(Method::GET, "/api/users/AzureDiamond", &staff, None).await;
    assert_eq!(shown.as_object().unwrap().len(), 18, "{shown}");
    let export = app.get(Method::GET, "/api/user/export", &token, None).await;
    assert!(export.get("email_verified").is_none() && export.get("email_pending").is_none(), "{export}");
    let set = json!({"password": "hunter3"});
    assert_eq!(app.ask(Method::PATCH, "/api/users/AzureDiamond", &staff, Some(&set)).await.status(), 200);
}

#[tokio::test]
async fn without_mail_an_address_is_no_name_and_a_code_no_password() {
    let app = TestApp::spawn();
    app.register("a@b.example", "hunter2").await;
    assert_eq!(app.log_in("A@B.example", "hunter2").await.status(), 200, "a name like any other");
    let long = format!("{}@diamond.example", "x".repeat(40));
    assert!(error_of(app.log_in(&long, "hunter2").await, 400).await.contains("username must"));
    let token = app.new_user("AzureDiamond").await;
    let body = json!({"request": "x", "code": "y"});
    let refused = app.ask(Method::POST, "/api/user/reauthenticate", &token, Some(&body)).await;
    assert_eq!(error_of(refused, 404).await, "This service sends no mail.");
}

#[tokio::test]
async fn a_service_that_sends_mail_opens_no_session_by_it_unless_that_is_configured() {
    let post = Post::spawn();
    post.new_owner("AzureDiamond", "azure@diamond.example").await;
    for path in ["/api/login/mail", "/api/login/mail/confirm"] {
        let request = post.app.client.post(post.app.url(path)).body("no JSON at all");
        let error = error_of(request.send().await.unwrap(), 404).await;
        assert_eq!(error, "This service opens no session by mail.");
    }
}
