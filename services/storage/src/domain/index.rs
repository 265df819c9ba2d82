//! The index key: what makes a dump of storage's database name nobody and no diagnosis.
//!
//! - Tokens: `HMAC-SHA-256(key, field ‖ 0 ‖ value)[..16]`, as 32 hex digits. Compartments, codes and identifiers are
//!   hashed together with the patient, so that equal tokens of two patients tell nothing.
//! - Row seals: what a row must keep but a dump must not tell (whose it is, the commitment's salt, the hash of the
//!   plaintext) under AES-256-GCM, with every clear column as additional data: a label or a number that was changed
//!   by hand in the database no longer opens.
//!
//! Why: decision 0060.

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use hbc_types::ids::{PatientId, RecordId};
use hbc_types::labels::{Category, Compartment};
use hbc_types::secret::{Bytes, Key32};
use hbc_types::wire::access::Labels;
use hbc_types::{Digest, Random, Timestamp};
use hkdf::Hkdf;
use hmac::{Hmac, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use zeroize::Zeroizing;

const NONCE: usize = 12;

/// A keyed hash of a value, 32 hex digits.
pub type Token = String;

/// A row was changed by hand, or belongs to another key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a stored row does not verify")]
pub struct RowError;

/// The key outside the database.
#[derive(Clone)]
pub struct IndexKey {
    tokens: Key32,
    rows: Aes256Gcm,
}

impl std::fmt::Debug for IndexKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("IndexKey(…)")
    }
}

/// The clear columns of a record's row, all of them bound by its seal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowFacts<'a> {
    /// The record.
    pub id: &'a RecordId,
    /// Its version.
    pub version: u32,
    /// FHIR type, or `Document`.
    pub kind: &'a str,
    /// Its category.
    pub category: Category,
    /// First clinical day.
    pub date0: Option<&'a str>,
    /// Last clinical day.
    pub date1: Option<&'a str>,
    /// Its number.
    pub n: u64,
    /// The epoch of the key-encryption key.
    pub kek_epoch: u32,
    /// The wrapped data key.
    pub wrapped: &'a [u8],
    /// The IPFS object.
    pub cid: &'a str,
    /// Its place among the segment's records.
    pub position: u32,
    /// Where its slice begins.
    pub offset: u64,
    /// How long its slice is.
    pub length: u64,
    /// The record's commitment.
    pub commitment: Digest,
    /// When it was created.
    pub created_at: Timestamp,
}

/// What a row keeps sealed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowSecret {
    /// Whose record it is.
    #[serde(rename = "p")]
    pub patient: PatientId,
    /// Its compartment.
    #[serde(rename = "c")]
    pub compartment: Compartment,
    /// The commitment's salt.
    #[serde(rename = "s")]
    pub salt: Bytes,
    /// SHA-256 of the received bytes.
    #[serde(rename = "h")]
    pub received: Digest,
    /// SHA-256 of the sealed slice.
    #[serde(rename = "x")]
    pub sealed: Digest,
    /// Length of the received bytes.
    #[serde(rename = "b")]
    pub bytes: u64,
    /// Media type of the received bytes.
    #[serde(rename = "m")]
    pub media_type: String,
}

impl RowSecret {
    /// The labels of the record in a row.
    #[must_use]
    pub fn labels(&self, facts: &RowFacts<'_>) -> Labels {
        Labels { category: facts.category, compartment: self.compartment }
    }
}

impl IndexKey {
    /// Derives the two keys in use from the configured one.
    #[must_use]
    pub fn new(key: &Key32) -> Self {
        let hkdf = Hkdf::<Sha256>::new(None, key.expose());
        let mut tokens = Zeroizing::new([0; 32]);
        let mut rows = Zeroizing::new([0; 32]);
        // 32 bytes are always a valid length for HKDF-SHA-256.
        let _always = hkdf.expand(b"hbc/storage-index/v1", &mut *tokens);
        let _always = hkdf.expand(b"hbc/storage-rows/v1", &mut *rows);
        Self { tokens: Key32::new(*tokens), rows: Aes256Gcm::new(&(*rows).into()) }
    }

    /// The token of a value in a field.
    #[must_use]
    pub fn token(&self, field: &str, values: &[&str]) -> Token {
        #[expect(clippy::expect_used, reason = "HMAC takes keys of every length")]
        let mut mac = Hmac::<Sha256>::new_from_slice(self.tokens.expose()).expect("a key");
        mac.update(field.as_bytes());
        for value in values {
            mac.update(&[0]);
            mac.update(value.as_bytes());
        }
        let tag = mac.finalize().into_bytes();
        hex::encode(tag.get(..16).unwrap_or_default())
    }

    /// The patient column.
    #[must_use]
    pub fn patient(&self, patient: &PatientId) -> Token {
        self.token("patient", &[patient.as_str()])
    }

    /// The compartment column.
    #[must_use]
    pub fn compartment(&self, patient: &PatientId, compartment: Compartment) -> Token {
        self.token("compartment", &[patient.as_str(), compartment.code()])
    }

    /// An identifier of a resource type, scoped to the patient.
    #[must_use]
    pub fn identifier(&self, patient: &PatientId, kind: &str, identifier: &Identifier) -> Token {
        self.token("identifier", &[patient.as_str(), kind, &identifier.system, &identifier.value])
    }

    /// A code, scoped to the patient.
    #[must_use]
    pub fn code(&self, patient: &PatientId, system: &str, code: &str) -> Token {
        self.token("code", &[patient.as_str(), system, code])
    }

    /// Seals a row's secret to its clear columns.
    pub fn seal_row(
        &self,
        facts: &RowFacts<'_>,
        secret: &RowSecret,
        random: &Random,
    ) -> Result<Vec<u8>, RowError> {
        let plain = Zeroizing::new(serde_json::to_vec(secret).map_err(|_never| RowError)?);
        let nonce = random.bytes::<NONCE>();
        let payload = Payload { msg: &plain, aad: &facts.aad() };
        let sealed = self.rows.encrypt(&Nonce::from(nonce), payload).map_err(|_aead| RowError)?;
        Ok([nonce.as_slice(), &sealed].concat())
    }

    /// Opens a row's secret.
    pub fn open_row(&self, facts: &RowFacts<'_>, sealed: &[u8]) -> Result<RowSecret, RowError> {
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE>().ok_or(RowError)?;
        let payload = Payload { msg: sealed, aad: &facts.aad() };
        let plain = self.rows.decrypt(&Nonce::from(*nonce), payload).map_err(|_aead| RowError)?;
        serde_json::from_slice(&Zeroizing::new(plain)).map_err(|_json| RowError)
    }
}

impl RowFacts<'_> {
    fn aad(&self) -> Vec<u8> {
        hbc_types::hash::aad(
            "hbc/storage-row/v1",
            &[
                self.id.as_str().as_bytes(),
                &self.version.to_be_bytes(),
                self.kind.as_bytes(),
                self.category.code().as_bytes(),
                self.date0.unwrap_or_default().as_bytes(),
                self.date1.unwrap_or_default().as_bytes(),
                &self.n.to_be_bytes(),
                &self.kek_epoch.to_be_bytes(),
                self.wrapped,
                self.cid.as_bytes(),
                &self.position.to_be_bytes(),
                &self.offset.to_be_bytes(),
                &self.length.to_be_bytes(),
                self.commitment.as_bytes(),
                &self.created_at.ms().to_be_bytes(),
            ],
        )
    }
}

/// A FHIR identifier: system (empty if none) and value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identifier {
    /// The system, or nothing.
    pub system: String,
    /// The value.
    pub value: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> IndexKey {
        IndexKey::new(&Key32::new([7; 32]))
    }

    #[test]
    fn tokens_keep_fields_patients_and_parts_apart() {
        let key = key();
        let (one, two) = (PatientId::random(&Random::seeded(1)), PatientId::random(&Random::seeded(2)));
        assert_ne!(key.compartment(&one, Compartment::Hiv), key.compartment(&two, Compartment::Hiv));
        assert_ne!(key.token("a", &["b"]), key.token("a", &["b", ""]));
        assert_ne!(key.token("code", &["x"]), key.token("patient", &["x"]));
        assert_eq!(key.patient(&one), IndexKey::new(&Key32::new([7; 32])).patient(&one));
        assert_ne!(key.patient(&one), IndexKey::new(&Key32::new([8; 32])).patient(&one));
        assert_eq!(key.patient(&one).len(), 32);
    }

    #[test]
    fn every_clear_column_is_bound() {
        let (key, random) = (key(), Random::seeded(3));
        let id = RecordId::random(&random);
        let facts = RowFacts {
            id: &id,
            version: 1,
            kind: "Observation",
            category: Category::Laboratory,
            date0: Some("2020-01-01"),
            date1: None,
            n: 4,
            kek_epoch: 1,
            wrapped: b"wrap",
            cid: "bafk",
            position: 0,
            offset: 0,
            length: 9,
            commitment: Digest::of(b"c"),
            created_at: Timestamp::from_ms(5),
        };
        let secret = RowSecret {
            patient: PatientId::random(&random),
            compartment: Compartment::Normal,
            salt: Bytes::new(vec![1; 32]),
            received: Digest::of(b"r"),
            sealed: Digest::of(b"s"),
            bytes: 3,
            media_type: "text/plain".to_owned(),
        };
        let sealed = key.seal_row(&facts, &secret, &random).unwrap();
        assert_eq!(key.open_row(&facts, &sealed), Ok(secret));
        for changed in [
            RowFacts { version: 2, ..facts.clone() },
            RowFacts { kind: "Condition", ..facts.clone() },
            RowFacts { category: Category::Condition, ..facts.clone() },
            RowFacts { date0: None, date1: Some("2020-01-01"), ..facts.clone() },
            RowFacts { n: 5, ..facts.clone() },
            RowFacts { kek_epoch: 2, ..facts.clone() },
            RowFacts { wrapped: b"warp", ..facts.clone() },
            RowFacts { cid: "bafy", ..facts.clone() },
            RowFacts { position: 1, ..facts.clone() },
            RowFacts { offset: 1, ..facts.clone() },
            RowFacts { length: 8, ..facts.clone() },
            RowFacts { commitment: Digest::of(b"d"), ..facts.clone() },
            RowFacts { created_at: Timestamp::from_ms(6), ..facts.clone() },
        ] {
            assert_eq!(key.open_row(&changed, &sealed), Err(RowError), "{changed:?}");
        }
    }
}
