//! [`Accounts`] in SQLite.

use async_trait::async_trait;
use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension as _, params};

use super::emails::set_email;
use super::identities::{list_identities, revoke_refresh_tokens};
use super::lists::list_items;
use super::lookup::{
    begin_change, find_own_credentials, find_user, holds, keep_a_superuser, live, require_session, target_of,
};
use super::offers::{delete_all_offers, delete_opening_offers, delete_pending_change};
use super::outbox::begin_confirmation;
use super::passkeys::list_passkeys;
use super::rows::{invalid_account, read_credentials, read_session, read_user, require_own_key};
use super::tokens::{id_of, insert_token, list_sessions, set_reauthentication};
use super::users::{insert_user, update_profile};
use super::ways_in::find_security;
use super::{SqliteRepository, events, sql};
use crate::domain::email::EmailAddress;
use crate::domain::event::EventKind;
use crate::domain::item::List;
use crate::domain::profile::ProfileChanges;
use crate::domain::session::{Caller, NewSession, Session};
use crate::domain::user::{Credentials, NewUser, PasswordHash, User, Username};
use crate::repository::session_cache::{Change, Found};
use crate::repository::{
    Accounts, Export, MAX_EXPORTED_EVENTS, NewEmailChange, Proof, Render, RepositoryError, UniqueField,
};
use crate::system::clock::Timestamp;

#[async_trait]
impl Accounts for SqliteRepository {
    async fn register_user(
        &self,
        user: NewUser,
        session: NewSession,
        confirmation: Option<NewEmailChange>,
        now: Timestamp,
    ) -> Result<User, RepositoryError> {
        self.write(move |connection| {
            let user_id =
                insert_user(connection, &user, now)?.ok_or(RepositoryError::Conflict(UniqueField::Username))?;
            insert_token(connection, user_id, &session, now)?;
            events::by_owner(connection, EventKind::Registered, user_id, session.ip, &id_of(&session.digest), now)?;
            if let Some(confirmation) = confirmation {
                begin_confirmation(connection, user_id, &confirmation, now)?;
            }
            Ok(find_user(connection, user_id)?)
        })
        .await
    }

    async fn find_credentials(&self, username: &Username) -> Result<Option<Credentials>, RepositoryError> {
        let key = username.key();
        self.read_inline(move |connection| {
            let mut statement = connection.prepare_cached(sql::FIND_CREDENTIALS)?;
            let found = statement.query_row([&key], read_credentials).optional()?;
            found.iter().try_for_each(|found| require_own_key(found, &key))?;
            Ok(found)
        })
        .await
    }

    async fn find_credentials_by_email(&self, email: &EmailAddress) -> Result<Option<Credentials>, RepositoryError> {
        let key = email.key().to_owned();
        self.read_inline(move |connection| {
            let mut statement = connection.prepare_cached(sql::FIND_CREDENTIALS_BY_EMAIL)?;
            Ok(statement.query_row([&key], read_credentials).optional()?)
        })
        .await
    }

    async fn find_user(&self, caller: &Caller) -> Result<(Session, User), RepositoryError> {
        let found = self.find_caller(caller).await?;
        Ok((found.found.session, found.user))
    }

    async fn find_rendered_user(&self, caller: &Caller, render: Render) -> Result<(Session, Bytes), RepositoryError> {
        if let Some(kept) = self.watched_cache()?.find(caller) {
            return Ok(kept);
        }
        let version = self.cache.read_version();
        let found = self.find_caller(caller).await?;
        let text = render(found.user).map_err(RepositoryError::Backend)?;
        self.cache.keep(version, caller.digest, found.found, Some(&text));
        Ok((found.found.session, text))
    }

    async fn export_user(&self, caller: &Caller) -> Result<Export, RepositoryError> {
        let caller = *caller;
        // Its work grows with the account and not with the store, so it is not a scan.
        self.read_snapshot(move |connection| {
            let user_id = require_session(connection, &caller)?.user_id;
            Ok(Export {
                user: find_user(connection, user_id)?,
                cellar: list_items(connection, List::Cellar, user_id)?,
                wants: list_items(connection, List::Wants, user_id)?,
                sessions: list_sessions(connection, user_id, caller.cutoffs)?
                    .into_iter()
                    .map(|(_, details)| details)
                    .collect(),
                security: find_security(connection, user_id)?,
                passkeys: list_passkeys(connection, user_id)?.into_iter().map(|(_, details)| details).collect(),
                identities: list_identities(connection, user_id)?,
                events: events::list_own(connection, user_id, None, None, MAX_EXPORTED_EVENTS)?,
            })
        })
        .await
    }

    async fn update_profile(
        &self,
        caller: &Caller,
        changes: ProfileChanges,
        now: Timestamp,
    ) -> Result<User, RepositoryError> {
        let caller = *caller;
        self.write(move |connection| {
            let user_id = begin_change(connection, &caller, Change::Text)?.user_id;
            let mut user = find_user(connection, user_id)?;
            let before = user.profile.clone();
            for change in changes {
                user.profile.set(change);
            }
            if user.profile.email != before.email {
                set_email(connection, user_id, &user.profile.email, false, now)?;
                user.is_email_verified = false;
            }
            if user.profile != before {
                user.modified = now;
                update_profile(connection, user_id, &user.profile, now)?;
            }
            Ok(user)
        })
        .await
    }

    async fn find_own_credentials(&self, caller: &Caller) -> Result<Credentials, RepositoryError> {
        let caller = *caller;
        self.read_snapshot(move |connection| {
            let user_id = require_session(connection, &caller)?.user_id;
            Ok(find_own_credentials(connection, user_id)?)
        })
        .await
    }

    async fn change_password(
        &self,
        caller: &Caller,
        proof: Proof,
        new_hash: PasswordHash,
        now: Timestamp,
    ) -> Result<bool, RepositoryError> {
        let caller = *caller;
        self.write(move |connection| {
            let user_id = begin_change(connection, &caller, Change::Sessions)?.user_id;
            if !holds(connection, &proof, &caller, user_id, now)? {
                return Ok(false);
            }
            connection.prepare_cached(sql::SET_PASSWORD)?.execute(params![user_id.0, new_hash.as_stored()])?;
            let mut others = connection.prepare_cached(sql::DELETE_OTHER_TOKENS)?;
            others.execute(params![user_id.0, caller.digest.as_bytes()])?;
            set_reauthentication(connection, &caller, None)?;
            delete_opening_offers(connection, user_id)?;
            delete_pending_change(connection, user_id)?;
            connection.prepare_cached(sql::RESET_FAILURES_BY_ONE_FACTOR)?.execute([user_id.0])?;
            events::by_owner(connection, EventKind::PasswordChanged, user_id, caller.ip, "", now)?;
            Ok(true)
        })
        .await
    }

    async fn delete_user(&self, caller: &Caller, proof: Proof, now: Timestamp) -> Result<bool, RepositoryError> {
        let caller = *caller;
        self.write(move |connection| {
            let user_id = begin_change(connection, &caller, Change::Sessions)?.user_id;
            if !holds(connection, &proof, &caller, user_id, now)? {
                return Ok(false);
            }
            keep_a_superuser(connection, &target_of(connection, user_id)?)?;
            // Before the deletion: the event copies the account's name.
            events::by_owner(connection, EventKind::Deleted, user_id, caller.ip, "", now)?;
            delete_all_offers(connection, user_id)?;
            revoke_refresh_tokens(connection, user_id, now)?;
            connection.prepare_cached(sql::DELETE_ACCOUNT)?.execute([user_id.0])?;
            Ok(true)
        })
        .await
    }
}

impl SqliteRepository {
    async fn find_caller(&self, caller: &Caller) -> Result<FoundCaller, RepositoryError> {
        let caller = *caller;
        let find = move |connection: &Connection, statement| {
            let found = connection.prepare_cached(statement)?.query_row(live(&caller), |row| {
                let user = read_user(row, 4).map_err(|error| invalid_account(row, error))?;
                Ok(FoundCaller { found: read_session(row)?, user })
            });
            found.optional()?.ok_or_else(|| RepositoryError::NoSession.into())
        };
        let found = self.read_inline(move |connection| find(connection, sql::FIND_CALLER)).await?;
        if found.user.cellar.len().max(found.user.wants.len()) <= sql::SHORT_LIST {
            return Ok(found);
        }
        // Reading long lists takes too long for an async thread.
        self.read(move |connection| find(connection, sql::FIND_CALLER_WITH_LONG_LISTS)).await
    }
}

/// A session and its user.
struct FoundCaller {
    found: Found,
    user: User,
}
