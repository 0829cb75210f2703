//! The job that revokes refresh tokens: what a provider gave is given back once its account, or the link to it, is gone.
//!
//! Whoever deletes an account never waits for it. A provider that cannot be asked is asked again, ever more seldom, until
//! the revocation is no longer worth it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::accounts::Accounts;
use crate::domain::identity::refresh_token_binding;
use crate::jobs::{Job, JobError};
use crate::repository::Revocation;
use crate::system::error_chain::Chain;

/// How often the job looks for what is due.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// How many it takes at once.
const BATCH: u32 = 10;

/// How long one is claimed: longer than a batch takes whose every request waits for its timeout.
const CLAIM: Duration = Duration::from_secs(15 * 60);

/// How long it waits after each failure, in minutes; the last for all that follow.
const WAITS: [u64; 5] = [1, 5, 30, 120, 720];

/// The job.
pub struct RevokeTokens {
    accounts: Arc<Accounts>,
}

/// What came of a try.
enum Outcome {
    Revoked,
    Retry(String),
    Hopeless(String),
}

impl RevokeTokens {
    /// A job over these accounts.
    #[must_use]
    pub fn new(accounts: Arc<Accounts>) -> Self {
        Self { accounts }
    }

    async fn revoke(&self, revocation: &Revocation) -> Outcome {
        let providers = &self.accounts.identities.providers;
        let Some(provider) = providers.find(&revocation.provider) else {
            // It may come back: the configuration is not for ever.
            return Outcome::Retry("the provider is not configured".to_owned());
        };
        let Some(key) = &self.accounts.sealing else { return Outcome::Hopeless("there is no key".to_owned()) };
        let token = match key.open(&refresh_token_binding(&revocation.binding), &revocation.token) {
            Ok(token) => token,
            Err(error) => return Outcome::Hopeless(error.to_string()),
        };
        let Ok(token) = std::str::from_utf8(&token) else { return Outcome::Hopeless("it is no text".to_owned()) };
        match providers.revoke(provider, token, self.accounts.clock.now()).await {
            Ok(()) => Outcome::Revoked,
            Err(error) => Outcome::Retry(Chain(&error).to_string()),
        }
    }

    async fn settle(&self, revocation: Revocation) -> Result<(), JobError> {
        let outcome = self.revoke(&revocation).await;
        let name = &revocation.provider;
        let retry = match outcome {
            Outcome::Revoked => None,
            Outcome::Hopeless(why) => {
                log::warn!("a refresh token of {name} is not revoked, and was given up: {why}");
                None
            }
            Outcome::Retry(why) => {
                let at = self.accounts.clock.now().plus(wait_after(revocation.attempts));
                let retry = Some(at).filter(|at| *at < revocation.expires);
                let then = if retry.is_some() { "is tried again" } else { "was given up" };
                log::warn!("a refresh token of {name} is not revoked, and {then}: {why}");
                retry
            }
        };
        let settled = self.accounts.repository.settle_revocation(revocation.id, retry).await;
        settled.map(drop).map_err(JobError::because("a revocation could not be settled"))
    }
}

/// The wait after a failure that so many came before.
fn wait_after(attempts: u32) -> Duration {
    let number = usize::try_from(attempts).unwrap_or(usize::MAX).min(WAITS.len() - 1);
    Duration::from_secs(WAITS[number] * 60)
}

#[async_trait]
impl Job for RevokeTokens {
    fn name(&self) -> &'static str {
        "revocations"
    }

    fn interval(&self) -> Duration {
        LOOK_EVERY
    }

    async fn run(&self) -> Result<(), JobError> {
        loop {
            let now = self.accounts.clock.now();
            let claimed = self.accounts.repository.claim_revocations(BATCH, now, now.plus(CLAIM)).await;
            let claimed = claimed.map_err(JobError::because("the revocations could not be claimed"))?;
            let count = claimed.len();
            for revocation in claimed {
                self.settle(revocation).await?;
            }
            if count < BATCH as usize {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_provider_that_fails_is_asked_ever_more_seldom() {
        let minutes: Vec<_> = (0..7).map(|attempts| wait_after(attempts).as_secs() / 60).collect();
        assert_eq!(minutes, [1, 5, 30, 120, 720, 720, 720]);
    }
}
