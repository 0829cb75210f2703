//! An account's two lists of items.

use std::collections::BTreeSet;

use async_trait::async_trait;

use crate::domain::item::{ItemId, List};
use crate::domain::session::Caller;
use crate::repository::error::RepositoryError;
use crate::system::clock::Timestamp;

/// An account's two lists of items.
#[async_trait]
pub trait Lists: Send + Sync {
    /// One of the caller's lists, ascending.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn list_items(&self, caller: &Caller, list: List) -> Result<Vec<ItemId>, RepositoryError>;

    /// Makes one of the caller's lists hold these items and no others; answers it. `modified` moves when that changed
    /// anything.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn replace_items(
        &self,
        caller: &Caller,
        list: List,
        items: BTreeSet<ItemId>,
        now: Timestamp,
    ) -> Result<Vec<ItemId>, RepositoryError>;

    /// Adds an item where it is not there yet; answers the list.
    ///
    /// # Errors
    /// [`RepositoryError::ListFull`] when the list would hold more than `max_items`.
    async fn add_item(
        &self,
        caller: &Caller,
        list: List,
        item: ItemId,
        max_items: usize,
        now: Timestamp,
    ) -> Result<Vec<ItemId>, RepositoryError>;

    /// Removes an item where it is there; answers the list.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn remove_item(
        &self,
        caller: &Caller,
        list: List,
        item: ItemId,
        now: Timestamp,
    ) -> Result<Vec<ItemId>, RepositoryError>;
}
