//! The last uses of sessions, kept in memory until a background job stores them.
//!
//! A request must neither wait for that write nor fail with it, so it only notes the use here. Once a second the job
//! stores what has been noted, in one write. A session is noted at most once a minute. A crash loses at most the last
//! minute of a time that nobody was promised.
//!
//! When very many sessions are used in the same minute, storing their uses would cost more than answering their
//! requests. So each write is bounded. It takes buckets of sessions whose digests share a first byte, which are
//! neighbours in the store, and the next write goes on with the next bucket: in time every session is stored.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::domain::session::{Session, SessionPolicy};
use crate::domain::token::{DigestMap, TokenDigest};
use crate::system::clock::Timestamp;

/// How many sessions may be noted at a time. Any beyond that are noted at a later use.
const MAX_NOTED: usize = 100_000;

/// From how many uses on a write takes no further bucket. The last bucket is always taken whole.
const MAX_STORED: usize = 2_000;

/// One bucket for each first byte of a digest, with a lock of its own.
const BUCKETS: usize = 256;

/// Uses that the store does not know yet.
pub struct LastUsed {
    buckets: Vec<Mutex<DigestMap<Use>>>,
    noted: AtomicUsize,
    /// The bucket whose turn it is.
    next: AtomicUsize,
}

struct Use {
    at: Timestamp,
    /// Taken by a write that has not ended: the store does not know of it yet, and it is not noted a second time.
    leaving: bool,
}

impl Default for LastUsed {
    fn default() -> Self {
        Self {
            buckets: (0..BUCKETS).map(|_| Mutex::default()).collect(),
            noted: AtomicUsize::new(0),
            next: AtomicUsize::new(0),
        }
    }
}

impl LastUsed {
    /// Notes that a session is in use now, unless its stored last use is less than a minute old.
    pub fn note(&self, digest: TokenDigest, session: &Session, now: Timestamp) {
        if session.last_used.plus(SessionPolicy::USE_IS_STORED_EVERY) > now {
            return;
        }
        if self.noted.load(Ordering::Relaxed) >= MAX_NOTED {
            return;
        }
        let mut uses = self.bucket(usize::from(digest.as_bytes()[0]));
        uses.entry(digest).or_insert_with(|| {
            self.noted.fetch_add(1, Ordering::Relaxed);
            Use { at: now, leaving: false }
        });
    }

    /// Takes the next buckets. [`LastUsed::stored`] must follow.
    pub fn take(&self) -> Vec<(TokenDigest, Timestamp)> {
        let mut taken = Vec::new();
        let first = self.next.load(Ordering::Relaxed);
        for number in first..first + BUCKETS {
            if taken.len() >= MAX_STORED {
                break;
            }
            for (digest, noted) in self.bucket(number).iter_mut() {
                noted.leaving = true;
                taken.push((*digest, noted.at));
            }
            self.next.store((number + 1) % BUCKETS, Ordering::Relaxed);
        }
        // In the order of the store's index.
        taken.sort_unstable_by_key(|(digest, _)| *digest.as_bytes());
        taken
    }

    /// Drops what was taken: it is stored, or could not be.
    pub fn stored(&self) {
        for number in 0..BUCKETS {
            let mut uses = self.bucket(number);
            let before = uses.len();
            uses.retain(|_, noted| !noted.leaving);
            self.noted.fetch_sub(before - uses.len(), Ordering::Relaxed);
        }
    }

    fn bucket(&self, number: usize) -> MutexGuard<'_, DigestMap<Use>> {
        // Nothing that can panic runs under this lock.
        self.buckets[number % BUCKETS].lock().unwrap_or_else(PoisonError::into_inner)
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
            // A session that is noted again does not hold up those behind it.
            last_used.note(some[1].0, &session(0), now);
            taken.extend(some.into_iter().map(|(digest, _)| *digest.as_bytes()));
        }
        taken.sort_unstable();
        taken.dedup();
        assert_eq!(taken.len(), 5_000);
        assert_eq!(last_used.take().len(), 1, "the last round's second one, and none that was noted on its way");
    }
}
