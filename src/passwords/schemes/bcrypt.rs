//! bcrypt as other systems store it: Django's `bcrypt_sha256` and `bcrypt`, and the bare text of PocketBase, Supabase and
//! most others. They are verified and never made: the service's own is [`super::bcrypt_sha256`].
//!
//! ```text
//! bcrypt_sha256$$2b$<cost>$<22 characters of salt><31 characters of digest>     over the SHA-256 in hex
//! bcrypt$$2b$<cost>$<22 characters of salt><31 characters of digest>            over the password
//! $2b$<cost>$<22 characters of salt><31 characters of digest>                   over the password
//! ```
//!
//! `$2a$`, `$2b$` and `$2y$` are one algorithm by now. Over the password itself only 72 bytes count, and a NUL is a byte
//! like others, as in the libraries of Go and Python.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::GeneralPurpose;
use base64::engine::general_purpose::NO_PAD;
use bcrypt::BASE_64;
use sha2::{Digest as _, Sha256};

use crate::domain::token::hex;
use crate::domain::user::PasswordHash;
use crate::passwords::plain::PlainPassword;
use crate::passwords::schemes::scheme::{Scheme, StoredHash};

/// The schemes' entry in the list of schemes.
pub(super) const SCHEME: Scheme = Scheme {
    parse: |text| Some(Box::new(Bcrypt::parse(text)?)),
    #[cfg(test)]
    examples: |password| {
        let prefixes = ["bcrypt_sha256$$2b$", "bcrypt$$2b$", "$2a$", "$2b$", "$2y$"];
        let examples = prefixes.iter().flat_map(|prefix| [4, 5, 8].map(|cost| Bcrypt::new(password, prefix, cost)));
        examples.map(|example| Box::new(example) as _).collect()
    },
};

/// The costs that are read. At the highest a login takes some two seconds.
const COSTS: std::ops::RangeInclusive<u32> = 4..=15;

/// A salt's last character has four bits that do not count. Some programs leave them as they were drawn.
const SALT: GeneralPurpose = GeneralPurpose::new(&alphabet::BCRYPT, NO_PAD.with_decode_allow_trailing_bits(true));

/// A hash in its parts.
struct Bcrypt {
    /// The whole text, of which the salt may be written in several ways.
    text: String,
    is_over_sha256: bool,
    cost: u32,
    salt: [u8; 16],
    digest: [u8; Self::DIGEST],
}

impl Bcrypt {
    /// bcrypt makes 24 bytes, of which every implementation stores 23.
    const DIGEST: usize = 23;

    fn parse(text: &str) -> Option<Self> {
        let (is_over_sha256, bare) = match (text.strip_prefix("bcrypt_sha256$"), text.strip_prefix("bcrypt$")) {
            (Some(bare), _) => (true, bare),
            (None, bare) => (false, bare.unwrap_or(text)),
        };
        let rest = ["$2a$", "$2b$", "$2y$"].iter().find_map(|prefix| bare.strip_prefix(prefix))?;
        let (cost, rest) = rest.split_at_checked(2)?;
        let (salt, digest) = rest.strip_prefix('$')?.split_at_checked(22)?;
        let cost = cost.bytes().all(|b| b.is_ascii_digit()).then(|| cost.parse().ok())??;
        Some(Self {
            text: text.to_owned(),
            is_over_sha256,
            cost: Some(cost).filter(|cost| COSTS.contains(cost))?,
            salt: SALT.decode(salt).ok()?.try_into().ok()?,
            digest: BASE_64.decode(digest).ok()?.try_into().ok()?,
        })
    }

    #[cfg(test)]
    fn new(password: &PlainPassword, prefix: &str, cost: u32) -> Self {
        let mut text = format!("{prefix}{cost:02}$");
        let mut hash = Self {
            text: String::new(),
            is_over_sha256: prefix.starts_with("bcrypt_sha256$"),
            cost,
            salt: *b"0123456789abcdef",
            digest: [0; Self::DIGEST],
        };
        hash.digest = hash.digest_of(password);
        BASE_64.encode_string(hash.salt, &mut text);
        BASE_64.encode_string(hash.digest, &mut text);
        Self { text, ..hash }
    }

    fn digest_of(&self, password: &PlainPassword) -> [u8; Self::DIGEST] {
        /// How many bytes of a key bcrypt reads.
        const KEY: usize = 72;
        #[cfg(test)]
        super::scheme::work::count(self.work());
        let mut key = if self.is_over_sha256 {
            hex(&Sha256::digest(password.as_str())).into_bytes()
        } else {
            password.as_str().bytes().take(KEY).collect()
        };
        // The NUL that ends a key.
        key.push(0);
        key.truncate(KEY);
        let mut digest = [0; Self::DIGEST];
        digest.copy_from_slice(&bcrypt::bcrypt(self.cost, self.salt, &key)[..Self::DIGEST]);
        digest
    }
}

impl StoredHash for Bcrypt {
    fn verify(&self, password: &PlainPassword) -> bool {
        self.digest_of(password) == self.digest
    }

    fn work(&self) -> u64 {
        1 << self.cost
    }

    fn encode(&self) -> PasswordHash {
        PasswordHash::from_stored(self.text.clone())
    }
}
