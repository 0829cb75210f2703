//! [`Factors`] in PostgreSQL.

use async_trait::async_trait;

use super::{PostgresRepository, not_built};
use crate::domain::rights::Actor;
use crate::domain::session::Caller;
use crate::domain::token::TokenDigest;
use crate::domain::user::{UserId, Username};
use crate::repository::{
    FactorChange, Factors, RepositoryError, SealedSecrets, SecondFactor, SecurityState, StoredTotp, TotpUse,
};
use crate::system::clock::Timestamp;

#[async_trait]
impl Factors for PostgresRepository {
    async fn find_security(&self, _caller: &Caller, _now: Timestamp) -> Result<SecurityState, RepositoryError> {
        Err(not_built())
    }

    async fn begin_totp(
        &self,
        _caller: &Caller,
        _secret: Vec<u8>,
        _now: Timestamp,
    ) -> Result<FactorChange, RepositoryError> {
        Err(not_built())
    }

    async fn find_own_totp(&self, _caller: &Caller) -> Result<Option<StoredTotp>, RepositoryError> {
        Err(not_built())
    }

    async fn find_totp_secret(&self, _user_id: UserId) -> Result<Option<Vec<u8>>, RepositoryError> {
        Err(not_built())
    }

    async fn confirm_totp(
        &self,
        _caller: &Caller,
        _code: TotpUse,
        _recovery_codes: Vec<TokenDigest>,
        _now: Timestamp,
    ) -> Result<FactorChange, RepositoryError> {
        Err(not_built())
    }

    async fn remove_totp(
        &self,
        _caller: &Caller,
        _second: SecondFactor,
        _now: Timestamp,
    ) -> Result<FactorChange, RepositoryError> {
        Err(not_built())
    }

    async fn replace_recovery_codes(
        &self,
        _caller: &Caller,
        _second: SecondFactor,
        _recovery_codes: Vec<TokenDigest>,
        _now: Timestamp,
    ) -> Result<FactorChange, RepositoryError> {
        Err(not_built())
    }

    async fn reset_factors(
        &self,
        _actor: &Actor,
        _username: &Username,
        _now: Timestamp,
    ) -> Result<bool, RepositoryError> {
        Err(not_built())
    }

    async fn count_sealed(&self, _key_id: Vec<u8>) -> Result<(SealedSecrets, SealedSecrets), RepositoryError> {
        Err(not_built())
    }

    async fn forget_sealed(&self, _key_id: Vec<u8>, _now: Timestamp) -> Result<SealedSecrets, RepositoryError> {
        Err(not_built())
    }
}
