//! The commands as the operator uses them: the program itself, with a running server and without one.

mod accounts;
mod configuration;
mod database;
mod healthcheck;
mod help;
mod imported_names;
mod mail;
mod passwords;
mod printing;
mod resets;
mod services;

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::helpers::{JSON, left_out, post_bytes};
use crate::process::{Server, authtokens, failure_of, program, run, store_in};
use crate::store::{TestStore, point_in};

/// A folder in which commands are given.
pub struct Machine(TempDir);

impl Machine {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// One with an account named `Admin`, a superuser, and one named `bob`. Their password is `hunter2`.
    pub fn with_accounts() -> Self {
        let machine = Self::new();
        machine.said_to("hunter2\n", "user create Admin --superuser");
        machine.said_to("hunter2\n", "user create bob");
        machine
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn server(&self) -> Server {
        Server::start(self.path(), |_| {})
    }

    /// The program with these arguments. A command never logs, whatever `RUST_LOG` says.
    pub fn command(&self, arguments: &str) -> Command {
        let mut command = authtokens(self.path());
        command
            .args(arguments.split_whitespace())
            .env("AUTHTOKENS__PASSWORD__BCRYPT_COST", "4")
            .env("RUST_LOG", "trace");
        command
    }

    /// What a command prints that succeeds.
    pub fn said(&self, arguments: &str) -> String {
        self.said_to("", arguments)
    }

    pub fn said_to(&self, input: &str, arguments: &str) -> String {
        let output = run_with(&mut self.command(arguments), input);
        assert!(output.status.success(), "{arguments}: {output:?}");
        // `config show` warns about the low cost that the tests use.
        let cost = "authtokens: warning: password.bcrypt_cost is 4: ";
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(said.lines().find(|line| !line.starts_with(cost)), None, "{arguments}");
        String::from_utf8(output.stdout).unwrap()
    }

    pub fn json(&self, arguments: &str) -> Value {
        serde_json::from_str(&self.said(&format!("{arguments} --json"))).unwrap()
    }

    /// The sentence of a command that fails, with its exit code.
    pub fn refused(&self, arguments: &str) -> (i32, String) {
        let mut command = self.command(arguments);
        let (code, sentence) = failure_of(&mut command);
        assert_eq!(run(&mut command).stdout, b"", "{arguments}");
        (code, sentence)
    }

    pub fn store(&self) -> Box<dyn TestStore> {
        store_in(self.path())
    }
}

pub fn run_with(command: &mut Command, input: &str) -> Output {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // A command that does not ask may be gone already.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

pub fn names(users: &Value) -> Vec<&str> {
    users.as_array().unwrap().iter().map(|user| user["username"].as_str().unwrap()).collect()
}

pub fn log_in(server: &Server, username: &str, password: &str) -> (u16, Value) {
    let body = json!({"username": username, "password": password}).to_string();
    let response = server.ask(&post_bytes("/api/login", JSON, body));
    (response.status(), response.json())
}

/// The status with which the server answers a token.
pub fn status_of(server: &Server, token: &str) -> u16 {
    let request = format!("GET /api/user HTTP/1.1\r\nHost: a\r\nAuthorization: Token {token}\r\n\r\n");
    server.ask(request.as_bytes()).status()
}

/// Every command, as it is given.
const COMMANDS: [&str; 48] = [
    "serve",
    "user create",
    "user list",
    "user show",
    "user set-password",
    "user send-reset",
    "user verify-email",
    "user reset-factors",
    "user activate",
    "user deactivate",
    "user promote",
    "user demote",
    "user delete",
    "token list",
    "token revoke",
    "events",
    "backup",
    "restore",
    "check",
    "import django",
    "import pocketbase",
    "import supabase",
    "prune",
    "healthcheck",
    "database status",
    "database migrate",
    "database copy",
    "database new-key",
    "database reopen",
    "config show",
    "config check",
    "mail test",
    "mail preview",
    "service add",
    "service list",
    "service revoke",
    "check-proxy",
    "webhook add",
    "webhook list",
    "webhook rotate",
    "webhook test",
    "webhook replay",
    "webhook disable",
    "webhook enable",
    "webhook remove",
    "webhook log",
    "completions",
    "manual",
];

/// What a command prints at a terminal of this width.
pub fn said_at_a_terminal(machine: &Machine, width: usize, arguments: &str) -> Option<String> {
    let inside = format!("stty cols {width} && {} {arguments}", env!("CARGO_BIN_EXE_authtokens"));
    let mut terminal = program("script");
    terminal.args(["-qec", &inside, "/dev/null"]).current_dir(machine.path()).stdin(Stdio::null());
    terminal.env("SHELL", "/bin/sh").env("AUTHTOKENS_CONFIG", "/dev/null");
    point_in(machine.path(), &mut terminal);
    let Ok(output) = terminal.output() else {
        left_out("there is no script(1) that gives a terminal");
        return None;
    };
    let said = String::from_utf8(output.stdout).unwrap().replace("\r\n", "\n");
    assert!(output.status.success(), "{said}");
    Some(said)
}
