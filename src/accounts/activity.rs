//! When sessions were last used, on its way to the store.
//!
//! A request must not wait for this, nor fail with it, so it is only noted here; once a second what has been noted goes
//! to the store in one write. A session is noted at most once a minute. What a crash loses is a minute of a time that
//! nobody was promised.
//!
//! Where very many sessions are used for the first time in a minute, storing that would cost more than answering them. So
//! a write takes a bounded number, those whose digests begin alike, and the next one goes on from there: neighbours in
//! the store are written together, and everyone's turn comes.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::domain::session::{Session, SessionPolicy};
use crate::domain::token::{DigestMap, TokenDigest};
use crate::system::clock::Timestamp;

/// How many sessions are noted at once. Beyond it some are noted at a later use.
const MAX_NOTED: usize = 100_000;

/// How many go to the store in one write, but for the rest of those that begin like the last.
const MAX_STORED: usize = 2_000;

/// One part for each first byte of a digest, with a lock of its own.
const PARTS: usize = 256;

/// Uses that the store does not know yet.
pub struct LastUsed {
    parts: Vec<Mutex<DigestMap<Use>>>,
    noted: AtomicUsize,
    /// The part whose turn it is.
    next: AtomicUsize,
}

struct Use {
    at: Timestamp,
    /// On its way: the store does not know it yet, and it needs no second note.
    leaving: bool,
}

impl Default for LastUsed {
    fn default() -> Self {
        Self {
            parts: (0..PARTS).map(|_| Mutex::default()).collect(),
            noted: AtomicUsize::new(0),
            next: AtomicUsize::new(0),
        }
    }
}

impl LastUsed {
    /// Notes that a session is in use now, where the store's own note of it is old.
    pub fn note(&self, digest: TokenDigest, session: &Session, now: Timestamp) {
        if session.last_used.plus(SessionPolicy::USE_IS_STORED_EVERY) > now {
            return;
        }
        if self.noted.load(Ordering::Relaxed) >= MAX_NOTED {
            return;
        }
        let mut uses = self.part(usize::from(digest.as_bytes()[0]));
        uses.entry(digest).or_insert_with(|| {
            self.noted.fetch_add(1, Ordering::Relaxed);
            Use { at: now, leaving: false }
        });
    }

    /// Takes some of what has been noted. [`LastUsed::stored`] must follow.
    pub fn take(&self) -> Vec<(TokenDigest, Timestamp)> {
        let mut taken = Vec::new();
        let first = self.next.load(Ordering::Relaxed);
        for number in first..first + PARTS {
            if taken.len() >= MAX_STORED {
                break;
            }
            for (digest, noted) in self.part(number).iter_mut() {
                noted.leaving = true;
                taken.push((*digest, noted.at));
            }
            self.next.store((number + 1) % PARTS, Ordering::Relaxed);
        }
        // The store's own order.
        taken.sort_unstable_by_key(|(digest, _)| *digest.as_bytes());
        taken
    }

    /// What was taken is stored, or lost.
    pub fn stored(&self) {
        for number in 0..PARTS {
            let mut uses = self.part(number);
            let before = uses.len();
            uses.retain(|_, noted| !noted.leaving);
            self.noted.fetch_sub(before - uses.len(), Ordering::Relaxed);
        }
    }

    fn part(&self, number: usize) -> MutexGuard<'_, DigestMap<Use>> {
        // Nothing that can panic runs under this lock.
        self.parts[number % PARTS].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::token::PlainToken;
    use crate::domain::user::UserId;

    #[test]
    fn everyones_turn_comes_and_a_session_is_noted_once_a_minute() {
        let last_used = LastUsed::default();
        let now = Timestamp::from_millis(60_000).unwrap();
        let session = |last_used| Session { user_id: UserId(1), last_used: Timestamp::from_millis(last_used).unwrap() };
        // As random as digests are.
        let digest = |number: u32| PlainToken::parse(&format!("{number:040x}")).unwrap().digest();
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
