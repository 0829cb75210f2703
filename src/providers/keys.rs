//! The keys that a provider signs with, as it publishes them (RFC 7517), and the one check of a signature.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, Validation, decode, decode_header};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::crypto;
use super::error::ProviderError;

/// How long a signed token may be.
pub(super) const MAX_TOKEN: usize = 16 * 1024;

/// How many keys of a provider are used.
const MAX_KEYS: usize = 64;

/// How many keys are tried that a token may mean. Two keys of one id are not against the standard.
const MAX_TRIED: usize = 4;

/// A key of a provider's that its tokens may be signed with.
struct Key {
    id: Option<String>,
    /// What it is used with: what it says itself, or all that its type can.
    algorithms: Vec<Algorithm>,
    public: DecodingKey,
}

/// The keys of a provider.
pub(super) struct KeySet {
    keys: Vec<Key>,
    /// How many more there were than are used.
    pub(super) left_out: usize,
}

/// A key as it is published. What is not for signatures, or of a type that is not known, is left out.
#[derive(Deserialize)]
struct Published {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    purpose: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl KeySet {
    /// Reads what a provider publishes. `None` where that is no set of keys, or none of them can be used.
    pub(super) fn parse(body: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<Value>,
        }
        let set: Set = serde_json::from_slice(body).ok()?;
        let mut keys: Vec<Key> = set
            .keys
            .into_iter()
            .filter_map(|key| serde_json::from_value::<Published>(key).ok())
            .filter_map(Published::read)
            .collect();
        let left_out = keys.len().saturating_sub(MAX_KEYS);
        keys.truncate(MAX_KEYS);
        (!keys.is_empty()).then_some(Self { keys, left_out })
    }

    /// Those that a token of this header may be signed with: by its key's id, or the only one where it names none.
    fn find(&self, algorithm: Algorithm, id: Option<&str>) -> Vec<&Key> {
        let fitting = self.keys.iter().filter(|key| key.algorithms.contains(&algorithm));
        if id.is_some() {
            return fitting.filter(|key| key.id.as_deref() == id).take(MAX_TRIED).collect();
        }
        let found: Vec<_> = fitting.collect();
        if found.len() == 1 { found } else { Vec::new() }
    }
}

impl Published {
    fn read(self) -> Option<Key> {
        let verifies = self.key_ops.as_ref().is_none_or(|operations| operations.iter().any(|name| name == "verify"));
        if self.purpose.as_deref().is_some_and(|purpose| purpose != "sig") || !verifies {
            return None;
        }
        let (key, possible) = match self.kty.as_str() {
            "RSA" => self.read_rsa()?,
            "EC" => self.read_ec()?,
            "OKP" if self.crv.as_deref() == Some("Ed25519") => {
                let x = bytes(self.x.as_deref()).filter(|x| x.len() == 32)?;
                (DecodingKey::from_ed_der(&x), vec![Algorithm::EdDSA])
            }
            // Also "oct": a key of HMAC that is published is no secret.
            _ => return None,
        };
        let algorithms = match self.alg.as_deref() {
            None => possible,
            Some("Ed25519") => possible.into_iter().filter(|algorithm| *algorithm == Algorithm::EdDSA).collect(),
            Some(name) => {
                let own: Algorithm = name.parse().ok()?;
                possible.into_iter().filter(|algorithm| *algorithm == own).collect()
            }
        };
        (!algorithms.is_empty()).then_some(Key { id: self.kid, algorithms, public: key })
    }

    fn read_rsa(&self) -> Option<(DecodingKey, Vec<Algorithm>)> {
        let (mut n, e) = (bytes(self.n.as_deref())?, bytes(self.e.as_deref())?);
        // Some write a zero in front.
        let zeros = n.iter().take_while(|byte| **byte == 0).count();
        n.drain(..zeros);
        let bits = n.len() * 8 - usize::try_from(n.first()?.leading_zeros()).ok()?;
        // A larger modulus or exponent would only take time.
        let fits = (2048..=8192).contains(&bits) && (1..=4).contains(&e.len());
        fits.then(|| (DecodingKey::from_rsa_raw_components(&n, &e), AlgorithmFamily::Rsa.algorithms().to_vec()))
    }

    fn read_ec(&self) -> Option<(DecodingKey, Vec<Algorithm>)> {
        let (length, algorithm) = match self.crv.as_deref() {
            Some("P-256") => (32, Algorithm::ES256),
            Some("P-384") => (48, Algorithm::ES384),
            _ => return None,
        };
        let (x, y) = (bytes(self.x.as_deref())?, bytes(self.y.as_deref())?);
        // An uncompressed point: SEC 1, 2.3.3.
        (x.len() == length && y.len() == length)
            .then(|| (DecodingKey::from_ec_der(&[&[4], x.as_slice(), y.as_slice()].concat()), vec![algorithm]))
    }
}

fn bytes(text: Option<&str>) -> Option<Vec<u8>> {
    BASE64_URL_SAFE_NO_PAD.decode(text?).ok()
}

/// A signed token whose form is right. Its signature is not verified yet.
pub(super) struct Signed<'a> {
    token: &'a str,
    algorithm: Algorithm,
    key_id: Option<String>,
}

impl<'a> Signed<'a> {
    /// Reads a token's header. Of what it says, the algorithm and the key's id alone are used, and only to choose among the
    /// provider's own keys: keys and addresses of keys that it may bring along are not.
    pub(super) fn read(token: &'a str) -> Result<Self, ProviderError> {
        if token.len() > MAX_TOKEN {
            return Err(ProviderError::Refused("the token is too long"));
        }
        // One that is not signed, or by an algorithm that is not known, is refused here.
        let header = decode_header(token).map_err(|_| ProviderError::Refused("the token's header cannot be read"))?;
        // Tokens for other purposes, such as access, may be signed by the same key, and say so.
        if header.typ.is_some_and(|typ| !typ.eq_ignore_ascii_case("JWT")) {
            return Err(ProviderError::Refused("the token is of another type"));
        }
        if header.alg.family() == AlgorithmFamily::Hmac {
            return Err(ProviderError::Refused("the token is signed by a shared secret"));
        }
        Ok(Self { token, algorithm: header.alg, key_id: header.kid })
    }

    /// Whether one of the keys may have signed it.
    pub(super) fn is_for(&self, keys: &KeySet) -> bool {
        !keys.find(self.algorithm, self.key_id.as_deref()).is_empty()
    }

    /// Verifies the signature, and reads the claims. Nothing that they say is checked.
    pub(super) fn verify<T: DeserializeOwned>(&self, keys: &KeySet) -> Result<T, ProviderError> {
        crypto::install();
        let mut validation = Validation::new(self.algorithm);
        // The claims are checked where the provider is known, with our own clock.
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        validation.validate_aud = false;
        let found = keys.find(self.algorithm, self.key_id.as_deref());
        let mut decoded = found.iter().map(|key| decode::<T>(self.token, &key.public, &validation));
        let claims = decoded.find_map(Result::ok).map(|decoded| decoded.claims);
        claims
            .ok_or(ProviderError::Refused("no key of the provider has signed the token, or its claims cannot be read"))
    }
}
