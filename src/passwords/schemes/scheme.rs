//! What a scheme is: a way to make hashes, and the format in which they are stored.

use crate::domain::user::PasswordHash;
use crate::passwords::plain::PlainPassword;

/// An entry in the list of schemes.
pub(super) struct Scheme {
    /// Reads a stored text; `None` where it is not of this scheme, or of a cost that would take longer than any login
    /// should.
    pub(super) parse: fn(&str) -> Option<Box<dyn StoredHash>>,
    /// Hashes of a password at some of the costs that the scheme reads.
    #[cfg(test)]
    pub(super) examples: fn(&PlainPassword) -> Vec<Box<dyn StoredHash>>,
}

/// A stored hash that its scheme has read.
pub(crate) trait StoredHash: Send {
    /// Whether it is the hash of this password.
    fn verify(&self, password: &PlainPassword) -> bool;

    /// How much work a verification is, in rounds of bcrypt: a hash at cost c takes 2^c. After a password that does not
    /// match, the difference to the configured cost is burnt.
    fn work(&self) -> u64;

    /// Whether the service would make it so now, at this cost.
    fn is_current(&self, cost: u32) -> bool;

    /// The text to store, in its canonical form.
    fn encode(&self) -> PasswordHash;
}

#[cfg(test)]
pub(super) mod work {
    //! Counts the work that is done, so that a test can check the equal-work rule.

    use std::cell::Cell;

    thread_local! {
        static ROUNDS: Cell<u64> = const { Cell::new(0) };
    }

    /// Counts so many rounds of work.
    pub(crate) fn count(rounds: u64) {
        ROUNDS.set(ROUNDS.get() + rounds);
    }

    /// How many rounds this thread has done so far.
    pub(crate) fn done() -> u64 {
        ROUNDS.get()
    }
}
