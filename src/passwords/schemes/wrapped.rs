//! Weak digests of other systems, md5 and sha1, each wrapped in a hash of our own. Such a digest is guessed billions of
//! times a second where it is stolen; the wrapped one no faster than our own hashes. Nobody's password is needed for it:
//!
//! ```text
//! $wrapped-md5$<the digest's salt in Base64>$bcrypt-sha256$v=2,t=2b,r=<cost>$<salt>$<digest>
//! ```
//!
//! Inside is the hash that [`super::bcrypt_sha256`] makes of the digest in lower-case hex. The weak digest is that of its
//! salt, which may be empty, and the password.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use md5::Md5;
use sha1::Sha1;
use sha2::Digest;

use crate::domain::token::hex;
use crate::domain::user::PasswordHash;
use crate::passwords::plain::PlainPassword;
use crate::passwords::schemes::bcrypt_sha256::BcryptSha256;
use crate::passwords::schemes::scheme::{Scheme, StoredHash, text_salt};

/// The scheme's entry in the list of schemes.
pub(super) const SCHEME: Scheme = Scheme {
    parse: |text| Some(Box::new(Wrapped::parse(text)?)),
    #[cfg(test)]
    examples: |password| {
        let weak =
            [(Algorithm::Md5, ""), (Algorithm::Md5, "OY3qIs5VHh9p"), (Algorithm::Sha1, ""), (Algorithm::Sha1, "a")];
        let weak = weak.map(|(algorithm, salt)| WeakDigest::new(password, algorithm, salt));
        weak.iter().flat_map(|weak| [4, 5, 8].map(|cost| Box::new(weak.wrap(cost)) as _)).collect()
    },
};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Algorithm {
    Md5,
    Sha1,
}

impl Algorithm {
    fn name(self) -> &'static str {
        match self {
            Self::Md5 => "md5",
            Self::Sha1 => "sha1",
        }
    }

    /// The length of its digest in characters of hex.
    fn length(self) -> usize {
        match self {
            Self::Md5 => 32,
            Self::Sha1 => 40,
        }
    }

    fn digest(self, salt: &str, password: &PlainPassword) -> String {
        fn digest<D: Digest>(salt: &str, password: &PlainPassword) -> String {
            hex(&D::new().chain_update(salt).chain_update(password.as_str()).finalize())
        }
        match self {
            Self::Md5 => digest::<Md5>(salt, password),
            Self::Sha1 => digest::<Sha1>(salt, password),
        }
    }
}

/// A weak digest as Django stores it: `md5$<salt>$<hex>`, `sha1$<salt>$<hex>`, or the hex of an unsalted md5 alone.
pub(crate) struct WeakDigest {
    algorithm: Algorithm,
    salt: String,
    hex: String,
}

impl WeakDigest {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (algorithm, salt, hex) = if let Some((name, rest)) = text.split_once('$') {
            let algorithm = [Algorithm::Md5, Algorithm::Sha1].into_iter().find(|algorithm| algorithm.name() == name)?;
            let (salt, hex) = rest.split_once('$')?;
            (algorithm, salt, hex)
        } else {
            (Algorithm::Md5, "", text)
        };
        let is_hex = hex.len() == algorithm.length() && hex.bytes().all(|b| b"0123456789abcdef".contains(&b));
        let is_salt = salt.is_empty() || text_salt(salt).is_some();
        (is_hex && is_salt).then(|| Self { algorithm, salt: salt.to_owned(), hex: hex.to_owned() })
    }

    #[cfg(test)]
    fn new(password: &PlainPassword, algorithm: Algorithm, salt: &str) -> Self {
        Self { algorithm, salt: salt.to_owned(), hex: algorithm.digest(salt, password) }
    }

    /// What a count calls it.
    pub(crate) fn kind(&self) -> &'static str {
        match (self.algorithm, self.salt.is_empty()) {
            (Algorithm::Md5, false) => "md5",
            (Algorithm::Md5, true) => "unsalted_md5",
            (Algorithm::Sha1, false) => "sha1",
            (Algorithm::Sha1, true) => "unsalted_sha1",
        }
    }

    /// Wraps it in a hash of our own at this cost.
    pub(super) fn wrap(&self, cost: u32) -> Wrapped {
        let inner = BcryptSha256::new(&PlainPassword::of_digest(self.hex.clone()), cost);
        Wrapped { algorithm: self.algorithm, salt: self.salt.clone(), inner }
    }
}

/// A wrapped digest in its parts.
pub(super) struct Wrapped {
    algorithm: Algorithm,
    salt: String,
    inner: BcryptSha256,
}

impl Wrapped {
    const PREFIX: &str = "$wrapped-";

    fn parse(text: &str) -> Option<Self> {
        let (name, rest) = text.strip_prefix(Self::PREFIX)?.split_once('$')?;
        let algorithm = [Algorithm::Md5, Algorithm::Sha1].into_iter().find(|algorithm| algorithm.name() == name)?;
        let (salt, inner) = rest.split_at(rest.find('$')?);
        let salt = String::from_utf8(STANDARD_NO_PAD.decode(salt).ok()?).ok()?;
        let is_salt = salt.is_empty() || text_salt(&salt).is_some();
        Some(Self { algorithm, inner: BcryptSha256::parse(inner)?, salt }).filter(|_| is_salt)
    }
}

impl StoredHash for Wrapped {
    fn verify(&self, password: &PlainPassword) -> bool {
        self.inner.verify(&PlainPassword::of_digest(self.algorithm.digest(&self.salt, password)))
    }

    fn work(&self) -> u64 {
        self.inner.work()
    }

    fn encode(&self) -> PasswordHash {
        let (name, salt) = (self.algorithm.name(), STANDARD_NO_PAD.encode(&self.salt));
        PasswordHash::from_stored(format!("{}{name}${salt}{}", Self::PREFIX, self.inner.encode().as_stored()))
    }
}
