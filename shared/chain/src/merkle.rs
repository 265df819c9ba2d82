//! Merkle trees of RFC 6962 and RFC 9162: hashes, the appendable frontier, proofs and their verification.
//!
//! `leaf = SHA-256(0x00 ‖ data)`, `node = SHA-256(0x01 ‖ left ‖ right)`, the empty tree is SHA-256 of nothing, and a tree
//! of n leaves splits at the largest power of two below n. Everything here takes leaf *hashes*, but for [`leaf_hash`].

use sha2::{Digest as _, Sha256};

use hbc_types::digest::Digest;

/// A path is never longer than the number of bits of a leaf's index.
pub(crate) const MAX_PATH: usize = 64;

/// Why a proof does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MerkleError {
    /// The index is not inside the tree.
    #[error("the index is outside the tree")]
    OutsideTree,
    /// The sizes of a consistency proof are not an earlier and a later one of a tree with leaves.
    #[error("the sizes are not those of an earlier and a later tree")]
    Sizes,
    /// The path has too few or too many hashes.
    #[error("the path has {found} hashes, not {expected}")]
    PathLength {
        /// Hashes that the position demands.
        expected: usize,
        /// Hashes given.
        found: usize,
    },
    /// The path leads to another root.
    #[error("the path leads to another root")]
    Root,
    /// The bytes of a frontier are not those of one.
    #[error("not a tree frontier")]
    Frontier,
}

/// Bytes of the pieces in which a large slice is digested.
pub const PIECE_BYTES: usize = 1024 * 1024;

/// The digest of a record's encrypted slice (FORMATS §10): SHA-256 up to 1 MiB, above the root over its pieces of 1 MiB.
#[must_use]
pub fn slice_digest(slice: &[u8]) -> Digest {
    if slice.len() <= PIECE_BYTES {
        return Digest::of(slice);
    }
    let leaves: Vec<Digest> = slice.chunks(PIECE_BYTES).map(leaf_hash).collect();
    root(&leaves)
}

/// The hash of a leaf's data: SHA-256(0x00 ‖ data).
#[must_use]
pub fn leaf_hash(data: &[u8]) -> Digest {
    let mut hasher = Sha256::new();
    hasher.update([0]);
    hasher.update(data);
    Digest::from_bytes(hasher.finalize().into())
}

/// The hash of an inner node: SHA-256(0x01 ‖ left ‖ right).
#[must_use]
fn node_hash(left: &Digest, right: &Digest) -> Digest {
    let mut hasher = Sha256::new();
    hasher.update([1]);
    hasher.update(left.as_bytes());
    hasher.update(right.as_bytes());
    Digest::from_bytes(hasher.finalize().into())
}

/// The root of the empty tree: SHA-256 of nothing.
#[must_use]
pub fn empty_root() -> Digest {
    Digest::of(b"")
}

/// The root over leaf hashes.
#[must_use]
pub fn root(leaves: &[Digest]) -> Digest {
    let mut frontier = Frontier::new();
    for leaf in leaves {
        frontier.push(*leaf);
    }
    frontier.root()
}

/// The right edge of a tree: the roots of its complete subtrees, largest first. All that is needed to append and to know
/// the root; at most 64 hashes for any number of leaves.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Frontier {
    size: u64,
    edge: Vec<Digest>,
}

impl Frontier {
    /// The frontier of the empty tree.
    #[must_use]
    pub const fn new() -> Self {
        Self { size: 0, edge: Vec::new() }
    }

    /// Leaves so far.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Appends one leaf hash.
    pub fn push(&mut self, leaf: Digest) {
        self.push_with(leaf, &mut |_, _, _| {});
    }

    /// Appends one leaf hash and reports every node that becomes complete, the leaf first, as (level, index, hash): node
    /// `index` of `level` covers the leaves from `index << level`, `1 << level` of them. What a store keeps of them is
    /// what [`NodeSource`] must answer.
    fn push_with(&mut self, leaf: Digest, complete: &mut impl FnMut(u8, u64, Digest)) {
        let mut index = self.size;
        let mut level = 0_u8;
        let mut hash = leaf;
        complete(level, index, hash);
        while index & 1 == 1 {
            let Some(left) = self.edge.pop() else { break };
            hash = node_hash(&left, &hash);
            index >>= 1;
            level = level.saturating_add(1);
            complete(level, index, hash);
        }
        self.edge.push(hash);
        self.size = self.size.saturating_add(1);
    }

    /// The root of the tree.
    #[must_use]
    pub fn root(&self) -> Digest {
        let mut edge = self.edge.iter().rev();
        let Some(last) = edge.next() else { return empty_root() };
        edge.fold(*last, |right, left| node_hash(left, &right))
    }

    /// u64 big-endian size, then the hashes, largest subtree first.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.edge.len().saturating_mul(32).saturating_add(8));
        bytes.extend_from_slice(&self.size.to_be_bytes());
        for hash in &self.edge {
            bytes.extend_from_slice(hash.as_bytes());
        }
        bytes
    }

    /// Reads what [`Self::to_bytes`] wrote: exactly one hash per set bit of the size.
    ///
    /// # Errors
    /// [`MerkleError::Frontier`] for any other length.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, MerkleError> {
        let (size, hashes) = bytes.split_first_chunk::<8>().ok_or(MerkleError::Frontier)?;
        let size = u64::from_be_bytes(*size);
        let (hashes, rest) = hashes.as_chunks::<32>();
        let count = usize::try_from(size.count_ones()).unwrap_or(usize::MAX);
        if !rest.is_empty() || hashes.len() != count {
            return Err(MerkleError::Frontier);
        }
        Ok(Self { size, edge: hashes.iter().map(|hash| Digest::from_bytes(*hash)).collect() })
    }
}

/// Whoever holds the complete nodes of a tree.
pub trait NodeSource {
    /// Why a node could not be had.
    type Error;
    /// The node `index` of `level` (level 0 are the leaves' hashes); asked only for complete nodes.
    ///
    /// # Errors
    /// When the node is missing or unreadable.
    fn node(&self, level: u8, index: u64) -> Result<Digest, Self::Error>;
}

/// A tree held whole in memory, two hashes per leaf.
#[derive(Debug, Clone, Default)]
pub struct Tree {
    frontier: Frontier,
    levels: Vec<Vec<Digest>>,
}

/// The tree has no such node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the tree has no such node")]
pub struct NoSuchNodeError;

impl Tree {
    /// The tree over these leaf hashes.
    #[must_use]
    pub fn of(leaves: &[Digest]) -> Self {
        let mut tree = Self::default();
        for leaf in leaves {
            tree.push(*leaf);
        }
        tree
    }

    /// Appends one leaf hash.
    pub fn push(&mut self, leaf: Digest) {
        let levels = &mut self.levels;
        self.frontier.push_with(leaf, &mut |level, _, hash| {
            let level = usize::from(level);
            while levels.len() <= level {
                levels.push(Vec::new());
            }
            if let Some(row) = levels.get_mut(level) {
                row.push(hash);
            }
        });
    }

    /// Its right edge.
    #[must_use]
    pub const fn frontier(&self) -> &Frontier {
        &self.frontier
    }

    /// Leaves so far.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.frontier.size
    }

    /// The root.
    #[must_use]
    pub fn root(&self) -> Digest {
        self.frontier.root()
    }

    /// The path of leaf `index` in the tree's first `size` leaves; None outside.
    #[must_use]
    pub fn inclusion(&self, index: u64, size: u64) -> Option<Vec<Digest>> {
        if size > self.size() { None } else { inclusion_path(self, index, size).ok() }
    }

    /// The proof that the first `later` leaves begin with the first `earlier`; None outside.
    #[must_use]
    pub fn consistency(&self, earlier: u64, later: u64) -> Option<Vec<Digest>> {
        if later > self.size() { None } else { consistency_path(self, earlier, later).ok() }
    }
}

impl NodeSource for Tree {
    type Error = NoSuchNodeError;

    fn node(&self, level: u8, index: u64) -> Result<Digest, NoSuchNodeError> {
        let index = usize::try_from(index).map_err(|_too_large| NoSuchNodeError)?;
        let row = self.levels.get(usize::from(level)).ok_or(NoSuchNodeError)?;
        row.get(index).copied().ok_or(NoSuchNodeError)
    }
}

/// The largest power of two below `n` (n ≥ 2).
const fn split(n: u64) -> u64 {
    1 << (63 - (n - 1).leading_zeros())
}

/// The root of the first `size` leaves.
///
/// # Errors
/// What the source answers.
pub(crate) fn root_at<S: NodeSource>(source: &S, size: u64) -> Result<Digest, S::Error> {
    if size == 0 { Ok(empty_root()) } else { subtree(source, 0, size) }
}

/// The hash over the leaves `start..start + count`, where `start` is a multiple of the smallest power of two ≥ `count`.
fn subtree<S: NodeSource>(source: &S, start: u64, count: u64) -> Result<Digest, S::Error> {
    if count.is_power_of_two() {
        #[expect(clippy::cast_possible_truncation, reason = "at most 63")]
        let level = count.trailing_zeros() as u8;
        return source.node(level, start >> level);
    }
    let left = split(count);
    Ok(node_hash(&subtree(source, start, left)?, &subtree(source, start + left, count - left)?))
}

/// RFC 9162 §2.1.3.1: the path of leaf `index` in the tree of the first `size` leaves, nearest hash first. Empty when the
/// leaf is outside the tree.
///
/// # Errors
/// What the source answers.
pub fn inclusion_path<S: NodeSource>(source: &S, index: u64, size: u64) -> Result<Vec<Digest>, S::Error> {
    let mut path = Vec::new();
    let (mut start, mut count) = (0, if index < size { size } else { 1 });
    while count > 1 {
        let left = split(count);
        if index - start < left {
            path.push(subtree(source, start + left, count - left)?);
            count = left;
        } else {
            path.push(subtree(source, start, left)?);
            start += left;
            count -= left;
        }
    }
    path.reverse();
    Ok(path)
}

/// RFC 9162 §2.1.4.1: the proof that the first `later` leaves begin with the first `earlier` ones. Empty when the sizes
/// are equal or do not make sense.
///
/// # Errors
/// What the source answers.
fn consistency_path<S: NodeSource>(source: &S, earlier: u64, later: u64) -> Result<Vec<Digest>, S::Error> {
    if earlier == 0 || earlier >= later {
        return Ok(Vec::new());
    }
    let mut path = Vec::new();
    let (mut start, mut count) = (0, later);
    // Whether the earlier tree's root is the hash of a complete subtree that the verifier already knows.
    let mut known = true;
    while earlier - start != count {
        let left = split(count);
        if earlier - start <= left {
            path.push(subtree(source, start + left, count - left)?);
            count = left;
        } else {
            path.push(subtree(source, start, left)?);
            start += left;
            count -= left;
            known = false;
        }
    }
    if !known {
        path.push(subtree(source, start, count)?);
    }
    path.reverse();
    Ok(path)
}

/// RFC 9162 §2.1.3.2: that the leaf hash stands at `index` of the tree with `size` leaves and this root.
///
/// # Errors
/// Why it does not.
pub fn verify_inclusion(
    leaf: &Digest,
    index: u64,
    size: u64,
    path: &[Digest],
    root: &Digest,
) -> Result<(), MerkleError> {
    if index >= size {
        return Err(MerkleError::OutsideTree);
    }
    let (mut at, mut last) = (index, size - 1);
    let mut hash = *leaf;
    let mut rest = path.iter();
    let mut used = 0;
    while last > 0 {
        // On the right edge a node without sibling rises as it is.
        if at & 1 == 1 || at < last {
            let Some(sibling) = rest.next() else {
                return Err(path_length(index, size, path.len()));
            };
            used += 1;
            hash = if at & 1 == 1 { node_hash(sibling, &hash) } else { node_hash(&hash, sibling) };
        }
        at >>= 1;
        last >>= 1;
    }
    if used != path.len() {
        return Err(path_length(index, size, path.len()));
    }
    if hash == *root { Ok(()) } else { Err(MerkleError::Root) }
}

fn path_length(index: u64, size: u64, found: usize) -> MerkleError {
    let (mut at, mut last) = (index, size - 1);
    let mut expected = 0;
    while last > 0 {
        expected += usize::from(at & 1 == 1 || at < last);
        at >>= 1;
        last >>= 1;
    }
    MerkleError::PathLength { expected, found }
}

/// RFC 9162 §2.1.4.2: that the tree of `later` leaves begins with the tree of `earlier` leaves (1 ≤ earlier ≤ later).
///
/// # Errors
/// Why it does not. The empty tree begins every tree, which is no statement: size 0 is refused.
pub fn verify_consistency(
    earlier: u64,
    later: u64,
    path: &[Digest],
    earlier_root: &Digest,
    later_root: &Digest,
) -> Result<(), MerkleError> {
    if earlier == 0 || earlier > later {
        return Err(MerkleError::Sizes);
    }
    if earlier == later {
        return match path {
            [] if earlier_root == later_root => Ok(()),
            [] => Err(MerkleError::Root),
            _ => Err(MerkleError::PathLength { expected: 0, found: path.len() }),
        };
    }
    let too_short = || MerkleError::PathLength { expected: path.len().saturating_add(1), found: path.len() };
    let mut rest = path.iter();
    let (mut at, mut last) = (earlier - 1, later - 1);
    while at & 1 == 1 {
        at >>= 1;
        last >>= 1;
    }
    // A complete earlier tree is a node of the later one, and the verifier has its hash already.
    let first = if earlier.is_power_of_two() { earlier_root } else { rest.next().ok_or_else(too_short)? };
    let (mut old, mut new) = (*first, *first);
    while last > 0 {
        if at & 1 == 1 {
            let sibling = rest.next().ok_or_else(too_short)?;
            old = node_hash(sibling, &old);
            new = node_hash(sibling, &new);
        } else if at < last {
            let sibling = rest.next().ok_or_else(too_short)?;
            new = node_hash(&new, sibling);
        }
        at >>= 1;
        last >>= 1;
    }
    let unused = rest.count();
    if unused > 0 {
        return Err(MerkleError::PathLength {
            expected: path.len().saturating_sub(unused),
            found: path.len(),
        });
    }
    if old == *earlier_root && new == *later_root { Ok(()) } else { Err(MerkleError::Root) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ct_merkle::mem_backed_tree::MemoryBackedTree;
    use proptest::prelude::*;

    fn leaves(count: u64) -> Vec<Digest> {
        (0..count).map(|i| leaf_hash(&i.to_be_bytes())).collect()
    }

    /// RFC 6962 in five lines, to compare with.
    fn naive(leaves: &[Digest]) -> Digest {
        match leaves {
            [] => empty_root(),
            [leaf] => *leaf,
            _ => {
                let (left, right) = leaves.split_at(usize::try_from(split(leaves.len() as u64)).unwrap());
                node_hash(&naive(left), &naive(right))
            }
        }
    }

    #[test]
    fn every_small_tree_agrees_with_the_definition_and_proves_everything() {
        for size in 0..40 {
            let leaves = leaves(size);
            let tree = Tree::of(&leaves);
            assert_eq!(tree.root(), naive(&leaves), "{size}");
            assert_eq!(root(&leaves), naive(&leaves));
            assert_eq!(root_at(&tree, size), Ok(naive(&leaves)));
            let bytes = tree.frontier().to_bytes();
            assert_eq!(Frontier::from_bytes(&bytes).as_ref(), Ok(tree.frontier()));
            for (index, leaf) in leaves.iter().enumerate() {
                let path = tree.inclusion(index as u64, size).unwrap();
                for at in 0..size + 2 {
                    let result = verify_inclusion(leaf, at, size, &path, &tree.root());
                    assert_eq!(result.is_ok(), at == index as u64, "leaf {index} at {at} of {size}");
                }
            }
            for earlier in 1..=size {
                let early_root = naive(&leaves[..usize::try_from(earlier).unwrap()]);
                let path = tree.consistency(earlier, size).unwrap();
                assert_eq!(verify_consistency(earlier, size, &path, &early_root, &tree.root()), Ok(()));
            }
        }
    }

    #[test]
    fn a_grown_tree_still_proves_what_it_was() {
        let leaves = leaves(33);
        let tree = Tree::of(&leaves);
        for size in 1..=33 {
            let earlier_root = root_at(&tree, size).unwrap();
            assert_eq!(earlier_root, naive(&leaves[..usize::try_from(size).unwrap()]));
            for (index, leaf) in (0..size).zip(&leaves) {
                let path = tree.inclusion(index, size).unwrap();
                assert_eq!(verify_inclusion(leaf, index, size, &path, &earlier_root), Ok(()));
            }
            for later in size..=33 {
                let later_root = root_at(&tree, later).unwrap();
                let path = tree.consistency(size, later).unwrap();
                assert_eq!(verify_consistency(size, later, &path, &earlier_root, &later_root), Ok(()));
                let other = verify_consistency(size, later, &path, &later_root, &earlier_root);
                assert_eq!(other.is_ok(), size == later);
            }
        }
        assert_eq!(tree.inclusion(0, 34), None);
        assert_eq!(tree.consistency(1, 34), None);
    }

    #[test]
    fn a_frontier_of_another_length_is_refused() {
        let bytes = Tree::of(&leaves(5)).frontier().to_bytes();
        assert!(Frontier::from_bytes(&bytes[..bytes.len() - 1]).is_err());
        assert!(Frontier::from_bytes(&[&bytes[..], &[0; 32]].concat()).is_err());
        assert!(Frontier::from_bytes(&[]).is_err());
    }

    proptest! {
        #[test]
        fn agrees_with_ct_merkle(size in 1_u64..300, a in 0_u64..300, b in 0_u64..300) {
            let (index, earlier) = (a % size, b % size + 1);
            let mut oracle = MemoryBackedTree::<sha2::Sha256, Vec<u8>>::new();
            for i in 0..size {
                oracle.push(i.to_be_bytes().to_vec());
            }
            let tree = Tree::of(&leaves(size));
            let (ours, theirs) = (tree.root(), oracle.root());
            prop_assert_eq!(ours.as_bytes().as_slice(), theirs.as_bytes().as_slice());
            let path = tree.inclusion(index, size).unwrap();
            let bytes: Vec<u8> = path.iter().flat_map(|hash| *hash.as_bytes()).collect();
            let oracle_path = oracle.prove_inclusion(usize::try_from(index).unwrap());
            prop_assert_eq!(&bytes, oracle_path.as_bytes());
            if earlier < size {
                let path = tree.consistency(earlier, size).unwrap();
                let bytes: Vec<u8> = path.iter().flat_map(|hash| *hash.as_bytes()).collect();
                let oracle_path = oracle.prove_consistency(usize::try_from(size - earlier).unwrap());
                prop_assert_eq!(&bytes, oracle_path.as_bytes());
            }
        }

        #[test]
        fn any_change_breaks_a_proof(size in 2_u64..200, a in 0_u64..200, bit in 0_usize..4096) {
            let index = a % size;
            let tree = Tree::of(&leaves(size));
            let leaf = leaf_hash(&index.to_be_bytes());
            let mut path = tree.inclusion(index, size).unwrap();
            let place = bit / 256 % path.len();
            let mut bytes = *path[place].as_bytes();
            bytes[bit / 8 % 32] ^= 1 << (bit % 8);
            path[place] = Digest::from_bytes(bytes);
            prop_assert_eq!(verify_inclusion(&leaf, index, size, &path, &tree.root()), Err(MerkleError::Root));
        }

        #[test]
        fn verification_is_total(
            index in any::<u64>(), size in any::<u64>(), earlier in any::<u64>(), count in 0_usize..70,
        ) {
            let path = vec![Digest::ZERO; count];
            prop_assert!(verify_inclusion(&Digest::ZERO, index, size, &path, &Digest::ZERO).is_err() || size == 1);
            let _ = verify_consistency(earlier, size, &path, &Digest::ZERO, &Digest::ZERO);
        }
    }
}
