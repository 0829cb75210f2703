//! [`Identities`] in PostgreSQL.

use std::net::IpAddr;

use async_trait::async_trait;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::emails::{Verification, verify_email};
use super::error::Failure;
use super::lookup::{begin_change, find_user, is_session_fresh, read_id, require_session};
use super::outbox::begin_confirmation;
use super::pending::{delete_challenges_of, is_id_token_used, use_id_token};
use super::pool::Connection;
use super::rows::{get, invalid, read_number, read_time, read_username};
use super::schema::end_older_releases;
use super::tokens::{id_of, insert_token};
use super::transaction::Transaction;
use super::users::insert_user;
use super::ways_in::has_another_way_in;
use super::{PostgresRepository, events, sql};
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
impl Identities for PostgresRepository {
    async fn find_identity_owner(&self, subject: &Subject) -> Result<Option<IdentityOwner>, RepositoryError> {
        self.read(subject.clone(), |connection, subject| Box::pin(find_owner(connection, subject))).await
    }

    async fn find_email_owner(&self, email: &EmailAddress) -> Result<Option<IdentityOwner>, RepositoryError> {
        self.read(email.key().to_owned(), |connection, key| Box::pin(find_email_owner(connection, key))).await
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
        self.write(
            (user, is_email_verified, confirmation, identity, session, now),
            |transaction, (user, is_email_verified, confirmation, identity, session, now)| {
                Box::pin(async move {
                    if find_owner(transaction, &identity.subject).await?.is_some() {
                        return Ok(IdentityRegistered::IdentityTaken);
                    }
                    if let Some(token) = &identity.token
                        && !use_id_token(transaction, token, *now).await?
                    {
                        return Ok(IdentityRegistered::TokenUsed);
                    }
                    let user_id = insert_user(transaction, user, *now)
                        .await?
                        .ok_or(RepositoryError::Conflict(UniqueField::Username))?;
                    insert_identity(transaction, user_id, identity, *now).await?;
                    insert_token(transaction, user_id, session, *now).await?;
                    let id = id_of(&session.digest);
                    events::by_owner(transaction, EventKind::Registered, user_id, session.ip, &id, *now).await?;
                    // Where another account has verified it, it stays as it was given.
                    if *is_email_verified && let Verification::Now = verify_email(transaction, user_id, *now).await? {
                        events::by_owner(transaction, EventKind::EmailVerified, user_id, session.ip, "", *now).await?;
                    }
                    if let Some(confirmation) = confirmation {
                        begin_confirmation(transaction, user_id, confirmation, *now).await?;
                    }
                    tell_of_link(transaction, user_id, identity, session.ip, *now).await?;
                    Ok(IdentityRegistered::Opened(Box::new(find_user(transaction, user_id).await?)))
                })
            },
        )
        .await
    }

    async fn list_identities(&self, caller: &Caller) -> Result<Vec<IdentityDetails>, RepositoryError> {
        self.read_snapshot(*caller, |connection, caller| {
            Box::pin(async move {
                let user_id = require_session(connection, caller).await?.user_id;
                list_identities(connection, user_id).await
            })
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
        self.write(
            (*caller, needs_fresh_session, identity, now),
            |transaction, (caller, needs_fresh_session, identity, now)| {
                Box::pin(async move {
                    let user_id = begin_change(transaction, caller, Change::Text).await?.user_id;
                    if *needs_fresh_session && !is_session_fresh(transaction, caller, *now).await? {
                        return Ok(Linked::NotFresh);
                    }
                    let owner = find_owner(transaction, &identity.subject).await?;
                    if owner.as_ref().is_some_and(|owner| owner.user_id != user_id) {
                        return Ok(Linked::Taken);
                    }
                    if owner.is_none() && is_full(transaction, user_id).await? {
                        return Ok(Linked::Full);
                    }
                    let is_linked = use_identity(transaction, user_id, identity, true, caller.ip, *now).await?;
                    Ok(if is_linked { Linked::Done } else { Linked::TokenUsed })
                })
            },
        )
        .await
    }

    async fn unlink_identity(
        &self,
        caller: &Caller,
        id: IdentityId,
        offered: OfferedWays,
        now: Timestamp,
    ) -> Result<Removal, RepositoryError> {
        self.write((*caller, id, offered, now), |transaction, (caller, id, offered, now)| {
            Box::pin(async move {
                let user_id = begin_change(transaction, caller, Change::Text).await?.user_id;
                if !is_session_fresh(transaction, caller, *now).await? {
                    return Ok(Removal::NotFresh);
                }
                let mut identities = list_identities(transaction, user_id).await?.into_iter();
                let Some(identity) = identities.find(|identity| identity.subject.id() == *id) else {
                    return Ok(Removal::NotFound);
                };
                let is_offered = offered.issuers.contains(&identity.subject.issuer);
                if !has_another_way_in(transaction, user_id, offered, is_offered).await? {
                    return Ok(Removal::LastWayIn);
                }
                delete_identity(transaction, &identity.subject, *now).await?;
                delete_challenges_of(transaction, user_id).await?;
                let kind = EventKind::IdentityUnlinked;
                events::by_owner(transaction, kind, user_id, caller.ip, &identity.provider, *now).await?;
                Ok(Removal::Done)
            })
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
        self.write((subject.clone(), happened, offered, now), |transaction, (subject, happened, offered, now)| {
            Box::pin(async move {
                let Some(owner) = take_owner(transaction, subject).await? else { return Ok(false) };
                let user_id = owner.user_id;
                let mut identities = list_identities(transaction, user_id).await?.into_iter();
                if identities.any(|identity| identity.subject == *subject && identity.last_used > *happened) {
                    return Ok(false);
                }
                transaction.changes(user_id, Change::Sessions);
                if transaction.execute(sql::DELETE_ALL_TOKENS, &[&user_id.0]).await? > 0 {
                    let kind = EventKind::AllSessionsRevoked;
                    events::insert(transaction, kind, user_id, Some(""), None, "", *now).await?;
                }
                delete_challenges_of(transaction, user_id).await?;
                let is_offered = offered.issuers.contains(&subject.issuer);
                if has_another_way_in(transaction, user_id, offered, is_offered).await? {
                    delete_identity(transaction, subject, *now).await?;
                    let kind = EventKind::IdentityUnlinked;
                    events::insert(transaction, kind, user_id, Some(""), None, "withdrawn", *now).await?;
                }
                Ok(true)
            })
        })
        .await
    }

    async fn claim_revocations(
        &self,
        limit: u32,
        now: Timestamp,
        claimed_until: Timestamp,
    ) -> Result<Vec<Revocation>, RepositoryError> {
        // Most of the time none is due, and then nothing is written.
        let is_due = self.peek(now, |connection, now| {
            Box::pin(
                async move { Ok(connection.query_opt(sql::FIND_DUE_REVOCATION, &[&now.as_millis()]).await?.is_some()) },
            )
        });
        if !is_due.await? {
            return Ok(Vec::new());
        }
        self.write((limit, now, claimed_until), |transaction, (limit, now, claimed_until)| {
            Box::pin(async move {
                let claiming: [&(dyn ToSql + Sync); 3] =
                    [&now.as_millis(), &i64::from(*limit), &claimed_until.as_millis()];
                let statements =
                    [(sql::DELETE_EXPIRED_REVOCATIONS, &claiming[..1]), (sql::CLAIM_REVOCATIONS, &claiming)];
                let [_, claimed] = transaction.query_in_order(statements).await?;
                claimed.iter().map(read_revocation).collect()
            })
        })
        .await
    }

    async fn settle_revocation(&self, id: RevocationId, retry: Option<Timestamp>) -> Result<bool, RepositoryError> {
        self.write((id, retry), |transaction, (id, retry)| {
            Box::pin(async move {
                let settled = match retry {
                    Some(at) => {
                        transaction.execute(sql::RETURN_REVOCATION, &[&id.id, &id.claim, &at.as_millis()]).await?
                    }
                    None => transaction.execute(sql::DELETE_REVOCATION, &[&id.id, &id.claim]).await?,
                };
                Ok(settled > 0)
            })
        })
        .await
    }
}

fn read_revocation(row: &Row) -> Result<Revocation, Failure> {
    Ok(Revocation {
        id: RevocationId { id: get(row, "id")?, claim: get(row, "claims")? },
        provider: get(row, "provider")?,
        binding: get::<&[u8]>(row, "binding")?.try_into().map_err(invalid)?,
        token: get(row, "token")?,
        attempts: read_number(row, "attempts")?,
        expires: read_time(row, "expires")?,
    })
}

fn read_owner(row: &Row) -> Result<IdentityOwner, Failure> {
    Ok(IdentityOwner {
        user_id: UserId(get(row, "user_id")?),
        username: read_username(row, "username")?,
        is_active: get(row, "is_active")?,
    })
}

/// The account that is linked to an identity.
pub(super) async fn find_owner(connection: &Connection, subject: &Subject) -> Result<Option<IdentityOwner>, Failure> {
    let row = connection.query_opt(sql::FIND_IDENTITY_OWNER, &[&subject.issuer, &subject.subject]).await?;
    row.as_ref().map(read_owner).transpose()
}

/// The same for a change: the account is locked.
async fn take_owner(transaction: &Transaction, subject: &Subject) -> Result<Option<IdentityOwner>, Failure> {
    let parameters: [&(dyn ToSql + Sync); 2] = [&subject.issuer, &subject.subject];
    let statements = [(sql::LOCK_IDENTITY_USER, &parameters[..]), (sql::FIND_IDENTITY_OWNER, &parameters)];
    let [locked, found] = transaction.query_in_order(statements).await?;
    let locked = locked.first().map(read_id).transpose()?;
    let owner = found.first().map(read_owner).transpose()?;
    // Where another account is linked to it by now, there was a moment in between at which none was.
    Ok(owner.filter(|owner| locked.as_ref() == Some(&owner.user_id)))
}

/// The account that has verified an address.
async fn find_email_owner(connection: &Connection, key: &str) -> Result<Option<IdentityOwner>, Failure> {
    connection.query_opt(sql::FIND_EMAIL_OWNER, &[&key]).await?.as_ref().map(read_owner).transpose()
}

/// An account's identities, oldest first.
pub(super) async fn list_identities(connection: &Connection, user_id: UserId) -> Result<Vec<IdentityDetails>, Failure> {
    let rows = connection.query(sql::LIST_IDENTITIES, &[&user_id.0]).await?;
    let read = |row| {
        Ok(IdentityDetails {
            subject: Subject { issuer: get(row, "issuer")?, subject: get(row, "subject")? },
            provider: get(row, "provider")?,
            email: get(row, "email")?,
            created: read_time(row, "created")?,
            last_used: read_time(row, "last_used")?,
        })
    };
    rows.iter().map(read).collect()
}

/// Where another account is linked to the identity at the same time, the primary key has one of the two transactions run
/// again.
async fn insert_identity(
    transaction: &Transaction,
    user_id: UserId,
    identity: &VerifiedIdentity,
    now: Timestamp,
) -> Result<(), Failure> {
    let parameters: [&(dyn ToSql + Sync); 7] = [
        &identity.subject.issuer,
        &identity.subject.subject,
        &user_id.0,
        &identity.provider,
        &identity.email,
        &now.as_millis(),
        &identity.refresh_token,
    ];
    transaction.execute(sql::INSERT_IDENTITY, &parameters).await?;
    end_older_releases(transaction).await
}

async fn tell_of_link(
    transaction: &Transaction,
    user_id: UserId,
    identity: &VerifiedIdentity,
    ip: Option<IpAddr>,
    now: Timestamp,
) -> Result<(), Failure> {
    events::by_owner(transaction, EventKind::IdentityLinked, user_id, ip, &identity.provider, now).await
}

/// Whether an account has as many identities as it may have.
async fn is_full(connection: &Connection, user_id: UserId) -> Result<bool, Failure> {
    Ok(list_identities(connection, user_id).await?.len() >= MAX_IDENTITIES as usize)
}

/// Whether an identity may be a login to the account: its ID token was not used before, and it is linked to the account,
/// or that still has the address by which it is to be linked.
pub(super) async fn may_use_identity(connection: &Connection, used: &IdentityUse) -> Result<bool, Failure> {
    if let Some(token) = &used.identity.token
        && is_id_token_used(connection, token).await?
    {
        return Ok(false);
    }
    match (find_owner(connection, &used.identity.subject).await?, &used.by_email) {
        (Some(owner), _) => Ok(owner.user_id == used.user_id),
        (None, Some(key)) => {
            let owner = find_email_owner(connection, key).await?;
            Ok(owner.is_some_and(|owner| owner.user_id == used.user_id) && !is_full(connection, used.user_id).await?)
        }
        (None, None) => Ok(false),
    }
}

/// Notes the use of an identity, links it to the account where it is not yet and `may_link`, and uses its ID token up;
/// `false`, and no change, where that was used before.
pub(super) async fn use_identity(
    transaction: &Transaction,
    user_id: UserId,
    identity: &VerifiedIdentity,
    may_link: bool,
    ip: Option<IpAddr>,
    now: Timestamp,
) -> Result<bool, Failure> {
    if let Some(token) = &identity.token
        && !use_id_token(transaction, token, now).await?
    {
        return Ok(false);
    }
    let Subject { issuer, subject } = &identity.subject;
    let parameters: [&(dyn ToSql + Sync); 6] =
        [issuer, subject, &identity.email, &now.as_millis(), &identity.refresh_token, &user_id.0];
    if transaction.execute(sql::USE_IDENTITY, &parameters).await? == 0 && may_link {
        insert_identity(transaction, user_id, identity, now).await?;
        tell_of_link(transaction, user_id, identity, ip, now).await?;
    }
    Ok(true)
}

pub(super) async fn delete_identity(
    transaction: &Transaction,
    subject: &Subject,
    now: Timestamp,
) -> Result<(), Failure> {
    revoke_refresh_token(transaction, subject, now).await?;
    transaction.execute(sql::DELETE_IDENTITY, &[&subject.issuer, &subject.subject]).await?;
    Ok(())
}

/// Puts the refresh tokens of an account, whose identities are about to go, among the revocations.
pub(super) async fn revoke_refresh_tokens(
    transaction: &Transaction,
    user_id: UserId,
    now: Timestamp,
) -> Result<(), Failure> {
    for identity in list_identities(transaction, user_id).await? {
        revoke_refresh_token(transaction, &identity.subject, now).await?;
    }
    Ok(())
}

async fn revoke_refresh_token(transaction: &Transaction, subject: &Subject, now: Timestamp) -> Result<(), Failure> {
    let (binding, expires) = (subject.binding(), now.plus(REVOKED_WITHIN).as_millis());
    let parameters: [&(dyn ToSql + Sync); 5] =
        [&subject.issuer, &subject.subject, &binding.as_slice(), &now.as_millis(), &expires];
    transaction.execute(sql::REVOKE_REFRESH_TOKEN, &parameters).await?;
    Ok(())
}
