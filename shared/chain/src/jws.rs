//! Compact JWS with one algorithm and one header per purpose, and strict unpadded base64url.
//!
//! The protected header is exactly `{"alg":"EdDSA","kid":"<64 hex>","typ":"<typ>"}`. No other header parses, so no
//! algorithm, key or extension can be chosen by whoever wrote the token, and one set of bytes has one meaning.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::SigningKey;

use super::json::{self, JsonError};
use hbc_types::keys::{KeyError, Kid, PreparedKey, PublicKey, SignatureBytes};

/// Why bytes are not a signed object of the expected kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JwsError {
    /// Longer than this kind may be.
    #[error("{found} bytes are more than the {limit} allowed")]
    TooLong {
        /// Bytes given.
        found: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// Not three parts of strict base64url.
    #[error("not a compact JWS in strict base64url")]
    Compact,
    /// Another protected header.
    #[error("the protected header is not exactly alg EdDSA, kid, typ `{0}`")]
    Header(&'static str),
    /// The signature is not 64 bytes.
    #[error("the signature is not 64 bytes")]
    SignatureLength,
    /// The payload is not canonical or not of the expected shape.
    #[error("payload: {0}")]
    Payload(#[from] JsonError),
}

/// A compact JWS taken apart; the signature is not verified yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Jws {
    /// Fingerprint of the key that claims to have signed.
    pub kid: Kid,
    /// The payload's bytes.
    pub payload: Vec<u8>,
    /// The signature.
    pub signature: SignatureBytes,
    /// Length of `header.payload`, which is what is signed.
    signed: usize,
}

impl Jws {
    /// Takes `text` apart.
    ///
    /// # Errors
    /// When it is longer than `limit` bytes or in any way not exact.
    pub fn parse(text: &[u8], typ: &'static str, limit: usize) -> Result<Self, JwsError> {
        if text.len() > limit {
            return Err(JwsError::TooLong { found: text.len(), limit });
        }
        let mut parts = text.split(|byte| *byte == b'.');
        let (Some(header), Some(payload), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(JwsError::Compact);
        };
        let kid = parse_header(&decode(header)?, typ)?;
        let signature: [u8; 64] =
            decode(signature)?.try_into().map_err(|_other_length| JwsError::SignatureLength)?;
        Ok(Self {
            kid,
            payload: decode(payload)?,
            signature: SignatureBytes::from_bytes(signature),
            signed: header.len().saturating_add(payload.len()).saturating_add(1),
        })
    }

    /// Verifies the signature over the same `text` that was parsed.
    ///
    /// # Errors
    /// When `key` is not the one that `kid` names, or the signature does not fit.
    pub fn verify(&self, text: &[u8], key: &PublicKey) -> Result<(), KeyError> {
        if key.kid() != self.kid {
            return Err(KeyError::Signature);
        }
        self.verify_prepared(text, &key.prepare()?)
    }

    /// The same by a key that was taken apart before.
    ///
    /// # Errors
    /// When `key` is not the one that `kid` names, or the signature does not fit.
    pub fn verify_prepared(&self, text: &[u8], key: &PreparedKey) -> Result<(), KeyError> {
        if key.kid() != self.kid {
            return Err(KeyError::Signature);
        }
        key.verify(text.get(..self.signed).unwrap_or_default(), &self.signature)
    }
}

/// Signs a payload.
///
/// # Errors
/// When the payload has no canonical form.
pub fn sign<T: serde::Serialize>(key: &SigningKey, typ: &str, payload: &T) -> Result<String, JsonError> {
    let payload = json::encode(payload)?;
    let header = header(&PublicKey::of(key).kid(), typ);
    let mut text = URL_SAFE_NO_PAD.encode(header);
    text.push('.');
    URL_SAFE_NO_PAD.encode_string(payload, &mut text);
    let signature = SignatureBytes::sign(key, text.as_bytes());
    text.push('.');
    URL_SAFE_NO_PAD.encode_string(signature.as_bytes(), &mut text);
    Ok(text)
}

fn header(kid: &Kid, typ: &str) -> String {
    format!(r#"{{"alg":"EdDSA","kid":"{kid}","typ":"{typ}"}}"#)
}

fn parse_header(bytes: &[u8], typ: &'static str) -> Result<Kid, JwsError> {
    let refused = || JwsError::Header(typ);
    let rest = bytes.strip_prefix(br#"{"alg":"EdDSA","kid":""#).ok_or_else(refused)?;
    let kid = rest.get(..64).and_then(|kid| std::str::from_utf8(kid).ok()).ok_or_else(refused)?;
    let kid = Kid::parse(kid).map_err(|_not_hex| refused())?;
    if header(&kid, typ).as_bytes() == bytes { Ok(kid) } else { Err(refused()) }
}

/// Unpadded base64url without a bit too much: what decodes encodes back to the same text.
fn decode(part: &[u8]) -> Result<Vec<u8>, JwsError> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_not_base64url| JwsError::Compact)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const TYP: &str = "test+jws";

    fn signed() -> (SigningKey, String) {
        let key = SigningKey::from_bytes(&[3; 32]);
        let text = sign(&key, TYP, &json!({"a": 1})).unwrap();
        (key, text)
    }

    #[test]
    fn what_is_signed_parses_and_verifies() {
        let (key, text) = signed();
        let jws = Jws::parse(text.as_bytes(), TYP, 1000).unwrap();
        assert_eq!(jws.payload, br#"{"a":1}"#);
        assert_eq!(jws.verify(text.as_bytes(), &PublicKey::of(&key)), Ok(()));
        let other = PublicKey::of(&SigningKey::from_bytes(&[4; 32]));
        assert_eq!(jws.verify(text.as_bytes(), &other), Err(KeyError::Signature));
    }

    #[test]
    fn another_header_is_refused() {
        let (_, text) = signed();
        let kid = PublicKey::of(&SigningKey::from_bytes(&[3; 32])).kid();
        let rest = text.split_once('.').unwrap().1;
        for header in [
            format!(r#"{{"alg":"EdDSA","kid":"{kid}","typ":"other+jws"}}"#),
            format!(r#"{{"alg":"none","kid":"{kid}","typ":"{TYP}"}}"#),
            format!(r#"{{"alg":"EdDSA", "kid":"{kid}","typ":"{TYP}"}}"#),
            format!(r#"{{"alg":"EdDSA","crit":["x"],"kid":"{kid}","typ":"{TYP}"}}"#),
            format!(r#"{{"alg":"EdDSA","kid":"{}","typ":"{TYP}"}}"#, kid.to_string().to_uppercase()),
            format!(r#"{{"alg":"EdDSA","typ":"{TYP}"}}"#),
        ] {
            let text = format!("{}.{rest}", URL_SAFE_NO_PAD.encode(header));
            assert_eq!(Jws::parse(text.as_bytes(), TYP, 1000), Err(JwsError::Header(TYP)));
        }
    }

    #[test]
    fn base64url_is_strict_and_parts_are_three() {
        let (_, text) = signed();
        let mut bent = text.clone().into_bytes();
        // The last character of a 64-byte signature carries four unused bits, all zero.
        *bent.last_mut().unwrap() += 1;
        for bad in [
            bent,
            format!("{text}=").into_bytes(),
            format!("{text}.").into_bytes(),
            format!(" {text}").into_bytes(),
            text.replace('.', "").into_bytes(),
            text.rsplit_once('.').unwrap().0.as_bytes().to_vec(),
        ] {
            assert!(Jws::parse(&bad, TYP, 1000).is_err(), "{}", String::from_utf8_lossy(&bad));
        }
        assert!(matches!(Jws::parse(text.as_bytes(), TYP, 10), Err(JwsError::TooLong { .. })));
    }
}
