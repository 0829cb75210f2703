//! Ed25519 (COSE algorithm -8), which the library reads and does not verify. A P-256 key of ours stands in for it, so that
//! the library does all of the rest.
//!
//! Making a passkey: attestation is not asked for, so nothing has signed the authenticator's data, and the key in it may be
//! replaced before the library looks at the data. What is stored is the authenticator's own key.
//!
//! Using it: `ring` verifies the signature over the very bytes that the library would verify it over, the authenticator's data
//! and the SHA-256 of the client's. Only then does a key that is made for this one call sign the same bytes, and the library
//! is given its public half in the place of the stored one. That the library's own verification then succeeds says nothing
//! new, and every other check of it is made of bytes that were verified.
//!
//! It fails closed: no private key outlives its call, the library refuses a stored key of Ed25519 that it is given by
//! itself, and a key in any form but that of CTAP2 is left to the library, which refuses it too.

use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, ED25519, EcdsaKeyPair, KeyPair as _, UnparsedPublicKey};
use sha2::{Digest as _, Sha256};
use webauthn_rs::prelude::{
    COSEAlgorithm, COSEEC2Key, COSEKey, COSEKeyType, COSEOKPKey, ECDSACurve, EDDSACurve, Passkey,
};

use super::ceremony_error::CeremonyError;

/// How the key begins in the one form that CTAP2 allows: a map of four, kty 1, alg -8, crv 6, and 32 bytes of x.
const KEY_HEAD: [u8; 10] = [0xa4, 0x01, 0x01, 0x03, 0x27, 0x20, 0x06, 0x21, 0x58, 0x20];

/// How many bytes the key has in all.
const KEY_LENGTH: usize = KEY_HEAD.len() + 32;

/// Where the authenticator's data has the length of the credential's id, which its key follows: behind the digest of the
/// domain, the flags, the counter and the model.
const ID_LENGTH_AT: usize = 32 + 1 + 4 + 16;

/// The y of each point of small order, in every encoding, but for the sign of x in the last bit: of order 4, 1, 8, 8 and 2,
/// and 4 and 1 again, not reduced. With such a key there are signatures that verify for any message.
const OF_SMALL_ORDER: [[u8; 32]; 7] = [
    [0; 32],
    with_ends(1, 0, 0),
    [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0, 0xd5, 0xdf,
        0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05,
    ],
    [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f, 0x2a, 0x20,
        0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a,
    ],
    with_ends(0xec, 0xff, 0x7f),
    with_ends(0xed, 0xff, 0x7f),
    with_ends(0xee, 0xff, 0x7f),
];

const fn with_ends(first: u8, middle: u8, last: u8) -> [u8; 32] {
    let mut bytes = [middle; 32];
    bytes[0] = first;
    bytes[31] = last;
    bytes
}

/// Puts a P-256 key in the place of an Ed25519 key, and returns the latter. `None`, and no change, where it has none. One
/// of small order is refused.
pub(super) fn take_key(auth_data: &mut Vec<u8>) -> Result<Option<COSEKey>, CeremonyError> {
    let Some(length) = auth_data.get(ID_LENGTH_AT..).and_then(|rest| rest.first_chunk::<2>()) else { return Ok(None) };
    let start = ID_LENGTH_AT + 2 + usize::from(u16::from_be_bytes(*length));
    let key = auth_data.get(start..start + KEY_LENGTH).and_then(|key| key.strip_prefix(&KEY_HEAD));
    let Some(x) = key.map(<[u8]>::to_vec) else { return Ok(None) };
    if is_of_small_order(&x) {
        return Err(CeremonyError::Refused);
    }
    let (_, stand_in) = generate()?;
    let mut bytes = vec![0xa5, 0x01, 0x02, 0x03, 0x26, 0x20, 0x01, 0x21, 0x58, 0x20];
    bytes.extend_from_slice(&stand_in.x);
    bytes.extend_from_slice(&[0x22, 0x58, 0x20]);
    bytes.extend_from_slice(&stand_in.y);
    auth_data.splice(start..start + KEY_LENGTH, bytes);
    let key = COSEKeyType::EC_OKP(COSEOKPKey { curve: EDDSACurve::ED25519, x });
    Ok(Some(COSEKey { type_: COSEAlgorithm::EDDSA, key }))
}

fn is_of_small_order(x: &[u8]) -> bool {
    let mut y = x.to_vec();
    if let Some(last) = y.last_mut() {
        *last &= 0x7f;
    }
    OF_SMALL_ORDER.iter().any(|of_small_order| y == of_small_order)
}

/// The same passkey with another key.
pub(super) fn with_key(passkey: &Passkey, key: &COSEKey) -> Result<Passkey, CeremonyError> {
    let mut value = serde_json::to_value(passkey)?;
    value["cred"]["cred"] = serde_json::to_value(key)?;
    Ok(serde_json::from_value(value)?)
}

/// Verifies a signature, and returns the passkey and the signature that the library is to be given; those that were given
/// where the key is another one.
pub(super) fn stand_in(
    passkey: Passkey,
    auth_data: &[u8],
    client_data: &[u8],
    signature: Vec<u8>,
) -> Result<(Passkey, Vec<u8>), CeremonyError> {
    let COSEKeyType::EC_OKP(COSEOKPKey { curve: EDDSACurve::ED25519, x }) = &passkey.get_public_key().key else {
        return Ok((passkey, signature));
    };
    let signed = [auth_data, &Sha256::digest(client_data)].concat();
    UnparsedPublicKey::new(&ED25519, x).verify(&signed, &signature).map_err(|_| CeremonyError::Refused)?;
    let (pair, key) = generate()?;
    let signature = pair.sign(&SystemRandom::new(), &signed).map_err(|_| CeremonyError::NoRandomNumbers)?;
    let key = COSEKey { type_: COSEAlgorithm::ES256, key: COSEKeyType::EC_EC2(key) };
    Ok((with_key(&passkey, &key)?, signature.as_ref().to_vec()))
}

fn generate() -> Result<(EcdsaKeyPair, COSEEC2Key), CeremonyError> {
    let (algorithm, random) = (&ECDSA_P256_SHA256_ASN1_SIGNING, SystemRandom::new());
    let pair = EcdsaKeyPair::generate_pkcs8(algorithm, &random)
        .ok()
        .and_then(|document| EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref(), &random).ok())
        .ok_or(CeremonyError::NoRandomNumbers)?;
    // An uncompressed point: 4, x, y.
    let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
    let key = COSEEC2Key { curve: ECDSACurve::SECP256R1, x: x.to_vec(), y: y.to_vec() };
    Ok((pair, key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_small_order_is_known_in_every_encoding_and_for_nothing_else() {
        let mut found = 0;
        for mut key in OF_SMALL_ORDER {
            for sign in [0, 0x80] {
                key[31] = key[31] & 0x7f | sign;
                assert!(is_of_small_order(&key), "{key:?}");
                found += 1;
            }
            key[1] ^= 1;
            assert!(!is_of_small_order(&key), "{key:?}");
        }
        assert_eq!(found, 14);
    }
}
