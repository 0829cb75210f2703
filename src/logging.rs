//! The log: one line an event on standard error, filtered by `RUST_LOG`.
//!
//! Whatever a line holds, it stays one line and shows no token: control characters are escaped, and a run of hex digits
//! that could be most of a token is masked, whoever wrote it.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::Write as _;

use env_logger::{Builder, Env};
use log::LevelFilter;

use crate::clock::Clock;
use crate::token::PlainToken;

/// What is logged where `RUST_LOG` is not set: our own lines, and the framework's only where something is wrong.
const DEFAULT_FILTER: &str = "warn,authtokens=info";

/// How many hex digits in a row are masked: more than half a token, so that a token that was cut is no use either.
const MASKED: usize = PlainToken::LENGTH / 2 + 1;

/// Starts the log.
pub fn start(clock: Clock) {
    Builder::from_env(Env::default().default_filter_or(DEFAULT_FILTER))
        .format(move |line, record| {
            let message = record.args().to_string();
            writeln!(line, "{} {:5} {} {}", clock.now(), record.level(), record.target(), printable(&message))
        })
        // The framework's parser reports every malformed request as an error of ours, and quotes it.
        .filter_module("actix_http", LevelFilter::Off)
        .init();
}

/// The text with its control characters escaped and with everything that could be a token masked.
fn printable(text: &str) -> Cow<'_, str> {
    if is_plain(text) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_hexdigit).count();
        out.push_str(if digits >= MASKED { "[masked]" } else { &rest[..digits] });
        rest = &rest[digits..];
        let end = rest.find(|c: char| c.is_ascii_hexdigit()).unwrap_or(rest.len());
        for c in rest[..end].chars() {
            if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') {
                let _ = write!(out, "{}", c.escape_default());
            } else {
                out.push(c);
            }
        }
        rest = &rest[end..];
    }
    Cow::Owned(out)
}

/// Whether a line can be written as it is, as nearly every line can.
fn is_plain(text: &str) -> bool {
    let mut digits = 0;
    text.bytes().all(|byte| {
        digits = if byte.is_ascii_hexdigit() { digits + 1 } else { 0 };
        digits < MASKED && (b' '..=b'~').contains(&byte)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_stays_one_line_and_shows_no_token() {
        assert_eq!(printable("a\r\n2026 forged\u{1b}[31m\u{85}"), "a\\r\\n2026 forged\\u{1b}[31m\\u{85}");
        let token = "d96163b8bc9127d8c5d5839018580123c64a324b";
        assert_eq!(printable(&format!("path=/x/{token}/y {}", token.to_uppercase())), "path=/x/[masked]/y [masked]");
        assert_eq!(printable(&format!("path=/{}", &token[..39])), "path=/[masked]");
        assert_eq!(printable("request_id=0123456789abcdef ünï"), "request_id=0123456789abcdef ünï");
    }
}
