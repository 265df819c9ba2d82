//! Anchors by clinical days and height: what one is as a leaf.

use serde::{Deserialize, Serialize};

use super::merkle;
use crate::digest::Digest;

/// Bytes of an anchor's leaf.
pub const ANCHOR_BYTES: usize = 48;

/// What the index knows of an anchor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnchorLeaf {
    /// First clinical day, in days since 1970-01-01.
    pub day0: i32,
    /// Last clinical day.
    pub day1: i32,
    /// Height of its block.
    pub height: u64,
    /// The transaction.
    pub txid: Digest,
}

impl AnchorLeaf {
    /// i32 day0 ‖ i32 day1 ‖ u64 height ‖ txid, big-endian.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; ANCHOR_BYTES] {
        let mut bytes = [0; ANCHOR_BYTES];
        let (numbers, txid) = bytes.split_at_mut(16);
        let packed = u128::from(self.day0.cast_unsigned()) << 96
            | u128::from(self.day1.cast_unsigned()) << 64
            | u128::from(self.height);
        numbers.copy_from_slice(&packed.to_be_bytes());
        txid.copy_from_slice(self.txid.as_bytes());
        bytes
    }

    /// Its leaf hash in the tree over all anchors.
    #[must_use]
    pub fn leaf_hash(&self) -> Digest {
        merkle::leaf_hash(&self.to_bytes())
    }
}
