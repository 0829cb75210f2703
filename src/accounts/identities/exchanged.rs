//! Which ID tokens have brought an exchange of an authorization code: each brings one request to its provider, however
//! often it is presented.

use std::sync::{Mutex, PoisonError};

use crate::domain::token::DigestMap;
use crate::repository::IdTokenUse;
use crate::system::clock::Timestamp;

/// How many are remembered. Where there are as many that have not expired, no code is exchanged.
const MOST: usize = 10_000;

/// The ID tokens that have not expired.
#[derive(Default)]
pub struct Exchanged(Mutex<DigestMap<Timestamp>>);

impl Exchanged {
    /// Whether the code that comes with this ID token may be exchanged: it is the first.
    pub(super) fn is_first(&self, token: &IdTokenUse, now: Timestamp) -> bool {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST {
            known.retain(|_, expires| *expires > now);
        }
        if known.len() >= MOST {
            log::warn!(
                "{MOST} ID tokens were used with a code within minutes: no more codes are exchanged until some expire"
            );
        }
        known.len() < MOST && known.insert(token.digest, token.expires).is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::token::TokenDigest;

    #[test]
    fn each_is_the_first_once_and_no_more_are_remembered_than_may_be() {
        let exchanged = Exchanged::default();
        let at = |millis| Timestamp::from_millis(millis).unwrap();
        let token = |number: usize, expires| {
            let mut digest = [0; 32];
            digest[8..16].copy_from_slice(&number.to_le_bytes());
            IdTokenUse { digest: TokenDigest::from_bytes(digest), expires: at(expires) }
        };
        assert!((0..MOST).all(|number| exchanged.is_first(&token(number, 2_000), at(1_000))));
        assert!(!exchanged.is_first(&token(7, 2_000), at(1_000)));
        assert!(!exchanged.is_first(&token(MOST, 2_000), at(1_000)), "there are too many");
        assert!(exchanged.is_first(&token(MOST, 3_000), at(2_000)), "the others have expired");
    }
}
