//! Lookups that several traits begin with, in the transaction that uses them: the caller's session, the actor's rights,
//! an account. Those that are for a change lock the account's row first.

use tokio_postgres::Row;

use super::error::Failure;
use super::pool::Connection;
use super::rows::{get, invalid, read_credentials, read_optional_time, read_session, read_user};
use super::sql;
use super::transaction::Transaction;
use crate::domain::rights::{Acting, Actor, Permission, Rights, Target};
use crate::domain::session::{Caller, Session, SessionCutoffs, is_fresh};
use crate::domain::user::{Credentials, User, UserId, Username};
use crate::repository::session_cache::{Change, Found};
use crate::repository::{Proof, RepositoryError};
use crate::system::clock::Timestamp;

/// An account that was there a moment ago, in the same transaction and under its lock, is not.
#[derive(Debug, thiserror::Error)]
#[error("an account is gone in the middle of a transaction")]
pub(super) struct Gone;

/// The last parameters of a statement that looks for live sessions.
pub(super) fn times_of(cutoffs: SessionCutoffs) -> [i64; 3] {
    [cutoffs.created_after, cutoffs.used_after, cutoffs.expires_after].map(Timestamp::as_millis)
}

/// The caller's live session.
pub(super) async fn find_session(connection: &Connection, caller: &Caller) -> Result<Option<Found>, Failure> {
    let digest: &[u8] = caller.digest.as_bytes();
    let [created, used, expires] = times_of(caller.cutoffs);
    let row = connection.query_opt(sql::FIND_SESSION, &[&digest, &created, &used, &expires]).await?;
    row.as_ref().map(read_session).transpose()
}

/// The caller's live session, for a transaction that changes its user. The account is locked, and the change noted.
pub(super) async fn begin_change(
    transaction: &Transaction,
    caller: &Caller,
    change: Change,
) -> Result<Session, Failure> {
    let session = lock_session(transaction, caller).await?;
    transaction.changes(session.user_id, change);
    Ok(session)
}

/// The same where no answer that is kept tells of what is changed.
pub(super) async fn lock_session(transaction: &Transaction, caller: &Caller) -> Result<Session, Failure> {
    let digest: &[u8] = caller.digest.as_bytes();
    let [created, used, expires] = times_of(caller.cutoffs);
    let [_, found] = transaction
        .query_in_order([(sql::LOCK_CALLER, &[&digest]), (sql::FIND_SESSION, &[&digest, &created, &used, &expires])])
        .await?;
    Ok(found.first().map(read_session).transpose()?.ok_or(RepositoryError::NoSession)?.session)
}

/// The caller's live session, or [`RepositoryError::NoSession`].
pub(super) async fn require_session(connection: &Connection, caller: &Caller) -> Result<Session, Failure> {
    Ok(find_session(connection, caller).await?.ok_or(RepositoryError::NoSession)?.session)
}

/// Locks an account; `false` where it is gone.
pub(super) async fn lock_user(transaction: &Transaction, user_id: UserId) -> Result<bool, Failure> {
    Ok(transaction.query_opt(sql::LOCK_USER, &[&user_id.0]).await?.is_some())
}

pub(super) async fn find_own_credentials(connection: &Connection, user_id: UserId) -> Result<Credentials, Failure> {
    let row = connection.query_opt(sql::FIND_OWN_CREDENTIALS, &[&user_id.0]).await?;
    read_credentials(&row.ok_or_else(|| invalid(Gone))?)
}

/// Whether the caller's session, which is live, is fresh.
pub(super) async fn is_session_fresh(
    connection: &Connection,
    caller: &Caller,
    now: Timestamp,
) -> Result<bool, Failure> {
    let digest: &[u8] = caller.digest.as_bytes();
    let Some(row) = connection.query_opt(sql::FIND_REAUTHENTICATION, &[&digest]).await? else { return Ok(false) };
    Ok(read_optional_time(&row, 0)?.is_some_and(|reauthenticated| is_fresh(reauthenticated, now)))
}

/// Whether a proof holds for the caller, whose session is live and this user's.
pub(super) async fn holds(
    connection: &Connection,
    proof: &Proof,
    caller: &Caller,
    user_id: UserId,
    now: Timestamp,
) -> Result<bool, Failure> {
    match proof {
        Proof::Password(verified_against) => {
            Ok(find_own_credentials(connection, user_id).await?.password_hash == *verified_against)
        }
        Proof::FreshSession => is_session_fresh(connection, caller, now).await,
    }
}

pub(super) async fn find_user(connection: &Connection, user_id: UserId) -> Result<User, Failure> {
    let row = connection.query_opt(sql::FIND_USER, &[&user_id.0]).await?;
    read_user(&row.ok_or_else(|| invalid(Gone))?, 0)
}

/// An id of a row that was just inserted.
pub(super) fn read_id(row: &Row) -> Result<UserId, Failure> {
    Ok(UserId(get(row, 0)?))
}

/// The actor, where it is the operator or a superuser: services and webhooks are theirs to manage.
pub(super) async fn require_superuser(connection: &Connection, actor: &Actor) -> Result<Acting, Failure> {
    let acting = require_staff(connection, actor).await?;
    allow(acting.may_ever(Permission::AdministerAccount))?;
    Ok(acting)
}

/// The actor, where it has any right over other accounts.
pub(super) async fn require_staff(connection: &Connection, actor: &Actor) -> Result<Acting, Failure> {
    let Actor::Session(caller) = actor else { return Ok(Acting::Operator) };
    let digest: &[u8] = caller.digest.as_bytes();
    let [created, used, expires] = times_of(caller.cutoffs);
    let row = connection.query_opt(sql::FIND_RIGHTS, &[&digest, &created, &used, &expires]).await?;
    read_acting(row.as_ref())
}

fn read_acting(row: Option<&Row>) -> Result<Acting, Failure> {
    let row = row.ok_or(RepositoryError::NoSession)?;
    let rights = read_rights(row)?;
    if !rights.any() {
        return Err(RepositoryError::Forbidden.into());
    }
    let (user_id, username) = (UserId(get(row, "id")?), get(row, "username")?);
    Ok(Acting::Staff { user_id, username, is_superuser: rights.is_superuser })
}

fn read_rights(row: &Row) -> Result<Rights, Failure> {
    Ok(Rights { is_staff: get(row, "is_staff")?, is_superuser: get(row, "is_superuser")? })
}

pub(super) fn allow(allowed: bool) -> Result<(), Failure> {
    if allowed { Ok(()) } else { Err(RepositoryError::Forbidden.into()) }
}

/// The actor, where it has any right over other accounts, and the account of this name, for a transaction that changes
/// that. Both are locked: until the end, the actor keeps its session and its rights. [`require_staff`] comes before it, so
/// that who has no right makes no account wait.
pub(super) async fn begin_action(
    transaction: &Transaction,
    actor: &Actor,
    username: &Username,
) -> Result<(Acting, Option<Target>), Failure> {
    let key = username.key();
    let (acting, locked, target) = if let Actor::Session(caller) = actor {
        let digest: &[u8] = caller.digest.as_bytes();
        let [created, used, expires] = times_of(caller.cutoffs);
        let [locked, acting, target] = transaction
            .query_in_order([
                (sql::LOCK_ACTOR_AND_TARGET, &[&digest, &key]),
                (sql::FIND_RIGHTS, &[&digest, &created, &used, &expires]),
                (sql::FIND_TARGET, &[&key]),
            ])
            .await?;
        (read_acting(acting.first())?, locked, target)
    } else {
        let [locked, target] =
            transaction.query_in_order([(sql::LOCK_USER_NAMED, &[&key]), (sql::FIND_TARGET, &[&key])]).await?;
        (Acting::Operator, locked, target)
    };
    let target = target.first().map(read_target).transpose()?;
    let locked = locked.iter().map(read_id).collect::<Result<Vec<_>, _>>()?;
    // One that is not locked got the name of one that was deleted while its lock was waited for: in between, there was none.
    Ok((acting, target.filter(|target| locked.contains(&target.user_id))))
}

/// The account of this name, with what rights depend on.
pub(super) async fn target_named(connection: &Connection, username: &Username) -> Result<Option<Target>, Failure> {
    connection.query_opt(sql::FIND_TARGET, &[&username.key()]).await?.as_ref().map(read_target).transpose()
}

/// An account that exists, with what rights depend on.
pub(super) async fn target_of(connection: &Connection, user_id: UserId) -> Result<Target, Failure> {
    let row = connection.query_opt(sql::FIND_TARGET_BY_ID, &[&user_id.0]).await?;
    read_target(&row.ok_or_else(|| invalid(Gone))?)
}

fn read_target(row: &Row) -> Result<Target, Failure> {
    Ok(Target { user_id: UserId(get(row, "id")?), rights: read_rights(row)?, is_active: get(row, "is_active")? })
}

/// For a transaction that may take the last superuser away: until the end, no other one can. Taken before any account's
/// lock.
pub(super) async fn lock_superusers(transaction: &Transaction) -> Result<(), Failure> {
    transaction.execute(sql::LOCK_SUPERUSERS, &[]).await.map(drop)
}

/// Refuses to lose the last active superuser.
pub(super) async fn keep_a_superuser(transaction: &Transaction, going: &Target) -> Result<(), Failure> {
    if !going.rights.is_superuser || !going.is_active {
        return Ok(());
    }
    let other = transaction.query_opt(sql::FIND_OTHER_SUPERUSER, &[&going.user_id.0]).await?;
    other.map(drop).ok_or_else(|| RepositoryError::LastSuperuser.into())
}
