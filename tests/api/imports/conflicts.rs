//! Names that cannot come as they are: none of them wins by itself.

use std::fs;

use serde_json::{Value, json};

use super::sources::{PASSWORD, Site, drf_token};
use super::{import, imported};
use crate::commands::{Machine, log_in, status_of};

/// A machine with the account `bob`, and a site with a clash of each kind.
fn clashes() -> Machine {
    let machine = Machine::with_accounts();
    let site = Site::with(machine.path(), &["Anna", "anna", "BOB", "Jürgen Groß", "fine", &"long".repeat(10)]);
    for user in 1..=6 {
        site.token(user, &drf_token(u32::try_from(user).unwrap()));
    }
    site.close();
    machine
}

fn reasons(report: &Value) -> Vec<(&str, &str)> {
    let conflicts = report["conflicts"].as_array().unwrap().iter();
    let mut reasons: Vec<_> = conflicts
        .map(|conflict| (conflict["source_id"].as_str().unwrap(), conflict["reason"].as_str().unwrap()))
        .collect();
    reasons.sort_unstable();
    reasons
}

#[test]
fn with_one_conflict_unsettled_nothing_is_written_and_all_are_listed() {
    let machine = clashes();
    let before = machine.store().dump();
    let (code, report, said) = import(&machine, "django site.db");
    assert_eq!(code, 1);
    assert!(said.contains("--rename FILE") && said.contains("--leave-out-conflicts"), "{said}");
    let expected = [
        ("1", "name_differs_only_in_case"),
        ("2", "name_differs_only_in_case"),
        ("3", "name_taken"),
        ("4", "name_characters"),
        ("6", "name_too_long"),
    ];
    assert_eq!(reasons(&report), expected);
    assert_eq!(report["written"], false);
    let both: Vec<_> =
        report["conflicts"].as_array().unwrap().iter().filter(|conflict| conflict["reason"] == expected[0].1).collect();
    assert_eq!([&both[0]["with"], &both[1]["with"]], [&json!(["2"]), &json!(["1"])]);
    assert_eq!(machine.store().dump(), before);
}

#[test]
fn conflicts_are_left_out_where_that_is_asked_for_and_come_later_under_another_name() {
    let machine = clashes();
    let server = machine.server();
    let report = imported(&machine, "django site.db --leave-out-conflicts");
    assert_eq!((&report["accounts"]["imported"], &report["accounts"]["conflicts"]), (&json!(1), &json!(5)));
    assert_eq!(report["tokens"], json!({"carried": 1, "not_carried": {"conflict": 5}}));
    assert_eq!(log_in(&server, "bob", PASSWORD).0, 401, "whoever is here stays who they are");
    assert_eq!([1, 3, 5].map(|number| status_of(&server, &drf_token(number))), [401, 401, 200]);

    fs::write(machine.path().join("names.csv"), "source_id,new_name\n2,anna2\n3,bob.old\n4,juergen\n6,long\n").unwrap();
    let report = imported(&machine, "django site.db --rename names.csv");
    assert_eq!((&report["accounts"]["imported"], &report["accounts"]["already"]), (&json!(5), &json!(1)));
    for (name, number) in [("Anna", 1), ("anna2", 2), ("bob.old", 3), ("juergen", 4), ("long", 6)] {
        assert_eq!(log_in(&server, name, PASSWORD).1["user"]["username"], name);
        assert_eq!(status_of(&server, &drf_token(number)), 200);
    }
}

#[test]
fn a_file_of_new_names_is_refused_where_it_does_not_fit() {
    let machine = clashes();
    let before = machine.store().dump();
    for (text, part) in [
        ("source_id,new_name\n99,nobody\n", "\"99\""),
        ("new_name\nx\n", "source_id"),
        ("source_id,new_name\n1,a\n1,b\n", "1"),
    ] {
        fs::write(machine.path().join("names.csv"), text).unwrap();
        let (code, sentence) = machine.refused("import django site.db --rename names.csv");
        assert_eq!(code, 1, "{sentence}");
        assert!(sentence.contains(part), "{sentence}");
    }
    assert_eq!(machine.refused("import django site.db --rename missing.csv").0, 1);
    // A new name is held against the same rules.
    fs::write(machine.path().join("names.csv"), "source_id,new_name\n1,FINE\n3,a b\n4,Admin\n6,long\n").unwrap();
    let (code, report, _) = import(&machine, "django site.db --rename names.csv");
    assert_eq!(code, 1);
    let expected = [
        ("1", "name_differs_only_in_case"),
        ("3", "name_characters"),
        ("4", "name_taken"),
        ("5", "name_differs_only_in_case"),
    ];
    assert_eq!(reasons(&report), expected);
    assert_eq!(machine.store().dump(), before);
}

#[test]
fn the_names_of_the_source_log_in_once_they_are_imported() {
    let machine = clashes();
    let server = machine.server();
    let long = "long".repeat(10);
    for name in ["Jürgen Groß", &long] {
        assert_eq!(log_in(&server, name, PASSWORD).0, 400, "nobody could have that name");
    }
    let (code, report, _) = import(&machine, "django site.db --names source --leave-out-conflicts");
    assert_eq!(code, 0);
    assert_eq!(
        reasons(&report),
        [("1", "name_differs_only_in_case"), ("2", "name_differs_only_in_case"), ("3", "name_taken")]
    );
    for (name, number) in [("Jürgen Groß", 4), (&long, 6)] {
        assert_eq!(log_in(&server, name, PASSWORD).1["user"]["username"], name);
        assert_eq!(status_of(&server, &drf_token(number)), 200);
    }
    // Decomposed, and in capitals.
    assert_eq!(log_in(&server, "JU\u{308}RGEN GROß", PASSWORD).0, 200);
    let (wrong, unknown) = (log_in(&server, "Jürgen Groß", "wrong"), log_in(&server, "Jürgen Grün", "wrong"));
    assert_eq!(wrong.0, 401);
    assert_eq!(wrong, unknown, "who has an account is not told");
    assert_eq!(log_in(&server, " outer space", PASSWORD).0, 400);
    // A new account's name is still the API's.
    let body = json!({"username": "Jürgen", "password": "p"});
    assert_eq!(crate::process::post(server.address, "/api/register", &body).status(), 400);
}
