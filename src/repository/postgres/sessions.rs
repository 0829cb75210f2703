//! [`Sessions`] in PostgreSQL.

use std::net::IpAddr;

use async_trait::async_trait;

use super::error::Failure;
use super::factors::{use_second, use_totp};
use super::identities::{find_owner, may_use_identity, use_identity};
use super::lookup::{begin_change, find_own_credentials, find_session, is_session_fresh, lock_user, require_session};
use super::offers::{Found, Offer, delete_pending_change, find_presented};
use super::one_time_codes::use_sign_in_offer;
use super::passkeys::use_passkey;
use super::pending::{delete_challenge, insert_challenge, take_pending_sign_in};
use super::pool::Connection;
use super::rows::{get, read_digest, read_time, read_username};
use super::tokens::{delete_session, id_of, insert_session, list_sessions, set_reauthentication};
use super::transaction::Transaction;
use super::ways_in::{find_totp_secret, methods_of};
use super::{PostgresRepository, events, sql};
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
impl Sessions for PostgresRepository {
    async fn open_session(&self, request: SessionRequest, now: Timestamp) -> Result<SessionOutcome, RepositoryError> {
        self.write((request, now), |transaction, (request, now)| Box::pin(open_session(transaction, request, *now)))
            .await
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
        caller: &Caller,
        shown: Reauthentication,
        now: Timestamp,
    ) -> Result<bool, RepositoryError> {
        self.write((*caller, shown, now), |transaction, (caller, shown, now)| {
            Box::pin(async move {
                let user_id = begin_change(transaction, caller, Change::Text).await?.user_id;
                if !use_proof(transaction, user_id, shown, caller.ip, *now).await? {
                    return Ok(false);
                }
                set_reauthentication(transaction, caller, Some(*now)).await?;
                let reset =
                    if shown.is_second_factor() { sql::RESET_FAILURES } else { sql::RESET_FAILURES_BY_ONE_FACTOR };
                transaction.execute(reset, &[&user_id.0]).await?;
                let (kind, id) = (EventKind::Reauthenticated, id_of(&caller.digest));
                events::by_owner(transaction, kind, user_id, caller.ip, &id, *now).await?;
                Ok(true)
            })
        })
        .await
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
async fn open_session(
    transaction: &Transaction,
    request: &SessionRequest,
    now: Timestamp,
) -> Result<SessionOutcome, Failure> {
    let SessionRequest { first, second, session, challenge, max_sessions, needs_verified_email } = request;
    let Some(shown) = take_shown(transaction, first, now).await? else { return Ok(SessionOutcome::Refused) };
    if *needs_verified_email && !shown.is_email_verified && shown.offer.is_none() {
        return Ok(SessionOutcome::EmailNotVerified);
    }
    let (user_id, ip) = (shown.user_id, session.ip);
    transaction.changes(user_id, Change::Text);
    let mut session = session.clone();
    if is_second_due(transaction, first, &shown).await? {
        // Whoever was asked for it already is not asked by another challenge: that would have tries of its own.
        if matches!(second, SecondFactor::NotGiven) && !matches!(first, FirstFactor::Challenge(..)) {
            if !use_first(transaction, first, &shown, false, ip, now).await? {
                return Ok(SessionOutcome::Refused);
            }
            insert_challenge(transaction, Some(user_id), challenge, now).await?;
            // Somebody has the first factor, and is not known to be the owner.
            events::insert(transaction, EventKind::SecondFactorAsked, user_id, Some(""), ip, "", now).await?;
            return Ok(SessionOutcome::SecondFactorDue(shown.username, methods_of(transaction, user_id).await?));
        }
        if !use_second(transaction, user_id, second, ip, now).await? {
            return Ok(SessionOutcome::SecondFactorRefused(shown.username));
        }
        session.methods = session.methods.and(second.methods());
    }
    if !use_first(transaction, first, &shown, true, ip, now).await? {
        return Ok(SessionOutcome::Refused);
    }
    transaction.execute(sql::RECORD_LOGIN, &[&now.as_millis(), &user_id.0]).await?;
    Ok(SessionOutcome::Opened(Box::new(insert_session(transaction, user_id, &session, *max_sessions, now).await?)))
}

/// Finds the active account for which the first factor is right, and locks it before it looks. A wrong code of a mail is
/// counted.
async fn take_shown(transaction: &Transaction, first: &FirstFactor, now: Timestamp) -> Result<Option<Shown>, Failure> {
    let mut offer = None;
    let user_id = match first {
        FirstFactor::Password(login) => login.user_id,
        FirstFactor::Mail(presented) => match find_presented(transaction, Purpose::SignIn, presented, now).await? {
            Found::Right(found) => offer.insert(found).user_id,
            Found::Wrong { .. } | Found::Nothing => return Ok(None),
        },
        FirstFactor::Passkey(used) => used.user_id,
        FirstFactor::Identity(used) => used.user_id,
        FirstFactor::Challenge(digest, _) => match take_pending_sign_in(transaction, digest, now).await? {
            Some(user_id) => user_id,
            None => return Ok(None),
        },
    };
    // The accounts of an offer and of a challenge are locked already.
    let [_, found] =
        transaction.query_in_order([(sql::LOCK_USER, &[&user_id.0]), (sql::FIND_SIGN_IN, &[&user_id.0])]).await?;
    let Some(found) = found.first() else { return Ok(None) };
    let password_hash = PasswordHash::from_stored(get(found, "password_hash")?);
    let is_right = get(found, "is_active")?
        && match first {
            FirstFactor::Password(login) => login.verified_against == password_hash,
            FirstFactor::Identity(used) => may_use_identity(transaction, used).await?,
            FirstFactor::Mail(_) | FirstFactor::Passkey(_) | FirstFactor::Challenge(..) => true,
        };
    let (username, is_email_verified) = (read_username(found, "username")?, get(found, "email_verified")?);
    Ok(is_right.then_some(Shown { user_id, username, is_email_verified, offer }))
}

/// Whether the account has an authenticator app, and the first factor is not both factors. What was set up at an address
/// that nobody had verified is not trusted, and goes.
async fn is_second_due(connection: &Connection, first: &FirstFactor, shown: &Shown) -> Result<bool, Failure> {
    if matches!(first, FirstFactor::Passkey(_)) || shown.offer.as_ref().is_some_and(|offer| !offer.is_verified) {
        return Ok(false);
    }
    Ok(find_totp_secret(connection, shown.user_id).await?.is_some())
}

/// Uses up the first factor; `false`, and no change, where it was used before. An identity that was found by its address
/// is linked where that opens a session, and not where a second factor is still due: then it is once that is given, where
/// it still may be.
async fn use_first(
    transaction: &Transaction,
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
                let (new, before) = (rehashed.as_stored(), login.verified_against.as_stored());
                transaction.execute(sql::REHASH, &[&user_id.0, &new, &before]).await?;
            }
            Ok(true)
        }
        FirstFactor::Mail(_) => {
            if let Some(offer) = &shown.offer {
                use_sign_in_offer(transaction, offer, ip, now).await?;
            }
            Ok(true)
        }
        FirstFactor::Passkey(used) => use_passkey(transaction, used, now).await,
        FirstFactor::Identity(used) => use_identity(transaction, user_id, &used.identity, opens_session, ip, now).await,
        FirstFactor::Challenge(digest, linking) => {
            delete_challenge(transaction, digest).await?;
            if let Some(used) = linking
                && may_use_identity(transaction, used).await?
            {
                use_identity(transaction, user_id, &used.identity, true, ip, now).await?;
            }
            Ok(true)
        }
    }
}

/// Uses up what makes a session fresh; `false`, and no change, where it is worth nothing (any more).
async fn use_proof(
    transaction: &Transaction,
    user_id: UserId,
    shown: &Reauthentication,
    ip: Option<IpAddr>,
    now: Timestamp,
) -> Result<bool, Failure> {
    match shown {
        Reauthentication::Password(verified_against) => {
            Ok(find_own_credentials(transaction, user_id).await?.password_hash == *verified_against)
        }
        Reauthentication::Totp(code) => use_totp(transaction, user_id, code).await,
        Reauthentication::Passkey(used) => Ok(used.user_id == user_id && use_passkey(transaction, used, now).await?),
        Reauthentication::Identity(used) => {
            let owner = find_owner(transaction, &used.identity.subject).await?;
            let is_own = owner.is_some_and(|owner| owner.user_id == user_id);
            Ok(is_own && use_identity(transaction, user_id, &used.identity, false, ip, now).await?)
        }
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
