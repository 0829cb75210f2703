//! Passkeys: made by the holder of a session, and used in the place of a password, as the second factor, or to make a
//! session fresh.
//!
//! A challenge is stored when a ceremony begins, and is taken from the store before anything of its answer is verified: of
//! many answers, one is looked at.

mod ceremony_error;
pub mod domain;
mod ed25519;
mod outcome;
mod own;
pub mod relying_party;
mod using;

pub use self::outcome::{NoPasskeys, PasskeyError};
pub use self::using::PasskeySignInError;
