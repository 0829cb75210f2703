//! What Django stores.

use std::path::Path;

use crate::import::account::Source;
use crate::import::{Common, ImportError};

/// The options of this source alone.
#[derive(Clone, Default)]
#[expect(missing_docs, reason = "the names are those of the options")]
pub struct Options {
    pub user_table: Option<String>,
    pub profile_table: Option<String>,
    pub timezone: Option<String>,
    /// Which list is taken from which table or field.
    pub items: Vec<(String, String)>,
    pub no_rights: bool,
    pub no_tokens: bool,
    pub knox_hash: Option<String>,
}

/// Reads all accounts.
///
/// # Errors
/// See [`ImportError`].
pub(super) fn read(_path: &Path, _common: &Common, _options: &Options) -> Result<Source, ImportError> {
    Err(ImportError::new("Django cannot be read yet"))
}
