//! The key that secrets are sealed with, where several servers need the same one.

use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use authtokens::domain::identity::refresh_token_binding;
use authtokens::system::sealing::{SealingKey, generate_key};
use serde_json::json;

use super::nodes::new_database;
use crate::helpers::left_out;
use crate::process::{Server, authtokens, failure_of, program, run, until};

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

#[tokio::test]
async fn a_server_that_starts_while_the_question_is_asked_keeps_its_key_and_the_command_is_refused() {
    let Some(url) = new_database() else { return };
    let folder = tempfile::tempdir().unwrap();
    let [one, other] = [generate_key(), generate_key()];
    stop(server(folder.path(), &url, Some(&one)));
    let sealed = SealingKey::parse(&one).unwrap().seal(&refresh_token_binding(&[0; 32]), b"secret");
    let insert = "INSERT INTO revocations (provider, binding, token, attempts, due, claims, expires) \
         VALUES ('example', decode(repeat('00', 32), 'hex'), $1, 0, 9000000000000, 0, 9000000000000)";
    let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    client.execute(insert, &[&sealed]).await.unwrap();
    drop(client);
    connection.await.unwrap().unwrap();

    let mut terminal = program("script");
    let inside = format!("{} database new-key", env!("CARGO_BIN_EXE_authtokens"));
    terminal.args(["-qec", &inside, "/dev/null"]).current_dir(folder.path()).env("SHELL", "/bin/sh");
    with_key(terminal.env("AUTHTOKENS_CONFIG", "/dev/null"), &url, Some(&other));
    let Ok(mut asking) = terminal.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn() else {
        return left_out("there is no script(1) that gives a terminal");
    };
    let mut out = asking.stdout.take().unwrap();
    let (mut said, mut byte) = (Vec::new(), [0]);
    while !said.ends_with(b"[y/N] ") {
        assert_eq!(out.read(&mut byte).unwrap(), 1, "{}", String::from_utf8_lossy(&said));
        said.push(byte[0]);
    }
    let meanwhile = server(folder.path(), &url, Some(&one));
    asking.stdin.take().unwrap().write_all(b"y\n").unwrap();
    out.read_to_end(&mut said).unwrap();
    assert!(!asking.wait().unwrap().success());
    let said = String::from_utf8(said).unwrap();
    assert!(said.contains("1 refresh token") && said.contains("is in use"), "{said}");
    // Nothing is forgotten, and the database knows the key that it knew.
    stop(server(folder.path(), &url, Some(&one)));
    stop(meanwhile);
    let (code, sentence) = start_refused(folder.path(), &url, Some(&other));
    assert!(code == 1 && sentence.contains("the key to 1 refresh token"), "{sentence}");
    let output = run(&mut command(folder.path(), &url, Some(&other), "database new-key --yes --json"));
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(told["forgotten"], json!({"totp": 0, "refresh_tokens": 1, "webhooks": 0}));
    stop(server(folder.path(), &url, Some(&other)));
}
