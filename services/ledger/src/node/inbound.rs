//! How much of what one member sends may wait: a flood of one neither fills memory nor keeps the others' out. What does
//! not fit is refused; an honest member sends again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::consensus::MemberId;

/// What may wait of one member.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Messages at most.
    pub messages: usize,
    /// Their bytes at most, and one message more.
    pub bytes: usize,
}

/// Messages for the agreement: a quarter of the loop's queue for each of four, and room for others; two proposals with the
/// largest blocks.
pub const AGREEMENT: Bounds = Bounds { messages: 512, bytes: 20 << 20 };
/// Envelopes of transactions that are not judged yet: some seconds of the fastest member's.
pub const GOSSIP: Bounds = Bounds { messages: 64, bytes: 8 << 20 };

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

    /// Makes room for a message of `weight` bytes; false if the member has too much waiting.
    #[must_use]
    pub fn admit(&self, member: MemberId, weight: usize) -> bool {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let (messages, bytes) = waiting.get(&member).copied().unwrap_or_default();
        if messages >= self.bounds.messages || bytes >= self.bounds.bytes {
            return false;
        }
        waiting.insert(member, (messages + 1, bytes.saturating_add(weight)));
        true
    }

    /// The same for as long as what it answers is kept; none if the member has too much waiting.
    #[must_use]
    pub fn permit(self: &Arc<Self>, member: MemberId, weight: usize) -> Option<Permit> {
        self.admit(member, weight).then(|| Permit { inbound: self.clone(), member, weight })
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
        let inbound = Inbound::new(AGREEMENT);
        let (liar, honest) = (MemberId([1; 32]), MemberId([2; 32]));
        let votes = (0..10_000).filter(|_| inbound.admit(liar, 256)).count();
        assert_eq!(votes, AGREEMENT.messages);
        assert!(inbound.admit(honest, 256));
        (0..votes).for_each(|_| inbound.done(&liar, 256));
        let blocks = (0..10_000).filter(|_| inbound.admit(liar, 8 << 20)).count();
        assert_eq!(blocks, 3, "24 MiB at most");
        assert!(inbound.admit(honest, 8 << 20));
        (0..blocks).for_each(|_| inbound.done(&liar, 8 << 20));
        inbound.done(&honest, 256);
        inbound.done(&honest, 8 << 20);
        assert!(inbound.waiting.lock().unwrap().is_empty(), "nothing is left of those who are quiet");
    }
}
