//! What a caller may read of an account, as access-policy said it of the label sets that were asked about.

use std::collections::HashMap;

use hbc_types::Timestamp;
use hbc_types::labels::{Category, Sensitivity};
use hbc_types::wire::access::{AllowedLabels, Labels};

/// The label sets that may be read, each with the instant before which records must have been created.
#[derive(Clone, Debug, Default)]
pub struct Readable {
    limits: HashMap<Labels, Option<Timestamp>>,
    everything: bool,
}

impl Readable {
    /// What was allowed of `asked`.
    #[must_use]
    pub fn of(asked: &[Labels], allowed: impl IntoIterator<Item = AllowedLabels>) -> Self {
        let limits: HashMap<_, _> =
            allowed.into_iter().map(|allowed| (allowed.labels, allowed.created_before)).collect();
        let everything = asked.iter().all(|labels| limits.get(labels).is_some_and(Option::is_none));
        Self { limits, everything }
    }

    /// Whether all that was asked about may be read, whenever it was created.
    #[must_use]
    pub const fn is_everything(&self) -> bool {
        self.everything
    }

    /// The label sets.
    pub fn labels(&self) -> impl Iterator<Item = Labels> {
        self.limits.keys().copied()
    }

    /// Whether a record so labelled and created then may be read.
    #[must_use]
    pub fn covers(&self, labels: Labels, created_at: Timestamp) -> bool {
        self.limits.get(&labels).is_some_and(|before| before.is_none_or(|before| created_at < before))
    }

    /// The instant before which a record so labelled must have been created, if there is one.
    #[must_use]
    pub fn before(&self, labels: Labels) -> Option<Timestamp> {
        self.limits.get(&labels).copied().flatten()
    }

    /// Whether every record so labelled may be read, those to come too.
    #[must_use]
    pub fn covers_all(&self, labels: Labels) -> bool {
        self.limits.get(&labels).is_some_and(Option::is_none)
    }
}

/// Every label set of some categories. A question about them tells nothing of what a chart holds.
#[must_use]
pub fn every_sensitivity(categories: impl IntoIterator<Item = Category>) -> Vec<Labels> {
    let sets = |category| Sensitivity::ALL.iter().map(move |found| Labels { category, sensitivity: *found });
    categories.into_iter().flat_map(sets).collect()
}
