//! The file of `--rename`: new names by the ids of the source, as CSV.

use std::collections::HashMap;
use std::path::Path;

use crate::import::ImportError;

/// Reads it.
///
/// # Errors
/// See [`ImportError`].
pub fn read(_path: &Path) -> Result<HashMap<String, String>, ImportError> {
    Err(ImportError::new("not there yet"))
}
