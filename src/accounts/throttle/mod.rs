//! What stands before every use case that takes a password: who is let through, and what is noted of those who are not.
//!
//! Whoever asks is counted twice. [`LoginThrottle::admit`] counts their address, before a body is read; the use cases then
//! count the account. A use case that takes an [`Admission`] cannot be called by a door that forgot the first.

pub mod failed_attempts;
pub mod limits;

use std::net::IpAddr;
use std::sync::{Arc, Once};
use std::time::Duration;

use thiserror::Error;

use self::failed_attempts::FailedAttempts;
use self::limits::{Attempt, Call, Limits, Origin, TooMany};
use crate::domain::event::{EventKind, FailedAttempt};
use crate::domain::user::Username;
use crate::repository::{Repository, RepositoryError};
use crate::system::clock::Clock;
use crate::telemetry::metrics::{Metrics, Reason};

/// Whoever tries things out meets a limit soon, and so do all together who come through a proxy that is not named. Both are
/// told once what to do.
static LOOPBACK_HINT: Once = Once::new();

/// How long it takes to find out where an account has logged in from, as far as anyone outside can tell.
const LOOK_TAKES: Duration = Duration::from_millis(10);

/// There were too many attempts from an address or at an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("there were too many attempts")]
pub struct Throttled {
    /// When to try again, in seconds.
    pub retry_after: u64,
}

/// Why an attempt at an account does not begin.
#[derive(Debug, Error)]
pub(crate) enum NotBegun {
    #[error(transparent)]
    Throttled(#[from] Throttled),
    #[error(transparent)]
    Repository(#[from] RepositoryError),
}

/// Counts attempts at passwords.
pub struct LoginThrottle {
    /// How many attempts are let through.
    pub limits: Arc<Limits>,
    /// Where it is noted that one was not, or came to nothing.
    pub failed_attempts: Arc<FailedAttempts>,
    /// Where it stands from where an account has logged in before.
    pub repository: Arc<dyn Repository>,
    /// Where it is counted, where anyone counts.
    pub metrics: Option<Arc<Metrics>>,
    /// What time it is.
    pub clock: Clock,
}

impl LoginThrottle {
    /// Lets an address through, unless it has tried too much. It stands before the body is read, so that whoever is over
    /// the limit costs neither memory nor parsing, and nobody has more bodies in flight than the limit has attempts.
    ///
    /// # Errors
    /// [`Throttled`] where it has.
    pub fn admit(&self, call: Call, ip: Option<IpAddr>) -> Result<Admission<'_>, Throttled> {
        let admitted = self.limits.admit(call, ip, self.clock.monotonic());
        admitted.map_err(|too_many| self.throttled(too_many, Reason::RateLimitAddress, None, ip))?;
        Ok(Admission { throttle: self, call, ip, is_spent: false })
    }

    /// Lets a login through to the account of this name, unless too many have failed there.
    pub(crate) async fn begin_login(&self, username: &Username, ip: Option<IpAddr>) -> Result<Attempt<'_>, NotBegun> {
        let now = self.clock.monotonic();
        // Nearly every login passes here. Only where it does not, it matters where it comes from.
        let too_many = match self.limits.begin(username, Origin::Anywhere(ip), now) {
            Ok(attempt) => return Ok(attempt),
            Err(too_many) => too_many,
        };
        let attempt = match ip {
            Some(ip) if self.is_familiar(username, ip).await? => self.limits.begin(username, Origin::Familiar(ip), now),
            Some(ip) => self.limits.begin(username, Origin::Newcomer(ip), now).map_err(|_| too_many),
            None => Err(too_many),
        };
        Ok(attempt.map_err(|too_many| self.throttled(too_many, Reason::RateLimitAccount, Some(username), ip))?)
    }

    /// Lets the holder of a live token show again that the account is theirs.
    pub(crate) fn begin_reauthentication(
        &self,
        username: &Username,
        ip: Option<IpAddr>,
    ) -> Result<Attempt<'_>, Throttled> {
        let attempt = self.limits.begin(username, Origin::Session, self.clock.monotonic());
        attempt.map_err(|too_many| self.throttled(too_many, Reason::RateLimitAccount, Some(username), ip))
    }

    /// Ends an attempt that has failed.
    pub(crate) fn fail(&self, attempt: Attempt<'_>, kind: EventKind, username: Username, ip: Option<IpAddr>) {
        let (at, now) = (self.clock.now(), self.clock.monotonic());
        attempt.failed(now);
        self.failed_attempts.note(FailedAttempt { at, kind, username: Some(username), ip, detail: "" }, now);
    }

    /// An account's password was set anew: what failed before counts no more.
    pub(crate) fn forget(&self, username: &Username) {
        self.limits.forget(username);
    }

    /// Whether the account has logged in from this neighbourhood. The store looks longer the more it knows of the account,
    /// and a refusal must not tell by its time whether there is one: so it never comes sooner than a look may take.
    async fn is_familiar(&self, username: &Username, ip: IpAddr) -> Result<bool, RepositoryError> {
        let neighbourhood = limits::neighbourhood(ip);
        let look = self.repository.list_familiar_addresses(username);
        let (addresses, ()) = tokio::join!(look, tokio::time::sleep(LOOK_TAKES));
        Ok(addresses?.into_iter().any(|address| limits::neighbourhood(address) == neighbourhood))
    }

    fn throttled(
        &self,
        TooMany { retry_after }: TooMany,
        reason: Reason,
        username: Option<&Username>,
        ip: Option<IpAddr>,
    ) -> Throttled {
        if let Some(metrics) = &self.metrics {
            metrics.rejected(reason);
        }
        if reason == Reason::RateLimitAddress && ip.is_some_and(|ip| ip.to_canonical().is_loopback()) {
            LOOPBACK_HINT.call_once(|| {
                log::warn!(
                    "a client on this machine has met a limit of [rate_limit]: to try things out, lift the limits with \
                     AUTHTOKENS__RATE_LIMIT__ENABLED=false; a proxy in front is to be named in [server] trusted_proxies"
                );
            });
        }
        let detail = if reason == Reason::RateLimitAccount { "account" } else { "address" };
        let username = username.cloned();
        let (at, kind, now) = (self.clock.now(), EventKind::Throttled, self.clock.monotonic());
        self.failed_attempts.note(FailedAttempt { at, kind, username, ip, detail }, now);
        // The next attempt on the account counts for the address too: it is told when both let it through.
        let of_the_address = self.limits.check(Call::LogIn, ip, now).err().map(|too_many| too_many.retry_after);
        let of_the_address = of_the_address.filter(|_| reason == Reason::RateLimitAccount);
        Throttled { retry_after: retry_after.max(of_the_address.unwrap_or_default()) }
    }
}

/// An address that was let through. Dropped unspent, it was never counted: a body that is no good costs no attempt.
#[must_use]
pub struct Admission<'a> {
    throttle: &'a LoginThrottle,
    call: Call,
    ip: Option<IpAddr>,
    is_spent: bool,
}

impl Admission<'_> {
    /// From here on the attempt counts, whatever becomes of it.
    pub(crate) fn spend(mut self) {
        self.is_spent = true;
    }
}

impl Drop for Admission<'_> {
    fn drop(&mut self) {
        if !self.is_spent {
            self.throttle.limits.give_back(self.call, self.ip);
        }
    }
}
