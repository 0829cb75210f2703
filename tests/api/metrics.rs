//! The metrics: what the service counts, and the listener that shows it.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use authtokens::server::application::Application;
use authtokens::system::clock::Clock;
use reqwest::Method;
use serde_json::json;

use crate::helpers::{HOUR, JSON, PATIENCE, RawResponse, START_MILLIS, TestApp, post_bytes, session_of, test_config};

pub const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

fn watched_app() -> TestApp {
    TestApp::spawn_with(|config| config.metrics.listen = Some(ANY_PORT))
}

/// Sends a request to the metrics listener and reads until it closes.
fn ask(app: &TestApp, head: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(app.metrics_address.unwrap())?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(format!("{head}\r\nHost: a\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// The metrics' text.
pub fn read_metrics(app: &TestApp) -> String {
    let answer = ask(app, "GET /metrics HTTP/1.1").unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    body.to_owned()
}

/// The value of a series, named as in the text; `None` where there is no such series.
pub fn value(text: &str, series: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
}

/// The series of a job's runs with this outcome.
pub fn runs(job: &str, outcome: &str) -> String {
    format!("authtokens_job_runs_total{{job=\"{job}\",outcome=\"{outcome}\"}}")
}

/// The series of a job's last success.
pub fn last_success(job: &str) -> String {
    format!("authtokens_job_last_success_timestamp_seconds{{job=\"{job}\"}}")
}

fn requests(text: &str, method: &str, route: &str, status: u16) -> Option<f64> {
    let labels = format!("method=\"{method}\",route=\"{route}\",status=\"{status}\"");
    value(text, &format!("authtokens_http_requests_total{{{labels}}}"))
}

/// The names of all series.
pub fn names(text: &str) -> Vec<&str> {
    text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split(['{', ' ']).next()).collect()
}

/// The text as soon as a series' value is at least that much; a hash is counted a moment after it was answered.
pub fn wait_for(app: &TestApp, series: &str, expected: f64) -> String {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let text = read_metrics(app);
        if value(&text, series) >= Some(expected) {
            return text;
        }
        assert!(Instant::now() < deadline, "{series} is not {expected}: {text}");
    }
}

#[tokio::test]
async fn by_default_nothing_listens_and_the_api_itself_never_shows_metrics() {
    let silent = TestApp::spawn();
    assert_eq!(silent.metrics_address, None);
    let watched = watched_app();
    assert_ne!(watched.metrics_address, Some(watched.address));
    for app in [silent, watched] {
        for path in ["/metrics", "/metrics/", "/api/metrics"] {
            assert_eq!(app.client.get(app.url(path)).send().await.unwrap().status(), 404, "{path}");
        }
    }
}

#[tokio::test]
async fn each_answer_is_counted_under_its_method_its_route_and_its_status() {
    let app = watched_app();
    let (token, _) = session_of(app.register("AzureDiamond", "hunter2").await).await;
    session_of(app.log_in("AzureDiamond", "hunter2").await).await;
    for _ in 0..2 {
        assert_eq!(app.log_in("AzureDiamond", "wrong").await.status(), 401);
    }
    assert_eq!(app.post("/api/login", &json!({"username": "AzureDiamond"})).await.status(), 400);
    for path in ["/api/user/cellar/7", "/api/user/cellar/8/"] {
        assert_eq!(app.ask(Method::PUT, path, &token, None).await.status(), 200);
    }
    assert_eq!(app.ask(Method::POST, "/api/user/cellar/7", &token, None).await.status(), 405);
    assert_eq!(app.client.get(app.url("/%00/..%2f;x?a=b&c")).send().await.unwrap().status(), 404);
    app.raw("BREW /api/login HTTP/1.1\r\nHost: a\r\n\r\n").assert_error(405);
    app.raw("no HTTP at all\r\n\r\n").assert_error(400);
    app.raw(format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(40_000))).assert_error(431);

    let text = wait_for(&app, "authtokens_hash_duration_seconds_count", 4.0);
    assert_eq!(value(&text, "authtokens_hash_duration_seconds_count"), Some(4.0), "{text}");
    for (method, route, status, count) in [
        ("POST", "/api/register", 201, 1.0),
        ("POST", "/api/login", 200, 1.0),
        ("POST", "/api/login", 401, 2.0),
        ("POST", "/api/login", 400, 1.0),
        ("PUT", "/api/user/cellar/{item_id}", 200, 2.0),
        ("POST", "/api/user/cellar/{item_id}", 405, 1.0),
        ("GET", "other", 404, 1.0),
        ("other", "/api/login", 405, 1.0),
        ("other", "other", 400, 1.0),
        ("other", "other", 431, 1.0),
    ] {
        assert_eq!(requests(&text, method, route, status), Some(count), "{method} {route} {status}: {text}");
    }
    assert_eq!(names(&text).iter().filter(|name| **name == "authtokens_http_requests_total").count(), 10, "{text}");
    for (series, expected) in [
        ("authtokens_http_request_duration_seconds_count{route=\"/api/login\"}", 5.0),
        ("authtokens_http_request_duration_seconds_bucket{route=\"/api/login\",le=\"+Inf\"}", 5.0),
        ("authtokens_http_request_duration_seconds_count{route=\"/healthz\"}", 0.0),
        ("authtokens_logins_total{outcome=\"success\"}", 1.0),
        ("authtokens_logins_total{outcome=\"failure\"}", 2.0),
        ("authtokens_registrations_total", 1.0),
        ("authtokens_sign_ins_total{second_factor=\"none\",way=\"password\"}", 1.0),
        ("authtokens_sign_ins_total{second_factor=\"none\",way=\"registration\"}", 1.0),
        ("authtokens_hashes_running", 0.0),
        ("authtokens_hashes_waiting", 0.0),
        ("authtokens_rejected_total{reason=\"hash_queue_full\"}", 0.0),
        ("authtokens_rejected_total{reason=\"pool_timeout\"}", 0.0),
        ("authtokens_rejected_total{reason=\"rate_limit_address\"}", 0.0),
        ("authtokens_rejected_total{reason=\"rate_limit_account\"}", 0.0),
        ("authtokens_users", 1.0),
        ("authtokens_tokens", 2.0),
        ("authtokens_revocations_waiting", 0.0),
        (&format!("authtokens_build_info{{version=\"{}\"}}", env!("CARGO_PKG_VERSION")), 1.0),
        #[expect(clippy::cast_precision_loss, reason = "milliseconds since 1970 are far below 2^53")]
        ("process_start_time_seconds", START_MILLIS as f64 / 1_000.0),
    ] {
        assert_eq!(value(&text, series), Some(expected), "{series}: {text}");
    }
    for (series, at_least) in [
        ("authtokens_http_request_duration_seconds_sum{route=\"/api/login\"}", 0.000_1),
        ("authtokens_store_commits_total", 4.0),
        ("process_resident_memory_bytes", 1_000_000.0),
    ] {
        assert!(value(&text, series) >= Some(at_least), "{series}: {text}");
    }
}

#[tokio::test]
async fn each_job_is_shown_from_the_start_with_how_often_it_succeeded_and_failed_and_when_it_last_succeeded() {
    let app = watched_app();
    let text = read_metrics(&app);
    assert_eq!(value(&text, &runs("pruning", "success")), Some(0.0), "{text}");
    assert_eq!(value(&text, &last_success("pruning")), None, "{text}");
    app.clock.advance(HOUR);
    let text = wait_for(&app, &runs("pruning", "success"), 1.0);
    #[expect(clippy::cast_precision_loss, reason = "milliseconds since 1970 are far below 2^53")]
    let now = (START_MILLIS + 60 * 60 * 1_000) as f64 / 1_000.0;
    assert_eq!(value(&text, &last_success("pruning")), Some(now), "{text}");
    for job in ["last_used", "failed_attempts", "password_resets"] {
        let text = wait_for(&app, &runs(job, "success"), 1.0);
        assert_eq!(value(&text, &runs(job, "failure")), Some(0.0), "{job}: {text}");
        assert!(value(&text, &last_success(job)).is_some(), "{job}: {text}");
    }
}

#[tokio::test]
async fn whatever_clients_make_up_creates_no_series() {
    let app = watched_app();
    app.client.get(app.url("/nothing/0")).send().await.unwrap();
    app.raw("MADEUP0 / HTTP/1.1\r\nHost: a\r\n\r\n").assert_error(405);
    app.client.delete(app.url("/api/user/tokens/0")).send().await.unwrap();
    app.client.get(app.url("/docs/0")).send().await.unwrap();
    let series = names(&read_metrics(&app)).len();
    for number in 1..50 {
        app.client.get(app.url(&format!("/nothing/{number}"))).send().await.unwrap();
        app.raw(format!("MADEUP{number} / HTTP/1.1\r\nHost: a\r\n\r\n")).assert_error(405);
        app.client.delete(app.url(&format!("/api/user/tokens/{number}/"))).send().await.unwrap();
        app.client.get(app.url(&format!("/docs/{number}"))).send().await.unwrap();
    }
    let text = read_metrics(&app);
    assert_eq!(names(&text).len(), series, "{text}");
    assert_eq!(requests(&text, "GET", "other", 404), Some(50.0));
    assert_eq!(requests(&text, "other", "/", 405), Some(50.0));
    assert_eq!(requests(&text, "DELETE", "/api/user/tokens/{id}", 401), Some(50.0));
    assert_eq!(requests(&text, "GET", "/docs/{file}", 404), Some(50.0));
}

#[tokio::test]
async fn no_name_no_secret_and_no_address_appears_in_it() {
    let app = watched_app();
    let (token, _) = session_of(app.register("AzureDiamond", "hunter2").await).await;
    app.log_in("AzureDiamond", "hunter3").await;
    app.client.get(app.url("/AzureDiamond/hunter2")).send().await.unwrap();
    app.client.get(app.url(&format!("/api/user/tokens/{token}"))).send().await.unwrap();
    app.ask(Method::PUT, "/api/user/cellar/987654321", &token, None).await;
    let text = read_metrics(&app);
    let digest = app.store.sessions().remove(0).digest;
    for secret in ["AzureDiamond", "azurediamond", "hunter", &token, &digest[..16], "987654321", "127.0.0.1", "test.db"]
    {
        assert!(!text.contains(secret), "{secret}: {text}");
    }
}

#[test]
fn what_the_hashing_queue_refuses_is_counted() {
    let app = TestApp::spawn_with(|config| {
        config.metrics.listen = Some(ANY_PORT);
        config.password.hash_threads = NonZeroUsize::MIN;
        config.password.hash_queue = 1;
        config.password.bcrypt_cost = 14;
    });
    let login = post_bytes("/api/login", JSON, json!({"username": "nobody", "password": "p"}).to_string());
    let mut flood: Vec<TcpStream> = (0..8).map(|_| app.connect()).collect();
    for stream in &mut flood {
        stream.write_all(&login).unwrap();
    }
    let refused = flood.iter_mut().map(RawResponse::read_from).filter(|response| response.status() == 503).count();
    assert!(refused >= 1);
    let expected = f64::from(u32::try_from(refused).unwrap());
    let text = read_metrics(&app);
    assert_eq!(value(&text, "authtokens_rejected_total{reason=\"hash_queue_full\"}"), Some(expected));
    assert_eq!(requests(&text, "POST", "/api/login", 503), Some(expected));
    assert_eq!(value(&text, "authtokens_logins_total{outcome=\"failure\"}"), Some(8.0 - expected));
}

#[test]
fn the_listener_answers_get_and_head_of_one_path_in_the_text_format_and_closes() {
    let app = watched_app();
    let answer = ask(&app, "GET /metrics HTTP/1.1").unwrap().to_ascii_lowercase();
    assert!(answer.contains("\r\ncontent-type: text/plain; version=0.0.4; charset=utf-8\r\n"), "{answer}");
    assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
    let head = ask(&app, "HEAD /metrics HTTP/1.1").unwrap().to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 200 ok\r\n") && head.ends_with("\r\n\r\n"), "{head}");
    assert!(!head.contains("\r\ncontent-length: 0\r\n"), "{head}");
    for other in ["GET / HTTP/1.1", "GET /metrics/ HTTP/1.1", "POST /metrics HTTP/1.1", "GET /healthz HTTP/1.1"] {
        assert!(ask(&app, other).unwrap().starts_with("HTTP/1.1 404 "), "{other}");
    }
    assert!(ask(&app, "no HTTP at all").unwrap().starts_with("HTTP/1.1 400 "));
    // A body is not waited for.
    assert!(ask(&app, "GET /metrics HTTP/1.1\r\nContent-Length: 1000000").unwrap().starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn scrapers_that_say_nothing_or_never_read_do_not_slow_the_api() {
    let app = watched_app();
    let hostile: Vec<TcpStream> = (0..40)
        .map(|number| {
            let mut stream = TcpStream::connect(app.metrics_address.unwrap()).unwrap();
            if number % 2 == 0 {
                stream.write_all(&b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n".repeat(100)).unwrap();
            }
            stream
        })
        .collect();
    assert_eq!(app.register("AzureDiamond", "hunter2").await.status(), 201);
    drop(hostile);
    assert_eq!(requests(&read_metrics(&app), "POST", "/api/register", 201), Some(1.0));
}

#[tokio::test]
async fn hundreds_of_connections_that_say_nothing_or_never_read_keep_no_scraper_out() {
    let app = watched_app();
    assert_eq!(app.register("AzureDiamond", "hunter2").await.status(), 201);
    let hostile: Vec<TcpStream> = (0..600)
        .map(|number| {
            let mut stream = TcpStream::connect(app.metrics_address.unwrap()).unwrap();
            match number % 3 {
                0 => {}
                1 => stream.write_all(b"GET /metr").unwrap(),
                _ => stream.write_all(&b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n".repeat(100)).unwrap(),
            }
            stream
        })
        .collect();
    let began = std::time::Instant::now();
    assert_eq!(requests(&read_metrics(&app), "POST", "/api/register", 201), Some(1.0));
    // A silent one may stay for 5 s, and 600 of them are many times as many as may be open.
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    drop(hostile);
}

#[test]
fn an_address_that_is_in_use_is_a_sentence_and_the_listener_ends_with_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = test_config(&folder);
    let taken = TcpListener::bind(ANY_PORT).unwrap();
    let address = taken.local_addr().unwrap();
    config.metrics.listen = Some(address);
    let refused = actix_rt::System::new().block_on(async { Application::build(&config, Clock::system()).await.err() });
    let sentence = refused.unwrap().to_string();
    assert!(sentence.starts_with(&format!("cannot listen on {address}: ")), "{sentence}");

    let app = watched_app();
    let address = app.metrics_address.unwrap();
    drop(app);
    assert!(TcpStream::connect_timeout(&address, Duration::from_secs(5)).is_err());
}
