//! A transaction: a compact JWS (`typ` `hbc-tx+jws`) over one canonical payload.
//!
//! Its id is the RFC 6962 leaf hash of the JWS bytes, SHA-256(0x00 ‖ JWS). Parsing checks form; signatures are checked by
//! [`Tx::verify_signature`] and, many at once, by [`verify_signatures`]; the ledger's rules are the ledger's.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use ed25519_dalek::SigningKey;

use super::json::{self, JsonError};
use super::jws::{self, Jws, JwsError};
use super::merkle;
use super::parallel;
use super::payload::{Payload, PayloadError};
use hbc_types::digest::Digest;
use hbc_types::keys::{KeyError, Kid, PreparedKey, PublicKey};

/// The `typ` of a transaction.
pub const TYP: &str = "hbc-tx+jws";
/// Bytes of a transaction at most.
const MAX_TX_BYTES: usize = 256 * 1024;

/// Why bytes are not a transaction.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TxError {
    /// Not a JWS of this kind.
    #[error("not a transaction: {0}")]
    Jws(#[from] JwsError),
    /// The payload can never be valid.
    #[error("the payload can never be valid: {0}")]
    Payload(#[from] PayloadError),
}

/// A transaction whose form is right; whether its signature fits is not known yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tx {
    bytes: Vec<u8>,
    jws: Jws,
    txid: Digest,
    payload: Payload,
}

impl Tx {
    /// Parses and checks everything that needs neither keys nor state.
    ///
    /// # Errors
    /// Whatever is not exact.
    pub fn parse(bytes: &[u8]) -> Result<Self, TxError> {
        let jws = Jws::parse(bytes, TYP, MAX_TX_BYTES)?;
        let payload: Payload = json::decode(&jws.payload).map_err(JwsError::from)?;
        payload.check()?;
        // FORMATS §5.1: `pub` is a key. Whoever is introduced by bytes that are none could never sign.
        if payload.introduces().is_some_and(|key| key.check().is_err()) {
            let problem = "not an Ed25519 public key";
            return Err(PayloadError::Field { field: "pub", problem }.into());
        }
        Ok(Self { bytes: bytes.to_vec(), jws, txid: merkle::leaf_hash(bytes), payload })
    }

    /// Reads a final transaction: the members checked its form before they decided its block, so it is not checked again.
    ///
    /// # Errors
    /// When the bytes are no transaction at all.
    pub fn read_final(bytes: &[u8]) -> Result<Self, TxError> {
        let jws = Jws::parse(bytes, TYP, MAX_TX_BYTES)?;
        let payload: Payload = serde_json::from_slice(&jws.payload)
            .map_err(|error| JwsError::from(JsonError::Shape(error.to_string())))?;
        Ok(Self { bytes: bytes.to_vec(), jws, txid: merkle::leaf_hash(bytes), payload })
    }

    /// Its id: the leaf hash of its bytes.
    #[must_use]
    pub const fn txid(&self) -> Digest {
        self.txid
    }

    /// Fingerprint of the key that signed, or claims to have.
    #[must_use]
    pub const fn kid(&self) -> Kid {
        self.jws.kid
    }

    /// What it says.
    #[must_use]
    pub const fn payload(&self) -> &Payload {
        &self.payload
    }

    /// The signed bytes, as they were parsed.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The signed bytes as the text that they are.
    #[must_use]
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.bytes).unwrap_or_default()
    }

    /// Gives the signed bytes away.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Verifies the signature under `key`, which must be the one that the `kid` names.
    ///
    /// # Errors
    /// When it does not fit.
    pub fn verify_signature(&self, key: &PublicKey) -> Result<(), KeyError> {
        self.jws.verify(&self.bytes, key)
    }

    /// The same by a key that was taken apart before: many by one author cost a quarter less.
    ///
    /// # Errors
    /// When it does not fit.
    pub fn verify_prepared(&self, key: &PreparedKey) -> Result<(), KeyError> {
        self.jws.verify_prepared(&self.bytes, key)
    }
}

/// Signs a payload as a transaction.
///
/// # Errors
/// When the payload has no canonical form (a number past 2^53-1).
pub fn sign(key: &SigningKey, payload: &Payload) -> Result<String, JsonError> {
    jws::sign(key, TYP, payload)
}

/// The id of transaction bytes.
#[must_use]
pub fn txid(bytes: &[u8]) -> Digest {
    merkle::leaf_hash(bytes)
}

/// Why one of many signatures does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// Nobody told the key with this fingerprint.
    #[error("transaction {index}: its key is unknown")]
    UnknownKey {
        /// Position in the list.
        index: usize,
    },
    /// The signature does not fit.
    #[error("transaction {index}: {error}")]
    Mismatch {
        /// Position in the list.
        index: usize,
        /// What the key says.
        error: KeyError,
    },
}

impl SignatureError {
    /// Position of the transaction in the list.
    #[must_use]
    pub const fn index(self) -> usize {
        match self {
            Self::UnknownKey { index } | Self::Mismatch { index, .. } => index,
        }
    }
}

/// Verifies many signatures on all cores. `key_of` answers the raw key of a fingerprint that the state knows; keys that
/// transactions of the same list introduce are found here. Whether a key *may* sign is for the rules: a raw key with the
/// right fingerprint is the right key wherever it came from.
///
/// # Errors
/// The first transaction, in list order, whose signature does not fit.
pub fn verify_signatures(
    txs: &[Tx],
    key_of: &(impl Fn(&Kid) -> Option<PublicKey> + Sync),
) -> Result<(), SignatureError> {
    let introduced: HashMap<Kid, PublicKey> =
        txs.iter().filter_map(|tx| tx.payload.introduces()).map(|key| (key.kid(), key)).collect();
    // As few parts as there are threads: each prepares every key that it meets.
    let share = txs.len().div_ceil(rayon::current_num_threads()).max(64);
    let part = |(at, part): &(usize, &[Tx])| {
        let mut prepared: HashMap<Kid, PreparedKey> = HashMap::new();
        part.iter().zip(*at * share..).try_for_each(|(tx, index)| {
            let kid = tx.kid();
            let mismatch = |error| SignatureError::Mismatch { index, error };
            let key = match prepared.entry(kid) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(place) => {
                    let key = key_of(&kid).or_else(|| introduced.get(&kid).copied());
                    let key = key.ok_or(SignatureError::UnknownKey { index })?;
                    place.insert(key.prepare().map_err(mismatch)?)
                }
            };
            tx.verify_prepared(key).map_err(mismatch)
        })
    };
    let parts: Vec<(usize, &[Tx])> = txs.chunks(share).enumerate().collect();
    parallel::map(&parts, 1, part).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload::{Consent, ConsentKey, KeyStatus, Receipts};
    use crate::testing::key;
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use hbc_types::account::Custody;
    use hbc_types::ids::GrantId;
    use hbc_types::keys::{SignatureBytes, possession_text};
    use proptest::prelude::*;

    fn receipts(iat: u64) -> Payload {
        Payload::Receipts(Receipts {
            chain: Digest::of(b"chain"),
            count: 2,
            iat,
            rights: None,
            root: Digest::of(b"root"),
        })
    }

    /// The vector of docs/FORMATS.md.
    #[test]
    fn golden_transaction() {
        let text = sign(&key(1), &receipts(1_790_000_000_000)).unwrap();
        assert_eq!(
            text,
            "eyJhbGciOiJFZERTQSIsImtpZCI6IjM0NzUwZjk4YmQ1OWZjZmM5NDZkYTQ1YWFhYmU5MzNiZTE1NGE0YjUwOTRlMWM0YWJmNDI4NjY1MDVmM2M5N2UiLCJ0eXAiOiJoYmMtdHgrandzIn0.eyJjaGFpbiI6Ijk0MTQ4ODZiMWViZjAyNWRiMDY3YTRjYmQxM2EwOTAzZmJkOTczM2E1MzcyYmJhMWI1OGJkNzJjMTY5OWI3OTgiLCJjb3VudCI6MiwiaWF0IjoxNzkwMDAwMDAwMDAwLCJyb290IjoiNDgxMzQ5NGQxMzdlMTYzMWJiYTMwMWQ1YWNhYjZlN2JiN2FhNzRjZTExODVkNDU2NTY1ZWY1MWQ3Mzc2NzdiMiIsInR5cGUiOiJhY2Nlc3MucmVjZWlwdHMifQ.MLCt4ZZjV0Uki5HI6smFQ_GcTQLJrhn40fMuagywSUrLcoIyYLSakWuiYKcz1yHjIROXVEhUXQZ1aRckOldaDg"
        );
        let tx = Tx::parse(text.as_bytes()).unwrap();
        assert_eq!(tx.txid().to_string(), "a060b125380614fe03f0afe67bf1be557a2f26a2cfc1f7f5456061169385885e");
        assert_eq!(tx.kid(), PublicKey::of(&key(1)).kid());
        assert_eq!(tx.payload(), &receipts(1_790_000_000_000));
        assert_eq!(tx.text(), text);
        assert_eq!(tx.verify_signature(&PublicKey::of(&key(1))), Ok(()));
    }

    fn signed_raw(payload: &str) -> String {
        let kid = PublicKey::of(&key(1)).kid();
        let header = format!(r#"{{"alg":"EdDSA","kid":"{kid}","typ":"{TYP}"}}"#);
        let text = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
        let signature = SignatureBytes::sign(&key(1), text.as_bytes());
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature.as_bytes()))
    }

    #[test]
    fn only_the_canonical_payload_parses() {
        let good = String::from_utf8(json::encode(&receipts(5)).unwrap()).unwrap();
        assert!(Tx::parse(signed_raw(&good).as_bytes()).is_ok());
        for bad in [
            good.replace(',', ", "),
            good.replace("\"count\":2", "\"count\":2.0"),
            good.replace("\"count\":2", "\"count\":0"),
            good.replace("\"count\":2", "\"count\":2,\"extra\":1"),
            good.replace("\"count\":2,", ""),
            good.replace("access.receipts", "access.other"),
            good.replace("{\"chain\"", "{\"a\":1,\"chain\""),
            "{}".to_owned(),
            "[]".to_owned(),
        ] {
            assert!(Tx::parse(signed_raw(&bad).as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn null_and_absent_are_not_the_same() {
        let consent = Payload::Grant(Consent {
            chain: Digest::ZERO,
            commitment: Digest::of(b"c"),
            custody: Custody::Server,
            grant: GrantId::parse("grt-00000000000000000000000000000001").unwrap(),
            iat: 1,
            key: Digest::of(b"k"),
            prev: None,
            seq: 1,
        });
        let good = String::from_utf8(json::encode(&consent).unwrap()).unwrap();
        assert!(good.contains(r#""prev":null"#));
        assert!(Tx::parse(signed_raw(&good).as_bytes()).is_ok());
        let absent = good.replace(r#""prev":null,"#, "");
        assert!(Tx::parse(signed_raw(&absent).as_bytes()).is_err());
        let revoked = Payload::ConsentKey(ConsentKey {
            chain: Digest::ZERO,
            iat: 1,
            key: Digest::of(b"k"),
            pop: None,
            public: None,
            status: KeyStatus::Revoked,
        });
        let good = String::from_utf8(json::encode(&revoked).unwrap()).unwrap();
        assert!(!good.contains("pop"));
        assert!(Tx::parse(signed_raw(&good).as_bytes()).is_ok());
    }

    #[test]
    fn many_signatures_are_checked_and_the_first_bad_one_is_named() {
        let signer = key(7);
        let public = PublicKey::of(&signer);
        let mut txs: Vec<Tx> = (0..300)
            .map(|iat| Tx::parse(sign(&signer, &receipts(iat)).unwrap().as_bytes()).unwrap())
            .collect();
        let known = |kid: &Kid| (*kid == public.kid()).then_some(public);
        assert_eq!(verify_signatures(&txs, &known), Ok(()));
        assert_eq!(verify_signatures(&txs, &|_: &Kid| None), Err(SignatureError::UnknownKey { index: 0 }));

        let text = txs[200].text().to_owned();
        let (head, tail) = text.rsplit_once('.').unwrap();
        let other = sign(&signer, &receipts(9999)).unwrap();
        let foreign = other.rsplit_once('.').unwrap().1;
        assert_ne!(tail, foreign);
        txs[200] = Tx::parse(format!("{head}.{foreign}").as_bytes()).unwrap();
        let error = verify_signatures(&txs, &known).unwrap_err();
        assert_eq!(error, SignatureError::Mismatch { index: 200, error: KeyError::Signature });
    }

    #[test]
    fn a_key_introduced_in_the_list_verifies_what_follows() {
        let chain = Digest::ZERO;
        let consent_key = key(8);
        let public = PublicKey::of(&consent_key);
        let registration = Payload::ConsentKey(ConsentKey {
            chain,
            iat: 1,
            key: public.kid(),
            pop: Some(SignatureBytes::sign(&consent_key, &possession_text(&chain, &public.kid()))),
            public: Some(public),
            status: KeyStatus::Active,
        });
        let auth = PublicKey::of(&key(1));
        let known = |kid: &Kid| (*kid == auth.kid()).then_some(auth);
        let first = Tx::parse(sign(&key(1), &registration).unwrap().as_bytes()).unwrap();
        let second = Tx::parse(sign(&consent_key, &receipts(1)).unwrap().as_bytes()).unwrap();
        assert_eq!(verify_signatures(&[first, second.clone()], &known), Ok(()));
        assert_eq!(verify_signatures(&[second], &known), Err(SignatureError::UnknownKey { index: 0 }));
    }

    proptest! {
        #[test]
        fn any_flipped_bit_is_noticed(place in any::<prop::sample::Index>()) {
            let text = sign(&key(1), &receipts(77)).unwrap();
            let mut bytes = text.into_bytes();
            let bit = place.index(bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            let fits = Tx::parse(&bytes).is_ok_and(|tx| tx.verify_signature(&PublicKey::of(&key(1))).is_ok());
            prop_assert!(!fits);
        }

        #[test]
        fn parsing_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            prop_assert!(Tx::parse(&bytes).is_err());
        }
    }
}
