//! Moves between the stores: everything arrives, nobody has to log in again, and whatever goes wrong leaves the target
//! empty.

mod killed;
mod refused;

use std::path::Path;

use serde_json::{Value, json};

use crate::cluster::{self, Cluster};
use crate::commands::{Machine, log_in, status_of};
use crate::imports::sources::{PASSWORD, Site, drf_token, knox_token};
use crate::postgres::store::PostgresStore;
use crate::process::{Server, credentials, run, token_of};
use crate::sqlite::store::SqliteStore;
use crate::store::{StoredAccount, TestStore};

/// The cluster, where PostgreSQL is installed.
fn cluster(what: &str) -> Option<&'static Cluster> {
    let found = cluster::cluster();
    if found.is_none() {
        cluster::left_out(what);
    }
    found
}

/// A machine whose commands use the database file of this name, and its store.
fn with_file(name: &str) -> (Machine, SqliteStore) {
    let machine = Machine::new();
    let store = SqliteStore::at(&machine.path().join(name));
    (machine, store)
}

fn server_on(store: &dyn TestStore, folder: &Path) -> Server {
    Server::start(folder, |command| store.point(command))
}

/// Fills a store by a server: accounts, lists, sessions, failures and events, and accounts that are gone. Answers tokens
/// that are live.
fn fill(store: &dyn TestStore, folder: &Path) -> Vec<String> {
    let mut server = server_on(store, folder);
    let names = ["alice", "bob", "Carol", "last"];
    let tokens: Vec<_> = names.iter().map(|name| token_of(&server.ask(&credentials("/api/register", name)))).collect();
    assert_eq!(log_in(&server, "bob", "wrong").0, 401);
    let ask = |method: &str, path: &str, token: &str, body: &Value| {
        let body = body.to_string();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Token {token}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let answer = server.ask(request.as_bytes());
        assert!((200..300).contains(&answer.status()), "{method} {path}: {answer:?}");
    };
    ask("PUT", "/api/user/cellar", &tokens[0], &json!([1, 2, 9_007_199_254_740_991_i64]));
    ask("PUT", "/api/user/wants", &tokens[2], &json!([7]));
    ask(
        "PATCH",
        "/api/user",
        &tokens[2],
        &json!({"city": "Łódź", "first_name": "'\"\\N\t".trim(), "email": "c@x.example"}),
    );
    // The greatest id is nobody's any more, and must not be given again.
    ask("DELETE", "/api/user", &tokens[3], &json!({"password": "hunter2"}));
    server.signal("TERM");
    server.wait();
    store.wait_until_free();
    tokens[..3].to_vec()
}

/// What of two stores must be the same.
fn contents(store: &dyn TestStore) -> Vec<String> {
    let mut lines: Vec<_> = store.accounts().iter().map(|account| format!("{account:?}")).collect();
    lines.extend(store.sessions().iter().map(|session| format!("{session:?}")));
    lines.extend(store.events().iter().map(|event| format!("{event:?}")));
    lines.extend(store.failures().iter().map(|failures| format!("{failures} failures")));
    lines
}

fn count(report: &Value, table: &str) -> u64 {
    report["tables"][table]["rows"].as_u64().unwrap()
}

#[test]
fn everything_moves_to_postgresql_and_back_and_nobody_has_to_log_in_again() {
    let Some(cluster) = cluster("the move to PostgreSQL and back") else { return };
    let (machine, file) = with_file("a.db");
    let tokens = fill(&file, machine.path());
    let before = contents(&file);
    let url = cluster.new_database();
    let database = PostgresStore::at(&url);
    std::fs::write(machine.path().join("url"), format!("{url}\n")).unwrap();

    let there = machine.json("database copy --from a.db --to-file url");
    assert_eq!(contents(&database), before);
    assert_eq!([count(&there, "users"), count(&there, "cellar"), count(&there, "wants")], [3, 3, 1]);
    assert!(there["to"].as_str().unwrap().starts_with("PostgreSQL at "), "{there}");
    let server = server_on(&database, machine.path());
    assert_eq!(tokens.iter().map(|token| status_of(&server, token)).collect::<Vec<_>>(), [200; 3]);
    // An id that was given is not given again.
    token_of(&server.ask(&credentials("/api/register", "new")));
    drop(server);
    database.wait_until_free();
    let ids = cluster::on(&url, async |client| client.query("SELECT id FROM users ORDER BY id", &[]).await).unwrap();
    assert_eq!(ids.iter().map(|row| row.get::<_, i64>(0)).collect::<Vec<_>>(), [1, 2, 3, 5]);

    let before = contents(&database);
    let back = machine.json("database copy --from-file url --to b.db");
    let returned = SqliteStore::at(&machine.path().join("b.db"));
    assert_eq!(contents(&returned), before);
    assert!(returned.is_whole());
    let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(machine.path().join("b.db")).unwrap());
    assert_eq!(mode & 0o777, 0o600);
    let server = server_on(&returned, machine.path());
    assert_eq!(tokens.iter().map(|token| status_of(&server, token)).collect::<Vec<_>>(), [200; 3]);
    drop(server);
    // What has not changed meanwhile has the same digest in both stores.
    for table in ["cellar", "wants", "login_failures"] {
        assert_eq!(there["tables"][table], back["tables"][table], "{table}");
    }
    let third = machine.json("database copy --from b.db --to c.db");
    assert_eq!(third["tables"]["cellar"], back["tables"]["cellar"]);
}

#[test]
fn what_was_imported_moves_too_and_is_not_imported_again() {
    let Some(cluster) = cluster("the move of imported accounts") else { return };
    let (machine, file) = with_file("a.db");
    let site = Site::with(machine.path(), &["anna", "gone"]);
    let tokens = [drf_token(1), knox_token(2)];
    site.token(1, &tokens[0]);
    site.knox(1, &tokens[1], Some("2099-01-01 00:00:00"));
    site.close();
    machine.said("--database a.db import django site.db");
    machine.said("--database a.db user delete gone --yes");
    let before = contents(&file);
    let url = cluster.new_database();
    machine.json(&format!("database copy --from a.db --to {url}"));
    let database = PostgresStore::at(&url);
    assert_eq!((contents(&database), database.count("imported")), (before, 2));
    let holds_on = |store: &dyn TestStore| {
        let mut command = machine.command("import django site.db --json");
        store.point(&mut command);
        let report: Value = serde_json::from_slice(&run(&mut command).stdout).unwrap();
        assert_eq!((&report["accounts"]["imported"], &report["accounts"]["already"]), (&json!(0), &json!(2)));
        let server = server_on(store, machine.path());
        assert_eq!(tokens.iter().map(|token| status_of(&server, token)).collect::<Vec<_>>(), [200; 2]);
    };
    holds_on(&database);
    database.wait_until_free();
    machine.json(&format!("database copy --from {url} --to b.db"));
    let returned = SqliteStore::at(&machine.path().join("b.db"));
    holds_on(&returned);
    assert_eq!(log_in(&server_on(&returned, machine.path()), "anna", PASSWORD).0, 200, "with the hash of the source");
}

#[test]
fn a_thousand_accounts_move_with_what_they_have() {
    let Some(cluster) = cluster("the move of a thousand accounts") else { return };
    let (machine, file) = with_file("a.db");
    machine.said("--database a.db database migrate");
    let accounts: Vec<_> = (0..1_000).map(|number| StoredAccount::named(format!("user{number}"))).collect();
    file.add_accounts(&accounts);
    file.fill_lists(10);
    let url = cluster.new_database();
    let there = machine.json(&format!("database copy --from a.db --to {url}"));
    assert_eq!([count(&there, "users"), count(&there, "cellar"), count(&there, "wants")], [1_000, 10_000, 10_000]);
    let back = machine.json(&format!("database copy --from {url} --to b.db"));
    assert_eq!(there["tables"], back["tables"]);
}
