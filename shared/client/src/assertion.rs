//! Assertions by which OAuth clients prove themselves (`private_key_jwt`: RFC 7523, SMART App Launch 2.2 "Client
//! authentication: asymmetric"), and the public keys that they register.
//!
//! ES384, RS384 and EdDSA, each under a key of its own kind alone; the key by `kid` from what was registered and from nowhere
//! else; a header may hold `alg`, `typ` and `kid` and nothing more. The signature, `iss` and `aud` are checked here, the times
//! and that it comes once by who asks.

use aws_lc_rs::signature::{ECDSA_P384_SHA384_FIXED, ParsedPublicKey};
use ed25519_dalek::VerifyingKey;
use hbc_types::Digest;
use hbc_types::keys::PublicKey;
use hbc_types::wire::oauth::ClientAlgorithm;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::jwt::{JwtError, MAX_LENGTH, decode, with_provider};

/// Most keys of a client.
const MOST_KEYS: usize = 5;
/// Bytes of a coordinate on P-384.
const COORDINATE: usize = 48;
/// Bytes of an RSA modulus: 2,048 to 8,192 bits.
const MODULUS: std::ops::RangeInclusive<usize> = 256..=1024;
/// What stands in private and in symmetric keys only (RFC 7518 §6).
const PRIVATE: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

/// Why a key set is not taken, in words for its owner.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct KeySetError(String);

fn refuse<T>(words: impl Into<String>) -> Result<T, KeySetError> {
    Err(KeySetError(words.into()))
}

/// The members of a public JWK that count here.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Jwk {
    kid: String,
    kty: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    alg: Option<String>,
    #[serde(rename = "use", default, skip_serializing_if = "Option::is_none")]
    key_use: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    crv: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    x: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    y: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    n: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    e: Option<String>,
}

/// A public key that a client signs with.
#[derive(Clone, Debug)]
pub struct ClientKey {
    jwk: Jwk,
    algorithm: ClientAlgorithm,
    key: DecodingKey,
}

impl ClientKey {
    /// Its name in the key set.
    #[must_use]
    pub fn kid(&self) -> &str {
        &self.jwk.kid
    }

    /// What it signs with.
    #[must_use]
    pub const fn algorithm(&self) -> ClientAlgorithm {
        self.algorithm
    }

    /// Its thumbprint (RFC 7638 §3): SHA-256 of the members that make the key, in JSON, ordered by name and without spaces. They
    /// have one spelling here: base64url without padding, whose unused bits are zero.
    #[must_use]
    pub fn thumbprint(&self) -> Digest {
        let Jwk { x, y, n, e, .. } = &self.jwk;
        let [x, y, n, e] = [x, y, n, e].map(|part| part.as_deref().unwrap_or_default());
        let text = match self.algorithm {
            ClientAlgorithm::Es384 => format!(r#"{{"crv":"P-384","kty":"EC","x":"{x}","y":"{y}"}}"#),
            ClientAlgorithm::EdDsa => format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#),
            ClientAlgorithm::Rs384 => format!(r#"{{"e":"{e}","kty":"RSA","n":"{n}"}}"#),
        };
        Digest::of(text.as_bytes())
    }

    fn of(jwk: Jwk) -> Result<Self, KeySetError> {
        with_provider();
        let kid = jwk.kid.clone();
        if kid.is_empty() || kid.len() > 128 || !kid.bytes().all(|b| b.is_ascii_graphic()) {
            return refuse("each key needs a `kid` of 1 to 128 visible ASCII characters");
        }
        if jwk.key_use.as_ref().is_some_and(|key_use| key_use != "sig") {
            return refuse(format!("{kid}: `use` must be `sig`"));
        }
        // Of what else stands beside it nothing is kept.
        let bare = Jwk { x: None, y: None, n: None, e: None, crv: None, ..jwk.clone() };
        let (algorithm, key, jwk) = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
            ("EC", Some("P-384")) => {
                (ClientAlgorithm::Es384, elliptic(&jwk), Jwk { crv: jwk.crv, x: jwk.x, y: jwk.y, ..bare })
            }
            ("OKP", Some("Ed25519")) => {
                (ClientAlgorithm::EdDsa, edwards(&jwk), Jwk { crv: jwk.crv, x: jwk.x, ..bare })
            }
            ("RSA", _) => (ClientAlgorithm::Rs384, rsa(&jwk), Jwk { n: jwk.n, e: jwk.e, ..bare }),
            _ => return refuse(format!("{kid}: keys are EC on P-384, RSA, or OKP Ed25519")),
        };
        if jwk.alg.as_ref().is_some_and(|alg| alg != algorithm.code()) {
            return refuse(format!("{kid}: such a key signs with {algorithm}"));
        }
        match key {
            Some(key) => Ok(Self { algorithm, key, jwk }),
            None => refuse(format!("{kid}: is no good key (RSA from 2,048 to 8,192 bits)")),
        }
    }
}

fn part(text: Option<&String>) -> Option<Vec<u8>> {
    decode(text?).ok()
}

fn elliptic(jwk: &Jwk) -> Option<DecodingKey> {
    let (x, y) = (part(jwk.x.as_ref())?, part(jwk.y.as_ref())?);
    let whole = x.len() == COORDINATE && y.len() == COORDINATE;
    let point = [[4].as_slice(), &x, &y].concat();
    // The library would take any point, and find with each signature that it is not on the curve.
    ParsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, &point).ok().filter(|_on_curve| whole)?;
    DecodingKey::from_ec_components(jwk.x.as_ref()?, jwk.y.as_ref()?).ok()
}

fn edwards(jwk: &Jwk) -> Option<DecodingKey> {
    let raw: [u8; 32] = part(jwk.x.as_ref())?.try_into().ok()?;
    VerifyingKey::from_bytes(&raw).ok()?;
    PublicKey::from_bytes(raw).check().ok()?;
    Some(DecodingKey::from_ed_der(&raw))
}

fn rsa(jwk: &Jwk) -> Option<DecodingKey> {
    let (modulus, exponent) = (part(jwk.n.as_ref())?, part(jwk.e.as_ref())?);
    let strong = MODULUS.contains(&modulus.len()) && modulus.first().is_some_and(|first| *first >= 0x80);
    // Odd and at least 3, without zeros before it; 65,537 is what everybody has.
    let odd = exponent.last().is_some_and(|last| last % 2 == 1) && exponent.first() != Some(&0);
    let usual = odd && exponent.len() <= 5 && exponent != [1];
    (strong && usual).then(|| DecodingKey::from_rsa_raw_components(&modulus, &exponent))
}

/// The keys of a client.
#[derive(Clone, Debug)]
pub struct ClientKeys(Vec<ClientKey>);

impl ClientKeys {
    /// Reads a JWK Set (RFC 7517 §5) of one to five public keys, each with a `kid` of its own. Members that say nothing here
    /// are left out.
    pub fn parse(set: &Value) -> Result<Self, KeySetError> {
        let Some(keys) = set.get("keys").and_then(Value::as_array) else {
            return refuse("must be a JWK Set: {\"keys\": [...]}");
        };
        if keys.is_empty() || keys.len() > MOST_KEYS {
            return refuse(format!("must hold one to {MOST_KEYS} keys"));
        }
        if keys.iter().any(|key| PRIVATE.iter().any(|member| key.get(member).is_some())) {
            return refuse("holds a private or symmetric key: send public ones, and use that one no more");
        }
        let key = |key: &Value| match serde_json::from_value::<Jwk>(key.clone()) {
            Ok(jwk) => ClientKey::of(jwk),
            Err(error) => refuse(error.to_string()),
        };
        let keys = keys.iter().map(key).collect::<Result<Vec<_>, _>>()?;
        let mut kids: Vec<&str> = keys.iter().map(ClientKey::kid).collect();
        kids.sort_unstable();
        kids.dedup();
        if kids.len() < keys.len() { refuse("two keys have one `kid`") } else { Ok(Self(keys)) }
    }

    /// No keys: nothing is signed with one of them.
    #[must_use]
    pub const fn none() -> Self {
        Self(Vec::new())
    }

    /// Whether one of them is called so.
    #[must_use]
    pub fn has(&self, kid: &str) -> bool {
        self.0.iter().any(|key| key.kid() == kid)
    }

    /// The keys as a JWK Set again.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let keys: Vec<&Jwk> = self.0.iter().map(|key| &key.jwk).collect();
        serde_json::json!({ "keys": keys })
    }

    /// Each key.
    pub fn iter(&self) -> impl Iterator<Item = &ClientKey> {
        self.0.iter()
    }
}

/// The only header that is accepted.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    alg: String,
    kid: String,
    #[serde(default)]
    typ: Option<String>,
}

/// What an assertion says (RFC 7523 §3). Times are Unix seconds.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct AssertionClaims {
    /// The client.
    pub iss: String,
    /// The client.
    pub sub: String,
    /// For whom: one audience.
    aud: OneAudience,
    /// Until when.
    pub exp: i64,
    /// From when on.
    #[serde(default)]
    pub nbf: Option<i64>,
    /// Issued at.
    #[serde(default)]
    pub iat: Option<i64>,
    /// Its id: it is taken once.
    pub jti: String,
}

/// An assertion for two servers could be used at the other by either: one audience, alone or as a list of one.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
enum OneAudience {
    Alone(String),
    Listed([String; 1]),
}

/// An assertion whose header was accepted and whose signature was not checked yet.
#[derive(Debug)]
pub struct Assertion<'a> {
    token: &'a str,
    header: Header,
    client: String,
}

impl std::fmt::Debug for Header {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.alg)
    }
}

impl<'a> Assertion<'a> {
    /// Takes an assertion apart.
    pub fn parse(token: &'a str) -> Result<Self, JwtError> {
        if token.len() > MAX_LENGTH {
            return Err(JwtError::Malformed);
        }
        let mut parts = token.split('.');
        let (Some(header), Some(payload), Some(_signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(JwtError::Malformed);
        };
        let header: Header = serde_json::from_slice(&decode(header)?).map_err(|_other| JwtError::Header)?;
        let types = [None, Some("JWT"), Some("jwt"), Some("client-authentication+jwt")];
        if !types.contains(&header.typ.as_deref()) {
            return Err(JwtError::Header);
        }
        let claims: AssertionClaims =
            serde_json::from_slice(&decode(payload)?).map_err(|_other| JwtError::Malformed)?;
        Ok(Self { token, header, client: claims.iss })
    }

    /// Who it says that it is by: good for looking up the keys, and for nothing else.
    #[must_use]
    pub fn client(&self) -> &str {
        &self.client
    }

    /// Which of the client's keys it names.
    #[must_use]
    pub fn kid(&self) -> &str {
        &self.header.kid
    }

    /// Checks it under the keys of the client that it named, for one of `audiences`. Its times are not compared with any clock
    /// yet.
    pub fn verify(self, keys: &ClientKeys, audiences: &[&str]) -> Result<AssertionClaims, JwtError> {
        let named = |key: &&ClientKey| key.kid() == self.header.kid;
        let key = keys.iter().find(named).ok_or(JwtError::Header)?;
        let algorithm = match key.algorithm {
            ClientAlgorithm::Es384 => Algorithm::ES384,
            ClientAlgorithm::Rs384 => Algorithm::RS384,
            ClientAlgorithm::EdDsa => Algorithm::EdDSA,
        };
        if self.header.alg != key.algorithm.code() {
            return Err(JwtError::Header);
        }
        let mut validation = Validation::new(algorithm);
        // The machine's clock is not ours: see [`crate::jwt::Expected`].
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation.validate_aud = true;
        validation.set_audience(audiences);
        validation.set_issuer(&[&self.client]);
        validation.set_required_spec_claims(&["iss", "sub", "aud", "exp"]);
        let opened = jsonwebtoken::decode::<AssertionClaims>(self.token, &key.key, &validation);
        let claims = opened.map_err(|error| JwtError::of(&error))?.claims;
        if claims.sub == claims.iss { Ok(claims) } else { Err(JwtError::Issuer) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thumbprints_are_those_of_the_rfcs() {
        let modulus = concat!(
            "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknj",
            "hMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQ",
            "vRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzK",
            "nqDKgw",
        );
        let keys = serde_json::json!({"keys": [
            {"kty": "RSA", "n": modulus, "e": "AQAB", "alg": "RS384", "kid": "RFC-7638-3.1"},
            {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo", "kid": "RFC-8037-A.3"},
        ]});
        let keys = ClientKeys::parse(&keys).unwrap();
        let found: Vec<_> = keys.iter().map(|key| key.thumbprint().as_bytes().to_vec()).collect();
        let wanted =
            ["NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs", "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"];
        assert_eq!(found, wanted.map(|text| decode(text).unwrap()));
    }
}
