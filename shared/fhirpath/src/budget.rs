//! How much work an evaluation may be.

use std::cell::Cell;

/// Steps that are left. Each node that is looked at is one, and each few bytes of text that are copied or compared.
#[derive(Debug)]
pub struct Budget(Cell<u64>);

/// The budget did not suffice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the expression takes too many steps")]
pub struct Exhausted;

/// So many bytes of text are one step.
const BYTES_PER_STEP: u64 = 16;

impl Budget {
    /// A budget of so many steps.
    #[must_use]
    pub const fn new(steps: u64) -> Self {
        Self(Cell::new(steps))
    }

    /// More steps.
    pub fn add(&self, steps: u64) {
        self.0.set(self.0.get().saturating_add(steps));
    }

    pub(crate) fn spend(&self, steps: usize) -> Result<(), Exhausted> {
        let left = self.0.get().checked_sub(steps as u64);
        // What is exhausted stays so.
        self.0.set(left.unwrap_or(0));
        left.map(|_left| ()).ok_or(Exhausted)
    }

    pub(crate) fn spend_bytes(&self, bytes: usize) -> Result<(), Exhausted> {
        let left = self.0.get().checked_sub(bytes as u64 / BYTES_PER_STEP);
        self.0.set(left.unwrap_or(0));
        left.map(|_left| ()).ok_or(Exhausted)
    }
}
