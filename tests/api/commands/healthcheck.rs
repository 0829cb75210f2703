//! `authtokens healthcheck`, by which a container without a shell is asked whether it is ready.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::thread;

use serde_json::json;

use super::Machine;
use crate::process::{Server, until};

#[test]
fn a_server_that_is_ready_is_said_to_be_with_0() {
    let machine = Machine::new();
    let server = machine.server();
    let address = server.address;
    let said = machine.said(&format!("healthcheck --listen {address}"));
    assert_eq!(said, format!("The server at {address} is ready.\n"));
    let shown = machine.json(&format!("--listen {address} healthcheck"));
    assert_eq!(shown, json!({"address": address.to_string(), "status": "ready"}));

    // As in a container, whose server listens on all addresses and which is configured by its environment.
    let mut command = machine.command("healthcheck");
    command.env("AUTHTOKENS__SERVER__LISTEN", format!("0.0.0.0:{}", address.port()));
    assert_eq!(command.output().unwrap().stdout, said.as_bytes());
}

#[test]
fn a_server_that_is_about_to_stop_is_not_ready() {
    let machine = Machine::new();
    let server = Server::start(machine.path(), |command| {
        command.env("AUTHTOKENS__SERVER__DRAIN", "60s");
    });
    server.signal("TERM");
    until(|| server.ask(b"GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n").status() == 503);
    let refused = machine.refused(&format!("healthcheck --listen {}", server.address));
    assert_eq!(refused, (1, format!("the server at {} is not ready: it answered 503", server.address)));
}

/// A listener that answers every request with this, and closes.
fn stranger(answer: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 1_024]);
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    address
}

#[test]
fn nobody_someone_silent_and_someone_else_are_one_sentence_with_1() {
    let machine = Machine::new();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    let refused = |address: SocketAddr| machine.refused(&format!("healthcheck --listen {address}"));
    assert_eq!(refused(address), (1, format!("the server at {address} does not answer: timed out")));
    drop(silent);
    let (code, sentence) = refused(address);
    assert!(code == 1 && sentence.starts_with(&format!("the server at {address} does not answer: ")), "{sentence}");

    for answer in ["", "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<p>Hello</p>", "HTTP/1.1 200 OK\r\n\r\n[]"] {
        let address = stranger(answer);
        assert_eq!(refused(address), (1, format!("what listens at {address} is not authtokens")), "{answer}");
    }
}

#[test]
fn an_address_that_nobody_can_ask_is_one_sentence_with_1() {
    let machine = Machine::new();
    let (code, sentence) = machine.refused("healthcheck --listen 127.0.0.1:0");
    assert!(code == 1 && sentence.contains("is 127.0.0.1:0, a port that the system chooses"), "{sentence}");
    let (code, sentence) = machine.refused("healthcheck --listen example.org:80");
    assert!(code == 1 && sentence.ends_with("no other name is looked up"), "{sentence}");
}
