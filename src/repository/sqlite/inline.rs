//! Whether short reads are done on the async threads.
//!
//! While the pages are in memory, a short read takes less time than the hop to another thread. Where it has to wait for
//! the disk it holds up every connection of its thread. Such a read sends those that follow to the blocking threads for
//! a while, and then one of them tries again.

use std::cell::Cell;
use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How long a read may take without a question.
const QUICK: Duration = Duration::from_millis(1);

/// How long the others stay away after one that had to wait for the disk.
const AWAY_FOR: Duration = Duration::from_secs(1);

thread_local! {
    /// How many bytes this thread had read from the disk when that was asked last.
    static READ: Cell<u64> = const { Cell::new(0) };
}

/// The circuit breaker.
pub(super) struct Inline {
    began: Instant,
    /// Until when reads stay away, in microseconds from the beginning; 0 where they do not.
    away_until: AtomicU64,
}

/// A read that is done on an async thread.
pub(super) struct Turn {
    began: Instant,
    /// Whether it is the one that tries again.
    is_trial: bool,
}

impl Default for Inline {
    fn default() -> Self {
        Self { began: Instant::now(), away_until: AtomicU64::new(0) }
    }
}

impl Inline {
    /// A turn, where reads are done on the async threads now.
    pub(super) fn begin(&self) -> Option<Turn> {
        self.begin_at(Instant::now())
    }

    fn begin_at(&self, began: Instant) -> Option<Turn> {
        let until = self.away_until.load(Ordering::Relaxed);
        if until == 0 {
            return Some(Turn { began, is_trial: false });
        }
        // One tries; the others stay away until it is done.
        let may_try = self.micros(began) >= until
            && self.away_until.compare_exchange(until, self.next(began), Ordering::Relaxed, Ordering::Relaxed).is_ok();
        may_try.then_some(Turn { began, is_trial: true })
    }

    /// The read is done.
    pub(super) fn end(&self, turn: &Turn) {
        let now = Instant::now();
        // A thread that was only not on its turn for a processor would be slow on any other thread as well.
        self.end_at(turn, now, now - turn.began >= QUICK && has_read_from_disk());
    }

    fn end_at(&self, turn: &Turn, now: Instant, waited: bool) {
        if waited {
            self.away_until.store(self.next(now), Ordering::Relaxed);
        } else if turn.is_trial {
            self.away_until.store(0, Ordering::Relaxed);
        }
    }

    fn next(&self, from: Instant) -> u64 {
        self.micros(from + AWAY_FOR)
    }

    fn micros(&self, at: Instant) -> u64 {
        u64::try_from(at.duration_since(self.began).as_micros()).unwrap_or(u64::MAX)
    }
}

/// Whether this thread has read from the disk since it was asked last. Where the system does not tell, it has.
fn has_read_from_disk() -> bool {
    let io = fs::read_to_string("/proc/thread-self/io").unwrap_or_default();
    let read = io.lines().find_map(|line| line.strip_prefix("read_bytes: ")?.parse().ok());
    read.is_none_or(|read| READ.replace(read) != read)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_that_waited_for_the_disk_sends_the_others_away_until_one_has_not() {
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
