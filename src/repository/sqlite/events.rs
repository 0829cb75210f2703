//! Events and failures in the file.

use std::collections::HashMap;
use std::net::IpAddr;

use rusqlite::{Connection, Row, params};

use super::{OutOfRange, administration, invalid_column, ip_text, read_ip, read_time, read_username, sql};
use crate::domain::event::{Event, EventKind, EventQuery, FailedAttempt};
use crate::domain::user::{UserId, Username};
use crate::repository::{Resets, StoredFailures};
use crate::system::clock::Timestamp;

/// How many events are forgotten in one transaction, so that no other write waits long.
const PRUNED_AT_ONCE: u32 = 1_000;

/// What an account's owner is told of who did something to it.
const STAFF: &str = "staff";

/// What an account did itself.
pub(super) fn by_owner(
    connection: &Connection,
    kind: EventKind,
    user_id: UserId,
    ip: Option<IpAddr>,
    detail: &str,
    now: Timestamp,
) -> rusqlite::Result<()> {
    insert(connection, kind, user_id, None, ip, detail, now)
}

/// What was done to an account; `actor` is who did it, where it was not the account itself.
pub(super) fn insert(
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

/// Attempts that were refused. A stranger's name is kept only where it is an account's.
pub(super) fn record_failed_attempts(
    connection: &Connection,
    attempts: &[FailedAttempt],
    now: Timestamp,
) -> rusqlite::Result<()> {
    let Some(first) = attempts.iter().map(|attempt| attempt.at).min() else { return Ok(()) };
    let new_passwords = list_new_passwords(connection, first, now)?;
    for attempt in attempts {
        record_refusal(connection, attempt, &new_passwords, now)?;
    }
    Ok(())
}

fn record_refusal(
    connection: &Connection,
    attempt: &FailedAttempt,
    new_passwords: &HashMap<i64, i64>,
    now: Timestamp,
) -> rusqlite::Result<()> {
    let at = attempt.at.as_millis();
    let account = match &attempt.username {
        Some(username) => administration::target_named(connection, username)?,
        None => None,
    };
    let Some(account) = account else {
        let mut insert = connection.prepare_cached(sql::INSERT_STRANGERS_EVENT)?;
        insert.execute(params![at, attempt.kind.name(), ip_text(attempt.ip), attempt.detail])?;
        return Ok(());
    };
    let user_id = account.user_id.0;
    // A new password makes forgotten what failed before it, also what is stored only now. And what a token's holder fails
    // at is counted apart, and not over a restart.
    let is_forgotten = new_passwords.get(&user_id).is_some_and(|set| *set >= at);
    if attempt.kind == EventKind::LoginFailed && !is_forgotten {
        connection.prepare_cached(sql::COUNT_FAILURE)?.execute(params![user_id, at, now.as_millis()])?;
    }
    // Whoever holds a session has shown who they are; a stranger has not.
    let actor = (attempt.kind != EventKind::ReauthenticationFailed).then_some("");
    insert(connection, attempt.kind, account.user_id, actor, attempt.ip, attempt.detail, attempt.at)
}

/// When each account that has a new password since then got it.
fn list_new_passwords(
    connection: &Connection,
    since: Timestamp,
    now: Timestamp,
) -> rusqlite::Result<HashMap<i64, i64>> {
    let mut list = connection.prepare_cached(sql::LIST_NEW_PASSWORDS)?;
    list.query_map([since.as_millis(), now.as_millis()], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

pub(super) fn list(connection: &Connection, query: &EventQuery) -> rusqlite::Result<Vec<Event>> {
    let before = query.before.unwrap_or(i64::MAX);
    let kind = query.kind.map(EventKind::name);
    let statement = if query.username.is_some() { sql::LIST_EVENTS_NAMED } else { sql::LIST_EVENTS };
    // By the name and not by the account: who had the name before is of interest too.
    let name = query.username.as_ref().map(Username::key);
    let mut list = connection.prepare_cached(statement)?;
    list.query_map(params![before, kind, query.limit, name], read_event)?.collect()
}

/// An account's events as its owner sees them.
pub(super) fn list_own(
    connection: &Connection,
    user_id: UserId,
    kind: Option<EventKind>,
    before: i64,
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
    before: i64,
    limit: u32,
) -> rusqlite::Result<Vec<Event>> {
    let mut list = connection.prepare_cached(sql::LIST_EVENTS_OF)?;
    list.query_map(params![before, kind.map(EventKind::name), user_id.0, limit], read_event)?.collect()
}

pub(super) fn read_event(row: &Row<'_>) -> rusqlite::Result<Event> {
    Ok(Event {
        id: row.get("id")?,
        at: read_time(row, "at")?,
        kind: EventKind::parse(row.get_ref(2)?.as_str()?).ok_or_else(|| invalid_column(2, OutOfRange("a kind")))?,
        username: row.get("username")?,
        actor: row.get("actor")?,
        ip: read_ip(row)?,
        detail: row.get("detail")?,
    })
}

/// The first events that may be forgotten now. All are looked at: the clock may have been wrong for a while, and one event
/// from the future must not keep those behind it for good.
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
    let Some(account) = administration::target_named(connection, username)? else { return Ok(Vec::new()) };
    let mut list = connection.prepare_cached(sql::LIST_FAMILIAR)?;
    let addresses = list.query_map([account.user_id.0], read_ip)?;
    let mut addresses: Vec<_> = addresses.filter_map(Result::transpose).collect::<Result<_, _>>()?;
    addresses.sort_unstable();
    addresses.dedup();
    Ok(addresses)
}

pub(super) fn list_failures(connection: &Connection, limit: u32) -> rusqlite::Result<Vec<StoredFailures>> {
    let mut list = connection.prepare_cached(sql::LIST_FAILURES)?;
    list.query_map([limit], read_failures)?.collect()
}

pub(super) fn read_failures(row: &Row<'_>) -> rusqlite::Result<StoredFailures> {
    Ok(StoredFailures {
        username: read_username(row, 0)?,
        count: row.get("failures")?,
        last: read_time(row, "last_failed")?,
    })
}

pub(super) fn list_resets(connection: &Connection, behind: i64) -> rusqlite::Result<Resets> {
    let last_event = last(connection)?;
    let mut list = connection.prepare_cached(sql::LIST_RESETS)?;
    let usernames = if last_event > behind {
        list.query_map([behind], |row| read_username(row, 0))?.collect::<Result<_, _>>()?
    } else {
        Vec::new()
    };
    Ok(Resets { last_event, usernames })
}
