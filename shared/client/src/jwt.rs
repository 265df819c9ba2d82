//! Compact JWS with Ed25519 and nothing else: the one signer and the one opener of HBC's tokens, and with
//! [`crate::assertion`], for tokens of others, the one place that calls `jsonwebtoken`.
//!
//! The library signs, checks signatures and compares `iss` and `aud`. It reads headers generously, so every token
//! passes [`Unverified::parse`] first: a header may hold `alg`, `typ` and `kid` and nothing more, so that `crit`,
//! `jwk`, `jku`, `x5c` and their like are refused.
//!
//! Why: decision 0032.

use std::fmt;
use std::sync::Once;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::pkcs8::EncodePrivateKey as _;
use ed25519_dalek::{SigningKey, VerifyingKey};
use hbc_types::Digest;
use hbc_types::keys::PublicKey;
use jsonwebtoken::crypto::aws_lc;
use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Validation};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Longest token that is looked at.
pub(crate) const MAX_LENGTH: usize = 8 * 1024;

/// Why a token is refused. Callers get one answer for all of them; the kind is for the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum JwtError {
    /// Not three parts of strict base64url, too long, or not the expected JSON inside.
    #[error("the token cannot be read")]
    Malformed,
    /// `alg`, `typ` or `kid` is not what is accepted here, or the header holds something else.
    #[error("the token's header is not acceptable")]
    Header,
    /// The signature is not by the key.
    #[error("the token's signature is wrong")]
    Signature,
    /// By another issuer than the key's.
    #[error("the token is by another issuer")]
    Issuer,
    /// For another audience.
    #[error("the token is for another audience")]
    Audience,
    /// A public key of small order, under which signatures mean nothing.
    #[error("the key is too weak to be trusted")]
    WeakKey,
    /// The token could not be made.
    #[error("the token could not be signed")]
    Unsigned,
}

impl JwtError {
    pub(crate) fn of(error: &Error) -> Self {
        match error.kind() {
            ErrorKind::InvalidSignature | ErrorKind::InvalidEddsaKey => Self::Signature,
            ErrorKind::InvalidAlgorithm | ErrorKind::InvalidAlgorithmName => Self::Header,
            ErrorKind::InvalidIssuer => Self::Issuer,
            ErrorKind::InvalidAudience => Self::Audience,
            _ => Self::Malformed,
        }
    }
}

/// The only header that is accepted.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    alg: String,
    typ: String,
    kid: String,
}

/// Gives `jsonwebtoken` its cryptography, once in a process. Without it the library chooses by its features, and
/// panics at the first token when a dependency switches a second provider on.
pub(crate) fn with_provider() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        // Refused only when there is a provider already, and nothing else in HBC installs one.
        let _already = aws_lc::DEFAULT_PROVIDER.install_default();
    });
}

/// Kid of a key: SHA-256 of the raw public key, lowercase hex.
#[must_use]
pub fn kid(key: &VerifyingKey) -> Digest {
    Digest::of(key.as_bytes())
}

/// A private key that is ready to sign tokens. Wiped when dropped.
pub struct Signer {
    kid: String,
    key: EncodingKey,
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").field("kid", &self.kid).finish_non_exhaustive()
    }
}

impl Signer {
    /// Prepares `key`; keep the result.
    #[must_use]
    pub fn new(key: &SigningKey) -> Self {
        with_provider();
        #[expect(clippy::expect_used, reason = "two values of 32 bytes always fit into DER")]
        let der = key.to_pkcs8_der().expect("an Ed25519 key has a PKCS#8 form");
        Self { kid: kid(&key.verifying_key()).to_string(), key: EncodingKey::from_ed_der(der.as_bytes()) }
    }

    /// Signs `claims` with header `{alg: EdDSA, typ, kid}`.
    pub fn sign<C: Serialize>(&self, typ: &str, claims: &C) -> Result<String, JwtError> {
        let mut header = jsonwebtoken::Header::new(Algorithm::EdDSA);
        header.typ = Some(typ.to_owned());
        header.kid = Some(self.kid.clone());
        jsonwebtoken::encode(&header, claims, &self.key).map_err(|error| match error.kind() {
            ErrorKind::Json(_) => JwtError::Malformed,
            _ => JwtError::Unsigned,
        })
    }
}

/// Signs one token. Whoever signs many keeps a [`Signer`].
pub fn sign<C: Serialize>(typ: &str, key: &SigningKey, claims: &C) -> Result<String, JwtError> {
    Signer::new(key).sign(typ, claims)
}

/// A public key of the deployment that is ready to check tokens.
#[derive(Clone, Debug)]
pub struct TrustedKey {
    kid: String,
    key: DecodingKey,
}

impl TrustedKey {
    /// Prepares `key`; keep the result. Keys of small order and such that are not in their one encoding are refused here,
    /// because the library does not ask.
    pub fn new(key: &VerifyingKey) -> Result<Self, JwtError> {
        with_provider();
        if PublicKey::from_bytes(key.to_bytes()).check().is_err() {
            return Err(JwtError::WeakKey);
        }
        Ok(Self { kid: kid(key).to_string(), key: DecodingKey::from_ed_der(key.as_bytes()) })
    }

    /// The kid that follows from the key.
    #[must_use]
    pub fn kid(&self) -> &str {
        &self.kid
    }
}

/// What the claims of a token must say, as far as the library can tell.
#[derive(Clone, Debug)]
pub struct Expected(Validation);

impl Expected {
    /// Tokens by `issuer` for one of `audiences` that hold at least the `required` ones of `iss`, `aud`, `sub`, `exp` and
    /// `nbf`. The caller compares the times: see [`Unverified::verify`].
    #[must_use]
    pub fn new(issuer: &str, audiences: &[&str], required: &[&str]) -> Self {
        let mut validation = Self::signature_alone().0;
        validation.validate_aud = true;
        validation.set_issuer(&[issuer]);
        validation.set_audience(audiences);
        validation.set_required_spec_claims(required);
        Self(validation)
    }

    fn signature_alone() -> Self {
        let mut validation = Validation::new(Algorithm::EdDSA);
        // The library compares `exp` and `nbf` with the machine's clock and has no other. Time is a `Clock` in HBC,
        // so that it stands still in tests and is one in a process: the verifiers compare the times themselves.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation.validate_aud = false;
        validation.required_spec_claims.clear();
        Self(validation)
    }
}

/// A token whose header was accepted and whose signature was not checked yet: nothing of it can be used but
/// the kid.
#[derive(Debug)]
pub struct Unverified<'a> {
    kid: String,
    token: &'a str,
}

impl<'a> Unverified<'a> {
    /// Takes `token` apart; its header must be exactly `{alg: EdDSA, typ, kid}`.
    pub fn parse(token: &'a str, typ: &str) -> Result<Self, JwtError> {
        if token.len() > MAX_LENGTH {
            return Err(JwtError::Malformed);
        }
        let mut parts = token.split('.');
        let (Some(header), Some(_payload), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(JwtError::Malformed);
        };
        let header: Header = serde_json::from_slice(&decode(header)?).map_err(|_other| JwtError::Header)?;
        if header.alg != "EdDSA" || header.typ != typ {
            return Err(JwtError::Header);
        }
        if decode(signature)?.len() != ed25519_dalek::SIGNATURE_LENGTH {
            return Err(JwtError::Signature);
        }
        Ok(Self { kid: header.kid, token })
    }

    /// The key that the token says it is signed with.
    #[must_use]
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// Checks the signature, the issuer and the audience and gives the claims. Their times are not compared with
    /// any clock yet.
    pub fn verify<C: DeserializeOwned>(self, key: &TrustedKey, expected: &Expected) -> Result<C, JwtError> {
        if self.kid != key.kid {
            return Err(JwtError::Header);
        }
        self.check(key, expected)
    }

    /// Checks the signature alone and gives the claims.
    pub fn open<C: DeserializeOwned>(self, key: &VerifyingKey) -> Result<C, JwtError> {
        self.check(&TrustedKey::new(key)?, &Expected::signature_alone())
    }

    fn check<C: DeserializeOwned>(&self, key: &TrustedKey, expected: &Expected) -> Result<C, JwtError> {
        let opened = jsonwebtoken::decode(self.token, &key.key, &expected.0);
        opened.map(|token| token.claims).map_err(|error| JwtError::of(&error))
    }
}

pub(crate) fn decode(part: &str) -> Result<Vec<u8>, JwtError> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_not_base64url| JwtError::Malformed)
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::Signature;
    use serde_json::{Value, json};

    use super::*;

    const TYP: &str = "test+jwt";

    fn signing_key() -> SigningKey {
        SigningKey::from_bytes(&[7; 32])
    }

    fn verify(claims: &Value) -> Result<Value, JwtError> {
        let token = sign(TYP, &signing_key(), claims).unwrap();
        let key = TrustedKey::new(&signing_key().verifying_key()).unwrap();
        let expected = Expected::new("me", &["you"], &["iss", "aud", "sub", "exp", "nbf"]);
        Unverified::parse(&token, TYP).unwrap().verify(&key, &expected)
    }

    #[test]
    fn a_token_is_plain_ed25519_under_three_header_fields() {
        let token = sign(TYP, &signing_key(), &json!({"a": 1})).unwrap();
        let (text, signature) = token.rsplit_once('.').unwrap();
        let signature = Signature::from_slice(&decode(signature).unwrap()).unwrap();
        signing_key().verifying_key().verify_strict(text.as_bytes(), &signature).unwrap();
        let header: Value =
            serde_json::from_slice(&decode(text.split_once('.').unwrap().0).unwrap()).unwrap();
        let kid = kid(&signing_key().verifying_key()).to_string();
        assert_eq!(header, json!({"alg": "EdDSA", "typ": TYP, "kid": kid}));
    }

    #[test]
    fn issuer_audience_and_required_claims_are_compared_and_time_is_left_to_the_clock() {
        let good = json!({"iss": "me", "aud": "you", "sub": "s", "exp": 1, "nbf": 9_999_999_999_u64});
        assert_eq!(verify(&good), Ok(good.clone()));
        for (claim, value, error) in [
            ("iss", json!("other"), JwtError::Issuer),
            ("aud", json!("other"), JwtError::Audience),
            ("iss", Value::Null, JwtError::Malformed),
            ("aud", Value::Null, JwtError::Malformed),
            ("sub", json!(5), JwtError::Malformed),
            ("exp", json!("1"), JwtError::Malformed),
            ("nbf", json!(-1), JwtError::Malformed),
        ] {
            let mut claims = good.clone();
            claims[claim] = value;
            assert_eq!(verify(&claims), Err(error), "{claim}");
        }
        for claim in ["iss", "aud", "sub", "exp", "nbf"] {
            let mut claims = good.clone();
            claims.as_object_mut().unwrap().remove(claim);
            assert_eq!(verify(&claims), Err(JwtError::Malformed), "{claim}");
        }
    }

    #[test]
    fn another_key_and_a_second_form_of_a_signature_are_refused() {
        let token = sign(TYP, &signing_key(), &json!({})).unwrap();
        let other = SigningKey::from_bytes(&[8; 32]).verifying_key();
        let opened: Result<Value, _> = Unverified::parse(&token, TYP).unwrap().open(&other);
        assert_eq!(opened, Err(JwtError::Signature));
        let expected = Expected::signature_alone();
        let named: Result<Value, _> =
            Unverified::parse(&token, TYP).unwrap().verify(&TrustedKey::new(&other).unwrap(), &expected);
        assert_eq!(named, Err(JwtError::Header));

        let (text, signature) = token.rsplit_once('.').unwrap();
        let mut bytes = decode(signature).unwrap();
        let order = hex::decode("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010").unwrap();
        let mut carry = 0;
        for (byte, add) in bytes[32..].iter_mut().zip(order) {
            let sum = u16::from(*byte) + u16::from(add) + carry;
            (*byte, carry) = (sum.to_le_bytes()[0], sum >> 8);
        }
        assert_eq!(carry, 0);
        let second = format!("{text}.{}", URL_SAFE_NO_PAD.encode(bytes));
        let key = signing_key().verifying_key();
        let opened: Result<Value, _> = Unverified::parse(&second, TYP).unwrap().open(&key);
        assert_eq!(opened, Err(JwtError::Signature));
    }

    #[test]
    fn a_key_of_small_order_is_never_trusted() {
        let mut identity = [0; 32];
        identity[0] = 1;
        let weak = VerifyingKey::from_bytes(&identity).unwrap();
        assert_eq!(TrustedKey::new(&weak).unwrap_err(), JwtError::WeakKey);
        // Under this key R = identity, s = 0 "signs" every text for whoever does not ask.
        let token = sign(TYP, &signing_key(), &json!({})).unwrap();
        let (text, _signature) = token.rsplit_once('.').unwrap();
        let mut signature = [0; 64];
        signature[0] = 1;
        let forged = format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature));
        let opened: Result<Value, _> = Unverified::parse(&forged, TYP).unwrap().open(&weak);
        assert_eq!(opened, Err(JwtError::WeakKey));
    }
}
