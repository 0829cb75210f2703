//! When sessions were last used, on its way to the store.
//!
//! A request must not wait for this, nor fail with it, so it is only noted here; once a second what has been noted goes
//! to the store in one write. A session is noted at most once a minute. What a crash loses is a minute of a time that
//! nobody was promised.
//!
//! Where very many sessions are used for the first time in a minute, storing that would cost more than answering them. So
//! a write takes a bounded number, in the order of the store's key, and the next one goes on from there: neighbours in
//! the store are written together, and everyone's turn comes.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::{Mutex, PoisonError};

use crate::clock::Timestamp;
use crate::session::{Session, SessionPolicy};
use crate::token::TokenDigest;

/// How many sessions are noted at once. Beyond it some are noted at a later use.
const MAX_NOTED: usize = 100_000;

/// How many go to the store in one write.
const MAX_STORED: usize = 2_000;

/// Uses that the store does not know yet.
#[derive(Default)]
pub struct LastUsed(Mutex<Noted>);

#[derive(Default)]
struct Noted {
    uses: BTreeMap<[u8; 32], Timestamp>,
    /// Those that are on their way: the store does not know them yet, and they need no second note.
    leaving: BTreeSet<[u8; 32]>,
    /// The last that went to the store.
    last: [u8; 32],
}

impl LastUsed {
    /// Notes that a session is in use now, where the store's own note of it is old.
    pub fn note(&self, digest: TokenDigest, session: &Session, now: Timestamp) {
        if session.last_used.plus(SessionPolicy::USE_IS_STORED_EVERY) > now {
            return;
        }
        let mut noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if noted.uses.len() < MAX_NOTED && !noted.leaving.contains(digest.as_bytes()) {
            noted.uses.entry(*digest.as_bytes()).or_insert(now);
        }
    }

    /// Takes some of what has been noted, in the order of the store's key. [`LastUsed::stored`] must follow.
    pub fn take(&self) -> Vec<(TokenDigest, Timestamp)> {
        let mut noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let behind = (Bound::Excluded(noted.last), Bound::Unbounded);
        let mut keys: Vec<_> = noted.uses.range(behind).map(|(key, _)| *key).take(MAX_STORED).collect();
        if keys.len() < MAX_STORED {
            // Round the end and on from the beginning.
            let left = MAX_STORED - keys.len();
            keys.extend(noted.uses.range(..=noted.last).map(|(key, _)| *key).take(left).collect::<Vec<_>>());
        }
        noted.last = keys.last().copied().unwrap_or(noted.last);
        noted.leaving.extend(&keys);
        keys.into_iter()
            .filter_map(|key| noted.uses.remove(&key).map(|at| (TokenDigest::from_bytes(key), at)))
            .collect()
    }

    /// What was taken is stored, or lost.
    pub fn stored(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).leaving.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::user::UserId;

    #[test]
    fn everyones_turn_comes_and_a_session_is_noted_once_a_minute() {
        let last_used = LastUsed::default();
        let now = Timestamp::from_millis(60_000).unwrap();
        let session = |last_used| Session { user_id: UserId(1), last_used: Timestamp::from_millis(last_used).unwrap() };
        let digest = |number: u32| {
            let mut bytes = [0; 32];
            bytes[..4].copy_from_slice(&number.to_be_bytes());
            TokenDigest::from_bytes(bytes)
        };
        for number in 0..5_000 {
            last_used.note(digest(number), &session(0), now);
            last_used.note(digest(10_000 + number), &session(1), now);
        }
        let mut taken = Vec::new();
        for _ in 0..3 {
            let some = last_used.take();
            last_used.note(some[0].0, &session(0), now);
            last_used.stored();
            // One that comes again does not hold up those behind it.
            last_used.note(some[1].0, &session(0), now);
            taken.extend(some.into_iter().map(|(digest, _)| *digest.as_bytes()));
        }
        taken.sort_unstable();
        taken.dedup();
        assert_eq!(taken.len(), 5_000);
        assert_eq!(last_used.take().len(), 1, "the last round's second one, and none that was noted on its way");
    }
}
