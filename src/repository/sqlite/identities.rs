//! [`Identities`] in SQLite.

use std::net::IpAddr;

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::emails::{Verification, verify_email};
use super::error::Failure;
use super::lookup::{begin_change, find_user, is_session_fresh, require_session};
use super::outbox::begin_confirmation;
use super::pending::{delete_challenges_of, is_id_token_used, use_id_token};
use super::rows::{read_time, read_truth, read_username};
use super::tokens::{id_of, insert_token};
use super::transaction::Transaction;
use super::users::insert_user;
use super::ways_in::has_another_way_in;
use super::{SqliteRepository, events, sql};
use crate::domain::email::EmailAddress;
use crate::domain::event::EventKind;
use crate::domain::identity::{IdentityDetails, IdentityId, MAX_IDENTITIES, REVOKED_WITHIN, Subject};
use crate::domain::session::{Caller, NewSession};
use crate::domain::user::{NewUser, UserId};
use crate::repository::session_cache::Change;
use crate::repository::{
    Identities, IdentityOwner, IdentityRegistered, IdentityUse, Linked, NewEmailChange, OfferedWays, Removal,
    RepositoryError, Revocation, RevocationId, UniqueField, VerifiedIdentity,
};
use crate::system::clock::Timestamp;

#[async_trait]
impl Identities for SqliteRepository {
    async fn find_identity_owner(&self, subject: &Subject) -> Result<Option<IdentityOwner>, RepositoryError> {
        let subject = subject.clone();
        self.read(move |connection| Ok(find_owner(connection, &subject)?)).await
    }

    async fn find_email_owner(&self, email: &EmailAddress) -> Result<Option<IdentityOwner>, RepositoryError> {
        let key = email.key().to_owned();
        self.read(move |connection| {
            let mut find = connection.prepare_cached(sql::FIND_EMAIL_OWNER)?;
            Ok(find.query_row([key], read_owner).optional()?)
        })
        .await
    }

    async fn register_by_identity(
        &self,
        user: NewUser,
        is_email_verified: bool,
        confirmation: Option<NewEmailChange>,
        identity: VerifiedIdentity,
        session: NewSession,
        now: Timestamp,
    ) -> Result<IdentityRegistered, RepositoryError> {
        self.write(move |connection| {
            if find_owner(connection, &identity.subject)?.is_some() {
                return Ok(IdentityRegistered::IdentityTaken);
            }
            if let Some(token) = &identity.token
                && !use_id_token(connection, token, now)?
            {
                return Ok(IdentityRegistered::TokenUsed);
            }
            let user_id =
                insert_user(connection, &user, now)?.ok_or(RepositoryError::Conflict(UniqueField::Username))?;
            insert_identity(connection, user_id, &identity, now)?;
            insert_token(connection, user_id, &session, now)?;
            let id = id_of(&session.digest);
            events::by_owner(connection, EventKind::Registered, user_id, session.ip, &id, now)?;
            // Where another account has verified it, it stays as it was given.
            if is_email_verified && let Verification::Now = verify_email(connection, user_id, now)? {
                events::by_owner(connection, EventKind::EmailVerified, user_id, session.ip, "", now)?;
            }
            if let Some(confirmation) = confirmation {
                begin_confirmation(connection, user_id, &confirmation, now)?;
            }
            tell_of_link(connection, user_id, &identity, session.ip, now)?;
            Ok(IdentityRegistered::Opened(Box::new(find_user(connection, user_id)?)))
        })
        .await
    }

    async fn list_identities(&self, caller: &Caller) -> Result<Vec<IdentityDetails>, RepositoryError> {
        let caller = *caller;
        self.read_snapshot(move |connection| {
            let user_id = require_session(connection, &caller)?.user_id;
            Ok(list_identities(connection, user_id)?)
        })
        .await
    }

    async fn link_identity(
        &self,
        caller: &Caller,
        needs_fresh_session: bool,
        identity: VerifiedIdentity,
        now: Timestamp,
    ) -> Result<Linked, RepositoryError> {
        let caller = *caller;
        self.write(move |connection| {
            let user_id = begin_change(connection, &caller, Change::Text)?.user_id;
            if needs_fresh_session && !is_session_fresh(connection, &caller, now)? {
                return Ok(Linked::NotFresh);
            }
            let owner = find_owner(connection, &identity.subject)?;
            if owner.as_ref().is_some_and(|owner| owner.user_id != user_id) {
                return Ok(Linked::Taken);
            }
            if owner.is_none() && is_full(connection, user_id)? {
                return Ok(Linked::Full);
            }
            let is_linked = use_identity(connection, user_id, &identity, true, caller.ip, now)?;
            Ok(if is_linked { Linked::Done } else { Linked::TokenUsed })
        })
        .await
    }

    async fn unlink_identity(
        &self,
        caller: &Caller,
        id: IdentityId,
        offered: OfferedWays,
        now: Timestamp,
    ) -> Result<Removal, RepositoryError> {
        let caller = *caller;
        self.write(move |connection| {
            let user_id = begin_change(connection, &caller, Change::Text)?.user_id;
            if !is_session_fresh(connection, &caller, now)? {
                return Ok(Removal::NotFresh);
            }
            let mut identities = list_identities(connection, user_id)?.into_iter();
            let Some(identity) = identities.find(|identity| identity.subject.id() == id) else {
                return Ok(Removal::NotFound);
            };
            let is_offered = offered.issuers.contains(&identity.subject.issuer);
            if !has_another_way_in(connection, user_id, &offered, is_offered)? {
                return Ok(Removal::LastWayIn);
            }
            delete_identity(connection, &identity.subject, now)?;
            delete_challenges_of(connection, user_id)?;
            let kind = EventKind::IdentityUnlinked;
            events::by_owner(connection, kind, user_id, caller.ip, &identity.provider, now)?;
            Ok(Removal::Done)
        })
        .await
    }

    async fn withdraw_identity(
        &self,
        subject: &Subject,
        happened: Timestamp,
        offered: OfferedWays,
        now: Timestamp,
    ) -> Result<bool, RepositoryError> {
        let subject = subject.clone();
        self.write(move |connection| {
            let Some(owner) = find_owner(connection, &subject)? else { return Ok(false) };
            let user_id = owner.user_id;
            let mut identities = list_identities(connection, user_id)?.into_iter();
            if identities.any(|identity| identity.subject == subject && identity.last_used > happened) {
                return Ok(false);
            }
            connection.changes(user_id, Change::Sessions);
            if connection.prepare_cached(sql::DELETE_ALL_TOKENS)?.execute([user_id.0])? > 0 {
                events::insert(connection, EventKind::AllSessionsRevoked, user_id, Some(""), None, "", now)?;
            }
            delete_challenges_of(connection, user_id)?;
            let is_offered = offered.issuers.contains(&subject.issuer);
            if has_another_way_in(connection, user_id, &offered, is_offered)? {
                delete_identity(connection, &subject, now)?;
                events::insert(connection, EventKind::IdentityUnlinked, user_id, Some(""), None, "withdrawn", now)?;
            }
            Ok(true)
        })
        .await
    }

    async fn claim_revocations(
        &self,
        limit: u32,
        now: Timestamp,
        claimed_until: Timestamp,
    ) -> Result<Vec<Revocation>, RepositoryError> {
        self.write(move |connection| {
            let expired = now.as_millis();
            connection.prepare_cached(sql::DELETE_EXPIRED_REVOCATIONS)?.execute([expired])?;
            let mut list = connection.prepare_cached(sql::LIST_DUE_REVOCATIONS)?;
            let due = list.query_map(params![now.as_millis(), limit], |row| {
                Ok(Revocation {
                    id: RevocationId { id: row.get("id")?, claim: row.get::<_, i64>("claims")? + 1 },
                    provider: row.get("provider")?,
                    binding: row.get("binding")?,
                    token: row.get("token")?,
                    attempts: row.get("attempts")?,
                    expires: read_time(row, "expires")?,
                })
            })?;
            let due = due.collect::<Result<Vec<_>, _>>()?;
            let mut claim = connection.prepare_cached(sql::CLAIM_REVOCATION)?;
            for revocation in &due {
                claim.execute(params![revocation.id.id, revocation.id.claim, claimed_until.as_millis()])?;
            }
            Ok(due)
        })
        .await
    }

    async fn settle_revocation(&self, id: RevocationId, retry: Option<Timestamp>) -> Result<bool, RepositoryError> {
        self.write(move |connection| {
            let settled = match retry {
                Some(at) => connection.prepare_cached(sql::RETURN_REVOCATION)?.execute(params![
                    id.id,
                    id.claim,
                    at.as_millis()
                ])?,
                None => connection.prepare_cached(sql::DELETE_REVOCATION)?.execute(params![id.id, id.claim])?,
            };
            Ok(settled > 0)
        })
        .await
    }
}

fn read_owner(row: &Row<'_>) -> rusqlite::Result<IdentityOwner> {
    Ok(IdentityOwner {
        user_id: UserId(row.get("user_id")?),
        username: read_username(row, "username")?,
        is_active: read_truth(row, "is_active")?,
    })
}

/// The account that is linked to an identity.
pub(super) fn find_owner(connection: &Connection, subject: &Subject) -> rusqlite::Result<Option<IdentityOwner>> {
    let mut find = connection.prepare_cached(sql::FIND_IDENTITY_OWNER)?;
    find.query_row([&subject.issuer, &subject.subject], read_owner).optional()
}

/// An account's identities, oldest first.
pub(super) fn list_identities(connection: &Connection, user_id: UserId) -> rusqlite::Result<Vec<IdentityDetails>> {
    let mut list = connection.prepare_cached(sql::LIST_IDENTITIES)?;
    let found = list.query_map([user_id.0], |row| {
        Ok(IdentityDetails {
            subject: Subject { issuer: row.get("issuer")?, subject: row.get("subject")? },
            provider: row.get("provider")?,
            email: row.get("email")?,
            created: read_time(row, "created")?,
            last_used: read_time(row, "last_used")?,
        })
    })?;
    found.collect()
}

fn insert_identity(
    connection: &Connection,
    user_id: UserId,
    identity: &VerifiedIdentity,
    now: Timestamp,
) -> rusqlite::Result<()> {
    connection.prepare_cached(sql::INSERT_IDENTITY)?.execute(params![
        identity.subject.issuer,
        identity.subject.subject,
        user_id.0,
        identity.provider,
        identity.email,
        now.as_millis(),
        identity.refresh_token,
    ])?;
    Ok(())
}

fn tell_of_link(
    connection: &Transaction<'_>,
    user_id: UserId,
    identity: &VerifiedIdentity,
    ip: Option<IpAddr>,
    now: Timestamp,
) -> rusqlite::Result<()> {
    events::by_owner(connection, EventKind::IdentityLinked, user_id, ip, &identity.provider, now)
}

/// Whether an account has as many identities as it may have.
fn is_full(connection: &Connection, user_id: UserId) -> rusqlite::Result<bool> {
    Ok(list_identities(connection, user_id)?.len() >= MAX_IDENTITIES as usize)
}

/// Whether an identity may be a login to the account: its ID token was not used before, and it is linked to the account,
/// or that still has the address by which it is to be linked.
pub(super) fn may_use_identity(connection: &Connection, used: &IdentityUse) -> rusqlite::Result<bool> {
    if let Some(token) = &used.identity.token
        && is_id_token_used(connection, token)?
    {
        return Ok(false);
    }
    match (find_owner(connection, &used.identity.subject)?, &used.by_email) {
        (Some(owner), _) => Ok(owner.user_id == used.user_id),
        (None, Some(key)) => {
            let mut find = connection.prepare_cached(sql::FIND_EMAIL_OWNER)?;
            let owner = find.query_row([key], read_owner).optional()?;
            Ok(owner.is_some_and(|owner| owner.user_id == used.user_id) && !is_full(connection, used.user_id)?)
        }
        (None, None) => Ok(false),
    }
}

/// Notes the use of an identity, links it to the account where it is not yet and `may_link`, and uses its ID token up;
/// `false`, and no change, where that was used before.
pub(super) fn use_identity(
    connection: &Transaction<'_>,
    user_id: UserId,
    identity: &VerifiedIdentity,
    may_link: bool,
    ip: Option<IpAddr>,
    now: Timestamp,
) -> Result<bool, Failure> {
    if let Some(token) = &identity.token
        && !use_id_token(connection, token, now)?
    {
        return Ok(false);
    }
    let mut note = connection.prepare_cached(sql::USE_IDENTITY)?;
    let Subject { issuer, subject } = &identity.subject;
    let noted = note.execute(params![issuer, subject, identity.email, now.as_millis(), identity.refresh_token])?;
    if noted == 0 && may_link {
        insert_identity(connection, user_id, identity, now)?;
        tell_of_link(connection, user_id, identity, ip, now)?;
    }
    Ok(true)
}

pub(super) fn delete_identity(connection: &Connection, subject: &Subject, now: Timestamp) -> rusqlite::Result<()> {
    let expires = now.plus(REVOKED_WITHIN).as_millis();
    let Subject { issuer, subject: id } = subject;
    let mut revoke = connection.prepare_cached(sql::REVOKE_REFRESH_TOKEN)?;
    revoke.execute(params![issuer, id, subject.binding(), now.as_millis(), expires])?;
    connection.prepare_cached(sql::DELETE_IDENTITY)?.execute([issuer, id])?;
    Ok(())
}

/// Puts the refresh tokens of an account, whose identities are about to go, among the revocations.
pub(super) fn revoke_refresh_tokens(connection: &Connection, user_id: UserId, now: Timestamp) -> rusqlite::Result<()> {
    let expires = now.plus(REVOKED_WITHIN).as_millis();
    let mut revoke = connection.prepare_cached(sql::REVOKE_REFRESH_TOKEN)?;
    for identity in list_identities(connection, user_id)? {
        let Subject { issuer, subject } = &identity.subject;
        revoke.execute(params![issuer, subject, identity.subject.binding(), now.as_millis(), expires])?;
    }
    Ok(())
}
