//! [`Administration`] in PostgreSQL.

use async_trait::async_trait;

use super::PostgresRepository;
use crate::domain::event::EventKind;
use crate::domain::rights::{
    AccountChange, AccountCursor, Acting, Actor, Permission, Rights, SearchText, Target, UserQuery,
};
use crate::domain::session::{SessionCutoffs, SessionDetails, SessionId};
use crate::domain::user::{NewUser, PasswordHash, User, UserId, Username};
use crate::repository::session_cache::Change;
use crate::repository::{Administration, EmailVerification, Page, RepositoryError, UniqueField};
use crate::system::clock::Timestamp;

#[async_trait]
impl Administration for PostgresRepository {
    async fn create_account(&self, user: NewUser, rights: Rights, now: Timestamp) -> Result<User, RepositoryError> {
        unimplemented!()
    }

    async fn check_rights(
        &self,
        actor: &Actor,
        permission: Permission,
        username: Option<&Username>,
    ) -> Result<bool, RepositoryError> {
        unimplemented!()
    }

    async fn list_accounts(
        &self,
        actor: &Actor,
        query: UserQuery,
    ) -> Result<Page<User, AccountCursor>, RepositoryError> {
        unimplemented!()
    }

    async fn find_account(&self, actor: &Actor, username: &Username) -> Result<Option<User>, RepositoryError> {
        unimplemented!()
    }

    async fn change_account(
        &self,
        actor: &Actor,
        username: &Username,
        change: AccountChange,
        now: Timestamp,
    ) -> Result<Option<User>, RepositoryError> {
        unimplemented!()
    }

    async fn verify_account_email(
        &self,
        actor: &Actor,
        username: &Username,
        now: Timestamp,
    ) -> Result<Option<EmailVerification>, RepositoryError> {
        unimplemented!()
    }

    async fn delete_account(
        &self,
        actor: &Actor,
        username: &Username,
        now: Timestamp,
    ) -> Result<bool, RepositoryError> {
        unimplemented!()
    }

    async fn list_account_sessions(
        &self,
        actor: &Actor,
        username: &Username,
        cutoffs: SessionCutoffs,
    ) -> Result<Option<Vec<SessionDetails>>, RepositoryError> {
        unimplemented!()
    }

    async fn revoke_account_sessions(
        &self,
        actor: &Actor,
        username: &Username,
        id: Option<SessionId>,
        cutoffs: SessionCutoffs,
        now: Timestamp,
    ) -> Result<Option<usize>, RepositoryError> {
        unimplemented!()
    }
}
