//! Which system is read.

use std::path::Path;

use crate::import::account::Source;
use crate::import::formats::tables::shown;
use crate::import::formats::{self, sqlite};
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
        refuse_secrets(common)?;
        formats::require_file(path)?;
        match self {
            Self::Django(options) => django::read(path, common, options),
            Self::PocketBase(options) => pocketbase::read(path, common, options),
            Self::Supabase(options) => supabase::read(path, common, options),
        }
    }
}

/// What a column of secrets is called.
const SECRETS: [&str; 4] = ["password", "secret", "token", "api_key"];

/// Refuses to take a name or a field of the profile from a column of secrets: both are shown.
fn refuse_secrets(common: &Common) -> Result<(), ImportError> {
    let named = common.name.iter().chain(common.fields.iter().map(|(_, theirs)| theirs));
    let is_secret = |column: &&String| {
        let column = column.to_ascii_lowercase();
        SECRETS.iter().any(|secret| column.contains(secret))
    };
    match named.into_iter().find(is_secret) {
        Some(column) => {
            Err(ImportError::new(format!("{} holds secrets by its name, which are not shown", shown(column))))
        }
        None => Ok(()),
    }
}

/// Removes the private copies of files that are being made. For a process that ends while a source is being read.
pub fn remove_copies() {
    sqlite::remove_copies();
}
