//! Domain-separated hashes and commitments, and the encoder of additional authenticated data (AAD).
//!
//! The rule for all of them: `H(d, p1, p2, …) = SHA-256(d ‖ 0x00 ‖ for each p: u32 big-endian length ‖ p)`. Numbers
//! are parts of their own, big-endian in their full width (u32: 4 bytes, u64: 8 bytes). One function per domain;
//! nothing else in the project hashes without a domain, save the fixed formats that bring their own separation (RFC 6962
//! leaves and nodes, 180-byte headers, key fingerprints).

use sha2::{Digest as _, Sha256};

use crate::digest::Digest;

/// A salt of a commitment: 32 random bytes.
pub type Salt = [u8; 32];

/// A part longer than this has no length prefix; no caller comes near it.
const MAX_PART_BYTES: usize = u32::MAX as usize;

/// `H(domain, parts…)`.
#[must_use]
pub fn domain_hash(domain: &str, parts: &[&[u8]]) -> Digest {
    let mut hasher = Sha256::new();
    hasher.update(domain.as_bytes());
    hasher.update([0]);
    for part in parts {
        hasher.update(part_len(part));
        hasher.update(part);
    }
    Digest::from_bytes(hasher.finalize().into())
}

/// The same list unhashed, as additional authenticated data: `domain ‖ 0x00 ‖ for each p: u32 big-endian length ‖ p`.
#[must_use]
pub fn aad(domain: &str, parts: &[&[u8]]) -> Vec<u8> {
    let length = parts.iter().map(|part| part.len().saturating_add(4)).sum::<usize>();
    let mut bytes = Vec::with_capacity(length.saturating_add(domain.len()).saturating_add(1));
    bytes.extend_from_slice(domain.as_bytes());
    bytes.push(0);
    for part in parts {
        bytes.extend_from_slice(&part_len(part));
        bytes.extend_from_slice(part);
    }
    bytes
}

fn part_len(part: &[u8]) -> [u8; 4] {
    debug_assert!(part.len() <= MAX_PART_BYTES, "a hashed part has at most 4 GiB");
    u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes()
}

/// Commitment to the off-chain body of a consent event: `H("hbc/consent-body/v1", salt, JCS body)`.
#[must_use]
pub fn consent_body(salt: &Salt, body: &[u8]) -> Digest {
    domain_hash("hbc/consent-body/v1", &[salt, body])
}

/// What a record commitment binds besides its salt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordFacts<'a> {
    /// The record's id (`rec-…`).
    pub id: &'a str,
    /// Its version, from 1.
    pub version: u32,
    /// SHA-256 of the bytes as they were received.
    pub received: Digest,
    /// SHA-256 of the encrypted slice in the segment.
    pub encrypted: Digest,
    /// Where the slice begins in the segment.
    pub offset: u64,
    /// How long the slice is.
    pub length: u64,
}

/// Commitment to one record version: `H("hbc/record/v1", salt, id, version u32, SHA-256 received, SHA-256 encrypted
/// slice, offset u64, length u64)`.
#[must_use]
pub fn record(salt: &Salt, facts: &RecordFacts<'_>) -> Digest {
    let RecordFacts { id, version, received, encrypted, offset, length } = facts;
    domain_hash(
        "hbc/record/v1",
        &[
            salt,
            id.as_bytes(),
            &version.to_be_bytes(),
            received.as_bytes(),
            encrypted.as_bytes(),
            &offset.to_be_bytes(),
            &length.to_be_bytes(),
        ],
    )
}

/// Commitment to one receipt: `H("hbc/receipt/v1", salt, JCS body)`.
#[must_use]
pub fn receipt(salt: &Salt, body: &[u8]) -> Digest {
    domain_hash("hbc/receipt/v1", &[salt, body])
}

/// Commitment to the personal part of a staff profile: `H("hbc/staff/v1", salt, JCS body)`.
#[must_use]
pub fn staff(salt: &Salt, body: &[u8]) -> Digest {
    domain_hash("hbc/staff/v1", &[salt, body])
}

/// Commitment to what somebody is in an organisation: `H("hbc/member/v1", salt, JCS body)`.
#[must_use]
pub fn member(salt: &Salt, body: &[u8]) -> Digest {
    domain_hash("hbc/member/v1", &[salt, body])
}

/// Commitment to the reason of an order: `H("hbc/order/v1", salt, JCS body)`.
#[must_use]
pub fn order(salt: &Salt, body: &[u8]) -> Digest {
    domain_hash("hbc/order/v1", &[salt, body])
}

/// What operators order when keys that a patient claims are to count: `H("hbc/root-claim/v1", patient, root key 32, recovery key 32 or
/// nothing, nonce 32)`. The nonce is the claim's own: what was ordered about one claim says nothing of another.
#[must_use]
pub fn root_claim(patient: &str, root: &[u8; 32], recovery: Option<&[u8; 32]>, nonce: &Salt) -> Digest {
    let recovery = recovery.map_or([].as_slice(), <[u8; 32]>::as_slice);
    domain_hash("hbc/root-claim/v1", &[patient.as_bytes(), root, recovery, nonce])
}

/// Commitment to an erasure certificate: `H("hbc/erase/v1", salt, JCS body)`.
#[must_use]
pub fn erase(salt: &Salt, body: &[u8]) -> Digest {
    domain_hash("hbc/erase/v1", &[salt, body])
}

/// The state root of a header: `H("hbc/state/v1", map, anchors, pages)`.
#[must_use]
pub fn state(map: &Digest, anchors: &Digest, pages: &Digest) -> Digest {
    domain_hash("hbc/state/v1", &[map.as_bytes(), anchors.as_bytes(), pages.as_bytes()])
}

/// The place of an entry in the state map: `H("hbc/state-key/v1", kind, id)`.
#[must_use]
pub fn state_key(kind: &str, id: &str) -> Digest {
    domain_hash("hbc/state-key/v1", &[kind.as_bytes(), id.as_bytes()])
}

/// A leaf of the state map: `H("hbc/leaf/v1", key, SHA-256(JCS value))`.
#[must_use]
pub fn state_leaf(key: &Digest, value: &Digest) -> Digest {
    domain_hash("hbc/leaf/v1", &[key.as_bytes(), value.as_bytes()])
}

/// An inner node of the state map: `H("hbc/node/v1", left, right)`.
#[must_use]
pub fn state_node(left: &Digest, right: &Digest) -> Digest {
    domain_hash("hbc/node/v1", &[left.as_bytes(), right.as_bytes()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_prefix_keeps_parts_apart() {
        assert_ne!(domain_hash("d", &[b"ab", b"c"]), domain_hash("d", &[b"a", b"bc"]));
        assert_ne!(domain_hash("d", &[b"ab"]), domain_hash("d", &[b"ab", b""]));
        assert_ne!(domain_hash("d", &[]), domain_hash("d\0", &[]));
    }

    #[test]
    fn the_hash_is_over_exactly_the_aad_bytes() {
        let list = aad("hbc/x/v1", &[b"one", b""]);
        assert_eq!(list, b"hbc/x/v1\0\0\0\0\x03one\0\0\0\0");
        assert_eq!(Digest::of(&list), domain_hash("hbc/x/v1", &[b"one", b""]));
    }

    /// The vectors of docs/FORMATS.md.
    #[test]
    fn golden_vectors() {
        let salt = [7; 32];
        assert_eq!(
            consent_body(&salt, b"{}").to_string(),
            "af072cf157c7c67f75e640a2343248e1a69240a4b2558b8fcb8a4c17124a40d5"
        );
        assert_eq!(
            receipt(&salt, b"{}").to_string(),
            "b536e6edf53aa1d79457c3c1c8a8d1672b767d33f3c8e43d78515d1a493a6da7"
        );
        assert_eq!(
            staff(&salt, b"{}").to_string(),
            "fc8114f3ec906d03ab237b9a2b21ee0c18a735883db6cb7ffa09c69c3d947c14"
        );
        assert_eq!(
            erase(&salt, b"{}").to_string(),
            "9b00d075162863ce4b7c1d1ef71b23cca579c09a1326c9b976b921a4af12e744"
        );
        let facts = RecordFacts {
            id: "rec-000102030405060708090a0b0c0d0e0f",
            version: 1,
            received: Digest::of(b"received"),
            encrypted: Digest::of(b"sealed"),
            offset: 4096,
            length: 512,
        };
        assert_eq!(
            record(&salt, &facts).to_string(),
            "ae3eb6f05da0b6c04880160ba5d0689d7ad6c04dfb66f2178c1d7c02fc29e53e"
        );
        let key = state_key("service", "auth");
        assert_eq!(key.to_string(), "e1f8195023b06ad9400295e5652af5380fd73693755100946e1d8d91d41e345c");
        let leaf = state_leaf(&key, &Digest::of(b"{}"));
        assert_eq!(leaf.to_string(), "7124a09fa6c6e78e1fdefc728f9c6187917c43af353c1b77e71786fd985e083e");
        assert_eq!(
            state_node(&leaf, &Digest::ZERO).to_string(),
            "3233de19ca5bbc0114f82b002af6d4cdf5c09280190fd4606b07e53bd0830f7e"
        );
        let empty = Digest::of(b"");
        assert_eq!(
            state(&leaf, &empty, &empty).to_string(),
            "54ff0deca1c8192acdc5251ccc765483c5aada8ecfb9ac2c23e5a7e02430c045"
        );
    }
}
