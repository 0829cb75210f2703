//! Help, the manual and the completions; what a start prints.

use std::fs;

use super::{COMMANDS, Machine};
use crate::process::{Server, credentials, run};

#[test]
fn help_fits_the_terminal_and_is_never_wider_than_a_page() {
    let machine = Machine::new();
    let commands = COMMANDS.iter().copied().chain(["", "user", "token", "database", "config", "import"]);
    for command in commands {
        for (columns, width) in [("", 100), ("200", 100), ("80", 80)] {
            let output = run(machine.command(&format!("{command} --help")).env("COLUMNS", columns));
            let help = String::from_utf8(output.stdout).unwrap();
            assert!(help.contains("Usage: authtokens"), "{help}");
            for line in help.lines() {
                assert!(line.chars().count() <= width, "{command}: {line}");
            }
        }
    }
    assert!(
        machine.said("--help").contains("  curl -H 'Content-Type: application/json' \\\n    -d '{"),
        "to be copied"
    );
}

#[test]
fn the_manual_has_the_sections_that_people_look_for() {
    let manual = Machine::new().said("manual");
    for section in [
        "NAME",
        "SYNOPSIS",
        "DESCRIPTION",
        "OPTIONS",
        "COMMANDS",
        "\"EXIT STATUS\"",
        "ENVIRONMENT",
        "FILES",
        "EXAMPLES",
    ] {
        assert_eq!(manual.matches(&format!("\n.SH {section}\n")).count(), 1, "{section}");
    }
    for said in ["AUTHTOKENS_CONFIG", "RUST_LOG", "/etc/authtokens/config.toml", "data/authtokens.db", "\n.B 130\n"] {
        assert!(manual.contains(said), "{said}");
    }
}

#[test]
fn the_start_tells_where_it_listens_and_where_the_calls_are_explained() {
    let machine = Machine::new();
    for listen in [":0", "localhost:0"] {
        let mut server = Server::start(machine.path(), |command| {
            command.args(["serve", "--listen", listen]);
        });
        server.signal("TERM");
        server.wait();
        let said = server.log();
        let address = said.split("listens on ").nth(1).unwrap().split_whitespace().next().unwrap();
        assert!(address.starts_with("http://127.0.0.1:"), "{said}");
        assert!(said.contains(&format!("{address}/docs\n")), "{said}");
    }
    let (code, sentence) = machine.refused("serve --listen example.org:80");
    assert!(code == 2 && sentence.ends_with("no other name is looked up"), "{sentence}");
}

#[test]
fn a_filter_of_the_log_that_means_nothing_is_told_and_silences_nothing() {
    let machine = Machine::new();
    for (filter, is_told, is_logged) in
        [("inof", true, true), ("authtokens::acess=off", true, true), ("", false, true), ("warn", false, false)]
    {
        let mut server = Server::start(machine.path(), |command| {
            command.env("RUST_LOG", filter);
        });
        server.signal("TERM");
        server.wait();
        let said = server.log();
        assert_eq!(
            said.contains(" WARN  authtokens::telemetry::log RUST_LOG is not understood"),
            is_told,
            "{filter}: {said}"
        );
        assert_eq!(said.contains(" INFO  authtokens::server::application stopped"), is_logged, "{filter}: {said}");
    }
}

#[test]
fn whoever_meets_a_limit_on_this_machine_is_told_once_how_to_lift_it() {
    let machine = Machine::new();
    let mut server = Server::start(machine.path(), |command| {
        command.env("AUTHTOKENS__RATE_LIMIT__ENABLED", "true").env("AUTHTOKENS__RATE_LIMIT__REGISTER", "1 per 1h");
    });
    let statuses = ["a", "b", "c"].map(|name| server.ask(&credentials("/api/register", name)).status());
    assert_eq!(statuses, [201, 429, 429]);
    server.signal("TERM");
    server.wait();
    let said = server.log();
    assert_eq!(said.matches("AUTHTOKENS__RATE_LIMIT__ENABLED=false").count(), 1, "{said}");
    assert!(said.contains("[server] trusted_proxies"), "{said}");
}

#[test]
fn every_command_is_helped_and_stands_in_the_manual_and_the_completions() {
    let machine = Machine::new();
    // Neither needs a valid configuration.
    fs::write(machine.path().join("config.toml"), "nonsense").unwrap();
    let manual = machine.said("manual");
    assert!(manual.contains(".TH authtokens 1"), "{manual}");
    let shells = ["bash", "zsh", "fish"].map(|shell| machine.said(&format!("completions {shell}")));
    for command in COMMANDS {
        let help = machine.said(&format!("{command} --help"));
        assert!(help.contains(&format!("Usage: authtokens {command}")), "{help}");
        assert!(help.lines().next().unwrap().len() > 10, "{help}");
        assert!(manual.contains(&format!(".SS \"authtokens {}\"", command.replace('-', "\\-"))), "{command}");
        for script in &shells {
            assert!(command.split(' ').all(|word| script.contains(word)), "{command}");
        }
    }
    for command in ["create", "set-password"] {
        let help = machine.said(&format!("user {command} --help"));
        let words: Vec<&str> = help.split_whitespace().collect();
        assert!(words.join(" ").contains("first line of standard input"), "{help}");
    }
    assert_eq!(fs::read_dir(machine.path()).unwrap().count(), 1, "asking makes no file");
}
