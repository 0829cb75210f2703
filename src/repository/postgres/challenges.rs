//! [`Challenges`] in PostgreSQL.

use async_trait::async_trait;
use tokio_postgres::types::ToSql;

use super::lookup::{find_own_credentials, lock_session, require_session};
use super::pending::insert_challenge;
use super::rows::{get, read_username};
use super::ways_in::find_totp_secret;
use super::{LONG_SCAN_WITHIN, PostgresRepository, sql};
use crate::domain::challenge::{ChallengePurpose, MAX_FACTOR_TRIES, NewChallenge};
use crate::domain::session::Caller;
use crate::domain::token::TokenDigest;
use crate::domain::user::{UserId, Username};
use crate::repository::{Challenges, PendingSignIn, RepositoryError, TakenChallenge};
use crate::system::clock::Timestamp;

/// How many challenges are pruned in one transaction, so that no other write waits long.
const PRUNED_AT_ONCE: u32 = 500;

#[async_trait]
impl Challenges for PostgresRepository {
    async fn store_challenge(
        &self,
        caller: Option<&Caller>,
        challenge: NewChallenge,
        now: Timestamp,
    ) -> Result<(), RepositoryError> {
        self.write((caller.copied(), challenge, now), |transaction, (caller, challenge, now)| {
            Box::pin(async move {
                let user_id = match caller {
                    Some(caller) => Some(lock_session(transaction, caller).await?.user_id),
                    None => None,
                };
                insert_challenge(transaction, user_id, challenge, *now).await
            })
        })
        .await
    }

    async fn take_challenge(
        &self,
        caller: Option<&Caller>,
        purpose: ChallengePurpose,
        digest: TokenDigest,
        now: Timestamp,
    ) -> Result<Option<TakenChallenge>, RepositoryError> {
        self.write((caller.copied(), purpose, digest, now), |transaction, (caller, purpose, digest, now)| {
            Box::pin(async move {
                let user_id = match caller {
                    Some(caller) => Some(require_session(transaction, caller).await?.user_id.0),
                    None => None,
                };
                let digest: &[u8] = digest.as_bytes();
                let parameters: [&(dyn ToSql + Sync); 4] = [&digest, &purpose.name(), &user_id, &now.as_millis()];
                let Some(row) = transaction.query_opt(sql::TAKE_CHALLENGE, &parameters).await? else {
                    return Ok(None);
                };
                let user_id = get::<Option<i64>>(&row, 0)?.map(UserId);
                Ok(Some(TakenChallenge { user_id, state: get(&row, 1)? }))
            })
        })
        .await
    }

    async fn find_factor_owner(
        &self,
        digest: TokenDigest,
        now: Timestamp,
    ) -> Result<Option<Username>, RepositoryError> {
        self.read((digest, now), |connection, (digest, now)| {
            Box::pin(async move {
                let (digest, purpose): (&[u8], _) = (digest.as_bytes(), ChallengePurpose::SecondFactor.name());
                let most = i64::from(MAX_FACTOR_TRIES);
                let parameters: [&(dyn ToSql + Sync); 4] = [&digest, &purpose, &now.as_millis(), &most];
                let row = connection.query_opt(sql::FIND_FACTOR_OWNER, &parameters).await?;
                row.as_ref().map(|row| read_username(row, "username")).transpose()
            })
        })
        .await
    }

    async fn begin_factor_try(
        &self,
        digest: TokenDigest,
        now: Timestamp,
    ) -> Result<Option<PendingSignIn>, RepositoryError> {
        self.write((digest, now), |transaction, (digest, now)| {
            Box::pin(async move {
                let (digest, purpose): (&[u8], _) = (digest.as_bytes(), ChallengePurpose::SecondFactor.name());
                let most = i64::from(MAX_FACTOR_TRIES);
                let parameters: [&(dyn ToSql + Sync); 4] = [&digest, &purpose, &now.as_millis(), &most];
                // Its row is locked from here on: so its account stays, which is read behind it.
                let Some(row) = transaction.query_opt(sql::COUNT_FACTOR_TRY, &parameters).await? else {
                    return Ok(None);
                };
                let user_id = UserId(get(&row, 0)?);
                let credentials = find_own_credentials(transaction, user_id).await?;
                Ok(Some(PendingSignIn {
                    user_id,
                    username: credentials.username,
                    totp_secret: find_totp_secret(transaction, user_id).await?,
                    state: get(&row, 1)?,
                }))
            })
        })
        .await
    }

    async fn prune_challenges(&self, now: Timestamp) -> Result<usize, RepositoryError> {
        let expired = self
            .scan(LONG_SCAN_WITHIN, now, |connection, now| {
                Box::pin(async move {
                    let limit = i64::from(PRUNED_AT_ONCE);
                    let rows = connection.query(sql::FIND_EXPIRED_CHALLENGES, &[&now.as_millis(), &limit]).await?;
                    rows.iter().map(|row| get(row, 0)).collect::<Result<Vec<Vec<u8>>, _>>()
                })
            })
            .await?;
        if expired.is_empty() {
            return Ok(0);
        }
        self.write((expired, now), |transaction, (expired, now)| {
            Box::pin(async move {
                Ok(transaction.query(sql::DELETE_EXPIRED_CHALLENGES, &[expired, &now.as_millis()]).await?.len())
            })
        })
        .await
    }
}
