//! Rows of challenges: inserted, found and ended by the transactions of several traits.

use rusqlite::{Connection, OptionalExtension as _, params};

use super::rows::read_truth;
use super::sql;
use crate::domain::challenge::{ChallengePurpose, NewChallenge};
use crate::domain::token::TokenDigest;
use crate::domain::user::UserId;
use crate::repository::IdTokenUse;
use crate::system::clock::Timestamp;

/// Stores a challenge. Where its account has as many of the purpose as it may have, the oldest end.
pub(super) fn insert_challenge(
    connection: &Connection,
    user_id: Option<UserId>,
    challenge: &NewChallenge,
    now: Timestamp,
) -> rusqlite::Result<()> {
    if let Some(user_id) = user_id {
        let mut evict = connection.prepare_cached(sql::EVICT_CHALLENGES)?;
        evict.execute(params![user_id.0, challenge.purpose.name(), challenge.purpose.most_of_an_account() - 1])?;
    }
    connection.prepare_cached(sql::INSERT_CHALLENGE)?.execute(params![
        challenge.digest.as_bytes(),
        challenge.purpose.name(),
        user_id.map(|id| id.0),
        challenge.state,
        now.as_millis(),
        challenge.expires.as_millis(),
    ])?;
    Ok(())
}

/// Notes that an ID token was used; `false` where it was before.
pub(super) fn use_id_token(connection: &Connection, token: &IdTokenUse, now: Timestamp) -> rusqlite::Result<bool> {
    let mut insert = connection.prepare_cached(sql::INSERT_USED_ID_TOKEN)?;
    let purpose = ChallengePurpose::UsedIdToken.name();
    let used = params![token.digest.as_bytes(), purpose, now.as_millis(), token.expires.as_millis()];
    Ok(insert.execute(used)? > 0)
}

/// Whether an ID token was used before.
pub(super) fn is_id_token_used(connection: &Connection, token: &IdTokenUse) -> rusqlite::Result<bool> {
    connection.prepare_cached(sql::FIND_CHALLENGE)?.exists([token.digest.as_bytes()])
}

/// The account of a login that lacks its second factor.
pub(super) fn find_pending_sign_in(
    connection: &Connection,
    digest: &TokenDigest,
    now: Timestamp,
) -> rusqlite::Result<Option<UserId>> {
    let mut find = connection.prepare_cached(sql::FIND_PENDING_SIGN_IN)?;
    let purpose = ChallengePurpose::SecondFactor.name();
    let found = find.query_row(params![digest.as_bytes(), purpose, now.as_millis()], |row| {
        Ok(read_truth(row, "is_active")?.then_some(UserId(row.get("user_id")?)))
    });
    Ok(found.optional()?.flatten())
}

pub(super) fn delete_challenge(connection: &Connection, digest: &TokenDigest) -> rusqlite::Result<()> {
    connection.prepare_cached(sql::DELETE_CHALLENGE)?.execute([digest.as_bytes()])?;
    Ok(())
}

/// Ends everything that an account has begun and not finished.
pub(super) fn delete_challenges_of(connection: &Connection, user_id: UserId) -> rusqlite::Result<()> {
    connection.prepare_cached(sql::DELETE_CHALLENGES_OF)?.execute([user_id.0])?;
    Ok(())
}
