//! [`Sessions`] in SQLite.

use std::net::IpAddr;

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension as _, params};

use super::error::Failure;
use super::factors::{use_second, use_totp};
use super::identities::{find_owner, may_use_identity, use_identity};
use super::lookup::{begin_change, find_own_credentials, find_session, is_session_fresh, require_session};
use super::offers::{Found, Offer, delete_pending_change, find_presented};
use super::one_time_codes::use_sign_in_offer;
use super::passkeys::use_passkey;
use super::pending::{delete_challenge, find_pending_sign_in, insert_challenge};
use super::rows::{read_truth, read_username};
use super::tokens::{delete_session, id_of, insert_session, list_sessions, set_reauthentication};
use super::transaction::Transaction;
use super::ways_in::{find_totp_secret, methods_of};
use super::{SqliteRepository, events, sql};
use crate::domain::event::EventKind;
use crate::domain::one_time::Purpose;
use crate::domain::session::{Caller, Session, SessionDetails, SessionId};
use crate::domain::token::TokenDigest;
use crate::domain::user::{PasswordHash, UserId, Username};
use crate::repository::session_cache::Change;
use crate::repository::{
    FirstFactor, Reauthentication, RepositoryError, SecondFactor, SessionOutcome, SessionRequest, Sessions,
};
use crate::system::clock::Timestamp;

#[async_trait]
impl Sessions for SqliteRepository {
    async fn open_session(&self, request: SessionRequest, now: Timestamp) -> Result<SessionOutcome, RepositoryError> {
        self.write(move |connection| open_session(connection, &request, now)).await
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
        shown: Reauthentication,
        now: Timestamp,
    ) -> Result<bool, RepositoryError> {
        let caller = *caller;
        self.write(move |connection| {
            let user_id = begin_change(connection, &caller, Change::Text)?.user_id;
            if !use_proof(connection, user_id, &shown, caller.ip, now)? {
                return Ok(false);
            }
            set_reauthentication(connection, &caller, Some(now))?;
            let reset = if shown.is_second_factor() { sql::RESET_FAILURES } else { sql::RESET_FAILURES_BY_ONE_FACTOR };
            connection.prepare_cached(reset)?.execute([user_id.0])?;
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

/// A first factor that was found to be right, before anything of it is used up.
struct Shown {
    user_id: UserId,
    username: Username,
    is_email_verified: bool,
    /// What a mail offered.
    offer: Option<Offer>,
}

/// Opens a session for whoever has shown that an account is theirs. Nothing is used up before it is known what becomes of
/// the login.
fn open_session(
    connection: &Transaction<'_>,
    request: &SessionRequest,
    now: Timestamp,
) -> Result<SessionOutcome, Failure> {
    let SessionRequest { first, second, session, challenge, max_sessions, needs_verified_email } = request;
    let Some(shown) = find_shown(connection, first, now)? else { return Ok(SessionOutcome::Refused) };
    if *needs_verified_email && !shown.is_email_verified && shown.offer.is_none() {
        return Ok(SessionOutcome::EmailNotVerified);
    }
    let (user_id, ip) = (shown.user_id, session.ip);
    connection.changes(user_id, Change::Text);
    let mut session = session.clone();
    if is_second_due(connection, first, &shown)? {
        // Whoever was asked for it already is not asked by another challenge: that would have tries of its own.
        if matches!(second, SecondFactor::NotGiven) && !matches!(first, FirstFactor::Challenge(..)) {
            if !use_first(connection, first, &shown, false, ip, now)? {
                return Ok(SessionOutcome::Refused);
            }
            insert_challenge(connection, Some(user_id), challenge, now)?;
            // Somebody has the first factor, and is not known to be the owner.
            events::insert(connection, EventKind::SecondFactorAsked, user_id, Some(""), ip, "", now)?;
            return Ok(SessionOutcome::SecondFactorDue(shown.username, methods_of(connection, user_id)?));
        }
        if !use_second(connection, user_id, second, ip, now)? {
            return Ok(SessionOutcome::SecondFactorRefused(shown.username));
        }
        session.methods = session.methods.and(second.methods());
    }
    if !use_first(connection, first, &shown, true, ip, now)? {
        return Ok(SessionOutcome::Refused);
    }
    connection.prepare_cached(sql::RECORD_LOGIN)?.execute([now.as_millis(), user_id.0])?;
    Ok(SessionOutcome::Opened(Box::new(insert_session(connection, user_id, &session, *max_sessions, now)?)))
}

/// Finds the active account for which the first factor is right. A wrong code of a mail is counted.
fn find_shown(connection: &Transaction<'_>, first: &FirstFactor, now: Timestamp) -> Result<Option<Shown>, Failure> {
    let mut offer = None;
    let user_id = match first {
        FirstFactor::Password(login) => login.user_id,
        FirstFactor::Mail(presented) => match find_presented(connection, Purpose::SignIn, presented, now)? {
            Found::Right(found) => offer.insert(found).user_id,
            Found::Wrong { .. } | Found::Nothing => return Ok(None),
        },
        FirstFactor::Passkey(used) => used.user_id,
        FirstFactor::Identity(used) if may_use_identity(connection, used)? => used.user_id,
        FirstFactor::Identity(_) => return Ok(None),
        FirstFactor::Challenge(digest, _) => match find_pending_sign_in(connection, digest, now)? {
            Some(user_id) => user_id,
            None => return Ok(None),
        },
    };
    let found = connection.prepare_cached(sql::FIND_SIGN_IN)?.query_row([user_id.0], |row| {
        let password_hash = PasswordHash::from_stored(row.get("password_hash")?);
        let is_right = match first {
            FirstFactor::Password(login) => login.verified_against == password_hash,
            _ => true,
        };
        let (username, is_email_verified) = (read_username(row, "username")?, read_truth(row, "email_verified")?);
        let shown = Shown { user_id, username, is_email_verified, offer };
        Ok((is_right && read_truth(row, "is_active")?).then_some(shown))
    });
    Ok(found.optional()?.flatten())
}

/// Whether the account has an authenticator app, and the first factor is not both factors. What was set up at an address
/// that nobody had verified is not trusted, and goes.
fn is_second_due(connection: &Connection, first: &FirstFactor, shown: &Shown) -> rusqlite::Result<bool> {
    if matches!(first, FirstFactor::Passkey(_)) || shown.offer.as_ref().is_some_and(|offer| !offer.is_verified) {
        return Ok(false);
    }
    Ok(find_totp_secret(connection, shown.user_id)?.is_some())
}

/// Uses up the first factor; `false`, and no change, where it was used before. An identity that was found by its address
/// is linked where that opens a session, and not where a second factor is still due: then it is once that is given, where
/// it still may be.
fn use_first(
    connection: &Transaction<'_>,
    first: &FirstFactor,
    shown: &Shown,
    opens_session: bool,
    ip: Option<IpAddr>,
    now: Timestamp,
) -> Result<bool, Failure> {
    let user_id = shown.user_id;
    match first {
        FirstFactor::Password(login) => {
            if let Some(rehashed) = &login.rehashed {
                let hashes = params![user_id.0, rehashed.as_stored(), login.verified_against.as_stored()];
                connection.prepare_cached(sql::REHASH)?.execute(hashes)?;
            }
            Ok(true)
        }
        FirstFactor::Mail(_) => {
            if let Some(offer) = &shown.offer {
                use_sign_in_offer(connection, offer, ip, now)?;
            }
            Ok(true)
        }
        FirstFactor::Passkey(used) => Ok(use_passkey(connection, used, now)?),
        FirstFactor::Identity(used) => use_identity(connection, user_id, &used.identity, opens_session, ip, now),
        FirstFactor::Challenge(digest, linking) => {
            delete_challenge(connection, digest)?;
            if let Some(used) = linking
                && may_use_identity(connection, used)?
            {
                use_identity(connection, user_id, &used.identity, true, ip, now)?;
            }
            Ok(true)
        }
    }
}

/// Uses up what makes a session fresh; `false`, and no change, where it is worth nothing (any more).
fn use_proof(
    connection: &Transaction<'_>,
    user_id: UserId,
    shown: &Reauthentication,
    ip: Option<IpAddr>,
    now: Timestamp,
) -> Result<bool, Failure> {
    match shown {
        Reauthentication::Password(verified_against) => {
            Ok(find_own_credentials(connection, user_id)?.password_hash == *verified_against)
        }
        Reauthentication::Totp(code) => Ok(use_totp(connection, user_id, code)?),
        Reauthentication::Passkey(used) => Ok(used.user_id == user_id && use_passkey(connection, used, now)?),
        Reauthentication::Identity(used) => {
            let is_own = find_owner(connection, &used.identity.subject)?.is_some_and(|owner| owner.user_id == user_id);
            Ok(is_own && use_identity(connection, user_id, &used.identity, false, ip, now)?)
        }
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
