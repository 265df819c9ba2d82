//! Segments: the encrypted records of one patient and one sensitivity from one request, as one IPFS object.

use bytes::Bytes;
use cid::Cid;
use hbc_chain::merkle;
use hbc_types::hash::{RecordFacts, Salt};
use hbc_types::ids::RecordId;
use hbc_types::secret::Key32;
use hbc_types::{Digest, hash};
use hmac::{Hmac, KeyInit, Mac};
use multihash_codetable::{Code, MultihashDigest};
use sha2::Sha256;

/// Up to this size a segment is one raw block.
pub const BLOCK_BYTES: usize = 1024 * 1024;
/// Multicodec `raw`.
const RAW: u64 = 0x55;

/// One encrypted record on its way into a segment.
#[derive(Clone, Debug)]
pub struct EncryptedRecord {
    /// The record.
    pub id: RecordId,
    /// Its version.
    pub version: u32,
    /// The commitment's salt.
    pub salt: Salt,
    /// SHA-256 of the received bytes.
    pub received: Digest,
    /// The encrypted bytes.
    pub encrypted: Vec<u8>,
}

/// Where a record lies in its segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Where its slice begins.
    pub offset: u64,
    /// How long it is.
    pub length: u64,
    /// The digest of the slice.
    pub encrypted: Digest,
    /// The record's commitment: a leaf of the segment's tree.
    pub commitment: Digest,
}

/// A segment, ready to be pinned.
#[derive(Clone, Debug)]
pub struct Segment {
    /// All slices, one after the other.
    pub bytes: Bytes,
    /// SHA-256 of `bytes`.
    pub digest: Digest,
    /// The records' places, in order.
    pub places: Vec<Place>,
    /// RFC 6962 root over the commitments.
    pub root: Digest,
}

impl Segment {
    /// Concatenates encrypted records, taking their bytes, and computes what the anchor says of them.
    #[must_use]
    pub fn of(records: &mut [EncryptedRecord]) -> Self {
        let mut bytes = Vec::with_capacity(records.iter().map(|record| record.encrypted.len()).sum());
        let mut places = Vec::with_capacity(records.len());
        for record in records {
            let offset = bytes.len() as u64;
            let length = record.encrypted.len() as u64;
            let encrypted = merkle::slice_digest(&record.encrypted);
            let facts = RecordFacts {
                id: record.id.as_str(),
                version: record.version,
                received: record.received,
                encrypted,
                offset,
                length,
            };
            places.push(Place { offset, length, encrypted, commitment: hash::record(&record.salt, &facts) });
            bytes.append(&mut record.encrypted);
        }
        let root = root(places.iter().map(|place| place.commitment));
        Self { digest: Digest::of(&bytes), bytes: Bytes::from(bytes), places, root }
    }
}

/// CIDv1, codec raw, SHA-256 of `bytes`.
#[must_use]
pub fn raw_cid(bytes: &[u8]) -> Cid {
    Cid::new_v1(RAW, Code::Sha2_256.digest(bytes))
}

/// RFC 6962 root over record commitments: each is the data of one leaf.
#[must_use]
pub fn root(commitments: impl Iterator<Item = Digest>) -> Digest {
    let leaves: Vec<Digest> =
        commitments.map(|commitment| merkle::leaf_hash(commitment.as_bytes())).collect();
    merkle::root(&leaves)
}

/// The anchor's tag: HMAC-SHA-256(tag key, "hbc/tag/v1" ‖ 0 ‖ root)[..16]. Only who holds the tag key can tell whose
/// anchor it is.
#[must_use]
pub fn tag(key: &Key32, root: &Digest) -> [u8; 16] {
    #[expect(clippy::expect_used, reason = "HMAC takes keys of every length")]
    let mut mac = Hmac::<Sha256>::new_from_slice(key.expose()).expect("a key");
    mac.update(b"hbc/tag/v1\0");
    mac.update(root.as_bytes());
    let bytes: [u8; 32] = mac.finalize().into_bytes().into();
    let mut tag = [0; 16];
    tag.copy_from_slice(bytes.first_chunk::<16>().unwrap_or(&[0; 16]));
    tag
}

#[cfg(test)]
mod tests {
    use hbc_types::Random;

    use super::*;

    #[test]
    fn the_cid_is_the_one_kubo_computes() {
        assert_eq!(
            raw_cid(b"hello world").to_string(),
            "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e"
        );
    }

    #[test]
    fn places_cover_the_bytes_and_commit_to_them() {
        let random = Random::seeded(1);
        let record = |length: usize| EncryptedRecord {
            id: RecordId::random(&random),
            version: 1,
            salt: random.bytes(),
            received: Digest::of(b"r"),
            encrypted: vec![5; length],
        };
        let records = vec![record(10), record(20), record(5)];
        let segment = Segment::of(&mut records.clone());
        assert_eq!(segment.bytes.len(), 35);
        assert_eq!(segment.places.iter().map(|place| place.offset).collect::<Vec<_>>(), [0, 10, 30]);
        assert_eq!(segment.digest, Digest::of(&segment.bytes));
        let mut reordered = records;
        reordered.swap(0, 1);
        assert_ne!(Segment::of(&mut reordered).root, segment.root);
        assert_ne!(tag(&Key32::new([1; 32]), &segment.root), tag(&Key32::new([2; 32]), &segment.root));
    }

    #[test]
    fn the_document_states_this_tag() {
        let tag = tag(&Key32::new([0x42; 32]), &Digest::from_bytes([0x24; 32]));
        let document = include_str!("../../../../docs/FORMATS.md");
        assert!(document.contains(&format!("\ntag = {}\n", hex::encode(tag))), "docs/FORMATS.md");
    }
}
