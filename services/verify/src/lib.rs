//! `hbc verify`: checks a proof, a checkpoint or a whole chain with nothing but the file, and what the caller trusts.
//!
//! It opens no connection and no database; everything it decides is `hbc_chain::proof` and, for chains,
//! `hbc_chain::audit`.

mod chain;
mod input;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, anyhow};
use clap::Args;
use hbc_chain::checkpoint::CheckpointError;
use hbc_chain::genesis::Genesis;
use hbc_chain::proof::{
    BYTE_ORDER_MARK, Document, FileKind, Known, Leaf, MAX_DOCUMENT_BYTES, ProofError, Trust, Verified,
    VerifiedNote, verify, verify_note, verify_tlog,
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
    /// What to check, a file, a pipe or `-` for standard input: a proof document, a tlog-proof, a checkpoint or an exported
    /// chain, told apart by content.
    pub file: PathBuf,
}

/// It was checked and does not hold.
const NOT_VALID: u8 = 1;
/// It could not be checked: it cannot be read as what it should be, something is missing, or the call is wrong.
const NOT_CHECKED: u8 = 2;
/// It is consistent in itself, but nothing says that its chain is the right one.
const NOT_PINNED: u8 = 3;

/// What was found.
struct Verdict {
    pinned: bool,
    chain: Digest,
    statement: String,
    facts: Vec<(&'static str, String)>,
    known: Known,
}

/// Why there is no verdict.
#[derive(Debug)]
enum Failure {
    /// It was read, and does not hold.
    False(String),
    /// Nothing is known for it or against it.
    Unchecked(anyhow::Error),
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Unchecked(error)
    }
}

/// What is missing to check a file, or to read it, does not speak against the file.
impl From<ProofError> for Failure {
    fn from(error: ProofError) -> Self {
        if error.tells_nothing() { Self::Unchecked(error.into()) } else { Self::False(error.to_string()) }
    }
}

type Outcome = std::result::Result<Verdict, Failure>;

/// Exit code 0: valid; 1: not, with the reason; 2: not checked; 3: consistent, chain not pinned (FORMATS §8.2). `program` is
/// how the one that asks calls itself.
///
/// # Errors
/// When the verdict cannot be written.
pub fn run(program: &str, args: &Verify) -> Result<ExitCode> {
    match check(args) {
        Ok(Verdict { pinned, statement, facts, .. }) => {
            let found = if pinned { "valid" } else { "consistent, chain not pinned (use --trust)" };
            say(&printable(&format!("{found}: {statement}")))?;
            for (name, value) in facts {
                say(&printable(&format!("  {name:<16} {value}")))?;
            }
            Ok(if pinned { ExitCode::SUCCESS } else { ExitCode::from(NOT_PINNED) })
        }
        Err(Failure::False(reason)) => {
            say(&printable(&format!("not valid: {reason}")))?;
            Ok(ExitCode::from(NOT_VALID))
        }
        Err(Failure::Unchecked(error)) => {
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
    let verdict = if input.kind == FileKind::TlogProof {
        let given = args.transaction.as_deref();
        let given =
            given.context("a tlog-proof does not hold its transaction: give it with --transaction")?;
        tlog(input, given, &trust)?
    } else {
        if args.transaction.is_some() {
            return Err(anyhow!("--transaction is for a tlog-proof").into());
        }
        judge(input, &trust)?
    };
    match &args.against {
        Some(against) => compare(verdict, against, &trust),
        None => Ok(verdict),
    }
}

/// What a file shows by itself; of a `tlog-proof` that is its checkpoint.
fn judge(input: Input, trust: &Trust) -> Outcome {
    match input.kind {
        FileKind::Document => document(&input.read()?, trust),
        FileKind::TlogProof => note(&text(input)?, trust, |text, trust| {
            verify_note(text.split_once("\n\n").map_or("", |(_, note)| note), trust)
        }),
        FileKind::Checkpoint => note(&text(input)?, trust, verify_note),
        FileKind::Chain => chain::verify(input, trust),
    }
}

fn document(file: &[u8], trust: &Trust) -> Outcome {
    let verified = verify(file, trust).map_err(|error| match Document::laid_out_anew(file) {
        Some(format) if error.tells_nothing() && Document::parse(file).is_err() => {
            Failure::Unchecked(anyhow!(
                "this is a proof ({format}), but laid out anew{}: it is not byte for byte in the one form that can be checked. Take the file as it was given, unchanged",
                with_mark(file)
            ))
        }
        _ => error.into(),
    })?;
    let (statement, facts) = (verified.statement(), verified.facts());
    let Verified { pinned, chain, known, .. } = verified;
    Ok(Verdict { pinned, chain, statement, facts, known })
}

/// Says so where a byte-order mark is what an editor left.
fn with_mark(file: &[u8]) -> &'static str {
    if file.starts_with(BYTE_ORDER_MARK) { ", behind a byte-order mark" } else { "" }
}

fn tlog(input: Input, given: &str, trust: &Trust) -> Outcome {
    let transaction;
    let leaf = if let Ok(hash) = Digest::parse(given) {
        Leaf::Hash(hash)
    } else {
        transaction = Input::open(Path::new(given))?.read()?;
        Leaf::Transaction(transaction.strip_suffix(b"\n").unwrap_or(&transaction))
    };
    note(&text(input)?, trust, |text, trust| verify_tlog(text, leaf, trust))
}

/// A text that carries no list of members. Too few founders on it are no word against it: at its height others may be the
/// members.
fn note(
    text: &str,
    trust: &Trust,
    verify: impl FnOnce(&str, &Trust) -> std::result::Result<VerifiedNote, ProofError>,
) -> Outcome {
    let note = verify(text, trust).map_err(|error| match error {
        ProofError::Checkpoint(CheckpointError::Form(_)) => Failure::Unchecked(anyhow!(
            "the file{} has not the form of a proof document, a tlog-proof, a checkpoint or a chain: {error}",
            with_mark(text.as_bytes())
        )),
        ProofError::Checkpoint(CheckpointError::TooFew { signed, members }) => Failure::Unchecked(anyhow!(
            "{signed} of the {members} founding members signed this, and more than two thirds would be needed if they are the members at its height. Who is, this text does not show: a proof document does"
        )),
        error => error.into(),
    })?;
    let (statement, facts, known) = (note.statement(), note.facts(), note.known());
    Ok(Verdict { pinned: true, chain: note.chain, statement, facts, known })
}

/// Looks whether a file that was kept, which must hold itself, tells another past.
fn compare(mut verdict: Verdict, against: &Path, trust: &Trust) -> Outcome {
    let name = against.display();
    let kept = judge(Input::open(against)?, trust).map_err(|failure| match failure {
        Failure::False(reason) => Failure::Unchecked(anyhow!("`{name}` does not hold itself: {reason}")),
        Failure::Unchecked(error) => Failure::Unchecked(error.context(format!("`{name}`"))),
    })?;
    if kept.chain != verdict.chain {
        return Err(anyhow!("`{name}` is of the chain {}", kept.chain).into());
    }
    verdict.known.agrees_with(&kept.known).map_err(|error| match Failure::from(error) {
        Failure::False(reason) => Failure::False(format!("against `{name}`: {reason}")),
        Failure::Unchecked(error) => Failure::Unchecked(error.context(format!("against `{name}`"))),
    })?;
    let words = match verdict.known.shared(&kept.known).last() {
        Some(height) => format!("it has the same block {height}, and contradicts this nowhere"),
        None => format!(
            "it reaches to height {} and does not contradict this; that the log grew from one to the other is for a consistency proof",
            kept.known.height()
        ),
    };
    verdict.facts.push(("against", words));
    Ok(verdict)
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

fn text(input: Input) -> std::result::Result<String, Failure> {
    let bytes = input.read()?;
    if bytes.len() > MAX_DOCUMENT_BYTES {
        return Err(ProofError::TooLarge.into());
    }
    let text = String::from_utf8(bytes)
        .map_err(|_binary| anyhow!("the file is neither a proof nor a checkpoint nor a chain"))?;
    Ok(text)
}
