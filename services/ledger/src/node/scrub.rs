//! The rolling scrub: all bytes of the database are read again, over and over: the blocks in pieces paced by bytes, each
//! on a connection of its own that has cached nothing, and compared with what memory knows; then pages, tables and the
//! rows that no block proves. No signature is checked twice. A vote never waits for it; a commit waits for the piece under
//! way at most.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hbc_chain::comparison::rest;
use hbc_chain::verification::{Fault, Wrong};
use hbc_types::Timestamp;

use super::Node;
use super::guardian::{Failure, unreadable};

/// A piece ends after so many blocks or bytes.
const PIECE_BLOCKS: u32 = 512;
const PIECE_BYTES: usize = 2 << 20;
/// How long a pass waits where the store cannot be read, or while the node is attacked.
const PAUSE: Duration = Duration::from_secs(1);

/// How far the scrub is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Progress {
    /// Blocks read by the pass under way.
    pub blocks: u64,
    /// When the last whole pass ended.
    pub finished_at: Option<Timestamp>,
}

/// What a piece covered.
enum Piece {
    Read { next: u64, bytes: u64 },
    End,
}

/// Runs until the node ends: one pass after the other, each spread over the period.
pub async fn run(node: Arc<Node>) {
    let period = node.scrub_period;
    loop {
        let started = Instant::now();
        if node.scrub_once(period).await {
            tokio::time::sleep(period.saturating_sub(started.elapsed())).await;
        } else {
            tokio::time::sleep(PAUSE).await;
        }
    }
}

impl Node {
    /// One pass; false if it found a fault or the node is attacked anyway.
    async fn scrub_once(self: &Arc<Self>, period: Duration) -> bool {
        let mut next = 0;
        while self.attack().is_none() {
            match self.scrub_from(next, period).await {
                Ok(()) if self.attack().is_some() => return false,
                Ok(()) => {
                    let mut condition = self.condition_mut();
                    condition.scrub.finished_at = Some(self.clock.now());
                    tracing::debug!(node.name = %self.name, "All stored bytes were read again");
                    return true;
                }
                Err(Failure::Fault(fault)) => self.mark_attacked(fault).await,
                Err(Failure::Trouble(error)) => {
                    tracing::error!(node.name = %self.name, error = %error, "The scrub cannot read the store just now");
                    tokio::time::sleep(PAUSE).await;
                    next = self.condition().scrub.blocks;
                }
            }
        }
        false
    }

    /// The blocks from this height up to the tip, then all else in the file. Marks nothing, and ends early on a node that is
    /// attacked meanwhile.
    ///
    /// # Errors
    /// What is wrong, or what cannot be read just now.
    pub async fn scrub_from(&self, height: u64, period: Duration) -> Result<(), Failure> {
        let total = self.store.main_file_bytes();
        let mut next = height;
        while self.attack().is_none() {
            self.condition_mut().scrub.blocks = next;
            let started = Instant::now();
            match self.scrub_piece(next).await? {
                Piece::Read { next: after, bytes } => {
                    next = after;
                    tokio::time::sleep(rest(period, total, bytes, started.elapsed())).await;
                }
                Piece::End => return self.beside_the_blocks().await,
            }
        }
        Ok(())
    }

    /// Reads and compares some blocks from `next` on. No block is committed meanwhile, so that everything up to
    /// the tip must be there, and nothing above it.
    async fn scrub_piece(&self, next: u64) -> Result<Piece, Failure> {
        let _no_commit_meanwhile = self.gate.read().await;
        let tip = self.chain().height();
        let mut reader = self.store.blocks(next).await.map_err(|error| unreadable(next, error))?;
        let blocks = reader.read_within(PIECE_BLOCKS, PIECE_BYTES).await;
        let blocks = blocks.map_err(|error| unreadable(next, error))?;
        let (mut expected, mut bytes) = (next, 0);
        for block in &blocks {
            if block.height > tip && expected > tip {
                return Err(Fault { height: expected, wrong: Wrong::Spare }.into());
            }
            if block.height != expected {
                return Err(Fault { height: expected, wrong: Wrong::Missing }.into());
            }
            if let Some(fault) = self.fault_in(block) {
                return Err(fault.into());
            }
            bytes += block.bytes();
            expected += 1;
        }
        match (blocks.is_empty(), next > tip) {
            (false, _) => Ok(Piece::Read { next: expected, bytes }),
            (true, true) => Ok(Piece::End),
            (true, false) => Err(Fault { height: next, wrong: Wrong::Missing }.into()),
        }
    }
}
