//! The trait [`Administration`]: what staff and the operator do to other people's accounts.

use async_trait::async_trait;

use crate::domain::rights::{AccountChange, AccountCursor, Actor, Permission, Rights, UserQuery};
use crate::domain::session::{SessionCutoffs, SessionDetails, SessionId};
use crate::domain::user::{NewUser, User, Username};
use crate::repository::error::RepositoryError;
use crate::repository::page::Page;
use crate::system::clock::Timestamp;

/// The outcome of counting an address as verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EmailVerification {
    /// It is verified now, or was before.
    Verified,
    /// The account has no address that mail can be sent to.
    NoAddress,
    /// Another account has verified it.
    Taken,
}

/// What staff and the operator do to other people's accounts.
#[async_trait]
pub trait Administration: Send + Sync {
    /// Creates an account without a session. The operator makes the first superuser so.
    ///
    /// # Errors
    /// [`RepositoryError::Conflict`] when the name is taken.
    async fn create_account(&self, user: NewUser, rights: Rights, now: Timestamp) -> Result<User, RepositoryError>;

    /// Checks whether the actor has this permission for the named account, or for some account where none is named. It
    /// is for an early refusal, before a request is validated and a password is hashed; the method that then does the
    /// work checks again. Staff may look at every account. `false` when there is no account of this name.
    ///
    /// # Errors
    /// [`RepositoryError::Forbidden`], as in every method that takes an actor, when it lacks the permission. An actor
    /// who could never have it is refused before the account is looked up, so that it does not learn which accounts
    /// exist.
    async fn check_rights(
        &self,
        actor: &Actor,
        permission: Permission,
        username: Option<&Username>,
    ) -> Result<bool, RepositoryError>;

    /// A page of accounts, in the order of their folded names. The page ends where [`UserQuery::is_full`] says so.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn list_accounts(
        &self,
        actor: &Actor,
        query: UserQuery,
    ) -> Result<Page<User, AccountCursor>, RepositoryError>;

    /// The account of this name.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn find_account(&self, actor: &Actor, username: &Username) -> Result<Option<User>, RepositoryError>;

    /// Changes an account, all or nothing. A new password and a deactivation end its sessions. `None` when there is no
    /// account of this name.
    ///
    /// # Errors
    /// [`RepositoryError::LastSuperuser`] when no active superuser would be left.
    async fn change_account(
        &self,
        actor: &Actor,
        username: &Username,
        change: AccountChange,
        now: Timestamp,
    ) -> Result<Option<User>, RepositoryError>;

    /// Counts an account's address as verified, on the actor's word.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn verify_account_email(
        &self,
        actor: &Actor,
        username: &Username,
        now: Timestamp,
    ) -> Result<Option<EmailVerification>, RepositoryError>;

    /// Deletes an account with its lists and its sessions. `false` when there is no account of this name.
    ///
    /// # Errors
    /// [`RepositoryError::LastSuperuser`] when no other active account is a superuser.
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

    /// Ends one of an account's live sessions, or all of its sessions where no `id` is given. Says how many it ended;
    /// `None` when there is no account of this name.
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
