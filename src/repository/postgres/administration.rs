//! [`Administration`] in PostgreSQL. Each method checks the actor's rights first, in the transaction that does the work.

use async_trait::async_trait;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::emails::{Verification, verify_email};
use super::error::Failure;
use super::identities::revoke_refresh_tokens;
use super::lookup::{
    allow, begin_action, find_user, keep_a_superuser, lock_superusers, read_id, require_staff, target_named,
};
use super::offers::{delete_all_offers, delete_opening_offers, delete_pending_change};
use super::pool::Connection;
use super::rows::{get, read_user};
use super::tokens::{delete_session, list_sessions};
use super::transaction::Transaction;
use super::users::insert_user;
use super::{PostgresRepository, SCAN_WITHIN, events, sql};
use crate::domain::event::EventKind;
use crate::domain::rights::{
    AccountChange, AccountCursor, Acting, Actor, Permission, Rights, SearchText, Target, UserQuery, is_folded_in,
};
use crate::domain::session::{SessionCutoffs, SessionDetails, SessionId};
use crate::domain::user::{NewUser, PasswordHash, User, UserId, Username};
use crate::repository::session_cache::Change;
use crate::repository::{Administration, EmailVerification, Page, RepositoryError, UniqueField};
use crate::system::clock::Timestamp;

/// How many accounts that may match a search are looked at in one go.
const CANDIDATES: i64 = 1_000;

/// How many accounts of a page are read in one go. Its end depends on their lists, which may be long.
const READ_AT_ONCE: usize = 10;

#[async_trait]
impl Administration for PostgresRepository {
    async fn create_account(&self, user: NewUser, rights: Rights, now: Timestamp) -> Result<User, RepositoryError> {
        self.write((user, rights, now), |transaction, (user, rights, now)| {
            Box::pin(create_account(transaction, user, *rights, *now))
        })
        .await
    }

    async fn check_rights(
        &self,
        actor: &Actor,
        permission: Permission,
        username: Option<&Username>,
    ) -> Result<bool, RepositoryError> {
        self.read_snapshot((*actor, permission, username.cloned()), |connection, (actor, permission, username)| {
            Box::pin(check_rights(connection, actor, *permission, username.as_ref()))
        })
        .await
    }

    async fn list_accounts(
        &self,
        actor: &Actor,
        query: UserQuery,
    ) -> Result<Page<User, AccountCursor>, RepositoryError> {
        self.scan(SCAN_WITHIN, (*actor, query), |connection, (actor, query)| {
            Box::pin(list_accounts(connection, actor, query))
        })
        .await
    }

    async fn find_account(&self, actor: &Actor, username: &Username) -> Result<Option<User>, RepositoryError> {
        self.read_snapshot((*actor, username.clone()), |connection, (actor, username)| {
            Box::pin(find_account(connection, actor, username))
        })
        .await
    }

    async fn change_account(
        &self,
        actor: &Actor,
        username: &Username,
        change: AccountChange,
        now: Timestamp,
    ) -> Result<Option<User>, RepositoryError> {
        self.write((*actor, username.clone(), change, now), |transaction, (actor, username, change, now)| {
            Box::pin(change_account(transaction, actor, username, change, *now))
        })
        .await
    }

    async fn verify_account_email(
        &self,
        actor: &Actor,
        username: &Username,
        now: Timestamp,
    ) -> Result<Option<EmailVerification>, RepositoryError> {
        self.write((*actor, username.clone(), now), |transaction, (actor, username, now)| {
            Box::pin(verify_account_email(transaction, actor, username, *now))
        })
        .await
    }

    async fn delete_account(
        &self,
        actor: &Actor,
        username: &Username,
        now: Timestamp,
    ) -> Result<bool, RepositoryError> {
        self.write((*actor, username.clone(), now), |transaction, (actor, username, now)| {
            Box::pin(delete_account(transaction, actor, username, *now))
        })
        .await
    }

    async fn list_account_sessions(
        &self,
        actor: &Actor,
        username: &Username,
        cutoffs: SessionCutoffs,
    ) -> Result<Option<Vec<SessionDetails>>, RepositoryError> {
        self.read_snapshot((*actor, username.clone(), cutoffs), |connection, (actor, username, cutoffs)| {
            Box::pin(list_account_sessions(connection, actor, username, *cutoffs))
        })
        .await
    }

    async fn revoke_account_sessions(
        &self,
        actor: &Actor,
        username: &Username,
        id: Option<SessionId>,
        cutoffs: SessionCutoffs,
        now: Timestamp,
    ) -> Result<Option<usize>, RepositoryError> {
        let arguments = (*actor, username.clone(), id, cutoffs, now);
        self.write(arguments, |transaction, (actor, username, id, cutoffs, now)| {
            Box::pin(revoke_account_sessions(transaction, actor, username, id.as_ref(), *cutoffs, *now))
        })
        .await
    }
}

async fn check_rights(
    connection: &Connection,
    actor: &Actor,
    permission: Permission,
    username: Option<&Username>,
) -> Result<bool, Failure> {
    let acting = require_staff(connection, actor).await?;
    // Before the lookup, so that a refusal does not tell whether there is such an account.
    allow(acting.may_ever(permission))?;
    let Some(username) = username else { return Ok(true) };
    let Some(target) = target_named(connection, username).await? else { return Ok(false) };
    allow(acting.may(permission, &target)).map(|()| true)
}

async fn create_account(
    transaction: &Transaction,
    user: &NewUser,
    rights: Rights,
    now: Timestamp,
) -> Result<User, Failure> {
    let user_id = insert_user(transaction, user, now).await?.ok_or(RepositoryError::Conflict(UniqueField::Username))?;
    write(transaction, &Target { user_id, rights, is_active: true }, None).await?;
    let by = Some(Acting::Operator.name());
    events::insert(transaction, EventKind::Created, user_id, by, None, "", now).await?;
    for (right, given) in [("staff", rights.is_staff), ("superuser", rights.is_superuser)] {
        if given {
            events::insert(transaction, EventKind::Promoted, user_id, by, None, right, now).await?;
        }
    }
    find_user(transaction, user_id).await
}

async fn list_accounts(
    connection: &Connection,
    actor: &Actor,
    query: &UserQuery,
) -> Result<Page<User, AccountCursor>, Failure> {
    require_staff(connection, actor).await?;
    let found = search(connection, query).await?;
    let mut users = Vec::new();
    for some in found.chunks(READ_AT_ONCE) {
        let ids: Vec<i64> = some.iter().map(|user_id| user_id.0).collect();
        for row in connection.query(sql::FIND_USERS, &[&ids]).await? {
            if !query.is_full(&users) {
                users.push(read_user(&row, 0)?);
            }
        }
        if query.is_full(&users) {
            break;
        }
    }
    let next = users.last().filter(|_| query.is_full(&users)).map(|last| AccountCursor::behind(&last.username));
    Ok(Page { rows: users, next })
}

/// The accounts that a query is for, at most a page of them. The database names those that a search may find, and
/// [`is_folded_in`] decides: no collation folds as it does.
async fn search(connection: &Connection, query: &UserQuery) -> Result<Vec<UserId>, Failure> {
    let limit = usize::try_from(query.limit).unwrap_or(usize::MAX);
    let folded = query.search.as_ref().map(SearchText::as_folded);
    // PostgreSQL has no text with this character, and takes none.
    if folded.is_some_and(|folded| folded.contains('\0')) {
        return Ok(Vec::new());
    }
    let at_once = if folded.is_some() { CANDIDATES } else { query.limit.into() };
    let mut after = query.after.as_ref().map(AccountCursor::key).unwrap_or_default().to_owned();
    let mut found = Vec::new();
    loop {
        let (is_active, is_staff, is_superuser) = (query.is_active, query.is_staff, query.is_superuser);
        let rows = connection
            .query(sql::LIST_USERS, &[&after, &folded, &is_active, &is_staff, &is_superuser, &at_once])
            .await?;
        for row in &rows {
            if found.len() < limit && folded.map_or(Ok(true), |folded| is_match(row, folded))? {
                found.push(read_id(row)?);
            }
        }
        match rows.last() {
            Some(last) if found.len() < limit && i64::try_from(rows.len()) == Ok(at_once) => {
                after = get(last, "username_key")?;
            }
            _ => return Ok(found),
        }
    }
}

fn is_match(row: &Row, folded: &str) -> Result<bool, Failure> {
    for column in ["username_key", "email", "full_name"] {
        if is_folded_in(folded, get(row, column)?) {
            return Ok(true);
        }
    }
    Ok(false)
}

async fn find_account(connection: &Connection, actor: &Actor, username: &Username) -> Result<Option<User>, Failure> {
    require_staff(connection, actor).await?;
    let Some(target) = target_named(connection, username).await? else { return Ok(None) };
    find_user(connection, target.user_id).await.map(Some)
}

async fn change_account(
    transaction: &Transaction,
    actor: &Actor,
    username: &Username,
    change: &AccountChange,
    now: Timestamp,
) -> Result<Option<User>, Failure> {
    require_staff(transaction, actor).await?;
    if change.is_active == Some(false) || change.is_superuser == Some(false) {
        lock_superusers(transaction).await?;
    }
    let (acting, before) = begin_action(transaction, actor, username).await?;
    let Some(before) = before else { return Ok(None) };
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
        keep_a_superuser(transaction, &before).await?;
    }
    transaction.changes(before.user_id, Change::Sessions);
    write(transaction, &after, change.password_hash.as_ref()).await?;
    let tell =
        |kind, detail| events::insert(transaction, kind, before.user_id, Some(acting.name()), actor.ip(), detail, now);
    for (right, before, after) in [
        ("staff", before.rights.is_staff, after.rights.is_staff),
        ("superuser", before.rights.is_superuser, after.rights.is_superuser),
    ] {
        if before != after {
            tell(if after { EventKind::Promoted } else { EventKind::Demoted }, right).await?;
        }
    }
    if before.is_active != after.is_active {
        tell(if after.is_active { EventKind::Activated } else { EventKind::Deactivated }, "").await?;
    }
    if change.password_hash.is_some() {
        transaction.execute(sql::RESET_FAILURES, &[&before.user_id.0]).await?;
        tell(EventKind::PasswordSet, "").await?;
    }
    if change.password_hash.is_some() || !after.is_active {
        delete_opening_offers(transaction, before.user_id).await?;
        delete_pending_change(transaction, before.user_id).await?;
        transaction.execute(sql::DELETE_ALL_TOKENS, &[&before.user_id.0]).await?;
    }
    find_user(transaction, before.user_id).await.map(Some)
}

async fn write(
    transaction: &Transaction,
    account: &Target,
    password_hash: Option<&PasswordHash>,
) -> Result<(), Failure> {
    let Target { user_id, rights, is_active } = account;
    let hash = password_hash.map(PasswordHash::as_stored);
    let parameters: [&(dyn ToSql + Sync); 5] = [&user_id.0, is_active, &rights.is_staff, &rights.is_superuser, &hash];
    transaction.execute(sql::CHANGE_ACCOUNT, &parameters).await.map(drop)
}

async fn verify_account_email(
    transaction: &Transaction,
    actor: &Actor,
    username: &Username,
    now: Timestamp,
) -> Result<Option<EmailVerification>, Failure> {
    require_staff(transaction, actor).await?;
    let (acting, target) = begin_action(transaction, actor, username).await?;
    let Some(target) = target else { return Ok(None) };
    allow(acting.may(Permission::ManageAccount, &target))?;
    Ok(Some(match verify_email(transaction, target.user_id, now).await? {
        Verification::Now => {
            transaction.changes(target.user_id, Change::Text);
            let (kind, by) = (EventKind::EmailVerified, Some(acting.name()));
            events::insert(transaction, kind, target.user_id, by, actor.ip(), "", now).await?;
            EmailVerification::Verified
        }
        Verification::Before => EmailVerification::Verified,
        Verification::NoAddress => EmailVerification::NoAddress,
        Verification::Taken => EmailVerification::Taken,
    }))
}

async fn delete_account(
    transaction: &Transaction,
    actor: &Actor,
    username: &Username,
    now: Timestamp,
) -> Result<bool, Failure> {
    let acting = require_staff(transaction, actor).await?;
    // Before the lookup, so that a refusal does not tell whether there is such an account.
    allow(acting.may_ever(Permission::AdministerAccount))?;
    lock_superusers(transaction).await?;
    let (acting, target) = begin_action(transaction, actor, username).await?;
    let Some(target) = target else { return Ok(false) };
    allow(acting.may(Permission::AdministerAccount, &target))?;
    keep_a_superuser(transaction, &target).await?;
    // Before the deletion: the event copies the account's name.
    events::insert(transaction, EventKind::Deleted, target.user_id, Some(acting.name()), actor.ip(), "", now).await?;
    transaction.changes(target.user_id, Change::Sessions);
    delete_all_offers(transaction, target.user_id).await?;
    revoke_refresh_tokens(transaction, target.user_id, now).await?;
    transaction.execute(sql::DELETE_ACCOUNT, &[&target.user_id.0]).await?;
    Ok(true)
}

async fn list_account_sessions(
    connection: &Connection,
    actor: &Actor,
    username: &Username,
    cutoffs: SessionCutoffs,
) -> Result<Option<Vec<SessionDetails>>, Failure> {
    require_staff(connection, actor).await?;
    let Some(target) = target_named(connection, username).await? else { return Ok(None) };
    let sessions = list_sessions(connection, target.user_id, cutoffs).await?;
    Ok(Some(sessions.into_iter().map(|(_, details)| details).collect()))
}

async fn revoke_account_sessions(
    transaction: &Transaction,
    actor: &Actor,
    username: &Username,
    id: Option<&SessionId>,
    cutoffs: SessionCutoffs,
    now: Timestamp,
) -> Result<Option<usize>, Failure> {
    require_staff(transaction, actor).await?;
    let (acting, target) = begin_action(transaction, actor, username).await?;
    let Some(target) = target else { return Ok(None) };
    allow(acting.may(Permission::ManageAccount, &target))?;
    transaction.changes(target.user_id, Change::Sessions);
    let (kind, ended) = if let Some(id) = id {
        (EventKind::SessionRevoked, usize::from(delete_session(transaction, target.user_id, id, cutoffs).await?))
    } else {
        let ended = transaction.execute(sql::DELETE_ALL_TOKENS, &[&target.user_id.0]).await?;
        (EventKind::AllSessionsRevoked, usize::try_from(ended).unwrap_or(usize::MAX))
    };
    if ended > 0 || id.is_none() {
        // Also where there was no session: a login may lack its second factor alone.
        delete_pending_change(transaction, target.user_id).await?;
    }
    if ended > 0 {
        let detail = id.map(SessionId::as_str).unwrap_or_default();
        events::insert(transaction, kind, target.user_id, Some(acting.name()), actor.ip(), detail, now).await?;
    }
    Ok(Some(ended))
}
