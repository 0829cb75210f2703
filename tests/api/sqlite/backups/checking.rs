//! What a check of a file tells, and what opening one leaves beside it.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use authtokens::repository::sqlite::SCHEMA_VERSION;
use authtokens::repository::sqlite::backup;
use authtokens::repository::{Existing, Stop};
use rusqlite::Connection;
use rusqlite::config::DbConfig;

use super::{Stopped, check, command, mode, names, restore, rows, sentence, stopped};
use crate::helpers::{PATIENCE, TestApp, left_out};
use crate::process::{Server, credentials, failure_of, program, run};
use crate::sqlite::OLDER_SCHEMAS;
use crate::sqlite::SmallDisk;
use crate::sqlite::connect;

#[tokio::test]
async fn a_check_tells_what_a_running_servers_file_holds_and_changes_nothing() {
    let app = TestApp::spawn();
    app.new_user("AzureDiamond").await;
    let report = check(&app.database).unwrap();
    assert_eq!(["users", "tokens", "cellar", "wants"].map(|table| rows(&report, table)), [1, 1, 0, 0]);
    assert_eq!(report.size(), report.pages * report.page_size);
    let version: i32 = connect(&app).pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
    assert_eq!(report.schema_version, version);
    assert_eq!(app.register("b", "hunter2").await.status(), 201);
}

#[tokio::test]
async fn neither_a_backup_nor_a_check_reads_the_database_by_a_name_without_its_wal() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), |_| {});
    assert_eq!(server.ask(&credentials("/api/register", "AzureDiamond")).status(), 201);
    let twin = folder.path().join("twin.db");
    fs::hard_link(folder.path().join("data/authtokens.db"), &twin).unwrap();
    for arguments in ["check twin.db", "backup copy.db --database twin.db", "check --database twin.db"] {
        let said = failure_of(&mut command(folder.path(), arguments));
        assert_eq!(said, (1, "twin.db has another name (a hard link): a database must have one".to_owned()));
    }
    assert_eq!(names(folder.path()), ["data", "stderr.log", "twin.db"]);
    // The server's own name is as good as it was, and a backup may have many.
    assert!(run(&mut command(folder.path(), "backup copy.db")).status.success());
    fs::hard_link(folder.path().join("copy.db"), folder.path().join("second.db")).unwrap();
    assert!(run(&mut command(folder.path(), "check second.db")).status.success());
}

#[tokio::test]
async fn a_database_on_a_disk_that_cannot_be_written_is_read_or_the_sentence_says_why_not() {
    let Some(disk) = SmallDisk::mount(1) else {
        left_out("only root can make a small disk");
        return;
    };
    let Stopped { folder, database, .. } = stopped().await;
    // Its name has what a URI must not.
    let small = disk.0.path().join("50%?#é.db");
    fs::copy(&database, &small).unwrap();
    let name = small.to_str().unwrap();
    let remount = |how| {
        assert!(Command::new("mount").args(["-o", how]).arg(disk.0.path()).status().unwrap().success());
    };
    remount("remount,ro");
    assert_eq!(rows(&check(&small).unwrap(), "users"), 0);
    assert!(run(command(folder.path(), "backup copy.db --database").arg(name)).status.success());
    let said = failure_of(command(folder.path(), "user list --database").arg(name));
    assert_eq!(said, (1, format!("cannot use {name}: it is on a read-only file system")));
    remount("remount,rw");
    fs::write(format!("{name}-wal"), "a WAL").unwrap();
    remount("remount,ro");
    assert!(sentence(check(&small)).starts_with("cannot read "), "its WAL cannot be left out");
    remount("remount,rw");
    fs::remove_file(format!("{name}-wal")).unwrap();

    let mut filler = File::create(disk.0.path().join("filler")).unwrap();
    while filler.write_all(&[0; 512]).is_ok() {}
    assert_eq!(rows(&check(&small).unwrap(), "users"), 0, "a copy needs no index");
    let expected = format!("cannot use {name}: there is no room for its index beside it");
    assert_eq!(failure_of(command(folder.path(), "user list --database").arg(name)), (1, expected));
}

#[tokio::test]
async fn a_backup_of_an_older_schema_that_lacks_a_part_is_not_called_whole() {
    let folder = tempfile::tempdir().unwrap();
    for (version, schema) in (1..).zip(OLDER_SCHEMAS.iter().copied()) {
        for (spoil, finding) in [
            ("", None),
            ("DROP TABLE wants", Some("the table wants is missing")),
            ("ALTER TABLE users RENAME COLUMN city TO town", Some("the table users differs")),
            ("DROP TABLE tokens", Some("the table tokens is missing")),
        ] {
            let old = folder.path().join("old.db");
            let _ = fs::remove_file(&old);
            let first = Connection::open(&old).unwrap();
            first.execute_batch(schema).unwrap();
            first.execute_batch("PRAGMA application_id = 0x4175546b").unwrap();
            first.pragma_update(None, "user_version", version).unwrap();
            first.execute_batch(spoil).unwrap();
            drop(first);
            let database = folder.path().join(format!("data-{version}/authtokens.db"));
            match finding {
                None => {
                    assert_eq!(check(&old).unwrap().schema_version, version);
                    restore(&old, &database).unwrap();
                    fs::remove_file(&database).unwrap();
                }
                Some(finding) => {
                    assert!(sentence(check(&old)).contains(finding), "{version} {spoil}: {}", sentence(check(&old)));
                    assert!(sentence(restore(&old, &database)).contains(finding));
                    assert!(!database.exists());
                }
            }
        }
    }
}

#[tokio::test]
async fn a_check_leaves_nothing_beside_a_copy_that_has_lost_its_wal() {
    let Stopped { folder, database, .. } = stopped().await;
    let copies = folder.path().join("copies");
    fs::create_dir(&copies).unwrap();
    let copy = copies.join("50%?#é.db");
    fs::copy(&database, &copy).unwrap();
    let writer = Connection::open(&database).unwrap();
    let mode: String = writer.pragma_query_value(None, "journal_mode", |row| row.get(0)).unwrap();
    assert_eq!(mode, "wal", "it says that it has a WAL");
    drop(writer);
    assert_eq!(rows(&check(&copy).unwrap(), "users"), 0);
    restore(&copy, &folder.path().join("new/authtokens.db")).unwrap();
    assert_eq!(names(&copies), ["50%?#é.db"]);
    backup::back_up(&database, &copy, Existing::Replace, &Stop::default(), &mut |_| {}).unwrap();
    // One that somebody has open has its WAL beside it, and is read with it.
    let other = copies.join("other.db");
    fs::copy(&database, &other).unwrap();
    let open = Connection::open(&other).unwrap();
    open.execute_batch("DELETE FROM events; INSERT INTO events VALUES (1, 0, 'throttled', NULL, '', '', '', '')")
        .unwrap();
    assert_eq!(rows(&check(&other).unwrap(), "events"), 1);
}

#[tokio::test]
async fn what_cannot_be_opened_leaves_nothing_beside_it() {
    let folder = tempfile::tempdir().unwrap();
    let said = |arguments: &str| failure_of(&mut command(folder.path(), arguments)).1;
    for arguments in ["check", "backup copy.db"] {
        assert_eq!(said(arguments), "there is no database at data/authtokens.db", "{arguments}");
    }
    assert!(said("restore nofile --yes").starts_with("cannot read nofile: "));
    assert_eq!(names(folder.path()), Vec::<String>::new());

    let newer = Connection::open(folder.path().join("newer.db")).unwrap();
    newer.execute_batch("PRAGMA application_id = 0x4175546b; PRAGMA user_version = 1000").unwrap();
    drop(newer);
    assert!(Command::new("mkfifo").arg(folder.path().join("fifo")).status().unwrap().success());
    symlink("fifo", folder.path().join("link")).unwrap();
    let before = names(folder.path());
    for arguments in ["serve --listen 127.0.0.1:0 --database newer.db", "user list --database newer.db"] {
        assert!(said(arguments).starts_with("cannot use newer.db: its schema is version 1000"), "{arguments}");
    }
    for name in ["fifo", "link"] {
        for arguments in ["serve --listen 127.0.0.1:0", "user list", "restore newer.db --yes"] {
            assert_eq!(said(&format!("{arguments} --database {name}")), format!("{name} is not a plain file"));
        }
        assert_eq!(said(&format!("check {name}")), format!("{name} is not a SQLite database"));
    }
    assert_eq!(names(folder.path()), before);
}

#[tokio::test]
async fn a_database_behind_a_link_is_closed_to_others_with_all_that_is_beside_it() {
    let Stopped { folder, database, .. } = stopped().await;
    let link = folder.path().join("link.db");
    symlink(&database, &link).unwrap();
    let beside = |suffix: &str| PathBuf::from(format!("{}{suffix}", database.display()));
    // Something of the link's own name with such a suffix is nobody's lock.
    fs::write(folder.path().join("link.db.lock"), "").unwrap();
    let killed = Connection::open(&database).unwrap();
    killed.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).unwrap();
    killed.pragma_update(None, "user_version", SCHEMA_VERSION).unwrap();
    for suffix in ["", "-wal", "-shm"] {
        fs::set_permissions(beside(suffix), fs::Permissions::from_mode(0o644)).unwrap();
    }
    let _app = TestApp::spawn_with(|config| config.database.path.clone_from(&link));
    for suffix in ["", "-wal", "-shm", ".lock", ".restore.lock"] {
        assert_eq!(mode(&beside(suffix)), 0o600, "{suffix}");
    }
    drop(killed);
}

#[test]
fn backups_are_readable_by_their_owner_only_whatever_the_umask() {
    let folder = tempfile::tempdir().unwrap();
    let backups = folder.path().join("data/backups");
    fs::create_dir_all(&backups).unwrap();
    let mut server = program("sh")
        .args(["-c", "umask 000; exec \"$0\" --listen 127.0.0.1:0", env!("CARGO_BIN_EXE_authtokens")])
        .env("AUTHTOKENS__BACKUP__EVERY", "1day")
        .env("AUTHTOKENS_CONFIG", "/dev/null")
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + PATIENCE;
    let found = loop {
        // It is private from its first byte on, under its other name too.
        for name in names(&backups) {
            let mode = fs::metadata(backups.join(&name)).map_or(0, |found| found.permissions().mode() & 0o777);
            assert_eq!(mode & 0o077, 0, "{name}");
        }
        if let Some(name) = names(&backups).into_iter().find(|name| !name.starts_with('.')) {
            break backups.join(name);
        }
        assert!(Instant::now() < deadline && server.try_wait().unwrap().is_none());
        thread::sleep(Duration::from_millis(1));
    };
    assert_eq!(mode(&found), 0o600);
    server.kill().unwrap();
    server.wait().unwrap();
}
