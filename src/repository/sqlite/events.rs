//! [`Events`] in SQLite.

use std::collections::HashMap;
use std::net::IpAddr;

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension as _, params};

use super::lookup::{require_session, require_staff, target_named};
use super::rows::{ip_text, read_event, read_failures, read_ip, read_username};
use super::transaction::Transaction;
use super::{SqliteRepository, outbox, sql};
use crate::domain::event::{Event, EventCursor, EventKind, EventQuery, FailedAttempt};
use crate::domain::mail::MailKind;
use crate::domain::rights::Actor;
use crate::domain::session::Caller;
use crate::domain::user::{UserId, Username};
use crate::repository::events::Behind;
use crate::repository::{Events, Page, RepositoryError, ResetCursor, Resets, StoredFailures};
use crate::system::address::neighbourhood;
use crate::system::clock::Timestamp;

/// How many events are pruned in one transaction, so that no other write waits long.
const PRUNED_AT_ONCE: u32 = 1_000;

/// What an account's owner is shown instead of the name of who did something to it.
const STAFF: &str = "staff";

#[async_trait]
impl Events for SqliteRepository {
    async fn list_own_events(
        &self,
        caller: &Caller,
        query: EventQuery,
    ) -> Result<Page<Event, EventCursor>, RepositoryError> {
        let caller = *caller;
        self.read_snapshot(move |connection| {
            let user_id = require_session(connection, &caller)?.user_id;
            let rows = list_own(connection, user_id, query.kind, query.before, query.limit)?;
            Ok(page(rows, query.limit))
        })
        .await
    }

    async fn list_events(&self, actor: &Actor, query: EventQuery) -> Result<Page<Event, EventCursor>, RepositoryError> {
        let actor = *actor;
        self.scan(Some(self.scan_within), move |connection| {
            require_staff(connection, &actor)?;
            Ok(page(list(connection, &query)?, query.limit))
        })
        .await
    }

    async fn record_failed_attempts(
        &self,
        attempts: Vec<FailedAttempt>,
        now: Timestamp,
    ) -> Result<(), RepositoryError> {
        self.write(move |connection| Ok(record_failed_attempts(connection, &attempts, now)?)).await
    }

    async fn list_familiar_addresses(&self, username: &Username) -> Result<Vec<IpAddr>, RepositoryError> {
        let username = username.clone();
        self.read_snapshot(move |connection| Ok(list_familiar(connection, &username)?)).await
    }

    async fn list_failures(&self, limit: u32) -> Result<Vec<StoredFailures>, RepositoryError> {
        // At the start, before the first request: no request waits for it.
        self.read_inline(move |connection| Ok(list_failures(connection, limit)?)).await
    }

    async fn list_resets(&self, behind: Option<ResetCursor>) -> Result<Resets, RepositoryError> {
        self.read_inline(move |connection| {
            let transaction = connection.unchecked_transaction()?;
            Ok(list_resets(&transaction, behind.as_ref())?)
        })
        .await
    }
}

/// Inserts an event of what an account did itself.
pub(super) fn by_owner(
    connection: &Transaction<'_>,
    kind: EventKind,
    user_id: UserId,
    ip: Option<IpAddr>,
    detail: &str,
    now: Timestamp,
) -> rusqlite::Result<()> {
    insert(connection, kind, user_id, None, ip, detail, now)
}

/// Inserts an event; `actor` is who did it, where it was not the account itself. What the owner is to hear of is put in
/// the outbox beside it, for the address that the account has at this moment.
pub(super) fn insert(
    connection: &Transaction<'_>,
    kind: EventKind,
    user_id: UserId,
    actor: Option<&str>,
    ip: Option<IpAddr>,
    detail: &str,
    now: Timestamp,
) -> rusqlite::Result<()> {
    insert_untold(connection, kind, user_id, actor, ip, detail, now)?;
    if let Some(notice) = MailKind::telling_of(kind) {
        // Where staff work from is nothing that an account is told.
        let ip = ip.filter(|_| actor.is_none());
        outbox::insert_notice(connection, notice, user_id, ip, detail, now)?;
    }
    Ok(())
}

/// The same, without a notice: the owner knows of it.
pub(super) fn insert_untold(
    connection: &Connection,
    kind: EventKind,
    user_id: UserId,
    actor: Option<&str>,
    ip: Option<IpAddr>,
    detail: &str,
    now: Timestamp,
) -> rusqlite::Result<()> {
    let mut insert = connection.prepare_cached(sql::INSERT_EVENT)?;
    insert.execute(params![now.as_millis(), kind.name(), user_id.0, actor, ip_text(ip), detail])?;
    Ok(())
}

/// Stores failed attempts. The name is stored only where it is an account's: it may be a password that was typed there.
pub(super) fn record_failed_attempts(
    connection: &Transaction<'_>,
    attempts: &[FailedAttempt],
    now: Timestamp,
) -> rusqlite::Result<()> {
    let Some(first) = attempts.iter().map(|attempt| attempt.at).min() else { return Ok(()) };
    let new_passwords = list_new_passwords(connection, first, now)?;
    for attempt in attempts {
        record_failed_attempt(connection, attempt, &new_passwords, now)?;
    }
    Ok(())
}

fn record_failed_attempt(
    connection: &Transaction<'_>,
    attempt: &FailedAttempt,
    new_passwords: &HashMap<i64, i64>,
    now: Timestamp,
) -> rusqlite::Result<()> {
    let at = attempt.at.as_millis();
    let account = match &attempt.username {
        Some(username) => target_named(connection, username)?,
        None => None,
    };
    let Some(account) = account else {
        let mut insert = connection.prepare_cached(sql::INSERT_STRANGERS_EVENT)?;
        insert.execute(params![at, attempt.kind.name(), ip_text(attempt.ip), attempt.detail])?;
        return Ok(());
    };
    let user_id = account.user_id.0;
    // A new password resets the failures before it, also those that are stored only now.
    let is_reset = new_passwords.get(&user_id).is_some_and(|set| *set >= at);
    if attempt.kind.counts_at_account() && !is_reset {
        connection.prepare_cached(sql::COUNT_FAILURE)?.execute(params![user_id, at, now.as_millis()])?;
    }
    // The holder of a session is known to be the account's; anyone else may be a stranger.
    let actor = (attempt.kind != EventKind::ReauthenticationFailed).then_some("");
    insert(connection, attempt.kind, account.user_id, actor, attempt.ip, attempt.detail, attempt.at)
}

/// The accounts with a new password since then, and when each got it.
fn list_new_passwords(
    connection: &Connection,
    since: Timestamp,
    now: Timestamp,
) -> rusqlite::Result<HashMap<i64, i64>> {
    let mut list = connection.prepare_cached(sql::LIST_NEW_PASSWORDS)?;
    list.query_map([since.as_millis(), now.as_millis()], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

pub(super) fn list(connection: &Connection, query: &EventQuery) -> rusqlite::Result<Vec<Event>> {
    let before = query.before.map_or(i64::MAX, EventCursor::id);
    let kind = query.kind.map(EventKind::name);
    let statement = if query.username.is_some() { sql::LIST_EVENTS_NAMED } else { sql::LIST_EVENTS };
    let name = query.username.as_ref().map(|name| name_in_events(connection, name)).transpose()?;
    let mut list = connection.prepare_cached(statement)?;
    list.query_map(params![before, kind, query.limit, name], read_event)?.collect()
}

/// A name as events are found by it: by the name and not by the account's id, so that events of an earlier account of this
/// name are found, too. They have the account's own spelling, of which the index folds ASCII.
fn name_in_events(connection: &Connection, username: &Username) -> rusqlite::Result<String> {
    let mut find = connection.prepare_cached(sql::FIND_NAME)?;
    let own: Option<String> = find.query_row([username.key()], |row| row.get(0)).optional()?;
    Ok(own.as_deref().unwrap_or(username.as_str()).to_ascii_lowercase())
}

/// A page of events. A full page has a cursor: there may be more.
fn page(rows: Vec<Event>, limit: u32) -> Page<Event, EventCursor> {
    let is_full = rows.len() >= limit as usize;
    let next = rows.last().filter(|_| is_full).map(|last| EventCursor::behind(last.id));
    Page { rows, next }
}

/// An account's events as its owner sees them.
pub(super) fn list_own(
    connection: &Connection,
    user_id: UserId,
    kind: Option<EventKind>,
    before: Option<EventCursor>,
    limit: u32,
) -> rusqlite::Result<Vec<Event>> {
    let mut events = list_of(connection, user_id, kind, before, limit)?;
    for event in &mut events {
        if !event.actor.is_empty() && event.actor != event.username {
            STAFF.clone_into(&mut event.actor);
            event.ip = None;
        }
    }
    Ok(events)
}

fn list_of(
    connection: &Connection,
    user_id: UserId,
    kind: Option<EventKind>,
    before: Option<EventCursor>,
    limit: u32,
) -> rusqlite::Result<Vec<Event>> {
    let mut list = connection.prepare_cached(sql::LIST_EVENTS_OF)?;
    let before = before.map_or(i64::MAX, EventCursor::id);
    list.query_map(params![before, kind.map(EventKind::name), user_id.0, limit], read_event)?.collect()
}

/// The first events that may be pruned now. It looks at all events, not only at the oldest: the clock may have been
/// wrong for a while, and an event from the future must not keep those behind it for good.
pub(super) fn find_old(
    connection: &Connection,
    before: Timestamp,
    keep: u64,
    now: Timestamp,
) -> rusqlite::Result<Vec<i64>> {
    let too_many = last(connection)?.saturating_sub(i64::try_from(keep).unwrap_or(i64::MAX));
    let mut find = connection.prepare_cached(sql::FIND_OLD_EVENTS)?;
    find.query_map(params![before.as_millis(), too_many, PRUNED_AT_ONCE, now.as_millis()], |row| row.get(0))?.collect()
}

/// The number of the last event; 0 where there is none.
fn last(connection: &Connection) -> rusqlite::Result<i64> {
    let last: Option<i64> = connection.prepare_cached(sql::FIND_LAST_EVENT)?.query_row([], |row| row.get(0))?;
    Ok(last.unwrap_or_default())
}

pub(super) fn list_familiar(connection: &Connection, username: &Username) -> rusqlite::Result<Vec<IpAddr>> {
    let Some(account) = target_named(connection, username)? else { return Ok(Vec::new()) };
    let mut addresses = list_familiar_of(connection, account.user_id)?;
    addresses.sort_unstable();
    addresses.dedup();
    Ok(addresses)
}

fn list_familiar_of(connection: &Connection, user_id: UserId) -> rusqlite::Result<Vec<IpAddr>> {
    let mut list = connection.prepare_cached(sql::LIST_FAMILIAR)?;
    list.query_map([user_id.0], read_ip)?.filter_map(Result::transpose).collect()
}

/// Whether the account has logged in from the neighbourhood of this address.
pub(super) fn is_familiar(connection: &Connection, user_id: UserId, ip: IpAddr) -> rusqlite::Result<bool> {
    let asking = neighbourhood(ip);
    Ok(list_familiar_of(connection, user_id)?.into_iter().any(|address| neighbourhood(address) == asking))
}

pub(super) fn list_failures(connection: &Connection, limit: u32) -> rusqlite::Result<Vec<StoredFailures>> {
    let mut list = connection.prepare_cached(sql::LIST_FAILURES)?;
    list.query_map([limit], read_failures)?.collect()
}

pub(super) fn list_resets(connection: &Connection, behind: Option<&ResetCursor>) -> rusqlite::Result<Resets> {
    let last_event = last(connection)?;
    let mut list = connection.prepare_cached(sql::LIST_RESETS)?;
    let usernames = match behind {
        Some(ResetCursor(Behind::Event(behind))) if last_event > *behind => {
            list.query_map([behind], |row| read_username(row, 0))?.collect::<Result<_, _>>()?
        }
        _ => Vec::new(),
    };
    Ok(Resets { next: ResetCursor(Behind::Event(last_event)), usernames })
}
