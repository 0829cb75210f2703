//! The account's address: confirmed, changed, withdrawn.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use super::mailbox::{Post, WRONG_CODE, accounts_alone, assert_worthless, request_of};
use super::smtp_server::Received;
use crate::helpers::{HOUR, error_of, session_of};

const AZURE: &str = "azure@diamond.example";
const BLUE: &str = "blue@diamond.example";

#[tokio::test]
async fn a_registration_with_an_address_mails_a_confirmation_whose_link_or_code_verifies_it_once() {
    let post = Post::spawn();
    let (token, mail) = post.register("AzureDiamond", AZURE).await;
    let state = post.email_of(&token).await;
    assert_eq!((&state["email"], &state["verified"]), (&json!(AZURE), &json!(false)));
    assert_eq!(state["pending"], json!({"email": AZURE, "expires": "2015-01-05T22:51:35.144Z"}));
    assert!(!mail.text().contains("AzureDiamond"), "no text that a user chose goes to an unverified address");
    let link = json!({"token": mail.token()});
    assert_eq!(post.app.post("/api/email/confirm", &link).await.status(), 200);
    let verified = json!({"email": AZURE, "verified": true, "pending": null});
    assert_eq!(post.email_of(&token).await, verified);
    assert_worthless(post.app.post("/api/email/confirm", &link).await, "used").await;
    assert_worthless(post.post("/api/user/email/confirm", &token, &json!({"code": mail.code()})).await, "ended").await;

    let (token, mail) = post.register("Blue", BLUE).await;
    let confirm = async |body: Value| post.post("/api/user/email/confirm", &token, &body).await;
    assert_worthless(confirm(json!({"code": WRONG_CODE})).await, "wrong").await;
    let user: Value = confirm(json!({"code": mail.code()})).await.json().await.unwrap();
    assert_eq!((user.as_object().unwrap().len(), &user["email"]), (18, &json!(BLUE)));
    assert_eq!(post.email_of(&token).await["verified"], true);
    assert_worthless(post.app.post("/api/email/confirm", &json!({"token": mail.token()})).await, "ended").await;
}

#[tokio::test]
async fn a_registration_takes_only_an_address_that_mail_can_be_sent_to() {
    let post = Post::spawn();
    for bad in ["jürgen@diamond.example", "\"a b\"@diamond.example", "a@b@diamond.example", "a@localhost"] {
        let body = json!({"username": "AzureDiamond", "password": "hunter2", "email": bad});
        assert!(error_of(post.app.post("/api/register", &body).await, 400).await.contains("email must be"), "{bad}");
    }
    let body = json!({"username": "AzureDiamond", "password": "hunter2", "email": ""});
    assert_eq!(post.app.post("/api/register", &body).await.status(), 201, "none is fine");
}

#[tokio::test]
async fn another_address_needs_the_password_or_a_fresh_session_and_replaces_the_former_once_it_is_confirmed() {
    let post = Post::spawn();
    let token = post.new_owner("AzureDiamond", AZURE).await;
    let change = async |body: Value| post.post("/api/user/email", &token, &body).await;
    let error = error_of(change(json!({"email": BLUE})).await, 400).await;
    assert_eq!(error, "Invalid Data: password is required");
    let error = error_of(change(json!({"email": BLUE, "password": "wrong"})).await, 400).await;
    assert_eq!(error, "Invalid Data: password is wrong");
    let request = request_of(change(json!({"email": BLUE, "password": "hunter2"})).await).await;
    let mut mails = [post.smtp.next().await, post.smtp.next().await];
    mails.sort_by(|a, b| a.to.cmp(&b.to));
    let [notice, confirmation] = mails;
    assert_eq!((&*notice.to, &*confirmation.to), (AZURE, BLUE));
    assert!(notice.text().contains("AzureDiamond") && !confirmation.text().contains("AzureDiamond"));
    let state = post.email_of(&token).await;
    assert_eq!(
        (&state["email"], &state["verified"], &state["pending"]["email"]),
        (&json!(AZURE), &json!(true), &json!(BLUE))
    );

    let confirm = async |body: Value| post.post("/api/user/email/confirm", &token, &body).await;
    let other = "d96163b8bc9127d8c5d5839018580123c64a324b";
    assert_worthless(confirm(json!({"code": confirmation.code(), "request": other})).await, "another request").await;
    assert_eq!(confirm(json!({"code": confirmation.code(), "request": request})).await.status(), 200);
    assert_eq!(post.email_of(&token).await, json!({"email": BLUE, "verified": true, "pending": null}));
    assert!(post.mail_to(AZURE).await.text().contains("AzureDiamond"), "the former address hears of it");

    let fresh = post.post("/api/user/reauthenticate", &token, &json!({"password": "hunter2"})).await;
    assert_eq!(fresh.status(), 200);
    request_of(change(json!({"email": AZURE})).await).await;
}

#[tokio::test]
async fn a_change_can_be_withdrawn_and_a_newer_one_ends_an_earlier() {
    let post = Post::spawn();
    let (token, first) = post.register("AzureDiamond", AZURE).await;
    let body = json!({"email": BLUE, "password": "hunter2"});
    request_of(post.post("/api/user/email", &token, &body).await).await;
    let second = post.mail_to(BLUE).await;
    assert_worthless(post.app.post("/api/email/confirm", &json!({"token": first.token()})).await, "replaced").await;
    for _ in 0..2 {
        let withdrawn = post.app.ask(Method::DELETE, "/api/user/email", &token, None).await;
        assert_eq!(withdrawn.status(), 200);
    }
    assert_worthless(post.app.post("/api/email/confirm", &json!({"token": second.token()})).await, "withdrawn").await;
    assert_worthless(post.post("/api/user/email/confirm", &token, &json!({"code": second.code()})).await, "too").await;
    assert_eq!(post.email_of(&token).await, json!({"email": AZURE, "verified": false, "pending": null}));
}

#[tokio::test]
async fn a_code_is_worth_something_for_ten_minutes_and_five_tries_and_a_link_for_a_day() {
    let post = Post::spawn();
    let (token, mail) = post.register("AzureDiamond", AZURE).await;
    let confirm = async |code: &str| post.post("/api/user/email/confirm", &token, &json!({"code": code})).await;
    post.app.clock.advance(Duration::from_secs(10 * 60));
    assert_worthless(confirm(&mail.code()).await, "expired").await;
    post.app.clock.advance(23 * HOUR + Duration::from_secs(50 * 60));
    assert_worthless(post.app.post("/api/email/confirm", &json!({"token": mail.token()})).await, "expired").await;

    request_of(post.post("/api/user/email", &token, &json!({"email": AZURE, "password": "hunter2"})).await).await;
    let mail = post.mail_to(AZURE).await;
    for _ in 0..5 {
        assert_worthless(confirm(WRONG_CODE).await, "wrong").await;
    }
    assert_worthless(confirm(&mail.code()).await, "after five tries").await;
    crate::helpers::until("the failures", || post.app.count_events("code_failed") == 5).await;
}

#[tokio::test]
async fn whoever_asks_for_anothers_address_gets_the_same_answer_and_its_owner_is_told_by_a_mail_without_a_code() {
    let post = Post::spawn();
    post.new_owner("Owner", AZURE).await;
    let (token, told) = post.register("Stranger", "AZURE@diamond.example").await;
    assert!(!told.text().contains('#') && !told.text().contains("Stranger"), "{}", told.text());
    let state = post.email_of(&token).await;
    assert_eq!((&state["verified"], &state["pending"]["email"]), (&json!(false), &json!("AZURE@diamond.example")));
}

#[tokio::test]
async fn of_two_accounts_that_confirm_one_address_the_first_gets_it() {
    let post = Post::spawn();
    let (_, first) = post.register("first", AZURE).await;
    let (second, mail) = post.register("second", AZURE).await;
    assert_eq!(post.app.post("/api/email/confirm", &json!({"token": first.token()})).await.status(), 200);
    let late = error_of(post.app.post("/api/email/confirm", &json!({"token": mail.token()})).await, 400).await;
    assert_eq!(late, "Invalid Data: another account has verified this address");
    assert_eq!(post.email_of(&second).await["verified"], false);
}

#[tokio::test]
async fn the_profile_takes_the_address_that_is_stored_and_names_the_call_for_another() {
    let post = Post::spawn();
    let token = post.new_owner("AzureDiamond", AZURE).await;
    let patch = async |body: Value| post.app.ask(Method::PATCH, "/api/user", &token, Some(&body)).await;
    for other in [BLUE, "", "AZURE@diamond.example"] {
        let error = error_of(patch(json!({"email": other, "city": "Chicago"})).await, 400).await;
        assert_eq!(error, "Invalid Data: email is changed by POST /api/user/email", "{other}");
    }
    let user: Value = patch(json!({"email": AZURE, "city": "Chicago"})).await.json().await.unwrap();
    assert_eq!((&user["email"], &user["city"]), (&json!(AZURE), &json!("Chicago")));
    assert_eq!(post.email_of(&token).await["verified"], true, "still");
}

#[tokio::test]
async fn an_account_asks_for_one_confirmation_a_minute_and_five_an_hour() {
    let post = Post::spawn_with(|config| config.rate_limit.enabled = true);
    let (token, _) = post.register("AzureDiamond", AZURE).await;
    let ask = async |number: u32| {
        let body = json!({"email": format!("blue{number}@diamond.example"), "password": "hunter2"});
        let response = post.post("/api/user/email", &token, &body).await;
        let retry_after = response.headers().get("retry-after").map(|value| value.to_str().unwrap().to_owned());
        (response.status().as_u16(), retry_after)
    };
    // The registration is the first of the five.
    for number in 0..4 {
        assert_eq!(ask(9).await.0, 429);
        post.app.clock.advance(Duration::from_secs(61));
        assert_eq!(ask(number).await, (202, None), "{number}");
    }
    post.app.clock.advance(Duration::from_secs(61));
    let (status, retry_after) = ask(5).await;
    assert!(status == 429 && retry_after.unwrap().parse::<u64>().unwrap() > 3_000);
    let wrong = json!({"email": BLUE, "password": "wrong"});
    assert_eq!(
        post.post("/api/user/email", &token, &wrong).await.status(),
        400,
        "nothing is told without the password"
    );
}

#[tokio::test]
async fn a_link_into_an_app_begins_with_a_configured_prefix_and_leads_nowhere_else() {
    let prefixes = ["https://app.example.org/account/", "diamonds://account"];
    let post = Post::spawn_with(|config| config.mail.app_links = prefixes.map(str::to_owned).to_vec());
    let token = post.new_owner("AzureDiamond", AZURE).await;
    let ask = async |link: &str| {
        let body = json!({"username": "AzureDiamond", "link": link});
        post.app.post("/api/password/forgot", &body).await
    };
    for bad in [
        "https://evil.example/",
        "https://app.example.org/account",
        "https://app.example.org/account/../../x",
        "https://app.example.org/account/x?next=evil",
        "https://app.example.org/account/x#y",
        "https://app.example.org/account/x\r\ny",
        "HTTPS://app.example.org/account/",
        "diamonds://account@evil.example",
        "diamonds://account:8/x",
        "diamonds://account.evil",
        "diamonds://account-evil/x",
        "diamonds://accountevil",
        "javascript:alert(1)",
        "",
    ] {
        assert!(error_of(ask(bad).await, 400).await.contains("link must be one of mail.app_links"), "{bad}");
    }
    for good in ["https://app.example.org/account/reset", "diamonds://account/reset_1.x", "diamonds://account"] {
        request_of(ask(good).await).await;
        let mail = post.mail_to(AZURE).await;
        assert_eq!(mail.link().split_once('#').unwrap().0, good);
    }
    let body = json!({"email": BLUE, "password": "hunter2", "link": "diamonds://account/confirm"});
    request_of(post.post("/api/user/email", &token, &body).await).await;
    let mails = [post.smtp.next().await, post.smtp.next().await];
    let confirmation = mails.iter().find(|mail| mail.to == BLUE).unwrap();
    // What a client chose is no text for an address that nobody has verified.
    assert!(confirmation.link().starts_with("diamonds://account#"), "{}", confirmation.link());
    let notice = mails.iter().find(|mail| mail.to == AZURE).unwrap();
    assert!(notice.link().starts_with("https://diamond.example/account/not-me#"), "{}", notice.link());
}

#[tokio::test]
async fn the_notice_of_a_change_undoes_it_ends_every_session_and_starts_a_reset() {
    let post = Post::spawn();
    let thief = post.new_owner("AzureDiamond", AZURE).await;
    let body = json!({"email": BLUE, "password": "hunter2"});
    request_of(post.post("/api/user/email", &thief, &body).await).await;
    let mails = [post.smtp.next().await, post.smtp.next().await];
    let confirmation = mails.iter().find(|mail| mail.to == BLUE).unwrap();
    assert_eq!(post.app.post("/api/email/confirm", &json!({"token": confirmation.token()})).await.status(), 200);
    let notice = post.mail_to(AZURE).await;
    let disown = async || post.app.post("/api/not-me", &json!({"token": notice.token()})).await;
    assert_eq!(disown().await.status(), 200);
    assert_eq!(post.status_of(&thief).await, 401);
    assert_worthless(disown().await, "used").await;

    let reset = post.mail_to(AZURE).await;
    assert!(!reset.text().contains("code"), "nobody has its request id: {}", reset.text());
    let new = json!({"token": reset.token(), "new_password": "correct horse"});
    assert_eq!(post.reset(&new).await.status(), 200);
    assert_eq!(
        (post.log_in("AzureDiamond", "hunter2").await, post.log_in("AzureDiamond", "correct horse").await),
        (401, 200)
    );
    let (token, user) = session_of(post.app.log_in("AzureDiamond", "correct horse").await).await;
    assert_eq!(user["email"], AZURE);
    assert_eq!(post.email_of(&token).await["verified"], true);
}

#[tokio::test]
async fn confirmations_have_a_limit_together_and_those_beyond_it_are_sent_later() {
    let post = Post::spawn_with(|config| {
        accounts_alone(config);
        config.mail.limit.count = 2;
    });
    let register = async |number: u32| {
        let email = format!("azure{number}@diamond.example");
        let body = json!({"username": format!("azure{number}"), "password": "hunter2", "email": email});
        session_of(post.app.post("/api/register", &body).await).await
    };
    for number in 1..=3 {
        register(number).await;
    }
    post.smtp.wait_for(2).await;
    assert_eq!(post.app.post("/api/password/forgot", &json!({"username": "nobody"})).await.status(), 202);
    post.app.clock.advance(61 * Duration::from_secs(60));
    assert_eq!(post.smtp.wait_for(3).await.len(), 3);
}

#[tokio::test]
async fn what_a_mailbox_has_had_enough_of_uses_up_nothing_of_the_limit_of_all() {
    let post = Post::spawn_with(|config| {
        accounts_alone(config);
        config.mail.limit.count = 2;
    });
    for (username, email) in [("a", AZURE), ("b", AZURE), ("c", AZURE), ("d", BLUE)] {
        let body = json!({"username": username, "password": "hunter2", "email": email});
        session_of(post.app.post("/api/register", &body).await).await;
    }
    let mails = post.smtp.wait_for(2).await;
    let mut to: Vec<_> = mails.iter().map(|mail| &*mail.to).collect();
    to.sort_unstable();
    assert_eq!(to, [AZURE, BLUE]);
}

#[tokio::test]
async fn whoever_asks_again_within_a_minute_of_registering_keeps_the_first_code() {
    let post = Post::spawn_with(accounts_alone);
    let (token, mail) = post.register("AzureDiamond", AZURE).await;
    let again = post.post("/api/user/email", &token, &json!({"email": AZURE, "password": "hunter2"})).await;
    assert_eq!(again.status(), 429);
    let confirmed = post.post("/api/user/email/confirm", &token, &json!({"code": mail.code()})).await;
    assert_eq!(confirmed.status(), 200);
}

#[tokio::test]
async fn notices_of_one_kind_are_sent_once_a_minute_and_others_beside_them() {
    let post = Post::spawn_with(accounts_alone);
    let token = post.new_owner("AzureDiamond", AZURE).await;
    let change = async || {
        let body = json!({"current_password": "hunter2", "new_password": "hunter2"});
        assert_eq!(post.post("/api/user/password", &token, &body).await.status(), 200);
    };
    for _ in 0..3 {
        change().await;
    }
    post.smtp.wait_for(2).await;
    post.app.clock.advance(Duration::from_secs(61));
    change().await;
    post.smtp.wait_for(3).await;
    request_of(post.app.post("/api/password/forgot", &json!({"username": "AzureDiamond"})).await).await;
    let reset = &post.smtp.wait_for(4).await[3];
    assert_eq!(post.reset(&json!({"token": reset.token(), "new_password": "another"})).await.status(), 200);
    let told: Vec<_> = post.smtp.wait_for(5).await.iter().map(Received::subject).collect();
    assert_eq!(told.len(), 5, "{told:?}");
    assert_eq!(told[1], told[2], "the password was changed");
    assert_ne!(told[2], told[4], "it was reset");
}
