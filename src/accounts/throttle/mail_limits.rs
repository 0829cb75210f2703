//! The limits of mail: how many mails strangers may ask for in all, and how many a mailbox is sent.
//!
//! What all strangers together may ask for is a rate (GCRA), as for addresses. A mailbox is sent one mail a minute, five an
//! hour and ten a day, counted exactly, because a person reads them. It has a count for each kind of asker: whoever
//! asks from networks that its owner does not use cannot use up what the owner may ask for.
//!
//! Waits are measured by the monotonic clock, and the counts are in a table of bounded size.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::limits::{Table, TooMany, admit_at};
use crate::domain::mail::MailKind;
use crate::domain::rate::Rate;
use crate::system::clock::Monotonic;

/// How many mails a mailbox is sent in each of these times.
const MAILBOX: [Rate; 3] = [
    Rate { count: 1, period: Duration::from_secs(60) },
    Rate { count: 5, period: Duration::from_secs(60 * 60) },
    Rate { count: 10, period: Duration::from_secs(24 * 60 * 60) },
];

/// How many mails are remembered of a mailbox: the most of [`MAILBOX`].
const MOST: usize = 10;

/// Who has a count of their own at a mailbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Asker {
    /// Somebody without a session, from a network that the account has logged in from.
    Familiar,
    /// Somebody without a session, from any other network.
    Stranger,
    /// Staff, or whoever disowns what a notice tells of.
    Entitled,
    /// Whoever has an address confirmed, counted at the address.
    Confirmation,
    /// What is told of an account, counted at the address for each kind.
    Notice(MailKind),
    /// The holder of a session who changes the address, counted at the account.
    OwnAddress,
    /// The holder of a session who makes it fresh, counted at the account.
    OwnSession,
}

/// The counts.
pub struct MailLimits {
    is_enabled: bool,
    rate: Rate,
    hasher: RandomState,
    /// When what strangers may ask for will have recovered in full.
    arrival: Mutex<Monotonic>,
    /// The same of confirmations, which registrations ask for.
    confirmations: Mutex<Monotonic>,
    mailboxes: Mutex<Table<Sent>>,
    limited: AtomicU64,
}

/// When the last mails to a mailbox were, the newest first: in seconds of the monotonic clock, and one more. Zero is never.
type Sent = [u32; MOST];

impl MailLimits {
    /// Counts that all start at zero. `rate` is for all strangers together.
    #[must_use]
    pub fn new(is_enabled: bool, rate: Rate) -> Self {
        Self {
            is_enabled,
            rate,
            hasher: RandomState::new(),
            arrival: Mutex::default(),
            confirmations: Mutex::default(),
            mailboxes: Mutex::default(),
            limited: AtomicU64::new(0),
        }
    }

    /// Counts a mail that somebody without a session asks for.
    ///
    /// # Errors
    /// [`TooMany`] when it may not be asked for; it is then not counted.
    pub fn admit(&self, now: Monotonic) -> Result<(), TooMany> {
        self.admit_at(&self.arrival, now)
    }

    /// Counts a confirmation of an address. There may be as many as strangers may ask for otherwise.
    ///
    /// # Errors
    /// [`TooMany`] when it may not be sent yet; it is then not counted.
    pub fn admit_confirmation(&self, now: Monotonic) -> Result<(), TooMany> {
        self.admit_at(&self.confirmations, now)
    }

    fn admit_at(&self, arrival: &Mutex<Monotonic>, now: Monotonic) -> Result<(), TooMany> {
        if !self.is_enabled {
            return Ok(());
        }
        admit_at(&mut arrival.lock().unwrap_or_else(PoisonError::into_inner), self.rate, now)
    }

    /// Takes back the last mail that was counted at a mailbox: it was not sent.
    pub fn give_back(&self, mailbox: &str, asker: Asker) {
        let mut mailboxes = self.mailboxes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sent) = mailboxes.get_mut(self.hasher.hash_one((asker, mailbox))) {
            sent.rotate_left(1);
            sent[MOST - 1] = 0;
        }
    }

    /// Counts a mail to a mailbox.
    ///
    /// # Errors
    /// [`TooMany`] when it may not be sent; it is then not counted.
    pub fn admit_to(&self, mailbox: &str, asker: Asker, now: Monotonic) -> Result<(), TooMany> {
        if !self.is_enabled {
            return Ok(());
        }
        let second = |time: Duration| u32::try_from(time.as_secs()).unwrap_or(u32::MAX - 1) + 1;
        let now = second(now.since(Monotonic::default()));
        let mut mailboxes = self.mailboxes.lock().unwrap_or_else(PoisonError::into_inner);
        // The mailbox that was sent something the longest ago is evicted first.
        let sent = mailboxes.entry(self.hasher.hash_one((asker, mailbox)), |sent| sent[0]);
        for Rate { count, period } in MAILBOX {
            let earliest = sent.get(count as usize - 1).filter(|sent| **sent > 0);
            let free = earliest.map_or(0, |earliest| earliest.saturating_add(second(period)));
            // A second longer than need be: the seconds are whole ones.
            if free > now {
                return Err(TooMany { retry_after: u64::from(free - now) });
            }
        }
        sent.rotate_right(1);
        sent[0] = now;
        Ok(())
    }

    /// Notes a mail that was not sent, or not yet, because its mailbox had enough.
    pub(crate) fn note_limited(&self) {
        self.limited.fetch_add(1, Ordering::Relaxed);
    }

    /// How many times a mail was not sent, or not yet, because its mailbox had enough.
    #[must_use]
    pub fn limited(&self) -> u64 {
        self.limited.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(count: u32) -> MailLimits {
        MailLimits::new(true, Rate { count, period: Duration::from_secs(60 * 60) })
    }

    fn at(seconds: u64) -> Monotonic {
        Monotonic::default().plus(Duration::from_secs(seconds))
    }

    #[test]
    fn a_mailbox_is_sent_one_mail_a_minute_five_an_hour_and_ten_a_day() {
        let limits = limits(1);
        let sent: Vec<u64> = (0..3 * 86_400)
            .step_by(10)
            .filter(|second| limits.admit_to("a@b.example", Asker::Stranger, at(*second)).is_ok())
            .collect();
        for (most, period) in [(1, 60), (5, 60 * 60), (10, 24 * 60 * 60)] {
            for first in &sent {
                let count = sent.iter().filter(|at| (*first..first + period).contains(at)).count();
                assert!(count <= most, "{count} in {period} s from {first}: {sent:?}");
            }
        }
        assert_eq!(sent.len(), 30, "{sent:?}");
        assert!(sent[4] < 6 * 60 && sent[9] < 67 * 60, "{sent:?}");
    }

    #[test]
    fn an_asker_and_a_mailbox_have_counts_of_their_own_and_after_the_wait_there_is_another() {
        let limits = limits(1);
        let admit = |mailbox, asker, now| limits.admit_to(mailbox, asker, at(now));
        admit("a@b.example", Asker::Stranger, 0).unwrap();
        let TooMany { retry_after } = admit("a@b.example", Asker::Stranger, 0).unwrap_err();
        assert!((60..=61).contains(&retry_after), "{retry_after}");
        admit("a@b.example", Asker::Familiar, 0).unwrap();
        admit("b@b.example", Asker::Stranger, 0).unwrap();
        assert!(admit("a@b.example", Asker::Stranger, retry_after - 1).is_err());
        admit("a@b.example", Asker::Stranger, retry_after).unwrap();
    }

    #[test]
    fn strangers_together_have_a_burst_and_then_one_at_a_time() {
        let limits = limits(3);
        for _ in 0..3 {
            limits.admit(at(0)).unwrap();
        }
        assert_eq!(limits.admit(at(0)), Err(TooMany { retry_after: 20 * 60 }));
        assert_eq!(limits.admit(at(19 * 60)), Err(TooMany { retry_after: 60 }));
        limits.admit(at(20 * 60)).unwrap();
    }

    #[test]
    fn without_limits_every_mail_is_let_through() {
        let limits = MailLimits::new(false, Rate { count: 1, period: Duration::from_secs(60) });
        for _ in 0..100 {
            limits.admit(at(0)).unwrap();
            limits.admit_to("a@b.example", Asker::Stranger, at(0)).unwrap();
        }
    }
}
