//! Guesses at the codes of mails: whose failure a wrong one is, and how many there may be.
//!
//! A wrong code counts like a wrong password. So it counts where a wrong password counts that comes with the name or
//! the address for which the mail was asked, whether or not there is such an account, and whether or not a mail was
//! sent: else whoever asks for a mail, and gives wrong codes and then wrong passwords, would learn it from the lockout.
//! That name is remembered here by the request id. Whose it is is looked up when a code was wrong, as a login does.
//!
//! The tries of a request are counted here too, from before its mail is made: all of them count somewhere, and none is
//! left over. The table has a bounded size; the request that was made the longest ago is evicted first, and one whose time
//! is over loses its name, which may be long. Of one that is evicted or was made before a restart, the store counts the
//! tries, and the failures at the account.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::limits::Table;
use crate::domain::one_time::{CODE_LIFETIME, MAX_TRIES};
use crate::domain::token::TokenDigest;
use crate::system::clock::Monotonic;

/// How long a request is remembered: its mail may wait for as long as a code is valid, and then its code is.
const REMEMBERED: Duration = CODE_LIFETIME.saturating_mul(2);

/// How often the names of those are dropped whose time is over.
const SWEPT_AFTER: Duration = Duration::from_secs(60);

/// The requests for codes that were made lately.
#[derive(Default)]
pub struct Guesses {
    hasher: RandomState,
    requests: Mutex<Requests>,
}

#[derive(Default)]
struct Requests {
    table: Table<Request>,
    swept: Monotonic,
}

/// A request for a code.
#[derive(Default)]
struct Request {
    /// For whom, as it was typed.
    name: String,
    at: Monotonic,
    tries: u32,
}

/// A guess at a code, before it is known whether it is right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Guess {
    /// The code was asked for under this name or address, where a wrong one counts.
    Under(String),
    /// There were as many wrong ones as there may be: it is refused, and counts nowhere.
    Over,
    /// Nothing is remembered of its request.
    Unknown,
}

impl Guesses {
    /// Remembers for whom a code was asked.
    pub fn remember(&self, request: &TokenDigest, name: String, now: Monotonic) {
        let key = self.hasher.hash_one(request.as_bytes());
        let mut requests = self.lock();
        if now.since(requests.swept) >= SWEPT_AFTER {
            requests.swept = now;
            requests.table.for_each(|request| {
                if now.since(request.at) >= REMEMBERED {
                    request.name = String::new();
                }
            });
        }
        *requests.table.entry(key, |request| request.at) = Request { name, at: now, tries: 0 };
    }

    /// Begins a guess. It counts as wrong, until [`Guesses::give_back`].
    pub fn begin(&self, request: &TokenDigest, now: Monotonic) -> Guess {
        let key = self.hasher.hash_one(request.as_bytes());
        let mut requests = self.lock();
        match requests.table.get_mut(key).filter(|request| now.since(request.at) < REMEMBERED) {
            None => Guess::Unknown,
            Some(request) if request.tries >= MAX_TRIES => Guess::Over,
            Some(request) => {
                request.tries += 1;
                Guess::Under(request.name.clone())
            }
        }
    }

    /// Ends a guess that was not wrong.
    pub fn give_back(&self, request: &TokenDigest) {
        let key = self.hasher.hash_one(request.as_bytes());
        if let Some(request) = self.lock().table.get_mut(key) {
            request.tries = request.tries.saturating_sub(1);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Requests> {
        // Nothing that can panic runs under this lock.
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::token::PlainToken;

    fn at(seconds: u64) -> Monotonic {
        Monotonic::default().plus(Duration::from_secs(seconds))
    }

    #[test]
    fn a_request_has_five_wrong_guesses_for_as_long_as_its_code_can_be_valid() {
        let (guesses, request) = (Guesses::default(), PlainToken::generate().digest());
        assert_eq!(guesses.begin(&request, at(0)), Guess::Unknown);
        guesses.remember(&request, "azure".to_owned(), at(0));
        for _ in 0..MAX_TRIES {
            assert_eq!(guesses.begin(&request, at(1_199)), Guess::Under("azure".to_owned()));
        }
        assert_eq!(guesses.begin(&request, at(1_199)), Guess::Over);
        guesses.give_back(&request);
        assert_eq!(guesses.begin(&request, at(1_199)), Guess::Under("azure".to_owned()), "a right one is none");
        assert_eq!(guesses.begin(&PlainToken::generate().digest(), at(1_199)), Guess::Unknown, "each has its own");
        assert_eq!(guesses.begin(&request, at(1_200)), Guess::Unknown);
    }

    #[test]
    fn the_name_of_a_request_whose_time_is_over_is_dropped() {
        let guesses = Guesses::default();
        for second in 0..10 {
            guesses.remember(&PlainToken::generate().digest(), "x".repeat(1_016), at(second));
        }
        let names = || {
            let mut bytes = 0;
            guesses.lock().table.for_each(|request| bytes += request.name.capacity());
            bytes
        };
        assert_eq!(names(), 10 * 1_016);
        guesses.remember(&PlainToken::generate().digest(), String::new(), at(1_204));
        assert_eq!(names(), 5 * 1_016);
        guesses.remember(&PlainToken::generate().digest(), String::new(), at(1_264));
        assert_eq!(names(), 0);
    }

    #[test]
    fn a_million_requests_have_bounded_memory_and_the_oldest_are_evicted() {
        let guesses = Guesses::default();
        let digest = |number: u64| {
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&number.to_le_bytes());
            TokenDigest::from_bytes(bytes)
        };
        for number in 0..1_000_000 {
            guesses.remember(&digest(number), String::new(), at(number / 1_000));
        }
        let remembered = (0..1_000_000).filter(|number| guesses.begin(&digest(*number), at(1_000)) != Guess::Unknown);
        assert!(remembered.count() <= 65_536);
        assert_ne!(guesses.begin(&digest(999_999), at(1_000)), Guess::Unknown);
        assert_eq!(guesses.begin(&digest(0), at(1_000)), Guess::Unknown);
    }
}
