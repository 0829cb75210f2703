//! Which program a `User-Agent` is of, in a few words for a mail.
//!
//! Whoever logs in chooses its `User-Agent`. A mail that repeated it could be made to say anything, with a link that
//! mail programs make out of every `evil.example`. So a mail names a browser and a system that are known, or the name of
//! another program where it is one plain word.

use crate::domain::session::UserAgent;

/// What a browser's `User-Agent` contains, the particular ones first: most claim to be others too.
const BROWSERS: [(&str, &str); 7] = [
    ("Edg", "Edge"),
    ("OPR/", "Opera"),
    ("SamsungBrowser/", "Samsung Internet"),
    ("Firefox/", "Firefox"),
    ("FxiOS/", "Firefox"),
    ("Chrome/", "Chrome"),
    ("Safari/", "Safari"),
];

const SYSTEMS: [(&str, &str); 7] = [
    ("iPhone", "iOS"),
    ("iPad", "iPadOS"),
    ("Android", "Android"),
    ("Windows", "Windows"),
    ("Mac OS X", "macOS"),
    ("CrOS", "ChromeOS"),
    ("Linux", "Linux"),
];

/// The longest name of another program.
const MAX_CHARS: usize = 32;

/// The name of a program, such as `Firefox (Linux)` or `curl`; empty where it is not known.
pub(super) fn name_of(user_agent: &UserAgent) -> String {
    let text = user_agent.as_str();
    let known = |names: &[(&str, &'static str)]| {
        names.iter().find(|(part, _)| text.contains(part)).map_or("", |(_, name)| *name)
    };
    if text.starts_with("Mozilla/") {
        return match (known(&BROWSERS), known(&SYSTEMS)) {
            ("", system) => system.to_owned(),
            (browser, "") => browser.to_owned(),
            (browser, system) => format!("{browser} ({system})"),
        };
    }
    let name = text.split(['/', ' ']).next().unwrap_or_default();
    let is_plain =
        name.len() <= MAX_CHARS && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    if is_plain { name.to_owned() } else { String::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mail_names_known_browsers_and_plain_words_and_repeats_nothing_else() {
        for (text, name) in [
            ("Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0", "Firefox (Linux)"),
            (
                "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.1 \
                 Mobile/15E148 Safari/604.1",
                "Safari (iOS)",
            ),
            (
                "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 \
                 Safari/537.36 Edg/142.0.0.0",
                "Edge (Windows)",
            ),
            (
                "Mozilla/5.0 (Linux; Android 15) AppleWebKit/537.36 Chrome/142.0.0.0 Mobile Safari/537.36",
                "Chrome (Android)",
            ),
            ("Mozilla/5.0 your account is locked, go to evil.example", ""),
            ("curl/8.5.0", "curl"),
            ("python-requests/2.32", "python-requests"),
            ("evil.example/1", ""),
            ("https://evil.example", ""),
            ("Diamonds", "Diamonds"),
            ("ünïcode/1", ""),
            ("a\r\nBcc: b", ""),
            ("", ""),
        ] {
            assert_eq!(name_of(&UserAgent::from_stored(text.to_owned())), name, "{text}");
        }
        assert_eq!(name_of(&UserAgent::from_stored("a".repeat(33))), "");
    }
}
