//! A circuit breaker: it decides whether short reads run inline, on the async threads.
//!
//! While the pages are in memory, a short read takes less time than the hop to another thread. Where it has to wait for
//! the disk, it blocks every connection of its thread. Such a read opens the breaker: the next reads go to the blocking
//! threads. After a while one read is let through as a trial, and closes the breaker unless it has to wait, too.

use std::cell::Cell;
use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A read that takes less has not waited for the disk.
const QUICK: Duration = Duration::from_millis(1);

/// How long the breaker stays open after a read that had to wait for the disk.
const OPEN_FOR: Duration = Duration::from_secs(1);

thread_local! {
    /// How many bytes this thread had read from the disk when it was checked last.
    static READ: Cell<u64> = const { Cell::new(0) };
}

/// The circuit breaker.
pub(super) struct Inline {
    began: Instant,
    /// Until when the breaker is open, in microseconds since `began`; 0 where it is closed.
    open_until: AtomicU64,
}

/// A read that runs on an async thread.
pub(super) struct Turn {
    began: Instant,
    /// Whether it is a trial, while the breaker is open.
    is_trial: bool,
}

impl Default for Inline {
    fn default() -> Self {
        Self { began: Instant::now(), open_until: AtomicU64::new(0) }
    }
}

impl Inline {
    /// A turn, where a read may run on the async thread now.
    pub(super) fn begin(&self) -> Option<Turn> {
        self.begin_at(Instant::now())
    }

    fn begin_at(&self, began: Instant) -> Option<Turn> {
        let until = self.open_until.load(Ordering::Relaxed);
        if until == 0 {
            return Some(Turn { began, is_trial: false });
        }
        // One trial at a time.
        let may_try = self.micros(began) >= until
            && self.open_until.compare_exchange(until, self.next(began), Ordering::Relaxed, Ordering::Relaxed).is_ok();
        may_try.then_some(Turn { began, is_trial: true })
    }

    /// The read is done.
    pub(super) fn end(&self, turn: &Turn) {
        let now = Instant::now();
        // A slow read that did not touch the disk only waited for a processor, as it would on any other thread.
        self.end_at(turn, now, now - turn.began >= QUICK && has_read_from_disk());
    }

    fn end_at(&self, turn: &Turn, now: Instant, waited: bool) {
        if waited {
            self.open_until.store(self.next(now), Ordering::Relaxed);
        } else if turn.is_trial {
            self.open_until.store(0, Ordering::Relaxed);
        }
    }

    fn next(&self, from: Instant) -> u64 {
        self.micros(from + OPEN_FOR)
    }

    fn micros(&self, at: Instant) -> u64 {
        u64::try_from(at.duration_since(self.began).as_micros()).unwrap_or(u64::MAX)
    }
}

/// Whether this thread has read from the disk since the last call; `true` where the system does not say.
fn has_read_from_disk() -> bool {
    let io = fs::read_to_string("/proc/thread-self/io").unwrap_or_default();
    let read = io.lines().find_map(|line| line.strip_prefix("read_bytes: ")?.parse().ok());
    read.is_none_or(|read| READ.replace(read) != read)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_that_waited_for_the_disk_sends_the_others_open_until_one_has_not() {
        let inline = Inline::default();
        let at = |millis| inline.began + Duration::from_millis(millis);
        let (waiting, quick) = (inline.begin_at(at(0)).unwrap(), inline.begin_at(at(0)).unwrap());
        inline.end_at(&waiting, at(10), true);
        inline.end_at(&quick, at(11), false);
        assert!(inline.begin_at(at(1_009)).is_none(), "one that began before brings nobody back");
        let trial = inline.begin_at(at(1_010)).unwrap();
        assert!(inline.begin_at(at(1_011)).is_none(), "one tries");
        inline.end_at(&trial, at(1_020), true);
        assert!(inline.begin_at(at(2_019)).is_none());
        let trial = inline.begin_at(at(2_020)).unwrap();
        inline.end_at(&trial, at(2_021), false);
        assert!(inline.begin_at(at(2_021)).is_some() && inline.begin_at(at(2_021)).is_some());
    }
}
