//! The proof that the account's owner asks.

use crate::domain::user::PasswordHash;

/// What shows that the account's owner asks. The store checks it in the transaction of the change.
pub enum Proof {
    /// The hash that a password was verified against. It holds as long as the account has no other.
    Password(PasswordHash),
    /// The caller's session. It holds while that is fresh.
    FreshSession,
}
