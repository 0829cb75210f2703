//! [`Passkeys`] in SQLite.

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::lookup::{begin_change, find_own_credentials, is_session_fresh, require_session};
use super::pending::delete_challenges_of;
use super::rows::{read_count, read_optional_time, read_time, read_username};
use super::ways_in::has_another_way_in;
use super::{SqliteRepository, events, sql};
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
impl Passkeys for SqliteRepository {
    async fn list_passkeys(&self, caller: &Caller) -> Result<Vec<PasskeyDetails>, RepositoryError> {
        let caller = *caller;
        self.read_snapshot(move |connection| {
            let user_id = require_session(connection, &caller)?.user_id;
            Ok(list_passkeys(connection, user_id)?.into_iter().map(|(_, details)| details).collect())
        })
        .await
    }

    async fn find_passkey_owner(&self, caller: &Caller) -> Result<PasskeyOwner, RepositoryError> {
        let caller = *caller;
        self.read_snapshot(move |connection| {
            let user_id = require_session(connection, &caller)?.user_id;
            let username = find_own_credentials(connection, user_id)?.username;
            let stored = list_stored(connection, user_id)?;
            Ok(PasskeyOwner {
                user_id,
                username,
                user_handle: stored.first().map(|passkey| passkey.user_handle),
                credentials: stored.into_iter().map(|passkey| passkey.credential_id).collect(),
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
        let caller = *caller;
        self.write(move |connection| {
            let user_id = begin_change(connection, &caller, Change::Text)?.user_id;
            if !is_session_fresh(connection, &caller, now)? {
                return Ok(PasskeyAdded::NotFresh);
            }
            if list_stored(connection, user_id)?.len() >= MAX_PASSKEYS as usize {
                return Ok(PasskeyAdded::Full);
            }
            let mut insert = connection.prepare_cached(sql::INSERT_PASSKEY)?;
            let inserted = insert.execute(params![
                passkey.credential_id.as_bytes(),
                user_id.0,
                passkey.user_handle,
                passkey.rp_id,
                passkey.name.as_str(),
                passkey.credential,
                now.as_millis(),
            ])?;
            if inserted == 0 {
                return Ok(PasskeyAdded::Taken);
            }
            let id = PasskeyId::of(&passkey.credential_id);
            events::by_owner(connection, EventKind::PasskeyAdded, user_id, caller.ip, id.as_str(), now)?;
            Ok(PasskeyAdded::Done(PasskeyDetails { id, name: passkey.name, created: now, last_used: None }))
        })
        .await
    }

    async fn find_passkey(&self, credential: &CredentialId) -> Result<Option<StoredPasskey>, RepositoryError> {
        let credential = credential.clone();
        self.read(move |connection| {
            let mut find = connection.prepare_cached(sql::FIND_PASSKEY)?;
            Ok(find.query_row([credential.as_bytes()], read_stored).optional()?)
        })
        .await
    }

    async fn list_credentials(&self, user_id: UserId) -> Result<Vec<StoredPasskey>, RepositoryError> {
        self.read(move |connection| Ok(list_stored(connection, user_id)?)).await
    }

    async fn rename_passkey(
        &self,
        caller: &Caller,
        id: PasskeyId,
        name: PasskeyName,
    ) -> Result<Option<PasskeyDetails>, RepositoryError> {
        let caller = *caller;
        self.write(move |connection| {
            let user_id = begin_change(connection, &caller, Change::Text)?.user_id;
            let Some((credential, details)) = find_listed(connection, user_id, &id)? else { return Ok(None) };
            let mut rename = connection.prepare_cached(sql::RENAME_PASSKEY)?;
            rename.execute(params![credential.as_bytes(), name.as_str()])?;
            Ok(Some(PasskeyDetails { name, ..details }))
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
        let caller = *caller;
        self.write(move |connection| {
            let user_id = begin_change(connection, &caller, Change::Text)?.user_id;
            if !is_session_fresh(connection, &caller, now)? {
                return Ok(Removal::NotFresh);
            }
            let Some((credential, _)) = find_listed(connection, user_id, &id)? else { return Ok(Removal::NotFound) };
            if !has_another_way_in(connection, user_id, &offered, offered.passkeys)? {
                return Ok(Removal::LastWayIn);
            }
            connection.prepare_cached(sql::DELETE_PASSKEY)?.execute([credential.as_bytes()])?;
            delete_challenges_of(connection, user_id)?;
            events::by_owner(connection, EventKind::PasskeyRemoved, user_id, caller.ip, id.as_str(), now)?;
            Ok(Removal::Done)
        })
        .await
    }

    async fn count_passkeys_by_domain(&self) -> Result<Vec<(String, u64)>, RepositoryError> {
        self.scan(None, move |connection| {
            let mut count = connection.prepare_cached(sql::COUNT_PASSKEYS)?;
            Ok(count.query_map([], |row| Ok((row.get(0)?, read_count(row, 1)?)))?.collect::<Result<_, _>>()?)
        })
        .await
    }
}

fn read_stored(row: &Row<'_>) -> rusqlite::Result<StoredPasskey> {
    Ok(StoredPasskey {
        credential_id: CredentialId::from_bytes(row.get("credential_id")?),
        user_id: UserId(row.get("user_id")?),
        username: read_username(row, "username")?,
        user_handle: row.get("user_handle")?,
        credential: row.get("credential")?,
    })
}

fn list_stored(connection: &Connection, user_id: UserId) -> rusqlite::Result<Vec<StoredPasskey>> {
    connection.prepare_cached(sql::LIST_STORED_PASSKEYS)?.query_map([user_id.0], read_stored)?.collect()
}

/// An account's passkeys, oldest first.
pub(super) fn list_passkeys(
    connection: &Connection,
    user_id: UserId,
) -> rusqlite::Result<Vec<(CredentialId, PasskeyDetails)>> {
    let mut list = connection.prepare_cached(sql::LIST_PASSKEYS)?;
    let found = list.query_map([user_id.0], |row| {
        let credential = CredentialId::from_bytes(row.get("credential_id")?);
        let details = PasskeyDetails {
            id: PasskeyId::of(&credential),
            name: PasskeyName::from_stored(row.get("name")?),
            created: read_time(row, "created")?,
            last_used: read_optional_time(row, "last_used")?,
        };
        Ok((credential, details))
    })?;
    found.collect()
}

fn find_listed(
    connection: &Connection,
    user_id: UserId,
    id: &PasskeyId,
) -> rusqlite::Result<Option<(CredentialId, PasskeyDetails)>> {
    Ok(list_passkeys(connection, user_id)?.into_iter().find(|(_, details)| details.id == *id))
}

/// Notes the use of a passkey; `false`, and no change, where it is gone or has changed since it was read.
pub(super) fn use_passkey(connection: &Connection, used: &PasskeyUse, now: Timestamp) -> rusqlite::Result<bool> {
    let mut note = connection.prepare_cached(sql::USE_PASSKEY)?;
    let noted = note.execute(params![
        used.credential_id.as_bytes(),
        used.user_id.0,
        used.before,
        used.after.as_deref().unwrap_or(&used.before),
        now.as_millis(),
    ])?;
    Ok(noted > 0)
}
