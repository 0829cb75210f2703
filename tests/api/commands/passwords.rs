//! How a password is given to a command.

use std::fs;
use std::io::{Read as _, Write as _};
use std::process::{ChildStdin, Command, Stdio};

use serde_json::json;

use super::{Machine, log_in, names, run_with, status_of};
use crate::helpers::left_out;
use crate::process::{Server, credentials, failure_of, program, token_of};
use crate::store::point_in;

#[test]
fn a_password_that_is_set_ends_the_tokens_and_the_old_password() {
    let machine = Machine::with_accounts();
    let server = machine.server();
    let token = log_in(&server, "bob", "hunter2").1["token"].as_str().unwrap().to_owned();
    assert!(machine.said_to("new one\n", "user set-password bob").starts_with("bob has a new password"));
    assert_eq!(status_of(&server, &token), 401);
    assert_eq!(log_in(&server, "bob", "hunter2").0, 401);
    assert_eq!(log_in(&server, "bob", "new one").0, 200);
}

#[test]
fn a_password_is_exactly_the_first_line_of_standard_input_and_keeps_the_policy() {
    let machine = Machine::new();
    machine.said_to(" pä ss\t\nsecond\n", "user create a");
    let server = machine.server();
    assert_eq!(log_in(&server, "a", " pä ss\t").0, 200);
    // Exactly one line ending, LF or CRLF, is not part of it.
    for (n, (input, password)) in [
        ("no newline", "no newline"),
        ("windows\r\n", "windows"),
        ("two\r\r\n", "two\r"),
        ("mac\r", "mac\r"),
        ("inside\rof it\n", "inside\rof it"),
    ]
    .into_iter()
    .enumerate()
    {
        machine.said_to(input, &format!("user create b{n}"));
        assert_eq!(log_in(&server, &format!("b{n}"), password).0, 200, "{input:?}");
        machine.said(&format!("user delete b{n} --yes"));
    }

    for (input, sentence) in [
        ("", "the password must not be empty"),
        ("\n", "the password must not be empty"),
        ("\r\n", "the password must not be empty"),
        ("short\n", "the password must be at least 8 characters"),
        ("Password1\n", "the password must not be one of the most common passwords"),
    ] {
        for arguments in ["user create c", "user set-password a"] {
            let mut command = machine.command(arguments);
            command.env("AUTHTOKENS__PASSWORD__MIN_LENGTH", "8").env("AUTHTOKENS__PASSWORD__REJECT_COMMON", "true");
            let output = run_with(&mut command, input);
            assert_eq!(output.status.code(), Some(1), "{input:?}");
            assert_eq!(String::from_utf8(output.stderr).unwrap(), format!("authtokens: {sentence}\n"));
        }
    }
    let output =
        machine.command("user create c").stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().and_then(|mut child| {
            child.stdin.take().unwrap().write_all(b"\xff\n")?;
            child.wait_with_output()
        });
    assert_eq!(output.unwrap().status.code(), Some(1), "not UTF-8");
    assert_eq!(names(&machine.json("user list")), ["a"]);
    assert_eq!(log_in(&server, "a", " pä ss\t").0, 200, "nothing has changed");
}

#[test]
fn a_password_that_no_login_could_send_is_refused_and_never_cut() {
    let machine = Machine::new();
    let set = |input: &str| {
        let mut command = machine.command("user create a");
        run_with(command.env("AUTHTOKENS__SERVER__BODY_LIMIT", "1 KiB"), input)
    };
    // The JSON around the password in a login.
    let room = 1_024 - json!({"username": "a", "password": ""}).to_string().len();
    for password in ["x".repeat(room + 1), "x".repeat(10_000), "\"".repeat(room), "ü".repeat(600)] {
        for end in ["", "\n", "\nsecond"] {
            let output = set(&(password.clone() + end));
            let said = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(1), "{said}");
            assert!(
                said.starts_with("authtokens: the password must fit into a login, which is at most 1.0 KiB"),
                "{said}"
            );
        }
    }
    let longest = "x".repeat(room);
    assert!(set(&longest).status.success());
    let server = Server::start(machine.path(), |command| {
        command.env("AUTHTOKENS__SERVER__BODY_LIMIT", "1 KiB");
    });
    assert_eq!(log_in(&server, "a", &longest).0, 200);
}

#[test]
fn what_was_done_and_cannot_be_told_is_said_to_be_done() {
    let machine = Machine::new();
    let full = || fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut child =
        machine.command("user create a").stdin(Stdio::piped()).stdout(full()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"hunter2\n").unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.starts_with("authtokens: it was done, but standard output cannot be written: "), "{said}");
    assert_eq!(names(&machine.json("user list")), ["a"]);
    let (code, sentence) = failure_of(machine.command("user list").stdout(full()));
    assert!(code == 1 && sentence.starts_with("cannot write to standard output: "), "{sentence}");
}

#[test]
fn a_password_in_an_argument_is_a_usage_error() {
    let machine = Machine::with_accounts();
    for arguments in ["user create c --password secret", "user create c secret", "user set-password bob secret"] {
        let output = run_with(&mut machine.command(arguments), "hunter2\n");
        assert_eq!(output.status.code(), Some(2), "{arguments}");
    }
    assert_eq!(names(&machine.json("user list")), ["Admin", "bob"]);
}

/// Creates an account at a terminal, and calls `then` with the terminal's keyboard and the command's process id when
/// the password is asked for. Returns all that the terminal showed, with the exit code and the terminal's modes at the
/// end.
fn at_a_terminal(machine: &Machine, then: impl FnOnce(&mut ChildStdin, &str)) -> Option<String> {
    let inside = format!(
        "trap : INT; sh -c 'echo process=$$.; exec {} user create Admin'; echo code=$?; stty -a",
        env!("CARGO_BIN_EXE_authtokens")
    );
    let mut terminal = program("script");
    terminal.args(["-qec", &inside, "/dev/null"]).current_dir(machine.path());
    // One shell for all: they differ in what Ctrl-C at a command that they wait for does to themselves.
    terminal.env("SHELL", "/bin/sh").env("AUTHTOKENS_CONFIG", "/dev/null");
    point_in(machine.path(), &mut terminal);
    let Ok(mut child) = terminal.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn() else {
        left_out("there is no script(1) that gives a terminal");
        return None;
    };
    let mut out = child.stdout.take().unwrap();
    let mut said = Vec::new();
    let mut byte = [0];
    while !said.ends_with(b"New password: ") {
        assert_eq!(out.read(&mut byte).unwrap(), 1, "{}", String::from_utf8_lossy(&said));
        said.push(byte[0]);
    }
    let until_now = String::from_utf8_lossy(&said).into_owned();
    let process = until_now.split_once("process=").unwrap().1.split_once('.').unwrap().0;
    let mut keys = child.stdin.take().unwrap();
    then(&mut keys, process);
    out.read_to_end(&mut said).unwrap();
    drop(keys);
    child.wait().unwrap();
    let said = String::from_utf8(said).unwrap();
    assert!(said.contains(" echo ") && said.contains(" icanon ") && said.contains("isig "), "{said}");
    assert!(!said.contains("hun"), "{said}");
    Some(said)
}

#[test]
fn a_password_is_typed_twice_and_never_shown() {
    let machine = Machine::new();
    // Both at once: the second question finds its answer already there.
    for (typed, code) in [("hunter2\nhunter3\n", 1), ("hunter2\nhunter2\n", 0)] {
        let Some(said) = at_a_terminal(&machine, |keys, _| keys.write_all(typed.as_bytes()).unwrap()) else { return };
        assert!(said.contains("The same again: ") && said.contains(&format!("code={code}")), "{said}");
    }
    token_of(&machine.server().ask(&credentials("/api/login", "Admin")));
}

#[test]
fn a_password_that_is_given_up_leaves_a_terminal_that_shows_what_is_typed() {
    // At once: the terminal is silent, and Ctrl-C is heard, before the question is asked.
    let interrupt: fn(&mut ChildStdin, &str) = |keys, _| keys.write_all(b"hun\x03").unwrap();
    let terminate: fn(&mut ChildStdin, &str) =
        |_, process| assert!(Command::new("kill").args(["-TERM", process]).status().unwrap().success());
    for give_up in [interrupt, terminate] {
        let machine = Machine::new();
        let Some(said) = at_a_terminal(&machine, give_up) else { return };
        assert!(
            said.contains("authtokens: it was interrupted, and nothing was done") && said.contains("code=130"),
            "{said}"
        );
        assert!(!machine.store().exists(), "{said}");
    }
}
