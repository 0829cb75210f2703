//! [`Events`] in PostgreSQL.

use std::collections::HashMap;
use std::net::IpAddr;

use async_trait::async_trait;
use tokio_postgres::types::ToSql;

use super::error::Failure;
use super::lookup::{require_session, require_staff};
use super::pool::{Connection, Instance};
use super::rows::{get, ip_text, read_event, read_failures, read_ip, read_username};
use super::transaction::Transaction;
use super::{PostgresRepository, SCAN_WITHIN, outbox, sql};
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

/// How many numbers of transactions a new primary may give once more: those of transactions of the former one of which
/// nothing has remained.
const NUMBERED_AGAIN: i64 = 10_000;

#[async_trait]
impl Events for PostgresRepository {
    async fn list_own_events(
        &self,
        caller: &Caller,
        query: EventQuery,
    ) -> Result<Page<Event, EventCursor>, RepositoryError> {
        self.read_snapshot((*caller, query), |connection, (caller, query)| {
            Box::pin(async move {
                let user_id = require_session(connection, caller).await?.user_id;
                let rows = list_own(connection, user_id, query.kind, query.before, query.limit).await?;
                Ok(page(rows, query.limit))
            })
        })
        .await
    }

    async fn list_events(&self, actor: &Actor, query: EventQuery) -> Result<Page<Event, EventCursor>, RepositoryError> {
        self.scan(SCAN_WITHIN, (*actor, query), |connection, (actor, query)| {
            Box::pin(async move {
                require_staff(connection, actor).await?;
                Ok(page(list(connection, query).await?, query.limit))
            })
        })
        .await
    }

    async fn record_failed_attempts(
        &self,
        attempts: Vec<FailedAttempt>,
        now: Timestamp,
    ) -> Result<(), RepositoryError> {
        self.write((attempts, now), |transaction, (attempts, now)| {
            Box::pin(record_failed_attempts(transaction, attempts, *now))
        })
        .await
    }

    async fn list_familiar_addresses(&self, username: &Username) -> Result<Vec<IpAddr>, RepositoryError> {
        self.read_snapshot(username.clone(), |connection, username| Box::pin(list_familiar(connection, username))).await
    }

    fn is_shared(&self) -> bool {
        true
    }

    async fn list_failures(&self, limit: u32) -> Result<Vec<StoredFailures>, RepositoryError> {
        self.read(limit, |connection, limit| Box::pin(list_failures(connection, *limit))).await
    }

    async fn list_resets(&self, behind: Option<ResetCursor>) -> Result<Resets, RepositoryError> {
        self.peek(behind, |connection, behind| Box::pin(list_resets(connection, behind.as_ref()))).await
    }
}

/// Inserts an event of what an account did itself.
pub(super) async fn by_owner(
    transaction: &Transaction,
    kind: EventKind,
    user_id: UserId,
    ip: Option<IpAddr>,
    detail: &str,
    now: Timestamp,
) -> Result<(), Failure> {
    insert(transaction, kind, user_id, None, ip, detail, now).await
}

/// Inserts an event; `actor` is who did it, where it was not the account itself. What the owner is to hear of is put in
/// the outbox beside it, for the address that the account has at this moment.
pub(super) async fn insert(
    transaction: &Transaction,
    kind: EventKind,
    user_id: UserId,
    actor: Option<&str>,
    ip: Option<IpAddr>,
    detail: &str,
    now: Timestamp,
) -> Result<(), Failure> {
    insert_untold(transaction, kind, user_id, actor, ip, detail, now).await?;
    if let Some(notice) = MailKind::telling_of(kind) {
        // Where staff work from is nothing that an account is told.
        let ip = ip.filter(|_| actor.is_none());
        outbox::insert_notice(transaction, notice, user_id, ip, detail, now).await?;
    }
    Ok(())
}

/// The same, without a notice: the owner knows of it.
pub(super) async fn insert_untold(
    transaction: &Transaction,
    kind: EventKind,
    user_id: UserId,
    actor: Option<&str>,
    ip: Option<IpAddr>,
    detail: &str,
    now: Timestamp,
) -> Result<(), Failure> {
    let (at, name, address) = (now.as_millis(), kind.name(), ip_text(ip));
    transaction.execute(sql::INSERT_EVENT, &[&at, &name, &user_id.0, &actor, &address, &detail]).await?;
    Ok(())
}

/// Stores failed attempts. The name is stored only where it is an account's: it may be a password that was typed there.
/// There may be thousands, so each statement is for all of them. None of them is told by a mail.
async fn record_failed_attempts(
    transaction: &Transaction,
    attempts: &[FailedAttempt],
    now: Timestamp,
) -> Result<(), Failure> {
    let accounts = lock_named(transaction, attempts).await?;
    let ids: Vec<i64> = accounts.values().copied().collect();
    let new_passwords = list_new_passwords(transaction, &ids, now).await?;
    let account = |attempt: &FailedAttempt| accounts.get(&attempt.username.as_ref()?.key()).copied();

    let counted = attempts.iter().filter_map(|attempt| {
        let (at, user_id) = (attempt.at.as_millis(), account(attempt)?);
        // A new password resets the failures before it, also those that are stored only now.
        let is_reset = new_passwords.get(&user_id).is_some_and(|set| *set >= at);
        (attempt.kind.counts_at_account() && !is_reset).then_some((user_id, at))
    });
    let (of, when): (Vec<i64>, Vec<i64>) = counted.unzip();
    let counting: [&(dyn ToSql + Sync); 3] = [&of, &when, &now.as_millis()];

    let at: Vec<i64> = attempts.iter().map(|attempt| attempt.at.as_millis()).collect();
    let kinds: Vec<&str> = attempts.iter().map(|attempt| attempt.kind.name()).collect();
    let of: Vec<Option<i64>> = attempts.iter().map(account).collect();
    // The holder of a session is known to be the account's; anyone else may be a stranger.
    let is_owner = |attempt: &FailedAttempt| attempt.kind == EventKind::ReauthenticationFailed;
    let by_owner: Vec<bool> = attempts.iter().map(is_owner).collect();
    let ips: Vec<String> = attempts.iter().map(|attempt| ip_text(attempt.ip)).collect();
    let details: Vec<&str> = attempts.iter().map(|attempt| attempt.detail).collect();
    let telling: [&(dyn ToSql + Sync); 6] = [&at, &kinds, &of, &by_owner, &ips, &details];
    transaction.query_in_order([(sql::COUNT_FAILURES, &counting[..]), (sql::INSERT_ATTEMPTS, &telling)]).await?;
    Ok(())
}

/// The accounts whose names were given, by these. They are locked in the order of their ids, as by every unit that locks
/// several: so no two wait for each other.
async fn lock_named(transaction: &Transaction, attempts: &[FailedAttempt]) -> Result<HashMap<String, i64>, Failure> {
    let names = attempts.iter().filter_map(|attempt| attempt.username.as_ref());
    let keys: Vec<String> = names.map(Username::key).collect();
    let rows = transaction.query(sql::LOCK_USERS_NAMED, &[&keys]).await?;
    rows.iter().map(|row| Ok((get(row, 1)?, get(row, 0)?))).collect()
}

/// When each of these accounts, which are locked, got its newest password.
async fn list_new_passwords(
    transaction: &Transaction,
    user_ids: &[i64],
    now: Timestamp,
) -> Result<HashMap<i64, i64>, Failure> {
    let rows = transaction.query(sql::LIST_NEW_PASSWORDS, &[&user_ids, &now.as_millis()]).await?;
    rows.iter().map(|row| Ok((get(row, 0)?, get(row, 1)?))).collect()
}

async fn list(connection: &Connection, query: &EventQuery) -> Result<Vec<Event>, Failure> {
    let before = query.before.map_or(i64::MAX, EventCursor::id);
    let kind = query.kind.map(EventKind::name);
    let limit = i64::from(query.limit);
    let rows = match &query.username {
        Some(name) => {
            let name = name_in_events(connection, name).await?;
            connection.query(sql::LIST_EVENTS_NAMED, &[&before, &kind, &limit, &name]).await?
        }
        None => connection.query(sql::LIST_EVENTS, &[&before, &kind, &limit]).await?,
    };
    rows.iter().map(read_event).collect()
}

/// A name as events are found by it: by the name and not by the account's id, so that events of an earlier account of this
/// name are found, too. They have the account's own spelling, of which the index folds ASCII.
async fn name_in_events(connection: &Connection, username: &Username) -> Result<String, Failure> {
    let own: Option<String> = match connection.query_opt(sql::FIND_NAME, &[&username.key()]).await? {
        Some(row) => Some(get(&row, 0)?),
        None => None,
    };
    Ok(own.as_deref().unwrap_or(username.as_str()).to_ascii_lowercase())
}

/// A page of events. A full page has a cursor: there may be more.
fn page(rows: Vec<Event>, limit: u32) -> Page<Event, EventCursor> {
    let is_full = rows.len() >= limit as usize;
    let next = rows.last().filter(|_| is_full).map(|last| EventCursor::behind(last.id));
    Page { rows, next }
}

/// An account's events as its owner sees them.
pub(super) async fn list_own(
    connection: &Connection,
    user_id: UserId,
    kind: Option<EventKind>,
    before: Option<EventCursor>,
    limit: u32,
) -> Result<Vec<Event>, Failure> {
    let mut events = list_of(connection, user_id, kind, before, limit).await?;
    for event in &mut events {
        if !event.actor.is_empty() && event.actor != event.username {
            STAFF.clone_into(&mut event.actor);
            event.ip = None;
        }
    }
    Ok(events)
}

async fn list_of(
    connection: &Connection,
    user_id: UserId,
    kind: Option<EventKind>,
    before: Option<EventCursor>,
    limit: u32,
) -> Result<Vec<Event>, Failure> {
    let before = before.map_or(i64::MAX, EventCursor::id);
    let parameters: [&(dyn ToSql + Sync); 4] = [&before, &kind.map(EventKind::name), &user_id.0, &i64::from(limit)];
    connection.query(sql::LIST_EVENTS_OF, &parameters).await?.iter().map(read_event).collect()
}

/// The first events that may be pruned now. It looks at all events, not only at the oldest: the clock may have been
/// wrong for a while, and an event from the future must not keep those behind it for good.
pub(super) async fn find_old(
    connection: &Connection,
    before: Timestamp,
    keep: u64,
    now: Timestamp,
) -> Result<Vec<i64>, Failure> {
    let too_many = find_beyond(connection, i64::try_from(keep).unwrap_or(i64::MAX)).await?;
    let parameters: [&(dyn ToSql + Sync); 4] =
        [&before.as_millis(), &too_many, &i64::from(PRUNED_AT_ONCE), &now.as_millis()];
    connection.query(sql::FIND_OLD_EVENTS, &parameters).await?.iter().map(|row| get(row, 0)).collect()
}

/// The number of the newest event that is one too many; 0 where there is none. It counts: numbers that were given to
/// transactions that were not committed are missing.
async fn find_beyond(connection: &Connection, keep: i64) -> Result<i64, Failure> {
    let row = connection.query_one(sql::FIND_EVENT_NUMBERS, &[]).await?;
    let (first, last): (i64, i64) = (get(&row, 0)?, get(&row, 1)?);
    if last - first < keep {
        return Ok(0);
    }
    let beyond = connection.query_opt(sql::FIND_EVENT_BEYOND, &[&keep]).await?;
    beyond.map_or(Ok(0), |row| get(&row, 0))
}

async fn list_familiar(connection: &Connection, username: &Username) -> Result<Vec<IpAddr>, Failure> {
    let account = connection.query_opt(sql::FIND_CREDENTIALS, &[&username.key()]).await?;
    let Some(account) = account else { return Ok(Vec::new()) };
    let mut addresses = list_familiar_of(connection, UserId(get(&account, "id")?)).await?;
    addresses.sort_unstable();
    addresses.dedup();
    Ok(addresses)
}

async fn list_familiar_of(connection: &Connection, user_id: UserId) -> Result<Vec<IpAddr>, Failure> {
    let rows = connection.query(sql::LIST_FAMILIAR, &[&user_id.0]).await?;
    rows.iter().filter_map(|row| read_ip(row).transpose()).collect()
}

/// Whether the account has logged in from the neighbourhood of this address.
pub(super) async fn is_familiar(connection: &Connection, user_id: UserId, ip: IpAddr) -> Result<bool, Failure> {
    let asking = neighbourhood(ip);
    let addresses = list_familiar_of(connection, user_id).await?;
    Ok(addresses.into_iter().any(|address| neighbourhood(address) == asking))
}

async fn list_failures(connection: &Connection, limit: u32) -> Result<Vec<StoredFailures>, Failure> {
    connection.query(sql::LIST_FAILURES, &[&i64::from(limit)]).await?.iter().map(read_failures).collect()
}

/// Events become visible in another order than that of their numbers. So the cursor is a whole snapshot: what is told is
/// what it does not see. On another server, where its numbers may mean other transactions, rather too much is told.
async fn list_resets(connection: &Connection, behind: Option<&ResetCursor>) -> Result<Resets, Failure> {
    let snapshot: String = get(&connection.query_one(sql::FIND_SNAPSHOT, &[]).await?, 0)?;
    let rows = match behind {
        Some(ResetCursor(Behind::Snapshot(instance, behind))) if *instance == connection.instance => {
            connection.query(sql::LIST_RESETS, &[behind]).await?
        }
        Some(ResetCursor(Behind::Snapshot(_, behind))) => {
            connection.query(sql::LIST_RESETS_OF_FORMER, &[behind, &NUMBERED_AGAIN]).await?
        }
        Some(ResetCursor(Behind::Event(_))) | None => Vec::new(),
    };
    let usernames = rows.iter().map(|row| read_username(row, 0)).collect::<Result<_, _>>()?;
    let instance: Instance = connection.instance;
    Ok(Resets { next: ResetCursor(Behind::Snapshot(instance, snapshot)), usernames })
}
