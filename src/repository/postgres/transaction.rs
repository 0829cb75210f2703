//! A write transaction, as the work in it sees it: the connection, and a note of what it changes.

use std::ops::Deref;
use std::sync::{Mutex, PoisonError};

use super::pool::{Connection, Pooled};
use crate::domain::user::UserId;
use crate::repository::Notices;
use crate::repository::session_cache::Change;

/// A transaction, as the work in it sees it.
pub(super) struct Transaction {
    pub(super) connection: Pooled,
    changed: Mutex<Vec<(UserId, Change)>>,
    /// Which notices go with its events.
    pub(super) notices: Notices,
}

impl Transaction {
    pub(super) fn new(connection: Pooled, notices: Notices) -> Self {
        Self { connection, changed: Mutex::default(), notices }
    }

    /// Notes that this work changes a user, so that this node's cache is invalidated, and the change is acknowledged only
    /// when every other node knows of it. Every change must be noted.
    pub(super) fn changes(&self, user_id: UserId, change: Change) {
        self.changed.lock().unwrap_or_else(PoisonError::into_inner).push((user_id, change));
    }

    /// What was noted.
    pub(super) fn into_parts(self) -> (Pooled, Vec<(UserId, Change)>) {
        (self.connection, self.changed.into_inner().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Deref for Transaction {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.connection
    }
}
