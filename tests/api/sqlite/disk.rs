//! A disk that is full, read-only, or has lost the file.

use std::fs;
use std::time::Duration;

use reqwest::Method;
use serde_json::json;

use crate::helpers::{TestApp, error_of, left_out, session_of, until};
use crate::sqlite::SmallDisk;

#[tokio::test]
async fn a_full_disk_refuses_whole_writes_and_no_reads_and_takes_writes_again_once_there_is_room() {
    let Some(disk) = SmallDisk::mount(2) else {
        left_out("no file system can be mounted here");
        return;
    };
    let path = disk.0.path().join("test.db");
    let app = TestApp::spawn_with(|config| config.database.path.clone_from(&path));
    let root = app.new_user("root").await;
    app.make_superuser("root");
    app.new_user("AzureDiamond").await;
    let ballast = disk.0.path().join("ballast");
    // As much as there is room for.
    let _ = std::fs::write(&ballast, vec![1; 4 << 20]);
    let mut refused = 0;
    for number in 0..300 {
        let name = format!("user{number}");
        let response = app.register(&name, "hunter2").await;
        let rows = crate::sqlite::rows(
            &app,
            &format!(
                "SELECT (SELECT count(*) FROM users WHERE username = '{name}'), \
             (SELECT count(*) FROM tokens JOIN users ON users.id = user_id WHERE username = '{name}'), \
             (SELECT count(*) FROM events WHERE username = '{name}')"
            ),
        );
        match response.status().as_u16() {
            201 => assert_eq!(rows, ["1|1|1"], "{name}"),
            status => {
                assert_eq!(status, 503, "{name}");
                assert!(response.headers().contains_key("retry-after"));
                assert_eq!(rows, ["0|0|0"], "{name}");
                refused += 1;
            }
        }
        if refused == 3 {
            break;
        }
    }
    assert_eq!(refused, 3, "the disk was full");
    let before = app.dump();
    for (method, path, body) in [
        (Method::PATCH, "/api/users/azurediamond", Some(json!({"is_staff": true, "password": "hunter3"}))),
        (Method::DELETE, "/api/users/azurediamond", None),
        (Method::DELETE, "/api/users/azurediamond/tokens", None),
        (Method::POST, "/api/logoutall", None),
    ] {
        assert_eq!(app.ask(method, path, &root, body.as_ref()).await.status(), 503, "{path}");
        assert_eq!(app.dump(), before, "{path}");
    }
    assert_eq!(app.ask(Method::GET, "/api/users", &root, None).await.status(), 200);
    assert_eq!(app.ask(Method::GET, "/api/user/events", &root, None).await.status(), 200);
    assert_eq!(app.log_in("AzureDiamond", "wrong").await.status(), 401);
    assert_eq!(app.client.get(app.url("/healthz")).send().await.unwrap().status(), 200);
    assert_eq!(app.client.get(app.url("/readyz")).send().await.unwrap().status(), 503);

    std::fs::remove_file(&ballast).unwrap();
    assert_eq!(app.register("room", "hunter2").await.status(), 201);
    app.get(Method::PATCH, "/api/users/azurediamond", &root, Some(&json!({"is_staff": true}))).await;
    until("storing", || app.count_events("login_failed") == 1).await;
    assert!(app.store.is_whole());
    drop(app);
}

#[tokio::test]
async fn a_file_that_turns_read_only_refuses_writes_serves_reads_and_recovers() {
    let app = TestApp::spawn();
    let token = app.new_user("AzureDiamond").await;
    let wal = format!("{}-wal", app.database.display());
    let set = |attribute| {
        let done = std::process::Command::new("chattr").arg(attribute).arg(&app.database).arg(&wal).output();
        done.is_ok_and(|done| done.status.success())
    };
    if !set("+i") {
        set("-i");
        left_out("this user or this file system cannot make a file immutable");
        return;
    }
    let (refused, ready) = (app.register("refused", "hunter2").await, app.client.get(app.url("/readyz")).send().await);
    let read = app.ask(Method::GET, "/api/user/tokens", &token, None).await;
    assert!(set("-i"));
    assert_eq!(
        [refused.status(), ready.unwrap().status(), read.status()].map(|status| status.as_u16()),
        [503, 503, 200]
    );
    assert_eq!(app.count("users"), 1, "no half rows");
    assert_eq!(app.register("taken", "hunter2").await.status(), 201);
}

#[tokio::test]
async fn a_file_that_was_moved_or_deleted_takes_no_more_writes_until_it_is_back() {
    let app = TestApp::spawn();
    let (token, _) = session_of(app.register("AzureDiamond", "hunter2").await).await;
    let elsewhere = app.database.with_extension("elsewhere");
    fs::rename(&app.database, &elsewhere).unwrap();
    error_of(app.register("lost", "hunter2").await, 503).await;
    error_of(app.client.get(app.url("/readyz")).send().await.unwrap(), 503).await;
    assert_eq!(app.ask(Method::GET, "/api/user", &token, None).await.status(), 200, "reads go on");
    fs::rename(&elsewhere, &app.database).unwrap();
    assert_eq!(app.register("kept", "hunter2").await.status(), 201);
    assert_eq!(crate::sqlite::rows(&app, "SELECT username FROM users ORDER BY id"), ["AzureDiamond", "kept"]);
}

#[tokio::test]
async fn a_disk_with_room_for_a_page_and_not_for_a_login_is_not_ready_until_there_is_room_again() {
    let Some(disk) = SmallDisk::mount(2) else {
        left_out("no file system can be mounted here");
        return;
    };
    let path = disk.0.path().join("test.db");
    let app = TestApp::spawn_with(|config| config.database.path.clone_from(&path));
    app.new_user("AzureDiamond").await;
    let ready = async || app.client.get(app.url("/readyz")).send().await.unwrap().status().as_u16();
    let ballast = disk.0.path().join("ballast");
    let _ = fs::write(&ballast, vec![1; 4 << 20]);
    let most = fs::metadata(&ballast).unwrap().len();
    fs::OpenOptions::new().write(true).open(&ballast).unwrap().set_len(most - 3 * 4096).unwrap();
    let mut number = 0;
    while app.register(&format!("user{number}"), "hunter2").await.status() == 201 {
        number += 1;
    }
    for _ in 0..3 {
        assert_eq!(ready().await, 503);
        // For longer than readiness reuses an answer.
        tokio::time::sleep(Duration::from_millis(1_100)).await;
    }
    fs::remove_file(&ballast).unwrap();
    assert_eq!(ready().await, 200);
    assert_eq!(app.register("room", "hunter2").await.status(), 201);
}
