//! [`Accounts`] in PostgreSQL.

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::join3;

use super::emails::set_email;
use super::identities::{list_identities, revoke_refresh_tokens};
use super::lists::list_items;
use super::lookup::{
    begin_change, find_own_credentials, find_user, holds, keep_a_superuser, lock_superusers, require_session,
    target_of, times_of,
};
use super::offers::{delete_all_offers, delete_opening_offers, delete_pending_change};
use super::outbox::begin_confirmation;
use super::passkeys::list_passkeys;
use super::rows::{read_credentials, read_session, read_user, require_own_key};
use super::tokens::{id_of, insert_token, list_sessions, set_reauthentication};
use super::users::{insert_user, update_profile};
use super::ways_in::find_security;
use super::{PostgresRepository, events, sql};
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
impl Accounts for PostgresRepository {
    async fn register_user(
        &self,
        user: NewUser,
        session: NewSession,
        confirmation: Option<NewEmailChange>,
        now: Timestamp,
    ) -> Result<User, RepositoryError> {
        self.write((user, session, confirmation, now), |transaction, (user, session, confirmation, now)| {
            Box::pin(async move {
                let user_id = insert_user(transaction, user, *now)
                    .await?
                    .ok_or(RepositoryError::Conflict(UniqueField::Username))?;
                let id = id_of(&session.digest);
                // None needs another one's answer.
                let (token, event, found) = join3(
                    insert_token(transaction, user_id, session, *now),
                    events::by_owner(transaction, EventKind::Registered, user_id, session.ip, &id, *now),
                    find_user(transaction, user_id),
                )
                .await;
                token?;
                event?;
                if let Some(confirmation) = confirmation {
                    begin_confirmation(transaction, user_id, confirmation, *now).await?;
                }
                found
            })
        })
        .await
    }

    async fn find_credentials(&self, username: &Username) -> Result<Option<Credentials>, RepositoryError> {
        self.read(username.key(), |connection, key| {
            Box::pin(async move {
                let row = connection.query_opt(sql::FIND_CREDENTIALS, &[key]).await?;
                let found = row.as_ref().map(read_credentials).transpose()?;
                found.iter().try_for_each(|found| require_own_key(found, key))?;
                Ok(found)
            })
        })
        .await
    }

    async fn find_credentials_by_email(&self, email: &EmailAddress) -> Result<Option<Credentials>, RepositoryError> {
        self.read(email.key().to_owned(), |connection, key| {
            Box::pin(async move {
                let row = connection.query_opt(sql::FIND_CREDENTIALS_BY_EMAIL, &[key]).await?;
                row.as_ref().map(read_credentials).transpose()
            })
        })
        .await
    }

    async fn find_user(&self, caller: &Caller) -> Result<(Session, User), RepositoryError> {
        let found = self.find_caller(caller).await?;
        Ok((found.found.session, found.user))
    }

    async fn find_rendered_user(&self, caller: &Caller, render: Render) -> Result<(Session, Bytes), RepositoryError> {
        if let Some(kept) = self.watcher.cache().find(caller) {
            return Ok(kept);
        }
        let version = self.cache.read_version();
        let found = self.find_caller(caller).await?;
        let text = render(found.user).map_err(RepositoryError::Backend)?;
        self.cache.keep(version, caller.digest, found.found, Some(&text));
        Ok((found.found.session, text))
    }

    async fn export_user(&self, caller: &Caller) -> Result<Export, RepositoryError> {
        // Its work grows with the account and not with the store, so it is not a scan.
        self.read_snapshot(*caller, |connection, caller| {
            Box::pin(async move {
                let user_id = require_session(connection, caller).await?.user_id;
                Ok(Export {
                    user: find_user(connection, user_id).await?,
                    cellar: list_items(connection, List::Cellar, user_id).await?,
                    wants: list_items(connection, List::Wants, user_id).await?,
                    sessions: list_sessions(connection, user_id, caller.cutoffs)
                        .await?
                        .into_iter()
                        .map(|(_, details)| details)
                        .collect(),
                    security: find_security(connection, user_id).await?,
                    passkeys: list_passkeys(connection, user_id)
                        .await?
                        .into_iter()
                        .map(|(_, details)| details)
                        .collect(),
                    identities: list_identities(connection, user_id).await?,
                    events: events::list_own(connection, user_id, None, None, MAX_EXPORTED_EVENTS).await?,
                })
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
        self.write((*caller, changes, now), |transaction, (caller, changes, now)| {
            Box::pin(async move {
                let user_id = begin_change(transaction, caller, Change::Text).await?.user_id;
                let mut user = find_user(transaction, user_id).await?;
                let before = user.profile.clone();
                for change in changes {
                    user.profile.set(change.clone());
                }
                if user.profile.email != before.email {
                    set_email(transaction, user_id, &user.profile.email, false, *now).await?;
                    user.is_email_verified = false;
                }
                if user.profile != before {
                    user.modified = *now;
                    update_profile(transaction, user_id, &user.profile, *now).await?;
                }
                Ok(user)
            })
        })
        .await
    }

    async fn find_own_credentials(&self, caller: &Caller) -> Result<Credentials, RepositoryError> {
        self.read_snapshot(*caller, |connection, caller| {
            Box::pin(async move {
                let user_id = require_session(connection, caller).await?.user_id;
                find_own_credentials(connection, user_id).await
            })
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
        self.write((*caller, proof, new_hash, now), |transaction, (caller, proof, new_hash, now)| {
            Box::pin(async move {
                let user_id = begin_change(transaction, caller, Change::Sessions).await?.user_id;
                if !holds(transaction, proof, caller, user_id, *now).await? {
                    return Ok(false);
                }
                let digest: &[u8] = caller.digest.as_bytes();
                transaction.execute(sql::SET_PASSWORD, &[&user_id.0, &new_hash.as_stored()]).await?;
                transaction.execute(sql::DELETE_OTHER_TOKENS, &[&user_id.0, &digest]).await?;
                set_reauthentication(transaction, caller, None).await?;
                delete_opening_offers(transaction, user_id).await?;
                delete_pending_change(transaction, user_id).await?;
                transaction.execute(sql::RESET_FAILURES_BY_ONE_FACTOR, &[&user_id.0]).await?;
                events::by_owner(transaction, EventKind::PasswordChanged, user_id, caller.ip, "", *now).await?;
                Ok(true)
            })
        })
        .await
    }

    async fn delete_user(&self, caller: &Caller, proof: Proof, now: Timestamp) -> Result<bool, RepositoryError> {
        self.write((*caller, proof, now), |transaction, (caller, proof, now)| {
            Box::pin(async move {
                lock_superusers(transaction).await?;
                let user_id = begin_change(transaction, caller, Change::Sessions).await?.user_id;
                if !holds(transaction, proof, caller, user_id, *now).await? {
                    return Ok(false);
                }
                keep_a_superuser(transaction, &target_of(transaction, user_id).await?).await?;
                // Before the deletion: the event copies the account's name.
                events::by_owner(transaction, EventKind::Deleted, user_id, caller.ip, "", *now).await?;
                delete_all_offers(transaction, user_id).await?;
                revoke_refresh_tokens(transaction, user_id, *now).await?;
                transaction.execute(sql::DELETE_ACCOUNT, &[&user_id.0]).await?;
                Ok(true)
            })
        })
        .await
    }
}

impl PostgresRepository {
    async fn find_caller(&self, caller: &Caller) -> Result<FoundCaller, RepositoryError> {
        self.read(*caller, |connection, caller| {
            Box::pin(async move {
                let digest: &[u8] = caller.digest.as_bytes();
                let [created, used, expires] = times_of(caller.cutoffs);
                let row = connection.query_opt(sql::FIND_CALLER, &[&digest, &created, &used, &expires]).await?;
                let row = row.ok_or(RepositoryError::NoSession)?;
                Ok(FoundCaller { found: read_session(&row)?, user: read_user(&row, 4)? })
            })
        })
        .await
    }
}

/// A session and its user.
struct FoundCaller {
    found: Found,
    user: User,
}
