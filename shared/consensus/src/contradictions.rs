//! The first authentic text that each member signed in each slot of the running height, so that a second one is
//! seen wherever the two came from: as messages, within certificates, or in the certificate of a block that was
//! fetched. Bytes of blocks do not matter here: a proposal contradicts by its text alone.

use std::collections::{BTreeMap, BTreeSet};

use crate::types::{Equivocation, MemberId};

/// Pairs told of one member at one height: a few prove as much as thousands.
const MAX_PAIRS: usize = 3;

/// A step (0 proposal, 1 prevote, 2 precommit) and a round.
pub(super) type Slot = (u8, u32);

/// What was signed at one height.
#[derive(Debug, Default)]
pub(super) struct Contradictions {
    first: BTreeMap<(MemberId, Slot), (Vec<u8>, [u8; 64])>,
    told: BTreeMap<MemberId, BTreeSet<Slot>>,
}

impl Contradictions {
    /// Takes a text whose signature was checked. Answers the pair if it contradicts the slot's first, once per slot.
    pub(super) fn note(
        &mut self,
        (height, member): (u64, MemberId),
        slot: Slot,
        text: Vec<u8>,
        signature: [u8; 64],
    ) -> Option<Equivocation> {
        let first = self.first.entry((member, slot)).or_insert_with(|| (text.clone(), signature));
        if first.0 == text {
            return None;
        }
        let told = self.told.entry(member).or_default();
        if told.len() >= MAX_PAIRS || !told.insert(slot) {
            return None;
        }
        Some(Equivocation { member, height, first: first.clone(), second: (text, signature) })
    }

    /// Forgets everything: another height begins.
    pub(super) fn clear(&mut self) {
        self.first.clear();
        self.told.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_text_of_a_slot_is_told_once_and_few_are_told_at_all() {
        let (mut seen, liar) = (Contradictions::default(), (9, MemberId([1; 32])));
        let mut note = |slot, text: &[u8]| seen.note(liar, slot, text.to_vec(), [0; 64]);
        assert_eq!(note((1, 0), b"one"), None);
        assert_eq!(note((1, 0), b"one"), None, "the same again");
        // A new contradiction of a vote counts though a proposal's was told in between.
        assert_eq!(note((0, 0), b"one"), None);
        assert!(note((0, 0), b"two").is_some());
        let pair = note((1, 0), b"two").unwrap();
        assert_eq!((pair.first.0.as_slice(), pair.second.0.as_slice()), (&b"one"[..], &b"two"[..]));
        assert_eq!(note((1, 0), b"three"), None, "its slot was told");
        let told = (1..100).filter(|round| {
            note((2, *round), b"one");
            note((2, *round), b"two").is_some()
        });
        assert_eq!(told.count(), MAX_PAIRS - 2);
    }
}
