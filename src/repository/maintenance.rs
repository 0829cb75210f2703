//! What keeps a store in order, and tells how it is.

use std::time::Duration;

use async_trait::async_trait;

use crate::domain::session::SessionCutoffs;
use crate::repository::error::{Cause, RepositoryError};
use crate::system::clock::Timestamp;

/// How busy the store is, for whoever watches over the process. What there is to tell is each store's own; whoever shows
/// it knows none of it. Counters start at 0 with the store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreStatistics {
    /// What is shown, in this order.
    pub figures: Vec<Figure>,
    /// How many reads and writes were refused before they were begun, by the reason.
    pub refused: Vec<(&'static str, u64)>,
}

/// A number with a name, as a metric of the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Figure {
    /// The metric's name, `authtokens_store_` and what it is.
    pub name: &'static str,
    /// What it tells, in a sentence.
    pub help: &'static str,
    /// The number.
    pub value: FigureValue,
}

/// The number of a figure, and what may become of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FigureValue {
    /// It goes up and down.
    Gauge(u64),
    /// It goes up alone.
    Counter(u64),
    /// A time that goes up alone.
    Seconds(Duration),
}

/// How much the store holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreCounts {
    /// Accounts.
    pub users: u64,
    /// Sessions; one that ended by its age or its idle timeout counts until it is forgotten.
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

    /// Resolves when a background thread of the store has ended without being told to, and says which. The store cannot do
    /// its work any more from then on, and only a new process mends that.
    async fn wait_for_failure(&self) -> Cause;

    /// Finishes what was accepted and leaves the store tidy. Nothing may be asked of it afterwards.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn close(&self) -> Result<(), RepositoryError>;
}
