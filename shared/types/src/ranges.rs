//! Sets of record numbers as ranges: what was handed out, voided, erased or held stays small however many there are.

use serde::{Deserialize, Serialize};
use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder, Schema, Type};

/// The largest number: what a JSON number holds exactly.
const LAST: u64 = (1 << 53) - 1;

/// Numbers from 1 to 2^53-1 as `[first, last]` pairs, ascending, with at least one number between two pairs: one form for
/// each set, and nothing else is read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<[u64; 2]>")]
pub struct Ranges(Vec<[u64; 2]>);

impl utoipa::PartialSchema for Ranges {
    fn schema() -> utoipa::openapi::RefOr<Schema> {
        let number = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1.0));
        let pair = ArrayBuilder::new().items(number).min_items(Some(2)).max_items(Some(2));
        let words = "Numbers as `[first, last]` pairs, ascending, with a gap between two";
        Schema::Array(ArrayBuilder::new().items(pair).description(Some(words)).build()).into()
    }
}
impl utoipa::ToSchema for Ranges {}

/// Not the one form of a set of numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not ascending ranges of numbers from 1 on with a gap between two")]
pub struct RangesError;

impl TryFrom<Vec<[u64; 2]>> for Ranges {
    type Error = RangesError;
    fn try_from(pairs: Vec<[u64; 2]>) -> Result<Self, RangesError> {
        let ranges = Self::of(pairs.iter().copied());
        if ranges.0 == pairs && ranges.are_within(LAST) { Ok(ranges) } else { Err(RangesError) }
    }
}

impl Ranges {
    /// The numbers of all these pairs, from 1 on; pairs that touch or overlap become one.
    pub fn of(pairs: impl IntoIterator<Item = [u64; 2]>) -> Self {
        let some = |[first, last]: &[u64; 2]| *first >= 1 && first <= last;
        let mut pairs: Vec<[u64; 2]> = pairs.into_iter().filter(some).collect();
        pairs.sort_unstable();
        let mut merged: Vec<[u64; 2]> = Vec::with_capacity(pairs.len());
        for [first, last] in pairs {
            match merged.last_mut() {
                Some([_, end]) if first <= end.saturating_add(1) => *end = last.max(*end),
                _ => merged.push([first, last]),
            }
        }
        Self(merged)
    }

    /// The pairs.
    #[must_use]
    pub fn pairs(&self) -> &[[u64; 2]] {
        &self.0
    }

    /// Whether none is greater than `max`.
    #[must_use]
    pub fn are_within(&self, max: u64) -> bool {
        self.0.last().is_none_or(|[_, last]| *last <= max)
    }

    /// How many numbers there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.iter().map(|[first, last]| last.saturating_sub(*first).saturating_add(1)).sum()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `n` is among them.
    #[must_use]
    pub fn contains(&self, n: u64) -> bool {
        let before = self.0.partition_point(|[first, _]| *first <= n);
        before.checked_sub(1).and_then(|at| self.0.get(at)).is_some_and(|[_, last]| n <= *last)
    }

    /// The numbers from 1 to `max` that are not among these.
    #[must_use]
    pub fn missing_up_to(&self, max: u64) -> Self {
        let mut next = 1;
        let mut missing = Vec::new();
        for [first, last] in &self.0 {
            missing.push([next, first.saturating_sub(1).min(max)]);
            next = last.saturating_add(1);
        }
        missing.push([next, max]);
        Self::of(missing)
    }

    /// All numbers of these sets, which have none in common; nothing if two have.
    #[must_use]
    pub fn disjoint_union(sets: &[&Self]) -> Option<Self> {
        let union = Self::of(sets.iter().flat_map(|set| set.0.iter().copied()));
        let sum: u64 = sets.iter().map(|set| set.count()).sum();
        (union.count() == sum).then_some(union)
    }
}

impl std::fmt::Display for Ranges {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (place, [first, last]) in self.0.iter().enumerate() {
            let comma = if place == 0 { "" } else { ", " };
            match first == last {
                true => write!(f, "{comma}{first}")?,
                false => write!(f, "{comma}{first}-{last}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn there_is_one_form() {
        let ranges = Ranges::of([[5, 6], [1, 2], [3, 3], [9, 8]]);
        assert_eq!(ranges.pairs(), [[1, 3], [5, 6]]);
        assert_eq!(ranges.to_string(), "1-3, 5-6");
        assert!(ranges.are_within(6) && !ranges.are_within(5));
        for pairs in
            [vec![[0, 1]], vec![[1, 1], [2, 2]], vec![[3, 3], [1, 1]], vec![[2, 1]], vec![[1, 3], [2, 4]]]
        {
            assert_eq!(Ranges::try_from(pairs.clone()), Err(RangesError), "{pairs:?}");
        }
        assert_eq!(serde_json::from_str::<Ranges>("[[1,3],[5,6]]").unwrap(), ranges);
        assert!(serde_json::from_str::<Ranges>("[[1,9007199254740992]]").is_err());
    }

    proptest! {
        #[test]
        fn they_are_the_sets_that_they_stand_for(one in proptest::collection::btree_set(1_u64..40, 0..20), other in proptest::collection::btree_set(1_u64..40, 0..20)) {
            let of = |set: &BTreeSet<u64>| Ranges::of(set.iter().map(|n| [*n, *n]));
            let (ranges, others) = (of(&one), of(&other));
            prop_assert_eq!(ranges.count(), one.len() as u64);
            for n in 0..42 {
                prop_assert_eq!(ranges.contains(n), one.contains(&n));
            }
            let missing: BTreeSet<u64> = (1..30).filter(|n| !one.contains(n)).collect();
            prop_assert_eq!(ranges.missing_up_to(29), of(&missing));
            let union = one.is_disjoint(&other).then(|| of(&one.union(&other).copied().collect()));
            prop_assert_eq!(Ranges::disjoint_union(&[&ranges, &others]), union);
        }
    }
}
