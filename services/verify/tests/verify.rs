//! `hbc-verify` by its exit codes. `hbc verify` passes the same cases in its own crate.

mod cases;

/// The program under test, and what comes before its arguments.
const PROGRAM: (&str, &[&str]) = (env!("CARGO_BIN_EXE_hbc-verify"), &[]);
