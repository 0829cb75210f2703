//! Lookups that several traits begin with, in the transaction that uses them: the caller's session, the actor's rights,
//! an account. Those that are for a change lock the account's row first.

use super::error::Failure;
use super::pool::Connection;
use super::rows::{get, invalid, read_credentials, read_optional_time, read_session, read_user};
use super::sql;
use super::transaction::Transaction;
use crate::domain::session::{Caller, Session, is_fresh};
use crate::domain::user::{Credentials, User, UserId};
use crate::repository::session_cache::Change;
use crate::repository::{Proof, RepositoryError};
use crate::system::clock::Timestamp;

/// An account that was there a moment ago, in the same transaction and under its lock, is not.
#[derive(Debug, thiserror::Error)]
#[error("an account is gone in the middle of a transaction")]
pub(super) struct Gone;

/// The caller's live session, and when it was opened.
pub(super) async fn find_session(
    connection: &Connection,
    caller: &Caller,
) -> Result<Option<(Session, Timestamp)>, Failure> {
    let digest: &[u8] = caller.digest.as_bytes();
    let (created, used) = (caller.cutoffs.created_after.as_millis(), caller.cutoffs.used_after.as_millis());
    let row = connection.query_opt(sql::FIND_SESSION, &[&digest, &created, &used]).await?;
    row.as_ref().map(read_session).transpose()
}

/// The caller's live session, for a transaction that changes its user. The account is locked, and the change noted.
pub(super) async fn begin_change(
    transaction: &Transaction,
    caller: &Caller,
    change: Change,
) -> Result<Session, Failure> {
    let digest: &[u8] = caller.digest.as_bytes();
    let (created, used) = (caller.cutoffs.created_after.as_millis(), caller.cutoffs.used_after.as_millis());
    let [_, found] = transaction
        .query_in_order([(sql::LOCK_CALLER, &[&digest]), (sql::FIND_SESSION, &[&digest, &created, &used])])
        .await?;
    let (session, _) = found.first().map(read_session).transpose()?.ok_or(RepositoryError::NoSession)?;
    transaction.changes(session.user_id, change);
    Ok(session)
}

/// The caller's live session, or [`RepositoryError::NoSession`].
pub(super) async fn require_session(connection: &Connection, caller: &Caller) -> Result<Session, Failure> {
    let (session, _) = find_session(connection, caller).await?.ok_or(RepositoryError::NoSession)?;
    Ok(session)
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
pub(super) fn read_id(row: &tokio_postgres::Row) -> Result<UserId, Failure> {
    Ok(UserId(get(row, 0)?))
}
