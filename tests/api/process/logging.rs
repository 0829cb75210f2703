//! What the server logs, and what it never logs.

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use authtokens::config::identity::Preset;
use authtokens::system::clock::Clock;
use serde_json::{Value, json};

use super::{Server, credentials, logout, post, store_in, token_of, until};
use crate::helpers::{JSON, PATIENCE, RawResponse, UNKNOWN_TOKEN, post_bytes};
use crate::identities::{claims, written};
use crate::passkeys::authenticator::{Algorithm, Authenticator, ORIGIN, RP_ID};
use crate::provider::Provider;
use crate::second_factor::App;

#[test]
fn what_the_background_work_cannot_do_is_logged_with_its_causes() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), |command| {
        command.env("AUTHTOKENS__DATABASE__BUSY_TIMEOUT", "50ms");
    });
    assert_eq!(server.ask(&credentials("/api/register", "a")).status(), 201);
    let _lock = store_in(folder.path()).lock();
    let wrong = post_bytes("/api/login", JSON, json!({"username": "a", "password": "wrong"}).to_string());
    server.ask(&wrong).assert_error(401);
    let what = "1 refused attempts could not be stored: the store cannot do this now: ";
    // And after it, what the backend said.
    until(|| server.log().split_once(what).is_some_and(|(_, cause)| cause.contains("lock") && cause.contains('\n')));
}

#[test]
fn the_line_of_a_request_behind_a_trusted_proxy_names_the_client_and_the_peer() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), |command| {
        command.env("AUTHTOKENS__SERVER__TRUSTED_PROXIES", "127.0.0.1");
    });
    let forwarded = "X-Forwarded-For: 198.51.100.1, [2001:db8::5]\r\n";
    let head = |line: &str| format!("{line} HTTP/1.1\r\nHost: a\r\n{forwarded}\r\n").into_bytes();
    let large = format!("{JSON}{forwarded}Content-Length: 999999999\r\n\r\n");
    let wrong = json!({"username": "a", "password": "wrong"}).to_string();
    for (request, status) in [
        (head("GET /healthz"), 200),
        (head("GET /api/user"), 401),
        (post_bytes("/api/login", &format!("{JSON}{forwarded}"), &wrong), 401),
        (head("GET /nothing"), 404),
        (head("GET /api/login"), 405),
        (format!("POST /api/login HTTP/1.1\r\nHost: a\r\n{large}").into_bytes(), 413),
        (post_bytes("/api/login", forwarded, "{}"), 415),
    ] {
        let answer = server.ask(&request);
        assert_eq!(answer.status(), status);
        let id = format!("request_id={}", answer.header("X-Request-Id").unwrap());
        until(|| server.log().contains(&id));
        let log = server.log();
        let line = log.lines().find(|line| line.ends_with(&id)).unwrap();
        assert!(
            line.contains(&format!(" status={status} ")) && line.contains(" client=2001:db8::5 peer=127.0.0.1:"),
            "{line}"
        );
    }
    // A trusted proxy that adds no header names no client.
    let answer = server.ask(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n");
    let id = format!("request_id={}", answer.header("X-Request-Id").unwrap());
    until(|| server.log().contains(&id));
    assert!(!server.log().lines().find(|line| line.ends_with(&id)).unwrap().contains("client="));
    let store = store_in(folder.path());
    until(|| !store.events().is_empty());
    assert!(store.events().iter().all(|event| event.ip == "2001:db8::5"));
}

#[test]
fn a_request_is_one_line_with_method_path_status_latency_peer_and_the_id_that_the_client_was_given() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), |_| {});
    let response = server.ask(b"GET /no%0d%0athing?secret=4711 HTTP/1.1\r\nHost: a\r\n\r\n");
    let refused = server.ask(b"\x1b[31mGARBAGE\r\n\r\n");
    let line_of = |response: &RawResponse| {
        let id = response.header("X-Request-Id").unwrap().to_owned();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let log = server.log();
            if let Some(line) = log.lines().find(|line| line.ends_with(&format!("request_id={id}"))) {
                return line.to_owned();
            }
            assert!(Instant::now() < deadline, "{id} in {log}");
            thread::sleep(Duration::from_millis(5));
        }
    };
    let line = line_of(&response);
    for part in [" INFO ", "method=GET ", "path=/no%0d%0athing ", "status=404 ", "latency_ms=", "peer=127.0.0.1:"] {
        assert!(line.contains(part), "{part} in {line}");
    }
    assert!(!line.contains("4711"), "a query is not logged: {line}");
    assert!(line_of(&refused).contains("status=400 "));
    assert!(server.log().chars().all(|c| c == '\n' || !c.is_control()), "{}", server.log());
}

#[test]
fn no_level_logs_a_token_a_password_a_body_or_an_authorization_header() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), |command| {
        command.env("RUST_LOG", "trace");
    });
    let secret = "correct-horse-battery";
    let body = json!({"username": "azure", "password": secret, "city": "BODY-4711"}).to_string();
    let token = token_of(&server.ask(&post_bytes("/api/register", JSON, &body)));
    server.ask(&post_bytes("/api/login", JSON, &body));
    server.ask(&post_bytes("/api/login", JSON, &body[..body.len() - 1]));
    server.ask(&logout(&token));
    server.ask(&logout(UNKNOWN_TOKEN));
    server.ask(&post_bytes("/api/logout", "Authorization: Basic QkFTSUMtNDcxMQ==\r\n", ""));
    server.ask(format!("GET /api/{token} HTTP/1.1\r\nHost: a\r\nContent-Length: {token}\r\n\r\n").as_bytes());
    server.ask(format!("GET /api/{token}?token={token} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes());
    let log = server.log();
    assert!(log.contains(" TRACE ") || log.contains(" DEBUG "), "the log is at its most talkative");
    for word in [secret, "BODY-4711", &token, UNKNOWN_TOKEN, "QkFTSUMtNDcxMQ", "bcrypt-sha256", "uthorization"] {
        assert!(!log.contains(word), "{word} is in the log");
    }
}

/// A server whose log is at its most talkative, and that has a key for what is sealed.
fn start_talkative(folder: &Path, configure: impl FnOnce(&mut Command)) -> Server {
    Server::start(folder, |command| {
        command.env("RUST_LOG", "trace").env("AUTHTOKENS__SEALING__KEY", "47".repeat(32));
        configure(command);
    })
}

fn post_as(server: &Server, token: &str, path: &str, body: &Value) -> RawResponse {
    server.ask(&post_bytes(path, &format!("{JSON}Authorization: Token {token}\r\n"), body.to_string()))
}

/// Waits until the log has the line of this request, which was the last, and looks for secrets up to there. Texts of so
/// few digits as a code could stand in a longer number by chance, so these are looked for as words.
fn assert_unlogged(server: &Server, last: &RawResponse, secrets: &[String]) {
    let id = last.header("X-Request-Id").unwrap();
    until(|| server.log().contains(&format!("request_id={id}")));
    let log = server.log();
    assert!(log.contains(" TRACE ") || log.contains(" DEBUG "), "the log is at its most talkative");
    let words: HashSet<&str> = log.split(|c: char| !c.is_alphanumeric()).collect();
    for secret in secrets {
        let is_logged = if secret.len() > 6 { log.contains(secret.as_str()) } else { words.contains(secret.as_str()) };
        assert!(!is_logged, "{secret} is in the log");
    }
}

fn seconds() -> i64 {
    Clock::system().now().as_millis() / 1_000
}

#[test]
fn no_level_logs_a_seed_of_an_app_its_codes_a_recovery_code_or_the_token_of_a_login_that_lacks_one() {
    let folder = tempfile::tempdir().unwrap();
    let server = start_talkative(folder.path(), |_| {});
    let token = token_of(&server.ask(&credentials("/api/register", "azure")));
    post_as(&server, &token, "/api/user/reauthenticate", &json!({"password": "hunter2"}));
    let begun = post_as(&server, &token, "/api/user/totp", &json!({})).json();
    let seed = text_of(&begun["secret"]);
    let app = App::new(&seed);
    let first = app.code_at(seconds());
    let confirmed = post_as(&server, &token, "/api/user/totp/confirm", &json!({"code": first})).json();
    let recovery_codes: Vec<String> = confirmed["recovery_codes"].as_array().unwrap().iter().map(text_of).collect();
    let due = || text_of(&server.ask(&credentials("/api/login", "azure")).json()["second_factor"]["token"]);
    let waiting = [due(), due()];
    let used = app.code_at(seconds() + 30);
    let give = |token: &str, field: &str, value: &str| {
        let mut body = json!({ "token": token });
        body[field] = value.into();
        post(server.address, "/api/login/second", &body)
    };
    assert_eq!(give(&waiting[0], "code", &first).status(), 401, "it was used");
    assert_eq!(give(&waiting[0], "code", &used).status(), 200);
    give(&waiting[1], "recovery_code", "AAAA-BBBB-CCCC-DDDD-EEEE-FFFF").assert_error(401);
    let recovered = give(&waiting[1], "recovery_code", &recovery_codes[0]);
    let new = text_of(&recovered.json()["recovery_code"]);
    post_as(&server, &token, "/api/user/reauthenticate", &json!({"code": used})).assert_error(400);
    let in_one = json!({"username": "azure", "password": "hunter2", "recovery_code": recovery_codes[1]});
    let last = post(server.address, "/api/login", &in_one);
    assert_eq!(last.status(), 200);
    let mut secrets = vec![seed, first, used, new.replace('-', ""), new];
    secrets.extend(recovery_codes.iter().flat_map(|code| [code.replace('-', ""), code.clone()]));
    secrets.extend(waiting);
    assert_unlogged(&server, &last, &secrets);
}

#[test]
fn no_level_logs_an_id_token_an_authorization_code_a_refresh_token_or_the_challenge_of_a_passkey() {
    let (folder, provider) = (tempfile::tempdir().unwrap(), Provider::start());
    let config = folder.path().join("config.toml");
    let of_provider = written("apple", Preset::Apple, &provider);
    fs::write(config, format!("[outbound]\nallow = [\"127.0.0.0/8\"]\n{of_provider}")).unwrap();
    let server = start_talkative(folder.path(), |command| {
        command.env("AUTHTOKENS__PASSKEYS__RP_ID", RP_ID).env("AUTHTOKENS__PASSKEYS__ORIGINS", ORIGIN);
    });
    let told = || {
        let mut told = claims("apple", &provider, "1");
        (told["iat"], told["exp"], told["nonce"]) = (seconds().into(), (seconds() + 600).into(), "NONCE-4711".into());
        told
    };
    provider.give("CODE-4711", &told(), Some("REFRESH-4711"), None);
    let id_tokens = [provider.sign(&told()), provider.sign(&told()), Provider::start().sign(&told())];
    let shown = |id_token: &str, code: &str| json!({"provider": "apple", "id_token": id_token, "nonce": "NONCE-4711", "authorization_code": code});
    let log_in = |id_token: &str, code: &str| post(server.address, "/api/login/oidc", &shown(id_token, code));
    let registered = log_in(&id_tokens[0], "CODE-4711");
    let token = token_of(&registered);
    log_in(&id_tokens[0], "CODE-4712").assert_error(401);
    log_in(&id_tokens[2], "CODE-4713").assert_error(401);
    assert_eq!(post_as(&server, &token, "/api/user/reauthenticate", &shown(&id_tokens[1], "CODE-4714")).status(), 200);
    let why = "none for a token that was presented before, or that the provider has not signed";
    assert_eq!(provider.exchanging().len(), 1, "{why}");

    let mut authenticator = Authenticator::new(Algorithm::Es256);
    let options = post_as(&server, &token, "/api/user/passkeys/options", &json!({})).json();
    let body = json!({"name": "Key", "passkey": authenticator.create(&options)});
    assert_eq!(post_as(&server, &token, "/api/user/passkeys", &body).status(), 201);
    let mut challenges = vec![text_of(&options["publicKey"]["challenge"])];
    let mut last = registered;
    for status in [200, 401] {
        let options = post(server.address, "/api/login/passkey/options", &json!({})).json();
        challenges.push(text_of(&options["publicKey"]["challenge"]));
        if status == 401 {
            authenticator.origin = "https://diamond.test".to_owned();
        }
        last = post(server.address, "/api/login/passkey", &json!({"passkey": authenticator.get(&options)}));
        assert_eq!(last.status(), status);
    }
    let mut secrets: Vec<String> =
        id_tokens.iter().flat_map(|token| token.split('.').skip(1)).map(str::to_owned).collect();
    secrets.extend(["CODE-47", "REFRESH-4711", "NONCE-4711"].map(str::to_owned));
    secrets.extend(challenges);
    assert_unlogged(&server, &last, &secrets);
}

#[test]
fn why_an_id_token_is_refused_is_logged_and_nothing_of_the_token() {
    let (folder, provider, other) = (tempfile::tempdir().unwrap(), Provider::start(), Provider::start());
    let config = folder.path().join("config.toml");
    let of_provider = written("example", Preset::None, &provider);
    fs::write(config, format!("[outbound]\nallow = [\"127.0.0.0/8\"]\n{of_provider}")).unwrap();
    let server = Server::start(folder.path(), |_| {});
    let log_in = |id_token: &str, nonce: Option<&str>| {
        let mut body = json!({"provider": "example", "id_token": id_token});
        body.as_object_mut().unwrap().extend(nonce.map(|nonce| ("nonce".to_owned(), json!(nonce))));
        post(server.address, "/api/login/oidc", &body).assert_error(401);
    };
    let told = || {
        let mut told = claims("example", &provider, "SUBJECT-4711");
        (told["iat"], told["exp"]) = (seconds().into(), (seconds() + 600).into());
        told
    };
    for (name, value, why) in [
        ("aud", json!("AUDIENCE-4711"), "the token is for another app"),
        ("iss", json!("https://issuer-4711.example"), "the token is of another issuer"),
        ("exp", json!(seconds() - 120), "the token has expired"),
        ("iat", json!(seconds() + 120), "the token is of the future: this machine's clock may be wrong"),
    ] {
        let mut told = told();
        told[name] = value;
        log_in(&provider.sign(&told), None);
        until(|| server.log().contains(&format!("an ID token of example is refused: {why}")));
    }
    log_in(&provider.sign(&told()), Some("NONCE-4711"));
    until(|| server.log().contains("an ID token of example is refused: the token's nonce is another, or missing"));
    log_in(&other.sign(&told()), None);
    log_in("TOKEN-4711", None);
    until(|| server.log().matches("an ID token of example is refused: ").count() == 7);
    assert!(!server.log().contains("4711"), "{}", server.log());
}

#[test]
fn keys_of_a_provider_that_are_too_many_to_be_used_are_told_of_as_they_are_fetched() {
    let (folder, provider) = (tempfile::tempdir().unwrap(), Provider::start());
    let config = folder.path().join("config.toml");
    let of_provider = written("example", Preset::None, &provider);
    fs::write(config, format!("[outbound]\nallow = [\"127.0.0.0/8\"]\n{of_provider}")).unwrap();
    provider.publish_more_keys(66);
    let server = Server::start(folder.path(), |_| {});
    for status in [201, 200] {
        let mut told = claims("example", &provider, "1");
        (told["iat"], told["exp"]) = (seconds().into(), (seconds() + 600).into());
        let body = json!({"provider": "example", "id_token": provider.sign(&told)});
        assert_eq!(post(server.address, "/api/login/oidc", &body).status(), status);
    }
    let told = format!("{}/keys has too many keys: the last 3 are not used", provider.url());
    until(|| server.log().contains(&told));
    assert_eq!(server.log().matches(&told).count(), 1, "they were fetched once");
}

fn text_of(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value}")).to_owned()
}

#[test]
fn whatever_a_client_writes_a_line_of_the_log_stays_one_line_and_quotes_no_name_and_no_search() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), |command| {
        command.env("RUST_LOG", "trace,authtokens=trace");
        command.env("AUTHTOKENS__SERVER__TRUSTED_PROXIES", "127.0.0.1");
    });
    let token = token_of(&server.ask(&credentials("/api/register", "root")));
    let store = store_in(folder.path());
    store.change_accounts(&|account| account.is_superuser = true);
    let forged = "2026-01-01T00:00:00.000Z INFO  authtokens::access FORGED-4711";
    let authorization = format!("Authorization: Token {token}\r\n");
    let encoded = "%0d%0aFORGED-4711%1b[31m";
    let mut requests: Vec<Vec<u8>> = vec![
        // In a name, an agent, a path, a method, a header and a query.
        credentials("/api/login", &format!("a\r\n{forged}")),
        credentials("/api/login", &format!("a\u{2028}{forged}\u{85}\u{1b}[2J")),
        credentials("/api/login", "FORGED-4711"),
        format!("GET /api/users?search={encoded} HTTP/1.1\r\nHost: a\r\n{authorization}\r\n").into_bytes(),
        format!("GET /api/users?search=FORGED-4711 HTTP/1.1\r\nHost: a\r\n{authorization}\r\n").into_bytes(),
        format!("GET /api/events?username={encoded} HTTP/1.1\r\nHost: a\r\n{authorization}\r\n").into_bytes(),
        b"GET /api/users/a\x1b[31m\x07 HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
        "GET /api/users/\u{2028}\u{85} HTTP/1.1\r\nHost: a\r\n\r\n".as_bytes().to_vec(),
        b"GE\x1bT / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
        format!("{} / HTTP/1.1\r\nHost: a\r\n\r\n", "M".repeat(5_000)).into_bytes(),
        format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "p".repeat(20_000)).into_bytes(),
    ];
    for header in
        ["User-Agent", "X-Forwarded-For", "Host", "Referer", "X-Request-Id", "Authorization", "Cookie", "Origin"]
    {
        for value in
            [format!("\x1b[31m{forged}"), format!("a\n {forged}"), format!("\u{85}\u{2028}{forged}"), forged.to_owned()]
        {
            let body = json!({"username": "root", "password": "hunter2"}).to_string();
            requests.push(post_bytes("/api/login", &format!("{JSON}{header}: {value}\r\n"), body));
        }
    }
    let mut ids = Vec::new();
    for request in &requests {
        let response = server.ask(request);
        ids.push(response.header("X-Request-Id").unwrap().to_owned());
        if let Some(token) = response.json()["token"].as_str() {
            assert_eq!(server.ask(&logout(token)).status(), 200);
        }
    }
    until(|| ids.iter().all(|id| server.log().contains(id)));
    let log = server.log();
    assert!(log.chars().all(|c| c == '\n' || !(c.is_control() || ['\u{2028}', '\u{2029}'].contains(&c))));
    assert!(log.lines().all(|line| line.len() < 2_000), "nobody fills the disk with one line");
    let access: Vec<&str> = log.lines().filter(|line| line.contains("authtokens::access")).collect();
    for id in &ids {
        assert_eq!(access.iter().filter(|line| line.ends_with(&format!("request_id={id}"))).count(), 1, "{id}");
    }
    for line in access {
        assert!(!line.contains("FORGED"), "{line}");
    }
    // A stored user agent is only text, and a stored address is an address.
    let (sessions, events) = (store.sessions(), store.events());
    let of_sessions = sessions.iter().flat_map(|session| [&session.user_agent, &session.ip]);
    let of_events = events.iter().flat_map(|event| [&event.ip, &event.detail, &event.username, &event.actor]);
    for text in of_sessions.chain(of_events) {
        assert!(!text.contains(char::is_control), "{text:?}");
    }
    assert!(events.iter().all(|event| ["127.0.0.1", ""].contains(&event.ip.as_str())));
}
