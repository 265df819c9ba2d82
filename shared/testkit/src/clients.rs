//! OAuth clients for tests: one key of each kind, and assertions signed with it, good ones and others.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use hbc_types::wire::oauth::ClientAlgorithm;
use hbc_types::{Digest, Random};
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Value, json};

const KEYS: &str = include_str!("../data/client-keys.json");

/// A client's key.
#[derive(Clone, Debug)]
pub struct ClientKey {
    /// What it signs with.
    pub algorithm: ClientAlgorithm,
    key: EncodingKey,
    pem: String,
    /// Its public half (RFC 7517).
    pub jwk: Value,
}

/// What stands before the seed of an Ed25519 key in PKCS #8 (RFC 8410 §7).
const PKCS8: [u8; 16] = [48, 46, 2, 1, 0, 48, 5, 6, 3, 43, 101, 112, 4, 34, 4, 32];

impl ClientKey {
    /// The kit's key of a kind.
    ///
    /// # Panics
    /// Never with the kit's data.
    #[must_use]
    #[expect(clippy::unwrap_used, reason = "the kit's own data")]
    pub fn of(algorithm: ClientAlgorithm) -> Self {
        let entry = entry(algorithm);
        let pem = entry.get("private_pkcs8_pem").and_then(Value::as_str).unwrap().to_owned();
        Self::read(algorithm, pem, entry.get("public_jwk").unwrap().clone())
    }

    #[expect(clippy::unwrap_used, reason = "the kit's own data")]
    fn read(algorithm: ClientAlgorithm, pem: String, jwk: Value) -> Self {
        let key = match algorithm {
            ClientAlgorithm::Es384 => EncodingKey::from_ec_pem(pem.as_bytes()),
            ClientAlgorithm::Rs384 => EncodingKey::from_rsa_pem(pem.as_bytes()),
            ClientAlgorithm::EdDsa => EncodingKey::from_ed_pem(pem.as_bytes()),
        };
        Self { algorithm, key: key.unwrap(), pem, jwk }
    }

    /// An Ed25519 key that nobody else has.
    #[must_use]
    pub fn random(random: &Random) -> Self {
        let seed: [u8; 32] = random.bytes();
        let public = ed25519_dalek::SigningKey::from_bytes(&seed).verifying_key();
        let body = STANDARD.encode([PKCS8.as_slice(), &seed].concat());
        let pem = format!("-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n");
        let x = URL_SAFE_NO_PAD.encode(public.as_bytes());
        let jwk = json!({"kty": "OKP", "crv": "Ed25519", "x": x, "kid": format!("{:08x}", u32::from_be_bytes(random.bytes()))});
        Self::read(ClientAlgorithm::EdDsa, pem, jwk)
    }

    /// Its thumbprint (RFC 7638): what a device is told from another by.
    #[must_use]
    pub fn thumbprint(&self) -> Digest {
        let needed = ["crv", "e", "kty", "n", "x", "y"];
        let members = self.jwk.as_object().into_iter().flatten();
        let members: BTreeMap<_, _> = members.filter(|(name, _)| needed.contains(&name.as_str())).collect();
        Digest::of(serde_json::to_string(&members).unwrap_or_default().as_bytes())
    }

    /// Its key set.
    #[must_use]
    pub fn jwks(&self) -> Value {
        json!({ "keys": [self.jwk] })
    }

    /// Its private half, PKCS #8 as PEM, for programs that sign by themselves.
    #[must_use]
    pub fn private_pem(&self) -> String {
        self.pem.clone()
    }

    /// The header that its assertions have.
    #[must_use]
    pub fn header(&self) -> Value {
        json!({"alg": self.algorithm.code(), "typ": "JWT", "kid": self.jwk.get("kid")})
    }

    /// Signs what is said, whatever it is.
    ///
    /// # Panics
    /// Never with the kit's keys.
    #[must_use]
    #[expect(clippy::unwrap_used, reason = "the kit's keys sign")]
    pub fn sign(&self, header: &Value, claims: &Value) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let text = format!("{}.{}", part(header), part(claims));
        // What signs by default is chosen by whoever was first: here nobody may have been.
        let _already = jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER.install_default();
        let algorithm = match self.algorithm {
            ClientAlgorithm::Es384 => Algorithm::ES384,
            ClientAlgorithm::Rs384 => Algorithm::RS384,
            ClientAlgorithm::EdDsa => Algorithm::EdDSA,
        };
        let signature = jsonwebtoken::crypto::sign(text.as_bytes(), &self.key, algorithm).unwrap();
        format!("{text}.{signature}")
    }
}

fn entry(algorithm: ClientAlgorithm) -> Value {
    let keys: Value = serde_json::from_str(KEYS).unwrap_or_default();
    keys.pointer(&format!("/keys/{algorithm}")).cloned().unwrap_or_default()
}

/// What a client says of itself to the server with this token endpoint, at this Unix second; `jti` is good once.
#[must_use]
pub fn claims(client: &str, endpoint: &str, now: i64, jti: &str) -> Value {
    json!({"iss": client, "sub": client, "aud": endpoint, "iat": now, "exp": now + 300, "jti": jti})
}
