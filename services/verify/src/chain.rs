//! A whole exported chain: streamed from the file, in groups that keep all cores at work, with its progress on a terminal.

use std::io::{BufReader, IsTerminal as _, Read, Write as _};
use std::time::{Duration, Instant};

use anyhow::anyhow;
use hbc_chain::audit::{Audit, AuditedBlock};
use hbc_chain::file::{ChainFileError, ChainReader};
use hbc_chain::proof::{ProofError, Trust, chain_line};
use hbc_types::Timestamp;

use super::input::{Bytes, Input};
use super::{Failure, Outcome, Verdict};

/// A group of blocks ends with the first that reaches one of these.
const GROUP_TRANSACTIONS: usize = 16_384;
const GROUP_BYTES: usize = 8 << 20;
const GROUP_BLOCKS: usize = 1_024;
/// How often progress is shown.
const EVERY: Duration = Duration::from_millis(200);

pub fn verify(input: Input, trust: &Trust) -> Outcome {
    let mut progress = Progress::new(input.total);
    let inner = BufReader::with_capacity(1 << 20, input.stream());
    let mut reader = ChainReader::open(Counted { inner, read: 0 })
        .map_err(|error| refusal(&error, "before block 1", "nothing of it can be checked"))?;
    let chain = reader.genesis().chain_id().map_err(|error| Failure::False(error.to_string()))?;
    let pinned = match trust {
        Trust::Nothing => None,
        Trust::Chain(pinned) => Some(*pinned),
        Trust::Genesis(genesis) => Some(genesis.chain_id().map_err(anyhow::Error::from)?),
    };
    if let Some(pinned) = pinned.filter(|pinned| *pinned != chain) {
        return Err(ProofError::OtherChain { pinned, found: chain }.into());
    }
    let audit = run(&mut reader, &mut progress);
    let elapsed = progress.end();
    let audit = audit?;
    Ok(Verdict {
        pinned: pinned.is_some(),
        chain,
        statement: statement(&audit),
        facts: facts(&audit, pinned.is_some(), elapsed),
        known: audit.known().clone(),
    })
}

/// A file that cannot be read any further, or never was one of this kind, is not false; one of another form is.
fn refusal(error: &ChainFileError, place: &str, so_far: &str) -> Failure {
    match error {
        ChainFileError::Io(_) | ChainFileError::Cut | ChainFileError::Version => {
            Failure::Unchecked(anyhow!("{place}: {error}; {so_far}"))
        }
        ChainFileError::Genesis(_)
        | ChainFileError::GenesisForm
        | ChainFileError::Length
        | ChainFileError::Block(_)
        | ChainFileError::Certificate
        | ChainFileError::End { .. }
        | ChainFileError::Trailing => Failure::False(format!("{place}: {error}")),
    }
}

fn run(reader: &mut ChainReader<Counted>, progress: &mut Progress) -> Result<Audit, Failure> {
    let mut audit = Audit::begin(reader.genesis()).map_err(|error| Failure::False(error.to_string()))?;
    loop {
        let (group, ended) = read_group(reader);
        // What was read before the file went wrong is checked first, so that the first bad height is named.
        audit.take(group).map_err(|(height, error)| Failure::False(format!("block {height}: {error}")))?;
        let height = audit.state().height();
        progress.show(height, audit.transactions(), reader.input().read);
        let ended = ended.map_err(|error| {
            let place = format!("block {}", reader.next_height());
            refusal(&error, &place, &format!("the {height} blocks before it hold"))
        })?;
        if ended {
            return Ok(audit);
        }
    }
}

/// The next blocks, and whether the file has ended after them.
fn read_group(reader: &mut ChainReader<Counted>) -> (Vec<AuditedBlock>, Result<bool, ChainFileError>) {
    let (mut group, mut bytes, mut transactions) = (Vec::new(), 0_usize, 0_usize);
    while group.len() < GROUP_BLOCKS && bytes < GROUP_BYTES && transactions < GROUP_TRANSACTIONS {
        match reader.block() {
            Ok(Some((block, note))) => {
                bytes = bytes.saturating_add(block.encoded_len()).saturating_add(note.len());
                transactions = transactions.saturating_add(block.transactions.len());
                group.push((block, note));
            }
            Ok(None) => return (group, Ok(true)),
            Err(error) => return (group, Err(error)),
        }
    }
    (group, Ok(false))
}

/// What the whole chain proves, and as of when.
fn statement(audit: &Audit) -> String {
    let state = audit.state();
    format!(
        "every block, certificate, rule and signature of this chain holds; as of height {}, {}.",
        state.height(),
        time(state.header().time_ms)
    )
}

fn time(ms: u64) -> Timestamp {
    Timestamp::from_ms(i64::try_from(ms).unwrap_or(i64::MAX))
}

fn facts(audit: &Audit, pinned: bool, elapsed: Duration) -> Vec<(&'static str, String)> {
    let (state, transactions) = (audit.state(), audit.transactions());
    let header = state.header();
    let mut facts = vec![
        ("chain", chain_line(&state.chain(), pinned)),
        ("blocks", format!("{} after block 0", state.height())),
        ("transactions", format!("{transactions}, {} a second", per_second(transactions, elapsed))),
        ("entries", format!("{} in the state, {} anchors", state.entries(), state.anchors().leaves().len())),
        ("tip", format!("height {}, hash {}", state.height(), state.tip())),
        ("tip time", time(header.time_ms).to_string()),
        ("log", format!("{} leaves, root {}", header.log_size, header.log_root)),
    ];
    facts.extend(
        audit.note().lines().filter(|line| !line.is_empty()).map(|line| ("checkpoint", line.to_owned())),
    );
    facts
}

fn per_second(count: u64, elapsed: Duration) -> u128 {
    u128::from(count).saturating_mul(1_000) / elapsed.as_millis().max(1)
}

/// Counts what is read, for the progress.
struct Counted {
    inner: BufReader<Bytes>,
    read: u64,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.read = self.read.saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
        Ok(count)
    }
}

/// A line on the terminal that is written over; nothing where there is no terminal.
struct Progress {
    total: u64,
    began: Instant,
    shown: Option<Instant>,
    terminal: bool,
}

impl Progress {
    fn new(total: u64) -> Self {
        Self { total, began: Instant::now(), shown: None, terminal: std::io::stderr().is_terminal() }
    }

    fn show(&mut self, height: u64, transactions: u64, read: u64) {
        let due = self.shown.is_none_or(|shown| shown.elapsed() >= EVERY);
        if !self.terminal || !due {
            return;
        }
        self.shown = Some(Instant::now());
        // Of a pipe nobody knows how much is left.
        let part = read.saturating_mul(100).checked_div(self.total);
        let part = part.map(|percent| format!("{percent:>3} %  ")).unwrap_or_default();
        let rate = per_second(transactions, self.began.elapsed());
        let line = format!("\r{part}block {height}, {transactions} transactions, {rate} a second");
        // A terminal that went away does not end the check.
        let _gone = write!(std::io::stderr(), "{line}\x1b[K");
    }

    /// Wipes the line; answers how long it all took.
    fn end(self) -> Duration {
        if self.shown.is_some() {
            // A terminal that went away does not end the check.
            let _gone = write!(std::io::stderr(), "\r\x1b[K");
        }
        self.began.elapsed()
    }
}
