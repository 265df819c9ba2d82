//! How much of one member's messages may wait for the agreement: a flood of one neither fills memory nor keeps the
//! others' messages out. What does not fit is refused; an honest member sends again.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::consensus::MemberId;

/// Events that wait for the loop that runs the agreement.
pub const EVENTS: usize = 4_096;
/// Messages of one member that wait at most, where there are few members. Many share the loop's queue, with room for what
/// is not a message.
const MESSAGES: usize = 512;
/// Their bytes at most, and one message more: two proposals with the largest blocks.
const BYTES: usize = 20 << 20;

/// What waits, by member.
#[derive(Debug, Default)]
pub struct Inbound(Mutex<HashMap<MemberId, (usize, usize)>>);

impl Inbound {
    /// Makes room for a message of `weight` bytes from one of `members`; false if it has too much waiting.
    #[must_use]
    pub fn admit(&self, member: MemberId, weight: usize, members: usize) -> bool {
        let share = MESSAGES.min(EVENTS / members.saturating_add(1));
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (messages, bytes) = waiting.get(&member).copied().unwrap_or_default();
        if messages >= share || bytes >= BYTES {
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
        let votes = (0..10_000).filter(|_| inbound.admit(liar, 256, 4)).count();
        assert_eq!(votes, MESSAGES);
        assert!(inbound.admit(honest, 256, 4));
        (0..votes).for_each(|_| inbound.done(&liar, 256));
        let blocks = (0..10_000).filter(|_| inbound.admit(liar, 8 << 20, 4)).count();
        assert_eq!(blocks, 3, "24 MiB at most");
        assert!(inbound.admit(honest, 8 << 20, 4));
        (0..blocks).for_each(|_| inbound.done(&liar, 8 << 20));
        inbound.done(&honest, 256);
        inbound.done(&honest, 8 << 20);
        assert!(inbound.0.lock().unwrap().is_empty(), "nothing is left of those who are quiet");
    }
    #[test]
    fn as_many_liars_as_there_may_be_leave_room_in_the_queue_for_the_others() {
        for members in [1, 4, 7, 25, 100] {
            let inbound = Inbound::default();
            let flood = |n: usize| {
                let liar = MemberId([u8::try_from(n).unwrap(); 32]);
                (0..10_000).filter(|_| inbound.admit(liar, 1, members)).count()
            };
            let all: usize = (0..members).map(flood).sum();
            assert!(all <= EVENTS - EVENTS / (members + 1), "{members} members: {all}");
            assert!(flood(members) > 0, "even then");
        }
    }
}
