//! The lease: what is cached is believed only while it holds, that is, while the last look at the store for others'
//! changes began less than [`Lease::max_staleness`] ago.
//!
//! Whoever looks (the writer of a SQLite file, the feed of PostgreSQL) does so for as long as somebody asks, and renews
//! the lease after each look that succeeded. The time is that of the monotonic clock, which goes on while the machine is
//! suspended: other nodes go on, too.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::system::clock::{Clock, Monotonic};

/// Whether a lease of this length holds so long after its look began.
pub(super) fn is_live(since_look: Duration, lease: Duration) -> bool {
    since_look < lease
}

/// A lease on what was read of the store.
pub(super) struct Lease {
    max_staleness: Duration,
    clock: Clock,
    began: Monotonic,
    /// When the last look began, in microseconds since `began`; 0 where there was none.
    looked: AtomicU64,
    /// Whether somebody has asked since the last call of [`Lease::is_in_use`].
    asked: AtomicBool,
    /// Whether somebody is looking.
    watched: AtomicBool,
}

impl Lease {
    /// A lease that does not hold before the first look.
    pub(super) fn new(max_staleness: Duration) -> Self {
        let clock = Clock::system();
        // A moment earlier: a look that begins now is told from none.
        let began = clock.monotonic().minus(Duration::from_micros(1));
        Self {
            max_staleness,
            clock,
            began,
            looked: AtomicU64::new(0),
            asked: AtomicBool::new(false),
            watched: AtomicBool::new(false),
        }
    }

    /// For how long a look is worth something, from its beginning on.
    pub(super) fn max_staleness(&self) -> Duration {
        self.max_staleness
    }

    /// The time at which a look begins.
    pub(super) fn now(&self) -> Monotonic {
        self.clock.monotonic()
    }

    /// Whether it holds. Whoever asks will ask again, so the looks go on.
    pub(super) fn holds(&self) -> bool {
        if !self.asked.load(Ordering::Relaxed) {
            self.asked.store(true, Ordering::Relaxed);
        }
        let looked = self.looked.load(Ordering::SeqCst);
        looked > 0 && self.is_live_at(self.now(), looked)
    }

    /// Renews it: somebody has looked, beginning at `at`, and told of all that was found.
    pub(super) fn looked(&self, at: Monotonic) {
        self.looked.store(self.micros(at), Ordering::SeqCst);
    }

    /// Whether it was given and has run out by `at`.
    pub(super) fn has_lapsed(&self, at: Monotonic) -> bool {
        let looked = self.looked.load(Ordering::SeqCst);
        looked > 0 && !self.is_live_at(at, looked)
    }

    /// Ends it; `false` where it had ended.
    pub(super) fn end(&self) -> bool {
        self.looked.swap(0, Ordering::SeqCst) > 0
    }

    /// Whether the caller must ask for looks. One caller does, and they go on by themselves.
    pub(super) fn needs_look(&self) -> bool {
        if self.holds() {
            return false;
        }
        // In this order, against the other one below: either this caller finds that nobody looks, or whoever is about to
        // stop looking finds that somebody has asked.
        self.asked.store(true, Ordering::SeqCst);
        !self.watched.swap(true, Ordering::SeqCst)
    }

    /// Looks could not be asked for, so the next caller asks again.
    pub(super) fn was_not_asked(&self) {
        self.watched.store(false, Ordering::SeqCst);
    }

    /// Whether the looks should go on: somebody has asked since the last call.
    pub(super) fn is_in_use(&self) -> bool {
        self.watched.swap(false, Ordering::SeqCst);
        let is_in_use = self.asked.swap(false, Ordering::SeqCst);
        if is_in_use {
            self.watched.store(true, Ordering::SeqCst);
        }
        is_in_use
    }

    fn is_live_at(&self, at: Monotonic, looked: u64) -> bool {
        is_live(Duration::from_micros(self.micros(at).saturating_sub(looked)), self.max_staleness)
    }

    fn micros(&self, at: Monotonic) -> u64 {
        u64::try_from(at.since(self.began).as_micros()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_holds_from_a_look_on_and_no_longer_than_it_may() {
        let lease = Lease::new(Duration::from_secs(3_600));
        assert!(!lease.holds());
        let now = lease.now();
        lease.looked(now);
        assert!(lease.holds());
        lease.end();
        assert!(!lease.holds());
        let short = Lease::new(Duration::ZERO);
        short.looked(short.now());
        assert!(!short.holds());
    }

    #[test]
    fn one_asks_for_looks_and_they_end_when_nobody_asks_any_more() {
        let lease = Lease::new(Duration::from_secs(3_600));
        assert!(lease.needs_look() && !lease.needs_look(), "one asks");
        assert!(lease.is_in_use() && !lease.is_in_use());
        assert!(lease.needs_look(), "the looks had ended");
        lease.was_not_asked();
        assert!(lease.needs_look(), "they could not be asked for");
    }
}
