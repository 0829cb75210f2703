//! The commands with names that came from another system.

use super::{Machine, names, run_with};
use crate::imported_names::NASTY;
use crate::process::failure_of;
use crate::store::StoredAccount;

/// A command whose last argument is a name.
fn said(machine: &Machine, arguments: &str, name: &str) -> String {
    let output = run_with(machine.command(arguments).args(["--", name]), "correct horse\n");
    assert!(output.status.success(), "{arguments} {name}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn every_command_takes_an_imported_name_in_any_case_and_none_makes_one() {
    let machine = Machine::with_accounts();
    let accounts = NASTY.map(|name| StoredAccount::named(name.to_owned()));
    machine.store().add_accounts(&accounts);
    let listed = machine.said("user list");
    let users = machine.json("user list");
    for name in NASTY {
        assert!(listed.lines().any(|line| line.starts_with(&format!("{name}  "))), "{name} in {listed}");
        assert!(names(&users).contains(&name), "{name} in {users}");
        let any_case = name.to_uppercase();
        let shown = said(&machine, "user show", &any_case);
        assert_eq!(shown.lines().next().unwrap().strip_prefix("username").unwrap().trim(), name);
        for command in ["deactivate", "activate", "promote", "demote", "set-password"] {
            assert!(
                said(&machine, &format!("user {command}"), &any_case).starts_with(&format!("{name} ")),
                "{command}"
            );
        }
        said(&machine, "token list", &any_case);
        said(&machine, "token revoke --all", &any_case);
        said(&machine, "user delete --yes", name);
        let (code, sentence) = failure_of(machine.command("user show").args(["--", name]));
        assert_eq!(code, 1, "{sentence}");
        assert!(sentence.contains(name), "{sentence}");
    }
    for name in ["a/b", "José Ärger", "山田 太郎"] {
        let output = run_with(machine.command("user create").args(["--", name]), "correct horse\n");
        assert_eq!(output.status.code(), Some(2), "{name}");
        assert!(String::from_utf8(output.stderr).unwrap().contains("1 to 30 characters"), "{name}");
    }
    for no_name in ["", " a", "a\tb", "command line", "a\u{202e}b"] {
        let output = run_with(machine.command("user show").args(["--", no_name]), "");
        assert_eq!(output.status.code(), Some(2), "{no_name:?}");
    }
}
