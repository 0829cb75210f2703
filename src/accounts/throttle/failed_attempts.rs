//! Failed attempts, kept in memory until a background job stores them as events.
//!
//! A failed attempt changes nothing that anyone was promised, and an attacker makes many. So no request waits for its
//! event to be stored: once a second the job stores what was noted, in one write, and how much is noted is bounded. It
//! also keeps the time of an answer the same, whether or not the account exists.

use std::collections::HashSet;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::domain::event::{EventKind, FailedAttempt};
use crate::system::address::network;
use crate::system::clock::Monotonic;

/// How many attempts are noted between two writes. Each failure has cost a hash, so only a store that is stuck reaches
/// it.
const MAX_ATTEMPTS: usize = 10_000;

/// A throttled account or address is noted once in this time, however often it is refused.
const SAME_AFTER: Duration = Duration::from_secs(60);

/// How many throttled accounts are noted in that time, and how many addresses. So throttled attempts cannot fill the
/// disk. The two are counted apart: an attacker with very many addresses cannot keep throttled accounts from being
/// noted.
const MAX_THROTTLED: usize = 100;

/// Failed attempts that the store does not know of yet.
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
    /// Notes an attempt that was made now.
    pub fn note(&self, attempt: FailedAttempt, now: Monotonic) {
        let mut noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if attempt.kind == EventKind::Throttled {
            let is_over = noted.throttled_since.is_none_or(|since| since.plus(SAME_AFTER) <= now);
            if is_over {
                noted.throttled_accounts.clear();
                noted.throttled_addresses.clear();
                noted.throttled_since = Some(now);
            }
            // By account where a name was given, however it is spelled and wherever it comes from; otherwise by client.
            let is_new = match &attempt.username {
                Some(username) => is_first(&mut noted.throttled_accounts, username.key()),
                None => is_first(&mut noted.throttled_addresses, attempt.ip.map(network)),
            };
            if !is_new {
                return;
            }
        }
        if noted.attempts.len() < MAX_ATTEMPTS {
            noted.attempts.push(attempt);
        }
    }

    /// Takes the attempts in the order in which they were noted.
    pub fn take(&self) -> Vec<FailedAttempt> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner).attempts)
    }

    /// Puts back attempts that could not be stored.
    pub fn put_back(&self, mut attempts: Vec<FailedAttempt>) {
        let mut noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        attempts.append(&mut noted.attempts);
        attempts.truncate(MAX_ATTEMPTS);
        noted.attempts = attempts;
    }
}

/// Whether to note a throttled account or address: it is not noted yet, and there is room.
fn is_first<T: Eq + Hash>(noted: &mut HashSet<T>, throttled: T) -> bool {
    noted.len() < MAX_THROTTLED && noted.insert(throttled)
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
    fn a_throttled_account_or_address_is_noted_once_a_minute_and_every_failure_each_time() {
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
    fn whoever_has_many_addresses_does_not_keep_throttled_accounts_from_being_noted() {
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
