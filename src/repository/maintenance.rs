//! What keeps a store in order, and tells how it is.

use std::time::Duration;

use async_trait::async_trait;

use crate::domain::session::SessionCutoffs;
use crate::repository::error::RepositoryError;
use crate::system::clock::Timestamp;

/// How busy the store is, for whoever watches over the process. Counters start at 0 with the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreStatistics {
    /// The size of what the store holds, in bytes, where it can tell.
    pub size: Option<u64>,
    /// The size of the log of changes that is not yet moved into the rest, in bytes, where there is one.
    pub log_size: Option<u64>,
    /// How many reads were asked for.
    pub reads: u64,
    /// How many of them had to wait for a free connection.
    pub delayed_reads: u64,
    /// How long they waited, all together.
    pub read_delay: Duration,
    /// How many of them waited for too long and were refused.
    pub refused_reads: u64,
    /// How many writes wait for their turn.
    pub waiting_writes: u64,
    /// How many writes were begun.
    pub writes: u64,
    /// How many commits made them durable.
    pub commits: u64,
    /// How many writes were refused because too many waited.
    pub refused_writes: u64,
}

/// How much the store holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreCounts {
    /// Accounts.
    pub users: u64,
    /// Sessions; one that ended by its age or its rest counts until it is forgotten.
    pub sessions: u64,
}

/// What keeps a store in order, and tells how it is.
#[async_trait]
pub trait Maintenance: Send + Sync {
    /// Forgets sessions that are no longer live, a bounded number at a time, and says how many. None are left when it
    /// answers 0.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn prune_sessions(&self, cutoffs: SessionCutoffs) -> Result<usize, RepositoryError>;

    /// Forgets events that are no younger than `before`, and the oldest beyond `keep` of them, a bounded number at a
    /// time, and says how many. None are left when it answers 0. One from after `now` is as old as the next one behind
    /// it.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn prune_events(&self, before: Timestamp, keep: u64, now: Timestamp) -> Result<usize, RepositoryError>;

    /// Sets every time of a session or a failure that is more than a minute later than `now` to `now`, so that it
    /// begins to age: the clock was ahead when it was stored. A bounded number at a time; says how many. None are left
    /// when it answers 0.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn clamp_times(&self, now: Timestamp) -> Result<usize, RepositoryError>;

    /// Reads, and changes nothing by a write, which reaches the disk where it is not known that writes do: whether the store
    /// can do its work.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn check_ready(&self) -> Result<(), RepositoryError>;

    /// How busy the store is. Costs the store nothing.
    async fn statistics(&self) -> StoreStatistics;

    /// How much the store holds. The more it is the longer it takes: not for every request.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn count(&self) -> Result<StoreCounts, RepositoryError>;

    /// Whether what is stored was found damaged. Nothing but a look at it should be done then.
    fn is_damaged(&self) -> bool;

    /// Finishes what was accepted and leaves the store tidy. Nothing may be asked of it afterwards.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn close(&self) -> Result<(), RepositoryError>;
}
