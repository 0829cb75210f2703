//! What PocketBase stores.

use std::path::Path;

use crate::import::account::Source;
use crate::import::{Common, ImportError};

/// The options of this source alone.
#[derive(Clone, Default)]
#[expect(missing_docs, reason = "the names are those of the options")]
pub struct Options {
    pub collection: String,
    /// Which list is taken from which field.
    pub items: Vec<(String, String)>,
    /// Whether an account that the source did not let in, because it is not confirmed, becomes active.
    pub is_unconfirmed_active: bool,
}

/// Reads all accounts.
///
/// # Errors
/// See [`ImportError`].
pub(super) fn read(_path: &Path, _common: &Common, _options: &Options) -> Result<Source, ImportError> {
    Err(ImportError::new("PocketBase cannot be read yet"))
}
