//! The ledger without a machine around it: formats, proofs, rules, state and audit. Nothing here opens a file or a
//! connection, reads a clock or waits; a test of the workspace keeps runtimes, databases and HTTP out.
//!
//! Formats and proofs, from the bytes up: [`json`] (the one JSON form), [`jws`] (who signed), [`names`], [`payload`] and [`tx`] (what
//! is signed), [`merkle`] and [`rtree`] (trees), [`header`] (blocks), [`genesis`] (where a chain begins), [`checkpoint`]
//! (what the members certify), [`map`] (the state map), [`entry`] (what is in it), [`consent`], [`bodies`] and [`numbers`]
//! (what stays off the chain) and [`proof`] (what anybody can check without us). `docs/FORMATS.md` says the same in words, with vectors.
//!
//! Rules and state, on top of them: [`state`] with [`anchors`] (every right and fact after a block), [`rules`] (what a
//! transaction may do), [`block`] (what a block must be), [`read_set`] and [`speculative_state`] (what transactions lean on and
//! lead to). [`memory`] is a chain as a node has it, with [`events`] and [`secondary_index`] beside the state; [`verification`]
//! and [`comparison`] tell whether stored bytes are that chain; [`audit`] checks a whole chain by nobody's word, and
//! [`file`] is a chain in one file. [`parallel`] is how many items are worked on at once.

pub mod anchors;
pub mod audit;
pub mod block;
pub mod bodies;
pub mod certificate;
pub mod checkpoint;
pub mod comparison;
pub mod consent;
pub mod entry;
pub mod events;
pub mod evidence;
pub mod file;
#[cfg(any(test, feature = "testing"))]
pub mod fixtures;
pub mod genesis;
pub mod header;
pub mod json;
pub mod jws;
pub mod map;
pub mod memory;
pub mod merkle;
pub mod names;
pub mod numbers;
pub mod parallel;
pub mod payload;
pub mod proof;
pub mod read_set;
pub mod rtree;
pub mod rules;
pub mod secondary_index;
pub mod speculative_state;
pub mod state;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod tx;
pub mod verification;

#[cfg(test)]
mod tests;
