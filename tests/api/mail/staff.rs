//! What staff and the operator do where mail is sent: start a reset, verify an address, and set no passwords.

use reqwest::Method;
use serde_json::{Value, json};

use super::mailbox::{Post, assert_worthless};
use crate::helpers::error_of;

const AZURE: &str = "azure@diamond.example";

async fn with_staff() -> (Post, String) {
    let post = Post::spawn();
    let staff = post.app.new_user("Admin").await;
    post.app.make_staff("Admin");
    (post, staff)
}

#[tokio::test]
async fn staff_start_a_reset_and_learn_nothing_that_opens_the_account() {
    let (post, staff) = with_staff().await;
    let token = post.new_owner("AzureDiamond", AZURE).await;
    let response = post.app.ask(Method::POST, "/api/users/azureDIAMOND/reset", &staff, None).await;
    assert_eq!(response.status(), 202);
    assert_eq!(response.json::<Value>().await.unwrap(), json!({"status": "success"}));
    let mail = post.mail_to(AZURE).await;
    assert!(!mail.text().contains("code"), "nobody has its request id: {}", mail.text());
    assert_eq!(post.status_of(&token).await, 200, "until it is used");
    // What somebody else asks for meanwhile does not end it.
    let new = json!({"token": mail.token(), "new_password": "correct horse"});
    assert_eq!(post.reset(&new).await.status(), 200);
    assert_eq!(post.log_in("AzureDiamond", "correct horse").await, 200);
    assert_worthless(post.reset(&new).await, "used").await;
}

#[tokio::test]
async fn who_may_start_a_reset_or_verify_an_address_is_who_may_manage_the_account() {
    let (post, staff) = with_staff().await;
    let plain = post.new_owner("AzureDiamond", AZURE).await;
    post.app.new_user("nomail").await;
    post.app.new_user("root").await;
    post.app.make_superuser("root");
    for call in ["reset", "verify-email"] {
        for (token, name, status) in [
            (&plain, "nomail", 403),
            (&plain, "nobody", 403),
            (&plain, "%20name", 403),
            (&staff, "root", 403),
            (&staff, "Admin", 403),
            (&staff, "nobody", 404),
            (&staff, "%20name", 404),
            (&staff, "nomail", 400),
        ] {
            let response = post.app.ask(Method::POST, &format!("/api/users/{name}/{call}"), token, None).await;
            error_of(response, status).await;
        }
    }
}

#[tokio::test]
async fn staff_count_an_address_as_verified_unless_another_account_has_it_and_see_which_are() {
    let (post, staff) = with_staff().await;
    let (token, _) = post.register("AzureDiamond", AZURE).await;
    post.register("second", AZURE).await;
    let shown = post.app.get(Method::GET, "/api/users/AzureDiamond", &staff, None).await;
    assert_eq!((shown.as_object().unwrap().len(), &shown["email_verified"]), (19, &json!(false)));
    let verified = post.app.get(Method::POST, "/api/users/AzureDiamond/verify-email", &staff, None).await;
    assert_eq!(verified["email_verified"], true);
    let listed = post.app.get(Method::GET, "/api/users?search=AzureDiamond", &staff, None).await;
    assert_eq!(listed[0]["email_verified"], true);
    let refused = post.app.ask(Method::POST, "/api/users/second/verify-email", &staff, None).await;
    assert_eq!(error_of(refused, 400).await, "Invalid Data: another account has verified this address");
    assert_eq!(post.email_of(&token).await["verified"], true);
    let own = post.app.get(Method::GET, "/api/user", &token, None).await;
    assert_eq!(own.as_object().unwrap().len(), 18, "the user object stays as it is");
    let event = post.app.store.events().into_iter().rfind(|event| event.kind == "email_verified").unwrap();
    assert_eq!((&*event.username, &*event.actor), ("AzureDiamond", "Admin"));
}

#[tokio::test]
async fn staff_set_no_passwords_unless_that_is_configured() {
    let (post, staff) = with_staff().await;
    post.new_owner("AzureDiamond", AZURE).await;
    let set = json!({"password": "hunter3"});
    let refused = post.app.ask(Method::PATCH, "/api/users/AzureDiamond", &staff, Some(&set)).await;
    assert!(error_of(refused, 403).await.contains("POST /api/users/{username}/reset"));
    assert_eq!(post.log_in("AzureDiamond", "hunter2").await, 200);
    let other = json!({"is_active": false});
    assert_eq!(post.app.ask(Method::PATCH, "/api/users/AzureDiamond", &staff, Some(&other)).await.status(), 200);

    let post = Post::spawn_with(|config| config.accounts.staff_set_passwords = true);
    let staff = post.app.new_user("Admin").await;
    post.app.make_staff("Admin");
    post.new_owner("AzureDiamond", AZURE).await;
    assert_eq!(post.app.ask(Method::PATCH, "/api/users/AzureDiamond", &staff, Some(&set)).await.status(), 200);
    assert_eq!(post.log_in("AzureDiamond", "hunter3").await, 200);
}

#[tokio::test]
async fn the_owner_exports_whether_the_address_is_verified_and_what_waits() {
    let (post, _) = with_staff().await;
    let token = post.new_owner("AzureDiamond", AZURE).await;
    let export = post.app.get(Method::GET, "/api/user/export", &token, None).await;
    assert_eq!((&export["email_verified"], &export["email_pending"]), (&json!(true), &Value::Null));
    let body = json!({"email": "blue@diamond.example", "password": "hunter2"});
    assert_eq!(post.post("/api/user/email", &token, &body).await.status(), 202);
    let export = post.app.get(Method::GET, "/api/user/export", &token, None).await;
    assert_eq!(export["email_pending"]["email"], "blue@diamond.example");
}
