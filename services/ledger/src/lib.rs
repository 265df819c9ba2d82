//! Agreement on proof-of-work blocks, transaction rules, proofs, attack detection.

pub mod consensus;
