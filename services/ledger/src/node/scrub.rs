//! The rolling scrub: all bytes of the database are read again, over and over: the blocks in pieces paced by bytes, each
//! on a connection of its own that has cached nothing, and compared with what memory knows; then pages, tables and the
//! rows that no block proves. No signature is checked twice. A vote never waits for it; a commit waits for the piece under
//! way at most.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hbc_chain::comparison::rest;
use hbc_chain::verification::{Fault, Wrong};
use hbc_types::Clock;

use super::guardian::{Failure, StoreGuard, unreadable};

/// A piece ends after so many blocks or bytes.
const PIECE_BLOCKS: u32 = 512;
const PIECE_BYTES: usize = 2 << 20;
/// How long a pass waits where the store cannot be read, or while the node is attacked.
const PAUSE: Duration = Duration::from_secs(1);

/// What a piece covered.
enum ScrubbedPiece {
    Read { next: u64, bytes: u64 },
    End,
}

/// Runs until the node ends: one pass after the other, each spread over the period.
pub async fn run(guard: Arc<StoreGuard>, clock: Clock) {
    let period = guard.scrub_period();
    loop {
        let started = Instant::now();
        if scrub_once(&guard, period, &clock).await {
            tokio::time::sleep(period.saturating_sub(started.elapsed())).await;
        } else {
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// One pass; false if it found a fault or the node is attacked anyway.
async fn scrub_once(guard: &StoreGuard, period: Duration, clock: &Clock) -> bool {
    let mut next = 0;
    while !guard.is_attacked() {
        match scrub_from(guard, next, period).await {
            Ok(()) if guard.is_attacked() => return false,
            Ok(()) => {
                let now = clock.now();
                guard.change_condition(|condition| condition.scrub.finished_at = Some(now));
                tracing::debug!(node.name = %guard.name(), "All stored bytes were read again");
                return true;
            }
            Err(Failure::Fault(fault)) => guard.mark_attacked(fault).await,
            Err(Failure::Trouble(error)) => {
                tracing::error!(node.name = %guard.name(), error = %error, "The scrub cannot read the store just now");
                tokio::time::sleep(PAUSE).await;
                next = guard.condition().scrub.blocks;
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
pub async fn scrub_from(guard: &StoreGuard, height: u64, period: Duration) -> Result<(), Failure> {
    let total = guard.store().main_file_bytes();
    let mut next = height;
    while !guard.is_attacked() {
        guard.change_condition(|condition| condition.scrub.blocks = next);
        let started = Instant::now();
        match scrub_piece(guard, next).await? {
            ScrubbedPiece::Read { next: after, bytes } => {
                next = after;
                tokio::time::sleep(rest(period, total, bytes, started.elapsed())).await;
            }
            ScrubbedPiece::End => return guard.beside_the_blocks().await,
        }
    }
    Ok(())
}

/// Reads and compares some blocks from `next` on. No block is committed meanwhile, so that everything up to
/// the tip must be there, and nothing above it.
async fn scrub_piece(guard: &StoreGuard, next: u64) -> Result<ScrubbedPiece, Failure> {
    let _no_commit_meanwhile = guard.no_commit().await;
    let tip = guard.tip();
    let mut reader = guard.store().blocks(next).await.map_err(|error| unreadable(next, error))?;
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
        if let Some(fault) = guard.fault_in(block) {
            return Err(fault.into());
        }
        bytes += block.bytes();
        expected += 1;
    }
    match (blocks.is_empty(), next > tip) {
        (false, _) => Ok(ScrubbedPiece::Read { next: expected, bytes }),
        (true, true) => Ok(ScrubbedPiece::End),
        (true, false) => Err(Fault { height: next, wrong: Wrong::Missing }.into()),
    }
}
