//! Password hashes of other systems: what can be done with a stored text that an import brings.

use crate::domain::user::PasswordHash;

/// What a stored text of another system is worth.
#[derive(Clone, PartialEq, Eq)]
pub enum ImportedHash {
    /// It is kept as it is: a login verifies it and hashes the password anew.
    Verifiable {
        /// The text.
        hash: PasswordHash,
        /// How much work a verification is, in rounds of bcrypt.
        work: u64,
    },
    /// A fast digest, which must not be stored as it is. It can be wrapped in a hash of our own.
    Weak,
    /// A scheme that is not verified, or a cost that no login should have.
    Refused,
    /// It is encrypted with a key that the source's database does not hold.
    Encrypted,
    /// It is no hash.
    Unknown,
    /// There is no password.
    Absent,
}

/// Reads a stored text of another system: the name of its scheme, for a count, and what it is worth.
#[must_use]
pub fn read_imported(stored: &str) -> (&'static str, ImportedHash) {
    match stored {
        "" => ("none", ImportedHash::Absent),
        _ => ("unknown", ImportedHash::Unknown),
    }
}

/// Wraps a fast digest in a hash of our own at this cost: the text to store, and how much work a verification is. `None`
/// where the text is no such digest.
#[must_use]
pub fn wrap_weak(_stored: &str, _cost: u32) -> Option<(PasswordHash, u64)> {
    None
}
