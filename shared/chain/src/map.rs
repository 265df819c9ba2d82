//! The state map: a sparse Merkle map whose root stands, through `state_root`, in every header, so that "this grant is in
//! force at height h" and "it is not" have proofs.
//!
//! A key is 256 bits, `H("hbc/state-key/v1", kind, id)`, read from the most significant bit. An empty subtree is 32 zero
//! bytes, a subtree with one leaf is that leaf, `H("hbc/leaf/v1", key, SHA-256(JCS value))`, any other is
//! `H("hbc/node/v1", left, right)`. So the root depends on the entries alone, never on the order they came in.
//!
//! The map is persistent: a clone is one reference count, and a change copies only the path it touches. Tentative changes
//! are made on a clone and dropped, or take the place of the original. Hashes are computed when a root or a proof is asked
//! for, once per changed node. Memory: 120 bytes per entry plus what its value owns, and 1.44 inner nodes of 88 bytes, in
//! all about 250 bytes.

use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Serialize};

use hbc_types::digest::Digest;
use hbc_types::hash;

/// Bits of a key, and so the longest path.
pub const MAX_DEPTH: usize = 256;

/// What a map can hold.
pub trait MapValue {
    /// SHA-256 of the value's JCS form.
    fn digest(&self) -> Digest;
}

/// A value known by its digest alone.
impl MapValue for Digest {
    fn digest(&self) -> Digest {
        *self
    }
}

/// A persistent sparse Merkle map.
#[derive(Debug)]
pub struct Map<V> {
    root: MapSlot<V>,
    len: usize,
}

type MapSlot<V> = Option<MapNode<V>>;

#[derive(Debug)]
enum MapNode<V> {
    MapLeaf(Arc<MapLeaf<V>>),
    Inner(Arc<Inner<V>>),
}

#[derive(Debug)]
struct MapLeaf<V> {
    key: Digest,
    hash: OnceLock<Digest>,
    value: V,
}

#[derive(Debug)]
struct Inner<V> {
    hash: OnceLock<Digest>,
    left: MapSlot<V>,
    right: MapSlot<V>,
}

impl<V> Clone for Map<V> {
    fn clone(&self) -> Self {
        Self { root: self.root.clone(), len: self.len }
    }
}

impl<V> Default for Map<V> {
    fn default() -> Self {
        Self { root: None, len: 0 }
    }
}

impl<V> Clone for MapNode<V> {
    fn clone(&self) -> Self {
        match self {
            Self::MapLeaf(leaf) => Self::MapLeaf(Arc::clone(leaf)),
            Self::Inner(inner) => Self::Inner(Arc::clone(inner)),
        }
    }
}

/// Cloned only in order to be changed, so the hash stays behind.
impl<V> Clone for Inner<V> {
    fn clone(&self) -> Self {
        Self { hash: OnceLock::new(), left: self.left.clone(), right: self.right.clone() }
    }
}

impl<V> Inner<V> {
    const fn side(&self, right: bool) -> &MapSlot<V> {
        if right { &self.right } else { &self.left }
    }

    const fn side_mut(&mut self, right: bool) -> &mut MapSlot<V> {
        if right { &mut self.right } else { &mut self.left }
    }
}

impl<V: MapValue> MapLeaf<V> {
    fn hash(&self) -> Digest {
        *self.hash.get_or_init(|| hash::state_leaf(&self.key, &self.value.digest()))
    }
}

/// The hash of a subtree; computes what is missing below it. At most 256 deep.
fn slot_hash<V: MapValue>(slot: &MapSlot<V>) -> Digest {
    match slot {
        None => Digest::ZERO,
        Some(MapNode::MapLeaf(leaf)) => leaf.hash(),
        Some(MapNode::Inner(inner)) => {
            *inner.hash.get_or_init(|| hash::state_node(&slot_hash(&inner.left), &slot_hash(&inner.right)))
        }
    }
}

/// Bit `depth` of a key, the most significant first.
fn bit(key: &Digest, depth: usize) -> bool {
    key.as_bytes().get(depth / 8).is_some_and(|byte| byte >> (7 - depth % 8) & 1 == 1)
}

/// How many leading bits two keys share.
fn shared_bits(a: &Digest, b: &Digest) -> usize {
    (0..MAX_DEPTH).find(|depth| bit(a, *depth) != bit(b, *depth)).unwrap_or(MAX_DEPTH)
}

impl<V> Map<V> {
    /// The empty map; its root is 32 zero bytes.
    #[must_use]
    pub const fn new() -> Self {
        Self { root: None, len: 0 }
    }

    /// How many entries there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The value of a key.
    #[must_use]
    pub fn get(&self, key: &Digest) -> Option<&V> {
        let mut slot = &self.root;
        for depth in 0..=MAX_DEPTH {
            match slot {
                Some(MapNode::Inner(inner)) => slot = inner.side(bit(key, depth)),
                Some(MapNode::MapLeaf(leaf)) if leaf.key == *key => return Some(&leaf.value),
                Some(MapNode::MapLeaf(_)) | None => return None,
            }
        }
        None
    }

    /// Sets the value of a key, whether it had one or not.
    pub fn insert(&mut self, key: Digest, value: V) {
        let leaf = MapNode::MapLeaf(Arc::new(MapLeaf { key, hash: OnceLock::new(), value }));
        self.len += usize::from(insert_at(&mut self.root, 0, &key, leaf));
    }

    /// Removes a key; false if it was not there.
    pub fn remove(&mut self, key: &Digest) -> bool {
        // A path is copied only when there is something to remove.
        let found = self.get(key).is_some();
        if found {
            remove_at(&mut self.root, 0, key);
            self.len = self.len.saturating_sub(1);
        }
        found
    }

    /// All entries, in the order of their keys.
    pub fn iter(&self) -> impl Iterator<Item = (&Digest, &V)> {
        let mut stack: Vec<&MapNode<V>> = self.root.iter().collect();
        std::iter::from_fn(move || {
            loop {
                match stack.pop()? {
                    MapNode::MapLeaf(leaf) => return Some((&leaf.key, &leaf.value)),
                    MapNode::Inner(inner) => stack.extend(inner.right.iter().chain(&inner.left)),
                }
            }
        })
    }
}

impl<V: MapValue> Map<V> {
    /// The root. Costs one hash per node changed since the last call.
    #[must_use]
    pub fn root(&self) -> Digest {
        slot_hash(&self.root)
    }

    /// The proof of what the map says about a key: its value, or that it has none.
    #[must_use]
    pub fn prove(&self, key: &Digest) -> MapProof {
        let mut path = Vec::new();
        let mut slot = &self.root;
        while let Some(MapNode::Inner(inner)) = slot {
            let right = bit(key, path.len());
            path.push(slot_hash(inner.side(!right)));
            slot = inner.side(right);
        }
        let other = match slot {
            Some(MapNode::MapLeaf(leaf)) if leaf.key != *key => {
                Some(OtherLeaf { key: leaf.key, value: leaf.value.digest() })
            }
            _ => None,
        };
        MapProof { path, other }
    }
}

/// Returns whether the key is new.
fn insert_at<V>(slot: &mut MapSlot<V>, depth: usize, key: &Digest, new: MapNode<V>) -> bool {
    match slot {
        None => {
            *slot = Some(new);
            true
        }
        Some(MapNode::Inner(inner)) => {
            let inner = Arc::make_mut(inner);
            inner.hash.take();
            insert_at(inner.side_mut(bit(key, depth)), depth + 1, key, new)
        }
        Some(MapNode::MapLeaf(leaf)) if leaf.key == *key => {
            *slot = Some(new);
            false
        }
        Some(MapNode::MapLeaf(leaf)) => {
            // The two part company at the first bit in which they differ; inner nodes with one empty side lead there.
            let old = leaf.key;
            let mut inner = Inner { hash: OnceLock::new(), left: None, right: None };
            *inner.side_mut(bit(&old, depth)) = slot.take();
            insert_at(inner.side_mut(bit(key, depth)), depth + 1, key, new);
            *slot = Some(MapNode::Inner(Arc::new(inner)));
            true
        }
    }
}

fn remove_at<V>(slot: &mut MapSlot<V>, depth: usize, key: &Digest) {
    let Some(MapNode::Inner(inner)) = slot else {
        *slot = None;
        return;
    };
    let inner = Arc::make_mut(inner);
    inner.hash.take();
    remove_at(inner.side_mut(bit(key, depth)), depth + 1, key);
    // A subtree of one leaf is the leaf.
    let alone = match (&inner.left, &inner.right) {
        (None, Some(MapNode::MapLeaf(_))) => inner.right.take(),
        (Some(MapNode::MapLeaf(_)), None) => inner.left.take(),
        _ => return,
    };
    *slot = alone;
}

/// What a map says about one key: a path of sibling hashes from the root down, and, where another entry sits at the
/// path's end, that entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MapProof {
    /// The siblings on the way, the root's child first; 32 zero bytes for an empty one.
    pub path: Vec<Digest>,
    /// The entry that stands alone where the key would be; only in proofs of absence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub other: Option<OtherLeaf>,
}

/// An entry other than the one asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OtherLeaf {
    /// Its key.
    pub key: Digest,
    /// SHA-256 of its JCS value.
    pub value: Digest,
}

/// Why a proof about a map does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MapError {
    /// No map has such a path.
    #[error("no state map has a path like this")]
    Path,
    /// A proof of presence names another entry, or one of absence names the entry itself or one that is elsewhere.
    #[error("the entry at the path's end does not fit the statement")]
    End,
    /// The path leads to another root.
    #[error("the path leads to another root")]
    Root,
}

impl MapProof {
    /// That the map with this root has, under `key`, the value whose JCS form has the digest `value`.
    ///
    /// # Errors
    /// Why that is not shown.
    pub fn verify_present(&self, root: &Digest, key: &Digest, value: &Digest) -> Result<(), MapError> {
        if self.other.is_some() {
            return Err(MapError::End);
        }
        // Beside a lone leaf there is something, or the leaf would stand higher.
        if self.path.last() == Some(&Digest::ZERO) {
            return Err(MapError::Path);
        }
        self.climb(root, key, hash::state_leaf(key, value))
    }

    /// That the map with this root has no entry under `key`.
    ///
    /// # Errors
    /// Why that is not shown.
    pub fn verify_absent(&self, root: &Digest, key: &Digest) -> Result<(), MapError> {
        // Neither a lone leaf nor an empty place has an empty place beside it.
        if self.path.last() == Some(&Digest::ZERO) {
            return Err(MapError::Path);
        }
        match self.other {
            None => self.climb(root, key, Digest::ZERO),
            Some(other) if other.key == *key || shared_bits(&other.key, key) < self.path.len() => {
                Err(MapError::End)
            }
            Some(other) => self.climb(root, key, hash::state_leaf(&other.key, &other.value)),
        }
    }

    fn climb(&self, root: &Digest, key: &Digest, end: Digest) -> Result<(), MapError> {
        if self.path.len() > MAX_DEPTH {
            return Err(MapError::Path);
        }
        let found = self.path.iter().enumerate().rev().fold(end, |below, (depth, sibling)| {
            if bit(key, depth) {
                hash::state_node(sibling, &below)
            } else {
                hash::state_node(&below, sibling)
            }
        });
        if found == *root { Ok(()) } else { Err(MapError::Root) }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// The definition, word for word.
    fn naive(entries: &[(Digest, Digest)], depth: usize) -> Digest {
        match entries {
            [] => Digest::ZERO,
            [(key, value)] => hash::state_leaf(key, value),
            _ => {
                let (right, left): (Vec<_>, Vec<_>) = entries.iter().partition(|(key, _)| bit(key, depth));
                hash::state_node(&naive(&left, depth + 1), &naive(&right, depth + 1))
            }
        }
    }

    fn naive_root(entries: &BTreeMap<Digest, Digest>) -> Digest {
        naive(&entries.iter().map(|(key, value)| (*key, *value)).collect::<Vec<_>>(), 0)
    }

    /// Keys of which many share long prefixes.
    fn key() -> impl Strategy<Value = Digest> {
        prop_oneof![
            any::<[u8; 32]>().prop_map(Digest::from_bytes),
            (0_usize..32, 0_u8..8, any::<bool>()).prop_map(|(at, shift, ones)| {
                let mut bytes = if ones { [0xff; 32] } else { [0; 32] };
                bytes[at] ^= 1 << shift;
                Digest::from_bytes(bytes)
            }),
        ]
    }

    fn value() -> impl Strategy<Value = Digest> {
        any::<u8>().prop_map(|byte| Digest::of(&[byte]))
    }

    fn changes() -> impl Strategy<Value = Vec<(Digest, Option<Digest>)>> {
        proptest::collection::vec((key(), proptest::option::weighted(0.7, value())), 0..60)
    }

    fn apply(map: &mut Map<Digest>, oracle: &mut BTreeMap<Digest, Digest>, change: (Digest, Option<Digest>)) {
        match change {
            (key, Some(value)) => {
                map.insert(key, value);
                oracle.insert(key, value);
            }
            (key, None) => assert_eq!(map.remove(&key), oracle.remove(&key).is_some()),
        }
    }

    #[test]
    fn the_smallest_maps_are_as_defined() {
        let (a, b) = (Digest::from_bytes([0; 32]), Digest::from_bytes([0xff; 32]));
        let (x, y) = (Digest::of(b"x"), Digest::of(b"y"));
        let mut map = Map::new();
        assert_eq!(map.root(), Digest::ZERO);
        map.insert(a, x);
        assert_eq!(map.root(), hash::state_leaf(&a, &x));
        map.insert(b, y);
        assert_eq!(map.root(), hash::state_node(&hash::state_leaf(&a, &x), &hash::state_leaf(&b, &y)));
        assert!(map.remove(&a));
        assert_eq!(map.root(), hash::state_leaf(&b, &y));
    }

    #[test]
    fn keys_that_differ_in_the_last_bit_lie_256_deep() {
        let (a, mut last) = (Digest::ZERO, [0; 32]);
        last[31] = 1;
        let b = Digest::from_bytes(last);
        let mut map = Map::new();
        map.insert(a, a);
        map.insert(b, b);
        let proof = map.prove(&a);
        assert_eq!(proof.path.len(), 256);
        assert_eq!(proof.verify_present(&map.root(), &a, &a), Ok(()));
        assert_eq!(map.len(), 2);
        assert!(map.remove(&b));
        assert_eq!(map.root(), hash::state_leaf(&a, &a));
    }

    #[test]
    fn paths_that_no_map_has_are_refused() {
        let key = Digest::of(b"key");
        let leaf = hash::state_leaf(&key, &key);
        let mut proof = MapProof { path: vec![Digest::ZERO], other: None };
        let (left, right) = if bit(&key, 0) { (Digest::ZERO, leaf) } else { (leaf, Digest::ZERO) };
        let forged = hash::state_node(&left, &right);
        assert_eq!(proof.verify_present(&forged, &key, &key), Err(MapError::Path));
        let empty = hash::state_node(&Digest::ZERO, &Digest::ZERO);
        assert_eq!(proof.verify_absent(&empty, &key), Err(MapError::Path));
        proof.path = vec![Digest::of(b"sibling"); 257];
        assert_eq!(proof.verify_absent(&empty, &key), Err(MapError::Path));
        assert_eq!(proof.verify_present(&empty, &key, &key), Err(MapError::Path));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn the_root_is_the_naive_one_after_every_change(list in changes()) {
            let (mut map, mut oracle) = (Map::new(), BTreeMap::new());
            for change in list {
                apply(&mut map, &mut oracle, change);
                prop_assert_eq!(map.root(), naive_root(&oracle));
                prop_assert_eq!(map.len(), oracle.len());
            }
            prop_assert!(map.iter().eq(oracle.iter()));
        }

        #[test]
        fn the_order_of_insertion_does_not_show(list in changes(), seed in any::<u64>()) {
            let (mut map, mut oracle) = (Map::new(), BTreeMap::new());
            for change in list {
                apply(&mut map, &mut oracle, change);
            }
            let mut order: Vec<_> = oracle.into_iter().collect();
            order.sort_by_key(|(key, _)| hash::domain_hash("order", &[&seed.to_be_bytes(), key.as_bytes()]));
            let mut other = Map::new();
            for (key, value) in order {
                other.insert(key, value);
            }
            prop_assert_eq!(map.root(), other.root());
        }

        #[test]
        fn changes_on_a_clone_leave_the_original_alone(before in changes(), after in changes()) {
            let (mut map, mut oracle) = (Map::new(), BTreeMap::new());
            for change in before {
                apply(&mut map, &mut oracle, change);
            }
            // Half of the hashes are computed before the clone, half after.
            let root = naive_root(&oracle);
            let kept = map.clone();
            prop_assert_eq!(map.root(), root);
            let original = oracle.clone();
            for change in after {
                apply(&mut map, &mut oracle, change);
            }
            prop_assert_eq!(map.root(), naive_root(&oracle));
            prop_assert_eq!(kept.root(), root);
            prop_assert!(kept.iter().eq(original.iter()));
        }

        #[test]
        fn every_key_has_exactly_one_provable_answer(list in changes(), asked in key()) {
            let (mut map, mut oracle) = (Map::new(), BTreeMap::new());
            for change in list {
                apply(&mut map, &mut oracle, change);
            }
            let root = map.root();
            for key in oracle.keys().copied().chain([asked]) {
                let proof = map.prove(&key);
                prop_assert_eq!(map.get(&key), oracle.get(&key));
                match oracle.get(&key) {
                    Some(value) => {
                        prop_assert_eq!(proof.verify_present(&root, &key, value), Ok(()));
                        prop_assert!(proof.verify_absent(&root, &key).is_err());
                        prop_assert!(proof.verify_present(&root, &key, &Digest::of(b"not it")).is_err());
                    }
                    None => {
                        prop_assert_eq!(proof.verify_absent(&root, &key), Ok(()));
                        prop_assert!(proof.verify_present(&root, &key, &Digest::of(&[0])).is_err());
                    }
                }
            }
        }

        #[test]
        fn any_flipped_bit_breaks_a_proof(list in changes(), asked in key(), flip in any::<u32>()) {
            let mut map = Map::new();
            for (key, value) in list {
                map.insert(key, value.unwrap_or(Digest::ZERO));
            }
            let (root, key) = (map.root(), asked);
            let mut proof = map.prove(&key);
            let value = map.get(&key).copied();
            let mut words: Vec<&mut Digest> = proof.path.iter_mut().collect();
            if let Some(other) = &mut proof.other {
                words.push(&mut other.key);
                words.push(&mut other.value);
            }
            let flip = usize::try_from(flip).unwrap();
            prop_assume!(!words.is_empty());
            let place = (flip / 256) % words.len();
            let mut bytes = *words[place].as_bytes();
            bytes[flip / 8 % 32] ^= 1 << (flip % 8);
            *words[place] = Digest::from_bytes(bytes);
            match value {
                Some(value) => prop_assert!(proof.verify_present(&root, &key, &value).is_err()),
                None => prop_assert!(proof.verify_absent(&root, &key).is_err()),
            }
            proof.path.pop();
            prop_assert!(proof.verify_absent(&root, &key).is_err());
        }

        #[test]
        fn verification_is_total(
            root in key(), asked in key(), length in 0_usize..300, other in proptest::option::of((key(), value())),
        ) {
            let other = other.map(|(key, value)| OtherLeaf { key, value });
            let proof = MapProof { path: vec![asked; length], other };
            let _ = proof.verify_absent(&root, &asked);
            let _ = proof.verify_present(&root, &asked, &root);
        }
    }
}
