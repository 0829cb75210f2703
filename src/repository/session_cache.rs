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
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use bytes::Bytes;

use crate::domain::holder::{HeldToken, TokenHolder};
use crate::domain::service::{ServiceDetails, ServiceName};
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
const OVERHEAD: usize = 360;

/// About how many bytes more it takes where it tells other services whose it is, beside the texts of that.
const HOLDER_OVERHEAD: usize = 200;

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
    /// Whether there are tokens of other systems (the lowest bit), as it was found after the last change to all (the other
    /// bits, plus one; 0 where it was not looked for).
    imported_tokens: AtomicU64,
    /// All services, as of a version.
    services: RwLock<Option<(ReadVersion, Arc<[Service]>)>>,
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

/// A service, and the digest of its key.
pub(super) type Service = (ServiceDetails, TokenDigest);

/// Whose changes those of services count as: nobody's, for no user has this id. Other nodes take it for everybody's.
pub(super) const SERVICES: UserId = UserId(0);

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
    /// What other services are told; `None` where none has asked.
    holder: Option<Arc<TokenHolder>>,
}

impl Entry {
    fn size(&self) -> usize {
        let holder = self.holder.as_ref().map_or(0, |holder| {
            let email = holder.verified_email.as_ref().map_or(0, String::len);
            HOLDER_OVERHEAD + holder.username.as_str().len() + email
        });
        OVERHEAD + self.text.as_ref().map_or(0, |text| text.len()) + holder
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
            imported_tokens: AtomicU64::new(0),
            services: RwLock::default(),
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

    /// The same with what other services are told of it, where that has not changed since either.
    pub(super) fn find_held_token(&self, caller: &Caller) -> Option<HeldToken> {
        self.find_entry(caller, |entry| {
            let changes = &self.last_changes[bucket(entry.found.session.user_id)];
            let holder = entry.holder.as_ref().filter(|_| self.is_good(entry.version, &changes.any))?;
            let Found { session, created, expires } = entry.found;
            Some(HeldToken { session, created, expires, holder: Arc::clone(holder) })
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

    /// Keeps what was read. What a valid entry has beside it stays.
    pub(super) fn keep(&self, version: ReadVersion, digest: TokenDigest, found: Found, text: Option<&Bytes>) {
        self.keep_entry(digest, Entry { version, found, text: text.map(|text| text.as_ref().into()), holder: None });
    }

    /// Keeps what other services are told. What a valid entry has beside it stays.
    pub(super) fn keep_held_token(&self, version: ReadVersion, digest: TokenDigest, held: &HeldToken) {
        let HeldToken { session, created, expires, ref holder } = *held;
        let (found, holder) = (Found { session, created, expires }, Some(Arc::clone(holder)));
        self.keep_entry(digest, Entry { version, found, text: None, holder });
    }

    fn keep_entry(&self, digest: TokenDigest, mut entry: Entry) {
        let session = entry.found.session;
        let last_change = &self.last_changes[bucket(session.user_id)].any;
        let is_known = |known: &&mut Entry| known.found.session == session && self.is_good(known.version, last_change);
        let mut shard = self.shard(&digest);
        if let Some(known) = shard.entries.get_mut(&digest).filter(is_known) {
            if entry.text.is_none() && entry.holder.is_none() {
                return;
            }
            // As of the earlier version: no change between the two has come to it, and a later one comes to both.
            if entry.text.is_none() && known.text.is_some() {
                entry.text.clone_from(&known.text);
                entry.version = ReadVersion(entry.version.0.min(known.version.0));
            }
            if entry.holder.is_none() && known.holder.is_some() {
                entry.holder.clone_from(&known.holder);
                entry.version = ReadVersion(entry.version.0.min(known.version.0));
            }
        }
        if entry.size() > self.shard_size {
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

    /// The number of the last change to all, to be read before what [`Self::keep_imported_tokens`] keeps.
    pub(super) fn version_of_all(&self) -> ReadVersion {
        ReadVersion(self.last_change_to_all.load(Ordering::SeqCst))
    }

    /// Keeps whether there are tokens of other systems. They come by another process, whose changes are changes to all.
    pub(super) fn keep_imported_tokens(&self, version: ReadVersion, are_there: bool) {
        self.imported_tokens.store(((version.0 + 1) << 1) | u64::from(are_there), Ordering::SeqCst);
    }

    /// Whether there are tokens of other systems; nothing where that is not known.
    pub(super) fn has_imported_tokens(&self) -> Option<bool> {
        let known = self.imported_tokens.load(Ordering::SeqCst);
        let is_valid = self.lease.holds() && known >> 1 == self.version_of_all().0 + 1;
        is_valid.then_some(known & 1 == 1)
    }

    /// Whether this service has the key of this digest; nothing where the services are not known.
    pub(super) fn has_service(&self, name: &ServiceName, digest: &TokenDigest) -> Option<bool> {
        if !self.lease.holds() {
            return None;
        }
        let known = self.services.read().unwrap_or_else(PoisonError::into_inner);
        let (version, services) = known.as_ref()?;
        self.is_good(*version, &self.last_changes[bucket(SERVICES)].sessions).then(|| is_among(services, name, digest))
    }

    /// Keeps all services.
    pub(super) fn keep_services(&self, version: ReadVersion, services: Arc<[Service]>) {
        *self.services.write().unwrap_or_else(PoisonError::into_inner) = Some((version, services));
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

/// Whether this service is there, with the key of this digest.
pub(super) fn is_among(services: &[Service], name: &ServiceName, digest: &TokenDigest) -> bool {
    let found = services.binary_search_by(|(service, _)| service.name.cmp(name));
    found.is_ok_and(|at| services[at].1 == *digest)
}

fn bucket(user_id: UserId) -> usize {
    usize::try_from(user_id.0).unwrap_or_default() % BUCKETS
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::domain::authentication_methods::AuthenticationMethods;
    use crate::domain::public_id::PublicId;
    use crate::domain::rights::Rights;
    use crate::domain::token::PlainToken;
    use crate::domain::user::Username;

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
    fn what_services_are_told_stays_beside_the_text_and_goes_with_any_change() {
        let cache = cache(1 << 20);
        let (digest, text) = (PlainToken::generate().digest(), Bytes::from_static(b"{}"));
        let holder = Arc::new(TokenHolder {
            public_id: PublicId::from_bytes(&[1; 16]).unwrap(),
            username: Username::parse("ana").unwrap(),
            verified_email: None,
            rights: Rights::default(),
            reauthenticated: None,
            methods: AuthenticationMethods::NONE,
        });
        let Found { session, created, expires } = session(1);
        let held = HeldToken { session, created, expires, holder };
        let found = || (cache.find(&caller(digest)).is_some(), cache.find_held_token(&caller(digest)).is_some());
        cache.keep(cache.read_version(), digest, super::tests::session(1), Some(&text));
        cache.keep_held_token(cache.read_version(), digest, &held);
        assert_eq!(found(), (true, true));
        cache.keep(cache.read_version(), digest, super::tests::session(1), Some(&text));
        assert_eq!(found(), (true, true));
        let before = cache.read_version();
        cache.change(&[(UserId(1), Change::Text)]);
        assert_eq!(found(), (false, false));
        cache.keep_held_token(before, digest, &held);
        assert_eq!(found(), (false, false), "read before the change");
        cache.keep(cache.read_version(), digest, super::tests::session(1), Some(&text));
        assert_eq!(found(), (true, false), "nothing from before the change is taken along");
    }

    #[test]
    fn services_are_known_until_one_of_them_or_anything_changes() {
        let cache = cache(0);
        let name = |text| ServiceName::parse(text).unwrap();
        let (digest, other) = (PlainToken::generate().digest(), PlainToken::generate().digest());
        let service = ServiceDetails { name: name("wiki"), created: at(0), last_used: None };
        let keep = || cache.keep_services(cache.read_version(), [(service.clone(), digest)].into());
        let known = |text, digest| cache.has_service(&name(text), &digest);
        assert_eq!(known("wiki", digest), None);
        keep();
        assert_eq!(known("wiki", digest), Some(true));
        assert_eq!((known("wiki", other), known("git", digest)), (Some(false), Some(false)));
        cache.change(&[(UserId(1), Change::Sessions)]);
        assert_eq!(known("wiki", digest), Some(true));
        let (one, all) = (|| cache.change(&[(SERVICES, Change::Sessions)]), || cache.change_all());
        for change in [&one as &dyn Fn(), &all] {
            let before = cache.read_version();
            change();
            assert_eq!(known("wiki", digest), None);
            cache.keep_services(before, [(service.clone(), digest)].into());
            assert_eq!(known("wiki", digest), None, "read before the change");
            keep();
        }
        cache.lease().end();
        assert_eq!(known("wiki", digest), None);
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
