//! Files that another hand has changed: a schema that runs code, rows that the service never wrote, links in the place of
//! files. None is believed.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use authtokens::repository::sqlite::backup;
use authtokens::repository::{BackupError, Existing, Progress, Stop};
use reqwest::Method;
use rusqlite::Connection;
use rusqlite::config::DbConfig;

use crate::backups::{
    Stopped, back_up, bytes, check, command, mode, names, restore, rows, rules, sentence, serves_the_account, stopped,
};
use crate::helpers::{TestApp, left_out, until};
use crate::process::{Server, credentials, refusal, run};

/// Changes a file as its owner can who knows SQLite, with nothing in the way.
fn alter(path: &Path, statements: &str) {
    let file = Connection::open(path).unwrap();
    file.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, false).unwrap();
    file.execute_batch("PRAGMA foreign_keys = OFF; PRAGMA ignore_check_constraints = ON").unwrap();
    file.execute_batch(statements).unwrap_or_else(|error| panic!("{statements}: {error}"));
}

/// Changes what the schema's SQL says, and not what is in the file.
fn rewrite(name: &str, from: &str, to: &str) -> String {
    let quoted = |text: &str| text.replace('\'', "''");
    let (from, to) = (quoted(from), quoted(to));
    format!(
        "PRAGMA writable_schema = ON; \
         UPDATE sqlite_schema SET sql = replace(sql, '{from}', '{to}') WHERE name = '{name}'; \
         PRAGMA writable_schema = OFF; VACUUM"
    )
}

/// Whether a change of a file has changed it, so that no case passes for want of one.
fn changes(before: &[u8], path: &Path) -> bool {
    bytes(path) != before
}

#[tokio::test]
async fn a_file_whose_schema_another_hand_has_changed_is_refused_by_the_check_the_restore_the_start_and_every_command()
{
    let Stopped { folder, database, backup } = stopped().await;
    let whole = bytes(&backup);
    let cases = [
        (
            "CREATE TRIGGER promote AFTER UPDATE OF last_login ON users \
             BEGIN UPDATE users SET is_superuser = 1 WHERE username_key = 'mallory'; END"
                .to_owned(),
            "the trigger promote is not part of it",
        ),
        (
            "CREATE TRIGGER keep BEFORE DELETE ON tokens BEGIN SELECT RAISE(IGNORE); END".to_owned(),
            "the trigger keep is not part of it",
        ),
        ("CREATE VIEW people AS SELECT * FROM users".to_owned(), "the view people is not part of it"),
        (
            "ALTER TABLE wants RENAME TO kept; CREATE VIEW wants AS SELECT * FROM kept".to_owned(),
            "the table wants is missing; the ",
        ),
        ("CREATE TABLE extra (a TEXT)".to_owned(), "the table extra is not part of it"),
        ("CREATE INDEX extra ON users (email)".to_owned(), "the index extra is not part of it"),
        ("CREATE VIRTUAL TABLE notes USING fts5(text)".to_owned(), "the table notes"),
        ("DROP INDEX superusers".to_owned(), "the index superusers is missing"),
        (
            "DROP INDEX superusers; CREATE INDEX superusers ON users (id) WHERE is_superuser = 1 AND id > 5".to_owned(),
            "the index superusers differs",
        ),
        (
            "DROP INDEX events_by_name; CREATE INDEX events_by_name ON events (lower(username) COLLATE NOCASE, id)"
                .to_owned(),
            "the index events_by_name differs",
        ),
        (rewrite("users", " CHECK (is_superuser IN (0, 1))", ""), "the table users differs"),
        (rewrite("users", "username_key  TEXT    NOT NULL", "username_key  TEXT    NOT NULL COLLATE NOCASE"), "differs"),
        (rewrite("users", "AUTOINCREMENT", ""), "the table users differs"),
        (rewrite("users", ") STRICT", ")"), "the table users differs"),
        (rewrite("tokens", " ON DELETE CASCADE", ""), "the table tokens differs"),
        (rewrite("users", "DEFAULT ''", "DEFAULT ' '"), "the table users differs"),
        (
            "ALTER TABLE users ADD COLUMN mirror TEXT GENERATED ALWAYS AS (upper(username)) VIRTUAL".to_owned(),
            "the table users differs",
        ),
        (
            "DROP TABLE cellar; CREATE TABLE cellar (user_id INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE, \
             item_id INTEGER NOT NULL, added INTEGER NOT NULL, PRIMARY KEY (user_id, item_id)) STRICT"
                .to_owned(),
            "the table cellar differs",
        ),
        ("CREATE TABLE _litestream_seq (id INTEGER PRIMARY KEY, seq TEXT)".to_owned(), "the table _litestream_seq is not"),
        (
            "ANALYZE; CREATE TRIGGER \"sqlite-stat\" AFTER INSERT ON tokens BEGIN DELETE FROM tokens; END".to_owned(),
            "the trigger sqlite-stat is not part of it",
        ),
    ];
    for (statements, difference) in cases {
        fs::write(&backup, &whole).unwrap();
        alter(&backup, &statements);
        assert!(changes(&whole, &backup), "{statements}");
        let said = sentence(check(&backup));
        assert!(said.contains("its schema is not that of version 3: ") && said.contains(difference), "{said}");
        assert_eq!(sentence(restore(&backup, &database)), said);

        let placed = folder.path().join("placed/authtokens.db");
        let _ = fs::remove_dir_all(placed.parent().unwrap());
        fs::create_dir(placed.parent().unwrap()).unwrap();
        fs::copy(&backup, &placed).unwrap();
        for arguments in ["serve --listen 127.0.0.1:0", "user list", "user promote azurediamond", "check", "prune"] {
            let said = refusal(&mut command(folder.path(), &format!("{arguments} --database placed/authtokens.db")));
            assert!(said.0 == 1 && said.1.contains(difference), "{arguments}: {said:?}");
        }
        assert!(bytes(&placed) == bytes(&backup), "what is refused is not changed");
    }
    fs::write(&backup, &whole).unwrap();
    restore(&backup, &database).unwrap();
}

#[tokio::test]
async fn a_file_whose_text_is_not_utf_8_is_refused() {
    let Stopped { folder, database, .. } = stopped().await;
    let other = folder.path().join("other.db");
    let file = Connection::open(&other).unwrap();
    file.pragma_update(None, "encoding", "UTF-16").unwrap();
    file.execute_batch(include_str!("../../schema.sql")).unwrap();
    file.execute_batch("PRAGMA application_id = 0x4175546b; PRAGMA user_version = 3").unwrap();
    drop(file);
    let said = sentence(check(&other));
    assert!(said.ends_with("its text is encoded as UTF-16le and not as UTF-8"), "{said}");
    assert_eq!(sentence(restore(&other, &database)), said);
}

#[tokio::test]
async fn what_litestream_and_analyze_have_left_in_a_file_is_no_reason_to_refuse_it_and_no_plan_follows_it() {
    let Stopped { folder, database, backup } = stopped().await;
    alter(
        &backup,
        "CREATE TABLE _litestream_seq (id INTEGER PRIMARY KEY, seq INTEGER); CREATE TABLE _litestream_lock (id INTEGER); \
         INSERT INTO _litestream_seq VALUES (1, 7); ANALYZE; \
         UPDATE sqlite_stat1 SET stat = '1000000 1000000' WHERE idx IS NOT NULL",
    );
    check(&backup).unwrap();
    restore(&backup, &database).unwrap();
    let copies = folder.path().join("copies");
    fs::create_dir(&copies).unwrap();
    back_up(&database, &copies.join("copy.db")).unwrap();
    drop(Server::start(folder.path(), |_| {}));
    let left: i64 = Connection::open(&database)
        .unwrap()
        .query_row("SELECT count(*) FROM sqlite_schema WHERE name LIKE 'sqlite\\_stat%' ESCAPE '\\'", [], |row| {
            row.get(0)
        })
        .unwrap();
    assert_eq!(left, 0);
    check(&database).unwrap();
}

/// Each change makes a file with rows that are refused for the reason beside it.
async fn are_refused(cases: &[(String, String)]) {
    let Stopped { database, backup, folder: _folder } = stopped().await;
    let whole = bytes(&backup);
    let before = bytes(&database);
    for (statements, reason) in cases {
        fs::write(&backup, &whole).unwrap();
        alter(&backup, statements);
        assert!(changes(&whole, &backup), "{statements}");
        let said = check(&backup).expect_err(statements).to_string();
        assert!(said.contains("backup.db is ") && said.contains(reason), "{reason}: {said}");
        assert_eq!(sentence(restore(&backup, &database)), said);
        assert!(bytes(&database) == before);
    }
    fs::write(&backup, &whole).unwrap();
    restore(&backup, &database).unwrap();
}

#[tokio::test]
async fn a_file_with_rows_that_the_service_cannot_have_written_is_refused_by_the_check_and_the_restore() {
    let user = "the account AzureDiamond (id 1), ";
    let mallory = "INSERT INTO users (username, username_key, password_hash, is_superuser, date_joined, created, modified, \
         last_login) SELECT 'Mallory', 'Mallory', password_hash, 1, created, created, created, created FROM users";
    let hash = |cost: &str| {
        format!(
            "UPDATE users SET password_hash = '$bcrypt-sha256$v=2,t=2b,r={cost}$QexDYaiSw.PMflDlGeyERe$\
             0JhXa2JmpMTbORvBDFxYcs2.SN09JvW'"
        )
    };
    let far = 260_000_000_000_000_i64; // behind the year 9999
    are_refused(&[
        (mallory.to_owned(), "the account Mallory (id 2), username_key: it is not the folded name".to_owned()),
        (hash("31"), format!("{user}password_hash: it is not a hash that this service makes")),
        (hash("04"), format!("{user}password_hash: it is not a hash that this service makes")),
        (hash("17"), format!("{user}password_hash: it is not a hash that this service makes")),
        ("UPDATE users SET email = 'nobody'".to_owned(), format!("{user}email: must be empty or an e-mail address")),
        ("UPDATE users SET zipcode = hex(zeroblob(11))".to_owned(), format!("{user}zipcode: must be at most 20 char")),
        ("UPDATE users SET city = char(27)".to_owned(), format!("{user}city: must not have control characters")),
        (format!("UPDATE users SET modified = {far}"), format!("{user}modified: a time is out of range")),
        (
            "UPDATE users SET last_login = -1".to_owned(),
            format!("{user}last_login: 1969-12-31T23:59:59.999Z is before"),
        ),
        (
            "UPDATE users SET date_joined = 0".to_owned(),
            format!("{user}date_joined: it is not when the account was made"),
        ),
        ("UPDATE users SET is_superuser = 2".to_owned(), format!("{user}is_superuser: it is neither 0 nor 1")),
        ("UPDATE users SET is_active = -1".to_owned(), format!("{user}is_active: it is neither 0 nor 1")),
        ("UPDATE tokens SET digest = x'00'".to_owned(), "a token of AzureDiamond (id 1), digest: ".to_owned()),
        (
            "DELETE FROM events; DELETE FROM tokens; UPDATE users SET id = -4".to_owned(),
            "the account AzureDiamond (id -4), user_id: -4 is out of range".to_owned(),
        ),
        (
            format!("UPDATE tokens SET created = {far}, last_used = {far}"),
            "a token of AzureDiamond (id 1), created: a time is out of range".to_owned(),
        ),
        (
            format!("UPDATE tokens SET last_used = {far}"),
            "a token of AzureDiamond (id 1), last_used: a time is".to_owned(),
        ),
        ("UPDATE tokens SET last_used = created - 1".to_owned(), "last_used: it is before the login".to_owned()),
        (
            "UPDATE tokens SET ip = 'here'".to_owned(),
            "a token of AzureDiamond (id 1), ip: it is not an address".to_owned(),
        ),
        ("UPDATE tokens SET user_agent = char(7)".to_owned(), "user_agent: it is not as it is kept".to_owned()),
        (
            "UPDATE tokens SET user_id = 9".to_owned(),
            "a row of tokens belongs to a row of users that is missing".to_owned(),
        ),
        ("INSERT INTO cellar VALUES (1, 0, 0)".to_owned(), "the cellar of AzureDiamond (id 1), ".to_owned()),
        (
            format!("INSERT INTO wants VALUES (1, 5, {far})"),
            "the wish list of AzureDiamond (id 1), added: a time is".to_owned(),
        ),
        ("INSERT INTO login_failures VALUES (1, 0, 0)".to_owned(), "failures: there are none".to_owned()),
        (format!("INSERT INTO login_failures VALUES (1, 3, {far})"), "last_failed: a time is".to_owned()),
        (format!("UPDATE events SET at = {far}"), "an event of AzureDiamond (id 1), at: a time is".to_owned()),
        ("UPDATE events SET user_id = 7".to_owned(), "user_id: 7 is nobody's number yet".to_owned()),
        ("UPDATE events SET user_id = NULL".to_owned(), "username: it has no account".to_owned()),
        ("UPDATE events SET username = ''".to_owned(), "username: it is not a name".to_owned()),
        ("UPDATE events SET actor = 'nobody at all'".to_owned(), "actor: it is not a name".to_owned()),
        ("UPDATE events SET detail = 'Come here'".to_owned(), "detail: it is not what an event tells".to_owned()),
        ("UPDATE events SET ip = '010.0.0.1'".to_owned(), "ip: it is not an address".to_owned()),
        (
            format!("UPDATE sqlite_sequence SET seq = {} WHERE name = 'users'", i64::MAX),
            "the sequence of users is out of range".to_owned(),
        ),
        (
            format!("UPDATE sqlite_sequence SET seq = {} WHERE name = 'events'", i64::MAX - 5),
            "the sequence of events is out of range".to_owned(),
        ),
        (
            "UPDATE sqlite_sequence SET seq = 'x' WHERE name = 'users'; DELETE FROM events".to_owned(),
            "the sequence of users is out of range".to_owned(),
        ),
        (
            "DELETE FROM events; DELETE FROM sqlite_sequence".to_owned(),
            "the sequence of users is out of range".to_owned(),
        ),
        (
            "INSERT INTO sqlite_sequence VALUES ('tokens', 1)".to_owned(),
            "there is a sequence of a table that".to_owned(),
        ),
    ])
    .await;
}

#[tokio::test]
async fn a_file_with_more_than_any_setting_allows_or_with_what_is_told_of_another_account_is_refused() {
    let user = "the account AzureDiamond (id 1), ";
    let many = |list, count| {
        format!(
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count}) \
             INSERT INTO {list} SELECT 1, i, 0 FROM n"
        )
    };
    are_refused(&[
        (many("cellar", 100_001), format!("{user}cellar: there are 100001, and 100000 at most under any setting")),
        (many("wants", 100_001), format!("{user}wants: there are 100001, and 100000 at most under any setting")),
        (
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10000) INSERT INTO tokens \
             SELECT randomblob(32), user_id, created, last_used, user_agent, ip FROM n, tokens"
                .to_owned(),
            format!("{user}tokens: there are 10001, and 10000 at most under any setting"),
        ),
        ("UPDATE events SET username = 'alice'".to_owned(), "username: it is not the name of that account".to_owned()),
    ])
    .await;
}

#[tokio::test]
async fn what_the_service_wrote_while_its_clock_was_ahead_is_checked_and_restored() {
    let folder = tempfile::tempdir().unwrap();
    let app = TestApp::spawn();
    app.clock.set(app.clock.now().plus(Duration::from_secs(3 * 86_400)));
    let token = app.new_user("AzureDiamond").await;
    assert_eq!(app.ask(Method::PUT, "/api/user/cellar/42", &token, None).await.status(), 200);
    assert_eq!(app.log_in("AzureDiamond", "wrong").await.status(), 401);
    until("the failure is stored", || app.rows("SELECT count(*) FROM login_failures") == ["1"]).await;
    let backup = folder.path().join("backup.db");
    back_up(&app.database, &backup).unwrap();
    // By the clock of the rules, which is right.
    check(&app.database).unwrap();
    check(&backup).unwrap();
    restore(&backup, &folder.path().join("data/authtokens.db")).unwrap();
    serves_the_account(&folder.path().join("data/authtokens.db")).await;
    alter(&backup, "UPDATE users SET created = 250000000000000, date_joined = 250000000000000");
    check(&backup).unwrap();
    alter(&backup, "UPDATE users SET created = 260000000000000, date_joined = 260000000000000");
    assert!(sentence(check(&backup)).ends_with("created: a time is out of range"), "no clock has a year 10000");
}

#[tokio::test]
async fn a_superuser_that_cannot_be_found_by_its_own_name_keeps_the_server_from_starting() {
    let Stopped { folder, backup, database } = stopped().await;
    fs::copy(&backup, &database).unwrap();
    for (statements, reason) in [
        ("UPDATE users SET is_superuser = 1, username_key = 'zz'", "username_key: it is not the folded name"),
        ("UPDATE users SET username_key = 'azurediamond', is_active = 2", "is_active: it is neither 0 nor 1"),
    ] {
        alter(&database, statements);
        let before = bytes(&database);
        let said = refusal(&mut command(folder.path(), "serve --listen 127.0.0.1:0 --database data/authtokens.db"));
        let finding = format!("the account AzureDiamond (id 1), {reason}");
        let expected = format!("data/authtokens.db holds what the service never wrote: {finding}: restore a backup");
        assert_eq!(said, (1, expected));
        assert!(bytes(&database) == before);
    }
    // What a command can mend keeps nobody from starting.
    alter(&database, "UPDATE users SET is_active = 1, password_hash = 'none'");
    let server = Server::start(folder.path(), |command| {
        command.args(["--database", "data/authtokens.db"]);
    });
    drop(server);
}

#[tokio::test]
async fn an_account_whose_hash_has_a_cost_that_is_not_used_any_more_is_mended_as_the_log_and_the_check_say() {
    let Stopped { folder, backup, database } = stopped().await;
    fs::copy(&backup, &database).unwrap();
    alter(&database, "UPDATE users SET password_hash = replace(password_hash, 'r=4$', 'r=17$')");
    let said = sentence(check(&database));
    assert!(said.ends_with("password_hash: it is not a hash that this service makes; `user set-password` sets one"));
    let file = "--database data/authtokens.db";
    let server = Server::start(folder.path(), |command| {
        command.args(file.split(' '));
    });
    let log_in = || server.ask(&credentials("/api/login", "AzureDiamond")).status();
    assert_eq!(log_in(), 500);
    let told = "of the account with id 1 is malformed, or of a cost that is not used any more: `user set-password`";
    until("the log tells what to do", || server.log().contains(told)).await;
    run(command(folder.path(), &format!("user set-password AzureDiamond {file}")).stdin(password()));
    assert_eq!(log_in(), 200);
    check(&database).unwrap();
}

#[tokio::test]
async fn nobody_logs_in_under_a_name_that_is_not_the_accounts() {
    let app = TestApp::spawn();
    app.new_user("carol").await;
    app.new_user("other").await;
    alter(&app.database, "UPDATE users SET username_key = 'zz' WHERE username = 'carol'");
    assert_eq!(app.log_in("zz", "hunter2").await.status(), 500);
    assert_eq!(app.log_in("carol", "hunter2").await.status(), 401);
    assert_eq!(app.log_in("other", "hunter2").await.status(), 200);
}

#[tokio::test]
async fn an_older_files_rows_are_held_against_the_same_rules() {
    let folder = tempfile::tempdir().unwrap();
    let old = folder.path().join("old.db");
    let first = Connection::open(&old).unwrap();
    first.execute_batch(include_str!("../../src/repository/sqlite/schema_v1.sql")).unwrap();
    first.execute_batch("PRAGMA application_id = 0x4175546b; PRAGMA user_version = 1").unwrap();
    first
        .execute_batch(
            "INSERT INTO users (username, username_key, password_hash, date_joined, created, modified, last_login) \
             VALUES ('Mallory', 'Mallory', '$bcrypt-sha256$v=2,t=2b,r=4$QexDYaiSw.PMflDlGeyERe$\
             0JhXa2JmpMTbORvBDFxYcs2.SN09JvW', 0, 0, 0, 0)",
        )
        .unwrap();
    drop(first);
    let said = sentence(restore(&old, &folder.path().join("data/authtokens.db")));
    assert!(said.ends_with("the account Mallory (id 1), username_key: it is not the folded name"), "{said}");
    alter(&old, "UPDATE users SET username_key = 'mallory'");
    check(&old).unwrap();
    alter(&old, "CREATE TRIGGER promote AFTER UPDATE ON users BEGIN DELETE FROM tokens; END");
    let said = refusal(&mut command(folder.path(), "serve --listen 127.0.0.1:0 --database old.db"));
    assert_eq!(
        said.1, "cannot use old.db: its schema is not that of version 1: the trigger promote is not part of it",
        "an upgrade carries nothing along"
    );
}

#[tokio::test]
async fn a_trigger_that_is_put_into_a_file_in_use_does_not_run() {
    let app = TestApp::spawn();
    let token = app.new_user("AzureDiamond").await;
    app.sqlite()
        .execute_batch(
            "CREATE TRIGGER promote AFTER UPDATE OF last_login ON users \
             BEGIN UPDATE users SET is_superuser = 1 WHERE id = new.id; END; \
             CREATE TRIGGER keep BEFORE DELETE ON tokens BEGIN SELECT RAISE(IGNORE); END",
        )
        .unwrap();
    assert_eq!(app.log_in("AzureDiamond", "hunter2").await.status(), 200);
    assert_eq!(app.rows("SELECT is_superuser FROM users"), ["0"]);
    assert_eq!(app.log_out(&token).await.status(), 200);
    assert_eq!(app.log_out(&token).await.status(), 401, "what ended stays ended");
}

#[tokio::test]
async fn neither_a_backup_nor_a_restore_writes_to_what_is_put_in_the_place_of_an_unfinished_file() {
    let Stopped { folder, database, backup } = stopped().await;
    let others = tempfile::tempdir().unwrap();
    let victim = others.path().join("victim.db");
    let other = Connection::open(&victim).unwrap();
    other.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE theirs (a TEXT)").unwrap();
    drop(other);
    let before = bytes(&victim);
    let copies = folder.path().join("copies");
    fs::create_dir(&copies).unwrap();
    let swap = |folder: &Path, how: &dyn Fn(&Path)| {
        let names = names(folder);
        let partial = folder.join(names.iter().find(|name| name.contains(".authtokens-partial-")).unwrap());
        fs::rename(&partial, folder.join("moved")).unwrap();
        how(&partial);
    };
    let backup_bytes = bytes(&backup);
    let link = |partial: &Path| symlink(&victim, partial).unwrap();
    let hard_link = |partial: &Path| fs::hard_link(&victim, partial).unwrap();
    let own = |partial: &Path| fs::write(partial, &backup_bytes).unwrap();
    for how in [&link as &dyn Fn(&Path), &hard_link, &own] {
        for moment in ["copied", "checking"] {
            let swapped = |folder: &Path, progress: Progress| match progress {
                Progress::Copying { done, of } if done == of && moment == "copied" => swap(folder, how),
                Progress::Checking if moment == "checking" => swap(folder, how),
                _ => {}
            };
            let target = copies.join("copy.db");
            let made = backup::back_up(&database, &target, Existing::Refuse, &Stop::default(), &mut |progress| {
                swapped(&copies, progress);
            });
            assert_eq!(
                sentence(made),
                format!("what was made for {} was moved or replaced by another program meanwhile", target.display())
            );
            assert_eq!(names(&copies), ["moved"]);
            let data = database.parent().unwrap();
            let before_it = names(data);
            let restored = backup::restore(&backup, &database, &rules(), &Stop::default(), &mut |progress| {
                swapped(data, progress);
            });
            assert!(matches!(restored, Err(BackupError::Replaced { .. })), "{restored:?}");
            fs::remove_file(data.join("moved")).unwrap();
            let left: Vec<_> = before_it.into_iter().filter(|name| data.join(name).exists()).collect();
            assert_eq!(names(data), left, "nothing new is there");
            assert_eq!(rows(&check(&database).unwrap(), "users"), 0);
            fs::remove_file(copies.join("moved")).unwrap();
            assert!(bytes(&victim) == before, "another program's database was written to");
            assert_eq!(names(others.path()), ["victim.db"]);
        }
    }
}

#[tokio::test]
async fn a_restore_gives_nobody_what_a_link_in_the_place_of_a_log_leads_to() {
    let Stopped { folder, database, backup } = stopped().await;
    let secret = folder.path().join("secret");
    fs::write(&secret, "root's own").unwrap();
    // The database is damaged, so that its log is kept as it is.
    fs::write(&database, "spoilt ".repeat(1_000)).unwrap();
    let log = database.with_extension("db-wal");
    let _ = fs::remove_file(&log);
    symlink(&secret, &log).unwrap();
    let before = names(database.parent().unwrap());
    assert!(sentence(restore(&backup, &database)).starts_with("cannot read "));
    assert_eq!(names(database.parent().unwrap()), before);
    fs::remove_file(&log).unwrap();
    fs::hard_link(&secret, &log).unwrap();
    assert!(sentence(restore(&backup, &database)).ends_with("it is not a plain file of the user who has the database"));
    fs::remove_file(&log).unwrap();
    restore(&backup, &database).unwrap();
}

#[tokio::test]
async fn a_restore_by_root_gives_the_database_owner_nothing_that_is_not_theirs_or_roots() {
    let Stopped { folder, database, backup } = stopped().await;
    let data = folder.path().join("theirs");
    fs::create_dir(&data).unwrap();
    let theirs = data.join("authtokens.db");
    fs::copy(&database, &theirs).unwrap();
    let give = |path: &Path, user| std::os::unix::fs::lchown(path, Some(user), Some(user));
    if give(&theirs, 4711).is_err() {
        left_out("only root can give files away");
        return;
    }
    give(&data, 4711).unwrap();
    let before = bytes(&theirs);
    let refused = |backup: &Path, reason: &str| {
        let said = sentence(restore(backup, &theirs));
        assert!(said.contains(reason), "{said}");
        assert!(bytes(&theirs) == before);
    };
    let [link, folder_link, hard_link] = ["link.db", "folder", "second.db"].map(|name| data.join(name));
    symlink(&backup, &link).unwrap();
    symlink(folder.path(), &folder_link).unwrap();
    let is_link = "is reached through a symbolic link that another user can change";
    refused(&link, is_link);
    for link in [&link, &folder_link] {
        give(link, 4711).unwrap();
    }
    refused(&link, is_link);
    refused(&folder_link.join(backup.file_name().unwrap()), is_link);
    let is_anothers = "belongs neither to this user nor to the one who has the database";
    fs::hard_link(&backup, &hard_link).unwrap();
    refused(&hard_link, is_anothers);
    fs::remove_file(&hard_link).unwrap();
    give(&backup, 4713).unwrap();
    refused(&backup, is_anothers);
    // Root's own, behind root's own link.
    give(&backup, 0).unwrap();
    let own_link = folder.path().join("latest.db");
    symlink(&backup, &own_link).unwrap();
    restore(&own_link, &theirs).unwrap();
    assert_eq!(fs::metadata(&theirs).unwrap().uid(), 4711);
    give(&backup, 4711).unwrap();
    restore(&backup, &theirs).unwrap();
}

#[tokio::test]
async fn no_file_behind_a_link_is_closed_locked_or_given_away() {
    let Stopped { folder, database, .. } = stopped().await;
    let secret = folder.path().join("secret");
    fs::write(&secret, "").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o644)).unwrap();
    // Without a log of its own, as a restore leaves it, SQLite does not look at what has its index's name.
    let file = Connection::open(&database).unwrap();
    let mode_now: String = file.pragma_update_and_check(None, "journal_mode", "DELETE", |row| row.get(0)).unwrap();
    assert_eq!(mode_now, "delete");
    drop(file);
    let beside = |suffix: &str| PathBuf::from(format!("{}{suffix}", database.display()));
    for suffix in ["-shm", "-wal"] {
        let _ = fs::remove_file(beside(suffix));
        symlink(&secret, beside(suffix)).unwrap();
        refusal(command(folder.path(), "serve --listen 127.0.0.1:0 --database").arg(&database));
        assert_eq!(mode(&secret), 0o644, "{suffix}");
        fs::remove_file(beside(suffix)).unwrap();
    }
    for suffix in [".lock", ".restore.lock"] {
        let _ = fs::remove_file(beside(suffix));
        symlink(&secret, beside(suffix)).unwrap();
        let said = refusal(command(folder.path(), "serve --listen 127.0.0.1:0 --database").arg(&database)).1;
        assert!(said.ends_with(&format!("authtokens.db{suffix}: it is a symbolic link")), "{said}");
        fs::remove_file(beside(suffix)).unwrap();
    }
}

#[tokio::test]
async fn a_path_is_a_path_whatever_sqlite_makes_of_such_a_name() {
    let folder = tempfile::tempdir().unwrap();
    let names_of_ours = ["file:x.db", ":memory:", "file::memory:?cache=shared", "file:/tmp/y.db?mode=memory"];
    fs::create_dir(folder.path().join("file:")).unwrap();
    fs::create_dir(folder.path().join("file:/tmp")).unwrap();
    for name in names_of_ours {
        let made = run(command(folder.path(), "user create bob --database").arg(name).stdin(password()));
        assert!(made.status.success(), "{name}: {made:?}");
        assert!(folder.path().join(name).is_file(), "{name}");
        let server = Server::start(folder.path(), |command| {
            command.args(["--database", name]);
        });
        drop(server);
        let listed = run(command(folder.path(), "user list --json --database").arg(name));
        assert!(String::from_utf8(listed.stdout).unwrap().contains("bob"), "{name}");
        assert!(run(command(folder.path(), "check").arg(name)).status.success(), "{name}");
        let copy = format!("{name}.copy");
        assert!(run(command(folder.path(), "backup").args([&copy, "--database", name])).status.success(), "{name}");
        let restored = run(command(folder.path(), "restore --yes").args([&copy, "--database", name]));
        assert!(restored.status.success(), "{name}: {restored:?}");
    }
    assert!(!folder.path().join("x.db").exists() && !Path::new("/tmp/y.db").exists());
}

/// A password on standard input.
fn password() -> std::process::Stdio {
    let file = tempfile::tempfile().unwrap();
    std::io::Write::write_all(&mut &file, b"hunter2\n").unwrap();
    std::io::Seek::rewind(&mut &file).unwrap();
    file.into()
}

#[tokio::test]
async fn a_database_that_cannot_be_looked_at_is_not_said_to_be_missing() {
    let folder = tempfile::tempdir().unwrap();
    symlink("loop", folder.path().join("loop")).unwrap();
    fs::write(folder.path().join("file"), "").unwrap();
    for name in ["loop/authtokens.db", "file/authtokens.db"] {
        for arguments in
            ["user list", "user create bob", "prune", "events", "token list bob", "check", "backup copy.db"]
        {
            let said = refusal(command(folder.path(), arguments).args(["--database", name])).1;
            assert!(!said.contains("there is no database") && said.starts_with("cannot "), "{arguments}: {said}");
        }
    }
    assert_eq!(names(folder.path()), ["file", "loop"]);

    // Another user's folder, for whoever is not root.
    let Stopped { folder, database, .. } = stopped().await;
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let as_nobody = |arguments: &str| {
        let mut command = command(folder.path(), arguments);
        command.arg("--database").arg(&database).uid(65_534).gid(65_534);
        command
    };
    if !as_nobody("config show").output().is_ok_and(|shown| shown.status.success()) {
        left_out("only root can run as another user");
        return;
    }
    for arguments in ["user list", "prune", "events", "check", "backup copy.db"] {
        let said = refusal(&mut as_nobody(arguments)).1;
        assert!(said.ends_with("Permission denied (os error 13)"), "{arguments}: {said}");
    }
}

#[tokio::test]
async fn an_upgrade_of_the_schema_is_told_by_the_command_or_the_server_that_does_it() {
    let folder = tempfile::tempdir().unwrap();
    for (version, schema) in
        [(1, include_str!("../../src/repository/sqlite/schema_v1.sql")), (2, include_str!("../fixtures/schema_v2.sql"))]
    {
        let told = format!("the schema of old.db was brought up to date, from version {version} to 3");
        let old = folder.path().join("old.db");
        let make = || {
            let _ = fs::remove_file(&old);
            let first = Connection::open(&old).unwrap();
            first.execute_batch(schema).unwrap();
            first
                .execute_batch(&format!("PRAGMA application_id = 0x4175546b; PRAGMA user_version = {version}"))
                .unwrap();
        };
        make();
        let said = |arguments| run(&mut command(folder.path(), arguments)).stderr;
        assert_eq!(String::from_utf8(said("user list --database old.db")).unwrap(), format!("authtokens: {told}\n"));
        assert_eq!(said("user list --database old.db"), b"", "once");
        make();
        let server = Server::start(folder.path(), |command| {
            command.args(["--database", "old.db"]);
        });
        let told_by_the_server = || {
            let log = fs::read_to_string(folder.path().join("stderr.log")).unwrap();
            log.lines().filter(|line| line.ends_with(&told)).count()
        };
        until("it is in the log", || told_by_the_server() == 1).await;
        drop(server);
    }
}

/// Another file, mounted at this one; it goes out of scope with this.
struct Mounted(PathBuf);

impl Mounted {
    fn at(path: &Path, what: &Path) -> Option<Self> {
        let mount = Command::new("mount").arg("--bind").args([what, path]).output();
        mount.is_ok_and(|mount| mount.status.success()).then(|| Self(path.to_owned()))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[tokio::test]
async fn a_file_that_is_mounted_by_itself_cannot_be_replaced_and_nothing_is_left_of_the_attempt() {
    let Stopped { folder, database, backup } = stopped().await;
    let elsewhere = folder.path().join("elsewhere.db");
    fs::copy(&database, &elsewhere).unwrap();
    let Some(mounted) = Mounted::at(&database, &elsewhere) else {
        left_out("only root can mount a file");
        return;
    };
    let before = (names(database.parent().unwrap()), bytes(&database));
    let said = sentence(restore(&backup, &database));
    let path = database.display();
    assert_eq!(said, format!("{path} is a mount point, which no file can take the place of: mount its folder instead"));
    assert!((names(database.parent().unwrap()), bytes(&database)) == before);
    drop(mounted);
    restore(&backup, &database).unwrap();

    let target = folder.path().join("target.db");
    fs::copy(&backup, &target).unwrap();
    let _mounted = Mounted::at(&target, &elsewhere).unwrap();
    let before = names(folder.path());
    let said = sentence(backup::back_up(&database, &target, Existing::Replace, &Stop::default(), &mut |_| {}));
    assert!(said.contains("target.db is a mount point"), "{said}");
    assert_eq!(names(folder.path()), before);
}

#[tokio::test]
async fn what_another_user_has_left_half_changed_is_not_undone_by_root() {
    let Stopped { folder: _folder, database, backup } = stopped().await;
    let journal = database.with_extension("db-journal");
    let cut = || {
        for suffix in ["", "-wal", "-shm"] {
            let _ = fs::remove_file(format!("{}{suffix}", database.display()));
        }
        fs::copy(&backup, &database).unwrap();
        crate::backups::cut_off(&database);
        assert!(fs::metadata(&journal).unwrap().len() > 0);
    };
    cut();
    if [&database, &journal].into_iter().any(|path| chown(path, Some(4711), Some(4711)).is_err()) {
        left_out("only root can give files away");
        return;
    }
    let said = sentence(check(&database));
    assert!(said.contains("was left in the middle of a change: run this as the user who has it"), "{said}");
    assert!(fs::metadata(&journal).unwrap().len() > 0);
    let kept = restore(&backup, &database).unwrap().kept.unwrap();
    assert_eq!(fs::metadata(&kept).unwrap().uid(), 4711);
    let kept_journal = format!("{}-journal", kept.display());
    assert!(fs::metadata(kept_journal).unwrap().len() > 0 && !journal.exists(), "it is kept as it was");
    assert_eq!(rows(&check(&database).unwrap(), "users"), 1);
}
