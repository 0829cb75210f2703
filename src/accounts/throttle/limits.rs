//! The limits of the throttle: how many attempts each client address has, and how an account is locked out after
//! failures.
//!
//! Addresses have a rate limit by the generic cell rate algorithm (GCRA): a burst of attempts, and then one at a time
//! at a steady pace. An IPv6 client counts by its /64, which is what one subscriber has.
//!
//! Accounts have a lockout. A login that fails is counted at its account, under the folded name and whether or not
//! there is such an account. At the account it is counted once more for the neighbourhood and once for the block that
//! it came from (an IPv4 /24 and /16, an IPv6 /48 and /32). Ten failures in a row are free; each further one costs a
//! growing delay, and from [`MAX_FAILURES`] on (NIST SP 800-63B) a day. A success clears the counts. Guessing from a
//! few networks does not lock the owner out, because a login is let in when any of three counts allows it:
//!
//! - the account's, wherever the login comes from;
//! - a neighbourhood's own, where the account has logged in from there before; once the account has reached
//!   [`MAX_FAILURES`], it allows one a day;
//! - the newcomers': a few attempts a day, for neighbourhoods that have not failed at the account for a day. Half of
//!   them are kept for blocks that have not failed either: an attacker with many neighbourhoods in one block cannot
//!   take them all.
//!
//! The holders of live tokens have a count apart from all of these.
//!
//! Several processes ("nodes") may share a store. Each counts what fails at itself, and stores it a moment later. The
//! growing delay goes by a node's own count, as it does for a name that is nobody's and is stored nowhere: else the delay
//! would tell after ten attempts which names are accounts. But what all nodes have counted is read with the account
//! before each attempt ([`Limits::merge`]), and from `LOCKED_FROM` on it costs a day on each of them. That is fewer than
//! [`MAX_FAILURES`], because each other node may let one attempt through that the store does not know of yet. From
//! `NEAR_LOCK` on that is all: a node has one attempt at the account under way, and stores its failure before it
//! answers. What is fewer in the store than a node itself has had stored is a success, or a new password, on another
//! node: the node's own count is lowered to it.
//!
//! An attempt that is being checked counts as failed until its outcome is known, so that many at once are no way around
//! the count. Waits are measured by the monotonic clock: no setting of the wall clock makes them longer or shorter. All
//! of it is decided before anything is hashed, and in bounded memory: the counts are in a set-associative table, as in
//! a processor's cache. In a full set the count that limits least is evicted.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::domain::event::FailedAttempt;
use crate::domain::rate::{LimitsPolicy, Rate};
use crate::domain::user::Username;
use crate::system::address::{block, neighbourhood, network};
use crate::system::clock::Monotonic;

/// How many failures in a row cost no delay.
const FREE_FAILURES: u32 = 10;
/// The delay after the first failure that costs one. Each further failure doubles it.
const FIRST_DELAY: Duration = Duration::from_secs(1);
/// The longest delay below [`MAX_FAILURES`].
const LONGEST_DELAY: Duration = Duration::from_secs(15 * 60);
/// How many failures in a row there may be at that pace: the most that NIST SP 800-63B allows.
pub const MAX_FAILURES: u32 = 100;
/// How many failures in a row there may be on several nodes, and how many until each of them has one attempt under way.
const LOCKED_FROM: u32 = MAX_FAILURES - 10;
const NEAR_LOCK: u32 = 40;
/// The delay from then on.
const DELAY_AT_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// How many attempts newcomers have together, at an account that is locked out for others.
const NEWCOMERS: Rate = Rate { count: 10, period: Duration::from_secs(24 * 60 * 60) };
/// How many of these are kept for blocks that have not failed at the account.
const KEPT_FOR_BLOCKS: u32 = 5;

/// How many slots a set of the table has.
const WAYS: usize = 8;
/// How many sets there are. A full table takes two to three MiB.
const SETS: usize = 8192;

/// What is limited per address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// To register.
    Register,
    /// To log in.
    LogIn,
}

/// There were too many attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooMany {
    /// When the next may be let through, in seconds, at least one.
    pub retry_after: u64,
}

impl TooMany {
    /// Unless the wait is over already. The seconds are rounded up, so that an attempt after them is let through.
    fn unless_over(wait: Duration) -> Result<(), Self> {
        let retry_after = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        if wait.is_zero() { Ok(()) } else { Err(Self { retry_after }) }
    }
}

/// Where an attempt on an account comes from, which says which count decides.
#[derive(Clone, Copy, Debug)]
pub enum Origin {
    /// From anywhere: the account's count decides.
    Anywhere(Option<IpAddr>),
    /// From a neighbourhood from which the account has logged in: its own count decides.
    Familiar(IpAddr),
    /// From a neighbourhood that is new to the account: what newcomers have left decides.
    Newcomer(IpAddr),
    /// From the holder of a live token: the count of these decides.
    Session,
}

/// What a count of failures belongs to.
#[derive(Hash)]
enum Counted {
    Account,
    Neighbourhood(IpAddr),
    Block(IpAddr),
    Sessions,
}

/// The counts.
pub struct Limits {
    policy: LimitsPolicy,
    /// Whether other nodes count failures in the same store.
    is_shared: bool,
    hasher: RandomState,
    register: Mutex<Table<Monotonic>>,
    login: Mutex<Table<Monotonic>>,
    newcomers: Mutex<Table<Monotonic>>,
    accounts: Mutex<Table<Failures>>,
}

/// A count of failures in a row.
#[derive(Clone, Copy, Default)]
struct Failures {
    /// The account that they were failures at, whatever else the count belongs to.
    account: u64,
    /// When the last one was.
    last: Monotonic,
    count: u32,
    /// Attempts that are being checked.
    pending: u32,
    /// How many there are on all nodes, as far as this one knows, and when the last of them was.
    total: u32,
    total_last: Monotonic,
    /// How many have failed here so far, and of how many of these it is known that they are stored. They are only ever
    /// counted up.
    noted: u32,
    stored: u32,
}

/// How many failures the store knew of before it was read: see [`Limits::merge`].
#[derive(Clone, Copy, Debug)]
pub struct StoredBefore(u32);

impl Limits {
    /// Counts that all start at zero. `is_shared` says whether other nodes count failures in the same store.
    #[must_use]
    pub fn new(policy: LimitsPolicy, is_shared: bool) -> Self {
        Self {
            policy,
            is_shared,
            hasher: RandomState::new(),
            register: Mutex::default(),
            login: Mutex::default(),
            newcomers: Mutex::default(),
            accounts: Mutex::default(),
        }
    }

    /// Counts an attempt of an address. All whose address is not known count together.
    ///
    /// # Errors
    /// [`TooMany`] when it may not be let through; it is then not counted.
    pub fn admit(&self, call: Call, ip: Option<IpAddr>, now: Monotonic) -> Result<(), TooMany> {
        if !self.policy.enabled {
            return Ok(());
        }
        let (table, rate) = self.counts_of_addresses(call);
        admit(&mut lock(table), self.address(ip), rate, 0, now)
    }

    /// Takes back an attempt of an address that ended before it cost anything.
    pub fn give_back(&self, call: Call, ip: Option<IpAddr>) {
        let (table, rate) = self.counts_of_addresses(call);
        if let Some(arrival) = lock(table).get_mut(self.address(ip)) {
            *arrival = arrival.minus(interval(rate));
        }
    }

    /// Whether an attempt of an address would be let through. Nothing is counted.
    ///
    /// # Errors
    /// [`TooMany`] when it would not.
    pub fn check(&self, call: Call, ip: Option<IpAddr>, now: Monotonic) -> Result<(), TooMany> {
        if !self.policy.enabled {
            return Ok(());
        }
        let (table, rate) = self.counts_of_addresses(call);
        TooMany::unless_over(wait(arrival(&lock(table), self.address(ip), now), rate, 0, now))
    }

    fn counts_of_addresses(&self, call: Call) -> (&Mutex<Table<Monotonic>>, Rate) {
        match call {
            Call::Register => (&self.register, self.policy.register),
            Call::LogIn => (&self.login, self.policy.login),
        }
    }

    fn address(&self, ip: Option<IpAddr>) -> u64 {
        self.hasher.hash_one(ip.map(network))
    }

    /// Begins an attempt on the account of this name. It counts as failed until its outcome is known.
    ///
    /// # Errors
    /// [`TooMany`] when it may not be let through; it is then not counted.
    pub fn begin(&self, username: &Username, origin: Origin, now: Monotonic) -> Result<Attempt<'_>, TooMany> {
        let account = self.account(username);
        if !self.policy.enabled {
            return Ok(Attempt { limits: self, account, counts: [None; 3], is_newcomer: false });
        }
        let counts = self.counts_of(account, origin);
        let mut table = lock(&self.accounts);
        let [account_or_sessions, neighbourhood, block] =
            counts.map(|key| key.and_then(|key| table.get(key)).copied().unwrap_or_default());
        match origin {
            Origin::Session => account_or_sessions.admit(now)?,
            Origin::Anywhere(_) => {
                // The longest wait first: it is the one that is told.
                if self.is_total_reached(&account_or_sessions) {
                    let over = account_or_sessions.total_last.min(now).plus(DELAY_AT_MAX);
                    TooMany::unless_over(over.since(now))?;
                }
                account_or_sessions.admit(now)?;
                self.admit_alone(&account_or_sessions)?;
            }
            Origin::Familiar(_)
                if account_or_sessions.failures() < MAX_FAILURES && !self.is_total_reached(&account_or_sessions) =>
            {
                self.admit_alone(&account_or_sessions)?;
                neighbourhood.admit(now)?;
            }
            Origin::Familiar(_) => neighbourhood.admit_rarely(now)?,
            Origin::Newcomer(_) => {
                neighbourhood.admit_rarely(now)?;
                let kept = if block.admit_rarely(now).is_ok() { 0 } else { KEPT_FOR_BLOCKS };
                admit(&mut lock(&self.newcomers), account, NEWCOMERS, kept, now)?;
            }
        }
        for key in counts.into_iter().flatten() {
            let failures = table.entry(key, Failures::eviction_rank);
            failures.account = account;
            failures.pending += 1;
        }
        Ok(Attempt { limits: self, account, counts, is_newcomer: matches!(origin, Origin::Newcomer(_)) })
    }

    /// Whether too many have failed on all nodes together.
    fn is_total_reached(&self, failures: &Failures) -> bool {
        self.is_shared && failures.total >= LOCKED_FROM
    }

    /// Near the lock an attempt is let through while there is no other.
    fn admit_alone(&self, failures: &Failures) -> Result<(), TooMany> {
        let is_alone = !self.is_shared || failures.total < NEAR_LOCK || failures.pending == 0;
        TooMany::unless_over(if is_alone { Duration::ZERO } else { FIRST_DELAY })
    }

    /// Whether so many have failed at the account that only a few a day are let through.
    pub fn is_locked(&self, username: &Username) -> bool {
        self.failures(username) >= if self.is_shared { LOCKED_FROM } else { MAX_FAILURES }
    }

    /// What is known to be stored of the failures at an account. It is asked before the store is.
    pub fn stored_before(&self, username: &Username) -> StoredBefore {
        let key = self.key(self.account(username), &Counted::Account);
        StoredBefore(lock(&self.accounts).get(key).map_or(0, |failures| failures.stored))
    }

    /// Takes in what the store has counted at an account: how many failures, and when the last one was. They are the
    /// failures of all nodes since the last success, but for those that a node has noted and not stored yet. So this
    /// node's own count is never greater than these and its own that were not known to be stored before; where it is,
    /// there was a success or a new password on another node.
    pub fn merge(&self, username: &Username, before: StoredBefore, counted: u32, last: Monotonic) {
        if !self.policy.enabled {
            return;
        }
        let account = self.account(username);
        let key = self.key(account, &Counted::Account);
        let mut table = lock(&self.accounts);
        let failures = if counted > 0 { Some(table.entry(key, Failures::eviction_rank)) } else { table.get_mut(key) };
        let Some(failures) = failures else { return };
        failures.account = account;
        let total = counted.saturating_add(failures.noted.saturating_sub(before.0));
        // A wait goes by the monotonic clock from when it is first heard of, whatever the wall clock is set to meanwhile.
        if total > failures.total {
            failures.total_last = failures.total_last.max(last);
        }
        failures.total = total;
        if failures.count > total {
            failures.count = total;
            if let Some(sessions) = table.get_mut(self.key(account, &Counted::Sessions)) {
                sessions.count = 0;
            }
        }
    }

    /// Notes that a failed attempt is stored.
    pub fn note_stored(&self, attempt: &FailedAttempt) {
        let FailedAttempt { kind, username: Some(username), .. } = attempt else { return };
        if !kind.counts_at_account() {
            return;
        }
        let key = self.key(self.account(username), &Counted::Account);
        if let Some(failures) = lock(&self.accounts).get_mut(key) {
            failures.stored = failures.stored.saturating_add(1).min(failures.noted);
        }
    }

    /// Whether a failure at the account is to be stored before it is answered.
    pub fn is_near_lock(&self, username: &Username) -> bool {
        self.is_shared && self.failures(username) >= NEAR_LOCK
    }

    /// Counts a failure of an attempt that was not begun here.
    pub fn note_failure(&self, username: &Username, origin: Origin, now: Monotonic) {
        if !self.policy.enabled {
            return;
        }
        let account = self.account(username);
        let mut table = lock(&self.accounts);
        for key in self.counts_of(account, origin).into_iter().flatten() {
            let failures = table.entry(key, Failures::eviction_rank);
            failures.account = account;
            failures.add(now);
        }
    }

    /// How many attempts at the account have failed in a row, as far as this node knows, but for those of the holders of live tokens.
    fn failures(&self, username: &Username) -> u32 {
        let key = self.key(self.account(username), &Counted::Account);
        lock(&self.accounts).get(key).map_or(0, |failures| failures.count.max(failures.total))
    }

    /// Restores the failures at an account that a store has kept. It has not kept which neighbourhoods they came from,
    /// so the newcomers' attempts count as used up.
    pub fn restore(&self, username: &Username, count: u32, last: Monotonic) {
        let account = self.account(username);
        let mut table = lock(&self.accounts);
        let failures = table.entry(self.key(account, &Counted::Account), Failures::eviction_rank);
        *failures = Failures { account, last, count, total: count, total_last: last, ..*failures };
        if count >= FREE_FAILURES {
            *lock(&self.newcomers).entry(account, |arrival| *arrival) = last.plus(NEWCOMERS.period);
        }
    }

    /// Clears an account's failures, wherever they came from.
    pub fn clear_failures(&self, username: &Username) {
        let account = self.account(username);
        lock(&self.accounts).for_each(|failures| {
            if failures.account == account {
                failures.clear();
            }
        });
    }

    fn account(&self, username: &Username) -> u64 {
        self.hasher.hash_one(username.key())
    }

    fn key(&self, account: u64, counted: &Counted) -> u64 {
        self.hasher.hash_one((account, counted))
    }

    /// The counts that an attempt goes to.
    fn counts_of(&self, account: u64, origin: Origin) -> [Option<u64>; 3] {
        let key = |counted| Some(self.key(account, &counted));
        let ip = match origin {
            Origin::Session => return [key(Counted::Sessions), None, None],
            Origin::Anywhere(ip) => ip,
            Origin::Familiar(ip) | Origin::Newcomer(ip) => Some(ip),
        };
        [
            key(Counted::Account),
            ip.and_then(|ip| key(Counted::Neighbourhood(neighbourhood(ip)))),
            ip.and_then(|ip| key(Counted::Block(block(ip)))),
        ]
    }
}

/// The generic cell rate algorithm. The last `kept` attempts of the burst are not given out.
pub(super) fn admit(
    table: &mut Table<Monotonic>,
    key: u64,
    rate: Rate,
    kept: u32,
    now: Monotonic,
) -> Result<(), TooMany> {
    let arrival = arrival(table, key, now);
    TooMany::unless_over(wait(arrival, rate, kept, now))?;
    // A count that has recovered in full holds nothing, so it is evicted first.
    *table.entry(key, |arrival| (*arrival).max(now)) = arrival.plus(interval(rate));
    Ok(())
}

/// A count of what all clients together do, of which one neighbourhood has at most a tenth: who has an IPv6 /48 has 65,536
/// of the networks that count as one client.
pub struct Together {
    rate: Rate,
    has_shares: bool,
    hasher: RandomState,
    /// The theoretical arrival time.
    arrival: Mutex<Monotonic>,
    /// The same of each neighbourhood.
    neighbourhoods: Mutex<Table<Monotonic>>,
}

impl Together {
    /// A count that starts at zero. `has_shares` says whether the neighbourhoods are told apart.
    #[must_use]
    pub fn new(rate: Rate, has_shares: bool) -> Self {
        Self {
            rate,
            has_shares,
            hasher: RandomState::new(),
            arrival: Mutex::default(),
            neighbourhoods: Mutex::default(),
        }
    }

    /// Counts one more. All whose address is not known are one neighbourhood.
    ///
    /// # Errors
    /// [`TooMany`] when it may not be let through; it is then not counted.
    pub fn admit(&self, ip: Option<IpAddr>, now: Monotonic) -> Result<(), TooMany> {
        if !self.has_shares {
            return admit_at(&mut lock(&self.arrival), self.rate, now);
        }
        let share = Rate { count: self.rate.count / 10, ..self.rate };
        let key = self.hasher.hash_one(ip.map(neighbourhood));
        let mut neighbourhoods = lock(&self.neighbourhoods);
        TooMany::unless_over(wait(arrival(&neighbourhoods, key, now), share, 0, now))?;
        admit_at(&mut lock(&self.arrival), self.rate, now)?;
        admit(&mut neighbourhoods, key, share, 0, now)
    }
}

/// The same for a count that has no key. `arrival` is its theoretical arrival time.
pub(super) fn admit_at(arrival: &mut Monotonic, rate: Rate, now: Monotonic) -> Result<(), TooMany> {
    let from = (*arrival).max(now);
    TooMany::unless_over(wait(from, rate, 0, now))?;
    *arrival = from.plus(interval(rate));
    Ok(())
}

/// The theoretical arrival time of GCRA: when the key's allowance will have recovered in full.
fn arrival(table: &Table<Monotonic>, key: u64, now: Monotonic) -> Monotonic {
    table.get(key).copied().unwrap_or(now).max(now)
}

/// How long it takes until one more is let through, by the theoretical arrival time.
fn wait(arrival: Monotonic, rate: Rate, kept: u32, now: Monotonic) -> Duration {
    arrival.plus(interval(rate).saturating_mul(1 + kept)).minus(rate.period).since(now)
}

/// The time in which one attempt is regained.
fn interval(rate: Rate) -> Duration {
    (rate.period / rate.count.max(1)).max(Duration::from_nanos(1))
}

impl Failures {
    fn add(&mut self, now: Monotonic) {
        self.count = self.count.saturating_add(1);
        self.total = self.total.saturating_add(1);
        self.noted = self.noted.saturating_add(1);
        self.last = self.last.max(now);
        self.total_last = self.total_last.max(now);
    }

    /// Forgets them, also those that are not stored yet, or never will be: a merge must not bring them back.
    fn clear(&mut self) {
        self.count = 0;
        self.total = 0;
        self.stored = self.noted;
    }

    /// How many there are, with the attempts that are being checked.
    fn failures(&self) -> u32 {
        self.count.saturating_add(self.pending)
    }

    /// Lets an attempt through once the delay for this many failures is over.
    fn admit(&self, now: Monotonic) -> Result<(), TooMany> {
        self.admit_after(delay(self.failures()), now)
    }

    /// Lets an attempt through where there has been no failure for a day.
    fn admit_rarely(&self, now: Monotonic) -> Result<(), TooMany> {
        self.admit_after(if self.failures() > 0 { DELAY_AT_MAX } else { Duration::ZERO }, now)
    }

    fn admit_after(&self, delay: Duration, now: Monotonic) -> Result<(), TooMany> {
        // Another thread may have read the clock a little later than this one.
        let since = if self.pending > 0 { now } else { self.last.min(now) };
        TooMany::unless_over(since.plus(delay).since(now))
    }

    /// What its eviction would lose: attempts that are being checked first, then how many failures, then how recent
    /// ones.
    fn eviction_rank(&self) -> (u32, u32, Monotonic) {
        (self.pending, self.count.max(self.total), self.last)
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

/// An attempt that is being checked. Dropped without an outcome, it counts as never made.
pub struct Attempt<'a> {
    limits: &'a Limits,
    account: u64,
    counts: [Option<u64>; 3],
    is_newcomer: bool,
}

impl Attempt<'_> {
    /// The password was wrong, or there is no such account.
    pub fn failed(mut self, now: Monotonic) {
        self.is_newcomer = false;
        self.end(|failures| failures.add(now));
    }

    /// The password was right: the counts that it went to are cleared, and the account's and the token holders' too.
    pub fn succeeded(mut self) {
        self.end(Failures::clear);
        let mut table = lock(&self.limits.accounts);
        for counted in [Counted::Account, Counted::Sessions] {
            if let Some(failures) = table.get_mut(self.limits.key(self.account, &counted)) {
                failures.clear();
            }
        }
    }

    fn end(&mut self, then: impl Fn(&mut Failures)) {
        // A newcomer's attempt is given back unless it failed: nobody can use them up with attempts that are never
        // checked.
        if std::mem::take(&mut self.is_newcomer)
            && let Some(arrival) = lock(&self.limits.newcomers).get_mut(self.account)
        {
            *arrival = arrival.minus(interval(NEWCOMERS));
        }
        let mut table = lock(&self.limits.accounts);
        for key in std::mem::take(&mut self.counts).into_iter().flatten() {
            if let Some(failures) = table.get_mut(key) {
                failures.pending = failures.pending.saturating_sub(1);
                then(failures);
            }
        }
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        self.end(|_| {});
    }
}

pub(super) fn lock<T>(table: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that can panic runs under these locks.
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A set-associative table of at most [`SETS`] times [`WAYS`] values, whose keys are random already. A set is allocated
/// when it is first needed. In a full one, a new value evicts the one of the lowest rank.
pub(super) struct Table<V>(Vec<Option<Box<Set<V>>>>);

type Set<V> = [Option<(u64, V)>; WAYS];

impl<V> Default for Table<V> {
    fn default() -> Self {
        Self(std::iter::repeat_with(|| None).take(SETS).collect())
    }
}

impl<V: Default> Table<V> {
    fn index(key: u64) -> usize {
        usize::try_from(key % (SETS as u64)).unwrap_or_default()
    }

    pub(super) fn get(&self, key: u64) -> Option<&V> {
        let set = self.0[Self::index(key)].as_deref()?;
        set.iter().flatten().find(|(known, _)| *known == key).map(|(_, value)| value)
    }

    pub(super) fn get_mut(&mut self, key: u64) -> Option<&mut V> {
        let set = self.0[Self::index(key)].as_deref_mut()?;
        set.iter_mut().flatten().find(|(known, _)| *known == key).map(|(_, value)| value)
    }

    /// The key's value; a new one where it has none.
    pub(super) fn entry<W: Ord>(&mut self, key: u64, eviction_rank: impl Fn(&V) -> W) -> &mut V {
        let set = self.0[Self::index(key)].get_or_insert_with(|| Box::new([const { None }; WAYS]));
        let own = set.iter().position(|slot| slot.as_ref().is_some_and(|(known, _)| *known == key));
        let slot = own.unwrap_or_else(|| {
            // `None` is less than every `Some`: an empty slot is taken first.
            let least = (0..WAYS).min_by_key(|slot| set[*slot].as_ref().map(|(_, value)| eviction_rank(value)));
            let slot = least.unwrap_or_default();
            set[slot] = None;
            slot
        });
        &mut set[slot].get_or_insert((key, V::default())).1
    }

    pub(super) fn for_each(&mut self, then: impl FnMut(&mut V)) {
        let sets = self.0.iter_mut().flatten();
        sets.flat_map(|set| set.iter_mut().flatten()).map(|(_, value)| value).for_each(then);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANYWHERE: Origin = Origin::Anywhere(None);

    fn limits() -> Limits {
        let rate = Rate { count: 3, period: Duration::from_secs(60) };
        Limits::new(LimitsPolicy { enabled: true, register: rate, login: rate, introspect: rate }, false)
    }

    fn at(seconds: u64) -> Monotonic {
        Monotonic::default().plus(Duration::from_secs(1_000_000 + seconds))
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn name(text: &str) -> Username {
        Username::parse(text).unwrap()
    }

    fn fail(limits: &Limits, origin: Origin, times: u32, now: Monotonic) {
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
        let try_at = |seconds| limits.begin(&name("AZURE"), ANYWHERE, at(seconds)).map(drop);
        fail(&limits, ANYWHERE, 10, at(0));
        assert_eq!(try_at(0), Err(TooMany { retry_after: 1 }));
        assert_eq!(try_at(1), Ok(()), "dropped: never made");
        fail(&limits, ANYWHERE, 1, at(1));
        assert_eq!(try_at(1), Err(TooMany { retry_after: 2 }));
        let mut now = 1;
        for failures in 11..100 {
            now += 900;
            assert_eq!(try_at(now), Ok(()), "{failures}");
            fail(&limits, ANYWHERE, 1, at(now));
        }
        assert_eq!(try_at(now), Err(TooMany { retry_after: 86_400 }));
        assert_eq!(try_at(now + 86_400), Ok(()));
    }

    #[test]
    fn a_familiar_neighbourhood_has_ten_free_failures_however_many_addresses_it_has() {
        for (home, others) in [("203.0.113.7", "203.0.113."), ("2001:db8:1::7", "2001:db8:1:")] {
            let limits = limits();
            fail(&limits, ANYWHERE, 10, at(0));
            for number in 0..10 {
                let address =
                    if home.contains(':') { format!("{others}{number}::1") } else { format!("{others}{number}") };
                fail(&limits, Origin::Familiar(ip(&address)), 1, at(0));
            }
            let begin = |origin| limits.begin(&name("azure"), origin, at(0)).map(drop);
            assert_eq!(begin(Origin::Familiar(ip(home))), Err(TooMany { retry_after: 1 }), "{home}");
            assert_eq!(begin(Origin::Familiar(ip("198.51.100.7"))), Ok(()), "another one");
        }
    }

    #[test]
    fn what_fails_before_the_account_is_refused_counts_for_a_familiar_neighbourhood_too() {
        let limits = limits();
        let home = ip("203.0.113.7");
        fail(&limits, Origin::Anywhere(Some(home)), 10, at(0));
        assert!(limits.begin(&name("azure"), Origin::Anywhere(Some(home)), at(0)).is_err());
        assert!(limits.begin(&name("azure"), Origin::Familiar(home), at(0)).is_err(), "ten are free, and not twenty");
    }

    #[test]
    fn after_a_hundred_failures_wherever_they_came_from_a_familiar_neighbourhood_has_one_attempt_a_day() {
        let limits = limits();
        let home = |number: u32| Origin::Familiar(IpAddr::V4((0xCB00_7100 + number * 256).into()));
        for number in 0..10 {
            fail(&limits, home(number), 10, at(0));
        }
        let begin = |origin, seconds| limits.begin(&name("azure"), origin, at(seconds));
        assert_eq!(begin(home(0), 1_000).map(drop), Err(TooMany { retry_after: 86_400 - 1_000 }));
        begin(home(10), 1_000).ok().unwrap().failed(at(1_000));
        assert_eq!(begin(home(10), 1_000).map(drop), Err(TooMany { retry_after: 86_400 }));
        assert!(begin(Origin::Session, 1_000).is_ok(), "a live token is counted apart");
        assert!(begin(home(0), 86_400).is_ok());
        begin(home(11), 1_000).ok().unwrap().succeeded();
        assert!(begin(ANYWHERE, 1_000).is_ok(), "a success clears them");
    }

    #[test]
    fn a_live_token_has_a_count_of_its_own_and_a_success_clears_it() {
        let limits = limits();
        fail(&limits, ANYWHERE, 10, at(0));
        let begin = |origin| limits.begin(&name("azure"), origin, at(0));
        let home = Origin::Familiar(ip("203.0.113.9"));
        assert!(begin(ANYWHERE).is_err());
        assert!(begin(home).is_ok() && begin(Origin::Session).is_ok());
        fail(&limits, home, 10, at(0));
        assert!(begin(home).is_err());
        begin(Origin::Session).ok().unwrap().succeeded();
        assert!(begin(ANYWHERE).is_ok());
        limits.clear_failures(&name("Azure"));
        assert!(begin(home).is_ok());
        fail(&limits, Origin::Session, 10, at(0));
        assert!(begin(Origin::Session).is_err());
        begin(home).ok().unwrap().succeeded();
        assert!(begin(Origin::Session).is_ok(), "the owner has logged in");
    }

    #[test]
    fn a_few_newcomers_a_day_have_one_attempt_for_each_neighbourhood() {
        let limits = limits();
        // Each in a block of its own.
        let newcomer = |number: u32, now| {
            limits.begin(&name("azure"), Origin::Newcomer(IpAddr::V4(((number << 16) + 0x0A00_0001).into())), now)
        };
        fail(&limits, Origin::Anywhere(Some(ip("10.0.0.77"))), 10, at(0));
        assert!(newcomer(0, at(0)).is_err(), "no newcomer");
        drop(newcomer(1, at(0)));
        newcomer(1, at(0)).ok().unwrap().failed(at(0));
        assert_eq!(newcomer(1, at(0)).map(drop), Err(TooMany { retry_after: 86_400 }));
        for number in 2..11 {
            newcomer(number, at(0)).ok().unwrap().failed(at(0));
        }
        assert_eq!(newcomer(11, at(0)).map(drop), Err(TooMany { retry_after: 8_640 }));
        newcomer(11, at(8_640)).ok().unwrap().succeeded();
        assert!(limits.begin(&name("azure"), ANYWHERE, at(0)).is_ok());
    }

    #[test]
    fn one_block_of_many_neighbourhoods_leaves_half_of_the_newcomers_attempts_to_others() {
        for (mine, other) in [("2001:db8", "2001:db9::1"), ("198.51", "203.0.113.9")] {
            let limits = limits();
            let begin = |address: &str, now| limits.begin(&name("azure"), Origin::Newcomer(ip(address)), now);
            let mut let_in = 0;
            // There are ten attempts at once, and then one every 2.4 h.
            for number in 0..200 {
                let address =
                    if mine.contains(':') { format!("{mine}:{number}::1") } else { format!("{mine}.{number}.1") };
                if let Ok(attempt) = begin(&address, at(number * 60)) {
                    attempt.failed(at(number * 60));
                    let_in += 1;
                }
            }
            assert!((5..8).contains(&let_in), "{let_in}");
            assert!(begin(other, at(200 * 60)).is_ok(), "{other}");
        }
    }

    #[test]
    fn what_was_forgotten_is_not_brought_back_by_what_the_store_has_counted() {
        let limits = limits();
        (0..MAX_FAILURES).for_each(|_| limits.note_failure(&name("azure"), ANYWHERE, at(0)));
        assert!(limits.is_locked(&name("azure")));
        limits.clear_failures(&name("azure"));
        limits.merge(&name("azure"), limits.stored_before(&name("azure")), 0, at(0));
        assert!(!limits.is_locked(&name("azure")));
    }

    #[test]
    fn attempts_that_are_being_checked_count_as_failed() {
        let limits = limits();
        let begin = || limits.begin(&name("azure"), ANYWHERE, at(0));
        let pending: Vec<_> = (0..10).map(|_| begin().ok().unwrap()).collect();
        assert!(begin().is_err());
        drop(pending);
        assert!(begin().is_ok());
    }

    #[test]
    fn what_a_store_remembers_is_put_back() {
        let limits = limits();
        limits.restore(&name("azure"), 100, at(0));
        assert!(limits.begin(&name("azure"), ANYWHERE, at(86_399)).is_err());
        assert!(limits.begin(&name("azure"), ANYWHERE, at(86_400)).is_ok());
        let newcomer = Origin::Newcomer(ip("203.0.113.9"));
        assert!(limits.begin(&name("azure"), newcomer, at(8_639)).is_err(), "it may have failed before");
        assert!(limits.begin(&name("azure"), newcomer, at(8_640)).is_ok());
    }

    /// A node, and what of its failures is not stored yet.
    struct Node {
        limits: Limits,
        unstored: u32,
    }

    impl Node {
        fn new() -> Self {
            Self { limits: Limits::new(limits().policy, true), unstored: 0 }
        }

        /// Begins an attempt as a login does: the store is read first. `store` is how many failures it has counted.
        fn begin(&self, store: u32, now: Monotonic) -> Result<Attempt<'_>, TooMany> {
            let azure = name("azure");
            let before = self.limits.stored_before(&azure);
            self.limits.merge(&azure, before, store, now);
            self.limits.begin(&azure, ANYWHERE, now)
        }

        fn store(&mut self, store: &mut u32) {
            for _ in 0..std::mem::take(&mut self.unstored) {
                *store += 1;
                self.limits.note_stored(&failed_login());
            }
        }
    }

    fn failed_login() -> FailedAttempt {
        let (at, kind) = (crate::system::clock::Timestamp::MIN, crate::domain::event::EventKind::LoginFailed);
        FailedAttempt { at, kind, username: Some(name("azure")), ip: None, detail: "" }
    }

    #[test]
    fn five_nodes_let_no_more_than_a_hundred_failures_in_a_row_through_however_their_attempts_overlap() {
        let mut random = 1_u64;
        let mut below = |limit: usize| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(random >> 33).unwrap() % limit
        };
        for _ in 0..50 {
            let (mut store, mut let_in) = (0, 0);
            let mut nodes: Vec<_> = (0..5).map(|_| Node::new()).collect();
            // A day less a second, so that no attempt of the next day is among them. All of it is at the pace of an
            // attacker who waits for each delay, and for nothing else.
            for second in (0..86_399).step_by(61) {
                let now = at(second);
                let mut began: Vec<Vec<Attempt<'_>>> = Vec::new();
                let read = store;
                for node in &nodes {
                    let attempts = 1 + below(12);
                    // Each reads the store before any of the others has stored its failure.
                    began.push((0..attempts).filter_map(|_| node.begin(read, now).ok()).collect());
                }
                let is_near: Vec<_> = nodes.iter().map(|node| node.limits.is_near_lock(&name("azure"))).collect();
                let ended: Vec<_> = began
                    .into_iter()
                    .map(|attempts| attempts.into_iter().map(|attempt| attempt.failed(now)).count())
                    .collect();
                for ((node, ended), is_near) in nodes.iter_mut().zip(ended).zip(is_near) {
                    node.unstored += u32::try_from(ended).unwrap();
                    let_in += ended;
                    if is_near || below(2) == 0 {
                        node.store(&mut store);
                    }
                }
                // At the end of the second the job has stored everything.
                for node in &mut nodes {
                    node.store(&mut store);
                }
            }
            assert!((usize::try_from(LOCKED_FROM).unwrap()..=100).contains(&let_in), "{let_in}");
        }
    }

    #[test]
    fn the_delay_goes_by_the_nodes_own_count_and_the_lock_by_that_of_all() {
        let (mut one, other) = (Node::new(), Node::new());
        let mut store = 0;
        for _ in 0..10 {
            one.begin(store, at(0)).ok().unwrap().failed(at(0));
            one.unstored += 1;
        }
        one.store(&mut store);
        assert_eq!(one.begin(store, at(0)).map(drop), Err(TooMany { retry_after: 1 }));
        assert!(other.begin(store, at(0)).is_ok(), "as with a name that is nobody's");
        assert!(other.begin(NEAR_LOCK, at(0)).is_ok());
        let pending = other.begin(NEAR_LOCK, at(0)).ok().unwrap();
        assert!(other.begin(NEAR_LOCK, at(0)).is_err(), "one at a time");
        drop(pending);
        assert_eq!(other.begin(LOCKED_FROM, at(0)).map(drop), Err(TooMany { retry_after: 86_400 }));
        assert!(other.limits.is_locked(&name("azure")));
        // Whatever becomes of the stored time, it is a day from when it was first read.
        assert_eq!(other.begin(LOCKED_FROM, at(86_399)).map(drop), Err(TooMany { retry_after: 1 }));
        assert!(other.begin(LOCKED_FROM, at(86_400)).is_ok());
        // A node that shares its store with nobody goes by its own count.
        let alone = limits();
        alone.merge(&name("azure"), alone.stored_before(&name("azure")), LOCKED_FROM, at(0));
        assert!(alone.begin(&name("azure"), ANYWHERE, at(0)).is_ok());
    }

    #[test]
    fn a_success_on_another_node_resets_what_failed_before_and_nothing_that_is_not_stored_yet() {
        let mut node = Node::new();
        let mut store = 0;
        fail(&node.limits, Origin::Session, 10, at(0));
        for _ in 0..10 {
            node.begin(store, at(0)).ok().unwrap().failed(at(0));
            node.unstored += 1;
        }
        assert!(node.begin(0, at(0)).is_err(), "they are not stored yet");
        let before = node.limits.stored_before(&name("azure"));
        node.store(&mut store);
        node.limits.merge(&name("azure"), before, 0, at(0));
        assert!(
            node.limits.begin(&name("azure"), ANYWHERE, at(0)).is_err(),
            "the store was read before they were stored"
        );
        assert!(node.begin(store, at(0)).is_err());
        assert!(node.begin(0, at(0)).is_ok(), "a success");
        assert!(node.limits.begin(&name("azure"), Origin::Session, at(0)).is_ok(), "of the owner's");
        fail(&node.limits, ANYWHERE, 10, at(0));
        assert!(node.begin(3, at(0)).is_err(), "and what fails from then on counts");
    }

    #[test]
    fn a_neighbourhood_has_a_tenth_of_what_all_have_together() {
        let together = || Together::new(Rate { count: 100, period: Duration::from_secs(100) }, true);
        let from = |block: u32, number: u32| Some(ip(&format!("2001:db8:{block:x}:{number:x}::1")));
        let strangers = together();
        let let_in = (0..1_000).filter(|number| strangers.admit(from(1, *number), at(0)).is_ok()).count();
        assert_eq!(let_in, 10);
        assert_eq!(strangers.admit(from(1, 0), at(0)), Err(TooMany { retry_after: 10 }));
        for block in 2..11 {
            assert!((0..10).all(|number| strangers.admit(from(block, number), at(0)).is_ok()), "{block}");
        }
        assert!(strangers.admit(from(11, 0), at(0)).is_err(), "all have too many together");
        // What all together are refused costs the neighbourhood nothing.
        assert!((0..10).all(|number| strangers.admit(from(11, number), at(101)).is_ok()));
        let unlimited = Together::new(strangers.rate, false);
        assert_eq!((0..1_000).filter(|number| unlimited.admit(from(1, *number), at(0)).is_ok()).count(), 100);
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
        let mut slots = 0;
        lock(&limits.login).for_each(|_| slots += 1);
        assert!(slots <= SETS * WAYS, "{slots}");
    }

    #[test]
    fn without_limits_everything_is_let_through() {
        let policy = LimitsPolicy { enabled: false, ..limits().policy };
        let limits = Limits::new(policy, false);
        for _ in 0..1_000 {
            limits.admit(Call::Register, None, at(0)).unwrap();
        }
        fail(&limits, ANYWHERE, 1_000, at(0));
    }
}
