//! An account's address: found, set, counted as verified.

use rusqlite::{Connection, params};

use super::offers::{delete_all_offers, delete_offer, find_pending};
use super::rows::read_truth;
use super::sql;
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

pub(super) fn find_email(connection: &Connection, user_id: UserId) -> rusqlite::Result<Email> {
    connection.prepare_cached(sql::FIND_EMAIL)?.query_row([user_id.0], |row| {
        let is_verified = read_truth(row, "email_verified")?;
        Ok(Email { text: row.get("email")?, key: row.get("email_key")?, is_verified })
    })
}

/// Whether another account has verified an address.
pub(super) fn is_taken(connection: &Connection, user_id: UserId, email_key: &str) -> rusqlite::Result<bool> {
    connection.prepare_cached(sql::FIND_OTHER_WITH_EMAIL)?.exists(params![email_key, user_id.0])
}

/// Sets an account's address. Codes and links that were mailed to the former one end.
pub(super) fn set_email(
    connection: &Connection,
    user_id: UserId,
    email: &str,
    is_verified: bool,
    now: Timestamp,
) -> rusqlite::Result<()> {
    delete_all_offers(connection, user_id)?;
    let mut set = connection.prepare_cached(sql::SET_EMAIL)?;
    set.execute(params![user_id.0, email, key_of(email), is_verified, now.as_millis()])?;
    Ok(())
}

/// The outcome of counting the address that an account has as verified.
pub(super) enum Verification {
    Now,
    Before,
    NoAddress,
    Taken,
}

/// Counts the address that an account has as verified, unless another account has verified it.
pub(super) fn verify_email(connection: &Connection, user_id: UserId, now: Timestamp) -> rusqlite::Result<Verification> {
    let email = find_email(connection, user_id)?;
    let Some(key) = email.key else { return Ok(Verification::NoAddress) };
    if email.is_verified {
        return Ok(Verification::Before);
    }
    if is_taken(connection, user_id, &key)? {
        return Ok(Verification::Taken);
    }
    connection.prepare_cached(sql::SET_EMAIL_VERIFIED)?.execute([user_id.0])?;
    // What it waits for has happened.
    if let Some(pending) = find_pending(connection, user_id, now)?.filter(|pending| pending.email == email.text) {
        delete_offer(connection, &pending.request)?;
    }
    Ok(Verification::Now)
}
