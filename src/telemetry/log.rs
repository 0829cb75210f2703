//! The log: one line an event on standard error, filtered by `RUST_LOG`. A mistyped filter silences nothing.
//!
//! Whatever a line holds, it stays one line and shows no token: invisible characters are escaped, and a run of hex
//! digits that could be most of a token is masked, even where they are written as in a URL (`%34`).
//!
//! A thread of its own writes the lines, many at a time, so that no request waits for their reader. Where the reader
//! does not keep up, lines are dropped and their number is logged. A panic is a line like any other: the thread that
//! has panicked writes nothing itself.

use std::borrow::Cow;
use std::env;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::panic::{self, PanicHookInfo};
use std::sync::mpsc;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use env_logger::{Builder, Target};
use log::{Level, LevelFilter};

use crate::domain::token::PlainToken;
use crate::system::clock::Clock;
use crate::system::visible::is_unseen;
use crate::system::watched::WatchedThreads;

/// What is logged where `RUST_LOG` is not set: our own lines, and other crates' only where something is wrong.
const DEFAULT_FILTER: &str = "warn,authtokens=info";

/// The crates in the process that log. A filter may name them, as it may our own modules.
const OTHER_CRATES: [&str; 7] = ["actix_cors", "actix_http", "actix_server", "actix_web", "mio", "r2d2", "tracing"];

/// Threads of the framework that catch no panic, and whose end it does not notice: the one that accepts connections.
const FRAMEWORK_THREADS: [&str; 1] = ["actix-server acceptor"];

/// How many hex digits in a row are masked: more than half a token, so that a token that was cut is masked too.
const MASKED: usize = PlainToken::LENGTH / 2 + 1;

/// How long a line may wait for others to be written with it.
const GATHER: Duration = Duration::from_millis(5);

/// How many bytes of lines may wait for a reader that does not keep up.
const MAX_WAITING: usize = 1024 * 1024;

/// How long the end of the program may wait for such a reader.
const FLUSH_WITHIN: Duration = Duration::from_secs(1);

/// How many characters of a panic's message are logged: it may quote what a client sent.
const PANIC_IN_LOG: usize = 512;

/// The running log. Dropping it writes what is still waiting.
pub struct Log(Arc<Lines>);

impl Log {
    /// Prints a text for a person among the log's lines, as it is.
    pub fn tell(&self, text: &str) {
        self.0.add(format!("{text}\n").as_bytes());
    }
}

/// Prints why the program ends, after the log has ended. A reader that does not read it does not delay the end.
pub fn tell_at_the_end(text: &str) {
    let (written, is_written) = mpsc::channel::<()>();
    let text = format!("{text}\n");
    let write = move || {
        let _ = io::stderr().write_all(text.as_bytes());
        drop(written);
    };
    if thread::Builder::new().spawn(write).is_ok() {
        let _ = is_written.recv_timeout(FLUSH_WITHIN);
    }
}

/// Lines on their way to standard error.
#[derive(Default)]
struct Lines {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    bytes: Vec<u8>,
    dropped: u64,
    /// Whether the thread is writing lines that it has taken.
    writing: bool,
}

impl Lines {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Nothing that can panic runs under this lock.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, line: &[u8]) {
        let mut waiting = self.lock();
        if waiting.bytes.len() + line.len() > MAX_WAITING {
            waiting.dropped += 1;
            return;
        }
        let was_empty = waiting.bytes.is_empty();
        waiting.bytes.extend_from_slice(line);
        drop(waiting);
        if was_empty {
            self.changed.notify_all();
        }
    }

    /// Writes lines as they come; never ends.
    fn write_on(&self) {
        let mut lines = Vec::new();
        loop {
            let waiting = self.lock();
            drop(self.changed.wait_while(waiting, |waiting| waiting.bytes.is_empty()));
            thread::sleep(GATHER);
            let mut waiting = self.lock();
            std::mem::swap(&mut lines, &mut waiting.bytes);
            let dropped = std::mem::take(&mut waiting.dropped);
            waiting.writing = true;
            drop(waiting);
            if dropped > 0 {
                let _ = writeln!(lines, "{dropped} lines were dropped: whoever reads the log does not keep up");
            }
            // Whether anyone reads them is not the service's concern.
            let _ = io::stderr().write_all(&lines);
            lines.clear();
            self.lock().writing = false;
            self.changed.notify_all();
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        let waiting = self.0.lock();
        let is_waiting = |waiting: &mut Waiting| waiting.writing || !waiting.bytes.is_empty();
        drop(self.0.changed.wait_timeout_while(waiting, FLUSH_WITHIN, is_waiting));
    }
}

/// What the logger writes to.
struct Pipe(Arc<Lines>);

impl Write for Pipe {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.add(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Starts the log, whose thread `threads` watches over.
///
/// # Errors
/// When the system gives no thread.
pub fn start(clock: Clock, threads: &WatchedThreads) -> io::Result<Log> {
    let lines = Arc::new(Lines::default());
    let writer = Arc::clone(&lines);
    threads.spawn("authtokens log", move || writer.write_on())?;
    let log = Log(Arc::clone(&lines));
    let asked = env::var_os("RUST_LOG").map(|text| text.to_string_lossy().into_owned());
    let filter = choose_filter(asked.as_deref());
    Builder::new()
        .parse_filters(filter.as_deref().unwrap_or(DEFAULT_FILTER))
        .format(move |line, record| {
            // Written piece by piece: one format string took a tenth of the time of a token check.
            let message = record.args().to_string();
            line.write_all(&clock.now().text())?;
            line.write_all(match record.level() {
                Level::Error => b" ERROR ",
                Level::Warn => b" WARN  ",
                Level::Info => b" INFO  ",
                Level::Debug => b" DEBUG ",
                Level::Trace => b" TRACE ",
            })?;
            for text in [record.target(), " ", &printable(&message), "\n"] {
                line.write_all(text.as_bytes())?;
            }
            Ok(())
        })
        // The framework's parser reports every malformed request as an error of ours, and quotes it.
        .filter_module("actix_http", LevelFilter::Off)
        // The driver tells the parameters of each statement: names, digests, hashes.
        .filter_module("tokio_postgres", LevelFilter::Off)
        // They log what an authenticator has sent, and what is stored of it.
        .filter_module("webauthn_rs", LevelFilter::Off)
        .filter_module("webauthn_rs_core", LevelFilter::Off)
        .target(Target::Pipe(Box::new(Pipe(lines))))
        .init();
    if let Err(part) = filter {
        log::warn!(
            "RUST_LOG is not understood and the default applies, {DEFAULT_FILTER}: \"{part}\" is neither a level (off, \
             error, warn, info, debug, trace) nor a module that logs, such as authtokens::access or actix_web, with or \
             without one (authtokens=debug)"
        );
    }
    let threads = threads.clone();
    panic::set_hook(Box::new(move |panic| {
        log_panic(panic);
        if let Some(name) = thread::current().name().filter(|name| FRAMEWORK_THREADS.contains(name)) {
            threads.report_end(name);
        }
    }));
    Ok(log)
}

/// The requested filter, or the default where there is none. A directive that names nothing known would silence all
/// other lines without a word, so it is an error. Where a filter names only modules, the default applies to all others.
fn choose_filter(asked: Option<&str>) -> Result<Cow<'_, str>, &str> {
    let asked = asked.unwrap_or_default();
    // After a slash comes a text that a line must hold.
    let directives = asked.split('/').next().unwrap_or_default();
    let mut directives = directives.split(',').map(str::trim).filter(|directive| !directive.is_empty()).peekable();
    if directives.peek().is_none() {
        return Ok(Cow::Borrowed(DEFAULT_FILTER));
    }
    let is_level = |text: &str| text.parse::<LevelFilter>().is_ok();
    let is_right = |directive: &str| match directive.split_once('=') {
        Some((name, level)) => names_a_module(name.trim()) && is_level(level.trim()),
        None => is_level(directive) || names_a_module(directive),
    };
    let mut has_level = false;
    for directive in directives {
        if !is_right(directive) {
            return Err(directive);
        }
        has_level |= is_level(directive);
    }
    Ok(if has_level { Cow::Borrowed(asked) } else { Cow::Owned(format!("{DEFAULT_FILTER},{asked}")) })
}

/// Whether a module of this name may log.
fn names_a_module(name: &str) -> bool {
    let mut path = name.split("::");
    match path.next() {
        Some("authtokens") => path.next().is_none_or(|module| {
            module == "access" || include_str!("../lib.rs").lines().any(|line| line == format!("pub mod {module};"))
        }),
        Some(other) => OTHER_CRATES.contains(&other),
        None => false,
    }
}

fn log_panic(panic: &PanicHookInfo<'_>) {
    let payload = panic.payload();
    let message = payload.downcast_ref::<String>().map(String::as_str).or_else(|| payload.downcast_ref().copied());
    let message: String = message.unwrap_or("no message").chars().take(PANIC_IN_LOG).collect();
    let location = panic.location().map_or_else(String::new, |location| format!(" at {location}"));
    log::error!("a thread panicked{location}: {message}");
}

/// The text with invisible characters escaped, and with everything masked that could be a token.
fn printable(text: &str) -> Cow<'_, str> {
    if is_plain(text) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut remaining = text;
    while let Some(c) = remaining.chars().next() {
        let (digits, length) = hex_digits(remaining);
        if digits > 0 {
            out.push_str(if digits >= MASKED { "[masked]" } else { &remaining[..length] });
        } else if is_unseen(c) {
            let _ = write!(out, "{}", c.escape_default());
        } else {
            out.push(c);
        }
        remaining = &remaining[if digits > 0 { length } else { c.len_utf8() }..];
    }
    Cow::Owned(out)
}

/// How many hex digits the text begins with, and in how many bytes: a path may have them written as `%34`.
fn hex_digits(text: &str) -> (usize, usize) {
    let (mut digits, mut length) = (0, 0);
    loop {
        length += match &text.as_bytes()[length..] {
            [digit, ..] if digit.is_ascii_hexdigit() => 1,
            [b'%', b'3', b'0'..=b'9', ..] | [b'%', b'4' | b'6', b'1'..=b'6', ..] => 3,
            _ => return (digits, length),
        };
        digits += 1;
    }
}

/// Whether a line can be written as it is. Nearly every line can.
fn is_plain(text: &str) -> bool {
    let bytes = text.as_bytes();
    // Without a branch, so that the compiler checks many bytes at once (SIMD).
    let unusual = bytes.iter().map(|byte| u32::from(*byte == b'%') + u32::from(!(b' '..=b'~').contains(byte)));
    let is_usual = unusual.sum::<u32>() == 0;
    // A run of MASKED digits has one at every MASKED-th position, so only those positions are checked.
    let is_digit = |byte: &&u8| byte.is_ascii_hexdigit();
    let run_around = |at: usize| {
        bytes[..at].iter().rev().take_while(is_digit).count() + bytes[at..].iter().take_while(is_digit).count()
    };
    is_usual
        && (MASKED - 1..bytes.len()).step_by(MASKED).all(|at| !bytes[at].is_ascii_hexdigit() || run_around(at) < MASKED)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn a_filter_that_names_nothing_that_logs_is_told_and_not_used() {
        for good in [
            "info",
            "OFF",
            "authtokens",
            "warn,authtokens=debug",
            " info , authtokens::access = off ",
            "authtokens::repository::writer=trace,r2d2=error",
            "info/status=5",
        ] {
            let has_level =
                ["info", "OFF", "warn,authtokens=debug", " info , authtokens::access = off ", "info/status=5"];
            let before = if has_level.contains(&good) { String::new() } else { format!("{DEFAULT_FILTER},") };
            assert_eq!(
                choose_filter(Some(good)).as_deref(),
                Ok(&*(before + good)),
                "what is not named is as by default"
            );
        }
        for unset in [None, Some(""), Some(" "), Some(","), Some("/x")] {
            assert_eq!(choose_filter(unset).as_deref(), Ok(DEFAULT_FILTER), "{unset:?}");
        }
        for (wrong, part) in [
            ("inof", "inof"),
            ("info,authtoken=debug", "authtoken=debug"),
            ("authtokens=inof", "authtokens=inof"),
            ("authtokens::acess=info", "authtokens::acess=info"),
            ("info authtokens=debug", "info authtokens=debug"),
            ("3", "3"),
            ("authtokens=debug=info", "authtokens=debug=info"),
        ] {
            assert_eq!(choose_filter(Some(wrong)), Err(part));
        }
        let lock = include_str!("../../Cargo.lock").replace('-', "_");
        assert!(
            OTHER_CRATES.iter().all(|name| lock.contains(&format!("name = \"{name}\"\n"))),
            "they are in the process"
        );
    }

    /// Set in a child process in which a test runs its subject, with a standard error and a panic hook of its own.
    const CHILD: &str = "A_PROCESS_THAT_PANICS";

    /// What a test prints on standard error in such a process.
    fn said_by_child(test: &str) -> String {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", &format!("telemetry::log::tests::{test}"), "--nocapture"]);
        let output = child.env(CHILD, "1").env_remove("RUST_LOG").output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{said}");
        said
    }

    #[test]
    fn a_panic_is_one_line_of_the_log_that_shows_no_token() {
        if std::env::var_os(CHILD).is_some() {
            let token = "d96163b8bc9127d8c5d5839018580123c64a324b";
            let threads = WatchedThreads::default();
            let log = start(Clock::system(), &threads).unwrap();
            let panicked = thread::spawn(move || panic!("over\ntwo lines {token}{}", "x".repeat(10_000))).join();
            assert!(panicked.is_err() && threads.failure().now_or_never().is_none());
            return drop(log);
        }
        let said = said_by_child("a_panic_is_one_line_of_the_log_that_shows_no_token");
        assert!(said.lines().count() == 1 && said.len() < 1_000, "{said}");
        let line =
            said.split_once(" ERROR authtokens::telemetry::log a thread panicked at src/telemetry/log.rs:").unwrap().1;
        assert!(line.contains(": over\\ntwo lines [masked]xxx"), "{said}");
    }

    #[test]
    fn a_panic_in_the_thread_that_accepts_connections_is_reported_as_its_end() {
        if std::env::var_os(CHILD).is_some() {
            let threads = WatchedThreads::default();
            let log = start(Clock::system(), &threads).unwrap();
            let acceptor = thread::Builder::new().name(FRAMEWORK_THREADS[0].to_owned());
            assert!(acceptor.spawn(|| panic!("on purpose")).unwrap().join().is_err());
            assert_eq!(threads.failure().now_or_never().unwrap().0, FRAMEWORK_THREADS[0]);
            return drop(log);
        }
        let said = said_by_child("a_panic_in_the_thread_that_accepts_connections_is_reported_as_its_end");
        assert!(said.contains("a thread panicked"), "{said}");
    }

    #[test]
    fn a_line_stays_one_line_and_shows_no_token() {
        assert_eq!(printable("a\r\n2026 forged\u{1b}[31m\u{85}"), "a\\r\\n2026 forged\\u{1b}[31m\\u{85}");
        assert_eq!(printable("a\u{202e}b\u{3164}c\u{e0041}"), "a\\u{202e}b\\u{3164}c\\u{e0041}");
        let token = "d96163b8bc9127d8c5d5839018580123c64a324b";
        assert_eq!(printable(&format!("path=/x/{token}/y {}", token.to_uppercase())), "path=/x/[masked]/y [masked]");
        assert_eq!(printable(&format!("path=/{}", &token[..39])), "path=/[masked]");
        assert_eq!(printable("request_id=0123456789abcdef ünï"), "request_id=0123456789abcdef ünï");
        for every in [1, 2, 3] {
            let encode =
                |(at, c): (usize, char)| if at % every == 0 { format!("%{:02x}", c as u32) } else { c.to_string() };
            let encoded: String = token.chars().enumerate().map(encode).collect();
            assert_eq!(printable(&format!("path=/x/{encoded}/y")), "path=/x/[masked]/y");
            let upper: String = token.to_uppercase().chars().enumerate().map(encode).collect();
            assert_eq!(printable(&format!("path=/{upper}")), "path=/[masked]");
        }
        for plain in ["path=/a%20b%", "path=/%", "path=/100%25/%e4%f6/%34%3", "path=/%%%34x"] {
            assert_eq!(printable(plain), plain);
        }
    }

    proptest::proptest! {
        #[test]
        fn a_line_is_written_as_it_is_where_escaping_and_masking_would_change_nothing(text in "[0-9a-f]{0,45}[g %\\x01é]?[0-9A-F]{0,45}[ -~]{0,5}") {
            let mut digits = 0;
            let is_plain_byte_by_byte = text.bytes().all(|byte| {
                digits = if byte.is_ascii_hexdigit() { digits + 1 } else { 0 };
                digits < MASKED && byte != b'%' && (b' '..=b'~').contains(&byte)
            });
            proptest::prop_assert_eq!(is_plain(&text), is_plain_byte_by_byte);
        }
    }
}
