//! The key that secrets are sealed with, where several servers need the same one.

use std::path::Path;
use std::process::Command;

use authtokens::system::sealing::generate_key;
use serde_json::json;

use super::nodes::new_database;
use crate::process::{Server, authtokens, failure_of, run, until};

/// The sentence of a server that has another key, or none.
const ANOTHER: &str = "sealing.key is not the key to this database: put the right one back, or run `authtokens \
     database new-key` to forget what it opens";
const MISSING: &str = "sealing.key is missing, the key to this database: put it back, or run `authtokens database \
     new-key` to forget what it opens";

/// A program on this database, with this key.
fn with_key(command: &mut Command, url: &str, key: Option<&str>) {
    command.env("AUTHTOKENS__DATABASE__URL", url);
    if let Some(key) = key {
        command.env("AUTHTOKENS__SEALING__KEY", key);
    }
}

fn server(folder: &Path, url: &str, key: Option<&str>) -> Server {
    Server::start(folder, |command| with_key(command, url, key))
}

fn command(folder: &Path, url: &str, key: Option<&str>, arguments: &str) -> Command {
    let mut command = authtokens(folder);
    with_key(command.args(arguments.split_whitespace()), url, key);
    command
}

fn start_refused(folder: &Path, url: &str, key: Option<&str>) -> (i32, String) {
    failure_of(&mut command(folder, url, key, "--listen 127.0.0.1:0"))
}

fn stop(mut server: Server) {
    server.signal("TERM");
    assert!(server.wait().success(), "{}", server.log());
}

#[test]
fn from_the_first_start_with_a_key_on_no_server_starts_with_another_or_without_one() {
    let Some(url) = new_database() else { return };
    let folder = tempfile::tempdir().unwrap();
    let [one, other] = [generate_key(), generate_key()];
    // A service that seals nothing needs none.
    stop(server(folder.path(), &url, None));
    let first = server(folder.path(), &url, Some(&one));
    // Nothing is sealed yet.
    assert_eq!(start_refused(folder.path(), &url, Some(&other)), (1, ANOTHER.to_owned()));
    assert_eq!(start_refused(folder.path(), &url, None), (1, MISSING.to_owned()));
    stop(server(folder.path(), &url, Some(&one)));
    stop(first);
    assert_eq!(start_refused(folder.path(), &url, Some(&other)), (1, ANOTHER.to_owned()));
}

#[test]
fn of_servers_that_start_at_once_with_keys_of_their_own_on_an_empty_database_one_serves() {
    let Some(url) = new_database() else { return };
    let folders = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let keys = [generate_key(), generate_key(), generate_key()];
    let mut starting: Vec<_> = folders
        .iter()
        .zip(&keys)
        .map(|(folder, key)| {
            let log = std::fs::File::create(folder.path().join("log")).unwrap();
            let mut command = command(folder.path(), &url, Some(key), "--listen 127.0.0.1:0");
            command.stderr(log).spawn().unwrap()
        })
        .collect();
    let said = |number: usize| std::fs::read_to_string(folders[number].path().join("log")).unwrap();
    until(|| (0..3).all(|number| said(number).contains("listens on") || said(number).contains(ANOTHER)));
    let serving = (0..3).filter(|number| said(*number).contains("listens on")).count();
    for server in &mut starting {
        let _ = server.kill();
        server.wait().unwrap();
    }
    assert_eq!(serving, 1, "{:?}", [said(0), said(1), said(2)]);
}

#[test]
fn a_new_key_is_refused_while_a_server_runs_and_taken_by_all_afterwards() {
    let Some(url) = new_database() else { return };
    let folder = tempfile::tempdir().unwrap();
    let [one, other] = [generate_key(), generate_key()];
    let first = server(folder.path(), &url, Some(&one));
    for key in [&one, &other] {
        let (code, sentence) = failure_of(&mut command(folder.path(), &url, Some(key), "database new-key --yes"));
        assert!(code != 0 && sentence.contains("is in use"), "{sentence}");
    }
    stop(first);
    let output = run(&mut command(folder.path(), &url, Some(&other), "database new-key --yes --json"));
    assert!(output.status.success(), "{output:?}");
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(told["forgotten"], json!({"totp": 0, "refresh_tokens": 0, "webhooks": 0}));
    assert_eq!(start_refused(folder.path(), &url, Some(&one)), (1, ANOTHER.to_owned()));
    stop(server(folder.path(), &url, Some(&other)));
}
