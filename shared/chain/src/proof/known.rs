//! What a file says about the chain besides what it was made to prove: its blocks by height, and in which of them the
//! members changed. Two files of one chain must not contradict each other, so that a file that was kept finds another past
//! made up by members who left, of which each file alone would be convincing.

use std::collections::{BTreeMap, BTreeSet};

use super::certified::{Certification, CertifiedBlock};
use super::founding::SetChange;
use super::{Document, ProofError, ReceiptProof, RecordProof, TransactionProof};
use crate::header::Header;
use hbc_types::digest::Digest;

/// What is known of a chain.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Known {
    blocks: BTreeMap<u64, Mark>,
    changes: BTreeSet<u64>,
    /// All changes of members below this height are among `changes`.
    complete_below: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark {
    block: Digest,
    log_size: u64,
    log_root: Digest,
}

impl Known {
    /// Adds a block.
    pub fn add_block(&mut self, header: &Header) {
        let (log_size, log_root) = (header.log_size, header.log_root);
        self.blocks.insert(header.height, Mark { block: header.hash(), log_size, log_root });
    }

    /// Adds that the members changed with the block of this height.
    pub fn add_change(&mut self, height: u64) {
        self.changes.insert(height);
    }

    /// States that there are no other changes of members below this height.
    pub const fn completed_below(&mut self, height: u64) {
        self.complete_below = height;
    }

    pub(super) fn of_note(certified: &CertifiedBlock) -> Self {
        let CertifiedBlock { height, block, log_size, log_root, .. } = certified;
        let mark = Mark { block: *block, log_size: *log_size, log_root: *log_root };
        Self { blocks: BTreeMap::from([(*height, mark)]), ..Self::default() }
    }

    /// Of a document that was verified.
    pub(super) fn of_document(document: &Document) -> Self {
        let mut known = Self::default();
        match document {
            Document::Transaction(proof) => known.add_transaction(proof),
            Document::Receipt(ReceiptProof { anchor, .. }) | Document::Record(RecordProof { anchor, .. }) => {
                known.add_transaction(anchor);
            }
            Document::Consent(proof) => known.add_transaction(&proof.anchor),
            Document::Consistency(proof) => {
                known.add_block(&proof.from.header);
                known.add_block(&proof.to.header);
                known.add_head(&proof.certified, &proof.sets);
            }
            Document::State(proof) => known.add_head(&proof.state.certified, &proof.sets),
            Document::Anchors(proof) => known.add_head(&proof.state.certified, &proof.sets),
        }
        known
    }

    fn add_transaction(&mut self, proof: &TransactionProof) {
        self.add_block(&proof.block.header);
        self.add_block(&proof.block.parent);
        self.add_head(&proof.certified, &proof.sets);
    }

    fn add_head(&mut self, certified: &Certification, sets: &[SetChange]) {
        for change in sets {
            self.add_certified(&change.certified);
            self.add_change(change.height());
        }
        self.add_certified(certified);
        self.completed_below(certified.header.height);
    }

    fn add_certified(&mut self, certified: &Certification) {
        self.add_block(&certified.before);
        self.add_block(&certified.header);
    }

    /// The highest block.
    #[must_use]
    pub fn height(&self) -> u64 {
        self.blocks.last_key_value().map_or(0, |(height, _)| *height)
    }

    /// The heights of which both know the block.
    pub fn shared<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = u64> + 'a {
        self.blocks.keys().filter(|height| other.blocks.contains_key(height)).copied()
    }

    /// That two files do not contradict each other: not two blocks of one height, not two roots of one size, no log that
    /// shrank, no change of members that one knows and the other, which reaches beyond it, does not. That the later log
    /// begins with the earlier one is for a consistency proof.
    ///
    /// # Errors
    /// The contradiction.
    pub fn agrees_with(&self, other: &Self) -> Result<(), ProofError> {
        let mut all = self.blocks.clone();
        for (height, mark) in &other.blocks {
            if all.insert(*height, *mark).is_some_and(|known| known != *mark) {
                return Err(ProofError::Fork { height: *height });
            }
        }
        if !all.values().is_sorted_by(|one, next| one.log_size < next.log_size) {
            return Err(ProofError::Contradiction("the log did not grow with the height"));
        }
        let both = self.complete_below.min(other.complete_below);
        match self.changes.symmetric_difference(&other.changes).next() {
            Some(height) if *height < both => Err(ProofError::ChangeLeftOut { height: *height }),
            _ => Ok(()),
        }
    }
}
