//! The program as its owner meets it: started, stopped, misconfigured and killed.

use std::fs;
use std::io::{self, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use tempfile::TempDir;

use crate::helpers::{JSON, PATIENCE, RawResponse, UNKNOWN_TOKEN, post_bytes};

/// A program that starts the binary, or is it, with none of our variables set.
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
    // A service of the machine's own may have a configuration, and its accounts are not to be tried on.
    if !folder.join("config.toml").exists() {
        command.env("AUTHTOKENS_CONFIG", "/dev/null");
    }
    command
}

/// Runs it to its end.
pub fn run(command: &mut Command) -> Output {
    command.output().unwrap()
}

/// Runs what must fail before it serves: its exit code and its one sentence.
pub fn refusal(command: &mut Command) -> (i32, String) {
    let output = run(command);
    let said = String::from_utf8(output.stderr).unwrap();
    let sentence = said.lines().last().unwrap_or_default();
    assert!(sentence.starts_with("authtokens: "), "{said}");
    assert_eq!(said.lines().filter(|line| line.starts_with("authtokens: ")).count(), 1, "{said}");
    (output.status.code().unwrap(), sentence["authtokens: ".len()..].to_owned())
}

/// A running server process; killed when it goes out of scope.
pub struct Server {
    child: Child,
    address: SocketAddr,
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
        let mut child = command.spawn().unwrap();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let said = fs::read_to_string(&log).unwrap();
            let address = said.split("listens on http://").nth(1).and_then(|rest| rest.split_whitespace().next());
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

fn ask(address: SocketAddr, request: &[u8]) -> io::Result<RawResponse> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(request)?;
    RawResponse::try_read_from(&mut stream)
}

pub fn credentials(path: &str, username: &str) -> Vec<u8> {
    post_bytes(path, JSON, json!({"username": username, "password": "hunter2"}).to_string())
}

fn logout(token: &str) -> Vec<u8> {
    post_bytes("/api/logout", &format!("Authorization: Token {token}\r\n"), "")
}

pub fn token_of(response: &RawResponse) -> String {
    response.json()["token"].as_str().unwrap().to_owned()
}

/// Waits for what must happen.
fn until(happened: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !happened() {
        assert!(Instant::now() < deadline, "it does not happen");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Every file below a folder with its bytes.
fn contents(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read(&path).unwrap()))
        .collect();
    files.sort();
    files
}

#[test]
fn without_arguments_or_files_it_serves_on_127_0_0_1_8000_and_keeps_its_data_in_data() {
    let folder = tempfile::tempdir().unwrap();
    let output = run(authtokens(folder.path()).arg("--help"));
    assert!(output.status.success());
    let help = String::from_utf8(output.stdout).unwrap();
    for word in ["serve", "--config", "--listen", "--database", "config.toml", "AUTHTOKENS__", "curl", "Exit codes"] {
        assert!(help.contains(word), "{word} in {help}");
    }
    let config = authtokens::config::Config::from_settings(authtokens::config::Settings::default()).unwrap();
    assert_eq!(config.server.listen.to_string(), "127.0.0.1:8000");
    assert_eq!(config.database.path, Path::new("data/authtokens.db"));

    let version = run(authtokens(folder.path()).arg("--version"));
    assert_eq!(String::from_utf8(version.stdout).unwrap(), format!("authtokens {}\n", env!("CARGO_PKG_VERSION")));
    assert_eq!(contents(folder.path()), [], "asking changes nothing");

    let server = Server::start(folder.path(), |_| {});
    let said = server.log();
    assert!(said.contains(&format!("listens on http://{}", server.address)), "{said}");
    assert!(said.contains("keeps its data in data/authtokens.db"), "{said}");
    assert!(said.contains("curl "), "{said}");
    assert!(folder.path().join("data/authtokens.db").is_file());
}

#[test]
fn serve_is_the_default_command_and_takes_the_same_flags() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), |command| {
        let listen = ["serve", "--listen", "127.0.0.1:0", "--database", "elsewhere.db"];
        let mut other = authtokens(folder.path());
        other.args(listen).env("AUTHTOKENS__PASSWORD__BCRYPT_COST", "4");
        other.stderr(fs::File::create(folder.path().join("stderr.log")).unwrap());
        *command = other;
    });
    assert_eq!(server.ask(b"GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n").status(), 200);
    assert!(folder.path().join("elsewhere.db").is_file());
}

#[test]
fn the_database_its_log_and_its_index_are_readable_by_their_owner_only() {
    let folder = tempfile::tempdir().unwrap();
    let mode = |name: &str| fs::metadata(folder.path().join(name)).unwrap().permissions().mode() & 0o777;
    let names = ["data/authtokens.db", "data/authtokens.db-wal", "data/authtokens.db-shm", "data/authtokens.db.lock"];
    {
        let server = Server::start(folder.path(), |_| {});
        assert_eq!(server.ask(&credentials("/api/register", "a")).status(), 201);
        assert_eq!(mode("data"), 0o700);
        for name in names {
            assert_eq!(mode(name), 0o600, "{name}");
        }
    }
    for name in names {
        fs::set_permissions(folder.path().join(name), fs::Permissions::from_mode(0o666)).unwrap();
    }
    let _server = Server::start(folder.path(), |_| {});
    for name in &names[..3] {
        assert_eq!(mode(name), 0o600, "{name} after a start that found it open");
    }
}

#[test]
fn what_is_wrong_in_the_configuration_is_one_sentence_that_names_its_source_and_exit_code_2() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.toml");
    let refused = |configure: &dyn Fn(&mut Command)| {
        let mut command = authtokens(folder.path());
        configure(&mut command);
        let (code, sentence) = refusal(&mut command);
        assert_eq!(code, 2, "{sentence}");
        sentence
    };
    fs::write(&file, "[server]\nlisten = \"127.0.0.1:0\"\n\n[password]\nbcrypt_cots = 12\n").unwrap();
    let sentence = refused(&|_| {});
    assert!(sentence.starts_with("config.toml line 5: there is no setting password.bcrypt_cots"), "{sentence}");

    fs::write(&file, "[server]\nworkers = true\n").unwrap();
    assert!(refused(&|_| {}).starts_with("config.toml line 2: server.workers must be "));

    fs::write(&file, "[server\n").unwrap();
    assert!(refused(&|_| {}).starts_with("config.toml line 1: "));

    fs::write(&file, "").unwrap();
    let variable = "AUTHTOKENS__PASSWORD__BCRYPT_COST";
    let sentence = refused(&|command| {
        command.env(variable, "99");
    });
    assert_eq!(
        sentence,
        format!("environment variable {variable}: password.bcrypt_cost must be a whole number from 4 to 16")
    );

    let sentence = refused(&|command| {
        command.env("AUTHTOKENS_SERVER__LISTEN", "127.0.0.1:0");
    });
    assert!(sentence.starts_with("environment variable AUTHTOKENS_SERVER__LISTEN: "), "{sentence}");

    let sentence = refused(&|command| {
        command.env("AUTHTOKENS_CONFIG", "elsewhere.toml");
    });
    assert!(sentence.starts_with("cannot read elsewhere.toml: "), "{sentence}");

    let sentence = refused(&|command| {
        command.args(["--listen", "8000"]);
    });
    let expected = "flag --listen: server.listen must be an address and a port such as \"127.0.0.1:8000\"";
    assert!(sentence.starts_with(expected), "{sentence}");

    let sentence = refused(&|command| {
        command.args(["--config", "missing.toml"]);
    });
    assert!(sentence.starts_with("cannot read missing.toml: "), "{sentence}");
    assert_eq!(run(authtokens(folder.path()).arg("--no-such-flag")).status.code(), Some(2));
    assert!(!folder.path().join("data").exists(), "nothing is touched");
}

#[test]
fn a_port_in_use_is_one_sentence_and_nothing_is_touched() {
    let folder = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (code, sentence) = refusal(authtokens(folder.path()).args(["--listen", &address]));
    assert_eq!(code, 1);
    assert!(sentence.starts_with(&format!("cannot listen on {address}: ")), "{sentence}");
    assert!(!folder.path().join("data").exists());
}

#[test]
fn a_folder_that_cannot_be_made_or_written_is_one_sentence() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), "").unwrap();
    for path in ["file/below/authtokens.db", "/proc/authtokens.db", "/proc/new/authtokens.db"] {
        let (code, sentence) = refusal(authtokens(folder.path()).args(["--listen", "127.0.0.1:0", "--database", path]));
        assert_eq!(code, 1, "{sentence}");
        assert!(sentence.starts_with("cannot "), "{sentence}");
    }
    let (code, sentence) = refusal(authtokens(folder.path()).args(["--listen", "127.0.0.1:0", "--database", "."]));
    assert_eq!((code, sentence.as_str()), (2, "flag --database: database.path must be the path of a file"));
}

#[test]
fn systemd_is_told_when_the_service_can_be_reached_and_when_it_begins_to_stop() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let told = || {
        let mut message = [0; 1_024];
        let length = manager.recv(&mut message).unwrap();
        String::from_utf8(message[..length].to_vec()).unwrap()
    };
    let mut server = Server::start(folder.path(), |command| {
        command.env("NOTIFY_SOCKET", &path);
    });
    assert_eq!(told(), format!("READY=1\nSTATUS=listening on http://{}\n", server.address));
    assert_eq!(server.ask(&credentials("/api/register", "a")).status(), 201);
    // A request that is not whole yet holds the stop back: it is told at its beginning, not at its end.
    let mut slow = TcpStream::connect(server.address).unwrap();
    let login = credentials("/api/login", "a");
    slow.write_all(&login[..login.len() - 1]).unwrap();
    thread::sleep(Duration::from_millis(100));
    server.signal("TERM");
    let said = told();
    assert!(said.starts_with("STOPPING=1\nSTATUS="), "{said}");
    slow.write_all(&login[login.len() - 1..]).unwrap();
    assert_eq!(RawResponse::try_read_from(&mut slow).unwrap().status(), 200);
    assert!(server.wait().success());
    manager.set_nonblocking(true).unwrap();
    assert_eq!(manager.recv(&mut [0]).unwrap_err().kind(), io::ErrorKind::WouldBlock, "nothing else is told");
}

#[test]
fn a_service_manager_that_cannot_be_told_stops_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Server::start(folder.path(), |command| {
        command.env("NOTIFY_SOCKET", folder.path().join("nobody"));
    });
    assert_eq!(server.ask(b"GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n").status(), 200);
    server.signal("TERM");
    assert!(server.wait().success());
    assert!(server.log().contains("systemd could not be told"), "{}", server.log());
}

/// As systemd starts the binary with a socket: it is number 3, and the variables name the process.
fn pass_socket(command: &mut Command, socket: impl Into<OwnedFd>) {
    let mut shell = program("sh");
    shell.args(["-c", "LISTEN_FDS=1 LISTEN_PID=$$ exec \"$@\" 3<&0 </dev/null", "sh"]);
    shell.arg(command.get_program()).args(command.get_args()).envs([("AUTHTOKENS__PASSWORD__BCRYPT_COST", "4")]);
    shell.current_dir(command.get_current_dir().unwrap()).stdin(Stdio::from(socket.into()));
    *command = shell;
}

#[test]
fn a_port_that_systemd_passes_takes_the_place_of_the_configured_one_and_a_restart_refuses_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = port.local_addr().unwrap();
    let start = || {
        Server::start(folder.path(), |command| {
            pass_socket(command, port.try_clone().unwrap());
            command.stderr(fs::File::create(folder.path().join("stderr.log")).unwrap());
        })
    };
    let mut server = start();
    assert_eq!(server.address, address);
    assert_eq!(server.ask(&credentials("/api/register", "a")).status(), 201);
    server.signal("TERM");
    assert!(server.wait().success());

    let mut between = TcpStream::connect(address).unwrap();
    between.write_all(&credentials("/api/login", "a")).unwrap();
    let _server = start();
    between.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(RawResponse::try_read_from(&mut between).unwrap().status(), 200);
}

#[test]
fn a_socket_that_is_no_tcp_port_is_one_sentence_and_nothing_is_touched() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = authtokens(folder.path());
    pass_socket(&mut command, UnixDatagram::unbound().unwrap());
    let (code, sentence) = refusal(&mut command);
    assert_eq!(code, 1);
    assert!(sentence.starts_with("cannot use the socket that systemd passes: "), "{sentence}");
    assert!(!folder.path().join("data").exists());
}

/// What a refusal may leave beside the file.
#[derive(Clone, Copy, PartialEq)]
enum NewBeside {
    Nothing,
    /// A database of ours has to be opened to tell its version.
    LockAndIndex,
}

/// Starts on a file that must be refused, and checks that it is left as it was.
fn assert_refused_untouched(folder: &TempDir, reason: &str, is_new_beside: NewBeside) {
    let before = contents(folder.path());
    let (code, sentence) =
        refusal(authtokens(folder.path()).args(["--listen", "127.0.0.1:0", "--database", "test.db"]));
    assert_eq!(code, 1);
    assert!(sentence.contains("test.db") && sentence.contains(reason), "{sentence}");
    let after = contents(folder.path());
    // The index beside the log is shared memory: every reader marks its place in it.
    for file in before.iter().filter(|(name, _)| !name.ends_with("-shm")) {
        assert!(after.contains(file), "{} is touched", file.0);
    }
    if is_new_beside == NewBeside::Nothing {
        assert_eq!(before.len(), after.len(), "nothing is made beside it");
    }
    let mode = fs::metadata(folder.path().join("test.db")).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o644, "its mode is touched");
}

#[test]
fn a_file_that_is_not_a_database_is_refused_untouched() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("test.db"), "My diary. ".repeat(1_000)).unwrap();
    assert_refused_untouched(&folder, "is not a SQLite database", NewBeside::Nothing);
}

#[test]
fn a_database_of_another_program_is_refused_untouched() {
    let folder = tempfile::tempdir().unwrap();
    let other = rusqlite::Connection::open(folder.path().join("test.db")).unwrap();
    other.execute_batch("CREATE TABLE users (name TEXT); INSERT INTO users VALUES ('theirs')").unwrap();
    assert_refused_untouched(&folder, "another program", NewBeside::Nothing);
    other.pragma_update(None, "journal_mode", "WAL").unwrap();
    other.execute_batch("INSERT INTO users VALUES ('also theirs')").unwrap();
    assert_refused_untouched(&folder, "another program", NewBeside::Nothing);
    drop(other);
    assert_refused_untouched(&folder, "another program", NewBeside::Nothing);
}

#[test]
fn a_database_of_a_newer_schema_is_refused_untouched() {
    let folder = tempfile::tempdir().unwrap();
    drop(Server::start(folder.path(), |command| {
        command.args(["--database", "test.db"]);
    }));
    let path = folder.path().join("test.db");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let newer = rusqlite::Connection::open(&path).unwrap();
    newer.pragma_update(None, "user_version", 1_000).unwrap();
    assert_refused_untouched(&folder, "newer release", NewBeside::LockAndIndex);
    drop(newer);
    assert_refused_untouched(&folder, "newer release", NewBeside::LockAndIndex);
}

#[test]
fn a_second_server_on_the_same_file_is_refused_and_the_first_serves_on() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = Server::start(folder.path(), |_| {});
    let (code, sentence) = refusal(authtokens(folder.path()).args(["--listen", "127.0.0.1:0"]));
    assert_eq!((code, sentence.as_str()), (1, "data/authtokens.db is in use by another authtokens server"));
    assert_eq!(first.ask(&credentials("/api/register", "a")).status(), 201);
    std::os::unix::fs::symlink("data/authtokens.db", folder.path().join("alias.db")).unwrap();
    let (code, sentence) =
        refusal(authtokens(folder.path()).args(["--listen", "127.0.0.1:0", "--database", "alias.db"]));
    assert_eq!(code, 1);
    assert!(sentence.ends_with("is in use by another authtokens server"), "{sentence}");
    fs::hard_link(folder.path().join("data/authtokens.db"), folder.path().join("twin.db")).unwrap();
    let (code, sentence) =
        refusal(authtokens(folder.path()).args(["--listen", "127.0.0.1:0", "--database", "twin.db"]));
    assert_eq!((code, sentence.contains("hard link")), (1, true), "{sentence}");
    fs::remove_file(folder.path().join("twin.db")).unwrap();
    assert_eq!(first.ask(&credentials("/api/register", "b")).status(), 201);
    first.signal("TERM");
    assert!(first.wait().success());
    let next = Server::start(folder.path(), |_| {});
    assert_eq!(next.ask(&credentials("/api/login", "a")).status(), 200, "the file is free again");
}

#[test]
fn sigterm_sigint_and_sighup_finish_what_was_accepted_checkpoint_the_log_and_exit_0() {
    for signal in ["TERM", "INT", "HUP"] {
        let folder = tempfile::tempdir().unwrap();
        let mut server = Server::start(folder.path(), |command| {
            command.env("AUTHTOKENS__PASSWORD__BCRYPT_COST", "12");
        });
        assert_eq!(server.ask(&credentials("/api/register", "a")).status(), 201);
        let mut idle = TcpStream::connect(server.address).unwrap();
        idle.write_all(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        assert_eq!(RawResponse::read_from(&mut idle).status(), 200);
        let accepted: Vec<TcpStream> = (0..6)
            .map(|_| {
                let mut stream = TcpStream::connect(server.address).unwrap();
                stream.write_all(&credentials("/api/login", "a")).unwrap();
                stream
            })
            .collect();
        // Accepted means read: give the workers a moment to do so.
        thread::sleep(Duration::from_millis(100));
        server.signal(signal);
        for mut stream in accepted {
            assert_eq!(RawResponse::read_from(&mut stream).status(), 200, "{signal}");
        }
        assert!(server.wait().success(), "{signal}");
        assert!(TcpStream::connect(server.address).is_err());
        let wal = folder.path().join("data/authtokens.db-wal");
        assert_eq!(fs::metadata(wal).map_or(0, |wal| wal.len()), 0, "the log is in the file");
        let log = server.log();
        assert!(log.contains("stopping") && log.trim_end().ends_with("stopped"), "{log}");
    }
}

#[test]
fn a_server_that_nohup_started_outlives_its_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Server::start(folder.path(), |command| {
        let mut nohup = program("nohup");
        nohup.arg(command.get_program()).args(command.get_args()).current_dir(folder.path());
        nohup.env("AUTHTOKENS_CONFIG", "/dev/null").stdin(Stdio::null());
        nohup.stdout(Stdio::null()).stderr(fs::File::create(folder.path().join("stderr.log")).unwrap());
        *command = nohup;
    });
    server.signal("HUP");
    thread::sleep(Duration::from_millis(100));
    assert_eq!(server.ask(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").status(), 200);
    server.signal("TERM");
    assert!(server.wait().success());
}

#[test]
fn a_stop_waits_no_longer_than_the_shutdown_timeout() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Server::start(folder.path(), |command| {
        command.env("AUTHTOKENS__SERVER__SHUTDOWN_TIMEOUT", "1s").env("AUTHTOKENS__SERVER__BODY_TIMEOUT", "10m");
    });
    let mut endless = TcpStream::connect(server.address).unwrap();
    endless
        .write_all(format!("POST /api/login HTTP/1.1\r\nHost: a\r\n{JSON}Content-Length: 9\r\n\r\n{{").as_bytes())
        .unwrap();
    thread::sleep(Duration::from_millis(100));
    server.signal("TERM");
    let told = Instant::now();
    assert!(server.wait().success());
    assert!(told.elapsed() < Duration::from_secs(10), "a second, and what a busy machine adds");
}

#[test]
fn a_stop_does_not_wait_for_another_program_that_holds_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Server::start(folder.path(), |command| {
        command.env("AUTHTOKENS__SERVER__SHUTDOWN_TIMEOUT", "1s").env("AUTHTOKENS__DATABASE__BUSY_TIMEOUT", "40s");
    });
    let token = token_of(&server.ask(&credentials("/api/register", "a")));
    let other = rusqlite::Connection::open(folder.path().join("data/authtokens.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut waiting = TcpStream::connect(server.address).unwrap();
    waiting.write_all(&logout(&token)).unwrap();
    thread::sleep(Duration::from_millis(100));
    server.signal("TERM");
    let told = Instant::now();
    assert!(server.wait().success());
    assert!(told.elapsed() < Duration::from_secs(15), "the other's lock lasts longer");
    drop(other);
    let server = Server::start(folder.path(), |_| {});
    assert_eq!(server.ask(&credentials("/api/login", "a")).status(), 200, "nothing acknowledged is lost");
}

#[test]
fn what_nobody_reads_on_standard_error_stops_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let full = || fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut wrong = authtokens(folder.path());
    assert_eq!(run(wrong.args(["--listen", "x"]).stderr(full())).status.code(), Some(2));
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut child = authtokens(folder.path()).args(["--listen", &port.to_string()]).stderr(full()).spawn().unwrap();
    let deadline = Instant::now() + PATIENCE;
    let answer = loop {
        match ask(port, b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n") {
            Ok(answer) => break answer,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        thread::sleep(Duration::from_millis(5));
    };
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(answer.status(), 200);
}

/// A server whose standard error nobody reads, and which is full.
fn unread(folder: &Path) -> (Child, SocketAddr, io::PipeReader) {
    let (reader, mut writer) = io::pipe().unwrap();
    rustix::fs::fcntl_setfl(&writer, rustix::fs::OFlags::NONBLOCK).unwrap();
    while writer.write(&[b'.'; 4_096]).is_ok() {}
    rustix::fs::fcntl_setfl(&writer, rustix::fs::OFlags::empty()).unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut command = authtokens(folder);
    let child = command.args(["--listen", &port.to_string()]).stderr(writer).spawn().unwrap();
    (child, port, reader)
}

#[test]
fn standard_error_that_is_full_and_unread_holds_up_no_request_and_no_stop() {
    let folder = tempfile::tempdir().unwrap();
    let (mut child, address, _reader) = unread(folder.path());
    let deadline = Instant::now() + PATIENCE;
    while let Err(error) = ask(address, b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n") {
        assert!(Instant::now() < deadline, "{error}");
        thread::sleep(Duration::from_millis(5));
    }
    // A name too long for the framework's own type, and what else is refused or told of.
    for head in
        [format!("GET / HTTP/1.1\r\nHost: a\r\n{}: x\r\n\r\n", "n".repeat(65_536)), "GARBAGE\r\n\r\n".to_owned()]
    {
        for _ in 0..20 {
            let answer = ask(address, head.as_bytes());
            assert!(answer.is_err() || answer.unwrap().status() >= 400);
        }
    }
    assert_eq!(ask(address, b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").unwrap().status(), 200);
    assert!(Command::new("kill").arg(child.id().to_string()).status().unwrap().success());
    let deadline = Instant::now() + PATIENCE;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if Instant::now() > deadline {
            child.kill().unwrap();
        }
        thread::sleep(Duration::from_millis(5));
    };
    assert!(status.success(), "{status}");
}

#[test]
fn a_write_beyond_the_largest_file_that_is_allowed_is_503_and_the_server_lives_on() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), |_| {});
    let token = token_of(&server.ask(&credentials("/api/register", "a")));
    let process = rustix::process::Pid::from_raw(server.child.id().try_into().unwrap());
    let limit = |bytes| {
        let limit = rustix::process::Rlimit { current: bytes, maximum: None };
        rustix::process::prlimit(process, rustix::process::Resource::Fsize, limit).unwrap();
    };
    limit(Some(4_096));
    for _ in 0..3 {
        server.ask(&credentials("/api/register", "b")).assert_error(503);
    }
    let profile = format!("GET /api/user HTTP/1.1\r\nHost: a\r\nAuthorization: Token {token}\r\n\r\n");
    assert_eq!(server.ask(profile.as_bytes()).status(), 200, "reads go on");
    limit(None);
    let deadline = Instant::now() + PATIENCE;
    while server.ask(&credentials("/api/register", "b")).status() != 201 {
        assert!(Instant::now() < deadline, "{}", server.log());
        thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(server.ask(&logout(&token)).status(), 200);
}

#[cfg(target_os = "linux")]
#[test]
fn clients_that_ask_and_never_read_hold_little_of_the_servers_memory() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), |command| {
        command.env("AUTHTOKENS__SERVER__BODY_TIMEOUT", "10m");
    });
    let memory = || -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", server.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    };
    for path in ["/", "/docs/swagger-ui-bundle.js"] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(server.ask(request.as_bytes()).status(), 200);
        let before = memory();
        let deaf: Vec<TcpStream> = (0..50)
            .map(|_| {
                let mut stream = TcpStream::connect(server.address).unwrap();
                stream.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
                // Until nothing more is taken.
                while stream.write_all(request.repeat(1_000).as_bytes()).is_ok() {}
                stream
            })
            .collect();
        let held = memory().saturating_sub(before) / deaf.len();
        assert!(held < 256, "{path}: {held} KiB each, and it was several MiB");
    }
}

#[test]
fn signals_that_ask_for_something_else_than_a_stop_stop_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Server::start(folder.path(), |_| {});
    for signal in ["XFSZ", "USR1", "USR2", "ALRM", "PIPE"] {
        server.signal(signal);
        thread::sleep(Duration::from_millis(50));
        assert_eq!(server.ask(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").status(), 200, "{signal}");
    }
    server.signal("TERM");
    assert!(server.wait().success());
}

#[test]
fn what_the_background_work_cannot_do_is_logged_with_its_causes() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), |command| {
        command.env("AUTHTOKENS__DATABASE__BUSY_TIMEOUT", "50ms");
    });
    assert_eq!(server.ask(&credentials("/api/register", "a")).status(), 201);
    let other = rusqlite::Connection::open(folder.path().join("data/authtokens.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let wrong = post_bytes("/api/login", JSON, json!({"username": "a", "password": "wrong"}).to_string());
    server.ask(&wrong).assert_error(401);
    let cause = "refused attempts could not be stored: the store cannot do this now: database is locked";
    until(|| server.log().contains(cause));
}

#[test]
fn the_line_of_a_request_behind_a_trusted_proxy_names_the_client_and_the_peer() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), |command| {
        command.env("AUTHTOKENS__SERVER__TRUSTED_PROXIES", "127.0.0.1");
    });
    let forwarded = "X-Forwarded-For: 198.51.100.1, [2001:db8::5]\r\n";
    let head = |line: &str| format!("{line} HTTP/1.1\r\nHost: a\r\n{forwarded}\r\n").into_bytes();
    let large = format!("{JSON}{forwarded}Content-Length: 999999999\r\n\r\n");
    let wrong = json!({"username": "a", "password": "wrong"}).to_string();
    for (request, status) in [
        (head("GET /healthz"), 200),
        (head("GET /api/user"), 401),
        (post_bytes("/api/login", &format!("{JSON}{forwarded}"), &wrong), 401),
        (head("GET /nothing"), 404),
        (head("GET /api/login"), 405),
        (format!("POST /api/login HTTP/1.1\r\nHost: a\r\n{large}").into_bytes(), 413),
        (post_bytes("/api/login", forwarded, "{}"), 415),
    ] {
        let answer = server.ask(&request);
        assert_eq!(answer.status(), status);
        let id = format!("request_id={}", answer.header("X-Request-Id").unwrap());
        until(|| server.log().contains(&id));
        let log = server.log();
        let line = log.lines().find(|line| line.ends_with(&id)).unwrap();
        assert!(
            line.contains(&format!(" status={status} ")) && line.contains(" client=2001:db8::5 peer=127.0.0.1:"),
            "{line}"
        );
    }
    // Nobody is behind a peer that says nothing of it.
    let answer = server.ask(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n");
    let id = format!("request_id={}", answer.header("X-Request-Id").unwrap());
    until(|| server.log().contains(&id));
    assert!(!server.log().lines().find(|line| line.ends_with(&id)).unwrap().contains("client="));
    let database = rusqlite::Connection::open(folder.path().join("data/authtokens.db")).unwrap();
    let addresses = || -> Vec<String> {
        let mut events = database.prepare("SELECT DISTINCT ip FROM events").unwrap();
        events.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
    };
    until(|| addresses() == ["2001:db8::5"]);
}

#[test]
fn a_request_is_one_line_with_method_path_status_latency_peer_and_the_id_that_the_client_was_given() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), |_| {});
    let response = server.ask(b"GET /no%0d%0athing?secret=4711 HTTP/1.1\r\nHost: a\r\n\r\n");
    let refused = server.ask(b"\x1b[31mGARBAGE\r\n\r\n");
    let line_of = |response: &RawResponse| {
        let id = response.header("X-Request-Id").unwrap().to_owned();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let log = server.log();
            if let Some(line) = log.lines().find(|line| line.ends_with(&format!("request_id={id}"))) {
                return line.to_owned();
            }
            assert!(Instant::now() < deadline, "{id} in {log}");
            thread::sleep(Duration::from_millis(5));
        }
    };
    let line = line_of(&response);
    for part in [" INFO ", "method=GET ", "path=/no%0d%0athing ", "status=404 ", "latency_ms=", "peer=127.0.0.1:"] {
        assert!(line.contains(part), "{part} in {line}");
    }
    assert!(!line.contains("4711"), "a query is not logged: {line}");
    assert!(line_of(&refused).contains("status=400 "));
    assert!(server.log().chars().all(|c| c == '\n' || !c.is_control()), "{}", server.log());
}

#[test]
fn no_level_logs_a_token_a_password_a_body_or_an_authorization_header() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), |command| {
        command.env("RUST_LOG", "trace");
    });
    let secret = "correct-horse-battery";
    let body = json!({"username": "azure", "password": secret, "city": "BODY-4711"}).to_string();
    let token = token_of(&server.ask(&post_bytes("/api/register", JSON, &body)));
    server.ask(&post_bytes("/api/login", JSON, &body));
    server.ask(&post_bytes("/api/login", JSON, &body[..body.len() - 1]));
    server.ask(&logout(&token));
    server.ask(&logout(UNKNOWN_TOKEN));
    server.ask(&post_bytes("/api/logout", "Authorization: Basic QkFTSUMtNDcxMQ==\r\n", ""));
    server.ask(format!("GET /api/{token} HTTP/1.1\r\nHost: a\r\nContent-Length: {token}\r\n\r\n").as_bytes());
    server.ask(format!("GET /api/{token}?token={token} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes());
    let log = server.log();
    assert!(log.contains(" TRACE ") || log.contains(" DEBUG "), "the log is at its most talkative");
    for word in [secret, "BODY-4711", &token, UNKNOWN_TOKEN, "QkFTSUMtNDcxMQ", "bcrypt-sha256", "uthorization"] {
        assert!(!log.contains(word), "{word} is in the log");
    }
}

/// What clients were told before the server died.
#[derive(Default)]
struct Acknowledged {
    /// Users with the token of their registration.
    registered: Mutex<Vec<(String, String)>>,
    /// Tokens whose logout was answered 200.
    logged_out: Mutex<Vec<String>>,
}

#[test]
fn every_acknowledged_registration_and_logout_survives_kill_9() {
    let rounds: usize = std::env::var("KILL_ROUNDS").map_or(5, |rounds| rounds.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let quiet = |command: &mut Command| {
        command.env("RUST_LOG", "warn");
    };
    let acknowledged = Arc::new(Acknowledged::default());
    let next_name = Arc::new(AtomicUsize::new(0));
    for round in 0..rounds {
        let mut server = Server::start(folder.path(), quiet);
        let dying = Arc::new(AtomicBool::new(false));
        let clients: Vec<_> = (0..8)
            .map(|_| {
                let (acknowledged, next_name, dying) = (acknowledged.clone(), next_name.clone(), dying.clone());
                let address = server.address;
                thread::spawn(move || {
                    while !dying.load(Ordering::Relaxed) {
                        let number = next_name.fetch_add(1, Ordering::Relaxed);
                        let name = format!("user{number}");
                        let Ok(answer) = ask(address, &credentials("/api/register", &name)) else { continue };
                        assert_eq!(answer.status(), 201, "{answer:?}");
                        let token = token_of(&answer);
                        acknowledged.registered.lock().unwrap().push((name, token.clone()));
                        if number % 2 == 0 {
                            let Ok(answer) = ask(address, &logout(&token)) else { continue };
                            assert_eq!(answer.status(), 200, "{answer:?}");
                            acknowledged.logged_out.lock().unwrap().push(token);
                        }
                    }
                })
            })
            .collect();
        // However slow the machine is, the kill comes in the midst of a load.
        until(|| acknowledged.logged_out.lock().unwrap().len() > 2 * (round + 1));
        thread::sleep(Duration::from_millis(37 * (round as u64 % 7)));
        server.child.kill().unwrap();
        dying.store(true, Ordering::Relaxed);
        server.wait();
        for client in clients {
            client.join().unwrap();
        }
    }

    let database = rusqlite::Connection::open(folder.path().join("data/authtokens.db")).unwrap();
    let check: String = database.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(check, "ok");
    let without_token: i64 = database
        .query_row(
            "SELECT count(*) FROM users WHERE id NOT IN (SELECT user_id FROM tokens) \
             AND CAST(substr(username, 5) AS INTEGER) % 2 = 1",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(without_token, 0, "a user without the token of its registration, who never logged out");
    drop(database);

    let server = Server::start(folder.path(), quiet);
    let registered = acknowledged.registered.lock().unwrap();
    let logged_out = acknowledged.logged_out.lock().unwrap();
    assert!(registered.len() > rounds && logged_out.len() > rounds, "the load was real");
    for (name, _) in registered.iter() {
        assert_eq!(server.ask(&credentials("/api/login", name)).status(), 200, "{name} was acknowledged");
    }
    for token in logged_out.iter() {
        assert_eq!(server.ask(&logout(token)).status(), 401, "a logout was acknowledged and is undone");
    }
    let never_ended = registered.iter().filter(|(name, _)| name["user".len()..].parse::<usize>().unwrap() % 2 == 1);
    for (name, token) in never_ended {
        assert_eq!(server.ask(&logout(token)).status(), 200, "the session of {name} is lost");
    }
    println!(
        "{rounds} rounds: {} registrations and {} logouts acknowledged, none lost",
        registered.len(),
        logged_out.len()
    );
}

#[test]
fn a_file_of_the_first_schema_is_upgraded_with_all_that_is_in_it_also_when_killed_half_way() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("test.db");
    let old = rusqlite::Connection::open(&path).unwrap();
    old.pragma_update(None, "journal_mode", "WAL").unwrap();
    old.execute_batch(include_str!("../../src/repository/sqlite/schema_v1.sql")).unwrap();
    // AuTk, and the first version.
    old.execute_batch("PRAGMA application_id = 0x4175546b; PRAGMA user_version = 1").unwrap();
    let digest = authtokens::domain::token::PlainToken::parse(UNKNOWN_TOKEN).unwrap().digest();
    old.execute(
        "INSERT INTO users (username, username_key, password_hash, city, date_joined, created, modified, last_login) \
         VALUES ('AzureDiamond', 'azurediamond', ?1, 'Chicago', 1420411895144, 1420411895144, 1420411895144, \
         1420411895144)",
        ["$bcrypt-sha256$v=2,t=2b,r=4$QexDYaiSw.PMflDlGeyERe$0JhXa2JmpMTbORvBDFxYcs2.SN09JvW"],
    )
    .unwrap();
    let far = 4_102_444_800_000_i64; // 2100: not dead by the machine's clock
    old.execute(
        "INSERT INTO tokens VALUES (?1, 1, ?2, ?2, 'Cellar/1.0', '')",
        rusqlite::params![digest.as_bytes(), far],
    )
    .unwrap();
    old.execute_batch("INSERT INTO cellar VALUES (1, 3, 0), (1, 1, 0); INSERT INTO wants VALUES (1, 5, 0)").unwrap();
    // Many more rows, so that an upgrade takes long enough to be killed.
    old.execute_batch(
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000) \
         INSERT INTO tokens SELECT randomblob(32), 1, 4102444800000 + i, 4102444800000, '', '' FROM n",
    )
    .unwrap();
    drop(old);

    let version = || -> i64 {
        let connection = rusqlite::Connection::open(&path).unwrap();
        let index: String = connection
            .query_row("SELECT sql FROM sqlite_schema WHERE name = 'tokens_by_user'", [], |row| row.get(0))
            .unwrap();
        let version = connection.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
        let has_events: bool = connection
            .query_row("SELECT count(*) FROM sqlite_schema WHERE name = 'events'", [], |row| row.get(0))
            .unwrap();
        assert_eq!(index.contains("created"), version == 3, "all of the upgrades or none of them");
        assert_eq!(has_events, version == 3, "all of the upgrades or none of them");
        version
    };
    let mut killed_before = 0;
    for micros in (500..30_000).step_by(1_500) {
        let mut child = authtokens(folder.path())
            .args(["--listen", "127.0.0.1:0", "--database", "test.db"])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        thread::sleep(Duration::from_micros(micros));
        child.kill().unwrap();
        child.wait().unwrap();
        if version() == 3 {
            break;
        }
        killed_before += 1;
    }
    assert!(killed_before > 0, "the first kill comes before the upgrade is done");

    let server = Server::start(folder.path(), |command| {
        command.args(["--database", "test.db"]);
    });
    assert_eq!(version(), 3);
    let login = server.ask(&credentials("/api/login", "azurediamond"));
    let user = &login.json()["user"];
    assert_eq!((&user["city"], &user["date_joined"]), (&json!("Chicago"), &json!("2015-01-04T22:51:35.144Z")));
    assert_eq!((&user["cellar"], &user["wants"]), (&json!([1, 3]), &json!([5])));
}

#[test]
fn every_acknowledged_edit_of_a_list_survives_kill_9() {
    let rounds: usize = std::env::var("KILL_ROUNDS").map_or(5, |rounds| rounds.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let quiet = |command: &mut Command| {
        command.env("RUST_LOG", "warn");
    };
    let tokens: Vec<String> = {
        let server = Server::start(folder.path(), quiet);
        (0..8).map(|client| token_of(&server.ask(&credentials("/api/register", &format!("user{client}"))))).collect()
    };
    let edit = |method: &str, token: &str, item: usize| {
        let path = format!("/api/user/cellar/{item}");
        format!("{method} {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nAuthorization: Token {token}\r\n\r\n")
    };
    // Each client adds the next item and removes the one three before it, and knows what it was told.
    let mut known: Vec<(usize, usize)> = vec![(0, 0); tokens.len()];
    let acknowledged = Arc::new(AtomicUsize::new(0));
    for round in 0..rounds {
        let mut server = Server::start(folder.path(), quiet);
        let address = server.address;
        let clients: Vec<_> = tokens
            .iter()
            .cloned()
            .zip(known.iter().copied())
            .map(|(token, (mut added, mut removed))| {
                let acknowledged = Arc::clone(&acknowledged);
                thread::spawn(move || {
                    while let Ok(answer) = ask(address, edit("PUT", &token, added + 1).as_bytes()) {
                        assert_eq!(answer.status(), 200, "{answer:?}");
                        added += 1;
                        acknowledged.fetch_add(1, Ordering::Relaxed);
                        if added > removed + 3 {
                            let Ok(answer) = ask(address, edit("DELETE", &token, removed + 1).as_bytes()) else {
                                break;
                            };
                            assert_eq!(answer.status(), 200, "{answer:?}");
                            removed += 1;
                        }
                    }
                    (added, removed)
                })
            })
            .collect();
        // However slow the machine is, the kill comes in the midst of a load.
        until(|| acknowledged.load(Ordering::Relaxed) > 2 * tokens.len() * (round + 1));
        thread::sleep(Duration::from_millis(37 * (round as u64 % 7)));
        server.child.kill().unwrap();
        server.wait();
        known = clients.into_iter().map(|client| client.join().unwrap()).collect();

        let server = Server::start(folder.path(), quiet);
        for (token, (added, removed)) in tokens.iter().zip(&known) {
            let request = format!("GET /api/user/cellar HTTP/1.1\r\nHost: a\r\nAuthorization: Token {token}\r\n\r\n");
            let list: Vec<usize> = serde_json::from_str(&server.ask(request.as_bytes()).body).unwrap();
            // The edit that was under way may have happened; nothing that was acknowledged may be missing.
            let lowest = list.first().copied().unwrap_or(added + 1);
            let highest = list.last().copied().unwrap_or(*added);
            assert!(lowest == removed + 1 || lowest == removed + 2, "{list:?}, told of {added} and {removed}");
            assert!(highest == *added || highest == added + 1, "{list:?}, told of {added} and {removed}");
            assert_eq!(list.len(), highest + 1 - lowest, "{list:?}");
        }
    }
    let edits: usize = known.iter().map(|(added, removed)| added + removed).sum();
    assert!(edits > rounds * tokens.len(), "the load was real");
    println!("{rounds} rounds: {edits} edits acknowledged, none lost");
}

#[test]
fn whatever_a_client_writes_a_line_of_the_log_stays_one_line_and_quotes_no_name_and_no_search() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), |command| {
        command.env("RUST_LOG", "trace,authtokens=trace");
        command.env("AUTHTOKENS__SERVER__TRUSTED_PROXIES", "127.0.0.1");
    });
    let token = token_of(&server.ask(&credentials("/api/register", "root")));
    let database = rusqlite::Connection::open(folder.path().join("data/authtokens.db")).unwrap();
    database.execute("UPDATE users SET is_superuser = 1", []).unwrap();
    let forged = "2026-01-01T00:00:00.000Z INFO  authtokens::access FORGED-4711";
    let authorization = format!("Authorization: Token {token}\r\n");
    let encoded = "%0d%0aFORGED-4711%1b[31m";
    let mut requests: Vec<Vec<u8>> = vec![
        // In a name, an agent, a path, a method, a header and a query.
        credentials("/api/login", &format!("a\r\n{forged}")),
        credentials("/api/login", &format!("a\u{2028}{forged}\u{85}\u{1b}[2J")),
        credentials("/api/login", "FORGED-4711"),
        format!("GET /api/users?search={encoded} HTTP/1.1\r\nHost: a\r\n{authorization}\r\n").into_bytes(),
        format!("GET /api/users?search=FORGED-4711 HTTP/1.1\r\nHost: a\r\n{authorization}\r\n").into_bytes(),
        format!("GET /api/events?username={encoded} HTTP/1.1\r\nHost: a\r\n{authorization}\r\n").into_bytes(),
        b"GET /api/users/a\x1b[31m\x07 HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
        "GET /api/users/\u{2028}\u{85} HTTP/1.1\r\nHost: a\r\n\r\n".as_bytes().to_vec(),
        b"GE\x1bT / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
        format!("{} / HTTP/1.1\r\nHost: a\r\n\r\n", "M".repeat(5_000)).into_bytes(),
        format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "p".repeat(20_000)).into_bytes(),
    ];
    for header in
        ["User-Agent", "X-Forwarded-For", "Host", "Referer", "X-Request-Id", "Authorization", "Cookie", "Origin"]
    {
        for value in
            [format!("\x1b[31m{forged}"), format!("a\n {forged}"), format!("\u{85}\u{2028}{forged}"), forged.to_owned()]
        {
            let body = json!({"username": "root", "password": "hunter2"}).to_string();
            requests.push(post_bytes("/api/login", &format!("{JSON}{header}: {value}\r\n"), body));
        }
    }
    let mut ids = Vec::new();
    for request in &requests {
        let response = server.ask(request);
        ids.push(response.header("X-Request-Id").unwrap().to_owned());
        if let Some(token) = response.json()["token"].as_str() {
            assert_eq!(server.ask(&logout(token)).status(), 200);
        }
    }
    until(|| ids.iter().all(|id| server.log().contains(id)));
    let log = server.log();
    assert!(log.chars().all(|c| c == '\n' || !(c.is_control() || ['\u{2028}', '\u{2029}'].contains(&c))));
    assert!(log.lines().all(|line| line.len() < 2_000), "nobody fills the disk with one line");
    let access: Vec<&str> = log.lines().filter(|line| line.contains("authtokens::access")).collect();
    for id in &ids {
        assert_eq!(access.iter().filter(|line| line.ends_with(&format!("request_id={id}"))).count(), 1, "{id}");
    }
    for line in access {
        assert!(!line.contains("FORGED"), "{line}");
    }
    // What is kept of an agent and of an address is no more than text, and an address is one.
    let kept: Vec<String> = database
        .prepare("SELECT user_agent || ip FROM tokens UNION ALL SELECT ip || detail || username || actor FROM events")
        .unwrap()
        .query_map([], |row| row.get(0))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    assert!(kept.iter().all(|text| !text.contains(char::is_control)), "{kept:?}");
    let addresses: i64 = database
        .query_row("SELECT count(*) FROM events WHERE ip NOT IN ('127.0.0.1', '')", [], |row| row.get(0))
        .unwrap();
    assert_eq!(addresses, 0);
}
