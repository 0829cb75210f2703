//! A WAL, its index and a database that another program has deleted, replaced, shortened or overwritten, and what such a
//! program may do by SQLite's rules.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::Duration;

use crate::helpers::{RawResponse, TestApp};
use crate::process::{Server, authtokens, credentials, failure_of, run};
use crate::sqlite::connect;

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

/// A server that refused changes and logged why, because of what was done to its database's file with this suffix, and
/// was killed then. A command may have written last.
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
    // A WAL that is checkpointed in full begins again with the next change, whoever makes it.
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
            // A server that stops in good order leaves nothing in the WAL.
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
fn a_stop_checkpoints_no_wal_into_a_database_that_was_emptied_and_no_shortened_wal_into_one() {
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
    // The server checks the file between the two.
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
        let commands: [&[&str]; 5] = [
            &["check"],
            &["backup", "other.db"],
            &["user", "list"],
            &["user", "promote", "before"],
            &["--listen", "127.0.0.1:0"],
        ];
        for arguments in commands {
            let (code, sentence) = failure_of(authtokens(folder.path()).args(arguments));
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
    let other = connect(&app);
    other.busy_timeout(Duration::from_secs(5)).unwrap();
    let other = std::thread::spawn(move || {
        while stopped.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
            other.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
            other.execute("UPDATE users SET modified = modified + 1", []).unwrap();
            // Lets the server have its turn, too.
            std::thread::sleep(Duration::from_millis(10));
        }
    });
    for number in 0..300 {
        assert_eq!(app.register(&format!("user{number}"), "hunter2").await.status(), 201);
    }
    drop(stop);
    other.join().unwrap();
    assert_eq!(app.client.get(app.url("/readyz")).send().await.unwrap().status(), 200);
    assert!(app.store.is_whole());
}
