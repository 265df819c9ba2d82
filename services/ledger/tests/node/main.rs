//! Four members over HTTP in one process: what they decide, survive, refuse and notice.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "test code"
)]

mod admission;
mod adversary;
mod bounds;
mod bytes;
mod challenges;
mod clocks;
mod consensus;
mod edits;
mod explorer;
mod healing;
mod healing_boot;
mod http;
mod loops;
mod members;
mod net;
mod proofs;
mod reading;
mod scrub;
mod tampering;
