//! An authenticator of software: it makes passkeys and uses them as a browser's does, and whatever of it is to be wrong is
//! wrong.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair,
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

pub const ORIGIN: &str = "https://diamond.example";
pub const RP_ID: &str = "diamond.example";

/// The flags of the authenticator's data.
pub const PRESENT: u8 = 0x01;
pub const VERIFIED: u8 = 0x04;
const HAS_CREDENTIAL: u8 = 0x40;

#[derive(Clone, Copy, Debug)]
pub enum Algorithm {
    Es256,
    Ed25519,
    Rs256,
}

impl Algorithm {
    pub const ALL: [Self; 3] = [Self::Es256, Self::Ed25519, Self::Rs256];
}

enum Key {
    Es256(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
    Rs256(RsaKeyPair),
}

/// One passkey, and how it behaves.
pub struct Authenticator {
    key: Key,
    pub id: Vec<u8>,
    pub user_handle: Option<Vec<u8>>,
    /// Zero where it does not count.
    pub counter: u32,
    pub origin: String,
    pub rp_id: String,
    pub flags: u8,
    pub cross_origin: bool,
    /// The page above the frame, where there is one.
    pub top_origin: Option<&'static str>,
    /// Where it is not the ceremony's own.
    pub ceremony: Option<&'static str>,
    /// What it says of its maker, in CBOR.
    pub attestation: Vec<u8>,
}

impl Authenticator {
    pub fn new(algorithm: Algorithm) -> Self {
        let random = SystemRandom::new();
        let key = match algorithm {
            Algorithm::Es256 => {
                let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random).unwrap();
                let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, document.as_ref(), &random);
                Key::Es256(pair.unwrap())
            }
            Algorithm::Ed25519 => {
                let document = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
                Key::Ed25519(Ed25519KeyPair::from_pkcs8(document.as_ref()).unwrap())
            }
            Algorithm::Rs256 => {
                Key::Rs256(RsaKeyPair::from_pkcs8(include_bytes!("../fixtures/passkey_rsa.pk8")).unwrap())
            }
        };
        let mut id = vec![0; 32];
        ring::rand::SecureRandom::fill(&random, &mut id).unwrap();
        Self {
            key,
            id,
            user_handle: None,
            counter: 0,
            origin: ORIGIN.to_owned(),
            rp_id: RP_ID.to_owned(),
            flags: PRESENT | VERIFIED,
            cross_origin: false,
            top_origin: None,
            ceremony: None,
            attestation: b"\x63fmt\x64none\x67attStmt\xa0".to_vec(),
        }
    }

    /// Its public key in the form of COSE.
    pub fn public_key(&self) -> Vec<u8> {
        match &self.key {
            Key::Es256(pair) => {
                let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
                [b"\xa5\x01\x02\x03\x26\x20\x01\x21\x58\x20", x, b"\x22\x58\x20", y].concat()
            }
            Key::Ed25519(pair) => [b"\xa4\x01\x01\x03\x27\x20\x06\x21\x58\x20", pair.public_key().as_ref()].concat(),
            Key::Rs256(pair) => {
                // RSAPublicKey in DER: two INTEGERs, of which the first begins with a zero.
                let der = pair.public_key().as_ref();
                let (n, e) = (&der[9..265], &der[267..270]);
                [b"\xa4\x01\x03\x03\x39\x01\x00\x20\x59\x01\x00", n, b"\x21\x43", e].concat()
            }
        }
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match &self.key {
            Key::Es256(pair) => pair.sign(&random, message).unwrap().as_ref().to_vec(),
            Key::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
            Key::Rs256(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).unwrap();
                signature
            }
        }
    }

    fn client_data(&self, ceremony: &str, options: &Value) -> Vec<u8> {
        let mut client_data = json!({
            "type": self.ceremony.unwrap_or(ceremony),
            "challenge": options["publicKey"]["challenge"],
            "origin": self.origin,
            "crossOrigin": self.cross_origin,
            "other": {"members": ["are", "ignored"]},
        });
        if let Some(top_origin) = self.top_origin {
            client_data["topOrigin"] = top_origin.into();
        }
        client_data.to_string().into_bytes()
    }

    fn data(&self, flags: u8) -> Vec<u8> {
        [&Sha256::digest(&self.rp_id)[..], &[flags], &self.counter.to_be_bytes()].concat()
    }

    /// Makes the passkey, as `navigator.credentials.create()` does, and gives it as `toJSON()` does.
    pub fn create(&mut self, options: &Value) -> Value {
        let handle = options["publicKey"]["user"]["id"].as_str().unwrap();
        self.user_handle = Some(BASE64.decode(handle).unwrap());
        self.create_with(options, &self.public_key())
    }

    /// The same with another key.
    pub fn create_with(&self, options: &Value, public_key: &[u8]) -> Value {
        let mut data = self.data(self.flags | HAS_CREDENTIAL);
        data.extend_from_slice(&[7; 16]);
        data.extend_from_slice(&u16::try_from(self.id.len()).unwrap().to_be_bytes());
        data.extend_from_slice(&self.id);
        data.extend_from_slice(public_key);
        let mut object = vec![0xa3];
        object.extend_from_slice(&self.attestation);
        object.extend_from_slice(b"\x68authData\x59");
        object.extend_from_slice(&u16::try_from(data.len()).unwrap().to_be_bytes());
        object.extend_from_slice(&data);
        self.attested(options, &object)
    }

    /// The same with another attestation object.
    pub fn attested(&self, options: &Value, object: &[u8]) -> Value {
        json!({
            "id": BASE64.encode(&self.id),
            "rawId": BASE64.encode(&self.id),
            "type": "public-key",
            "authenticatorAttachment": "platform",
            "clientExtensionResults": {"credProps": {"rk": true}},
            "response": {
                "clientDataJSON": BASE64.encode(self.client_data("webauthn.create", options)),
                "attestationObject": BASE64.encode(object),
                "transports": ["internal", "hybrid"],
                "publicKeyAlgorithm": -7,
            },
        })
    }

    /// Uses the passkey, as `navigator.credentials.get()` does.
    pub fn get(&mut self, options: &Value) -> Value {
        if self.counter > 0 {
            self.counter += 1;
        }
        let (client_data, data) = (self.client_data("webauthn.get", options), self.data(self.flags));
        let signature = self.sign(&[&data[..], &Sha256::digest(&client_data)].concat());
        let mut used = json!({
            "id": BASE64.encode(&self.id),
            "rawId": BASE64.encode(&self.id),
            "type": "public-key",
            "authenticatorAttachment": "platform",
            "clientExtensionResults": {},
            "response": {
                "clientDataJSON": BASE64.encode(client_data),
                "authenticatorData": BASE64.encode(data),
                "signature": BASE64.encode(signature),
            },
        });
        if let Some(handle) = &self.user_handle {
            used["response"]["userHandle"] = json!(BASE64.encode(handle));
        }
        used
    }
}
