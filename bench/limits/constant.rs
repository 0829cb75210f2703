//! The limit of the load generator: a server that reads a request, looks at nothing and writes the same bytes each
//! time, with a thread a connection. Nothing that speaks HTTP answers with less work.
//!
//! `constant ADDRESS:PORT`

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::thread;

/// As long as the user object.
const BODY: usize = 409;

fn main() -> std::io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8001".to_owned());
    let answer =
        format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {BODY}\r\n\r\n{:BODY$}", "{}");
    for connection in TcpListener::bind(address)?.incoming() {
        let (connection, answer) = (connection?, answer.clone());
        thread::spawn(move || serve(connection, answer.as_bytes()));
    }
    Ok(())
}

/// Answers until the client is gone. The load generator sends one request at a time and in one piece.
fn serve(mut connection: TcpStream, answer: &[u8]) -> std::io::Result<()> {
    connection.set_nodelay(true)?;
    let mut request = [0; 4096];
    while connection.read(&mut request)? > 0 {
        connection.write_all(answer)?;
    }
    Ok(())
}
