//! What could tell whether an account exists, or an address is an account's, to whoever asks for mails and looks at
//! everything but the mailbox.

use std::time::Duration;

use authtokens::config::Config;
use serde_json::{Value, json};

use super::mailbox::{Post, WRONG_CODE, accounts_alone, assert_worthless, request_of};
use super::smtp_server::{Behaviour, Fault, Stage};
use crate::helpers::{HOUR, Response, TestApp, error_of, until};
use crate::metrics::{ANY_PORT, read_metrics, value};

const AZURE: &str = "azure@diamond.example";

/// Limits of accounts and mailboxes, and the metrics.
fn limited(config: &mut Config) {
    accounts_alone(config);
    config.accounts.login_by_mail = true;
    config.metrics.listen = Some(ANY_PORT);
}

/// Waits until so many mails were not sent, or put off, because of their mailbox's limit.
async fn until_limited(app: &TestApp, count: f64) {
    until("a limited mail", || value(&read_metrics(app), "authtokens_mails_limited_total") == Some(count)).await;
}

/// All that a client sees of an answer.
async fn seen(response: Response) -> (u16, Option<String>, String) {
    let status = response.status().as_u16();
    let retry_after = response.headers().get("retry-after").map(|value| value.to_str().unwrap().to_owned());
    (status, retry_after, response.text().await.unwrap())
}

/// Gives five wrong codes of a request and seven wrong passwords under a name.
async fn guess(post: &Post, path: &str, request: &str, name: &str) -> Vec<(u16, Option<String>, String)> {
    let mut answers = Vec::new();
    for _ in 0..5 {
        let mut body = json!({"request": request, "code": WRONG_CODE});
        if path == "/api/password/reset" {
            body["new_password"] = json!("correct horse");
        }
        answers.push(seen(post.app.post(path, &body).await).await);
    }
    for _ in 0..7 {
        answers.push(seen(post.app.log_in(name, "wrong").await).await);
    }
    answers
}

#[tokio::test]
async fn five_wrong_codes_end_the_confirmation_of_an_address_whether_or_not_another_account_has_verified_it() {
    let post = Post::spawn();
    post.new_owner("Owner", AZURE).await;
    let mut answers = Vec::new();
    for (username, email) in [("first", "free@diamond.example"), ("second", AZURE)] {
        let (token, _) = post.register(username, email).await;
        let mut seen = Vec::new();
        for _ in 0..6 {
            assert!(post.email_of(&token).await["pending"].is_object() || seen.len() == 5);
            let wrong = post.post("/api/user/email/confirm", &token, &json!({"code": WRONG_CODE})).await;
            seen.push((wrong.status(), wrong.text().await.unwrap()));
        }
        assert_eq!(post.email_of(&token).await["pending"], Value::Null, "{username}");
        answers.push(seen);
    }
    assert_eq!(answers[0], answers[1]);
    until("the failures", || post.app.count_events("code_failed") == 10).await;
}

#[tokio::test]
async fn a_confirmation_over_its_mailboxs_limit_is_sent_later_and_has_as_many_tries_left() {
    let post = Post::spawn_with(limited);
    post.register("first", AZURE).await;
    let body = json!({"username": "second", "password": "hunter2", "email": AZURE});
    let (token, _) = crate::helpers::session_of(post.app.post("/api/register", &body).await).await;
    until_limited(&post.app, 1.0).await;
    let text = read_metrics(&post.app);
    for outcome in ["retried", "failed"] {
        let series = format!("authtokens_mails_total{{kind=\"confirm_email\",outcome=\"{outcome}\"}}");
        assert_eq!(value(&text, &series), None);
    }
    post.app.clock.advance(Duration::from_secs(61));
    let mail = post.mail_to(AZURE).await;
    let confirm = json!({"code": mail.code()});
    assert_eq!(post.post("/api/user/email/confirm", &token, &confirm).await.status(), 200);
    assert_eq!(post.app.count_events("mail_failed"), 0);
}

#[tokio::test]
async fn wrong_codes_count_where_wrong_passwords_do_whether_or_not_there_is_an_account_or_a_mail() {
    for (ask, confirm) in
        [("/api/password/forgot", "/api/password/reset"), ("/api/login/mail", "/api/login/mail/confirm")]
    {
        let post = Post::spawn_with(limited);
        for (username, email) in [("first", "a@b.example"), ("second", "b@b.example"), ("third", "c@b.example")] {
            post.new_owner(username, email).await;
        }
        post.register("unverified", "d@b.example").await;
        let asked = async |by: &str, name: &str| request_of(post.app.post(ask, &json!({by: name})).await).await;
        let known = asked("email", "a@b.example").await;
        post.mail_to("a@b.example").await;
        let expected = guess(&post, confirm, &known, "a@b.example").await;
        let statuses: Vec<u16> = expected.iter().map(|(status, ..)| *status).collect();
        assert_eq!(statuses, [400, 400, 400, 400, 400, 401, 401, 401, 401, 401, 429, 429]);

        asked("email", "b@b.example").await;
        post.mail_to("b@b.example").await;
        let beyond = asked("email", "b@b.example").await;
        until_limited(&post.app, 1.0).await;
        assert_eq!(guess(&post, confirm, &beyond, "B@b.example").await, expected, "beyond its mailbox's limit");

        // While the mail server fails and the clock stands still, no other mail is made.
        post.smtp.behave(Behaviour::default().failing(Stage::Connect, Fault::Drop));
        asked("email", "c@b.example").await;
        let kind = if ask == "/api/login/mail" { "sign_in" } else { "reset_password" };
        let retried = format!("authtokens_mails_total{{kind=\"{kind}\",outcome=\"retried\"}}");
        until("a failure", || value(&read_metrics(&post.app), &retried) == Some(1.0)).await;
        let early = asked("email", "c@b.example").await;
        assert_eq!(guess(&post, confirm, &early, "c@b.example").await, expected, "before its mail is made");

        for unknown in ["nobody@b.example", "nobody@a-much-longer-name.diamond.example", "d@b.example"] {
            let request = asked("email", unknown).await;
            assert_eq!(guess(&post, confirm, &request, unknown).await, expected, "{unknown}");
        }
        if ask == "/api/password/forgot" {
            post.app.new_user("nomail").await;
            for username in ["nobody", "nomail", "x@y.example"] {
                let request = asked("username", username).await;
                assert_eq!(guess(&post, confirm, &request, username).await, expected, "{username}");
            }
        }
    }
}

#[tokio::test]
async fn from_a_hundred_failures_in_a_row_on_a_mail_has_a_link_alone() {
    let post = Post::spawn_with(limited);
    post.new_owner("AzureDiamond", AZURE).await;
    let asked = async |path: &str| {
        let request = request_of(post.app.post(path, &json!({"email": AZURE})).await).await;
        (request, post.mail_to(AZURE).await)
    };
    let wrong = async |count: usize| {
        for number in 0..count {
            let request = post.app.post("/api/password/forgot", &json!({"username": "azurediamond"})).await;
            let request = request_of(request).await;
            for _ in 0..if number == 0 { 4 } else { 5 } {
                let body = json!({"request": request, "code": WRONG_CODE, "new_password": "correct horse"});
                assert_worthless(post.reset(&body).await, "wrong").await;
            }
        }
    };
    wrong(usize::try_from(post.app.store.most_failures()).unwrap() / 5).await;
    let subjects = post.smtp.wait_for(2).await.len();
    assert_eq!(subjects, 2, "beyond the mailbox's limit no mail was sent");
    post.smtp.next().await;
    post.app.clock.advance(25 * HOUR);
    let (request, mail) = asked("/api/password/forgot").await;
    // Where nodes share the store, a failure that is being stored may count twice for a moment.
    if !post.app.store.is_shared() {
        assert_eq!(mail.code().len(), 6, "one failure fewer");
    }
    let last = json!({"request": request, "code": WRONG_CODE, "new_password": "correct horse"});
    assert_worthless(post.reset(&last).await, "wrong").await;
    post.app.clock.advance(25 * HOUR);
    for path in ["/api/login/mail", "/api/password/forgot"] {
        post.app.clock.advance(Duration::from_secs(61));
        let (_, mail) = asked(path).await;
        assert!(!mail.text().contains("code") && !mail.html().contains("code"), "{}", mail.text());
        if path == "/api/password/forgot" {
            let new = json!({"token": mail.token(), "new_password": "correct horse"});
            assert_eq!(post.reset(&new).await.status(), 200);
            post.mail_to(AZURE).await;
        }
    }
    post.app.clock.advance(Duration::from_secs(61));
    let (_, mail) = asked("/api/password/forgot").await;
    assert_eq!(mail.code().len(), 6, "the failures are forgotten");
}

#[tokio::test]
async fn where_mail_is_sent_a_name_that_is_an_address_is_the_address_that_it_registers_with() {
    let post = Post::spawn();
    post.new_owner("owner", "a@b.example").await;
    for (username, email) in
        [("a@b.example", ""), ("A@B.example", "c@b.example"), ("nobody@b.example", ""), ("nobody@b.example", AZURE)]
    {
        let body = json!({"username": username, "password": "hunter2", "email": email});
        let error = error_of(post.app.post("/api/register", &body).await, 400).await;
        assert_eq!(error, "Invalid Data: username must be no e-mail address but the one given in email", "{username}");
    }
    let body = json!({"username": "Me@b.example", "password": "hunter2", "email": "me@B.example"});
    assert_eq!(post.app.post("/api/register", &body).await.status(), 201);
    for fine in ["me@home", "a.b", "@me"] {
        assert_eq!(post.app.register(fine, "hunter2").await.status(), 201, "{fine}");
    }
    let off = TestApp::spawn();
    assert_eq!(off.register("a@b.example", "hunter2").await.status(), 201);
}
