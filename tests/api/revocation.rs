//! No answer outlives what ended its session, however many ask at that moment.

use std::io::Write as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::helpers::{JSON, RawResponse, TestApp, post_bytes};
use crate::process::program;

/// How often each way to end a session is tried.
const ROUNDS: usize = 15;

/// How many clients ask without pause meanwhile.
const CLIENTS: usize = 6;

fn request(method: &str, path: &str, token: &str, body: Option<&Value>) -> Vec<u8> {
    let body = body.map(Value::to_string).unwrap_or_default();
    let kind = if body.is_empty() { "" } else { JSON };
    format!(
        "{method} {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Token {token}\r\n{kind}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

fn session(app: &TestApp, path: &str, username: &str) -> String {
    let body = json!({"username": username, "password": "hunter2"}).to_string();
    let response = app.raw(post_bytes(path, JSON, body));
    assert!(response.status() < 300, "{response:?}");
    response.json()["token"].as_str().unwrap().to_owned()
}

/// Ends sessions by `end` while clients ask with their tokens; once it is acknowledged, no token is good.
fn ends_at_once(app: &TestApp, end: impl Fn(&str, &str)) {
    for round in 0..ROUNDS {
        let username = format!("u{round}-{}", app.count("users"));
        let token = session(app, "/api/register", &username);
        let (ended, good) = (AtomicBool::new(false), AtomicU64::new(0));
        thread::scope(|scope| {
            let clients: Vec<_> = (0..CLIENTS)
                .map(|_| {
                    scope.spawn(|| {
                        let mut stream = app.connect();
                        loop {
                            // Read before the request is sent: a request that begins after the end must see it.
                            let is_over = ended.load(Ordering::SeqCst);
                            stream.write_all(&request("GET", "/api/user", &token, None)).unwrap();
                            let status = RawResponse::read_from(&mut stream).status();
                            if is_over {
                                return status;
                            }
                            good.fetch_add(u64::from(status == 200), Ordering::SeqCst);
                        }
                    })
                })
                .collect();
            while good.load(Ordering::SeqCst) < 50 {
                thread::sleep(Duration::from_micros(200));
            }
            end(&username, &token);
            ended.store(true, Ordering::SeqCst);
            for client in clients {
                assert_eq!(client.join().unwrap(), 401, "round {round}");
            }
        });
    }
}

fn done(response: &RawResponse) {
    assert_eq!(response.status(), 200, "{response:?}");
}

#[test]
fn no_answer_outlives_a_logout() {
    let app = TestApp::spawn();
    ends_at_once(&app, |_, token| done(&app.raw(request("POST", "/api/logout", token, None))));
}

#[test]
fn no_answer_outlives_the_end_of_all_sessions_or_of_another_one() {
    let app = TestApp::spawn();
    ends_at_once(&app, |username, _| {
        let other = session(&app, "/api/login", username);
        done(&app.raw(request("POST", "/api/logoutall", &other, None)));
    });
    ends_at_once(&app, |username, token| {
        let id = app.raw(request("GET", "/api/user/tokens", token, None)).json()[0]["id"].clone();
        let other = session(&app, "/api/login", username);
        done(&app.raw(request("DELETE", &format!("/api/user/tokens/{}", id.as_str().unwrap()), &other, None)));
    });
}

#[test]
fn no_answer_outlives_a_change_of_password_or_the_end_of_the_account() {
    let app = TestApp::spawn();
    ends_at_once(&app, |username, _| {
        let other = session(&app, "/api/login", username);
        let change = json!({"current_password": "hunter2", "new_password": "hunter3"});
        done(&app.raw(request("POST", "/api/user/password", &other, Some(&change))));
    });
    ends_at_once(&app, |_, token| {
        done(&app.raw(request("DELETE", "/api/user", token, Some(&json!({"password": "hunter2"})))));
    });
}

#[test]
fn no_answer_outlives_what_staff_did() {
    let app = TestApp::spawn();
    let staff = session(&app, "/api/register", "staff");
    app.make_superuser("staff");
    let change = |username: &str, change: &Value| {
        done(&app.raw(request("PATCH", &format!("/api/users/{username}"), &staff, Some(change))));
    };
    ends_at_once(&app, |username, _| change(username, &json!({"is_active": false})));
    ends_at_once(&app, |username, _| change(username, &json!({"password": "hunter3"})));
    ends_at_once(&app, |username, _| {
        done(&app.raw(request("DELETE", &format!("/api/users/{username}"), &staff, None)));
    });
}

#[test]
fn no_answer_outlives_what_a_command_did() {
    let app = TestApp::spawn();
    let run = |arguments: &[&str]| {
        let mut command = program(env!("CARGO_BIN_EXE_authtokens"));
        app.store.point(command.args(arguments));
        let done = command.output().unwrap();
        assert!(done.status.success(), "{done:?}");
    };
    ends_at_once(&app, |username, _| run(&["user", "deactivate", username]));
    ends_at_once(&app, |username, _| run(&["token", "revoke", username, "--all"]));
    ends_at_once(&app, |username, _| run(&["user", "delete", username, "--yes"]));
}

#[test]
fn an_answer_outlives_what_another_process_wrote_by_a_stated_time_at_most() {
    let app = TestApp::spawn();
    ends_at_once(&app, |username, _| app.deactivate(username));
    ends_at_once(&app, |username, _| app.store.delete_sessions(username));
}

#[test]
fn no_answer_outlives_the_age_of_its_session() {
    let app = TestApp::spawn();
    ends_at_once(&app, |_, _| app.clock.advance(Duration::from_secs(366 * 24 * 60 * 60)));
}

#[test]
fn what_a_client_has_changed_it_reads() {
    let app = TestApp::spawn();
    let token = session(&app, "/api/register", "AzureDiamond");
    let (city, read) = (|n: usize| format!("City {n}"), || app.raw(request("GET", "/api/user", &token, None)).json());
    for round in 0..100 {
        let profile = json!({"city": city(round)});
        done(&app.raw(request("PATCH", "/api/user", &token, Some(&profile))));
        assert_eq!(read()["city"], profile["city"]);
        done(&app.raw(request("PUT", &format!("/api/user/cellar/{}", round + 1), &token, None)));
        assert_eq!(read()["cellar"].as_array().unwrap().len(), round + 1);
    }
}
