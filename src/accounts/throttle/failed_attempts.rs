//! Refused attempts, on their way to the store as events.
//!
//! They change nothing that anyone was promised, and whoever makes them may make many. So a request does not wait for
//! their storing; once a second what was noted goes to the store in one write, and how much is noted is bounded. That a
//! request pays the same for an account that exists and for one that does not comes with it.

use std::collections::HashSet;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::accounts::throttle::limits::network;
use crate::domain::event::{EventKind, FailedAttempt};
use crate::system::clock::Monotonic;

/// How many failures are noted between two writes. Each has cost a hash, so it is only met by a store that is stuck.
const MAX_FAILURES: usize = 10_000;

/// What one source meets of its limits is noted once in this time.
const SAME_AFTER: Duration = Duration::from_secs(60);

/// How many throttled addresses and how many accounts are noted in that time. Nobody fills the disk by being refused, and
/// whoever has very many addresses does not keep it from being noted what happens to accounts.
const MAX_THROTTLED: usize = 100;

/// Refused attempts that the store does not know yet.
#[derive(Default)]
pub struct FailedAttempts(Mutex<Noted>);

#[derive(Default)]
struct Noted {
    attempts: Vec<FailedAttempt>,
    throttled_accounts: HashSet<String>,
    throttled_addresses: HashSet<Option<IpAddr>>,
    throttled_since: Option<Monotonic>,
}

impl FailedAttempts {
    /// Notes an attempt, which is made now.
    pub fn note(&self, attempt: FailedAttempt, now: Monotonic) {
        let mut noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if attempt.kind == EventKind::Throttled {
            let is_over = noted.throttled_since.is_none_or(|since| since.plus(SAME_AFTER) <= now);
            if is_over {
                noted.throttled_accounts.clear();
                noted.throttled_addresses.clear();
                noted.throttled_since = Some(now);
            }
            // However the name is spelled and wherever it comes from, it is one account's; else one client's.
            let is_new = match &attempt.username {
                Some(username) => note_source(&mut noted.throttled_accounts, username.key()),
                None => note_source(&mut noted.throttled_addresses, attempt.ip.map(network)),
            };
            if !is_new {
                return;
            }
        }
        if noted.attempts.len() < MAX_FAILURES {
            noted.attempts.push(attempt);
        }
    }

    /// Takes what has been noted, in the order in which it was.
    pub fn take(&self) -> Vec<FailedAttempt> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner).attempts)
    }

    /// Puts back what the store could not take now.
    pub fn put_back(&self, mut attempts: Vec<FailedAttempt>) {
        let mut noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        attempts.append(&mut noted.attempts);
        attempts.truncate(MAX_FAILURES);
        noted.attempts = attempts;
    }
}

/// Whether a source is to be noted: it is not yet, and there is room.
fn note_source<T: Eq + Hash>(sources: &mut HashSet<T>, source: T) -> bool {
    sources.len() < MAX_THROTTLED && sources.insert(source)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::user::Username;
    use crate::system::clock::Timestamp;

    fn refused(kind: EventKind, username: Option<&str>, ip: &str) -> FailedAttempt {
        FailedAttempt {
            at: Timestamp::MIN,
            kind,
            username: username.map(|name| Username::parse(name).unwrap()),
            ip: Some(ip.parse().unwrap()),
            detail: "",
        }
    }

    #[test]
    fn a_throttled_source_is_noted_once_a_minute_and_every_failure_each_time() {
        let failed_attempts = FailedAttempts::default();
        let after = |millis| Monotonic::default().plus(Duration::from_millis(millis));
        let note = |kind, ip: &str, millis| failed_attempts.note(refused(kind, None, ip), after(millis));
        for _ in 0..3 {
            note(EventKind::Throttled, "203.0.113.9", 0);
            note(EventKind::LoginFailed, "203.0.113.9", 0);
        }
        assert_eq!(failed_attempts.take().len(), 1 + 3);
        note(EventKind::Throttled, "203.0.113.9", 59_999);
        assert!(failed_attempts.take().is_empty());
        for number in 0..1_000 {
            note(EventKind::Throttled, &format!("10.0.{}.{}", number / 250, number % 250), 60_000);
        }
        assert_eq!(failed_attempts.take().len(), MAX_THROTTLED);
    }

    #[test]
    fn who_has_many_addresses_does_not_keep_other_throttled_sources_from_being_noted() {
        let (failed_attempts, now) = (FailedAttempts::default(), Monotonic::default());
        for number in 0..1_000 {
            failed_attempts.note(refused(EventKind::Throttled, None, &format!("2001:db8::{number}")), now);
        }
        assert_eq!(failed_attempts.take().len(), 1, "of one IPv6 subscriber");
        for number in 0..1_000 {
            failed_attempts.note(refused(EventKind::Throttled, None, &format!("2001:db8:{number}::1")), now);
        }
        failed_attempts.take();
        failed_attempts.note(refused(EventKind::Throttled, Some("AzureDiamond"), "203.0.113.9"), now);
        failed_attempts.note(refused(EventKind::Throttled, Some("azureDIAMOND"), "203.0.113.10"), now);
        assert_eq!(failed_attempts.take().len(), 1, "of an account");
    }
}
