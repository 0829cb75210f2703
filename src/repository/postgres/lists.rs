//! [`Lists`] in PostgreSQL.

use std::collections::BTreeSet;

use async_trait::async_trait;

use super::error::Failure;
use super::lookup::{begin_change, require_session};
use super::pool::Connection;
use super::rows::{read_item, read_time};
use super::{PostgresRepository, sql};
use crate::domain::item::{ItemId, List};
use crate::domain::session::Caller;
use crate::domain::user::UserId;
use crate::repository::session_cache::Change;
use crate::repository::{Lists, RepositoryError};
use crate::system::clock::Timestamp;

#[async_trait]
impl Lists for PostgresRepository {
    async fn list_items(&self, caller: &Caller, list: List) -> Result<Vec<ItemId>, RepositoryError> {
        self.read_snapshot((*caller, list), |connection, (caller, list)| {
            Box::pin(async move {
                let user_id = require_session(connection, caller).await?.user_id;
                item_ids(connection, *list, user_id).await
            })
        })
        .await
    }

    async fn replace_items(
        &self,
        caller: &Caller,
        list: List,
        items: BTreeSet<ItemId>,
        now: Timestamp,
    ) -> Result<Vec<ItemId>, RepositoryError> {
        self.write((*caller, list, items, now), |transaction, (caller, list, items, now)| {
            Box::pin(async move {
                let user_id = begin_change(transaction, caller, Change::Text).await?.user_id;
                let before: BTreeSet<ItemId> = item_ids(transaction, *list, user_id).await?.into_iter().collect();
                if *items != before {
                    let went: Vec<i64> = before.difference(items).map(|item| item.get()).collect();
                    let came: Vec<i64> = items.difference(&before).map(|item| item.get()).collect();
                    let replace = sql::items(*list).replace;
                    transaction.execute(replace, &[&user_id.0, &went, &came, &now.as_millis()]).await?;
                }
                Ok(items.iter().copied().collect())
            })
        })
        .await
    }

    async fn add_item(
        &self,
        caller: &Caller,
        list: List,
        item: ItemId,
        max_items: usize,
        now: Timestamp,
    ) -> Result<Vec<ItemId>, RepositoryError> {
        self.write((*caller, list, item, max_items, now), |transaction, (caller, list, item, max_items, now)| {
            Box::pin(async move {
                let user_id = begin_change(transaction, caller, Change::Text).await?.user_id;
                let (is_new, items) =
                    change_item(transaction, sql::items(*list).insert, *list, user_id, *item, *now).await?;
                if is_new && items.len() > *max_items {
                    return Err(RepositoryError::ListFull.into());
                }
                Ok(items)
            })
        })
        .await
    }

    async fn remove_item(
        &self,
        caller: &Caller,
        list: List,
        item: ItemId,
        now: Timestamp,
    ) -> Result<Vec<ItemId>, RepositoryError> {
        self.write((*caller, list, item, now), |transaction, (caller, list, item, now)| {
            Box::pin(async move {
                let user_id = begin_change(transaction, caller, Change::Text).await?.user_id;
                let (_, items) =
                    change_item(transaction, sql::items(*list).delete, *list, user_id, *item, *now).await?;
                Ok(items)
            })
        })
        .await
    }
}

/// A list's items in ascending order, and when each was added.
pub(super) async fn list_items(
    connection: &Connection,
    list: List,
    user_id: UserId,
) -> Result<Vec<(ItemId, Timestamp)>, Failure> {
    let rows = connection.query(sql::items(list).list, &[&user_id.0]).await?;
    rows.iter().map(|row| Ok((read_item(row)?, read_time(row, "added")?))).collect()
}

async fn item_ids(connection: &Connection, list: List, user_id: UserId) -> Result<Vec<ItemId>, Failure> {
    connection.query(sql::items(list).list, &[&user_id.0]).await?.iter().map(read_item).collect()
}

/// Adds or removes an item by this statement. Whether that changed the list, and the list then.
async fn change_item(
    connection: &Connection,
    statement: &'static str,
    list: List,
    user_id: UserId,
    item: ItemId,
    now: Timestamp,
) -> Result<(bool, Vec<ItemId>), Failure> {
    let [changed, items] = connection
        .query_in_order([
            (statement, &[&user_id.0, &item.get(), &now.as_millis()]),
            (sql::items(list).list, &[&user_id.0]),
        ])
        .await?;
    Ok((!changed.is_empty(), items.iter().map(read_item).collect::<Result<_, _>>()?))
}
