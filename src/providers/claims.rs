//! What an ID token says, and whether it is believed: OpenID Connect Core 1.0, 3.1.3.7.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use url::Url;

use super::error::ProviderError;
use super::said::{IdentityClaims, Notice, NoticeKind};
use crate::config::ProviderConfig;
use crate::config::identity::Preset;
use crate::domain::identity::Subject;
use crate::domain::token::{TokenDigest, hex};
use crate::system::clock::Timestamp;

/// Google's issuer. Its tokens may also lack the scheme.
pub(super) const GOOGLE: &str = "https://accounts.google.com";

/// Apple's issuer, of old and of late.
pub(super) const APPLE: &str = "https://appleid.apple.com";
const APPLE_OF_LATE: &str = "https://account.apple.com";

/// What stands for GitHub, which has no issuer.
pub(super) const GITHUB: &str = "https://github.com";

/// How much the clocks of two machines may differ.
const SKEW: Duration = Duration::from_secs(60);

/// How old a token may be that an app presents. Google's live an hour, and its libraries keep them so long; Apple's live a
/// day, and its libraries make one for each login.
const MAX_AGE: Duration = Duration::from_secs(60 * 60);
const MAX_AGE_APPLE: Duration = Duration::from_secs(10 * 60);

/// How old a notice of Apple's may be: it is sent again where it did not arrive.
const MAX_AGE_NOTICE: Duration = Duration::from_secs(72 * 60 * 60);

/// The longest id of a person: OpenID Connect Core, 2.
const MAX_SUBJECT: usize = 255;

/// The longest address that mail can be sent to.
const MAX_EMAIL: usize = 254;

/// The claims that are used. One that stands there twice is refused.
#[derive(Deserialize)]
pub(super) struct Claims {
    iss: String,
    sub: String,
    aud: Audience,
    azp: Option<String>,
    exp: f64,
    iat: f64,
    nbf: Option<f64>,
    auth_time: Option<f64>,
    nonce: Option<String>,
    email: Option<String>,
    email_verified: Option<Value>,
    /// Of Google: whose domain the account is managed by.
    hd: Option<String>,
    /// Of tokens that tell of an event, such as a logout. They are no ID tokens, and may be signed by the same key.
    events: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

impl Audience {
    fn all(&self) -> &[String] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }
}

/// What is expected of an ID token.
pub(super) struct Expected<'a> {
    pub(super) config: &'a ProviderConfig,
    pub(super) nonce: Option<&'a str>,
    pub(super) requires_nonce: bool,
    pub(super) now: Timestamp,
}

impl Claims {
    /// Checks the claims of a token whose signature is verified.
    pub(super) fn check(self, token: &str, expected: &Expected<'_>) -> Result<IdentityClaims, ProviderError> {
        let Expected { config, nonce, requires_nonce, now } = expected;
        let refused = |why| Err(ProviderError::Refused(why));
        let Some(issuer) = canonical_issuer(config, &self.iss) else {
            return refused("the token is of another issuer");
        };
        if self.events.is_some() {
            return refused("the token is no ID token");
        }
        let client_id = check_audience(config, &self.aud, self.azp.as_deref())?.to_owned();
        let (Some(expires), Some(made)) = (time(self.exp), time(self.iat)) else {
            return refused("the token's times are no times");
        };
        let max_age = if config.preset == Preset::Apple { MAX_AGE_APPLE } else { MAX_AGE };
        // After that it is refused, whatever it says of itself: nobody has to remember that it was used.
        let usable_until = expires.min(made.plus(max_age)).plus(SKEW);
        if expires.plus(SKEW) <= *now {
            return refused("the token has expired");
        }
        if made > now.plus(SKEW) || self.nbf.is_some_and(|nbf| time(nbf).is_none_or(|nbf| nbf > now.plus(SKEW))) {
            return refused("the token is of the future: this machine's clock may be wrong");
        }
        let auth_time = self.auth_time.and_then(time);
        if auth_time.is_some_and(|at| at > now.plus(SKEW)) {
            return refused("the person has shown who they are in the future");
        }
        if usable_until <= *now {
            return refused("the token is too old");
        }
        match nonce {
            Some(nonce) if !self.nonce.as_deref().is_some_and(|claim| is_nonce(claim, nonce)) => {
                return refused("the token's nonce is another, or missing");
            }
            None if *requires_nonce => return refused("a nonce is required"),
            _ => {}
        }
        if self.sub.is_empty() || self.sub.len() > MAX_SUBJECT || self.sub.contains(char::is_control) {
            return refused("the token's subject is none");
        }
        let is_email = |email: &String| email.len() <= MAX_EMAIL && !email.contains(char::is_control);
        let email = self.email.filter(is_email).unwrap_or_default();
        // Apple writes it as a text at times.
        let is_verified = match &self.email_verified {
            Some(Value::Bool(verified)) => *verified,
            Some(Value::String(text)) => config.preset == Preset::Apple && text == "true",
            _ => false,
        };
        let is_email_verified = is_verified && !email.is_empty();
        let speaks_for_email = is_email_verified && speaks_for(config, &issuer, &email, self.hd.as_deref());
        Ok(IdentityClaims {
            subject: Subject { issuer, subject: self.sub },
            client_id,
            email,
            is_email_verified,
            speaks_for_email,
            issued: made,
            auth_time,
            // By what is signed alone: a signature may have a second spelling.
            token: Some((digest(signed_part(token)), usable_until)),
        })
    }
}

/// A token without its signature.
fn signed_part(token: &str) -> &str {
    token.rsplit_once('.').map_or(token, |(signed, _)| signed)
}

fn digest(text: &str) -> TokenDigest {
    TokenDigest::from_bytes(Sha256::digest(text).into())
}

/// The issuer of a provider's identities, in the spelling that is stored.
pub(super) fn issuer_of(config: &ProviderConfig) -> Option<&str> {
    match config.preset {
        Preset::Google => Some(GOOGLE),
        Preset::Apple => Some(APPLE),
        Preset::Github => Some(GITHUB),
        Preset::None => config.issuer.as_deref(),
    }
}

/// The issuer in the one spelling that is stored; `None` for one that is not this provider's.
pub(super) fn canonical_issuer(config: &ProviderConfig, issuer: &str) -> Option<String> {
    let own = match config.preset {
        Preset::Google if [GOOGLE, "accounts.google.com"].contains(&issuer) => GOOGLE,
        Preset::Apple if [APPLE, APPLE_OF_LATE].contains(&issuer) => APPLE,
        // Character by character: one with a slash at the end is another.
        Preset::None => config.issuer.as_deref().filter(|own| *own == issuer)?,
        _ => return None,
    };
    Some(own.to_owned())
}

/// Checks for whom a token is, and answers which of our client ids that is.
fn check_audience<'a>(
    config: &ProviderConfig,
    audience: &'a Audience,
    azp: Option<&str>,
) -> Result<&'a str, ProviderError> {
    let is_ours = |id: &str| config.client_ids.iter().any(|own| own == id);
    let Some(own) = audience.all().iter().find(|id| is_ours(id)) else {
        return Err(ProviderError::Refused("the token is for another app"));
    };
    // Where others may present it as well, it must have been made for us.
    let has_others = audience.all().iter().any(|id| !is_ours(id));
    if has_others && !azp.is_some_and(is_ours) {
        return Err(ProviderError::Refused("the token was made for another app"));
    }
    Ok(own)
}

/// Whether the claim is what the client gives, or its SHA-256: apps of iOS give their provider the digest.
fn is_nonce(claim: &str, given: &str) -> bool {
    let digest: [u8; 32] = Sha256::digest(given).into();
    [given.to_owned(), hex(&digest), BASE64_URL_SAFE_NO_PAD.encode(digest)]
        // Both are known to whoever presents them, so how long it takes to compare them tells nothing.
        .contains(&claim.to_owned())
}

/// Whether the provider is believed that an address, which it says is verified, is this person's.
fn speaks_for(config: &ProviderConfig, issuer: &str, email: &str, hosted_domain: Option<&str>) -> bool {
    match config.preset {
        // An address elsewhere was verified once, and may be another's by now.
        Preset::Google => {
            let domain = email.rsplit_once('@').map_or("", |(_, domain)| domain);
            domain.eq_ignore_ascii_case("gmail.com") || hosted_domain.is_some_and(|domain| !domain.is_empty())
        }
        Preset::Apple => true,
        Preset::Github => false,
        Preset::None => config.trust_email && !is_microsoft(issuer),
    }
}

/// Microsoft lets the administrators of any organisation write any address.
fn is_microsoft(issuer: &str) -> bool {
    let Ok(url) = Url::parse(issuer) else { return false };
    let host = url.host_str().unwrap_or_default().trim_end_matches('.');
    [
        "microsoftonline.com",
        "microsoftonline.us",
        "microsoftonline.cn",
        "partner.microsoftonline.cn",
        "windows.net",
        "chinacloudapi.cn",
        "live.com",
        "microsoft.com",
        "ciamlogin.com",
        "b2clogin.com",
    ]
    .iter()
    .any(|domain| host == *domain || host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.')))
}

/// A `NumericDate`: RFC 7519, 2. It may have a fraction.
fn time(seconds: f64) -> Option<Timestamp> {
    let millis = (seconds * 1000.0).floor();
    #[expect(clippy::cast_possible_truncation, reason = "too large a number becomes the largest, which is no time")]
    let millis = millis as i64;
    Timestamp::from_millis(millis)
}

/// Apple documents the time of an event in seconds, and sends milliseconds. No event of ours is from before 2001-09-09,
/// when the seconds had ten digits: as milliseconds they are of January 1970.
fn event_time_of(number: f64) -> Option<Timestamp> {
    const LATEST_IN_SECONDS: f64 = 1e11;
    time(if number < LATEST_IN_SECONDS { number } else { number / 1000.0 })
}

/// What a notice of Apple's says.
#[derive(Deserialize)]
pub(super) struct NoticeClaims {
    iss: String,
    aud: Audience,
    iat: f64,
    exp: Option<f64>,
    /// A text that holds an object.
    events: Value,
}

#[derive(Deserialize)]
struct AppleEvent {
    #[serde(rename = "type")]
    kind: String,
    sub: String,
    event_time: Option<f64>,
}

impl NoticeClaims {
    /// Checks the claims of a notice whose signature is verified.
    pub(super) fn check(self, config: &ProviderConfig, now: Timestamp) -> Result<Notice, ProviderError> {
        let refused = ProviderError::Refused;
        let issuer = canonical_issuer(config, &self.iss).ok_or(refused("the notice is of another issuer"))?;
        check_audience(config, &self.aud, None)?;
        let made = time(self.iat).ok_or(refused("the notice's time is no time"))?;
        let is_over = self.exp.is_some_and(|exp| time(exp).is_none_or(|exp| exp.plus(SKEW) <= now));
        if made > now.plus(SKEW) || now.since(made) > MAX_AGE_NOTICE || is_over {
            return Err(refused("the notice is of another time"));
        }
        let event: Option<AppleEvent> = match self.events {
            Value::String(text) => serde_json::from_str(&text).ok(),
            object => serde_json::from_value(object).ok(),
        };
        let AppleEvent { kind, sub, event_time } = event.ok_or(refused("the notice tells of no event"))?;
        let kind = match kind.as_str() {
            "consent-revoked" | "account-delete" | "account-deleted" => NoticeKind::Withdrawn,
            _ => NoticeKind::Other,
        };
        // What a notice tells of is not later than the notice, whose time has no fraction.
        let happened = event_time.and_then(event_time_of).unwrap_or(made).min(made.plus(SKEW));
        Ok(Notice { kind, subject: Subject { issuer, subject: sub }, happened })
    }
}
