//! The wall clock, the monotonic clock, and how a time is written.
//!
//! Nothing else in the service asks the system for the time of day. Whoever needs it is given a [`Clock`], so that a
//! test can hold time still and move it. A [`Clock`] has two sides, and their types keep them apart:
//!
//! - [`Timestamp`], of the wall clock, is how a time is stored, compared with stored times, and shown. The wall clock
//!   may be wrong, and may be set at any time, back as well.
//! - [`Monotonic`], of the monotonic clock, is for intervals and timeouts. It only goes forward, also while the machine
//!   is suspended (`CLOCK_BOOTTIME`): time passes then, too, for a client that was told to wait so many seconds.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use chrono::{DateTime, Datelike as _, NaiveDateTime, Timelike as _, Utc};
use rustix::time::{ClockId, clock_gettime};
use serde::{Serialize, Serializer};

/// How a moment is written in the name of a file.
const COMPACT: &str = "%Y%m%dT%H%M%SZ";

/// How much time the processor has given to this thread. What it waits, for a core or for anything else, is not in it.
#[must_use]
pub fn cpu_time_of_thread() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or_default(), u32::try_from(time.tv_nsec).unwrap_or_default())
}

/// A time to the millisecond, in the years 0000 to 9999 that RFC 3339 can write. It is held as milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// 0000-01-01T00:00:00.000Z, in milliseconds since 1970.
    pub const MIN_MILLIS: i64 = -62_167_219_200_000;
    /// 9999-12-31T23:59:59.999Z, in milliseconds since 1970.
    pub const MAX_MILLIS: i64 = 253_402_300_799_999;

    /// The moment that many milliseconds after 1970-01-01T00:00:00Z, or `None` where RFC 3339 has no way to write it.
    #[must_use]
    pub fn from_millis(millis: i64) -> Option<Self> {
        (Self::MIN_MILLIS..=Self::MAX_MILLIS).contains(&millis).then_some(Self(millis))
    }

    /// 0000-01-01T00:00:00.000Z.
    pub const MIN: Self = Self(Self::MIN_MILLIS);
    /// 9999-12-31T23:59:59.999Z.
    pub const MAX: Self = Self(Self::MAX_MILLIS);

    /// 2026-01-01T00:00:00.000Z. A wall clock that says an earlier time is wrong: this release did not exist yet.
    pub const BEFORE_THIS_RELEASE: Self = Self(1_767_225_600_000);

    /// That much later, or the last moment there is.
    #[must_use]
    pub fn plus(self, time: Duration) -> Self {
        let millis = self.as_millis().saturating_add(i64::try_from(time.as_millis()).unwrap_or(i64::MAX));
        Self::from_millis(millis).unwrap_or(Self::MAX)
    }

    /// That much earlier, or the first moment there is.
    #[must_use]
    pub fn minus(self, time: Duration) -> Self {
        let millis = self.as_millis().saturating_sub(i64::try_from(time.as_millis()).unwrap_or(i64::MAX));
        Self::from_millis(millis).unwrap_or(Self::MIN)
    }

    /// How long after `earlier` it is; nothing where it is not.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or_default())
    }

    /// To the second and without punctuation, for the name of a file: `20150104T225135Z`.
    #[must_use]
    pub fn compact(self) -> String {
        self.date_time().format(COMPACT).to_string()
    }

    /// Reads what [`Timestamp::compact`] writes, and nothing else.
    #[must_use]
    pub fn from_compact(text: &str) -> Option<Self> {
        // Milliseconds since 1970 have no leap seconds, so a second 60 does not read back as itself.
        let read = NaiveDateTime::parse_from_str(text, COMPACT).ok()?.and_utc().timestamp_millis();
        let read = Self::from_millis(read)?;
        (read.compact() == text).then_some(read)
    }

    /// Reads a time as HTTP writes it, such as `Sun, 06 Nov 1994 08:49:37 GMT`.
    #[must_use]
    pub fn from_http_date(text: &str) -> Option<Self> {
        Self::from_millis(DateTime::parse_from_rfc2822(text).ok()?.timestamp_millis())
    }

    /// Reads a time in RFC 3339, or a date, which is its beginning in UTC.
    #[must_use]
    pub fn from_rfc3339(text: &str) -> Option<Self> {
        let date = format!("{text}T00:00:00Z");
        let read = DateTime::parse_from_rfc3339(text).or_else(|_| DateTime::parse_from_rfc3339(&date)).ok()?;
        Self::from_millis(read.timestamp_millis())
    }

    /// Milliseconds since 1970-01-01T00:00:00Z.
    #[must_use]
    pub fn as_millis(self) -> i64 {
        self.0
    }

    fn date_time(self) -> DateTime<Utc> {
        DateTime::from_timestamp_millis(self.0).unwrap_or_default()
    }
}

impl Timestamp {
    /// RFC 3339 in UTC with exactly three fraction digits, all of it ASCII: `2015-01-04T22:51:35.144Z`.
    #[must_use]
    pub fn text(self) -> [u8; 24] {
        // Digit by digit: every line of the log and every user object has some of these, and chrono's formatting takes
        // several times as long.
        let moment = self.date_time();
        let (date, time) = (moment.date_naive(), moment.time());
        let year = date.year().unsigned_abs();
        let mut text = *b"0000-00-00T00:00:00.000Z";
        let mut put = |end: usize, digits: usize, mut number: u32| {
            for index in (end - digits..end).rev() {
                text[index] += u8::try_from(number % 10).unwrap_or_default();
                number /= 10;
            }
        };
        put(4, 4, year);
        put(7, 2, date.month());
        put(10, 2, date.day());
        put(13, 2, time.hour());
        put(16, 2, time.minute());
        put(19, 2, time.second());
        put(23, 3, time.nanosecond() / 1_000_000);
        text
    }
}

impl fmt::Display for Timestamp {
    /// As [`Timestamp::text`].
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(str::from_utf8(&self.text()).map_err(|_| fmt::Error)?)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A time of the monotonic clock, in nanoseconds since some start. It has no meaning after a reboot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Monotonic(i64);

impl Monotonic {
    /// That much later.
    #[must_use]
    pub fn plus(self, time: Duration) -> Self {
        Self(self.0.saturating_add(nanos(time)))
    }

    /// That much earlier, which may be before the machine was started.
    #[must_use]
    pub fn minus(self, time: Duration) -> Self {
        Self(self.0.saturating_sub(nanos(time)))
    }

    /// How long after `earlier` it is; nothing where it is not.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or_default())
    }
}

fn nanos(time: Duration) -> i64 {
    i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)
}

/// The source of the time. Clones of a held clock move together.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System,
    Held(Arc<Held>),
}

#[derive(Debug, Default)]
struct Held {
    wall_millis: AtomicI64,
    monotonic_nanos: AtomicI64,
}

impl Clock {
    /// The system's own clock.
    #[must_use]
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that stands at `start` until [`Clock::advance`] or [`Clock::set`] moves it.
    #[must_use]
    pub fn held_at(start: Timestamp) -> Self {
        let held = Held::default();
        held.wall_millis.store(start.as_millis(), Ordering::SeqCst);
        Self(Source::Held(Arc::new(held)))
    }

    /// Lets time go by on both sides of a held clock; the system's clock moves by itself and ignores this.
    pub fn advance(&self, by: Duration) {
        if let Source::Held(held) = &self.0 {
            held.wall_millis.fetch_add(i64::try_from(by.as_millis()).unwrap_or(i64::MAX), Ordering::SeqCst);
            held.monotonic_nanos.fetch_add(nanos(by), Ordering::SeqCst);
        }
    }

    /// Sets the wall side of a held clock, also back, as if no time had gone by; the system's clock ignores this.
    pub fn set(&self, to: Timestamp) {
        if let Source::Held(held) = &self.0 {
            held.wall_millis.store(to.as_millis(), Ordering::SeqCst);
        }
    }

    /// The moment on the monotonic clock.
    #[must_use]
    pub fn monotonic(&self) -> Monotonic {
        match &self.0 {
            Source::System => {
                #[cfg(target_os = "linux")]
                const CLOCK: ClockId = ClockId::Boottime;
                #[cfg(not(target_os = "linux"))]
                const CLOCK: ClockId = ClockId::Monotonic;
                let time = clock_gettime(CLOCK);
                Monotonic(time.tv_sec.saturating_mul(1_000_000_000).saturating_add(time.tv_nsec))
            }
            Source::Held(held) => Monotonic(held.monotonic_nanos.load(Ordering::SeqCst)),
        }
    }

    /// The time of day.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the one module that may ask the system")]
    pub fn now(&self) -> Timestamp {
        let millis = match &self.0 {
            Source::System => SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX)),
            Source::Held(held) => held.wall_millis.load(Ordering::SeqCst),
        };
        Timestamp::from_millis(millis.clamp(Timestamp::MIN_MILLIS, Timestamp::MAX_MILLIS)).unwrap_or(Timestamp::MIN)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_time_is_written_as_the_api_specification_writes_it() {
        let moment = Timestamp::from_millis(1_420_411_895_144).unwrap();
        assert_eq!(moment.to_string(), "2015-01-04T22:51:35.144Z");
    }

    #[test]
    fn a_time_in_a_file_name_reads_back_and_nothing_else_does() {
        let moment = Timestamp::from_millis(1_420_411_895_000).unwrap();
        assert_eq!(moment.compact(), "20150104T225135Z");
        assert_eq!(Timestamp::from_compact("20150104T225135Z"), Some(moment));
        for other in
            ["", "20150104T225135", "2015104T225135Z", "20150104T225160Z", "20151304T225135Z", "+2015104T225135Z"]
        {
            assert_eq!(Timestamp::from_compact(other), None, "{other}");
        }
    }

    #[test]
    fn a_moment_that_rfc_3339_cannot_write_is_refused() {
        for edge in [Timestamp::MIN_MILLIS - 1, Timestamp::MAX_MILLIS + 1, i64::MIN, i64::MAX] {
            assert_eq!(Timestamp::from_millis(edge), None, "{edge}");
        }
        assert_eq!(Timestamp::from_millis(Timestamp::MIN_MILLIS).unwrap().to_string(), "0000-01-01T00:00:00.000Z");
        assert_eq!(Timestamp::from_millis(Timestamp::MAX_MILLIS).unwrap().to_string(), "9999-12-31T23:59:59.999Z");
    }

    #[test]
    fn the_monotonic_clock_goes_forward_whatever_the_wall_clock_is_set_to() {
        let clock = Clock::held_at(Timestamp::from_millis(1_000_000).unwrap());
        let before = clock.monotonic();
        clock.set(Timestamp::MIN);
        assert_eq!((clock.now(), clock.monotonic()), (Timestamp::MIN, before));
        clock.advance(Duration::from_secs(2));
        assert_eq!(clock.monotonic().since(before), Duration::from_secs(2));
        assert_eq!(clock.now().since(Timestamp::MIN), Duration::from_secs(2));
        assert_eq!(before.since(clock.monotonic()), Duration::ZERO);
        assert_eq!(before.minus(Duration::from_secs(9)).plus(Duration::from_secs(9)), before);

        let (system, slept) = (Clock::system(), Duration::from_millis(20));
        let before = system.monotonic();
        std::thread::sleep(slept);
        let since = system.monotonic().since(before);
        assert!((slept..Duration::from_secs(60)).contains(&since), "{since:?}");
    }

    proptest! {
        #[test]
        fn every_time_has_24_characters_three_fraction_digits_a_z_and_reads_back(
            millis in Timestamp::MIN_MILLIS..=Timestamp::MAX_MILLIS,
        ) {
            let written = Timestamp::from_millis(millis).unwrap().to_string();
            prop_assert_eq!(written.len(), 24);
            prop_assert_eq!(&written[19..20], ".");
            prop_assert!(written.ends_with('Z'));
            let read = DateTime::parse_from_rfc3339(&written).unwrap();
            prop_assert_eq!(read.timestamp_millis(), millis);
        }
    }
}
