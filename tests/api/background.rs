//! A background thread that ends ends the service.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
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

use crate::helpers::{JSON, PATIENCE, RawResponse, left_out, post_bytes};
use crate::process::{Server, credentials, program};

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
        let application = Application::build_on(None, config, Clock::system(), threads.clone()).await?;
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

/// Has the thread of actix-web's server that accepts connections fail at its next look, once the file END is there.
const FAILING_ACCEPTOR: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

int epoll_wait(int epoll, struct epoll_event *events, int most, int timeout) {
    int (*real)(int, struct epoll_event *, int, int) = dlsym(RTLD_NEXT, "epoll_wait");
    int found = real(epoll, events, most, timeout);
    char name[16] = {0};
    pthread_getname_np(pthread_self(), name, sizeof name);
    if (strncmp(name, "actix-server", 12) == 0 && access("end", F_OK) == 0) {
        errno = EBADF;
        return -1;
    }
    return found;
}
"#;

#[test]
fn a_thread_that_accepts_connections_and_panics_ends_the_process_with_1_and_the_store_is_closed() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("acceptor.c"), FAILING_ACCEPTOR).unwrap();
    let library = folder.path().join("acceptor.so");
    let compiled = Command::new("cc")
        .current_dir(folder.path())
        .args(["-shared", "-fPIC", "-o"])
        .arg(&library)
        .arg("acceptor.c")
        .status();
    if !compiled.is_ok_and(|status| status.success()) {
        return left_out("there is no C compiler, or it is not Linux with glibc");
    }
    let mut server = Server::start(folder.path(), |command| {
        command.env("LD_PRELOAD", &library);
    });
    assert_eq!(server.ask(&credentials("/api/register", "AzureDiamond")).status(), 201);
    fs::write(folder.path().join(END), "").unwrap();
    // The thread wakes up for it.
    let _ = TcpStream::connect(server.address);
    let status = server.wait();
    assert_eq!(status.code(), Some(1), "{}", server.log());
    let log = server.log();
    assert!(log.contains("the thread \"actix-server acceptor\" has ended"), "{log}");
    assert!(log.lines().any(|line| line.ends_with(" stopped")), "{log}");
}
