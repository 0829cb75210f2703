//! Passwords: how they are checked, hashed and verified.
//!
//! [`policy`] says what a new password must satisfy. [`threads`] are the threads that hash. `schemes` are the formats
//! in which hashes are stored.

mod imported;
mod plain;
pub mod policy;
mod schemes;
pub mod threads;

use std::io;
use std::num::NonZeroUsize;

use thiserror::Error;

pub use crate::passwords::imported::{ImportedHash, read_imported, wrap_weak};
pub use crate::passwords::plain::PlainPassword;
pub use crate::passwords::policy::PasswordPolicy;
pub use crate::passwords::schemes::{Verification, is_well_formed};

use crate::domain::user::{COSTS, Credentials, PasswordHash, UserId};
use crate::passwords::schemes::WeakDigest;
use crate::passwords::threads::{HashingError, HashingThreads};
use crate::system::watched::WatchedThreads;

/// Why a password was neither hashed nor verified.
#[derive(Debug, Error)]
pub enum PasswordError {
    /// The hashing threads gave no result.
    #[error(transparent)]
    Hashing(#[from] HashingError),
    /// The stored hash of this account is of no known scheme.
    #[error(
        "the stored password hash of the account with id {} is malformed, or of a cost that is not used any more: \
         `user set-password` makes a new one", .0.0
    )]
    MalformedHash(UserId),
}

/// Of hashes that take more memory than this, in bytes, one is verified at a time. Django's scrypt takes 16 MiB and a little.
const MUCH_MEMORY: u64 = 20 << 20;

/// Hashes and verifies passwords on the hashing threads, at one cost.
#[derive(Clone)]
pub struct Passwords {
    threads: HashingThreads,
    cost: u32,
}

impl Passwords {
    /// Starts `threads` hashing threads, watched by `watched`, with a queue of `queue` slots. New hashes have `cost`.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(cost: u32, threads: NonZeroUsize, queue: usize, watched: &WatchedThreads) -> io::Result<Self> {
        let threads = HashingThreads::start(threads, queue, watched)?;
        Ok(Self { threads, cost: cost.clamp(*COSTS.start(), *COSTS.end()) })
    }

    /// The hashing threads, for their load.
    #[must_use]
    pub fn threads(&self) -> &HashingThreads {
        &self.threads
    }

    /// Hashes a new password under a new salt. `gone` resolves when nobody waits for the hash any more.
    ///
    /// # Errors
    /// See [`PasswordError`].
    pub async fn hash(
        &self,
        password: PlainPassword,
        gone: impl Future<Output = ()>,
    ) -> Result<PasswordHash, PasswordError> {
        let cost = self.cost;
        Ok(self.threads.run(move || schemes::hash(&password, cost), gone).await?)
    }

    /// Wraps a weak digest of another system ([`ImportedHash::Weak`]) in a hash of our own, which a login verifies like any
    /// that was imported. `None` where the text is no such digest.
    ///
    /// # Errors
    /// See [`PasswordError`].
    pub async fn wrap(
        &self,
        weak: &str,
        gone: impl Future<Output = ()>,
    ) -> Result<Option<ImportedHash>, PasswordError> {
        let Some(digest) = WeakDigest::parse(weak) else { return Ok(None) };
        let cost = self.cost;
        let (hash, work) = self.threads.run(move || schemes::wrap(&digest, cost), gone).await?;
        Ok(Some(ImportedHash::Verifiable { hash, work }))
    }

    /// Verifies a password against an account's stored hash, or against none where the account does not exist or is not
    /// active. Every answer but a match takes the same work, so that response times do not tell which accounts exist.
    /// `hardest` is how much work the hardest imported hash is that is left.
    ///
    /// # Errors
    /// See [`PasswordError`].
    pub async fn verify(
        &self,
        password: PlainPassword,
        against: Option<&Credentials>,
        hardest: Option<u64>,
        gone: impl Future<Output = ()>,
    ) -> Result<Verification, PasswordError> {
        let cost = self.cost;
        let parse = |account: &Credentials| {
            let stored = schemes::parse(account.password_hash.as_stored());
            stored.ok_or(PasswordError::MalformedHash(account.user_id))
        };
        // No password matches an account that has none, which takes the same work.
        let with_password = against.filter(|account| !account.password_hash.is_none());
        let stored = with_password.map(parse).transpose()?;
        let takes_much_memory = stored.as_ref().is_some_and(|stored| stored.memory() > MUCH_MEMORY);
        let verify = move || schemes::verify(&password, stored.as_deref(), cost, hardest);
        if takes_much_memory {
            return Ok(self.threads.run_alone(verify, gone).await?);
        }
        Ok(self.threads.run(verify, gone).await?)
    }
}
