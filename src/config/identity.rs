//! Other ways in: what passkeys are made for, and which providers of identities are asked.

use serde_json::Value;
use url::{Host, Url};

use crate::config::value::{Kind, Raw};

/// What is known of a provider beforehand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// Nothing: an OpenID provider, whose addresses its discovery document tells.
    None,
    /// Google.
    Google,
    /// Apple.
    Apple,
    /// GitHub, which is no OpenID provider: it is asked by OAuth 2.0 alone.
    Github,
}

/// The words for a preset.
pub const PRESETS: &[(&str, Preset)] =
    &[("none", Preset::None), ("google", Preset::Google), ("apple", Preset::Apple), ("github", Preset::Github)];

/// A list of texts without control characters, none of them empty.
#[must_use]
pub fn texts(expected: &str) -> Kind<Vec<String>> {
    let is_plain = |text: &String| !text.is_empty() && !text.contains(char::is_control);
    let read = move |raw: &Raw| raw.strings().filter(|texts| texts.iter().all(is_plain));
    Kind::new(expected, read, |texts: &Vec<String>| texts.as_slice().into())
}

/// What a provider is called in a path.
#[must_use]
pub fn provider_name() -> Kind<String> {
    let is_name = |text: &&str| {
        (1..=32).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    let read = move |raw: &Raw| raw.text().filter(is_name).map(str::to_owned);
    Kind::new("1 to 32 characters of a-z 0-9 -", read, |text: &String| text.as_str().into())
}

/// The domain that passkeys are made for: no address, no port, in lower case.
#[must_use]
pub fn domain() -> Kind<String> {
    let is_domain = |text: &&str| matches!(Host::parse(text), Ok(Host::Domain(domain)) if domain == **text);
    let read = move |raw: &Raw| raw.text().filter(is_domain).map(str::to_owned);
    Kind::new("a domain such as \"example.org\"", read, |text: &String| text.as_str().into())
}

/// Where passkeys are used: origins of pages, and Android apps by the hash of their signing key.
#[must_use]
pub fn passkey_origins() -> Kind<Vec<String>> {
    let read = |raw: &Raw| raw.strings().filter(|origins| origins.iter().all(|origin| is_passkey_origin(origin)));
    let expected = "a list of origins such as \"https://example.org\" or \"android:apk-key-hash:…\"";
    Kind::new(expected, read, |origins: &Vec<String>| origins.as_slice().into())
}

fn is_passkey_origin(origin: &str) -> bool {
    if let Some(hash) = origin.strip_prefix("android:apk-key-hash:") {
        return hash.len() == 43 && hash.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    }
    let Ok(url) = Url::parse(origin) else { return false };
    ["http", "https"].contains(&url.scheme()) && url.origin().ascii_serialization() == origin
}

/// Apps of iOS, as Apple writes them: the team's id, a dot, the bundle's id.
#[must_use]
pub fn apple_apps() -> Kind<Vec<String>> {
    let is_app = |text: &String| {
        text.split_once('.').is_some_and(|(team, bundle)| {
            team.len() == 10
                && team.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
                && !bundle.is_empty()
                && bundle.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'-')
        })
    };
    let read = move |raw: &Raw| raw.strings().filter(|apps| apps.iter().all(is_app));
    let expected = "a list of apps such as \"ABCDE12345.org.example.app\"";
    Kind::new(expected, read, |apps: &Vec<String>| apps.as_slice().into())
}

/// An app of Android: its package, and the SHA-256 of the certificate that it is signed with.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct AndroidApp {
    pub package: String,
    /// In hex, in upper case, with colons.
    pub fingerprint: String,
}

/// Apps of Android, each as its package, a space, and the fingerprint of its certificate.
#[must_use]
pub fn android_apps() -> Kind<Vec<AndroidApp>> {
    let read = |raw: &Raw| raw.strings()?.iter().map(|text| parse_android_app(text)).collect();
    let show = |apps: &Vec<AndroidApp>| {
        Value::from(apps.iter().map(|app| format!("{} {}", app.package, app.fingerprint)).collect::<Vec<_>>())
    };
    Kind::new("a list of apps such as \"org.example.app AB:CD:…\" with a SHA-256 fingerprint", read, show)
}

fn parse_android_app(text: &str) -> Option<AndroidApp> {
    let (package, fingerprint) = text.split_once(' ')?;
    let is_package =
        !package.is_empty() && package.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'_');
    let bytes: Vec<&str> = fingerprint.split(':').collect();
    let is_fingerprint =
        bytes.len() == 32 && bytes.iter().all(|byte| byte.len() == 2 && byte.bytes().all(|b| b.is_ascii_hexdigit()));
    (is_package && is_fingerprint)
        .then(|| AndroidApp { package: package.to_owned(), fingerprint: fingerprint.to_uppercase() })
}

/// The address of a provider: HTTPS, or plain HTTP on this machine, without query and fragment.
#[must_use]
pub fn provider_address() -> Kind<String> {
    let read = |raw: &Raw| {
        let text = raw.text()?;
        let url = Url::parse(text).ok()?;
        let is_plain = url.has_host()
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none();
        let is_safe =
            url.scheme() == "https" || (url.scheme() == "http" && crate::config::mail::is_on_this_machine(text));
        // As it is given: an issuer is compared character by character.
        (is_plain && is_safe).then(|| text.to_owned())
    };
    Kind::new("an address such as \"https://id.example.org\"", read, |text: &String| text.as_str().into())
}

/// Where a browser may be sent back to: addresses of the web or of an app, each compared character by character.
#[must_use]
pub fn return_addresses() -> Kind<Vec<String>> {
    let read = |raw: &Raw| raw.strings().filter(|addresses| addresses.iter().all(|text| is_return_address(text)));
    let expected = "a list of addresses such as \"https://app.example.org/signed-in\" or \"diamonds://signed-in\"";
    Kind::new(expected, read, |addresses: &Vec<String>| addresses.as_slice().into())
}

/// Schemes to which browsers or systems give a meaning of their own, so that they lead to no app of ours. Others of theirs
/// have a hyphen or a plus, such as `view-source` and `web+tea`.
const TAKEN_SCHEMES: [&str; 35] = [
    "about",
    "blob",
    "brave",
    "chrome",
    "cid",
    "content",
    "data",
    "edge",
    "facetime",
    "feed",
    "file",
    "filesystem",
    "ftp",
    "geo",
    "intent",
    "itms",
    "jar",
    "javascript",
    "livescript",
    "magnet",
    "mailto",
    "market",
    "mid",
    "mms",
    "mocha",
    "opera",
    "resource",
    "sip",
    "sms",
    "tel",
    "urn",
    "vbscript",
    "webcal",
    "ws",
    "wss",
];

/// Whether an address is of HTTPS, of plain HTTP on this machine, or of a scheme that an app can have: one with a dot (RFC
/// 8252, 7.1), or a plain word that is nobody else's. It names no user, which is there to deceive.
fn is_return_address(text: &str) -> bool {
    let Ok(url) = Url::parse(text) else { return false };
    let authority = text.split_once("://").map(|(_, rest)| rest.split(['/', '?', '#']).next().unwrap_or_default());
    let has_host = authority.is_some_and(|authority| !authority.is_empty());
    let is_safe = match url.scheme() {
        "https" => has_host,
        "http" => has_host && crate::config::mail::is_on_this_machine(text),
        scheme => {
            let is_word = scheme.bytes().all(|byte| byte.is_ascii_alphanumeric());
            scheme.contains('.') || (is_word && !TAKEN_SCHEMES.contains(&scheme))
        }
    };
    is_safe
        && !authority.is_some_and(|authority| authority.contains('@'))
        && url.fragment().is_none()
        && !text.contains(|c: char| c.is_whitespace() || c.is_control() || c == '\\')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_of_passkeys_is_written_as_a_browser_or_android_sends_it() {
        for good in [
            "https://example.org",
            "https://example.org:8443",
            "http://localhost:3000",
            "android:apk-key-hash:47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU",
        ] {
            assert!(is_passkey_origin(good), "{good}");
        }
        for bad in ["https://example.org/", "https://Example.org", "example.org", "android:apk-key-hash:short", "*", ""]
        {
            assert!(!is_passkey_origin(bad), "{bad}");
        }
    }

    #[test]
    fn a_browser_is_sent_back_to_the_web_under_tls_or_to_an_app() {
        for good in [
            "https://app.example.org/signed-in",
            "https://app.example.org:8443/?x=a@b",
            "http://localhost:3000/in",
            "http://127.0.0.1/in",
            "diamonds://signed-in",
            "org.example.app:/signed-in",
            "com.example.app://in",
        ] {
            assert!(is_return_address(good), "{good}");
        }
        for bad in [
            "",
            "/in",
            "http://app.example.org/in",
            "https:app.example.org/in",
            "https:///app.example.org/in",
            "https://app.example.org/in#x",
            "https://app.example.org/in ",
            "https:\\\\app.example.org",
            "https://app.example.org@evil.example/in",
            "https://user:password@app.example.org/in",
            "https://@app.example.org/in",
            "http://evil.example@localhost/in",
            "diamonds://user@in",
            "intent://in#Intent;scheme=diamonds;end",
            "intent://in",
            "view-source:https://app.example.org",
            "filesystem:https://app.example.org/temporary/x",
            "blob:https://app.example.org/x",
            "javascript:alert(1)",
            "JavaScript:alert(1)",
            "data:text/html,x",
            "file:///etc/passwd",
            "about:blank",
            "chrome-extension://x/y",
            "web+tea://in",
            "mailto:azure@diamond.example",
        ] {
            assert!(!is_return_address(bad), "{bad}");
        }
    }

    #[test]
    fn an_android_app_is_a_package_and_the_fingerprint_of_its_certificate() {
        let fingerprint = vec!["ab"; 32].join(":");
        let app = parse_android_app(&format!("org.example.app {fingerprint}")).unwrap();
        assert_eq!((app.package.as_str(), app.fingerprint), ("org.example.app", fingerprint.to_uppercase()));
        for bad in ["org.example.app", "org.example.app AB:CD", &format!("org/example {fingerprint}")] {
            assert!(parse_android_app(bad).is_none(), "{bad}");
        }
    }
}
