//! An authenticator and the browser before it, in software: what they say of a passkey that is made or used (WebAuthn Level 3),
//! rightly or not.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use ciborium::Value as Cbor;
use ed25519_dalek::{Signer as _, SigningKey};
use hbc_types::secret::Bytes;
use hbc_types::{Digest, Random};
use serde_json::{Value, json};

/// Somebody was there.
pub const PRESENT: u8 = 1;
/// The authenticator knows who.
pub const VERIFIED: u8 = 1 << 2;
/// The passkey can be on several devices.
pub const ELIGIBLE: u8 = 1 << 3;
/// It is.
pub const BACKED_UP: u8 = 1 << 4;
/// A key that was made follows.
const HAS_KEY: u8 = 1 << 6;

/// How a passkey signs.
#[derive(Debug)]
enum Key {
    Es256(EcdsaKeyPair),
    EdDsa(SigningKey),
}

/// A passkey in its authenticator, and the page that it is used on.
#[derive(Debug)]
pub struct SoftPasskey {
    key: Key,
    id: Vec<u8>,
    /// The user handle that it was made for.
    pub user: Bytes,
    /// The domain it is for.
    pub rp_id: String,
    /// The page's origin.
    pub origin: String,
    /// Flags of what it says.
    pub flags: u8,
    /// How often it signed; with 0 it does not count.
    pub count: u32,
}

fn base64(bytes: &[u8]) -> String {
    Bytes::from(bytes).to_string()
}

/// What the browser says that it saw.
#[must_use]
pub fn client_data(kind: &str, challenge: &Value, origin: &str) -> Value {
    json!({"type": kind, "challenge": challenge, "origin": origin, "crossOrigin": false})
}

impl SoftPasskey {
    /// A fresh one for what auth asks for, of ES256, or of EdDSA if asked so, which counts its signatures.
    ///
    /// # Panics
    /// Where the options are none, or the machine has no randomness.
    #[must_use]
    #[expect(clippy::expect_used, reason = "a test without keys is none")]
    pub fn new(options: &Value, origin: &str, random: &Random, edwards: bool) -> Self {
        let key = if edwards {
            Key::EdDsa(SigningKey::from_bytes(&random.bytes()))
        } else {
            let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING);
            Key::Es256(pair.expect("a key can be made"))
        };
        let text = |pointer: &str| options.pointer(pointer).and_then(Value::as_str);
        let user = options.pointer("/user/id").cloned().unwrap_or_default();
        Self {
            key,
            id: random.bytes::<20>().to_vec(),
            user: serde_json::from_value(user).expect("the options have a user"),
            rp_id: text("/rp/id").expect("the options have a relying party").to_owned(),
            origin: origin.to_owned(),
            flags: PRESENT | VERIFIED,
            count: 1,
        }
    }

    /// The public key (RFC 9053).
    fn cose(&self) -> Vec<u8> {
        let (kty, alg, curve, coordinates) = match &self.key {
            Key::Es256(pair) => {
                let (x, y) = pair.public_key().as_ref().split_at(33);
                (2, -7, 1, vec![x.get(1..).unwrap_or_default().to_vec(), y.to_vec()])
            }
            Key::EdDsa(key) => (1, -8, 6, vec![key.verifying_key().as_bytes().to_vec()]),
        };
        let number = |label: i32, value: i32| (Cbor::from(label), Cbor::from(value));
        let mut map = vec![number(1, kty), number(3, alg), number(-1, curve)];
        map.extend((2..).zip(coordinates).map(|(label, bytes)| (Cbor::from(-label), Cbor::Bytes(bytes))));
        written(&Cbor::Map(map))
    }

    /// Authenticator data, with the new key if it is being made.
    #[must_use]
    pub fn data(&self, makes: bool) -> Vec<u8> {
        let flags = if makes { self.flags | HAS_KEY } else { self.flags };
        let hash = Digest::of(self.rp_id.as_bytes());
        let mut data = [hash.as_bytes().as_slice(), &[flags], &self.count.to_be_bytes()].concat();
        if makes {
            data.extend([0; 16]);
            data.extend(u16::try_from(self.id.len()).unwrap_or_default().to_be_bytes());
            data.extend(&self.id);
            data.extend(self.cose());
        }
        data
    }

    /// What the browser gives when it was made for these options.
    #[must_use]
    pub fn made(&self, options: &Value) -> Value {
        let challenge = options.get("challenge").cloned().unwrap_or_default();
        self.made_with(&client_data("webauthn.create", &challenge, &self.origin), &self.data(true))
    }

    /// The same for a browser and an authenticator that say this.
    #[must_use]
    pub fn made_with(&self, client_data: &Value, data: &[u8]) -> Value {
        let text = |text: &str| Cbor::Text(text.to_owned());
        let object = Cbor::Map(vec![
            (text("fmt"), text("none")),
            (text("attStmt"), Cbor::Map(Vec::new())),
            (text("authData"), Cbor::Bytes(data.to_vec())),
        ]);
        json!({
            "id": base64(&self.id), "rawId": base64(&self.id), "type": "public-key",
            "authenticatorAttachment": "platform",
            "response": {
                "clientDataJSON": base64(client_data.to_string().as_bytes()),
                "attestationObject": base64(&written(&object)),
                "authenticatorData": base64(data),
                "transports": ["internal"],
            },
            "clientExtensionResults": {"prf": {"enabled": true}, "credProps": {"rk": true}},
        })
    }

    /// What the browser gives when it is used for these options; it counts.
    #[must_use]
    pub fn used(&mut self, options: &Value) -> Value {
        if self.count > 0 {
            self.count += 1;
        }
        let challenge = options.get("challenge").cloned().unwrap_or_default();
        self.used_with(&client_data("webauthn.get", &challenge, &self.origin), &self.data(false))
    }

    /// The same for a browser and an authenticator that say this.
    ///
    /// # Panics
    /// Never.
    #[must_use]
    #[expect(clippy::expect_used, reason = "the key signs")]
    pub fn used_with(&self, client_data: &Value, data: &[u8]) -> Value {
        let client_data = client_data.to_string();
        let message = [data, Digest::of(client_data.as_bytes()).as_bytes().as_slice()].concat();
        let signature = match &self.key {
            Key::Es256(pair) => {
                pair.sign(&SystemRandom::new(), &message).expect("it signs").as_ref().to_vec()
            }
            Key::EdDsa(key) => key.sign(&message).to_bytes().to_vec(),
        };
        json!({
            "id": base64(&self.id), "rawId": base64(&self.id), "type": "public-key",
            "authenticatorAttachment": "platform",
            "response": {
                "clientDataJSON": base64(client_data.as_bytes()),
                "authenticatorData": base64(data),
                "signature": base64(&signature),
                "userHandle": self.user,
            },
            "clientExtensionResults": {},
        })
    }
}

#[expect(clippy::expect_used, reason = "memory takes what is written")]
fn written(value: &Cbor) -> Vec<u8> {
    let mut bytes = Vec::new();
    ciborium::into_writer(value, &mut bytes).expect("CBOR is written");
    bytes
}
