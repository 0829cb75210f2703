//! Kinds of settings: how each kind of value is read, what an invalid one is answered, and how it is shown.
//!
//! A [`Kind`] says all of that for one setting: `whole(1..=64).default(4)` is a number from 1 to 64, by default 4. A
//! setting without a default must be given.

use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytesize::ByteSize;
use ipnet::IpNet;
use serde_json::Value;
use zeroize::Zeroize as _;

use crate::domain::rate::Rate;

/// A value as it was given. A file has types; a variable and a flag have only text.
#[derive(Clone)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Raw {
    Text(String),
    String(String),
    Integer(i64),
    Boolean(bool),
    Strings(Vec<String>),
    Other,
}

impl Raw {
    /// The text of a string.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) | Self::String(text) => Some(text),
            _ => None,
        }
    }

    fn integer(&self) -> Option<u64> {
        match self {
            Self::Integer(integer) => u64::try_from(*integer).ok(),
            Self::Text(text) if text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse().ok(),
            _ => None,
        }
    }

    fn boolean(&self) -> Option<bool> {
        match self {
            Self::Boolean(truth) => Some(*truth),
            Self::Text(text) => text.parse().ok(),
            _ => None,
        }
    }

    /// The texts of a list, which a variable writes with commas.
    #[must_use]
    pub fn strings(&self) -> Option<Vec<String>> {
        match self {
            Self::Strings(strings) => Some(strings.clone()),
            Self::Text(text) if text.trim().is_empty() => Some(Vec::new()),
            Self::Text(text) => Some(text.split(',').map(|item| item.trim().to_owned()).collect()),
            _ => None,
        }
    }

    fn size(&self) -> Option<ByteSize> {
        match self {
            Self::Integer(bytes) => u64::try_from(*bytes).ok().map(ByteSize::b),
            _ => self.text()?.parse().ok(),
        }
    }

    fn duration(&self) -> Option<Duration> {
        humantime::parse_duration(self.text()?).ok()
    }

    /// Overwrites a text in memory.
    pub(super) fn wipe(self) {
        if let Self::Text(mut text) | Self::String(mut text) = self {
            text.zeroize();
        }
    }

    /// `"30 per 1min"`
    fn rate(&self) -> Option<Rate> {
        let (count, period) = self.text()?.split_once(" per ")?;
        let count = count.trim().parse().ok().filter(|count| (1..=1_000_000).contains(count))?;
        let bounds = Duration::from_secs(1)..=Duration::from_secs(24 * 60 * 60);
        let period = humantime::parse_duration(period.trim()).ok().filter(|period| bounds.contains(period))?;
        Some(Rate { count, period })
    }
}

impl From<&str> for Raw {
    fn from(text: &str) -> Self {
        Self::String(text.to_owned())
    }
}

impl From<i64> for Raw {
    fn from(integer: i64) -> Self {
        Self::Integer(integer)
    }
}

impl From<bool> for Raw {
    fn from(truth: bool) -> Self {
        Self::Boolean(truth)
    }
}

impl<const COUNT: usize> From<[&str; COUNT]> for Raw {
    fn from(strings: [&str; COUNT]) -> Self {
        Self::Strings(strings.map(str::to_owned).into())
    }
}

/// The value of a setting that is not given.
pub enum Fallback {
    /// It must be given.
    None,
    /// This, as a file would give it.
    Value(Raw),
    /// A file or folder of this name, in the same folder as the one that another setting names.
    Beside {
        /// The other setting, such as `database.path`.
        setting: &'static str,
        /// The name.
        name: &'static str,
    },
}

/// One setting: what it may be, and how it is read and shown.
#[expect(clippy::type_complexity, reason = "each is named and used once")]
pub struct Kind<T> {
    /// The value where it is not given.
    pub fallback: Fallback,
    /// What the value must be: the end of the error's sentence.
    pub expected: String,
    /// What an invalid value may have meant: added to the error's sentence.
    pub hint: fn(&Raw) -> String,
    /// Reads a given value, and writes it so that it reads back as the same.
    pub read: Box<dyn Fn(&Raw) -> Option<(T, Value)>>,
    /// Whether it is never shown, and may be given by a file of its own; see [`mod@super::secret`].
    pub is_secret: bool,
}

impl<T: 'static> Kind<T> {
    /// A setting that must be `expected` and is shown by `show`.
    pub fn new(
        expected: impl Into<String>,
        read: impl Fn(&Raw) -> Option<T> + 'static,
        show: impl Fn(&T) -> Value + 'static,
    ) -> Self {
        let read = move |raw: &Raw| {
            let value = read(raw)?;
            let shown = show(&value);
            Some((value, shown))
        };
        Self {
            fallback: Fallback::None,
            expected: expected.into(),
            hint: |_| String::new(),
            read: Box::new(read),
            is_secret: false,
        }
    }

    fn shown(expected: impl Into<String>, read: impl Fn(&Raw) -> Option<T> + 'static) -> Self
    where
        T: Show,
    {
        Self::new(expected, read, T::show)
    }

    /// The same with a default.
    #[must_use]
    pub fn default(self, value: impl Into<Raw>) -> Self {
        Self { fallback: Fallback::Value(value.into()), ..self }
    }

    /// The same with a default: the file or folder `name`, in the same folder as what another setting names.
    #[must_use]
    pub fn default_beside(self, setting: &'static str, name: &'static str) -> Self {
        Self { fallback: Fallback::Beside { setting, name }, ..self }
    }

    /// The same with a hint for an invalid value.
    #[must_use]
    pub fn hint(self, hint: fn(&Raw) -> String) -> Self {
        Self { hint, ..self }
    }

    /// The same, or a word instead, whose meaning may depend on the machine.
    #[must_use]
    pub fn or(self, word: &'static str, meaning: impl Fn() -> T + 'static) -> Self {
        let read = self.read;
        Self {
            expected: format!("\"{word}\" or {}", self.expected),
            read: Box::new(move |raw| match raw.text() {
                Some(text) if text == word => Some((meaning(), word.into())),
                _ => read(raw),
            }),
            ..self
        }
    }

    /// The same, or a word instead that means none.
    #[must_use]
    pub fn or_none(self, word: &'static str) -> Kind<Option<T>> {
        let read = self.read;
        let optional = Kind {
            fallback: self.fallback,
            expected: self.expected,
            hint: self.hint,
            read: Box::new(move |raw| read(raw).map(|(value, shown)| (Some(value), shown))),
            is_secret: self.is_secret,
        };
        optional.or(word, || None)
    }

    fn expecting(self, expected: String) -> Self {
        Self { expected, ..self }
    }
}

/// `true` or `false`.
#[must_use]
pub fn boolean() -> Kind<bool> {
    Kind::shown("true or false", Raw::boolean)
}

/// A whole number.
#[must_use]
pub fn whole<T>(range: RangeInclusive<T>) -> Kind<T>
where
    T: TryFrom<u64> + PartialOrd + Display + Copy + Into<Value> + 'static,
{
    let expected = format!("a whole number from {} to {}", range.start(), range.end());
    let read = move |raw: &Raw| T::try_from(raw.integer()?).ok().filter(|number| range.contains(number));
    Kind::new(expected, read, |number| (*number).into())
}

/// A number of threads: by default one that depends on the number of cores, on whatever machine that is.
#[must_use]
pub fn threads(auto: fn() -> NonZeroUsize) -> Kind<NonZeroUsize> {
    let Kind { expected, read, .. } = whole(1..=1024_usize);
    let read = move |raw: &Raw| NonZeroUsize::new(read(raw)?.0);
    Kind::new(expected, read, |threads| threads.get().into()).or("auto", auto).default("auto")
}

/// A size within bounds.
#[must_use]
pub fn size(bounds: RangeInclusive<&str>, such_as: &str) -> Kind<ByteSize> {
    let expected = format!("a size from \"{}\" to \"{}\", such as \"{such_as}\"", bounds.start(), bounds.end());
    Kind::shown(expected, within(&bounds, Raw::size))
}

/// A time within bounds.
#[must_use]
pub fn time(bounds: RangeInclusive<&str>, such_as: &str) -> Kind<Duration> {
    let expected = format!("a time from \"{}\" to \"{}\", such as \"{such_as}\"", bounds.start(), bounds.end());
    Kind::shown(expected, within(&bounds, Raw::duration))
}

/// A time, or a word for none.
#[must_use]
pub fn time_or(none: &'static str, bounds: RangeInclusive<&str>, such_as: &str) -> Kind<Option<Duration>> {
    let time = time(bounds, such_as);
    let expected = format!("{}, or \"{none}\"", time.expected);
    time.or_none(none).expecting(expected)
}

/// A time of whole seconds.
#[must_use]
pub fn seconds(bounds: RangeInclusive<&str>) -> Kind<Duration> {
    let expected = format!("a whole number of seconds from \"{}\" to \"{}\"", bounds.start(), bounds.end());
    let read = within(&bounds, Raw::duration);
    Kind::shown(expected, move |raw| read(raw).filter(|time| time.subsec_nanos() == 0))
}

/// Reads a value within bounds, which are read in the same way.
fn within<T: PartialOrd>(
    bounds: &RangeInclusive<&str>,
    read: fn(&Raw) -> Option<T>,
) -> impl Fn(&Raw) -> Option<T> + use<T> {
    let bounds = read(&Raw::from(*bounds.start())).zip(read(&Raw::from(*bounds.end())));
    move |raw| read(raw).filter(|value| bounds.as_ref().is_some_and(|(least, most)| least <= value && value <= most))
}

/// A number of attempts in a time.
#[must_use]
pub fn rate() -> Kind<Rate> {
    Kind::shown("a number of attempts and a time, such as \"30 per 1min\"", Raw::rate)
}

/// An address and a port, such as `port`.
#[must_use]
pub fn address(port: u16) -> Kind<SocketAddr> {
    let expected = format!(
        "an address and a port such as \"127.0.0.1:{port}\", for which \":{port}\" and \"localhost:{port}\" are short; no \
         other name is looked up"
    );
    Kind::shown(expected, |raw| parse_address(raw.text()?))
}

/// An address and a port. A port alone, and one of `localhost`, is on the IPv4 loopback address.
fn parse_address(text: &str) -> Option<SocketAddr> {
    let behind_name = text.strip_prefix("localhost").filter(|after| after.starts_with(':')).unwrap_or(text);
    match behind_name.strip_prefix(':').filter(|port| port.bytes().all(|byte| byte.is_ascii_digit())) {
        Some(port) => Some(SocketAddr::from(([127, 0, 0, 1], port.parse().ok()?))),
        None => text.parse().ok(),
    }
}

/// Networks, and addresses that are one each.
#[must_use]
pub fn networks() -> Kind<Vec<IpNet>> {
    Kind::shown("a list of networks such as \"10.0.0.0/8\" or addresses such as \"127.0.0.1\"", |raw| {
        raw.strings()?.iter().map(|text| parse_network(text)).collect()
    })
}

/// A network, or an address as a network of its own. A network of IPv4-mapped IPv6 addresses becomes the IPv4 network,
/// because peers are compared in that form. A network that holds more than the mapped addresses is refused: it cannot
/// be what anybody means.
fn parse_network(text: &str) -> Option<IpNet> {
    let network: IpNet = text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))?;
    match network.addr().to_canonical() {
        IpAddr::V4(address) if network.addr().is_ipv6() => {
            IpNet::new(address.into(), network.prefix_len().checked_sub(96)?).ok()
        }
        _ => Some(network),
    }
}

/// The path of a file.
#[must_use]
pub fn file() -> Kind<PathBuf> {
    Kind::shown("the path of a file", |raw| raw.text().filter(|text| can_be_a_file(text)).map(PathBuf::from))
}

/// Whether a file can have this path: it has a name, and is not written as a folder.
fn can_be_a_file(path: &str) -> bool {
    let is_folder = path.ends_with('/') || path.ends_with("/.") || Path::new(path).file_name().is_none();
    !is_folder && !path.contains('\0')
}

/// The path of a folder.
#[must_use]
pub fn folder() -> Kind<PathBuf> {
    Kind::shown("the path of a folder", |raw| {
        raw.text().filter(|text| !text.is_empty() && !text.contains('\0')).map(PathBuf::from)
    })
}

/// How a value is written, so that it reads back as the same.
pub(super) trait Show {
    fn show(&self) -> Value;
}

impl Show for bool {
    fn show(&self) -> Value {
        (*self).into()
    }
}

impl Show for SocketAddr {
    fn show(&self) -> Value {
        self.to_string().into()
    }
}

impl Show for PathBuf {
    fn show(&self) -> Value {
        self.to_string_lossy().into()
    }
}

impl Show for Vec<IpNet> {
    fn show(&self) -> Value {
        self.iter().map(ToString::to_string).collect()
    }
}

impl Show for ByteSize {
    fn show(&self) -> Value {
        let units = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];
        in_largest_unit(u128::from(self.as_u64()), " ", &units).into()
    }
}

impl Show for Duration {
    fn show(&self) -> Value {
        const SECOND: u128 = 1_000_000_000;
        let units = [
            ("d", 86_400 * SECOND),
            ("h", 3_600 * SECOND),
            ("min", 60 * SECOND),
            ("s", SECOND),
            ("ms", 1_000_000),
            ("us", 1_000),
            ("ns", 1),
        ];
        in_largest_unit(self.as_nanos(), "", &units).into()
    }
}

impl Show for Rate {
    fn show(&self) -> Value {
        let period = self.period.show();
        format!("{} per {}", self.count, period.as_str().unwrap_or_default()).into()
    }
}

/// Writes an amount as a whole number of the largest unit that divides it; zero is in the smallest.
fn in_largest_unit(amount: u128, space: &str, units: &[(&str, u128)]) -> String {
    let unit = units.iter().filter(|_| amount > 0).find(|(_, size)| amount.is_multiple_of(*size));
    let (unit, size) = unit.or(units.last()).copied().unwrap_or(("", 1));
    format!("{}{space}{unit}", amount / size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_no_file_can_have_is_refused() {
        for path in ["a.db", "/var/lib/a", "../a", ".a", "a/.b", "a.", ":memory:", "file:a.db?mode=memory"] {
            assert!(can_be_a_file(path), "{path}");
        }
        for path in ["", ".", "..", "/", "data/", "data/.", "a\0b"] {
            assert!(!can_be_a_file(path), "{path:?}");
        }
        assert!((folder().read)(&"a\0b".into()).is_none());
    }
}
