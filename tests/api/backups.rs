//! Backups: made while the server writes, whole or absent, put back, and made by the clock.

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use authtokens::config::Config;
use authtokens::passwords::is_well_formed;
use authtokens::repository::sqlite::{SqliteRepository, SqliteSettings, backup};
use authtokens::repository::{BackupError, BackupReport, CheckReport, Existing, Progress, RestoreReport, Rules, Stop};
use authtokens::system::clock::Timestamp;
use reqwest::Method;
use rusqlite::Connection;
use rusqlite::config::DbConfig;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::oneshot;

use crate::helpers::{PATIENCE, START_MILLIS, TestApp, left_out};
use crate::process::{Server, authtokens, credentials, program, refusal, run};

pub fn back_up(source: &Path, target: &Path) -> Result<BackupReport, BackupError> {
    backup::back_up(source, target, Existing::Refuse, &Stop::default(), &mut |_| {})
}

pub fn rules() -> Rules {
    Rules { now: Timestamp::from_millis(START_MILLIS).unwrap(), is_hash: is_well_formed }
}

pub fn check(path: &Path) -> Result<CheckReport, BackupError> {
    backup::check(path, Some(&rules()), &Stop::default(), &mut |_| {})
}

pub fn restore(backup: &Path, database: &Path) -> Result<RestoreReport, BackupError> {
    backup::restore(backup, database, &rules(), &Stop::default(), &mut |_| {})
}

pub fn sentence<T: std::fmt::Debug>(result: Result<T, BackupError>) -> String {
    result.unwrap_err().to_string()
}

pub fn rows(report: &CheckReport, table: &str) -> u64 {
    report.tables.iter().find(|found| found.name == table).unwrap().rows
}

/// The names in a folder, the hidden ones too.
pub fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

pub fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// Overwrites a part of a file.
fn overwrite(path: &Path, at: SeekFrom, bytes: &[u8]) {
    let mut file = OpenOptions::new().write(true).open(path).unwrap();
    file.seek(at).unwrap();
    file.write_all(bytes).unwrap();
}

pub fn bytes(path: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    File::open(path).unwrap().read_to_end(&mut bytes).unwrap();
    bytes
}

/// Many rows that nobody asks for, so that a backup takes more than a moment.
fn fill(database: &Connection, username: &str) {
    let statement = "WITH RECURSIVE n (i) AS (SELECT 1000000 UNION ALL SELECT i + 1 FROM n WHERE i < 1099999) \
         INSERT INTO wants (user_id, item_id, added) SELECT id, i, 0 FROM n, users WHERE username = ?1";
    database.busy_timeout(PATIENCE).unwrap();
    database.execute(statement, [username]).unwrap();
}

/// A database with one account that no server has, and a backup of it. The account is gone from the database since.
pub struct Stopped {
    pub folder: TempDir,
    pub database: PathBuf,
    pub backup: PathBuf,
}

pub async fn stopped() -> Stopped {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("data/authtokens.db");
    let backup = folder.path().join("backup.db");
    let app = TestApp::spawn_with(|config| config.database.path.clone_from(&database));
    app.new_user("AzureDiamond").await;
    back_up(&database, &backup).unwrap();
    app.sqlite().execute_batch("PRAGMA foreign_keys = ON; DELETE FROM users").unwrap();
    Stopped { folder, database, backup }
}

pub async fn serves_the_account(database: &Path) {
    let app = TestApp::spawn_with(|config| database.clone_into(&mut config.database.path));
    assert_eq!(app.log_in("AzureDiamond", "hunter2").await.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_under_load_restored_elsewhere_holds_everything_that_was_acknowledged_before_it_began() {
    let app = Arc::new(TestApp::spawn());
    app.new_user("filler").await;
    fill(&app.sqlite(), "filler");

    let acknowledged: Arc<Mutex<Vec<(String, u32)>>> = Arc::default();
    let done = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..6)
        .map(|client| {
            let (app, acknowledged, done) = (Arc::clone(&app), Arc::clone(&acknowledged), Arc::clone(&done));
            tokio::spawn(async move {
                for user in 0.. {
                    let token = app.new_user(&format!("client-{client}-{user}")).await;
                    acknowledged.lock().unwrap().push((token.clone(), 0));
                    for item in 1..=5 {
                        app.get(Method::PUT, &format!("/api/user/cellar/{item}"), &token, None).await;
                        acknowledged.lock().unwrap().push((token.clone(), item));
                    }
                    if done.load(Ordering::Relaxed) {
                        return;
                    }
                }
            })
        })
        .collect();
    while acknowledged.lock().unwrap().len() < 100 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }

    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("backup.db");
    let before = acknowledged.lock().unwrap().clone();
    let (sender, made) = oneshot::channel();
    thread::spawn({
        let (source, target) = (app.database.clone(), target.clone());
        move || sender.send(back_up(&source, &target)).unwrap()
    });
    let report = made.await.unwrap().unwrap();
    assert!(acknowledged.lock().unwrap().len() > before.len(), "nothing was written meanwhile");
    done.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.unwrap();
    }

    assert_eq!(names(folder.path()), ["backup.db"], "it needs nothing beside it");
    assert_eq!(report.check, check(&target).unwrap());
    let database = folder.path().join("second/authtokens.db");
    let restored = restore(&target, &database).unwrap();
    assert_eq!((restored.kept, &restored.check.tables), (None, &report.check.tables));
    let second = TestApp::spawn_with(|config| config.database.path.clone_from(&database));
    for (token, item) in before {
        let cellar = second.get(Method::GET, "/api/user/cellar", &token, None).await;
        assert!(item == 0 || cellar.as_array().unwrap().contains(&json!(item)), "{item} is not in {cellar}");
    }
    // It is as of one moment: nobody has an item without the one that was acknowledged before it.
    let gaps: i64 = second
        .sqlite()
        .query_row(
            "SELECT count(*) FROM cellar WHERE item_id > 1 AND NOT EXISTS (SELECT 1 FROM cellar AS earlier \
             WHERE earlier.user_id = cellar.user_id AND earlier.item_id = cellar.item_id - 1)",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(gaps, 0);
}

#[tokio::test]
async fn writes_during_a_backup_are_not_in_it_and_do_not_make_it_begin_again() {
    let app = TestApp::spawn();
    app.new_user("AzureDiamond").await;
    let writer = app.sqlite();
    fill(&writer, "AzureDiamond");
    let wants = u64::try_from(app.count("wants")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut written = 0_i64;
    let mut last = 0;
    let mut write = |progress| {
        if let Progress::Copying { done, .. } = progress {
            assert!(done > last, "it began again at {last}");
            last = done;
            let inserted = writer
                .execute("INSERT INTO wants (user_id, item_id, added) SELECT id, ?1, 0 FROM users", [written + 1])
                .unwrap();
            written += i64::try_from(inserted).unwrap();
        }
    };
    let target = folder.path().join("backup.db");
    let report = backup::back_up(&app.database, &target, Existing::Refuse, &Stop::default(), &mut write).unwrap();
    assert!(written > 3, "{written}");
    assert_eq!(last, report.check.pages);
    assert_eq!(rows(&report.check, "wants"), wants);
    assert_eq!(app.count("wants"), i64::try_from(wants).unwrap() + written);
}

#[tokio::test]
async fn a_backup_takes_the_place_of_nothing_unasked_and_of_the_database_never() {
    let app = TestApp::spawn();
    let folder = app.database.parent().unwrap().to_owned();
    let elsewhere = tempfile::tempdir().unwrap();
    let there = elsewhere.path().join("there.db");
    fs::write(&there, "a diary").unwrap();
    assert_eq!(sentence(back_up(&app.database, &there)), format!("{} exists already", there.display()));
    assert_eq!(bytes(&there), b"a diary");

    symlink("nowhere", elsewhere.path().join("dangling.db")).unwrap();
    assert!(sentence(back_up(&app.database, &elsewhere.path().join("dangling.db"))).ends_with("exists already"));
    symlink(&app.database, elsewhere.path().join("link.db")).unwrap();
    symlink(&folder, elsewhere.path().join("folder")).unwrap();
    fs::hard_link(&app.database, folder.join("twin.db")).unwrap();
    let name = app.database.file_name().unwrap().to_str().unwrap();
    let before = names(&folder);
    let replace =
        |target: &Path| backup::back_up(&app.database, target, Existing::Replace, &Stop::default(), &mut |_| {});
    for target in [
        app.database.clone(),
        folder.join("twin.db"),
        elsewhere.path().join("link.db"),
        elsewhere.path().join("folder").join(name),
        elsewhere.path().join("folder").join(format!("{name}-wal")),
        elsewhere.path().join("folder").join(format!("{name}.lock")),
        elsewhere.path().join("folder").join(format!("{name}.restore.lock")),
    ] {
        assert!(sentence(replace(&target)).ends_with("belongs to the database itself"), "{}", target.display());
    }
    assert!(sentence(replace(&elsewhere.path().join("dangling.db"))).ends_with("is not a plain file"));
    assert!(sentence(replace(elsewhere.path())).ends_with("is not a plain file"));
    assert_eq!(names(&folder), before);

    replace(&there).unwrap();
    check(&there).unwrap();
    // SQLite would read another database's log as the backup's own.
    fs::write(elsewhere.path().join("new.db-wal"), "").unwrap();
    assert!(sentence(replace(&elsewhere.path().join("new.db"))).contains("new.db-wal is in the way"));
    assert!(!elsewhere.path().join("new.db").exists());
    fs::remove_file(folder.join("twin.db")).unwrap();
}

#[tokio::test]
async fn a_backup_that_fails_or_is_stopped_leaves_nothing_behind() {
    let app = TestApp::spawn();
    app.new_user("AzureDiamond").await;
    fill(&app.sqlite(), "AzureDiamond");
    let folder = tempfile::tempdir().unwrap();
    for target in [Path::new("/proc/backup.db"), &folder.path().join("missing/backup.db"), Path::new("/")] {
        let said = sentence(back_up(&app.database, target));
        assert!(said.starts_with("cannot write ") || said.ends_with("exists already"), "{said}");
    }
    let target = folder.path().join("backup.db");
    let missing = folder.path().join("missing.db");
    assert_eq!(sentence(back_up(&missing, &target)), format!("there is no database at {}", missing.display()));

    for stop_at in ["copying", "checking"] {
        let stop = Stop::default();
        let mut watch = |progress| match progress {
            Progress::Copying { done, .. } if stop_at == "copying" && done > 100 => {
                assert_eq!(names(folder.path()).len(), 1, "it grows under another name");
                assert!(!target.exists());
                stop.ask();
            }
            Progress::Checking => stop.ask(),
            Progress::Copying { .. } => {}
        };
        let result = backup::back_up(&app.database, &target, Existing::Refuse, &stop, &mut watch);
        assert!(matches!(result, Err(BackupError::Stopped)), "{result:?}");
        assert_eq!(names(folder.path()), Vec::<String>::new(), "{stop_at}");
    }
}

/// A file system of one MiB, where we may make one; it goes out of scope with this.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(folder.path()).output();
        mount.is_ok_and(|mount| mount.status.success()).then_some(Self(folder))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

#[tokio::test]
async fn a_full_disk_leaves_no_backup_and_the_database_as_it_was() {
    let Some(disk) = SmallDisk::mount() else {
        left_out("only root can make a small disk");
        return;
    };
    let Stopped { folder: _folder, database, backup } = stopped().await;
    let small = disk.0.path().join("authtokens.db");
    fs::copy(&database, &small).unwrap();
    fill(&Connection::open(&backup).unwrap(), "AzureDiamond");
    let target = disk.0.path().join("backup.db");
    let said = sentence(back_up(&backup, &target));
    assert!(said.contains("backup.db") && said.ends_with("full"), "{said}");
    let said = sentence(restore(&backup, &small));
    assert!(said.contains("authtokens.db") && said.ends_with("full"), "{said}");
    assert_eq!(names(disk.0.path()), ["authtokens.db", "authtokens.db.lock", "authtokens.db.restore.lock"]);
    assert_eq!(bytes(&small), bytes(&database));
}

#[tokio::test]
async fn what_a_killed_backup_left_behind_is_swept_by_the_next_one_and_what_is_in_use_stays() {
    let app = TestApp::spawn();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let stale = [".old.db.authtokens-partial-1", ".old.db.authtokens-partial-1-wal", ".x.authtokens-partial-4194304"];
    let others = [
        ".old.db.partial-1",
        "old.db.authtokens-partial-1",
        ".old.db.authtokens-partial-1x",
        ".held.db.authtokens-partial-2",
    ];
    for name in stale.iter().chain(&others) {
        fs::write(path(name), "").unwrap();
    }
    let held = File::open(path(".held.db.authtokens-partial-2")).unwrap();
    held.lock().unwrap();
    symlink(&app.database, path(".link.db.authtokens-partial-3")).unwrap();
    back_up(&app.database, &path("new.db")).unwrap();
    let mut expected: Vec<_> = others.iter().map(|name| (*name).to_owned()).collect();
    expected.extend([".link.db.authtokens-partial-3".to_owned(), "new.db".to_owned()]);
    expected.sort();
    assert_eq!(names(folder.path()), expected);
    drop(held);
    assert_eq!(app.register("AzureDiamond", "hunter2").await.status(), 201);
}

#[tokio::test]
async fn a_check_tells_what_a_running_servers_file_holds_and_changes_nothing() {
    let app = TestApp::spawn();
    app.new_user("AzureDiamond").await;
    let report = check(&app.database).unwrap();
    assert_eq!(["users", "tokens", "cellar", "wants"].map(|table| rows(&report, table)), [1, 1, 0, 0]);
    assert_eq!(report.size(), report.pages * report.page_size);
    let version: i32 = app.sqlite().pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
    assert_eq!(report.schema_version, version);
    assert_eq!(app.register("b", "hunter2").await.status(), 201);
}

#[tokio::test]
async fn a_restore_is_refused_while_a_server_has_the_database() {
    let Stopped { folder, database, backup } = stopped().await;
    let app = TestApp::spawn_with(|config| config.database.path.clone_from(&database));
    let before = names(database.parent().unwrap());
    let alias = folder.path().join("alias.db");
    symlink(&database, &alias).unwrap();
    for name in [&database, &alias] {
        assert!(sentence(restore(&backup, name)).ends_with("is in use by another authtokens server"));
    }
    assert_eq!(names(database.parent().unwrap()), before);
    assert_eq!(app.log_in("AzureDiamond", "hunter2").await.status(), 401, "it has the account of the backup");
}

#[tokio::test]
async fn a_restore_is_refused_while_another_program_reads_the_database() {
    let Stopped { folder: _folder, database, backup } = stopped().await;
    let other = Connection::open(&database).unwrap();
    other.execute_batch("BEGIN; SELECT count(*) FROM users").unwrap();
    assert_eq!(
        sentence(restore(&backup, &database)),
        format!("another program has {} open", database.canonicalize().unwrap().display())
    );
    other.execute_batch("COMMIT").unwrap();
    drop(other);
    restore(&backup, &database).unwrap();
}

#[tokio::test]
async fn a_restore_keeps_the_old_database_with_what_was_in_its_log() {
    let Stopped { folder: _folder, database, backup } = stopped().await;
    // As a killed server leaves it.
    let killed = Connection::open(&database).unwrap();
    killed.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).unwrap();
    killed
        .execute_batch(
            "PRAGMA journal_mode = WAL; INSERT INTO users (username, username_key, password_hash, date_joined, created, \
             modified, last_login) VALUES ('last', 'last', '', 0, 0, 0, 0)",
        )
        .unwrap();
    drop(killed);
    let log = database.with_extension("db-wal");
    assert!(fs::metadata(&log).unwrap().len() > 0);

    let restored = restore(&backup, &database).unwrap();
    let kept = restored.kept.unwrap();
    assert_eq!(kept.file_name().unwrap(), "authtokens.db.before-restore-20150104T225135Z");
    assert_eq!(rows(&restored.check, "users"), 1);
    let folder = database.parent().unwrap();
    let left = [
        "authtokens.db",
        "authtokens.db.before-restore-20150104T225135Z",
        "authtokens.db.lock",
        "authtokens.db.restore.lock",
    ];
    assert_eq!(names(folder), left, "no log of the old database is left for the new one");
    assert_eq!((mode(&database), mode(&kept)), (0o600, 0o600));
    let name: String =
        Connection::open(&kept).unwrap().query_row("SELECT username FROM users", [], |row| row.get(0)).unwrap();
    assert_eq!(name, "last");
    let before = bytes(&kept);
    serves_the_account(&database).await;

    let second = restore(&backup, &database).unwrap().kept.unwrap();
    assert_eq!(second.file_name().unwrap(), "authtokens.db.before-restore-20150104T225135Z-2", "in the same second");
    assert_eq!(bytes(&kept), before, "nor is the first one lost now");
    assert!(sentence(restore(&database, &database)).ends_with("belongs to the database itself"));
}

#[tokio::test]
async fn a_refused_restore_makes_no_folder() {
    let Stopped { folder, backup, .. } = stopped().await;
    fill(&Connection::open(&backup).unwrap(), "AzureDiamond");
    overwrite(&backup, SeekFrom::Start(50 * 4096 + 3), &[0xa5; 100]);
    let before = names(folder.path());
    assert!(sentence(restore(&backup, &folder.path().join("new/data/authtokens.db"))).contains("is damaged"));
    assert_eq!(names(folder.path()), before);
}

#[tokio::test]
async fn a_backup_may_have_as_long_a_name_as_leaves_room_for_a_journals() {
    let Stopped { folder, database, .. } = stopped().await;
    let place = folder.path().join("copies");
    fs::create_dir(&place).unwrap();
    let name = "ü".repeat(123) + "x";
    back_up(&database, &place.join(&name)).unwrap();
    assert_eq!(names(&place), [name.as_str()]);
    assert_eq!(rows(&check(&place.join(&name)).unwrap(), "users"), 0);
}

#[tokio::test]
async fn a_restore_keeps_a_damaged_database_with_its_log_as_they_are() {
    let Stopped { folder: _folder, database, backup } = stopped().await;
    let log = database.with_extension("db-wal");
    fs::write(&log, "what was the log").unwrap();
    fs::write(database.with_extension("db-shm"), "what was its index").unwrap();
    overwrite(&database, SeekFrom::Start(0), &[0xa5; 2_000]);
    let damaged = bytes(&database);
    let kept = restore(&backup, &database).unwrap().kept.unwrap();
    assert_eq!(bytes(&kept), damaged);
    assert_eq!(bytes(Path::new(&format!("{}-wal", kept.display()))), b"what was the log");
    assert!(!log.exists() && !database.with_extension("db-shm").exists());
    serves_the_account(&database).await;
}

#[tokio::test]
async fn a_backup_that_is_damaged_foreign_newer_or_empty_is_refused_and_the_database_is_untouched() {
    let Stopped { folder, database, backup } = stopped().await;
    {
        let bigger = Connection::open(&backup).unwrap();
        fill(&bigger, "AzureDiamond");
    }
    let data = database.parent().unwrap();
    let before = (names(data), bytes(&database));
    let bad = folder.path().join("bad.db");
    let refused = |spoil: &dyn Fn(&Path), reason: &str| {
        fs::copy(&backup, &bad).unwrap();
        spoil(&bad);
        let said = sentence(restore(&bad, &database));
        assert!(said.contains("bad.db") && said.contains(reason) && !said.contains('\n'), "{reason}: {said}");
        assert_eq!(sentence(check(&bad)), said);
        assert_eq!((names(data), bytes(&database)), before, "{reason}");
    };
    let sql = |statements: &'static str| {
        move |path: &Path| Connection::open(path).unwrap().execute_batch(statements).unwrap()
    };
    refused(&|path| overwrite(path, SeekFrom::Start(0), b"x"), "is not a SQLite database");
    refused(&|path| overwrite(path, SeekFrom::Start(100), &[0xa5; 3_000]), "is damaged: ");
    refused(&|path| overwrite(path, SeekFrom::Start(50 * 4096 + 3), &[0xa5; 100]), "is damaged: ");
    refused(&|path| overwrite(path, SeekFrom::End(-4096), &[0; 4096]), "is damaged: ");
    refused(&|path| File::options().write(true).open(path).unwrap().set_len(100 * 4096).unwrap(), "is damaged: ");
    refused(&|path| fs::write(path, "").unwrap(), "is an empty database");
    refused(&|path| fs::write(path, "My diary. ".repeat(1_000)).unwrap(), "is not a SQLite database");
    refused(&sql("PRAGMA user_version = 1000"), "newer release");
    refused(&sql("PRAGMA application_id = 1"), "another program");
    refused(
        &sql("PRAGMA foreign_keys = OFF; DELETE FROM users"),
        "a row of tokens belongs to a row of users that is missing",
    );
    refused(
        &sql("ALTER TABLE users RENAME COLUMN zipcode TO zipcoda"),
        "not that of version 3: the table users differs",
    );
    assert!(matches!(restore(folder.path(), &database), Err(BackupError::NotADatabase { .. })));
    // What is good is still good.
    restore(&backup, &database).unwrap();
    serves_the_account(&database).await;
}

#[tokio::test]
async fn a_backup_of_an_older_release_is_restored_and_brought_up_to_date_by_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let (old, database) = (folder.path().join("old.db"), folder.path().join("data/authtokens.db"));
    let first = Connection::open(&old).unwrap();
    first.execute_batch(include_str!("../../src/repository/sqlite/schema_v1.sql")).unwrap();
    // AuTk, and the first version.
    first.execute_batch("PRAGMA application_id = 0x4175546b; PRAGMA user_version = 1").unwrap();
    drop(first);
    let restored = restore(&old, &database).unwrap();
    assert_eq!(restored.check.schema_version, 1);
    let app = TestApp::spawn_with(|config| config.database.path.clone_from(&database));
    assert!(check(&app.database).unwrap().schema_version > 1);
}

/// Leaves a file as a program does that is killed in the middle of a change that has partly reached the file.
pub fn cut_off(database: &Path) {
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("copy.db");
    fs::copy(database, &copy).unwrap();
    let writer = Connection::open(&copy).unwrap();
    writer.execute_batch("PRAGMA journal_mode = DELETE; PRAGMA cache_size = 5; BEGIN IMMEDIATE").unwrap();
    writer.execute_batch("UPDATE users SET username = 'half', username_key = 'half'").unwrap();
    fill(&writer, "half");
    fs::copy(&copy, database).unwrap();
    fs::copy(copy.with_extension("db-journal"), database.with_extension("db-journal")).unwrap();
}

/// The commands in a folder whose database is `data/authtokens.db`.
pub fn command(folder: &Path, arguments: &str) -> Command {
    let mut command = authtokens(folder);
    command.args(arguments.split_whitespace()).env("AUTHTOKENS__PASSWORD__BCRYPT_COST", "4");
    command
}

#[tokio::test]
async fn a_change_that_a_kill_cut_off_is_undone_by_whoever_opens_the_database_next() {
    let Stopped { folder, database, backup } = stopped().await;
    let journal = database.with_extension("db-journal");
    let whole = bytes(&backup);
    let cut = || {
        // The server's lock, too: a database that only commands have opened has none.
        for suffix in ["", "-wal", "-shm", ".lock"] {
            let _ = fs::remove_file(format!("{}{suffix}", database.display()));
        }
        fs::write(&database, &whole).unwrap();
        cut_off(&database);
        assert!(bytes(&database) != whole && fs::metadata(&journal).unwrap().len() > 0);
    };
    let names_of_users = || -> String {
        let database = Connection::open(&database).unwrap();
        database.query_row("SELECT group_concat(username) FROM users", [], |row| row.get(0)).unwrap()
    };
    for arguments in ["user list", "check", "backup copy.db"] {
        cut();
        let output = run(&mut command(folder.path(), arguments));
        assert!(output.status.success() && !journal.exists(), "{arguments}: {output:?}");
        assert_eq!(names_of_users(), "AzureDiamond", "{arguments}");
    }
    assert_eq!(rows(&check(&folder.path().join("copy.db")).unwrap(), "wants"), 0);

    cut();
    drop(Server::start(folder.path(), |_| {}));
    assert_eq!(names_of_users(), "AzureDiamond");
    cut();
    let kept = restore(&backup, &database).unwrap().kept.unwrap();
    assert_eq!(rows(&check(&kept).unwrap(), "wants"), 0);
    assert!(!journal.exists());
    serves_the_account(&database).await;

    // What is not the database is not written to, not even to mend it.
    fs::copy(&backup, folder.path().join("cut.db")).unwrap();
    cut_off(&folder.path().join("cut.db"));
    let before = bytes(&folder.path().join("cut.db"));
    let said = sentence(check(&folder.path().join("cut.db")));
    assert!(said.contains("cut.db was left in the middle of a change"), "{said}");
    assert_eq!(sentence(restore(&folder.path().join("cut.db"), &folder.path().join("new.db"))), said);
    assert_eq!(bytes(&folder.path().join("cut.db")), before);
}

#[tokio::test]
async fn a_first_start_that_a_kill_cut_off_is_made_good_by_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("data/authtokens.db");
    fs::create_dir(database.parent().unwrap()).unwrap();
    // A new file is first marked as one that has a log, through a journal that says that there was nothing before.
    let [marked, begun] = ["marked.db", "begun.db"].map(|name| folder.path().join(name));
    Connection::open(&marked).unwrap().pragma_update(None, "journal_mode", "WAL").unwrap();
    let writer = Connection::open(&begun).unwrap();
    writer.execute_batch("PRAGMA cache_size = 5; BEGIN IMMEDIATE; CREATE TABLE half (text TEXT)").unwrap();
    writer.execute("INSERT INTO half VALUES (?1)", ["x".repeat(1 << 20)]).unwrap();
    fs::copy(begun.with_extension("db-journal"), database.with_extension("db-journal")).unwrap();
    fs::copy(&marked, &database).unwrap();
    assert_eq!(bytes(&database).len(), 4096);
    drop(writer);
    drop(Server::start(folder.path(), |_| {}));
    assert_eq!(rows(&check(&database).unwrap(), "users"), 0);
}

#[tokio::test]
async fn nobody_opens_the_database_while_it_is_restored() {
    let Stopped { folder, database, backup } = stopped().await;
    let mut said = Vec::new();
    let mut try_all = |progress| {
        if progress == Progress::Checking {
            let commands = ["user list", "user create new", "check", "backup copy.db", "restore backup.db --yes"];
            said = commands.map(|arguments| refusal(&mut command(folder.path(), arguments))).to_vec();
            said.push(refusal(command(folder.path(), "serve").args(["--listen", "127.0.0.1:0"])));
        }
    };
    backup::restore(&backup, &database, &rules(), &Stop::default(), &mut try_all).unwrap();
    assert_eq!(said.len(), 6);
    let path = "data/authtokens.db";
    for (number, said) in said.into_iter().enumerate() {
        let expected = match number {
            4 => format!("{path} is in use by another authtokens server"),
            _ => format!("a restore of {path} is running"),
        };
        assert_eq!(said, (1, expected), "{number}");
    }
    assert!(!folder.path().join("copy.db").exists());
    serves_the_account(&database).await;
}

#[tokio::test]
async fn a_restore_is_refused_while_a_command_uses_the_database() {
    let Stopped { folder, database, backup } = stopped().await;
    let settings =
        SqliteSettings { path: database.clone(), readers: 1, busy_timeout: Duration::from_secs(1), cache: 0 };
    let open = SqliteRepository::open_shared(&settings, false).unwrap();
    let said = sentence(restore(&backup, &database));
    assert_eq!(said, format!("a command is using {}: wait until it is done", database.display()));
    drop(open);

    let said = Mutex::new(String::new());
    let mut try_restore = |progress| {
        if progress == Progress::Checking {
            *said.lock().unwrap() = sentence(restore(&backup, &database));
        }
    };
    let copy = folder.path().join("copy.db");
    backup::back_up(&database, &copy, Existing::Refuse, &Stop::default(), &mut try_restore).unwrap();
    assert!(said.lock().unwrap().starts_with("a command is using "), "{said:?}");
    restore(&backup, &database).unwrap();
    assert_eq!(mode(&database.with_extension("db.restore.lock")), 0o600);
}

#[tokio::test]
async fn what_root_makes_belongs_to_whoever_has_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    if chown(folder.path(), Some(4711), Some(4712)).is_err() {
        left_out("only root can give files away");
        return;
    }
    let settings = SqliteSettings {
        path: folder.path().join("made/data/authtokens.db"),
        readers: 1,
        busy_timeout: Duration::from_secs(1),
        cache: 0,
    };
    let made = SqliteRepository::open_shared(&settings, true).unwrap();
    let data = settings.path.parent().unwrap();
    let all: Vec<_> = names(data).iter().map(|name| data.join(name)).collect();
    assert_eq!(all.len(), 5, "the file, its log, its index and two locks: {all:?}");
    let copy = folder.path().join("copy.db");
    back_up(&settings.path, &copy).unwrap();
    for path in all.iter().chain([&data.to_owned(), &folder.path().join("made"), &copy]) {
        let found = fs::metadata(path).unwrap();
        assert_eq!((found.uid(), found.gid()), (4711, 4712), "{}", path.display());
    }
    drop(made);

    // Whoever has the folder is given nothing by a link in it.
    let secret = folder.path().join("roots");
    fs::write(&secret, "").unwrap();
    let lock = settings.path.with_extension("db.restore.lock");
    fs::remove_file(&lock).unwrap();
    symlink(&secret, &lock).unwrap();
    drop(SqliteRepository::open_shared(&settings, false));
    assert_eq!(fs::metadata(&secret).unwrap().uid(), 0);
}

#[tokio::test]
async fn neither_a_backup_nor_a_check_reads_the_database_by_a_name_without_its_log() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), |_| {});
    assert_eq!(server.ask(&credentials("/api/register", "AzureDiamond")).status(), 201);
    let twin = folder.path().join("twin.db");
    fs::hard_link(folder.path().join("data/authtokens.db"), &twin).unwrap();
    for arguments in ["check twin.db", "backup copy.db --database twin.db", "check --database twin.db"] {
        let said = refusal(&mut command(folder.path(), arguments));
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
    let Some(disk) = SmallDisk::mount() else {
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
    let said = refusal(command(folder.path(), "user list --database").arg(name));
    assert_eq!(said, (1, format!("cannot use {name}: it is on a read-only file system")));
    remount("remount,rw");
    fs::write(format!("{name}-wal"), "a log").unwrap();
    remount("remount,ro");
    assert!(sentence(check(&small)).starts_with("cannot read "), "its log cannot be left out");
    remount("remount,rw");
    fs::remove_file(format!("{name}-wal")).unwrap();

    let mut filler = File::create(disk.0.path().join("filler")).unwrap();
    while filler.write_all(&[0; 512]).is_ok() {}
    assert_eq!(rows(&check(&small).unwrap(), "users"), 0, "a copy needs no index");
    let expected = format!("cannot use {name}: there is no room for its index beside it");
    assert_eq!(refusal(command(folder.path(), "user list --database").arg(name)), (1, expected));
}

#[tokio::test]
async fn a_backup_of_an_older_schema_that_lacks_a_part_is_not_called_whole() {
    let folder = tempfile::tempdir().unwrap();
    let schemas =
        [include_str!("../../src/repository/sqlite/schema_v1.sql"), include_str!("../fixtures/schema_v2.sql")];
    for (version, schema) in (1..).zip(schemas) {
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
async fn a_check_leaves_nothing_beside_a_copy_that_has_lost_its_log() {
    let Stopped { folder, database, .. } = stopped().await;
    let place = folder.path().join("copies");
    fs::create_dir(&place).unwrap();
    let copy = place.join("50%?#é.db");
    fs::copy(&database, &copy).unwrap();
    let writer = Connection::open(&database).unwrap();
    let mode: String = writer.pragma_query_value(None, "journal_mode", |row| row.get(0)).unwrap();
    assert_eq!(mode, "wal", "it says that it has a log");
    drop(writer);
    assert_eq!(rows(&check(&copy).unwrap(), "users"), 0);
    restore(&copy, &folder.path().join("new/authtokens.db")).unwrap();
    assert_eq!(names(&place), ["50%?#é.db"]);
    backup::back_up(&database, &copy, Existing::Replace, &Stop::default(), &mut |_| {}).unwrap();
    // One that somebody has open has its log beside it, and is read with it.
    let other = place.join("other.db");
    fs::copy(&database, &other).unwrap();
    let open = Connection::open(&other).unwrap();
    open.execute_batch("DELETE FROM events; INSERT INTO events VALUES (1, 0, 'throttled', NULL, '', '', '', '')")
        .unwrap();
    assert_eq!(rows(&check(&other).unwrap(), "events"), 1);
}

#[tokio::test]
async fn what_cannot_be_opened_leaves_nothing_beside_it() {
    let folder = tempfile::tempdir().unwrap();
    let said = |arguments: &str| refusal(&mut command(folder.path(), arguments)).1;
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
    killed.execute_batch("PRAGMA user_version = 3").unwrap();
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

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A server that keeps three backups, one a day.
fn scheduled(folder: &Path) -> TestApp {
    TestApp::spawn_with(|config| {
        config.database.path = folder.join("authtokens.db");
        config.backup.every = Some(DAY);
        config.backup.keep = 3;
        config.backup.folder = folder.join("backups");
    })
}

async fn ready(app: &TestApp) -> Value {
    app.client.get(app.url("/readyz")).send().await.unwrap().json().await.unwrap()
}

/// Waits until the newest good backup is the one of this moment.
async fn backed_up(app: &TestApp, moment: &str) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let said = ready(app).await;
        if said == json!({"status": "ready", "last_backup": moment}) {
            return;
        }
        assert!(Instant::now() < deadline, "{said}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn these_are_there(folder: &Path, expected: &[&str]) {
    let deadline = Instant::now() + PATIENCE;
    while names(folder) != expected {
        assert!(Instant::now() < deadline, "{:?}", names(folder));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn backups_are_made_by_the_clock_the_newest_are_kept_and_readyz_tells() {
    let folder = tempfile::tempdir().unwrap();
    let backups = folder.path().join("backups");
    // What is not a backup by its name and its kind is nobody's to delete.
    fs::create_dir_all(backups.join("authtokens-20000101T000000Z.db")).unwrap();
    fs::write(backups.join("authtokens-2000.db"), "mine").unwrap();
    let app = scheduled(folder.path());
    app.new_user("AzureDiamond").await;
    backed_up(&app, "2015-01-04T22:51:35.144Z").await;
    for moment in ["2015-01-05T22:51:35.144Z", "2015-01-06T22:51:35.144Z", "2015-01-07T22:51:35.144Z"] {
        app.clock.advance(DAY);
        backed_up(&app, moment).await;
    }
    let expected = [
        "authtokens-2000.db",
        "authtokens-20000101T000000Z.db",
        "authtokens-20150105T225135Z.db",
        "authtokens-20150106T225135Z.db",
        "authtokens-20150107T225135Z.db",
    ];
    these_are_there(&backups, &expected).await;
    for name in &expected[2..] {
        assert_eq!(mode(&backups.join(name)), 0o600);
        assert_eq!(rows(&check(&backups.join(name)).unwrap(), "users"), 1);
    }
}

#[tokio::test]
async fn a_restart_neither_repeats_nor_skips_a_backup_and_counts_only_good_ones() {
    let folder = tempfile::tempdir().unwrap();
    let backups = folder.path().join("backups");
    backed_up(&scheduled(folder.path()), "2015-01-04T22:51:35.144Z").await;
    {
        let app = scheduled(folder.path());
        backed_up(&app, "2015-01-04T22:51:35.000Z").await;
        app.clock.advance(DAY / 2);
        tokio::time::sleep(Duration::from_millis(1_200)).await;
        assert_eq!(names(&backups), ["authtokens-20150104T225135Z.db"], "it is not repeated");
        app.clock.advance(DAY / 2);
        these_are_there(&backups, &["authtokens-20150104T225135Z.db", "authtokens-20150105T225135Z.db"]).await;
    }
    fs::remove_file(backups.join("authtokens-20150105T225135Z.db")).unwrap();
    overwrite(&backups.join("authtokens-20150104T225135Z.db"), SeekFrom::Start(0), b"spoilt");
    fs::rename(backups.join("authtokens-20150104T225135Z.db"), backups.join("authtokens-20150104T225134Z.db")).unwrap();
    let app = scheduled(folder.path());
    backed_up(&app, "2015-01-04T22:51:35.144Z").await;
}

#[tokio::test]
async fn a_damaged_backup_and_one_from_the_future_never_take_the_room_of_a_good_one() {
    let folder = tempfile::tempdir().unwrap();
    let backups = folder.path().join("backups");
    fs::create_dir_all(&backups).unwrap();
    let bad = ["authtokens-20150104T000000Z.db", "authtokens-20991231T000000Z.db"];
    for name in bad {
        fs::write(backups.join(name), "spoilt").unwrap();
    }
    let app = TestApp::spawn_with(|config| {
        config.database.path = folder.path().join("authtokens.db");
        config.backup.every = Some(DAY);
        config.backup.keep = 1;
        config.backup.folder.clone_from(&backups);
    });
    backed_up(&app, "2015-01-04T22:51:35.144Z").await;
    let aside = "authtokens-20150104T000000Z.db.damaged";
    these_are_there(&backups, &[aside, "authtokens-20150104T225135Z.db", bad[1]]).await;
    app.clock.advance(DAY);
    backed_up(&app, "2015-01-05T22:51:35.144Z").await;
    these_are_there(&backups, &[aside, "authtokens-20150105T225135Z.db", bad[1]]).await;
    check(&backups.join("authtokens-20150105T225135Z.db")).unwrap();
    // Nor after a restart, which finds a good one before it.
    let again = |config: &mut Config| {
        config.database.path = folder.path().join("authtokens.db");
        config.backup.every = Some(DAY);
        config.backup.keep = 1;
        config.backup.folder.clone_from(&backups);
    };
    let app = app.restart_with(again);
    app.clock.advance(DAY);
    backed_up(&app, "2015-01-06T22:51:35.144Z").await;
    these_are_there(&backups, &[aside, "authtokens-20150106T225135Z.db", bad[1]]).await;
    assert_eq!(bytes(&backups.join(aside)), b"spoilt");
}

#[tokio::test]
async fn a_database_that_is_named_like_a_backup_is_never_deleted_as_one() {
    let folder = tempfile::tempdir().unwrap();
    let backups = folder.path().join("backups");
    fs::create_dir_all(&backups).unwrap();
    let own = "authtokens-20100101T000000Z.db";
    let anothers = "authtokens-20110101T000000Z.db";
    let served = TestApp::spawn_with(|config| config.database.path = backups.join(anothers));
    let app = TestApp::spawn_with(|config| {
        // Under another name than the folder's, and so that only the file itself tells.
        symlink(&backups, folder.path().join("data")).unwrap();
        config.database.path = folder.path().join("data").join(own);
        config.backup.every = Some(DAY);
        config.backup.keep = 1;
        config.backup.folder.clone_from(&backups);
    });
    for moment in ["2015-01-04T22:51:35.144Z", "2015-01-05T22:51:35.144Z"] {
        backed_up(&app, moment).await;
        app.clock.advance(DAY);
    }
    backed_up(&app, "2015-01-06T22:51:35.144Z").await;
    let deadline = Instant::now() + PATIENCE;
    while backups.join("authtokens-20150105T225135Z.db").exists() {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for name in [own, anothers, "authtokens-20150106T225135Z.db"] {
        assert!(backups.join(name).exists(), "{name} in {:?}", names(&backups));
    }
    assert_eq!(app.register("a", "hunter2").await.status(), 201);
    assert_eq!(served.register("a", "hunter2").await.status(), 201);
}

#[tokio::test]
async fn a_clock_that_was_ahead_and_is_set_back_does_not_stop_the_backups() {
    let folder = tempfile::tempdir().unwrap();
    let app = scheduled(folder.path());
    backed_up(&app, "2015-01-04T22:51:35.144Z").await;
    app.clock.advance(DAY * 3_652);
    backed_up(&app, "2025-01-03T22:51:35.144Z").await;
    app.clock.set(Timestamp::from_millis(START_MILLIS).unwrap());
    backed_up(&app, "2015-01-04T22:51:35.000Z").await;
    app.clock.advance(DAY);
    backed_up(&app, "2015-01-05T22:51:35.144Z").await;
}

#[tokio::test]
async fn a_clock_that_is_set_by_a_little_right_after_a_backup_makes_none_too_many_and_none_fail() {
    let folder = tempfile::tempdir().unwrap();
    let backups = folder.path().join("backups");
    let app = scheduled(folder.path());
    backed_up(&app, "2015-01-04T22:51:35.144Z").await;
    app.clock.advance(DAY);
    let expected = ["authtokens-20150104T225135Z.db", "authtokens-20150105T225135Z.db"];
    these_are_there(&backups, &expected).await;
    backed_up(&app, "2015-01-05T22:51:35.144Z").await;
    let right = app.clock.now();
    // Back by a second, and to what it said before; then a day ahead.
    for set_to in [right.minus(Duration::from_secs(1)), right, right.plus(DAY)] {
        app.clock.set(set_to);
        tokio::time::sleep(Duration::from_millis(2_200)).await;
        assert_eq!(names(&backups), expected, "{set_to}");
        assert_eq!(ready(&app).await["last_backup"], "2015-01-05T22:51:35.144Z", "{set_to}");
    }
    app.clock.set(right);
    app.clock.advance(DAY);
    backed_up(&app, "2015-01-06T22:51:35.144Z").await;
}

#[tokio::test]
async fn readyz_tells_of_no_backup_that_is_gone_and_the_next_one_is_due_by_those_that_are_left() {
    let folder = tempfile::tempdir().unwrap();
    let backups = folder.path().join("backups");
    let app = scheduled(folder.path());
    backed_up(&app, "2015-01-04T22:51:35.144Z").await;
    app.clock.advance(DAY);
    backed_up(&app, "2015-01-05T22:51:35.144Z").await;
    app.clock.advance(DAY / 2);
    fs::remove_file(backups.join("authtokens-20150105T225135Z.db")).unwrap();
    // Due half a day ago: it is made at once.
    backed_up(&app, "2015-01-06T10:51:35.144Z").await;
    fs::remove_dir_all(&backups).unwrap();
    fs::write(&backups, "in the way").unwrap();
    let deadline = Instant::now() + PATIENCE;
    while ready(&app).await["last_backup"] != Value::Null {
        assert!(Instant::now() < deadline, "it tells of one that is gone");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_backup_that_fails_is_tried_again_soon_and_readyz_tells_that_there_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let backups = folder.path().join("backups");
    fs::write(&backups, "in the way").unwrap();
    let app = scheduled(folder.path());
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(ready(&app).await, json!({"status": "ready", "last_backup": null}));
    fs::remove_file(&backups).unwrap();
    // The clock stands still until the first try is over for certain.
    tokio::time::sleep(Duration::from_millis(200)).await;
    app.clock.advance(Duration::from_secs(5 * 60));
    backed_up(&app, "2015-01-04T22:56:35.144Z").await;
}

#[tokio::test]
async fn no_backup_is_made_in_the_empty_folder_of_a_disk_that_is_unmounted_for_a_while() {
    let Some(disk) = SmallDisk::mount() else {
        left_out("only root can make a small disk");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let backups = disk.0.path().join("backups");
    let app = TestApp::spawn_with(|config| {
        config.database.path = folder.path().join("authtokens.db");
        config.backup.every = Some(DAY);
        config.backup.folder.clone_from(&backups);
    });
    backed_up(&app, "2015-01-04T22:51:35.144Z").await;
    let path = disk.0.path();
    assert!(Command::new("umount").arg(path).status().unwrap().success());
    app.clock.advance(DAY);
    let deadline = Instant::now() + PATIENCE;
    while ready(&app).await["last_backup"] != Value::Null {
        assert!(Instant::now() < deadline, "it tells of one that is gone");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(names(path), Vec::<String>::new());
    // Another mount, which need not have the number of the last.
    assert!(
        Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(path).status().unwrap().success()
    );
    app.clock.advance(DAY);
    backed_up(&app, "2015-01-06T22:51:35.144Z").await;
    assert_eq!(names(&backups), ["authtokens-20150106T225135Z.db"]);
}

#[tokio::test]
async fn without_backups_readyz_says_no_more_than_that_it_is_ready() {
    let app = TestApp::spawn();
    let body = app.client.get(app.url("/readyz")).send().await.unwrap().text().await.unwrap();
    assert_eq!(body, "{\"status\": \"ready\"}");
}
