//! What a lying member makes up: votes and proposals for anything in its own name, others' names under its signature,
//! old messages again, messages with a byte changed, blocks that are not theirs, certificates of too few.

use hbc_consensus::{BlockBytes, BlockId, Certificate, Message, Verdict};
use hbc_types::Digest;

use super::rules::identify;
use super::sim::Sim;

impl Sim {
    /// Sends one thing that no honest member would.
    pub fn forge(&mut self, slot: usize) {
        self.forged += 1;
        let bytes = match self.rng.below(6) {
            0 | 1 => self.any_vote(slot).encode(),
            2 => self.any_proposal(slot).encode(),
            3 => self.stolen_vote(slot),
            4 => self.again().encode(),
            _ => {
                let mut bytes = self.again().encode();
                let place = self.rng.below(bytes.len() as u64) as usize;
                bytes[place] ^= 1 << self.rng.below(8);
                bytes
            }
        };
        self.spread(slot, bytes);
    }

    /// A place near where the liar stands.
    fn near(&mut self, slot: usize) -> (u64, u32) {
        let tip = self.slots[slot].chain.len() as u64;
        let height = (tip + self.rng.below(4)).max(1);
        (height, self.rng.below(4) as u32)
    }

    fn any_value(&mut self, slot: usize) -> (BlockId, BlockBytes) {
        let (height, round) = self.near(slot);
        if self.rng.one_in(2) {
            let block: BlockBytes = format!("{height} nonsense {round}").into_bytes().into();
            return (identify(height, &block), block);
        }
        let block = self.build(slot, height, round);
        (identify(height, &block), block)
    }

    fn any_vote(&mut self, slot: usize) -> Message {
        let at = self.near(slot);
        let value = if self.rng.one_in(3) { None } else { Some(self.any_value(slot).0) };
        let precommit = self.rng.one_in(2);
        Message::vote(&self.sign_bytes, &self.keys[self.slots[slot].member], at, precommit, value)
    }

    /// Sometimes under a value that is not that of the bytes.
    fn any_proposal(&mut self, slot: usize) -> Message {
        let at = self.near(slot);
        let (value, block) = self.any_value(slot);
        let value = if self.rng.one_in(3) { BlockId { hash: Digest::of(b"other"), ..value } } else { value };
        Message::proposal(&self.sign_bytes, &self.keys[self.slots[slot].member], at, value, block)
    }

    /// The liar's own vote with another member's name on it.
    fn stolen_vote(&mut self, slot: usize) -> Vec<u8> {
        let mine = self.id(self.slots[slot].member);
        let other = self.rng.below(self.plan.members as u64) as usize;
        let other = self.id(other);
        let mut bytes = self.any_vote(slot).encode();
        if let Some(place) = bytes.windows(32).position(|window| window == mine.0) {
            bytes[place..place + 32].copy_from_slice(&other.0);
        }
        bytes
    }

    /// Something heard before, whoever said it.
    fn again(&mut self) -> Message {
        let count = self.heard.len() as u64;
        if count == 0 {
            return self.any_vote(0);
        }
        self.heard[self.rng.below(count) as usize].clone()
    }

    /// The liar answers a catch-up with a block of its own: whatever it certifies it with must be refused.
    pub fn lie_about_blocks(&mut self, slot: usize, from: usize) -> Result<(), String> {
        let height = self.slots[slot].chain.len() as u64 + 1;
        let Some((_, real)) = self.slots[from].chain.get(height as usize - 1).cloned() else { return Ok(()) };
        let block = self.build(slot, height, 0);
        let value = identify(height, &block);
        let mut signatures = real.signatures.clone();
        let lone = signatures.first().copied().ok_or("a certificate without signatures")?;
        let certificate = match self.rng.below(4) {
            // The genuine signatures under another block, or too few of them, or one of them thrice.
            0 => Certificate { value, ..real },
            1 => Certificate { signatures: vec![lone], ..real },
            2 => Certificate { signatures: vec![lone; 3], ..real },
            // One signature does not fit.
            _ => {
                if let Some((_, signature)) = signatures.last_mut() {
                    signature[40] ^= 1;
                }
                Certificate { signatures, ..real }
            }
        };
        let set = self.members_of(slot);
        // A member alone is its own quorum.
        if set.len() > 1 && self.sign_bytes.verify(&certificate, &set).is_ok() {
            return Err(format!("a forged certificate is taken at height {height}"));
        }
        // The genuine certificate does not cover other bytes either.
        let real = real_value(&self.slots[from].chain, height);
        let verdict = self.check(slot, height, real, &block, true);
        if verdict == Verdict::Valid {
            return Err(format!("a certificate covers other bytes at height {height}"));
        }
        self.refused += 1;
        Ok(())
    }
}

fn real_value(chain: &[(BlockBytes, Certificate)], height: u64) -> BlockId {
    chain[height as usize - 1].1.value
}
