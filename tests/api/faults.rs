//! What the service does when the store fails.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;

use crate::helpers::{TestApp, error_of, session_of, until};

#[tokio::test]
async fn a_damaged_password_hash_is_a_500_for_what_needs_it_and_nothing_else() {
    let app = TestApp::spawn();
    let root = app.new_user("root").await;
    app.make_superuser("root");
    let token = app.new_user("broken").await;
    app.new_user("whole").await;
    let good = app.stored_hash("broken");
    let bcrypt = "$2b$16$QexDYaiSw.PMflDlGeyERe0JhXa2JmpMTbORvBDFxYcs2.SN09JvW";
    let mut hashes: Vec<String> = (0..good.len()).map(|length| good[..length].to_owned()).collect();
    hashes.extend([
        "garbage".to_owned(),
        "\u{0}".to_owned(),
        format!("{good}\u{0}"),
        format!("\u{0}{good}"),
        good.replacen('.', "\u{0}", 1).replacen('/', "\u{0}", 1).replacen("r=4", "r=4\u{0}", 1),
        format!("{good}x"),
        format!(" {good}"),
        "$".repeat(1_000_000),
        format!("{good}{}", "x".repeat(1_000_000)),
        bcrypt.to_owned(),
        "$argon2id$v=19$m=1048576,t=2,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNo".to_owned(),
        "pbkdf2_sha256$10000$salt$hash=".to_owned(),
        good.replacen("r=4", "r=3", 1),
        good.replacen("r=4", "r=32", 1),
        good.replacen("r=4", "r=4294967300", 1),
        good.replacen("r=4", "r=-4", 1),
        good.replacen("v=2", "v=1", 1),
        good.replacen("t=2b", "t=2x", 1),
        format!("{}\u{fc}\u{fc}", &good[..good.len() - 4]),
    ]);
    let wrong = json!({"current_password": "hunter2", "new_password": "hunter3"});
    for (number, hash) in hashes.iter().filter(|hash| app.store.can_store(hash)).enumerate() {
        let shown: String = hash.chars().take(80).collect();
        app.set("broken", |account| account.password_hash.clone_from(hash));
        for password in ["hunter2", ""] {
            let status = if password.is_empty() { 400 } else { 500 };
            let error = error_of(app.log_in("broken", password).await, status).await;
            assert!(!error.contains("hash"), "{shown:?}: {error}");
        }
        if number % 10 == 0 {
            let refused = app.ask(Method::POST, "/api/user/password", &token, Some(&wrong)).await;
            assert_eq!(refused.status(), 500, "{shown:?}");
            let refused = app.ask(Method::DELETE, "/api/user", &token, Some(&json!({"password": "hunter2"}))).await;
            assert_eq!(refused.status(), 500, "{shown:?}");
            assert_eq!(app.ask(Method::GET, "/api/user", &token, None).await.status(), 200, "{shown:?}");
            assert_eq!(app.ask(Method::GET, "/api/users/broken", &root, None).await.status(), 200, "{shown:?}");
            assert_eq!(app.log_in("whole", "hunter2").await.status(), 200, "{shown:?}");
        }
    }
    app.get(Method::PATCH, "/api/users/broken", &root, Some(&json!({"password": "hunter2"}))).await;
    assert_eq!(app.log_in("broken", "hunter2").await.status(), 200, "staff can mend it");
}

#[tokio::test]
async fn failed_attempts_that_could_not_be_stored_are_stored_when_they_can_be() {
    let app = TestApp::spawn_with(|config| config.database.busy_timeout = Duration::from_millis(50));
    let (token, _) = session_of(app.register("AzureDiamond", "hunter2").await).await;
    let lock = app.store.lock();
    for _ in 0..3 {
        assert_eq!(app.log_in("AzureDiamond", "wrong").await.status(), 401, "reads go on");
    }
    assert_eq!(app.log_in("AzureDiamond", "hunter2").await.status(), 503, "a session cannot be written");
    // Longer than it takes the service to try.
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    assert_eq!(app.log_in("nobody", "wrong").await.status(), 401);
    assert_eq!(app.ask(Method::GET, "/api/user", &token, None).await.status(), 200);
    drop(lock);
    until("storing", || app.count_events("login_failed") == 4).await;
    assert_eq!(app.store.failures(), [3]);
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(app.count("events"), 5, "each once");
}

#[tokio::test]
async fn a_lock_that_is_held_for_ten_seconds_refuses_writes_until_it_is_released_and_lets_reads_go_on() {
    let app = TestApp::spawn();
    let root = app.new_user("root").await;
    app.make_superuser("root");
    app.new_user("AzureDiamond").await;
    let before = app.dump();
    let lock = app.store.lock();
    let started = std::time::Instant::now();
    while started.elapsed() < Duration::from_secs(10) {
        let (change, delete, end, register, user) = tokio::join!(
            app.client
                .patch(app.url("/api/users/azurediamond"))
                .header("Authorization", format!("Token {root}"))
                .json(&json!({"is_active": false}))
                .send(),
            app.ask(Method::DELETE, "/api/users/azurediamond", &root, None),
            app.ask(Method::DELETE, "/api/users/azurediamond/tokens", &root, None),
            app.register("new", "hunter2"),
            app.ask(Method::GET, "/api/users/azurediamond", &root, None),
        );
        for refused in [change.unwrap(), delete, end, register] {
            assert!(refused.headers().contains_key("retry-after"));
            error_of(refused, 503).await;
        }
        assert_eq!(user.status(), 200);
        assert_eq!(app.ask(Method::GET, "/api/events", &root, None).await.status(), 200);
    }
    drop(lock);
    assert_eq!(app.dump(), before, "nothing of it happened");
    app.get(Method::PATCH, "/api/users/azurediamond", &root, Some(&json!({"is_active": false}))).await;
    assert_eq!(app.register("new", "hunter2").await.status(), 201);
}
