//! The configuration: a file, over it the environment, over it the command line.
//!
//! Every setting has a default, so none of the three must exist. Whatever is given is checked in full before the server
//! touches anything, and what is wrong is said in one sentence that names where it was said: file and line, variable or
//! flag. [`Settings`] gathers the raw values with their origins; [`Config`] is what they mean.

use std::collections::BTreeMap;
use std::convert::identity;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use bytesize::ByteSize;
use ipnet::IpNet;
use serde_json::Value;
use thiserror::Error;
use toml::Spanned;
use toml::de::{DeTable, DeValue};
use url::Url;

use crate::domain::item::MAX_ITEMS;
use crate::domain::rate::{LimitsPolicy, Rate};
use crate::domain::session::SessionPolicy;
use crate::domain::user::COSTS;
use crate::system::memory;

/// Where a file is looked for when none is named: in the working folder, and then where a service has it.
pub const DEFAULT_FILES: [&str; 2] = ["config.toml", "/etc/authtokens/config.toml"];

/// The environment variable that names the file.
pub const FILE_VARIABLE: &str = "AUTHTOKENS_CONFIG";

/// What the name of every environment variable that is a setting starts with.
const VARIABLE_PREFIX: &str = "AUTHTOKENS__";

/// What the name of a variable starts with that is meant for us, whether it is right or not.
const OUR_PREFIX: &str = "AUTHTOKENS_";

/// What is wrong with the configuration, in one sentence.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file is there, or was named, and cannot be read.
    #[error("cannot read {path}: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Nobody can tell whether there is a file in the working folder.
    #[error(
        "cannot look for {file} in the folder {folder}: {source}; name a file with --config or {FILE_VARIABLE}, or go to \
         another folder"
    )]
    Folder {
        /// The file that was looked for.
        file: PathBuf,
        /// The folder.
        folder: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The variable has nearly the name of a setting.
    #[error(
        "environment variable {0}: a setting is given as {VARIABLE_PREFIX}SECTION__KEY, and the file as {FILE_VARIABLE}"
    )]
    UnknownVariable(String),
    /// The file is not TOML.
    #[error("{origin}: {why}")]
    Syntax {
        /// Where.
        origin: Origin,
        /// What the parser said.
        why: String,
    },
    /// Nothing has this name.
    #[error("{origin}: there is no setting {name}; {known}")]
    Unknown {
        /// Where.
        origin: Origin,
        /// The section and the key that were named.
        name: String,
        /// What there is.
        known: String,
    },
    /// The value is of another type, or is one that cannot be.
    #[error("{origin}: {section}.{key} must be {expected}")]
    Invalid {
        /// Where.
        origin: Origin,
        /// The setting's section.
        section: &'static str,
        /// The setting's key.
        key: &'static str,
        /// What it must be.
        expected: String,
    },
}

/// Where a value was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// In a file.
    File {
        /// Which.
        path: PathBuf,
        /// Where in it, from 1.
        line: usize,
    },
    /// In an environment variable.
    Variable(String),
    /// On the command line.
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line } => write!(f, "{} line {line}", path.display()),
            Self::Variable(name) => write!(f, "environment variable {name}"),
            Self::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

/// A setting as it is in effect.
#[derive(Clone, Debug, PartialEq)]
pub struct Setting {
    /// Its section.
    pub section: &'static str,
    /// Its key.
    pub key: &'static str,
    /// Its value, which reads back as the same from a file.
    pub value: Value,
    /// Where it was given; `None` is nowhere, so that it is the default.
    pub origin: Option<Origin>,
}

/// A value as it was given. A file has types; a variable and a flag have only text.
#[derive(Clone, Debug)]
enum Raw {
    Text(String),
    String(String),
    Integer(i64),
    Boolean(bool),
    Strings(Vec<String>),
    Other,
}

/// The values that were given, each with its origin; a later source replaces an earlier one.
#[derive(Default)]
pub struct Settings {
    given: BTreeMap<(String, String), (Raw, Origin)>,
    /// The file that was read.
    file: Option<PathBuf>,
    /// The sections of the file, the empty ones too.
    sections: Vec<(String, Origin)>,
    /// The settings that there are, in the order in which they were asked for.
    known: Vec<Setting>,
}

impl Settings {
    /// Gathers all three sources: the file, the environment, the flags. The file is `file`, or the one that
    /// [`FILE_VARIABLE`] names, or the first of [`DEFAULT_FILES`] that exists, or none.
    ///
    /// # Errors
    /// [`ConfigError`] when the file cannot be read or is not TOML, or a variable's name is wrong.
    pub fn gather(
        file: Option<&Path>,
        variables: impl IntoIterator<Item = (String, OsString)>,
        flags: impl IntoIterator<Item = (&'static str, &'static str, &'static str, String)>,
    ) -> Result<Self, ConfigError> {
        let mut settings = Self::default();
        let mut named = file.map(Path::to_owned);
        let mut given = Vec::new();
        for (name, value) in variables {
            if let Some(setting) = name.strip_prefix(VARIABLE_PREFIX).filter(|setting| !setting.is_empty()) {
                let setting = setting.to_ascii_lowercase();
                let (section, key) = setting.split_once("__").unwrap_or((setting.as_str(), ""));
                // What is not text is no value of any setting.
                let value = value.into_string().map_or(Raw::Other, Raw::Text);
                given.push((section.to_owned(), key.to_owned(), value, Origin::Variable(name.clone())));
            } else if name == FILE_VARIABLE {
                named = named.or_else(|| (!value.is_empty()).then(|| value.into()));
            } else if name.starts_with(OUR_PREFIX) && !is_from_kubernetes(&name, &value) {
                return Err(ConfigError::UnknownVariable(name));
            }
        }
        if let Some((path, text)) = read_file(named.as_deref(), &DEFAULT_FILES.map(Path::new))? {
            settings.add_file(path, &text)?;
            settings.file = Some(path.to_owned());
        }
        for (section, key, value, origin) in given {
            settings.add(&section, &key, value, origin);
        }
        for (flag, section, key, value) in flags {
            settings.add(section, key, Raw::Text(value), Origin::Flag(flag));
        }
        Ok(settings)
    }

    /// The file that was read, where there was one.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    fn add(&mut self, section: &str, key: &str, value: Raw, origin: Origin) {
        self.given.insert((section.to_owned(), key.to_owned()), (value, origin));
    }

    fn add_file(&mut self, path: &Path, text: &str) -> Result<(), ConfigError> {
        let origin = |at: usize| {
            let line = text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1;
            Origin::File { path: path.to_owned(), line }
        };
        let syntax = |at, why: &str| ConfigError::Syntax { origin: origin(at), why: why.replace('\n', ", ") };
        let document =
            DeTable::parse(text).map_err(|error| syntax(error.span().map_or(0, |span| span.start), error.message()))?;
        for (section, value) in document.get_ref() {
            let DeValue::Table(table) = value.get_ref() else {
                return Err(syntax(section.span().start, "a setting must stand in a section such as [server]"));
            };
            self.sections.push((section.get_ref().to_string(), origin(section.span().start)));
            for (key, value) in table {
                self.add(section.get_ref(), key.get_ref(), raw(value), origin(key.span().start));
            }
        }
        Ok(())
    }

    /// Takes one setting out and reads it; where it was not given, its default.
    fn take<T: Show>(
        &mut self,
        name: (&'static str, &'static str),
        default: T,
        expected: &str,
        read: impl FnOnce(&Raw) -> Option<T>,
    ) -> Result<T, ConfigError> {
        self.take_as(name, default, expected, read, T::show)
    }

    /// The same for a time that may be none, which is written as `none`.
    fn take_time_or(
        &mut self,
        name: (&'static str, &'static str),
        none: &'static str,
        default: Option<Duration>,
        expected: &str,
        bounds: RangeInclusive<Duration>,
    ) -> Result<Option<Duration>, ConfigError> {
        let read = |raw: &Raw| match raw.text() {
            Some(text) if text == none => Some(None),
            _ => raw.duration().filter(|time| bounds.contains(time)).map(Some),
        };
        self.take_as(name, default, expected, read, |time| time.map_or(none.into(), |time| time.show()))
    }

    /// The same for a number of threads: what `"auto"` is depends on the number of cores, on whatever machine that is.
    fn take_threads(
        &mut self,
        name: (&'static str, &'static str),
        auto: fn(NonZeroUsize) -> NonZeroUsize,
    ) -> Result<NonZeroUsize, ConfigError> {
        let read = |raw: &Raw| match raw.text() {
            Some("auto") => Some(None),
            _ => raw.count(1, 1024).and_then(NonZeroUsize::new).map(Some),
        };
        let show = |threads: &Option<NonZeroUsize>| threads.map_or("auto".into(), |threads| threads.get().into());
        let threads = self.take_as(name, None, "\"auto\" or a whole number from 1 to 1024", read, show)?;
        Ok(threads.unwrap_or_else(|| auto(cores())))
    }

    /// The same for the cache: `"auto"` is what [`usual_cache`] says, on whatever machine that is.
    fn take_cache(&mut self, name: (&'static str, &'static str)) -> Result<ByteSize, ConfigError> {
        let read = |raw: &Raw| match raw.text() {
            Some("auto") => Some(None),
            _ => raw.size().filter(|size| *size <= ByteSize::gib(64)).map(Some),
        };
        let show = |size: &Option<ByteSize>| size.as_ref().map_or("auto".into(), ByteSize::show);
        let expected = "\"auto\" or a size from \"0 B\" to \"64 GiB\", such as \"64 MiB\"";
        let size = self.take_as(name, None, expected, read, show)?;
        Ok(size.unwrap_or_else(|| usual_cache(memory::available())))
    }

    fn take_as<T>(
        &mut self,
        (section, key): (&'static str, &'static str),
        default: T,
        expected: &str,
        read: impl FnOnce(&Raw) -> Option<T>,
        show: impl FnOnce(&T) -> Value,
    ) -> Result<T, ConfigError> {
        let (taken, origin) = match self.given.remove(&(section.to_owned(), key.to_owned())) {
            None => (default, None),
            Some((raw, origin)) => match read(&raw) {
                Some(taken) => (taken, Some(origin)),
                None => return Err(ConfigError::Invalid { origin, section, key, expected: expected.to_owned() }),
            },
        };
        self.known.push(Setting { section, key, value: show(&taken), origin });
        Ok(taken)
    }

    /// What nobody took has a name that nothing has.
    fn refuse_the_rest(self) -> Result<Vec<Setting>, ConfigError> {
        let is_known = |section: &String| self.known.iter().any(|known| known.section == section);
        let empty = self.sections.into_iter().find(|(section, _)| !is_known(section));
        let Some(((section, key), origin)) = self
            .given
            .into_iter()
            .map(|(name, (_, origin))| (name, origin))
            .next()
            .or(empty.map(|(section, origin)| ((section, String::new()), origin)))
        else {
            return Ok(self.known);
        };
        let keys: Vec<&str> =
            self.known.iter().filter(|known| known.section == section).map(|known| known.key).collect();
        let known = if keys.is_empty() {
            let mut sections: Vec<&str> = self.known.iter().map(|known| known.section).collect();
            sections.dedup();
            format!("the sections are {}", sections.join(", "))
        } else {
            format!("[{section}] has {}", keys.join(", "))
        };
        let name = [section.as_str(), key.as_str()].into_iter().filter(|part| !part.is_empty());
        Err(ConfigError::Unknown { origin, name: name.collect::<Vec<_>>().join("."), known })
    }
}

/// Whether it is what Kubernetes sets by itself in every container where there is a service by the name of `authtokens`,
/// or `authtokens-metrics`: `…_SERVICE_HOST`, `…_SERVICE_PORT_HTTP`, `…_PORT_9100_TCP_ADDR`, and `…_PORT` with a URL.
fn is_from_kubernetes(name: &str, value: &OsStr) -> bool {
    let is_of_port = |(_, rest): (&str, &str)| rest.starts_with(|c: char| c.is_ascii_digit());
    let is_url = || value.to_str().is_some_and(|value| value.contains("://"));
    !name.contains("__")
        && (name.ends_with("_SERVICE_HOST")
            || name.contains("_SERVICE_PORT")
            || name.split_once("_PORT_").is_some_and(is_of_port)
            || (name.ends_with("_PORT") && is_url()))
}

/// Reads the file that is named, or the first of the others that is there.
fn read_file<'a>(named: Option<&'a Path>, others: &[&'a Path]) -> Result<Option<(&'a Path, String)>, ConfigError> {
    for path in named.as_slice().iter().chain(others) {
        match fs::read_to_string(path) {
            Ok(text) => return Ok(Some((path, text))),
            Err(error) if named.is_none() && error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(unreadable(path, source)),
        }
    }
    Ok(None)
}

/// What is wrong may be the folder that the program was started in.
fn unreadable(path: &Path, source: io::Error) -> ConfigError {
    if path.is_relative()
        && source.kind() == io::ErrorKind::PermissionDenied
        && fs::symlink_metadata(path).is_err()
        && let Ok(folder) = std::env::current_dir()
    {
        return ConfigError::Folder { file: path.to_owned(), folder, source };
    }
    ConfigError::Unreadable { path: path.to_owned(), source }
}

fn raw(value: &Spanned<DeValue<'_>>) -> Raw {
    match value.get_ref() {
        DeValue::String(text) => Raw::String(text.to_string()),
        DeValue::Integer(integer) => {
            i64::from_str_radix(integer.as_str(), integer.radix()).map_or(Raw::Other, Raw::Integer)
        }
        DeValue::Boolean(truth) => Raw::Boolean(*truth),
        DeValue::Array(items) => items
            .iter()
            .map(|item| item.get_ref().as_str().map(str::to_owned))
            .collect::<Option<_>>()
            .map_or(Raw::Other, Raw::Strings),
        _ => Raw::Other,
    }
}

impl Raw {
    fn text(&self) -> Option<&str> {
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

    fn strings(&self) -> Option<Vec<String>> {
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

    /// `"30 per 1min"`
    fn rate(&self) -> Option<Rate> {
        let (count, period) = self.text()?.split_once(" per ")?;
        let count = count.trim().parse().ok().filter(|count| (1..=1_000_000).contains(count))?;
        let bounds = Duration::from_secs(1)..=Duration::from_secs(24 * 60 * 60);
        let period = humantime::parse_duration(period.trim()).ok().filter(|period| bounds.contains(period))?;
        Some(Rate { count, period })
    }

    fn count(&self, least: usize, most: usize) -> Option<usize> {
        let count = usize::try_from(self.integer()?).ok()?;
        (least..=most).contains(&count).then_some(count)
    }
}

/// How a value is written, so that it reads back as the same.
trait Show {
    fn show(&self) -> Value;
}

impl Show for bool {
    fn show(&self) -> Value {
        (*self).into()
    }
}

impl Show for u32 {
    fn show(&self) -> Value {
        (*self).into()
    }
}

impl Show for u64 {
    fn show(&self) -> Value {
        (*self).into()
    }
}

impl Show for usize {
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

impl Show for Vec<String> {
    fn show(&self) -> Value {
        self.as_slice().into()
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

/// As a whole number of the largest unit that goes into it; nothing is of the smallest.
fn in_largest_unit(amount: u128, space: &str, units: &[(&str, u128)]) -> String {
    let unit = units.iter().filter(|_| amount > 0).find(|(_, size)| amount.is_multiple_of(*size));
    let (unit, size) = unit.or(units.last()).copied().unwrap_or(("", 1));
    format!("{}{space}{unit}", amount / size)
}

/// An eighth of the memory there is, from 64 MiB to 1 GiB: from some ninety thousand sessions to more than a million.
fn usual_cache(memory: Option<u64>) -> ByteSize {
    ByteSize(memory.unwrap_or_default() / 8).clamp(ByteSize::mib(64), ByteSize::gib(1))
}

fn cores() -> NonZeroUsize {
    thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}

/// Everything that can be configured.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// `[server]`
    pub server: ServerConfig,
    /// `[database]`
    pub database: DatabaseConfig,
    /// `[password]`
    pub password: PasswordConfig,
    /// `[tokens]`
    pub tokens: SessionPolicy,
    /// `[lists]`
    pub lists: ListsConfig,
    /// `[cors]`
    pub cors: CorsConfig,
    /// `[backup]`
    pub backup: BackupConfig,
    /// `[rate_limit]`
    pub rate_limit: LimitsPolicy,
    /// `[events]`
    pub events: EventsConfig,
    /// `[metrics]`
    pub metrics: MetricsConfig,
}

/// `[server]`: the listener and what a connection may cost.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerConfig {
    /// Where to listen; port 0 lets the system choose.
    pub listen: SocketAddr,
    /// How many threads serve connections.
    pub workers: NonZeroUsize,
    /// How large a request's body may be.
    pub body_limit: ByteSize,
    /// How large the body of a call with a password may be.
    pub password_body_limit: ByteSize,
    /// How much memory all bodies that are arriving may take together.
    pub body_budget: ByteSize,
    /// How long a request's body may take.
    pub body_timeout: Duration,
    /// How long a request's head may take.
    pub header_timeout: Duration,
    /// How long a connection may rest between two requests.
    pub keep_alive: Duration,
    /// How long a stop may wait for what was accepted.
    pub shutdown_timeout: Duration,
    /// How many connections are open at once; more wait to be accepted.
    pub max_connections: usize,
    /// The networks of the proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
}

/// `[database]`: the file and how it is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseConfig {
    /// The SQLite file.
    pub path: PathBuf,
    /// How many connections read at once.
    pub readers: u32,
    /// How long to wait for a lock that another process holds.
    pub busy_timeout: Duration,
    /// How much memory the sessions and users may take that are kept at hand.
    pub cache: ByteSize,
}

/// `[password]`: how passwords are hashed and what is asked of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PasswordConfig {
    /// The cost of a bcrypt hash: one more is twice the work.
    pub bcrypt_cost: u32,
    /// How many threads hash.
    pub hash_threads: NonZeroUsize,
    /// How many hashes may wait for a thread.
    pub hash_queue: usize,
    /// How many characters a new password must have.
    pub min_length: usize,
    /// Whether the most common passwords are refused.
    pub reject_common: bool,
}

/// `[lists]`: what a list may hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListsConfig {
    /// How many items a list may hold.
    pub max_items: usize,
}

/// `[cors]`: which pages may call the API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CorsConfig {
    /// The origins; `*` is all of them.
    pub origins: Vec<String>,
}

impl CorsConfig {
    /// Whether every origin may call.
    #[must_use]
    pub fn any_origin(&self) -> bool {
        self.origins == ["*"]
    }
}

/// `[backup]`: copies of the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupConfig {
    /// How long after a backup the next one is made; `None` is never.
    pub every: Option<Duration>,
    /// How many are kept.
    pub keep: usize,
    /// Where they are.
    pub folder: PathBuf,
}

/// `[events]`: how long security events are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventsConfig {
    /// For how long.
    pub retention: Duration,
    /// And how many at most.
    pub max: u64,
}

/// `[metrics]`: where the service shows how it is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetricsConfig {
    /// Where to listen for whoever collects them, or nowhere; port 0 lets the system choose.
    pub listen: Option<SocketAddr>,
}

impl Config {
    /// Reads what was gathered.
    ///
    /// # Errors
    /// [`ConfigError`] for the first value that cannot be, or a name that nothing has.
    pub fn from_settings(settings: Settings) -> Result<Self, ConfigError> {
        Ok(Self::explain(settings)?.0)
    }

    /// Reads what was gathered, and tells of every setting what it is and where it was given.
    ///
    /// # Errors
    /// See [`Config::from_settings`].
    pub fn explain(mut settings: Settings) -> Result<(Self, Vec<Setting>), ConfigError> {
        let config = Self::take(&mut settings)?;
        Ok((config, settings.refuse_the_rest()?))
    }

    fn take(settings: &mut Settings) -> Result<Self, ConfigError> {
        let server = ServerConfig::take(settings)?;
        let database = DatabaseConfig::take(settings)?;
        let backup_folder = database.path.with_file_name("backups");
        Ok(Self {
            server,
            database,
            password: PasswordConfig::take(settings)?,
            tokens: take_tokens(settings)?,
            lists: ListsConfig {
                max_items: settings.take(("lists", "max_items"), 10_000, "a whole number from 1 to 100000", |raw| {
                    raw.count(1, MAX_ITEMS)
                })?,
            },
            cors: CorsConfig::take(settings)?,
            backup: BackupConfig::take(settings, backup_folder)?,
            rate_limit: take_limits(settings)?,
            events: EventsConfig {
                retention: settings.take(
                    ("events", "retention"),
                    Duration::from_secs(90 * 24 * 60 * 60),
                    "a time from \"1h\" to \"36500days\", such as \"90d\"",
                    |raw| {
                        let bounds = Duration::from_secs(60 * 60)..=Duration::from_secs(36_500 * 24 * 60 * 60);
                        raw.duration().filter(|time| bounds.contains(time))
                    },
                )?,
                max: settings.take(("events", "max"), 1_000_000, "a whole number from 1000 to 1000000000", |raw| {
                    raw.integer().filter(|count| (1_000..=1_000_000_000).contains(count))
                })?,
            },
            metrics: MetricsConfig {
                listen: settings.take_as(
                    ("metrics", "listen"),
                    None,
                    "\"off\" or an address and a port such as \"127.0.0.1:9100\", for which \":9100\" and \
                     \"localhost:9100\" are short; no other name is looked up",
                    |raw| match raw.text()? {
                        "off" => Some(None),
                        text => address(text).map(Some),
                    },
                    |listen| listen.as_ref().map_or_else(|| "off".into(), Show::show),
                )?,
            },
        })
    }
}

impl ServerConfig {
    fn take(settings: &mut Settings) -> Result<Self, ConfigError> {
        const TIME: &str = "a time from \"1ms\" to \"1day\", such as \"30s\"";
        let time = |settings: &mut Settings, key, default| {
            settings.take(("server", key), Duration::from_secs(default), TIME, |raw| {
                let longest = Duration::from_secs(24 * 60 * 60);
                raw.duration().filter(|time| (Duration::from_millis(1)..=longest).contains(time))
            })
        };
        let body_size = |settings: &mut Settings, key, default| {
            settings.take(("server", key), default, "a size from \"1 KiB\" to \"64 MiB\", such as \"1 MiB\"", |raw| {
                raw.size().filter(|size| (ByteSize::kib(1)..=ByteSize::mib(64)).contains(size))
            })
        };
        Ok(Self {
            listen: settings.take(
                ("server", "listen"),
                SocketAddr::from(([127, 0, 0, 1], 8000)),
                "an address and a port such as \"127.0.0.1:8000\", for which \":8000\" and \"localhost:8000\" are short; \
                 no other name is looked up",
                |raw| address(raw.text()?),
            )?,
            workers: settings.take_threads(("server", "workers"), half)?,
            body_limit: body_size(settings, "body_limit", ByteSize::mib(1))?,
            password_body_limit: body_size(settings, "password_body_limit", ByteSize::kib(16))?,
            body_budget: settings.take(
                ("server", "body_budget"),
                ByteSize::mib(32),
                "a size from \"1 MiB\" to \"64 GiB\", such as \"32 MiB\"",
                |raw| raw.size().filter(|size| (ByteSize::mib(1)..=ByteSize::gib(64)).contains(size)),
            )?,
            body_timeout: time(settings, "body_timeout", 30)?,
            header_timeout: time(settings, "header_timeout", 10)?,
            keep_alive: time(settings, "keep_alive", 75)?,
            shutdown_timeout: settings.take(
                ("server", "shutdown_timeout"),
                Duration::from_secs(30),
                "a whole number of seconds from \"1s\" to \"1h\"",
                |raw| raw.duration().filter(|time| time.subsec_nanos() == 0 && (1..=3600).contains(&time.as_secs())),
            )?,
            max_connections: settings.take(
                ("server", "max_connections"),
                4096,
                "a whole number from 1 to 1000000",
                |raw| raw.count(1, 1_000_000),
            )?,
            trusted_proxies: settings.take(
                ("server", "trusted_proxies"),
                Vec::new(),
                "a list of networks such as \"10.0.0.0/8\" or addresses such as \"127.0.0.1\"",
                |raw| raw.strings()?.iter().map(|text| network(text)).collect(),
            )?,
        })
    }
}

/// An address and a port. A port alone, and one of `localhost`, is on the IPv4 loopback address.
fn address(text: &str) -> Option<SocketAddr> {
    let behind_name = text.strip_prefix("localhost").filter(|rest| rest.starts_with(':')).unwrap_or(text);
    match behind_name.strip_prefix(':').filter(|port| port.bytes().all(|byte| byte.is_ascii_digit())) {
        Some(port) => Some(SocketAddr::from(([127, 0, 0, 1], port.parse().ok()?))),
        None => text.parse().ok(),
    }
}

/// A network, or an address that is one by itself. One of IPv4 addresses in their IPv6 form is the IPv4 network: peers are
/// compared in that form. A network that only begins among them could be meant for nobody.
fn network(text: &str) -> Option<IpNet> {
    let network: IpNet = text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))?;
    match network.addr().to_canonical() {
        IpAddr::V4(address) if network.addr().is_ipv6() => {
            IpNet::new(address.into(), network.prefix_len().checked_sub(96)?).ok()
        }
        _ => Some(network),
    }
}

fn take_tokens(settings: &mut Settings) -> Result<SessionPolicy, ConfigError> {
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    // Less than this and a session in use could end: its last use is stored once a minute.
    const SHORTEST: Duration = Duration::from_secs(5 * 60);
    const TIME: &str = "a time from \"5min\" to \"36500days\", such as \"30d\", or \"never\"";
    let mut time =
        |key, days| settings.take_time_or(("tokens", key), "never", Some(DAY * days), TIME, SHORTEST..=DAY * 36_500);
    Ok(SessionPolicy {
        lifetime: time("lifetime", 365)?,
        idle_timeout: time("idle_timeout", 30)?,
        max_per_user: settings.take(("tokens", "max_per_user"), 100, "a whole number from 1 to 10000", |raw| {
            raw.count(1, SessionPolicy::HIGHEST_MAX_PER_USER).and_then(|count| u32::try_from(count).ok())
        })?,
    })
}

fn take_limits(settings: &mut Settings) -> Result<LimitsPolicy, ConfigError> {
    const EXPECTED: &str = "a number of attempts and a time, such as \"30 per 1min\"";
    const HOUR: Duration = Duration::from_secs(60 * 60);
    Ok(LimitsPolicy {
        enabled: settings.take(("rate_limit", "enabled"), true, "true or false", Raw::boolean)?,
        register: settings.take(("rate_limit", "register"), Rate { count: 20, period: HOUR }, EXPECTED, Raw::rate)?,
        login: settings.take(
            ("rate_limit", "login"),
            Rate { count: 30, period: Duration::from_secs(60) },
            EXPECTED,
            Raw::rate,
        )?,
    })
}

impl DatabaseConfig {
    fn take(settings: &mut Settings) -> Result<Self, ConfigError> {
        Ok(Self {
            path: settings.take(
                ("database", "path"),
                PathBuf::from("data/authtokens.db"),
                "the path of a file",
                |raw| raw.text().filter(|text| can_be_a_file(text)).map(PathBuf::from),
            )?,
            readers: settings.take(("database", "readers"), 4, "a whole number from 1 to 64", |raw| {
                raw.count(1, 64).and_then(|count| u32::try_from(count).ok())
            })?,
            busy_timeout: settings.take(
                ("database", "busy_timeout"),
                Duration::from_secs(2),
                "a time from \"0s\" to \"1min\", such as \"2s\"",
                |raw| raw.duration().filter(|time| *time <= Duration::from_secs(60)),
            )?,
            cache: settings.take_cache(("database", "cache"))?,
        })
    }
}

impl CorsConfig {
    fn take(settings: &mut Settings) -> Result<Self, ConfigError> {
        let given = settings.given.get(&("cors".to_owned(), "origins".to_owned()));
        let given = given.and_then(|(raw, _)| raw.strings()).unwrap_or_default();
        let hint = given.iter().find_map(|origin| hint_at_origin(origin)).unwrap_or_default();
        let expected = format!("[\"*\"] or a list of origins such as \"https://app.example.org\"{hint}");
        let read = |raw: &Raw| raw.strings().filter(|origins| are_origins(origins));
        Ok(Self { origins: settings.take(("cors", "origins"), vec!["*".to_owned()], &expected, read)? })
    }
}

impl BackupConfig {
    fn take(settings: &mut Settings, beside_the_database: PathBuf) -> Result<Self, ConfigError> {
        const MINUTE: Duration = Duration::from_secs(60);
        const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);
        const TIME: &str = "a time from \"1min\" to \"365days\", such as \"1day\", or \"off\"";
        Ok(Self {
            every: settings.take_time_or(("backup", "every"), "off", None, TIME, MINUTE..=YEAR)?,
            keep: settings.take(("backup", "keep"), 7, "a whole number from 1 to 10000", |raw| raw.count(1, 10_000))?,
            folder: settings.take(("backup", "folder"), beside_the_database, "the path of a folder", |raw| {
                raw.text().filter(|text| !text.is_empty() && !text.contains('\0')).map(PathBuf::from)
            })?,
        })
    }
}

impl PasswordConfig {
    fn take(settings: &mut Settings) -> Result<Self, ConfigError> {
        Ok(Self {
            bcrypt_cost: settings.take(
                ("password", "bcrypt_cost"),
                12,
                &format!("a whole number from {} to {}", COSTS.start(), COSTS.end()),
                |raw| raw.integer().and_then(|cost| u32::try_from(cost).ok()).filter(|cost| COSTS.contains(cost)),
            )?,
            hash_threads: settings.take_threads(("password", "hash_threads"), identity)?,
            hash_queue: settings
                .take(("password", "hash_queue"), 64, "a whole number from 1 to 100000", |raw| raw.count(1, 100_000))?,
            min_length: settings
                .take(("password", "min_length"), 1, "a whole number from 1 to 1024", |raw| raw.count(1, 1024))?,
            reject_common: settings.take(("password", "reject_common"), false, "true or false", Raw::boolean)?,
        })
    }
}

/// Half of the cores, and at least one: the others are for the proxy in front, for the writer and for hashing.
fn half(cores: NonZeroUsize) -> NonZeroUsize {
    NonZeroUsize::new(cores.get() / 2).unwrap_or(NonZeroUsize::MIN)
}

/// Whether a file can have this path: it names something, and not as a folder.
fn can_be_a_file(path: &str) -> bool {
    let is_folder = path.ends_with('/') || path.ends_with("/.") || Path::new(path).file_name().is_none();
    !is_folder && !path.contains('\0')
}

/// `*` alone, or origins.
fn are_origins(origins: &[String]) -> bool {
    origins == ["*"] || (!origins.is_empty() && origins.iter().all(|origin| is_origin(origin)))
}

/// An origin as a browser sends it: a scheme, a host in lower case, perhaps a port, and nothing behind.
fn is_origin(origin: &str) -> bool {
    let Some((scheme, authority)) = origin.split_once("://") else { return false };
    if ["http", "https"].contains(&scheme) {
        // A browser would send a host with an asterisk too, and there is no such host.
        return !authority.contains('*') && as_a_browser_writes(origin).is_some_and(|written| written == origin);
    }
    // The pages of an app: their schemes are the app's own, and so is what follows.
    let of = |text: &str, others: &[u8]| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || others.contains(&b))
    };
    let (host, port) = authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port)));
    of(scheme, b"+-.")
        && scheme.starts_with(|first: char| first.is_ascii_lowercase())
        && of(host, b"-._")
        && port.is_none_or(|port| of(port, b"") && port.parse::<u16>().is_ok())
}

/// The origin of a page at this address: without the port that is usual, the path and the user, in ASCII and lower case.
fn as_a_browser_writes(address: &str) -> Option<String> {
    let url = Url::parse(address).ok()?;
    Some(url.origin()).filter(url::Origin::is_tuple).map(|origin| origin.ascii_serialization())
}

/// What the owner of a wrong origin may have meant.
fn hint_at_origin(origin: &str) -> Option<String> {
    if is_origin(origin) || origin == "*" {
        return None;
    }
    if origin.eq_ignore_ascii_case("null") {
        return Some("; \"null\" stands for pages of which nobody knows where they come from".to_owned());
    }
    if origin.contains('*') {
        return Some("; every origin is written in full".to_owned());
    }
    let right = as_a_browser_writes(origin).or_else(|| as_a_browser_writes(&format!("https://{origin}")))?;
    Some(format!("; a browser sends {right:?}, not {origin:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from_text(text: &str) -> Result<Config, ConfigError> {
        let mut settings = Settings::default();
        settings.add_file(Path::new("config.toml"), text)?;
        Config::from_settings(settings)
    }

    fn from_variable(name: &str, value: &str) -> Result<Config, ConfigError> {
        let nowhere = tempfile::NamedTempFile::new().unwrap();
        let variables = [(name.to_owned(), value.into())];
        Config::from_settings(Settings::gather(Some(nowhere.path()), variables, [])?)
    }

    #[test]
    fn the_shipped_file_lists_every_key_at_its_default_in_the_order_in_which_they_are_shown() {
        let shipped = include_str!("../../config.toml");
        assert_eq!(from_text(shipped).unwrap(), from_text("").unwrap());

        let document = DeTable::parse(shipped).unwrap();
        let mut listed: Vec<(usize, String, String)> = Vec::new();
        for (section, table) in document.get_ref() {
            for key in table.get_ref().as_table().unwrap().keys() {
                listed.push((key.span().start, section.get_ref().to_string(), key.get_ref().to_string()));
            }
        }
        listed.sort();
        let mut settings = Settings::default();
        Config::take(&mut settings).unwrap();
        let known: Vec<_> = settings.known.iter().map(|known| (known.section, known.key)).collect();
        let listed: Vec<_> = listed.iter().map(|(_, section, key)| (section.as_str(), key.as_str())).collect();
        assert_eq!(listed, known);
    }

    #[test]
    fn the_file_for_a_service_is_right_and_has_no_path_that_depends_on_the_working_folder() {
        let config = from_text(include_str!("../../deploy/config.toml")).unwrap();
        assert!(config.database.path.is_absolute() && config.backup.folder.is_absolute());
        assert_eq!(config.backup.folder, config.database.path.with_file_name("backups"));
        assert_eq!(config.server.trusted_proxies.show(), serde_json::json!(["127.0.0.1/32"]));
    }

    #[test]
    fn a_network_of_ipv4_addresses_in_their_ipv6_form_is_the_ipv4_network() {
        let proxies = |text: &str| from_text(&format!("[server]\ntrusted_proxies = [\"{text}\"]"));
        for (text, network) in [
            ("::ffff:127.0.0.1", "127.0.0.1/32"),
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
            ("::ffff:0:0/96", "0.0.0.0/0"),
            ("2001:db8::/32", "2001:db8::/32"),
            ("::/0", "::/0"),
        ] {
            let shown = proxies(text).unwrap().server.trusted_proxies.show();
            assert_eq!(shown, serde_json::json!([network]), "{text}");
        }
        assert!(proxies("::ffff:10.0.0.0/95").is_err());
    }

    #[test]
    fn the_file_is_the_named_one_or_the_first_that_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let [named, near, far] = ["named", "near", "far"].map(|name| folder.path().join(name));
        let found = |file| read_file(file, &[&near, &far]).map(|found| found.map(|(_, text)| text));
        assert_eq!(found(None).unwrap(), None);
        fs::write(&far, "far").unwrap();
        assert_eq!(found(None).unwrap().as_deref(), Some("far"));
        fs::write(&near, "near").unwrap();
        assert_eq!(found(None).unwrap().as_deref(), Some("near"));
        assert!(found(Some(&named)).is_err(), "one that is named must be there");
        fs::write(&named, "named").unwrap();
        assert_eq!(found(Some(&named)).unwrap().as_deref(), Some("named"));
    }

    #[test]
    fn a_variable_with_nearly_the_name_of_a_setting_is_refused_and_others_are_nobodys_concern() {
        for wrong in
            ["AUTHTOKENS_SERVER__LISTEN", "AUTHTOKENS_LISTEN", "AUTHTOKENS_CONFIG_FILE", "AUTHTOKENS_", "AUTHTOKENS__"]
        {
            assert_eq!(
                from_variable(wrong, "x").unwrap_err().to_string(),
                format!(
                    "environment variable {wrong}: a setting is given as AUTHTOKENS__SECTION__KEY, and the file as \
                     AUTHTOKENS_CONFIG"
                )
            );
        }
        for other in ["AUTHTOKENS", "AUTHTOKENSX"] {
            from_variable(other, "x").unwrap();
        }
    }

    #[test]
    fn what_kubernetes_tells_of_services_with_our_name_is_nobodys_concern() {
        for service in ["AUTHTOKENS", "AUTHTOKENS_METRICS", "AUTHTOKENS_2_READ_ONLY"] {
            for (end, value) in [
                ("SERVICE_HOST", "10.0.0.1"),
                ("SERVICE_PORT", "9100"),
                ("SERVICE_PORT_HTTP", "9100"),
                ("PORT", "tcp://10.0.0.1:9100"),
                ("PORT_9100_TCP", "tcp://10.0.0.1:9100"),
                ("PORT_9100_TCP_PROTO", "tcp"),
                ("PORT_9100_TCP_PORT", "9100"),
                ("PORT_9100_TCP_ADDR", "10.0.0.1"),
            ] {
                from_variable(&format!("{service}_{end}"), value).unwrap();
            }
        }
        for (wrong, value) in [("AUTHTOKENS_SERVER_PORT", "9100"), ("AUTHTOKENS_SERVER__PORT", "tcp://10.0.0.1:9100")] {
            assert!(from_variable(wrong, value).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_variable_replaces_the_file_and_a_flag_replaces_both() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "[password]\nbcrypt_cost = 5\nhash_queue = 6\nmin_length = 7\n").unwrap();
        let variables = [
            ("AUTHTOKENS__PASSWORD__HASH_QUEUE".to_owned(), "8".into()),
            ("AUTHTOKENS__PASSWORD__MIN_LENGTH".to_owned(), "9".into()),
            ("UNRELATED".to_owned(), "x".into()),
        ];
        let flags = [("--min-length", "password", "min_length", "10".to_owned())];
        let config = Config::from_settings(Settings::gather(Some(file.path()), variables, flags).unwrap()).unwrap();
        assert_eq!(config.password.bcrypt_cost, 5);
        assert_eq!(config.password.hash_queue, 8);
        assert_eq!(config.password.min_length, 10);
    }

    #[test]
    fn an_unknown_key_a_wrong_type_or_an_impossible_value_is_one_sentence_that_names_the_source() {
        for (text, sentence) in [
            (
                "[server]\n\nlisten_on = 1",
                "config.toml line 3: there is no setting server.listen_on; [server] has listen, workers, body_limit, password_body_limit, body_budget, body_timeout, \
                 header_timeout, keep_alive, shutdown_timeout, max_connections, trusted_proxies",
            ),
            (
                "[sever]\nlisten = 1",
                "config.toml line 2: there is no setting sever.listen; the sections are server, database, ",
            ),
            (
                "[password]\nbcrypt_cost = 3",
                "config.toml line 2: password.bcrypt_cost must be a whole number from 4 to 16",
            ),
            (
                "[password]\nbcrypt_cost = \"12\"",
                "config.toml line 2: password.bcrypt_cost must be a whole number from 4 to 16",
            ),
            (
                "[cors]\norigins = [\"*\", \"https://a.example\"]",
                "config.toml line 2: cors.origins must be [\"*\"] or a list of origins such as \"https://app.example.org\"",
            ),
            (
                "[cors]\norigins = [\"https://a.example\", \"https://App.example:443/\"]",
                "config.toml line 2: cors.origins must be [\"*\"] or a list of origins such as \"https://app.example.org\"; \
                 a browser sends \"https://app.example\", not \"https://App.example:443/\"",
            ),
            ("[sever]\n", "config.toml line 1: there is no setting sever; the sections are server, database, "),
            (
                "[metrics]\nlisten = \"9100\"",
                "config.toml line 2: metrics.listen must be \"off\" or an address and a port such as \"127.0.0.1:9100\", for \
                 which \":9100\" and \"localhost:9100\" are short; no other name is looked up",
            ),
            ("listen = 1", "config.toml line 1: a setting must stand in a section such as [server]"),
        ] {
            let said = from_text(text).unwrap_err().to_string();
            let is_cut = sentence.ends_with(", ");
            assert!(said == sentence || (is_cut && said.starts_with(sentence)), "{said}");
        }
        assert!(from_text("[server]\nlisten = ").unwrap_err().to_string().starts_with("config.toml line 2: "));
        for (name, value, sentence) in [
            (
                "AUTHTOKENS__SERVER__BODY_LIMIT",
                "a lot",
                "environment variable AUTHTOKENS__SERVER__BODY_LIMIT: server.body_limit must be a size from \"1 KiB\" to \"64 MiB\", such as \"1 MiB\"",
            ),
            (
                "AUTHTOKENS__SERVER",
                "x",
                "environment variable AUTHTOKENS__SERVER: there is no setting server; [server] has listen, workers, body_limit, password_body_limit, body_budget, body_timeout, header_timeout, keep_alive, shutdown_timeout, max_connections, trusted_proxies",
            ),
        ] {
            assert_eq!(from_variable(name, value).unwrap_err().to_string(), sentence);
        }
    }

    #[test]
    fn an_origin_is_written_as_a_browser_sends_it() {
        for good in [
            "https://app.example.org",
            "http://localhost:3000",
            "http://[::1]:8080",
            "https://127.0.0.1:80",
            "https://xn--bcher-kva.example",
            "capacitor://localhost",
            "chrome-extension://abcdefghijklmnop",
        ] {
            assert!(is_origin(good), "{good}");
            assert_eq!(hint_at_origin(good), None, "{good}");
        }
        for (wrong, right) in [
            ("https://app.example.org:443", "https://app.example.org"),
            ("http://app.example.org:80", "http://app.example.org"),
            ("https://APP.example.org", "https://app.example.org"),
            ("HTTPS://app.example.org", "https://app.example.org"),
            ("https://app.example.org/", "https://app.example.org"),
            ("https://app.example.org/login?x#y", "https://app.example.org"),
            ("https://me@app.example.org", "https://app.example.org"),
            ("https://app.example.org:08443", "https://app.example.org:8443"),
            ("https://bücher.example", "https://xn--bcher-kva.example"),
            ("http://127.1:3000", "http://127.0.0.1:3000"),
            ("http://[0:0::1]:3000", "http://[::1]:3000"),
            ("app.example.org", "https://app.example.org"),
            ("localhost:3000", "https://localhost:3000"),
        ] {
            assert!(!is_origin(wrong), "{wrong}");
            assert!(is_origin(right), "{right}");
            assert_eq!(hint_at_origin(wrong).unwrap(), format!("; a browser sends {right:?}, not {wrong:?}"));
        }
        for wrong in ["null", "https://*.example.org", "*.example.org"] {
            assert!(!is_origin(wrong) && hint_at_origin(wrong).is_some(), "{wrong}");
        }
        for bad in [
            "*",
            "app.example.org",
            "https://",
            "https://[bad",
            "https://a.example:99999",
            "http://A.example",
            "https://a.example/",
            "https://u@a.example",
            "HTTPS://a.example",
            "https://a.example:",
            "https://a b",
        ] {
            assert!(!is_origin(bad), "{bad}");
        }
    }

    #[test]
    fn a_port_alone_and_one_of_localhost_is_on_the_loopback_address() {
        let listen = |text: &str| from_variable("AUTHTOKENS__SERVER__LISTEN", text).map(|config| config.server.listen);
        for text in ["127.0.0.1:8001", ":8001", "localhost:8001"] {
            assert_eq!(listen(text).unwrap(), SocketAddr::from(([127, 0, 0, 1], 8001)), "{text}");
            let metrics = from_text(&format!("[metrics]\nlisten = {text:?}")).unwrap().metrics.listen;
            assert_eq!(metrics, Some(SocketAddr::from(([127, 0, 0, 1], 8001))), "{text}");
        }
        assert_eq!(listen("[::]:8001").unwrap(), "[::]:8001".parse().unwrap());
        for wrong in
            ["8001", "localhost", ":", ":+80", ":65536", "::1:80", "localhosts:80", "example.org:80", "*:80", ""]
        {
            let said = listen(wrong).unwrap_err().to_string();
            assert!(said.ends_with("\"localhost:8000\" are short; no other name is looked up"), "{wrong}: {said}");
        }
    }

    #[test]
    fn a_path_that_no_file_can_have_is_refused() {
        for path in ["a.db", "/var/lib/a", "../a", ".a", "a/.b", "a.", ":memory:", "file:a.db?mode=memory"] {
            assert!(can_be_a_file(path), "{path}");
        }
        for path in ["", ".", "..", "/", "data/", "data/.", "a\0b"] {
            assert!(!can_be_a_file(path), "{path:?}");
        }
        assert!(from_text("[backup]\nfolder = \"a\\u0000b\"").is_err());
    }

    #[test]
    fn backups_are_off_or_made_every_minute_to_every_year() {
        let config = from_text("[backup]\nevery = \"1day\"\nkeep = 1\nfolder = \"/mnt/backups\"").unwrap();
        let expected =
            BackupConfig { every: Some(Duration::from_secs(86_400)), keep: 1, folder: PathBuf::from("/mnt/backups") };
        assert_eq!(config.backup, expected);
        assert_eq!(from_variable("AUTHTOKENS__BACKUP__EVERY", "off").unwrap().backup.every, None);
        for bad in
            ["every = \"59s\"", "every = \"366days\"", "every = false", "keep = 0", "keep = 10001", "folder = \"\""]
        {
            assert!(from_text(&format!("[backup]\n{bad}")).is_err(), "{bad}");
        }
    }

    #[test]
    fn every_setting_is_shown_as_it_reads_back_and_with_where_it_was_given() {
        let text = "[server]\nlisten = \"[::1]:1\"\nbody_limit = 1025\nbody_timeout = \"1m 30s\"\nkeep_alive = \"1500us\"\n\
            trusted_proxies = [\"10.0.0.0/8\", \"::1\"]\n[database]\nbusy_timeout = \"0s\"\npath = \"a\\\"b\"\n\
            [tokens]\nlifetime = \"never\"\n[backup]\nevery = \"1day\"\n[rate_limit]\nlogin = \"3 per 90s\"";
        let mut settings = Settings::default();
        settings.add_file(Path::new("config.toml"), text).unwrap();
        let (config, shown) = Config::explain(settings).unwrap();
        let toml: String = shown
            .iter()
            .fold(String::new(), |toml, one| toml + &format!("{}.{} = {}\n", one.section, one.key, one.value));
        assert_eq!(from_text(&toml).unwrap(), config, "{toml}");
        let of = |section, key| shown.iter().find(|one| (one.section, one.key) == (section, key)).unwrap();
        assert_eq!(of("server", "workers").value, "auto", "and not the number of this machine's cores");
        assert_eq!(of("backup", "folder").value, "backups", "beside the database");
        assert_eq!(of("server", "body_limit").value, "1025 B");
        assert_eq!(of("server", "body_timeout").value, "90s");
        assert_eq!(of("tokens", "lifetime").value, "never");
        let origin = of("server", "body_limit").origin.clone().unwrap();
        assert_eq!(origin.to_string(), "config.toml line 3");
        assert_eq!(of("server", "shutdown_timeout").origin, None);
    }

    #[test]
    fn the_cache_is_an_eighth_of_the_memory_within_bounds() {
        for (memory, cache) in [(None, 64), (Some(256), 64), (Some(1024), 128), (Some(4096), 512), (Some(65_536), 1024)]
        {
            assert_eq!(usual_cache(memory.map(|mib| mib << 20)), ByteSize::mib(cache), "{memory:?}");
        }
        assert_eq!(from_text("[database]\ncache = \"0 B\"").unwrap().database.cache, ByteSize::b(0));
        assert!(from_text("[database]\ncache = \"all\"").is_err());
    }

    #[test]
    fn sizes_and_times_are_written_as_people_write_them() {
        let config =
            from_text("[server]\nbody_limit = \"512 KiB\"\nkeep_alive = \"2m 30s\"\nbody_timeout = \"250ms\"").unwrap();
        assert_eq!(config.server.body_limit, ByteSize::kib(512));
        assert_eq!(config.server.keep_alive, Duration::from_secs(150));
        assert_eq!(config.server.body_timeout, Duration::from_millis(250));
        for nonsense in ["\"1 mile\"", "\"-1s\"", "\"0s\"", "\"400days\"", "30"] {
            assert!(from_text(&format!("[server]\nkeep_alive = {nonsense}")).is_err(), "{nonsense}");
        }
    }
}
