//! What staff do to accounts. Who may do it is in `roles`.

use std::sync::Arc;

use reqwest::Method;
use serde_json::{Value, json};

use crate::helpers::{TestApp, error_of, session_of};
use crate::store::StoredAccount;

const USERS: &str = "/api/users";

/// An app with a superuser; its token.
async fn app_with_superuser() -> (TestApp, String) {
    let app = TestApp::spawn();
    let token = app.new_user("root").await;
    app.make_superuser("root");
    (app, token)
}

fn names(users: &Value) -> Vec<&str> {
    users.as_array().unwrap().iter().map(|user| user["username"].as_str().unwrap()).collect()
}

/// Every page from this one on, following `Link`.
async fn pages(app: &TestApp, token: &str, first: &str) -> Vec<Value> {
    let mut pages = Vec::new();
    let mut next = Some(first.to_owned());
    while let Some(path) = next {
        let response = app.ask(Method::GET, &path, token, None).await;
        assert_eq!(response.status(), 200, "{path}");
        next = response.headers().get("link").map(|link| {
            let target = link.to_str().unwrap().strip_prefix('<').unwrap().strip_suffix(">; rel=\"next\"").unwrap();
            target.to_owned()
        });
        pages.push(response.json().await.unwrap());
        assert!(pages.len() < 100, "{first} does not end");
    }
    pages
}

#[tokio::test]
async fn a_right_that_is_given_or_taken_counts_from_the_next_request_on() {
    let (app, root) = app_with_superuser().await;
    let token = app.new_user("AzureDiamond").await;
    let status = async || app.ask(Method::GET, USERS, &token, None).await.status().as_u16();
    assert_eq!(status().await, 403);
    for right in ["is_staff", "is_superuser"] {
        let user = app.get(Method::PATCH, "/api/users/azurediamond", &root, Some(&json!({right: true}))).await;
        assert_eq!(user[right], true);
        assert_eq!(status().await, 200, "{right}");
        app.get(Method::PATCH, "/api/users/azurediamond", &root, Some(&json!({right: false}))).await;
        assert_eq!(status().await, 403, "{right}");
    }
}

#[tokio::test]
async fn the_last_active_superuser_stays() {
    let (app, root) = app_with_superuser().await;
    let second = app.new_user("second").await;
    app.get(Method::PATCH, "/api/users/second", &root, Some(&json!({"is_superuser": true}))).await;
    app.get(Method::PATCH, "/api/users/second", &root, Some(&json!({"is_active": false}))).await;
    let before = app.dump();
    let password = json!({"password": "hunter2"});
    let sentence = "The last superuser must stay. Make another one first.";
    assert_eq!(error_of(app.ask(Method::DELETE, "/api/user", &root, Some(&password)).await, 409).await, sentence);
    for change in [json!({"is_superuser": false}), json!({"is_active": false})] {
        assert_eq!(app.ask(Method::PATCH, "/api/users/root", &root, Some(&change)).await.status(), 403, "{change}");
    }
    assert_eq!(app.ask(Method::DELETE, "/api/users/root", &root, None).await.status(), 403);
    assert_eq!(app.dump(), before);
    assert_eq!(app.ask(Method::GET, "/api/user", &second, None).await.status(), 401, "its tokens ended");

    app.get(Method::PATCH, "/api/users/second", &root, Some(&json!({"is_active": true}))).await;
    assert_eq!(app.ask(Method::DELETE, "/api/user", &root, Some(&password)).await.status(), 200, "one is left");
    let (second, _) = session_of(app.log_in("second", "hunter2").await).await;
    assert_eq!(app.ask(Method::DELETE, "/api/user", &second, Some(&password)).await.status(), 409);
}

#[tokio::test]
async fn superusers_who_depose_each_other_at_once_leave_one() {
    let (app, _) = app_with_superuser().await;
    let app = Arc::new(app);
    let everyone = ["a", "b", "c", "d"];
    for round in 0..10 {
        for account in app.store.accounts() {
            app.store.delete_account(&account.username);
        }
        let mut tokens = Vec::new();
        for name in everyone {
            tokens.push(app.new_user(name).await);
            app.make_superuser(name);
        }
        let mut attempts = Vec::new();
        for (me, token) in everyone.into_iter().zip(&tokens) {
            for target in everyone.into_iter().filter(|target| *target != me) {
                let (app, token) = (Arc::clone(&app), token.clone());
                attempts.push(tokio::spawn(async move {
                    let path = format!("{USERS}/{target}");
                    let (method, body) = match round % 4 {
                        0 => (Method::PATCH, Some(json!({"is_superuser": false}))),
                        1 => (Method::PATCH, Some(json!({"is_active": false}))),
                        2 => (Method::DELETE, None),
                        _ => {
                            let password = json!({"password": "hunter2"});
                            app.ask(Method::DELETE, "/api/user", &token, Some(&password)).await;
                            (Method::DELETE, None)
                        }
                    };
                    app.ask(method, &path, &token, body.as_ref()).await.status().as_u16()
                }));
            }
        }
        for attempt in attempts {
            let status = attempt.await.unwrap();
            assert!([200, 401, 403, 404].contains(&status), "{status}");
        }
        let left = app.store.accounts().into_iter().filter(|account| account.is_superuser && account.is_active);
        assert_eq!(left.count(), 1, "round {round}");
    }
}

#[tokio::test]
async fn a_password_that_staff_set_ends_every_token_and_the_old_password() {
    let (app, root) = app_with_superuser().await;
    let tokens = [app.new_user("AzureDiamond").await, session_of(app.log_in("AzureDiamond", "hunter2").await).await.0];
    let answer = app.get(Method::PATCH, "/api/users/azurediamond", &root, Some(&json!({"password": "hunter3"}))).await;
    assert_eq!(answer["username"], "AzureDiamond");
    assert!(!answer.to_string().contains("hunter3"));
    for token in &tokens {
        assert_eq!(app.ask(Method::GET, "/api/user", token, None).await.status(), 401);
    }
    assert_eq!(app.log_in("AzureDiamond", "hunter2").await.status(), 401);
    let (token, _) = session_of(app.log_in("AzureDiamond", "hunter3").await).await;

    app.get(Method::PATCH, "/api/users/azurediamond", &root, Some(&json!({"is_active": false}))).await;
    assert_eq!(app.ask(Method::GET, "/api/user", &token, None).await.status(), 401);
    assert_eq!(app.log_in("AzureDiamond", "hunter3").await.status(), 401);
    app.get(Method::PATCH, "/api/users/azurediamond", &root, Some(&json!({"is_active": true}))).await;
    assert_eq!(app.ask(Method::GET, "/api/user", &token, None).await.status(), 401, "an ended token stays ended");
    assert_eq!(app.log_in("AzureDiamond", "hunter3").await.status(), 200);
}

#[tokio::test]
async fn a_change_is_all_or_nothing_and_says_what_is_wrong_with_it() {
    let app = TestApp::spawn_with(|config| config.password.min_length = 7);
    let root = app.new_user("root").await;
    app.make_superuser("root");
    app.new_user("AzureDiamond").await;
    let before = app.dump();
    let only = "Invalid Data: only is_active, is_staff, is_superuser and password can be set here";
    for (body, sentence) in [
        (json!({"is_staff": true, "is_active": 0}), "Invalid Data: is_active must be true or false"),
        (json!({"is_staff": true, "is_active": null}), "Invalid Data: is_active must be true or false"),
        (json!({"is_active": false, "is_staff": "true"}), "Invalid Data: is_staff must be true or false"),
        (json!({"is_staff": true, "is_superuser": []}), "Invalid Data: is_superuser must be true or false"),
        (json!({"is_staff": true, "password": null}), "Invalid Data: password must be a string"),
        (json!({"is_staff": true, "password": ""}), "Invalid Data: password must not be empty"),
        (json!({"is_staff": true, "password": "short"}), "Invalid Data: password must be at least 7 characters"),
        (json!({"is_staff": true, "username": "x"}), only),
        (json!({"is_staff": true, "ECHO": "x"}), only),
        (json!([]), "Invalid Data: the body must be a JSON object"),
    ] {
        let response = app.ask(Method::PATCH, "/api/users/AzureDiamond", &root, Some(&body)).await;
        assert_eq!(error_of(response, 400).await, sentence, "{body}");
    }
    assert_eq!(app.dump(), before);
}

#[tokio::test]
async fn a_list_is_given_in_pages_that_hold_everyone_once_in_the_order_of_their_names() {
    let (app, root) = app_with_superuser().await;
    // Made behind the service's back: a hash each would take long.
    let others = (1..250).map(|number| StoredAccount {
        is_active: number % 3 > 0,
        is_staff: number % 50 == 0,
        ..StoredAccount::named(format!("{}{number}", if number % 2 == 1 { 'U' } else { 'u' }))
    });
    app.store.add_accounts(&others.collect::<Vec<_>>());
    let mut everyone = app.usernames();
    everyone.sort_by_key(|name| name.to_ascii_lowercase());
    for (path, sizes) in [
        ("/api/users", [50, 50, 50, 50, 50, 0].as_slice()),
        ("/api/users/", &[50, 50, 50, 50, 50, 0]),
        ("/api/users?limit=100", &[100, 100, 50]),
        ("/api/users?limit=99", &[99, 99, 52]),
    ] {
        let pages = pages(&app, &root, path).await;
        assert_eq!(pages.iter().map(|page| page.as_array().unwrap().len()).collect::<Vec<_>>(), sizes, "{path}");
        assert_eq!(pages.iter().flat_map(names).collect::<Vec<_>>(), everyone, "{path}");
    }
    // The filters stay in the links.
    let active = pages(&app, &root, "/api/users?is_active=true&search=U1&limit=10").await;
    let mut expected = app.store.accounts();
    expected.retain(|account| account.is_active && account.username.to_ascii_lowercase().contains("u1"));
    let mut expected: Vec<_> = expected.into_iter().map(|account| account.username).collect();
    expected.sort_by_key(|name| name.to_ascii_lowercase());
    assert_eq!(active.iter().flat_map(names).collect::<Vec<_>>(), expected);
    assert!(active.len() > 3);
    assert_eq!(
        names(&app.get(Method::GET, "/api/users?is_staff=true", &root, None).await),
        ["u100", "u150", "u200", "u50"]
    );
    assert_eq!(names(&app.get(Method::GET, "/api/users?is_superuser=true", &root, None).await), ["root"]);
    assert_eq!(names(&app.get(Method::GET, "/api/users?after=U98&limit=1", &root, None).await), ["U99"]);
    // An account that is deleted between two pages hides no other.
    app.store.delete_account("u98");
    assert_eq!(names(&app.get(Method::GET, "/api/users?after=u98&limit=1", &root, None).await), ["U99"]);
}

#[tokio::test]
async fn a_page_of_accounts_with_long_lists_ends_sooner_and_the_pages_hold_everyone_once() {
    let (app, root) = app_with_superuser().await;
    let others: Vec<_> = (101..=120).map(|number| StoredAccount::named(format!("u{number}"))).collect();
    app.store.add_accounts(&others);
    app.store.fill_lists(10_000);
    let pages = pages(&app, &root, "/api/users?limit=100").await;
    for page in &pages {
        assert!(page.to_string().len() < 2_000_000, "{}", page.to_string().len());
    }
    assert_eq!(pages.iter().map(|page| page.as_array().unwrap().len()).collect::<Vec<_>>(), [4, 4, 4, 4, 4, 1]);
    let mut everyone = app.usernames();
    everyone.sort_unstable();
    assert_eq!(pages.iter().flat_map(names).collect::<Vec<_>>(), everyone);
}

#[tokio::test]
async fn a_query_that_cannot_be_is_400_and_echoes_nothing() {
    let (app, root) = app_with_superuser().await;
    let long = format!("search={}", "x".repeat(101));
    for query in [
        "limit=0",
        "limit=101",
        "limit=-1",
        "limit=x",
        "limit=",
        "limit=1.5",
        "limit=4294967297",
        "after=",
        "after=%20a",
        "is_active=1",
        "is_active=TRUE",
        "is_active=",
        "is_staff=yes",
        "is_superuser=null",
        "search=",
        "search=%00",
        "search=a%0Ab",
        "offset=1",
        "ECHO=1",
        "limit=1&limit=1",
        "limit=1&LIMIT=1",
        long.as_str(),
    ] {
        let error = error_of(app.ask(Method::GET, &format!("/api/users?{query}"), &root, None).await, 400).await;
        assert!(error.starts_with("Invalid Data: ") && !error.contains("ECHO"), "{query}: {error}");
    }
    for query in ["before=x", "before=1.0", "before=", "kind=nothing", "kind=", "limit=0", "username=%20a", "ECHO=1"] {
        let error = error_of(app.ask(Method::GET, &format!("/api/events?{query}"), &root, None).await, 400).await;
        assert!(error.starts_with("Invalid Data: ") && !error.contains("ECHO"), "{query}: {error}");
    }
    for query in ["username=root", "actor=root", "before=x"] {
        assert_eq!(
            app.ask(Method::GET, &format!("/api/user/events?{query}"), &root, None).await.status(),
            400,
            "{query}"
        );
    }
}

#[tokio::test]
async fn a_search_finds_a_text_as_it_is_in_names_and_mail_without_regard_to_case() {
    let (app, root) = app_with_superuser().await;
    for (name, first_name, last_name, email) in [
        ("under_score", "Ada", "Lovelace", "ada@example.org"),
        ("underXscore", "Äda", "100%", "Other@Example.COM"),
        ("plain", "back\\slash", "O'Hara", ""),
        ("sharp", "Weißtraße", "", "müller@example.net"),
    ] {
        app.post(
            "/api/register",
            &json!({"username": name, "password": "p", "first_name": first_name, "last_name": last_name, "email": email}),
        )
        .await;
    }
    for (search, found) in [
        ("under_", ["under_score"].as_slice()),
        ("UNDER", &["under_score", "underXscore"]),
        ("a+lovel", &["under_score"]),
        ("example.com", &["underXscore"]),
        ("EXAMPLE", &["sharp", "under_score", "underXscore"]),
        ("%25", &["underXscore"]),
        ("0%25", &["underXscore"]),
        ("_", &["under_score"]),
        ("%5C", &["plain"]),
        ("k%5Cs", &["plain"]),
        ("'", &["plain"]),
        ("' OR 1=1 --", &[]),
        ("%C3%84da", &["underXscore"]),
        ("äda", &["underXscore"]),
        ("a\u{308}DA", &["underXscore"]),
        ("ÄDA+100", &["underXscore"]),
        ("ßTR", &["sharp"]),
        ("WEISSTRASSE", &["sharp"]),
        ("MÜLLER@example", &["sharp"]),
        ("nobody", &[]),
    ] {
        let users = app.get(Method::GET, &format!("/api/users?search={search}"), &root, None).await;
        assert_eq!(names(&users), found, "{search}");
    }
}

#[tokio::test]
async fn staff_see_and_end_the_sessions_of_an_account_by_their_ids() {
    let (app, root) = app_with_superuser().await;
    let tokens = [app.new_user("AzureDiamond").await, session_of(app.log_in("AzureDiamond", "hunter2").await).await.0];
    let others = app.new_user("other").await;
    let path = "/api/users/azureDIAMOND/tokens";
    let text = app.ask(Method::GET, path, &root, None).await.text().await.unwrap();
    assert!(tokens.iter().all(|token| !text.contains(token)), "{text}");
    let seen: Value = serde_json::from_str(&text).unwrap();
    assert!(seen.as_array().unwrap().iter().all(|session| session["current"] == false), "{seen}");
    let own = app.get(Method::GET, "/api/user/tokens", &tokens[0], None).await;
    let id = own.as_array().unwrap().iter().find(|session| session["current"] == true).unwrap()["id"].clone();
    let foreign = app.get(Method::GET, "/api/user/tokens", &others, None).await[0]["id"].clone();
    for id in [&foreign, &json!("0123456789abcdef"), &json!("x")] {
        let path = format!("{path}/{}", id.as_str().unwrap());
        assert_eq!(app.ask(Method::DELETE, &path, &root, None).await.status(), 404, "{id}");
    }
    app.get(Method::DELETE, &format!("{path}/{}", id.as_str().unwrap()), &root, None).await;
    assert_eq!(app.ask(Method::GET, "/api/user", &tokens[0], None).await.status(), 401);
    assert_eq!(app.ask(Method::GET, "/api/user", &tokens[1], None).await.status(), 200);
    app.get(Method::DELETE, path, &root, None).await;
    assert_eq!(app.ask(Method::GET, "/api/user", &tokens[1], None).await.status(), 401);
    assert_eq!(app.ask(Method::GET, "/api/user", &others, None).await.status(), 200);
    assert_eq!(app.get(Method::GET, path, &root, None).await, json!([]));
}

#[tokio::test]
async fn to_end_the_sessions_of_an_account_called_dot_never_deletes_another_one() {
    let app = TestApp::spawn();
    let root = app.new_user("root").await;
    app.make_superuser("root");
    app.new_user(".").await;
    let token = app.new_user("tokens").await;
    // What a client makes of DELETE /api/users/./tokens.
    let response = app.ask(Method::DELETE, "/api/users/tokens", &root, None).await;
    assert_eq!(error_of(response, 400).await, "Invalid Data: an account of this name is deleted at the command line");
    assert_eq!(app.ask(Method::GET, "/api/user", &token, None).await.status(), 200);
}

#[tokio::test]
async fn whoever_has_no_right_is_told_so_whatever_the_query() {
    let app = TestApp::spawn();
    let token = app.new_user("plain").await;
    for path in ["/api/users?limit=0", "/api/users?bogus=1", "/api/events?kind=x", "/api/events?limit=1&limit=2"] {
        assert_eq!(app.ask(Method::GET, path, &token, None).await.status(), 403, "{path}");
    }
}

#[tokio::test]
async fn whoever_has_no_right_is_told_so_before_the_body_is_read() {
    let app = TestApp::spawn();
    let token = app.new_user("plain").await;
    app.new_user("staff").await;
    app.make_staff("staff");
    for target in ["plain", "staff", "nobody", "no%20name"] {
        let path = format!("/api/users/{target}");
        for (content_type, body) in [
            ("application/json", "{"),
            ("application/json", "[]"),
            ("application/json", r#"{"is_active": 1}"#),
            ("text/plain", "{}"),
        ] {
            let request = app.client.patch(app.url(&path)).header("Authorization", format!("Token {token}"));
            let response = request.header("Content-Type", content_type).body(body).send().await.unwrap();
            assert_eq!(response.status(), 403, "{path} {content_type} {body}");
        }
        // The body never comes, and would be too large.
        let head = format!(
            "PATCH {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Token {token}\r\nContent-Type: application/json\r\n\
             Content-Length: 2000000\r\n\r\n"
        );
        app.raw(head).assert_error(403);
    }
}

#[tokio::test]
async fn whoever_has_no_right_is_told_so_before_a_password_is_looked_at_and_for_whatever_name() {
    let app = TestApp::spawn_with(|config| {
        config.rate_limit.enabled = true;
        config.rate_limit.login.count = 1;
        config.password.min_length = 7;
    });
    let token = app.new_user("staff").await;
    app.make_staff("staff");
    app.new_user("plain").await;
    app.new_user("tokens").await;
    for (field, value) in [("is_staff", json!(true)), ("is_superuser", json!(false)), ("is_staff", json!("x"))] {
        for password in ["hunter3", "hunter3", "short"] {
            let change = json!({field: value, "password": password});
            let response = app.ask(Method::PATCH, "/api/users/plain", &token, Some(&change)).await;
            assert_eq!(response.status(), 403, "{change}");
        }
    }
    // None of these has used up one of the address's attempts.
    assert_eq!(app.log_in("plain", "hunter2").await.status(), 200);
    for target in ["plain", "nobody", "a%20b", "%ff", "tokens", "TOKENS"] {
        let response = app.ask(Method::DELETE, &format!("/api/users/{target}"), &token, None).await;
        assert_eq!(response.status(), 403, "{target}");
    }
}
