//! The public id of an account: what other services know it by. It is random, so it tells nothing and is never given
//! twice, and it stays with the account for as long as that is there.

use std::fmt;

use crate::domain::token::hex;

/// The public id of an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublicId([u8; PublicId::LENGTH]);

impl PublicId {
    /// How many bytes it has.
    pub const LENGTH: usize = 16;

    /// As it was stored; `None` where the bytes are none.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }
}

impl fmt::Display for PublicId {
    /// 32 lowercase hex digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}
