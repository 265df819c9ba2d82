//! The ledger's rules without I/O: what transactions may do, what blocks must be, what waits for a block.

pub mod anchors;
pub mod audit;
pub mod block;
pub mod comparison;
pub mod events;
pub mod expectation;
pub mod healing;
pub mod mempool;
pub mod register;
pub mod reliance;
pub mod rules;
pub mod silence;
pub mod state;
pub mod verification;

#[cfg(test)]
mod tests;
