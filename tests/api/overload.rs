//! More logins than the machine can hash.

use std::io::Write as _;
use std::net::TcpStream;
use std::num::NonZeroUsize;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};

use crate::helpers::{JSON, PATIENCE, RawResponse, TestApp, UNKNOWN_TOKEN, post_bytes, session_of};

/// One hashing thread with one slot in its queue, and hashes that take a while even in a release build.
fn narrow_app() -> TestApp {
    TestApp::spawn_with(|config| {
        config.password.hash_threads = NonZeroUsize::MIN;
        config.password.hash_queue = 1;
        config.password.bcrypt_cost = 14;
    })
}

fn login_bytes() -> Vec<u8> {
    post_bytes("/api/login", JSON, json!({"username": "nobody", "password": "p"}).to_string())
}

/// Opens connections that each ask for a login and do not read the answer.
fn flood(app: &TestApp, count: usize) -> Vec<TcpStream> {
    (0..count)
        .map(|_| {
            let mut stream = app.connect();
            stream.write_all(&login_bytes()).unwrap();
            stream
        })
        .collect()
}

#[test]
fn a_full_hashing_queue_is_503_with_retry_after_and_every_login_is_answered() {
    let app = narrow_app();
    let mut statuses: Vec<u16> = flood(&app, 8)
        .iter_mut()
        .map(|stream| {
            let response = RawResponse::read_from(stream);
            response.assert_error(response.status());
            if response.status() == 503 {
                assert!(response.header("Retry-After").unwrap().parse::<u32>().unwrap() >= 1);
            }
            response.status()
        })
        .collect();
    statuses.sort_unstable();
    assert!(statuses.iter().all(|status| [401, 503].contains(status)), "{statuses:?}");
    assert!(statuses.first() == Some(&401) && statuses.last() == Some(&503), "{statuses:?}");
}

/// How many of the flood's logins have been answered, though nobody has read the answer.
fn answered(flood: &[TcpStream]) -> usize {
    let is_answered = |stream: &TcpStream| {
        stream.set_nonblocking(true).unwrap();
        stream.peek(&mut [0]).is_ok()
    };
    flood.iter().filter(|stream| is_answered(stream)).count()
}

#[tokio::test]
async fn every_other_request_in_a_flood_of_logins_is_answered_before_half_of_the_logins_are() {
    const LOGINS: usize = 24;
    let app = TestApp::spawn_with(|config| {
        config.password.hash_threads = NonZeroUsize::MIN;
        config.password.hash_queue = LOGINS;
        config.password.bcrypt_cost = 12;
    });
    let (token, _) = session_of(app.register("AzureDiamond", "hunter2").await).await;
    let mut flood = flood(&app, LOGINS);
    // When the first has been hashed, the others wait in the queue: they were sent before it was begun.
    let deadline = Instant::now() + PATIENCE;
    while answered(&flood) == 0 {
        assert!(Instant::now() < deadline, "no login is answered");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    for _ in 0..50 {
        app.get(Method::GET, "/api/user", &token, None).await;
    }
    for path in ["/", "/healthz", "/readyz"] {
        assert_eq!(app.client.get(app.url(path)).send().await.unwrap().status(), 200, "{path}");
    }
    assert_eq!(app.log_out(UNKNOWN_TOKEN).await.status(), 401);
    assert_eq!(app.log_out(&token).await.status(), 200);
    let invalid: Value = json!({"username": "a b", "password": "p"});
    assert_eq!(app.post("/api/login", &invalid).await.status(), 400);
    let before = answered(&flood);
    assert!(before < LOGINS / 2, "the others waited for {before} of {LOGINS} logins");
    // And the logins were neither refused nor dropped.
    for stream in &mut flood[..3] {
        stream.set_nonblocking(false).unwrap();
        RawResponse::read_from(stream).assert_error(401);
    }
}

#[test]
fn a_client_that_has_gone_away_does_not_leave_its_hash_in_the_queue() {
    let app = narrow_app();
    // One is being hashed for a good while, one waits in the only slot; both clients go away.
    drop(flood(&app, 2));
    std::thread::sleep(Duration::from_millis(250));
    // The slot is free again while the first hash still runs: nobody is refused.
    app.raw(login_bytes()).assert_error(401);
}

#[test]
fn a_client_that_resets_or_sends_nonsense_behind_its_login_does_not_leave_its_hash_in_the_queue_either() {
    for nonsense in [b"".as_slice(), b"\0\r\n\r\n", &b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n".repeat(5_000)] {
        let app = narrow_app();
        for mut stream in flood(&app, 2) {
            let _ = stream.write_all(nonsense);
            socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
        }
        std::thread::sleep(Duration::from_millis(350));
        app.raw(login_bytes()).assert_error(401);
    }
}

#[test]
fn a_saturating_load_of_other_requests_still_lets_logins_through() {
    let app = TestApp::spawn_with(|config| config.password.bcrypt_cost = 10);
    let (done, rounds) = (AtomicBool::new(false), AtomicUsize::new(0));
    let all_ask = Barrier::new(9);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut stream = app.connect();
                let ask = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n".repeat(16);
                all_ask.wait();
                while !done.load(Ordering::Relaxed) {
                    stream.write_all(&ask).unwrap();
                    for _ in 0..16 {
                        assert_eq!(RawResponse::read_from(&mut stream).status(), 200);
                    }
                    rounds.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        all_ask.wait();
        let logins: Vec<_> = (0..3)
            .map(|_| {
                let before = rounds.load(Ordering::Relaxed);
                let response = app.raw(login_bytes());
                (response, rounds.load(Ordering::Relaxed) - before)
            })
            .collect();
        // First: a failed assertion below must not leave the clients running.
        done.store(true, Ordering::Relaxed);
        for (response, others) in logins {
            response.assert_error(401);
            assert!(others > 0, "nobody asked for anything else during a login");
        }
    });
}
