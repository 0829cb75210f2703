//! How a backup replaces a database.

use std::fs::{self, File};
use std::io::SeekFrom;
use std::os::unix::fs::{MetadataExt as _, chown, symlink};
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use authtokens::repository::Notices;
use authtokens::repository::sqlite::SCHEMA_VERSION;
use authtokens::repository::sqlite::backup;
use authtokens::repository::sqlite::{SqliteRepository, SqliteSettings};
use authtokens::repository::{BackupError, Existing, Progress, Stop};
use rusqlite::Connection;
use rusqlite::config::DbConfig;

use super::{
    Stopped, back_up, bytes, check, command, cut_off, fill, mode, names, overwrite, restore, rows, rules, sentence,
    serves_the_account, stopped,
};
use crate::helpers::{TestApp, left_out};
use crate::process::{Server, failure_of, run};
use crate::sqlite::OLDER_SCHEMAS;

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
async fn a_restore_keeps_the_old_database_with_what_was_in_its_wal() {
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
    let wal = database.with_extension("db-wal");
    assert!(fs::metadata(&wal).unwrap().len() > 0);

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
        "authtokens.key",
    ];
    assert_eq!(names(folder), left, "no WAL of the old database is left for the new one");
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
async fn a_restore_keeps_a_damaged_database_with_its_wal_as_they_are() {
    let Stopped { folder: _folder, database, backup } = stopped().await;
    let wal = database.with_extension("db-wal");
    fs::write(&wal, "what was the WAL").unwrap();
    fs::write(database.with_extension("db-shm"), "what was its index").unwrap();
    overwrite(&database, SeekFrom::Start(0), &[0xa5; 2_000]);
    let damaged = bytes(&database);
    let kept = restore(&backup, &database).unwrap().kept.unwrap();
    assert_eq!(bytes(&kept), damaged);
    assert_eq!(bytes(Path::new(&format!("{}-wal", kept.display()))), b"what was the WAL");
    assert!(!wal.exists() && !database.with_extension("db-shm").exists());
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
        &format!("not that of version {SCHEMA_VERSION}: the table users differs"),
    );
    assert!(matches!(restore(folder.path(), &database), Err(BackupError::NotADatabase { .. })));
    // What is good is still good.
    restore(&backup, &database).unwrap();
    serves_the_account(&database).await;
}

#[tokio::test]
async fn a_restore_brings_back_neither_codes_nor_mails_that_wait() {
    let Stopped { folder: _folder, database, backup } = stopped().await;
    let with_mails = Connection::open(&backup).unwrap();
    with_mails
        .execute_batch(
            "INSERT INTO one_time_codes VALUES (zeroblob(32), 'reset_password', 1, 0, 'a@b.example', 'a@b.example', \
             NULL, '', zeroblob(32), zeroblob(32), 0, 1000, 601000, 1801000); \
             INSERT INTO outbox VALUES (9, 'password_set', 1, 'AzureDiamond', 'waits@b.example', 1, NULL, '', 0, '', \
             '', NULL, 0, 0, 0, 0)",
        )
        .unwrap();
    drop(with_mails);
    let whole = bytes(&backup);
    let restored = restore(&backup, &database).unwrap();
    assert!(bytes(&backup) == whole, "the backup itself is as it was");
    for report in [restored.check, check(&database).unwrap()] {
        assert_eq!((rows(&report, "one_time_codes"), rows(&report, "outbox")), (0, 0));
    }
    assert!(!bytes(&database).windows(15).any(|window| window == b"waits@b.example"), "not even a trace");
    serves_the_account(&database).await;
}

#[tokio::test]
async fn a_backup_of_an_older_release_is_restored_and_brought_up_to_date_by_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let (old, database) = (folder.path().join("old.db"), folder.path().join("data/authtokens.db"));
    let first = Connection::open(&old).unwrap();
    first.execute_batch(OLDER_SCHEMAS[0]).unwrap();
    // AuTk, and the first version.
    first.execute_batch("PRAGMA application_id = 0x4175546b; PRAGMA user_version = 1").unwrap();
    drop(first);
    let restored = restore(&old, &database).unwrap();
    assert_eq!(restored.check.schema_version, 1);
    let app = TestApp::spawn_with(|config| config.database.path.clone_from(&database));
    assert!(check(&app.database).unwrap().schema_version > 1);
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
    assert!(said.contains("cut.db has a hot journal"), "{said}");
    assert_eq!(sentence(restore(&folder.path().join("cut.db"), &folder.path().join("new.db"))), said);
    assert_eq!(bytes(&folder.path().join("cut.db")), before);
}

#[tokio::test]
async fn a_first_start_that_a_kill_cut_off_is_made_good_by_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("data/authtokens.db");
    fs::create_dir(database.parent().unwrap()).unwrap();
    // A new file is first marked as one that has a WAL, through a journal that says that there was nothing before.
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
            said = commands.map(|arguments| failure_of(&mut command(folder.path(), arguments))).to_vec();
            said.push(failure_of(command(folder.path(), "serve").args(["--listen", "127.0.0.1:0"])));
        }
    };
    backup::restore(&backup, &database, &rules(), &Stop::default(), &mut try_all).unwrap();
    assert_eq!(said.len(), 6);
    let path = "data/authtokens.db";
    for (number, said) in said.into_iter().enumerate() {
        let expected = match number {
            4 => format!("{path} is in use by another authtokens server"),
            _ => format!("a restore or a copy of {path} is running"),
        };
        assert_eq!(said, (1, expected), "{number}");
    }
    assert!(!folder.path().join("copy.db").exists());
    serves_the_account(&database).await;
}

#[tokio::test]
async fn a_restore_is_refused_while_a_command_uses_the_database() {
    let Stopped { folder, database, backup } = stopped().await;
    let settings = SqliteSettings {
        path: database.clone(),
        readers: 1,
        busy_timeout: Duration::from_secs(1),
        cache: 0,
        keep_before_upgrade: None,
        notices: Notices::default(),
    };
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
        keep_before_upgrade: None,
        notices: Notices::default(),
    };
    let made = SqliteRepository::open_shared(&settings, true).unwrap();
    let data = settings.path.parent().unwrap();
    let all: Vec<_> = names(data).iter().map(|name| data.join(name)).collect();
    assert_eq!(all.len(), 5, "the file, its WAL, its index and two locks: {all:?}");
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
