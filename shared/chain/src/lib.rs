//! The ledger's formats and their verification. Nothing here does I/O, reads a clock or keeps state.
//!
//! From the bytes up: [`json`] (the one JSON form), [`keys`] and [`jws`] (who signed), [`payload`] and [`tx`] (what is
//! signed), [`merkle`] (trees), [`header`] (blocks), [`genesis`] (where a chain begins), [`checkpoint`] (what the members
//! certify), [`state`] (the state map) and [`proof`] (what anybody can check without us). `docs/FORMATS.md` says the same
//! in words, with vectors.

pub mod certificate;
pub mod checkpoint;
pub mod consent;
pub mod entry;
pub mod evidence;
pub mod genesis;
pub mod header;
pub mod json;
pub mod jws;
pub mod merkle;
pub mod payload;
pub mod proof;
pub mod rtree;
pub mod state;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod tx;
