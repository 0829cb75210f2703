//! argon2 as Django and Supabase store it. It is verified and never made: it takes much memory.
//!
//! ```text
//! argon2$argon2id$v=19$m=<KiB>,t=<passes>,p=<lanes>$<salt>$<digest>     Django
//! $argon2id$v=19$m=<KiB>,t=<passes>,p=<lanes>$<salt>$<digest>           Supabase, and the format's own specification
//! ```
//!
//! Salt and digest are in Base64 without padding. The version is 16 where none is written.

use argon2::{Algorithm, Argon2 as Argon2Crate, Params, Version};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;

use crate::domain::user::PasswordHash;
use crate::passwords::plain::PlainPassword;
use crate::passwords::schemes::scheme::{Scheme, StoredHash, number};
use crate::passwords::schemes::speed;

/// The scheme's entry in the list of schemes.
pub(super) const SCHEME: Scheme = Scheme {
    parse: |text| Some(Box::new(Argon2::parse(text)?)),
    #[cfg(test)]
    examples: |password| {
        let forms = ["argon2$argon2id$v=19$", "argon2$argon2i$v=19$", "$argon2id$v=19$", "$argon2i$v=16$", "$argon2i$"];
        let costs = ["m=64,t=1,p=8", "m=512,t=2,p=2", "m=1000,t=1,p=3"];
        let examples = forms.iter().flat_map(|form| costs.map(|cost| Argon2::new(password, &format!("{form}{cost}$"))));
        examples.map(|example| Box::new(example) as _).collect()
    },
};

/// The most memory that is read, in KiB. Django's own are of 100 MiB.
const MAX_MEMORY: u32 = 256 * 1024;

/// The most passes, and the most lanes, that are read.
const MAX_PASSES: u32 = 10;
const MAX_LANES: u32 = 255;

/// A hash in its parts.
struct Argon2 {
    /// The whole text, which leaves some parts out at times.
    text: String,
    algorithm: Algorithm,
    version: Version,
    params: Params,
    salt: Vec<u8>,
    digest: Vec<u8>,
}

impl Argon2 {
    fn parse(text: &str) -> Option<Self> {
        let mut parts =
            text.strip_prefix("argon2").filter(|rest| rest.starts_with("$argon2")).unwrap_or(text).split('$');
        let algorithm = match (parts.next()?, parts.next()?) {
            ("", "argon2i") => Algorithm::Argon2i,
            ("", "argon2id") => Algorithm::Argon2id,
            _ => return None,
        };
        let mut part = parts.next()?;
        let version = match part {
            "v=19" => Version::V0x13,
            _ => Version::V0x10,
        };
        if part.starts_with("v=") {
            if !["v=16", "v=19"].contains(&part) {
                return None;
            }
            part = parts.next()?;
        }
        let (salt, digest) = (parts.next()?, parts.next()?);
        if parts.next().is_some() {
            return None;
        }
        let salt = STANDARD_NO_PAD.decode(salt).ok().filter(|salt| (8..=64).contains(&salt.len()))?;
        let digest = STANDARD_NO_PAD.decode(digest).ok().filter(|digest| (12..=64).contains(&digest.len()))?;
        let params = Self::params(part, digest.len())?;
        Some(Self { text: text.to_owned(), algorithm, version, params, salt, digest })
    }

    fn params(text: &str, digest: usize) -> Option<Params> {
        let mut costs = text.split(',');
        let memory = number(costs.next()?.strip_prefix("m=")?, 8..=MAX_MEMORY)?;
        let passes = number(costs.next()?.strip_prefix("t=")?, 1..=MAX_PASSES)?;
        let lanes = number(costs.next()?.strip_prefix("p=")?, 1..=MAX_LANES)?;
        if costs.next().is_some() || memory < 8 * lanes {
            return None;
        }
        Params::new(memory, passes, lanes, Some(digest)).ok()
    }

    #[cfg(test)]
    fn new(password: &PlainPassword, form: &str) -> Self {
        let salt_and_digest = format!("{}${}", STANDARD_NO_PAD.encode("DOGauSZInRJz"), STANDARD_NO_PAD.encode([0; 32]));
        let mut hash = Self::parse(&format!("{form}{salt_and_digest}")).unwrap();
        hash.digest = hash.digest_of(password);
        let digest = STANDARD_NO_PAD.encode(&hash.digest);
        hash.text = format!("{form}{}${digest}", STANDARD_NO_PAD.encode("DOGauSZInRJz"));
        hash
    }

    fn digest_of(&self, password: &PlainPassword) -> Vec<u8> {
        #[cfg(test)]
        super::scheme::work::count(self.work());
        let argon2 = Argon2Crate::new(self.algorithm, self.version, self.params.clone());
        let mut digest = vec![0; self.digest.len()];
        let done = argon2.hash_password_into(password.as_str().as_bytes(), &self.salt, &mut digest);
        // All else that it could refuse was read and checked.
        done.expect("there is memory for one hash");
        digest
    }
}

impl StoredHash for Argon2 {
    fn verify(&self, password: &PlainPassword) -> bool {
        self.digest_of(password) == self.digest
    }

    fn work(&self) -> u64 {
        speed::argon2(self.params.m_cost(), self.params.t_cost())
    }

    fn memory(&self) -> u64 {
        u64::from(self.params.m_cost()) * 1024
    }

    fn encode(&self) -> PasswordHash {
        PasswordHash::from_stored(self.text.clone())
    }
}
