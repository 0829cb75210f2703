//! [`Challenges`] in PostgreSQL.

use async_trait::async_trait;

use super::{PostgresRepository, not_built};
use crate::domain::challenge::{ChallengePurpose, NewChallenge};
use crate::domain::session::Caller;
use crate::domain::token::TokenDigest;
use crate::repository::{Challenges, PendingSignIn, RepositoryError, TakenChallenge};
use crate::system::clock::Timestamp;

#[async_trait]
impl Challenges for PostgresRepository {
    async fn store_challenge(
        &self,
        _caller: Option<&Caller>,
        _challenge: NewChallenge,
        _now: Timestamp,
    ) -> Result<(), RepositoryError> {
        Err(not_built())
    }

    async fn take_challenge(
        &self,
        _caller: Option<&Caller>,
        _purpose: ChallengePurpose,
        _digest: TokenDigest,
        _now: Timestamp,
    ) -> Result<Option<TakenChallenge>, RepositoryError> {
        Err(not_built())
    }

    async fn begin_factor_try(
        &self,
        _digest: TokenDigest,
        _now: Timestamp,
    ) -> Result<Option<PendingSignIn>, RepositoryError> {
        Err(not_built())
    }

    async fn prune_challenges(&self, _now: Timestamp) -> Result<usize, RepositoryError> {
        Err(not_built())
    }
}
