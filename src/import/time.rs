//! Times as source systems write them.

use crate::system::clock::Timestamp;

const SECONDS_A_DAY: i64 = 24 * 60 * 60;
/// From 0000-01-01 to 1970-01-01.
const DAYS_BEFORE_1970: i64 = 719_528;
/// No place has ever been further from UTC: PostgreSQL's own bound.
const MAX_OFFSET: i64 = 16 * 60 * 60 - 1;

/// A time as it is written: on which clock, where it tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Written {
    /// What the clock showed, as if it were UTC's: milliseconds since 1970, floored.
    pub(super) clock_millis: i64,
    /// How many seconds the clock is ahead of UTC; nothing where the time has no zone.
    pub(super) offset: Option<i64>,
}

/// Reads `2015-01-04 22:51:35`, with `T` for the space, with a fraction of a second, and with `Z` or an offset such as
/// `+00`, `+05:30`, `-02:30` or `+01:23:45` behind it.
pub(super) fn read_time(text: &str) -> Option<Written> {
    let rest = text.as_bytes();
    let (year, rest) = number(rest, 4)?;
    let (month, rest) = number(skip(rest, b"-")?, 2)?;
    let (day, rest) = number(skip(rest, b"-")?, 2)?;
    let (hour, rest) = number(skip(rest, b" Tt")?, 2)?;
    let (minute, rest) = number(skip(rest, b":")?, 2)?;
    let (second, rest) = number(skip(rest, b":")?, 2)?;
    let (millis, rest) = fraction(rest)?;
    if !(1..=12).contains(&month) || day < 1 || day > days_of(year, month) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let seconds = days_before(year, month, day) * SECONDS_A_DAY + hour * 3600 + minute * 60 + second;
    // The fraction counts forward, before 1970 as well: cutting its digits is flooring.
    let offset = if rest.is_empty() { None } else { Some(offset(rest)?) };
    Some(Written { clock_millis: seconds * 1000 + millis, offset })
}

/// Reads a time that says its zone.
pub(super) fn read_moment(text: &str) -> Option<Timestamp> {
    let written = read_time(text)?;
    Timestamp::from_millis(written.clock_millis - written.offset? * 1000)
}

/// As many digits.
fn number(text: &[u8], digits: usize) -> Option<(i64, &[u8])> {
    let (number, rest) = text.split_at_checked(digits)?;
    if !number.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some((number.iter().fold(0, |number, digit| number * 10 + i64::from(digit - b'0')), rest))
}

fn skip<'a>(text: &'a [u8], signs: &[u8]) -> Option<&'a [u8]> {
    text.split_first().filter(|(first, _)| signs.contains(first)).map(|(_, rest)| rest)
}

/// The milliseconds of a fraction of 1 to 9 digits; 0 where there is none.
fn fraction(text: &[u8]) -> Option<(i64, &[u8])> {
    let Some(text) = skip(text, b".") else { return Some((0, text)) };
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (fraction, rest) = text.split_at(digits);
    if !(1..=9).contains(&digits) {
        return None;
    }
    let digit = |place: usize| fraction.get(place).map_or(0, |digit| i64::from(digit - b'0'));
    Some((digit(0) * 100 + digit(1) * 10 + digit(2), rest))
}

/// How many seconds the zone is ahead of UTC.
fn offset(text: &[u8]) -> Option<i64> {
    let (sign, rest) = match text {
        b"Z" | b"z" => return Some(0),
        [b'+', rest @ ..] => (1, rest),
        [b'-', rest @ ..] => (-1, rest),
        _ => return None,
    };
    let (hours, mut rest) = number(rest, 2)?;
    let mut seconds = hours * 3600;
    for unit in [60, 1] {
        if rest.is_empty() {
            break;
        }
        let (some, next) = number(skip(rest, b":").unwrap_or(rest), 2)?;
        if some > 59 {
            return None;
        }
        seconds += some * unit;
        rest = next;
    }
    (rest.is_empty() && seconds <= MAX_OFFSET).then_some(sign * seconds)
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_of(year: i64, month: i64) -> i64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// From 1970-01-01 to a date of the years 0000 to 9999.
fn days_before(year: i64, month: i64, day: i64) -> i64 {
    let leap_years = (year + 3) / 4 - (year + 99) / 100 + (year + 399) / 400;
    let months: i64 = (1..month).map(|month| days_of(year, month)).sum();
    year * 365 + leap_years + months + day - 1 - DAYS_BEFORE_1970
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(text: &str) -> Option<String> {
        read_moment(text).map(|moment| moment.to_string())
    }

    #[test]
    fn a_time_with_a_zone_is_a_moment() {
        for (written, meant) in [
            ("2026-11-25 04:22:37.105Z", "2026-11-25T04:22:37.105Z"),
            ("2024-03-04 05:06:00.123987+00", "2024-03-04T05:06:00.123Z"),
            ("2024-03-04 05:06:00.123987+05:30", "2024-03-03T23:36:00.123Z"),
            ("2024-03-04 05:06:00.09-02:30", "2024-03-04T07:36:00.090Z"),
            ("2024-02-29T23:59:59.9-03:30", "2024-03-01T03:29:59.900Z"),
            ("2024-04-05T06:07:00.5+00:00", "2024-04-05T06:07:00.500Z"),
            ("1800-01-01 00:00:00+01:05:20", "1799-12-31T22:54:40.000Z"),
            ("0000-01-01 00:00:00Z", "0000-01-01T00:00:00.000Z"),
            ("9999-12-31 23:59:59.999999+00", "9999-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(moment(written).as_deref(), Some(meant), "{written}");
        }
    }

    #[test]
    fn milliseconds_are_floored_before_1970_too() {
        assert_eq!(read_moment("1969-12-31 23:59:59.123987+00").unwrap().as_millis(), -877);
        assert_eq!(read_moment("1970-01-01 00:00:00.000999Z").unwrap().as_millis(), 0);
        assert_eq!(read_moment("1969-12-31 23:59:59.999999Z").unwrap().as_millis(), -1);
    }

    #[test]
    fn a_time_without_a_zone_is_what_a_clock_showed() {
        let written = read_time("1970-01-02 00:00:00.25").unwrap();
        assert_eq!(written, Written { clock_millis: 86_400_250, offset: None });
        assert_eq!(moment("1970-01-02 00:00:00.25"), None);
    }

    #[test]
    fn what_is_no_time_is_not_read() {
        for text in [
            "",
            "now",
            "infinity",
            "2024-03-04",
            "2023-02-29 00:00:00Z",
            "1900-02-29 00:00:00Z",
            "2024-13-01 00:00:00Z",
            "2024-00-01 00:00:00Z",
            "2024-01-00 00:00:00Z",
            "2024-01-01 24:00:00Z",
            "2024-01-01 00:60:00Z",
            "2024-01-01 00:00:60Z",
            "2024-01-01 00:00:00.Z",
            "2024-01-01 00:00:00.1234567890Z",
            "2024-01-01 00:00:00+",
            "2024-01-01 00:00:00+1",
            "2024-01-01 00:00:00+00:",
            "2024-01-01 00:00:00+99",
            "2024-01-01 00:00:00+00:61",
            "2024-01-01 00:00:00+00 BC",
            "10000-01-01 00:00:00Z",
            "0000-01-01 00:00:00+01",
            "2024-01-01 00:00:00Zé",
            "２０２４-01-01 00:00:00Z",
        ] {
            assert_eq!(moment(text), None, "{text}");
        }
    }
}
