//! [`Passkeys`] in PostgreSQL.

use async_trait::async_trait;

use super::{PostgresRepository, not_built};
use crate::domain::passkey::{CredentialId, PasskeyDetails, PasskeyId, PasskeyName};
use crate::domain::session::Caller;
use crate::domain::user::UserId;
use crate::repository::{NewPasskey, PasskeyAdded, PasskeyOwner, Passkeys, Removal, RepositoryError, StoredPasskey};
use crate::system::clock::Timestamp;

#[async_trait]
impl Passkeys for PostgresRepository {
    async fn list_passkeys(&self, _caller: &Caller) -> Result<Vec<PasskeyDetails>, RepositoryError> {
        Err(not_built())
    }

    async fn find_passkey_owner(&self, _caller: &Caller) -> Result<PasskeyOwner, RepositoryError> {
        Err(not_built())
    }

    async fn add_passkey(
        &self,
        _caller: &Caller,
        _passkey: NewPasskey,
        _now: Timestamp,
    ) -> Result<PasskeyAdded, RepositoryError> {
        Err(not_built())
    }

    async fn find_passkey(&self, _credential: &CredentialId) -> Result<Option<StoredPasskey>, RepositoryError> {
        Err(not_built())
    }

    async fn list_credentials(&self, _user_id: UserId) -> Result<Vec<StoredPasskey>, RepositoryError> {
        Err(not_built())
    }

    async fn rename_passkey(
        &self,
        _caller: &Caller,
        _id: PasskeyId,
        _name: PasskeyName,
    ) -> Result<Option<PasskeyDetails>, RepositoryError> {
        Err(not_built())
    }

    async fn remove_passkey(
        &self,
        _caller: &Caller,
        _id: PasskeyId,
        _now: Timestamp,
    ) -> Result<Removal, RepositoryError> {
        Err(not_built())
    }

    async fn count_passkeys_by_domain(&self) -> Result<Vec<(String, u64)>, RepositoryError> {
        Err(not_built())
    }
}
