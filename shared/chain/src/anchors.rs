//! The anchors of a chain in the order they became final, the R-tree pages over them, and the roots over both. The tree
//! itself, its answers and their proofs are in [`crate::rtree`].

use std::sync::Arc;

use hbc_types::Digest;

use crate::merkle::Frontier;
use crate::rtree::{AnchorLeaf, PAGE_ANCHORS, Page};

/// All anchors so far.
#[derive(Debug, Default)]
pub struct Anchors {
    leaves: Vec<AnchorLeaf>,
    complete: Vec<Arc<Page>>,
    root: Frontier,
    pages: Frontier,
}

/// The anchors of a block in the making.
#[derive(Debug)]
pub struct AnchorDraft {
    new: Vec<AnchorLeaf>,
    complete: Vec<Arc<Page>>,
    root: Frontier,
    pages: Frontier,
}

impl Anchors {
    /// All of them, in order.
    #[must_use]
    pub fn leaves(&self) -> &[AnchorLeaf] {
        &self.leaves
    }

    /// The complete pages, in order.
    #[must_use]
    pub fn pages(&self) -> &[Arc<Page>] {
        &self.complete
    }

    /// The anchors after the last encrypted page.
    #[must_use]
    pub fn tail(&self) -> &[AnchorLeaf] {
        let complete = self.complete.len().saturating_mul(PAGE_ANCHORS);
        self.leaves.get(complete..).unwrap_or_default()
    }

    /// The root over the anchors and the root over the encrypted pages.
    #[must_use]
    pub fn roots(&self) -> (Digest, Digest) {
        (self.root.root(), self.pages.root())
    }

    pub(super) fn draft(&self) -> AnchorDraft {
        AnchorDraft {
            new: Vec::new(),
            complete: Vec::new(),
            root: self.root.clone(),
            pages: self.pages.clone(),
        }
    }

    pub(super) fn commit(&mut self, draft: AnchorDraft) {
        self.leaves.extend(draft.new);
        self.complete.extend(draft.complete);
        self.root = draft.root;
        self.pages = draft.pages;
    }
}

impl AnchorDraft {
    /// Adds an anchor to those of `before`, and encrypts the page that it fills.
    pub(super) fn push(&mut self, before: &Anchors, leaf: AnchorLeaf) {
        self.root.push(leaf.leaf_hash());
        self.new.push(leaf);
        let tail = before.tail();
        // Where the open run begins among the new ones, once this block has completed a page of its own.
        let done = self.complete.len().saturating_mul(PAGE_ANCHORS).saturating_sub(tail.len());
        let old = if self.complete.is_empty() { tail } else { &[] };
        let new = self.new.get(done..).unwrap_or_default();
        if old.len().saturating_add(new.len()) < PAGE_ANCHORS {
            return;
        }
        if let Some(page) = Page::complete(&[old, new].concat()) {
            self.pages.push(page.leaf_hash());
            self.complete.push(Arc::new(page));
        }
    }

    pub(super) fn roots(&self) -> (Digest, Digest) {
        (self.root.root(), self.pages.root())
    }
}

#[cfg(test)]
mod tests {
    use crate::merkle;
    use crate::rtree::{Completeness, Query};

    use super::*;

    fn leaf(number: u32) -> AnchorLeaf {
        let day0 = i32::try_from(number % 900).unwrap();
        AnchorLeaf {
            day0,
            day1: day0 + 3,
            height: u64::from(number / 50),
            txid: Digest::of(&number.to_be_bytes()),
            segment: 0,
        }
    }

    /// However the anchors are spread over blocks, the roots are those of the whole list.
    #[test]
    fn pages_are_sealed_across_and_inside_blocks() {
        let all: Vec<AnchorLeaf> = (0..13_000).map(leaf).collect();
        let mut anchors = Anchors::default();
        let mut rest = all.as_slice();
        for size in [1, 4094, 1, 0, 4096, 4100, 700, 8] {
            let (block, after) = rest.split_at(size);
            rest = after;
            let dropped = {
                let mut draft = anchors.draft();
                block.iter().for_each(|leaf| draft.push(&anchors, *leaf));
                draft.roots()
            };
            let mut draft = anchors.draft();
            block.iter().for_each(|leaf| draft.push(&anchors, *leaf));
            assert_eq!(draft.roots(), dropped);
            anchors.commit(draft);

            let so_far = anchors.leaves();
            assert_eq!(so_far, &all[..all.len() - rest.len()]);
            let hashes: Vec<Digest> = so_far.iter().map(AnchorLeaf::leaf_hash).collect();
            let pages: Vec<Digest> = so_far
                .chunks_exact(PAGE_ANCHORS)
                .map(|run| Page::complete(run).unwrap().leaf_hash())
                .collect();
            assert_eq!(anchors.roots(), (merkle::root(&hashes), merkle::root(&pages)));
        }
        assert_eq!(rest, []);
    }

    /// 100,000 anchors at random, in blocks of any size: every answer is that of a scan of the list.
    #[test]
    fn answers_over_many_pages_are_those_of_a_scan() {
        let random = hbc_types::Random::seeded(13);
        let below = |limit: u32| u32::from_be_bytes(random.bytes()) % limit;
        let mut all = Vec::new();
        let mut anchors = Anchors::default();
        for height in 1.. {
            let mut draft = anchors.draft();
            for _ in 0..below(3_000).min(100_000 - u32::try_from(all.len()).unwrap()) {
                let day0 = i32::try_from(10_000 + below(11_000)).unwrap();
                let day1 = day0 + i32::try_from(below(400)).unwrap() * i32::from(below(9) == 0);
                let leaf =
                    AnchorLeaf { day0, day1, height, txid: Digest::from_bytes(random.bytes()), segment: 0 };
                draft.push(&anchors, leaf);
                all.push(leaf);
            }
            anchors.commit(draft);
            if all.len() == 100_000 {
                break;
            }
        }
        assert_eq!(anchors.pages().len(), 24);
        let (root, pages) = anchors.roots();
        let last = all.last().unwrap().height;
        for number in 0..60 {
            let from = i32::try_from(10_000 + below(11_500)).unwrap();
            let to = from + i32::try_from(below([1, 31, 400, 12_000][number % 4])).unwrap();
            let query = Query { from, to, as_of: u64::from(below(u32::try_from(last + 2).unwrap())) };
            let complete = anchors.pages().iter().map(Arc::as_ref);
            let proof = Completeness::prove(complete, anchors.tail(), &query, usize::MAX).unwrap();
            let mut expected: Vec<_> = all.iter().filter(|leaf| query.matches(leaf)).copied().collect();
            expected.sort_unstable();
            assert_eq!(proof.verify(&query, &root, &pages).unwrap(), expected, "{query:?}");
        }
    }

    #[test]
    fn an_answer_is_whole_under_the_roots_of_its_block() {
        let mut anchors = Anchors::default();
        let all: Vec<AnchorLeaf> = (0..13_000).map(leaf).collect();
        let mut draft = anchors.draft();
        all.iter().for_each(|leaf| draft.push(&anchors, *leaf));
        anchors.commit(draft);
        let query = Query { from: 100, to: 120, as_of: 200 };
        let (root, pages) = anchors.roots();
        let complete = anchors.pages().iter().map(Arc::as_ref);
        let proof = Completeness::prove(complete, anchors.tail(), &query, usize::MAX).unwrap();
        let found = proof.verify(&query, &root, &pages).unwrap();
        let mut expected: Vec<_> = all.iter().filter(|leaf| query.matches(leaf)).copied().collect();
        expected.sort_unstable();
        assert_eq!(found, expected);
    }
}
