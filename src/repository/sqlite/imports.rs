//! [`Imports`] in SQLite.

use async_trait::async_trait;

use super::SqliteRepository;
use crate::domain::user::Username;
use crate::repository::{ImportOutcome, ImportedAccount, Imports, RepositoryError};
use crate::system::clock::Timestamp;

#[async_trait]
impl Imports for SqliteRepository {
    async fn find_imported(&self, _source: &str, ids: Vec<String>) -> Result<Vec<Option<[u8; 32]>>, RepositoryError> {
        Ok(vec![None; ids.len()])
    }

    async fn find_taken(&self, names: Vec<Username>) -> Result<Vec<bool>, RepositoryError> {
        Ok(vec![false; names.len()])
    }

    async fn import_accounts(
        &self,
        _source: &str,
        _accounts: Vec<ImportedAccount>,
        _now: Timestamp,
    ) -> Result<Vec<ImportOutcome>, RepositoryError> {
        Err(RepositoryError::Unavailable(std::sync::Arc::from(Box::<dyn std::error::Error + Send + Sync>::from(
            "not there yet",
        ))))
    }

    async fn has_imported_names(&self) -> Result<bool, RepositoryError> {
        Ok(false)
    }

    async fn hardest_imported_hash(&self) -> Result<Option<u64>, RepositoryError> {
        Ok(None)
    }
}
