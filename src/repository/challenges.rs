//! The trait [`Challenges`]: what is begun in one request and finished in another, once.

use async_trait::async_trait;

use crate::domain::challenge::{ChallengePurpose, NewChallenge};
use crate::domain::session::Caller;
use crate::domain::token::TokenDigest;
use crate::domain::user::{UserId, Username};
use crate::repository::error::RepositoryError;
use crate::system::clock::Timestamp;

/// A challenge that was taken: it is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct TakenChallenge {
    pub user_id: Option<UserId>,
    pub state: String,
}

/// A login that lacks its second factor.
#[derive(Clone)]
#[expect(missing_docs, reason = "the names say it")]
pub struct PendingSignIn {
    pub user_id: UserId,
    pub username: Username,
    /// The secret of its authenticator app, sealed.
    pub totp_secret: Option<Vec<u8>>,
    /// What finishing it needs.
    pub state: String,
}

/// What is begun and finished once.
#[async_trait]
pub trait Challenges: Send + Sync {
    /// Stores a challenge, of the caller's account where there is a caller. An account has at most
    /// [as many of one purpose](ChallengePurpose::most_of_an_account) as it may have: the oldest ends.
    ///
    /// # Errors
    /// [`RepositoryError::NoSession`] when there is a caller whose session is over.
    async fn store_challenge(
        &self,
        caller: Option<&Caller>,
        challenge: NewChallenge,
        now: Timestamp,
    ) -> Result<(), RepositoryError>;

    /// Takes a challenge: of those who present its token at once, one has it. `None` where there is none of this purpose,
    /// where it has expired, or where it is another account's than the caller's. Where there is no caller, it must be no
    /// account's.
    ///
    /// # Errors
    /// [`RepositoryError::NoSession`] when there is a caller whose session is over.
    async fn take_challenge(
        &self,
        caller: Option<&Caller>,
        purpose: ChallengePurpose,
        digest: TokenDigest,
        now: Timestamp,
    ) -> Result<Option<TakenChallenge>, RepositoryError>;

    /// Whose login it is that lacks its second factor; `None` where [`Challenges::begin_factor_try`] would count no try.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn find_factor_owner(&self, digest: TokenDigest, now: Timestamp)
    -> Result<Option<Username>, RepositoryError>;

    /// Counts a try at a login that lacks its second factor, and finds what it is tried against. `None` where there is no
    /// such login, it has expired, was tried [`MAX_FACTOR_TRIES`](crate::domain::challenge::MAX_FACTOR_TRIES) times before,
    /// or its account is not active.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn begin_factor_try(
        &self,
        digest: TokenDigest,
        now: Timestamp,
    ) -> Result<Option<PendingSignIn>, RepositoryError>;

    /// Deletes challenges that have expired, some at a time; how many.
    ///
    /// # Errors
    /// See [`RepositoryError`].
    async fn prune_challenges(&self, now: Timestamp) -> Result<usize, RepositoryError>;
}
