//! The command `check-proxy`: whether a proxy with forward authentication lets forged headers through to the application
//! behind it, or requests that nobody has authenticated.
//!
//! The command is the application: it listens where the proxy's protected route leads, notes what it is sent, and sends
//! requests through the proxy. So it sees on both sides what becomes of each.

use std::collections::HashMap;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::cli::context::{CommandError, Context};
use crate::domain::token::{PlainToken, PresentedToken};
use crate::outbound::raw::RawTarget;

/// What the application trusts.
const TRUSTED: [&str; 4] = ["Remote-User", "Remote-Id", "Remote-Groups", "Remote-Email"];

/// How large a head is that the application reads, how many connections it has, and how long each may last.
const MAX_HEAD: usize = 128 * 1024;
const AT_ONCE: usize = 64;
const SERVED_WITHIN: Duration = Duration::from_secs(10);

/// What was tried, and what came of it.
#[derive(Serialize)]
struct Trial {
    what: String,
    /// The proxy's answer.
    status: Option<u16>,
    /// Whether the application was sent it.
    passed: bool,
    /// What is wrong; nothing where all is well.
    hole: Option<String>,
}

/// The heads that the application was sent, by the mark in their paths.
type Heads = Arc<Mutex<HashMap<String, Vec<u8>>>>;

/// Sends requests through the proxy, and tells which holes it has.
///
/// # Errors
/// [`CommandError::Holes`] where there are any, or another.
pub async fn check(
    context: &mut Context,
    url: &str,
    connect: Option<SocketAddr>,
    upstream: SocketAddr,
    token_file: Option<&Path>,
) -> Result<(), CommandError> {
    let target = RawTarget::read(url, connect).map_err(CommandError::Outbound)?;
    let token = token_file.map(read_token).transpose()?;
    let listener = TcpListener::bind(upstream).await.map_err(|source| CommandError::Upstream { upstream, source })?;
    let heads = Heads::default();
    let serving = tokio::spawn(serve(listener, Arc::clone(&heads)));
    let prober = Prober { target, heads, token };
    let outcome = prober.run().await;
    serving.abort();
    let trials = outcome?;
    let holes = trials.iter().filter(|trial| trial.hole.is_some()).count();
    let mut list = context.output.list(["RESULT", "STATUS", "PASSED", "WHAT"]);
    list.add(trials.iter().map(|trial| {
        let result = if trial.hole.is_some() { "HOLE" } else { "ok" };
        let status = trial.status.map_or_else(|| "none".to_owned(), |status| status.to_string());
        let what = trial.hole.as_ref().map_or_else(|| trial.what.clone(), |hole| format!("{}: {hole}", trial.what));
        (trial, [result.to_owned(), status, if trial.passed { "yes" } else { "no" }.to_owned(), what])
    }))?;
    list.end()?;
    if holes > 0 { Err(CommandError::Holes(holes)) } else { Ok(()) }
}

/// A token is read from a file: the system's other users see a command line.
fn read_token(path: &Path) -> Result<String, CommandError> {
    let unusable = |why: String| CommandError::TokenFile { path: path.to_owned(), why };
    let text = fs::read_to_string(path).map_err(|error| unusable(format!("cannot be read: {error}")))?;
    let token = text.trim_end_matches(['\r', '\n']);
    let is_token = PresentedToken::parse(token).is_some();
    if is_token { Ok(token.to_owned()) } else { Err(unusable("holds no token".to_owned())) }
}

struct Prober {
    target: RawTarget,
    heads: Heads,
    token: Option<String>,
}

/// The spellings under which an application may read a header, each as a line of a request's head. `forged` is its value.
fn spellings(name: &str, forged: &str) -> Vec<(String, String)> {
    let underscored = name.replace('-', "_");
    let mut spelled: Vec<(String, String)> = [
        name.to_owned(),
        name.to_lowercase(),
        name.to_uppercase(),
        underscored.clone(),
        underscored.to_lowercase(),
        underscored.to_uppercase(),
    ]
    .into_iter()
    .map(|name| (name.clone(), format!("{name}: {forged}\r\n")))
    .collect();
    spelled.extend([
        (format!("{name}, twice"), format!("{name}: {forged}\r\n{name}: {forged}\r\n")),
        (format!("{name}, empty"), format!("{name}:\r\n")),
        (format!("{name}, empty and then forged"), format!("{name}:\r\n{name}: {forged}\r\n")),
        (format!("{name}, a space before the colon"), format!("{name} : {forged}\r\n")),
        (format!("{name}, a tab behind the colon"), format!("{name}:\t{forged}\t\r\n")),
        (format!("{name}, folded"), format!("{name}:\r\n {forged}\r\n")),
        (format!("{name}, named in Connection"), format!("Connection: close, {name}\r\n{name}: {forged}\r\n")),
        (format!("{name}, dropped by Connection"), format!("Connection: {name}\r\n")),
    ]);
    spelled
}

/// What an application reads under a name: every value of each header that a framework may take for it.
fn values_of(head: &[u8], name: &str) -> Vec<String> {
    let plain = |text: &str| text.trim().to_ascii_lowercase().replace('_', "-");
    let mut values: Vec<String> = Vec::new();
    let mut is_wanted = false;
    for line in String::from_utf8_lossy(head).split("\r\n").skip(1) {
        if line.starts_with([' ', '\t']) {
            if let Some(last) = values.last_mut().filter(|_| is_wanted) {
                last.push_str(line.trim());
            }
            continue;
        }
        let Some((found, value)) = line.split_once(':') else { continue };
        is_wanted = plain(found) == plain(name);
        if is_wanted {
            values.push(value.trim().to_owned());
        }
    }
    values
}

impl Prober {
    async fn run(&self) -> Result<Vec<Trial>, CommandError> {
        let forged = format!("forged{}", &PlainToken::generate().reveal()[..12]);
        let mut trials = Vec::new();
        let wrong = format!("Authorization: Token {}\r\n", PlainToken::generate().reveal());
        let all: String = TRUSTED.map(|name| format!("{name}: {forged}\r\n")).concat();
        let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
            Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
        // Nothing of these may reach the application.
        let mut refused = vec![
            ("without a token".to_owned(), "GET", String::new()),
            ("with an unknown token".to_owned(), "GET", wrong),
            ("without a token, all four headers forged".to_owned(), "GET", all.clone()),
            ("without a token, a websocket".to_owned(), "GET", format!("{upgrade}{all}")),
            (
                "without a token, another address for the check".to_owned(),
                "GET",
                format!(
                    "X-Forwarded-Uri: /\r\nX-Forwarded-Method: OPTIONS\r\nX-Original-URL: /\r\n\
                    X-Original-Method: OPTIONS\r\nX-Forwarded-User: {forged}\r\n{all}"
                ),
            ),
        ];
        for method in ["HEAD", "POST", "PUT", "PATCH", "DELETE"] {
            refused.push((format!("without a token, {method}"), method, format!("Content-Length: 0\r\n{all}")));
        }
        for name in TRUSTED {
            for (spelled, line) in spellings(name, &forged) {
                refused.push((format!("without a token, {spelled}"), "GET", line));
            }
        }
        for (what, method, lines) in refused {
            let (status, head) = self.send(method, &lines).await?;
            let hole = head.is_some().then(|| "it reaches the application".to_owned());
            trials.push(Trial { what, status, passed: head.is_some(), hole });
        }
        // A preflight may, but without what is forged.
        let preflight = "Origin: https://app.example\r\nAccess-Control-Request-Method: POST\r\n";
        for name in TRUSTED {
            for (spelled, line) in spellings(name, &forged) {
                let (status, head) = self.send("OPTIONS", &format!("{preflight}{line}")).await?;
                let values = head.as_deref().map(|head| values_of(head, name)).unwrap_or_default();
                let hole = (!values.is_empty()).then(|| "the application is sent what a client has forged".to_owned());
                trials.push(Trial { what: format!("a preflight, {spelled}"), status, passed: head.is_some(), hole });
            }
        }
        if let Some(token) = &self.token {
            let authorization = format!("Authorization: Token {token}\r\n");
            let (status, head) = self.send("GET", &authorization).await?;
            let head = head.ok_or(CommandError::NotPassed { status })?;
            let expected = TRUSTED.map(|name| values_of(&head, name));
            for (name, values) in TRUSTED.iter().zip(&expected) {
                let is_one = matches!(values.as_slice(), [value] if !value.is_empty());
                let hole = (!is_one).then(|| format!("the application is sent it {} times, or empty", values.len()));
                trials.push(Trial {
                    what: format!("with a token, {name} as it should be"),
                    status,
                    passed: true,
                    hole,
                });
            }
            for name in TRUSTED {
                for (spelled, line) in spellings(name, &forged) {
                    let (status, head) = self.send("GET", &format!("{authorization}{line}")).await?;
                    // The proxy may refuse it as malformed.
                    let hole = head.as_deref().and_then(|head| altered(head, &expected, &forged));
                    trials.push(Trial {
                        what: format!("with a token, {spelled}"),
                        status,
                        passed: head.is_some(),
                        hole,
                    });
                }
            }
        }
        Ok(trials)
    }

    /// Sends a request; the proxy's status, and what the application was sent, if it was.
    async fn send(&self, method: &str, lines: &str) -> Result<(Option<u16>, Option<Vec<u8>>), CommandError> {
        let mark = format!("authtokens-check={}", PlainToken::generate().reveal());
        let path = self.target.path();
        let separator = if path.contains('?') { '&' } else { '?' };
        let host = self.target.host();
        // Where the lines have a `Connection` of their own, that is the only one.
        let close = if lines.contains("Connection:") { "" } else { "Connection: close\r\n" };
        let request = format!("{method} {path}{separator}{mark} HTTP/1.1\r\nHost: {host}\r\n{close}{lines}\r\n");
        let status = self.target.send(request.as_bytes()).await.map_err(CommandError::Outbound)?;
        let head = self.heads.lock().unwrap_or_else(PoisonError::into_inner).remove(&mark);
        Ok((status, head))
    }
}

/// What is wrong with a head that the application was sent, by what it should be.
fn altered(head: &[u8], expected: &[Vec<String>; 4], forged: &str) -> Option<String> {
    for (name, expected) in TRUSTED.iter().zip(expected) {
        let values = values_of(head, name);
        if values.iter().any(|value| value.contains(forged)) {
            return Some(format!("the application is sent a forged {name}"));
        }
        if values != *expected {
            return Some(format!("the application is sent {name} {} times, or another one", values.len()));
        }
    }
    None
}

/// Answers every request, and notes what it was.
async fn serve(listener: TcpListener, heads: Heads) {
    let slots = Arc::new(Semaphore::new(AT_ONCE));
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else { continue };
        let heads = Arc::clone(&heads);
        tokio::spawn(async move {
            let _slot = slot;
            let _ = timeout(SERVED_WITHIN, answer(stream, &heads)).await;
        });
    }
}

async fn answer(mut stream: TcpStream, heads: &Heads) -> std::io::Result<()> {
    let mut head = Vec::new();
    let mut part = [0; 4096];
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        let length = stream.read(&mut part).await?;
        if length == 0 || head.len() > MAX_HEAD {
            return Ok(());
        }
        head.extend_from_slice(&part[..length]);
    }
    let line = String::from_utf8_lossy(head.split(|byte| *byte == b'\r').next().unwrap_or_default()).into_owned();
    if let Some(at) = line.find("authtokens-check=") {
        let mark = line[at..].split([' ', '&']).next().unwrap_or_default().to_owned();
        let mut heads = heads.lock().unwrap_or_else(PoisonError::into_inner);
        if heads.len() < AT_ONCE {
            heads.insert(mark, head);
        }
    }
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await?;
    stream.shutdown().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_found_under_every_spelling_that_an_application_may_read() {
        let head = b"GET / HTTP/1.1\r\nRemote-User: a\r\nREMOTE_USER:b\r\nremote-user :\tc\r\nRemote-Users: d\r\n\
            Remote-User:\r\n e\r\nRemote-User:\r\n\r\n";
        assert_eq!(values_of(head, "Remote-User"), ["a", "b", "c", "e", ""]);
        assert_eq!(values_of(head, "Remote-Id"), [""; 0]);
    }
}
