//! The anchors of a chain in the order they became final, and the roots over them.

use hbc_types::Digest;
use hbc_types::chain::merkle::Frontier;
use hbc_types::chain::rtree::AnchorLeaf;

/// All anchors so far.
#[derive(Debug, Default)]
pub struct Anchors {
    leaves: Vec<AnchorLeaf>,
    root: Frontier,
    pages: Frontier,
}

/// The anchors of a block in the making.
#[derive(Debug)]
pub struct AnchorDraft {
    new: Vec<AnchorLeaf>,
    root: Frontier,
    pages: Frontier,
}

impl Anchors {
    /// All of them, in order.
    #[must_use]
    pub fn leaves(&self) -> &[AnchorLeaf] {
        &self.leaves
    }

    /// The root over the anchors and the root over the sealed pages.
    #[must_use]
    pub fn roots(&self) -> (Digest, Digest) {
        (self.root.root(), self.pages.root())
    }

    pub(super) fn draft(&self) -> AnchorDraft {
        AnchorDraft { new: Vec::new(), root: self.root.clone(), pages: self.pages.clone() }
    }

    pub(super) fn commit(&mut self, draft: AnchorDraft) {
        self.leaves.extend(draft.new);
        self.root = draft.root;
        self.pages = draft.pages;
    }
}

impl AnchorDraft {
    pub(super) fn push(&mut self, _before: &Anchors, leaf: AnchorLeaf) {
        self.root.push(leaf.leaf_hash());
        self.new.push(leaf);
    }

    pub(super) fn roots(&self) -> (Digest, Digest) {
        (self.root.root(), self.pages.root())
    }
}
