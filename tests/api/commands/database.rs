//! The commands on the database as a whole, on either store.

use serde_json::json;

use super::Machine;
use crate::store;

#[test]
fn the_status_tells_what_the_database_holds_and_whether_a_migration_is_due_and_shows_no_password() {
    let machine = Machine::with_accounts();
    let status = machine.json("database status");
    assert_eq!(status["is_migration_due"], false, "{status}");
    assert_eq!(status["schema_version"], status["newest_version"]);
    assert_eq!(status["moved_to"], json!(null));
    assert_eq!(status["tables"]["users"], 2);
    assert!(status["engine"].as_str().unwrap().starts_with(store::engine_in(machine.path())), "{status}");
    let text = machine.said("database status");
    assert!(text.contains("up to date") && text.contains("2 users"), "{text}");
    assert!(!text.contains("://"), "{text}");
}

#[test]
fn a_migration_makes_the_schema_once_and_then_finds_nothing_to_do() {
    let machine = Machine::new();
    let made = machine.json("database migrate");
    assert_eq!(made["from"], json!(null));
    let again = machine.json("database migrate");
    assert_eq!([&again["from"], &again["to"]], [&made["to"]; 2]);
    assert!(machine.said("database migrate").contains(" is up to date, of version "));
    assert_eq!(machine.json("user list"), json!([]));
}

#[test]
fn what_is_not_marked_as_moved_is_not_changed_by_reopening_it() {
    let machine = Machine::with_accounts();
    assert_eq!(machine.refused("database reopen").0, 2, "it asks");
    assert_eq!(machine.json("database reopen --yes")["was_moved_to"], json!(null));
    assert_eq!(machine.json("user list").as_array().unwrap().len(), 2);
}
