//! That the log only grew between two checkpoints, and who certified each.

use serde::{Deserialize, Serialize};

use super::certified::{Certification, CertifiedBlock};
use super::founding::{Ground, Members, SetChange};
use super::{Content, ProofError};
use crate::genesis::Genesis;
use crate::header::Header;
use crate::merkle;
use hbc_types::digest::Digest;

/// Two checkpoints of one log: the later one's log begins with the earlier one's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConsistencyProof {
    /// A block of the later checkpoint's height or above, whose log has both blocks.
    pub certified: Certification,
    /// The chain.
    pub chain: Digest,
    /// The earlier checkpoint.
    pub from: PastCheckpoint,
    /// The founding document; needed when only a chain id is trusted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub genesis: Option<Genesis>,
    /// The path of RFC 9162 §2.1.4; empty when both are of one height.
    pub path: Vec<Digest>,
    /// Changes of the members up to the certified block, each certified by the set before it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sets: Vec<SetChange>,
    /// The later checkpoint.
    pub to: PastCheckpoint,
}

/// A checkpoint whose block is the certified one or lies in its log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PastCheckpoint {
    /// The signed note.
    pub checkpoint: String,
    /// The block's header.
    pub header: Header,
    /// Empty for the certified block; otherwise the path of the header's leaf, which stands at place `log_size`.
    pub path: Vec<Digest>,
}

impl ConsistencyProof {
    pub(super) fn verify(&self, ground: &Ground<'_>) -> Result<Content, ProofError> {
        let members = ground.members(&self.sets)?;
        let head = ground.head(&self.certified, &members)?;
        let from = self.from.verify(ground, &members, &head)?;
        let to = self.to.verify(ground, &members, &head)?;
        compare(&from, &to)?;
        merkle::verify_consistency(from.log_size, to.log_size, &self.path, &from.log_root, &to.log_root)
            .map_err(ProofError::NotConsistent)?;
        Ok(Content::Consistency { from, to })
    }
}

impl PastCheckpoint {
    fn verify(
        &self,
        ground: &Ground<'_>,
        members: &Members<'_>,
        head: &CertifiedBlock,
    ) -> Result<CertifiedBlock, ProofError> {
        let certified = ground.count(&self.checkpoint, members.at(self.header.height))?;
        if !certified.is(&self.header) {
            return Err(ProofError::Block("the checkpoint is of another block"));
        }
        head.shows(&self.header, &self.path)?;
        Ok(certified)
    }
}

/// What two certified checkpoints must agree on whatever lies between them: a height has one block, every block adds a
/// leaf to the log, and a log of one size has one root.
fn compare(from: &CertifiedBlock, to: &CertifiedBlock) -> Result<(), ProofError> {
    if from.height == to.height {
        let same = (from.block, from.log_size, from.log_root) == (to.block, to.log_size, to.log_root);
        return if same { Ok(()) } else { Err(ProofError::Fork { height: from.height }) };
    }
    if from.height > to.height {
        return Err(ProofError::Contradiction("the checkpoints are not in the order of their heights"));
    }
    if from.log_size >= to.log_size {
        return Err(ProofError::Contradiction("the log did not grow with the height"));
    }
    Ok(())
}
