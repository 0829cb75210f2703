//! The ceiling of the load generator: a server that reads a request without parsing it and writes the same bytes each
//! time, on so many threads, each with an event loop like one of actix-web's workers. One `recv` and one `send` a
//! request: nothing that speaks HTTP answers with less work.
//!
//! `constant ADDRESS:PORT THREADS`

use std::future::pending;
use std::net::TcpListener;
use std::thread;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Handle};

/// As long as the user object.
const BODY: usize = 405;

fn main() -> std::io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:8001".to_owned());
    let threads = arguments.next().and_then(|threads| threads.parse().ok()).unwrap_or(1);
    let answer =
        format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {BODY}\r\n\r\n{:BODY$}", "{}");
    let loops = (0..threads).map(|_| start_loop()).collect::<Result<Vec<_>, _>>()?;
    let connections = TcpListener::bind(address)?;
    for event_loop in loops.iter().cycle() {
        let (connection, _) = connections.accept()?;
        event_loop.spawn(serve(connection, answer.clone()));
    }
    Ok(())
}

fn start_loop() -> std::io::Result<Handle> {
    let runtime = Builder::new_current_thread().enable_io().build()?;
    let handle = runtime.handle().clone();
    thread::spawn(move || runtime.block_on(pending::<()>()));
    Ok(handle)
}

/// Answers until the client is gone. The load generator sends one request at a time and in one piece.
async fn serve(connection: std::net::TcpStream, answer: String) -> std::io::Result<()> {
    connection.set_nonblocking(true)?;
    connection.set_nodelay(true)?;
    let mut connection = TcpStream::from_std(connection)?;
    let mut request = [0; 4096];
    while connection.read(&mut request).await? > 0 {
        connection.write_all(answer.as_bytes()).await?;
    }
    Ok(())
}
