//! An account's address: found, set, counted as verified.

use super::error::Failure;
use super::lookup::Gone;
use super::offers::{delete_all_offers, delete_offer, find_pending};
use super::pool::Connection;
use super::rows::{get, invalid};
use super::sql;
use super::transaction::Transaction;
use crate::domain::email::key_of;
use crate::domain::user::UserId;
use crate::system::clock::Timestamp;

/// An account's address.
pub(super) struct Email {
    pub(super) text: String,
    /// `None` where mail cannot be sent to it.
    pub(super) key: Option<String>,
    pub(super) is_verified: bool,
}

/// `None` where the account is gone.
pub(super) async fn find_email(connection: &Connection, user_id: UserId) -> Result<Option<Email>, Failure> {
    let Some(row) = connection.query_opt(sql::FIND_EMAIL, &[&user_id.0]).await? else { return Ok(None) };
    let is_verified = get(&row, "email_verified")?;
    Ok(Some(Email { text: get(&row, "email")?, key: get(&row, "email_key")?, is_verified }))
}

/// The address of an account that is there.
pub(super) async fn require_email(connection: &Connection, user_id: UserId) -> Result<Email, Failure> {
    find_email(connection, user_id).await?.ok_or_else(|| invalid(Gone))
}

/// Whether another account has verified an address.
pub(super) async fn is_taken(connection: &Connection, user_id: UserId, email_key: &str) -> Result<bool, Failure> {
    Ok(connection.query_opt(sql::FIND_OTHER_WITH_EMAIL, &[&email_key, &user_id.0]).await?.is_some())
}

/// Sets an account's address. Codes and links that were mailed to the former one end.
pub(super) async fn set_email(
    transaction: &Transaction,
    user_id: UserId,
    email: &str,
    is_verified: bool,
    now: Timestamp,
) -> Result<(), Failure> {
    delete_all_offers(transaction, user_id).await?;
    let key = key_of(email);
    transaction.execute(sql::SET_EMAIL, &[&user_id.0, &email, &key, &is_verified, &now.as_millis()]).await?;
    Ok(())
}

/// The outcome of counting the address that an account has as verified.
pub(super) enum Verification {
    Now,
    Before,
    NoAddress,
    Taken,
}

/// Counts the address that an account has as verified, unless another account has verified it. Where another does so at
/// the same time, the unique index has one of the two transactions run again.
pub(super) async fn verify_email(
    transaction: &Transaction,
    user_id: UserId,
    now: Timestamp,
) -> Result<Verification, Failure> {
    let email = require_email(transaction, user_id).await?;
    let Some(key) = email.key else { return Ok(Verification::NoAddress) };
    if email.is_verified {
        return Ok(Verification::Before);
    }
    if is_taken(transaction, user_id, &key).await? {
        return Ok(Verification::Taken);
    }
    transaction.execute(sql::SET_EMAIL_VERIFIED, &[&user_id.0]).await?;
    // What it waits for has happened.
    let pending = find_pending(transaction, user_id, now).await?;
    if let Some(pending) = pending.filter(|pending| pending.email == email.text) {
        delete_offer(transaction, &pending.request).await?;
    }
    Ok(Verification::Now)
}
