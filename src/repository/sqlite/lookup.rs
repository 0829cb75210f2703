//! Lookups that several traits begin with, in the transaction that uses them: the caller's session, the actor's rights,
//! an account.

use rusqlite::{Connection, OptionalExtension as _, Row};

use super::error::Failure;
use super::rows::{invalid_account, read_credentials, read_optional_time, read_session, read_truth, read_user};
use super::sql;
use super::transaction::Transaction;
use crate::domain::rights::{Acting, Actor, Permission, Rights, Target};
use crate::domain::session::{Caller, Session, is_fresh};
use crate::domain::user::{Credentials, User, UserId, Username};
use crate::repository::session_cache::{Change, Found};
use crate::repository::{Proof, RepositoryError};
use crate::system::clock::Timestamp;

/// The caller's live session.
pub(super) fn find_session(connection: &Connection, caller: &Caller) -> rusqlite::Result<Option<Found>> {
    connection.prepare_cached(sql::FIND_SESSION)?.query_row(live(caller), read_session).optional()
}

/// The parameters of a statement that looks for a live session.
pub(super) fn live(caller: &Caller) -> impl rusqlite::Params {
    let cutoffs = caller.cutoffs;
    (
        *caller.digest.as_bytes(),
        cutoffs.created_after.as_millis(),
        cutoffs.used_after.as_millis(),
        cutoffs.expires_after.as_millis(),
    )
}

/// The caller's live session, for a transaction that changes its user. The change is noted for the cache.
pub(super) fn begin_change(transaction: &Transaction<'_>, caller: &Caller, change: Change) -> Result<Session, Failure> {
    let session = match transaction.known_session(caller) {
        Some(session) => session,
        None => require_session(transaction, caller)?,
    };
    transaction.changes(session.user_id, change);
    Ok(session)
}

/// The caller's live session, or [`RepositoryError::NoSession`].
pub(super) fn require_session(connection: &Connection, caller: &Caller) -> Result<Session, Failure> {
    Ok(find_session(connection, caller)?.ok_or(RepositoryError::NoSession)?.session)
}

pub(super) fn find_own_credentials(connection: &Connection, user_id: UserId) -> rusqlite::Result<Credentials> {
    connection.prepare_cached(sql::FIND_OWN_CREDENTIALS)?.query_row([user_id.0], read_credentials)
}

/// Whether the caller's session, which is live, is fresh.
pub(super) fn is_session_fresh(connection: &Connection, caller: &Caller, now: Timestamp) -> rusqlite::Result<bool> {
    let mut find = connection.prepare_cached(sql::FIND_REAUTHENTICATION)?;
    let reauthenticated = find.query_row([caller.digest.as_bytes()], |row| read_optional_time(row, 0))?;
    Ok(reauthenticated.is_some_and(|reauthenticated| is_fresh(reauthenticated, now)))
}

/// Whether a proof holds for the caller, whose session is live and this user's.
pub(super) fn holds(
    connection: &Connection,
    proof: &Proof,
    caller: &Caller,
    user_id: UserId,
    now: Timestamp,
) -> rusqlite::Result<bool> {
    match proof {
        Proof::Password(verified_against) => {
            Ok(find_own_credentials(connection, user_id)?.password_hash == *verified_against)
        }
        Proof::FreshSession => is_session_fresh(connection, caller, now),
    }
}

pub(super) fn find_user(connection: &Connection, user_id: UserId) -> rusqlite::Result<User> {
    connection
        .prepare_cached(sql::FIND_USER)?
        .query_row([user_id.0], |row| read_user(row, 0).map_err(|error| invalid_account(row, error)))
}

/// The actor, where it is the operator or a superuser: services and webhooks are theirs to manage.
pub(super) fn require_superuser(connection: &Connection, actor: &Actor) -> Result<Acting, Failure> {
    let acting = require_staff(connection, actor)?;
    allow(acting.may_ever(Permission::AdministerAccount))?;
    Ok(acting)
}

/// The actor, where it has any right over other accounts.
pub(super) fn require_staff(connection: &Connection, actor: &Actor) -> Result<Acting, Failure> {
    let Actor::Session(caller) = actor else { return Ok(Acting::Operator) };
    let user_id = require_session(connection, caller)?.user_id;
    let (username, rights) = connection.prepare_cached(sql::FIND_RIGHTS)?.query_row([user_id.0], |row| {
        let rights = Rights { is_staff: read_truth(row, "is_staff")?, is_superuser: read_truth(row, "is_superuser")? };
        Ok((row.get("username")?, rights))
    })?;
    if !rights.any() {
        return Err(RepositoryError::Forbidden.into());
    }
    Ok(Acting::Staff { user_id, username, is_superuser: rights.is_superuser })
}

pub(super) fn allow(allowed: bool) -> Result<(), Failure> {
    if allowed { Ok(()) } else { Err(RepositoryError::Forbidden.into()) }
}

/// The account of this name, with what rights depend on.
pub(super) fn target_named(connection: &Connection, username: &Username) -> rusqlite::Result<Option<Target>> {
    connection.prepare_cached(sql::FIND_TARGET)?.query_row([username.key()], read_target).optional()
}

/// An account that exists, with what rights depend on.
pub(super) fn target_of(connection: &Connection, user_id: UserId) -> rusqlite::Result<Target> {
    connection.prepare_cached(sql::FIND_TARGET_BY_ID)?.query_row([user_id.0], read_target)
}

fn read_target(row: &Row<'_>) -> rusqlite::Result<Target> {
    Ok(Target {
        user_id: UserId(row.get("id")?),
        rights: Rights { is_staff: read_truth(row, "is_staff")?, is_superuser: read_truth(row, "is_superuser")? },
        is_active: read_truth(row, "is_active")?,
    })
}

/// Refuses to lose the last active superuser.
pub(super) fn keep_a_superuser(connection: &Connection, going: &Target) -> Result<(), Failure> {
    if !going.rights.is_superuser || !going.is_active {
        return Ok(());
    }
    let mut other = connection.prepare_cached(sql::FIND_OTHER_SUPERUSER)?;
    if other.exists([going.user_id.0])? { Ok(()) } else { Err(RepositoryError::LastSuperuser.into()) }
}
