//! [`Lists`] in PostgreSQL.

use async_trait::async_trait;
use std::collections::BTreeSet;

use super::PostgresRepository;
use crate::domain::item::{ItemId, List};
use crate::domain::session::Caller;
use crate::domain::user::UserId;
use crate::repository::session_cache::Change;
use crate::repository::{Lists, RepositoryError};
use crate::system::clock::Timestamp;

#[async_trait]
impl Lists for PostgresRepository {
    async fn list_items(&self, caller: &Caller, list: List) -> Result<Vec<ItemId>, RepositoryError> {
        unimplemented!()
    }

    async fn replace_items(
        &self,
        caller: &Caller,
        list: List,
        items: BTreeSet<ItemId>,
        now: Timestamp,
    ) -> Result<Vec<ItemId>, RepositoryError> {
        unimplemented!()
    }

    async fn add_item(
        &self,
        caller: &Caller,
        list: List,
        item: ItemId,
        max_items: usize,
        now: Timestamp,
    ) -> Result<Vec<ItemId>, RepositoryError> {
        unimplemented!()
    }

    async fn remove_item(
        &self,
        caller: &Caller,
        list: List,
        item: ItemId,
        now: Timestamp,
    ) -> Result<Vec<ItemId>, RepositoryError> {
        unimplemented!()
    }
}
