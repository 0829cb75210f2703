//! What becomes of counted failures after a restart, a new password, or a change by another process.

use std::io::Write as _;
use std::time::{Duration, Instant};

use authtokens::domain::rights::{AccountChange, Actor};
use authtokens::domain::user::{PasswordHash, Username};
use authtokens::server::application::Application;
use authtokens::system::clock::Timestamp;
use reqwest::Method;
use serde_json::json;

use super::{OWNER, STRANGER, accounts_alone, lock_out, lock_out_from, log_in_from, new_owner, post_from, retry_after};
use crate::helpers::{JSON, PATIENCE, RawResponse, START_MILLIS, TestApp, post_bytes, session_of, test_config, until};

#[tokio::test]
async fn failures_at_an_account_survive_a_restart() {
    let app = TestApp::spawn_with(accounts_alone);
    new_owner(&app).await;
    lock_out(&app, "AzureDiamond").await;
    for wait in [1, 2, 4] {
        app.clock.advance(Duration::from_secs(wait));
        assert_eq!(log_in_from(&app, STRANGER, "AzureDiamond", "wrong").await, 401);
    }
    let app = app.restart_with(accounts_alone);
    let refused = post_from(&app, STRANGER, "/api/login", "aZUREdIAMOND", "hunter2").await;
    assert_eq!(retry_after(refused).await, 8);
    assert_eq!(log_in_from(&app, OWNER, "AzureDiamond", "hunter2").await, 200, "a familiar address is known too");
    let app = app.restart_with(accounts_alone);
    lock_out(&app, "AzureDiamond").await;
}

#[tokio::test]
async fn a_failure_is_stored_a_moment_later_whatever_becomes_of_the_process() {
    let app = TestApp::spawn_with(accounts_alone);
    new_owner(&app).await;
    lock_out(&app, "AzureDiamond").await;
    until("storing", || app.store.failures() == [10]).await;
    assert_eq!(log_in_from(&app, OWNER, "AzureDiamond", "hunter2").await, 200);
    assert_eq!(app.count("login_failures"), 0);
}

/// Sets a password as a command on the server does: with a store of its own.
async fn reset_from_another_process(app: &TestApp) {
    let store = app.store.open_beside();
    let hash = PasswordHash::from_stored(app.stored_hash("AzureDiamond"));
    let change = AccountChange { password_hash: Some(hash), ..AccountChange::default() };
    let now = Timestamp::from_millis(START_MILLIS).unwrap();
    let name = Username::parse("AzureDiamond").unwrap();
    assert!(store.change_account(&Actor::CommandLine, &name, change, now).await.unwrap().is_some());
    store.close().await.unwrap();
}

/// Waits until a login from a stranger's address is no longer refused.
async fn until_let_in(app: &TestApp, ip: &str) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match log_in_from(app, ip, "AzureDiamond", "hunter2").await {
            429 => assert!(Instant::now() < deadline, "nobody notices"),
            status => return assert_eq!(status, 200),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn a_password_that_staff_or_a_command_set_clears_the_failures() {
    let app = TestApp::spawn_with(accounts_alone);
    new_owner(&app).await;
    let (root, _) = session_of(post_from(&app, OWNER, "/api/register", "root", "hunter2").await).await;
    app.make_superuser("root");
    lock_out(&app, "AzureDiamond").await;
    let reset = json!({"password": "hunter2"});
    app.get(Method::PATCH, "/api/users/AZUREdiamond", &root, Some(&reset)).await;
    assert_eq!(log_in_from(&app, STRANGER, "AzureDiamond", "hunter2").await, 200, "at once");
    // Long enough for the service to notice its own reset once more.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let other = "198.51.100.1";
    lock_out_from(&app, other, "AzureDiamond").await;
    reset_from_another_process(&app).await;
    until_let_in(&app, other).await;
}

#[tokio::test]
async fn failures_right_before_a_new_password_do_not_come_back_with_the_next_restart() {
    let app = TestApp::spawn_with(accounts_alone);
    let token = new_owner(&app).await;
    let (root, _) = session_of(post_from(&app, OWNER, "/api/register", "root", "hunter2").await).await;
    app.make_superuser("root");
    let own = json!({"current_password": "hunter2", "new_password": "hunter2"});
    let stored = || app.count_events("login_failed");
    for (method, path, token, body, failures) in [
        (Method::POST, "/api/user/password", &token, own, 10),
        (Method::PATCH, "/api/users/azurediamond", &root, json!({"password": "hunter2"}), 20),
    ] {
        lock_out(&app, "AzureDiamond").await;
        app.get(method, path, token, Some(&body)).await;
        until("storing", || stored() == failures).await;
        assert_eq!(app.count("login_failures"), 0, "{path}");
    }
    lock_out(&app, "AzureDiamond").await;
    reset_from_another_process(&app).await;
    until("storing", || stored() == 30).await;
    assert_eq!(app.count("login_failures"), 0, "a command's");
}

#[tokio::test]
async fn a_password_that_a_command_sets_right_after_a_start_clears_the_failures() {
    let app = TestApp::spawn_with(accounts_alone);
    new_owner(&app).await;
    lock_out(&app, "AzureDiamond").await;
    let app = app.restart_with(accounts_alone);
    assert_eq!(log_in_from(&app, STRANGER, "AzureDiamond", "hunter2").await, 429);
    reset_from_another_process(&app).await;
    until_let_in(&app, STRANGER).await;
}

#[tokio::test]
async fn no_password_is_tried_before_the_failures_are_known_again() {
    let app = TestApp::spawn_with(accounts_alone);
    new_owner(&app).await;
    lock_out(&app, "AzureDiamond").await;
    until("storing", || app.store.failures() == [10]).await;
    let folder = tempfile::tempdir().unwrap();
    app.store.copy_to(&test_config(&folder));
    let (address_of, address) = std::sync::mpsc::channel();
    let (go_on, may_go_on) = std::sync::mpsc::channel::<()>();
    let clock = app.clock.clone();
    let serving = std::thread::spawn(move || {
        let mut config = test_config(&folder);
        accounts_alone(&mut config);
        actix_rt::System::new().block_on(async move {
            let application = Application::build(&config, clock).await.unwrap();
            address_of.send(application.address()).unwrap();
            // The server can be reached, and is not yet served.
            may_go_on.recv().unwrap();
            application.run_until_stopped(tokio::time::sleep(Duration::from_secs(1))).await.unwrap();
        });
    });
    let address = address.recv().unwrap();
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    let body = json!({"username": "AzureDiamond", "password": "wrong"}).to_string();
    stream.write_all(&post_bytes("/api/login", &format!("{JSON}X-Forwarded-For: {STRANGER}\r\n"), body)).unwrap();
    std::thread::sleep(Duration::from_millis(500));
    go_on.send(()).unwrap();
    assert_eq!(RawResponse::read_from(&mut stream).status(), 429);
    serving.join().unwrap();
}
