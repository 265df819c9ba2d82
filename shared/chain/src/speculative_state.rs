//! The state as it will be if everything that waits gets into a block: what arriving transactions are tried
//! on. It is a filter, not a verdict: what counts is decided when a block is made and checked.
//!
//! Why: decision 0022.

use crate::rules::Refusal;
use crate::state::{Draft, State, Work};
use crate::tx::Tx;

/// Changes beyond the final state, kept while transactions arrive.
#[derive(Debug, Default)]
pub struct SpeculativeState {
    work: Option<Work>,
}

impl SpeculativeState {
    /// Applies a transaction on top of what was applied before; a refused one changes nothing.
    pub fn apply(&mut self, state: &State, tx: &Tx, time_ms: u64) -> Result<(), Refusal> {
        let mut draft = match self.work.take() {
            None => state.draft(time_ms),
            Some(work) => Draft { state, height: state.height().saturating_add(1), time_ms, work },
        };
        let outcome = draft.apply(tx);
        self.work = Some(draft.work);
        outcome
    }
}
