//! Ways into accounts, written behind the service's back: what staff, the operator and a disowned notice make of them, and
//! what the owner is told.

use reqwest::Method;
use rusqlite::{Connection, params};
use serde_json::json;

use super::{connect, rows};
use crate::commands::Machine;
use crate::helpers::{START_MILLIS, TestApp, error_of, until};
use crate::mail::mailbox::Post;

const AZURE: &str = "azure@diamond.example";

/// Gives an account an authenticator app, recovery codes, a passkey and an identity, all of this time.
pub fn add_ways_in(connection: &Connection, username: &str, at: i64) {
    let id: i64 =
        connection.query_row("SELECT id FROM users WHERE username = ?1", [username], |row| row.get(0)).unwrap();
    let unique = id * 1_000_000_000_000_000 + at;
    let credential = format!("credential {unique}");
    let digest = |number: i64| format!("{unique:030}{number:02}").into_bytes();
    let run = |statement, parameters: &[&dyn rusqlite::ToSql]| {
        connection.execute(statement, parameters).unwrap();
    };
    run("INSERT INTO totp VALUES (?1, ?2, ?3, ?3, 0)", params![id, sealed_with(&[0; 8]), at]);
    for number in 0..10 {
        run("INSERT INTO recovery_codes VALUES (?1, ?2, ?3)", params![digest(number), id, at]);
    }
    add_passkey(connection, id, &credential, at);
    let identity = params![format!("subject {unique}"), id, at, sealed_with(&[0; 8])];
    run("INSERT INTO identities VALUES ('https://id.example', ?1, ?2, 'example', '', ?3, ?3, ?4)", identity);
}

fn add_passkey(connection: &Connection, user_id: i64, credential: &str, at: i64) {
    let passkey = params![credential.as_bytes(), user_id, [7_u8; 16], at];
    let statement = "INSERT INTO passkeys VALUES (?1, ?2, ?3, 'diamond.example', 'Key', '{}', ?4, NULL)";
    connection.execute(statement, passkey).unwrap();
}

/// What looks like a secret that was sealed with the key of this id.
pub fn sealed_with(key_id: &[u8]) -> Vec<u8> {
    [&[1], key_id, &[0; 12], &[0; 36]].concat()
}

/// How many authenticator apps, recovery codes, passkeys, identities and revocations there are.
fn counts(app: &TestApp) -> Vec<String> {
    rows(
        app,
        "SELECT (SELECT count(*) FROM totp) || ' ' || (SELECT count(*) FROM recovery_codes) || ' ' \
         || (SELECT count(*) FROM passkeys) || ' ' || (SELECT count(*) FROM identities) || ' ' \
         || (SELECT count(*) FROM revocations)",
    )
}

fn events(app: &TestApp, kind: &str) -> Vec<(String, String)> {
    let events = app.store.events().into_iter().filter(|event| event.kind == kind);
    events.map(|event| (event.actor, event.detail)).collect()
}

#[tokio::test]
async fn staff_remove_the_factors_of_an_account_without_rights_and_its_owner_is_told() {
    let post = Post::spawn();
    let owner = post.new_owner("AzureDiamond", AZURE).await;
    for name in ["Helper", "Root", "Second"] {
        post.app.new_user(name).await;
    }
    add_ways_in(&connect(&post.app), "AzureDiamond", START_MILLIS);
    post.app.make_staff("Helper");
    post.app.make_superuser("Root");
    let staff = post.app.log_in("Helper", "hunter2").await.json::<serde_json::Value>().await.unwrap();
    let staff = staff["token"].as_str().unwrap().to_owned();
    let reset = async |token: &str, name: &str| {
        post.app.ask(Method::POST, &format!("/api/users/{name}/reset-factors"), token, None).await
    };
    assert_eq!(reset(&owner, "AzureDiamond").await.status(), 403, "nobody resets their own");
    assert_eq!(reset(&owner, "nobody").await.status(), 403, "who may not does not learn who there is");
    for name in ["Root", "Helper"] {
        error_of(reset(&staff, name).await, 403).await;
    }
    assert_eq!(reset(&staff, "nobody").await.status(), 404);
    assert_eq!(counts(&post.app), ["1 10 1 1 0"]);

    assert_eq!(reset(&staff, "azurediamond").await.status(), 200);
    assert_eq!(counts(&post.app), ["0 0 0 1 0"], "its identity stays");
    assert_eq!(events(&post.app, "factors_reset"), [("Helper".to_owned(), String::new())]);
    assert_eq!(post.status_of(&owner).await, 200, "so does its session");
    assert_eq!(post.log_in("AzureDiamond", "hunter2").await, 200, "and its password opens it alone");
    let notice = post.mail_to(AZURE).await;
    assert_eq!(notice.subject(), "The second factors of your account at Diamonds were removed");
    assert!(!notice.text().contains("From: "), "where staff work from is not told: {}", notice.text());
}

#[test]
fn the_operator_removes_the_factors_of_any_account() {
    let machine = Machine::with_accounts();
    let database = Connection::open(machine.path().join("data/authtokens.db")).unwrap();
    add_ways_in(&database, "Admin", START_MILLIS);
    assert!(
        machine
            .said("user show Admin")
            .contains("authenticator app since 2015-01-04T22:51:35.144Z, 10 recovery codes left")
    );
    let shown = &machine.json("user show Admin")["security"];
    assert_eq!(
        (&shown["totp"]["enabled"], &shown["passkeys"], &shown["identities"]),
        (&json!(true), &json!(1), &json!(1))
    );
    let said = machine.said("user reset-factors admin");
    assert_eq!(said, "admin has no authenticator app, no recovery codes and no passkeys any more.\n");
    assert_eq!(machine.json("user reset-factors Admin"), json!({"status": "success"}), "again");
    let count: i64 = database.query_row("SELECT count(*) FROM totp", [], |row| row.get(0)).unwrap();
    assert_eq!(count, 0);
    assert_eq!(machine.refused("user reset-factors nobody"), (1, "there is no account named nobody".to_owned()));
    assert!(machine.said("events --kind factors_reset").contains("command line"));
}

#[tokio::test]
async fn an_export_has_the_ways_into_the_account_and_nothing_that_opens_it() {
    let app = TestApp::spawn();
    let token = app.new_user("AzureDiamond").await;
    add_ways_in(&connect(&app), "AzureDiamond", START_MILLIS);
    let export = app.get(Method::GET, "/api/user/export", &token, None).await;
    let at = "2015-01-04T22:51:35.144Z";
    assert_eq!(
        export["security"],
        json!({
            "has_password": true, "totp": {"enabled": true, "since": at}, "recovery_codes": 10, "passkeys": 1,
            "identities": 1, "fresh_until": null,
        })
    );
    let passkey = &export["passkeys"][0];
    assert_eq!(
        (&passkey["name"], &passkey["created"], &passkey["last_used"]),
        (&json!("Key"), &json!(at), &json!(null))
    );
    assert_eq!(passkey["id"].as_str().unwrap().len(), 20);
    let identity = &export["identities"][0];
    assert_eq!((&identity["provider"], &identity["issuer"]), (&json!("example"), &json!("https://id.example")));
    assert!(identity["subject"].as_str().unwrap().starts_with("subject "));
    let keys: Vec<_> = identity.as_object().unwrap().keys().collect();
    assert_eq!(keys.len(), 7, "no refresh token: {keys:?}");
}

#[tokio::test]
async fn a_disowned_notice_takes_away_what_was_added_since_and_nothing_older() {
    let post = Post::spawn();
    let token = post.new_owner("AzureDiamond", AZURE).await;
    add_ways_in(&connect(&post.app), "AzureDiamond", START_MILLIS - 1);
    let body = json!({"current_password": "hunter2", "new_password": "stolen"});
    assert_eq!(post.post("/api/user/password", &token, &body).await.status(), 200);
    let notice = post.mail_to(AZURE).await;
    // What somebody adds at the same moment, and later.
    let id: i64 = connect(&post.app)
        .query_row("SELECT id FROM users WHERE username = 'AzureDiamond'", [], |row| row.get(0))
        .unwrap();
    add_passkey(&connect(&post.app), id, "at once", START_MILLIS);
    add_passkey(&connect(&post.app), id, "later", START_MILLIS + 60_000);
    let later = params![id, START_MILLIS + 1, sealed_with(&[0; 8])];
    let statement = "INSERT INTO identities VALUES ('https://id.example', 'thief', ?1, 'example', '', ?2, ?2, ?3)";
    connect(&post.app).execute(statement, later).unwrap();
    connect(&post.app).execute("UPDATE recovery_codes SET created = ?1", [START_MILLIS]).unwrap();
    assert_eq!(counts(&post.app), ["1 10 3 2 0"]);

    assert_eq!(post.app.post("/api/not-me", &json!({"token": notice.token()})).await.status(), 200);
    assert_eq!(counts(&post.app), ["1 0 1 1 1"], "its refresh token is to be revoked");
    let names = rows(&post.app, "SELECT CAST(credential_id AS TEXT) FROM passkeys");
    assert!(names[0].starts_with("credential "), "{names:?}");
    let disowned = ("AzureDiamond".to_owned(), "disowned".to_owned());
    assert_eq!(events(&post.app, "passkey_removed"), [disowned.clone(), disowned.clone()]);
    assert_eq!(events(&post.app, "identity_unlinked"), [disowned]);
    assert_eq!(events(&post.app, "totp_removed"), []);
    let reset = post.mail_to(AZURE).await;
    assert_eq!(reset.subject(), "Your new password for Diamonds", "no notice of what its owner did");
}

#[tokio::test]
async fn an_app_that_a_thief_has_added_goes_with_the_notice_however_late_that_is_sent() {
    let post = Post::spawn();
    let token = post.new_owner("AzureDiamond", AZURE).await;
    let body = json!({"current_password": "hunter2", "new_password": "stolen"});
    assert_eq!(post.post("/api/user/password", &token, &body).await.status(), 200);
    add_ways_in(&connect(&post.app), "AzureDiamond", START_MILLIS);
    let notice = post.mail_to(AZURE).await;
    assert_eq!(post.app.post("/api/not-me", &json!({"token": notice.token()})).await.status(), 200);
    assert_eq!(counts(&post.app), ["0 0 0 0 1"]);
    assert_eq!(events(&post.app, "totp_removed"), [("AzureDiamond".to_owned(), "disowned".to_owned())]);
}

#[tokio::test]
async fn a_notice_of_an_identity_names_its_provider_and_its_link_ends_all_sessions() {
    let post = Post::spawn();
    let token = post.new_owner("AzureDiamond", AZURE).await;
    // A provider whose name could be the id of a session.
    let notice = "INSERT INTO outbox (kind, user_id, username, recipient, is_verified, request, detail, at, ip, user_agent, \
         link, attempts, due, claims, expires) SELECT 'identity_linked', id, username, email, 1, NULL, 'deadbeefdeadbeef', \
         ?1, '', '', NULL, 0, ?1, 0, ?1 + 86400000 FROM users";
    connect(&post.app).execute(notice, [START_MILLIS]).unwrap();
    assert_eq!(post.app.post("/api/password/forgot", &json!({"username": "nobody"})).await.status(), 202);
    post.app.clock.advance(std::time::Duration::from_secs(60));
    let mail = post.mail_to(AZURE).await;
    assert!(mail.text().contains("a login elsewhere (deadbeefdeadbeef)."), "{}", mail.text());
    assert_eq!(post.app.post("/api/not-me", &json!({"token": mail.token()})).await.status(), 200);
    assert_eq!(post.status_of(&token).await, 401);
}

#[tokio::test]
async fn challenges_that_have_expired_are_pruned_within_minutes() {
    let app = TestApp::spawn();
    let statement = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1200) \
         INSERT INTO challenges SELECT CAST(printf('%032d', i) AS BLOB), 'use_passkey', NULL, '', 0, ?1, ?2 FROM n";
    connect(&app).execute(statement, [START_MILLIS, START_MILLIS + 300_000]).unwrap();
    let count = || rows(&app, "SELECT count(*) FROM challenges");
    for _ in 0..4 {
        app.clock.advance(std::time::Duration::from_secs(60));
    }
    assert_eq!(count(), ["1200"]);
    // Enough of them for one transaction and more.
    app.clock.advance(std::time::Duration::from_secs(61));
    until("pruning", || {
        app.clock.advance(std::time::Duration::from_secs(1));
        count() == ["0"]
    })
    .await;
}
