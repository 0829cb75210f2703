//! Django's usual hashes, `pbkdf2_sha256` and `pbkdf2_sha1`: PBKDF2 with HMAC. They are verified and never made.
//!
//! ```text
//! pbkdf2_sha256$<rounds>$<salt, a text>$<digest in Base64>
//! ```

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pbkdf2::pbkdf2_hmac;
use sha1::Sha1;
use sha2::Sha256;

use crate::domain::user::PasswordHash;
use crate::passwords::plain::PlainPassword;
use crate::passwords::schemes::scheme::{Scheme, StoredHash, number, text_salt};
use crate::passwords::schemes::speed;

/// The schemes' entry in the list of schemes.
pub(super) const SCHEME: Scheme = Scheme {
    parse: |text| Some(Box::new(Pbkdf2::parse(text)?)),
    #[cfg(test)]
    examples: |password| {
        let algorithms = [Algorithm::Sha256, Algorithm::Sha1];
        let rounds = [1, 999, 5_000, 8_000];
        let examples = algorithms.iter().flat_map(|&algorithm| rounds.map(|rounds| (algorithm, rounds)));
        examples.map(|(algorithm, rounds)| Box::new(Pbkdf2::new(password, algorithm, rounds)) as _).collect()
    },
};

/// The most rounds that are read: seven times as many as Django 6.1 makes.
const MAX_ROUNDS: u32 = 10_000_000;

#[derive(Clone, Copy)]
enum Algorithm {
    Sha256,
    Sha1,
}

/// A hash in its parts.
struct Pbkdf2 {
    algorithm: Algorithm,
    rounds: u32,
    salt: String,
    digest: Vec<u8>,
}

impl Algorithm {
    fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "pbkdf2_sha256",
            Self::Sha1 => "pbkdf2_sha1",
        }
    }

    /// The length of its digest in bytes.
    fn length(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha1 => 20,
        }
    }

    fn digest(self, password: &PlainPassword, rounds: u32, salt: &str) -> Vec<u8> {
        #[cfg(test)]
        super::scheme::work::count(self.work(rounds));
        let (password, salt) = (password.as_str().as_bytes(), salt.as_bytes());
        let mut digest = vec![0; self.length()];
        match self {
            Self::Sha256 => pbkdf2_hmac::<Sha256>(password, salt, rounds, &mut digest),
            Self::Sha1 => pbkdf2_hmac::<Sha1>(password, salt, rounds, &mut digest),
        }
        digest
    }

    fn work(self, rounds: u32) -> u64 {
        match self {
            Self::Sha256 => speed::pbkdf2_sha256(rounds),
            Self::Sha1 => speed::pbkdf2_sha1(rounds),
        }
    }
}

impl Pbkdf2 {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('$');
        let name = parts.next()?;
        let algorithm = [Algorithm::Sha256, Algorithm::Sha1].into_iter().find(|algorithm| algorithm.name() == name)?;
        let (rounds, salt, digest) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() {
            return None;
        }
        let rounds = number(rounds, 1..=MAX_ROUNDS)?;
        let digest = STANDARD.decode(digest).ok().filter(|digest| digest.len() == algorithm.length())?;
        Some(Self { algorithm, rounds, salt: text_salt(salt)?.to_owned(), digest })
    }

    #[cfg(test)]
    fn new(password: &PlainPassword, algorithm: Algorithm, rounds: u32) -> Self {
        let salt = "DOGauSZInRJz";
        let digest = algorithm.digest(password, rounds, salt);
        Self { algorithm, rounds, salt: salt.to_owned(), digest }
    }
}

impl StoredHash for Pbkdf2 {
    fn verify(&self, password: &PlainPassword) -> bool {
        self.algorithm.digest(password, self.rounds, &self.salt) == self.digest
    }

    fn work(&self) -> u64 {
        self.algorithm.work(self.rounds)
    }

    fn encode(&self) -> PasswordHash {
        let Self { algorithm, rounds, salt, digest } = self;
        PasswordHash::from_stored(format!("{}${rounds}${salt}${}", algorithm.name(), STANDARD.encode(digest)))
    }
}
