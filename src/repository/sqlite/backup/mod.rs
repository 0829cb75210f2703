//! Backups: made while a server writes, checked, and restored.
//!
//! A backup is one SQLite file that needs nothing beside it. SQLite's online backup copies it out of one read
//! transaction, so it is a snapshot of the moment at which the copy began. Writers neither wait for the copy nor make
//! it start over. It is written under a temporary name, and renamed only once it is checked and synced: a file with a
//! backup's name is whole.
//!
//! Everything here blocks: it is for a thread of its own or for the command line.

mod before_upgrade;
mod check;
mod copy;
mod error;
mod moving;
mod partial;
mod restore;
mod source;
mod status;

pub(super) use self::before_upgrade::Copied;
pub use self::check::check;
pub use self::copy::back_up;
pub(in crate::repository) use self::moving::{reopen, source, target};
pub use self::restore::restore;
pub(in crate::repository) use self::status::status;
