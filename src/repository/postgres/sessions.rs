//! [`Sessions`] in PostgreSQL.

use std::time::Duration;

use async_trait::async_trait;

use super::error::Failure;
use super::lookup::{
    begin_change, find_own_credentials, find_session, find_user, is_session_fresh, lock_user, require_session, times_of,
};
use super::offers::delete_pending_change;
use super::pool::Connection;
use super::rows::{get, ip_text, read_digest, read_session_details, read_time};
use super::transaction::Transaction;
use super::{PostgresRepository, events, sql};
use crate::domain::event::EventKind;
use crate::domain::session::{Caller, NewSession, Session, SessionCutoffs, SessionDetails, SessionId};
use crate::domain::token::TokenDigest;
use crate::domain::user::{PasswordHash, User, UserId};
use crate::repository::session_cache::Change;
use crate::repository::{Reauthentication, RepositoryError, SessionOutcome, SessionRequest, Sessions};
use crate::system::clock::Timestamp;

/// How often an owner is told of unfamiliar logins at most.
const TOLD_OF_LOGIN_EVERY: Duration = Duration::from_secs(24 * 60 * 60);

#[async_trait]
impl Sessions for PostgresRepository {
    async fn open_session(&self, _request: SessionRequest, _now: Timestamp) -> Result<SessionOutcome, RepositoryError> {
        Err(super::not_built())
    }

    async fn find_session(&self, caller: &Caller) -> Result<Option<Session>, RepositoryError> {
        if let Some(session) = self.watcher.cache().find_session(caller) {
            return Ok(Some(session));
        }
        let version = self.cache.read_version();
        let found = self
            .read(*caller, |connection, caller| Box::pin(async move { find_session(connection, caller).await }))
            .await?;
        if let Some(found) = found {
            self.cache.keep(version, caller.digest, found, None);
        }
        Ok(found.map(|found| found.session))
    }

    async fn has_imported_tokens(&self) -> Result<bool, RepositoryError> {
        if let Some(known) = self.watcher.has_imported_tokens() {
            return Ok(known);
        }
        self.read((), |connection, ()| {
            Box::pin(async move { Ok(connection.query_opt(sql::FIND_IMPORTED_TOKEN, &[]).await?.is_some()) })
        })
        .await
    }

    async fn adopt_token(&self, foreign: Vec<TokenDigest>, digest: TokenDigest) -> Result<bool, RepositoryError> {
        // Nearly always there is no such token at all.
        if self.watcher.has_imported_tokens() == Some(false) {
            return Ok(false);
        }
        let found = self
            .read((foreign, digest), |connection, (foreign, new)| {
                Box::pin(find_foreign_token(connection, foreign, *new))
            })
            .await?;
        let Some((old, user_id)) = found else { return Ok(false) };
        if old == digest {
            return Ok(true);
        }
        self.write((old, user_id, digest), |transaction, (old, user_id, digest)| {
            Box::pin(async move {
                // So that who ends all of an account's sessions meets it under the one digest or the other.
                if lock_user(transaction, *user_id).await? {
                    let (old, digest): (&[u8], &[u8]) = (old.as_bytes(), digest.as_bytes());
                    if transaction.execute(sql::ADOPT_TOKEN, &[&old, &digest]).await? > 0 {
                        transaction.changes(*user_id, Change::Sessions);
                    }
                }
                Ok(true)
            })
        })
        .await
    }

    async fn reauthenticate(
        &self,
        _caller: &Caller,
        _shown: Reauthentication,
        _now: Timestamp,
    ) -> Result<bool, RepositoryError> {
        Err(super::not_built())
    }

    async fn is_session_fresh(&self, caller: &Caller, now: Timestamp) -> Result<bool, RepositoryError> {
        self.read_snapshot((*caller, now), |connection, (caller, now)| {
            Box::pin(async move {
                require_session(connection, caller).await?;
                is_session_fresh(connection, caller, *now).await
            })
        })
        .await
    }

    async fn list_sessions(&self, caller: &Caller) -> Result<Vec<SessionDetails>, RepositoryError> {
        self.read_snapshot(*caller, |connection, caller| {
            Box::pin(async move {
                let user_id = require_session(connection, caller).await?.user_id;
                let sessions = list_sessions(connection, user_id, caller.cutoffs).await?;
                Ok(sessions.into_iter().map(|(_, details)| details).collect())
            })
        })
        .await
    }

    async fn revoke_own_session(&self, caller: &Caller, now: Timestamp) -> Result<(), RepositoryError> {
        self.write((*caller, now), |transaction, (caller, now)| {
            Box::pin(async move {
                let user_id = begin_change(transaction, caller, Change::Sessions).await?.user_id;
                let digest: &[u8] = caller.digest.as_bytes();
                transaction.execute(sql::DELETE_TOKEN, &[&digest]).await?;
                let id = id_of(&caller.digest);
                events::by_owner(transaction, EventKind::LoggedOut, user_id, caller.ip, &id, *now).await
            })
        })
        .await
    }

    async fn revoke_session(&self, caller: &Caller, id: SessionId, now: Timestamp) -> Result<bool, RepositoryError> {
        self.write((*caller, id, now), |transaction, (caller, id, now)| {
            Box::pin(async move {
                let user_id = begin_change(transaction, caller, Change::Sessions).await?.user_id;
                if !delete_session(transaction, user_id, id, caller.cutoffs).await? {
                    return Ok(false);
                }
                delete_pending_change(transaction, user_id).await?;
                let kind = EventKind::SessionRevoked;
                events::by_owner(transaction, kind, user_id, caller.ip, id.as_str(), *now).await?;
                Ok(true)
            })
        })
        .await
    }

    async fn revoke_all_sessions(&self, caller: &Caller, now: Timestamp) -> Result<(), RepositoryError> {
        self.write((*caller, now), |transaction, (caller, now)| {
            Box::pin(async move {
                let user_id = begin_change(transaction, caller, Change::Sessions).await?.user_id;
                transaction.execute(sql::DELETE_ALL_TOKENS, &[&user_id.0]).await?;
                delete_pending_change(transaction, user_id).await?;
                events::by_owner(transaction, EventKind::AllSessionsRevoked, user_id, caller.ip, "", *now).await
            })
        })
        .await
    }

    async fn record_use(&self, mut uses: Vec<(TokenDigest, Timestamp)>) -> Result<(), RepositoryError> {
        uses.sort_unstable_by_key(|(digest, _)| *digest.as_bytes());
        let stored = self
            .write(uses, |transaction, uses| {
                Box::pin(async move {
                    let digests: Vec<&[u8]> = uses.iter().map(|(digest, _)| digest.as_bytes().as_slice()).collect();
                    let times: Vec<i64> = uses.iter().map(|(_, at)| at.as_millis()).collect();
                    let rows = transaction.query(sql::RECORD_USE, &[&digests, &times]).await?;
                    // A session that has ended meanwhile must not be updated in the cache.
                    rows.iter().map(|row| Ok((read_digest(row, 0)?, read_time(row, 1)?))).collect::<Result<Vec<_>, _>>()
                })
            })
            .await?;
        self.cache.used(&stored);
        Ok(())
    }
}

/// The digest under which a token of another system is stored, one of these or by now its new one, and whose it is.
async fn find_foreign_token(
    connection: &Connection,
    foreign: &[TokenDigest],
    new: TokenDigest,
) -> Result<Option<(TokenDigest, UserId)>, Failure> {
    let digests: Vec<&[u8]> = foreign.iter().chain([&new]).map(|digest| digest.as_bytes().as_slice()).collect();
    let row = connection.query_opt(sql::FIND_FOREIGN_TOKEN, &[&digests]).await?;
    row.map(|row| Ok((read_digest(&row, 0)?, UserId(get(&row, 1)?)))).transpose()
}

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
    let (agent, ip) = (session.user_agent.as_str(), ip_text(session.ip));
    transaction.execute(sql::INSERT_TOKEN, &[&digest, &user_id.0, &now.as_millis(), &agent, &ip]).await?;
    Ok(())
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
