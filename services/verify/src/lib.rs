//! `hbc verify`: checks a proof, a checkpoint or a whole chain with nothing but the file, and what the caller trusts.
//!
//! It opens no connection and no database; everything it decides is `hbc_chain::proof` and, for chains,
//! `hbc_chain::audit`.

mod chain;
mod input;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, anyhow, ensure};
use clap::Args;
use hbc_chain::genesis::Genesis;
use hbc_chain::proof::{
    FileKind, Known, Leaf, MAX_DOCUMENT_BYTES, ProofError, Trust, VerifiedNote, verify, verify_note,
    verify_tlog,
};
use hbc_types::Digest;

use self::input::Input;

/// What to check, and against what.
#[derive(Debug, Args)]
pub struct Verify {
    /// The chain that is trusted: a `genesis.json`, or a chain id.
    #[arg(long)]
    pub trust: Option<String>,
    /// For a tlog-proof: the transaction that it proves, as a file with its text, or only its id.
    #[arg(long)]
    pub transaction: Option<String>,
    /// A file of the same chain that was kept, of any kind, which must not tell another past.
    #[arg(long)]
    pub against: Option<PathBuf>,
    /// What to check, a file or a pipe: a proof document, a tlog-proof, a checkpoint or an exported chain, told apart by content.
    pub file: PathBuf,
}

/// It was checked and does not hold.
const NOT_VALID: u8 = 1;
/// It could not be checked: a file is missing, the trust is none, or the call is wrong.
const NOT_CHECKED: u8 = 2;
/// It is consistent in itself, but nothing says that its chain is the right one.
const NOT_PINNED: u8 = 3;

/// What was found.
struct Verdict {
    pinned: bool,
    chain: Digest,
    facts: Vec<(&'static str, String)>,
    known: Known,
}

/// A verdict, or in words why there is none. The outer error says why it cannot be checked.
type Outcome = Result<Result<Verdict, String>>;

/// Exit code 0: valid; 1: not, with the reason; 2: not checked; 3: consistent, chain not pinned. `program` is how the one
/// that asks calls itself.
///
/// # Errors
/// When the verdict cannot be written.
pub fn run(program: &str, args: &Verify) -> Result<ExitCode> {
    match check(args) {
        Ok(Ok(Verdict { pinned, facts, .. })) => {
            say(if pinned { "valid" } else { "consistent, chain not pinned (use --trust)" })?;
            for (name, value) in facts {
                say(&printable(&format!("  {name:<16} {value}")))?;
            }
            Ok(if pinned { ExitCode::SUCCESS } else { ExitCode::from(NOT_PINNED) })
        }
        Ok(Err(reason)) => {
            say(&printable(&format!("not valid: {reason}")))?;
            Ok(ExitCode::from(NOT_VALID))
        }
        Err(error) => {
            writeln!(std::io::stderr(), "{}", printable(&format!("{program}: not checked: {error:#}")))?;
            Ok(ExitCode::from(NOT_CHECKED))
        }
    }
}

/// One line of result on standard output.
fn say(line: &str) -> std::io::Result<()> {
    writeln!(std::io::stdout().lock(), "{line}")
}

fn check(args: &Verify) -> Outcome {
    let trust = trust(args.trust.as_deref())?;
    let input = Input::open(&args.file)?;
    let outcome = if input.kind == FileKind::TlogProof {
        let given = args.transaction.as_deref();
        let given =
            given.context("a tlog-proof does not hold its transaction: give it with --transaction")?;
        tlog(input, given, &trust)?
    } else {
        ensure!(args.transaction.is_none(), "--transaction is for a tlog-proof");
        judge(input, &trust)?
    };
    match (outcome, &args.against) {
        (Ok(verdict), Some(against)) => compare(verdict, against, &trust),
        (outcome, _) => Ok(outcome),
    }
}

/// What a file shows by itself; of a `tlog-proof` that is its checkpoint.
fn judge(input: Input, trust: &Trust) -> Outcome {
    match input.kind {
        FileKind::Document => {
            let verified = verify(&input.read()?, trust);
            settle(verified.map(|verified| Verdict {
                pinned: verified.pinned,
                chain: verified.chain,
                facts: verified.facts(),
                known: verified.known,
            }))
        }
        FileKind::TlogProof => note(text(input)?, trust, |text, trust| {
            verify_note(text.split_once("\n\n").map_or("", |(_, note)| note), trust)
        }),
        FileKind::Checkpoint => note(text(input)?, trust, verify_note),
        FileKind::Chain => chain::verify(input, trust),
    }
}

fn tlog(input: Input, given: &str, trust: &Trust) -> Outcome {
    let transaction;
    let leaf = if let Ok(hash) = Digest::parse(given) {
        Leaf::Hash(hash)
    } else {
        transaction = Input::open(Path::new(given))?.read()?;
        Leaf::Transaction(transaction.strip_suffix(b"\n").unwrap_or(&transaction))
    };
    note(text(input)?, trust, |text, trust| verify_tlog(text, leaf, trust))
}

fn note(
    text: Result<String, String>,
    trust: &Trust,
    verify: impl FnOnce(&str, &Trust) -> Result<VerifiedNote, ProofError>,
) -> Outcome {
    let text = match text {
        Ok(text) => text,
        Err(reason) => return Ok(Err(reason)),
    };
    settle(verify(&text, trust).map(|note| Verdict {
        pinned: true,
        chain: note.chain,
        facts: note.facts(),
        known: note.known(),
    }))
}

/// What is missing to check a file does not speak against the file.
fn settle(verdict: Result<Verdict, ProofError>) -> Outcome {
    match verdict {
        Err(error @ (ProofError::GenesisMissing | ProofError::GenesisNeeded)) => Err(error.into()),
        outcome => Ok(outcome.map_err(|error| error.to_string())),
    }
}

/// Looks whether a file that was kept, which must hold itself, tells another past.
fn compare(mut verdict: Verdict, against: &Path, trust: &Trust) -> Outcome {
    let kept = judge(Input::open(against)?, trust)?;
    let kept = kept.map_err(|reason| anyhow!("`{}` does not hold itself: {reason}", against.display()))?;
    ensure!(kept.chain == verdict.chain, "`{}` is of the chain {}", against.display(), kept.chain);
    if let Err(error) = verdict.known.agrees_with(&kept.known) {
        return Ok(Err(format!("against `{}`: {error}", against.display())));
    }
    let words = match verdict.known.shared(&kept.known).last() {
        Some(height) => format!("it has the same block {height}, and contradicts this nowhere"),
        None => format!(
            "it reaches to height {} and does not contradict this; that the log grew from one to the other is for a consistency proof",
            kept.known.height()
        ),
    };
    verdict.facts.push(("against", words));
    Ok(Ok(verdict))
}

/// What a file says must not move the cursor, colour the verdict or turn the direction of the text round.
fn printable(line: &str) -> String {
    let steers = |c: char| {
        c.is_control()
            || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    line.chars().fold(String::with_capacity(line.len()), |mut shown, c| {
        if steers(c) {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
        shown
    })
}

fn trust(given: Option<&str>) -> Result<Trust> {
    let Some(given) = given else { return Ok(Trust::Nothing) };
    if let Ok(chain) = Digest::parse(given) {
        return Ok(Trust::Chain(chain));
    }
    let genesis = Genesis::parse(&Input::open(Path::new(given))?.read()?)
        .with_context(|| format!("`{given}` is neither a chain id nor a genesis.json"))?;
    Ok(Trust::Genesis(Box::new(genesis)))
}

fn text(input: Input) -> Result<Result<String, String>> {
    let bytes = input.read()?;
    if bytes.len() > MAX_DOCUMENT_BYTES {
        return Ok(Err(ProofError::TooLarge.to_string()));
    }
    Ok(String::from_utf8(bytes)
        .map_err(|_binary| "the file is neither a proof nor a checkpoint nor a chain".to_owned()))
}
