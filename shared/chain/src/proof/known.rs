//! What a file says about the chain besides what it was made to prove: its blocks by height, and who certified them. A file
//! must not contradict itself, and two files of one chain not each other, so that a file that was kept finds another past
//! made up by members who left, of which each file alone would be convincing.
//!
//! A document's list of changes is not shown to be whole: whoever passes it on can take out changes that lead back to the
//! same members. Lists are therefore compared only at heights for which a file has a certified block, and say nothing
//! below a block that both files have, because that block settles everything before it.

use std::collections::BTreeMap;

use super::certified::{Certification, CertifiedBlock};
use super::founding::SetChange;
use super::{Document, ProofError, ReceiptProof, RecordProof, TransactionProof};
use crate::genesis::Named;
use crate::header::Header;
use crate::json;
use hbc_types::digest::Digest;

/// What is known of a chain.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Known {
    blocks: BTreeMap<u64, Mark>,
    /// Lists of members by the height after which they certify, as the file tells them.
    lists: BTreeMap<u64, Digest>,
    /// Lists by the height of a block that was counted under them; of a chain, in which all are, where they begin.
    certified: BTreeMap<u64, Digest>,
    /// The last height that `lists` speaks of.
    reach: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark {
    block: Digest,
    log_size: u64,
    log_root: Digest,
}

impl Mark {
    fn of(header: &Header) -> Self {
        Self { block: header.hash(), log_size: header.log_size, log_root: header.log_root }
    }
}

impl Known {
    /// What a chain says of which every block is checked: so far only that these members begin.
    #[must_use]
    pub fn of_chain(first: &Header, members: &[Named]) -> Self {
        let mut known = Self::default();
        known.add_block(first);
        known.add_list(0, members);
        known
    }

    /// Adds the next block of a chain, which its members certified, and who they are from the next height on, if others.
    pub fn add_next(&mut self, header: &Header, others: Option<&[Named]>) {
        self.add_block(header);
        self.reach = header.height;
        let list = self.list_at(header.height);
        if let Some(list) = list.filter(|_| self.certified.last_key_value().map(|(_, last)| *last) != list) {
            self.certified.insert(header.height, list);
        }
        if let Some(others) = others {
            self.add_list(header.height, others);
        }
        self.reach = header.height.saturating_add(1);
    }

    pub(super) fn add_block(&mut self, header: &Header) {
        self.blocks.insert(header.height, Mark::of(header));
    }

    fn add_list(&mut self, after: u64, members: &[Named]) {
        // Names and keys always have a canonical form.
        self.lists.insert(after, Digest::of(&json::encode(&members).unwrap_or_default()));
    }

    pub(super) fn of_note(certified: &CertifiedBlock) -> Self {
        let CertifiedBlock { height, block, log_size, log_root, .. } = certified;
        let mark = Mark { block: *block, log_size: *log_size, log_root: *log_root };
        Self { blocks: BTreeMap::from([(*height, mark)]), ..Self::default() }
    }

    /// Of a document whose parts hold each for itself.
    ///
    /// # Errors
    /// When the parts are not of one chain.
    pub(super) fn of_document(document: &Document, founders: &[Named]) -> Result<Self, ProofError> {
        let mut known = Self::default();
        known.add_list(0, founders);
        match document {
            Document::Transaction(proof) => known.add_transaction(proof)?,
            Document::Receipt(ReceiptProof { anchor, .. }) | Document::Record(RecordProof { anchor, .. }) => {
                known.add_transaction(anchor)?;
            }
            Document::Consent(proof) => known.add_transaction(&proof.anchor)?,
            Document::Opening(proof) => known.add_transaction(&proof.anchor)?,
            Document::Bundle(proof) => {
                for anchor in &proof.anchors {
                    known.put(&anchor.block.header)?;
                    known.put(&anchor.block.parent)?;
                }
                known.add_head(&proof.certified, &proof.sets)?;
            }
            Document::Membership(proof) => known.add_head(&proof.state.certified, &proof.sets)?,
            Document::Numbers(proof) => known.add_head(&proof.state.certified, &proof.sets)?,
            Document::Consistency(proof) => {
                known.put(&proof.from.header)?;
                known.put(&proof.to.header)?;
                known.add_head(&proof.certified, &proof.sets)?;
            }
            Document::State(proof) => known.add_head(&proof.state.certified, &proof.sets)?,
            Document::Anchors(proof) => known.add_head(&proof.state.certified, &proof.sets)?,
        }
        check_growth(&known.blocks)?;
        Ok(known)
    }

    fn add_transaction(&mut self, proof: &TransactionProof) -> Result<(), ProofError> {
        self.put(&proof.block.header)?;
        self.put(&proof.block.parent)?;
        self.add_head(&proof.certified, &proof.sets)
    }

    fn add_head(&mut self, certified: &Certification, sets: &[SetChange]) -> Result<(), ProofError> {
        for change in sets {
            self.add_certified(&change.certified)?;
            self.add_list(change.height(), &change.members);
        }
        self.add_certified(certified)
    }

    fn add_certified(&mut self, certified: &Certification) -> Result<(), ProofError> {
        let height = certified.header.height;
        self.put(&certified.before)?;
        self.put(&certified.header)?;
        self.reach = height;
        if let Some(list) = self.list_at(height) {
            self.certified.insert(height, list);
        }
        Ok(())
    }

    /// Adds a block of a document, which has one of each height.
    fn put(&mut self, header: &Header) -> Result<(), ProofError> {
        let mark = Mark::of(header);
        match self.blocks.insert(header.height, mark) {
            Some(known) if known != mark => Err(ProofError::Fork { height: header.height }),
            _ => Ok(()),
        }
    }

    /// The members of a height, as far as the file speaks of them.
    fn list_at(&self, height: u64) -> Option<Digest> {
        if height > self.reach {
            return None;
        }
        self.lists.range(..height).next_back().map(|(_, list)| *list)
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

    /// That two files do not contradict each other: not two blocks of one height, no log that shrank, no other members at a
    /// height of which one has a certified block and the other speaks. That the later log begins with the earlier one is
    /// for a consistency proof.
    ///
    /// # Errors
    /// The contradiction; of other members, that one of the files is not as it should be.
    pub fn agrees_with(&self, other: &Self) -> Result<(), ProofError> {
        let mut all = self.blocks.clone();
        for (height, mark) in &other.blocks {
            if all.insert(*height, *mark).is_some_and(|known| known != *mark) {
                return Err(ProofError::Fork { height: *height });
            }
        }
        check_growth(&all)?;
        let settled = self.shared(other).last().unwrap_or(0);
        for (one, next) in [(self, other), (other, self)] {
            for (height, list) in one.certified.range(settled.saturating_add(1)..) {
                if next.list_at(*height).is_some_and(|known| known != *list) {
                    return Err(ProofError::OtherMembers { height: *height });
                }
            }
        }
        Ok(())
    }
}

fn check_growth(blocks: &BTreeMap<u64, Mark>) -> Result<(), ProofError> {
    if blocks.values().is_sorted_by(|one, next| one.log_size < next.log_size) {
        Ok(())
    } else {
        Err(ProofError::Contradiction("the log did not grow with the height"))
    }
}
