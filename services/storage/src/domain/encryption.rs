//! Encrypting a record: the C2SP construction `chunked-encryption@v1` with HKDF-Expand-SHA-256 and AES-256-GCM.
//!
//! The data key encrypts one record version and nothing else. From it, a random salt and the context come an AES
//! key, a base nonce and a commitment to all of them; the plaintext is cut into chunks of 16 KiB, the last one
//! always shorter, encrypted under the base nonce XOR the chunk's number. So nothing can be cut off, swapped, moved
//! to another record or version, or opened under a second key.
//!
//! Encrypted form: `salt 24 ‖ commitment 32 ‖ chunks, each with its tag of 16`.
//! Context: `aad("hbc/seal/v1", record id, version u32, patient, category, sensitivity, n u64)`.

use aes_gcm::aead::{Aead, KeyInit};
use aes_gcm::{Aes256Gcm, Nonce};
use hbc_types::Random;
use hbc_types::ids::{PatientId, RecordId};
use hbc_types::secret::Key32;
use hbc_types::wire::access::Labels;
use hkdf::Hkdf;
use sha2::Sha256;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

const INFO: &[u8] = b"c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM\0";
const DOMAIN: &str = "hbc/seal/v1";
const CHUNK: usize = 16 * 1024;
const TAG: usize = 16;
const SALT: usize = 24;
const HEAD: usize = SALT + 32;

/// The record does not open: another key, another context, or changed bytes. Deliberately one answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the encrypted record does not open")]
pub struct EncryptionError;

/// What the encryption is bound to.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// The record.
    pub record: &'a RecordId,
    /// Its version.
    pub version: u32,
    /// Whose it is.
    pub patient: &'a PatientId,
    /// Its labels.
    pub labels: Labels,
    /// Its number in (patient, sensitivity, category).
    pub n: u64,
}

impl Context<'_> {
    fn to_bytes(self) -> Vec<u8> {
        let Self { record, version, patient, labels: Labels { category, sensitivity }, n } = self;
        hbc_types::hash::aad(
            DOMAIN,
            &[
                record.as_str().as_bytes(),
                &version.to_be_bytes(),
                patient.as_str().as_bytes(),
                category.code().as_bytes(),
                sensitivity.code().as_bytes(),
                &n.to_be_bytes(),
            ],
        )
    }
}

struct Schedule {
    cipher: Aes256Gcm,
    base_nonce: [u8; 12],
    commitment: [u8; 32],
}

impl Schedule {
    fn derive(key: &Key32, salt: &[u8; SALT], context: &[u8]) -> Result<Self, EncryptionError> {
        let mut okm = Zeroizing::new([0_u8; 32 + 12 + 32]);
        let hkdf = Hkdf::<Sha256>::from_prk(key.expose()).map_err(|_length| EncryptionError)?;
        hkdf.expand_multi_info(&[INFO, salt, context], &mut *okm).map_err(|_length| EncryptionError)?;
        let (aes_key, rest) = okm.split_first_chunk::<32>().ok_or(EncryptionError)?;
        let (base_nonce, rest) = rest.split_first_chunk::<12>().ok_or(EncryptionError)?;
        let commitment = rest.first_chunk::<32>().ok_or(EncryptionError)?;
        let cipher = Aes256Gcm::new(&(*aes_key).into());
        Ok(Self { cipher, base_nonce: *base_nonce, commitment: *commitment })
    }

    /// The base nonce XOR the chunk's number as a big-endian integer of its width.
    fn nonce(&self, chunk: usize) -> Nonce<aes_gcm::aead::consts::U12> {
        let mut nonce = self.base_nonce;
        for (byte, number) in nonce.iter_mut().rev().zip((chunk as u64).to_le_bytes()) {
            *byte ^= number;
        }
        nonce.into()
    }
}

/// Length of the encrypted form of `plaintext` bytes.
#[must_use]
pub const fn encrypted_length(plaintext: usize) -> usize {
    HEAD + plaintext + (plaintext / CHUNK + 1) * TAG
}

/// Encrypts `plaintext`.
pub fn encrypt(
    key: &Key32,
    context: Context<'_>,
    plaintext: &[u8],
    random: &Random,
) -> Result<Vec<u8>, EncryptionError> {
    encrypt_with_salt(key, &context.to_bytes(), plaintext, random.bytes::<SALT>())
}

fn encrypt_with_salt(
    key: &Key32,
    context: &[u8],
    plaintext: &[u8],
    salt: [u8; SALT],
) -> Result<Vec<u8>, EncryptionError> {
    let schedule = Schedule::derive(key, &salt, context)?;
    let mut encrypted = Vec::with_capacity(encrypted_length(plaintext.len()));
    encrypted.extend_from_slice(&salt);
    encrypted.extend_from_slice(&schedule.commitment);
    // A plaintext that ends on a chunk's border is followed by an empty chunk: the last one is always short.
    for number in 0..=plaintext.len() / CHUNK {
        let start = number * CHUNK;
        let end = plaintext.len().min(start + CHUNK);
        let chunk = plaintext.get(start..end).ok_or(EncryptionError)?;
        let bytes =
            schedule.cipher.encrypt(&schedule.nonce(number), chunk).map_err(|_aead| EncryptionError)?;
        encrypted.extend_from_slice(&bytes);
    }
    Ok(encrypted)
}

/// Opens an encrypted record whole. Nothing of the plaintext is given away before everything verified.
pub fn open(
    key: &Key32,
    context: Context<'_>,
    encrypted: &[u8],
) -> Result<Zeroizing<Vec<u8>>, EncryptionError> {
    open_bytes(key, &context.to_bytes(), encrypted)
}

fn open_bytes(key: &Key32, context: &[u8], encrypted: &[u8]) -> Result<Zeroizing<Vec<u8>>, EncryptionError> {
    let (salt, rest) = encrypted.split_first_chunk::<SALT>().ok_or(EncryptionError)?;
    let (commitment, chunks) = rest.split_first_chunk::<32>().ok_or(EncryptionError)?;
    let schedule = Schedule::derive(key, salt, context)?;
    if !bool::from(schedule.commitment.ct_eq(commitment)) {
        return Err(EncryptionError);
    }
    let count = chunks.len() / (CHUNK + TAG);
    let mut plaintext = Zeroizing::new(Vec::with_capacity(chunks.len()));
    for number in 0..=count {
        let start = number * (CHUNK + TAG);
        let end = chunks.len().min(start + CHUNK + TAG);
        let chunk = chunks.get(start..end).filter(|chunk| chunk.len() >= TAG).ok_or(EncryptionError)?;
        let opened =
            schedule.cipher.decrypt(&schedule.nonce(number), chunk).map_err(|_aead| EncryptionError)?;
        plaintext.extend_from_slice(&Zeroizing::new(opened));
    }
    Ok(plaintext)
}

#[cfg(test)]
mod tests {
    use hbc_types::labels::{Category, Sensitivity};
    use proptest::prelude::*;

    use super::*;

    const LABELS: Labels = Labels { category: Category::Laboratory, sensitivity: Sensitivity::Normal };

    fn ids() -> (RecordId, PatientId) {
        (
            RecordId::parse("rec-000102030405060708090a0b0c0d0e0f").unwrap(),
            PatientId::parse("pat-101112131415161718191a1b1c1d1e1f").unwrap(),
        )
    }

    /// Computed by an independent implementation (Python's `cryptography`), and part of docs/FORMATS.md.
    #[test]
    fn the_document_states_these_encrypts() {
        let (record, patient) = ids();
        let context = Context { record: &record, version: 1, patient: &patient, labels: LABELS, n: 7 };
        let key = Key32::new([0x42; 32]);
        let encrypted = encrypt_with_salt(&key, &context.to_bytes(), b"hello record", [0x24; 24]).unwrap();
        // The document breaks its lines where it likes.
        let document: String = include_str!("../../../../docs/FORMATS.md").split_whitespace().collect();
        let stated =
            |line: &str| assert!(document.contains(&line.replace(' ', "")), "docs/FORMATS.md: {line}");
        stated(&format!("encryption of \"hello record\" = {} SHA-256", hex::encode(&encrypted)));
        let long: Vec<u8> = (0..40_000_u32).map(|i| i.to_be_bytes()[3]).collect();
        let encrypted = encrypt_with_salt(&key, &context.to_bytes(), &long, [0x24; 24]).unwrap();
        let digest = hbc_types::Digest::of(&encrypted);
        stated(&format!("SHA-256(encryption of the 40,000 bytes 00 01 … ff 00 01 …) = {digest} tag"));
        assert_eq!(encrypted.len(), encrypted_length(long.len()));
    }

    #[test]
    fn every_part_of_the_context_counts() {
        let (record, patient) = ids();
        let other_record = RecordId::parse("rec-ff0102030405060708090a0b0c0d0e0f").unwrap();
        let other_patient = PatientId::directory();
        let context = Context { record: &record, version: 1, patient: &patient, labels: LABELS, n: 7 };
        let key = Key32::new([1; 32]);
        let encrypted = encrypt(&key, context, b"x", &Random::seeded(1)).unwrap();
        assert_eq!(open(&key, context, &encrypted).unwrap().as_slice(), b"x");
        let category = Labels { category: Category::Condition, ..LABELS };
        let sensitivity = Labels { sensitivity: Sensitivity::Hiv, ..LABELS };
        for changed in [
            Context { record: &other_record, ..context },
            Context { version: 2, ..context },
            Context { patient: &other_patient, ..context },
            Context { labels: category, ..context },
            Context { labels: sensitivity, ..context },
            Context { n: 8, ..context },
        ] {
            assert_eq!(open(&key, changed, &encrypted), Err(EncryptionError), "{changed:?}");
        }
        assert_eq!(open(&Key32::new([2; 32]), context, &encrypted), Err(EncryptionError));
    }

    #[test]
    fn nothing_can_be_cut_swapped_or_appended() {
        let (record, patient) = ids();
        let context = Context { record: &record, version: 1, patient: &patient, labels: LABELS, n: 1 };
        let key = Key32::new([3; 32]);
        let plaintext = vec![9; 3 * CHUNK];
        let encrypted = encrypt(&key, context, &plaintext, &Random::seeded(2)).unwrap();
        assert_eq!(open(&key, context, &encrypted).unwrap().as_slice(), plaintext);
        let step = CHUNK + TAG;
        for end in [
            0,
            HEAD - 1,
            HEAD,
            HEAD + TAG,
            HEAD + step,
            HEAD + 2 * step,
            HEAD + 3 * step,
            encrypted.len() - 1,
        ] {
            assert_eq!(open(&key, context, &encrypted[..end]), Err(EncryptionError), "cut at {end}");
        }
        let mut swapped = encrypted.clone();
        let (first, second) = swapped[HEAD..].split_at_mut(step);
        first.swap_with_slice(&mut second[..step]);
        assert_eq!(open(&key, context, &swapped), Err(EncryptionError));
        let mut longer = encrypted;
        longer.push(0);
        assert_eq!(open(&key, context, &longer), Err(EncryptionError));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn one_flipped_bit_closes_it(
            length in 0_usize..40_000, position in any::<proptest::sample::Index>(), bit in 0_u8..8,
        ) {
            let (record, patient) = ids();
            let context = Context { record: &record, version: 1, patient: &patient, labels: LABELS, n: 1 };
            let key = Key32::new([5; 32]);
            let plaintext = vec![7; length];
            let mut encrypted = encrypt(&key, context, &plaintext, &Random::seeded(3)).unwrap();
            prop_assert_eq!(encrypted.len(), encrypted_length(length));
            let opened = open(&key, context, &encrypted).unwrap();
            prop_assert_eq!(opened.as_slice(), &plaintext[..]);
            let at = position.index(encrypted.len());
            encrypted[at] ^= 1 << bit;
            prop_assert_eq!(open(&key, context, &encrypted), Err(EncryptionError));
        }
    }
}
