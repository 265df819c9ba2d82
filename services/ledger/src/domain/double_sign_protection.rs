//! A node that lost its log does not know what it signed, so it signs nothing until that cannot matter any more:
//! until two heights were decided before its eyes, each at a height that enough peers had not passed. It may have
//! signed for the height after its own last block, and of that block the others may not have known yet: hence two.
//! The chain's birth is the one case in which a missing log means that there was none.
//!
//! Why: decision 0071.

use std::collections::BTreeMap;

/// Heights that must be decided before the node's eyes.
const DECISIONS: u32 = 2;

/// What an abstaining node has seen since its start.
#[derive(Clone, Debug, Default)]
pub struct DoubleSignProtection {
    heights: BTreeMap<String, u64>,
    decisions: u32,
}

impl DoubleSignProtection {
    /// How many peers of a node that is one of `members` must say where they stand: as many as make a quorum with it,
    /// and so many that, though some of them lie, an honest one is among any that decided a block with it.
    #[must_use]
    pub fn needed(members: usize) -> usize {
        let (liars, quorum) = (members.saturating_sub(1) / 3, members * 2 / 3 + 1);
        (quorum - 1).max((members + liars + 1).saturating_sub(quorum))
    }

    /// A peer said where it stands.
    pub fn heard(&mut self, peer: &str, height: u64) {
        self.heights.insert(peer.to_owned(), height);
    }

    /// True if this is the chain's birth: nothing is decided here nor at `needed` others.
    #[must_use]
    pub fn is_birth(&self, tip: u64, needed: usize) -> bool {
        tip == 0 && self.is_abreast(0, needed)
    }

    /// True if this node sees the chain as the others do and is no member of it: what it may have signed long ago
    /// cannot meet what it signs once it is voted in.
    #[must_use]
    pub fn is_outsider(&self, tip: u64, member: bool, needed: usize) -> bool {
        !member && self.is_abreast(tip, needed)
    }

    /// True if `needed` peers have not passed a height.
    #[must_use]
    pub fn is_abreast(&self, height: u64, needed: usize) -> bool {
        self.heights.values().filter(|other| **other <= height).count() >= needed
    }

    /// A height was decided by votes that this node heard, not fetched. True once it may sign again.
    pub fn decided(&mut self, height: u64, needed: usize) -> bool {
        // Old votes that somebody repeats decide only heights that the peers have passed.
        if self.is_abreast(height, needed) {
            self.decisions = self.decisions.saturating_add(1);
        }
        self.decisions >= DECISIONS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of four: any three that decided a block with this node have an honest one among any three peers, not among two.
    #[test]
    fn an_honest_peer_that_knows_is_always_among_those_that_are_needed() {
        for members in 1..=100 {
            let (liars, quorum) = ((members - 1) / 3, members * 2 / 3 + 1);
            let needed = DoubleSignProtection::needed(members);
            // Others who decided with this node and those who said that they know nothing, among the other members.
            let common = (quorum - 1 + needed).saturating_sub(members - 1);
            assert!(members == 1 || common > liars, "{members}");
            assert!(needed + 1 >= quorum && (members == 1 || needed < members), "{members}");
        }
        assert_eq!([2, 4, 5, 7].map(DoubleSignProtection::needed), [1, 3, 3, 5]);
    }

    #[test]
    fn a_birth_needs_as_many_peers_as_are_asked_for() {
        let mut double_sign_protection = DoubleSignProtection::default();
        assert!(!double_sign_protection.is_birth(0, 2));
        double_sign_protection.heard("one", 0);
        double_sign_protection.heard("two", 7);
        assert!(!double_sign_protection.is_birth(0, 2));
        double_sign_protection.heard("three", 0);
        assert!(double_sign_protection.is_birth(0, 2));
        assert!(!double_sign_protection.is_birth(1, 2), "this node has blocks itself");
    }

    #[test]
    fn who_is_no_member_when_abreast_with_the_others_has_nothing_to_contradict() {
        let mut double_sign_protection = DoubleSignProtection::default();
        double_sign_protection.heard("one", 9);
        double_sign_protection.heard("two", 9);
        assert!(!double_sign_protection.is_outsider(8, false, 2), "still behind");
        assert!(!double_sign_protection.is_outsider(9, true, 2), "a member");
        assert!(double_sign_protection.is_outsider(9, false, 2));
    }

    #[test]
    fn two_live_decisions_end_it_and_repeated_old_votes_do_not() {
        let mut double_sign_protection = DoubleSignProtection::default();
        assert!(
            !double_sign_protection.decided(4, 2)
                && !double_sign_protection.decided(5, 2)
                && !double_sign_protection.decided(6, 2),
            "nobody was heard"
        );
        for peer in ["one", "two", "three"] {
            double_sign_protection.heard(peer, 90);
        }
        assert!(
            !double_sign_protection.decided(7, 2) && !double_sign_protection.decided(8, 2),
            "the peers have passed these heights"
        );
        assert!(!double_sign_protection.decided(91, 2));
        assert!(double_sign_protection.decided(92, 2));
    }
}
