//! Mails to accounts whose names came from another system, and logins with names that are addresses.

use serde_json::json;

use super::mailbox::{Post, accounts_alone};
use crate::helpers::{error_of, session_of};
use crate::imported_names::{NASTY, import};

const ANNA: &str = "anna@exämple.example";

/// The same mailbox, as some programs write it.
const ANNA_IN_ASCII: &str = "anna@xn--exmple-cua.example";

#[tokio::test]
async fn a_mail_shows_an_imported_name_as_text_whatever_it_is_and_resets_its_password() {
    let post = Post::spawn();
    for (number, name) in NASTY.into_iter().enumerate() {
        let email = format!("user{number}@diamond.example");
        import(&post.app, name, &email).await;
        let (_, mail) = post.forget(name, &email).await;
        let reset = json!({"token": mail.token(), "new_password": "correct horse"});
        assert_eq!(post.reset(&reset).await.status(), 200, "{name}");
        let notice = post.mail_to(&email).await;
        assert!(!notice.subject().contains(name), "{name}");
        assert!(notice.text().contains(&format!("Hello {name},")), "{}", notice.text());
        let escaped = name.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;");
        let escaped = escaped.replace('\'', "&#39;");
        assert!(notice.html().contains(&escaped), "{escaped} in {}", notice.html());
        assert!(!notice.html().contains("<b>\"bold\""), "{}", notice.html());
        assert_eq!(post.log_in(name, "correct horse").await, 200, "{name}");
        // Of a login from where it never was.
        post.mail_to(&email).await;
    }
}

#[tokio::test]
async fn where_no_such_name_was_imported_no_mail_is_asked_for_with_one() {
    let post = Post::spawn();
    let ask = async |name: &str| post.app.post("/api/password/forgot", &json!({"username": name})).await;
    let error = error_of(ask("José").await, 400).await;
    assert_eq!(error, "Invalid Data: username must be 1 to 30 characters of A-Z a-z 0-9 _ @ + . -");
    post.app.store.remember_imported_name();
    assert_eq!(ask("José").await.status(), 202, "nobody has it, and that is not told");
    error_of(ask("José ").await, 400).await;
}

#[tokio::test]
async fn an_imported_name_that_is_its_own_address_logs_in_in_either_spelling() {
    let post = Post::spawn();
    import(&post.app, ANNA, ANNA).await;
    assert_eq!(post.log_in(&ANNA.to_uppercase(), "hunter2").await, 200);
    assert_eq!(post.log_in(ANNA_IN_ASCII, "hunter2").await, 401, "the address is not verified");
    let request = post.app.post("/api/password/forgot", &json!({"email": ANNA_IN_ASCII})).await;
    assert_eq!(request.status(), 202);
    let mail = post.smtp.next().await;
    let reset = json!({"token": mail.token(), "new_password": "correct horse"});
    assert_eq!(post.reset(&reset).await.status(), 200, "which verifies the address");
    for typed in [ANNA, ANNA_IN_ASCII, &ANNA.to_uppercase()] {
        let (_, user) = session_of(post.app.log_in(typed, "correct horse").await).await;
        assert_eq!(user["username"], ANNA, "{typed}");
    }
}

#[tokio::test]
async fn an_imported_name_that_is_anothers_address_opens_no_account_but_its_own() {
    let post = Post::spawn();
    post.new_owner("Owner", ANNA_IN_ASCII).await;
    assert_eq!(post.log_in(ANNA, "hunter2").await, 200);
    import(&post.app, ANNA, "").await;
    let (_, user) = session_of(post.app.log_in(ANNA, "hunter2").await).await;
    assert_eq!(user["username"], ANNA, "a name wins");
    let (_, user) = session_of(post.app.log_in(ANNA_IN_ASCII, "hunter2").await).await;
    assert_eq!(user["username"], "Owner", "this is nobody's name");
    let (_, user) = session_of(post.app.log_in("owner", "hunter2").await).await;
    assert_eq!(user["username"], "Owner");
}

#[tokio::test]
async fn failures_at_an_address_count_together_in_every_spelling_whether_or_not_it_is_an_accounts() {
    let post = Post::spawn_with(accounts_alone);
    post.new_owner("Owner", ANNA_IN_ASCII).await;
    for spellings in [[ANNA, ANNA_IN_ASCII], ["b@exämple.example", "b@xn--exmple-cua.example"]] {
        for number in 0..10 {
            assert_eq!(post.log_in(spellings[number % 2], "wrong").await, 401);
        }
        for spelling in spellings {
            assert_eq!(post.log_in(spelling, "wrong").await, 429, "{spelling}");
        }
    }
    // The same where the text may be a name, too.
    post.app.store.remember_imported_name();
    for spellings in [["c@exämple.example", "c@xn--exmple-cua.example"], ["D@exämple.example", "d@exämple.example"]]
    {
        for number in 0..10 {
            assert_eq!(post.log_in(spellings[number % 2], "wrong").await, 401);
        }
        for spelling in spellings {
            assert_eq!(post.log_in(spelling, "wrong").await, 429, "{spelling}");
        }
    }
}

#[tokio::test]
async fn nobody_can_have_the_name_at_which_the_failures_at_an_address_count() {
    let post = Post::spawn_with(accounts_alone);
    // The first digits of the SHA-256 of the address, as anybody can work out.
    let digest = "@6d07b4106f1162862865fbc0fbfa1";
    let address = "nobody@a-much-longer-name.diamond.example";
    assert_eq!(post.app.register(digest, "hunter2").await.status(), 201);
    for _ in 0..11 {
        post.log_in(address, "wrong").await;
    }
    assert_eq!(post.log_in(address, "wrong").await, 429);
    assert_eq!(post.log_in(digest, "hunter2").await, 200);
}
