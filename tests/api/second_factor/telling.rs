//! What is told of second factors: to the owner by mail, to the operator by metrics.

use serde_json::json;

use super::{due, give, log_in_with, new_owner, pending, security, set_up};
use crate::helpers::{TestApp, session_of};
use crate::mail::mailbox::Post;
use crate::metrics::{ANY_PORT, read_metrics, value};

#[tokio::test]
async fn sign_ins_are_counted_by_what_was_shown_first_and_second_and_one_that_is_due_is_no_failure() {
    let app = TestApp::spawn_with(|config| config.metrics.listen = Some(ANY_PORT));
    let owner = new_owner(&app, "AzureDiamond").await;
    let token = pending(&app, "AzureDiamond").await;
    assert_eq!(give(&app, &token, "recovery_code", owner.recovery_codes[0].as_str()).await.status(), 200);
    let in_one_step = log_in_with(&app, "AzureDiamond", "code", owner.app.code(&app, 0)).await;
    assert_eq!(in_one_step.status(), 200);
    let wrong = log_in_with(&app, "AzureDiamond", "code", owner.app.wrong_code(&app)).await;
    assert_eq!(wrong.status(), 401);
    due(app.log_in("AzureDiamond", "hunter2").await).await;
    let text = read_metrics(&app);
    for (series, count) in [
        ("authtokens_sign_ins_total{second_factor=\"none\",way=\"registration\"}", 1.0),
        ("authtokens_sign_ins_total{second_factor=\"none\",way=\"password\"}", 0.0),
        ("authtokens_sign_ins_total{second_factor=\"totp\",way=\"password\"}", 1.0),
        ("authtokens_sign_ins_total{second_factor=\"recovery_code\",way=\"second_step\"}", 1.0),
        ("authtokens_second_factors_due_total{way=\"password\"}", 2.0),
        ("authtokens_logins_total{outcome=\"success\"}", 2.0),
        ("authtokens_logins_total{outcome=\"failure\"}", 1.0),
    ] {
        assert_eq!(value(&text, series), Some(count), "{series}: {text}");
    }
}

#[tokio::test]
async fn an_owner_whose_thief_has_added_an_app_takes_it_away_by_its_notice() {
    let post = Post::spawn();
    let (azure, address) = ("AzureDiamond", "azure@diamond.example");
    let thief = post.new_owner(azure, address).await;
    set_up(&post.app, &thief).await;
    assert_eq!(security(&post.app, &thief).await["totp"]["enabled"], true);
    let notice = post.mail_to(address).await;
    assert_eq!(notice.subject(), "An authenticator app was added to your account at Diamonds");
    assert_eq!(post.app.post("/api/not-me", &json!({"token": notice.token()})).await.status(), 200);
    assert_eq!(post.status_of(&thief).await, 401);
    let reset = post.mail_to(address).await;
    let new = json!({"token": reset.token(), "new_password": "correct horse"});
    assert_eq!(post.reset(&new).await.status(), 200);
    let (token, _) = session_of(post.app.log_in(azure, "correct horse").await).await;
    let state = security(&post.app, &token).await;
    assert_eq!((&state["totp"]["enabled"], &state["recovery_codes"]), (&json!(false), &json!(0)));
}
