//! The new database: block by block the row that is stored, if it proves itself, else a peer's.

use std::time::{Duration, Instant};

use hbc_chain::header::{Block, HEADER_BYTES, Header};
use hbc_chain::memory::Chain;
use hbc_consensus::{MemberSet, wal};
use hbc_types::Digest;
use hbc_types::wire::ledger::{BlockView, BlocksView};

use super::site::{HealError, Site};
use crate::domain::healing::{Appetite, Goal, Turns, Unfit, restore};
use crate::store::{BlockReader, Store, StoredBlock, StoredEvidence};

/// Rows or bytes written by one commit.
const ROWS_AT_ONCE: usize = 256;
const BYTES_AT_ONCE: usize = 8 << 20;
/// Reads that may fail one after the other before the damaged file is left alone.
const FAILED_READS: u32 = 256;
/// Bytes of refused rows that are kept.
const REFUSED_BYTES: usize = 8 << 20;
/// False answers of peers that are kept as evidence.
const LIES: usize = 64;
/// Between two rounds of asking, growing.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);
/// After so many rounds, some eight seconds, members that are only behind for a moment have what there is.
const PATIENCE: u32 = 6;
/// Who takes longer for an answer is asked last from then on.
const SLOW: Duration = Duration::from_secs(2);
/// So many bytes of blocks are no small answer, however few blocks they are.
const LARGE_ANSWER: usize = 1 << 20;

/// A new database with all blocks, and the chain that they make.
pub struct NewDatabase {
    /// The new database, still beside the old one.
    pub fresh: Store,
    /// Its chain.
    pub chain: Chain,
    /// Stored rows that were refused, one line each.
    pub refused: Vec<u8>,
    /// What peers were caught at.
    pub lies: Vec<StoredEvidence>,
}

/// Makes the new database. Waits for peers for as long as blocks are missing that only they can give.
///
/// # Errors
/// When the new database cannot be written.
pub async fn build(site: &Site<'_>) -> Result<NewDatabase, HealError> {
    let path = site.data.new_database();
    site.data.discard(&path)?;
    let fresh = Store::open(&path, true, site.store.mac_key().clone()).await?;
    let chain = Chain::found(site.genesis.clone())?;
    let zero = Block { header: *chain.tip(), transactions: Vec::new() };
    let log = std::fs::read(site.data.wal()).unwrap_or_default();
    let mut work = Build {
        site,
        goal: Goal::new(site.known.len(), wal::scan(&log).floor),
        checkpoint: site.data.checkpoint().unwrap_or_default(),
        batch: vec![row(&zero, String::new())],
        new_database: NewDatabase { fresh, chain, refused: Vec::new(), lies: Vec::new() },
        reader: None,
        failed_reads: 0,
        appetite: Appetite::default(),
        turns: Turns::of(site.sources.len()),
        refused_sources: Vec::new(),
    };
    while work.next().await? {
        site.board.progress().checked = work.new_database.chain.height();
        let bytes: usize = work.batch.iter().map(|row| row.body.len()).sum();
        if work.batch.len() >= ROWS_AT_ONCE || bytes >= BYTES_AT_ONCE {
            work.flush().await?;
        }
        tokio::task::yield_now().await;
    }
    work.flush().await?;
    Ok(work.new_database)
}

struct Build<'a> {
    site: &'a Site<'a>,
    goal: Goal,
    checkpoint: Option<String>,
    batch: Vec<StoredBlock>,
    new_database: NewDatabase,
    reader: Option<BlockReader>,
    failed_reads: u32,
    appetite: Appetite,
    turns: Turns,
    /// Peers that gave something false in this attempt.
    refused_sources: Vec<usize>,
}

/// What the damaged database had.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stored {
    Good,
    Bad,
    Absent,
}

/// What the peers had.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Answered {
    Given,
    /// Some answered; none has it. More than a third of the members are among them, or not.
    NobodyHasIt {
        honest: bool,
    },
    NobodyAnswers,
}

impl Build<'_> {
    /// Goes on by at least one block; false at the end of the chain.
    async fn next(&mut self) -> Result<bool, HealError> {
        let stored = self.take_stored().await;
        if stored == Stored::Good {
            self.appetite.sated();
            return Ok(true);
        }
        let (mut pause, mut rounds) = (FIRST_PAUSE, 0_u32);
        loop {
            rounds = rounds.saturating_add(1);
            let chain = &self.new_database.chain;
            let goal = self.goal.with_checkpoint(chain, self.checkpoint.as_deref());
            let needed = goal.needs_more(chain.height());
            if stored == Stored::Absent && !needed {
                return Ok(false);
            }
            match self.ask_all(stored == Stored::Absent).await {
                Answered::Given => {
                    self.site.board.progress().trouble = None;
                    return Ok(true);
                }
                Answered::NobodyHasIt { .. } if !needed => return Ok(false),
                Answered::NobodyAnswers if !needed && self.site.sources.is_empty() => return Ok(false),
                Answered::NobodyHasIt { honest: true }
                    if rounds >= PATIENCE && goal.is_the_logs(self.new_database.chain.height()) =>
                {
                    self.disbelieve_the_log()?;
                    return Ok(false);
                }
                Answered::NobodyHasIt { .. } | Answered::NobodyAnswers => {}
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
            // A liar is asked again: what it says is checked each time.
            self.refused_sources.clear();
        }
    }

    /// One honest member at least says that the chain ends here: the log that says more was changed. It is put away, and
    /// the node signs nothing until what it may have signed cannot matter.
    fn disbelieve_the_log(&mut self) -> Result<(), HealError> {
        tracing::error!(
            log.height = self.goal.height(),
            block.height = self.new_database.chain.height(),
            "ALARM: the consensus log demands blocks that no member has; it is put away"
        );
        self.site.data.put_log_away()?;
        self.goal = self.goal.without_the_log();
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), HealError> {
        self.new_database.fresh.import_blocks(&self.batch).await?;
        self.batch.clear();
        Ok(())
    }

    async fn take_stored(&mut self) -> Stored {
        let height = self.new_database.chain.height().saturating_add(1);
        let Some(row) = self.read_stored(height).await else { return Stored::Absent };
        match self.take(&row) {
            Ok(()) => {
                self.batch.push(row);
                Stored::Good
            }
            Err(unfit) => {
                tracing::warn!(block.height = height, block.reason = %unfit, "A stored block is refused");
                self.keep_refused(&row, &unfit);
                Stored::Bad
            }
        }
    }

    /// A row that cannot be read is none: the file may be damaged anywhere.
    async fn read_stored(&mut self, height: u64) -> Option<StoredBlock> {
        if self.failed_reads >= FAILED_READS {
            return None;
        }
        let mut reader = match self.reader.take() {
            Some(reader) => reader,
            None => match self.site.store.blocks(height).await {
                Ok(reader) => reader,
                Err(_unreadable) => {
                    self.failed_reads = self.failed_reads.saturating_add(1);
                    return None;
                }
            },
        };
        match reader.at(height).await {
            Ok(row) => {
                self.reader = Some(reader);
                self.failed_reads = 0;
                row
            }
            Err(_unreadable) => {
                self.failed_reads = self.failed_reads.saturating_add(1);
                None
            }
        }
    }

    fn take(&mut self, row: &StoredBlock) -> Result<(), Unfit> {
        let known = usize::try_from(row.height).ok().and_then(|index| self.site.known.get(index));
        restore(&mut self.new_database.chain, known, &row.header, &row.body, &row.certificate)
    }

    fn keep_refused(&mut self, row: &StoredBlock, unfit: &Unfit) {
        let line = serde_json::json!({
            "height": row.height, "reason": unfit.to_string(), "header": hex::encode(&row.header),
            "body": hex::encode(&row.body), "certificate": row.certificate,
        });
        let line = format!("{line}\n").into_bytes();
        if self.new_database.refused.len().saturating_add(line.len()) <= REFUSED_BYTES {
            self.new_database.refused.extend_from_slice(&line);
        }
    }

    /// Asks one peer after the other for the next blocks. `all`: nothing more is stored here.
    async fn ask_all(&mut self, all: bool) -> Answered {
        let from = self.new_database.chain.height().saturating_add(1);
        let limit = self.appetite.next(all);
        let (mut without, mut answered, mut said) = (Vec::new(), false, Vec::new());
        for index in self.turns.order() {
            if self.refused_sources.contains(&index) {
                continue;
            }
            let Some(source) = self.site.sources.get(index) else { continue };
            let asked = Instant::now();
            let answer = source.blocks(from, limit).await;
            if !answer.as_ref().is_ok_and(|view| is_generous(view, from, limit)) || asked.elapsed() > SLOW {
                self.turns.put_last(index);
            }
            match answer {
                Ok(view) if view.blocks.is_empty() => {
                    answered = true;
                    without.extend(source.id);
                    said.push(format!("{} has {} blocks", source.name, view.tip));
                }
                Ok(view) => {
                    if self.take_given(index, view.blocks) {
                        return Answered::Given;
                    }
                    said.push(format!("{} lied", source.name));
                }
                Err(error) => said.push(format!("{}: {error}", source.name)),
            }
        }
        let trouble = format!("no peer gives block {from} ({})", said.join("; "));
        tracing::warn!(block.height = from, healing.trouble = %trouble, "Healing waits");
        self.site.board.progress().trouble = Some(trouble);
        if !answered {
            return Answered::NobodyAnswers;
        }
        let members = MemberSet::of(self.new_database.chain.state().members());
        let count = without.iter().filter(|id| members.get(id).is_some()).count();
        Answered::NobodyHasIt { honest: count.saturating_mul(3) > members.len() }
    }

    /// Takes what a peer gave for as long as it is good; true if the first block was.
    fn take_given(&mut self, index: usize, blocks: Vec<BlockView>) -> bool {
        let Some(source) = self.site.sources.get(index) else { return false };
        let mut taken = false;
        for view in blocks {
            let row = match given(&view) {
                Ok(row) => row,
                Err(unfit) => {
                    self.caught(index, &view, &unfit);
                    return taken;
                }
            };
            if let Err(unfit) = self.take(&row) {
                self.caught(index, &view, &unfit);
                return taken;
            }
            taken = true;
            let bytes = row.header.len() + row.body.len() + row.certificate.len();
            let mut progress = self.site.board.progress();
            progress.healed = progress.healed.saturating_add(1);
            progress.healed_bytes =
                progress.healed_bytes.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
            *progress.from.entry(source.name.clone()).or_default() += 1;
            drop(progress);
            self.batch.push(row);
        }
        taken
    }

    /// A peer gave a block that is not the chain's: it is named, the answer is kept, it is not asked again now.
    fn caught(&mut self, index: usize, view: &BlockView, unfit: &Unfit) {
        let Some(source) = self.site.sources.get(index) else { return };
        self.refused_sources.push(index);
        tracing::error!(
            peer.name = %source.name, block.height = view.height, block.reason = %unfit,
            "ALARM: a peer gave a false block for healing; it is refused"
        );
        let mut progress = self.site.board.progress();
        if !progress.liars.contains(&source.name) {
            progress.liars.push(source.name.clone());
        }
        drop(progress);
        if self.new_database.lies.len() >= LIES {
            return;
        }
        let body: Vec<u8> = view.transactions.iter().flat_map(|jws| jws.bytes().chain([b'\n'])).collect();
        let detail = serde_json::json!({
            "peer": source.name, "height": view.height, "reason": unfit.to_string(),
            "header": hex::encode(view.header.as_slice()), "certificate": view.certificate,
            "transactions_sha256": Digest::of(&body),
        });
        self.new_database.lies.push(StoredEvidence {
            kind: "healer".into(),
            member: source.id.map(|id| id.0),
            height: view.height,
            detail: detail.to_string().into_bytes(),
        });
    }
}

/// Whether an answer has what was asked for, as far as the peer says that it has it.
fn is_generous(view: &BlocksView, from: u64, limit: u32) -> bool {
    let there = view.tip.saturating_add(1).saturating_sub(from).min(u64::from(limit));
    let bytes: usize = view.blocks.iter().flat_map(|block| &block.transactions).map(String::len).sum();
    bytes >= LARGE_ANSWER || u64::try_from(view.blocks.len()).unwrap_or(u64::MAX) >= there
}

fn row(block: &Block, certificate: String) -> StoredBlock {
    let mut header = block.to_bytes();
    let body = header.split_off(HEADER_BYTES);
    StoredBlock { height: block.header.height, header, body, certificate }
}

fn given(view: &BlockView) -> Result<StoredBlock, Unfit> {
    let header = Header::from_bytes(view.header.as_slice())?;
    let transactions = view.transactions.iter().map(|jws| jws.clone().into_bytes()).collect();
    Ok(row(&Block { header, transactions }, view.certificate.clone()))
}
