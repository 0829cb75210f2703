//! Passwords: how they are checked, hashed and verified.
//!
//! bcrypt alone reads 72 bytes and repeats its key around NULs, so that different passwords can open one account. It is
//! therefore given a digest: HMAC-SHA-256 of the password's exact UTF-8 bytes, keyed with the salt. The key keeps the
//! digest from being compared with unsalted digests stolen elsewhere (password shucking). The result is stored in the
//! format that passlib publishes as `bcrypt_sha256` version 2:
//!
//! ```text
//! $bcrypt-sha256$v=2,t=2b,r=<cost>$<22 characters of salt>$<31 characters of digest>
//! ```

pub mod threads;

use std::fmt::Write as _;
use std::sync::{Arc, LazyLock};
use std::{collections::HashSet, num::NonZeroUsize};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bcrypt::BASE_64;
use hmac::{Hmac, KeyInit as _, Mac as _};
use rand::TryRng as _;
use rand::rngs::SysRng;
use sha2::Sha256;
use thiserror::Error;

use crate::domain::field::InvalidField;
use crate::domain::user::COSTS;
use crate::domain::user::{Credentials, PasswordHash, UserId};
use crate::passwords::threads::{HashingError, HashingThreads};

/// The 3,000 most common passwords, one a line, lower case.
static COMMON: LazyLock<HashSet<&'static str>> =
    LazyLock::new(|| include_str!("common_passwords.txt").lines().collect());

/// A password in clear: any text but the empty one. It has no `Debug`, no `Display` and no `Serialize`.
#[derive(Clone)]
pub struct PlainPassword(Arc<str>);

impl PlainPassword {
    /// Takes a password as a client sent it in `field`: exactly as it is.
    ///
    /// # Errors
    /// [`InvalidField`] for the empty text, which is far more often a fault of a form than a wish.
    pub fn parse(field: &'static str, text: String) -> Result<Self, InvalidField> {
        if text.is_empty() {
            return Err(InvalidField { field, rule: "must not be empty".to_owned() });
        }
        Ok(Self(text.into()))
    }
}

/// What a new password must satisfy. By default: nothing.
#[derive(Clone, Debug)]
pub struct PasswordPolicy {
    /// How many characters it must have at least.
    pub min_length: usize,
    /// Whether the most common passwords are refused.
    pub reject_common: bool,
}

impl PasswordPolicy {
    /// Says whether a new password, sent in `field`, will do. Never asked at login: a policy is for the next password, not for the last.
    ///
    /// # Errors
    /// [`InvalidField`] naming the rule that it breaks.
    pub fn check(&self, field: &'static str, password: &PlainPassword) -> Result<(), InvalidField> {
        let refuse = |rule| Err(InvalidField { field, rule });
        if password.0.chars().count() < self.min_length {
            return refuse(format!("must be at least {} characters", self.min_length));
        }
        if self.reject_common && COMMON.contains(password.0.to_lowercase().as_str()) {
            return refuse("must not be one of the most common passwords".to_owned());
        }
        Ok(())
    }
}

/// Why a password was neither hashed nor verified.
#[derive(Debug, Error)]
pub enum PasswordError {
    /// The hashing threads did not do it.
    #[error(transparent)]
    Hashing(#[from] HashingError),
    /// The hash that is stored for this account is not one of ours.
    #[error(
        "the stored password hash of the account with id {} is malformed, or of a cost that is not used any more: \
         `user set-password` makes a new one", .0.0
    )]
    MalformedHash(UserId),
}

/// What became of a verification.
pub struct Verification {
    /// Whether the password is the one that was hashed.
    pub matches: bool,
    /// The same password at the configured cost, where it matches and the stored cost is another.
    pub rehashed: Option<PasswordHash>,
}

/// Hashes and verifies passwords at one cost on the hashing threads.
#[derive(Clone)]
pub struct Passwords {
    threads: HashingThreads,
    cost: u32,
}

impl Passwords {
    /// Starts `threads` hashing threads with `queue` places before them, for hashes at `cost`.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(cost: u32, threads: NonZeroUsize, queue: usize) -> std::io::Result<Self> {
        Ok(Self { threads: HashingThreads::start(threads, queue)?, cost: cost.clamp(*COSTS.start(), *COSTS.end()) })
    }

    /// The threads that do the work.
    #[must_use]
    pub fn threads(&self) -> &HashingThreads {
        &self.threads
    }

    /// Hashes a new password under a new salt. `gone` resolves when nobody waits for it any more.
    ///
    /// # Errors
    /// See [`PasswordError`].
    pub async fn hash(
        &self,
        password: PlainPassword,
        gone: impl Future<Output = ()>,
    ) -> Result<PasswordHash, PasswordError> {
        let cost = self.cost;
        Ok(self.threads.run(move || BcryptSha256::new(&password, cost).encode(), gone).await?)
    }

    /// Verifies a password against an account's stored hash, or against none: for one that does not exist or may not be
    /// used. Every answer but a match costs the same, so that time tells nobody which accounts there are.
    ///
    /// # Errors
    /// See [`PasswordError`].
    pub async fn verify(
        &self,
        password: PlainPassword,
        against: Option<&Credentials>,
        gone: impl Future<Output = ()>,
    ) -> Result<Verification, PasswordError> {
        let cost = self.cost;
        let decode = |account: &Credentials| {
            let stored = BcryptSha256::decode(account.password_hash.as_stored());
            stored.ok_or(PasswordError::MalformedHash(account.user_id))
        };
        let stored = against.map(decode).transpose()?;
        Ok(self.threads.run(move || verify(&password, stored.as_ref(), cost), gone).await?)
    }
}

/// Whether a stored hash is one of ours, as we write it.
#[must_use]
pub fn is_well_formed(hash: &PasswordHash) -> bool {
    // One hash can be written in several ways, of which the service uses one.
    BcryptSha256::decode(hash.as_stored()).is_some_and(|decoded| decoded.encode() == *hash)
}

fn verify(password: &PlainPassword, stored: Option<&BcryptSha256>, cost: u32) -> Verification {
    let Some(stored) = stored else {
        burn_equal_work(password, cost);
        return Verification { matches: false, rehashed: None };
    };
    let matches = stored.verify(password);
    if !matches {
        // 2^c + 2^c + 2^(c+1) + … + 2^(cost-1) = 2^cost: a hash of a lower cost takes as long as the unknown user's.
        for missing in stored.cost..cost {
            burn_equal_work(password, missing);
        }
    }
    let is_stale = matches && stored.cost != cost;
    Verification { matches, rehashed: is_stale.then(|| BcryptSha256::new(password, cost).encode()) }
}

/// Does the work of one verification and learns nothing from it.
fn burn_equal_work(password: &PlainPassword, cost: u32) {
    std::hint::black_box(BcryptSha256::digest(password, cost, &[0; 16]));
}

/// A hash in its parts.
struct BcryptSha256 {
    cost: u32,
    salt: [u8; 16],
    digest: [u8; Self::DIGEST],
}

impl BcryptSha256 {
    /// bcrypt makes 24 bytes and everyone keeps 23.
    const DIGEST: usize = 23;
    const PREFIX: &str = "$bcrypt-sha256$v=2,t=2b,r=";

    fn new(password: &PlainPassword, cost: u32) -> Self {
        let mut salt = [0; 16];
        SysRng.try_fill_bytes(&mut salt).expect("the operating system gives random numbers");
        Self { cost, salt, digest: Self::digest(password, cost, &salt) }
    }

    fn verify(&self, password: &PlainPassword) -> bool {
        // Which digests differ where tells nothing: they are of a secret key and not what a client sends.
        Self::digest(password, self.cost, &self.salt) == self.digest
    }

    fn digest(password: &PlainPassword, cost: u32, salt: &[u8; 16]) -> [u8; Self::DIGEST] {
        let mut keyed =
            Hmac::<Sha256>::new_from_slice(BASE_64.encode(salt).as_bytes()).expect("any key length will do");
        keyed.update(password.0.as_bytes());
        // 44 characters and the NUL that ends a bcrypt key: far below 72 bytes, and no NUL before the end.
        let mut key = STANDARD.encode(keyed.finalize().into_bytes());
        key.push('\0');
        #[cfg(test)]
        tests::ROUNDS.with(|rounds| rounds.set(rounds.get() + (1 << cost)));
        let mut digest = [0; Self::DIGEST];
        digest.copy_from_slice(&bcrypt::bcrypt(cost, *salt, key.as_bytes())[..Self::DIGEST]);
        digest
    }

    fn encode(&self) -> PasswordHash {
        let mut text = format!("{}{}$", Self::PREFIX, self.cost);
        BASE_64.encode_string(self.salt, &mut text);
        let _ = text.write_char('$');
        BASE_64.encode_string(self.digest, &mut text);
        PasswordHash::from_stored(text)
    }

    fn decode(text: &str) -> Option<Self> {
        let mut parts = text.strip_prefix(Self::PREFIX)?.split('$');
        let (cost, salt, digest) = (parts.next()?, parts.next()?, parts.next()?);
        let is_plain = !cost.is_empty() && cost.bytes().all(|b| b.is_ascii_digit()) && parts.next().is_none();
        let cost = cost.parse().ok().filter(|cost| is_plain && COSTS.contains(cost))?;
        Some(Self {
            cost,
            salt: BASE_64.decode(salt).ok()?.try_into().ok()?,
            digest: BASE_64.decode(digest).ok()?.try_into().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use proptest::prelude::*;

    use super::*;

    thread_local! {
        /// How many rounds of bcrypt this thread has done.
        pub(super) static ROUNDS: Cell<u64> = const { Cell::new(0) };
    }

    /// How many rounds of bcrypt a verification does, and whether the password matched.
    fn work_of(password: &str, stored: Option<&BcryptSha256>, cost: u32) -> (u64, bool) {
        let before = ROUNDS.get();
        let verification = verify(&plain(password), stored, cost);
        (ROUNDS.get() - before, verification.matches)
    }

    fn plain(text: &str) -> PlainPassword {
        PlainPassword::parse("password", text.to_owned()).unwrap()
    }

    fn opens(stored: &str, password: &str) -> bool {
        BcryptSha256::decode(stored).unwrap().verify(&plain(password))
    }

    /// Made by passlib 1.7.4 with bcrypt 4.0.1: `bcrypt_sha256.using(rounds=4).hash(password)`.
    const PASSLIB: [(&str, &str); 6] = [
        ("hunter2", "$bcrypt-sha256$v=2,t=2b,r=4$QexDYaiSw.PMflDlGeyERe$0JhXa2JmpMTbORvBDFxYcs2.SN09JvW"),
        ("72", "$bcrypt-sha256$v=2,t=2b,r=4$6c8ClZ1GEJ1TotVLUQS/Ce$qEnqS2YgoH5MJOo0lBdQEGWuVwqTb6m"),
        ("73", "$bcrypt-sha256$v=2,t=2b,r=4$scRpPvLR/UbQjUCPbE7aze$bO4fbH1BcQo6XtIWynTm3ZRhM3bmcOm"),
        ("P", "$bcrypt-sha256$v=2,t=2b,r=4$daj0D4RCeneXBdLvtap1Ge$UI4Whug28T5/ZBv.B3PZTJMWGNe81oi"),
        ("P\0P", "$bcrypt-sha256$v=2,t=2b,r=4$eU47RAfQiYT.eosqcjm3Me$NPuoVaYCXg8M25XOVxOZrE5EPbHNUEG"),
        ("pässwörd☃", "$bcrypt-sha256$v=2,t=2b,r=4$VBlYu/tCLkk8LPDKwgKO0O$ESTLC91IpZb6uKFABCLktvGDhDEzo/O"),
    ];

    /// Made by this module, and verified by passlib 1.7.4: `bcrypt_sha256.verify("hunter2", hash)`.
    const OURS: &str = "$bcrypt-sha256$v=2,t=2b,r=12$2XIYz5MSFVYmgOa6AohoCO$pEYmhucvUFN6RvqJ1lzdcDnzYzDNlEC";

    #[test]
    fn hashes_made_by_passlib_open_with_their_passwords() {
        for (password, hash) in PASSLIB {
            let password = if password == "72" {
                "a".repeat(72)
            } else if password == "73" {
                "a".repeat(73)
            } else {
                password.to_owned()
            };
            assert!(opens(hash, &password), "{hash}");
            assert!(!opens(hash, &format!("{password}x")), "{hash}");
        }
    }

    #[test]
    fn a_hash_made_here_that_passlib_verifies_still_opens() {
        assert!(opens(OURS, "hunter2"));
        assert_eq!(BcryptSha256::decode(OURS).unwrap().encode().as_stored(), OURS);
    }

    #[test]
    fn every_byte_of_a_password_counts() {
        for (one, other) in [
            ("P".to_owned(), "P\0P".to_owned()),
            ("a".repeat(72), "a".repeat(73)),
            ("a".repeat(100_000), format!("{}b", "a".repeat(99_999))),
            ("a".to_owned(), "A".to_owned()),
            ("a".to_owned(), "a ".to_owned()),
            ("\u{e9}".to_owned(), "e\u{301}".to_owned()),
        ] {
            let hash = BcryptSha256::new(&plain(&one), 4);
            assert!(hash.verify(&plain(&one)));
            assert!(!hash.verify(&plain(&other)));
        }
    }

    #[test]
    fn a_malformed_hash_is_refused_and_never_a_panic() {
        for stored in [
            "",
            "$2b$12$EVDQ2hbGph0i.0Gx58OM.e4iKBk8hGM9/zW6TchIZuDbrpJ89QsIe",
            "$bcrypt-sha256$v=2,t=2b,r=$EVDQ2hbGph0i.0Gx58OM.e$4iKBk8hGM9/zW6TchIZuDbrpJ89QsIe",
            "$bcrypt-sha256$v=2,t=2b,r=3$EVDQ2hbGph0i.0Gx58OM.e$4iKBk8hGM9/zW6TchIZuDbrpJ89QsIe",
            "$bcrypt-sha256$v=2,t=2b,r=17$EVDQ2hbGph0i.0Gx58OM.e$4iKBk8hGM9/zW6TchIZuDbrpJ89QsIe",
            "$bcrypt-sha256$v=2,t=2b,r=31$EVDQ2hbGph0i.0Gx58OM.e$4iKBk8hGM9/zW6TchIZuDbrpJ89QsIe",
            "$bcrypt-sha256$v=2,t=2b,r=32$EVDQ2hbGph0i.0Gx58OM.e$4iKBk8hGM9/zW6TchIZuDbrpJ89QsIe",
            "$bcrypt-sha256$v=2,t=2b,r=+4$EVDQ2hbGph0i.0Gx58OM.e$4iKBk8hGM9/zW6TchIZuDbrpJ89QsIe",
            "$bcrypt-sha256$v=2,t=2b,r=4$EVDQ2hbGph0i.0Gx58OM$4iKBk8hGM9/zW6TchIZuDbrpJ89QsIe",
            "$bcrypt-sha256$v=2,t=2b,r=4$EVDQ2hbGph0i.0Gx58OM.e$4iKBk8hGM9",
            "$bcrypt-sha256$v=2,t=2b,r=4$EVDQ2hbGph0i.0Gx58OM.e$4iKBk8hGM9/zW6TchIZuDbrpJ89Qs\u{fc}",
            "$bcrypt-sha256$v=2,t=2b,r=4$EVDQ2hbGph0i.0Gx58OM.e$4iKBk8hGM9/zW6TchIZuDbrpJ89QsIe$",
        ] {
            assert!(BcryptSha256::decode(stored).is_none(), "{stored}");
        }
    }

    #[test]
    fn a_hash_of_another_cost_is_made_anew_after_a_match_and_only_then() {
        let stored = BcryptSha256::new(&plain("hunter2"), 4);
        let matched = verify(&plain("hunter2"), Some(&stored), 5);
        assert!(matched.matches);
        let rehashed = BcryptSha256::decode(matched.rehashed.unwrap().as_stored()).unwrap();
        assert_eq!(rehashed.cost, 5);
        assert!(rehashed.verify(&plain("hunter2")));
        assert!(verify(&plain("hunter2"), Some(&stored), 4).rehashed.is_none());
        let refused = verify(&plain("hunter3"), Some(&stored), 5);
        assert!(!refused.matches && refused.rehashed.is_none());
    }

    #[test]
    fn a_refusal_takes_the_work_of_an_unknown_user_whatever_lower_cost_the_stored_hash_has() {
        let cost = 9;
        assert_eq!(work_of("wrong", None, cost), (1 << cost, false), "an unknown user");
        for stored in *COSTS.start()..=cost {
            let hash = BcryptSha256::new(&plain("hunter2"), stored);
            assert_eq!(work_of("wrong", Some(&hash), cost), (1 << cost, false), "stored at {stored}");
        }
    }

    #[test]
    fn only_a_hash_of_a_higher_cost_takes_longer_to_refuse_and_only_a_match_is_hashed_twice() {
        let hash = BcryptSha256::new(&plain("hunter2"), 6);
        assert_eq!(work_of("wrong", Some(&hash), 5), (1 << 6, false));
        assert_eq!(work_of("hunter2", Some(&hash), 6), (1 << 6, true));
        assert_eq!(work_of("hunter2", Some(&hash), 7), ((1 << 6) + (1 << 7), true));
    }

    #[test]
    fn by_default_any_password_will_do_and_a_policy_can_ask_for_more() {
        let open = PasswordPolicy { min_length: 1, reject_common: false };
        assert!(open.check("password", &plain("p")).is_ok());
        let strict = PasswordPolicy { min_length: 8, reject_common: true };
        assert!(strict.check("password", &plain("üüüüüüü")).is_err());
        assert!(strict.check("password", &plain("Password1")).is_err());
        assert!(strict.check("password", &plain("correct horse battery staple")).is_ok());
        assert_eq!(COMMON.len(), 3_000);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn any_password_but_the_empty_one_opens_its_own_hash_and_no_other(password in ".{1,90}", other in ".{1,90}") {
            let hash = BcryptSha256::decode(BcryptSha256::new(&plain(&password), 4).encode().as_stored()).unwrap();
            prop_assert!(hash.verify(&plain(&password)));
            prop_assert_eq!(hash.verify(&plain(&other)), password == other);
        }
    }
}
