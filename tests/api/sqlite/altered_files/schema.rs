//! A schema that is not the service's own.

use std::fs;

use authtokens::repository::sqlite::SCHEMA_VERSION;
use rusqlite::Connection;

use super::{alter, changes, rewrite};
use crate::helpers::TestApp;
use crate::process::{Server, failure_of};
use crate::sqlite::backups::{Stopped, back_up, bytes, check, command, restore, sentence, stopped};
use crate::sqlite::connect;

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
        // This SQLite knows no such module, and need not.
        (
            "PRAGMA writable_schema = ON; INSERT INTO sqlite_schema (type, name, tbl_name, rootpage, sql) \
             VALUES ('table', 'notes', 'notes', 0, 'CREATE VIRTUAL TABLE notes USING fts5(text)'); \
             PRAGMA writable_schema = RESET"
                .to_owned(),
            "the table notes",
        ),
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
        let refused = format!("its schema is not that of version {SCHEMA_VERSION}: ");
        assert!(said.contains(&refused) && said.contains(difference), "{said}");
        assert_eq!(sentence(restore(&backup, &database)), said);

        let placed = folder.path().join("placed/authtokens.db");
        let _ = fs::remove_dir_all(placed.parent().unwrap());
        fs::create_dir(placed.parent().unwrap()).unwrap();
        fs::copy(&backup, &placed).unwrap();
        for arguments in ["serve --listen 127.0.0.1:0", "user list", "user promote azurediamond", "check", "prune"] {
            let said = failure_of(&mut command(folder.path(), &format!("{arguments} --database placed/authtokens.db")));
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
    file.execute_batch(include_str!("../../../../schema.sql")).unwrap();
    file.execute_batch("PRAGMA application_id = 0x4175546b").unwrap();
    file.pragma_update(None, "user_version", SCHEMA_VERSION).unwrap();
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

#[tokio::test]
async fn a_trigger_that_is_put_into_a_file_in_use_does_not_run() {
    let app = TestApp::spawn();
    let token = app.new_user("AzureDiamond").await;
    connect(&app)
        .execute_batch(
            "CREATE TRIGGER promote AFTER UPDATE OF last_login ON users \
             BEGIN UPDATE users SET is_superuser = 1 WHERE id = new.id; END; \
             CREATE TRIGGER keep BEFORE DELETE ON tokens BEGIN SELECT RAISE(IGNORE); END",
        )
        .unwrap();
    assert_eq!(app.log_in("AzureDiamond", "hunter2").await.status(), 200);
    assert_eq!(crate::sqlite::rows(&app, "SELECT is_superuser FROM users"), ["0"]);
    assert_eq!(app.log_out(&token).await.status(), 200);
    assert_eq!(app.log_out(&token).await.status(), 401, "what ended stays ended");
}
