//! The files of source systems, as tables: a SQLite file, a plain dump of PostgreSQL, a CSV file.

pub(super) mod csv;
pub(super) mod dumpdata;
pub(super) mod json;
pub(super) mod pg_dump;
mod sql;
pub(super) mod sqlite;
pub(super) mod tables;

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use crate::import::ImportError;

/// How many bytes of a file tell its format.
const HEAD_BYTES: u64 = 512;

/// The first bytes of a file; none of a folder.
pub(super) fn head(path: &Path) -> Result<Vec<u8>, ImportError> {
    let mut head = Vec::new();
    if path.is_dir() {
        return Ok(head);
    }
    let unreadable = |source| ImportError::Unreadable { path: path.to_owned(), source };
    File::open(path).map_err(unreadable)?.take(HEAD_BYTES).read_to_end(&mut head).map_err(unreadable)?;
    Ok(head)
}
