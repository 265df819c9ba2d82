//! Compact JWS with Ed25519 and nothing else: the one signer and the one opener of HBC's tokens.
//!
//! The algorithm is pinned; a header may hold `alg`, `typ` and `kid` and nothing more, so that `crit`, `jwk`,
//! `jku`, `x5c` and their like are refused; base64url is strict and unpadded.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use hbc_types::Digest;
use serde::{Deserialize, Serialize};

/// Longest token that is looked at.
const MAX_LENGTH: usize = 8 * 1024;

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
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    alg: String,
    typ: String,
    kid: String,
}

/// Kid of a key: SHA-256 of the raw public key, lowercase hex.
#[must_use]
pub fn kid(key: &VerifyingKey) -> Digest {
    Digest::of(key.as_bytes())
}

/// Signs `claims` with header `{alg: EdDSA, typ, kid}`.
pub fn sign<C: Serialize>(typ: &str, key: &SigningKey, claims: &C) -> Result<String, JwtError> {
    let header =
        Header { alg: "EdDSA".to_owned(), typ: typ.to_owned(), kid: kid(&key.verifying_key()).to_string() };
    let header = serde_json::to_vec(&header).map_err(|_never| JwtError::Malformed)?;
    let claims = serde_json::to_vec(claims).map_err(|_unserialisable| JwtError::Malformed)?;
    let text = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let signature = key.sign(text.as_bytes());
    Ok(format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature.to_bytes())))
}

/// A token whose header was accepted and whose signature was not checked yet: nothing of it can be used but
/// the kid.
#[derive(Debug)]
pub struct Unverified<'a> {
    kid: String,
    signed: &'a str,
    payload: &'a str,
    signature: Signature,
}

impl<'a> Unverified<'a> {
    /// Takes `token` apart; its header must be exactly `{alg: EdDSA, typ, kid}`.
    pub fn parse(token: &'a str, typ: &str) -> Result<Self, JwtError> {
        if token.len() > MAX_LENGTH {
            return Err(JwtError::Malformed);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(JwtError::Malformed)?;
        let (header, payload) = signed.split_once('.').ok_or(JwtError::Malformed)?;
        let header: Header = serde_json::from_slice(&decode(header)?).map_err(|_other| JwtError::Header)?;
        if header.alg != "EdDSA" || header.typ != typ {
            return Err(JwtError::Header);
        }
        let signature = Signature::from_slice(&decode(signature)?).map_err(|_length| JwtError::Signature)?;
        Ok(Self { kid: header.kid, signed, payload, signature })
    }

    /// The key that the token says it is signed with.
    #[must_use]
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// Checks the signature and gives the claims.
    pub fn open<C: for<'de> Deserialize<'de>>(self, key: &VerifyingKey) -> Result<C, JwtError> {
        key.verify_strict(self.signed.as_bytes(), &self.signature).map_err(|_wrong| JwtError::Signature)?;
        serde_json::from_slice(&decode(self.payload)?).map_err(|_other_claims| JwtError::Malformed)
    }
}

fn decode(part: &str) -> Result<Vec<u8>, JwtError> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_not_base64url| JwtError::Malformed)
}
