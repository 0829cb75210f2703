//! Refused attempts, on their way to the store as events.
//!
//! They change nothing that anyone was promised, and whoever makes them may make many. So a request does not wait for
//! their storing; once a second what was noted goes to the store in one write, and how much is noted is bounded. That a
//! request pays the same for an account that exists and for one that does not comes with it.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::clock::Timestamp;
use crate::event::{EventKind, RefusedAttempt};
use crate::user::Username;

/// How many failures are noted between two writes. Each has cost a hash, so it is only met by a store that is stuck.
const MAX_FAILURES: usize = 10_000;

/// What one source meets of its limits is noted once in this time.
const SAME_AFTER: Duration = Duration::from_secs(60);

/// How many throttled sources are noted in that time. Nobody fills the disk by being refused.
const MAX_THROTTLED: usize = 100;

/// Refused attempts that the store does not know yet.
#[derive(Default)]
pub struct Refusals(Mutex<Noted>);

#[derive(Default)]
struct Noted {
    attempts: Vec<RefusedAttempt>,
    throttled: HashSet<(Option<String>, Option<IpAddr>, &'static str)>,
    throttled_since: Option<Timestamp>,
}

impl Refusals {
    /// Notes an attempt.
    pub fn note(&self, attempt: RefusedAttempt) {
        let mut noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if attempt.kind == EventKind::Throttled {
            let is_over = noted.throttled_since.is_none_or(|since| since.plus(SAME_AFTER) <= attempt.at);
            if is_over {
                noted.throttled.clear();
                noted.throttled_since = Some(attempt.at);
            }
            // However the name is spelled and wherever it comes from, it is one account's; else one address's.
            let account = attempt.username.as_ref().map(Username::key);
            let address = if account.is_none() { attempt.ip } else { None };
            let source = (account, address, attempt.detail);
            if noted.throttled.len() >= MAX_THROTTLED || !noted.throttled.insert(source) {
                return;
            }
        }
        if noted.attempts.len() < MAX_FAILURES {
            noted.attempts.push(attempt);
        }
    }

    /// Takes what has been noted, in the order in which it was.
    pub fn take(&self) -> Vec<RefusedAttempt> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner).attempts)
    }

    /// Puts back what the store could not take now.
    pub fn put_back(&self, mut attempts: Vec<RefusedAttempt>) {
        let mut noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        attempts.append(&mut noted.attempts);
        attempts.truncate(MAX_FAILURES);
        noted.attempts = attempts;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_throttled_source_is_noted_once_a_minute_and_every_failure_each_time() {
        let refusals = Refusals::default();
        let note = |kind, ip: u32, millis| {
            refusals.note(RefusedAttempt {
                at: Timestamp::from_millis(millis).unwrap(),
                kind,
                username: None,
                ip: Some(IpAddr::V4(ip.into())),
                detail: "address",
            });
        };
        for _ in 0..3 {
            note(EventKind::Throttled, 1, 0);
            note(EventKind::LoginFailed, 1, 0);
        }
        assert_eq!(refusals.take().len(), 1 + 3);
        note(EventKind::Throttled, 1, 59_999);
        assert!(refusals.take().is_empty());
        for ip in 0..1_000 {
            note(EventKind::Throttled, ip, 60_000);
        }
        assert_eq!(refusals.take().len(), MAX_THROTTLED);
    }
}
