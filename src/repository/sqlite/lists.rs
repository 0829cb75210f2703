//! [`Lists`] in SQLite.

use std::collections::BTreeSet;

use async_trait::async_trait;
use rusqlite::{Connection, params};

use super::lookup::{begin_change, require_session};
use super::rows::{read_item, read_time};
use super::{SqliteRepository, sql};
use crate::domain::item::{ItemId, List};
use crate::domain::session::Caller;
use crate::domain::user::UserId;
use crate::repository::session_cache::Change;
use crate::repository::{Lists, RepositoryError};
use crate::system::clock::Timestamp;

#[async_trait]
impl Lists for SqliteRepository {
    async fn list_items(&self, caller: &Caller, list: List) -> Result<Vec<ItemId>, RepositoryError> {
        let caller = *caller;
        self.read_snapshot(move |connection| {
            let user_id = require_session(connection, &caller)?.user_id;
            Ok(item_ids(connection, list, user_id)?)
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
        let caller = *caller;
        self.write(move |connection| {
            let user_id = begin_change(connection, &caller, Change::Text)?.user_id;
            let before: BTreeSet<ItemId> = item_ids(connection, list, user_id)?.into_iter().collect();
            for item in before.difference(&items) {
                delete_item(connection, list, user_id, *item)?;
            }
            for item in items.difference(&before) {
                insert_item(connection, list, user_id, *item, now)?;
            }
            if items != before {
                touch_user(connection, user_id, now)?;
            }
            Ok(items.into_iter().collect())
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
        let caller = *caller;
        self.write(move |connection| {
            let user_id = begin_change(connection, &caller, Change::Text)?.user_id;
            let is_new = insert_item(connection, list, user_id, item, now)?;
            let items = item_ids(connection, list, user_id)?;
            if is_new {
                if items.len() > max_items {
                    return Err(RepositoryError::ListFull.into());
                }
                touch_user(connection, user_id, now)?;
            }
            Ok(items)
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
        let caller = *caller;
        self.write(move |connection| {
            let user_id = begin_change(connection, &caller, Change::Text)?.user_id;
            if delete_item(connection, list, user_id, item)? {
                touch_user(connection, user_id, now)?;
            }
            Ok(item_ids(connection, list, user_id)?)
        })
        .await
    }
}

/// A list's items in ascending order, and when each was added.
pub(super) fn list_items(
    connection: &Connection,
    list: List,
    user_id: UserId,
) -> rusqlite::Result<Vec<(ItemId, Timestamp)>> {
    connection
        .prepare_cached(sql::items(list).list)?
        .query_map([user_id.0], |row| Ok((read_item(row)?, read_time(row, "added")?)))?
        .collect()
}

fn item_ids(connection: &Connection, list: List, user_id: UserId) -> rusqlite::Result<Vec<ItemId>> {
    connection.prepare_cached(sql::items(list).list)?.query_map([user_id.0], read_item)?.collect()
}

/// `false` when it was there already.
fn insert_item(
    connection: &Connection,
    list: List,
    user_id: UserId,
    item: ItemId,
    now: Timestamp,
) -> rusqlite::Result<bool> {
    let mut insert = connection.prepare_cached(sql::items(list).insert)?;
    Ok(insert.execute(params![user_id.0, item.get(), now.as_millis()])? > 0)
}

/// `false` when it was not there.
fn delete_item(connection: &Connection, list: List, user_id: UserId, item: ItemId) -> rusqlite::Result<bool> {
    let mut delete = connection.prepare_cached(sql::items(list).delete)?;
    Ok(delete.execute(params![user_id.0, item.get()])? > 0)
}

fn touch_user(connection: &Connection, user_id: UserId, now: Timestamp) -> rusqlite::Result<()> {
    connection.prepare_cached(sql::TOUCH_USER)?.execute(params![user_id.0, now.as_millis()])?;
    Ok(())
}
