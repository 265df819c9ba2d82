//! Which rows a healed chain is made of, without I/O: a row counts if more than two thirds of its height's
//! members certified its header, its transactions are the header's, it follows on the block before and keeps the
//! rules, and it is the block that this node knows at that height, if it knows one. Where the row comes from does
//! not matter.
//!
//! Why: decision 0097.

use hbc_chain::block::BlockError;
use hbc_chain::checkpoint::{BlockId, Certificate, CheckpointError};
use hbc_chain::header::{Block, Header, HeaderError};
use hbc_chain::memory::Chain;
use hbc_types::Digest;

/// Blocks asked for at once, at most.
const MOST_AT_ONCE: u32 = 100;

/// Why a row is not the block of its height.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    /// It is that of another height.
    #[error("the block is that of another height")]
    Height,
    /// Header or transactions cannot be read.
    #[error("the block cannot be read: {0}")]
    Form(#[from] HeaderError),
    /// This node knows another block there.
    #[error("this node agreed to another block")]
    Another,
    /// The certificate does not hold under the members of the height.
    #[error("the certificate does not hold: {0}")]
    Certificate(#[from] CheckpointError),
    /// It certifies another block.
    #[error("the certificate is for another block")]
    Statement,
    /// It does not follow on this chain, or breaks a rule.
    #[error("the block does not continue the chain: {0}")]
    Block(#[from] BlockError),
}

/// Continues `chain` by the row if it is the next block; `known` is the hash that this node has there.
///
/// # Errors
/// What is wrong with the row; the chain is then as it was.
pub fn restore(
    chain: &mut Chain,
    known: Option<&Digest>,
    header: &[u8],
    body: &[u8],
    certificate: &str,
) -> Result<(), Unfit> {
    let parsed = Header::from_bytes(header)?;
    if parsed.height != chain.height().saturating_add(1) {
        return Err(Unfit::Height);
    }
    let value = BlockId::of(&parsed);
    if known.is_some_and(|known| *known != value.hash) {
        return Err(Unfit::Another);
    }
    let note = Certificate::parse(certificate)?;
    let stated = (note.checkpoint.height, note.checkpoint.block);
    let roots = (note.checkpoint.log_size, note.checkpoint.log_root);
    if stated != (parsed.height, value.hash) || roots != (value.log_size, value.log_root) {
        return Err(Unfit::Statement);
    }
    note.check(chain.origin(), chain.state().members())?;
    let mut bytes = header.to_vec();
    bytes.extend_from_slice(body);
    let block = Block::from_bytes(&bytes)?;
    chain.replay(&block, certificate.to_owned())?;
    Ok(())
}

/// Up to which height a healed chain must reach before it may be relied upon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Goal {
    known: u64,
    log: u64,
}

impl Goal {
    /// From the blocks known in memory (block 0 included) and the first height that the consensus log says was
    /// not committed yet.
    #[must_use]
    pub fn new(known: usize, log_floor: u64) -> Self {
        let known = u64::try_from(known).unwrap_or(u64::MAX).saturating_sub(1);
        Self { known, log: log_floor.saturating_sub(1) }
    }

    /// Raised by a checkpoint beyond the tip, if the members at the tip signed it. One at or below the tip says
    /// nothing more: every block up to there is certified by itself. One that nobody certified is no demand.
    #[must_use]
    pub fn with_checkpoint(self, chain: &Chain, checkpoint: Option<&str>) -> Self {
        let note = checkpoint.and_then(|note| Certificate::parse(note).ok());
        let demand = note
            .filter(|note| note.checkpoint.height > chain.height())
            .filter(|note| note.check(chain.origin(), chain.state().members()).is_ok());
        demand.map_or(self, |note| Self { known: self.known.max(note.checkpoint.height), ..self })
    }

    /// The height.
    #[must_use]
    pub const fn height(self) -> u64 {
        if self.known > self.log { self.known } else { self.log }
    }

    /// True if a chain with this tip lacks the next block.
    #[must_use]
    pub const fn needs_more(self, tip: u64) -> bool {
        tip < self.height()
    }

    /// True if only the log says so. It carries no MAC: what it demands counts only as long as the members can have it.
    #[must_use]
    pub const fn is_the_logs(self, tip: u64) -> bool {
        tip >= self.known && tip < self.log
    }

    /// Without what the log demands.
    #[must_use]
    pub const fn without_the_log(self) -> Self {
        Self { log: 0, ..self }
    }
}

/// In which order peers are asked: whoever gave slowly, little or nothing comes last from then on.
#[derive(Clone, Debug, Default)]
pub struct Turns(Vec<usize>);

impl Turns {
    /// So many peers, in the order in which they come.
    #[must_use]
    pub fn of(peers: usize) -> Self {
        Self((0..peers).collect())
    }

    /// The order now.
    #[must_use]
    pub fn order(&self) -> Vec<usize> {
        self.0.clone()
    }

    /// This one comes last.
    pub fn put_last(&mut self, peer: usize) {
        if let Some(place) = self.0.iter().position(|other| *other == peer) {
            let peer = self.0.remove(place);
            self.0.push(peer);
        }
    }
}

/// How many blocks to ask for: one where a single row is damaged, more the longer the damage goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appetite(u32);

impl Default for Appetite {
    fn default() -> Self {
        Self(1)
    }
}

impl Appetite {
    /// A stored row was good: the damage ended.
    pub const fn sated(&mut self) {
        self.0 = 1;
    }

    /// The number to ask for; the next is twice as large. `all` where nothing more is stored.
    pub const fn next(&mut self, all: bool) -> u32 {
        if all {
            return MOST_AT_ONCE;
        }
        let now = self.0;
        self.0 = if now >= MOST_AT_ONCE / 2 { MOST_AT_ONCE } else { now * 2 };
        now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_log_demands_is_told_from_what_is_known() {
        let goal = Goal::new(4, 1_000);
        assert_eq!((goal.height(), goal.needs_more(3)), (999, true));
        assert!(goal.is_the_logs(3) && !goal.is_the_logs(2), "block 3 is known");
        let goal = goal.without_the_log();
        assert!(goal.needs_more(2) && !goal.needs_more(3) && !goal.is_the_logs(3));
        assert_eq!(Goal::new(0, 0).height(), 0);
    }

    #[test]
    fn who_is_of_little_use_is_asked_last() {
        let mut turns = Turns::of(3);
        turns.put_last(0);
        assert_eq!(turns.order(), [1, 2, 0]);
        turns.put_last(2);
        turns.put_last(9);
        assert_eq!(turns.order(), [1, 0, 2]);
    }
}
