//! What the members of the simulator agree upon: blocks as words (height, the block before, who made it, a nonce, a date,
//! then transactions), their rules, and the changes of members.

use std::collections::BTreeSet;

use ed25519_dalek::SigningKey;
use hbc_consensus::{BlockBytes, BlockId, Member, MemberSet, Verdict};
use hbc_types::Digest;

use super::sim::Sim;

/// How far ahead of a member's clock a block may be dated.
const MAX_AHEAD_MS: u64 = 30_000;
/// The transactions by which a fifth member joins, the second leaves, and the third changes its key.
pub const JOIN: u32 = 1_000;
pub const LEAVE: u32 = 1_001;
pub const REKEY: u32 = 1_002;
pub const LEAVING: usize = 1;
pub const REKEYED: usize = 2;

pub fn identify(height: u64, block: &[u8]) -> BlockId {
    let hash = Digest::of(block);
    BlockId { hash, log_size: height, log_root: Digest::of(hash.as_bytes()) }
}

pub fn transactions_of(block: &[u8]) -> BTreeSet<u32> {
    let text = String::from_utf8_lossy(block).into_owned();
    text.split_whitespace().skip(5).filter_map(|word| word.parse().ok()).collect()
}

fn date_of(block: &[u8]) -> u64 {
    let text = String::from_utf8_lossy(block).into_owned();
    let date = text.split_whitespace().nth(4).and_then(|word| word.strip_prefix('t')?.parse().ok());
    date.unwrap_or(0)
}

pub fn set_of<'a>(keys: impl Iterator<Item = &'a SigningKey>) -> MemberSet {
    MemberSet::new(keys.map(|key| Member::new(key.verifying_key().to_bytes())).collect())
}

impl Sim {
    /// The members once these transactions are final.
    pub fn set_after(&self, done: &BTreeSet<u32>) -> MemberSet {
        let joined = self.plan.members + usize::from(done.contains(&JOIN));
        let members = (0..joined).filter(|member| !(*member == LEAVING && done.contains(&LEAVE)));
        set_of(members.map(|member| match member {
            REKEYED if done.contains(&REKEY) => self.keys.last().expect("there are keys"),
            _ => &self.keys[member],
        }))
    }

    /// What the slot finds about a block; it depends on its clock unless others vouch for the block.
    pub fn check(&self, slot: usize, height: u64, value: BlockId, block: &[u8], vouched: bool) -> Verdict {
        if identify(height, block) != value {
            return Verdict::Damaged;
        }
        let previous = self.slots[slot].chain.last().map(|(_, certificate)| certificate.value.hash);
        let expected = format!("{height} {}", previous.unwrap_or(Digest::ZERO));
        let leaves = transactions_of(block).contains(&LEAVE) && !self.slots[slot].done.contains(&JOIN);
        if !block.starts_with(expected.as_bytes()) || leaves {
            return Verdict::Invalid;
        }
        match date_of(block).saturating_sub(self.clock(slot) + MAX_AHEAD_MS) {
            wait_ms if wait_ms > 0 && self.plan.early_is_invalid => Verdict::Invalid,
            wait_ms if wait_ms > 0 && !vouched => Verdict::Early { wait_ms },
            _ => Verdict::Valid,
        }
    }

    fn clock(&self, slot: usize) -> u64 {
        self.now + self.slots[slot].clock_ms
    }

    pub fn build(&mut self, slot: usize, height: u64, round: u32) -> BlockBytes {
        let apart_ms = self.plan.clocks_apart_ms;
        let date = if apart_ms > 0 && !self.honest(slot) && !self.rng.one_in(3) {
            self.now + MAX_AHEAD_MS + self.rng.below(apart_ms)
        } else {
            self.clock(slot)
        };
        let state = &self.slots[slot];
        let previous = state.chain.last().map_or(Digest::ZERO, |(_, certificate)| certificate.value.hash);
        // Three members bear no fault, so nobody leaves before the fifth has come.
        let fits = |number: &&u32| **number != LEAVE || state.done.contains(&JOIN);
        let list: Vec<String> = state.pending.iter().filter(fits).map(ToString::to_string).collect();
        // The slot makes twins offer different blocks; the nonce makes a restarted member offer another one.
        let nonce = self.rng.below(1 << 30);
        format!("{height} {previous} r{round}s{slot} n{nonce} t{date} {}", list.join(" ")).into_bytes().into()
    }
}
