//! Copies of the database that can be trusted: made while a server writes, checked, and put back.
//!
//! A backup is one SQLite file that needs nothing beside it. It is copied by SQLite itself out of one read transaction,
//! so it holds the database as of the moment at which the copy began, and nobody who writes meanwhile waits for it or
//! makes it begin again. It grows under another name and takes its own only when it is checked and on the disk: a file
//! with a backup's name is whole.
//!
//! Everything here blocks; it is for a thread of its own or for the command line.

mod check;
mod copy;
mod error;
mod partial;
mod restore;
mod source;

pub use self::check::check;
pub use self::copy::back_up;
pub use self::restore::restore;
