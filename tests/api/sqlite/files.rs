//! A server and the SQLite file that it is given.

use authtokens::repository::sqlite::SCHEMA_VERSION;
use std::fs;
use std::io::Write as _;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::json;
use tempfile::TempDir;

use crate::helpers::{PATIENCE, RawResponse, START_MILLIS, TestApp, UNKNOWN_TOKEN};
use crate::process::{Server, authtokens, contents, credentials, failure_of, logout, token_of};
use crate::sqlite::OLDER_SCHEMAS;

#[test]
fn the_database_its_wal_and_its_index_are_readable_by_their_owner_only() {
    let folder = tempfile::tempdir().unwrap();
    let mode = |name: &str| fs::metadata(folder.path().join(name)).unwrap().permissions().mode() & 0o777;
    let names = ["data/authtokens.db", "data/authtokens.db-wal", "data/authtokens.db-shm", "data/authtokens.db.lock"];
    {
        let server = Server::start(folder.path(), |_| {});
        assert_eq!(server.ask(&credentials("/api/register", "a")).status(), 201);
        assert_eq!(mode("data"), 0o700);
        for name in names {
            assert_eq!(mode(name), 0o600, "{name}");
        }
    }
    for name in names {
        fs::set_permissions(folder.path().join(name), fs::Permissions::from_mode(0o666)).unwrap();
    }
    let _server = Server::start(folder.path(), |_| {});
    for name in &names[..3] {
        assert_eq!(mode(name), 0o600, "{name} after a start that found it open");
    }
}

/// What a refused start may leave beside the file.
#[derive(Clone, Copy, PartialEq)]
enum NewBeside {
    Nothing,
    /// A database of ours has to be opened to tell its version.
    LockAndIndex,
}

/// Starts on a file that must be refused, and checks that it is left as it was.
fn assert_refused_untouched(folder: &TempDir, reason: &str, is_new_beside: NewBeside) {
    let before = contents(folder.path());
    let (code, sentence) =
        failure_of(authtokens(folder.path()).args(["--listen", "127.0.0.1:0", "--database", "test.db"]));
    assert_eq!(code, 1);
    assert!(sentence.contains("test.db") && sentence.contains(reason), "{sentence}");
    let after = contents(folder.path());
    // The WAL index is shared memory: every reader leaves its mark there.
    for file in before.iter().filter(|(name, _)| !name.ends_with("-shm")) {
        assert!(after.contains(file), "{} is touched", file.0);
    }
    if is_new_beside == NewBeside::Nothing {
        assert_eq!(before.len(), after.len(), "nothing is made beside it");
    }
    let mode = fs::metadata(folder.path().join("test.db")).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o644, "its mode is touched");
}

#[test]
fn a_file_that_is_not_a_database_is_refused_untouched() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("test.db"), "My diary. ".repeat(1_000)).unwrap();
    assert_refused_untouched(&folder, "is not a SQLite database", NewBeside::Nothing);
}

#[test]
fn a_database_of_another_program_is_refused_untouched() {
    let folder = tempfile::tempdir().unwrap();
    let other = rusqlite::Connection::open(folder.path().join("test.db")).unwrap();
    other.execute_batch("CREATE TABLE users (name TEXT); INSERT INTO users VALUES ('theirs')").unwrap();
    assert_refused_untouched(&folder, "another program", NewBeside::Nothing);
    other.pragma_update(None, "journal_mode", "WAL").unwrap();
    other.execute_batch("INSERT INTO users VALUES ('also theirs')").unwrap();
    assert_refused_untouched(&folder, "another program", NewBeside::Nothing);
    drop(other);
    assert_refused_untouched(&folder, "another program", NewBeside::Nothing);
}

#[test]
fn a_database_of_a_newer_schema_is_refused_untouched() {
    let folder = tempfile::tempdir().unwrap();
    drop(Server::start(folder.path(), |command| {
        command.args(["--database", "test.db"]);
    }));
    let path = folder.path().join("test.db");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let newer = rusqlite::Connection::open(&path).unwrap();
    newer.pragma_update(None, "user_version", 1_000).unwrap();
    assert_refused_untouched(&folder, "newer release", NewBeside::LockAndIndex);
    drop(newer);
    assert_refused_untouched(&folder, "newer release", NewBeside::LockAndIndex);
}

#[test]
fn a_second_server_on_the_same_file_is_refused_and_the_first_serves_on() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = Server::start(folder.path(), |_| {});
    let (code, sentence) = failure_of(authtokens(folder.path()).args(["--listen", "127.0.0.1:0"]));
    assert_eq!((code, sentence.as_str()), (1, "data/authtokens.db is in use by another authtokens server"));
    assert_eq!(first.ask(&credentials("/api/register", "a")).status(), 201);
    std::os::unix::fs::symlink("data/authtokens.db", folder.path().join("alias.db")).unwrap();
    let (code, sentence) =
        failure_of(authtokens(folder.path()).args(["--listen", "127.0.0.1:0", "--database", "alias.db"]));
    assert_eq!(code, 1);
    assert!(sentence.ends_with("is in use by another authtokens server"), "{sentence}");
    fs::hard_link(folder.path().join("data/authtokens.db"), folder.path().join("twin.db")).unwrap();
    let (code, sentence) =
        failure_of(authtokens(folder.path()).args(["--listen", "127.0.0.1:0", "--database", "twin.db"]));
    assert_eq!((code, sentence.contains("hard link")), (1, true), "{sentence}");
    fs::remove_file(folder.path().join("twin.db")).unwrap();
    assert_eq!(first.ask(&credentials("/api/register", "b")).status(), 201);
    first.signal("TERM");
    assert!(first.wait().success());
    let next = Server::start(folder.path(), |_| {});
    assert_eq!(next.ask(&credentials("/api/login", "a")).status(), 200, "the file is free again");
}

#[test]
fn a_write_beyond_the_largest_file_that_is_allowed_is_503_and_the_server_lives_on() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), |_| {});
    let token = token_of(&server.ask(&credentials("/api/register", "a")));
    let process = rustix::process::Pid::from_raw(server.child.id().try_into().unwrap());
    let limit = |bytes| {
        let limit = rustix::process::Rlimit { current: bytes, maximum: None };
        rustix::process::prlimit(process, rustix::process::Resource::Fsize, limit).unwrap();
    };
    limit(Some(4_096));
    for _ in 0..3 {
        server.ask(&credentials("/api/register", "b")).assert_error(503);
    }
    let profile = format!("GET /api/user HTTP/1.1\r\nHost: a\r\nAuthorization: Token {token}\r\n\r\n");
    assert_eq!(server.ask(profile.as_bytes()).status(), 200, "reads go on");
    limit(None);
    let deadline = Instant::now() + PATIENCE;
    while server.ask(&credentials("/api/register", "b")).status() != 201 {
        assert!(Instant::now() < deadline, "{}", server.log());
        thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(server.ask(&logout(&token)).status(), 200);
}

#[tokio::test]
async fn the_live_sessions_of_an_older_file_stay_and_are_not_fresh() {
    for (version, schema) in (1..).zip(OLDER_SCHEMAS.iter().copied()) {
        let app = TestApp::spawn_with(|config| {
            let path = &config.database.path;
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            let old = rusqlite::Connection::open(path).unwrap();
            old.execute_batch(schema).unwrap();
            old.execute_batch(&format!("PRAGMA application_id = 0x4175546b; PRAGMA user_version = {version}")).unwrap();
            let digest = authtokens::domain::token::PlainToken::parse(UNKNOWN_TOKEN).unwrap().digest();
            old.execute(
                "INSERT INTO users (username, username_key, password_hash, date_joined, created, modified, last_login) \
                 VALUES ('AzureDiamond', 'azurediamond', ?1, 0, 0, 0, 0)",
                ["$bcrypt-sha256$v=2,t=2b,r=4$QexDYaiSw.PMflDlGeyERe$0JhXa2JmpMTbORvBDFxYcs2.SN09JvW"],
            )
            .unwrap();
            let session = rusqlite::params![digest.as_bytes(), START_MILLIS - 1];
            let insert = "INSERT INTO tokens (digest, user_id, created, last_used, user_agent, ip) \
                VALUES (?1, 1, ?2, ?2, 'Cellar/1.0', '')";
            old.execute(insert, session).unwrap();
        });
        let ask = async |method, path, body| app.ask(method, path, UNKNOWN_TOKEN, body).await.status();
        assert_eq!(ask(Method::GET, "/api/user", None).await, 200, "{version}");
        assert_eq!(ask(Method::DELETE, "/api/user", None).await, 415, "{version}");
        let password = json!({"password": "hunter2"});
        assert_eq!(ask(Method::POST, "/api/user/reauthenticate", Some(&password)).await, 200, "{version}");
        assert_eq!(ask(Method::DELETE, "/api/user", None).await, 200, "{version}");
    }
}

#[tokio::test]
async fn the_addresses_of_an_older_files_accounts_are_known_by_their_keys_and_verified_by_nobody() {
    let addresses = ["", "Azure@EXÄMPLE.example", "jürgen@diamond.example", "azure@exämple.example"];
    // Version 5 has the keys already.
    for (version, schema) in (1..=4).zip(OLDER_SCHEMAS.iter().copied()) {
        let app = TestApp::spawn_with(|config| {
            let path = &config.database.path;
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            let old = rusqlite::Connection::open(path).unwrap();
            old.execute_batch(schema).unwrap();
            old.execute_batch(&format!("PRAGMA application_id = 0x4175546b; PRAGMA user_version = {version}")).unwrap();
            for (number, address) in addresses.iter().enumerate() {
                old.execute(
                    "INSERT INTO users (username, username_key, password_hash, email, date_joined, created, modified, \
                     last_login) VALUES (?1, ?1, ?2, ?3, 0, 0, 0, 0)",
                    rusqlite::params![
                        format!("user{number}"),
                        "$bcrypt-sha256$v=2,t=2b,r=4$QexDYaiSw.PMflDlGeyERe$0JhXa2JmpMTbORvBDFxYcs2.SN09JvW",
                        address
                    ],
                )
                .unwrap();
            }
        });
        let key = "azure@xn--exmple-cua.example";
        let expected = ["-|0".to_owned(), format!("{key}|0"), "-|0".to_owned(), format!("{key}|0")];
        assert_eq!(crate::sqlite::rows(&app, "SELECT email_key, email_verified FROM users ORDER BY id"), expected);
        crate::sqlite::backups::check(&app.database).unwrap();
    }
}

#[test]
fn a_file_of_the_first_schema_is_upgraded_with_all_that_is_in_it_also_when_killed_half_way() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("test.db");
    let old = rusqlite::Connection::open(&path).unwrap();
    old.pragma_update(None, "journal_mode", "WAL").unwrap();
    old.execute_batch(OLDER_SCHEMAS[0]).unwrap();
    // AuTk, and the first version.
    old.execute_batch("PRAGMA application_id = 0x4175546b; PRAGMA user_version = 1").unwrap();
    let digest = authtokens::domain::token::PlainToken::parse(UNKNOWN_TOKEN).unwrap().digest();
    old.execute(
        "INSERT INTO users (username, username_key, password_hash, city, date_joined, created, modified, last_login) \
         VALUES ('AzureDiamond', 'azurediamond', ?1, 'Chicago', 1420411895144, 1420411895144, 1420411895144, \
         1420411895144)",
        ["$bcrypt-sha256$v=2,t=2b,r=4$QexDYaiSw.PMflDlGeyERe$0JhXa2JmpMTbORvBDFxYcs2.SN09JvW"],
    )
    .unwrap();
    let far = 4_102_444_800_000_i64; // 2100: not dead by the machine's clock
    old.execute(
        "INSERT INTO tokens VALUES (?1, 1, ?2, ?2, 'Cellar/1.0', '')",
        rusqlite::params![digest.as_bytes(), far],
    )
    .unwrap();
    old.execute_batch("INSERT INTO cellar VALUES (1, 3, 0), (1, 1, 0); INSERT INTO wants VALUES (1, 5, 0)").unwrap();
    // Many more rows, so that an upgrade takes long enough to be killed.
    old.execute_batch(
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000) \
         INSERT INTO tokens SELECT randomblob(32), 1, 4102444800000 + i, 4102444800000, '', '' FROM n",
    )
    .unwrap();
    drop(old);

    let version = || -> i32 {
        let connection = rusqlite::Connection::open(&path).unwrap();
        let index: String = connection
            .query_row("SELECT sql FROM sqlite_schema WHERE name = 'tokens_by_user'", [], |row| row.get(0))
            .unwrap();
        let version: i32 = connection.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
        let has_events: bool = connection
            .query_row("SELECT count(*) FROM sqlite_schema WHERE name = 'events'", [], |row| row.get(0))
            .unwrap();
        assert_eq!(index.contains("created"), version == SCHEMA_VERSION, "all of the upgrades or none of them");
        assert_eq!(has_events, version == SCHEMA_VERSION, "all of the upgrades or none of them");
        version
    };
    let mut killed_before = 0;
    for micros in (500..30_000).step_by(1_500) {
        let mut child = authtokens(folder.path())
            .args(["--listen", "127.0.0.1:0", "--database", "test.db"])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        thread::sleep(Duration::from_micros(micros));
        child.kill().unwrap();
        child.wait().unwrap();
        if version() == SCHEMA_VERSION {
            break;
        }
        killed_before += 1;
    }
    assert!(killed_before > 0, "the first kill comes before the upgrade is done");

    let server = Server::start(folder.path(), |command| {
        command.args(["--database", "test.db"]);
    });
    assert_eq!(version(), SCHEMA_VERSION);
    let login = server.ask(&credentials("/api/login", "azurediamond"));
    let user = &login.json()["user"];
    assert_eq!((&user["city"], &user["date_joined"]), (&json!("Chicago"), &json!("2015-01-04T22:51:35.144Z")));
    assert_eq!((&user["cellar"], &user["wants"]), (&json!([1, 3]), &json!([5])));
}

#[test]
fn sigterm_sigint_and_sighup_finish_what_was_accepted_checkpoint_the_wal_and_exit_0() {
    for signal in ["TERM", "INT", "HUP"] {
        let folder = tempfile::tempdir().unwrap();
        let mut server = Server::start(folder.path(), |command| {
            command.env("AUTHTOKENS__PASSWORD__BCRYPT_COST", "12");
        });
        assert_eq!(server.ask(&credentials("/api/register", "a")).status(), 201);
        let mut idle = TcpStream::connect(server.address).unwrap();
        idle.write_all(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        assert_eq!(RawResponse::read_from(&mut idle).status(), 200);
        let accepted: Vec<TcpStream> = (0..6)
            .map(|_| {
                let mut stream = TcpStream::connect(server.address).unwrap();
                stream.write_all(&credentials("/api/login", "a")).unwrap();
                stream
            })
            .collect();
        // Accepted means read: give the workers a moment to do so.
        thread::sleep(Duration::from_millis(100));
        server.signal(signal);
        for mut stream in accepted {
            assert_eq!(RawResponse::read_from(&mut stream).status(), 200, "{signal}");
        }
        assert!(server.wait().success(), "{signal}");
        assert!(TcpStream::connect(server.address).is_err());
        let wal = folder.path().join("data/authtokens.db-wal");
        assert_eq!(fs::metadata(wal).map_or(0, |wal| wal.len()), 0, "the WAL is checkpointed and empty");
        let log = server.log();
        assert!(log.contains("stopping") && log.trim_end().ends_with("stopped"), "{log}");
    }
}
