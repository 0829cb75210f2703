//! Offers: rows of codes and links, found by what somebody presents, tried, and ended.

use rusqlite::{Connection, OptionalExtension as _, Row, ToSql, params};

use super::pending::delete_challenges_of;
use super::rows::{read_time, read_truth, read_username};
use super::sql;
use super::transaction::Transaction;
use crate::domain::one_time::{CodeMac, MAX_TRIES, Presented, Purpose};
use crate::domain::token::TokenDigest;
use crate::domain::user::{UserId, Username};
use crate::system::clock::Timestamp;

/// How many links that disown something an account has at most.
const MAX_DISOWNERS: u32 = 20;

/// What a mail offers, and its account.
pub(super) struct Offer {
    pub(super) request: [u8; 32],
    pub(super) user_id: UserId,
    pub(super) username: Username,
    /// The address to confirm, the one that it was mailed to, or the one to restore.
    pub(super) email: String,
    pub(super) email_key: String,
    pub(super) detail: String,
    pub(super) mac: Option<CodeMac>,
    pub(super) tries: u32,
    pub(super) created: Timestamp,
    pub(super) code_expires: Timestamp,
    pub(super) expires: Timestamp,
    /// The address that the account has now.
    pub(super) current_email: String,
    pub(super) is_verified: bool,
}

pub(super) fn read_offer(row: &Row<'_>) -> rusqlite::Result<Offer> {
    Ok(Offer {
        request: row.get("request")?,
        user_id: UserId(row.get("user_id")?),
        username: read_username(row, "username")?,
        email: row.get("email")?,
        email_key: row.get("email_key")?,
        detail: row.get("detail")?,
        mac: row.get::<_, Option<_>>("mac")?.map(CodeMac::from_bytes),
        tries: row.get("tries")?,
        created: read_time(row, "created")?,
        code_expires: read_time(row, "code_expires")?,
        expires: read_time(row, "expires")?,
        current_email: row.get("current_email")?,
        is_verified: read_truth(row, "email_verified")?,
    })
}

/// What was found for what somebody presents.
pub(super) enum Found {
    Right(Offer),
    /// A wrong code, which was counted.
    Wrong {
        username: Username,
        is_verified: bool,
    },
    Nothing,
}

pub(super) fn find(
    connection: &Connection,
    statement: &str,
    purpose: Purpose,
    key: &dyn ToSql,
    now: Timestamp,
) -> rusqlite::Result<Option<Offer>> {
    let mut find = connection.prepare_cached(statement)?;
    find.query_row(params![now.as_millis(), purpose.name(), key], read_offer).optional()
}

pub(super) fn find_by_token(
    connection: &Connection,
    purpose: Purpose,
    token: &TokenDigest,
    now: Timestamp,
) -> rusqlite::Result<Option<Offer>> {
    find(connection, sql::FIND_OFFER_BY_TOKEN, purpose, token.as_bytes(), now)
}

/// The account's address that waits for its confirmation.
pub(super) fn find_pending(
    connection: &Connection,
    user_id: UserId,
    now: Timestamp,
) -> rusqlite::Result<Option<Offer>> {
    find(connection, sql::FIND_OWN_OFFER, Purpose::ConfirmEmail, &user_id.0, now)
}

/// The offer of a request, which must be of this account where one is given.
pub(super) fn find_by_code(
    connection: &Transaction<'_>,
    purpose: Purpose,
    request: &TokenDigest,
    mac: &CodeMac,
    of: Option<UserId>,
    now: Timestamp,
) -> rusqlite::Result<Found> {
    let offer = find(connection, sql::FIND_OFFER, purpose, request.as_bytes(), now)?;
    let found = match offer.filter(|offer| of.is_none_or(|user_id| offer.user_id == user_id)) {
        Some(offer) => try_code(connection, offer, mac, now)?,
        None => Found::Nothing,
    };
    if matches!(found, Found::Nothing) {
        // A wrong code is counted, and whoever presented it is answered after the disk has synced that. Without a write
        // the answer would come sooner, and tell that there is no such request: no account has the address for which
        // it was made. The row is gone before the COMMIT, which writes its pages all the same.
        connection.prepare_cached(sql::INSERT_EQUAL_WORK)?.execute([])?;
        connection.prepare_cached(sql::DELETE_EQUAL_WORK)?.execute([])?;
    }
    Ok(found)
}

pub(super) fn find_presented(
    connection: &Transaction<'_>,
    purpose: Purpose,
    presented: &Presented,
    now: Timestamp,
) -> rusqlite::Result<Found> {
    match presented {
        // Nobody has a link by guessing: the time in which one is refused tells nothing.
        Presented::Link(token) => {
            Ok(find_by_token(connection, purpose, token, now)?.map_or(Found::Nothing, Found::Right))
        }
        Presented::Code(request, mac) => find_by_code(connection, purpose, request, mac, None, now),
    }
}

/// Compares a code with that of an offer, and counts a wrong one.
pub(super) fn try_code(
    connection: &Connection,
    offer: Offer,
    mac: &CodeMac,
    now: Timestamp,
) -> rusqlite::Result<Found> {
    match offer.mac {
        Some(right) if now < offer.code_expires => {
            if right == *mac {
                return Ok(Found::Right(offer));
            }
            if offer.tries + 1 >= MAX_TRIES {
                delete_offer(connection, &offer.request)?;
            } else {
                connection.prepare_cached(sql::COUNT_TRY)?.execute([offer.request])?;
            }
            Ok(Found::Wrong { username: offer.username, is_verified: offer.is_verified })
        }
        _ => Ok(Found::Nothing),
    }
}

/// Ends an offer, and its mail where that still waits.
pub(super) fn delete_offer(connection: &Connection, request: &[u8; 32]) -> rusqlite::Result<()> {
    connection.prepare_cached(sql::DELETE_MAIL_OF_OFFER)?.execute([request])?;
    connection.prepare_cached(sql::DELETE_OFFER)?.execute([request])?;
    Ok(())
}

/// Ends every code and link of an account, their mails where these still wait, and its challenges; but not those that
/// restore a former address. Whoever has stolen an account and changed its address has the mailbox for a reset, and must
/// not be able to end by it what its owner was mailed.
pub(super) fn delete_all_offers(connection: &Connection, user_id: UserId) -> rusqlite::Result<()> {
    connection.prepare_cached(sql::DELETE_MAILS_OF_OFFERS)?.execute([user_id.0])?;
    connection.prepare_cached(sql::DELETE_OFFERS_OF)?.execute([user_id.0])?;
    delete_challenges_of(connection, user_id)
}

/// Ends what restores an address that the account had then or later, and the mails that would bring it: a thief's later
/// change restores nothing once the owner's address is back.
pub(super) fn end_restorers_since(connection: &Connection, user_id: UserId, since: Timestamp) -> rusqlite::Result<()> {
    let parameters = params![user_id.0, since.as_millis()];
    connection.prepare_cached(sql::DELETE_RESTORERS_SINCE)?.execute(parameters)?;
    connection.prepare_cached(sql::DELETE_RESTORING_MAILS_SINCE)?.execute(parameters)?;
    Ok(())
}

/// Ends what opens the account without its password, and logins that lack their second factor.
pub(super) fn delete_opening_offers(connection: &Connection, user_id: UserId) -> rusqlite::Result<()> {
    connection.prepare_cached(sql::DELETE_OPENING_OFFERS)?.execute([user_id.0])?;
    delete_challenges_of(connection, user_id)
}

/// Ends a change of the address that waits for its confirmation: somebody else may have begun it, and it would outlive
/// that one's session. So may what else was begun. The confirmation of the address that the account has stays.
pub(super) fn delete_pending_change(connection: &Connection, user_id: UserId) -> rusqlite::Result<()> {
    connection.prepare_cached(sql::DELETE_MAIL_OF_PENDING_CHANGE)?.execute([user_id.0])?;
    connection.prepare_cached(sql::DELETE_PENDING_CHANGE)?.execute([user_id.0])?;
    delete_challenges_of(connection, user_id)
}

/// Bounds the links that disown something: the oldest go first.
pub(super) fn keep_newest_disowners(connection: &Connection, user_id: UserId) -> rusqlite::Result<()> {
    connection.prepare_cached(sql::DELETE_OLDEST_DISOWNERS)?.execute([user_id.0, MAX_DISOWNERS.into()])?;
    Ok(())
}
