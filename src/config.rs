//! The configuration: a file, over it the environment, over it the command line.
//!
//! Every setting has a default, so none of the three must exist. Whatever is given is checked in full before the server
//! touches anything, and what is wrong is said in one sentence that names where it was said: file and line, variable or
//! flag. [`Settings`] gathers the raw values with their origins; [`Config`] is what they mean.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use bytesize::ByteSize;
use ipnet::IpNet;
use thiserror::Error;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::password::COSTS;
use crate::session::SessionPolicy;

/// The file that is read from the working folder when no other is named.
pub const DEFAULT_FILE: &str = "config.toml";

/// What the name of every environment variable of ours starts with.
const VARIABLE_PREFIX: &str = "AUTHTOKENS__";

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
    /// The sections of the file, the empty ones too.
    sections: Vec<(String, Origin)>,
    /// The settings that there are, in the order in which they were asked for.
    known: Vec<(&'static str, &'static str)>,
}

impl Settings {
    /// Gathers all three sources: the named file, or [`DEFAULT_FILE`] where it exists; the environment; the flags.
    ///
    /// # Errors
    /// [`ConfigError`] when the file cannot be read or is not TOML, or a variable's name has no section and key.
    pub fn gather(
        file: Option<&Path>,
        variables: impl IntoIterator<Item = (String, OsString)>,
        flags: impl IntoIterator<Item = (&'static str, &'static str, &'static str, String)>,
    ) -> Result<Self, ConfigError> {
        let mut settings = Self::default();
        let path = file.unwrap_or(Path::new(DEFAULT_FILE));
        match fs::read_to_string(path) {
            Ok(text) => settings.add_file(path, &text)?,
            Err(error) if file.is_none() && error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(ConfigError::Unreadable { path: path.to_owned(), source }),
        }
        for (name, value) in variables {
            if let Some(setting) = name.strip_prefix(VARIABLE_PREFIX) {
                let setting = setting.to_ascii_lowercase();
                let (section, key) = setting.split_once("__").unwrap_or((setting.as_str(), ""));
                // What is not text is no value of any setting.
                let value = value.into_string().map_or(Raw::Other, Raw::Text);
                settings.add(section, key, value, Origin::Variable(name.clone()));
            }
        }
        for (flag, section, key, value) in flags {
            settings.add(section, key, Raw::Text(value), Origin::Flag(flag));
        }
        Ok(settings)
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
    fn take<T>(
        &mut self,
        (section, key): (&'static str, &'static str),
        default: T,
        expected: &str,
        read: impl FnOnce(&Raw) -> Option<T>,
    ) -> Result<T, ConfigError> {
        self.known.push((section, key));
        match self.given.remove(&(section.to_owned(), key.to_owned())) {
            None => Ok(default),
            Some((raw, origin)) => {
                read(&raw).ok_or_else(|| ConfigError::Invalid { origin, section, key, expected: expected.to_owned() })
            }
        }
    }

    /// What nobody took has a name that nothing has.
    fn refuse_the_rest(self) -> Result<(), ConfigError> {
        let is_known = |section: &String| self.known.iter().any(|known| known.0 == section);
        let empty = self.sections.into_iter().find(|(section, _)| !is_known(section));
        let Some(((section, key), origin)) = self
            .given
            .into_iter()
            .map(|(name, (_, origin))| (name, origin))
            .next()
            .or(empty.map(|(section, origin)| ((section, String::new()), origin)))
        else {
            return Ok(());
        };
        let keys: Vec<&str> = self.known.iter().filter(|known| known.0 == section).map(|known| known.1).collect();
        let known = if keys.is_empty() {
            let mut sections: Vec<&str> = self.known.iter().map(|known| known.0).collect();
            sections.dedup();
            format!("the sections are {}", sections.join(", "))
        } else {
            format!("[{section}] has {}", keys.join(", "))
        };
        let name = [section.as_str(), key.as_str()].into_iter().filter(|part| !part.is_empty());
        Err(ConfigError::Unknown { origin, name: name.collect::<Vec<_>>().join("."), known })
    }
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

    /// A number of threads: `"auto"` is one a core.
    fn threads(&self) -> Option<NonZeroUsize> {
        if self.text() == Some("auto") {
            return Some(cores());
        }
        self.count(1, 1024).and_then(NonZeroUsize::new)
    }

    fn count(&self, least: usize, most: usize) -> Option<usize> {
        let count = usize::try_from(self.integer()?).ok()?;
        (least..=most).contains(&count).then_some(count)
    }
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
    /// `[rate_limit]`
    pub rate_limit: RateLimitConfig,
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

/// `[rate_limit]`: reserved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateLimitConfig {
    /// Accepted for the release that brings limits; it has no effect yet.
    pub enabled: bool,
}

impl Config {
    /// Reads what was gathered.
    ///
    /// # Errors
    /// [`ConfigError`] for the first value that cannot be, or a name that nothing has.
    pub fn from_settings(mut settings: Settings) -> Result<Self, ConfigError> {
        let config = Self::take(&mut settings)?;
        settings.refuse_the_rest()?;
        Ok(config)
    }

    fn take(settings: &mut Settings) -> Result<Self, ConfigError> {
        Ok(Self {
            server: ServerConfig::take(settings)?,
            database: DatabaseConfig::take(settings)?,
            password: PasswordConfig::take(settings)?,
            tokens: take_tokens(settings)?,
            lists: ListsConfig {
                max_items: settings.take(("lists", "max_items"), 10_000, "a whole number from 1 to 100000", |raw| {
                    raw.count(1, 100_000)
                })?,
            },
            cors: CorsConfig {
                origins: settings.take(
                    ("cors", "origins"),
                    vec!["*".to_owned()],
                    "[\"*\"] or a list of origins such as \"https://app.example.org\"",
                    |raw| raw.strings().filter(|origins| are_origins(origins)),
                )?,
            },
            rate_limit: RateLimitConfig {
                enabled: settings.take(("rate_limit", "enabled"), true, "true or false", Raw::boolean)?,
            },
        })
    }
}

impl ServerConfig {
    fn take(settings: &mut Settings) -> Result<Self, ConfigError> {
        const TIME: &str = "a time from \"1ms\" to \"1day\", such as \"30s\"";
        let mut time = |key, default| {
            settings.take(("server", key), Duration::from_secs(default), TIME, |raw| {
                let longest = Duration::from_secs(24 * 60 * 60);
                raw.duration().filter(|time| (Duration::from_millis(1)..=longest).contains(time))
            })
        };
        let body_timeout = time("body_timeout", 30)?;
        let header_timeout = time("header_timeout", 10)?;
        let keep_alive = time("keep_alive", 75)?;
        let shutdown_timeout = settings.take(
            ("server", "shutdown_timeout"),
            Duration::from_secs(30),
            "a whole number of seconds from \"1s\" to \"1h\"",
            |raw| raw.duration().filter(|time| time.subsec_nanos() == 0 && (1..=3600).contains(&time.as_secs())),
        )?;
        Ok(Self {
            listen: settings.take(
                ("server", "listen"),
                SocketAddr::from(([127, 0, 0, 1], 8000)),
                "an address and a port such as \"127.0.0.1:8000\"",
                |raw| raw.text()?.parse().ok(),
            )?,
            workers: settings.take(
                ("server", "workers"),
                cores(),
                "\"auto\" or a whole number from 1 to 1024",
                Raw::threads,
            )?,
            body_limit: settings.take(
                ("server", "body_limit"),
                ByteSize::mib(1),
                "a size from \"1 KiB\" to \"64 MiB\", such as \"1 MiB\"",
                |raw| raw.size().filter(|size| (ByteSize::kib(1)..=ByteSize::mib(64)).contains(size)),
            )?,
            body_timeout,
            header_timeout,
            keep_alive,
            shutdown_timeout,
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

/// A network, or an address that is one by itself.
fn network(text: &str) -> Option<IpNet> {
    text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

fn take_tokens(settings: &mut Settings) -> Result<SessionPolicy, ConfigError> {
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    // Less than this and a session in use could end: its last use is stored once a minute.
    const SHORTEST: Duration = Duration::from_secs(5 * 60);
    const TIME: &str = "a time from \"5min\" to \"36500days\", such as \"30d\", or \"never\"";
    let mut time = |key, days| {
        settings.take(("tokens", key), Some(DAY * days), TIME, |raw| match raw.text() {
            Some("never") => Some(None),
            _ => raw.duration().filter(|time| (SHORTEST..=DAY * 36_500).contains(time)).map(Some),
        })
    };
    Ok(SessionPolicy {
        lifetime: time("lifetime", 365)?,
        idle_timeout: time("idle_timeout", 30)?,
        max_per_user: settings.take(("tokens", "max_per_user"), 100, "a whole number from 1 to 10000", |raw| {
            raw.count(1, 10_000).and_then(|count| u32::try_from(count).ok())
        })?,
    })
}

impl DatabaseConfig {
    fn take(settings: &mut Settings) -> Result<Self, ConfigError> {
        Ok(Self {
            path: settings.take(
                ("database", "path"),
                PathBuf::from("data/authtokens.db"),
                "the path of a file",
                |raw| raw.text().filter(|text| !text.is_empty()).map(PathBuf::from),
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
            hash_threads: settings.take(
                ("password", "hash_threads"),
                cores(),
                "\"auto\" or a whole number from 1 to 1024",
                Raw::threads,
            )?,
            hash_queue: settings
                .take(("password", "hash_queue"), 64, "a whole number from 1 to 100000", |raw| raw.count(1, 100_000))?,
            min_length: settings
                .take(("password", "min_length"), 1, "a whole number from 1 to 1024", |raw| raw.count(1, 1024))?,
            reject_common: settings.take(("password", "reject_common"), false, "true or false", Raw::boolean)?,
        })
    }
}

/// `*` alone, or origins.
fn are_origins(origins: &[String]) -> bool {
    origins == ["*"] || (!origins.is_empty() && origins.iter().all(|origin| is_origin(origin)))
}

/// An origin as a browser sends it: a scheme, a host in lower case, perhaps a port, and nothing behind.
fn is_origin(origin: &str) -> bool {
    let Some((scheme, authority)) = origin.split_once("://") else { return false };
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let of = |text: &str, others: &[u8]| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || others.contains(&b))
    };
    let is_ipv6 = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .is_some_and(|ip| ip.parse::<std::net::Ipv6Addr>().is_ok());
    of(scheme, b"+-.")
        && scheme.starts_with(|first: char| first.is_ascii_lowercase())
        && (is_ipv6 || of(host, b"-._"))
        && port.is_none_or(|port| !port.starts_with('+') && port.parse::<u16>().is_ok())
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
    fn the_shipped_file_lists_every_key_at_its_default() {
        let shipped = include_str!("../config.toml");
        assert_eq!(from_text(shipped).unwrap(), from_text("").unwrap());

        let document = DeTable::parse(shipped).unwrap();
        let mut listed: Vec<(String, String)> = Vec::new();
        for (section, table) in document.get_ref() {
            for key in table.get_ref().as_table().unwrap().keys() {
                listed.push((section.get_ref().to_string(), key.get_ref().to_string()));
            }
        }
        let mut settings = Settings::default();
        Config::take(&mut settings).unwrap();
        let mut known: Vec<(String, String)> =
            settings.known.iter().map(|(section, key)| ((*section).to_owned(), (*key).to_owned())).collect();
        known.sort();
        listed.sort();
        assert_eq!(listed, known);
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
                "config.toml line 3: there is no setting server.listen_on; [server] has body_timeout, header_timeout, keep_alive, \
                 shutdown_timeout, listen, workers, body_limit, max_connections, trusted_proxies",
            ),
            (
                "[sever]\nlisten = 1",
                "config.toml line 2: there is no setting sever.listen; the sections are server, database, password, tokens, lists, cors, rate_limit",
            ),
            (
                "[password]\nbcrypt_cost = 3",
                "config.toml line 2: password.bcrypt_cost must be a whole number from 4 to 31",
            ),
            (
                "[password]\nbcrypt_cost = \"12\"",
                "config.toml line 2: password.bcrypt_cost must be a whole number from 4 to 31",
            ),
            (
                "[cors]\norigins = [\"*\", \"https://a.example\"]",
                "config.toml line 2: cors.origins must be [\"*\"] or a list of origins such as \"https://app.example.org\"",
            ),
            (
                "[sever]\n",
                "config.toml line 1: there is no setting sever; the sections are server, database, password, tokens, lists, cors, rate_limit",
            ),
            ("listen = 1", "config.toml line 1: a setting must stand in a section such as [server]"),
        ] {
            assert_eq!(from_text(text).unwrap_err().to_string(), sentence);
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
                "environment variable AUTHTOKENS__SERVER: there is no setting server; [server] has body_timeout, header_timeout, keep_alive, shutdown_timeout, listen, workers, body_limit, max_connections, trusted_proxies",
            ),
        ] {
            assert_eq!(from_variable(name, value).unwrap_err().to_string(), sentence);
        }
    }

    #[test]
    fn an_origin_is_written_as_a_browser_sends_it() {
        for good in ["https://app.example.org", "http://localhost:3000", "http://[::1]:8080", "capacitor://localhost"] {
            assert!(is_origin(good), "{good}");
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
