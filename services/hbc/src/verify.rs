//! `hbc verify`: checks a proof, a checkpoint or a whole chain with nothing but the file, and what the caller trusts.
//!
//! It opens no connection and no database; everything it decides is `hbc_types::chain::proof` and, for chains,
//! `hbc_ledger::domain::audit`.

mod chain;

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};
use hbc_types::Digest;
use hbc_types::chain::genesis::Genesis;
use hbc_types::chain::proof::{FileKind, MAX_DOCUMENT_BYTES, Trust, verify, verify_note, verify_tlog};
use hbc_types::chain::tx;

use crate::cli::Verify;

/// The proof is consistent in itself, but nothing says that its chain is the right one.
const NOT_PINNED: u8 = 3;

/// What was found.
struct Verdict {
    pinned: bool,
    facts: Vec<(&'static str, String)>,
}

/// Exit code 0: proven; 1: not, with the reason; 3: consistent, chain not pinned.
pub fn run(args: &Verify) -> Result<ExitCode> {
    let trust = trust(args.trust.as_deref())?;
    let kind = FileKind::of(&read(&args.file, 32)?);
    ensure!(args.transaction.is_none() || kind == FileKind::TlogProof, "--transaction is for a tlog-proof");
    ensure!(args.against.is_none() || kind == FileKind::Checkpoint, "--against is for a checkpoint");
    let outcome = match kind {
        FileKind::Document => document(&args.file, &trust)?,
        FileKind::TlogProof => tlog(args, &trust)?,
        FileKind::Checkpoint => checkpoint(args, &trust)?,
        FileKind::Chain => chain::verify(&args.file, &trust)?,
    };
    match outcome {
        Ok(Verdict { pinned, facts }) => {
            crate::say(if pinned { "valid" } else { "consistent, chain not pinned (use --trust)" })?;
            for (name, value) in facts {
                crate::say(&printable(&format!("  {name:<16} {value}")))?;
            }
            Ok(if pinned { ExitCode::SUCCESS } else { ExitCode::from(NOT_PINNED) })
        }
        Err(reason) => {
            crate::say(&printable(&format!("not valid: {reason}")))?;
            Ok(ExitCode::FAILURE)
        }
    }
}

/// What a file says must not move the cursor, colour the verdict or turn the direction of the text round.
fn printable(line: &str) -> String {
    let steers = |c: char| {
        c.is_control()
            || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    line.chars().fold(String::with_capacity(line.len()), |mut shown, c| {
        if steers(c) {
            shown.extend(c.escape_default())
        } else {
            shown.push(c)
        }
        shown
    })
}

/// A verdict, or in words why there is none. The outer error is the caller's: a file that cannot be read.
type Outcome = Result<Result<Verdict, String>>;

fn document(file: &Path, trust: &Trust) -> Outcome {
    let verified = verify(&read_document(file)?, trust);
    Ok(verified
        .map(|verified| Verdict { pinned: verified.pinned, facts: verified.facts() })
        .map_err(|error| error.to_string()))
}

fn tlog(args: &Verify, trust: &Trust) -> Outcome {
    let given = args.transaction.as_deref();
    let given = given.context("a tlog-proof does not hold its transaction: give it with --transaction")?;
    let txid = match Digest::parse(given) {
        Ok(txid) => txid,
        Err(_not_an_id) => {
            let text = read_document(Path::new(given))?;
            tx::txid(text.strip_suffix(b"\n").unwrap_or(&text))
        }
    };
    let text = match text(&args.file)? {
        Ok(text) => text,
        Err(reason) => return Ok(Err(reason)),
    };
    let verified = verify_tlog(&text, &txid, trust);
    Ok(verified.map(|note| Verdict { pinned: true, facts: note.facts() }).map_err(|error| error.to_string()))
}

fn checkpoint(args: &Verify, trust: &Trust) -> Outcome {
    let verified = |file: &Path| -> Result<Result<_, String>> {
        Ok(text(file)?.and_then(|note| verify_note(&note, trust).map_err(|error| error.to_string())))
    };
    let note = match verified(&args.file)? {
        Ok(note) => note,
        Err(reason) => return Ok(Err(reason)),
    };
    let mut facts = note.facts();
    if let Some(against) = &args.against {
        let other = match verified(against)? {
            Ok(other) => other,
            Err(reason) => return Ok(Err(format!("{}: {reason}", against.display()))),
        };
        if let Err(error) = note.agrees_with(&other) {
            return Ok(Err(error.to_string()));
        }
        let words = if note.certified.height == other.certified.height {
            "the other names the same block".to_owned()
        } else {
            let height = other.certified.height;
            format!(
                "the other, of height {height}, does not contradict it; growth is shown by a consistency proof"
            )
        };
        facts.push(("against", words));
    }
    Ok(Ok(Verdict { pinned: true, facts }))
}

fn trust(given: Option<&str>) -> Result<Trust> {
    let Some(given) = given else { return Ok(Trust::Nothing) };
    if let Ok(chain) = Digest::parse(given) {
        return Ok(Trust::Chain(chain));
    }
    let genesis = Genesis::parse(&read_document(Path::new(given))?)
        .with_context(|| format!("`{given}` is neither a chain id nor a genesis.json"))?;
    Ok(Trust::Genesis(Box::new(genesis)))
}

fn text(file: &Path) -> Result<Result<String, String>> {
    let bytes = read_document(file)?;
    if bytes.len() > MAX_DOCUMENT_BYTES {
        return Ok(Err("the file is larger than 4 MiB".to_owned()));
    }
    Ok(String::from_utf8(bytes)
        .map_err(|_binary| "the file is neither a proof nor a checkpoint nor a chain".to_owned()))
}

/// A file up to one byte more than any document has, so that a larger one is refused as too large.
fn read_document(path: &Path) -> Result<Vec<u8>> {
    read(path, MAX_DOCUMENT_BYTES.saturating_add(1))
}

fn read(path: &Path, limit: usize) -> Result<Vec<u8>> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(u64::try_from(limit).unwrap_or(u64::MAX)).read_to_end(&mut bytes))
        .with_context(|| format!("cannot read `{}`", path.display()))?;
    Ok(bytes)
}
