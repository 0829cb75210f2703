//! Which system is read.

use std::path::Path;

use crate::import::account::Source;
use crate::import::formats::sqlite;
use crate::import::{Common, ImportError, django, pocketbase, supabase};

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
    pub fn read(&self, path: &Path, common: &Common) -> Result<Source, ImportError> {
        match self {
            Self::Django(options) => django::read(path, common, options),
            Self::PocketBase(options) => pocketbase::read(path, common, options),
            Self::Supabase(options) => supabase::read(path, common, options),
        }
    }
}

/// Removes the private copies of files that are being made. For a process that ends while a source is being read.
pub fn remove_copies() {
    sqlite::remove_copies();
}
