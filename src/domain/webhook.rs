//! Webhooks: who is sent which events, how a message is signed, and when it is tried again.
//!
//! Messages are those of Standard Webhooks 1.0 (<https://www.standardwebhooks.com>): three headers with an id, a time and
//! signatures, and a thin body that says what happened and to whom. The id is made of the webhook and the event, so that it
//! is the same at every attempt, also after a restart, and nothing has to be stored for it.

use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use rand::TryRng as _;
use rand::rngs::SysRng;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::domain::event::{Event, EventKind};
use crate::domain::token::hex;
use crate::system::clock::Timestamp;

/// How many webhooks there are at most.
pub const MAX_WEBHOOKS: u32 = 20;

/// How many deliveries of a webhook wait for another attempt at most. Where there are so many, no further event is tried
/// before one of them was delivered or given up.
pub const MAX_WAITING: u32 = 1_000;

/// How many deliveries of a webhook that were given up are remembered: the newest.
pub const MAX_GIVEN_UP: u32 = 100;

/// How many superusers and staff are told at most that a webhook was disabled by itself.
pub const NOTICED_AT_MOST: u32 = 20;

/// How many deliveries to one webhook are under way at once.
pub const AT_ONCE: u32 = 16;

/// How many bytes an address has at most.
pub const MAX_URL: usize = 1_024;

/// How many characters are kept of what a receiver has answered.
pub const MAX_TOLD: usize = 256;

/// For how long a secret that was replaced signs, too.
pub const ROTATED_WITHIN: Duration = Duration::from_secs(24 * 60 * 60);

/// After how long without any success a webhook is disabled.
pub const DISABLED_AFTER: Duration = Duration::from_secs(5 * 24 * 60 * 60);

/// How long a receiver may ask to be left alone at most.
pub const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

/// How long a delivery waits at most, with time to spare. What waits longer was written while the clock was ahead.
pub const LONGEST_WAIT: Duration = Duration::from_secs(40 * 60 * 60);

/// How long a delivery waits after each failure. The first attempt is made at once; after the tenth it is given up.
const RETRY_AFTER: [u64; 9] =
    [5, 5 * MINUTE, 30 * MINUTE, 2 * HOUR, 5 * HOUR, 10 * HOUR, 14 * HOUR, 20 * HOUR, 24 * HOUR];

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;

/// How much longer a wait is made at random, at most: as one part in so many.
const JITTER: f64 = 10.0;

/// The longest pause of a webhook whose deliveries all fail.
const LONGEST_PAUSE: u64 = 60;

/// How many bytes of a digest are a message's id.
const MESSAGE_BYTES: usize = 16;

/// How long a delivery waits after so many failures; `None` where it is given up. `chance` is from 0 to 1.
#[must_use]
pub fn wait_after(failures: u32, chance: f64) -> Option<Duration> {
    let wait = RETRY_AFTER.get(usize::try_from(failures.checked_sub(1)?).ok()?)?;
    Some(Duration::from_secs(*wait).mul_f64(1.0 + chance / JITTER))
}

/// How long a webhook is left alone after so many rounds of deliveries in a row that all failed.
#[must_use]
pub fn pause_after(failures: u32) -> Duration {
    let pause = 2_u64.saturating_pow(failures.saturating_sub(1)).min(LONGEST_PAUSE);
    Duration::from_secs(if failures == 0 { 0 } else { pause })
}

/// What names a webhook: 16 hex digits at random.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WebhookId(String);

impl WebhookId {
    const DIGITS: usize = 16;

    /// A new one.
    ///
    /// # Panics
    /// When the operating system has no random numbers.
    #[must_use]
    pub fn generate() -> Self {
        let mut bytes = [0_u8; Self::DIGITS / 2];
        SysRng.try_fill_bytes(&mut bytes).expect("the operating system gives random numbers");
        Self(hex(&bytes))
    }

    /// Reads an id; `None` where the text is none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let is_id = text.len() == Self::DIGITS && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        is_id.then(|| Self(text.to_owned()))
    }

    /// The 16 digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What its secrets are sealed for.
    #[must_use]
    pub fn secret_binding(&self) -> String {
        format!("webhooks.secret:{}", self.0)
    }
}

impl fmt::Display for WebhookId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What signs the messages to a webhook. It has no `Debug`, no `Display` and no `Serialize`.
pub struct WebhookSecret(Vec<u8>);

impl WebhookSecret {
    /// What it begins with where it is shown.
    const PREFIX: &'static str = "whsec_";

    const LENGTH: usize = 32;

    /// A new one from the operating system's generator.
    ///
    /// # Panics
    /// When the operating system has no random numbers.
    #[must_use]
    pub fn generate() -> Self {
        let mut bytes = vec![0_u8; Self::LENGTH];
        SysRng.try_fill_bytes(&mut bytes).expect("the operating system gives random numbers");
        Self(bytes)
    }

    /// As it was sealed.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }

    /// As it is to be sealed.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// As it is shown, once: what the libraries of the standard take.
    #[must_use]
    pub fn reveal(&self) -> String {
        format!("{}{}", Self::PREFIX, STANDARD.encode(&self.0))
    }

    /// The signature of a message, with its version.
    fn sign(&self, message: &str, at: i64, body: &str) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes a key of any length");
        for part in [message, ".", &at.to_string(), ".", body] {
            mac.update(part.as_bytes());
        }
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    }
}

/// The value of the header `webhook-signature`: one signature a secret. `at` is that of the attempt, in seconds since 1970.
#[must_use]
pub fn signatures(secrets: &[WebhookSecret], message: &str, at: i64, body: &str) -> String {
    secrets.iter().map(|secret| secret.sign(message, at, body)).collect::<Vec<_>>().join(" ")
}

/// Which events a webhook is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WebhookKinds {
    /// All but those of webhooks.
    All,
    /// These.
    Only(Vec<EventKind>),
}

impl WebhookKinds {
    /// These kinds, or all where there is none. Those of webhooks are left out.
    #[must_use]
    pub fn new(mut kinds: Vec<EventKind>) -> Self {
        kinds.retain(|kind| !kind.is_of_webhooks());
        let mut seen = Vec::new();
        kinds.retain(|kind| {
            !seen.contains(kind) && {
                seen.push(*kind);
                true
            }
        });
        if kinds.is_empty() { Self::All } else { Self::Only(kinds) }
    }

    /// As it is stored; `None` where the text is not.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text.is_empty() {
            return Some(Self::All);
        }
        let kinds = text.split(',').map(EventKind::parse).collect::<Option<Vec<_>>>()?;
        let read = Self::new(kinds);
        (read.to_stored() == text).then_some(read)
    }

    /// How it is stored.
    #[must_use]
    pub fn to_stored(&self) -> String {
        self.names().join(",")
    }

    /// The names of the kinds; none where it is all of them.
    #[must_use]
    pub fn names(&self) -> Vec<&'static str> {
        match self {
            Self::All => Vec::new(),
            Self::Only(kinds) => kinds.iter().map(|kind| kind.name()).collect(),
        }
    }

    /// Whether it is sent an event of this kind.
    #[must_use]
    pub fn wants(&self, kind: EventKind) -> bool {
        match self {
            Self::All => !kind.is_of_webhooks(),
            Self::Only(kinds) => kinds.contains(&kind),
        }
    }
}

/// Who has disabled a webhook, or why it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DisabledBy {
    /// The operator.
    Operator,
    /// Its receiver, with the answer 410.
    Receiver,
    /// It has failed for so long.
    Failures,
    /// The key that its secret was sealed with was lost.
    LostKey,
}

impl DisabledBy {
    const ALL: [Self; 4] = [Self::Operator, Self::Receiver, Self::Failures, Self::LostKey];

    /// Its name, as stored and shown.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Receiver => "receiver",
            Self::Failures => "failures",
            Self::LostKey => "lost_key",
        }
    }

    /// The one of this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|by| by.name() == name)
    }
}

/// The body of a message.
#[derive(Serialize)]
struct Body<'a> {
    r#type: &'a str,
    timestamp: String,
    data: Data<'a>,
}

#[derive(Serialize)]
struct Data<'a> {
    username: &'a str,
    event: i64,
}

/// A message as it is sent, at every attempt the same.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Message {
    pub id: String,
    pub body: String,
}

impl Message {
    /// The message to a webhook of an event. Its id is that of no other event, also where the store was restored from a
    /// backup and gives the numbers of events once more.
    #[must_use]
    pub fn of(webhook: &WebhookId, event: &Event) -> Self {
        let what = format!("{webhook}.{}.{}.{}", event.id, event.at.as_millis(), event.kind.name());
        Self { id: id_of(&what), body: body_of(event.kind.name(), event.at, &event.username, event.id) }
    }

    /// A message that tries a webhook.
    #[must_use]
    pub fn test(webhook: &WebhookId, now: Timestamp) -> Self {
        let what = format!("{webhook}.test.{}", WebhookId::generate());
        Self { id: id_of(&what), body: body_of("test", now, "", 0) }
    }
}

fn id_of(what: &str) -> String {
    format!("msg_{}", hex(&Sha256::digest(what)[..MESSAGE_BYTES]))
}

fn body_of(kind: &str, at: Timestamp, username: &str, event: i64) -> String {
    let body = Body { r#type: kind, timestamp: at.to_string(), data: Data { username, event } };
    serde_json::to_string(&body).expect("texts and numbers are written")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_example_of_the_standard_is_signed_as_it_says() {
        let bytes = STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let secret = WebhookSecret::from_bytes(&bytes);
        assert_eq!(secret.reveal(), "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        let (message, at, body) = ("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, "{\"test\": 2432232314}");
        let signature = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        assert_eq!(signatures(&[secret], message, at, body), signature);
        let both =
            signatures(&[WebhookSecret::from_bytes(b"other"), WebhookSecret::from_bytes(&bytes)], message, at, body);
        assert_eq!(both.split(' ').nth(1), Some(signature));
        assert_eq!(both.split(' ').count(), 2);
    }

    #[test]
    fn a_delivery_is_tried_ten_times_ever_more_seldom_and_then_given_up() {
        let waits: Vec<_> = (0..12).map(|failures| wait_after(failures, 0.0).map(|wait| wait.as_secs())).collect();
        let hours = [2, 5, 10, 14, 20, 24].map(|hours| Some(hours * 3_600));
        let expected = [None, Some(5), Some(300), Some(1_800)].into_iter().chain(hours).chain([None, None]);
        assert_eq!(waits, expected.collect::<Vec<_>>());
        assert_eq!(wait_after(1, 1.0), Some(Duration::from_millis(5_500)));
        assert!(wait_after(9, 1.0).unwrap() < LONGEST_WAIT && LONGEST_RETRY_AFTER < LONGEST_WAIT);
        let pauses: Vec<_> = (0..9).map(|failures| pause_after(failures).as_secs()).collect();
        assert_eq!(pauses, [0, 1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(pause_after(u32::MAX).as_secs(), 60);
    }

    #[test]
    fn kinds_are_stored_as_their_names_and_those_of_webhooks_are_sent_to_none() {
        assert_eq!(WebhookKinds::parse(""), Some(WebhookKinds::All));
        let kinds = WebhookKinds::new(vec![EventKind::Deleted, EventKind::Registered, EventKind::Deleted]);
        assert_eq!(kinds.to_stored(), "deleted,registered");
        assert_eq!(WebhookKinds::parse("deleted,registered"), Some(kinds.clone()));
        for wrong in ["anything", "deleted,", ",", "deleted,deleted", "webhook_added"] {
            assert_eq!(WebhookKinds::parse(wrong), None, "{wrong}");
        }
        assert!(kinds.wants(EventKind::Deleted) && !kinds.wants(EventKind::LoggedIn));
        for kind in EventKind::ALL {
            assert_eq!(WebhookKinds::All.wants(kind), !kind.name().starts_with("webhook_"), "{}", kind.name());
        }
    }

    #[test]
    fn a_message_is_thin_and_its_id_is_the_same_for_the_same_event_alone() {
        let webhook = WebhookId::parse("0123456789abcdef").unwrap();
        let event = Event {
            id: 7,
            at: Timestamp::from_millis(1_420_411_895_144).unwrap(),
            kind: EventKind::LoggedIn,
            username: "AzureDiamond".to_owned(),
            actor: "AzureDiamond".to_owned(),
            ip: Some([203, 0, 113, 7].into()),
            detail: "0123".to_owned(),
        };
        let message = Message::of(&webhook, &event);
        assert_eq!(
            message.body,
            "{\"type\":\"logged_in\",\"timestamp\":\"2015-01-04T22:51:35.144Z\",\
             \"data\":{\"username\":\"AzureDiamond\",\"event\":7}}"
        );
        assert_eq!(Message::of(&webhook, &event), message);
        assert!(message.id.starts_with("msg_") && message.id.len() == 36 && !message.id.contains('.'));
        let other = Message::of(&WebhookId::parse("0123456789abcdee").unwrap(), &event);
        let again = Message::of(&webhook, &Event { at: Timestamp::from_millis(0).unwrap(), ..event });
        assert!(other.id != message.id && again.id != message.id);
    }
}
