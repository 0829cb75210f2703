//! The rate limits of addresses.

use std::io::Write as _;
use std::time::Duration;

use authtokens::config::identity::Preset;
use authtokens::domain::rate::Rate;
use futures_util::future::join_all;
use reqwest::redirect::Policy;
use serde_json::json;

use super::{OWNER, STRANGER, accounts_alone, behind_a_proxy, log_in_from, new_owner, post_from, retry_after};
use crate::helpers::{JSON, RawResponse, TestApp, post_bytes, session_of};
use crate::identities::configured;
use crate::passkeys::with_passkeys;
use crate::provider::Provider;

#[tokio::test]
async fn an_address_over_its_limit_is_refused_before_its_body_is_read() {
    let app = TestApp::spawn_with(|config| config.rate_limit.enabled = true);
    let (token, _) = session_of(app.register("AzureDiamond", "hunter2").await).await;
    for number in 1..20 {
        app.register(&format!("user{number}"), "hunter2").await;
    }
    for number in 0..30 {
        assert_eq!(app.log_in(&format!("nobody{number}"), "wrong").await.status(), 401);
    }
    let authorization = format!("Authorization: Token {token}\r\n");
    for request in [
        "POST /api/register HTTP/1.1\r\n",
        "POST /api/login HTTP/1.1\r\n",
        "POST /api/user/password HTTP/1.1\r\n",
        "POST /api/user/reauthenticate HTTP/1.1\r\n",
        "DELETE /api/user HTTP/1.1\r\n",
    ] {
        // No byte of the body ever comes.
        let response = app.raw(format!("{request}Host: x\r\n{authorization}{JSON}Content-Length: 100\r\n\r\n"));
        response.assert_error(429);
        assert!(response.header("Retry-After").is_some());
        assert_eq!(
            response.header("Connection"),
            Some("close"),
            "{request}: the body is not to be taken for a request"
        );
    }
}

#[tokio::test]
async fn a_request_that_is_no_good_costs_an_address_no_attempt() {
    let app = TestApp::spawn_with(|config| config.rate_limit.enabled = true);
    for body in ["", "[]", "{}", r#"{"username": "a b", "password": "x"}"#, r#"{"username": "a", "password": ""}"#] {
        for _ in 0..30 {
            app.raw(post_bytes("/api/register", JSON, body)).assert_error(400);
            app.raw(post_bytes("/api/login", JSON, body)).assert_error(400);
        }
    }
    assert_eq!(app.register("AzureDiamond", "hunter2").await.status(), 201);
    assert_eq!(app.log_in("AzureDiamond", "hunter2").await.status(), 200);
}

#[test]
fn no_address_has_more_bodies_in_flight_than_its_limit_has_attempts() {
    let app = TestApp::spawn_with(|config| config.rate_limit.enabled = true);
    let head = format!("POST /api/login HTTP/1.1\r\nHost: x\r\n{JSON}Content-Length: 100\r\n\r\n{{");
    let begin = || {
        let mut stream = app.connect();
        stream.write_all(head.as_bytes()).unwrap();
        stream
    };
    let in_flight: Vec<_> = (0..30).map(|_| begin()).collect();
    std::thread::sleep(Duration::from_millis(300));
    RawResponse::read_from(&mut begin()).assert_error(429);
    drop(in_flight);
}

#[tokio::test]
async fn an_address_has_thirty_logins_a_minute_and_no_header_of_its_own_gives_it_more() {
    for trusted in [false, true] {
        let app = TestApp::spawn_with(|config| {
            config.rate_limit.enabled = true;
            if trusted {
                behind_a_proxy(config);
            }
        });
        let mut answers = Vec::new();
        for number in 0..40 {
            let spoofed = format!("198.51.100.{number}");
            // What a client wrote comes before what the proxy adds; without a trusted proxy none of it is believed.
            let forwarded = match (trusted, number % 4) {
                (true, 0) => format!("X-Forwarded-For: {spoofed}, {STRANGER}\r\n"),
                (true, 1) => format!("X-Forwarded-For: {spoofed}\r\nX-Forwarded-For: {STRANGER}\r\n"),
                (true, 2) => format!("X-Forwarded-For: junk, ,,{spoofed},\"x\",   {STRANGER}:4711 \r\n"),
                (true, _) => format!("X-Forwarded-For: \u{fc}{spoofed}, {STRANGER}\r\n"),
                (false, 0) => format!("X-Forwarded-For: {spoofed}\r\n"),
                (false, 1) => format!("X-Forwarded-For: {spoofed}, 127.0.0.1\r\nX-Forwarded-For: {spoofed}\r\n"),
                (false, 2) => format!("x-forwarded-for: [2001:db8:{number}::1]:80\r\n"),
                (false, _) => "X-Forwarded-For: \u{fc}\r\n".to_owned(),
            };
            let headers = format!(
                "{JSON}{forwarded}Forwarded: for={spoofed}\r\nX-Real-IP: {spoofed}\r\nClient-IP: {spoofed}\r\n\
                 True-Client-IP: {spoofed}\r\nCF-Connecting-IP: {spoofed}\r\nVia: 1.1 {spoofed}\r\n"
            );
            let path = if number % 2 == 0 { "/api/login" } else { "/api/login/" };
            let body = json!({"username": format!("nobody{number}"), "password": "p"}).to_string();
            let response = app.raw(post_bytes(path, &headers, body));
            if response.status() == 429 {
                assert_eq!(response.header("Retry-After"), Some("2"), "{response:?}");
                response.assert_error(429);
            }
            answers.push(response.status());
        }
        let expected: Vec<u16> = [[401].repeat(30), [429].repeat(10)].concat();
        assert_eq!(answers, expected, "trusted: {trusted}");
        app.clock.advance(Duration::from_secs(2));
        let mut after = Vec::new();
        for _ in 0..2 {
            after.push(log_in_from(&app, STRANGER, "nobody", "p").await);
        }
        assert_eq!(after, [401, 429], "one more every two seconds");
        // Where it is believed, another address has another count.
        assert_eq!(log_in_from(&app, "198.51.100.1", "nobody", "p").await, if trusted { 401 } else { 429 });
        app.clock.advance(Duration::from_secs(60));
        assert_eq!(log_in_from(&app, STRANGER, "nobody", "p").await, 401);
    }
}

#[tokio::test]
async fn a_header_that_is_no_text_does_not_hide_the_address_that_the_proxy_wrote() {
    let app = TestApp::spawn_with(behind_a_proxy);
    let body = json!({"username": "a", "password": "p"}).to_string();
    let head = format!("POST /api/register HTTP/1.1\r\nHost: a\r\n{JSON}Content-Length: {}\r\n", body.len());
    let forwarded = b"X-Forwarded-For: \xff\xfe, 203.0.113.9\r\n\r\n";
    let request = [head.as_bytes(), forwarded, body.as_bytes()].concat();
    assert_eq!(app.raw(request).status(), 201);
    assert_eq!(app.store.sessions().remove(0).ip, STRANGER);
}

#[tokio::test]
async fn an_ipv6_client_counts_by_its_64_and_an_address_in_another_spelling_is_the_same() {
    let app = TestApp::spawn_with(|config| {
        behind_a_proxy(config);
        config.rate_limit.login = Rate { count: 3, period: Duration::from_secs(60) };
    });
    for (ip, status) in [
        ("2001:db8::1", 401),
        ("2001:DB8:0:0:ffff::2", 401),
        ("[2001:db8::3]:443", 401),
        ("2001:db8::ffff:ffff:ffff:ffff", 429),
        ("2001:db8:0:1::1", 401),
        ("203.0.113.9", 401),
        ("::ffff:203.0.113.9", 401),
        ("::ffff:cb00:7109", 401),
        ("203.0.113.9:4711", 429),
        ("203.0.113.10", 401),
    ] {
        assert_eq!(log_in_from(&app, ip, "nobody", "p").await, status, "{ip}");
    }
}

#[tokio::test]
async fn an_address_has_twenty_registrations_an_hour_and_taken_names_count() {
    let app = TestApp::spawn_with(behind_a_proxy);
    new_owner(&app).await;
    for number in 0..20 {
        let (name, status) =
            if number % 2 == 0 { ("azurediamond".to_owned(), 400) } else { (format!("u{number}"), 201) };
        let path = if number % 3 == 0 { "/api/register" } else { "/api/register/" };
        let response = post_from(&app, STRANGER, path, &name, "hunter2").await;
        assert_eq!(response.status().as_u16(), status, "{number}");
    }
    let stored = || (app.store.accounts(), app.store.sessions());
    let before = stored();
    for name in ["azurediamond", "fresh"] {
        let refused = post_from(&app, STRANGER, "/api/register", name, "hunter2").await;
        assert_eq!(retry_after(refused).await, 180, "{name}");
    }
    assert_eq!(stored(), before, "neither an account nor a session");
    assert_eq!(post_from(&app, OWNER, "/api/register", "other", "hunter2").await.status(), 201);
    assert_eq!(log_in_from(&app, STRANGER, "AzureDiamond", "hunter2").await, 200, "logins are counted apart");
    app.clock.advance(Duration::from_secs(180));
    assert_eq!(post_from(&app, STRANGER, "/api/register", "fresh", "hunter2").await.status(), 201);
}

#[tokio::test]
async fn a_client_that_sends_all_at_once_or_closes_its_sending_half_has_no_more_guesses() {
    let app = TestApp::spawn_with(accounts_alone);
    new_owner(&app).await;
    let guess = |name: &str| {
        let body = json!({"username": name, "password": "wrong"}).to_string();
        post_bytes("/api/login", &format!("{JSON}X-Forwarded-For: {STRANGER}\r\n"), body)
    };
    let mut stream = app.connect();
    stream.write_all(&guess("AzureDiamond").repeat(40)).unwrap();
    let answers: Vec<u16> = (0..40).map(|_| RawResponse::read_from(&mut stream).status()).collect();
    assert_eq!(answers, [[401].repeat(10), [429].repeat(30)].concat(), "in one go");

    let mut checked = 0;
    for _ in 0..40 {
        let mut stream = app.connect();
        stream.write_all(&guess("nobody")).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        match RawResponse::read_from(&mut stream).status() {
            401 => checked += 1,
            status => assert!([429, 503].contains(&status), "{status}"),
        }
    }
    assert_eq!(checked, 10, "each with its sending half closed");
}

#[tokio::test]
async fn a_network_may_begin_a_tenth_of_what_strangers_may_by_passkeys_and_providers() {
    const RETURN_TO: &str = "https://app.diamond.example/in";
    let provider = Provider::start();
    let app = TestApp::spawn_with(|config| {
        behind_a_proxy(config);
        with_passkeys(config);
        config.server.public_url = Some("https://diamond.example".to_owned());
        config.identities.return_to = vec![RETURN_TO.to_owned()];
        config.provider = vec![configured("google", Preset::Google, &provider)];
    });
    let browser = reqwest::Client::builder().redirect(Policy::none()).build().unwrap();
    let flow = format!("/api/login/oidc/google/start?return_to={RETURN_TO}&code_challenge={}", "x".repeat(43));
    let begin_flow = async |ip: &str| {
        let request = browser.get(app.url(&flow)).header("X-Forwarded-For", ip);
        request.send().await.unwrap().status().as_u16()
    };
    let begin_passkey = async |ip: &str| {
        let request = app.client.post(app.url("/api/login/passkey/options")).header("X-Forwarded-For", ip);
        request.json(&json!({})).send().await.unwrap().status().as_u16()
    };
    // Fewer from each /64 than it has logins.
    let mut begun = 0;
    for number in 0..100 {
        let ip = format!("2001:db8:1:{number:x}::1");
        let both = join_all((0..10).map(async |_| (begin_passkey(&ip).await, begin_flow(&ip).await))).await;
        let count = |status| both.iter().filter(|(passkey, flow)| *passkey == status || *flow == status).count();
        begun +=
            both.iter().map(|(passkey, flow)| usize::from(*passkey == 200) + usize::from(*flow == 303)).sum::<usize>();
        if count(429) > 0 {
            break;
        }
    }
    assert_eq!(begun, 1_000);
    for ip in ["2001:db8:1:ffff::1", "2001:db8:1::1"] {
        assert_eq!((begin_passkey(ip).await, begin_flow(ip).await), (429, 429), "{ip}");
    }
    for ip in ["2001:db8:2::1", OWNER] {
        assert_eq!((begin_passkey(ip).await, begin_flow(ip).await), (200, 303), "{ip}");
    }
}
