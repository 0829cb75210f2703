//! Imports: accounts, lists, password hashes and tokens of another system, read from its files.
//!
//! A file a source system ([`django`], [`pocketbase`], [`supabase`]) turns what the system stores into [`SourceAccount`]s;
//! `formats/` reads the files themselves. [`plan`] decides what becomes of every account, before anything is written;
//! [`write`](mod@write) writes, and can be run again; [`report`] is what the operator is told.
//!
//! A source is a file, and never trusted: what it may cost is bounded, and nothing of it is shown unescaped. No hash and no
//! token is ever part of a message.

pub mod account;
pub mod django;
mod fields;
mod formats;
pub mod plan;
pub mod pocketbase;
pub mod renames;
pub mod report;
pub mod supabase;
mod time;
pub mod write;
mod zone;

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::import::account::Source;
use crate::repository::RepositoryError;
use crate::system::clock::Timestamp;
use crate::system::error_chain::Chain;

/// Why nothing was imported.
#[derive(Debug, Error)]
pub enum ImportError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is not what it would have to be, or an option does not fit it. A sentence that says what to do.
    #[error("{0}")]
    Source(String),
    /// It was asked to stop.
    #[error("it was stopped after {done} accounts, which stay; run it again, and it goes on behind them")]
    Stopped {
        /// How many accounts were written.
        done: u64,
    },
    /// The store failed.
    #[error("{}", Chain(.0))]
    Repository(#[from] RepositoryError),
}

impl ImportError {
    /// A sentence.
    pub(crate) fn new(why: impl Into<String>) -> Self {
        Self::Source(why.into())
    }
}

/// Which system is read, with the options that are its own.
pub enum SourceKind {
    /// A Django site.
    Django(django::Options),
    /// PocketBase.
    PocketBase(pocketbase::Options),
    /// Supabase Auth.
    Supabase(supabase::Options),
}

impl SourceKind {
    /// Reads all accounts of the system.
    ///
    /// # Errors
    /// See [`ImportError`].
    pub fn read(&self, path: &std::path::Path, common: &Common) -> Result<Source, ImportError> {
        match self {
            Self::Django(options) => django::read(path, common, options),
            Self::PocketBase(options) => pocketbase::read(path, common, options),
            Self::Supabase(options) => supabase::read(path, common, options),
        }
    }
}

/// The options that every source has.
#[derive(Clone)]
pub struct Common {
    /// Which field is the name.
    pub name: Option<String>,
    /// Which of the source's fields a field of the profile is taken from: ours, then theirs.
    pub fields: Vec<(String, String)>,
    /// The moment of the import.
    pub now: Timestamp,
}

/// Removes the private copies of files that are being made. For a process that ends while a source is being read.
pub fn remove_copies() {
    formats::sqlite::remove_copies();
}
