//! [`Sessions`] in SQLite.

use std::time::Duration;

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension as _, params};

use super::lookup::{begin_change, find_own_credentials, find_session, find_user, is_session_fresh, require_session};
use super::offers::delete_pending_change;
use super::rows::{ip_text, read_session_details};
use super::transaction::Transaction;
use super::{SqliteRepository, events, sql};
use crate::domain::event::EventKind;
use crate::domain::session::{Caller, NewSession, Session, SessionCutoffs, SessionDetails, SessionId};
use crate::domain::token::TokenDigest;
use crate::domain::user::{PasswordHash, User, UserId};
use crate::repository::session_cache::Change;
use crate::repository::{RepositoryError, Sessions, VerifiedLogin};
use crate::system::clock::Timestamp;

/// How often an owner is told of unfamiliar logins at most.
const TOLD_OF_LOGIN_EVERY: Duration = Duration::from_secs(24 * 60 * 60);

#[async_trait]
impl Sessions for SqliteRepository {
    async fn open_session(
        &self,
        login: VerifiedLogin,
        session: NewSession,
        max_sessions: u32,
        now: Timestamp,
    ) -> Result<Option<User>, RepositoryError> {
        self.write(move |connection| {
            connection.changes(login.user_id, Change::Text);
            let recorded = connection.prepare_cached(sql::RECORD_LOGIN)?.execute(params![
                now.as_millis(),
                login.rehashed.as_ref().map(PasswordHash::as_stored),
                login.user_id.0,
                login.verified_against.as_stored(),
            ])?;
            if recorded == 0 {
                return Ok(None);
            }
            Ok(Some(insert_session(connection, login.user_id, &session, max_sessions, now)?))
        })
        .await
    }

    async fn find_session(&self, caller: &Caller) -> Result<Option<Session>, RepositoryError> {
        if let Some(session) = self.watched_cache()?.find_session(caller) {
            return Ok(Some(session));
        }
        let caller = *caller;
        let version = self.cache.read_version();
        let found = self.read_inline(move |connection| Ok(find_session(connection, &caller)?)).await?;
        if let Some(found) = found {
            self.cache.keep(version, caller.digest, found, None);
        }
        Ok(found.map(|found| found.session))
    }

    async fn has_imported_tokens(&self) -> Result<bool, RepositoryError> {
        let cache = self.watched_cache()?;
        if let Some(known) = cache.has_imported_tokens() {
            return Ok(known);
        }
        let version = cache.version_of_all();
        let find = |connection: &Connection| Ok(connection.prepare_cached(sql::FIND_IMPORTED_TOKEN)?.exists([])?);
        let found = self.read_inline(find).await?;
        cache.keep_imported_tokens(version, found);
        Ok(found)
    }

    async fn adopt_token(&self, foreign: Vec<TokenDigest>, digest: TokenDigest) -> Result<bool, RepositoryError> {
        let found = self.read_inline(move |connection| Ok(find_foreign_token(connection, &foreign, digest)?)).await?;
        let Some(old) = found else { return Ok(false) };
        if old == digest {
            return Ok(true);
        }
        self.write(move |connection| {
            let mut adopt = connection.prepare_cached(sql::ADOPT_TOKEN)?;
            let user_id = adopt.query_row([old.as_bytes(), digest.as_bytes()], |row| row.get(0)).optional()?;
            if let Some(user_id) = user_id {
                connection.changes(UserId(user_id), Change::Sessions);
            }
            Ok(true)
        })
        .await
    }

    async fn reauthenticate(
        &self,
        caller: &Caller,
        verified_against: PasswordHash,
        now: Timestamp,
    ) -> Result<bool, RepositoryError> {
        let caller = *caller;
        self.write(move |connection| {
            let user_id = begin_change(connection, &caller, Change::Text)?.user_id;
            if find_own_credentials(connection, user_id)?.password_hash != verified_against {
                return Ok(false);
            }
            set_reauthentication(connection, &caller, Some(now))?;
            connection.prepare_cached(sql::RESET_FAILURES)?.execute([user_id.0])?;
            let (kind, id) = (EventKind::Reauthenticated, id_of(&caller.digest));
            events::by_owner(connection, kind, user_id, caller.ip, &id, now)?;
            Ok(true)
        })
        .await
    }

    async fn is_session_fresh(&self, caller: &Caller, now: Timestamp) -> Result<bool, RepositoryError> {
        let caller = *caller;
        self.read_snapshot(move |connection| {
            require_session(connection, &caller)?;
            Ok(is_session_fresh(connection, &caller, now)?)
        })
        .await
    }

    async fn list_sessions(&self, caller: &Caller) -> Result<Vec<SessionDetails>, RepositoryError> {
        let caller = *caller;
        self.read_snapshot(move |connection| {
            let user_id = require_session(connection, &caller)?.user_id;
            let sessions = list_sessions(connection, user_id, caller.cutoffs)?;
            Ok(sessions.into_iter().map(|(_, details)| details).collect())
        })
        .await
    }

    async fn revoke_own_session(&self, caller: &Caller, now: Timestamp) -> Result<(), RepositoryError> {
        let caller = *caller;
        self.write(move |connection| {
            let user_id = begin_change(connection, &caller, Change::Sessions)?.user_id;
            connection.prepare_cached(sql::DELETE_TOKEN)?.execute([caller.digest.as_bytes()])?;
            let id = id_of(&caller.digest);
            events::by_owner(connection, EventKind::LoggedOut, user_id, caller.ip, &id, now)?;
            Ok(())
        })
        .await
    }

    async fn revoke_session(&self, caller: &Caller, id: SessionId, now: Timestamp) -> Result<bool, RepositoryError> {
        let caller = *caller;
        self.write(move |connection| {
            let user_id = begin_change(connection, &caller, Change::Sessions)?.user_id;
            if !delete_session(connection, user_id, &id, caller.cutoffs)? {
                return Ok(false);
            }
            delete_pending_change(connection, user_id)?;
            events::by_owner(connection, EventKind::SessionRevoked, user_id, caller.ip, id.as_str(), now)?;
            Ok(true)
        })
        .await
    }

    async fn revoke_all_sessions(&self, caller: &Caller, now: Timestamp) -> Result<(), RepositoryError> {
        let caller = *caller;
        self.write(move |connection| {
            let user_id = begin_change(connection, &caller, Change::Sessions)?.user_id;
            connection.prepare_cached(sql::DELETE_ALL_TOKENS)?.execute([user_id.0])?;
            delete_pending_change(connection, user_id)?;
            events::by_owner(connection, EventKind::AllSessionsRevoked, user_id, caller.ip, "", now)?;
            Ok(())
        })
        .await
    }

    async fn record_use(&self, uses: Vec<(TokenDigest, Timestamp)>) -> Result<(), RepositoryError> {
        let stored = self
            .write(move |connection| {
                let mut record = connection.prepare_cached(sql::RECORD_USE)?;
                let mut stored = Vec::new();
                for (digest, at) in uses {
                    // A session that has ended meanwhile must not be updated in the cache.
                    if record.execute(params![digest.as_bytes(), at.as_millis()])? > 0 {
                        stored.push((digest, at));
                    }
                }
                Ok(stored)
            })
            .await?;
        self.cache.used(&stored);
        Ok(())
    }
}

/// The digest under which a token of another system is stored: one of these, or by now its new one.
fn find_foreign_token(
    connection: &Connection,
    foreign: &[TokenDigest],
    new: TokenDigest,
) -> rusqlite::Result<Option<TokenDigest>> {
    let mut find = connection.prepare_cached(sql::FIND_FOREIGN_TOKEN)?;
    for digest in foreign.iter().chain([&new]) {
        if find.exists([digest.as_bytes()])? {
            return Ok(Some(*digest));
        }
    }
    Ok(None)
}

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
    ])?;
    Ok(())
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
