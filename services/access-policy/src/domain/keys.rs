//! The key hierarchy: master key → key-encryption key (KEK) per patient, sensitivity and epoch → data key (DEK) per
//! record version. Everything here is in memory and short-lived; what is stored is only wraps.
//!
//! Wraps are AES-256-GCM with 96-bit nonces: `nonce 12 ‖ ciphertext 32 ‖ tag 16`. GCM and not RFC 3394 key wrap, because
//! a wrap must be bound to where it belongs, and key wrap has no associated data. The nonces are random or, for data
//! keys, HMAC outputs under a random seed that is used for one intent only; with fewer than 2^32 wraps under one key the
//! chance that two of them meet is below 2^-32, and no patient comes near that many record versions.
//!
//! Why: decision 0051.

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use hbc_types::ids::{IntentId, PatientId, RecordId};
use hbc_types::labels::Sensitivity;
use hbc_types::secret::Key32;
use hbc_types::wire::access::Labels;
use hbc_types::{Digest, Random, hash};
use hkdf::Hkdf;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use zeroize::{Zeroize, Zeroizing};

/// Bytes of every wrap.
#[cfg(test)]
const WRAP_BYTES: usize = NONCE_BYTES + 32 + 16;
const NONCE_BYTES: usize = 12;

/// A wrap does not open under this key and context: it was changed, swapped or belongs elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a wrapped key does not open in this context")]
pub struct UnwrapError;

/// The key above all others; it comes from a file outside the data folder.
pub struct MasterKey(Aes256Gcm);

impl std::fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MasterKey(…)")
    }
}

/// Which KEK.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KekId {
    /// Whose.
    pub patient: PatientId,
    /// Of which sensitivity.
    pub sensitivity: Sensitivity,
    /// From which epoch, counted from 1.
    pub epoch: u32,
}

impl MasterKey {
    /// Uses `key`.
    #[must_use]
    pub fn new(key: &Key32) -> Self {
        Self(cipher(key.expose()))
    }

    /// A fresh KEK and its wrap, bound to the patient's pinned root: swap the pin, and no KEK opens.
    #[must_use]
    pub fn new_kek(&self, id: &KekId, root: &Digest, random: &Random) -> (Kek, Vec<u8>) {
        let mut bytes = Zeroizing::new(random.bytes::<32>());
        let wrapped = wrap(&self.0, random.bytes(), &bytes, &kek_aad(id, root));
        let kek = Kek::new(&bytes);
        bytes.zeroize();
        (kek, wrapped)
    }

    /// The wrap of a KEK under the root that takes another's place; the KEK itself stays.
    pub fn rewrap_kek(
        &self,
        id: &KekId,
        (from, to): (&Digest, &Digest),
        wrapped: &[u8],
        random: &Random,
    ) -> Result<Vec<u8>, UnwrapError> {
        let bytes = unwrap(&self.0, wrapped, &kek_aad(id, from))?;
        Ok(wrap(&self.0, random.bytes(), &bytes, &kek_aad(id, to)))
    }

    /// Opens a stored KEK.
    pub fn open_kek(&self, id: &KekId, root: &Digest, wrapped: &[u8]) -> Result<Kek, UnwrapError> {
        unwrap(&self.0, wrapped, &kek_aad(id, root)).map(|bytes| Kek::new(&bytes))
    }
}

fn kek_aad(id: &KekId, root: &Digest) -> Vec<u8> {
    let KekId { patient, sensitivity, epoch } = id;
    let parts: [&[u8]; 4] =
        [patient.as_str().as_bytes(), sensitivity.code().as_bytes(), &epoch.to_be_bytes(), root.as_bytes()];
    hash::aad("hbc/kek/v1", &parts)
}

/// What a data key is bound to.
#[derive(Clone, Copy, Debug)]
pub struct RecordSlot<'a> {
    /// Whose record.
    pub patient: &'a PatientId,
    /// Which record.
    pub record: &'a RecordId,
    /// Its version.
    pub version: u32,
    /// Its labels.
    pub labels: Labels,
    /// Its number.
    pub n: u64,
}

impl RecordSlot<'_> {
    fn list(&self, domain: &str) -> Vec<u8> {
        let Self { patient, record, version, labels: Labels { category, sensitivity }, n } = self;
        let parts: [&[u8]; 6] = [
            record.as_str().as_bytes(),
            &version.to_be_bytes(),
            patient.as_str().as_bytes(),
            category.code().as_bytes(),
            sensitivity.code().as_bytes(),
            &n.to_be_bytes(),
        ];
        hash::aad(domain, &parts)
    }
}

/// A key-encryption key in use.
pub struct Kek {
    cipher: Aes256Gcm,
    tag_key: Key32,
}

impl std::fmt::Debug for Kek {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Kek(…)")
    }
}

impl Kek {
    fn new(bytes: &[u8; 32]) -> Self {
        let mut tag_key = [0; 32];
        #[expect(clippy::expect_used, reason = "32 bytes is one HKDF block")]
        Hkdf::<Sha256>::new(None, bytes).expand(b"hbc/tag-key/v1", &mut tag_key).expect("one block");
        Self { cipher: cipher(bytes), tag_key: Key32::new(tag_key) }
    }

    /// The HMAC key of anchor tags. It dies with the KEK.
    #[must_use]
    pub const fn tag_key(&self) -> &Key32 {
        &self.tag_key
    }

    /// The data key of `slot` under an intent's seed, and its wrap. The same seed gives the same answer again.
    #[must_use]
    pub fn data_key(&self, seed: &Seed, slot: &RecordSlot<'_>) -> (Key32, Vec<u8>) {
        let dek = Zeroizing::new(seed.derive(&slot.list("hbc/dek/v1")));
        let mut nonce = [0; NONCE_BYTES];
        for (to, from) in nonce.iter_mut().zip(seed.derive(&slot.list("hbc/dek-nonce/v1"))) {
            *to = from;
        }
        let wrapped = wrap(&self.cipher, nonce, &dek, &slot.list("hbc/dek-wrap/v1"));
        (Key32::new(*dek), wrapped)
    }

    /// Opens the wrapped data key of `slot`.
    pub fn open_data_key(&self, slot: &RecordSlot<'_>, wrapped: &[u8]) -> Result<Key32, UnwrapError> {
        unwrap(&self.cipher, wrapped, &slot.list("hbc/dek-wrap/v1")).map(|bytes| Key32::new(*bytes))
    }

    /// Wraps an intent's seed.
    #[must_use]
    pub fn wrap_seed(&self, seed: &Seed, intent: &IntentId, patient: &PatientId, random: &Random) -> Vec<u8> {
        wrap(&self.cipher, random.bytes(), &seed.0, &seed_aad(intent, patient))
    }

    /// Opens an intent's seed.
    pub fn open_seed(
        &self,
        wrapped: &[u8],
        intent: &IntentId,
        patient: &PatientId,
    ) -> Result<Seed, UnwrapError> {
        unwrap(&self.cipher, wrapped, &seed_aad(intent, patient)).map(Seed)
    }
}

fn seed_aad(intent: &IntentId, patient: &PatientId) -> Vec<u8> {
    hash::aad("hbc/intent-seed/v1", &[intent.as_str().as_bytes(), patient.as_str().as_bytes()])
}

/// 32 random bytes from which the data keys of one intent come. It is forgotten once the intent is anchored or void:
/// from then on only storage's wraps lead to the keys, and deleting a wrap erases the record.
pub struct Seed(Zeroizing<[u8; 32]>);

impl std::fmt::Debug for Seed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seed(…)")
    }
}

impl Seed {
    /// A fresh seed.
    #[must_use]
    pub fn random(random: &Random) -> Self {
        Self(Zeroizing::new(random.bytes()))
    }

    fn derive(&self, text: &[u8]) -> [u8; 32] {
        #[expect(clippy::expect_used, reason = "HMAC takes keys of every length")]
        let mut mac =
            <Hmac<Sha256> as hmac::KeyInit>::new_from_slice(self.0.as_slice()).expect("32 bytes are a key");
        mac.update(text);
        mac.finalize().into_bytes().into()
    }
}

fn cipher(key: &[u8; 32]) -> Aes256Gcm {
    Aes256Gcm::new(key.into())
}

fn wrap(cipher: &Aes256Gcm, nonce: [u8; NONCE_BYTES], key: &[u8; 32], aad: &[u8]) -> Vec<u8> {
    let encrypted = cipher.encrypt(&Nonce::from(nonce), Payload { msg: key, aad });
    #[expect(clippy::expect_used, reason = "GCM refuses only messages of gigabytes")]
    let encrypted = encrypted.expect("32 bytes can be encrypted");
    [nonce.as_slice(), &encrypted].concat()
}

fn unwrap(cipher: &Aes256Gcm, wrapped: &[u8], aad: &[u8]) -> Result<Zeroizing<[u8; 32]>, UnwrapError> {
    let (nonce, encrypted) = wrapped.split_at_checked(NONCE_BYTES).ok_or(UnwrapError)?;
    let nonce: [u8; NONCE_BYTES] = nonce.try_into().map_err(|_length| UnwrapError)?;
    let opened = cipher.decrypt(&Nonce::from(nonce), Payload { msg: encrypted, aad });
    let opened = Zeroizing::new(opened.map_err(|_tag| UnwrapError)?);
    let key: [u8; 32] = opened.as_slice().try_into().map_err(|_length| UnwrapError)?;
    Ok(Zeroizing::new(key))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hbc_types::labels::Category;

    struct World {
        master: MasterKey,
        kek: Kek,
        id: KekId,
        root: Digest,
        wrapped: Vec<u8>,
        record: RecordId,
    }

    fn world() -> World {
        let random = Random::seeded(3);
        let master = MasterKey::new(&Key32::new([1; 32]));
        let id = KekId { patient: PatientId::random(&random), sensitivity: Sensitivity::Normal, epoch: 1 };
        let root = Digest::of(b"root");
        let (kek, wrapped) = master.new_kek(&id, &root, &random);
        World { master, kek, id, root, wrapped, record: RecordId::random(&random) }
    }

    fn slot<'a>(world: &'a World, n: u64) -> RecordSlot<'a> {
        let labels = Labels { category: Category::Laboratory, sensitivity: Sensitivity::Normal };
        RecordSlot { patient: &world.id.patient, record: &world.record, version: 1, labels, n }
    }

    #[test]
    fn a_kek_opens_only_in_its_place_and_under_its_root() {
        let world = world();
        assert!(world.master.open_kek(&world.id, &world.root, &world.wrapped).is_ok());
        assert!(world.master.open_kek(&world.id, &Digest::of(b"other"), &world.wrapped).is_err());
        let later = KekId { epoch: 2, ..world.id.clone() };
        assert!(world.master.open_kek(&later, &world.root, &world.wrapped).is_err());
        let other = MasterKey::new(&Key32::new([2; 32]));
        assert!(other.open_kek(&world.id, &world.root, &world.wrapped).is_err());
        assert!(world.master.open_kek(&world.id, &world.root, b"short").is_err());
        let (next, random) = (Digest::of(b"next"), Random::seeded(9));
        let rewrapped =
            world.master.rewrap_kek(&world.id, (&world.root, &next), &world.wrapped, &random).unwrap();
        assert!(world.master.open_kek(&world.id, &world.root, &rewrapped).is_err());
        let moved = world.master.open_kek(&world.id, &next, &rewrapped).unwrap();
        let (dek, its_wrap) = world.kek.data_key(&Seed::random(&random), &slot(&world, 1));
        let opened = moved.open_data_key(&slot(&world, 1), &its_wrap).unwrap();
        assert_eq!(opened.expose(), dek.expose(), "it is the same key");
        assert!(world.master.rewrap_kek(&world.id, (&next, &world.root), &world.wrapped, &random).is_err());
    }

    #[test]
    fn a_data_key_opens_only_in_its_slot() {
        let world = world();
        let seed = Seed::random(&Random::seeded(4));
        let (dek, wrapped) = world.kek.data_key(&seed, &slot(&world, 1));
        assert_eq!(wrapped.len(), WRAP_BYTES);
        let opened = world.kek.open_data_key(&slot(&world, 1), &wrapped).unwrap();
        assert_eq!(opened.expose(), dek.expose());
        assert!(world.kek.open_data_key(&slot(&world, 2), &wrapped).is_err());
        let mut other = slot(&world, 1);
        other.labels.sensitivity = Sensitivity::Hiv;
        assert!(world.kek.open_data_key(&other, &wrapped).is_err());
        let mut other = slot(&world, 1);
        other.labels.category = Category::VitalSigns;
        assert!(world.kek.open_data_key(&other, &wrapped).is_err());
        other.version = 2;
        assert!(world.kek.open_data_key(&other, &wrapped).is_err());
    }

    #[test]
    fn the_same_seed_answers_the_same_and_slots_never_share_a_key() {
        let world = world();
        let seed = Seed::random(&Random::seeded(4));
        let (first, first_wrap) = world.kek.data_key(&seed, &slot(&world, 1));
        let (again, again_wrap) = world.kek.data_key(&seed, &slot(&world, 1));
        assert_eq!((first.expose(), &first_wrap), (again.expose(), &again_wrap));
        let (second, second_wrap) = world.kek.data_key(&seed, &slot(&world, 2));
        assert_ne!(first.expose(), second.expose());
        assert_ne!(first_wrap[..NONCE_BYTES], second_wrap[..NONCE_BYTES]);
    }

    #[test]
    fn a_seed_comes_back_only_for_its_intent() {
        let world = world();
        let random = Random::seeded(5);
        let (seed, intent) = (Seed::random(&random), IntentId::random(&random));
        let wrapped = world.kek.wrap_seed(&seed, &intent, &world.id.patient, &random);
        let opened = world.kek.open_seed(&wrapped, &intent, &world.id.patient).unwrap();
        assert_eq!(opened.0, seed.0);
        let other = IntentId::random(&random);
        assert!(world.kek.open_seed(&wrapped, &other, &world.id.patient).is_err());
    }
}
