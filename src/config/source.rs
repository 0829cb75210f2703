//! The sources of settings: a file, over it the environment, over it the command line; and the errors of a
//! configuration.
//!
//! [`Settings::gather`] makes one tree of all that was given, each value with its [`Origin`]. [`super::table`] then
//! finds out what the values mean.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs;
use std::io;
use std::mem;
use std::path::{Path, PathBuf};

use serde_json::Value;
use thiserror::Error;
use toml::de::{DeTable, DeValue};

use crate::config::value::Raw;

/// Where a file is looked for when none is named: in the working folder, and then where a service keeps it.
pub const DEFAULT_FILES: [&str; 2] = ["config.toml", "/etc/authtokens/config.toml"];

/// The environment variable that names the file.
pub const FILE_VARIABLE: &str = "AUTHTOKENS_CONFIG";

/// The prefix of every environment variable that is a setting.
pub(super) const VARIABLE_PREFIX: &str = "AUTHTOKENS__";

/// The prefix of every environment variable that is meant for us, valid or not.
const OUR_PREFIX: &str = "AUTHTOKENS_";

/// The separator of the parts of a variable's name.
pub(super) const VARIABLE_SEPARATOR: &str = "__";

/// The variable by which systemd names the folder of a service's credentials.
const CREDENTIALS_VARIABLE: &str = "CREDENTIALS_DIRECTORY";

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
    /// The working folder cannot be searched for a file.
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
    /// The variable's name begins like a setting's, but cannot be one.
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
    /// There is no setting or section of this name.
    #[error("{origin}: there is no setting {name}; {known}")]
    Unknown {
        /// Where.
        origin: Origin,
        /// The name that was given, with its section.
        name: String,
        /// What may have been meant, and which settings there are.
        known: String,
    },
    /// The value has another type, or is not allowed.
    #[error("{}{name} must be {expected}", behind(.origin.as_ref()))]
    Invalid {
        /// Where; `None` is the default, which is always valid.
        origin: Option<Origin>,
        /// The section and the key.
        name: String,
        /// What it must be.
        expected: String,
    },
    /// A required value is missing.
    #[error("{}{name} is missing; it must be {expected}", behind(.origin.as_ref()))]
    Missing {
        /// Where the section is that lacks it; `None` where the section itself is missing.
        origin: Option<Origin>,
        /// The section and the key.
        name: String,
        /// What it must be.
        expected: String,
    },
    /// Settings that are valid by themselves do not go together.
    #[error("{0}")]
    Conflict(String),
    /// A secret is given as a value and as a file.
    #[error("{file}: {name} is given already by {value}; leave one of the two")]
    Twice {
        /// Where the file is named.
        file: Origin,
        /// Where the value is.
        value: Origin,
        /// The secret's section and key.
        name: String,
    },
    /// The file that holds a secret cannot be used.
    #[error("{origin}: the file for {name}, {path}, {why}")]
    SecretFile {
        /// Where it was named.
        origin: Origin,
        /// The secret's section and key.
        name: String,
        /// The file.
        path: PathBuf,
        /// What is wrong with it, never what is in it.
        why: String,
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
    /// In a file of its own, which was named elsewhere.
    SecretFile {
        /// Which.
        path: PathBuf,
        /// Where it was named.
        named: Box<Origin>,
        /// Whether every user of the machine can read it.
        is_open_to_all: bool,
    },
    /// In a credential of this name that systemd passes.
    Credential(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line } => write!(f, "{} line {line}", path.display()),
            Self::Variable(name) => write!(f, "environment variable {name}"),
            Self::Flag(name) => write!(f, "flag {name}"),
            Self::SecretFile { path, named, .. } => write!(f, "{}, named by {named}", path.display()),
            Self::Credential(name) => write!(f, "systemd credential {name}"),
        }
    }
}

/// A setting as it is in effect.
#[derive(Clone, Debug, PartialEq)]
pub struct Setting {
    /// Its section, in full: `mail.smtp`.
    pub section: &'static str,
    /// The index of its section, where the section is in a list.
    pub entry: Option<usize>,
    /// Its key.
    pub key: &'static str,
    /// Its value, which reads back as the same from a file; null where it is not given and has no default;
    /// [`super::secret::MASK`] where it is a secret.
    pub value: Value,
    /// Whether its value is masked.
    pub is_secret: bool,
    /// Where it was given; `None` where it is the default.
    pub origin: Option<Origin>,
}

impl Setting {
    /// Its section and its key.
    #[must_use]
    pub fn name(&self) -> String {
        join(self.section, self.key)
    }
}

/// The full name of a key in a section; the configuration as a whole has no name.
pub(super) fn join(section: &str, key: &str) -> String {
    if section.is_empty() { key.to_owned() } else { format!("{section}.{key}") }
}

/// An origin as the beginning of a sentence.
fn behind(origin: Option<&Origin>) -> String {
    origin.map_or_else(String::new, |origin| format!("{origin}: "))
}

/// What was given under a name, and where.
pub(super) struct Given {
    pub(super) node: Node,
    pub(super) origin: Origin,
}

/// A node of the tree: a value, a section, or a list of sections.
pub(super) enum Node {
    Value(Raw),
    Table(Entries),
    /// What a file writes as `[[name]]`.
    List(Vec<(Entries, Origin)>),
}

pub(super) type Entries = BTreeMap<String, Given>;

/// A name that no setting and no section has.
pub(super) struct Unknown {
    pub(super) name: String,
    pub(super) origin: Origin,
}

/// Everything that was given. A later source replaces an earlier one.
#[derive(Default)]
pub struct Settings {
    pub(super) given: Entries,
    /// Values that an earlier source gave for a name that is a section in a later one.
    pub(super) replaced: Vec<Unknown>,
    /// The same of lists.
    pub(super) replaced_lists: Vec<(String, Origin)>,
    /// What stood below a name that a later source gave a value: for a setting, names that do not exist.
    pub(super) shadowed: Vec<(String, Entries)>,
    /// The file that was read.
    file: Option<PathBuf>,
    /// The folder of the credentials that systemd passes.
    pub(super) credentials: Option<PathBuf>,
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
                // A value that is not UTF-8 is valid for no setting.
                let value = value.into_string().map_or(Raw::Other, Raw::Text);
                given.push((setting, value, Origin::Variable(name)));
            } else if name == FILE_VARIABLE {
                named = named.or_else(|| (!value.is_empty()).then(|| value.into()));
            } else if name == CREDENTIALS_VARIABLE {
                settings.credentials = Some(value.into()).filter(|path: &PathBuf| path.is_absolute());
            } else if name.starts_with(OUR_PREFIX) && !is_from_kubernetes(&name, &value) {
                return Err(ConfigError::UnknownVariable(name));
            }
        }
        if let Some((path, text)) = read_file(named.as_deref(), &DEFAULT_FILES.map(Path::new))? {
            settings.add_file(path, &text)?;
            settings.file = Some(path.to_owned());
        }
        for (setting, value, origin) in given {
            settings.add(setting.split(VARIABLE_SEPARATOR), value, origin);
        }
        for (flag, section, key, value) in flags {
            settings.add([section, key].into_iter(), Raw::Text(value), Origin::Flag(flag));
        }
        Ok(settings)
    }

    /// The file that was read, where there was one.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// Adds a value at the end of a path, with the sections on the way.
    fn add<'a>(&mut self, path: impl Iterator<Item = &'a str>, value: Raw, origin: Origin) {
        let mut entries = &mut self.given;
        let mut path = path.peekable();
        let mut name = String::new();
        while let Some(part) = path.next() {
            name = join(&name, part);
            if path.peek().is_none() {
                let given = Given { node: Node::Value(value), origin };
                if let Some(Given { node: Node::Table(below), .. }) = entries.insert(part.to_owned(), given) {
                    self.shadowed.push((name, below));
                }
                return;
            }
            let empty = || Given { node: Node::Table(Entries::new()), origin: origin.clone() };
            let given = entries.entry(part.to_owned()).or_insert_with(empty);
            if !matches!(given.node, Node::Table(_)) {
                let Given { node, origin } = mem::replace(given, empty());
                match node {
                    Node::List(_) => self.replaced_lists.push((name.clone(), origin)),
                    _ => self.replaced.push(Unknown { name: name.clone(), origin }),
                }
            }
            let Node::Table(below) = &mut given.node else { return };
            entries = below;
        }
    }

    pub(super) fn add_file(&mut self, path: &Path, text: &str) -> Result<(), ConfigError> {
        let origin = |at: usize| {
            let line = text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1;
            Origin::File { path: path.to_owned(), line }
        };
        let syntax = |at, why: &str| ConfigError::Syntax { origin: origin(at), why: why.replace('\n', ", ") };
        let document =
            DeTable::parse(text).map_err(|error| syntax(error.span().map_or(0, |span| span.start), error.message()))?;
        for (key, value) in document.get_ref() {
            let (at, node) = (key.span().start, node(value.get_ref(), &origin));
            if matches!(node, Node::Value(_)) {
                return Err(syntax(at, "a setting must stand in a section such as [server]"));
            }
            self.given.insert(key.get_ref().to_string(), Given { node, origin: origin(at) });
        }
        Ok(())
    }
}

fn entries(table: &DeTable<'_>, origin: &impl Fn(usize) -> Origin) -> Entries {
    let given = |value: &DeValue<'_>, at| Given { node: node(value, origin), origin: origin(at) };
    table.iter().map(|(key, value)| (key.get_ref().to_string(), given(value.get_ref(), key.span().start))).collect()
}

fn node(value: &DeValue<'_>, origin: &impl Fn(usize) -> Origin) -> Node {
    match value {
        DeValue::Table(table) => Node::Table(entries(table, origin)),
        DeValue::Array(items) if !items.is_empty() && items.iter().all(|item| item.get_ref().is_table()) => {
            let tables = items.iter().filter_map(|item| Some((item.get_ref().as_table()?, item.span().start)));
            Node::List(tables.map(|(table, at)| (entries(table, origin), origin(at))).collect())
        }
        DeValue::String(text) => Node::Value(Raw::String(text.to_string())),
        DeValue::Integer(integer) => {
            let integer = i64::from_str_radix(integer.as_str(), integer.radix());
            Node::Value(integer.map_or(Raw::Other, Raw::Integer))
        }
        DeValue::Boolean(truth) => Node::Value(Raw::Boolean(*truth)),
        DeValue::Array(items) => {
            let strings = items.iter().map(|item| item.get_ref().as_str().map(str::to_owned)).collect::<Option<_>>();
            Node::Value(strings.map_or(Raw::Other, Raw::Strings))
        }
        _ => Node::Value(Raw::Other),
    }
}

/// Whether a variable is one that Kubernetes sets by itself, in every container, for a service named `authtokens` or
/// `authtokens-metrics`: `…_SERVICE_HOST`, `…_SERVICE_PORT_HTTP`, `…_PORT_9100_TCP_ADDR`, and `…_PORT` with a URL.
fn is_from_kubernetes(name: &str, value: &OsStr) -> bool {
    let is_of_port = |(_, after): (&str, &str)| after.starts_with(|c: char| c.is_ascii_digit());
    let is_url = || value.to_str().is_some_and(|value| value.contains("://"));
    !name.contains("__")
        && (name.ends_with("_SERVICE_HOST")
            || name.contains("_SERVICE_PORT")
            || name.split_once("_PORT_").is_some_and(is_of_port)
            || (name.ends_with("_PORT") && is_url()))
}

/// Reads the named file, or else the first of the others that exists.
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

/// The error of a file that cannot be read. The cause may be the folder that the program was started in.
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
