//! What is Apple's alone: the secret of a client is a token that is signed by a key of the developer's.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use serde::Serialize;
use zeroize::Zeroizing;

use super::claims::APPLE;
use super::crypto;
use super::error::ProviderError;
use crate::config::ProviderConfig;
use crate::system::clock::Timestamp;

/// How long a client secret is valid, in seconds. Apple takes up to six months; it is used at once.
const LIFETIME: i64 = 5 * 60;

#[derive(Serialize)]
struct Secret<'a> {
    iss: &'a str,
    iat: i64,
    exp: i64,
    aud: &'a str,
    sub: &'a str,
}

/// Says whether the key can be read, where one is given.
pub(super) fn check_key(config: &ProviderConfig) -> Result<(), String> {
    let Some(key) = &config.apple_key else { return Ok(()) };
    let read = read_key(key.expose())
        .filter(|key| EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, key, &SystemRandom::new()).is_ok());
    read.map(|_| ()).ok_or_else(|| {
        format!("provider.apple_key of {} is no key of Apple's: it is given as the .p8 file has it (PEM)", config.name)
    })
}

/// The secret with which this client authenticates for the next minutes.
pub(super) fn client_secret(
    config: &ProviderConfig,
    client_id: &str,
    now: Timestamp,
) -> Result<Zeroizing<String>, ProviderError> {
    crypto::install();
    let (Some(team), Some(key_id), Some(key)) = (&config.apple_team, &config.apple_key_id, &config.apple_key) else {
        return Err(ProviderError::NotOffered);
    };
    let key = read_key(key.expose()).ok_or(ProviderError::NotOffered)?;
    let issued = now.as_millis().div_euclid(1000);
    let claims = Secret { iss: team, iat: issued, exp: issued + LIFETIME, aud: APPLE, sub: client_id };
    let header = Header { kid: Some(key_id.clone()), ..Header::new(Algorithm::ES256) };
    let secret = encode(&header, &claims, &EncodingKey::from_ec_der(&key));
    secret.map(Zeroizing::new).map_err(|_| ProviderError::NotOffered)
}

/// The PKCS #8 of a PEM file.
fn read_key(pem: &str) -> Option<Zeroizing<Vec<u8>>> {
    let (_, rest) = pem.split_once("-----BEGIN PRIVATE KEY-----")?;
    let (inside, _) = rest.split_once("-----END PRIVATE KEY-----")?;
    let text: Zeroizing<String> = Zeroizing::new(inside.split_whitespace().collect());
    BASE64_STANDARD.decode(text.as_bytes()).ok().map(Zeroizing::new)
}
