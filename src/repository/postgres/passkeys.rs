//! [`Passkeys`] in PostgreSQL.

use async_trait::async_trait;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::error::Failure;
use super::lookup::{begin_change, find_own_credentials, is_session_fresh, require_session};
use super::pending::delete_challenges_of;
use super::pool::Connection;
use super::rows::{get, invalid, read_optional_time, read_time, read_username};
use super::schema::end_older_releases;
use super::transaction::Transaction;
use super::ways_in::has_another_way_in;
use super::{LONG_SCAN_WITHIN, PostgresRepository, events, sql};
use crate::domain::event::EventKind;
use crate::domain::passkey::{CredentialId, MAX_PASSKEYS, PasskeyDetails, PasskeyId, PasskeyName};
use crate::domain::session::Caller;
use crate::domain::user::UserId;
use crate::repository::session_cache::Change;
use crate::repository::{
    NewPasskey, OfferedWays, PasskeyAdded, PasskeyOwner, PasskeyUse, Passkeys, Removal, RepositoryError, StoredPasskey,
};
use crate::system::clock::Timestamp;

#[async_trait]
impl Passkeys for PostgresRepository {
    async fn list_passkeys(&self, caller: &Caller) -> Result<Vec<PasskeyDetails>, RepositoryError> {
        self.read_snapshot(*caller, |connection, caller| {
            Box::pin(async move {
                let user_id = require_session(connection, caller).await?.user_id;
                Ok(list_passkeys(connection, user_id).await?.into_iter().map(|(_, details)| details).collect())
            })
        })
        .await
    }

    async fn find_passkey_owner(&self, caller: &Caller) -> Result<PasskeyOwner, RepositoryError> {
        self.read_snapshot(*caller, |connection, caller| {
            Box::pin(async move {
                let user_id = require_session(connection, caller).await?.user_id;
                let username = find_own_credentials(connection, user_id).await?.username;
                let stored = list_stored(connection, user_id).await?;
                Ok(PasskeyOwner {
                    user_id,
                    username,
                    user_handle: stored.first().map(|passkey| passkey.user_handle),
                    credentials: stored.into_iter().map(|passkey| passkey.credential_id).collect(),
                })
            })
        })
        .await
    }

    async fn add_passkey(
        &self,
        caller: &Caller,
        passkey: NewPasskey,
        now: Timestamp,
    ) -> Result<PasskeyAdded, RepositoryError> {
        self.write((*caller, passkey, now), |transaction, (caller, passkey, now)| {
            Box::pin(async move {
                let user_id = begin_change(transaction, caller, Change::Text).await?.user_id;
                if !is_session_fresh(transaction, caller, *now).await? {
                    return Ok(PasskeyAdded::NotFresh);
                }
                if list_stored(transaction, user_id).await?.len() >= MAX_PASSKEYS as usize {
                    return Ok(PasskeyAdded::Full);
                }
                let (credential, handle): (&[u8], &[u8]) = (passkey.credential_id.as_bytes(), &passkey.user_handle);
                let parameters: [&(dyn ToSql + Sync); 7] = [
                    &credential,
                    &user_id.0,
                    &handle,
                    &passkey.rp_id,
                    &passkey.name.as_str(),
                    &passkey.credential,
                    &now.as_millis(),
                ];
                if transaction.execute(sql::INSERT_PASSKEY, &parameters).await? == 0 {
                    return Ok(PasskeyAdded::Taken);
                }
                end_older_releases(transaction).await?;
                let id = PasskeyId::of(&passkey.credential_id);
                events::by_owner(transaction, EventKind::PasskeyAdded, user_id, caller.ip, id.as_str(), *now).await?;
                let name = passkey.name.clone();
                Ok(PasskeyAdded::Done(PasskeyDetails { id, name, created: *now, last_used: None }))
            })
        })
        .await
    }

    async fn find_passkey(&self, credential: &CredentialId) -> Result<Option<StoredPasskey>, RepositoryError> {
        self.read(credential.clone(), |connection, credential| {
            Box::pin(async move {
                let row = connection.query_opt(sql::FIND_PASSKEY, &[&credential.as_bytes()]).await?;
                row.as_ref().map(read_stored).transpose()
            })
        })
        .await
    }

    async fn list_credentials(&self, user_id: UserId) -> Result<Vec<StoredPasskey>, RepositoryError> {
        self.read(user_id, |connection, user_id| Box::pin(list_stored(connection, *user_id))).await
    }

    async fn rename_passkey(
        &self,
        caller: &Caller,
        id: PasskeyId,
        name: PasskeyName,
    ) -> Result<Option<PasskeyDetails>, RepositoryError> {
        self.write((*caller, id, name), |transaction, (caller, id, name)| {
            Box::pin(async move {
                let user_id = begin_change(transaction, caller, Change::Text).await?.user_id;
                let Some((credential, details)) = find_listed(transaction, user_id, id).await? else {
                    return Ok(None);
                };
                transaction.execute(sql::RENAME_PASSKEY, &[&credential.as_bytes(), &name.as_str()]).await?;
                Ok(Some(PasskeyDetails { name: name.clone(), ..details }))
            })
        })
        .await
    }

    async fn remove_passkey(
        &self,
        caller: &Caller,
        id: PasskeyId,
        offered: OfferedWays,
        now: Timestamp,
    ) -> Result<Removal, RepositoryError> {
        self.write((*caller, id, offered, now), |transaction, (caller, id, offered, now)| {
            Box::pin(async move {
                let user_id = begin_change(transaction, caller, Change::Text).await?.user_id;
                if !is_session_fresh(transaction, caller, *now).await? {
                    return Ok(Removal::NotFresh);
                }
                let Some((credential, _)) = find_listed(transaction, user_id, id).await? else {
                    return Ok(Removal::NotFound);
                };
                if !has_another_way_in(transaction, user_id, offered, offered.passkeys).await? {
                    return Ok(Removal::LastWayIn);
                }
                transaction.execute(sql::DELETE_PASSKEY, &[&credential.as_bytes()]).await?;
                delete_challenges_of(transaction, user_id).await?;
                events::by_owner(transaction, EventKind::PasskeyRemoved, user_id, caller.ip, id.as_str(), *now).await?;
                Ok(Removal::Done)
            })
        })
        .await
    }

    async fn count_passkeys_by_domain(&self) -> Result<Vec<(String, u64)>, RepositoryError> {
        self.scan(LONG_SCAN_WITHIN, (), |connection, ()| {
            Box::pin(async move {
                let rows = connection.query(sql::COUNT_PASSKEYS, &[]).await?;
                rows.iter().map(|row| Ok((get(row, 0)?, get::<i64>(row, 1)?.unsigned_abs()))).collect()
            })
        })
        .await
    }
}

fn read_stored(row: &Row) -> Result<StoredPasskey, Failure> {
    Ok(StoredPasskey {
        credential_id: CredentialId::from_bytes(get(row, "credential_id")?),
        user_id: UserId(get(row, "user_id")?),
        username: read_username(row, "username")?,
        user_handle: get::<&[u8]>(row, "user_handle")?.try_into().map_err(invalid)?,
        credential: get(row, "credential")?,
    })
}

async fn list_stored(connection: &Connection, user_id: UserId) -> Result<Vec<StoredPasskey>, Failure> {
    connection.query(sql::LIST_STORED_PASSKEYS, &[&user_id.0]).await?.iter().map(read_stored).collect()
}

/// An account's passkeys, oldest first.
pub(super) async fn list_passkeys(
    connection: &Connection,
    user_id: UserId,
) -> Result<Vec<(CredentialId, PasskeyDetails)>, Failure> {
    let rows = connection.query(sql::LIST_PASSKEYS, &[&user_id.0]).await?;
    let read = |row| {
        let credential = CredentialId::from_bytes(get(row, "credential_id")?);
        let details = PasskeyDetails {
            id: PasskeyId::of(&credential),
            name: PasskeyName::from_stored(get(row, "name")?),
            created: read_time(row, "created")?,
            last_used: read_optional_time(row, "last_used")?,
        };
        Ok((credential, details))
    };
    rows.iter().map(read).collect()
}

async fn find_listed(
    connection: &Connection,
    user_id: UserId,
    id: &PasskeyId,
) -> Result<Option<(CredentialId, PasskeyDetails)>, Failure> {
    Ok(list_passkeys(connection, user_id).await?.into_iter().find(|(_, details)| details.id == *id))
}

/// Notes the use of a passkey; `false`, and no change, where it is gone or has changed since it was read.
pub(super) async fn use_passkey(transaction: &Transaction, used: &PasskeyUse, now: Timestamp) -> Result<bool, Failure> {
    let parameters: [&(dyn ToSql + Sync); 5] = [
        &used.credential_id.as_bytes(),
        &used.user_id.0,
        &used.before,
        &used.after.as_deref().unwrap_or(&used.before),
        &now.as_millis(),
    ];
    Ok(transaction.execute(sql::USE_PASSKEY, &parameters).await? > 0)
}
