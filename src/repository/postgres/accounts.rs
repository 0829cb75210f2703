//! [`Accounts`] in PostgreSQL.

use async_trait::async_trait;
use bytes::Bytes;

use super::PostgresRepository;
use crate::domain::email::{EmailAddress, key_of};
use crate::domain::event::EventKind;
use crate::domain::item::List;
use crate::domain::profile::{Profile, ProfileChanges};
use crate::domain::session::{Caller, NewSession, Session};
use crate::domain::user::{Credentials, NewUser, PasswordHash, User, UserId, Username};
use crate::repository::session_cache::Change;
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
        unimplemented!()
    }

    async fn find_credentials(&self, username: &Username) -> Result<Option<Credentials>, RepositoryError> {
        unimplemented!()
    }

    async fn find_credentials_by_email(&self, email: &EmailAddress) -> Result<Option<Credentials>, RepositoryError> {
        unimplemented!()
    }

    async fn find_user(&self, caller: &Caller) -> Result<(Session, User), RepositoryError> {
        unimplemented!()
    }

    async fn find_rendered_user(&self, caller: &Caller, render: Render) -> Result<(Session, Bytes), RepositoryError> {
        unimplemented!()
    }

    async fn export_user(&self, caller: &Caller) -> Result<Export, RepositoryError> {
        unimplemented!()
    }

    async fn update_profile(
        &self,
        caller: &Caller,
        changes: ProfileChanges,
        now: Timestamp,
    ) -> Result<User, RepositoryError> {
        unimplemented!()
    }

    async fn find_own_credentials(&self, caller: &Caller) -> Result<Credentials, RepositoryError> {
        unimplemented!()
    }

    async fn change_password(
        &self,
        caller: &Caller,
        proof: Proof,
        new_hash: PasswordHash,
        now: Timestamp,
    ) -> Result<bool, RepositoryError> {
        unimplemented!()
    }

    async fn delete_user(&self, caller: &Caller, proof: Proof, now: Timestamp) -> Result<bool, RepositoryError> {
        unimplemented!()
    }
}
