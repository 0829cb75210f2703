//! What is not copied, and why. Nothing is then in the target.

use std::process::Command;
use std::thread;
use std::time::Duration;

use serde_json::json;

use super::{cluster, fill, server_on, with_file};
use crate::cluster as postgres_cluster;
use crate::commands::Machine;
use crate::postgres::store::PostgresStore;
use crate::process::run;
use crate::sqlite::store::SqliteStore;
use crate::store::TestStore;

fn assert_refused(machine: &Machine, arguments: &str, sentence: &str) {
    let (code, told) = machine.refused(arguments);
    assert!(code == 1 && told.contains(sentence), "{arguments}: {told}");
}

#[test]
fn a_store_that_was_moved_is_refused_until_it_is_reopened() {
    let Some(cluster) = cluster("the mark of a store that was moved") else { return };
    let (machine, file) = with_file("a.db");
    fill(&file, machine.path());
    let url = cluster.new_database();
    machine.said(&format!("database copy --from a.db --to {url}"));
    let sentence = "was moved to PostgreSQL at ";
    let undo = "run authtokens database reopen";
    for command in ["user list", "serve", "prune", "check", "backup x.db", "database migrate"] {
        assert_refused(&machine, &format!("--database a.db {command}"), sentence);
        assert_refused(&machine, &format!("--database a.db {command}"), undo);
    }
    assert_refused(&machine, "database copy --from a.db --to b.db", sentence);
    let status = machine.json("--database a.db database status");
    assert!(status["moved_to"].as_str().unwrap().starts_with("PostgreSQL at "), "{status}");
    let (code, _) = machine.refused("--database a.db database reopen");
    assert_eq!(code, 2, "it asks");
    let reopened = machine.json("--database a.db database reopen --yes");
    assert!(reopened["was_moved_to"].is_string(), "{reopened}");
    assert_eq!(machine.json("--database a.db user list").as_array().unwrap().len(), 3);
    assert_eq!(machine.json("--database a.db database reopen --yes")["was_moved_to"], json!(null));

    machine.said(&format!("database copy --from {url} --to b.db"));
    std::fs::write(machine.path().join("config.toml"), format!("database.url = \"{url}\"\n")).unwrap();
    for command in ["user list", "serve", "prune", "database migrate", "database copy --from config --to c.db"] {
        assert_refused(&machine, command, "/b.db, and is not used any more");
    }
    assert!(machine.json("database status")["moved_to"].as_str().unwrap().ends_with("/b.db"));
    machine.said("database reopen --yes");
    assert_eq!(machine.json("user list").as_array().unwrap().len(), 3);
}

#[test]
fn a_source_or_a_target_that_a_server_uses_is_refused() {
    let Some(cluster) = cluster("the refusal of stores in use") else { return };
    let (machine, file) = with_file("a.db");
    fill(&file, machine.path());
    let url = cluster.new_database();
    let server = server_on(&file, machine.path());
    assert_refused(
        &machine,
        &format!("database copy --from a.db --to {url}"),
        "is in use by another authtokens server",
    );
    assert_refused(&machine, "database copy --from a.db --to b.db", "is in use by another authtokens server");
    drop(server);
    file.wait_until_free();
    let database = PostgresStore::at(&url);
    let server = server_on(&database, machine.path());
    for arguments in ["--from a.db --to", "--to b.db --from"] {
        assert_refused(&machine, &format!("database copy {arguments} {url}"), " is in use: ");
    }
    drop(server);
    assert!(!machine.path().join("b.db").exists());
    machine.said(&format!("database copy --from a.db --to {url}"));
}

#[test]
fn a_target_that_is_not_empty_is_refused_and_stays_as_it_was() {
    let Some(cluster) = cluster("the refusal of targets that are not empty") else { return };
    let (machine, file) = with_file("a.db");
    fill(&file, machine.path());
    let (_, other) = with_file("other.db");
    let url = cluster.new_database();
    let database = PostgresStore::at(&url);
    fill(&database, machine.path());
    let before = database.dump();
    assert_refused(&machine, &format!("database copy --from a.db --to {url}"), " holds users already");
    assert_eq!(database.dump(), before);
    drop(other);
    machine.said("--database b.db database migrate");
    machine.said(&format!("database copy --from {url} --to b.db"));
    let filled = SqliteStore::at(&machine.path().join("b.db"));
    let before = filled.dump();
    assert_refused(&machine, "database copy --from a.db --to b.db", "b.db holds users already");
    assert_eq!(filled.dump(), before);
    assert_refused(&machine, "database copy --from a.db --to ./a.db", "is both the source and the target");
    assert_refused(&machine, "database copy --from none.db --to c.db", "there is no database at none.db");
    std::fs::write(machine.path().join("text"), "not a database").unwrap();
    assert_refused(&machine, "database copy --from a.db --to text", "text is not a SQLite database");
    let (code, told) = machine.refused("database copy --from a.db --to mysql://root:s3cret@db/x");
    assert!(code == 2 && told.contains("mysql") && !told.contains("s3cret"), "{told}");
    assert_eq!(machine.refused("database copy --from a.db --to-file none").0, 2);
}

#[test]
fn a_row_that_the_target_cannot_hold_is_named_and_nothing_is_copied() {
    let Some(cluster) = cluster("the refusal of rows") else { return };
    let (machine, file) = with_file("a.db");
    fill(&file, machine.path());
    let change =
        |sql: &str| rusqlite::Connection::open(machine.path().join("a.db")).unwrap().execute_batch(sql).unwrap();
    let url = cluster.new_database();
    let copy = format!("database copy --from a.db --to {url}");
    let is_empty = || {
        let count = cluster::on(&url, async |client| client.query_one("SELECT count(*) FROM users", &[]).await);
        count.unwrap().get::<_, i64>(0) == 0
    };
    change("UPDATE users SET city = 'a' || char(0) || 'b' WHERE id = 2");
    assert_refused(
        &machine,
        &copy,
        "the row of users with id 2 cannot be moved: its city has the character U+0000, which PostgreSQL cannot store; \
         nothing was copied",
    );
    assert!(is_empty());
    change("UPDATE users SET city = CAST(x'ff' AS TEXT) WHERE id = 2");
    assert_refused(&machine, &copy, "the row of users with id 2 cannot be moved: its city is not a text in UTF-8");
    change("UPDATE users SET city = '' WHERE id = 2; PRAGMA foreign_keys = off; INSERT INTO wants VALUES (77, 1, 1)");
    assert_refused(&machine, &copy, "(user_id)=(77)");
    assert_refused(&machine, "database copy --from a.db --to b.db", "a row of wants belongs to a row of users");
    assert!(is_empty() && !machine.path().join("b.db").exists());
    change("DELETE FROM wants WHERE user_id = 77");
    machine.said(&copy);
}

#[test]
fn what_is_for_a_file_alone_says_what_does_it_for_postgresql() {
    let Some(cluster) = cluster("the commands for a file") else { return };
    let machine = Machine::new();
    std::fs::write(machine.path().join("config.toml"), format!("database.url = \"{}\"\n", cluster.new_database()))
        .unwrap();
    for (command, means) in
        [("backup x.db", "pg_dump or pgBackRest"), ("restore x.db --yes", "pg_restore"), ("check", "pg_amcheck")]
    {
        assert_refused(&machine, command, means);
    }
    assert_eq!(machine.refused("--database a.db user list").0, 2, "two databases");
}

#[test]
fn a_url_that_cannot_be_used_is_told_by_the_check_of_the_configuration_and_never_shown() {
    let machine = Machine::new();
    for (url, sentence) in [
        ("postgres://a:s3cret@db.example/d?sslmode=prefer", "database.url has sslmode=prefer"),
        ("mysql://a:s3cret@db.example/d", "database.url must be postgres://user:password@host/database"),
    ] {
        std::fs::write(machine.path().join("config.toml"), format!("database.url = \"{url}\"\n")).unwrap();
        let (code, told) = machine.refused("config check");
        assert!(code == 2 && told.starts_with(sentence) && !told.contains("s3cret"), "{told}");
        let shown = run(&mut machine.command("config show"));
        let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
        assert!(
            shown.contains("url = \"********\" # masked, from config.toml") && !shown.contains("s3cret"),
            "{shown}"
        );
    }
}

#[test]
fn a_server_that_starts_during_a_copy_acknowledges_no_change_that_the_copy_does_not_have() {
    let Some(cluster) = cluster("a server that starts during a copy") else { return };
    let machine = Machine::new();
    let url = cluster.new_database();
    let database = PostgresStore::at(&url);
    let tokens = fill(&database, machine.path());
    let mut copy = machine.command(&format!("database copy --from {url} --to a.db")).spawn().unwrap();
    let id = copy.id().to_string();
    let signal = |name: &str| assert!(run(Command::new("kill").args([name, &id])).status.success());
    let locks = "SELECT count(*) FROM pg_locks JOIN pg_class ON pg_class.oid = relation \
         WHERE relname = 'receipts' AND mode = 'ShareRowExclusiveLock' AND granted";
    let is_locked = || {
        let row = postgres_cluster::on(&url, async |client| client.query_one(locks, &[]).await).unwrap();
        row.get::<_, i64>(0) > 0
    };
    while !is_locked() {
        assert!(copy.try_wait().unwrap().is_none(), "it is done already");
    }
    signal("-STOP");
    let server = server_on(&database, machine.path());
    let put = format!(
        "PUT /api/user/cellar/77 HTTP/1.1\r\nHost: a\r\nAuthorization: Token {}\r\nContent-Length: 0\r\n\r\n",
        tokens[0]
    );
    let status = thread::scope(|scope| {
        let asking = scope.spawn(|| server.ask(put.as_bytes()).status());
        thread::sleep(Duration::from_millis(300));
        signal("-CONT");
        asking.join().unwrap()
    });
    assert!(copy.wait().unwrap().success());
    assert_eq!(status, 503, "what waits for the copy is refused by its mark");
}
