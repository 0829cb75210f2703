//! What the service does when what lies under it fails.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use reqwest::Method;
use serde_json::json;

use crate::helpers::{RawResponse, TestApp, error_of, left_out, session_of, until};
use crate::process::{Server, authtokens, credentials, refusal, run};

#[tokio::test]
async fn a_damaged_password_hash_is_a_500_for_what_needs_it_and_nothing_else() {
    let app = TestApp::spawn();
    let root = app.new_user("root").await;
    app.set("root", "is_superuser = 1");
    let token = app.new_user("broken").await;
    app.new_user("whole").await;
    let good = app.rows("SELECT password_hash FROM users WHERE username = 'broken'").remove(0);
    let bcrypt = "$2b$04$QexDYaiSw.PMflDlGeyERe0JhXa2JmpMTbORvBDFxYcs2.SN09JvW";
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
        "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNo".to_owned(),
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
    for (number, hash) in hashes.iter().enumerate() {
        let shown: String = hash.chars().take(80).collect();
        app.sqlite().execute("UPDATE users SET password_hash = ?1 WHERE username = 'broken'", [hash]).unwrap();
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
async fn refused_attempts_that_could_not_be_stored_are_stored_when_they_can_be() {
    let app = TestApp::spawn_with(|config| config.database.busy_timeout = Duration::from_millis(50));
    let (token, _) = session_of(app.register("AzureDiamond", "hunter2").await).await;
    let other = app.sqlite();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    for _ in 0..3 {
        assert_eq!(app.log_in("AzureDiamond", "wrong").await.status(), 401, "reads go on");
    }
    assert_eq!(app.log_in("AzureDiamond", "hunter2").await.status(), 503, "a session cannot be written");
    // For longer than it takes the service to try.
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    assert_eq!(app.log_in("nobody", "wrong").await.status(), 401);
    assert_eq!(app.ask(Method::GET, "/api/user", &token, None).await.status(), 200);
    other.execute_batch("ROLLBACK").unwrap();
    until("storing", || app.rows("SELECT count(*) FROM events WHERE kind = 'login_failed'") == ["4"]).await;
    assert_eq!(app.rows("SELECT failures FROM login_failures"), ["3"]);
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(app.count("events"), 5, "each once");
}

#[tokio::test]
async fn a_lock_that_is_held_for_ten_seconds_refuses_writes_lets_reads_go_on_and_is_forgotten() {
    let app = TestApp::spawn();
    let root = app.new_user("root").await;
    app.set("root", "is_superuser = 1");
    app.new_user("AzureDiamond").await;
    let before = app.dump();
    let other = app.sqlite();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
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
    other.execute_batch("ROLLBACK").unwrap();
    assert_eq!(app.dump(), before, "nothing of it happened");
    app.get(Method::PATCH, "/api/users/azurediamond", &root, Some(&json!({"is_active": false}))).await;
    assert_eq!(app.register("new", "hunter2").await.status(), 201);
}

/// A small file system of its own; gone when it goes out of scope.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=2m", "tmpfs"]).arg(folder.path()).output();
        mounted.is_ok_and(|output| output.status.success()).then(|| Self(folder))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["-l"]).arg(self.0.path()).output();
    }
}

#[tokio::test]
async fn a_full_disk_refuses_writes_whole_lets_reads_go_on_and_is_forgotten_when_there_is_room_again() {
    let Some(disk) = SmallDisk::mount() else {
        left_out("no file system can be mounted here");
        return;
    };
    let path = disk.0.path().join("test.db");
    let app = TestApp::spawn_with(|config| config.database.path.clone_from(&path));
    let root = app.new_user("root").await;
    app.set("root", "is_superuser = 1");
    app.new_user("AzureDiamond").await;
    let ballast = disk.0.path().join("ballast");
    // As much as there is room for.
    let _ = std::fs::write(&ballast, vec![1; 4 << 20]);
    let mut refused = 0;
    for number in 0..300 {
        let name = format!("user{number}");
        let response = app.register(&name, "hunter2").await;
        let rows = app.rows(&format!(
            "SELECT (SELECT count(*) FROM users WHERE username = '{name}'), \
             (SELECT count(*) FROM tokens JOIN users ON users.id = user_id WHERE username = '{name}'), \
             (SELECT count(*) FROM events WHERE username = '{name}')"
        ));
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
    until("storing", || app.rows("SELECT count(*) FROM events WHERE kind = 'login_failed'") == ["1"]).await;
    assert_eq!(app.rows("PRAGMA integrity_check"), ["ok"]);
    drop(app);
}

#[tokio::test]
async fn a_file_that_turns_read_only_refuses_writes_serves_reads_and_recovers() {
    let app = TestApp::spawn();
    let token = app.new_user("AzureDiamond").await;
    let log = format!("{}-wal", app.database.display());
    let set = |attribute| {
        let done = std::process::Command::new("chattr").arg(attribute).arg(&app.database).arg(&log).output();
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
    assert_eq!(app.rows("SELECT username FROM users ORDER BY id"), ["AzureDiamond", "kept"]);
}

#[tokio::test]
async fn a_disk_with_room_for_a_page_and_not_for_a_login_is_not_ready_until_there_is_room_again() {
    let Some(disk) = SmallDisk::mount() else {
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
        // For longer than an answer is believed.
        tokio::time::sleep(Duration::from_millis(1_100)).await;
    }
    fs::remove_file(&ballast).unwrap();
    assert_eq!(ready().await, 200);
    assert_eq!(app.register("room", "hunter2").await.status(), 201);
}

fn ready(server: &Server) -> u16 {
    server.ask(b"GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n").status()
}

fn register(server: &Server, username: &str) -> RawResponse {
    server.ask(&credentials("/api/register", username))
}

/// Waits until a server has said this; all that it has said by then.
fn said(server: &Server, what: &str) -> String {
    let since = std::time::Instant::now();
    loop {
        let said = server.log();
        if said.contains(what) {
            return said;
        }
        assert!(since.elapsed() < crate::helpers::PATIENCE, "{what}: {said}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A command that changes something beside the server in this folder.
fn write_by_command(folder: &Path) {
    assert!(run(authtokens(folder).args(["user", "promote", "before"])).status.success());
}

/// A server that has taken changes, its own or also those of a command.
fn written(folder: &Path, by_command: bool) -> Server {
    let server = Server::start(folder, |_| {});
    assert_eq!(register(&server, "before").status(), 201);
    if by_command {
        write_by_command(folder);
    }
    server
}

/// A server, killed when it has refused changes and told why, because of what was done to the file that is named like its
/// database and this. A command may have written last.
fn refused_after(suffix: &str, folder: &Path, by_command: bool, harm: impl FnOnce(&Path), why: &[&str]) {
    let server = written(folder, by_command);
    harm(&folder.join(format!("data/authtokens.db{suffix}")));
    // What is no database any more is found to be none once.
    assert!([500, 503].contains(&register(&server, "lost").status()));
    register(&server, "lost").assert_error(503);
    assert_eq!(ready(&server), 503);
    for why in why {
        said(&server, why);
    }
    let told = server.log().lines().filter(|line| line.contains("repository::sqlite::guard")).count();
    assert_eq!(told, 1, "{}", server.log());
}

/// The same, and the server that was started after it.
fn killed_after(suffix: &str, folder: &Path, by_command: bool, harm: impl FnOnce(&Path), why: &[&str]) -> Server {
    refused_after(suffix, folder, by_command, harm, why);
    Server::start(folder, |_| {})
}

fn accounts(server: &Server) -> [u16; 2] {
    ["before", "lost"].map(|name| server.ask(&credentials("/api/login", name)).status())
}

#[test]
fn what_was_acknowledged_outlives_a_wal_that_was_deleted_moved_or_replaced_and_nothing_more_is() {
    let harms: [fn(&Path); 3] = [
        |wal| fs::remove_file(wal).unwrap(),
        |wal| fs::rename(wal, wal.with_extension("elsewhere")).unwrap(),
        |wal| {
            fs::write(wal.with_extension("other"), "").unwrap();
            fs::rename(wal.with_extension("other"), wal).unwrap();
        },
    ];
    for (harm, by_command) in harms.into_iter().flat_map(|harm| [(harm, false), (harm, true)]) {
        let folder = tempfile::tempdir().unwrap();
        let why = [
            "the WAL of the database (-wal) was moved, deleted or replaced",
            "what the lost WAL held is saved in the database",
        ];
        let server = killed_after("-wal", folder.path(), by_command, harm, &why);
        assert_eq!(accounts(&server), [200, 401]);
        assert_eq!(register(&server, "after").status(), 201);
    }
}

#[test]
fn what_a_lost_wal_holds_is_not_saved_over_what_another_program_has_written_to_a_new_one() {
    let folder = tempfile::tempdir().unwrap();
    let server = written(folder.path(), false);
    let database = folder.path().join("data/authtokens.db");
    // A WAL that is in the database begins again with the next change, whoever makes it.
    let open = || rusqlite::Connection::open(&database).unwrap();
    open().query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())).unwrap();
    fs::remove_file(folder.path().join("data/authtokens.db-wal")).unwrap();
    open().execute("UPDATE users SET email = 'other@example.com'", []).unwrap();
    register(&server, "lost").assert_error(503);
    said(&server, "what the lost WAL holds is not saved");
    drop(server);
    let server = Server::start(folder.path(), |_| {});
    assert_eq!(accounts(&server), [200, 401]);
    let found: String = open().query_row("SELECT email FROM users", [], |row| row.get(0)).unwrap();
    assert_eq!(found, "other@example.com");
}

fn set_length(file: &Path, length: u64) {
    fs::OpenOptions::new().write(true).open(file).unwrap().set_len(length).unwrap();
}

/// A WAL's header, and a frame with its own.
const WAL_HEADER: u64 = 32;
const FRAME: u64 = 24 + 4096;

#[test]
fn a_wal_that_another_program_has_shortened_or_overwritten_takes_no_more_changes() {
    let harms: [fn(&Path); 6] = [
        |wal| set_length(wal, 0),
        |wal| set_length(wal, WAL_HEADER),
        |wal| set_length(wal, WAL_HEADER + FRAME),
        |wal| set_length(wal, fs::metadata(wal).unwrap().len() - 1),
        |wal| {
            let length = fs::metadata(wal).unwrap().len();
            fs::write(wal, vec![7; usize::try_from(length).unwrap()]).unwrap();
        },
        // The frame of the last commit alone.
        |wal| {
            let file = fs::OpenOptions::new().write(true).open(wal).unwrap();
            let end = file.metadata().unwrap().len();
            file.write_all_at(&[0; 24], end - FRAME).unwrap();
        },
    ];
    for (harm, by_command) in harms.into_iter().flat_map(|harm| [(harm, false), (harm, true)]) {
        let folder = tempfile::tempdir().unwrap();
        let why = "another program has shortened or overwritten the WAL";
        let server = killed_after("-wal", folder.path(), by_command, harm, &[why]);
        assert_eq!(register(&server, "after").status(), 201, "what is left is whole");
    }
}

#[test]
fn a_server_whose_wal_was_shortened_is_not_ready_though_nobody_has_changed_anything_since() {
    for by_command in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let server = written(folder.path(), by_command);
        set_length(&folder.path().join("data/authtokens.db-wal"), WAL_HEADER + FRAME);
        assert_eq!(ready(&server), 503);
    }
}

#[test]
fn a_database_that_was_emptied_or_shortened_takes_no_more_changes() {
    for (length, in_database) in [(0, false), (0, true), (4096, true)] {
        let folder = tempfile::tempdir().unwrap();
        let mut server = written(folder.path(), false);
        if in_database {
            // What is stopped in order leaves nothing in the WAL.
            server.signal("TERM");
            assert!(server.wait().success());
            server = Server::start(folder.path(), |_| {});
            assert_eq!(register(&server, "acknowledged").status(), 201);
        }
        set_length(&folder.path().join("data/authtokens.db"), length);
        // What is no database any more is found to be none once.
        assert!([500, 503].contains(&register(&server, "lost").status()), "{length}");
        register(&server, "lost").assert_error(503);
        assert_eq!(ready(&server), 503);
        said(&server, "another program has emptied or shortened the database");
        // In order or not.
        server.signal("TERM");
        server.wait();
        assert!(fs::metadata(folder.path().join("data/authtokens.db-wal")).unwrap().len() > 0, "it is kept");
    }
}

#[test]
fn a_stop_moves_no_wal_into_a_database_that_was_emptied_and_no_shortened_wal_into_one() {
    for suffix in ["", "-wal"] {
        let folder = tempfile::tempdir().unwrap();
        let mut server = written(folder.path(), false);
        let wal = folder.path().join("data/authtokens.db-wal");
        let length = if suffix.is_empty() { 0 } else { fs::metadata(&wal).unwrap().len() - 1 };
        set_length(&folder.path().join(format!("data/authtokens.db{suffix}")), length);
        let before = fs::read(&wal).unwrap();
        server.signal("TERM");
        server.wait();
        said(&server, "another program has");
        assert_eq!(fs::read(&wal).unwrap(), before, "{suffix}");
    }
}

#[test]
fn a_database_that_another_program_makes_shorter_by_the_rules_goes_on_taking_changes() {
    let folder = tempfile::tempdir().unwrap();
    let server = written(folder.path(), false);
    let database = folder.path().join("data/authtokens.db");
    let other = rusqlite::Connection::open(&database).unwrap();
    other.busy_timeout(Duration::from_secs(5)).unwrap();
    let truncate = || other.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    let length = || fs::metadata(&database).unwrap().len();
    other.execute_batch("CREATE TABLE large (a BLOB); INSERT INTO large VALUES (zeroblob(1000000))").unwrap();
    truncate();
    assert_eq!(register(&server, "first").status(), 201);
    let before = length();
    other.execute_batch("DROP TABLE large; VACUUM").unwrap();
    // The server looks between the two.
    assert_eq!(register(&server, "second").status(), 201);
    truncate();
    assert!(length() < before - 900_000);
    assert_eq!(register(&server, "third").status(), 201);
    assert_eq!(ready(&server), 200);
    assert!(!server.log().contains("ERROR"), "{}", server.log());
}

#[test]
fn a_wal_beside_an_empty_or_missing_database_is_deleted_by_nobody() {
    for is_missing in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join("data").join(name);
        let (database, wal) = (path("authtokens.db"), path("authtokens.db-wal"));
        let server = written(folder.path(), false);
        assert!(run(authtokens(folder.path()).args(["backup", "good.db"])).status.success());
        drop(server);
        let content = fs::read(&wal).unwrap();
        assert!(!content.is_empty());
        if is_missing {
            fs::remove_file(&database).unwrap();
        } else {
            set_length(&database, 0);
        }
        let commands: [&[&str]; 5] =
            [&["check"], &["backup", "other.db"], &["user", "list"], &["user", "promote", "before"], &[]];
        for arguments in commands {
            let (code, sentence) = refusal(authtokens(folder.path()).args(arguments));
            assert_eq!(code, 1, "{arguments:?}");
            // A command that makes no database says that there is none.
            let is_told = sentence.contains("restore a backup") || (is_missing && sentence.contains("no database"));
            assert!(is_told, "{arguments:?}: {sentence}");
            assert_eq!(fs::read(&wal).unwrap(), content, "{arguments:?}");
        }
        assert!(run(authtokens(folder.path()).args(["restore", "--yes", "good.db"])).status.success());
        let kept = fs::read_dir(folder.path().join("data")).unwrap().map(|entry| entry.unwrap().path());
        let kept: Vec<_> = kept.filter(|path| path.to_str().unwrap().ends_with("-wal")).collect();
        assert_eq!(kept.iter().map(|path| fs::read(path).unwrap()).collect::<Vec<_>>(), [content]);
        assert_eq!(accounts(&Server::start(folder.path(), |_| {})), [200, 401]);
    }
}

#[test]
fn a_wal_index_that_was_deleted_loses_neither_the_servers_changes_nor_another_programs() {
    let folder = tempfile::tempdir().unwrap();
    let harm = |index: &Path| {
        fs::remove_file(index).unwrap();
        let other = rusqlite::Connection::open(index.with_file_name("authtokens.db")).unwrap();
        other.execute("UPDATE users SET email = 'other@example.com'", []).unwrap();
    };
    let why = "the WAL index of the database (-shm) was moved, deleted or replaced";
    let server = killed_after("-shm", folder.path(), false, harm, &[why]);
    assert_eq!(accounts(&server), [200, 401]);
    let database = rusqlite::Connection::open(folder.path().join("data/authtokens.db")).unwrap();
    let found: String = database.query_row("SELECT email FROM users", [], |row| row.get(0)).unwrap();
    assert_eq!(found, "other@example.com");
}

#[test]
fn what_a_wal_held_that_was_deleted_while_nobody_changed_anything_is_saved_when_readiness_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), |_| {});
    assert_eq!(register(&server, "before").status(), 201);
    fs::remove_file(folder.path().join("data/authtokens.db-wal")).unwrap();
    assert_eq!(ready(&server), 503);
    said(&server, "what the lost WAL held is saved in the database");
    drop(server);
    assert_eq!(accounts(&Server::start(folder.path(), |_| {})), [200, 401]);
}

#[tokio::test]
async fn another_program_that_changes_checkpoints_and_truncates_by_the_rules_does_no_harm() {
    let app = TestApp::spawn();
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let other = app.sqlite();
    other.busy_timeout(Duration::from_secs(5)).unwrap();
    let other = std::thread::spawn(move || {
        while stopped.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
            other.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
            other.execute("UPDATE users SET modified = modified + 1", []).unwrap();
            // Its turn is the server's, too.
            std::thread::sleep(Duration::from_millis(2));
        }
    });
    for number in 0..300 {
        assert_eq!(app.register(&format!("user{number}"), "hunter2").await.status(), 201);
    }
    drop(stop);
    other.join().unwrap();
    assert_eq!(app.client.get(app.url("/readyz")).send().await.unwrap().status(), 200);
    assert_eq!(app.rows("PRAGMA integrity_check"), ["ok"]);
}

#[test]
fn what_lies_under_a_failure_in_the_background_is_in_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), |command| {
        command.env("AUTHTOKENS__DATABASE__BUSY_TIMEOUT", "50ms");
    });
    let other = rusqlite::Connection::open(folder.path().join("data/authtokens.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    server.ask(&credentials("/api/login", "nobody")).assert_error(401);
    said(&server, "1 refused attempts could not be stored: the store cannot do this now: database is locked");
}
