//! Consensus on one block per height, final when decided: Tendermint BFT by Malachite's core, without I/O.
//!
//! [`Core`] takes [`Input`]s and answers [`Output`]s that the ledger's node carries out in order; the same machine
//! runs under the seeded simulator in `tests/consensus`. Outside this crate no type of the library is named, so that it
//! can be replaced or vendored. [`sign_bytes`] holds what is signed, [`wal`] what survives a crash. Files, sockets and clocks
//! are the caller's.
//!
//! Why: decision 0021.

mod codec;
mod context;
mod contradictions;
mod core;
mod host;
mod interface;
mod pending_validations;
pub mod sign_bytes;
mod signatures;
mod types;
pub mod wal;

pub use codec::{CodecError, Message};
pub use core::Core;
pub use interface::{Boot, Consensus, Identity, Input, Output, Timing};
pub use types::{BlockBytes, BlockId, Certificate, Equivocation, Member, MemberId, MemberSet, Verdict};
