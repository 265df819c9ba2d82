//! Which rows a repaired chain is made of, without I/O: a row counts if more than two thirds of its height's
//! members certified its header, its transactions are the header's, it follows on the block before and keeps the
//! rules, and it is the block that this node knows at that height, if it knows one. Where the row comes from does
//! not matter.

use hbc_types::Digest;
use hbc_types::chain::checkpoint::{Certificate, CheckpointError};
use hbc_types::chain::header::{Block, Header, HeaderError};

use super::block::BlockError;
use crate::chain::{Chain, value_of};

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
pub fn take_up(
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
    let value = value_of(&parsed);
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

/// Up to which height a repaired chain must reach before it may be relied upon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Goal(u64);

impl Goal {
    /// From the blocks known in memory (block 0 included) and the first height that the agreement's log says was
    /// not committed yet.
    #[must_use]
    pub fn new(known: usize, log_floor: u64) -> Self {
        let known = u64::try_from(known).unwrap_or(u64::MAX).saturating_sub(1);
        Self(known.max(log_floor.saturating_sub(1)))
    }

    /// Raised by a checkpoint beyond the tip, if the members at the tip signed it. One at or below the tip says
    /// nothing more: every block up to there is certified by itself. One that nobody certified is no demand.
    #[must_use]
    pub fn with_checkpoint(self, chain: &Chain, checkpoint: Option<&str>) -> Self {
        let note = checkpoint.and_then(|note| Certificate::parse(note).ok());
        let demand = note
            .filter(|note| note.checkpoint.height > chain.height())
            .filter(|note| note.check(chain.origin(), chain.state().members()).is_ok());
        demand.map_or(self, |note| Self(self.0.max(note.checkpoint.height)))
    }

    /// The height.
    #[must_use]
    pub const fn height(self) -> u64 {
        self.0
    }

    /// True if a chain with this tip lacks the next block.
    #[must_use]
    pub const fn needs_more(self, tip: u64) -> bool {
        tip < self.0
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
