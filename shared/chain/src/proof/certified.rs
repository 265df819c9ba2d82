//! A block that counts, and by whose word. What a document shows hangs in the log or the state of one such block.
//!
//! Who has to sign a block stands in the state that the block before left. A certification carries that header with the
//! state's entry `members`: the header that was signed names it by its hash. So a certificate cannot be counted under
//! another list than the one that the signers themselves committed to, whatever changes of members a document leaves out.
//!
//! Why: decision 0098.

use serde::{Deserialize, Serialize};

use super::ProofError;
use crate::checkpoint::{Certificate, Checkpoint};
use crate::entry::Kind;
use crate::genesis::Named;
use crate::header::Header;
use crate::map::MapProof;
use crate::{json, merkle};
use hbc_types::digest::Digest;
use hbc_types::hash;
use hbc_types::time::Timestamp;

/// A block with its certificate, and where its members are named.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Certification {
    /// Header of the block before.
    pub before: Header,
    /// The signed note of the block.
    pub checkpoint: String,
    /// The block's header.
    pub header: Header,
    /// That the state after the block before names those who certify this one.
    pub named: MembersProof,
}

/// That the state after a block names certain members for the next height.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MembersProof {
    /// The second part of the state root.
    pub anchors: Digest,
    /// The state map's root, the first part of the state root.
    pub map: Digest,
    /// The third part of the state root.
    pub pages: Digest,
    /// The path of the map's entry `members`.
    pub proof: MapProof,
}

/// A certified block, and the three roots that its state root is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StateEvidence {
    /// RFC 6962 root over all anchors.
    pub anchors: Digest,
    /// The block.
    pub certified: Certification,
    /// Root of the state map.
    pub map: Digest,
    /// RFC 6962 root over the R-tree's pages.
    pub pages: Digest,
}

/// A block that more than two thirds of the members certified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertifiedBlock {
    /// Its height.
    pub height: u64,
    /// SHA-256 of its header.
    pub block: Digest,
    /// Leaves in the log with it.
    pub log_size: u64,
    /// Root over them.
    pub log_root: Digest,
    /// The members that signed.
    pub signers: Vec<String>,
    /// How many members there were.
    pub members: usize,
}

/// A block whose state is known by its roots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertifiedState {
    /// The block.
    pub certified: CertifiedBlock,
    /// Its time.
    pub time: Timestamp,
    /// Leading zero bits of its hash.
    pub zero_bits: u32,
}

impl MembersProof {
    /// That the state after the block with this header names these members.
    pub(super) fn verify(&self, header: &Header, members: &[Named]) -> Result<(), ProofError> {
        if header.state_root != hash::state(&self.map, &self.anchors, &self.pages) {
            return Err(ProofError::Members("the header has another state root"));
        }
        let value = Digest::of(&json::encode(&members)?);
        self.proof.verify_present(&self.map, &Kind::Members.key(""), &value).map_err(ProofError::MembersState)
    }
}

impl CertifiedBlock {
    pub(super) fn of(certificate: &Certificate, members: usize) -> Self {
        let Checkpoint { log_size, log_root, height, block, .. } = certificate.checkpoint;
        let signers = certificate.signatures.iter().map(|line| line.member.clone()).collect();
        Self { height, block, log_size, log_root, signers, members }
    }

    /// Whether the block has this very header, of which the checkpoint says the same in four ways.
    pub(super) fn is(&self, header: &Header) -> bool {
        (self.height, self.block) == (header.height, header.hash())
            && (self.log_size, self.log_root) == (header.log_size, header.log_root)
    }

    /// That a header is this block's or that of a block before it: then it is the leaf at place `log_size` of the log, the
    /// first leaf of the block after its own.
    pub(super) fn shows(&self, header: &Header, path: &[Digest]) -> Result<(), ProofError> {
        if header.hash() == self.block {
            let same = path.is_empty() && self.is(header);
            return if same { Ok(()) } else { Err(ProofError::Block("the checkpoint says otherwise")) };
        }
        if header.height >= self.height {
            return Err(ProofError::Block("it is not before the checkpoint's"));
        }
        merkle::verify_inclusion(&header.leaf_hash(), header.log_size, self.log_size, path, &self.log_root)
            .map_err(ProofError::HeaderNotInLog)
    }

    /// The same of a text that tells no other members than the founding ones.
    pub(super) fn by_founders(&self) -> String {
        let (signers, height) = (self.signers.join(", "), self.height);
        format!(
            "by {} of the {} founding members, at height {height}: {signers}; who the members are at that height is not shown",
            self.signers.len(),
            self.members
        )
    }

    /// Who certified it, in words.
    pub(super) fn certified_by(&self) -> String {
        let signers = self.signers.join(", ");
        format!("by {} of {} members at height {}: {signers}", self.signers.len(), self.members, self.height)
    }
}

impl CertifiedState {
    pub(super) fn facts(&self, facts: &mut Vec<(&'static str, String)>) {
        facts.push(("block", format!("height {}, hash {}", self.certified.height, self.certified.block)));
        facts.push(("block time", self.time.to_string()));
        facts.push(("proof of work", format!("{} leading zero bits", self.zero_bits)));
        facts.push(("certified", self.certified.certified_by()));
    }
}

/// That one header follows the other on the chain; at height 0 stands the chain's first header and no other.
pub(super) fn check_follows(header: &Header, parent: &Header, chain: &Digest) -> Result<(), ProofError> {
    if header.prev_hash != parent.hash() || parent.height.checked_add(1) != Some(header.height) {
        return Err(ProofError::Block("the parent is another"));
    }
    if (parent.height == 0) != (parent.hash() == *chain) {
        return Err(ProofError::Block("the parent at height 0 is not the chain's first block"));
    }
    Ok(())
}

pub(super) fn time(ms: u64) -> Timestamp {
    Timestamp::from_ms(i64::try_from(ms).unwrap_or(i64::MAX))
}
