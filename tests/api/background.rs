//! A background thread that ends ends the service.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use authtokens::cli::Cli;
use authtokens::config::Config;
use authtokens::server::application::Application;
use authtokens::system::clock::Clock;
use authtokens::system::watched::WatchedThreads;
use authtokens::telemetry::log;
use clap::Parser as _;
use serde_json::json;

use crate::helpers::{JSON, PATIENCE, RawResponse, post_bytes};
use crate::process::{Server, program};

/// How a thread ends; set in the process that has one beside its server.
const ENDS: &str = "A_THREAD_THAT_ENDS";

/// The test's own name, by which it is run in that process.
const TEST: &str = "background::\
    a_thread_that_ends_ends_the_process_with_1_once_what_was_accepted_is_answered_and_the_store_is_closed";

/// The file that the thread waits for before it ends.
const END: &str = "end";

#[test]
fn a_thread_that_ends_ends_the_process_with_1_once_what_was_accepted_is_answered_and_the_store_is_closed() {
    if let Ok(how) = std::env::var(ENDS) {
        let served = Cli::try_parse_from(["authtokens", "--listen", "127.0.0.1:0"]).unwrap();
        let code =
            served.run(|config, _| serve_beside_thread(config, how == "panics")).map_or_else(|e| e.exit_code(), |()| 0);
        std::process::exit(code.into());
    }
    for how in ["panics", "returns"] {
        let folder = tempfile::tempdir().unwrap();
        let mut server = Server::start(folder.path(), |command| {
            let mut own = program(std::env::current_exe().unwrap().to_str().unwrap());
            own.args(["--exact", "--nocapture"]).arg(TEST).current_dir(folder.path());
            own.env(ENDS, how).env("AUTHTOKENS_CONFIG", "/dev/null").env("AUTHTOKENS__PASSWORD__BCRYPT_COST", "4");
            own.stdout(Stdio::null()).stderr(fs::File::create(folder.path().join("stderr.log")).unwrap());
            *command = own;
        });
        let mut stream = TcpStream::connect(server.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let body = json!({"username": "AzureDiamond", "password": "hunter2"}).to_string();
        let request = post_bytes("/api/register", &format!("{JSON}Expect: 100-continue\r\n"), &body);
        stream.write_all(&request[..request.len() - body.len()]).unwrap();
        let mut go_on = [0; 25];
        stream.read_exact(&mut go_on).unwrap();
        assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");

        fs::write(folder.path().join(END), "").unwrap();
        let told = "stopping, no new connections are taken: the thread \"of the test\" has ended";
        let deadline = Instant::now() + PATIENCE;
        while !server.log().contains(told) {
            assert!(Instant::now() < deadline, "{}", server.log());
            thread::sleep(Duration::from_millis(5));
        }
        stream.write_all(body.as_bytes()).unwrap();
        assert_eq!(RawResponse::read_from(&mut stream).status(), 201, "{how}");
        assert_eq!(server.wait().code(), Some(1), "{how}: {}", server.log());
        assert!(server.log().trim_end().ends_with("stopped"), "the store is closed: {}", server.log());
    }
}

/// Serves as the program does, with a thread that must not end and does.
fn serve_beside_thread(config: &Config, panics: bool) -> Result<(), Box<dyn std::error::Error>> {
    let threads = WatchedThreads::default();
    let log = log::start(Clock::system(), &threads)?;
    actix_rt::System::new().block_on(async {
        let application = Application::build_on(None, config, Clock::system(), threads.clone())?;
        log.tell(&application.greeting(config));
        threads.spawn("of the test", move || {
            while !Path::new(END).exists() {
                thread::sleep(Duration::from_millis(5));
            }
            assert!(!panics, "on purpose");
        })?;
        Ok(application.run_until_stopped(tokio::time::sleep(PATIENCE)).await?)
    })
}
