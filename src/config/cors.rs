//! Origins for CORS: which texts are valid ones, and hints for invalid ones.

use url::Url;

use crate::config::value::{Kind, Raw};

/// `["*"]` alone, or a list of origins.
#[must_use]
pub fn origins() -> Kind<Vec<String>> {
    let read = |raw: &Raw| raw.strings().filter(|origins| are_origins(origins));
    let expected = "[\"*\"] or a list of origins such as \"https://app.example.org\"";
    let hint = |raw: &Raw| {
        let given = raw.strings().unwrap_or_default();
        given.iter().find_map(|origin| hint_at_origin(origin)).unwrap_or_default()
    };
    Kind::new(expected, read, |origins| origins.as_slice().into()).hint(hint)
}

/// `*` alone, or origins.
fn are_origins(origins: &[String]) -> bool {
    origins == ["*"] || (!origins.is_empty() && origins.iter().all(|origin| is_origin(origin)))
}

/// Whether a text is an origin as a browser sends it: a scheme, a host in lower case, perhaps a port, and nothing after
/// it.
fn is_origin(origin: &str) -> bool {
    let Some((scheme, authority)) = origin.split_once("://") else { return false };
    if ["http", "https"].contains(&scheme) {
        // An asterisk would pass as part of a host, but no such host exists.
        return !authority.contains('*') && as_a_browser_writes(origin).is_some_and(|written| written == origin);
    }
    // The pages of an app: the scheme is the app's own, and so is what follows.
    let of = |text: &str, others: &[u8]| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || others.contains(&b))
    };
    let (host, port) = authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port)));
    of(scheme, b"+-.")
        && scheme.starts_with(|first: char| first.is_ascii_lowercase())
        && of(host, b"-._")
        && port.is_none_or(|port| of(port, b"") && port.parse::<u16>().is_ok())
}

/// The origin of a page at this address: without a default port, path and user, in ASCII and lower case.
fn as_a_browser_writes(address: &str) -> Option<String> {
    let url = Url::parse(address).ok()?;
    Some(url.origin()).filter(url::Origin::is_tuple).map(|origin| origin.ascii_serialization())
}

/// What an invalid origin may have meant.
fn hint_at_origin(origin: &str) -> Option<String> {
    if is_origin(origin) || origin == "*" {
        return None;
    }
    if origin.eq_ignore_ascii_case("null") {
        return Some("; \"null\" stands for pages of which nobody knows where they come from".to_owned());
    }
    if origin.contains('*') {
        return Some("; every origin is written in full".to_owned());
    }
    let right = as_a_browser_writes(origin).or_else(|| as_a_browser_writes(&format!("https://{origin}")))?;
    Some(format!("; a browser sends {right:?}, not {origin:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_written_as_a_browser_sends_it() {
        for good in [
            "https://app.example.org",
            "http://localhost:3000",
            "http://[::1]:8080",
            "https://127.0.0.1:80",
            "https://xn--bcher-kva.example",
            "capacitor://localhost",
            "chrome-extension://abcdefghijklmnop",
        ] {
            assert!(is_origin(good), "{good}");
            assert_eq!(hint_at_origin(good), None, "{good}");
        }
        for (wrong, right) in [
            ("https://app.example.org:443", "https://app.example.org"),
            ("http://app.example.org:80", "http://app.example.org"),
            ("https://APP.example.org", "https://app.example.org"),
            ("HTTPS://app.example.org", "https://app.example.org"),
            ("https://app.example.org/", "https://app.example.org"),
            ("https://app.example.org/login?x#y", "https://app.example.org"),
            ("https://me@app.example.org", "https://app.example.org"),
            ("https://app.example.org:08443", "https://app.example.org:8443"),
            ("https://bücher.example", "https://xn--bcher-kva.example"),
            ("http://127.1:3000", "http://127.0.0.1:3000"),
            ("http://[0:0::1]:3000", "http://[::1]:3000"),
            ("app.example.org", "https://app.example.org"),
            ("localhost:3000", "https://localhost:3000"),
        ] {
            assert!(!is_origin(wrong), "{wrong}");
            assert!(is_origin(right), "{right}");
            assert_eq!(hint_at_origin(wrong).unwrap(), format!("; a browser sends {right:?}, not {wrong:?}"));
        }
        for wrong in ["null", "https://*.example.org", "*.example.org"] {
            assert!(!is_origin(wrong) && hint_at_origin(wrong).is_some(), "{wrong}");
        }
        for bad in [
            "*",
            "app.example.org",
            "https://",
            "https://[bad",
            "https://a.example:99999",
            "http://A.example",
            "https://a.example/",
            "https://u@a.example",
            "HTTPS://a.example",
            "https://a.example:",
            "https://a b",
        ] {
            assert!(!is_origin(bad), "{bad}");
        }
    }
}
