//! What the service does beside answering: its jobs are counted, and the end of one of its threads is its own.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::mpsc;

use authtokens::cli::Cli;
use authtokens::server::application::Application;
use authtokens::system::clock::Clock;
use authtokens::system::watched::WatchedThreads;
use clap::Parser as _;
use serde_json::json;

use crate::helpers::{JSON, PATIENCE, RawResponse, post_bytes};

/// Serves on a file of its own, as the program does, beside a thread of which it is told that it must not end.
fn serve_beside(folder: &tempfile::TempDir, threads: &WatchedThreads, thread: impl FnOnce(TcpStream) + Send + 'static) {
    let database = folder.path().join("test.db");
    let arguments =
        ["authtokens", "--config", "/dev/null", "--listen", "127.0.0.1:0", "--database", database.to_str().unwrap()];
    let served = Cli::try_parse_from(arguments).unwrap().run(|config, _| {
        actix_rt::System::new().block_on(async {
            let application = Application::build_on(None, config, Clock::system(), threads.clone())?;
            let address = application.address();
            threads.spawn("of the test", move || {
                let stream = TcpStream::connect(address).unwrap();
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                thread(stream);
            })?;
            application.run_until_stopped(tokio::time::sleep(PATIENCE)).await?;
            Ok(())
        })
    });
    let error = served.unwrap_err();
    assert_eq!(error.to_string(), "the thread \"of the test\" has ended, and the service cannot do without it");
    assert_eq!(error.exit_code(), 1);
}

#[test]
fn a_thread_that_ends_ends_the_server_with_exit_code_1_once_what_was_accepted_is_answered_and_the_file_is_closed() {
    let folder = tempfile::tempdir().unwrap();
    let body = json!({"username": "AzureDiamond", "password": "hunter2"}).to_string();
    let request = post_bytes("/api/register", &format!("{JSON}Expect: 100-continue\r\n"), &body);
    let (give, accepted) = mpsc::channel();
    let head = request[..request.len() - body.len()].to_vec();
    let client = std::thread::spawn(move || {
        let mut stream: TcpStream = accepted.recv().unwrap();
        stream.write_all(body.as_bytes()).unwrap();
        RawResponse::read_from(&mut stream)
    });
    serve_beside(&folder, &WatchedThreads::default(), move |mut stream| {
        stream.write_all(&head).unwrap();
        let mut answer = [0; 25];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"HTTP/1.1 100 Continue\r\n\r\n");
        give.send(stream).unwrap();
        panic!("on purpose");
    });
    assert_eq!(client.join().unwrap().status(), 201);
    let wal = fs::metadata(folder.path().join("test.db-wal"));
    assert_eq!(wal.map_or(0, |wal| wal.len()), 0, "the file is closed");
}

#[test]
fn a_thread_that_returns_without_being_told_to_ends_the_server_too() {
    serve_beside(&tempfile::tempdir().unwrap(), &WatchedThreads::default(), drop);
}
