//! A node that lost its log does not know what it signed, so it signs nothing until that cannot matter any more:
//! until two heights were decided before its eyes, each at a height that enough peers had not passed. It may have
//! signed for the height after its own last block, and of that block the others may not have known yet: hence two.
//! The chain's birth is the one case in which a missing log means that there was none.

use std::collections::BTreeMap;

use crate::consensus::MemberId;

/// Heights that must be decided before the node's eyes.
const DECISIONS: u32 = 2;

/// What a silent node has seen since its start.
#[derive(Clone, Debug, Default)]
pub struct Silence {
    heights: BTreeMap<MemberId, u64>,
    decisions: u32,
}

impl Silence {
    /// A peer said where it stands.
    pub fn heard(&mut self, member: MemberId, height: u64) {
        self.heights.insert(member, height);
    }

    /// True if this is the chain's birth: nothing is decided here nor at `peers` others, which with this node are a
    /// quorum.
    #[must_use]
    pub fn is_birth(&self, tip: u64, peers: usize) -> bool {
        tip == 0 && self.heights.values().filter(|height| **height == 0).count() >= peers
    }

    /// True if this node sees the chain as the others do and is no member of it: what it may have signed long ago
    /// cannot meet what it signs once it is voted in.
    #[must_use]
    pub fn is_outsider(&self, tip: u64, member: bool, peers: usize) -> bool {
        !member && self.abreast(tip) >= peers
    }

    /// Peers that have not passed a height.
    fn abreast(&self, height: u64) -> usize {
        self.heights.values().filter(|other| **other <= height).count()
    }

    /// A height was decided by votes that this node heard, not fetched. True once it may sign again.
    pub fn decided(&mut self, height: u64, peers: usize) -> bool {
        // Old votes that somebody repeats decide only heights that the peers have passed.
        if self.abreast(height) >= peers {
            self.decisions = self.decisions.saturating_add(1);
        }
        self.decisions >= DECISIONS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(n: u8) -> MemberId {
        MemberId([n; 32])
    }

    #[test]
    fn a_birth_needs_as_many_peers_as_make_a_quorum() {
        let mut silence = Silence::default();
        assert!(!silence.is_birth(0, 2));
        silence.heard(peer(1), 0);
        silence.heard(peer(2), 7);
        assert!(!silence.is_birth(0, 2));
        silence.heard(peer(3), 0);
        assert!(silence.is_birth(0, 2));
        assert!(!silence.is_birth(1, 2), "this node has blocks itself");
    }

    #[test]
    fn who_is_no_member_when_abreast_with_the_others_has_nothing_to_contradict() {
        let mut silence = Silence::default();
        silence.heard(peer(1), 9);
        silence.heard(peer(2), 9);
        assert!(!silence.is_outsider(8, false, 2), "still behind");
        assert!(!silence.is_outsider(9, true, 2), "a member");
        assert!(silence.is_outsider(9, false, 2));
    }

    #[test]
    fn two_live_decisions_end_it_and_repeated_old_votes_do_not() {
        let mut silence = Silence::default();
        assert!(
            !silence.decided(4, 2) && !silence.decided(5, 2) && !silence.decided(6, 2),
            "nobody was heard"
        );
        for n in 1..=3 {
            silence.heard(peer(n), 90);
        }
        assert!(!silence.decided(7, 2) && !silence.decided(8, 2), "the peers have passed these heights");
        assert!(!silence.decided(91, 2));
        assert!(silence.decided(92, 2));
    }
}
