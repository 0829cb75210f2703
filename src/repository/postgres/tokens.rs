//! Rows of sessions: inserted, listed, ended, by the transactions of several traits.

use std::time::Duration;

use super::error::Failure;
use super::lookup::{find_user, times_of};
use super::pool::Connection;
use super::rows::{ip_text, read_optional_time, read_session_details};
use super::transaction::Transaction;
use super::{events, sql};
use crate::domain::event::EventKind;
use crate::domain::session::{Caller, FRESH_FOR, NewSession, SessionCutoffs, SessionDetails, SessionId, is_fresh};
use crate::domain::token::TokenDigest;
use crate::domain::user::{User, UserId};
use crate::repository::session_cache::Change;
use crate::system::clock::Timestamp;

/// How often an owner is told of unfamiliar logins at most.
const TOLD_OF_LOGIN_EVERY: Duration = Duration::from_secs(24 * 60 * 60);

/// The id of a token's session, for an event.
pub(super) fn id_of(digest: &TokenDigest) -> String {
    SessionId::of(digest).as_str().to_owned()
}

/// Opens the session of a login that has been recorded, whatever has shown who it is.
pub(super) async fn insert_session(
    transaction: &Transaction,
    user_id: UserId,
    session: &NewSession,
    max_sessions: u32,
    now: Timestamp,
) -> Result<User, Failure> {
    // Before the session is one of those that are known.
    let is_unfamiliar = is_unfamiliar(transaction, user_id, session).await?;
    let others = i64::from(max_sessions.saturating_sub(1));
    if transaction.execute(sql::EVICT_TOKENS, &[&user_id.0, &others, &now.as_millis()]).await? > 0 {
        transaction.changes(user_id, Change::Sessions);
        events::by_owner(transaction, EventKind::SessionRevoked, user_id, session.ip, "max_per_user", now).await?;
    }
    insert_token(transaction, user_id, session, now).await?;
    transaction.execute(sql::RESET_FAILURES, &[&user_id.0]).await?;
    let id = id_of(&session.digest);
    events::by_owner(transaction, EventKind::LoggedIn, user_id, session.ip, &id, now).await?;
    if is_unfamiliar && set_told_of_login(transaction, user_id, now).await? {
        events::by_owner(transaction, EventKind::UnfamiliarLogin, user_id, session.ip, &id, now).await?;
    }
    find_user(transaction, user_id).await
}

/// Whether owners are told of such logins, and the account has logged in neither from this neighbourhood nor, in a
/// session that it still has, by this program. A login from an address that is not known is none of a new one.
async fn is_unfamiliar(transaction: &Transaction, user_id: UserId, session: &NewSession) -> Result<bool, Failure> {
    let Some(ip) = session.ip.filter(|_| transaction.notices.enabled && transaction.notices.sign_ins) else {
        return Ok(false);
    };
    // Nearly every login is by a program that is known: the longer look at its networks is for the others.
    let by_program = transaction.query_opt(sql::FIND_SESSION_BY, &[&user_id.0, &session.user_agent.as_str()]).await?;
    Ok(by_program.is_none()
        && !events::is_familiar(transaction, user_id, ip).await?
        // The first login after an import is from nowhere that is known, whoever it is.
        && transaction.query_opt(sql::IS_NEW_BY_IMPORT, &[&user_id.0]).await?.is_none())
}

/// Notes that the owner is told of a login; `false` where there is no verified address to tell, or it was told of one
/// within a day.
async fn set_told_of_login(transaction: &Transaction, user_id: UserId, now: Timestamp) -> Result<bool, Failure> {
    let earlier = now.minus(TOLD_OF_LOGIN_EVERY).as_millis();
    Ok(transaction.execute(sql::SET_TOLD_OF_LOGIN, &[&user_id.0, &now.as_millis(), &earlier]).await? > 0)
}

pub(super) async fn insert_token(
    transaction: &Transaction,
    user_id: UserId,
    session: &NewSession,
    now: Timestamp,
) -> Result<(), Failure> {
    let digest: &[u8] = session.digest.as_bytes();
    let (agent, ip, methods) = (session.user_agent.as_str(), ip_text(session.ip), session.methods.to_stored());
    transaction.execute(sql::INSERT_TOKEN, &[&digest, &user_id.0, &now.as_millis(), &agent, &ip, &methods]).await?;
    Ok(())
}

/// Until when the caller's session, which is live, is fresh.
pub(super) async fn fresh_until(
    connection: &Connection,
    caller: &Caller,
    now: Timestamp,
) -> Result<Option<Timestamp>, Failure> {
    let digest: &[u8] = caller.digest.as_bytes();
    let Some(row) = connection.query_opt(sql::FIND_REAUTHENTICATION, &[&digest]).await? else { return Ok(None) };
    Ok(read_optional_time(&row, 0)?.filter(|at| is_fresh(*at, now)).map(|at| at.plus(FRESH_FOR)))
}

/// Sets when the account's password was last given again in the caller's session; `None` ends its freshness.
pub(super) async fn set_reauthentication(
    transaction: &Transaction,
    caller: &Caller,
    at: Option<Timestamp>,
) -> Result<(), Failure> {
    let digest: &[u8] = caller.digest.as_bytes();
    transaction.execute(sql::SET_REAUTHENTICATION, &[&digest, &at.map(Timestamp::as_millis)]).await?;
    Ok(())
}

/// A user's live sessions, newest first, each with the digest of its token.
pub(super) async fn list_sessions(
    connection: &Connection,
    user_id: UserId,
    cutoffs: SessionCutoffs,
) -> Result<Vec<(TokenDigest, SessionDetails)>, Failure> {
    let [created, used, expires] = times_of(cutoffs);
    let rows = connection.query(sql::LIST_SESSIONS, &[&user_id.0, &created, &used, &expires]).await?;
    rows.iter().map(read_session_details).collect()
}

/// Ends one of a user's live sessions; `false` when there is none of this id.
pub(super) async fn delete_session(
    transaction: &Transaction,
    user_id: UserId,
    id: &SessionId,
    cutoffs: SessionCutoffs,
) -> Result<bool, Failure> {
    let sessions = list_sessions(transaction, user_id, cutoffs).await?;
    let Some((digest, _)) = sessions.into_iter().find(|(_, details)| details.id == *id) else {
        return Ok(false);
    };
    let digest: &[u8] = digest.as_bytes();
    Ok(transaction.execute(sql::DELETE_TOKEN, &[&digest]).await? > 0)
}
