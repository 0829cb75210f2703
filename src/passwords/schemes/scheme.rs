//! What a scheme is: a form in which hashes are stored, and the way in which they are made.

use crate::domain::user::PasswordHash;
use crate::passwords::plain::PlainPassword;

/// A scheme, as an entry in the list of them.
pub(super) struct Scheme {
    /// Reads a stored text; `None` where it is none of this scheme's, or would take longer than any login should.
    pub(super) parse: fn(&str) -> Option<Box<dyn StoredHash>>,
    /// Hashes of a password at some of the costs that the scheme reads.
    #[cfg(test)]
    pub(super) examples: fn(&PlainPassword) -> Vec<Box<dyn StoredHash>>,
}

/// A stored hash that its scheme has read.
pub(crate) trait StoredHash: Send {
    /// Whether it is the hash of this password.
    fn verify(&self, password: &PlainPassword) -> bool;

    /// How much work it is to verify a password against it, in rounds of bcrypt, of which a hash at cost c takes 2^c. What
    /// is left of the configured cost's work is done after a password that does not match.
    fn work(&self) -> u64;

    /// Whether it is as the service would make it now, at this cost.
    fn is_current(&self, cost: u32) -> bool;

    /// The text to store, in the one form that the service writes or imports.
    fn encode(&self) -> PasswordHash;
}

#[cfg(test)]
pub(super) mod work {
    //! Counts the work that is done, so that a test can tell whether all refusals take the same.

    use std::cell::Cell;

    thread_local! {
        static ROUNDS: Cell<u64> = const { Cell::new(0) };
    }

    /// A scheme does so many rounds' work now.
    pub(crate) fn count(rounds: u64) {
        ROUNDS.set(ROUNDS.get() + rounds);
    }

    /// How much this thread has done so far.
    pub(crate) fn done() -> u64 {
        ROUNDS.get()
    }
}
