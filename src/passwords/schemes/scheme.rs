//! What a scheme is: a way to make hashes, and the format in which they are stored.

use std::ops::RangeInclusive;

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
    /// match, the difference to what a refusal takes is burnt.
    fn work(&self) -> u64;

    /// How much memory a verification takes, in bytes, where that is worth a thought.
    fn memory(&self) -> u64 {
        0
    }

    /// Whether the password was first hashed by another system, which may have taken outer white space off it.
    fn is_imported(&self) -> bool {
        true
    }

    /// Whether the service would make it so now, at this cost.
    fn is_current(&self, _cost: u32) -> bool {
        false
    }

    /// The text to store, in its canonical form. That of an imported hash is the text that came.
    fn encode(&self) -> PasswordHash;
}

/// Reads a number of a stored text: in digits alone, without a zero in front, and in this range.
pub(super) fn number(text: &str, range: RangeInclusive<u32>) -> Option<u32> {
    let is_plain = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|number| is_plain && range.contains(number))
}

/// Reads a salt that is a text, as Django's are.
pub(super) fn text_salt(text: &str) -> Option<&str> {
    /// Far more than any that Django makes.
    const MAX: usize = 128;
    (1..=MAX).contains(&text.len()).then_some(text)
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
