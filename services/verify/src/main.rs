//! `hbc-verify`: the auditor's program. It is small so that whoever doubts a deployment can read and build all of it: no
//! database, no server, no connection. `hbc verify` is the same code.

use std::process::ExitCode;

use clap::Parser;
use hbc_verify::Verify;

/// Check a proof, a checkpoint or a whole exported chain offline. Exit code 0: good; 1: bad; 2: not checked; 3:
/// consistent, but the chain is not pinned.
#[derive(Debug, Parser)]
#[command(name = "hbc-verify", version)]
struct Cli {
    #[command(flatten)]
    verify: Verify,
}

fn main() -> ExitCode {
    match hbc_verify::run("hbc-verify", &Cli::parse().verify) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("hbc-verify: {error:#}");
            ExitCode::FAILURE
        }
    }
}
