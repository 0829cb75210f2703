//! What Supabase stores.

use std::path::Path;

use crate::import::account::Source;
use crate::import::{Common, ImportError};

/// The options of this source alone.
#[derive(Clone, Default)]
pub struct Options {
    /// Whether an account that is not confirmed becomes active.
    pub is_unconfirmed_active: bool,
}

/// Reads all accounts.
///
/// # Errors
/// See [`ImportError`].
pub(super) fn read(_path: &Path, _common: &Common, _options: &Options) -> Result<Source, ImportError> {
    Err(ImportError::new("Supabase cannot be read yet"))
}
