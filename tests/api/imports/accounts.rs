//! What becomes of accounts: their passwords, profiles, lists and rights.

use serde_json::json;

use super::sources::{self, HASHES, MD5, PASSWORD, PBKDF2, Site, three_forms};
use super::{imported, user_of};
use crate::commands::{Machine, log_in};

/// How the hashes of our own begin.
const OURS: &str = "$bcrypt-sha256$v=2,";

#[test]
fn an_account_logs_in_with_its_old_password_at_a_server_that_ran_before_and_its_hash_is_ours_from_then_on() {
    let machine = Machine::with_accounts();
    let server = machine.server();
    let site = Site::new(machine.path().join("site.db"));
    let names: Vec<String> = (0..HASHES.len()).map(|number| format!("user{number}")).collect();
    for (name, hash) in names.iter().zip(HASHES) {
        site.set(site.user(name), "password", hash);
    }
    site.close();
    let report = imported(&machine, "django site.db");
    assert_eq!(report["accounts"]["imported"], HASHES.len());

    let stored = |name: &str| {
        let account = machine.store().accounts().into_iter().find(|account| account.username == name).unwrap();
        account.password_hash
    };
    for (name, hash) in names.iter().zip(HASHES) {
        assert_eq!(stored(name), hash, "as it was there");
        assert_eq!(log_in(&server, name, "another password").0, 401);
        assert_eq!(stored(name), hash, "a failure changes nothing");
        let (status, body) = log_in(&server, name, PASSWORD);
        assert_eq!((status, &body["user"]["username"]), (200, &json!(name)), "{hash}");
        assert!(stored(name).starts_with(OURS), "{hash}");
        assert_eq!(log_in(&server, name, PASSWORD).0, 200);
        assert_eq!(log_in(&server, name, "another password").0, 401);
    }
}

#[test]
fn an_account_comes_with_its_profile_its_times_its_lists_and_its_rights() {
    let machine = Machine::with_accounts();
    let server = machine.server();
    let site = Site::new(machine.path().join("site.db"));
    let rich = site.user("Rich");
    for (column, value) in [
        ("first_name", "Zoë"),
        ("last_name", "O'Hara; DROP TABLE users"),
        ("email", "zoe@wine.example"),
        ("address", "1 Quay St."),
        ("city", "Łódź"),
        ("last_login", "2020-02-29 23:59:59.999999"),
        ("is_staff", "1"),
    ] {
        site.set(rich, column, value);
    }
    site.items(rich, "cellar", &[7, 3, 5]);
    site.items(rich, "wants", &[11]);
    let gone = site.user("gone");
    site.set(gone, "is_active", "0");
    site.close();
    imported(&machine, "django site.db");

    let (status, body) = log_in(&server, "rich", PASSWORD);
    assert_eq!(status, 200, "{body}");
    let user = user_of(&server, body["token"].as_str().unwrap());
    for (field, value) in [
        ("username", json!("Rich")),
        ("first_name", json!("Zoë")),
        ("last_name", json!("O'Hara; DROP TABLE users")),
        ("email", json!("zoe@wine.example")),
        ("address", json!("1 Quay St.")),
        ("city", json!("Łódź")),
        ("state", json!("")),
        ("is_staff", json!(true)),
        ("is_superuser", json!(false)),
        ("date_joined", json!("2015-01-04T22:51:35.144Z")),
        ("created", json!("2015-01-04T22:51:35.238Z")),
        ("modified", json!("2016-01-01T00:00:00.000Z")),
        ("cellar", json!([3, 5, 7])),
        ("wants", json!([11])),
    ] {
        assert_eq!(user[field], value, "{field}");
    }
    assert_eq!(log_in(&server, "gone", PASSWORD).0, 401, "it is not active");
    assert_eq!(machine.json("user show gone")["last_login"], "2015-01-04T22:51:35.144Z", "it never logged in");
    let events = machine.json("events --kind imported");
    let told: Vec<_> = events.as_array().unwrap().iter().map(|event| (&event["username"], &event["actor"])).collect();
    assert_eq!(told.len(), 2);
    assert!(told.iter().all(|(_, actor)| *actor == "command line"), "{events}");
}

#[test]
fn a_file_a_dump_and_dumpdata_bring_the_same_accounts() {
    let machine = Machine::new();
    let names = ["anna", "Ben.Bier", "c@wine.example"];
    let mut seen = Vec::new();
    for path in three_forms(machine.path(), &names) {
        let own = Machine::new();
        let report = imported(&own, &format!("django {}", path.display()));
        assert_eq!(report["accounts"]["imported"], names.len());
        let shown: Vec<_> = names.map(|name| own.json(&format!("user show {name}"))).into();
        assert_eq!((&shown[1]["cellar"], &shown[1]["wants"]), (&json!([1, 2]), &json!([3])), "{}", path.display());
        assert!(own.store().accounts().iter().all(|account| account.password_hash == PBKDF2));
        // Another form of the same rows is the same source.
        let again = imported(&own, &format!("django {}", machine.path().join("site.db").display()));
        assert_eq!((&again["accounts"]["imported"], &again["accounts"]["already"]), (&json!(0), &json!(names.len())));
        seen.push(shown);
    }
    assert!(seen.iter().all(|shown| *shown == seen[0]), "{seen:?}");
}

#[test]
fn accounts_of_pocketbase_and_supabase_log_in_with_their_old_passwords() {
    let machine = Machine::with_accounts();
    let server = machine.server();
    sources::pocketbase(&machine.path().join("pb_data"), &["anna@wine.example"]);
    sources::supabase(&machine.path().join("users.csv"), &["ben@wine.example"]);
    for (arguments, name, joined) in [
        ("pocketbase pb_data", "anna@wine.example", "2026-11-25T04:22:37.105Z"),
        ("supabase users.csv", "ben@wine.example", "2024-03-04T05:06:00.123Z"),
    ] {
        let report = imported(&machine, arguments);
        assert_eq!(report["accounts"]["imported"], 1, "{report}");
        let (status, body) = log_in(&server, name, PASSWORD);
        assert_eq!(status, 200, "{body}");
        let user = &body["user"];
        let shown = ["username", "email", "first_name", "date_joined"].map(|field| user[field].as_str().unwrap());
        assert_eq!(shown, [name, name, "Anna", joined]);
    }
}

#[test]
fn a_fast_digest_is_taken_only_where_it_is_asked_for_and_then_wrapped_at_once() {
    for (arguments, status) in [("", 401), ("--weak-hashes", 200)] {
        let machine = Machine::with_accounts();
        let site = Site::new(machine.path().join("site.db"));
        site.set(site.user("weak"), "password", MD5);
        site.close();
        let report = imported(&machine, &format!("django site.db {arguments}"));
        assert_eq!(report["warnings"].as_array().unwrap().is_empty(), status == 200, "{report}");
        let digest = MD5.rsplit('$').next().unwrap();
        assert!(!machine.store().contains(digest.as_bytes()), "the digest itself is not stored");
        let server = machine.server();
        assert_eq!(log_in(&server, "weak", "another password").0, 401);
        assert_eq!(log_in(&server, "weak", PASSWORD).0, status, "{arguments}");
    }
}
