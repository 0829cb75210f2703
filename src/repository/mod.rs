//! What the service asks of a store, and what every store must keep.
//!
//! There is a trait a concern, narrow on purpose: a method is one thing that the service means, done whole or not at all,
//! and not a table. Each is atomic and, when it answers `Ok` to a change, the change is durable. "Not there" is `None` or
//! `false`, never an error. Time, digests and hashes are arguments, so a store needs neither a clock nor a generator. No
//! driver's type crosses this door: a second store has only these pages and the contract suite in `tests/repository` to
//! satisfy. [`open`] says which store there is.

mod accounts;
mod administration;
mod backup;
mod error;
mod events;
mod lists;
mod maintenance;
pub mod open;
mod page;
mod sessions;
pub mod sqlite;

pub use self::accounts::{Accounts, Export, MAX_EXPORTED_EVENTS, Render};
pub use self::administration::Administration;
pub use self::backup::{
    BackupError, BackupReport, CheckReport, Existing, Progress, RestoreReport, Rules, Stop, TableReport,
};
pub use self::error::{Cause, OpenError, RepositoryError, UniqueField};
pub use self::events::{Events, ResetCursor, Resets, StoredFailures};
pub use self::lists::Lists;
pub use self::maintenance::{Figure, FigureValue, Maintenance, StoreCounts, StoreStatistics};
pub use self::page::Page;
pub use self::sessions::{Sessions, VerifiedLogin};

/// A whole store: all of the concerns. The service holds it as `Arc<dyn Repository>`.
pub trait Repository: Accounts + Sessions + Lists + Administration + Events + Maintenance {}

impl<T: Accounts + Sessions + Lists + Administration + Events + Maintenance> Repository for T {}
