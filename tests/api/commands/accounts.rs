//! What commands do to accounts and their tokens.

use std::fs;
use std::process::Output;
use std::thread;

use serde_json::{Value, json};

use super::{Machine, log_in, names, run_with, status_of};
use crate::process::{credentials, token_of};

#[test]
fn the_first_superuser_is_made_in_a_new_store_and_logs_in_over_http() {
    let machine = Machine::new();
    let said = machine.said_to("hunter2\n", "user create Admin --superuser");
    assert!(said.starts_with("Admin was made in a new database at "), "{said}");
    assert!(said.ends_with("; it is a superuser.\n"), "{said}");
    assert_eq!(machine.said_to("hunter2\n", "user create Bob"), "Bob was made; it has no rights over others.\n");
    let server = machine.server();
    let (status, body) = log_in(&server, "admin", "hunter2");
    assert_eq!(status, 200, "{body}");
    assert_eq!(body["user"]["is_superuser"], true);
    assert_eq!(body["user"]["is_staff"], false);

    let made: Value = serde_json::from_str(&machine.said_to("p", "user create Eve --staff --json")).unwrap();
    assert_eq!((&made["username"], &made["is_staff"]), (&json!("Eve"), &json!(true)));
    let (status, body) = log_in(&server, "eve", "p");
    assert_eq!((status, &body["user"]["created"]), (200, &made["created"]), "beside a running server too");
}

#[test]
fn a_deactivated_account_is_refused_by_the_running_server_with_the_very_next_request() {
    let machine = Machine::with_accounts();
    let server = machine.server();
    let token = log_in(&server, "bob", "hunter2").1["token"].as_str().unwrap().to_owned();
    assert_eq!(status_of(&server, &token), 200);
    assert!(machine.said("user deactivate BOB").starts_with("bob cannot log in any more"));
    assert_eq!(status_of(&server, &token), 401);
    assert_eq!(log_in(&server, "bob", "hunter2").0, 401);
    assert_eq!(machine.json("user activate bob")["is_active"], true);
    assert_eq!(status_of(&server, &token), 401, "what has ended stays so");
    assert_eq!(log_in(&server, "bob", "hunter2").0, 200);
}

#[test]
fn what_cannot_be_done_is_one_sentence_with_exit_code_1_and_changes_nothing() {
    let machine = Machine::new();
    for arguments in ["user list", "user show bob", "token list bob", "events", "prune"] {
        assert_eq!(machine.refused(arguments).0, 1, "{arguments}");
    }
    assert_eq!(machine.refused("check").0, 1);
    assert!(!machine.store().exists(), "only the first account makes it");

    let machine = Machine::with_accounts();
    let events = machine.json("events");
    for (arguments, sentence) in [
        ("user create BOB", "there is an account named BOB already"),
        ("user show nobody", "there is no account named nobody"),
        ("user set-password nobody", "there is no account named nobody"),
        ("user activate nobody", "there is no account named nobody"),
        ("user promote nobody", "there is no account named nobody"),
        ("user delete nobody --yes", "there is no account named nobody"),
        ("token list nobody", "there is no account named nobody"),
        ("token revoke nobody --all", "there is no account named nobody"),
        ("token revoke bob 0123456789abcdef", "bob has no session of this id"),
        ("user demote admin --superuser", "admin is the last superuser who can log in"),
        ("user deactivate Admin", "Admin is the last superuser who can log in"),
        ("user delete Admin --yes", "Admin is the last superuser who can log in"),
    ] {
        assert_eq!(machine.refused(arguments), (1, sentence.to_owned()), "{arguments}");
    }
    assert_eq!(machine.json("events"), events);
}

#[test]
fn wrong_usage_and_a_wrong_configuration_have_exit_code_2() {
    let machine = Machine::with_accounts();
    for arguments in [
        "user create bad!name",
        "user create 1234567890123456789012345678901",
        "user create ü",
        "user",
        "user list --active --inactive",
        "user list --limit 0",
        "token revoke bob",
        "token revoke bob 0123456789abcdef --all",
        "token revoke bob 0123456789ABCDEF",
        "events --kind anything",
        "backup",
        "user delete bob",
        "completions tcl",
        "--listen 127.0.0.1:0 user list",
        "user list --config missing.toml",
    ] {
        let output = run_with(&mut machine.command(arguments), "");
        assert_eq!(output.status.code(), Some(2), "{arguments}: {output:?}");
        assert_eq!(output.stdout, b"", "{arguments}");
        assert!(!output.stderr.is_empty(), "{arguments}");
    }
    let said = run_with(&mut machine.command("token revoke bob"), "").stderr;
    assert!(
        String::from_utf8(said).unwrap().contains("\nUsage: authtokens token revoke [OPTIONS] <NAME> <ID|--all>\n")
    );
    assert!(
        machine.said("token revoke --help").contains("\nUsage: authtokens token revoke [OPTIONS] <NAME> <ID|--all>\n")
    );
    assert_eq!(names(&machine.json("user list")), ["Admin", "bob"]);
}

#[test]
fn the_flags_of_all_commands_stand_before_or_behind_the_command() {
    let machine = Machine::new();
    fs::write(machine.path().join("other.toml"), "[password]\nmin_length = 9\n").unwrap();
    for arguments in ["--config other.toml config show", "config --config other.toml show"] {
        assert!(machine.said(arguments).contains("min_length = 9 # other.toml line 2\n"));
    }
    assert_eq!(machine.refused("user create c --config other.toml").0, 1);
}

#[test]
fn tokens_are_listed_and_ended_one_by_one_or_all_at_once() {
    let machine = Machine::with_accounts();
    let server = machine.server();
    let tokens: Vec<String> = (0..3).map(|_| token_of(&server.ask(&credentials("/api/login", "bob")))).collect();
    let sessions = machine.json("token list bob");
    let keys: Vec<&String> = sessions[0].as_object().unwrap().keys().collect();
    assert_eq!(keys, ["created", "current", "expires", "id", "ip", "last_used", "user_agent"]);
    assert_eq!(sessions.as_array().unwrap().len(), 3);
    assert!(machine.said("token list bob").starts_with("ID                CREATED "));

    let newest = sessions[0]["id"].as_str().unwrap();
    assert_eq!(machine.said(&format!("token revoke bob {newest}")), "1 token was ended.\n");
    assert_eq!([0, 1, 2].map(|n| status_of(&server, &tokens[n])), [200, 200, 401]);
    assert_eq!(machine.json("token revoke bob --all"), json!({"revoked": 2}));
    assert_eq!([0, 1, 2].map(|n| status_of(&server, &tokens[n])), [401; 3]);
    assert_eq!(machine.json("token list bob"), json!([]));
    assert_eq!(machine.said("token list bob").lines().count(), 1, "the headings alone");
    assert_eq!(machine.json("token revoke bob --all"), json!({"revoked": 0}));
}

#[test]
fn rights_are_given_and_taken_and_the_answer_says_what_is_left() {
    let machine = Machine::with_accounts();
    assert_eq!(machine.said("user promote bob"), "bob is staff.\n");
    assert_eq!(machine.said("user promote bob --superuser"), "bob is staff and a superuser.\n");
    assert_eq!(machine.said("user demote bob"), "bob is a superuser.\n");
    assert_eq!(machine.said("user demote Admin --superuser"), "Admin has no rights over others.\n");
    assert_eq!(machine.refused("user demote bob --superuser").0, 1);
}

#[test]
fn every_change_leaves_an_event_of_the_command_line() {
    let machine = Machine::with_accounts();
    machine.said("user promote bob");
    machine.said("user demote bob");
    machine.said_to("x\n", "user set-password bob");
    machine.said("user deactivate bob");
    machine.said("user activate bob");
    machine.said("user delete bob --yes");
    let events = machine.json("events --user bob");
    let kinds: Vec<&str> = events.as_array().unwrap().iter().map(|event| event["kind"].as_str().unwrap()).collect();
    let all = machine.json("events");
    assert!(all.as_array().unwrap().iter().all(|event| event["actor"] == "command line"), "{all}");
    let told: Vec<&str> = all.as_array().unwrap().iter().map(|event| event["kind"].as_str().unwrap()).collect();
    for kind in ["created", "promoted", "demoted", "password_set", "deactivated", "activated", "deleted"] {
        assert!(told.contains(&kind), "{kind} in {told:?}; of bob {kinds:?}");
    }
    assert_eq!(machine.json("events --kind demoted").as_array().unwrap().len(), 1);
    assert_eq!(machine.json("events --limit 2").as_array().unwrap().len(), 2);
    assert!(machine.said("events").starts_with("TIME                      EVENT"));
    assert!(machine.said("events").contains("command line"));
}

#[test]
fn an_account_is_deleted_with_yes_and_never_unasked() {
    let machine = Machine::with_accounts();
    let server = machine.server();
    let token = token_of(&server.ask(&credentials("/api/login", "bob")));
    let (code, sentence) = machine.refused("user delete bob");
    assert_eq!((code, sentence.as_str()), (2, "it needs --yes where there is no terminal to ask at"));
    assert_eq!(run_with(&mut machine.command("user delete bob"), "y\n").status.code(), Some(2), "a pipe is not asked");
    assert_eq!(status_of(&server, &token), 200);
    assert_eq!(machine.said("user delete BOB --yes"), "bob was deleted.\n");
    assert_eq!(status_of(&server, &token), 401);
    assert_eq!(machine.refused("user show bob").0, 1);
}

#[test]
fn commands_at_the_same_time_all_do_their_work_also_in_a_store_that_is_not_there_yet() {
    let machine = Machine::new();
    let outputs: Vec<Output> = thread::scope(|scope| {
        let started: Vec<_> = (0..8)
            .map(|n| {
                let mut command = machine.command(&format!("user create u{}", n % 4));
                scope.spawn(move || run_with(&mut command, "hunter2\n"))
            })
            .collect();
        started.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let done = outputs.iter().filter(|output| output.status.success()).count();
    assert_eq!(done, 4, "{outputs:?}");
    for output in outputs.iter().filter(|output| !output.status.success()) {
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("already"), "{said}");
    }
    assert_eq!(names(&machine.json("user list")), ["u0", "u1", "u2", "u3"]);
}

#[test]
fn pruning_deletes_what_has_ended_and_says_how_much() {
    let machine = Machine::with_accounts();
    {
        let server = machine.server();
        server.ask(&credentials("/api/login", "bob"));
        server.ask(&credentials("/api/login", "bob"));
    }
    assert_eq!(machine.json("prune"), json!({"sessions": 0, "events": 0}));
    let store = machine.store();
    let first = store.sessions().remove(0).digest;
    store.change_sessions(&|session| session.created *= i64::from(session.digest != first));
    store.change_events(&|event| event.at *= i64::from(event.id > 2));
    assert_eq!(machine.json("prune"), json!({"sessions": 1, "events": 2}));
    assert_eq!(machine.said("prune"), "Deleted 0 tokens that had ended and 0 old events.\n");
}
