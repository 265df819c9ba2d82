//! Sealing a record: the C2SP construction `chunked-encryption@v1` with HKDF-Expand-SHA-256 and AES-256-GCM.
//!
//! The data key seals one record version and nothing else. From it, a random salt and the context come an AES
//! key, a base nonce and a commitment to all of them; the plaintext is cut into chunks of 16 KiB, the last one
//! always shorter, sealed under the base nonce XOR the chunk's number. So nothing can be cut off, swapped, moved
//! to another record or version, or opened under a second key.
//!
//! Sealed form: `salt 24 ‖ commitment 32 ‖ chunks, each with its tag of 16`.
//! Context: `aad("hbc/seal/v1", record id, version u32, patient, category, compartment, n u64)`.

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

/// The seal does not open: another key, another context, or changed bytes. Deliberately one answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the sealed record does not open")]
pub struct SealError;

/// What a seal is bound to.
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
    /// Its number in (patient, compartment, category).
    pub n: u64,
}

impl Context<'_> {
    fn to_bytes(self) -> Vec<u8> {
        let Self { record, version, patient, labels: Labels { category, compartment }, n } = self;
        hbc_types::hash::aad(
            DOMAIN,
            &[
                record.as_str().as_bytes(),
                &version.to_be_bytes(),
                patient.as_str().as_bytes(),
                category.code().as_bytes(),
                compartment.code().as_bytes(),
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
    fn derive(key: &Key32, salt: &[u8; SALT], context: &[u8]) -> Result<Self, SealError> {
        let mut okm = Zeroizing::new([0_u8; 32 + 12 + 32]);
        let hkdf = Hkdf::<Sha256>::from_prk(key.expose()).map_err(|_length| SealError)?;
        hkdf.expand_multi_info(&[INFO, salt, context], &mut *okm).map_err(|_length| SealError)?;
        let (aes_key, rest) = okm.split_first_chunk::<32>().ok_or(SealError)?;
        let (base_nonce, rest) = rest.split_first_chunk::<12>().ok_or(SealError)?;
        let commitment = rest.first_chunk::<32>().ok_or(SealError)?;
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

/// Length of the sealed form of `plaintext` bytes.
#[must_use]
pub const fn sealed_length(plaintext: usize) -> usize {
    HEAD + plaintext + (plaintext / CHUNK + 1) * TAG
}

/// Seals `plaintext`.
pub fn seal(
    key: &Key32,
    context: Context<'_>,
    plaintext: &[u8],
    random: &Random,
) -> Result<Vec<u8>, SealError> {
    seal_with_salt(key, &context.to_bytes(), plaintext, random.bytes::<SALT>())
}

fn seal_with_salt(
    key: &Key32,
    context: &[u8],
    plaintext: &[u8],
    salt: [u8; SALT],
) -> Result<Vec<u8>, SealError> {
    let schedule = Schedule::derive(key, &salt, context)?;
    let mut sealed = Vec::with_capacity(sealed_length(plaintext.len()));
    sealed.extend_from_slice(&salt);
    sealed.extend_from_slice(&schedule.commitment);
    // A plaintext that ends on a chunk's border is followed by an empty chunk: the last one is always short.
    for number in 0..=plaintext.len() / CHUNK {
        let start = number * CHUNK;
        let end = plaintext.len().min(start + CHUNK);
        let chunk = plaintext.get(start..end).ok_or(SealError)?;
        let bytes = schedule.cipher.encrypt(&schedule.nonce(number), chunk).map_err(|_aead| SealError)?;
        sealed.extend_from_slice(&bytes);
    }
    Ok(sealed)
}

/// Opens a seal whole. Nothing of the plaintext is given away before everything verified.
pub fn open(key: &Key32, context: Context<'_>, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
    open_bytes(key, &context.to_bytes(), sealed)
}

fn open_bytes(key: &Key32, context: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
    let (salt, rest) = sealed.split_first_chunk::<SALT>().ok_or(SealError)?;
    let (commitment, chunks) = rest.split_first_chunk::<32>().ok_or(SealError)?;
    let schedule = Schedule::derive(key, salt, context)?;
    if !bool::from(schedule.commitment.ct_eq(commitment)) {
        return Err(SealError);
    }
    let count = chunks.len() / (CHUNK + TAG);
    let mut plaintext = Zeroizing::new(Vec::with_capacity(chunks.len()));
    for number in 0..=count {
        let start = number * (CHUNK + TAG);
        let end = chunks.len().min(start + CHUNK + TAG);
        let chunk = chunks.get(start..end).filter(|chunk| chunk.len() >= TAG).ok_or(SealError)?;
        let opened = schedule.cipher.decrypt(&schedule.nonce(number), chunk).map_err(|_aead| SealError)?;
        plaintext.extend_from_slice(&Zeroizing::new(opened));
    }
    Ok(plaintext)
}

#[cfg(test)]
mod tests {
    use hbc_types::labels::{Category, Compartment};
    use proptest::prelude::*;

    use super::*;

    const LABELS: Labels = Labels { category: Category::Laboratory, compartment: Compartment::Normal };

    fn ids() -> (RecordId, PatientId) {
        (
            RecordId::parse("rec-000102030405060708090a0b0c0d0e0f").unwrap(),
            PatientId::parse("pat-101112131415161718191a1b1c1d1e1f").unwrap(),
        )
    }

    /// Computed by an independent implementation (Python's `cryptography`), and part of docs/FORMATS.md.
    #[test]
    fn the_document_states_these_seals() {
        let (record, patient) = ids();
        let context = Context { record: &record, version: 1, patient: &patient, labels: LABELS, n: 7 };
        let key = Key32::new([0x42; 32]);
        let sealed = seal_with_salt(&key, &context.to_bytes(), b"hello record", [0x24; 24]).unwrap();
        // The document breaks its lines where it likes.
        let document: String = include_str!("../../../../docs/FORMATS.md").split_whitespace().collect();
        let stated =
            |line: &str| assert!(document.contains(&line.replace(' ', "")), "docs/FORMATS.md: {line}");
        stated(&format!("seal of \"hello record\" = {} SHA-256", hex::encode(&sealed)));
        let long: Vec<u8> = (0..40_000_u32).map(|i| i.to_be_bytes()[3]).collect();
        let sealed = seal_with_salt(&key, &context.to_bytes(), &long, [0x24; 24]).unwrap();
        let digest = hbc_types::Digest::of(&sealed);
        stated(&format!("SHA-256(seal of the 40,000 bytes 00 01 … ff 00 01 …) = {digest} tag"));
        assert_eq!(sealed.len(), sealed_length(long.len()));
    }

    #[test]
    fn every_part_of_the_context_counts() {
        let (record, patient) = ids();
        let other_record = RecordId::parse("rec-ff0102030405060708090a0b0c0d0e0f").unwrap();
        let other_patient = PatientId::directory();
        let context = Context { record: &record, version: 1, patient: &patient, labels: LABELS, n: 7 };
        let key = Key32::new([1; 32]);
        let sealed = seal(&key, context, b"x", &Random::seeded(1)).unwrap();
        assert_eq!(open(&key, context, &sealed).unwrap().as_slice(), b"x");
        let category = Labels { category: Category::Condition, ..LABELS };
        let compartment = Labels { compartment: Compartment::Hiv, ..LABELS };
        for changed in [
            Context { record: &other_record, ..context },
            Context { version: 2, ..context },
            Context { patient: &other_patient, ..context },
            Context { labels: category, ..context },
            Context { labels: compartment, ..context },
            Context { n: 8, ..context },
        ] {
            assert_eq!(open(&key, changed, &sealed), Err(SealError), "{changed:?}");
        }
        assert_eq!(open(&Key32::new([2; 32]), context, &sealed), Err(SealError));
    }

    #[test]
    fn nothing_can_be_cut_swapped_or_appended() {
        let (record, patient) = ids();
        let context = Context { record: &record, version: 1, patient: &patient, labels: LABELS, n: 1 };
        let key = Key32::new([3; 32]);
        let plaintext = vec![9; 3 * CHUNK];
        let sealed = seal(&key, context, &plaintext, &Random::seeded(2)).unwrap();
        assert_eq!(open(&key, context, &sealed).unwrap().as_slice(), plaintext);
        let step = CHUNK + TAG;
        for end in
            [0, HEAD - 1, HEAD, HEAD + TAG, HEAD + step, HEAD + 2 * step, HEAD + 3 * step, sealed.len() - 1]
        {
            assert_eq!(open(&key, context, &sealed[..end]), Err(SealError), "cut at {end}");
        }
        let mut swapped = sealed.clone();
        let (first, second) = swapped[HEAD..].split_at_mut(step);
        first.swap_with_slice(&mut second[..step]);
        assert_eq!(open(&key, context, &swapped), Err(SealError));
        let mut longer = sealed;
        longer.push(0);
        assert_eq!(open(&key, context, &longer), Err(SealError));
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
            let mut sealed = seal(&key, context, &plaintext, &Random::seeded(3)).unwrap();
            prop_assert_eq!(sealed.len(), sealed_length(length));
            let opened = open(&key, context, &sealed).unwrap();
            prop_assert_eq!(opened.as_slice(), &plaintext[..]);
            let at = position.index(sealed.len());
            sealed[at] ^= 1 << bit;
            prop_assert_eq!(open(&key, context, &sealed), Err(SealError));
        }
    }
}
