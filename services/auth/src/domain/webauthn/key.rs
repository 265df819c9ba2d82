//! Public keys of passkeys, as authenticators write them (COSE_Key: RFC 9052 §7, RFC 9053 §7, RFC 8230 §4; WebAuthn Level 3
//! §5.8.5), and their signatures.

use aws_lc_rs::rsa::PublicKeyComponents;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey,
};
use ciborium::Value;
use ed25519_dalek::{Signature, VerifyingKey};
use hbc_types::keys::PublicKey;

use super::fault::CeremonyError;

/// COSE algorithms that are asked for: ES256, which nearly all authenticators have, EdDSA, and RS256, which is all that some
/// computers' TPMs have.
pub const ALGORITHMS: [i32; 3] = [ES256, EDDSA, RS256];
const ES256: i32 = -7;
const EDDSA: i32 = -8;
const RS256: i32 = -257;

/// Bytes of an RSA modulus: 2,048 to 4,096 bits.
const MODULUS: std::ops::RangeInclusive<usize> = 256..=512;
/// 65,537, which every authenticator has.
const EXPONENT: [u8; 3] = [1, 0, 1];

/// A public key that is known to be one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PasskeyKey {
    /// ECDSA on P-256 with SHA-256; an uncompressed point.
    Es256(Vec<u8>),
    /// Ed25519.
    EdDsa([u8; 32]),
    /// RSASSA-PKCS1-v1_5 with SHA-256; the modulus.
    Rs256(Vec<u8>),
}

impl PasskeyKey {
    /// Reads a COSE key of one of [`ALGORITHMS`].
    pub fn parse(cose: &[u8]) -> Result<Self, CeremonyError> {
        let mut rest = cose;
        let value = ciborium::de::from_reader_with_recursion_limit(&mut rest, 4);
        let map = match value {
            Ok(Value::Map(map)) if rest.is_empty() => map,
            _ => return Err(CeremonyError::Malformed("public key")),
        };
        Self::of(&Parameters(map)).ok_or(CeremonyError::Key)
    }

    fn of(key: &Parameters) -> Option<Self> {
        let (kty, alg) = (key.number(1)?, key.number(3)?);
        // Of OKP and EC2 -1 is the curve, of RSA the modulus.
        match (kty, i32::try_from(alg).ok()?) {
            (2, ES256) if key.number(-1) == Some(1) => {
                let (x, y) = (key.bytes(-2)?, key.bytes(-3)?);
                let point = [[4].as_slice(), x, y].concat();
                let whole = x.len() == 32 && y.len() == 32;
                ParsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &point).ok().filter(|_on_curve| whole)?;
                Some(Self::Es256(point))
            }
            (1, EDDSA) if key.number(-1) == Some(6) => {
                let raw: [u8; 32] = key.bytes(-2)?.try_into().ok()?;
                VerifyingKey::from_bytes(&raw).ok()?;
                PublicKey::from_bytes(raw).check().ok()?;
                Some(Self::EdDsa(raw))
            }
            (3, RS256) => {
                let (n, e) = (key.bytes(-1)?, key.bytes(-2)?);
                let strong = MODULUS.contains(&n.len()) && n.first().is_some_and(|first| *first >= 0x80);
                (strong && n.last().is_some_and(|last| last % 2 == 1) && e == EXPONENT)
                    .then(|| Self::Rs256(n.to_vec()))
            }
            _ => None,
        }
    }

    /// The algorithm's COSE number.
    #[must_use]
    pub const fn algorithm(&self) -> i32 {
        match self {
            Self::Es256(_) => ES256,
            Self::EdDsa(_) => EDDSA,
            Self::Rs256(_) => RS256,
        }
    }

    /// Checks a signature over `message`, in the form that WebAuthn Level 3 §6.5.5 has for each algorithm.
    pub fn check(&self, message: &[u8], signature: &[u8]) -> Result<(), CeremonyError> {
        let fits = match self {
            Self::Es256(point) => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point).verify(message, signature).is_ok()
            }
            Self::EdDsa(raw) => VerifyingKey::from_bytes(raw)
                .and_then(|key| key.verify_strict(message, &Signature::from_slice(signature)?))
                .is_ok(),
            Self::Rs256(n) => PublicKeyComponents { n: n.as_slice(), e: EXPONENT.as_slice() }
                .verify(&RSA_PKCS1_2048_8192_SHA256, message, signature)
                .is_ok(),
        };
        if fits { Ok(()) } else { Err(CeremonyError::Signature) }
    }
}

/// The parameters of a COSE key by their labels.
struct Parameters(Vec<(Value, Value)>);

impl Parameters {
    fn get(&self, label: i32) -> Option<&Value> {
        let mut found = self.0.iter().filter(|(name, _)| *name == Value::from(label));
        // A label that stands twice says nothing.
        let only = found.next().map(|(_, value)| value);
        found.next().is_none().then_some(only).flatten()
    }

    fn number(&self, label: i32) -> Option<i128> {
        self.get(label)?.as_integer().map(i128::from)
    }

    fn bytes(&self, label: i32) -> Option<&[u8]> {
        self.get(label)?.as_bytes().map(Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::encoding::AsDer as _;
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
    use aws_lc_rs::signature::{
        ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA256,
    };
    use ed25519_dalek::{Signer as _, SigningKey};
    use proptest::prelude::*;

    use super::*;

    fn cose(parameters: &[(i32, Value)]) -> Vec<u8> {
        let map = parameters.iter().map(|(label, value)| (Value::from(*label), value.clone())).collect();
        let mut bytes = Vec::new();
        ciborium::into_writer(&Value::Map(map), &mut bytes).unwrap();
        bytes
    }

    fn bytes(bytes: &[u8]) -> Value {
        Value::Bytes(bytes.to_vec())
    }

    fn holds(key: &PasskeyKey, algorithm: i32, signature: &[u8]) {
        assert_eq!(key.algorithm(), algorithm);
        assert_eq!(key.check(b"message", signature), Ok(()));
        assert_eq!(key.check(b"messagf", signature), Err(CeremonyError::Signature));
        assert_eq!(key.check(b"message", &signature[1..]), Err(CeremonyError::Signature));
        assert_eq!(key.check(b"message", &[]), Err(CeremonyError::Signature));
    }

    #[test]
    fn each_kind_of_key_checks_its_signatures_and_no_other() {
        let random = SystemRandom::new();
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
        let point = pair.public_key().as_ref();
        let ec = |x: &[u8], y: &[u8]| {
            cose(&[(1, 2.into()), (3, ES256.into()), (-1, 1.into()), (-2, bytes(x)), (-3, bytes(y))])
        };
        let key = PasskeyKey::parse(&ec(&point[1..33], &point[33..])).unwrap();
        holds(&key, ES256, pair.sign(&random, b"message").unwrap().as_ref());
        for other in [ec(&point[1..33], &point[1..33]), ec(&point[1..32], &point[33..]), ec(&[], &[])] {
            assert_eq!(PasskeyKey::parse(&other), Err(CeremonyError::Key));
        }
        let own = SigningKey::from_bytes(&[7; 32]);
        let okp = |x: &[u8]| cose(&[(1, 1.into()), (3, EDDSA.into()), (-1, 6.into()), (-2, bytes(x))]);
        let key = PasskeyKey::parse(&okp(own.verifying_key().as_bytes())).unwrap();
        holds(&key, EDDSA, &own.sign(b"message").to_bytes());
        for other in [okp(&[0; 32]), okp(&[1; 31]), okp(&[])] {
            assert_eq!(PasskeyKey::parse(&other), Err(CeremonyError::Key));
        }
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        let mut signature = vec![0; pair.public_modulus_len()];
        pair.sign(&RSA_PKCS1_SHA256, &random, b"message", &mut signature).unwrap();
        let public = pair.public_key();
        let modulus = public.modulus().big_endian_without_leading_zero().to_vec();
        assert!(public.as_der().is_ok());
        let rsa =
            |n: &[u8], e: &[u8]| cose(&[(1, 3.into()), (3, RS256.into()), (-1, bytes(n)), (-2, bytes(e))]);
        holds(&PasskeyKey::parse(&rsa(&modulus, &EXPONENT)).unwrap(), RS256, &signature);
        for other in [rsa(&modulus[..128], &EXPONENT), rsa(&modulus, &[1]), rsa(&modulus, &[3])] {
            assert_eq!(PasskeyKey::parse(&other), Err(CeremonyError::Key));
        }
    }

    #[test]
    fn what_was_not_asked_for_is_no_key() {
        let x = bytes(SigningKey::from_bytes(&[7; 32]).verifying_key().as_bytes());
        let good = [(1, 1.into()), (3, EDDSA.into()), (-1, 6.into()), (-2, x)];
        assert!(PasskeyKey::parse(&cose(&good)).is_ok());
        for (place, value) in [(0, 2), (1, ES256), (1, -35), (2, 1), (2, 7)] {
            let mut other = good.clone();
            other[place].1 = value.into();
            assert_eq!(PasskeyKey::parse(&cose(&other)), Err(CeremonyError::Key));
        }
        let twice = [good.as_slice(), &good[3..]].concat();
        assert_eq!(PasskeyKey::parse(&cose(&twice)), Err(CeremonyError::Key));
        let longer = [cose(&good), vec![0]].concat();
        assert_eq!(PasskeyKey::parse(&longer), Err(CeremonyError::Malformed("public key")));
    }

    proptest! {
        #[test]
        fn whatever_comes_is_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _read = PasskeyKey::parse(&bytes);
        }
    }
}
