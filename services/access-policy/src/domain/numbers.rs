//! Record numbers: n = 1, 2, … per patient and label set, handed out in ranges to write intents. Every number ends up
//! final or void, so a reader who knows the highest one can tell that nothing was withheld.

use std::collections::BTreeMap;

use hbc_types::Digest;
use hbc_types::ids::IntentId;
use hbc_types::ranges::Ranges;
use hbc_types::wire::access::{AnchoredItem, Labels, NumberSet};

/// What became of a range of numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RangeState {
    /// Handed out; the records are on their way.
    Open,
    /// The records stand on the ledger.
    Final,
    /// Never written, never unwrapped.
    Void,
}

impl RangeState {
    /// The code in the database.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Final => "final",
            Self::Void => "void",
        }
    }

    /// The state of a code.
    #[must_use]
    pub fn parse(code: &str) -> Option<Self> {
        [Self::Open, Self::Final, Self::Void].into_iter().find(|state| state.code() == code)
    }
}

/// Consecutive numbers of one label set that went to one intent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NumberRange {
    /// The label set.
    pub labels: Labels,
    /// The first number.
    pub first: u64,
    /// The last number.
    pub last: u64,
    /// Who got them.
    pub intent: IntentId,
    /// What became of them.
    pub state: RangeState,
}

/// The numbers of one label set as the database has them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SetState {
    /// The highest number handed out.
    pub n_max: u64,
    /// Those whose records are on their way.
    pub open: Ranges,
    /// Those that are void.
    pub voided: Ranges,
}

impl SetState {
    /// The set as readers see it.
    #[must_use]
    pub fn view(&self, labels: Labels) -> NumberSet {
        NumberSet {
            labels,
            n_max: self.n_max,
            open: self.open.clone(),
            voided: self.voided.clone(),
            erased: Ranges::default(),
        }
    }
}

/// How many numbers each label set needs, in the order of the sets.
#[must_use]
pub fn count_by_set(labels: impl Iterator<Item = Labels>) -> BTreeMap<Labels, u64> {
    let mut counts = BTreeMap::new();
    for labels in labels {
        *counts.entry(labels).or_insert(0) += 1;
    }
    counts
}

/// The number of each item in order, counting up from the first number of its set; `None` if a range is too short.
#[must_use]
pub fn assign(items: &[Labels], ranges: &[NumberRange]) -> Option<Vec<u64>> {
    let mut next: BTreeMap<Labels, (u64, u64)> =
        ranges.iter().map(|range| (range.labels, (range.first, range.last))).collect();
    let mut numbers = Vec::with_capacity(items.len());
    for labels in items {
        let (n, last) = next.get_mut(labels)?;
        if *n > *last {
            return None;
        }
        numbers.push(*n);
        *n += 1;
    }
    Some(numbers)
}

/// A piece of a range after some of its numbers became final, with the commitments of the final ones in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The first number.
    pub first: u64,
    /// The last number.
    pub last: u64,
    /// 32 bytes per number for a final piece, nothing for one that stays open.
    pub commitments: Option<Vec<u8>>,
}

/// Cuts `range` into runs of numbers that are anchored and runs that are not.
#[must_use]
pub fn settle(range: &NumberRange, anchored: &BTreeMap<u64, Digest>) -> Vec<Piece> {
    let mut pieces: Vec<Piece> = Vec::new();
    for n in range.first..=range.last {
        let commitment = anchored.get(&n);
        match pieces.last_mut() {
            Some(piece) if piece.commitments.is_some() == commitment.is_some() => {
                piece.last = n;
                if let (Some(bytes), Some(commitment)) = (&mut piece.commitments, commitment) {
                    bytes.extend_from_slice(commitment.as_bytes());
                }
            }
            _ => pieces.push(Piece {
                first: n,
                last: n,
                commitments: commitment.map(|digest| digest.as_bytes().to_vec()),
            }),
        }
    }
    pieces
}

/// The reported items by label set and number.
#[must_use]
pub fn by_set(items: &[AnchoredItem]) -> BTreeMap<Labels, BTreeMap<u64, Digest>> {
    let mut sets: BTreeMap<Labels, BTreeMap<u64, Digest>> = BTreeMap::new();
    for item in items {
        sets.entry(item.labels).or_default().insert(item.n, item.commitment);
    }
    sets
}

#[cfg(test)]
mod tests {
    use super::*;
    use hbc_types::Random;
    use hbc_types::labels::{Category, Sensitivity};
    use proptest::prelude::*;

    fn labels(category: Category) -> Labels {
        Labels { category, sensitivity: Sensitivity::Normal }
    }

    fn range(first: u64, last: u64) -> NumberRange {
        NumberRange {
            labels: labels(Category::Laboratory),
            first,
            last,
            intent: IntentId::random(&Random::seeded(1)),
            state: RangeState::Open,
        }
    }

    #[test]
    fn items_get_their_sets_numbers_in_order() {
        let (lab, vital) = (labels(Category::Laboratory), labels(Category::VitalSigns));
        let ranges = [range(5, 6), NumberRange { labels: vital, ..range(1, 1) }];
        assert_eq!(assign(&[lab, vital, lab], &ranges), Some(vec![5, 1, 6]));
        assert_eq!(assign(&[lab, lab, lab], &ranges), None);
        assert_eq!(assign(&[labels(Category::Other)], &ranges), None);
    }

    #[test]
    fn a_set_is_shown_as_it_is() {
        let set = SetState { n_max: 9, open: Ranges::of([[9, 9]]), voided: Ranges::of([[3, 4]]) };
        let view = set.view(labels(Category::Laboratory));
        assert_eq!((view.open.pairs(), view.voided.pairs()), ([[9, 9]].as_slice(), [[3, 4]].as_slice()));
    }

    proptest! {
        #[test]
        fn settling_loses_and_invents_nothing(length in 1_u64..40, picks in proptest::collection::btree_set(1_u64..40, 0..20)) {
            let range = range(1, length);
            let anchored: BTreeMap<u64, Digest> =
                picks.into_iter().filter(|n| *n <= length).map(|n| (n, Digest::of(&n.to_be_bytes()))).collect();
            let pieces = settle(&range, &anchored);
            let mut next = 1;
            for piece in &pieces {
                prop_assert_eq!(piece.first, next);
                next = piece.last + 1;
                for n in piece.first..=piece.last {
                    prop_assert_eq!(piece.commitments.is_some(), anchored.contains_key(&n));
                }
                if let Some(bytes) = &piece.commitments {
                    prop_assert_eq!(bytes.len() as u64, (piece.last - piece.first + 1) * 32);
                }
            }
            prop_assert_eq!(next, length + 1);
        }
    }
}
