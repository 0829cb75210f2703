//! Rows of sessions: inserted, listed, ended, by the transactions of several traits.

use std::time::Duration;

use rusqlite::{Connection, params};

use super::lookup::find_user;
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
pub(super) fn insert_session(
    connection: &Transaction<'_>,
    user_id: UserId,
    session: &NewSession,
    max_sessions: u32,
    now: Timestamp,
) -> rusqlite::Result<User> {
    // Before the session is one of those that are known.
    let is_unfamiliar = is_unfamiliar(connection, user_id, session)?;
    let others = max_sessions.saturating_sub(1);
    if connection.prepare_cached(sql::EVICT_TOKENS)?.execute(params![user_id.0, others, now.as_millis()])? > 0 {
        connection.changes(user_id, Change::Sessions);
        events::by_owner(connection, EventKind::SessionRevoked, user_id, session.ip, "max_per_user", now)?;
    }
    insert_token(connection, user_id, session, now)?;
    connection.prepare_cached(sql::RESET_FAILURES)?.execute([user_id.0])?;
    let id = id_of(&session.digest);
    events::by_owner(connection, EventKind::LoggedIn, user_id, session.ip, &id, now)?;
    if is_unfamiliar && set_told_of_login(connection, user_id, now)? {
        events::by_owner(connection, EventKind::UnfamiliarLogin, user_id, session.ip, &id, now)?;
    }
    find_user(connection, user_id)
}

/// Whether owners are told of such logins, and the account has logged in neither from this neighbourhood nor, in a
/// session that it still has, by this program. A login from an address that is not known is none of a new one.
fn is_unfamiliar(connection: &Transaction<'_>, user_id: UserId, session: &NewSession) -> rusqlite::Result<bool> {
    let Some(ip) = session.ip.filter(|_| connection.notices.enabled && connection.notices.sign_ins) else {
        return Ok(false);
    };
    // Nearly every login is by a program that is known: the longer look at its networks is for the others.
    let mut by_program = connection.prepare_cached(sql::FIND_SESSION_BY)?;
    Ok(!by_program.exists(params![user_id.0, session.user_agent.as_str()])?
        && !events::is_familiar(connection, user_id, ip)?
        // The first login after an import is from nowhere that is known, whoever it is.
        && !connection.prepare_cached(sql::IS_NEW_BY_IMPORT)?.exists([user_id.0])?)
}

/// Notes that the owner is told of a login; `false` where there is no verified address to tell, or it was told of one
/// within a day.
fn set_told_of_login(connection: &Connection, user_id: UserId, now: Timestamp) -> rusqlite::Result<bool> {
    let mut set = connection.prepare_cached(sql::SET_TOLD_OF_LOGIN)?;
    Ok(set.execute([user_id.0, now.as_millis(), now.minus(TOLD_OF_LOGIN_EVERY).as_millis()])? > 0)
}

pub(super) fn insert_token(
    connection: &Connection,
    user_id: UserId,
    session: &NewSession,
    now: Timestamp,
) -> rusqlite::Result<()> {
    connection.prepare_cached(sql::INSERT_TOKEN)?.execute(params![
        session.digest.as_bytes(),
        user_id.0,
        now.as_millis(),
        session.user_agent.as_str(),
        ip_text(session.ip),
        session.methods.to_stored(),
    ])?;
    Ok(())
}

/// Until when the caller's session, which is live, is fresh.
pub(super) fn fresh_until(
    connection: &Connection,
    caller: &Caller,
    now: Timestamp,
) -> rusqlite::Result<Option<Timestamp>> {
    let mut find = connection.prepare_cached(sql::FIND_REAUTHENTICATION)?;
    let reauthenticated = find.query_row([caller.digest.as_bytes()], |row| read_optional_time(row, 0))?;
    Ok(reauthenticated.filter(|at| is_fresh(*at, now)).map(|at| at.plus(FRESH_FOR)))
}

/// Sets when the account's password was last given again in the caller's session; `None` ends its freshness.
pub(super) fn set_reauthentication(
    connection: &Connection,
    caller: &Caller,
    at: Option<Timestamp>,
) -> rusqlite::Result<()> {
    let mut set = connection.prepare_cached(sql::SET_REAUTHENTICATION)?;
    set.execute(params![caller.digest.as_bytes(), at.map(Timestamp::as_millis)])?;
    Ok(())
}

/// A user's live sessions, newest first, each with the digest of its token.
pub(super) fn list_sessions(
    connection: &Connection,
    user_id: UserId,
    cutoffs: SessionCutoffs,
) -> rusqlite::Result<Vec<(TokenDigest, SessionDetails)>> {
    connection
        .prepare_cached(sql::LIST_SESSIONS)?
        .query_map(
            [
                user_id.0,
                cutoffs.created_after.as_millis(),
                cutoffs.used_after.as_millis(),
                cutoffs.expires_after.as_millis(),
            ],
            read_session_details,
        )?
        .collect()
}

/// Ends one of a user's live sessions; `false` when there is none of this id.
pub(super) fn delete_session(
    connection: &Connection,
    user_id: UserId,
    id: &SessionId,
    cutoffs: SessionCutoffs,
) -> rusqlite::Result<bool> {
    let sessions = list_sessions(connection, user_id, cutoffs)?;
    let Some((digest, _)) = sessions.into_iter().find(|(_, details)| details.id == *id) else {
        return Ok(false);
    };
    Ok(connection.prepare_cached(sql::DELETE_TOKEN)?.execute([digest.as_bytes()])? > 0)
}
