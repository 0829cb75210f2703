//! A write transaction, as the work in it sees it: the connection, the session cache, and a note of what it changes.

use std::cell::RefCell;
use std::ops::Deref;

use rusqlite::Connection;

use crate::domain::session::{Caller, Session};
use crate::domain::user::UserId;
use crate::repository::Notices;
use crate::repository::session_cache::{Change, SessionCache};

/// A transaction, as the work in it sees it.
pub(super) struct Transaction<'a> {
    pub(super) connection: &'a Connection,
    pub(super) cache: Option<&'a SessionCache>,
    pub(super) changed: RefCell<Vec<(UserId, Change)>>,
    /// Which notices go with its events.
    pub(super) notices: Notices,
}

impl Transaction<'_> {
    /// Notes that this work changes a user, so that the cache is invalidated. Every change must be noted.
    pub(super) fn changes(&self, user_id: UserId, change: Change) {
        self.changed.borrow_mut().push((user_id, change));
    }

    /// A live session from the cache. It is as certain as a read of the file: other processes cannot write now, their
    /// earlier changes were noticed when the transaction began (or else are younger than the cache's lease), and this
    /// transaction's own changes are noted.
    pub(super) fn known_session(&self, caller: &Caller) -> Option<Session> {
        let session = self.cache?.find_session(caller)?;
        let has_changed = self.changed.borrow().contains(&(session.user_id, Change::Sessions));
        (!has_changed).then_some(session)
    }
}

impl Deref for Transaction<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        self.connection
    }
}
