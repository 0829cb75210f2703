//! [`Maintenance`] in PostgreSQL.

use async_trait::async_trait;

use super::PostgresRepository;
use crate::domain::session::SessionCutoffs;
use crate::domain::user::UserId;
use crate::repository::FigureValue::{Counter, Gauge, Seconds};
use crate::repository::session_cache::Change;
use crate::repository::{Cause, Figure, Maintenance, RepositoryError, StoreCounts, StoreStatistics};
use crate::system::blocking;
use crate::system::clock::Timestamp;
use crate::system::watched::ThreadEnded;

#[async_trait]
impl Maintenance for PostgresRepository {
    async fn prune_sessions(&self, cutoffs: SessionCutoffs) -> Result<usize, RepositoryError> {
        unimplemented!()
    }

    async fn prune_events(&self, before: Timestamp, keep: u64, now: Timestamp) -> Result<usize, RepositoryError> {
        unimplemented!()
    }

    async fn clamp_times(&self, now: Timestamp) -> Result<usize, RepositoryError> {
        unimplemented!()
    }

    async fn check_ready(&self) -> Result<(), RepositoryError> {
        unimplemented!()
    }

    async fn statistics(&self) -> StoreStatistics {
        unimplemented!()
    }

    async fn count(&self) -> Result<StoreCounts, RepositoryError> {
        unimplemented!()
    }

    fn is_damaged(&self) -> bool {
        false
    }

    async fn wait_for_failure(&self) -> Cause {
        unimplemented!()
    }

    async fn close(&self) -> Result<(), RepositoryError> {
        unimplemented!()
    }
}
