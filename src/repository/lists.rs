//! The trait [`Lists`]: an account's two lists of items.

use std::collections::BTreeSet;

use async_trait::async_trait;

use crate::domain::item::{ItemId, List};
use crate::domain::session::Caller;
use crate::repository::error::RepositoryError;
use crate::system::clock::Timestamp;

/// An account's two lists of items.
#[async_trait]
pub trait Lists: Send + Sync {
    /// One of the caller's lists, in ascending order.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn list_items(&self, caller: &Caller, list: List) -> Result<Vec<ItemId>, RepositoryError>;

    /// Replaces one of the caller's lists by these items; answers the list. `modified` is set to `now` where the list
    /// changes.
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

    /// Adds an item, unless it is in the list; answers the list.
    ///
    /// # Errors
    /// [`RepositoryError::ListFull`] when the list would have more than `max_items`.
    async fn add_item(
        &self,
        caller: &Caller,
        list: List,
        item: ItemId,
        max_items: usize,
        now: Timestamp,
    ) -> Result<Vec<ItemId>, RepositoryError>;

    /// Removes an item, if it is in the list; answers the list.
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
