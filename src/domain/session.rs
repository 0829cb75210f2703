//! Sessions: the policy that says how long one lives, who the caller is, and what an owner sees.

use std::net::IpAddr;
use std::time::Duration;

use crate::domain::authentication_methods::AuthenticationMethods;
use crate::domain::token::TokenDigest;
use crate::domain::user::UserId;
use crate::system::clock::Timestamp;

/// How long a session lives and how many an account may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionPolicy {
    /// How long after its login it ends; `None` is never.
    pub lifetime: Option<Duration>,
    /// How long after its last use it ends (the idle timeout); `None` is never.
    pub idle_timeout: Option<Duration>,
    /// How many live sessions an account may have. A login beyond that evicts the least recently used one.
    pub max_per_user: u32,
}

impl SessionPolicy {
    pub(crate) const HIGHEST_MAX_PER_USER: u32 = 10_000;

    /// How old the stored last use of a session in use may be.
    pub(crate) const USE_IS_STORED_EVERY: Duration = Duration::from_secs(60);

    /// What a session must satisfy to be live at `now`.
    #[must_use]
    pub fn cutoffs_at(&self, now: Timestamp) -> SessionCutoffs {
        let since = |time: Option<Duration>| time.map_or(Timestamp::MIN, |time| now.minus(time));
        // The stored last use may be a minute old: nobody is to lose a session for that.
        let idle_timeout = self.idle_timeout.map(|time| time + Self::USE_IS_STORED_EVERY);
        SessionCutoffs { created_after: since(self.lifetime), used_after: since(idle_timeout), expires_after: now }
    }

    /// When a session ends by itself, if it is not used again. `end` is its own, where it has one.
    #[must_use]
    pub fn expires(&self, created: Timestamp, last_used: Timestamp, end: Option<Timestamp>) -> Option<Timestamp> {
        let by_lifetime = self.lifetime.map(|time| created.plus(time));
        let by_idle_timeout = self.idle_timeout.map(|time| last_used.plus(time));
        by_lifetime.into_iter().chain(by_idle_timeout).chain(end).min()
    }
}

/// What a session must satisfy to be live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionCutoffs {
    /// A session made at this moment or before has ended by its lifetime.
    pub created_after: Timestamp,
    /// A session last used at this moment or before has ended by its idle timeout.
    pub used_after: Timestamp,
    /// A session that was to end at this moment or before has ended: one of another system may bring its own end.
    pub expires_after: Timestamp,
}

impl SessionCutoffs {
    /// Those by which no session has ended.
    pub const EVER: Self =
        Self { created_after: Timestamp::MIN, used_after: Timestamp::MIN, expires_after: Timestamp::MIN };
}

/// How long a session is fresh.
pub(crate) const FRESH_FOR: Duration = Duration::from_secs(10 * 60);

/// Whether a session in which the account's password was given again at `reauthenticated` is fresh: for ten minutes, it
/// stands for the password. A time in the future counts as none: the clock was ahead, and may have been by any amount.
#[must_use]
pub fn is_fresh(reauthenticated: Timestamp, now: Timestamp) -> bool {
    reauthenticated <= now && now.since(reauthenticated) < FRESH_FOR
}

/// The caller: the digest of the presented token, and what its session must satisfy. The store checks the session again
/// in the transaction that serves the request, so that nothing is done for one that has just ended.
#[derive(Clone, Copy)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Caller {
    pub digest: TokenDigest,
    pub cutoffs: SessionCutoffs,
    pub ip: Option<IpAddr>,
}

/// A session to be opened: the digest of its token, and where the login came from.
#[derive(Clone)]
#[expect(missing_docs, reason = "the names say it")]
pub struct NewSession {
    pub digest: TokenDigest,
    pub user_agent: UserAgent,
    pub ip: Option<IpAddr>,
    /// By what its person has shown who they are, without the second factor, which the store adds where it was due.
    pub methods: AuthenticationMethods,
}

/// A client's `User-Agent`, safe to store and to show: at most 256 characters, none of them a control character.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserAgent(String);

impl UserAgent {
    const MAX_CHARS: usize = 256;

    /// Drops control characters, and cuts what is longer than may be stored.
    #[must_use]
    pub fn from_header(text: &str) -> Self {
        Self(text.chars().filter(|c| !c.is_control()).take(Self::MAX_CHARS).collect())
    }

    /// Of a session that was imported from another system.
    #[must_use]
    pub fn of_import(source: &str) -> Self {
        Self::from_header(&format!("imported from {source}"))
    }

    /// As it was stored.
    #[must_use]
    pub fn from_stored(text: String) -> Self {
        Self(text)
    }

    /// As it is stored.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A live session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Session {
    pub user_id: UserId,
    /// Up to a minute old where the session is in constant use.
    pub last_used: Timestamp,
}

/// A session as its owner sees it. User agent and address are those of its login.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct SessionDetails {
    pub id: SessionId,
    pub created: Timestamp,
    pub last_used: Timestamp,
    /// When it ends, whatever else holds: a session of another system may bring its own end.
    pub expires: Option<Timestamp>,
    pub user_agent: UserAgent,
    pub ip: Option<IpAddr>,
}

/// Identifies a session among its owner's: the first 16 hex digits of its token's digest. Nobody can log in with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionId(String);

impl SessionId {
    const DIGITS: usize = 16;

    /// The id of the session of this token.
    #[must_use]
    pub fn of(digest: &TokenDigest) -> Self {
        Self(crate::domain::token::hex(&digest.as_bytes()[..Self::DIGITS / 2]))
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
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis).unwrap()
    }

    #[test]
    fn a_session_ends_by_its_lifetime_or_its_idle_timeout_whichever_comes_first() {
        let policy = SessionPolicy { lifetime: Some(DAY * 365), idle_timeout: Some(DAY * 30), max_per_user: 100 };
        let created = at(0);
        assert_eq!(policy.expires(created, created, None), Some(created.plus(DAY * 30)));
        assert_eq!(policy.expires(created, created.plus(DAY * 360), None), Some(created.plus(DAY * 365)));
        for (end, expected) in [(DAY, DAY), (DAY * 31, DAY * 30)] {
            assert_eq!(policy.expires(created, created, Some(created.plus(end))), Some(created.plus(expected)));
        }
        let cutoffs = policy.cutoffs_at(created.plus(DAY * 30 + SessionPolicy::USE_IS_STORED_EVERY));
        assert_eq!(cutoffs.used_after, created, "used at this moment or before: over");
    }

    #[test]
    fn a_user_agent_is_cut_at_256_characters_and_loses_its_control_characters() {
        assert_eq!(UserAgent::from_header("a\u{1b}[31mb\u{85}c\td").as_str(), "a[31mbcd");
        assert_eq!(UserAgent::from_header(&"ü".repeat(300)).as_str().chars().count(), 256);
    }

    #[test]
    fn a_session_is_fresh_for_ten_minutes_and_never_by_a_time_in_the_future() {
        let reauthenticated = at(1_000);
        for (now, expected) in [(1_000, true), (600_999, true), (601_000, false), (999, false), (0, false)] {
            assert_eq!(is_fresh(reauthenticated, at(now)), expected, "{now}");
        }
        assert!(!is_fresh(Timestamp::MAX, at(0)) && !is_fresh(Timestamp::MIN, Timestamp::MAX));
    }

    #[test]
    fn a_session_that_never_ends_has_no_end() {
        let policy = SessionPolicy { lifetime: None, idle_timeout: None, max_per_user: 100 };
        assert_eq!(policy.expires(at(0), at(0), None), None);
        let cutoffs = policy.cutoffs_at(at(0));
        assert_eq!((cutoffs.created_after, cutoffs.used_after), (Timestamp::MIN, Timestamp::MIN));
    }
}
