//! The throttle: which attempts at passwords are let through, and what is noted of those that are not.
//!
//! An attempt is counted twice. [`LoginThrottle::admit`] counts the client's address, before a body is read; the use
//! case then counts the account. A use case takes an [`Admission`], so nobody can call it without the first check.

pub mod failed_attempts;
pub mod guesses;
pub mod limits;
pub mod mail_limits;
pub mod service_limits;

use std::net::IpAddr;
use std::sync::{Arc, Once};
use std::time::Duration;

use thiserror::Error;

use self::failed_attempts::FailedAttempts;
use self::guesses::Guesses;
use self::limits::{Attempt, Call, Limits, Origin, StoredBefore, Together, TooMany};
use self::mail_limits::{Asker, MailLimits};
use self::service_limits::ServiceLimits;
use crate::domain::event::{EventKind, FailedAttempt};
use crate::domain::rate::Rate;
use crate::domain::service::ServiceName;
use crate::domain::user::{CountedFailures, Username};
use crate::repository::{Repository, RepositoryError};
use crate::system::address::neighbourhood;
use crate::system::clock::Clock;
use crate::system::error_chain::Chain;
use crate::telemetry::metrics::{Metrics, Reason};

/// Limits on the loopback address are soon met in two cases: by somebody who tries things out, and by all clients
/// together behind a proxy that is not configured as trusted. The log says once what to do.
static LOOPBACK_HINT: Once = Once::new();

/// The least time that the looks at the store take before a login is refused, so that their length tells nothing.
const LOOK_TAKES: Duration = Duration::from_millis(10);

/// How many sign-ins by a passkey or through a provider's pages strangers may begin, all together: each is a row of the
/// store until it is finished or has expired, within ten minutes, so there are at most three times as many of these rows
/// for each node.
pub const BEGUN_BY_STRANGERS: Rate = Rate { count: 10_000, period: Duration::from_secs(5 * 60) };

/// When a login began to look at the store: a refusal has to wait until [`LOOK_TAKES`] later.
#[derive(Clone, Copy)]
pub(crate) struct Begun(tokio::time::Instant);

impl Begun {
    pub(crate) fn now() -> Self {
        Self(tokio::time::Instant::now() + LOOK_TAKES)
    }
}

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
#[expect(missing_docs, reason = "the names say it")]
pub struct LoginThrottle {
    /// The counts, by address and by account.
    pub limits: Arc<Limits>,
    /// The guesses at the codes of mails.
    pub guesses: Guesses,
    /// What all without a session begin together that the store keeps.
    pub begun: Together,
    /// What other services ask.
    pub services: ServiceLimits,
    /// Where throttled and failed attempts are noted.
    pub failed_attempts: Arc<FailedAttempts>,
    /// Knows from which addresses an account has logged in.
    pub repository: Arc<dyn Repository>,
    /// Where throttled attempts are counted; `None` where metrics are off.
    pub metrics: Option<Arc<Metrics>>,
    pub clock: Clock,
}

impl LoginThrottle {
    /// Lets an address through, unless it has made too many attempts. It is called before the body is read: a client
    /// over its limit costs neither memory nor parsing, and no address has more bodies in flight than it has attempts.
    ///
    /// # Errors
    /// [`Throttled`] where there were too many.
    pub fn admit(&self, call: Call, ip: Option<IpAddr>) -> Result<Admission<'_>, Throttled> {
        let admitted = self.limits.admit(call, ip, self.clock.monotonic());
        admitted.map_err(|too_many| self.throttled(too_many, Reason::RateLimitAddress, None, ip))?;
        Ok(Admission { throttle: self, call, ip, is_confirmed: false })
    }

    /// Lets a login through to the account of this name, unless too many have failed there.
    pub(crate) async fn begin_login(
        &self,
        username: &Username,
        ip: Option<IpAddr>,
        begun: Begun,
    ) -> Result<Attempt<'_>, NotBegun> {
        let now = self.clock.monotonic();
        // Nearly every login passes here. Where it comes from matters only if it does not.
        let too_many = match self.limits.begin(username, Origin::Anywhere(ip), now) {
            Ok(attempt) => return Ok(attempt),
            Err(too_many) => too_many,
        };
        let attempt = match ip {
            Some(ip) if self.is_familiar(username, ip, begun).await? => {
                self.limits.begin(username, Origin::Familiar(ip), now)
            }
            Some(ip) => self.limits.begin(username, Origin::Newcomer(ip), now).map_err(|_| too_many),
            None => Err(too_many),
        };
        Ok(attempt.map_err(|too_many| self.throttled(too_many, Reason::RateLimitAccount, Some(username), ip))?)
    }

    /// Lets the holder of a live token give the account's password, unless too many have failed to.
    pub(crate) fn begin_reauthentication(
        &self,
        username: &Username,
        ip: Option<IpAddr>,
    ) -> Result<Attempt<'_>, Throttled> {
        let attempt = self.limits.begin(username, Origin::Session, self.clock.monotonic());
        attempt.map_err(|too_many| self.throttled(too_many, Reason::RateLimitAccount, Some(username), ip))
    }

    /// Takes in what the store has counted at an account; `before` is from before the store was read.
    pub(crate) fn merge(&self, username: &Username, before: StoredBefore, failures: Option<CountedFailures>) {
        let (now, time) = (self.clock.monotonic(), self.clock.now());
        // A time in the future counts as now.
        let last = failures.map_or(now, |failures| now.minus(time.since(failures.last)));
        self.limits.merge(username, before, failures.map_or(0, |failures| failures.count), last);
    }

    /// Ends an attempt that has failed. It is noted, and stored a moment later; but at once where other nodes must know of
    /// it before there is another one.
    pub(crate) async fn fail(
        &self,
        attempt: Attempt<'_>,
        kind: EventKind,
        username: Option<Username>,
        ip: Option<IpAddr>,
    ) {
        if let (Some(metrics), EventKind::LoginFailed | EventKind::SecondFactorFailed) = (&self.metrics, kind) {
            metrics.login_failed();
        }
        let (at, now) = (self.clock.now(), self.clock.monotonic());
        let is_near = username.as_ref().is_some_and(|name| kind.counts_at_account() && self.limits.is_near_lock(name));
        let failed = FailedAttempt { at, kind, username, ip, detail: "" };
        if is_near {
            let stored = self.repository.record_failed_attempts(vec![failed.clone()], at).await;
            // Only then may the next one begin.
            attempt.failed(now);
            match stored {
                Ok(()) => return self.limits.note_stored(&failed),
                Err(RepositoryError::Unavailable(_)) => {}
                // It may be stored, and must not count twice.
                Err(error) => return log::error!("a failed attempt could not be stored: {}", Chain(&error)),
            }
        } else {
            attempt.failed(now);
        }
        self.failed_attempts.note(failed, now);
    }

    /// Notes a login that was refused where no account was named. It counts at none.
    pub(crate) fn note_unknown(&self, ip: Option<IpAddr>) {
        if let Some(metrics) = &self.metrics {
            metrics.login_failed();
        }
        let (at, kind) = (self.clock.now(), EventKind::LoginFailed);
        self.failed_attempts.note(FailedAttempt { at, kind, username: None, ip, detail: "" }, self.clock.monotonic());
    }

    /// Notes a code from a mail that was wrong. It counts like a wrong password, from wherever it came.
    pub(crate) fn note_wrong_code(&self, username: Username, origin: Origin, ip: Option<IpAddr>) {
        let (at, kind, now) = (self.clock.now(), EventKind::CodeFailed, self.clock.monotonic());
        self.limits.note_failure(&username, origin, now);
        self.failed_attempts.note(FailedAttempt { at, kind, username: Some(username), ip, detail: "" }, now);
    }

    /// Notes a login that has failed at no account, or at one that is not to be locked by it.
    pub(crate) fn note_failed_login(&self, ip: Option<IpAddr>) {
        if let Some(metrics) = &self.metrics {
            metrics.login_failed();
        }
        let (at, kind, now) = (self.clock.now(), EventKind::LoginFailed, self.clock.monotonic());
        self.failed_attempts.note(FailedAttempt { at, kind, username: None, ip, detail: "" }, now);
    }

    /// Lets somebody without a session begin what the store keeps for them, unless all of them together, or those of one
    /// neighbourhood, have begun too much. `what` is the limit that is noted where they have.
    pub(crate) fn admit_ceremony(&self, ip: Option<IpAddr>, what: &'static str) -> Result<(), Throttled> {
        let admitted = self.begun.admit(ip, self.clock.monotonic());
        admitted.map_err(|TooMany { retry_after }| {
            self.note_throttled(Reason::RateLimitAddress, None, ip, what);
            Throttled { retry_after }
        })
    }

    /// Lets a service that has shown its key ask whose a token is, unless it has asked too often.
    pub(crate) fn admit_service(&self, name: &ServiceName, ip: Option<IpAddr>) -> Result<(), Throttled> {
        let admitted = self.services.admit_service(name, self.clock.monotonic());
        admitted.map_err(|TooMany { retry_after }| {
            self.note_throttled(Reason::RateLimitService, None, ip, "service");
            Throttled { retry_after }
        })
    }

    /// Counts a caller that gave a wrong key of a service.
    pub(crate) fn count_wrong_key(&self, ip: Option<IpAddr>) -> Result<(), Throttled> {
        let admitted = self.services.admit_stranger(ip, self.clock.monotonic());
        admitted.map_err(|TooMany { retry_after }| {
            self.note_throttled(Reason::RateLimitAddress, None, ip, "address");
            Throttled { retry_after }
        })
    }

    /// Lets somebody without a session ask for a mail, unless all of them together have asked for too many.
    pub(crate) fn admit_mail(&self, limits: &MailLimits, ip: Option<IpAddr>) -> Result<(), Throttled> {
        let admitted = limits.admit(self.clock.monotonic());
        admitted.map_err(|too_many| self.too_many_mails(too_many, Reason::RateLimitMail, None, ip))
    }

    /// Lets the holder of a session ask for a mail, unless there were too many for the account.
    pub(crate) fn admit_own_mail(
        &self,
        limits: &MailLimits,
        username: &Username,
        asker: Asker,
        ip: Option<IpAddr>,
    ) -> Result<(), Throttled> {
        let admitted = limits.admit_to(&username.key(), asker, self.clock.monotonic());
        admitted.map_err(|too_many| self.too_many_mails(too_many, Reason::RateLimitAccount, Some(username), ip))
    }

    fn too_many_mails(
        &self,
        TooMany { retry_after }: TooMany,
        reason: Reason,
        username: Option<&Username>,
        ip: Option<IpAddr>,
    ) -> Throttled {
        self.note_throttled(reason, username, ip, "mail");
        Throttled { retry_after }
    }

    /// Counts a refusal, and notes it as an event. `detail` is the limit that was met.
    fn note_throttled(&self, reason: Reason, username: Option<&Username>, ip: Option<IpAddr>, detail: &'static str) {
        if let Some(metrics) = &self.metrics {
            metrics.rejected(reason);
        }
        let (at, kind, username) = (self.clock.now(), EventKind::Throttled, username.cloned());
        self.failed_attempts.note(FailedAttempt { at, kind, username, ip, detail }, self.clock.monotonic());
    }

    /// Clears an account's failures: it has a new password, or its owner has logged in by what nobody guesses. The store
    /// clears its own with every session that is opened.
    pub(crate) fn clear_failures(&self, username: &Username) {
        self.limits.clear_failures(username);
    }

    /// Whether the account has logged in from this neighbourhood. The store's look takes longer the more it knows of
    /// the account, and the time that it takes to refuse a login must not tell whether the account exists. So it never
    /// ends earlier than [`LOOK_TAKES`] after the beginning.
    async fn is_familiar(&self, username: &Username, ip: IpAddr, Begun(over): Begun) -> Result<bool, RepositoryError> {
        let asking = neighbourhood(ip);
        let look = self.repository.list_familiar_addresses(username);
        let (addresses, ()) = tokio::join!(look, tokio::time::sleep_until(over));
        Ok(addresses?.into_iter().any(|address| neighbourhood(address) == asking))
    }

    fn throttled(
        &self,
        TooMany { retry_after }: TooMany,
        reason: Reason,
        username: Option<&Username>,
        ip: Option<IpAddr>,
    ) -> Throttled {
        if reason == Reason::RateLimitAddress && ip.is_some_and(|ip| ip.to_canonical().is_loopback()) {
            LOOPBACK_HINT.call_once(|| {
                log::warn!(
                    "a client on this machine has met a limit of [rate_limit]: to try things out, lift the limits with \
                     AUTHTOKENS__RATE_LIMIT__ENABLED=false; a proxy in front is to be named in [server] trusted_proxies"
                );
            });
        }
        let detail = if reason == Reason::RateLimitAccount { "account" } else { "address" };
        self.note_throttled(reason, username, ip, detail);
        // The next attempt on the account counts for the address too, so the wait is the longer of the two.
        let of_the_address =
            self.limits.check(Call::LogIn, ip, self.clock.monotonic()).err().map(|too_many| too_many.retry_after);
        let of_the_address = of_the_address.filter(|_| reason == Reason::RateLimitAccount);
        Throttled { retry_after: retry_after.max(of_the_address.unwrap_or_default()) }
    }
}

/// An attempt of an address that was let through. Dropped unconfirmed, it is given back: a malformed body costs no
/// attempt.
#[must_use]
pub struct Admission<'a> {
    throttle: &'a LoginThrottle,
    call: Call,
    ip: Option<IpAddr>,
    is_confirmed: bool,
}

impl Admission<'_> {
    /// From here on the attempt counts, whatever its outcome. `call` is what it was admitted for.
    pub(crate) fn confirm(mut self, call: Call) {
        debug_assert_eq!(self.call, call, "each call has a limit of its own");
        self.is_confirmed = true;
    }
}

impl Drop for Admission<'_> {
    fn drop(&mut self) {
        if !self.is_confirmed {
            self.throttle.limits.give_back(self.call, self.ip);
        }
    }
}
