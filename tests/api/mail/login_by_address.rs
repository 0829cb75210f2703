//! Logging in by the verified address in the place of the name, and logins that need one.

use serde_json::json;

use super::mailbox::{Post, accounts_alone};
use crate::helpers::{error_of, session_of};

const AZURE: &str = "azure@diamond.example";

#[tokio::test]
async fn a_verified_address_logs_in_in_any_case_and_an_unverified_or_unknown_one_is_a_wrong_name() {
    let post = Post::spawn();
    post.new_owner("AzureDiamond", AZURE).await;
    let long = format!("{}@diamond.example", "x".repeat(40));
    post.new_owner("long", &long).await;
    post.register("unverified", "blue@diamond.example").await;
    for email in [AZURE, "AZURE@DIAMOND.example", &long] {
        let (_, user) = session_of(post.app.log_in(email, "hunter2").await).await;
        assert_eq!(user["email"].as_str().unwrap().to_lowercase(), email.to_lowercase());
    }
    for (email, password) in
        [(AZURE, "wrong"), ("blue@diamond.example", "hunter2"), ("nobody@a-longer-name.diamond.example", "hunter2")]
    {
        let error = error_of(post.app.log_in(email, password).await, 401).await;
        assert_eq!(error, "The username or the password is wrong.", "{email}");
    }
    for neither in ["jürgen@diamond.example", "no name", ""] {
        assert!(error_of(post.app.log_in(neither, "hunter2").await, 400).await.contains("username must"), "{neither}");
    }
}

#[tokio::test]
async fn a_name_wins_over_anothers_address_also_with_a_wrong_password() {
    let post = Post::spawn();
    let body = json!({"username": "A@b.example", "password": "another", "email": "a@b.example"});
    assert_eq!(post.app.post("/api/register", &body).await.status(), 201);
    post.mail_to("a@b.example").await;
    post.new_owner("owner", "a@b.example").await;
    let (_, user) = session_of(post.app.log_in("a@B.example", "another").await).await;
    assert_eq!(user["username"], "A@b.example");
    assert_eq!(post.log_in("a@b.example", "hunter2").await, 401, "the owner of the address has a name");
    assert_eq!(post.log_in("owner", "hunter2").await, 200);
}

#[tokio::test]
async fn an_address_is_no_second_way_to_guess_and_one_of_nobody_is_locked_out_too() {
    let post = Post::spawn_with(accounts_alone);
    post.new_owner("AzureDiamond", AZURE).await;
    for attempt in 0..10 {
        let name = if attempt % 2 == 0 { "AzureDiamond" } else { "AZURE@diamond.example" };
        assert_eq!(post.log_in(name, "wrong").await, 401, "{attempt}");
    }
    assert_eq!(post.log_in(AZURE, "wrong").await, 429);
    assert_eq!(post.log_in("AzureDiamond", "wrong").await, 429);

    for unknown in ["nobody@b.example", "nobody@a-much-longer-name.diamond.example"] {
        for attempt in 0..10 {
            let email = if attempt % 2 == 0 { unknown.to_owned() } else { unknown.to_uppercase() };
            assert_eq!(post.log_in(&email, "wrong").await, 401, "{attempt}");
        }
        assert_eq!(post.log_in(unknown, "wrong").await, 429, "{unknown}");
    }
}

#[tokio::test]
async fn where_logins_need_a_verified_address_a_right_password_is_403_without_one() {
    let post = Post::spawn_with(|config| config.accounts.require_verified_email = true);
    let (token, mail) = post.register("AzureDiamond", AZURE).await;
    assert_eq!(post.log_in("AzureDiamond", "wrong").await, 401);
    let refused = error_of(post.app.log_in("AzureDiamond", "hunter2").await, 403).await;
    assert!(refused.contains("not verified"), "{refused}");
    assert_eq!(post.status_of(&token).await, 200, "the session of the registration lives");
    assert_eq!(post.app.count("tokens"), 1, "no session was opened");
    assert_eq!(post.app.post("/api/email/confirm", &json!({"token": mail.token()})).await.status(), 200);
    assert_eq!(post.log_in("AzureDiamond", "hunter2").await, 200);
}
