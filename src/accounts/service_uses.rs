//! The last uses of services, kept in memory until a background job stores them: a request must neither wait for that
//! write nor fail with it.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::domain::service::{MAX_SERVICES, ServiceName};
use crate::system::clock::Timestamp;

/// How often the use of a service is stored at most.
const STORED_EVERY: Duration = Duration::from_secs(60);

/// The last use of each service that was noted, and whether it was taken to be stored.
#[derive(Default)]
pub struct ServiceUses(Mutex<HashMap<ServiceName, (Timestamp, bool)>>);

impl ServiceUses {
    /// Notes that a service is in use now, unless that was noted less than a minute ago.
    pub fn note(&self, name: &ServiceName, now: Timestamp) {
        let mut uses = self.lock();
        match uses.get_mut(name) {
            // A use in the future was noted while the clock was ahead.
            Some((at, _)) if *at <= now && now.since(*at) < STORED_EVERY => {}
            Some(noted) => *noted = (now, false),
            None => {
                if uses.len() >= MAX_SERVICES {
                    // Some of them are revoked by now; the others are noted once more.
                    uses.clear();
                }
                uses.insert(name.clone(), (now, false));
            }
        }
    }

    /// Takes what is to be stored.
    pub fn take(&self) -> Vec<(ServiceName, Timestamp)> {
        let mut taken = Vec::new();
        for (name, (at, is_taken)) in self.lock().iter_mut().filter(|(_, (_, is_taken))| !is_taken) {
            *is_taken = true;
            taken.push((name.clone(), *at));
        }
        taken.sort_unstable();
        taken
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ServiceName, (Timestamp, bool)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_use_is_stored_once_a_minute() {
        let uses = ServiceUses::default();
        let name = ServiceName::parse("wiki").unwrap();
        let at = |millis| Timestamp::from_millis(millis).unwrap();
        for millis in [1_000, 2_000, 60_999] {
            uses.note(&name, at(millis));
        }
        assert_eq!(uses.take(), [(name.clone(), at(1_000))]);
        uses.note(&name, at(60_999));
        assert_eq!(uses.take(), []);
        for millis in [61_000, 500] {
            uses.note(&name, at(millis));
            assert_eq!(uses.take(), [(name.clone(), at(millis))]);
        }
    }
}
