//! What members told on the chain about nodes: `node.event` transactions, by what they say, with who said it.
//! Made from blocks, bounded, no I/O.
//!
//! Why: decision 0092.

use std::collections::{BTreeMap, VecDeque};

use hbc_types::Digest;
use hbc_types::keys::Kid;

use crate::payload::NodeEvent;

/// Events remembered, the latest.
const MOST: usize = 256;
/// Votes remembered of one event: no consortium has more members.
const MOST_VOTES: usize = 128;

/// One event and the members who told it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// What is told; `iat` is the first vote's.
    pub event: NodeEvent,
    /// Equal for equal events.
    pub ballot: Digest,
    /// Who told it.
    pub votes: Vec<Kid>,
    /// The block in which it took effect: the node itself said so, or more than a third of the members.
    pub took_effect: Option<u64>,
}

/// The latest events.
#[derive(Clone, Debug, Default)]
pub struct Events(VecDeque<Told>);

impl Events {
    /// Takes the vote of a transaction in a final block; `took_effect` if the event takes effect since then. As in the
    /// state, a member has one pending vote about another node, the latest.
    pub fn note(&mut self, event: &NodeEvent, ballot: Digest, vote: Kid, took_effect: Option<u64>) {
        if took_effect.is_none() {
            let waits = |told: &Told| told.took_effect.is_none() && told.event.node == event.node;
            for told in self.0.iter_mut().filter(|told| waits(told) && told.ballot != ballot) {
                told.votes.retain(|other| *other != vote);
            }
            self.0.retain(|told| !told.votes.is_empty());
        }
        if let Some(told) = self.0.iter_mut().find(|told| told.ballot == ballot) {
            told.took_effect = told.took_effect.or(took_effect);
            if !told.votes.contains(&vote) && told.votes.len() < MOST_VOTES {
                told.votes.push(vote);
            }
            return;
        }
        if self.0.len() >= MOST {
            let first = self.least_missed();
            self.0.remove(first);
        }
        self.0.push_back(Told { event: event.clone(), ballot, votes: vec![vote], took_effect });
    }

    /// The event that gives way: what did not act before what all know, and of that what only the member says that says
    /// most, so that a flood of one pushes out nobody else's.
    fn least_missed(&self) -> usize {
        let alone = || {
            self.0.iter().enumerate().filter_map(|(place, told)| match told.votes.as_slice() {
                [vote] if told.took_effect.is_none() => Some((place, *vote)),
                _ => None,
            })
        };
        let mut counts: BTreeMap<Kid, usize> = BTreeMap::new();
        alone().for_each(|(_, vote)| *counts.entry(vote).or_default() += 1);
        let loudest = counts.iter().max_by_key(|(_, count)| **count).map(|(vote, _)| *vote);
        let oldest = alone().find(|(_, vote)| Some(*vote) == loudest).map(|(place, _)| place);
        oldest.or_else(|| self.0.iter().position(|told| told.took_effect.is_none())).unwrap_or(0)
    }

    /// The events, oldest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Told> {
        self.0.iter()
    }

    /// True if such an event about the node takes effect already for a height not more than `within` before: a member
    /// that lies at every height is known after the first.
    #[must_use]
    pub fn is_known(&self, node: &str, event: &str, height: u64, within: u64) -> bool {
        self.iter()
            .filter(|told| told.took_effect.is_some() && told.event.node == node)
            .any(|told| told.event.event == event && told.event.height.abs_diff(height) <= within)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(node: &str, height: u64) -> NodeEvent {
        NodeEvent {
            chain: Digest::ZERO,
            event: "equivocation".to_owned(),
            evidence: Digest::of(b"evidence"),
            height,
            iat: 1,
            node: node.to_owned(),
        }
    }

    #[test]
    fn votes_gather_until_the_event_takes_effect() {
        let mut events = Events::default();
        let (one, two, ballot) = (Digest::of(b"one"), Digest::of(b"two"), Digest::of(b"ballot"));
        events.note(&event("node-4", 7), ballot, one, None);
        events.note(&event("node-4", 7), ballot, one, None);
        assert!(!events.is_known("node-4", "equivocation", 7, 100));
        events.note(&event("node-4", 7), ballot, two, Some(9));
        let told: Vec<_> = events.iter().cloned().collect();
        assert_eq!(told.len(), 1);
        assert_eq!((told[0].votes.as_slice(), told[0].took_effect), ([one, two].as_slice(), Some(9)));
        assert!(events.is_known("node-4", "equivocation", 107, 100));
        assert!(!events.is_known("node-4", "equivocation", 108, 100));
        assert!(!events.is_known("node-3", "equivocation", 7, 100));
    }

    #[test]
    fn of_what_a_member_says_about_a_node_the_latest_is_pending() {
        let mut events = Events::default();
        let (liar, honest) = (Digest::of(b"liar"), Digest::of(b"honest"));
        events.note(&event("node-4", 7), Digest::of(b"true"), honest, None);
        for n in 0..1_000_u32 {
            events.note(&event("node-4", 7), Digest::of(&n.to_be_bytes()), liar, None);
        }
        assert_eq!(events.iter().count(), 2, "one of each");
        events.note(&event("node-4", 7), Digest::of(b"true"), liar, Some(9));
        let told: Vec<_> = events.iter().filter(|told| told.took_effect.is_some()).collect();
        assert_eq!(told.len(), 1);
        assert_eq!(told[0].votes, [honest, liar]);
    }

    #[test]
    fn a_flood_of_one_member_is_bounded_and_pushes_out_nobody_elses() {
        let mut events = Events::default();
        events.note(&event("node-4", 7), Digest::of(b"real"), Digest::of(b"one"), Some(1));
        events.note(&event("node-4", 9), Digest::of(b"waits"), Digest::of(b"two"), None);
        for n in 0..10_000_u32 {
            let node = format!("node-{}", 100 + n);
            events.note(&event(&node, 7), Digest::of(&n.to_be_bytes()), Digest::of(b"liar"), None);
        }
        assert_eq!(events.iter().count(), MOST);
        assert!(events.is_known("node-4", "equivocation", 7, 0));
        assert!(events.iter().any(|told| told.ballot == Digest::of(b"waits")));
    }
}
