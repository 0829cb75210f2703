//! `bcrypt_sha256`: the scheme of every hash that the service writes.
//!
//! bcrypt alone reads only 72 bytes and repeats its key around NULs, so that different passwords could match one hash.
//! It is therefore given a digest: HMAC-SHA-256 of the password's exact UTF-8 bytes, keyed with the salt. The key
//! prevents password shucking: comparing with unsalted digests that were stolen elsewhere. The result is stored in the
//! format that passlib publishes as `bcrypt_sha256` version 2:
//!
//! ```text
//! $bcrypt-sha256$v=2,t=2b,r=<cost>$<22 characters of salt>$<31 characters of digest>
//! ```

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bcrypt::BASE_64;
use hmac::{Hmac, KeyInit as _, Mac as _};
use rand::TryRng as _;
use rand::rngs::SysRng;
use sha2::Sha256;

use crate::domain::user::{COSTS, PasswordHash};
use crate::passwords::plain::PlainPassword;
use crate::passwords::schemes::scheme::{Scheme, StoredHash};

/// The scheme's entry in the list of schemes.
pub(super) const SCHEME: Scheme = Scheme {
    parse: |text| Some(Box::new(BcryptSha256::parse(text)?)),
    #[cfg(test)]
    examples: |password| (*COSTS.start()..9).map(|cost| Box::new(BcryptSha256::new(password, cost)) as _).collect(),
};

/// A hash in its parts.
pub(super) struct BcryptSha256 {
    cost: u32,
    salt: [u8; 16],
    digest: [u8; Self::DIGEST],
}

impl BcryptSha256 {
    /// bcrypt makes 24 bytes, of which every implementation stores 23.
    const DIGEST: usize = 23;
    const PREFIX: &str = "$bcrypt-sha256$v=2,t=2b,r=";

    pub(super) fn new(password: &PlainPassword, cost: u32) -> Self {
        let mut salt = [0; 16];
        SysRng.try_fill_bytes(&mut salt).expect("the operating system gives random numbers");
        Self { cost, salt, digest: Self::digest(password, cost, &salt) }
    }

    /// Does the work of one hash and discards the result.
    pub(super) fn burn(password: &PlainPassword, cost: u32) {
        std::hint::black_box(Self::digest(password, cost, &[0; 16]));
    }

    /// The same, whatever is hashed.
    #[cfg(not(test))]
    pub(super) fn burn_any(cost: u32) {
        std::hint::black_box(bcrypt::bcrypt(cost, [0; 16], b"\0"));
    }

    fn digest(password: &PlainPassword, cost: u32, salt: &[u8; 16]) -> [u8; Self::DIGEST] {
        let mut keyed =
            Hmac::<Sha256>::new_from_slice(BASE_64.encode(salt).as_bytes()).expect("any key length will do");
        keyed.update(password.as_str().as_bytes());
        // 44 characters and the NUL that ends a bcrypt key: far below 72 bytes, and no NUL before the end.
        let mut key = STANDARD.encode(keyed.finalize().into_bytes());
        key.push('\0');
        #[cfg(test)]
        super::scheme::work::count(1 << cost);
        let mut digest = [0; Self::DIGEST];
        digest.copy_from_slice(&bcrypt::bcrypt(cost, *salt, key.as_bytes())[..Self::DIGEST]);
        digest
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
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

impl StoredHash for BcryptSha256 {
    fn verify(&self, password: &PlainPassword) -> bool {
        // It need not take constant time: a client cannot choose the digests that are compared.
        Self::digest(password, self.cost, &self.salt) == self.digest
    }

    fn work(&self) -> u64 {
        1 << self.cost
    }

    fn is_imported(&self) -> bool {
        false
    }

    fn is_current(&self, cost: u32) -> bool {
        self.cost == cost
    }

    fn encode(&self) -> PasswordHash {
        let mut text = format!("{}{}$", Self::PREFIX, self.cost);
        BASE_64.encode_string(self.salt, &mut text);
        let _ = text.write_char('$');
        BASE_64.encode_string(self.digest, &mut text);
        PasswordHash::from_stored(text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn plain(text: &str) -> PlainPassword {
        PlainPassword::parse("password", text.to_owned()).unwrap()
    }

    fn matches(stored: &str, password: &str) -> bool {
        BcryptSha256::parse(stored).unwrap().verify(&plain(password))
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
    fn hashes_made_by_passlib_match_their_passwords() {
        for (password, hash) in PASSLIB {
            let password = if password == "72" {
                "a".repeat(72)
            } else if password == "73" {
                "a".repeat(73)
            } else {
                password.to_owned()
            };
            assert!(matches(hash, &password), "{hash}");
            assert!(!matches(hash, &format!("{password}x")), "{hash}");
        }
    }

    #[test]
    fn a_hash_made_here_that_passlib_verifies_still_matches() {
        assert!(matches(OURS, "hunter2"));
        assert_eq!(BcryptSha256::parse(OURS).unwrap().encode().as_stored(), OURS);
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
            assert!(BcryptSha256::parse(stored).is_none(), "{stored}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn any_password_but_the_empty_one_matches_its_own_hash_and_no_other(password in ".{1,90}", other in ".{1,90}") {
            let hash = BcryptSha256::parse(BcryptSha256::new(&plain(&password), 4).encode().as_stored()).unwrap();
            prop_assert!(hash.verify(&plain(&password)));
            prop_assert_eq!(hash.verify(&plain(&other)), password == other);
        }
    }
}
