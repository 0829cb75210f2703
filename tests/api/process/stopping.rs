//! How the server stops, and what does not stop it.

use std::fs;
use std::io::{self, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::store_in;
use super::{Server, ask, authtokens, credentials, logout, program, run, token_of};
use crate::helpers::{JSON, PATIENCE};

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
fn a_server_that_drains_is_not_ready_and_serves_until_it_stops() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Server::start(folder.path(), |command| {
        command.env("AUTHTOKENS__SERVER__DRAIN", "5s");
    });
    let get = |path: &str| server.ask(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).status();
    assert_eq!(get("/readyz"), 200);
    server.signal("TERM");
    let told = Instant::now();
    while get("/readyz") != 503 {
        assert!(told.elapsed() < PATIENCE, "a balancer hears of it");
        thread::sleep(Duration::from_millis(20));
    }
    assert_eq!((get("/healthz"), server.ask(&credentials("/api/register", "a")).status()), (200, 201), "it serves");
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
fn a_stop_does_not_wait_for_another_program_that_has_locked_the_store() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Server::start(folder.path(), |command| {
        command.env("AUTHTOKENS__SERVER__SHUTDOWN_TIMEOUT", "1s").env("AUTHTOKENS__DATABASE__BUSY_TIMEOUT", "40s");
    });
    let token = token_of(&server.ask(&credentials("/api/register", "a")));
    let lock = store_in(folder.path()).lock();
    let mut waiting = TcpStream::connect(server.address).unwrap();
    waiting.write_all(&logout(&token)).unwrap();
    thread::sleep(Duration::from_millis(100));
    server.signal("TERM");
    let told = Instant::now();
    assert!(server.wait().success());
    assert!(told.elapsed() < Duration::from_secs(15), "the other's lock lasts longer");
    drop(lock);
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
    // A name too long for the framework's own type, and other requests that are refused or logged.
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
                // Until the pipe takes nothing more.
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
