//! [`Administration`] in SQLite. Each method checks the actor's rights first, in the transaction that does the work.

use async_trait::async_trait;
use rusqlite::{Connection, params};

use super::emails::{Verification, verify_email};
use super::error::Failure;
use super::identities::revoke_refresh_tokens;
use super::lookup::{allow, find_user, keep_a_superuser, require_staff, target_named};
use super::offers::{delete_all_offers, delete_opening_offers, delete_pending_change};
use super::tokens::{delete_session, list_sessions};
use super::transaction::Transaction;
use super::users::insert_user;
use super::{SqliteRepository, events, sql};
use crate::domain::event::EventKind;
use crate::domain::rights::{
    AccountChange, AccountCursor, Acting, Actor, Permission, Rights, SearchText, Target, UserQuery,
};
use crate::domain::session::{SessionCutoffs, SessionDetails, SessionId};
use crate::domain::user::{NewUser, PasswordHash, User, UserId, Username};
use crate::repository::session_cache::Change;
use crate::repository::{Administration, EmailVerification, Page, RepositoryError, UniqueField};
use crate::system::clock::Timestamp;

#[async_trait]
impl Administration for SqliteRepository {
    async fn create_account(&self, user: NewUser, rights: Rights, now: Timestamp) -> Result<User, RepositoryError> {
        self.write(move |connection| create_account(connection, &user, rights, now)).await
    }

    async fn check_rights(
        &self,
        actor: &Actor,
        permission: Permission,
        username: Option<&Username>,
    ) -> Result<bool, RepositoryError> {
        let (actor, username) = (*actor, username.cloned());
        self.read_snapshot(move |connection| check_rights(connection, &actor, permission, username.as_ref())).await
    }

    async fn list_accounts(
        &self,
        actor: &Actor,
        query: UserQuery,
    ) -> Result<Page<User, AccountCursor>, RepositoryError> {
        let actor = *actor;
        self.scan(Some(self.scan_within), move |connection| list_accounts(connection, &actor, &query)).await
    }

    async fn find_account(&self, actor: &Actor, username: &Username) -> Result<Option<User>, RepositoryError> {
        let (actor, username) = (*actor, username.clone());
        self.read_snapshot(move |connection| find_account(connection, &actor, &username)).await
    }

    async fn change_account(
        &self,
        actor: &Actor,
        username: &Username,
        change: AccountChange,
        now: Timestamp,
    ) -> Result<Option<User>, RepositoryError> {
        let (actor, username) = (*actor, username.clone());
        self.write(move |connection| change_account(connection, &actor, &username, &change, now)).await
    }

    async fn verify_account_email(
        &self,
        actor: &Actor,
        username: &Username,
        now: Timestamp,
    ) -> Result<Option<EmailVerification>, RepositoryError> {
        let (actor, username) = (*actor, username.clone());
        self.write(move |connection| verify_account_email(connection, &actor, &username, now)).await
    }

    async fn delete_account(
        &self,
        actor: &Actor,
        username: &Username,
        now: Timestamp,
    ) -> Result<bool, RepositoryError> {
        let (actor, username) = (*actor, username.clone());
        self.write(move |connection| delete_account(connection, &actor, &username, now)).await
    }

    async fn list_account_sessions(
        &self,
        actor: &Actor,
        username: &Username,
        cutoffs: SessionCutoffs,
    ) -> Result<Option<Vec<SessionDetails>>, RepositoryError> {
        let (actor, username) = (*actor, username.clone());
        self.read_snapshot(move |connection| list_account_sessions(connection, &actor, &username, cutoffs)).await
    }

    async fn revoke_account_sessions(
        &self,
        actor: &Actor,
        username: &Username,
        id: Option<SessionId>,
        cutoffs: SessionCutoffs,
        now: Timestamp,
    ) -> Result<Option<usize>, RepositoryError> {
        let (actor, username) = (*actor, username.clone());
        self.write(move |connection| revoke_account_sessions(connection, &actor, &username, id.as_ref(), cutoffs, now))
            .await
    }
}

fn check_rights(
    connection: &Connection,
    actor: &Actor,
    permission: Permission,
    username: Option<&Username>,
) -> Result<bool, Failure> {
    let acting = require_staff(connection, actor)?;
    // Before the lookup, so that a refusal does not tell whether there is such an account.
    allow(acting.may_ever(permission))?;
    let Some(username) = username else { return Ok(true) };
    let Some(target) = target_named(connection, username)? else { return Ok(false) };
    allow(acting.may(permission, &target)).map(|()| true)
}

fn create_account(
    connection: &Transaction<'_>,
    user: &NewUser,
    rights: Rights,
    now: Timestamp,
) -> Result<User, Failure> {
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

fn list_accounts(
    connection: &Connection,
    actor: &Actor,
    query: &UserQuery,
) -> Result<Page<User, AccountCursor>, Failure> {
    require_staff(connection, actor)?;
    let mut list = connection.prepare_cached(sql::LIST_USERS)?;
    let found = list
        .query_map(
            params![
                query.after.as_ref().map(AccountCursor::key).unwrap_or_default(),
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
    let next = users.last().filter(|_| query.is_full(&users)).map(|last| AccountCursor::behind(&last.username));
    Ok(Page { rows: users, next })
}

fn find_account(connection: &Connection, actor: &Actor, username: &Username) -> Result<Option<User>, Failure> {
    require_staff(connection, actor)?;
    let found = target_named(connection, username)?;
    Ok(found.map(|target| find_user(connection, target.user_id)).transpose()?)
}

fn change_account(
    connection: &Transaction<'_>,
    actor: &Actor,
    username: &Username,
    change: &AccountChange,
    now: Timestamp,
) -> Result<Option<User>, Failure> {
    let acting = require_staff(connection, actor)?;
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
        connection.prepare_cached(sql::RESET_FAILURES)?.execute([before.user_id.0])?;
        tell(EventKind::PasswordSet, "")?;
    }
    if change.password_hash.is_some() || !after.is_active {
        delete_opening_offers(connection, before.user_id)?;
        delete_pending_change(connection, before.user_id)?;
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

fn verify_account_email(
    connection: &Transaction<'_>,
    actor: &Actor,
    username: &Username,
    now: Timestamp,
) -> Result<Option<EmailVerification>, Failure> {
    let acting = require_staff(connection, actor)?;
    let Some(target) = target_named(connection, username)? else { return Ok(None) };
    allow(acting.may(Permission::ManageAccount, &target))?;
    Ok(Some(match verify_email(connection, target.user_id, now)? {
        Verification::Now => {
            connection.changes(target.user_id, Change::Text);
            let (kind, by) = (EventKind::EmailVerified, Some(acting.name()));
            events::insert(connection, kind, target.user_id, by, actor.ip(), "", now)?;
            EmailVerification::Verified
        }
        Verification::Before => EmailVerification::Verified,
        Verification::NoAddress => EmailVerification::NoAddress,
        Verification::Taken => EmailVerification::Taken,
    }))
}

fn delete_account(
    connection: &Transaction<'_>,
    actor: &Actor,
    username: &Username,
    now: Timestamp,
) -> Result<bool, Failure> {
    let acting = require_staff(connection, actor)?;
    // Before the lookup, so that a refusal does not tell whether there is such an account.
    allow(acting.may_ever(Permission::AdministerAccount))?;
    let Some(target) = target_named(connection, username)? else { return Ok(false) };
    allow(acting.may(Permission::AdministerAccount, &target))?;
    keep_a_superuser(connection, &target)?;
    // Before the deletion: the event copies the account's name.
    events::insert(connection, EventKind::Deleted, target.user_id, Some(acting.name()), actor.ip(), "", now)?;
    connection.changes(target.user_id, Change::Sessions);
    delete_all_offers(connection, target.user_id)?;
    revoke_refresh_tokens(connection, target.user_id, now)?;
    connection.prepare_cached(sql::DELETE_ACCOUNT)?.execute([target.user_id.0])?;
    Ok(true)
}

fn list_account_sessions(
    connection: &Connection,
    actor: &Actor,
    username: &Username,
    cutoffs: SessionCutoffs,
) -> Result<Option<Vec<SessionDetails>>, Failure> {
    require_staff(connection, actor)?;
    let Some(target) = target_named(connection, username)? else { return Ok(None) };
    let sessions = list_sessions(connection, target.user_id, cutoffs)?;
    Ok(Some(sessions.into_iter().map(|(_, details)| details).collect()))
}

fn revoke_account_sessions(
    connection: &Transaction<'_>,
    actor: &Actor,
    username: &Username,
    id: Option<&SessionId>,
    cutoffs: SessionCutoffs,
    now: Timestamp,
) -> Result<Option<usize>, Failure> {
    let acting = require_staff(connection, actor)?;
    let Some(target) = target_named(connection, username)? else { return Ok(None) };
    allow(acting.may(Permission::ManageAccount, &target))?;
    connection.changes(target.user_id, Change::Sessions);
    let (kind, ended) = if let Some(id) = id {
        (EventKind::SessionRevoked, usize::from(delete_session(connection, target.user_id, id, cutoffs)?))
    } else {
        let ended = connection.prepare_cached(sql::DELETE_ALL_TOKENS)?.execute([target.user_id.0])?;
        (EventKind::AllSessionsRevoked, ended)
    };
    if ended > 0 || id.is_none() {
        // Also where there was no session: a login may lack its second factor alone.
        delete_pending_change(connection, target.user_id)?;
    }
    if ended > 0 {
        let detail = id.map(SessionId::as_str).unwrap_or_default();
        events::insert(connection, kind, target.user_id, Some(acting.name()), actor.ip(), detail, now)?;
    }
    Ok(Some(ended))
}
