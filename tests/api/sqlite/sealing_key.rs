//! The key that secrets are sealed with, beside the file: made once, missed, replaced.

use std::fs;
use std::path::PathBuf;

use authtokens::domain::factor::totp_binding;
use authtokens::domain::identity::{Subject, refresh_token_binding};
use authtokens::domain::user::UserId;
use authtokens::system::sealing::{generate_key, read_key};
use rusqlite::{Connection, params};
use serde_json::json;

use super::backups::mode;
use crate::commands::Machine;
use crate::process::{authtokens, failure_of};

const MISSING: &str = "data/authtokens.key is missing, the key to 2 authenticator apps and 2 refresh tokens: put it back, or run \
     `authtokens database new-key` to forget what it opens";

const ANOTHER: &str = "data/authtokens.key is not the key to 2 authenticator apps and 2 refresh tokens: put the right one \
     back, or run `authtokens database new-key` to forget what it opens";

fn key(machine: &Machine) -> PathBuf {
    machine.path().join("data/authtokens.key")
}

fn connect(machine: &Machine) -> Connection {
    Connection::open(machine.path().join("data/authtokens.db")).unwrap()
}

/// One whose server has made a key, and whose two accounts have secrets that were sealed with it.
fn with_sealed_secrets() -> Machine {
    let machine = Machine::with_accounts();
    drop(machine.server());
    let sealing = read_key(&key(&machine)).unwrap().unwrap();
    let database = connect(&machine);
    let seal = |statement: &str, binding: &str| {
        database.execute(statement, params![sealing.seal(binding, b"secret")]).unwrap();
    };
    for id in [1, 2] {
        seal(&format!("INSERT INTO totp VALUES ({id}, ?1, 0, 0, 0)"), &totp_binding(UserId(id)));
    }
    let codes = "INSERT INTO recovery_codes SELECT CAST(printf('%032d', id) AS BLOB), id, 0 FROM users";
    database.execute(codes, []).unwrap();
    let subject = Subject { issuer: "https://id.example".to_owned(), subject: "x".to_owned() };
    seal(
        "INSERT INTO identities VALUES ('https://id.example', 'x', 1, 'example', '', 0, 0, ?1)",
        &refresh_token_binding(&subject.binding()),
    );
    seal(
        "INSERT INTO revocations VALUES (NULL, 'example', zeroblob(32), ?1, 0, 0, 0, 9000000000000)",
        &refresh_token_binding(&[0; 32]),
    );
    machine
}

fn start_refused(machine: &Machine) -> (i32, String) {
    failure_of(authtokens(machine.path()).args(["--listen", "127.0.0.1:0"]))
}

#[test]
fn the_first_start_makes_a_key_for_its_owner_alone_and_later_ones_keep_it() {
    let machine = Machine::with_accounts();
    assert!(!key(&machine).exists(), "no command needs it");
    drop(machine.server());
    let made = fs::read(key(&machine)).unwrap();
    assert_eq!((made.len(), mode(&key(&machine))), (65, 0o600));
    drop(machine.server());
    assert_eq!(fs::read(key(&machine)).unwrap(), made);
    let settled = machine.json("database new-key");
    assert_eq!(
        settled,
        json!({"key": "data/authtokens.key", "is_new": false, "forgotten": {"totp": 0, "refresh_tokens": 0, "webhooks": 0}})
    );
    assert_eq!(fs::read(key(&machine)).unwrap(), made);
    // Nothing is sealed: a new one harms nobody.
    fs::remove_file(key(&machine)).unwrap();
    drop(machine.server());
    assert_ne!(fs::read(key(&machine)).unwrap(), made);
}

#[test]
fn without_the_key_of_what_is_sealed_nothing_starts_and_no_other_is_made() {
    let machine = with_sealed_secrets();
    let right = fs::read(key(&machine)).unwrap();
    fs::remove_file(key(&machine)).unwrap();
    assert_eq!(start_refused(&machine), (1, MISSING.to_owned()));
    assert!(!key(&machine).exists());
    fs::write(key(&machine), generate_key().as_bytes()).unwrap();
    fs::set_permissions(key(&machine), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    assert_eq!(start_refused(&machine), (1, ANOTHER.to_owned()));
    let unusable = |why: &str| {
        let touched = "data/authtokens.key, the key to 2 authenticator apps and 2 refresh tokens, cannot be used";
        let way_out =
            "put the right one back, or move it away and run `authtokens database new-key` to forget what it opens";
        (1, format!("{touched} ({why}): {way_out}"))
    };
    for malformed in ["0", "", &"+1".repeat(32)] {
        fs::write(key(&machine), malformed).unwrap();
        assert_eq!(start_refused(&machine), unusable("it is not 64 hex digits"), "{malformed}");
    }
    let malformed = "the key in data/authtokens.key cannot be used: it is not 64 hex digits";
    assert_eq!(machine.refused("config check"), (1, malformed.to_owned()));
    fs::write(key(&machine), right).unwrap();
    fs::set_permissions(key(&machine), std::os::unix::fs::PermissionsExt::from_mode(0o640)).unwrap();
    assert_eq!(start_refused(&machine), unusable("others than its owner may read it: give it mode 0600"));
    fs::set_permissions(key(&machine), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    drop(machine.server());
}

#[test]
fn a_key_in_the_configuration_is_taken_before_the_file_and_checked_before_the_start() {
    let machine = with_sealed_secrets();
    let right = fs::read_to_string(key(&machine)).unwrap();
    fs::remove_file(key(&machine)).unwrap();
    let given = |value: &str| {
        let file = machine.path().join("config.toml");
        fs::write(&file, format!("[sealing]\nkey = \"{}\"\n", value.trim())).unwrap();
        fs::set_permissions(file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    };
    given("0123");
    let malformed = (2, "sealing.key is no key: it is not 64 hex digits".to_owned());
    assert_eq!(start_refused(&machine), malformed);
    assert_eq!(machine.refused("config check"), malformed);
    given(&generate_key());
    let another = ANOTHER.replace("data/authtokens.key", "sealing.key");
    assert_eq!(start_refused(&machine), (1, another));
    given(&right);
    drop(machine.server());
    assert!(!key(&machine).exists());
    machine.said("config check");
}

#[test]
fn what_a_lost_key_has_sealed_is_forgotten_by_a_command_that_asks() {
    let machine = with_sealed_secrets();
    fs::remove_file(key(&machine)).unwrap();
    assert_eq!(
        machine.refused("database new-key"),
        (2, "it needs --yes where there is no terminal to ask at".to_owned())
    );
    assert!(!key(&machine).exists());
    assert_eq!(
        machine.said("database new-key --yes"),
        "2 authenticator apps and 2 refresh tokens that could not be opened: forgotten. Owners of authenticator \
         apps must set them up anew.\nThere is a new key in data/authtokens.key. It is in no backup: keep a copy of it apart.\n"
    );
    assert_eq!(mode(&key(&machine)), 0o600);
    let left: (i64, i64, i64, i64) = connect(&machine)
        .query_row(
            "SELECT (SELECT count(*) FROM totp), (SELECT count(*) FROM recovery_codes), \
             (SELECT count(*) FROM identities WHERE refresh_token IS NULL), (SELECT count(*) FROM revocations)",
            [],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)),
        )
        .unwrap();
    assert_eq!(left, (0, 0, 1, 0), "the identity stays");
    assert!(machine.said("events --kind totp_removed").matches("key_lost").count() == 2);
    let server = machine.server();
    assert_eq!(crate::commands::log_in(&server, "bob", "hunter2").0, 200);
    let (code, sentence) = machine.refused("database new-key --yes");
    assert!(code == 1 && sentence.contains("in use"), "{sentence}");
}

#[test]
fn a_backup_has_no_key_and_whoever_restores_or_checks_it_is_told_of_the_one_that_it_needs() {
    let machine = with_sealed_secrets();
    let apart =
        "Its sealed secrets are worth nothing without their key, which is not in it: keep data/authtokens.key apart.";
    assert!(machine.said("backup copy.db").contains(apart));
    let right = fs::read(key(&machine)).unwrap();
    let secret = right.trim_ascii_end();
    let copy = fs::read(machine.path().join("copy.db")).unwrap();
    assert!(!copy.windows(secret.len()).any(|part| part == secret));
    assert_eq!(machine.json("check copy.db")["warning"], json!(null));
    assert!(!machine.said("check copy.db").contains("Warning"));

    fs::remove_file(key(&machine)).unwrap();
    assert!(machine.said("check copy.db").ends_with(&format!("Warning: {MISSING}.\n")));
    assert!(machine.said("check").contains(MISSING), "of the database itself, too");
    assert_eq!(machine.json("restore copy.db --yes")["warning"], MISSING);
    fs::write(key(&machine), generate_key().as_bytes()).unwrap();
    fs::set_permissions(key(&machine), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    assert!(machine.said("restore copy.db --yes").contains(ANOTHER));
    assert_eq!(start_refused(&machine), (1, ANOTHER.to_owned()));
    fs::write(key(&machine), right).unwrap();
    assert_eq!(machine.json("restore copy.db --yes")["warning"], json!(null));
    drop(machine.server());
    // An older backup without sealed secrets needs no key.
    let other = Machine::with_accounts();
    assert!(!other.said("backup copy.db").contains("sealed"));
    assert_eq!(other.json("check copy.db")["warning"], json!(null));
}

#[test]
fn a_check_with_the_key_at_hand_tells_of_each_sealed_secret_that_was_altered_or_moved() {
    let machine = with_sealed_secrets();
    assert!(machine.said("check").starts_with("It is whole."));
    let flipped = |column: &str| {
        let length = format!("length({column})");
        format!(
            "CAST(substr({column}, 1, {length} - 1) || CASE substr({column}, -1) WHEN x'00' THEN x'01' ELSE x'00' END AS BLOB)"
        )
    };
    connect(&machine)
        .execute_batch(&format!(
            "UPDATE totp SET secret = (SELECT secret FROM totp WHERE user_id = 2) WHERE user_id = 1; \
             UPDATE identities SET refresh_token = {}; UPDATE revocations SET token = {}",
            flipped("refresh_token"),
            flipped("token")
        ))
        .unwrap();
    let (_, sentence) = machine.refused("check");
    for what in [
        "the authenticator app of Admin (id 1), secret",
        "an identity of Admin (id 1), refresh_token",
        "a refresh token of example (id none), token",
    ] {
        let told = format!("{what}: it was altered, or moved from where it belongs");
        assert!(sentence.contains(&told), "{sentence}");
    }
    assert!(!sentence.contains("bob"), "{sentence}");
    // A copy is better than none, and without the key nothing is known of them.
    machine.said("backup copy.db");
    machine.said("restore copy.db --yes");
    fs::remove_file(key(&machine)).unwrap();
    assert!(machine.said("check").starts_with("It is whole."));
}

#[test]
fn what_was_begun_is_not_restored_but_an_id_token_that_was_used_stays_used() {
    let machine = with_sealed_secrets();
    let begun = "INSERT INTO challenges VALUES (CAST(printf('%032d', ?1) AS BLOB), ?2, NULL, '', 0, 0, 60000)";
    for (number, purpose) in [(1, "use_passkey"), (2, "provider_flow"), (3, "used_id_token")] {
        connect(&machine).execute(begun, params![number, purpose]).unwrap();
    }
    machine.said("backup copy.db");
    assert_eq!(machine.json("restore copy.db --yes")["tables"]["challenges"], 1);
    let left: String = connect(&machine).query_row("SELECT purpose FROM challenges", [], |row| row.get(0)).unwrap();
    assert_eq!(left, "used_id_token");
}
