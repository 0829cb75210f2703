//! When sessions were last used, on its way to the store.
//!
//! A request must not wait for this, nor fail with it, so it is only noted here; once a second what has been noted goes
//! to the store in one write. A session is noted at most once a minute. What a crash loses is a minute of a time that
//! nobody was promised.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::clock::Timestamp;
use crate::session::{Session, SessionPolicy};
use crate::token::TokenDigest;

/// How many sessions are noted at once. Beyond it some are noted at a later use.
const MAX_NOTED: usize = 100_000;

/// Uses that the store does not know yet.
#[derive(Default)]
pub struct LastUsed(Mutex<HashMap<TokenDigest, Timestamp>>);

impl LastUsed {
    /// Notes that a session is in use now, where the store's own note of it is old.
    pub fn note(&self, digest: TokenDigest, session: &Session, now: Timestamp) {
        if session.last_used.plus(SessionPolicy::USE_IS_STORED_EVERY) > now {
            return;
        }
        let mut noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if noted.len() < MAX_NOTED {
            noted.entry(digest).or_insert(now);
        }
    }

    /// Takes what has been noted, in the order of the store's key.
    pub fn take(&self) -> Vec<(TokenDigest, Timestamp)> {
        let noted = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        let mut uses: Vec<_> = noted.into_iter().collect();
        uses.sort_unstable_by_key(|(digest, _)| *digest.as_bytes());
        uses
    }
}
