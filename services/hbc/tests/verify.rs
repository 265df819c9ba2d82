//! `hbc verify` by its exit codes: the cases of `hbc-verify`, whose code it is.

#[path = "../../verify/tests/cases/mod.rs"]
mod cases;

/// The program under test, and what comes before its arguments.
const PROGRAM: (&str, &[&str]) = (env!("CARGO_BIN_EXE_hbc"), &["verify"]);
