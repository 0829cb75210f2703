//! Other people's accounts: what staff and the operator do to them.

use async_trait::async_trait;

use crate::domain::rights::{AccountChange, AccountCursor, Actor, Permission, Rights, UserQuery};
use crate::domain::session::{SessionCutoffs, SessionDetails, SessionId};
use crate::domain::user::{NewUser, User, Username};
use crate::repository::error::RepositoryError;
use crate::repository::page::Page;
use crate::system::clock::Timestamp;

/// Other people's accounts: what staff and the operator do to them.
#[async_trait]
pub trait Administration: Send + Sync {
    /// Makes an account without a session: the operator's way to the first one with rights.
    ///
    /// # Errors
    /// [`RepositoryError::Conflict`] when the name is taken.
    async fn create_account(&self, user: NewUser, rights: Rights, now: Timestamp) -> Result<User, RepositoryError>;

    /// Whether the actor may do this to the account that is named, or to any where none is: before anything else is
    /// looked at, and anything is hashed. Whoever may do anything to others may look at all. What is then done looks
    /// again. `false` when there is no account of this name.
    ///
    /// # Errors
    /// [`RepositoryError::Forbidden`], as in every method that takes an actor, when it has no right to this. For an
    /// actor who may do nothing to others, whether there is such an account is not looked at.
    async fn check_rights(
        &self,
        actor: &Actor,
        permission: Permission,
        username: Option<&Username>,
    ) -> Result<bool, RepositoryError>;

    /// Accounts, in the order of their folded names, until they are as many as [`UserQuery::is_full`] says.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn list_accounts(
        &self,
        actor: &Actor,
        query: UserQuery,
    ) -> Result<Page<User, AccountCursor>, RepositoryError>;

    /// An account.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn find_account(&self, actor: &Actor, username: &Username) -> Result<Option<User>, RepositoryError>;

    /// Changes an account, whole or not at all. A new password and a deactivation end its sessions. `None` when there is
    /// none of this name.
    ///
    /// # Errors
    /// [`RepositoryError::LastSuperuser`] when no other active account would be one.
    async fn change_account(
        &self,
        actor: &Actor,
        username: &Username,
        change: AccountChange,
        now: Timestamp,
    ) -> Result<Option<User>, RepositoryError>;

    /// Deletes an account with its lists and its sessions. `false` when there is none of this name.
    ///
    /// # Errors
    /// [`RepositoryError::LastSuperuser`] when no other active account is one.
    async fn delete_account(&self, actor: &Actor, username: &Username, now: Timestamp)
    -> Result<bool, RepositoryError>;

    /// An account's live sessions, newest first. `None` when there is no account of this name.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn list_account_sessions(
        &self,
        actor: &Actor,
        username: &Username,
        cutoffs: SessionCutoffs,
    ) -> Result<Option<Vec<SessionDetails>>, RepositoryError>;

    /// Ends one of an account's live sessions, or all of its sessions where none is named. `None` when there is no
    /// account of this name, else how many it ended.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn revoke_account_sessions(
        &self,
        actor: &Actor,
        username: &Username,
        id: Option<SessionId>,
        cutoffs: SessionCutoffs,
        now: Timestamp,
    ) -> Result<Option<usize>, RepositoryError>;
}
