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

pub use crate::passwords::imported::{ImportedHash, read_imported};
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

/// Of hashes that take more memory than this, in bytes, one is verified at a time. Django's scrypt takes 16 MiB and a
/// little.
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

    /// Wraps a weak digest of another system ([`ImportedHash::Weak`]) in a hash of our own, which a login verifies like
    /// any that was imported. `None` where the text is no such digest.
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

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::sync::mpsc;

    use super::*;
    use crate::domain::user::Username;

    fn credentials(hash: &str) -> Credentials {
        Credentials {
            user_id: UserId(1),
            username: Username::parse("AzureDiamond").unwrap(),
            password_hash: PasswordHash::from_stored(hash.to_owned()),
            is_active: true,
            is_email_verified: false,
            failures: None,
        }
    }

    #[tokio::test]
    async fn a_hash_that_takes_much_memory_waits_for_the_one_before_it_and_others_do_not() {
        let watched = WatchedThreads::default();
        let passwords = Passwords::start(4, NonZeroUsize::new(2).unwrap(), 2, &watched).unwrap();
        let (release, wait) = mpsc::channel::<()>();
        let before = passwords.clone();
        let before = tokio::spawn(async move { before.threads().run_alone(move || wait.recv(), pending()).await });
        while passwords.threads().load().running == 0 {
            tokio::task::yield_now().await;
        }

        let salt_and_digest = "c29tZXNhbHQ$rVT1OByOi/FxWnZv5xshx1ex69KEtDrPd6Pii7EP4H4";
        let verify = async |memory: u32| {
            let account = credentials(&format!("$argon2id$v=19$m={memory},t=1,p=1${salt_and_digest}"));
            let password = PlainPassword::parse("password", "hunter2".to_owned()).unwrap();
            passwords.verify(password, Some(&account), None, pending()).await.unwrap().matches
        };
        assert!(!verify(1_024).await);
        let mut large = std::pin::pin!(verify(24 * 1_024));
        assert!(futures_util::future::poll_immediate(&mut large).await.is_none());
        assert_eq!(passwords.threads().load().waiting, 1);
        assert!(!verify(1_024).await);
        assert_eq!(passwords.threads().load().waiting, 1);
        release.send(()).unwrap();
        assert!(!large.await);
        before.await.unwrap().unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_weak_digest_is_wrapped_at_the_configured_cost_and_nothing_else_is() {
        let passwords = Passwords::start(5, NonZeroUsize::MIN, 1, &WatchedThreads::default()).unwrap();
        let wrapped = passwords.wrap("2ab96390c7dbe3439de74d0c9b0b1767", pending()).await.unwrap();
        let Some(ImportedHash::Verifiable { hash, work }) = wrapped else { panic!("it is not wrapped") };
        assert_eq!(work, 1 << 5);
        assert!(hash.as_stored().starts_with("$wrapped-md5$$bcrypt-sha256$v=2,t=2b,r=5$"));
        let password = PlainPassword::parse("password", "hunter2".to_owned()).unwrap();
        let verification =
            passwords.verify(password, Some(&credentials(hash.as_stored())), None, pending()).await.unwrap();
        assert!(verification.matches && verification.rehashed.is_some());
        assert!(passwords.wrap("hunter2", pending()).await.unwrap().is_none());
    }
}
