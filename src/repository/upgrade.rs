//! What an upgrade of the schema has done, the same for every store.

use std::fmt;
use std::path::PathBuf;

/// An upgrade of the schema, from one version to another. Its text is one sentence for a person.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Upgrade {
    pub path: PathBuf,
    pub from: i32,
    pub to: i32,
    pub kept: Kept,
}

/// What has become of the store as it was before an upgrade.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kept {
    /// There is a copy of it, of this name.
    As(PathBuf),
    /// There was no room for a copy.
    NoRoom,
    /// The configuration asks for no copy.
    NotAsked,
}

impl fmt::Display for Upgrade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, from, to, kept } = self;
        write!(f, "the schema of {} was brought up to date, from version {from} to {to}", path.display())?;
        match kept {
            Kept::As(copy) => write!(f, "; the file as it was is kept as {}", copy.display()),
            Kept::NoRoom => f.write_str("; there was no room to keep the file as it was"),
            Kept::NotAsked => Ok(()),
        }
    }
}
