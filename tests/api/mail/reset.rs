//! The forgotten password: a mail by whose link or code a new one is set.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;

use super::mailbox::{Post, WRONG_CODE, assert_worthless, request_of};
use crate::helpers::{UNKNOWN_TOKEN, error_of, until};

const AZURE: &str = "azure@diamond.example";

#[tokio::test]
async fn the_link_or_the_code_sets_a_new_password_once_opens_no_session_and_ends_all() {
    for by_code in [false, true] {
        let post = Post::spawn();
        let token = post.new_owner("AzureDiamond", AZURE).await;
        let (request, mail) = post.forget("azurediamond", AZURE).await;
        assert!(mail.text().contains("AzureDiamond"), "the address is verified");
        let by_link = json!({"token": mail.token(), "new_password": "correct horse"});
        let with_code = json!({"request": request, "code": mail.code(), "new_password": "correct horse"});
        let (used, other) = if by_code { (with_code, by_link) } else { (by_link, with_code) };
        let response = post.reset(&used).await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.json::<serde_json::Value>().await.unwrap(), json!({"status": "success"}));
        assert_worthless(post.reset(&used).await, "used").await;
        assert_worthless(post.reset(&other).await, "ended by the other").await;
        assert_eq!(post.status_of(&token).await, 401, "every session ends");
        assert_eq!(post.log_in("AzureDiamond", "hunter2").await, 401);
        assert_eq!(post.log_in("AzureDiamond", "correct horse").await, 200);
        assert!(post.mail_to(AZURE).await.text().contains("AzureDiamond"), "a notice");
        assert_eq!(post.app.count_events("password_reset"), 1);
    }
}

#[tokio::test]
async fn the_answer_is_the_same_for_an_account_for_none_and_for_one_without_an_address() {
    let post = Post::spawn();
    post.new_owner("AzureDiamond", AZURE).await;
    post.app.new_user("nomail").await;
    let mut answers = std::collections::BTreeSet::new();
    for whom in [
        json!({"username": "AzureDiamond"}),
        json!({"username": "nobody"}),
        json!({"username": "nomail"}),
        json!({"email": AZURE}),
        json!({"email": "nobody@diamond.example"}),
    ] {
        let response = post.app.post("/api/password/forgot", &whom).await;
        let mut names: Vec<String> = response.headers().keys().map(|name| name.as_str().to_owned()).collect();
        names.sort();
        let length = response.headers()["content-length"].clone();
        request_of(response).await;
        answers.insert(format!("{names:?} {length:?}"));
    }
    assert_eq!(answers.len(), 1, "{answers:?}");
    assert_eq!(post.smtp.wait_for(3).await.len(), 3, "the confirmation, and two that reset");
    assert!(post.smtp.messages().iter().all(|mail| mail.to == AZURE));
}

#[tokio::test]
async fn either_an_address_or_a_name_is_given() {
    let post = Post::spawn();
    for body in [json!({}), json!({"email": AZURE, "username": "AzureDiamond"})] {
        let error = error_of(post.app.post("/api/password/forgot", &body).await, 400).await;
        assert_eq!(error, "Invalid Data: give either email or username");
    }
    for body in [json!({"email": "jürgen@diamond.example"}), json!({"email": "a@b.example, c@d.example"})] {
        assert_eq!(post.app.post("/api/password/forgot", &body).await.status(), 400, "{body}");
    }
    let proofs = [
        (json!({}), "token is required"),
        (json!({"code": "123456"}), "request is required"),
        (json!({"request": UNKNOWN_TOKEN}), "code is required"),
        (json!({"token": UNKNOWN_TOKEN, "code": "123456"}), "give either token, or request and code"),
    ];
    for (mut body, expected) in proofs {
        body["new_password"] = json!("correct horse");
        assert_eq!(error_of(post.reset(&body).await, 400).await, format!("Invalid Data: {expected}"));
    }
}

#[tokio::test]
async fn wrong_used_expired_unknown_and_of_another_purpose_are_one_and_the_same_answer() {
    let post = Post::spawn_with(|config| config.accounts.login_by_mail = true);
    let token = post.new_owner("AzureDiamond", AZURE).await;
    let reset = async |body: serde_json::Value| {
        let mut body = body;
        body["new_password"] = json!("correct horse");
        post.reset(&body).await
    };
    for unknown in [
        json!({"token": UNKNOWN_TOKEN}),
        json!({"token": "x"}),
        json!({"token": token}),
        json!({"request": UNKNOWN_TOKEN, "code": WRONG_CODE}),
        json!({"request": "x", "code": "y"}),
    ] {
        assert_worthless(reset(unknown.clone()).await, &unknown.to_string()).await;
    }
    let login = request_of(post.app.post("/api/login/mail", &json!({"email": AZURE})).await).await;
    let mail = post.mail_to(AZURE).await;
    assert_worthless(reset(json!({"token": mail.token()})).await, "a login's link").await;
    assert_worthless(reset(json!({"request": login, "code": mail.code()})).await, "a login's code").await;

    let (request, mail) = post.forget("AzureDiamond", AZURE).await;
    assert_worthless(reset(json!({"request": request, "code": WRONG_CODE})).await, "wrong").await;
    assert_worthless(reset(json!({"request": login, "code": mail.code()})).await, "another request").await;
    for other in ["/api/login/mail/confirm", "/api/email/confirm", "/api/not-me"] {
        assert_worthless(post.app.post(other, &json!({"token": mail.token()})).await, other).await;
    }
    let body = json!({"request": request, "code": mail.code()});
    assert_worthless(post.post("/api/user/reauthenticate", &token, &body).await, "no reauthentication").await;
    post.app.clock.advance(Duration::from_secs(10 * 60));
    assert_worthless(reset(body).await, "an expired code").await;
    post.app.clock.advance(Duration::from_secs(20 * 60));
    assert_worthless(reset(json!({"token": mail.token()})).await, "an expired link").await;
    assert_eq!(post.log_in("AzureDiamond", "hunter2").await, 200);
    until("the failure", || post.app.count_events("code_failed") == 1).await;
}

#[tokio::test]
async fn a_code_ends_after_five_wrong_ones_and_a_new_password_that_will_not_do_uses_nothing_up() {
    let post = Post::spawn_with(|config| config.password.min_length = 8);
    let body = json!({"username": "AzureDiamond", "password": "hunter22", "email": AZURE});
    post.app.post("/api/register", &body).await;
    post.mail_to(AZURE).await;
    let (request, mail) = post.forget("AzureDiamond", AZURE).await;
    for _ in 0..6 {
        let short = json!({"request": request, "code": WRONG_CODE, "new_password": "short"});
        assert!(error_of(post.reset(&short).await, 400).await.contains("new_password"));
    }
    let with = |code: &str| json!({"request": request, "code": code, "new_password": "correct horse"});
    for _ in 0..5 {
        assert_worthless(post.reset(&with(WRONG_CODE)).await, "wrong").await;
    }
    assert_worthless(post.reset(&with(&mail.code())).await, "after five").await;
    let link = json!({"token": mail.token(), "new_password": "correct horse"});
    assert_worthless(post.reset(&link).await, "one ends both").await;
}

#[tokio::test]
async fn five_guesses_of_one_code_at_once_are_five_and_no_more() {
    let post = Post::spawn();
    post.new_owner("AzureDiamond", AZURE).await;
    let (request, mail) = post.forget("AzureDiamond", AZURE).await;
    let guess = || async {
        let body = json!({"request": request, "code": WRONG_CODE, "new_password": "correct horse"});
        post.reset(&body).await.status().as_u16()
    };
    let statuses = futures_util::future::join_all((0..40).map(|_| guess())).await;
    assert!(statuses.iter().all(|status| *status == 400), "{statuses:?}");
    let right = json!({"request": request, "code": mail.code(), "new_password": "correct horse"});
    assert_worthless(post.reset(&right).await, "used up").await;
    until("the failures", || post.app.count_events("code_failed") == 5).await;
}

#[tokio::test]
async fn of_two_resets_at_once_by_one_mail_one_sets_the_password() {
    let post = Post::spawn();
    post.new_owner("AzureDiamond", AZURE).await;
    let (request, mail) = post.forget("AzureDiamond", AZURE).await;
    let by_link = json!({"token": mail.token(), "new_password": "first"});
    let by_code = json!({"request": request, "code": mail.code(), "new_password": "second"});
    let (first, second) = tokio::join!(post.reset(&by_link), post.reset(&by_code));
    let mut statuses = [first.status().as_u16(), second.status().as_u16()];
    let expected = if statuses[0] == 200 { "first" } else { "second" };
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 400]);
    assert_eq!(post.log_in("AzureDiamond", expected).await, 200);
}

#[tokio::test]
async fn a_reset_verifies_the_address_and_ends_what_was_set_up_before_it() {
    let post = Post::spawn();
    // Whoever registered gave an address of somebody else.
    let (squatter, confirmation) = post.register("AzureDiamond", AZURE).await;
    let (_, mail) = post.forget("AzureDiamond", AZURE).await;
    assert!(!mail.text().contains("AzureDiamond"), "{}", mail.text());
    let new = json!({"token": mail.token(), "new_password": "correct horse"});
    assert_eq!(post.reset(&new).await.status(), 200);
    assert_eq!(post.status_of(&squatter).await, 401);
    assert_eq!(post.log_in("AzureDiamond", "hunter2").await, 401);
    assert_worthless(post.app.post("/api/email/confirm", &json!({"token": confirmation.token()})).await, "ended").await;
    let (token, _) = crate::helpers::session_of(post.app.log_in("AzureDiamond", "correct horse").await).await;
    assert_eq!(post.email_of(&token).await, json!({"email": AZURE, "verified": true, "pending": null}));
}

#[tokio::test]
async fn a_change_of_the_address_or_the_end_of_the_account_ends_a_mail_that_is_out() {
    let post = Post::spawn();
    let token = post.new_owner("AzureDiamond", AZURE).await;
    let (_, mail) = post.forget("AzureDiamond", AZURE).await;
    let body = json!({"email": "blue@diamond.example", "password": "hunter2"});
    request_of(post.post("/api/user/email", &token, &body).await).await;
    let mails = [post.smtp.next().await, post.smtp.next().await];
    let confirmation = mails.iter().find(|mail| mail.to != AZURE).unwrap();
    assert_eq!(post.app.post("/api/email/confirm", &json!({"token": confirmation.token()})).await.status(), 200);
    post.mail_to(AZURE).await;
    let new = json!({"token": mail.token(), "new_password": "correct horse"});
    assert_worthless(post.reset(&new).await, "the address is another").await;

    let (_, mail) = post.forget("AzureDiamond", "blue@diamond.example").await;
    let gone = post.app.ask(Method::DELETE, "/api/user", &token, Some(&json!({"password": "hunter2"}))).await;
    assert_eq!(gone.status(), 200);
    post.mail_to("blue@diamond.example").await;
    let new = json!({"token": mail.token(), "new_password": "correct horse"});
    assert_worthless(post.reset(&new).await, "the account is gone").await;
    post.app.new_user("AzureDiamond").await;
    assert_worthless(post.reset(&new).await, "another account of the same name").await;
}

#[tokio::test]
async fn an_inactive_account_may_reset_its_password_and_stays_inactive() {
    let post = Post::spawn();
    post.new_owner("AzureDiamond", AZURE).await;
    post.app.deactivate("AzureDiamond");
    let (_, mail) = post.forget("AzureDiamond", AZURE).await;
    let new = json!({"token": mail.token(), "new_password": "correct horse"});
    assert_eq!(post.reset(&new).await.status(), 200);
    assert_eq!(post.log_in("AzureDiamond", "correct horse").await, 401);
}

#[tokio::test]
async fn strangers_together_ask_for_so_many_mails_and_a_mailbox_is_sent_one_a_minute() {
    let post = Post::spawn_with(|config| {
        config.rate_limit.enabled = true;
        config.mail.limit.count = 4;
    });
    post.new_owner("AzureDiamond", AZURE).await;
    for _ in 0..3 {
        request_of(post.app.post("/api/password/forgot", &json!({"email": AZURE})).await).await;
    }
    post.mail_to(AZURE).await;
    request_of(post.app.post("/api/password/forgot", &json!({"email": "x@diamond.example"})).await).await;
    let refused = post.app.post("/api/password/forgot", &json!({"email": AZURE})).await;
    assert_eq!(refused.headers()["retry-after"], "900");
    error_of(refused, 429).await;
    post.app.clock.advance(Duration::from_secs(15 * 60));
    request_of(post.app.post("/api/password/forgot", &json!({"email": AZURE})).await).await;
    assert_eq!(post.smtp.wait_for(3).await.len(), 3, "the confirmation, one of three, and the last");
}

#[tokio::test]
async fn a_stranger_cannot_use_up_the_mails_that_the_owner_may_ask_for_nor_end_them() {
    let post = Post::spawn_with(|config| {
        config.rate_limit.enabled = true;
        config.server.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    });
    let from = async |ip: &str, path: &str, body: &serde_json::Value| {
        post.app.client.post(post.app.url(path)).header("X-Forwarded-For", ip).json(body).send().await.unwrap()
    };
    let (owner, stranger) = ("192.0.2.1", "203.0.113.9");
    let body = json!({"username": "AzureDiamond", "password": "hunter2", "email": AZURE});
    assert_eq!(from(owner, "/api/register", &body).await.status(), 201);
    let confirmation = post.mail_to(AZURE).await;
    from(owner, "/api/email/confirm", &json!({"token": confirmation.token()})).await;
    let whom = json!({"username": "AzureDiamond"});
    request_of(from(stranger, "/api/password/forgot", &whom).await).await;
    post.mail_to(AZURE).await;
    request_of(from(stranger, "/api/password/forgot", &whom).await).await;
    request_of(from(owner, "/api/password/forgot", &whom).await).await;
    let mail = post.mail_to(AZURE).await;
    post.app.clock.advance(Duration::from_secs(61));
    request_of(from(stranger, "/api/password/forgot", &whom).await).await;
    post.mail_to(AZURE).await;
    let new = json!({"token": mail.token(), "new_password": "correct horse"});
    assert_eq!(from(owner, "/api/password/reset", &new).await.status(), 200);
}

#[tokio::test]
async fn wrong_codes_count_at_the_account_like_wrong_passwords_and_a_right_one_clears_them() {
    let post = Post::spawn_with(|config| {
        config.rate_limit.enabled = true;
        let plenty = authtokens::domain::rate::Rate { count: 1_000_000, period: Duration::from_secs(1) };
        (config.rate_limit.login, config.rate_limit.register) = (plenty, plenty);
    });
    post.new_owner("AzureDiamond", AZURE).await;
    let mut last = None;
    for _ in 0..3 {
        post.app.clock.advance(Duration::from_secs(61));
        let (request, mail) = post.forget("AzureDiamond", AZURE).await;
        for _ in 0..4 {
            let body = json!({"request": request, "code": WRONG_CODE, "new_password": "correct horse"});
            assert_worthless(post.reset(&body).await, "wrong").await;
        }
        last = Some((request, mail));
    }
    assert_eq!(post.log_in("AzureDiamond", "hunter2").await, 429, "twelve failures");
    let (request, mail) = last.unwrap();
    let right = json!({"request": request, "code": mail.code(), "new_password": "correct horse"});
    assert_eq!(post.reset(&right).await.status(), 200, "codes are not kept out by the lockout");
    assert_eq!(post.log_in("AzureDiamond", "correct horse").await, 200);
}

#[tokio::test]
async fn nothing_that_opens_the_account_stands_in_the_store() {
    let post = Post::spawn();
    post.new_owner("AzureDiamond", AZURE).await;
    let (request, mail) = post.forget("AzureDiamond", AZURE).await;
    let dump = post.app.dump().join("\n");
    for secret in [request, mail.token(), mail.code()] {
        assert!(!dump.contains(&secret));
    }
}
