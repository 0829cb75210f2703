//! The session cache: sessions that were found lately, with their rendered users, so that a token check needs no read
//! of the store. Invalidation: a change to a user reaches the cache after its COMMIT and before it is acknowledged, and
//! entries that were read before it are not used any more. Changes by other processes and other nodes are found by
//! looks at the store. Each renews the [`Lease`]; while that does not hold, no entry is used at all.
//!
//! Versions: changes are numbered. An entry has the number of the last change before it was read. A table has the last
//! change of each bucket of users; users who share a bucket are read once more than needed, which does no harm. The
//! table tells changes to sessions, which are rare, from changes to the lists and the profile, which are frequent.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::domain::session::{Caller, Session, SessionCutoffs};
use crate::domain::token::{DigestMap, TokenDigest};
use crate::domain::user::UserId;
use crate::repository::lease::Lease;
use crate::system::clock::Timestamp;

/// How many shards there are, each with a lock of its own.
const SHARDS: usize = 16;

/// How many buckets there are for the last changes of users.
const BUCKETS: usize = 1 << 16;

/// About how many bytes an entry takes beside its text: a hash table may be half empty.
const OVERHEAD: usize = 350;

/// The session cache.
pub(super) struct SessionCache {
    shards: Vec<Mutex<Shard>>,
    /// How many bytes a shard may take.
    shard_size: usize,
    /// The number of the last change.
    changes: AtomicU64,
    /// The last changes of the users of each bucket.
    last_changes: Vec<LastChanges>,
    /// The last change that may have been to any user.
    last_change_to_all: AtomicU64,
    lease: Arc<Lease>,
}

/// What a change affects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// A user's sessions, or whether the account is active; perhaps the text, too.
    Sessions,
    /// The rendered text alone: the lists and the profile.
    Text,
}

/// The numbers of the last changes of some users.
#[derive(Default)]
struct LastChanges {
    sessions: AtomicU64,
    /// Of whatever kind.
    any: AtomicU64,
}

/// The number of the last change when a read began.
#[derive(Clone, Copy)]
pub(super) struct ReadVersion(u64);

#[derive(Default)]
struct Shard {
    entries: DigestMap<Entry>,
    /// The order in which the entries were added; the oldest are evicted first.
    order: VecDeque<TokenDigest>,
    size: usize,
}

/// A session as it was found in the store, with the times by which it ends.
#[derive(Clone, Copy)]
pub(super) struct Found {
    pub(super) session: Session,
    pub(super) created: Timestamp,
    pub(super) expires: Option<Timestamp>,
}

impl Found {
    fn is_live(&self, cutoffs: &SessionCutoffs) -> bool {
        self.created > cutoffs.created_after
            && self.session.last_used > cutoffs.used_after
            && self.expires.is_none_or(|expires| expires > cutoffs.expires_after)
    }
}

struct Entry {
    version: ReadVersion,
    found: Found,
    /// The rendered user; `None` where only the session was looked up. It is copied and not shared: a reference count
    /// would cost one more cache miss of the processor.
    text: Option<Box<[u8]>>,
}

impl Entry {
    fn size(&self) -> usize {
        OVERHEAD + self.text.as_ref().map_or(0, |text| text.len())
    }
}

impl SessionCache {
    /// A cache of about `size` bytes at most. One of 0 bytes keeps nothing.
    pub(super) fn new(size: usize, lease: Arc<Lease>) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            shard_size: size / SHARDS,
            changes: AtomicU64::new(0),
            last_changes: (0..BUCKETS).map(|_| LastChanges::default()).collect(),
            last_change_to_all: AtomicU64::new(0),
            lease,
        }
    }

    /// A live session, where it is cached and its user's sessions have not changed since.
    pub(super) fn find_session(&self, caller: &Caller) -> Option<Session> {
        self.find_entry(caller, |entry| entry.found.session)
    }

    /// The same with its user's text, where neither has changed since.
    pub(super) fn find(&self, caller: &Caller) -> Option<(Session, Bytes)> {
        self.find_entry(caller, |entry| {
            let changes = &self.last_changes[bucket(entry.found.session.user_id)];
            let text = entry.text.as_ref().filter(|_| self.is_good(entry.version, &changes.any))?;
            Some((entry.found.session, Bytes::copy_from_slice(text)))
        })?
    }

    fn find_entry<T>(&self, caller: &Caller, read: impl FnOnce(&Entry) -> T) -> Option<T> {
        if !self.lease.holds() {
            return None;
        }
        let shard = self.shard(&caller.digest);
        let entry = shard.entries.get(&caller.digest)?;
        let changes = &self.last_changes[bucket(entry.found.session.user_id)];
        (entry.found.is_live(&caller.cutoffs) && self.is_good(entry.version, &changes.sessions)).then(|| read(entry))
    }

    /// Whether what was read at this version is still valid, by the number of the last change to it.
    fn is_good(&self, version: ReadVersion, last_change: &AtomicU64) -> bool {
        last_change.load(Ordering::SeqCst).max(self.last_change_to_all.load(Ordering::SeqCst)) <= version.0
    }

    /// To be called before a read whose result will be kept.
    pub(super) fn read_version(&self) -> ReadVersion {
        ReadVersion(self.changes.load(Ordering::SeqCst))
    }

    /// Keeps what was read. Where it is without a text, a valid entry that has one stays.
    pub(super) fn keep(&self, version: ReadVersion, digest: TokenDigest, found: Found, text: Option<&Bytes>) {
        let entry = Entry { version, found, text: text.map(|text| text.as_ref().into()) };
        if entry.size() > self.shard_size {
            return;
        }
        let mut shard = self.shard(&digest);
        let last_change = &self.last_changes[bucket(found.session.user_id)].any;
        let is_known = |known: &Entry| known.found.session == found.session && self.is_good(known.version, last_change);
        if text.is_none() && shard.entries.get(&digest).is_some_and(is_known) {
            return;
        }
        shard.size += entry.size();
        match shard.entries.insert(digest, entry) {
            Some(earlier) => shard.size -= earlier.size(),
            None => shard.order.push_back(digest),
        }
        while shard.size > self.shard_size {
            let Some(oldest) = shard.order.pop_front() else { break };
            if let Some(entry) = shard.entries.remove(&oldest) {
                shard.size -= entry.size();
            }
        }
    }

    /// The store has recorded when sessions were last used.
    pub(super) fn used(&self, uses: &[(TokenDigest, Timestamp)]) {
        for (digest, at) in uses {
            if let Some(entry) = self.shard(digest).entries.get_mut(digest) {
                let last_used = &mut entry.found.session.last_used;
                *last_used = (*last_used).max(*at);
            }
        }
    }

    /// These users have changed.
    pub(super) fn change(&self, users: &[(UserId, Change)]) {
        for (user_id, change) in users {
            let number = self.changes.fetch_add(1, Ordering::SeqCst) + 1;
            let last = &self.last_changes[bucket(*user_id)];
            if *change == Change::Sessions {
                last.sessions.fetch_max(number, Ordering::SeqCst);
            }
            last.any.fetch_max(number, Ordering::SeqCst);
        }
    }

    /// Any user may have changed.
    pub(super) fn change_all(&self) {
        let number = self.changes.fetch_add(1, Ordering::SeqCst) + 1;
        self.last_change_to_all.fetch_max(number, Ordering::SeqCst);
    }

    /// The lease on which its entries are used.
    pub(super) fn lease(&self) -> &Lease {
        &self.lease
    }

    /// Whether it keeps anything.
    pub(super) fn is_on(&self) -> bool {
        self.shard_size > 0
    }

    fn shard(&self, digest: &TokenDigest) -> MutexGuard<'_, Shard> {
        let number = usize::from(digest.as_bytes()[31]) % SHARDS;
        // Nothing that can panic runs under this lock.
        self.shards[number].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn bucket(user_id: UserId) -> usize {
    usize::try_from(user_id.0).unwrap_or_default() % BUCKETS
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::domain::token::PlainToken;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis).unwrap()
    }

    fn caller(digest: TokenDigest) -> Caller {
        Caller { digest, cutoffs: SessionCutoffs { used_after: at(0), ..SessionCutoffs::EVER }, ip: None }
    }

    fn session(user_id: i64) -> Found {
        Found { session: Session { user_id: UserId(user_id), last_used: at(1_000) }, created: at(0), expires: None }
    }

    fn lease() -> Arc<Lease> {
        // Long, so that the test does not depend on the time it takes.
        Arc::new(Lease::new(Duration::from_secs(3_600)))
    }

    fn cache(size: usize) -> SessionCache {
        let cache = SessionCache::new(size, lease());
        cache.lease().looked(cache.lease().now());
        cache
    }

    #[test]
    fn what_was_read_before_a_change_is_not_used() {
        let cache = cache(1 << 20);
        let (digest, text) = (PlainToken::generate().digest(), Bytes::from_static(b"{}"));
        let keep = |version| cache.keep(version, digest, session(1), Some(&text));
        let found = || cache.find(&caller(digest)).is_some();
        keep(cache.read_version());
        assert!(found());
        cache.change(&[(UserId(2), Change::Sessions)]);
        assert!(found(), "another user");
        let before = cache.read_version();
        cache.change(&[(UserId(1), Change::Sessions)]);
        assert!(!found());
        keep(before);
        assert!(!found(), "read while it was changed");
        keep(cache.read_version());
        assert!(found());
        cache.change_all();
        assert!(!found());
    }

    #[test]
    fn a_session_outlives_a_change_to_what_its_user_has_and_the_text_does_not() {
        let cache = cache(1 << 20);
        let (digest, text) = (PlainToken::generate().digest(), Bytes::from_static(b"{}"));
        let keep = |text| cache.keep(cache.read_version(), digest, session(1), text);
        let known = || (cache.find_session(&caller(digest)).is_some(), cache.find(&caller(digest)).is_some());
        keep(None);
        assert_eq!(known(), (true, false), "the text was not read");
        keep(Some(&text));
        assert_eq!(known(), (true, true));
        keep(None);
        assert_eq!(known(), (true, true), "nothing has happened to the text");
        cache.change(&[(UserId(1), Change::Text)]);
        assert_eq!(known(), (true, false));
        cache.change(&[(UserId(1), Change::Sessions)]);
        assert_eq!(known(), (false, false));
    }

    #[test]
    fn nothing_is_used_without_a_live_lease() {
        let cache = SessionCache::new(1 << 20, lease());
        let (digest, text) = (PlainToken::generate().digest(), Bytes::from_static(b"{}"));
        cache.keep(cache.read_version(), digest, session(1), Some(&text));
        assert!(cache.find(&caller(digest)).is_none());
        cache.lease().looked(cache.lease().now());
        assert!(cache.find(&caller(digest)).is_some());
        cache.lease().end();
        assert!(cache.find(&caller(digest)).is_none());
    }

    #[test]
    fn a_session_ends_by_its_age_by_its_idle_timeout_and_by_its_own_end_here_too() {
        let cache = cache(1 << 20);
        let digest = PlainToken::generate().digest();
        let found = Found { created: at(500), expires: Some(at(4_000)), ..session(1) };
        cache.keep(cache.read_version(), digest, found, Some(&Bytes::new()));
        for (created_after, used_after, expires_after, expected) in
            [(499, 999, 3_999, true), (500, 999, 3_999, false), (499, 1_000, 3_999, false), (499, 999, 4_000, false)]
        {
            let cutoffs = SessionCutoffs {
                created_after: at(created_after),
                used_after: at(used_after),
                expires_after: at(expires_after),
            };
            assert_eq!(cache.find(&Caller { cutoffs, ..caller(digest) }).is_some(), expected);
        }
        cache.used(&[(digest, at(2_000))]);
        let cutoffs = SessionCutoffs { used_after: at(1_500), ..SessionCutoffs::EVER };
        assert!(cache.find(&Caller { cutoffs, ..caller(digest) }).is_some());
    }

    #[test]
    fn it_stays_within_its_size() {
        let cache = cache(SHARDS * 10 * (OVERHEAD + 100));
        let text = Bytes::from(vec![b' '; 100]);
        for _ in 0..10_000 {
            cache.keep(cache.read_version(), PlainToken::generate().digest(), session(1), Some(&text));
        }
        for shard in &cache.shards {
            let shard = shard.lock().unwrap();
            assert_eq!((shard.entries.len(), shard.order.len()), (10, 10));
        }
        let none = SessionCache::new(0, lease());
        none.keep(none.read_version(), PlainToken::generate().digest(), session(1), Some(&text));
        assert!(none.shards.iter().all(|shard| shard.lock().unwrap().entries.is_empty()));
    }
}
