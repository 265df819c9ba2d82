//! Anchors by clinical days and height: an R-tree whose answers prove that nothing was withheld.
//!
//! Anchors are numbered as they become final. Each full run of 4,096 is completed into one page, for ever: sorted by
//! the middle of their days, cut into 16 slices, each slice sorted by height, and packed 16 to a node, 16 nodes to a
//! slice, 16 slices to the page. A node's hash covers its children's boxes and hashes:
//!
//! - anchor = i32 day0 ‖ i32 day1 ‖ u64 height ‖ txid ‖ u16 segment (50 bytes); box = i32 day0 ‖ i32 day1 ‖ u64 height0 ‖ u64 height1 (24);
//! - bottom node = H("hbc/rtree-leaf/v1", its anchors one after the other);
//! - inner node = H("hbc/rtree-node/v1", box ‖ hash of each child);
//! - `anchors` = RFC 6962 over the anchors in their order;
//! - `pages` = RFC 6962 over one leaf per page: box ‖ hash of its top node ‖ RFC 6962 root over its run, in their order.
//!
//! So a proof is: every page, opened where its box meets the question; all anchors after the last page. The runs' roots tie
//! the two trees together, so that neither a page nor a late anchor can be left out.

use serde::{Deserialize, Serialize};

use super::merkle::{self, NodeSource};
use super::payload::Anchor;
use hbc_types::digest::Digest;
use hbc_types::hash::domain_hash;

/// Bytes of an anchor.
const ANCHOR_BYTES: usize = 50;
/// Anchors in a page.
pub const PAGE_ANCHORS: usize = 4096;
/// Children of a node.
const FANOUT: usize = 16;
/// Levels of a page: bottom nodes, slices, the page.
const LEVELS: usize = 3;
/// Anchors in a slice.
const SLICE_ANCHORS: usize = PAGE_ANCHORS / FANOUT;
/// An anchor's JSON has no more bytes than this, its comma included.
const ANCHOR_TEXT_BYTES: usize = 162;
/// So has a node's, whether it is closed or opened, its children not counted.
const NODE_TEXT_BYTES: usize = 220;
/// And the run of a page.
const RUN_TEXT_BYTES: usize = 90;
/// A run of 4,096 leaves is a complete subtree of this level.
const PAGE_LEVEL: u8 = 12;

/// What the index knows of a segment that a `record.anchor` names.
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
    /// Which of its segments, from 0.
    pub segment: u16,
}

impl AnchorLeaf {
    /// The leaves of a transaction that is final at this height: one for each segment, in their order.
    pub fn all_of(anchor: &Anchor, height: u64, txid: Digest) -> impl Iterator<Item = Self> {
        let segments = (0..).zip(&anchor.segments);
        segments.map(move |(place, segment)| Self {
            day0: segment.day0,
            day1: segment.day1,
            height,
            txid,
            segment: place,
        })
    }

    /// i32 day0 ‖ i32 day1 ‖ u64 height ‖ txid ‖ u16 segment, big-endian.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; ANCHOR_BYTES] {
        let Self { day0, day1, height, txid, segment } = self;
        let mut bytes = [0; ANCHOR_BYTES];
        let (numbers, rest) = bytes.split_at_mut(16);
        let packed = u128::from(day0.cast_unsigned()) << 96
            | u128::from(day1.cast_unsigned()) << 64
            | u128::from(*height);
        numbers.copy_from_slice(&packed.to_be_bytes());
        let (id, place) = rest.split_at_mut(32);
        id.copy_from_slice(txid.as_bytes());
        place.copy_from_slice(&segment.to_be_bytes());
        bytes
    }

    /// Its leaf hash in the tree over all anchors.
    #[must_use]
    pub fn leaf_hash(&self) -> Digest {
        merkle::leaf_hash(&self.to_bytes())
    }

    const fn bounds(&self) -> Bounds {
        Bounds { day0: self.day0, day1: self.day1, height0: self.height, height1: self.height }
    }
}

/// A box: the smallest that holds what lies below a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bounds {
    /// The first of the first days.
    pub day0: i32,
    /// The last of the last days.
    pub day1: i32,
    /// The lowest height.
    pub height0: u64,
    /// The highest height.
    pub height1: u64,
}

impl Bounds {
    const EMPTY: Self = Self { day0: i32::MAX, day1: i32::MIN, height0: u64::MAX, height1: 0 };

    fn with(self, other: Self) -> Self {
        Self {
            day0: self.day0.min(other.day0),
            day1: self.day1.max(other.day1),
            height0: self.height0.min(other.height0),
            height1: self.height1.max(other.height1),
        }
    }

    fn write(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&self.day0.to_be_bytes());
        bytes.extend_from_slice(&self.day1.to_be_bytes());
        bytes.extend_from_slice(&self.height0.to_be_bytes());
        bytes.extend_from_slice(&self.height1.to_be_bytes());
    }
}

/// A question: anchors whose days meet `from..=to`, final at height `as_of` or before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Query {
    /// The first day.
    pub from: i32,
    /// The last day.
    pub to: i32,
    /// The last height.
    pub as_of: u64,
}

impl Query {
    const fn meets(&self, bounds: &Bounds) -> bool {
        bounds.day0 <= self.to && bounds.day1 >= self.from && bounds.height0 <= self.as_of
    }

    /// Whether an anchor belongs to the answer.
    #[must_use]
    pub const fn matches(&self, anchor: &AnchorLeaf) -> bool {
        self.meets(&anchor.bounds())
    }
}

fn bottom(anchors: &[AnchorLeaf]) -> (Bounds, Digest) {
    let bytes: Vec<u8> = anchors.iter().flat_map(AnchorLeaf::to_bytes).collect();
    let bounds = anchors.iter().fold(Bounds::EMPTY, |bounds, anchor| bounds.with(anchor.bounds()));
    (bounds, domain_hash("hbc/rtree-leaf/v1", &[&bytes]))
}

fn inner(children: &[(Bounds, Digest)]) -> (Bounds, Digest) {
    let mut bytes = Vec::with_capacity(children.len().saturating_mul(56));
    let mut bounds = Bounds::EMPTY;
    for (child, hash) in children {
        child.write(&mut bytes);
        bytes.extend_from_slice(hash.as_bytes());
        bounds = bounds.with(*child);
    }
    (bounds, domain_hash("hbc/rtree-node/v1", &[&bytes]))
}

/// A complete page.
#[derive(Debug, Clone)]
pub struct Page {
    packed: Vec<AnchorLeaf>,
    /// From the bottom nodes up to the page's own: 256, 16, 1.
    levels: [Vec<(Bounds, Digest)>; LEVELS],
    run: Digest,
}

impl Page {
    /// Completes a page from a run of exactly 4,096 anchors, given in their order; None for any other number. About a
    /// millisecond.
    #[must_use]
    pub fn complete(run: &[AnchorLeaf]) -> Option<Self> {
        if run.len() != PAGE_ANCHORS {
            return None;
        }
        let mut packed = run.to_vec();
        packed.sort_unstable_by_key(|anchor| (i64::from(anchor.day0) + i64::from(anchor.day1), *anchor));
        for slice in packed.chunks_mut(SLICE_ANCHORS) {
            slice.sort_unstable_by_key(|anchor| (anchor.height, *anchor));
        }
        let bottoms: Vec<_> = packed.chunks(FANOUT).map(bottom).collect();
        let slices: Vec<_> = bottoms.chunks(FANOUT).map(inner).collect();
        let top = vec![inner(&slices)];
        let hashes: Vec<Digest> = run.iter().map(AnchorLeaf::leaf_hash).collect();
        Some(Self { packed, levels: [bottoms, slices, top], run: merkle::root(&hashes) })
    }

    /// The page's leaf hash in the tree over all pages.
    #[must_use]
    pub fn leaf_hash(&self) -> Digest {
        let (bounds, top) = self.top();
        page_leaf(&bounds, &top, &self.run)
    }

    fn top(&self) -> (Bounds, Digest) {
        let [.., top] = &self.levels;
        top.first().copied().unwrap_or((Bounds::EMPTY, Digest::ZERO))
    }

    /// Opens the node `index` of `level` (0: bottom) as far as the question reaches.
    fn open(&self, level: usize, index: usize, query: &Query, room: &mut Room) -> Option<Node> {
        let first = index.saturating_mul(FANOUT);
        let Some(below) = level.checked_sub(1) else {
            let anchors: Vec<_> = self.packed.iter().skip(first).take(FANOUT).copied().collect();
            room.take(anchors.len().saturating_mul(ANCHOR_TEXT_BYTES))?;
            return Some(Node::Anchors(anchors));
        };
        let children = self.levels.get(below).map(Vec::as_slice).unwrap_or_default();
        let children = children.iter().enumerate().skip(first).take(FANOUT);
        let children =
            children.map(|(at, (bounds, hash))| self.child(below, at, (*bounds, *hash), query, room));
        Some(Node::Children(children.collect::<Option<_>>()?))
    }

    fn child(
        &self,
        level: usize,
        index: usize,
        (bounds, hash): (Bounds, Digest),
        query: &Query,
        room: &mut Room,
    ) -> Option<Child> {
        room.take(NODE_TEXT_BYTES)?;
        if query.meets(&bounds) {
            Some(Child::Open(self.open(level, index, query, room)?))
        } else {
            Some(Child::Closed { bounds, hash })
        }
    }

    fn prove(&self, query: &Query, room: &mut Room) -> Option<PageProof> {
        room.take(RUN_TEXT_BYTES)?;
        Some(PageProof { page: self.child(LEVELS - 1, 0, self.top(), query, room)?, run: self.run })
    }
}

/// How many bytes of text a proof may still have.
struct Room(usize);

impl Room {
    fn take(&mut self, bytes: usize) -> Option<()> {
        self.0 = self.0.checked_sub(bytes)?;
        Some(())
    }
}

fn page_leaf(bounds: &Bounds, top: &Digest, run: &Digest) -> Digest {
    let mut bytes = Vec::with_capacity(88);
    bounds.write(&mut bytes);
    bytes.extend_from_slice(top.as_bytes());
    bytes.extend_from_slice(run.as_bytes());
    merkle::leaf_hash(&bytes)
}

/// An opened node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Node {
    /// The 16 children of an inner node.
    Children(Vec<Child>),
    /// The 16 anchors of a bottom node.
    Anchors(Vec<AnchorLeaf>),
}

/// A child, opened or not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Child {
    /// The question meets its box.
    Open(Node),
    /// It does not.
    Closed {
        /// Its box.
        bounds: Bounds,
        /// Its hash.
        hash: Digest,
    },
}

/// What a proof says about a page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PageProof {
    /// Its top node.
    pub page: Child,
    /// RFC 6962 root over its run.
    pub run: Digest,
}

/// All anchors that answer a question, and the proof that there are no others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Completeness {
    /// Every page, in order.
    pub pages: Vec<PageProof>,
    /// Every anchor after the last page, in order.
    pub tail: Vec<AnchorLeaf>,
}

/// Why an answer is not shown to be complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RtreeError {
    /// A node has another number of children, or lies at another depth, than pages have.
    #[error("no page has a node like this")]
    Shape,
    /// A node that the question meets is closed, or one that it does not meet is open.
    #[error("the proof opens other nodes than the question meets")]
    Opened,
    /// The pages are not those of the ledger.
    #[error("the pages lead to another root")]
    Pages,
    /// The anchors are not those of the ledger.
    #[error("the anchors lead to another root")]
    Anchors,
}

impl Completeness {
    /// The proof for a question, from all pages and the anchors after the last one; None when its text would have more
    /// than `max_bytes`, as counted by the longest numbers: no more memory than that is used to find out.
    pub fn prove<'a>(
        pages: impl IntoIterator<Item = &'a Page>,
        tail: &[AnchorLeaf],
        query: &Query,
        max_bytes: usize,
    ) -> Option<Self> {
        let mut room = Room(max_bytes);
        room.take(tail.len().saturating_mul(ANCHOR_TEXT_BYTES))?;
        let pages = pages.into_iter().map(|page| page.prove(query, &mut room)).collect::<Option<_>>()?;
        Some(Self { pages, tail: tail.to_vec() })
    }

    /// Checks the proof against the roots `anchors` and `pages` of a state root, and answers the anchors that match, sorted.
    ///
    /// # Errors
    /// Why it shows nothing.
    pub fn verify(
        &self,
        query: &Query,
        anchors: &Digest,
        pages: &Digest,
    ) -> Result<Vec<AnchorLeaf>, RtreeError> {
        if self.tail.len() >= PAGE_ANCHORS {
            return Err(RtreeError::Shape);
        }
        let mut found: Vec<AnchorLeaf> =
            self.tail.iter().filter(|anchor| query.matches(anchor)).copied().collect();
        let mut leaves = Vec::with_capacity(self.pages.len());
        for proof in &self.pages {
            let (bounds, top) = check_child(&proof.page, LEVELS - 1, query, &mut found)?;
            leaves.push(page_leaf(&bounds, &top, &proof.run));
        }
        if merkle::root(&leaves) != *pages {
            return Err(RtreeError::Pages);
        }
        if self.anchors_root() != *anchors {
            return Err(RtreeError::Anchors);
        }
        found.sort_unstable();
        Ok(found)
    }

    /// The root over all anchors, from the runs of the pages and the tail.
    fn anchors_root(&self) -> Digest {
        let runs = merkle::Tree::of(&self.pages.iter().map(|page| page.run).collect::<Vec<_>>());
        let tail = merkle::Tree::of(&self.tail.iter().map(AnchorLeaf::leaf_hash).collect::<Vec<_>>());
        let size = runs.size().saturating_mul(1 << PAGE_LEVEL).saturating_add(tail.size());
        // Every node that is asked for is complete, and so is held by one of the two.
        merkle::root_at(&Joined { runs, tail }, size).unwrap_or(Digest::ZERO)
    }
}

/// The tree over all anchors: above the pages' level the tree over the runs, below it the tree over the tail.
struct Joined {
    runs: merkle::Tree,
    tail: merkle::Tree,
}

impl NodeSource for Joined {
    type Error = merkle::NoSuchNodeError;

    fn node(&self, level: u8, index: u64) -> Result<Digest, Self::Error> {
        match level.checked_sub(PAGE_LEVEL) {
            Some(above) => self.runs.node(above, index),
            None => {
                let before = self.runs.size() << (PAGE_LEVEL - level);
                let index = index.checked_sub(before).ok_or(merkle::NoSuchNodeError)?;
                self.tail.node(level, index)
            }
        }
    }
}

/// Answers the child's box and hash, and collects the anchors below it that match.
fn check_child(
    child: &Child,
    level: usize,
    query: &Query,
    found: &mut Vec<AnchorLeaf>,
) -> Result<(Bounds, Digest), RtreeError> {
    let (bounds, hash, open) = match child {
        Child::Closed { bounds, hash } => (*bounds, *hash, false),
        Child::Open(node) => {
            let (bounds, hash) = check_node(node, level, query, found)?;
            (bounds, hash, true)
        }
    };
    if open == query.meets(&bounds) { Ok((bounds, hash)) } else { Err(RtreeError::Opened) }
}

fn check_node(
    node: &Node,
    level: usize,
    query: &Query,
    found: &mut Vec<AnchorLeaf>,
) -> Result<(Bounds, Digest), RtreeError> {
    match (node, level.checked_sub(1)) {
        (Node::Anchors(anchors), None) if anchors.len() == FANOUT => {
            found.extend(anchors.iter().filter(|anchor| query.matches(anchor)));
            Ok(bottom(anchors))
        }
        (Node::Children(children), Some(below)) if children.len() == FANOUT => {
            let children = children.iter().map(|child| check_child(child, below, query, found));
            Ok(inner(&children.collect::<Result<Vec<_>, _>>()?))
        }
        _ => Err(RtreeError::Shape),
    }
}

#[cfg(test)]
#[path = "rtree/tests.rs"]
mod tests;
