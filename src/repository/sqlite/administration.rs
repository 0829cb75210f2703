//! What staff do, in the file. Each looks at the rights of whoever asks first, in its own transaction.

use rusqlite::functions::{Context, FunctionFlags};
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::{Failure, delete_session, events, find_user, insert_user, read_truth, require_session, sql};
use crate::domain::event::EventKind;
use crate::domain::rights::{
    AccountChange, Acting, Actor, Permission, Rights, SearchText, Target, UserQuery, is_folded_in,
};
use crate::domain::session::{SessionCutoffs, SessionDetails, SessionId};
use crate::domain::user::{NewUser, PasswordHash, User, UserId, Username};
use crate::repository::sqlite::session_cache::Change;
use crate::repository::sqlite::writer::Transaction;
use crate::repository::{RepositoryError, UniqueField};
use crate::system::clock::Timestamp;

/// Whoever asks, where they have any right over others.
pub(super) fn require(connection: &Connection, actor: &Actor) -> Result<Acting, Failure> {
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

pub(super) fn check_rights(
    connection: &Connection,
    actor: &Actor,
    permission: Permission,
    username: Option<&Username>,
) -> Result<bool, Failure> {
    let acting = require(connection, actor)?;
    // First, so that it is the same whether there is such an account.
    allow(acting.may_ever(permission))?;
    let Some(username) = username else { return Ok(true) };
    let Some(target) = target_named(connection, username)? else { return Ok(false) };
    allow(acting.may(permission, &target)).map(|()| true)
}

fn allow(allowed: bool) -> Result<(), Failure> {
    if allowed { Ok(()) } else { Err(RepositoryError::Forbidden.into()) }
}

/// The account of this name, as far as rights are concerned.
pub(super) fn target_named(connection: &Connection, username: &Username) -> rusqlite::Result<Option<Target>> {
    connection.prepare_cached(sql::FIND_TARGET)?.query_row([username.key()], read_target).optional()
}

/// An account that is there, as far as rights are concerned.
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

/// Refuses to lose the last superuser who can log in.
pub(super) fn keep_a_superuser(connection: &Connection, going: &Target) -> Result<(), Failure> {
    if !going.rights.is_superuser || !going.is_active {
        return Ok(());
    }
    let mut other = connection.prepare_cached(sql::FIND_OTHER_SUPERUSER)?;
    if other.exists([going.user_id.0])? { Ok(()) } else { Err(RepositoryError::LastSuperuser.into()) }
}

pub(super) fn create(connection: &Connection, user: &NewUser, rights: Rights, now: Timestamp) -> Result<User, Failure> {
    let user_id = insert_user(connection, user, now)?.ok_or(RepositoryError::Conflict(UniqueField::Username))?;
    write(connection, &Target { user_id, rights, is_active: true }, None)?;
    let by = Some(Acting::Operator.name());
    events::insert(connection, EventKind::Created, user_id, by, None, "", now)?;
    for (right, given) in [("staff", rights.is_staff), ("superuser", rights.is_superuser)] {
        if given {
            events::insert(connection, EventKind::Promoted, user_id, by, None, right, now)?;
        }
    }
    Ok(find_user(connection, user_id)?)
}

pub(super) fn list(connection: &Connection, actor: &Actor, query: &UserQuery) -> Result<Vec<User>, Failure> {
    require(connection, actor)?;
    let mut list = connection.prepare_cached(sql::LIST_USERS)?;
    let found = list
        .query_map(
            params![
                query.after.as_ref().map(Username::key).unwrap_or_default(),
                query.search.as_ref().map(SearchText::as_folded),
                query.is_active,
                query.is_staff,
                query.is_superuser,
                query.limit,
            ],
            |row| Ok(UserId(row.get(0)?)),
        )?
        .collect::<Result<Vec<_>, _>>()?;
    let mut users = Vec::new();
    for user_id in found {
        if query.is_full(&users) {
            break;
        }
        users.push(find_user(connection, user_id)?);
    }
    Ok(users)
}

/// Gives a connection what [`sql::LIST_USERS`] calls: SQLite's own LIKE and `lower()` know the case of ASCII letters
/// alone. No schema may call it.
pub(super) fn add_functions(connection: &Connection) -> rusqlite::Result<()> {
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC | FunctionFlags::SQLITE_DIRECTONLY;
    connection.create_scalar_function(c"is_folded_in", 2, flags, |context: &Context<'_>| {
        // What is no text, because another program wrote it, has no text in it: the other rows are still found.
        let text = |number| context.get_raw(number).as_str().ok();
        Ok(text(0).zip(text(1)).is_some_and(|(folded, text)| is_folded_in(folded, text)))
    })
}

pub(super) fn find(connection: &Connection, actor: &Actor, username: &Username) -> Result<Option<User>, Failure> {
    require(connection, actor)?;
    let found = target_named(connection, username)?;
    Ok(found.map(|target| find_user(connection, target.user_id)).transpose()?)
}

pub(super) fn change(
    connection: &Transaction<'_>,
    actor: &Actor,
    username: &Username,
    change: &AccountChange,
    now: Timestamp,
) -> Result<Option<User>, Failure> {
    let acting = require(connection, actor)?;
    let Some(before) = target_named(connection, username)? else { return Ok(None) };
    allow(acting.may(change.permission(), &before))?;
    let after = Target {
        is_active: change.is_active.unwrap_or(before.is_active),
        rights: Rights {
            is_staff: change.is_staff.unwrap_or(before.rights.is_staff),
            is_superuser: change.is_superuser.unwrap_or(before.rights.is_superuser),
        },
        ..before
    };
    if !(after.rights.is_superuser && after.is_active) {
        keep_a_superuser(connection, &before)?;
    }
    connection.changes(before.user_id, Change::Sessions);
    write(connection, &after, change.password_hash.as_ref())?;
    let tell =
        |kind, detail| events::insert(connection, kind, before.user_id, Some(acting.name()), actor.ip(), detail, now);
    for (right, before, after) in [
        ("staff", before.rights.is_staff, after.rights.is_staff),
        ("superuser", before.rights.is_superuser, after.rights.is_superuser),
    ] {
        if before != after {
            tell(if after { EventKind::Promoted } else { EventKind::Demoted }, right)?;
        }
    }
    if before.is_active != after.is_active {
        tell(if after.is_active { EventKind::Activated } else { EventKind::Deactivated }, "")?;
    }
    if change.password_hash.is_some() {
        connection.prepare_cached(sql::FORGET_FAILURES)?.execute([before.user_id.0])?;
        tell(EventKind::PasswordSet, "")?;
    }
    if change.password_hash.is_some() || !after.is_active {
        connection.prepare_cached(sql::DELETE_ALL_TOKENS)?.execute([before.user_id.0])?;
    }
    Ok(Some(find_user(connection, before.user_id)?))
}

fn write(connection: &Connection, account: &Target, password_hash: Option<&PasswordHash>) -> rusqlite::Result<()> {
    connection.prepare_cached(sql::CHANGE_ACCOUNT)?.execute(params![
        account.user_id.0,
        account.is_active,
        account.rights.is_staff,
        account.rights.is_superuser,
        password_hash.map(PasswordHash::as_stored),
    ])?;
    Ok(())
}

pub(super) fn delete(
    connection: &Transaction<'_>,
    actor: &Actor,
    username: &Username,
    now: Timestamp,
) -> Result<bool, Failure> {
    let acting = require(connection, actor)?;
    // Whether there is such an account is not shown to whoever could not delete it anyway.
    allow(acting.may_ever(Permission::AdministerAccount))?;
    let Some(target) = target_named(connection, username)? else { return Ok(false) };
    allow(acting.may(Permission::AdministerAccount, &target))?;
    keep_a_superuser(connection, &target)?;
    // While it is still there to be named.
    events::insert(connection, EventKind::Deleted, target.user_id, Some(acting.name()), actor.ip(), "", now)?;
    connection.changes(target.user_id, Change::Sessions);
    connection.prepare_cached(sql::DELETE_ACCOUNT)?.execute([target.user_id.0])?;
    Ok(true)
}

pub(super) fn list_sessions(
    connection: &Connection,
    actor: &Actor,
    username: &Username,
    cutoffs: SessionCutoffs,
) -> Result<Option<Vec<SessionDetails>>, Failure> {
    require(connection, actor)?;
    let Some(target) = target_named(connection, username)? else { return Ok(None) };
    let sessions = super::list_sessions(connection, target.user_id, cutoffs)?;
    Ok(Some(sessions.into_iter().map(|(_, details)| details).collect()))
}

pub(super) fn revoke_sessions(
    connection: &Transaction<'_>,
    actor: &Actor,
    username: &Username,
    id: Option<&SessionId>,
    cutoffs: SessionCutoffs,
    now: Timestamp,
) -> Result<Option<usize>, Failure> {
    let acting = require(connection, actor)?;
    let Some(target) = target_named(connection, username)? else { return Ok(None) };
    allow(acting.may(Permission::ManageAccount, &target))?;
    connection.changes(target.user_id, Change::Sessions);
    let (kind, ended) = if let Some(id) = id {
        (EventKind::SessionRevoked, usize::from(delete_session(connection, target.user_id, id, cutoffs)?))
    } else {
        let ended = connection.prepare_cached(sql::DELETE_ALL_TOKENS)?.execute([target.user_id.0])?;
        (EventKind::AllSessionsRevoked, ended)
    };
    if ended > 0 {
        let detail = id.map(SessionId::as_str).unwrap_or_default();
        events::insert(connection, kind, target.user_id, Some(acting.name()), actor.ip(), detail, now)?;
    }
    Ok(Some(ended))
}
