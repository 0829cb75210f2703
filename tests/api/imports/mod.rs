//! Imports from other systems: the command, and what a running server makes of the accounts.

mod accounts;
mod again;
mod conflicts;
mod refused;
pub mod sources;
mod tokens;

use std::path::Path;

use serde_json::Value;

use crate::commands::{Machine, run_with};
use crate::process::Server;

/// What an import said: its exit code, its report, and what it wrote to the standard error output.
fn import(machine: &Machine, arguments: &str) -> (i32, Value, String) {
    let output = run_with(&mut machine.command(&format!("import {arguments} --json")), "");
    let said = String::from_utf8(output.stderr).unwrap();
    let report = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{arguments}: {said}"));
    (output.status.code().unwrap(), report, said)
}

/// The report of an import that leaves nothing open.
fn imported(machine: &Machine, arguments: &str) -> Value {
    machine.json(&format!("import {arguments}"))
}

/// The user object of whoever has the token.
fn user_of(server: &Server, token: &str) -> Value {
    let answer = server.ask(&with_token("GET", "/api/user", token));
    assert_eq!(answer.status(), 200, "{answer:?}");
    answer.json()
}

fn with_token(method: &str, path: &str, token: &str) -> Vec<u8> {
    format!("{method} {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Token {token}\r\nContent-Length: 0\r\n\r\n")
        .into_bytes()
}

/// Every file in a folder, with its bytes and when they were last changed.
fn files_in(folder: &Path) -> Vec<(String, Vec<u8>, std::time::SystemTime)> {
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .map(|path| {
            let changed = path.metadata().unwrap().modified().unwrap();
            (path.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read(&path).unwrap(), changed)
        })
        .collect();
    files.sort();
    files
}
