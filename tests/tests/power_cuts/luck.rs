//! What a disk has of a file beyond what it was told to write.

use hbc_types::Random;

/// What a disk writes whole or not at all.
const BLOCK: usize = 4_096;

/// How much of what was not synced is on the disk all the same.
#[derive(Clone, Debug)]
pub enum Luck {
    /// Nothing.
    None,
    /// Some, as chance has it.
    Some(Random),
}

/// A file at the instant of the cut.
pub struct File<'a> {
    /// Its bytes as of its last sync.
    pub then: Vec<u8>,
    /// Its bytes; none where it was removed.
    pub now: Option<&'a [u8]>,
    /// The shortest that it was made in between.
    pub cut: Option<usize>,
}

impl Luck {
    /// Of two states of a folder, the one that the disk has.
    pub fn either<'a, T>(&self, then: &'a T, now: Option<&'a T>) -> &'a T {
        match (self, now) {
            (Self::Some(random), Some(now)) if coin(random) => now,
            _ => then,
        }
    }

    /// The bytes that the disk has of a file: those of then, those of now, or something in between. What was written over
    /// is there or not, block by block; what was appended is there up to some block; and the size, which is written by
    /// itself, may be ahead of it: then zeros are read.
    pub fn bytes(&self, file: File<'_>) -> Vec<u8> {
        let File { mut then, now, cut } = file;
        let (Self::Some(random), Some(now)) = (self, now) else { return then };
        match below(random, 3) {
            0 => return then,
            1 => return now.to_vec(),
            _ => {}
        }
        if let Some(cut) = cut {
            // Either it was not shortened on the disk, and then nothing was written after that, or it was.
            if coin(random) {
                return then;
            }
            then.truncate(cut);
        }
        if now.len() < then.len() {
            return then;
        }
        for (block, now) in then.chunks_mut(BLOCK).zip(now.chunks(BLOCK)) {
            // The last one may be full meanwhile: that is what was appended.
            if block.len() == BLOCK && coin(random) {
                block.copy_from_slice(now);
            }
        }
        let (size, written) =
            (between(then.len(), now.len(), random), between(then.len(), now.len(), random));
        then.truncate(then.len() / BLOCK * BLOCK);
        then.extend(&now[then.len()..written.min(size)]);
        then.resize(size, 0);
        then
    }
}

/// A size that a growing file had, or may have had on the disk.
fn between(then: usize, now: usize, random: &Random) -> usize {
    match below(random, 3) {
        0 => then,
        1 => now,
        _ => {
            let (first, last) = (then / BLOCK, now.div_ceil(BLOCK));
            let block = first as u64 + below(random, (last - first) as u64 + 1);
            usize::try_from(block).unwrap_or(first).saturating_mul(BLOCK).clamp(then, now)
        }
    }
}

/// A number less than `bound`.
pub fn below(random: &Random, bound: u64) -> u64 {
    u64::from_be_bytes(random.bytes()) % bound.max(1)
}

fn coin(random: &Random) -> bool {
    below(random, 2) == 0
}
