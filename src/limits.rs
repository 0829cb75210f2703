//! How many attempts are let through: per client address, and per account after failures.
//!
//! Addresses are limited by the generic cell rate algorithm (GCRA, as ATM and governor have it): so many in a row, and
//! then one at a time at a steady pace. An IPv6 client counts by its /64, which is what one subscriber has.
//!
//! An account's failures in a row, counted under its folded name whether or not there is such an account, cost a growing
//! delay, and after [`MAX_FAILURES`] of them (NIST SP 800-63B) a day. A success forgets them. What strangers do counts
//! together; a network from which the account has logged in before has a count of its own, and so has the holder of a
//! live token. And while strangers must wait for a day, a few newcomers, who have not failed at the account, have one attempt
//! each: nobody can lock the owner out by guessing, wherever the owner is. An attempt that is being checked counts as failed until it is
//! known, so that many at once are no way around the count.
//!
//! All of it is decided before anything is hashed, and in bounded memory: the counts stand in a table like a processor's
//! cache, where a newcomer to a full set replaces whoever is limited least.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::Timestamp;
use crate::user::Username;

/// How many failures in a row cost no delay.
const FREE_FAILURES: u32 = 10;
/// The delay behind the first failure that costs one. Each further failure doubles it.
const FIRST_DELAY: Duration = Duration::from_secs(1);
/// What it grows to.
const LONGEST_DELAY: Duration = Duration::from_secs(15 * 60);
/// How many failures in a row are let through at all at that pace: the most that NIST SP 800-63B allows.
pub const MAX_FAILURES: u32 = 100;
/// The delay from then on.
const DELAY_AT_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// How many newcomers have an attempt at an account at which strangers must wait for a day.
const NEWCOMERS: Rate = Rate { count: 10, period: Duration::from_secs(24 * 60 * 60) };

/// How many counts share a set of the table.
const WAYS: usize = 8;
/// How many sets there are. A full table takes one to two MiB.
const SETS: usize = 8192;

/// So many attempts in a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How many at once.
    pub count: u32,
    /// In which time as many come again.
    pub period: Duration,
}

/// What is limited per address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// To register.
    Register,
    /// To log in.
    LogIn,
}

/// The configured limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitsPolicy {
    /// Whether there are any.
    pub enabled: bool,
    /// How many registrations an address may try.
    pub register: Rate,
    /// How many logins an address may try.
    pub login: Rate,
}

/// There were too many attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooMany {
    /// When the next may be let through, in seconds, at least one.
    pub retry_after: u64,
}

impl TooMany {
    fn after(micros: i64) -> Self {
        Self { retry_after: u64::try_from(micros).unwrap_or_default().div_ceil(1_000_000).max(1) }
    }
}

/// Whose count an attempt on an account goes to.
#[derive(Clone, Copy, Debug)]
pub enum Origin {
    /// Everyone's of whom nothing is known.
    Strangers(Option<IpAddr>),
    /// That of an address that has not failed at the account, where strangers must wait for a day.
    Newcomer(IpAddr),
    /// That of an address from which the account has logged in.
    Familiar(Option<IpAddr>),
    /// That of those who hold a live token.
    Session,
}

/// The counts.
pub struct Limits {
    policy: LimitsPolicy,
    hasher: RandomState,
    register: Mutex<Table<i64>>,
    login: Mutex<Table<i64>>,
    newcomers: Mutex<Table<i64>>,
    accounts: Mutex<Table<Failures>>,
}

/// Failures in a row.
#[derive(Clone, Copy, Default)]
struct Failures {
    /// Whose, whatever the origin.
    account: u64,
    /// When the last one was, in milliseconds since 1970.
    last: i64,
    count: u32,
    /// Attempts that are being checked.
    pending: u32,
}

impl Limits {
    /// Counts that all start at nothing.
    #[must_use]
    pub fn new(policy: LimitsPolicy) -> Self {
        Self {
            policy,
            hasher: RandomState::new(),
            register: Mutex::new(Table::new()),
            login: Mutex::new(Table::new()),
            newcomers: Mutex::new(Table::new()),
            accounts: Mutex::new(Table::new()),
        }
    }

    /// Counts an attempt of an address. All whose address is not known count together.
    ///
    /// # Errors
    /// [`TooMany`] when it may not be let through; it is then not counted.
    pub fn admit(&self, call: Call, ip: Option<IpAddr>, now: Timestamp) -> Result<(), TooMany> {
        if !self.policy.enabled {
            return Ok(());
        }
        let (table, rate) = match call {
            Call::Register => (&self.register, self.policy.register),
            Call::LogIn => (&self.login, self.policy.login),
        };
        admit(&mut lock(table), self.hasher.hash_one(ip.map(network)), rate, now)
    }

    /// Begins an attempt on the account of this name. It counts as failed until it is known how it ended.
    ///
    /// # Errors
    /// [`TooMany`] when it may not be let through; it is then not counted.
    pub fn begin(&self, username: &Username, origin: Origin, now: Timestamp) -> Result<Attempt<'_>, TooMany> {
        let account = self.account(username);
        let key = self.key(account, origin);
        let also = self.also(account, origin);
        if !self.policy.enabled {
            return Ok(Attempt { limits: self, account, key, also, open: false });
        }
        let mut table = lock(&self.accounts);
        if let Some(failures) = table.get(key) {
            failures.admit(now.as_millis(), matches!(origin, Origin::Newcomer(_)))?;
        }
        if let Origin::Newcomer(_) = origin {
            let strangers = table.get(self.key(account, Origin::Strangers(None)));
            if strangers.is_none_or(|failures| failures.count < MAX_FAILURES) {
                return Err(TooMany { retry_after: 1 });
            }
            admit(&mut lock(&self.newcomers), account, NEWCOMERS, now)?;
        }
        let failures = table.entry(key, Failures::worth);
        failures.account = account;
        failures.pending += 1;
        Ok(Attempt { limits: self, account, key, also, open: true })
    }

    /// Puts back what strangers' failures a store remembers.
    pub fn restore(&self, username: &Username, count: u32, last: Timestamp) {
        let account = self.account(username);
        let mut table = lock(&self.accounts);
        let failures = table.entry(self.key(account, Origin::Strangers(None)), Failures::worth);
        *failures = Failures { account, last: last.as_millis(), count, pending: failures.pending };
    }

    /// Forgets an account's failures, wherever they came from: its password was set anew.
    pub fn forget(&self, username: &Username) {
        let account = self.account(username);
        lock(&self.accounts).for_each(|failures| {
            if failures.account == account {
                failures.count = 0;
            }
        });
    }

    fn account(&self, username: &Username) -> u64 {
        self.hasher.hash_one(username.key())
    }

    fn key(&self, account: u64, origin: Origin) -> u64 {
        self.hasher.hash_one(match origin {
            Origin::Strangers(_) => (account, 0, None),
            Origin::Familiar(ip) => (account, 1, ip.map(network)),
            Origin::Session => (account, 2, None),
            Origin::Newcomer(ip) => (account, 3, Some(network(ip))),
        })
    }

    /// What a failure counts for beside its own count: a stranger is no newcomer any more, and a newcomer is a stranger.
    fn also(&self, account: u64, origin: Origin) -> Option<u64> {
        match origin {
            Origin::Strangers(ip) => ip.map(|ip| self.key(account, Origin::Newcomer(ip))),
            Origin::Newcomer(_) => Some(self.key(account, Origin::Strangers(None))),
            Origin::Familiar(_) | Origin::Session => None,
        }
    }
}

/// The generic cell rate algorithm.
fn admit(table: &mut Table<i64>, key: u64, rate: Rate, now: Timestamp) -> Result<(), TooMany> {
    let now = now.as_millis().saturating_mul(1_000);
    let period = i64::try_from(rate.period.as_micros()).unwrap_or(i64::MAX);
    let interval = (period / i64::from(rate.count.max(1))).max(1);
    // When the address will have paid for all that it was let through; a clock that was set back must not lock it out.
    let arrival = table.get(key).copied().unwrap_or(now).clamp(now, now + period);
    let too_early = arrival + interval - period - now;
    if too_early > 0 {
        return Err(TooMany::after(too_early));
    }
    // What has been paid for needs no place.
    *table.entry(key, |arrival| (*arrival).max(now)) = arrival + interval;
    Ok(())
}

/// The network that counts as one client: an IPv4 address, or an IPv6 /64.
#[must_use]
pub fn network(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & (u128::MAX << 64))),
        ip @ IpAddr::V4(_) => ip,
    }
}

/// The network that is familiar where one address of it is: an IPv4 /24 or an IPv6 /48. Phones and homes move within one.
#[must_use]
pub fn neighbourhood(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & (u128::MAX << 80))),
        IpAddr::V4(ip) => IpAddr::V4(Ipv4Addr::from_bits(ip.to_bits() & (u32::MAX << 8))),
    }
}

impl Failures {
    fn admit(&self, now: i64, is_newcomer: bool) -> Result<(), TooMany> {
        let failures = self.count + self.pending;
        let delay = if is_newcomer && failures > 0 { DELAY_AT_MAX } else { delay(failures) };
        if delay.is_zero() {
            return Ok(());
        }
        let delay = i64::try_from(delay.as_millis()).unwrap_or(i64::MAX);
        // A clock that was set back must not make the wait longer.
        let since = if self.pending > 0 { now } else { self.last.min(now) };
        let wait = since + delay - now;
        if wait > 0 { Err(TooMany::after(wait * 1_000)) } else { Ok(()) }
    }

    /// What would be lost with it: attempts that are being checked first, then how many failures, then how lately.
    fn worth(&self) -> (u32, u32, i64) {
        (self.pending, self.count, self.last)
    }
}

fn delay(failures: u32) -> Duration {
    match failures {
        0..FREE_FAILURES => Duration::ZERO,
        FREE_FAILURES..MAX_FAILURES => {
            2_u32.checked_pow(failures - FREE_FAILURES).map_or(LONGEST_DELAY, |n| (FIRST_DELAY * n).min(LONGEST_DELAY))
        }
        MAX_FAILURES.. => DELAY_AT_MAX,
    }
}

/// An attempt that is being checked. Dropped without a word, it was never made.
pub struct Attempt<'a> {
    limits: &'a Limits,
    account: u64,
    key: u64,
    also: Option<u64>,
    open: bool,
}

impl Attempt<'_> {
    /// The password was wrong, or there is no such account.
    pub fn failed(mut self, now: Timestamp) {
        let fail = |failures: &mut Failures| {
            failures.count = failures.count.saturating_add(1);
            failures.last = failures.last.max(now.as_millis());
        };
        if self.open
            && let Some(also) = self.also
        {
            let mut table = lock(&self.limits.accounts);
            let failures = table.entry(also, Failures::worth);
            failures.account = self.account;
            fail(failures);
        }
        self.end(fail);
    }

    /// The password was right: the failures before it are forgotten, the strangers' and the token holders' too.
    pub fn succeeded(mut self) {
        self.end(|failures| failures.count = 0);
        let mut table = lock(&self.limits.accounts);
        for origin in [Origin::Strangers(None), Origin::Session] {
            if let Some(failures) = table.get_mut(self.limits.key(self.account, origin)) {
                failures.count = 0;
            }
        }
    }

    /// Whether it is one of the strangers'.
    #[must_use]
    pub fn is_strangers(&self) -> bool {
        let strangers = self.limits.key(self.account, Origin::Strangers(None));
        self.key == strangers || self.also == Some(strangers)
    }

    fn end(&mut self, then: impl FnOnce(&mut Failures)) {
        if std::mem::take(&mut self.open)
            && let Some(failures) = lock(&self.limits.accounts).get_mut(self.key)
        {
            failures.pending = failures.pending.saturating_sub(1);
            then(failures);
        }
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        self.end(|_| {});
    }
}

fn lock<T>(table: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that can panic runs under these locks.
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Values under keys that are random already, at most [`SETS`] times [`WAYS`] of them. A set is made when it is first
/// needed; in a full one a newcomer takes the place of the value that is worth least.
struct Table<V>(Vec<Option<Box<Set<V>>>>);

type Set<V> = [Option<(u64, V)>; WAYS];

impl<V: Copy + Default> Table<V> {
    fn new() -> Self {
        Self(std::iter::repeat_with(|| None).take(SETS).collect())
    }

    fn index(key: u64) -> usize {
        usize::try_from(key % (SETS as u64)).unwrap_or_default()
    }

    fn get(&self, key: u64) -> Option<&V> {
        let set = self.0[Self::index(key)].as_deref()?;
        set.iter().flatten().find(|(known, _)| *known == key).map(|(_, value)| value)
    }

    fn get_mut(&mut self, key: u64) -> Option<&mut V> {
        let set = self.0[Self::index(key)].as_deref_mut()?;
        set.iter_mut().flatten().find(|(known, _)| *known == key).map(|(_, value)| value)
    }

    /// The key's value; a new one where it has none.
    fn entry<W: Ord>(&mut self, key: u64, worth: impl Fn(&V) -> W) -> &mut V {
        let set = self.0[Self::index(key)].get_or_insert_with(|| Box::new([const { None }; WAYS]));
        let own = set.iter().position(|place| place.is_some_and(|(known, _)| known == key));
        let place = own.unwrap_or_else(|| {
            // `None` comes before every `Some`: an empty place is taken first.
            let least = (0..WAYS).min_by_key(|place| set[*place].as_ref().map(|(_, value)| worth(value)));
            let place = least.unwrap_or_default();
            set[place] = None;
            place
        });
        &mut set[place].get_or_insert((key, V::default())).1
    }

    fn for_each(&mut self, then: impl FnMut(&mut V)) {
        let sets = self.0.iter_mut().flatten();
        sets.flat_map(|set| set.iter_mut().flatten()).map(|(_, value)| value).for_each(then);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: i64 = 1_000_000_000_000;

    fn limits() -> Limits {
        let rate = Rate { count: 3, period: Duration::from_secs(60) };
        Limits::new(LimitsPolicy { enabled: true, register: rate, login: rate })
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(START + seconds * 1_000).unwrap()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn name(text: &str) -> Username {
        Username::parse(text).unwrap()
    }

    fn fail(limits: &Limits, origin: Origin, times: u32, now: Timestamp) {
        for _ in 0..times {
            limits.begin(&name("azure"), origin, now).ok().unwrap().failed(now);
        }
    }

    #[test]
    fn so_many_at_once_and_then_one_at_a_time() {
        let limits = limits();
        let mine = Some(ip("203.0.113.9"));
        for _ in 0..3 {
            assert_eq!(limits.admit(Call::LogIn, mine, at(0)), Ok(()));
        }
        assert_eq!(limits.admit(Call::LogIn, mine, at(0)), Err(TooMany { retry_after: 20 }));
        assert_eq!(limits.admit(Call::LogIn, mine, at(19)), Err(TooMany { retry_after: 1 }));
        assert_eq!(limits.admit(Call::LogIn, mine, at(20)), Ok(()));
        assert!(limits.admit(Call::LogIn, mine, at(20)).is_err());
        assert_eq!(limits.admit(Call::Register, mine, at(20)), Ok(()), "each call has counts of its own");
        assert_eq!(limits.admit(Call::LogIn, Some(ip("203.0.113.10")), at(20)), Ok(()), "and so has each address");
        assert!(limits.admit(Call::LogIn, mine, at(-86_400)).is_err(), "a clock that is set back");
        assert_eq!(limits.admit(Call::LogIn, mine, at(200)), Ok(()));
    }

    #[test]
    fn an_ipv6_client_counts_by_its_64_and_a_mapped_ipv4_client_as_itself() {
        let limits = limits();
        for suffix in 0..3 {
            assert_eq!(limits.admit(Call::LogIn, Some(ip(&format!("2001:db8::{suffix}:1"))), at(0)), Ok(()));
        }
        assert!(limits.admit(Call::LogIn, Some(ip("2001:db8::ffff:ffff:ffff:ffff")), at(0)).is_err());
        assert_eq!(limits.admit(Call::LogIn, Some(ip("2001:db8:0:1::1")), at(0)), Ok(()));
        assert_eq!(network("::ffff:203.0.113.9".parse().unwrap()), ip("203.0.113.9"));
    }

    #[test]
    fn failures_cost_a_delay_that_doubles_and_after_a_hundred_of_them_a_day() {
        let limits = limits();
        let try_at = |seconds| limits.begin(&name("AZURE"), Origin::Strangers(None), at(seconds)).map(drop);
        fail(&limits, Origin::Strangers(None), 10, at(0));
        assert_eq!(try_at(0), Err(TooMany { retry_after: 1 }));
        assert_eq!(try_at(1), Ok(()), "dropped: never made");
        fail(&limits, Origin::Strangers(None), 1, at(1));
        assert_eq!(try_at(1), Err(TooMany { retry_after: 2 }));
        let mut now = 1;
        for failures in 11..100 {
            now += 900;
            assert_eq!(try_at(now), Ok(()), "{failures}");
            fail(&limits, Origin::Strangers(None), 1, at(now));
        }
        assert_eq!(try_at(now), Err(TooMany { retry_after: 86_400 }));
        assert_eq!(try_at(now + 86_400), Ok(()));
    }

    #[test]
    fn a_familiar_address_and_a_live_token_have_counts_of_their_own_and_a_success_forgets() {
        let limits = limits();
        fail(&limits, Origin::Strangers(None), 10, at(0));
        let begin = |origin| limits.begin(&name("azure"), origin, at(0));
        let home = Origin::Familiar(Some(ip("203.0.113.9")));
        assert!(begin(Origin::Strangers(None)).is_err());
        assert!(begin(home).is_ok() && begin(Origin::Session).is_ok());
        fail(&limits, home, 10, at(0));
        assert!(begin(home).is_err());
        assert!(begin(Origin::Familiar(Some(ip("203.0.113.10")))).is_ok());
        begin(Origin::Session).ok().unwrap().succeeded();
        assert!(begin(Origin::Strangers(None)).is_ok());
        assert!(begin(home).is_err());
        limits.forget(&name("Azure"));
        assert!(begin(home).is_ok());
        fail(&limits, Origin::Session, 10, at(0));
        assert!(begin(Origin::Session).is_err());
        begin(home).ok().unwrap().succeeded();
        assert!(begin(Origin::Session).is_ok(), "the owner has logged in");
    }

    #[test]
    fn while_strangers_wait_a_few_newcomers_a_day_have_one_attempt_each() {
        let limits = limits();
        let address = |number: u32| IpAddr::V4((0xCB00_7100 + number).into());
        let newcomer = |number, now| limits.begin(&name("azure"), Origin::Newcomer(address(number)), now);
        for failures in 0..100 {
            let now = at(failures * 900);
            limits.begin(&name("azure"), Origin::Strangers(Some(address(0))), now).ok().unwrap().failed(now);
        }
        let now = at(90_000);
        assert!(newcomer(0, now).is_err(), "no newcomer");
        newcomer(1, now).ok().unwrap().failed(now);
        assert_eq!(newcomer(1, now).map(drop), Err(TooMany { retry_after: 86_400 }));
        for number in 2..11 {
            newcomer(number, now).ok().unwrap().failed(now);
        }
        assert_eq!(newcomer(11, now).map(drop), Err(TooMany { retry_after: 8_640 }));
        newcomer(11, at(90_000 + 8_640)).ok().unwrap().succeeded();
        assert!(limits.begin(&name("azure"), Origin::Strangers(None), now).is_ok());
    }

    #[test]
    fn attempts_that_are_being_checked_count_as_failed() {
        let limits = limits();
        let begin = || limits.begin(&name("azure"), Origin::Strangers(None), at(0));
        let pending: Vec<_> = (0..10).map(|_| begin().ok().unwrap()).collect();
        assert!(begin().is_err());
        drop(pending);
        assert!(begin().is_ok());
    }

    #[test]
    fn what_a_store_remembers_is_put_back() {
        let limits = limits();
        limits.restore(&name("azure"), 100, at(0));
        assert!(limits.begin(&name("azure"), Origin::Strangers(None), at(86_399)).is_err());
        assert!(limits.begin(&name("azure"), Origin::Strangers(None), at(86_400)).is_ok());
    }

    #[test]
    fn a_million_addresses_do_not_push_out_who_is_limited() {
        let limits = limits();
        let mine = Some(ip("203.0.113.9"));
        for _ in 0..3 {
            limits.admit(Call::LogIn, mine, at(0)).unwrap();
        }
        for address in 0..1_000_000_u32 {
            let _ = limits.admit(Call::LogIn, Some(IpAddr::V4(address.into())), at(0));
        }
        assert!(limits.admit(Call::LogIn, mine, at(0)).is_err());
        let mut places = 0;
        lock(&limits.login).for_each(|_| places += 1);
        assert!(places <= SETS * WAYS, "{places}");
    }

    #[test]
    fn without_limits_everything_is_let_through() {
        let policy = LimitsPolicy { enabled: false, ..limits().policy };
        let limits = Limits::new(policy);
        for _ in 0..1_000 {
            limits.admit(Call::Register, None, at(0)).unwrap();
        }
        fail(&limits, Origin::Strangers(None), 1_000, at(0));
    }
}
