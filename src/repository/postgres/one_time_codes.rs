//! [`OneTimeCodes`] in PostgreSQL.
//!
//! A code or link is used up in the transaction of what it allows, under the lock of its account: so of two that present
//! it at once one finds it gone. A wrong code is a write, which takes as long as a COMMIT. Where nothing is found, the
//! same is written and taken back: else the time would tell whether the request is that of an account.

use std::net::IpAddr;

use async_trait::async_trait;
use tokio_postgres::types::ToSql;

use super::emails::{Email, Verification, find_email, is_taken, require_email, set_email, verify_email};
use super::error::Failure;
use super::factors::{forget_ways_in, forget_ways_in_since};
use super::lookup::{begin_change, find_user, holds, lock_user, require_session};
use super::offers::{
    Found, Offer, delete_all_offers, delete_offer, end_restorers_since, find_by_code, find_by_token, find_pending,
    find_presented, take_by_token, try_code,
};
use super::outbox::begin_confirmation;
use super::pool::Connection;
use super::rows::{get, read_username};
use super::tokens::{delete_session, id_of, set_reauthentication};
use super::transaction::Transaction;
use super::{LONG_SCAN_WITHIN, PostgresRepository, events, sql};
use crate::domain::email::EmailAddress;
use crate::domain::event::EventKind;
use crate::domain::one_time::{CODE_LIFETIME, Code, CodeMac, Presented, Purpose, RESTORES_EMAIL};
use crate::domain::session::{Caller, SessionCutoffs, SessionId};
use crate::domain::token::TokenDigest;
use crate::domain::user::{PasswordHash, UserId, Username};
use crate::repository::session_cache::Change;
use crate::repository::{
    Confirmed, Disowned, EmailState, NewEmailChange, NewOffer, OneTimeCodes, Proof, Recipient, RepositoryError, Tried,
    Whom,
};
use crate::system::clock::Timestamp;

/// How many codes are pruned in one transaction, so that no other write waits long.
const PRUNED_AT_ONCE: u32 = 500;

/// What the event of a first proof by a login tells: what was set up before was not trusted.
const PASSWORD_REMOVED: &str = "password_removed";

#[async_trait]
impl OneTimeCodes for PostgresRepository {
    async fn find_email(&self, caller: &Caller, now: Timestamp) -> Result<EmailState, RepositoryError> {
        self.read_snapshot((*caller, now), |connection, (caller, now)| {
            Box::pin(async move {
                let user_id = require_session(connection, caller).await?.user_id;
                let Email { text: email, is_verified, .. } = require_email(connection, user_id).await?;
                let pending = find_pending(connection, user_id, *now).await?;
                Ok(EmailState { email, is_verified, pending: pending.map(|offer| (offer.email, offer.expires)) })
            })
        })
        .await
    }

    async fn request_email_change(
        &self,
        caller: &Caller,
        proof: Proof,
        change: NewEmailChange,
        now: Timestamp,
    ) -> Result<bool, RepositoryError> {
        self.write((*caller, proof, change, now), |transaction, (caller, proof, change, now)| {
            Box::pin(async move {
                let user_id = begin_change(transaction, caller, Change::Text).await?.user_id;
                if !holds(transaction, proof, caller, user_id, *now).await? {
                    return Ok(false);
                }
                begin_confirmation(transaction, user_id, change, *now).await?;
                if require_email(transaction, user_id).await?.text != change.email.as_str() {
                    let kind = EventKind::EmailChangeRequested;
                    events::by_owner(transaction, kind, user_id, caller.ip, "", *now).await?;
                }
                Ok(true)
            })
        })
        .await
    }

    async fn withdraw_email_change(&self, caller: &Caller, now: Timestamp) -> Result<bool, RepositoryError> {
        self.write((*caller, now), |transaction, (caller, now)| {
            Box::pin(async move {
                let user_id = begin_change(transaction, caller, Change::Text).await?.user_id;
                let Some(pending) = find_pending(transaction, user_id, *now).await? else { return Ok(false) };
                delete_offer(transaction, &pending.request).await?;
                let kind = EventKind::EmailChangeWithdrawn;
                events::by_owner(transaction, kind, user_id, caller.ip, "", *now).await?;
                Ok(true)
            })
        })
        .await
    }

    async fn confirm_email_by_code(
        &self,
        caller: &Caller,
        request: Option<TokenDigest>,
        code: Code,
        now: Timestamp,
    ) -> Result<Confirmed, RepositoryError> {
        self.write((*caller, request, code, now), |transaction, (caller, request, code, now)| {
            Box::pin(async move {
                let user_id = begin_change(transaction, caller, Change::Text).await?.user_id;
                let Some(pending) = find_pending(transaction, user_id, *now).await? else {
                    return Ok(Confirmed::Refused(None));
                };
                if request.is_some_and(|request| *request.as_bytes() != pending.request) {
                    return Ok(Confirmed::Refused(None));
                }
                let mac = code.mac_in_session(&TokenDigest::from_bytes(pending.request));
                match try_code(transaction, pending, &mac, *now).await? {
                    Found::Right(offer) => confirm(transaction, &offer, caller.ip, *now).await,
                    Found::Wrong { username, .. } => Ok(Confirmed::Refused(Some(username))),
                    Found::Nothing => Ok(Confirmed::Refused(None)),
                }
            })
        })
        .await
    }

    async fn confirm_email_by_link(
        &self,
        token: TokenDigest,
        ip: Option<IpAddr>,
        now: Timestamp,
    ) -> Result<Confirmed, RepositoryError> {
        self.write((token, ip, now), |transaction, (token, ip, now)| {
            Box::pin(async move {
                match take_by_token(transaction, Purpose::ConfirmEmail, token, *now).await? {
                    Some(offer) => confirm(transaction, &offer, *ip, *now).await,
                    None => Ok(Confirmed::Refused(None)),
                }
            })
        })
        .await
    }

    async fn find_recipient(&self, whom: &Whom, ip: Option<IpAddr>) -> Result<Option<Recipient>, RepositoryError> {
        self.read_snapshot((whom.clone(), ip), |connection, (whom, ip)| {
            Box::pin(async move {
                match whom {
                    Whom::Username(username) => {
                        find_recipient(connection, sql::FIND_RECIPIENT_NAMED, &username.key(), *ip).await
                    }
                    Whom::Email(email) => {
                        let key = email.key();
                        match find_recipient(connection, sql::FIND_RECIPIENT_VERIFIED, &key, *ip).await? {
                            None => find_recipient(connection, sql::FIND_RECIPIENT_UNVERIFIED, &key, *ip).await,
                            verified => Ok(verified),
                        }
                    }
                }
            })
        })
        .await
    }

    async fn find_own_recipient(&self, caller: &Caller) -> Result<Option<Recipient>, RepositoryError> {
        self.read_snapshot(*caller, |connection, caller| {
            Box::pin(async move {
                let user_id = require_session(connection, caller).await?.user_id;
                let found = find_recipient(connection, sql::FIND_RECIPIENT, &user_id.0, caller.ip).await?;
                Ok(found.filter(|recipient| recipient.is_verified))
            })
        })
        .await
    }

    async fn store_offer(&self, offer: NewOffer, ip: Option<IpAddr>, now: Timestamp) -> Result<bool, RepositoryError> {
        self.write((offer, ip, now), |transaction, (offer, ip, now)| {
            Box::pin(store_offer(transaction, offer, *ip, *now))
        })
        .await
    }

    async fn try_code(
        &self,
        purpose: Purpose,
        request: TokenDigest,
        mac: CodeMac,
        now: Timestamp,
    ) -> Result<Tried, RepositoryError> {
        self.write((purpose, request, mac, now), |transaction, (purpose, request, mac, now)| {
            Box::pin(async move {
                Ok(match find_by_code(transaction, *purpose, request, mac, None, *now).await? {
                    Found::Right(offer) => Tried::Right(offer.username),
                    Found::Wrong { username, is_verified: true } => Tried::Wrong(username),
                    // For the same reason as with the event of a reset: see `store_offer`.
                    Found::Wrong { is_verified: false, .. } | Found::Nothing => Tried::Unknown,
                })
            })
        })
        .await
    }

    async fn find_link(
        &self,
        purpose: Purpose,
        token: TokenDigest,
        now: Timestamp,
    ) -> Result<Option<Username>, RepositoryError> {
        self.read((purpose, token, now), |connection, (purpose, token, now)| {
            Box::pin(async move {
                let found = find_by_token(connection, *purpose, token, *now).await?;
                Ok(found.map(|offer| offer.username))
            })
        })
        .await
    }

    async fn reset_password(
        &self,
        presented: Presented,
        new_hash: PasswordHash,
        ip: Option<IpAddr>,
        now: Timestamp,
    ) -> Result<Option<Username>, RepositoryError> {
        self.write((presented, new_hash, ip, now), |transaction, (presented, new_hash, ip, now)| {
            Box::pin(async move {
                match find_presented(transaction, Purpose::ResetPassword, presented, *now).await? {
                    Found::Right(offer) => reset_password(transaction, offer, new_hash, *ip, *now).await.map(Some),
                    Found::Wrong { .. } | Found::Nothing => Ok(None),
                }
            })
        })
        .await
    }

    async fn reauthenticate_by_code(
        &self,
        caller: &Caller,
        request: TokenDigest,
        mac: CodeMac,
        now: Timestamp,
    ) -> Result<Tried, RepositoryError> {
        self.write((*caller, request, mac, now), |transaction, (caller, request, mac, now)| {
            Box::pin(async move {
                let user_id = begin_change(transaction, caller, Change::Text).await?.user_id;
                let purpose = Purpose::Reauthenticate;
                Ok(match find_by_code(transaction, purpose, request, mac, Some(user_id), *now).await? {
                    Found::Right(offer) => {
                        delete_offer(transaction, &offer.request).await?;
                        set_reauthentication(transaction, caller, Some(*now)).await?;
                        transaction.execute(sql::RESET_FAILURES_BY_ONE_FACTOR, &[&user_id.0]).await?;
                        let (kind, id) = (EventKind::Reauthenticated, id_of(&caller.digest));
                        events::by_owner(transaction, kind, user_id, caller.ip, &id, *now).await?;
                        Tried::Right(offer.username)
                    }
                    Found::Wrong { username, .. } => Tried::Wrong(username),
                    Found::Nothing => Tried::Unknown,
                })
            })
        })
        .await
    }

    async fn disown(
        &self,
        token: TokenDigest,
        ip: Option<IpAddr>,
        now: Timestamp,
    ) -> Result<Option<Disowned>, RepositoryError> {
        self.write((token, ip, now), |transaction, (token, ip, now)| {
            Box::pin(async move {
                match take_by_token(transaction, Purpose::NotMe, token, *now).await? {
                    Some(offer) => disown(transaction, offer, *ip, *now).await.map(Some),
                    None => Ok(None),
                }
            })
        })
        .await
    }

    async fn prune_codes(&self, now: Timestamp) -> Result<usize, RepositoryError> {
        let expired = self
            .scan(LONG_SCAN_WITHIN, now, |connection, now| {
                Box::pin(async move {
                    let limit = i64::from(PRUNED_AT_ONCE);
                    let rows = connection.query(sql::FIND_EXPIRED_OFFERS, &[&now.as_millis(), &limit]).await?;
                    rows.iter().map(|row| get(row, 0)).collect::<Result<Vec<Vec<u8>>, _>>()
                })
            })
            .await?;
        if expired.is_empty() {
            return Ok(0);
        }
        self.write((expired, now), |transaction, (expired, now)| {
            Box::pin(async move {
                Ok(transaction.query(sql::DELETE_EXPIRED_OFFERS, &[expired, &now.as_millis()]).await?.len())
            })
        })
        .await
    }
}

async fn confirm(
    transaction: &Transaction,
    offer: &Offer,
    ip: Option<IpAddr>,
    now: Timestamp,
) -> Result<Confirmed, Failure> {
    let user_id = offer.user_id;
    delete_offer(transaction, &offer.request).await?;
    if is_taken(transaction, user_id, &offer.email_key).await? {
        return Ok(Confirmed::Taken);
    }
    transaction.changes(user_id, Change::Text);
    if offer.email == offer.current_email {
        verify_email(transaction, user_id, now).await?;
    } else {
        // Before the change: its notice goes to the former address.
        events::by_owner(transaction, EventKind::EmailChanged, user_id, ip, "", now).await?;
        set_email(transaction, user_id, &offer.email, true, now).await?;
    }
    events::by_owner(transaction, EventKind::EmailVerified, user_id, ip, "", now).await?;
    Ok(Confirmed::Done(Box::new(find_user(transaction, user_id).await?)))
}

async fn find_recipient(
    connection: &Connection,
    statement: &str,
    key: &(dyn ToSql + Sync),
    ip: Option<IpAddr>,
) -> Result<Option<Recipient>, Failure> {
    let Some(row) = connection.query_opt(statement, &[key]).await? else { return Ok(None) };
    // One that had a key when it was stored, and would not be taken by now, is none.
    let Ok(email) = EmailAddress::parse(get(&row, "email")?) else { return Ok(None) };
    let user_id = UserId(get(&row, "user_id")?);
    let is_familiar = match ip {
        Some(ip) => events::is_familiar(connection, user_id, ip).await?,
        None => false,
    };
    Ok(Some(Recipient {
        user_id,
        username: read_username(&row, "username")?,
        email,
        is_verified: get(&row, "email_verified")?,
        is_active: get(&row, "is_active")?,
        is_familiar,
    }))
}

async fn store_offer(
    transaction: &Transaction,
    offer: &NewOffer,
    ip: Option<IpAddr>,
    now: Timestamp,
) -> Result<bool, Failure> {
    lock_user(transaction, offer.user_id).await?;
    let Some(email) = find_email(transaction, offer.user_id).await? else { return Ok(false) };
    if email.key.as_deref() != Some(&*offer.email_key) {
        return Ok(false);
    }
    let purpose = offer.purpose;
    transaction.query(sql::DELETE_OFFER_FOR, &[&offer.user_id.0, &purpose.name(), &offer.is_familiar]).await?;
    let (request, token, mac): (&[u8], &[u8], &[u8]) =
        (offer.request.as_bytes(), offer.token.as_bytes(), offer.mac.as_bytes());
    let parameters: [&(dyn ToSql + Sync); 13] = [
        &request,
        &purpose.name(),
        &offer.user_id.0,
        &offer.is_familiar,
        &email.text,
        &offer.email_key,
        &None::<&str>,
        &"",
        &token,
        &mac,
        &now.as_millis(),
        &now.plus(CODE_LIFETIME).as_millis(),
        &now.plus(purpose.lifetime()).as_millis(),
    ];
    transaction.execute(sql::INSERT_OFFER, &parameters).await?;
    // Whoever has registered with somebody else's address must not learn from its own events that the address is free.
    if purpose == Purpose::ResetPassword && email.is_verified {
        // Nobody has shown who asks.
        events::insert(transaction, EventKind::ResetRequested, offer.user_id, Some(""), ip, "", now).await?;
    }
    Ok(true)
}

async fn reset_password(
    transaction: &Transaction,
    offer: Offer,
    new_hash: &PasswordHash,
    ip: Option<IpAddr>,
    now: Timestamp,
) -> Result<Username, Failure> {
    let user_id = offer.user_id;
    transaction.changes(user_id, Change::Sessions);
    delete_all_offers(transaction, user_id).await?;
    transaction.execute(sql::SET_PASSWORD, &[&user_id.0, &new_hash.as_stored()]).await?;
    transaction.execute(sql::DELETE_ALL_TOKENS, &[&user_id.0]).await?;
    if let Verification::Now = verify_email(transaction, user_id, now).await? {
        events::by_owner(transaction, EventKind::EmailVerified, user_id, ip, "", now).await?;
    }
    if !offer.is_verified {
        forget_ways_in(transaction, user_id, ip, now).await?;
    }
    transaction.execute(sql::RESET_FAILURES_BY_ONE_FACTOR, &[&user_id.0]).await?;
    // After the verification, so that the notice has an address.
    events::by_owner(transaction, EventKind::PasswordReset, user_id, ip, "", now).await?;
    Ok(offer.username)
}

/// Uses up what a mail offers for a login. It is the first proof of the mailbox where the address was not verified: what
/// was set up before is not trusted then.
pub(super) async fn use_sign_in_offer(
    transaction: &Transaction,
    offer: &Offer,
    ip: Option<IpAddr>,
    now: Timestamp,
) -> Result<(), Failure> {
    let user_id = offer.user_id;
    if offer.is_verified {
        return delete_offer(transaction, &offer.request).await;
    }
    // Whoever has set the account up may have given an address of somebody else, who is here for the first time.
    transaction.changes(user_id, Change::Sessions);
    delete_all_offers(transaction, user_id).await?;
    transaction.execute(sql::SET_PASSWORD, &[&user_id.0, &PasswordHash::none().as_stored()]).await?;
    if transaction.execute(sql::DELETE_ALL_TOKENS, &[&user_id.0]).await? > 0 {
        events::by_owner(transaction, EventKind::AllSessionsRevoked, user_id, ip, "", now).await?;
    }
    if let Verification::Now = verify_email(transaction, user_id, now).await? {
        events::by_owner(transaction, EventKind::EmailVerified, user_id, ip, PASSWORD_REMOVED, now).await?;
    }
    forget_ways_in(transaction, user_id, ip, now).await
}

async fn disown(
    transaction: &Transaction,
    offer: Offer,
    ip: Option<IpAddr>,
    now: Timestamp,
) -> Result<Disowned, Failure> {
    let user_id = offer.user_id;
    transaction.changes(user_id, Change::Sessions);
    let is_withdrawn = find_pending(transaction, user_id, now).await?.is_some();
    delete_all_offers(transaction, user_id).await?;
    if is_withdrawn {
        events::by_owner(transaction, EventKind::EmailChangeWithdrawn, user_id, ip, "", now).await?;
    }
    let is_restored = offer.detail == RESTORES_EMAIL && offer.email != offer.current_email;
    if is_restored {
        let is_verified = !is_taken(transaction, user_id, &offer.email_key).await?;
        set_email(transaction, user_id, &offer.email, is_verified, now).await?;
        events::by_owner(transaction, EventKind::EmailRestored, user_id, ip, "", now).await?;
    }
    if offer.detail == RESTORES_EMAIL {
        end_restorers_since(transaction, user_id, offer.created).await?;
    }
    forget_ways_in_since(transaction, user_id, offer.created, ip, now).await?;
    // Whoever it was may know the password.
    transaction.execute(sql::SET_PASSWORD, &[&user_id.0, &PasswordHash::none().as_stored()]).await?;
    let session = SessionId::parse(&offer.detail);
    match &session {
        Some(id) => drop(delete_session(transaction, user_id, id, SessionCutoffs::EVER).await?),
        None => drop(transaction.execute(sql::DELETE_ALL_TOKENS, &[&user_id.0]).await?),
    }
    let detail = session.as_ref().map(SessionId::as_str).unwrap_or_default();
    events::by_owner(transaction, EventKind::Disowned, user_id, ip, detail, now).await?;
    Ok(Disowned { username: offer.username, session, email_kept: is_withdrawn || is_restored })
}
