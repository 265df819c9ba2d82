//! How much of what one member sends may wait: a flood of one neither fills memory nor keeps the others' out. What does
//! not fit is refused; an honest member sends again.
//!
//! Why: decision 0075.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use hbc_consensus::MemberId;

/// What may wait.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Messages in all. Many members share them, with room for one member more.
    pub queue: usize,
    /// Messages of one member at most, where there are few members.
    pub messages: usize,
    /// Their bytes at most, and one message more.
    pub bytes: usize,
}

/// Messages for consensus: of one member two proposals with the largest blocks.
pub const CONSENSUS: Bounds = Bounds { queue: 4_096, messages: 512, bytes: 20 << 20 };
/// Envelopes of transactions that are not validated yet: some seconds of the fastest member's.
pub const GOSSIP: Bounds = Bounds { queue: 1_024, messages: 64, bytes: 8 << 20 };

/// What waits, by member.
#[derive(Debug)]
pub struct Inbound {
    bounds: Bounds,
    waiting: Mutex<HashMap<MemberId, (usize, usize)>>,
}

impl Inbound {
    /// Nothing waits.
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        Self { bounds, waiting: Mutex::default() }
    }

    /// Makes room for a message of `weight` bytes from one of `members`; false if it has too much waiting.
    #[must_use]
    pub fn admit(&self, member: MemberId, weight: usize, members: usize) -> bool {
        let share = self.bounds.messages.min(self.bounds.queue / members.saturating_add(1));
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let (messages, bytes) = waiting.get(&member).copied().unwrap_or_default();
        if messages >= share || bytes >= self.bounds.bytes {
            return false;
        }
        waiting.insert(member, (messages + 1, bytes.saturating_add(weight)));
        true
    }

    /// The same for as long as what it answers is kept; none if the member has too much waiting.
    #[must_use]
    pub fn permit(self: &Arc<Self>, member: MemberId, weight: usize, members: usize) -> Option<Permit> {
        self.admit(member, weight, members).then(|| Permit { inbound: self.clone(), member, weight })
    }

    /// The message was taken, or dropped.
    pub fn done(&self, member: &MemberId, weight: usize) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((messages, bytes)) = waiting.get_mut(member) {
            *messages = messages.saturating_sub(1);
            *bytes = bytes.saturating_sub(weight);
            if *messages == 0 {
                waiting.remove(member);
            }
        }
    }
}

/// Room for one message, given back when it is dropped.
#[derive(Debug)]
pub struct Permit {
    inbound: Arc<Inbound>,
    member: MemberId,
    weight: usize,
}

impl Permit {
    /// Whose message it is.
    #[must_use]
    pub const fn member(&self) -> MemberId {
        self.member
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.inbound.done(&self.member, self.weight);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_one_member_is_bounded_by_count_and_bytes_and_keeps_nobody_out() {
        let inbound = Inbound::new(CONSENSUS);
        let (liar, honest) = (MemberId([1; 32]), MemberId([2; 32]));
        let votes = (0..10_000).filter(|_| inbound.admit(liar, 256, 4)).count();
        assert_eq!(votes, CONSENSUS.messages);
        assert!(inbound.admit(honest, 256, 4));
        (0..votes).for_each(|_| inbound.done(&liar, 256));
        let blocks = (0..10_000).filter(|_| inbound.admit(liar, 8 << 20, 4)).count();
        assert_eq!(blocks, 3, "24 MiB at most");
        assert!(inbound.admit(honest, 8 << 20, 4));
        (0..blocks).for_each(|_| inbound.done(&liar, 8 << 20));
        inbound.done(&honest, 256);
        inbound.done(&honest, 8 << 20);
        assert!(inbound.waiting.lock().unwrap().is_empty(), "nothing is left of those who are quiet");
    }

    #[test]
    fn as_many_liars_as_there_may_be_leave_room_in_the_queue_for_the_others() {
        for (bounds, members) in
            [CONSENSUS, GOSSIP].into_iter().flat_map(|bounds| [1, 4, 7, 25, 100].map(|n| (bounds, n)))
        {
            let inbound = Inbound::new(bounds);
            let flood = |n: usize| {
                let liar = MemberId([u8::try_from(n).unwrap(); 32]);
                (0..10_000).filter(|_| inbound.admit(liar, 1, members)).count()
            };
            let all: usize = (0..members).map(flood).sum();
            assert!(all <= bounds.queue - bounds.queue / (members + 1), "{members} members: {all}");
            assert!(flood(members) > 0, "even then");
        }
    }
}
