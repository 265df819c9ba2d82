//! The state as it was after an earlier block. Nothing is kept for it: it is made anew from the stored blocks, each
//! compared with the hash that this node agreed to. That costs time and the memory of a second state, so one is made at a
//! time, a new one only after a rest as long as the work was, and the work ends when nobody waits for it.
//!
//! Why: decision 0076.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use hbc_chain::block::replay_block;
use hbc_chain::header::Block;
use hbc_chain::memory::Before;
use hbc_chain::state::State;
use hbc_chain::verification::{Fault, Wrong};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::guardian::StoreGuard;
use super::memory::Memory;
use crate::store::{StoreError, StoredBlock};

/// Blocks in memory at once; the store also bounds their bytes.
const BLOCKS_PER_READ: u32 = 256;

/// Why an earlier state cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// Another one is being made, or was just made.
    #[error("another earlier state is being made")]
    Busy,
    /// The work ended before its end.
    #[error("the work was given up")]
    GivenUp,
    /// The store failed at a height.
    #[error("block {height} cannot be read")]
    Store {
        /// Where.
        height: u64,
        /// Why.
        source: StoreError,
    },
    /// A stored block is not what this node agreed to.
    #[error("{0}")]
    Fault(Fault),
}

/// Where earlier states are made, one at a time.
#[derive(Clone, Debug)]
pub struct History(Arc<Semaphore>);

impl Default for History {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(1)))
    }
}

/// Tells the work to end when whoever waits for it is gone, and keeps the place taken for as long again as it was.
struct Turn {
    stop: Arc<AtomicBool>,
    began: Instant,
    permit: Option<OwnedSemaphorePermit>,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let (permit, rest) = (self.permit.take(), self.began.elapsed());
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                tokio::time::sleep(rest).await;
                drop(permit);
            });
        }
    }
}

impl History {
    fn turn(&self) -> Result<Turn, HistoryError> {
        let permit = Arc::clone(&self.0).try_acquire_owned().map_err(|_taken| HistoryError::Busy)?;
        Ok(Turn { stop: Arc::default(), began: Instant::now(), permit: Some(permit) })
    }

    /// The state after the block of this height, which the node must have and which is not block 0; and the block before.
    ///
    /// # Errors
    /// [`HistoryError`]; a fault is for the caller to act upon.
    pub async fn state_at(
        &self,
        memory: &Memory,
        guard: &StoreGuard,
        height: u64,
    ) -> Result<(State, Before), HistoryError> {
        let turn = self.turn()?;
        let fault = |height, wrong| HistoryError::Fault(Fault { height, wrong });
        let unreadable = |height, source| HistoryError::Store { height, source };
        let founded = State::genesis(memory.chain().genesis());
        let mut state = founded.map_err(|_founded_before| fault(0, Wrong::Hash))?;
        let mut before = Before::of(&state);
        let mut reader = guard.store().blocks(1).await.map_err(|source| unreadable(1, source))?;
        while state.height() < height {
            let next = state.height().saturating_add(1);
            let left = u32::try_from(height - state.height()).unwrap_or(u32::MAX);
            let blocks = reader.read(left.min(BLOCKS_PER_READ)).await;
            let blocks = blocks.map_err(|source| unreadable(next, source))?;
            if blocks.is_empty() {
                return Err(fault(next, Wrong::Missing));
            }
            for (stored, expected) in blocks.iter().zip(next..) {
                if stored.height != expected {
                    return Err(fault(expected, Wrong::Missing));
                }
                if let Some(fault) = guard.fault_in(stored) {
                    return Err(HistoryError::Fault(fault));
                }
            }
            let stop = Arc::clone(&turn.stop);
            let work = tokio::task::spawn_blocking(move || replay(state, blocks, &stop));
            (state, before) = work.await.map_err(|_panicked| HistoryError::GivenUp)??;
        }
        Ok((state, before))
    }
}

/// Answers the state after these blocks, and the one before the last of them.
fn replay(
    mut state: State,
    blocks: Vec<StoredBlock>,
    stop: &AtomicBool,
) -> Result<(State, Before), HistoryError> {
    let mut before = Before::of(&state);
    for stored in blocks {
        if stop.load(Ordering::Relaxed) {
            return Err(HistoryError::GivenUp);
        }
        let (height, mut bytes) = (stored.height, stored.header);
        let fault = |wrong| HistoryError::Fault(Fault { height, wrong });
        bytes.extend_from_slice(&stored.body);
        let block = Block::from_bytes(&bytes).map_err(|error| fault(Wrong::Header(error)))?;
        before = Before::of(&state);
        replay_block(&mut state, &block).map_err(|error| {
            tracing::error!(error = %error, block.height = height, "A stored block breaks a rule");
            fault(Wrong::Transactions)
        })?;
    }
    Ok((state, before))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_at_a_time_and_then_a_rest() {
        let history = History::default();
        let first = history.turn().unwrap();
        let stop = Arc::clone(&first.stop);
        assert!(matches!(history.turn(), Err(HistoryError::Busy)));
        assert!(!stop.load(Ordering::Relaxed));
        drop(first);
        assert!(stop.load(Ordering::Relaxed), "whoever worked for it stops");
        assert!(matches!(history.turn(), Err(HistoryError::Busy)), "resting");
        let again = async {
            while history.turn().is_err() {
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(60), again).await.expect("a new turn");
    }

    #[test]
    fn work_that_nobody_waits_for_ends() {
        let genesis = hbc_chain::fixtures::genesis();
        let state = State::genesis(&genesis).unwrap();
        let block =
            StoredBlock { height: 1, header: Vec::new(), body: Vec::new(), certificate: String::new() };
        let stopped = replay(state, vec![block.clone()], &AtomicBool::new(true));
        assert!(matches!(stopped, Err(HistoryError::GivenUp)));
        let state = State::genesis(&genesis).unwrap();
        let going = replay(state, vec![block], &AtomicBool::new(false));
        assert!(matches!(going, Err(HistoryError::Fault(Fault { height: 1, .. }))));
    }
}
