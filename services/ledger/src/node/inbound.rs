//! How much of one member's messages may wait for the agreement: a flood of one neither fills memory nor keeps the
//! others' messages out. What does not fit is refused; an honest member sends again.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::consensus::MemberId;

/// Messages of one member that wait at most: a quarter of the loop's queue for each of four, and room for others.
const MESSAGES: usize = 512;
/// Their bytes at most, and one message more: two proposals with the largest blocks.
const BYTES: usize = 20 << 20;

/// What waits, by member.
#[derive(Debug, Default)]
pub struct Inbound(Mutex<HashMap<MemberId, (usize, usize)>>);

impl Inbound {
    /// Makes room for a message of `weight` bytes; false if the member has too much waiting.
    #[must_use]
    pub fn admit(&self, member: MemberId, weight: usize) -> bool {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (messages, bytes) = waiting.get(&member).copied().unwrap_or_default();
        if messages >= MESSAGES || bytes >= BYTES {
            return false;
        }
        waiting.insert(member, (messages + 1, bytes.saturating_add(weight)));
        true
    }

    /// The message was taken, or dropped.
    pub fn done(&self, member: &MemberId, weight: usize) {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((messages, bytes)) = waiting.get_mut(member) {
            *messages = messages.saturating_sub(1);
            *bytes = bytes.saturating_sub(weight);
            if *messages == 0 {
                waiting.remove(member);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_one_member_is_bounded_by_count_and_bytes_and_keeps_nobody_out() {
        let inbound = Inbound::default();
        let (liar, honest) = (MemberId([1; 32]), MemberId([2; 32]));
        let votes = (0..10_000).filter(|_| inbound.admit(liar, 256)).count();
        assert_eq!(votes, MESSAGES);
        assert!(inbound.admit(honest, 256));
        (0..votes).for_each(|_| inbound.done(&liar, 256));
        let blocks = (0..10_000).filter(|_| inbound.admit(liar, 8 << 20)).count();
        assert_eq!(blocks, 3, "24 MiB at most");
        assert!(inbound.admit(honest, 8 << 20));
        (0..blocks).for_each(|_| inbound.done(&liar, 8 << 20));
        inbound.done(&honest, 256);
        inbound.done(&honest, 8 << 20);
        assert!(inbound.0.lock().unwrap().is_empty(), "nothing is left of those who are quiet");
    }
}
