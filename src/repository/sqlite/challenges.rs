//! [`Challenges`] in SQLite.

use async_trait::async_trait;
use rusqlite::{OptionalExtension as _, params};

use super::lookup::require_session;
use super::pending::insert_challenge;
use super::rows::{read_credentials, read_username};
use super::ways_in::find_totp_secret;
use super::{SqliteRepository, sql};
use crate::domain::challenge::{ChallengePurpose, MAX_FACTOR_TRIES, NewChallenge};
use crate::domain::session::Caller;
use crate::domain::token::TokenDigest;
use crate::domain::user::{UserId, Username};
use crate::repository::{Challenges, PendingSignIn, RepositoryError, TakenChallenge};
use crate::system::clock::Timestamp;

/// How many challenges are pruned in one transaction, so that no other write waits long.
const PRUNED_AT_ONCE: u32 = 500;

#[async_trait]
impl Challenges for SqliteRepository {
    async fn store_challenge(
        &self,
        caller: Option<&Caller>,
        challenge: NewChallenge,
        now: Timestamp,
    ) -> Result<(), RepositoryError> {
        let caller = caller.copied();
        self.write(move |connection| {
            let user_id = match &caller {
                Some(caller) => Some(require_session(connection, caller)?.user_id),
                None => None,
            };
            Ok(insert_challenge(connection, user_id, &challenge, now)?)
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
        let caller = caller.copied();
        self.write(move |connection| {
            let user_id = match &caller {
                Some(caller) => Some(require_session(connection, caller)?.user_id),
                None => None,
            };
            let mut take = connection.prepare_cached(sql::TAKE_CHALLENGE)?;
            let taken = take.query_row(
                params![digest.as_bytes(), purpose.name(), user_id.map(|id| id.0), now.as_millis()],
                |row| Ok(TakenChallenge { user_id: row.get::<_, Option<i64>>(0)?.map(UserId), state: row.get(1)? }),
            );
            Ok(taken.optional()?)
        })
        .await
    }

    async fn find_factor_owner(
        &self,
        digest: TokenDigest,
        now: Timestamp,
    ) -> Result<Option<Username>, RepositoryError> {
        self.read(move |connection| {
            let mut find = connection.prepare_cached(sql::FIND_FACTOR_OWNER)?;
            let purpose = ChallengePurpose::SecondFactor.name();
            let parameters = params![digest.as_bytes(), purpose, now.as_millis(), MAX_FACTOR_TRIES];
            Ok(find.query_row(parameters, |row| read_username(row, "username")).optional()?)
        })
        .await
    }

    async fn begin_factor_try(
        &self,
        digest: TokenDigest,
        now: Timestamp,
    ) -> Result<Option<PendingSignIn>, RepositoryError> {
        self.write(move |connection| {
            let mut count = connection.prepare_cached(sql::COUNT_FACTOR_TRY)?;
            let purpose = ChallengePurpose::SecondFactor.name();
            let found = count
                .query_row(params![digest.as_bytes(), purpose, now.as_millis(), MAX_FACTOR_TRIES], |row| {
                    Ok((UserId(row.get(0)?), row.get(1)?))
                })
                .optional()?;
            let Some((user_id, state)) = found else { return Ok(None) };
            let mut find = connection.prepare_cached(sql::FIND_OWN_CREDENTIALS)?;
            let credentials = find.query_row([user_id.0], read_credentials)?;
            Ok(Some(PendingSignIn {
                user_id,
                username: credentials.username,
                totp_secret: find_totp_secret(connection, user_id)?,
                state,
            }))
        })
        .await
    }

    async fn prune_challenges(&self, now: Timestamp) -> Result<usize, RepositoryError> {
        let expired: Vec<[u8; 32]> = self
            .scan(None, move |connection| {
                let mut find = connection.prepare_cached(sql::FIND_EXPIRED_CHALLENGES)?;
                Ok(find
                    .query_map(params![now.as_millis(), PRUNED_AT_ONCE], |row| row.get(0))?
                    .collect::<Result<_, _>>()?)
            })
            .await?;
        if expired.is_empty() {
            return Ok(0);
        }
        self.write(move |connection| {
            let mut delete = connection.prepare_cached(sql::DELETE_EXPIRED_CHALLENGE)?;
            let mut deleted = 0;
            for digest in expired {
                deleted += delete.execute(params![digest, now.as_millis()])?;
            }
            Ok(deleted)
        })
        .await
    }
}
