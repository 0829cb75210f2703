//! Django's `scrypt` hashes. They are verified and never made.
//!
//! ```text
//! scrypt$<N>$<salt, a text>$<r>$<p>$<64 bytes of digest in Base64>
//! ```

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use scrypt::Params;

use crate::domain::user::PasswordHash;
use crate::passwords::plain::PlainPassword;
use crate::passwords::schemes::scheme::{Scheme, StoredHash, number, text_salt};
use crate::passwords::schemes::speed;

/// The scheme's entry in the list of schemes.
pub(super) const SCHEME: Scheme = Scheme {
    parse: |text| Some(Box::new(Scrypt::parse(text)?)),
    #[cfg(test)]
    examples: |password| {
        let costs = [(1, 1, 1), (4, 8, 1), (4, 8, 5), (7, 8, 1)];
        costs.map(|(log_n, r, p)| Box::new(Scrypt::new(password, log_n, r, p)) as _).into()
    },
};

/// The most work that is read: so many blocks of 128 bytes. Django's own have 16,384 * 8 * 5 of them.
const MAX_BLOCKS: u32 = 1 << 20;

/// A hash in its parts.
struct Scrypt {
    params: Params,
    salt: String,
    digest: [u8; Self::DIGEST],
}

impl Scrypt {
    const DIGEST: usize = 64;

    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.strip_prefix("scrypt$")?.split('$');
        let (n, salt, r, p) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let digest = parts.next()?;
        if parts.next().is_some() {
            return None;
        }
        let n = number(n, 2..=MAX_BLOCKS).filter(|n| n.is_power_of_two())?;
        let (r, p) = (number(r, 1..=MAX_BLOCKS)?, number(p, 1..=MAX_BLOCKS)?);
        n.checked_mul(r)?.checked_mul(p).filter(|blocks| *blocks <= MAX_BLOCKS)?;
        let log_n = u8::try_from(n.trailing_zeros()).ok()?;
        Some(Self {
            params: Params::new(log_n, r, p).ok()?,
            salt: text_salt(salt)?.to_owned(),
            digest: STANDARD.decode(digest).ok()?.try_into().ok()?,
        })
    }

    #[cfg(test)]
    fn new(password: &PlainPassword, log_n: u8, r: u32, p: u32) -> Self {
        let params = Params::new(log_n, r, p).unwrap();
        let mut hash = Self { params, salt: "DOGauSZInRJz".to_owned(), digest: [0; Self::DIGEST] };
        hash.digest = hash.digest_of(password);
        hash
    }

    fn digest_of(&self, password: &PlainPassword) -> [u8; Self::DIGEST] {
        #[cfg(test)]
        super::scheme::work::count(self.work());
        let mut digest = [0; Self::DIGEST];
        scrypt::scrypt(password.as_str().as_bytes(), self.salt.as_bytes(), &self.params, &mut digest)
            .expect("64 bytes are not too many");
        digest
    }
}

impl StoredHash for Scrypt {
    fn verify(&self, password: &PlainPassword) -> bool {
        self.digest_of(password) == self.digest
    }

    fn work(&self) -> u64 {
        speed::scrypt(self.params.n() * u64::from(self.params.r()) * u64::from(self.params.p()), self.memory())
    }

    fn memory(&self) -> u64 {
        128 * u64::from(self.params.r()) * (self.params.n() + u64::from(self.params.p()) + 1)
    }

    fn encode(&self) -> PasswordHash {
        let (n, r, p) = (self.params.n(), self.params.r(), self.params.p());
        PasswordHash::from_stored(format!("scrypt${n}${}${r}${p}${}", self.salt, STANDARD.encode(self.digest)))
    }
}
