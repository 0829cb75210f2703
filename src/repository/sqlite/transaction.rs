//! A transaction, as a piece of work in it sees it.

use std::cell::RefCell;
use std::ops::Deref;

use rusqlite::Connection;

use super::session_cache::{Change, SessionCache};
use crate::domain::session::{Caller, Session};
use crate::domain::user::UserId;

/// A transaction, as the work in it sees it.
pub(super) struct Transaction<'a> {
    pub(super) connection: &'a Connection,
    pub(super) cache: Option<&'a SessionCache>,
    pub(super) changed: RefCell<Vec<(UserId, Change)>>,
}

impl Transaction<'_> {
    /// This user changes in this piece of work. Whoever changes it says so.
    pub(super) fn changes(&self, user_id: UserId, change: Change) {
        self.changed.borrow_mut().push((user_id, change));
    }

    /// A live session, where it is known without a look at the file. It is as certain as one: other processes cannot
    /// write now, what they wrote before was noticed when the transaction began (or, if that failed, is as old as the
    /// cache may ever be), and what was written since the beginning is known.
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
