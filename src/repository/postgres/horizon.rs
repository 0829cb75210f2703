//! The horizon: up to which number all events are known.
//!
//! Events are not committed in the order of their numbers, and a cursor that has passed a number never comes back to it. So a
//! cursor goes no further than the horizon: a number up to which every event is committed or never will be. It is found by two
//! looks. The first reads the last number that was given. Whoever was given that number, or one before it, is a transaction
//! that had begun by then, for each begins by writing its receipt. The second look, which begins later, tells which
//! transactions are under way. When all that had begun at the second look have ended, the horizon is the number of the first.

use super::pool::Instance;

/// Up to which number all events are known, as far as this process has seen.
#[derive(Clone, Copy, Default)]
pub(super) struct Horizon {
    /// The server that it was seen at: another one may give numbers once more.
    instance: Instance,
    known: i64,
    /// The number of a first look, and the first transaction that had not begun at the second.
    sought: Option<(i64, i64)>,
}

impl Horizon {
    /// What two looks at the same server show: the last number that was given, then the oldest transaction that is under way
    /// and the first that has not begun.
    pub(super) fn looked(&mut self, instance: Instance, last: i64, (oldest, next): (i64, i64)) {
        if self.instance != instance {
            *self = Self { instance, ..Self::default() };
        }
        if oldest == next {
            // Nothing is under way.
            (self.known, self.sought) = (self.known.max(last), None);
            return;
        }
        if let Some((sought, begun)) = self.sought
            && oldest >= begun
        {
            (self.known, self.sought) = (self.known.max(sought), None);
        }
        if last > self.known && self.sought.is_none() {
            self.sought = Some((last, next));
        }
    }

    /// At another server nothing is known.
    pub(super) fn known_at(&self, instance: Instance) -> i64 {
        if self.instance == instance { self.known } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_horizon_is_the_last_number_where_nothing_is_under_way_and_else_waits_for_what_was() {
        let mut horizon = Horizon::default();
        horizon.looked(1, 5, (100, 100));
        assert_eq!(horizon.known_at(1), 5);
        // The transaction 100 may hold any number up to 9.
        horizon.looked(1, 9, (100, 103));
        assert_eq!(horizon.known_at(1), 5);
        horizon.looked(1, 12, (102, 107));
        assert_eq!(horizon.known_at(1), 5);
        horizon.looked(1, 15, (103, 110));
        assert_eq!(horizon.known_at(1), 9);
        horizon.looked(1, 15, (110, 112));
        assert_eq!(horizon.known_at(1), 15);
        // Another server may give the same numbers once more.
        assert_eq!(horizon.known_at(2), 0);
        horizon.looked(2, 12, (60, 61));
        assert_eq!((horizon.known_at(1), horizon.known_at(2)), (0, 0));
        horizon.looked(2, 12, (61, 61));
        assert_eq!(horizon.known_at(2), 12);
    }
}
