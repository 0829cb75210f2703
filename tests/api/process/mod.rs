//! The program as its owner meets it: started, stopped, misconfigured and killed.

mod killed;
mod logging;
mod starting;
mod stopping;
mod systemd;

use std::fs;
use std::io::{self, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use authtokens::config::{Config, Settings};
use serde_json::json;

use crate::helpers::{JSON, PATIENCE, RawResponse, post_bytes};
use crate::store::{self, TestStore};

/// The binary, or a program that starts it, with none of our variables set.
pub fn program(name: &str) -> Command {
    let mut command = Command::new(name);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("AUTHTOKENS_") || name == "RUST_LOG" || name == "NOTIFY_SOCKET" {
            command.env_remove(name);
        }
    }
    command
}

/// The binary in a working folder of its own.
pub fn authtokens(folder: &Path) -> Command {
    let mut command = program(env!("CARGO_BIN_EXE_authtokens"));
    command.current_dir(folder).stdin(Stdio::null());
    // A service that is installed on this machine may have a configuration, and the tests must not touch its accounts.
    if !folder.join("config.toml").exists() {
        command.env("AUTHTOKENS_CONFIG", "/dev/null");
    }
    store::point_in(folder, &mut command);
    command
}

/// Runs a command to its end.
pub fn run(command: &mut Command) -> Output {
    command.output().unwrap()
}

/// Runs a command that must fail before it serves. Returns its exit code and its one sentence.
pub fn failure_of(command: &mut Command) -> (i32, String) {
    let output = run(command);
    let said = String::from_utf8(output.stderr).unwrap();
    let sentence = said.lines().last().unwrap_or_default();
    assert!(sentence.starts_with("authtokens: "), "{said}");
    assert_eq!(said.lines().filter(|line| line.starts_with("authtokens: ")).count(), 1, "{said}");
    (output.status.code().unwrap(), sentence["authtokens: ".len()..].to_owned())
}

/// A running server process; killed when it goes out of scope.
pub struct Server {
    pub child: Child,
    pub address: SocketAddr,
    log: std::path::PathBuf,
}

impl Server {
    pub fn start(folder: &Path, configure: impl FnOnce(&mut Command)) -> Self {
        let log = folder.join("stderr.log");
        let mut command = authtokens(folder);
        command
            .args(["--listen", "127.0.0.1:0"])
            .env("AUTHTOKENS__PASSWORD__BCRYPT_COST", "4")
            // All tests come from one address.
            .env("AUTHTOKENS__RATE_LIMIT__ENABLED", "false")
            .stderr(fs::File::create(&log).unwrap());
        configure(&mut command);
        // It may be another command by now.
        store::point_in(folder, &mut command);
        let mut child = command.spawn().unwrap();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let said = fs::read_to_string(&log).unwrap();
            let address = said.split("listens on http://").nth(1).and_then(|after| after.split_whitespace().next());
            if let Some(address) = address.and_then(|address| address.parse().ok()) {
                return Self { child, address, log };
            }
            assert!(child.try_wait().unwrap().is_none() && Instant::now() < deadline, "{said}");
            thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    pub fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    }

    pub fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "it does not stop: {}", self.log());
            thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn ask(&self, request: &[u8]) -> RawResponse {
        ask(self.address, request).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn ask(address: SocketAddr, request: &[u8]) -> io::Result<RawResponse> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(request)?;
    RawResponse::try_read_from(&mut stream)
}

pub fn credentials(path: &str, username: &str) -> Vec<u8> {
    post_bytes(path, JSON, json!({"username": username, "password": "hunter2"}).to_string())
}

/// A POST with a JSON body.
pub fn post(address: SocketAddr, path: &str, body: &serde_json::Value) -> RawResponse {
    ask(address, &post_bytes(path, JSON, body.to_string())).unwrap()
}

pub fn logout(token: &str) -> Vec<u8> {
    post_bytes("/api/logout", &format!("Authorization: Token {token}\r\n"), "")
}

pub fn token_of(response: &RawResponse) -> String {
    response.json()["token"].as_str().unwrap().to_owned()
}

/// The store of a program that is started in this folder without naming another one.
pub fn store_in(folder: &Path) -> Box<dyn TestStore> {
    let mut config = Config::from_settings(Settings::default()).unwrap();
    config.database.path = folder.join(&config.database.path);
    store::keep_in(folder, &mut config);
    store::of(&config)
}

/// Waits for what must happen.
pub fn until(happened: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !happened() {
        assert!(Instant::now() < deadline, "it does not happen");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Every file below a folder with its bytes.
pub fn contents(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read(&path).unwrap()))
        .collect();
    files.sort();
    files
}
