//! The zone of times that were written without one.
//!
//! What a zone's clocks showed when is the system's to know: no list of zones is part of the program.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use tz::datetime::{DateTime, FoundDateTimeKind, UtcDateTime};
use tz::timezone::TimeZone;

use crate::import::ImportError;
use crate::import::formats::tables::shown;
use crate::import::time::{Written, read_time};
use crate::system::clock::Timestamp;

/// Where systems keep their zones.
const FOLDERS: [&str; 3] = ["/usr/share/zoneinfo", "/usr/lib/zoneinfo", "/etc/zoneinfo"];
/// How many bytes a zone may have.
const MAX_BYTES: u64 = 1 << 20;
/// How many bytes a zone's name may have.
const MAX_NAME: usize = 64;

/// A zone.
pub(super) struct Zone(Option<TimeZone>);

impl Zone {
    /// UTC, for which the system need know nothing.
    pub(super) const UTC: Self = Self(None);

    /// The zone of that name, such as `Europe/Vienna`.
    ///
    /// # Errors
    /// Where the system does not know it.
    pub(super) fn find(name: &str) -> Result<Self, ImportError> {
        if name == "UTC" {
            return Ok(Self::UTC);
        }
        Self::find_in(&FOLDERS, name)
    }

    fn find_in(folders: &[&str], name: &str) -> Result<Self, ImportError> {
        let Some(folder) = folders.iter().map(Path::new).find(|folder| folder.is_dir()) else {
            return Err(ImportError::new(
                "this machine knows no time zones: install its package tzdata, or run the import where it is",
            ));
        };
        let is_name = name.len() <= MAX_NAME
            && !name.starts_with('/')
            && !name.contains("..")
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/_+-".contains(&byte));
        let mut bytes = Vec::new();
        let is_read = is_name
            && File::open(folder.join(name)).is_ok_and(|file| file.take(MAX_BYTES).read_to_end(&mut bytes).is_ok());
        let zone = if is_read { TimeZone::from_tz_data(&bytes).ok() } else { None };
        let unknown = || {
            ImportError::new(format!(
                "no time zone is called {}: a site's TIME_ZONE is wanted, such as Europe/Vienna",
                shown(name)
            ))
        };
        zone.map(|zone| Self(Some(zone))).ok_or_else(unknown)
    }

    /// The moment that a text stands for, and whether the text itself tells its zone. `None` where it is no time.
    pub(super) fn read(&self, text: &str) -> Option<(Timestamp, bool)> {
        let written = read_time(text)?;
        let millis = match written.offset {
            Some(offset) => written.clock_millis - offset * 1000,
            None => self.millis(written)?,
        };
        Some((Timestamp::from_millis(millis)?, written.offset.is_some()))
    }

    /// When the zone's clocks showed it: of an hour that came twice, its first coming; of one that never came, the moment
    /// at which clocks went on.
    fn millis(&self, written: Written) -> Option<i64> {
        let Some(zone) = &self.0 else { return Some(written.clock_millis) };
        let shown = UtcDateTime::from_timespec(written.clock_millis.div_euclid(1000), 0).ok()?;
        let found = DateTime::find(
            shown.year(),
            shown.month(),
            shown.month_day(),
            shown.hour(),
            shown.minute(),
            shown.second(),
            0,
            zone.as_ref(),
        );
        match found.ok()?.into_inner().first()? {
            FoundDateTimeKind::Normal(time) => Some(time.unix_time() * 1000 + written.clock_millis.rem_euclid(1000)),
            FoundDateTimeKind::Skipped { after_transition, .. } => Some(after_transition.unix_time() * 1000),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(zone: &str, text: &str) -> String {
        let zone = Zone::find(zone).unwrap_or_else(|error| panic!("{error}"));
        zone.read(text).map_or_else(String::new, |(moment, _)| moment.to_string())
    }

    #[test]
    fn a_time_without_a_zone_is_the_named_zones() {
        for (zone, written, meant) in [
            ("UTC", "1969-12-31 23:59:59.123987", "1969-12-31T23:59:59.123Z"),
            ("Europe/Vienna", "2024-01-15 12:00:00.5", "2024-01-15T11:00:00.500Z"),
            ("Europe/Vienna", "2024-07-15 12:00:00.25", "2024-07-15T10:00:00.250Z"),
            ("Europe/Vienna", "2024-07-15 12:00:00.25Z", "2024-07-15T12:00:00.250Z"),
            ("Europe/Vienna", "2050-07-15 12:00:00", "2050-07-15T10:00:00.000Z"),
            ("Asia/Kolkata", "2024-01-15 00:00:00.000999", "2024-01-14T18:30:00.000Z"),
        ] {
            assert_eq!(moment(zone, written), meant, "{written} of {zone}");
        }
    }

    #[test]
    fn of_an_hour_that_came_twice_the_first_is_meant_and_of_one_that_never_was_the_moment_after_the_gap() {
        assert_eq!(moment("Europe/Vienna", "2024-10-27 02:30:00.9"), "2024-10-27T00:30:00.900Z");
        assert_eq!(moment("America/New_York", "2024-11-03 01:30:00"), "2024-11-03T05:30:00.000Z");
        assert_eq!(moment("Europe/Vienna", "2024-03-31 02:30:00.9"), "2024-03-31T01:00:00.000Z");
    }

    #[test]
    fn a_zone_that_the_system_does_not_know_is_refused() {
        for name in ["", "Europe/Vienne", "../../etc/passwd", "/etc/passwd", "Europe", "zone.tab", "a\u{202e}b"] {
            let why = Zone::find(name).err().map(|error| error.to_string()).unwrap_or_default();
            assert!(why.starts_with("no time zone is called"), "{name}: {why}");
            assert!(!why.contains('\u{202e}'));
        }
        let why =
            Zone::find_in(&["/nowhere"], "Europe/Vienna").err().map(|error| error.to_string()).unwrap_or_default();
        assert!(why.contains("tzdata"), "{why}");
    }
}
