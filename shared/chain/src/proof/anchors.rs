//! All anchors of some clinical days up to a height, and that there are no others.

use serde::{Deserialize, Serialize};

use super::certified::{CertifiedState, StateEvidence};
use super::founding::{Ground, SetChange};
use super::{Content, ProofError};
use crate::genesis::Genesis;
use crate::rtree::{AnchorLeaf, Completeness, Query};
use hbc_types::digest::Digest;
use hbc_types::time::day_text;

/// A question about anchors, its answer, and the proof that nothing was left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnchorsProof {
    /// Pages and tail.
    pub answer: Completeness,
    /// The chain.
    pub chain: Digest,
    /// The founding document; needed when only a chain id is trusted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub genesis: Option<Genesis>,
    /// The question.
    pub query: Query,
    /// Changes of the members up to the block, each certified by the set before it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sets: Vec<SetChange>,
    /// The block whose state root holds the anchors.
    pub state: StateEvidence,
}

/// Every anchor that meets the question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnchorsFacts {
    /// The block under whose state root they are complete.
    pub at: CertifiedState,
    /// The question.
    pub query: Query,
    /// The anchors, by day.
    pub anchors: Vec<AnchorLeaf>,
}

impl AnchorsProof {
    pub(super) fn verify(&self, ground: &Ground<'_>) -> Result<Content, ProofError> {
        let at = self.state.verify(ground, &ground.members(&self.sets)?)?;
        // A question about later heights would be answered with less than its name says.
        if self.query.as_of > at.certified.height || self.query.from > self.query.to {
            return Err(ProofError::Contradiction("the question is not one that this block can answer"));
        }
        let anchors = self.answer.verify(&self.query, &self.state.anchors, &self.state.pages)?;
        Ok(Content::Anchors(Box::new(AnchorsFacts { at, query: self.query, anchors })))
    }
}

impl AnchorsFacts {
    /// Of which days all anchors are there, in one sentence without its end.
    pub(super) fn statement(&self) -> String {
        let Query { from, to, as_of } = self.query;
        let (from, to, count) = (day_text(from), day_text(to), self.anchors.len());
        format!("{from} to {to}, up to height {as_of}, there are {count} anchors and no others")
    }

    pub(super) fn facts(&self, facts: &mut Vec<(&'static str, String)>) {
        for anchor in &self.anchors {
            let (day0, day1) = (day_text(anchor.day0), day_text(anchor.day1));
            facts.push(("anchor", format!("{day0} to {day1}, height {}, {}", anchor.height, anchor.txid)));
        }
        self.at.facts(facts);
    }
}
