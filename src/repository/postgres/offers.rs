//! Offers: rows of codes and links, found by what somebody presents, tried, and ended.
//!
//! Whoever changes an offer has locked its account's row before, and read the offer behind that: so of two that present
//! one at once, the second finds what the first has left.

use rand::RngExt as _;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::error::Failure;
use super::pool::Connection;
use super::rows::{get, invalid, read_time, read_username};
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

fn read_offer(row: &Row) -> Result<Offer, Failure> {
    let mac: Option<&[u8]> = get(row, "mac")?;
    Ok(Offer {
        request: get::<&[u8]>(row, "request")?.try_into().map_err(invalid)?,
        user_id: UserId(get(row, "user_id")?),
        username: read_username(row, "username")?,
        email: get(row, "email")?,
        email_key: get(row, "email_key")?,
        detail: get(row, "detail")?,
        mac: mac.map(<[u8; 32]>::try_from).transpose().map_err(invalid)?.map(CodeMac::from_bytes),
        tries: get::<i64>(row, "tries")?.try_into().map_err(invalid)?,
        created: read_time(row, "created")?,
        code_expires: read_time(row, "code_expires")?,
        expires: read_time(row, "expires")?,
        current_email: get(row, "current_email")?,
        is_verified: get(row, "email_verified")?,
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

pub(super) async fn find(
    connection: &Connection,
    statement: &str,
    purpose: Purpose,
    key: &(dyn ToSql + Sync),
    now: Timestamp,
) -> Result<Option<Offer>, Failure> {
    let row = connection.query_opt(statement, &[&now.as_millis(), &purpose.name(), key]).await?;
    row.as_ref().map(read_offer).transpose()
}

/// Locks the account of an offer, and reads the offer behind that.
async fn find_locked(
    transaction: &Transaction,
    [lock, find]: [&str; 2],
    purpose: Purpose,
    key: &[u8],
    now: Timestamp,
) -> Result<Option<Offer>, Failure> {
    let parameters: [&(dyn ToSql + Sync); 3] = [&now.as_millis(), &purpose.name(), &key];
    let [_, found] = transaction.query_in_order([(lock, &[&key]), (find, &parameters)]).await?;
    found.first().map(read_offer).transpose()
}

/// For a read.
pub(super) async fn find_by_token(
    connection: &Connection,
    purpose: Purpose,
    token: &TokenDigest,
    now: Timestamp,
) -> Result<Option<Offer>, Failure> {
    let token: &[u8] = token.as_bytes();
    find(connection, sql::FIND_OFFER_BY_TOKEN, purpose, &token, now).await
}

/// For a change: the account is locked.
pub(super) async fn take_by_token(
    transaction: &Transaction,
    purpose: Purpose,
    token: &TokenDigest,
    now: Timestamp,
) -> Result<Option<Offer>, Failure> {
    let statements = [sql::LOCK_OFFER_USER_BY_TOKEN, sql::FIND_OFFER_BY_TOKEN];
    find_locked(transaction, statements, purpose, token.as_bytes(), now).await
}

/// The account's address that waits for its confirmation.
pub(super) async fn find_pending(
    connection: &Connection,
    user_id: UserId,
    now: Timestamp,
) -> Result<Option<Offer>, Failure> {
    find(connection, sql::FIND_OWN_OFFER, Purpose::ConfirmEmail, &user_id.0, now).await
}

/// The offer of a request, which must be of this account, which is locked, where one is given.
pub(super) async fn find_by_code(
    transaction: &Transaction,
    purpose: Purpose,
    request: &TokenDigest,
    mac: &CodeMac,
    of: Option<UserId>,
    now: Timestamp,
) -> Result<Found, Failure> {
    let key: &[u8] = request.as_bytes();
    let offer = match of {
        None => find_locked(transaction, [sql::LOCK_OFFER_USER, sql::FIND_OFFER], purpose, key, now).await?,
        // Another's account is not locked: two that present each other's request would wait for each other.
        Some(_) => find(transaction, sql::FIND_OFFER, purpose, &key, now).await?,
    };
    let found = match offer.filter(|offer| of.is_none_or(|user_id| offer.user_id == user_id)) {
        Some(offer) => try_code(transaction, offer, mac, now).await?,
        None => Found::Nothing,
    };
    if matches!(found, Found::Nothing) {
        // A wrong code is counted, which is one more round trip and a longer COMMIT. Without the like of it the answer
        // would come sooner, and tell that there is no such request: no account has the address for which it was made.
        // The row is gone before the COMMIT, which writes it all the same. Its id is one that no mail is given, and that
        // no other transaction waits for.
        let id: i64 = rand::rng().random_range(i64::MIN..0);
        transaction.query_in_order([(sql::INSERT_EQUAL_WORK, &[&id]), (sql::DELETE_EQUAL_WORK, &[&id])]).await?;
    }
    Ok(found)
}

pub(super) async fn find_presented(
    transaction: &Transaction,
    purpose: Purpose,
    presented: &Presented,
    now: Timestamp,
) -> Result<Found, Failure> {
    match presented {
        // Nobody has a link by guessing: the time in which one is refused tells nothing.
        Presented::Link(token) => {
            Ok(take_by_token(transaction, purpose, token, now).await?.map_or(Found::Nothing, Found::Right))
        }
        Presented::Code(request, mac) => find_by_code(transaction, purpose, request, mac, None, now).await,
    }
}

/// Compares a code with that of an offer, and counts a wrong one.
pub(super) async fn try_code(
    transaction: &Transaction,
    offer: Offer,
    mac: &CodeMac,
    now: Timestamp,
) -> Result<Found, Failure> {
    match offer.mac {
        Some(right) if now < offer.code_expires => {
            if right == *mac {
                return Ok(Found::Right(offer));
            }
            if offer.tries + 1 >= MAX_TRIES {
                delete_offer(transaction, &offer.request).await?;
            } else {
                let request: &[u8] = &offer.request;
                transaction.execute(sql::COUNT_TRY, &[&request]).await?;
            }
            Ok(Found::Wrong { username: offer.username, is_verified: offer.is_verified })
        }
        _ => Ok(Found::Nothing),
    }
}

/// Ends an offer, and its mail where that still waits.
pub(super) async fn delete_offer(transaction: &Transaction, request: &[u8; 32]) -> Result<(), Failure> {
    let request: &[u8] = request;
    let parameters: [&(dyn ToSql + Sync); 1] = [&request];
    transaction.query_in_order([(sql::DELETE_MAIL_OF_OFFER, &parameters), (sql::DELETE_OFFER, &parameters)]).await?;
    Ok(())
}

/// Ends every code and link of an account, their mails where these still wait, and its challenges; but not those that
/// restore a former address. Whoever has stolen an account and changed its address has the mailbox for a reset, and must
/// not be able to end by it what its owner was mailed.
pub(super) async fn delete_all_offers(transaction: &Transaction, user_id: UserId) -> Result<(), Failure> {
    let parameters: [&(dyn ToSql + Sync); 1] = [&user_id.0];
    let statements = [
        (sql::DELETE_MAILS_OF_OFFERS, &parameters[..]),
        (sql::DELETE_OFFERS_OF, &parameters),
        (sql::DELETE_CHALLENGES_OF, &parameters),
    ];
    transaction.query_in_order(statements).await?;
    Ok(())
}

/// Ends what restores an address that the account had then or later, and the mails that would bring it: a thief's later
/// change restores nothing once the owner's address is back.
pub(super) async fn end_restorers_since(
    transaction: &Transaction,
    user_id: UserId,
    since: Timestamp,
) -> Result<(), Failure> {
    let parameters: [&(dyn ToSql + Sync); 2] = [&user_id.0, &since.as_millis()];
    let statements = [(sql::DELETE_RESTORERS_SINCE, &parameters[..]), (sql::DELETE_RESTORING_MAILS_SINCE, &parameters)];
    transaction.query_in_order(statements).await?;
    Ok(())
}

/// Ends what opens the account without its password, and logins that lack their second factor.
pub(super) async fn delete_opening_offers(transaction: &Transaction, user_id: UserId) -> Result<(), Failure> {
    let parameters: [&(dyn ToSql + Sync); 1] = [&user_id.0];
    let statements = [(sql::DELETE_OPENING_OFFERS, &parameters[..]), (sql::DELETE_CHALLENGES_OF, &parameters)];
    transaction.query_in_order(statements).await?;
    Ok(())
}

/// Ends a change of the address that waits for its confirmation: somebody else may have begun it, and it would outlive
/// that one's session. So may what else was begun. The confirmation of the address that the account has stays.
pub(super) async fn delete_pending_change(transaction: &Transaction, user_id: UserId) -> Result<(), Failure> {
    let parameters: [&(dyn ToSql + Sync); 1] = [&user_id.0];
    let statements = [
        (sql::DELETE_MAIL_OF_PENDING_CHANGE, &parameters[..]),
        (sql::DELETE_PENDING_CHANGE, &parameters),
        (sql::DELETE_CHALLENGES_OF, &parameters),
    ];
    transaction.query_in_order(statements).await?;
    Ok(())
}

/// Bounds the links that disown something: the oldest go first.
pub(super) async fn keep_newest_disowners(transaction: &Transaction, user_id: UserId) -> Result<(), Failure> {
    transaction.execute(sql::DELETE_OLDEST_DISOWNERS, &[&user_id.0, &i64::from(MAX_DISOWNERS)]).await?;
    Ok(())
}
