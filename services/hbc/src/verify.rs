//! `hbc verify`: checks a proof with nothing but the file, and what the caller trusts.
//!
//! It opens no connection and no database; everything it decides is `hbc_types::chain::proof`.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use hbc_types::Digest;
use hbc_types::chain::genesis::Genesis;
use hbc_types::chain::proof::{MAX_DOCUMENT_BYTES, Trust, verify};

use crate::cli::Verify;

/// The proof is consistent in itself, but nothing says that its chain is the right one.
const NOT_PINNED: u8 = 3;

/// Exit code 0: proven; 1: not, with the reason; 3: consistent, chain not pinned.
pub fn run(args: &Verify) -> Result<ExitCode> {
    let trust = trust(args.trust.as_deref())?;
    let file = read(&args.file)?;
    match verify(&file, &trust) {
        Ok(verified) => {
            let verdict =
                if verified.pinned { "valid" } else { "consistent, chain not pinned (use --trust)" };
            crate::say(verdict)?;
            for (name, value) in verified.facts() {
                crate::say(&format!("  {name:<16} {value}"))?;
            }
            Ok(if verified.pinned { ExitCode::SUCCESS } else { ExitCode::from(NOT_PINNED) })
        }
        Err(error) => {
            crate::say(&format!("not valid: {error}"))?;
            Ok(ExitCode::FAILURE)
        }
    }
}

fn trust(given: Option<&str>) -> Result<Trust> {
    let Some(given) = given else { return Ok(Trust::Nothing) };
    if let Ok(chain) = Digest::parse(given) {
        return Ok(Trust::Chain(chain));
    }
    let genesis = Genesis::parse(&read(Path::new(given))?)
        .with_context(|| format!("`{given}` is neither a chain id nor a genesis.json"))?;
    Ok(Trust::Genesis(Box::new(genesis)))
}

/// A file up to one byte more than any proof has, so that a larger one is refused as too large.
fn read(path: &Path) -> Result<Vec<u8>> {
    use std::io::Read as _;
    let limit = u64::try_from(MAX_DOCUMENT_BYTES).unwrap_or(u64::MAX).saturating_add(1);
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(limit).read_to_end(&mut bytes))
        .with_context(|| format!("cannot read `{}`", path.display()))?;
    Ok(bytes)
}
