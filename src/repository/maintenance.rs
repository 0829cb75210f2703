//! The trait [`Maintenance`]: pruning, readiness, statistics, closing.

use std::time::Duration;

use async_trait::async_trait;

use crate::domain::session::SessionCutoffs;
use crate::repository::error::{Cause, RepositoryError};
use crate::system::clock::Timestamp;

/// How busy the store is, for the metrics. Each store names figures of its own, and the metrics show them without
/// knowing any of them. Counters start at 0 when the store is opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreStatistics {
    /// The figures, in the order in which they are shown.
    pub figures: Vec<Figure>,
    /// How many reads and writes were refused before they began, by the reason.
    pub refused: Vec<(&'static str, u64)>,
}

/// A metric of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Figure {
    /// Its name, which begins with `authtokens_store_`.
    pub name: &'static str,
    /// What it counts or measures, in a sentence.
    pub help: &'static str,
    /// Its value.
    pub value: FigureValue,
}

/// The type and the value of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FigureValue {
    /// It goes up and down.
    Gauge(u64),
    /// A duration that goes up and down.
    GaugeSeconds(Duration),
    /// It only goes up.
    Counter(u64),
    /// A duration that only goes up.
    Seconds(Duration),
}

/// How much the store holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct StoreCounts {
    pub users: u64,
    /// A session that has ended by its age or its idle timeout counts until it is pruned.
    pub sessions: u64,
    /// Refresh tokens that wait to be revoked.
    pub revocations: u64,
}

/// Keeps a store in order, and tells how it is doing.
#[async_trait]
pub trait Maintenance: Send + Sync {
    /// Deletes sessions that are no longer live, a bounded number at a time, and says how many. When it answers 0, none
    /// are left.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn prune_sessions(&self, cutoffs: SessionCutoffs) -> Result<usize, RepositoryError>;

    /// Deletes events that are no younger than `before`, and the oldest beyond `keep` of them, a bounded number at a
    /// time, and says how many. When it answers 0, none are left. An event with a time after `now` counts as old as the
    /// next one behind it.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn prune_events(&self, before: Timestamp, keep: u64, now: Timestamp) -> Result<usize, RepositoryError>;

    /// Clamps every time of a session or a failure that is more than a minute later than `now` to `now`, so that it
    /// begins to age: the clock was ahead when it was stored. A bounded number at a time; says how many. When it
    /// answers 0, none are left.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn clamp_times(&self, now: Timestamp) -> Result<usize, RepositoryError>;

    /// The readiness probe: whether the store can read and write. It reads, and it writes something that leaves no
    /// trace. That write reaches the disk unless another has done so lately.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn check_ready(&self) -> Result<(), RepositoryError>;

    /// How busy the store is. It reads counters only, and takes no connection.
    async fn statistics(&self) -> StoreStatistics;

    /// How much the store holds. It takes longer the more there is: not for every request.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn count(&self) -> Result<StoreCounts, RepositoryError>;

    /// Whether the stored data was found damaged. The store then refuses to read and to write it.
    fn is_damaged(&self) -> bool;

    /// Resolves when a background thread of the store has ended without being told to, and says which. The store cannot
    /// work from then on, and only a restart of the process repairs that.
    async fn wait_for_failure(&self) -> Cause;

    /// Finishes the work that was accepted, and closes the store. It cannot be used afterwards.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn close(&self) -> Result<(), RepositoryError>;
}
