//! Imports that are tried, repeated, or killed.

use std::process::Stdio;
use std::thread;
use std::time::Duration;

use serde_json::json;

use super::sources::{PASSWORD, Site, drf_token, knox_token};
use super::{files_in, import, imported};
use crate::commands::{Machine, log_in, run_with, status_of};
use crate::process::{logout, post};
use crate::store::{StoredAccount, TestStore};

/// How many accounts a transaction of an import has.
const BATCH: i64 = 250;

#[test]
fn a_trial_writes_nothing_and_ends_as_the_run_does() {
    for (names, code) in [(["anna", "ben"].as_slice(), 0), (&["anna", "Anna", "ben"], 1)] {
        // Where there is no database yet, and where there is one.
        for machine in [Machine::new(), Machine::with_accounts()] {
            let site = Site::with(machine.path(), names);
            site.token(1, &drf_token(1));
            site.close();
            let (files, dump) = (files_in(machine.path()), machine.store().exists().then(|| machine.store().dump()));
            let (tried, report, _) = import(&machine, "django site.db --dry-run");
            assert_eq!((tried, &report["dry_run"], &report["written"]), (code, &json!(true), &json!(false)));
            if dump.is_none() {
                assert!(!machine.path().join("data").exists(), "not even a folder");
            }
            assert_eq!(machine.store().exists().then(|| machine.store().dump()), dump);
            assert_eq!(files_in(machine.path()).len(), files.len());
            let (done, run, _) = import(&machine, "django site.db");
            assert_eq!(done, code);
            for part in ["accounts", "tokens", "passwords", "warnings", "conflicts"] {
                assert_eq!(run[part], report[part], "{part}");
            }
        }
    }
}

#[test]
fn a_second_run_adds_what_is_new_and_brings_nothing_back() {
    let machine = Machine::with_accounts();
    let server = machine.server();
    let site = Site::with(machine.path(), &["deleted", "logged_out", "changed"]);
    for user in 1..=3 {
        site.token(user, &drf_token(u32::try_from(user).unwrap()));
    }
    site.close();
    imported(&machine, "django site.db");
    machine.said("user delete deleted --yes");
    assert_eq!(server.ask(&logout(&drf_token(2))).status(), 200);
    machine.said_to("new password\n", "user set-password changed");
    // Somebody else registers under the name of whom was deleted.
    assert_eq!(post(server.address, "/api/register", &json!({"username": "deleted", "password": "p"})).status(), 201);
    let before = machine.store().dump();

    let report = imported(&machine, "django site.db");
    assert_eq!((&report["accounts"]["imported"], &report["accounts"]["already"]), (&json!(0), &json!(3)));
    assert_eq!(machine.store().dump(), before);
    let site = Site::reopen(machine.path().join("site.db"));
    site.knox(site.user("late"), &knox_token(4), None);
    site.close();
    let report = imported(&machine, "django site.db");
    assert_eq!((&report["accounts"]["imported"], &report["accounts"]["already"]), (&json!(1), &json!(3)));
    assert_eq!(status_of(&server, &knox_token(4)), 200);
    for number in 1..=3 {
        assert_eq!(status_of(&server, &drf_token(number)), 401, "{number}");
    }
    assert_eq!([log_in(&server, "deleted", PASSWORD).0, log_in(&server, "deleted", "p").0], [401, 200]);
    assert_eq!([log_in(&server, "changed", PASSWORD).0, log_in(&server, "changed", "new password").0], [401, 200]);
}

#[test]
fn another_database_is_refused_until_it_has_a_name_of_its_own() {
    let (machine, other) = (Machine::new(), Machine::new());
    Site::with(machine.path(), &["anna", "ben"]).close();
    Site::with(other.path(), &["carl", "dora"]).close();
    imported(&machine, "django site.db");
    let before = machine.store().dump();
    let theirs = other.path().join("site.db");
    for dry_run in ["", " --dry-run"] {
        let (code, sentence) = machine.refused(&format!("import django {}{dry_run}", theirs.display()));
        assert_eq!(code, 1);
        assert!(sentence.contains("--source NAME"), "{sentence}");
    }
    assert_eq!(machine.store().dump(), before);
    let report = imported(&machine, &format!("django {} --source second-site", theirs.display()));
    assert_eq!((&report["source"], &report["accounts"]["imported"]), (&json!("second-site"), &json!(2)));
    let again = imported(&machine, &format!("django {} --source second-site", theirs.display()));
    assert_eq!(again["accounts"]["already"], 2);
}

#[test]
fn an_account_that_has_another_name_by_now_is_a_conflict_and_the_others_come() {
    let machine = Machine::new();
    Site::with(machine.path(), &["anna", "ben"]).close();
    imported(&machine, "django site.db");
    let before = machine.store().dump();
    let site = Site::reopen(machine.path().join("site.db"));
    site.set(2, "username", "benjamin");
    site.user("carl");
    site.close();
    let (code, report, _) = import(&machine, "django site.db");
    assert_eq!((code, &report["written"]), (1, &json!(false)));
    let expected = json!([{"source_id": "2", "name": "benjamin", "reason": "changed_at_source", "with": []}]);
    assert_eq!(report["conflicts"], expected);
    assert_eq!(machine.store().dump(), before);
    let report = imported(&machine, "django site.db --leave-out-conflicts");
    assert_eq!((&report["accounts"]["imported"], &report["accounts"]["already"]), (&json!(1), &json!(1)));
}

/// A site whose accounts take many transactions, of which the last is not full.
fn large_site(machine: &Machine) -> i64 {
    let accounts = 22 * BATCH - 100;
    let site = Site::new(machine.path().join("site.db"));
    for number in 0..accounts {
        let user = site.user(&format!("user{number}"));
        site.items(user, "cellar", &[number + 1, number + 2]);
        site.token(user, &drf_token(u32::try_from(number).unwrap()));
    }
    site.close();
    accounts
}

#[test]
fn an_import_that_is_killed_leaves_whole_accounts_and_the_next_run_ends_the_same() {
    let (machine, undisturbed) = (Machine::with_accounts(), Machine::with_accounts());
    let accounts = large_site(&machine);
    imported(&undisturbed, &format!("django {}", machine.path().join("site.db").display()));
    let store = machine.store();
    let others = store.count("users");
    let written = || store.count("users") - others;
    let mut kills = 0;
    for batches in [4, 8, 12, 16] {
        let mut run =
            machine.command("import django site.db").stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        while written() < batches * BATCH && run.try_wait().unwrap().is_none() {
            thread::sleep(Duration::from_millis(1));
        }
        run.kill().unwrap();
        run.wait().unwrap();
        store.wait_until_free();
        let left = written();
        assert!(left % BATCH == 0 || left == accounts, "{left}: a transaction is written as a whole");
        for (table, each) in [("cellar", 2), ("tokens", 1), ("imported", 1)] {
            assert_eq!(store.count(table), left * each, "{table}");
        }
        kills += i32::from(left < accounts);
    }
    assert!(kills > 0, "no kill came in between");
    let report = imported(&machine, "django site.db");
    let [new, already] = ["imported", "already"].map(|count| report["accounts"][count].as_i64().unwrap());
    assert_eq!(new + already, accounts);
    assert!(already >= BATCH);
    let seen = |store: &dyn TestStore| {
        let accounts: Vec<StoredAccount> =
            store.accounts().into_iter().filter(|account| account.username.starts_with("user")).collect();
        let mut sessions: Vec<_> =
            store.sessions().into_iter().map(|session| (session.digest, session.username)).collect();
        sessions.sort();
        (accounts, sessions, store.count("cellar"), store.count("events"), store.count("imported"))
    };
    assert!(seen(store.as_ref()) == seen(undisturbed.store().as_ref()));
    assert!(store.is_whole());
    // What is shared is checked by its own means.
    if !store.is_shared() {
        machine.said("check");
    }
}

#[test]
fn an_import_that_is_interrupted_says_what_stays_and_goes_on_behind_it() {
    let machine = Machine::with_accounts();
    let accounts = large_site(&machine);
    let store = machine.store();
    let others = store.count("users");
    let run = machine.command("import django site.db").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    while store.count("users") < others + BATCH {
        thread::sleep(Duration::from_millis(1));
    }
    let interrupt = format!("kill -INT {}", run.id());
    run_with(std::process::Command::new("sh").args(["-c", &interrupt]), "");
    let output = run.wait_with_output().unwrap();
    let left = store.count("users") - others;
    let said = String::from_utf8(output.stderr).unwrap();
    if left < accounts {
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(&format!("it was stopped after {left} accounts")), "{said}");
    }
    let report = imported(&machine, "django site.db");
    assert_eq!(report["accounts"]["already"], left);
    assert_eq!(store.count("users"), others + accounts);
}
