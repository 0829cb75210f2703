//! Connections that are slow, silent, reused or many.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use reqwest::Method;
use serde_json::json;

use crate::helpers::{JSON, RawResponse, TestApp, UNKNOWN_TOKEN, post_bytes};

const SHORT: Duration = Duration::from_millis(300);

/// All bytes until the server closes.
fn read_to_close(stream: &mut TcpStream) -> Vec<u8> {
    let mut received = Vec::new();
    match stream.read_to_end(&mut received) {
        Ok(_) => {}
        Err(error) => panic!("the server keeps the connection open, or resets it: {error}"),
    }
    received
}

#[test]
fn a_head_that_does_not_arrive_in_time_is_408_be_it_the_first_or_a_later_one() {
    let app = TestApp::spawn_with(|config| config.server.header_timeout = SHORT);
    let mut first = app.connect();
    first.write_all(b"GET /healthz HTTP/1.1\r\nHost:").unwrap();
    RawResponse::read_from(&mut first).assert_error(408);
    assert_eq!(read_to_close(&mut first), b"");

    let mut second = app.connect();
    second.write_all(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!(RawResponse::read_from(&mut second).status(), 200);
    second.write_all(b"G").unwrap();
    RawResponse::read_from(&mut second).assert_error(408);
    assert_eq!(read_to_close(&mut second), b"");
}

#[test]
fn a_connection_that_says_nothing_is_closed_without_a_word() {
    let app = TestApp::spawn_with(|config| {
        config.server.header_timeout = SHORT;
        config.server.keep_alive = SHORT;
    });
    assert_eq!(read_to_close(&mut app.connect()), b"");
    let mut rested = app.connect();
    rested.write_all(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!(RawResponse::read_from(&mut rested).status(), 200);
    assert_eq!(read_to_close(&mut rested), b"");
}

#[test]
fn a_body_that_does_not_arrive_in_time_is_408() {
    let app = TestApp::spawn_with(|config| config.server.body_timeout = SHORT);
    for path in ["/api/register", "/api/login"] {
        let mut stream = app.connect();
        stream
            .write_all(format!("POST {path} HTTP/1.1\r\nHost: a\r\n{JSON}Content-Length: 50\r\n\r\n{{").as_bytes())
            .unwrap();
        RawResponse::read_from(&mut stream).assert_error(408);
    }
}

#[test]
fn a_body_that_drips_is_408_all_the_same() {
    let app = TestApp::spawn_with(|config| config.server.body_timeout = SHORT);
    let mut stream = app.connect();
    stream
        .write_all(format!("POST /api/login HTTP/1.1\r\nHost: a\r\n{JSON}Content-Length: 500\r\n\r\n").as_bytes())
        .unwrap();
    let mut drip = stream.try_clone().unwrap();
    let dripping = std::thread::spawn(move || {
        for _ in 0..100 {
            if drip.write_all(b"{").is_err() {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    RawResponse::read_from(&mut stream).assert_error(408);
    drop(stream);
    dripping.join().unwrap();
}

#[test]
fn three_hundred_clients_that_send_one_byte_of_a_body_and_wait_keep_nobody_out_and_are_closed() {
    let app = TestApp::spawn_with(|config| {
        config.server.body_timeout = Duration::from_secs(2);
        config.server.header_timeout = Duration::from_secs(2);
    });
    let mut waiting: Vec<TcpStream> = (0..300)
        .map(|number| {
            let mut stream = app.connect();
            let path = ["/api/register", "/api/login", "/api/logout"][number % 3];
            let head = format!("POST {path} HTTP/1.1\r\nHost: a\r\n{JSON}Content-Length: 50\r\n\r\n{{");
            stream.write_all(head.as_bytes()).unwrap();
            stream
        })
        .collect();
    let credentials = json!({"username": "a", "password": "p"}).to_string();
    assert_eq!(app.raw(post_bytes("/api/register", JSON, &credentials)).status(), 201);
    assert_eq!(app.raw(post_bytes("/api/login", JSON, &credentials)).status(), 200);
    for (number, stream) in waiting.iter_mut().enumerate() {
        // A logout needs no body, and so need not wait for it.
        RawResponse::read_from(stream).assert_error(if number % 3 == 2 { 401 } else { 408 });
        assert_eq!(read_to_close(stream), b"");
    }
}

#[test]
fn three_hundred_clients_that_send_one_byte_of_a_head_and_wait_keep_nobody_out_and_are_closed() {
    let app = TestApp::spawn_with(|config| config.server.header_timeout = Duration::from_secs(2));
    let mut waiting: Vec<TcpStream> = (0..300)
        .map(|_| {
            let mut stream = app.connect();
            stream.write_all(b"P").unwrap();
            stream
        })
        .collect();
    assert_eq!(app.raw("GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").status(), 200);
    for stream in &mut waiting {
        RawResponse::read_from(stream).assert_error(408);
        assert_eq!(read_to_close(stream), b"");
    }
}

#[test]
fn many_requests_on_one_connection_are_answered_in_their_order() {
    let app = TestApp::spawn();
    let mut stream = app.connect();
    let refused = post_bytes("/api/logout", &format!("Authorization: Token {UNKNOWN_TOKEN}\r\n"), "");
    let alive = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n".as_slice();
    let pipeline: Vec<u8> = (0..20).flat_map(|_| [refused.as_slice(), alive].concat()).collect();
    stream.write_all(&pipeline).unwrap();
    for _ in 0..20 {
        RawResponse::read_from(&mut stream).assert_error(401);
        assert_eq!(RawResponse::read_from(&mut stream).status(), 200);
    }
}

#[test]
fn a_client_that_closes_its_sending_half_is_still_answered() {
    let app = TestApp::spawn();
    let mut stream = app.connect();
    let credentials = json!({"username": "a", "password": "p"}).to_string();
    stream.write_all(&post_bytes("/api/register", JSON, &credentials)).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(RawResponse::read_from(&mut stream).status(), 201);
}

#[test]
fn connections_over_the_limit_wait_their_turn() {
    let app = TestApp::spawn_with(|config| {
        config.server.workers = std::num::NonZeroUsize::MIN;
        config.server.max_connections = 2;
    });
    let ask = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut open: Vec<TcpStream> = (0..2)
        .map(|_| {
            let mut stream = app.connect();
            stream.write_all(ask).unwrap();
            assert_eq!(RawResponse::read_from(&mut stream).status(), 200);
            stream
        })
        .collect();
    let mut third = app.connect();
    third.write_all(ask).unwrap();
    third.set_read_timeout(Some(SHORT)).unwrap();
    assert!(third.read(&mut [0]).is_err(), "it waits");
    open.pop();
    third.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    assert_eq!(RawResponse::read_from(&mut third).status(), 200);
}

#[test]
fn a_chunked_body_that_stops_or_is_not_wanted_does_not_hold_its_connection() {
    let app = TestApp::spawn_with(|config| {
        config.server.body_timeout = SHORT;
        config.server.header_timeout = SHORT;
        config.server.keep_alive = SHORT;
    });
    let chunked = |path: &str, headers: &str| {
        format!("POST {path} HTTP/1.1\r\nHost: a\r\n{headers}Transfer-Encoding: chunked\r\n\r\n1\r\n{{")
    };
    for (request, status) in [
        (chunked("/api/login", JSON), 408),
        (chunked("/api/register", JSON), 408),
        (chunked("/api/login", ""), 415),
        (chunked("/api/logout", ""), 401),
        (chunked("/nothing", ""), 404),
        (chunked("/healthz", ""), 405),
    ] {
        let mut stream = app.connect();
        stream.write_all(request.as_bytes()).unwrap();
        let response = RawResponse::read_from(&mut stream);
        response.assert_error(status);
        assert_eq!(response.header("Connection"), Some("close"), "{request}");
        assert_eq!(read_to_close(&mut stream), b"", "{request}");
    }
}

#[test]
fn what_follows_an_answer_that_was_said_to_be_the_last_is_not_served() {
    let app = TestApp::spawn();
    for (method, path) in [("GET", "/healthz"), ("POST", "/api/logout"), ("POST", "/api/login")] {
        let mut stream = app.connect();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let response = RawResponse::read_from(&mut stream);
        assert_eq!(response.header("Connection"), Some("close"), "{request}");
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(read_to_close(&mut stream), b"", "{request}");
    }
}

#[test]
fn a_body_that_was_read_leaves_the_connection_open_for_the_next_request() {
    let app = TestApp::spawn();
    let mut stream = app.connect();
    let wrong = json!({"username": "nobody", "password": "p"}).to_string();
    let request = post_bytes("/api/login", JSON, &wrong);
    let (head, body) = request.split_at(request.len() - wrong.len());
    for _ in 0..3 {
        stream.write_all(head).unwrap();
        std::thread::sleep(Duration::from_millis(20));
        stream.write_all(body).unwrap();
        let response = RawResponse::read_from(&mut stream);
        response.assert_error(401);
        assert_eq!(response.header("Connection"), None);
    }
}

#[test]
fn a_client_that_never_reads_its_answers_is_given_up_and_others_are_served() {
    let app = TestApp::spawn_with(|config| {
        config.server.workers = std::num::NonZeroUsize::MIN;
        config.server.body_timeout = SHORT;
    });
    let mut deaf = app.connect();
    deaf.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
    let many = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(1_000);
    // Until both sides' buffers are full, and then until the server gives up.
    while deaf.write_all(&many).is_ok() {}
    assert_eq!(app.raw("GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").status(), 200);
}

#[test]
fn an_empty_line_behind_a_request_is_no_head_that_is_late() {
    let app = TestApp::spawn_with(|config| config.server.header_timeout = SHORT);
    let mut stream = app.connect();
    let ask = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n";
    stream.write_all(ask).unwrap();
    assert_eq!(RawResponse::read_from(&mut stream).status(), 200);
    stream.write_all(b"\r\n").unwrap();
    std::thread::sleep(SHORT * 3);
    stream.write_all(ask).unwrap();
    assert_eq!(RawResponse::read_from(&mut stream).status(), 200);
}

#[test]
fn what_follows_a_request_that_closes_the_connection_is_not_served() {
    let app = TestApp::spawn();
    let alive = "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n";
    for first in [
        "GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        "GET /healthz HTTP/1.0\r\n\r\n",
        "GARBAGE\r\n\r\n",
    ] {
        let mut stream = app.connect();
        stream.write_all(format!("{first}{alive}").as_bytes()).unwrap();
        let response = RawResponse::read_from(&mut stream);
        assert!([200, 400].contains(&response.status()));
        // The server does not wait for the client to close its side.
        assert_eq!(read_to_close(&mut stream), b"", "{first}");
    }
}

#[test]
fn a_refusal_reaches_a_client_that_is_still_sending() {
    let app = TestApp::spawn();
    for (request, status) in [
        (b"GARBAGE\r\n\r\n".to_vec(), 400),
        (format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", "x".repeat(140_000)).into_bytes(), 431),
        (format!("POST /api/login HTTP/1.1\r\nHost: a\r\n{JSON}Content-Length: 3000000\r\n\r\n").into_bytes(), 413),
    ] {
        let mut stream = app.connect();
        stream.write_all(&request).unwrap();
        for _ in 0..10 {
            std::thread::sleep(Duration::from_millis(5));
            stream.write_all(&[b'x'; 10_000]).unwrap();
        }
        RawResponse::read_from(&mut stream).assert_error(status);
        assert_eq!(read_to_close(&mut stream), b"", "{status}");
    }
}

#[test]
fn a_head_over_its_limit_is_431_however_it_comes_and_whatever_came_before() {
    let app = TestApp::spawn();
    let alive = "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n";
    let login = json!({"username": "a", "password": "p"}).to_string();
    let login = String::from_utf8(post_bytes("/api/login", JSON, &login)).unwrap();
    let chunked = format!(
        "POST /api/login HTTP/1.1\r\nHost: a\r\n{JSON}Transfer-Encoding: chunked\r\n\r\n2\r\n{{}}\r\n0\r\n\r\n"
    );
    for (before, answers) in [(String::new(), 0), (alive.repeat(3), 3), (login, 1), (chunked, 1)] {
        for large in [
            format!("{}: x\r\n", "n".repeat(65_536)),
            format!("{}: x\r\n", "n".repeat(32 * 1024)),
            format!("X: {}\r\n", "v".repeat(65_536)),
            "X-Some: v\r\n".repeat(4_000),
        ] {
            let request = format!("{before}GET /healthz HTTP/1.1\r\nHost: a\r\n{large}\r\n");
            for piece in [usize::MAX, 4_096, 1_000] {
                let mut stream = app.connect();
                for bytes in request.as_bytes().chunks(piece) {
                    // Refused before all of it was sent.
                    let _ = stream.write_all(bytes);
                }
                for _ in 0..answers {
                    assert_ne!(RawResponse::read_from(&mut stream).status(), 431);
                }
                RawResponse::read_from(&mut stream).assert_error(431);
                assert_eq!(read_to_close(&mut stream), b"");
            }
        }
    }
    let fits = format!("GET /healthz HTTP/1.1\r\nHost: a\r\n{}: x\r\n\r\n", "n".repeat(32_000));
    assert_eq!(app.raw(fits).status(), 200);
}

#[test]
fn an_offer_to_change_protocols_is_ignored_and_the_connection_stays() {
    let app = TestApp::spawn();
    let body = json!({"username": "nobody", "password": "p"}).to_string();
    for offer in [
        // As the JDK's client sends it.
        "Connection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA\r\nUpgrade: h2c\r\n",
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
        "Connection: keep-alive, upgrade\r\nUpgrade: TLS/1.2, websocket\r\n",
        "Upgrade: WebSocket\r\n",
    ] {
        let mut stream = app.connect();
        for _ in 0..3 {
            stream.write_all(format!("GET /healthz HTTP/1.1\r\nHost: a\r\n{offer}\r\n").as_bytes()).unwrap();
            let answer = RawResponse::read_from(&mut stream);
            assert_eq!((answer.status(), answer.header("Connection")), (200, None), "{offer}");
            assert_eq!(answer.header("Upgrade"), None, "{offer}");
            stream.write_all(&post_bytes("/api/login", &format!("{JSON}{offer}"), &body)).unwrap();
            let answer = RawResponse::read_from(&mut stream);
            answer.assert_error(401);
            assert_eq!(answer.header("Connection"), None, "{offer}");
        }
        stream
            .write_all(format!("GET /healthz HTTP/1.1\r\nHost: a\r\n{offer}Connection: close\r\n\r\n").as_bytes())
            .unwrap();
        assert_eq!(RawResponse::read_from(&mut stream).header("Connection"), Some("close"), "{offer}");
        assert_eq!(read_to_close(&mut stream), b"");
    }
}

#[test]
fn requests_with_bodies_of_every_kind_share_a_connection_however_their_bytes_come() {
    let app = TestApp::spawn();
    let body = json!({"username": "nobody", "password": "p"}).to_string();
    let (first, second) = body.split_at(9);
    let chunked = format!(
        "POST /api/login HTTP/1.1\r\nHost: a\r\n{JSON}Transfer-Encoding: chunked\r\n\r\n{:x};x=y\r\n{first}\r\n{:X}\r\n\
         {second}\r\n0\r\nTrailer: x\r\n\r\n",
        first.len(),
        second.len()
    );
    let sized = String::from_utf8(post_bytes("/api/login", JSON, &body)).unwrap();
    let alive = "\r\nGET /healthz HTTP/1.1\r\nHost: a\r\n\r\n";
    let requests = format!("{chunked}{alive}{sized}{chunked}{sized}{alive}");
    for piece in [1, 7, 100, 100_000] {
        let mut stream = app.connect();
        let mut sending = stream.try_clone().unwrap();
        let bytes = requests.clone().into_bytes();
        let sender =
            std::thread::spawn(move || bytes.chunks(piece).for_each(|bytes| sending.write_all(bytes).unwrap()));
        for status in [401, 200, 401, 401, 401, 200] {
            let answer = RawResponse::read_from(&mut stream);
            assert_eq!((answer.status(), answer.header("Connection")), (status, None), "{piece}: {answer:?}");
        }
        sender.join().unwrap();
    }
}

#[test]
fn what_follows_a_connect_is_not_served() {
    let app = TestApp::spawn();
    let mut stream = app.connect();
    stream.write_all(b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\nGET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let answer = RawResponse::read_from(&mut stream);
    assert!((400..500).contains(&answer.status()), "{answer:?}");
    assert_eq!(answer.header("Connection"), Some("close"));
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(read_to_close(&mut stream), b"");
}

#[tokio::test]
async fn an_answer_of_any_length_comes_whole_on_a_connection_that_closes_behind_it() {
    let app = TestApp::spawn();
    let token = app.new_user("AzureDiamond").await;
    let items: Vec<_> = (1_000_000_000..1_000_010_000).collect();
    app.get(Method::PUT, "/api/user/cellar", &token, Some(&json!(items))).await;
    for (request, headers) in [
        ("GET /api/user/cellar HTTP/1.0", ""),
        ("GET /api/user/cellar HTTP/1.1", "Connection: close\r\n"),
        ("GET /api/user/cellar HTTP/1.1", "Content-Length: 2\r\n"),
        ("GET /docs/swagger-ui-bundle.js HTTP/1.1", "Connection: close\r\n"),
    ] {
        let mut stream = app.connect();
        let head = format!("{request}\r\nHost: x\r\nAuthorization: Token {token}\r\n{headers}\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        let whole = RawResponse::read_from(&mut stream);
        assert_eq!(whole.status(), 200);
        assert!(whole.body.len() > 100_000, "{request}: {}", whole.body.len());
        assert_eq!(stream.read(&mut [0]).unwrap(), 0, "{request}: and then it closes");
    }
    // An answer whose body is not sent, as to HEAD, ends the connection as well.
    let mut stream = app.connect();
    let head = format!("HEAD /api/user/cellar HTTP/1.0\r\nHost: x\r\nAuthorization: Token {token}\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert!(answer.starts_with(b"HTTP/1.0 200 OK") || answer.starts_with(b"HTTP/1.1 200 OK"));
}

#[tokio::test]
async fn a_client_that_waits_to_be_asked_for_its_body_is_asked_only_where_it_is_wanted() {
    let app = TestApp::spawn();
    app.new_user("AzureDiamond").await;
    let body = r#"{"username": "AzureDiamond", "password": "hunter2"}"#;
    let expect = "Expect: 100-Continue\r\n";
    let mut stream = app.connect();
    for _ in 0..2 {
        let length = body.len();
        let head = format!("POST /api/login HTTP/1.1\r\nHost: x\r\n{JSON}{expect}Content-Length: {length}\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        let mut asked = [0; 25];
        stream.read_exact(&mut asked).unwrap();
        assert_eq!(&asked, b"HTTP/1.1 100 Continue\r\n\r\n");
        stream.write_all(body.as_bytes()).unwrap();
        assert_eq!(RawResponse::read_from(&mut stream).status(), 200);
    }
    for (request, headers, status) in [
        ("PATCH /api/user", format!("{JSON}Content-Length: 100\r\n"), 401),
        ("POST /api/login", format!("{JSON}Content-Length: 100000\r\n"), 413),
        ("POST /api/login", "Content-Length: 100\r\n".to_owned(), 415),
        ("POST /nowhere", "Content-Length: 100\r\n".to_owned(), 404),
    ] {
        let refused = app.raw(format!("{request} HTTP/1.1\r\nHost: x\r\n{headers}{expect}\r\n"));
        refused.assert_error(status);
    }
}
