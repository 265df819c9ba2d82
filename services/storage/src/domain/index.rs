//! The index key: what makes a dump of storage's database name nobody and no diagnosis.
//!
//! - Tokens: `HMAC-SHA-256(key, field ‖ 0 ‖ value)[..16]`, as 32 hex digits. Sensitivities, codes and identifiers are
//!   hashed together with the patient, so that equal tokens of two patients tell nothing.
//! - Row encryption: what a row must keep but a dump must not tell (whose it is, the commitment's salt, the hash of the
//!   plaintext) under AES-256-GCM, with every clear column as additional data: a label or a number that was changed
//!   by hand in the database no longer opens.
//!
//! - Facts: what a record says to searches, under a third key, bound to the record and its version.
//!
//! Why: decision 0060, and decision 0137 for the facts.

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use hbc_types::ids::{AccountId, PatientId, RecordId};
use hbc_types::labels::Sensitivity;
use hbc_types::saved::SavedAnswer;
use hbc_types::secret::{Bytes, Key32};
use hbc_types::wire::access::Labels;
use hbc_types::{Digest, Random, hash};
use hkdf::Hkdf;
use hmac::{Hmac, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::domain::moment::Span;
use crate::domain::plaintext::bucket;

const NONCE: usize = 12;
/// Bytes of the length that stands before facts.
const LENGTH: usize = 4;

/// How records are indexed now. One that was indexed in an earlier way is brought up to date when it is read.
pub const VERSION: u32 = 2;

/// From this way on, the days of a record say where its period is open.
pub const DATED: u32 = 1;

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
    facts: Aes256Gcm,
}

impl std::fmt::Debug for IndexKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("IndexKey(…)")
    }
}

/// What a row keeps encrypted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowSecret {
    /// Whose record it is.
    #[serde(rename = "p")]
    pub patient: PatientId,
    /// Its sensitivity.
    #[serde(rename = "c")]
    pub sensitivity: Sensitivity,
    /// Who wrote it.
    #[serde(rename = "a")]
    pub author: AccountId,
    /// The commitment's salt.
    #[serde(rename = "s")]
    pub salt: Bytes,
    /// SHA-256 of the received bytes.
    #[serde(rename = "h")]
    pub received: Digest,
    /// SHA-256 of the encrypted slice.
    #[serde(rename = "x")]
    pub encrypted: Digest,
    /// Length of the received bytes.
    #[serde(rename = "b")]
    pub bytes: u64,
    /// Media type of the received bytes.
    #[serde(rename = "m")]
    pub media_type: String,
    /// When what it tells of happened, to the instant.
    #[serde(rename = "w", default, skip_serializing_if = "Option::is_none")]
    pub when: Option<Span>,
    /// Whether this version says that the record is deleted.
    #[serde(rename = "d", default, skip_serializing_if = "std::ops::Not::not")]
    pub deleted: bool,
}

impl IndexKey {
    /// Derives the three keys in use from the configured one.
    #[must_use]
    pub fn new(key: &Key32) -> Self {
        let hkdf = Hkdf::<Sha256>::new(None, key.expose());
        let mut tokens = Zeroizing::new([0; 32]);
        let mut rows = Zeroizing::new([0; 32]);
        let mut facts = Zeroizing::new([0; 32]);
        // 32 bytes are always a valid length for HKDF-SHA-256.
        let _always = hkdf.expand(b"hbc/storage-index/v1", &mut *tokens);
        let _always = hkdf.expand(b"hbc/storage-rows/v1", &mut *rows);
        let _always = hkdf.expand(b"hbc/storage-facts/v1", &mut *facts);
        Self {
            tokens: Key32::new(*tokens),
            rows: Aes256Gcm::new(&(*rows).into()),
            facts: Aes256Gcm::new(&(*facts).into()),
        }
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

    /// Who writes.
    #[must_use]
    pub fn author(&self, author: &AccountId) -> Token {
        self.token("author", &[author.as_str()])
    }

    /// The sensitivity column.
    #[must_use]
    pub fn sensitivity(&self, patient: &PatientId, sensitivity: Sensitivity) -> Token {
        self.token("sensitivity", &[patient.as_str(), sensitivity.code()])
    }

    /// An identifier of a resource type, scoped to the patient.
    #[must_use]
    pub fn identifier(&self, patient: &PatientId, kind: &str, identifier: &Identifier) -> Token {
        let Identifier { system, value } = identifier;
        self.token("identifier", &[patient.as_str(), kind, system, value])
    }

    /// What a search for identifiers looks up, scoped to the patient.
    #[must_use]
    pub fn sought(&self, patient: &PatientId, kind: &str, sought: &Sought) -> Token {
        match sought {
            Sought::Exact(identifier) => self.identifier(patient, kind, identifier),
            Sought::Value(value) => self.token("identifier-value", &[patient.as_str(), kind, value]),
            Sought::System(system) => self.token("identifier-system", &[patient.as_str(), kind, system]),
        }
    }

    /// All that a record is found by.
    #[must_use]
    pub fn search(
        &self,
        patient: &PatientId,
        kind: &str,
        identifiers: &[Identifier],
        codes: &[(String, String)],
    ) -> Vec<Token> {
        let sought = identifiers.iter().flat_map(Sought::all);
        let codes = codes.iter().map(|(system, code)| self.code(patient, system, code));
        let mut tokens: Vec<Token> =
            sought.map(|sought| self.sought(patient, kind, &sought)).chain(codes).collect();
        tokens.sort_unstable();
        tokens.dedup();
        tokens
    }

    /// A condition of a type, whatever it is.
    #[must_use]
    pub fn criteria(&self, patient: &PatientId, kind: &str, condition: &str) -> Token {
        self.token("criteria", &[patient.as_str(), kind, condition])
    }

    /// A condition, under which one record is created for each label set: whoever creates it, or one of each author where
    /// `author` is given.
    #[must_use]
    pub fn condition(
        &self,
        patient: &PatientId,
        kind: &str,
        condition: Condition<'_>,
        labels: Labels,
        author: Option<&AccountId>,
    ) -> Token {
        let Labels { category, sensitivity } = labels;
        let author = author.map_or("", AccountId::as_str);
        let rest = [category.code(), sensitivity.code(), author];
        let parts: Vec<&str> = match condition {
            Condition::Identifier(Identifier { system, value }) => {
                [patient.as_str(), kind, system, value].into_iter().chain(rest).collect()
            }
            // One part less: no such text is one of the others.
            Condition::Any(text) => [patient.as_str(), kind, text].into_iter().chain(rest).collect(),
        };
        self.token("condition", &parts)
    }

    /// A code, scoped to the patient.
    #[must_use]
    pub fn code(&self, patient: &PatientId, system: &str, code: &str) -> Token {
        self.token("code", &[patient.as_str(), system, code])
    }

    /// Encrypts a row's secret to what its authentication tag binds.
    pub fn encrypt_row(
        &self,
        bound: &[u8],
        secret: &RowSecret,
        random: &Random,
    ) -> Result<Vec<u8>, RowError> {
        let plain = Zeroizing::new(serde_json::to_vec(secret).map_err(|_never| RowError)?);
        let nonce = random.bytes::<NONCE>();
        let payload = Payload { msg: &plain, aad: bound };
        let encrypted = self.rows.encrypt(&Nonce::from(nonce), payload).map_err(|_aead| RowError)?;
        Ok([nonce.as_slice(), &encrypted].concat())
    }

    /// Encrypts what a record version says to searches. It is filled up to a size bucket, so that its length tells little.
    pub fn encrypt_facts(
        &self,
        record: &RecordId,
        version: u32,
        facts: &[u8],
        random: &Random,
    ) -> Result<Vec<u8>, RowError> {
        let length = u32::try_from(facts.len()).map_err(|_range| RowError)?;
        let mut plain = Zeroizing::new(Vec::with_capacity(bucket(facts.len() + LENGTH)));
        plain.extend_from_slice(&length.to_be_bytes());
        plain.extend_from_slice(facts);
        plain.resize(bucket(facts.len() + LENGTH), 0);
        let (nonce, bound) = (random.bytes::<NONCE>(), facts_bound(record, version));
        let payload = Payload { msg: &plain, aad: &bound };
        let encrypted = self.facts.encrypt(&Nonce::from(nonce), payload).map_err(|_aead| RowError)?;
        Ok([nonce.as_slice(), &encrypted].concat())
    }

    /// Opens what [`Self::encrypt_facts`] made for the same version of the same record.
    pub fn open_facts(
        &self,
        record: &RecordId,
        version: u32,
        encrypted: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, RowError> {
        let (nonce, encrypted) = encrypted.split_first_chunk::<NONCE>().ok_or(RowError)?;
        let bound = facts_bound(record, version);
        let payload = Payload { msg: encrypted, aad: &bound };
        let plain = self.facts.decrypt(&Nonce::from(*nonce), payload).map_err(|_aead| RowError)?;
        let mut plain = Zeroizing::new(plain);
        let (length, facts) = plain.split_first_chunk::<LENGTH>().ok_or(RowError)?;
        let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_range| RowError)?;
        if length > facts.len() {
            return Err(RowError);
        }
        plain.drain(..LENGTH);
        plain.truncate(length);
        Ok(plain)
    }

    /// An answer as it is kept: its place and body may name the account, which storage's database does not know.
    pub fn hide_answer(&self, answer: &SavedAnswer, random: &Random) -> Result<SavedAnswer, RowError> {
        let SavedAnswer { id, fingerprint, status, headers, body, saved_at } = answer;
        let plain = Zeroizing::new(serde_json::to_vec(&(headers, body)).map_err(|_never| RowError)?);
        let (nonce, bound) = (random.bytes::<NONCE>(), answer_bound(*id, *fingerprint, *status));
        let payload = Payload { msg: &plain, aad: &bound };
        let encrypted = self.rows.encrypt(&Nonce::from(nonce), payload).map_err(|_aead| RowError)?;
        Ok(SavedAnswer {
            id: *id,
            fingerprint: *fingerprint,
            status: *status,
            headers: Vec::new(),
            body: hex::encode([nonce.as_slice(), &encrypted].concat()),
            saved_at: *saved_at,
        })
    }

    /// Opens what [`Self::hide_answer`] made.
    pub fn show_answer(&self, kept: &SavedAnswer) -> Result<SavedAnswer, RowError> {
        let hidden = hex::decode(&kept.body).map_err(|_not_hex| RowError)?;
        let (nonce, encrypted) = hidden.split_first_chunk::<NONCE>().ok_or(RowError)?;
        let bound = answer_bound(kept.id, kept.fingerprint, kept.status);
        let payload = Payload { msg: encrypted, aad: &bound };
        let plain = self.rows.decrypt(&Nonce::from(*nonce), payload).map_err(|_aead| RowError)?;
        let (headers, body) = serde_json::from_slice(&Zeroizing::new(plain)).map_err(|_json| RowError)?;
        let SavedAnswer { id, fingerprint, status, saved_at, .. } = *kept;
        Ok(SavedAnswer { id, fingerprint, status, headers, body, saved_at })
    }

    /// Opens a row's secret.
    pub fn open_row(&self, bound: &[u8], encrypted: &[u8]) -> Result<RowSecret, RowError> {
        let (nonce, encrypted) = encrypted.split_first_chunk::<NONCE>().ok_or(RowError)?;
        let payload = Payload { msg: encrypted, aad: bound };
        let plain = self.rows.decrypt(&Nonce::from(*nonce), payload).map_err(|_aead| RowError)?;
        serde_json::from_slice(&Zeroizing::new(plain)).map_err(|_json| RowError)
    }
}

/// Whose facts they are.
fn facts_bound(record: &RecordId, version: u32) -> Vec<u8> {
    hash::aad("hbc/storage-facts/v1", &[record.as_str().as_bytes(), &version.to_be_bytes()])
}

/// What an answer is kept for.
fn answer_bound(id: Digest, fingerprint: Digest, status: u16) -> Vec<u8> {
    hash::aad("hbc/storage-answer/v1", &[id.as_bytes(), fingerprint.as_bytes(), &status.to_be_bytes()])
}

/// A FHIR identifier: system (empty if none) and value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identifier {
    /// The system, or nothing.
    pub system: String,
    /// The value.
    pub value: String,
}

/// What a search for identifiers names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Sought {
    /// `system|value`, or `|value`: of that system, or of none.
    Exact(Identifier),
    /// `value`: of whatever system.
    Value(String),
    /// `system|`: whatever value.
    System(String),
}

impl Sought {
    /// All that name an identifier.
    pub fn all(identifier: &Identifier) -> impl Iterator<Item = Self> {
        let Identifier { system, value } = identifier.clone();
        let of_system = (!system.is_empty()).then_some(Self::System(system));
        [Self::Exact(identifier.clone()), Self::Value(value)].into_iter().chain(of_system)
    }
}

/// Under what a record is created once.
#[derive(Clone, Copy, Debug)]
pub enum Condition<'c> {
    /// One identifier.
    Identifier(&'c Identifier),
    /// Anything else, in one spelling.
    Any(&'c str),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> IndexKey {
        IndexKey::new(&Key32::new([7; 32]))
    }

    #[test]
    fn a_kept_answer_tells_nothing_and_answers_its_own_request_alone() {
        let (key, random) = (IndexKey::new(&Key32::new([7; 32])), Random::seeded(11));
        let answer = SavedAnswer {
            id: Digest::of(b"id"),
            fingerprint: Digest::of(b"request"),
            status: 201,
            headers: vec![("location".to_owned(), "https://hbc.test/fhir/Patient/pat-1".to_owned())],
            body: "{}".to_owned(),
            saved_at: hbc_types::Timestamp::from_ms(5),
        };
        let kept = key.hide_answer(&answer, &random).unwrap();
        assert!(kept.headers.is_empty() && !kept.body.contains("pat-1"));
        assert_eq!(key.show_answer(&kept).ok(), Some(answer.clone()));
        assert!(key.show_answer(&SavedAnswer { id: Digest::of(b"other"), ..kept.clone() }).is_err());
        assert!(key.show_answer(&SavedAnswer { status: 200, ..kept }).is_err());
        assert!(key.show_answer(&answer).is_err(), "another hand's");
    }

    #[test]
    fn facts_open_for_their_own_version_alone_and_lengths_tell_little() {
        let (key, random) = (key(), Random::seeded(3));
        let (one, other) = (RecordId::random(&random), RecordId::random(&random));
        let kept = key.encrypt_facts(&one, 1, b"{}", &random).unwrap();
        assert_eq!(key.open_facts(&one, 1, &kept).unwrap().as_slice(), b"{}");
        assert_eq!(kept.len(), key.encrypt_facts(&one, 1, &[b'x'; 500], &random).unwrap().len());
        assert!(key.open_facts(&other, 1, &kept).is_err() && key.open_facts(&one, 2, &kept).is_err());
        let mut changed = kept.clone();
        *changed.last_mut().unwrap() ^= 1;
        assert!(key.open_facts(&one, 1, &changed).is_err() && key.open_facts(&one, 1, &kept[..20]).is_err());
        assert!(!kept.windows(2).any(|pair| pair == b"{}"), "by chance once in many runs of other seeds");
    }

    #[test]
    fn tokens_keep_fields_patients_and_parts_apart() {
        let key = key();
        let (one, two) = (PatientId::random(&Random::seeded(1)), PatientId::random(&Random::seeded(2)));
        assert_ne!(key.sensitivity(&one, Sensitivity::Hiv), key.sensitivity(&two, Sensitivity::Hiv));
        assert_ne!(key.token("a", &["b"]), key.token("a", &["b", ""]));
        assert_ne!(key.token("code", &["x"]), key.token("patient", &["x"]));
        assert_eq!(key.patient(&one), IndexKey::new(&Key32::new([7; 32])).patient(&one));
        assert_ne!(key.patient(&one), IndexKey::new(&Key32::new([8; 32])).patient(&one));
        assert_eq!(key.patient(&one).len(), 32);
    }
}
