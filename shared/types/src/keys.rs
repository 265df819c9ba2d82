//! Ed25519 public keys and signatures as the ledger writes them, fingerprints, and texts that are signed as they are.

use std::fmt;
use std::sync::LazyLock;

use curve25519_dalek::constants::EIGHT_TORSION;
use ed25519_dalek::{Signature, Signer as _, SigningKey, Verifier as _, VerifyingKey};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::digest::Digest;

/// The fingerprint of a key: SHA-256 of its 32 raw bytes. What `kid` says in every signed object.
pub type Kid = Digest;

macro_rules! hex_bytes {
    ($(#[$doc:meta])* $name:ident, $length:literal, $error:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; $length]);

        impl $name {
            /// Wraps raw bytes.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; $length]) -> Self {
                Self(bytes)
            }

            /// The raw bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; $length] {
                &self.0
            }

            /// Parses lowercase hex of exactly this length.
            ///
            /// # Errors
            /// For anything else.
            pub fn parse(text: &str) -> Result<Self, KeyError> {
                let mut bytes = [0; $length];
                if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
                    return Err(KeyError::Text($error));
                }
                hex::decode_to_slice(text, &mut bytes).map_err(|_not_hex| KeyError::Text($error))?;
                Ok(Self(bytes))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                Self::parse(&text).map_err(serde::de::Error::custom)
            }
        }
    };
}

/// Why a key or signature does not serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The text is not one.
    #[error("{0}")]
    Text(&'static str),
    /// The 32 bytes are no point of the curve, not its one encoding, or of small order.
    #[error("not an Ed25519 public key")]
    NotAKey,
    /// The signature is not this key's over this text.
    #[error("the signature does not fit")]
    Signature,
}

hex_bytes!(
    /// A raw Ed25519 public key, 64 lowercase hex digits on the wire.
    PublicKey, 32, "not a public key: expected 64 lowercase hex digits"
);
hex_bytes!(
    /// An Ed25519 signature, 128 lowercase hex digits where it is not inside a JWS or a note.
    SignatureBytes, 64, "not a signature: expected 128 lowercase hex digits"
);
hex_bytes!(
    /// A 16-byte tag of an anchor: only who holds the tag key can tell whose it is.
    Tag, 16, "not a tag: expected 32 lowercase hex digits"
);

hex_bytes!(
    /// The salt of a commitment, 64 lowercase hex digits on the wire.
    SaltBytes, 32, "not a salt: expected 64 lowercase hex digits"
);

impl PublicKey {
    /// The public half of a signing key.
    #[must_use]
    pub fn of(key: &SigningKey) -> Self {
        Self(key.verifying_key().to_bytes())
    }

    /// Its fingerprint.
    #[must_use]
    pub fn kid(&self) -> Kid {
        Digest::of(&self.0)
    }

    /// The key taken apart, for many signatures. This is the one place that says which bytes are a key: wherever one can
    /// stand, it is asked.
    ///
    /// FORMATS §4: "y is smaller than p, there is a point of the curve with it, and its order is not 1, 2, 4 or 8".
    ///
    /// # Errors
    /// [`KeyError::NotAKey`] for any other bytes.
    pub fn prepare(&self) -> Result<PreparedKey, KeyError> {
        // The library takes y and y + p for the same, so that one point would be two keys. The only points with two signs
        // of x have x = 0, and those are of small order.
        if !is_below_p(&self.0) {
            return Err(KeyError::NotAKey);
        }
        let key = VerifyingKey::from_bytes(&self.0).map_err(|_off_curve| KeyError::NotAKey)?;
        if key.is_weak() { Err(KeyError::NotAKey) } else { Ok(PreparedKey { key, kid: self.kid() }) }
    }

    /// Whether the bytes are a key at all.
    ///
    /// # Errors
    /// [`KeyError::NotAKey`], as [`Self::prepare`].
    pub fn check(&self) -> Result<(), KeyError> {
        self.prepare().map(|_key| ())
    }

    /// Verifies one signature, as [`PreparedKey::verify`].
    ///
    /// # Errors
    /// [`KeyError::NotAKey`] or [`KeyError::Signature`].
    pub fn verify(&self, text: &[u8], signature: &SignatureBytes) -> Result<(), KeyError> {
        self.prepare()?.verify(text, signature)
    }
}

/// A public key that was taken apart once: it verifies a quarter faster than from its bytes each time.
#[derive(Debug, Clone)]
pub struct PreparedKey {
    key: VerifyingKey,
    kid: Kid,
}

impl PreparedKey {
    /// Its fingerprint.
    #[must_use]
    pub const fn kid(&self) -> Kid {
        self.kid
    }

    /// Verifies strictly (RFC 8032 with small-order points and non-canonical values refused), so that a signature cannot
    /// be varied without its key.
    ///
    /// `R` is recomputed and compared with the signature's as bytes, in its one canonical encoding. What equals it is
    /// therefore canonical, and of small order only if it is one of eight texts: it need not be taken apart.
    ///
    /// # Errors
    /// [`KeyError::Signature`] when it does not fit.
    pub fn verify(&self, text: &[u8], signature: &SignatureBytes) -> Result<(), KeyError> {
        let (r, _) = signature.0.split_first_chunk::<32>().ok_or(KeyError::Signature)?;
        if SMALL_ORDER.contains(r) {
            return Err(KeyError::Signature);
        }
        self.key.verify(text, &Signature::from_bytes(&signature.0)).map_err(|_mismatch| KeyError::Signature)
    }
}

/// Whether y, which is little-endian below the sign of x, is smaller than p = 2^255 - 19.
fn is_below_p(bytes: &[u8; 32]) -> bool {
    let [first, between @ .., last] = bytes;
    *first < 0xed || last & 0x7f != 0x7f || between.iter().any(|byte| *byte != 0xff)
}

/// The encodings of the eight points of small order.
static SMALL_ORDER: LazyLock<[[u8; 32]; 8]> =
    LazyLock::new(|| EIGHT_TORSION.map(|point| point.compress().to_bytes()));

impl SignatureBytes {
    /// Signs `text`. Ed25519 is deterministic: one key and text, one signature.
    #[must_use]
    pub fn sign(key: &SigningKey, text: &[u8]) -> Self {
        Self(key.sign(text).to_bytes())
    }
}

/// A text to be signed as it is: its domain, the chain, then one line per field, each ended by a line feed. Fields carry
/// no line feeds of their own.
#[must_use]
pub fn signed_text(domain: &str, chain: &Digest, fields: &[&str]) -> Vec<u8> {
    let mut text = format!("{domain}\n{chain}\n");
    for field in fields {
        debug_assert!(!field.contains('\n'), "a field is one line");
        text.push_str(field);
        text.push('\n');
    }
    text.into_bytes()
}

/// What a key signs to prove that it is held by who registers it: `hbc/pop/v1\n<chain>\n<kid>\n`.
#[must_use]
pub fn possession_text(chain: &Digest, kid: &Kid) -> Vec<u8> {
    signed_text("hbc/pop/v1", chain, &[&kid.to_string()])
}

/// What a client signs with a new patient's root key: the lines `hbc/root-pop/v1`, chain, kid, kid of the recovery key (or
/// `-`), username.
#[must_use]
pub fn root_possession_text(chain: &Digest, root: &Kid, recovery: Option<&Kid>, username: &str) -> Vec<u8> {
    let recovery = recovery.map_or_else(|| "-".to_owned(), Kid::to_string);
    signed_text("hbc/root-pop/v1", chain, &[&root.to_string(), &recovery, username])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn keys_parse_strictly_and_verify() {
        let key = SigningKey::from_bytes(&[1; 32]);
        let public = PublicKey::of(&key);
        assert_eq!(public.to_string(), "8a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c");
        assert_eq!(PublicKey::parse(&public.to_string()), Ok(public));
        assert!(PublicKey::parse(&public.to_string().to_uppercase()).is_err());
        assert!(PublicKey::parse("8a").is_err());

        let text = possession_text(&Digest::ZERO, &public.kid());
        let signature = SignatureBytes::sign(&key, &text);
        assert_eq!(public.verify(&text, &signature), Ok(()));
        assert_eq!(public.verify(b"other", &signature), Err(KeyError::Signature));
        assert_eq!(PublicKey::from_bytes([2; 32]).verify(&text, &signature), Err(KeyError::NotAKey));
    }

    #[test]
    fn a_key_has_one_encoding() {
        let genuine = PublicKey::of(&SigningKey::from_bytes(&[1; 32]));
        assert_eq!(genuine.check(), Ok(()));
        let (mut taken, mut alike) = (0, 0);
        // Every y from p on that 255 bits can hold, with either sign of x.
        for (low, sign) in (0xed_u8..=0xff).flat_map(|low| [(low, 0x7f), (low, 0xff)]) {
            let mut bytes = [0xff; 32];
            (bytes[0], bytes[31]) = (low, sign);
            assert_eq!(
                PublicKey::from_bytes(bytes).check(),
                Err(KeyError::NotAKey),
                "{}",
                hex::encode(bytes)
            );
            let Ok(loose) = VerifyingKey::from_bytes(&bytes) else { continue };
            taken += 1;
            // The same point in its one encoding.
            let same = PublicKey::from_bytes(loose.to_edwards().compress().to_bytes());
            assert_ne!(same.as_bytes(), &bytes);
            alike += usize::from(same.check().is_ok());
        }
        assert!(taken > 0 && alike > 0, "the library takes {taken} of them, {alike} for keys of ours");
        // The largest y that is one.
        let mut largest = [0xff; 32];
        (largest[0], largest[31]) = (0xec, 0x7f);
        assert!(is_below_p(&largest));
    }

    /// What the library's own strict verification says, which takes `R` apart.
    fn strictly(key: &[u8; 32], text: &[u8], signature: &[u8; 64]) -> bool {
        let key = VerifyingKey::from_bytes(key);
        key.is_ok_and(|key| key.verify_strict(text, &Signature::from_bytes(signature)).is_ok())
    }

    fn here(key: &[u8; 32], text: &[u8], signature: &[u8; 64]) -> bool {
        PublicKey::from_bytes(*key).verify(text, &SignatureBytes::from_bytes(*signature)).is_ok()
    }

    #[test]
    fn points_of_small_order_and_scalars_too_large_verify_nothing() {
        let key = SigningKey::from_bytes(&[1; 32]);
        let genuine = *SignatureBytes::sign(&key, b"text").as_bytes();
        let (r, s) = (&genuine[..32], &genuine[32..]);
        let own = key.verifying_key().to_bytes();
        // The order of the base point, little-endian: `s` plus it names the same scalar.
        let order = hex::decode("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010").unwrap();
        let mut carry = 0;
        let larger: Vec<u8> = s
            .iter()
            .zip(&order)
            .map(|(one, other)| {
                let sum = u16::from(*one) + u16::from(*other) + carry;
                carry = sum >> 8;
                sum.to_le_bytes()[0]
            })
            .collect();
        let scalars = [s.to_vec(), larger, vec![0; 32], [vec![1], vec![0; 31]].concat()];
        let mut points: Vec<Vec<u8>> = SMALL_ORDER.iter().map(|point| point.to_vec()).collect();
        // Other encodings of the same points: y + p, and the sign of x = 0.
        for odd in [
            "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
            "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
            "0100000000000000000000000000000000000000000000000000000000000080",
            "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        ] {
            points.push(hex::decode(odd).unwrap());
        }
        points.extend([r.to_vec(), own.to_vec()]);
        for (a, r, s) in points
            .iter()
            .flat_map(|a| points.iter().flat_map(move |r| [(a, r)]))
            .flat_map(|(a, r)| scalars.iter().map(move |s| (a, r, s)))
        {
            let signature: [u8; 64] = [r.as_slice(), s].concat().try_into().unwrap();
            let a: [u8; 32] = a.as_slice().try_into().unwrap();
            let expected = strictly(&a, b"text", &signature);
            assert_eq!(here(&a, b"text", &signature), expected, "{a:?} {signature:?}");
            assert_eq!(expected, a == own && signature == genuine);
        }
    }

    proptest! {
        #[test]
        fn verification_is_the_librarys_strict_one(
            seed in any::<[u8; 32]>(), text in any::<[u8; 8]>(), at in 0_usize..64, bit in 0_u8..9,
        ) {
            let key = SigningKey::from_bytes(&seed);
            let mut signature = *SignatureBytes::sign(&key, &text).as_bytes();
            if bit < 8 {
                signature[at] ^= 1 << bit;
            }
            let own = key.verifying_key().to_bytes();
            let expected = strictly(&own, &text, &signature);
            prop_assert_eq!(here(&own, &text, &signature), expected);
            prop_assert_eq!(expected, bit == 8);
        }
    }

    #[test]
    fn the_possession_texts_are_their_lines() {
        let text = String::from_utf8(possession_text(&Digest::ZERO, &Digest::of(b"k"))).unwrap();
        let (zero, key) = (Digest::ZERO, Digest::of(b"k"));
        assert_eq!(text, format!("hbc/pop/v1\n{zero}\n{key}\n"));
        for (recovery, line) in [(None, "-".to_owned()), (Some(&zero), zero.to_string())] {
            let text = String::from_utf8(root_possession_text(&zero, &key, recovery, "ada")).unwrap();
            assert_eq!(text, format!("hbc/root-pop/v1\n{zero}\n{key}\n{line}\nada\n"));
        }
    }
}
