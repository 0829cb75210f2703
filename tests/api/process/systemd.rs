//! The service under systemd.

use std::fs;
use std::io::{self, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use super::{Server, authtokens, credentials, failure_of, program, store_in};
use crate::helpers::{PATIENCE, RawResponse};

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
    // An incomplete request delays the end of the stop: systemd is notified at its beginning, not at its end.
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

/// Starts the binary as systemd does with a socket: it is file descriptor 3, and the variables name the process.
fn pass_socket(command: &mut Command, socket: impl Into<OwnedFd>) {
    let mut shell = program("sh");
    shell.args(["-c", "LISTEN_FDS=1 LISTEN_PID=$$ exec \"$@\" 3<&0 </dev/null", "sh"]);
    shell.arg(command.get_program()).args(command.get_args());
    shell.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
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
    let (code, sentence) = failure_of(&mut command);
    assert_eq!(code, 1);
    assert!(sentence.starts_with("cannot use the socket that systemd passes: "), "{sentence}");
    assert!(!store_in(folder.path()).exists());
}
