//! Rows of challenges: inserted, found and ended by the transactions of several traits.

use tokio_postgres::types::ToSql;

use super::error::Failure;
use super::pool::Connection;
use super::rows::get;
use super::sql;
use super::transaction::Transaction;
use crate::domain::challenge::{ChallengePurpose, NewChallenge};
use crate::domain::token::TokenDigest;
use crate::domain::user::UserId;
use crate::repository::IdTokenUse;
use crate::system::clock::Timestamp;

/// Stores a challenge. Where its account, which is locked, has as many of the purpose as it may have, the oldest end.
pub(super) async fn insert_challenge(
    transaction: &Transaction,
    user_id: Option<UserId>,
    challenge: &NewChallenge,
    now: Timestamp,
) -> Result<(), Failure> {
    let purpose = challenge.purpose.name();
    if let Some(user_id) = user_id {
        let others = i64::from(challenge.purpose.most_of_an_account() - 1);
        transaction.execute(sql::EVICT_CHALLENGES, &[&user_id.0, &purpose, &others]).await?;
    }
    let digest: &[u8] = challenge.digest.as_bytes();
    let parameters: [&(dyn ToSql + Sync); 6] = [
        &digest,
        &purpose,
        &user_id.map(|id| id.0),
        &challenge.state,
        &now.as_millis(),
        &challenge.expires.as_millis(),
    ];
    transaction.execute(sql::INSERT_CHALLENGE, &parameters).await?;
    Ok(())
}

/// Whether an ID token was used before.
pub(super) async fn is_id_token_used(connection: &Connection, token: &IdTokenUse) -> Result<bool, Failure> {
    let digest: &[u8] = token.digest.as_bytes();
    Ok(connection.query_opt(sql::FIND_CHALLENGE, &[&digest]).await?.is_some())
}

/// Notes that an ID token was used; `false` where it was before. Where another uses it at the same time, the primary key
/// has one of the two transactions run again: nothing that it has done before stays.
pub(super) async fn use_id_token(
    transaction: &Transaction,
    token: &IdTokenUse,
    now: Timestamp,
) -> Result<bool, Failure> {
    if is_id_token_used(transaction, token).await? {
        return Ok(false);
    }
    let (digest, purpose): (&[u8], _) = (token.digest.as_bytes(), ChallengePurpose::UsedIdToken.name());
    let used: [&(dyn ToSql + Sync); 4] = [&digest, &purpose, &now.as_millis(), &token.expires.as_millis()];
    transaction.execute(sql::INSERT_USED_ID_TOKEN, &used).await?;
    Ok(true)
}

/// The account of a login that lacks its second factor, which is locked.
pub(super) async fn take_pending_sign_in(
    transaction: &Transaction,
    digest: &TokenDigest,
    now: Timestamp,
) -> Result<Option<UserId>, Failure> {
    let (digest, purpose): (&[u8], _) = (digest.as_bytes(), ChallengePurpose::SecondFactor.name());
    let finding: [&(dyn ToSql + Sync); 3] = [&digest, &purpose, &now.as_millis()];
    let statements = [(sql::LOCK_CHALLENGE_USER, &finding[..1]), (sql::FIND_PENDING_SIGN_IN, &finding)];
    let [_, found] = transaction.query_in_order(statements).await?;
    let Some(row) = found.first() else { return Ok(None) };
    Ok(get::<bool>(row, "is_active")?.then_some(UserId(get(row, "user_id")?)))
}

pub(super) async fn delete_challenge(transaction: &Transaction, digest: &TokenDigest) -> Result<(), Failure> {
    let digest: &[u8] = digest.as_bytes();
    transaction.execute(sql::DELETE_CHALLENGE, &[&digest]).await?;
    Ok(())
}

/// Ends everything that an account has begun and not finished.
pub(super) async fn delete_challenges_of(transaction: &Transaction, user_id: UserId) -> Result<(), Failure> {
    transaction.execute(sql::DELETE_CHALLENGES_OF, &[&user_id.0]).await?;
    Ok(())
}
