//! Making blocks, and checking the blocks of others: everything a member must know before it votes for one.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use hbc_types::keys::{Kid, PublicKey};
use hbc_types::{Digest, Timestamp};

use crate::header::{Block, Header, HeaderError, MAX_TRANSACTIONS, miner_id};
use crate::merkle::{self, Frontier};
use crate::parallel;
use crate::rules::{MAX_AHEAD_MS, Refusal};
use crate::state::{Checked, Draft, State, Work};
use crate::tx::{SignatureError, Tx, TxError, verify_signatures};

/// Passes over transactions that wait for one another inside one block.
const PASSES: usize = 4;
/// As many transactions at least are parsed on one thread.
const PART: usize = 32;

/// Why a block is refused whole.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    /// It does not follow this node's tip.
    #[error("height {found} does not follow {tip}")]
    Height {
        /// The node's tip.
        tip: u64,
        /// The block's height.
        found: u64,
    },
    /// It follows another block.
    #[error("prev_hash is not the hash of the block before")]
    PrevHash,
    /// It is not later than its parent, by as much as the parameters ask.
    #[error("its time {found} is before {earliest}")]
    TooEarly {
        /// The earliest time it may have.
        earliest: u64,
        /// Its time.
        found: u64,
    },
    /// Another target than the parameters'.
    #[error("its target is not the one in force")]
    Target,
    /// Mined by nobody who may.
    #[error("its miner is not a member")]
    Miner,
    /// The work is missing.
    #[error("the proof of work is missing")]
    Work,
    /// Larger than the parameters allow.
    #[error("{found} bytes are more than {limit}")]
    TooLarge {
        /// Bytes allowed.
        limit: u64,
        /// Bytes found.
        found: u64,
    },
    /// More transactions than a block may have.
    #[error("{0} transactions are too many")]
    TooMany(usize),
    /// The root over its transactions is another.
    #[error("tx_root does not fit the transactions")]
    TxRoot,
    /// The log after it has another size.
    #[error("log_size is {found}, not {expected}")]
    LogSize {
        /// Leaves of the log with this block.
        expected: u64,
        /// What the header says.
        found: u64,
    },
    /// The log after it has another root.
    #[error("log_root does not fit the log")]
    LogRoot,
    /// The state after it has another root.
    #[error("state_root does not fit the state")]
    StateRoot,
    /// A transaction's form is wrong.
    #[error("transaction {index}: {error}")]
    Form {
        /// Its place in the block.
        index: usize,
        /// What is wrong.
        error: TxError,
    },
    /// A transaction is not signed by who it says.
    #[error("transaction {index}: the signature does not fit, or its key is unknown")]
    Signature {
        /// Its place in the block.
        index: usize,
    },
    /// A rule refuses a transaction.
    #[error("transaction {index}: {refusal}")]
    Refused {
        /// Its place in the block.
        index: usize,
        /// The rule.
        refusal: Refusal,
    },
}

/// A block that lacks its proof of work.
#[derive(Debug)]
pub struct Built {
    /// The header to mine.
    pub header: Header,
    /// The transactions in it.
    pub txs: Vec<Arc<Tx>>,
    /// Candidates that can be in no block any more; the others that are left out may wait.
    pub refused: Vec<(Arc<Tx>, Refusal)>,
    log: Frontier,
    work: Work,
}

impl Built {
    /// The block with the nonce that the work found.
    #[must_use]
    pub fn finish(self, mined: Header) -> (Block, Checked) {
        let header = Header { nonce: mined.nonce, ..self.header };
        let transactions = self.txs.iter().map(|tx| tx.bytes().to_vec()).collect();
        let checked = Checked { header, hash: header.hash(), txs: self.txs, log: self.log, work: self.work };
        (Block { header, transactions }, checked)
    }
}

/// The earliest time of the block after `state`.
#[must_use]
pub fn earliest_ms(state: &State) -> u64 {
    state.header().time_ms.saturating_add(state.parameters().min_spacing_ms.max(1))
}

/// Fills the next block: one transaction of each author in turn, so that a flood of one keeps nobody else out, as many as
/// the limits allow. The candidates' signatures must be checked already.
#[must_use]
pub fn build_block(state: &State, candidates: &[Arc<Tx>], now: Timestamp, miner: &Kid) -> Built {
    let time_ms = now.unsigned_ms().max(earliest_ms(state));
    let mut packing = Packing::new(state, time_ms);
    let mut waiting = take_turns(candidates);
    for _ in 0..PASSES {
        let before = packing.txs.len();
        waiting.retain(|tx| packing.offer(tx));
        if waiting.is_empty() || packing.txs.len() == before {
            break;
        }
    }
    let Packing { draft, txs, refused, .. } = packing;
    let txids: Vec<Digest> = txs.iter().map(|tx| tx.txid()).collect();
    let log = next_log(state, &txids);
    let header = Header {
        height: draft.height(),
        prev_hash: state.tip(),
        tx_root: merkle::root(&txids),
        log_root: log.root(),
        log_size: log.size(),
        state_root: draft.state_root(),
        time_ms,
        // The parameters were checked when they were set; block 0's header holds the same kind of target.
        target: state.parameters().target().unwrap_or(state.header().target),
        miner: miner_id(miner),
        nonce: 0,
    };
    Built { header, txs, refused, log, work: draft.work }
}

struct Packing<'a> {
    draft: Draft<'a>,
    txs: Vec<Arc<Tx>>,
    refused: Vec<(Arc<Tx>, Refusal)>,
    bytes: u64,
    max_bytes: u64,
}

impl<'a> Packing<'a> {
    fn new(state: &'a State, time_ms: u64) -> Self {
        let empty = Block { header: *state.header(), transactions: Vec::new() };
        Self {
            draft: state.draft(time_ms),
            txs: Vec::new(),
            refused: Vec::new(),
            bytes: length(empty.encoded_len()),
            max_bytes: state.parameters().max_block_bytes,
        }
    }

    /// Takes the transaction into the block if it can; true when it waits on.
    fn offer(&mut self, tx: &Arc<Tx>) -> bool {
        let bytes = self.bytes.saturating_add(length(tx.bytes().len())).saturating_add(4);
        if self.txs.len() >= MAX_TRANSACTIONS || bytes > self.max_bytes {
            return true;
        }
        match self.draft.apply(tx) {
            Ok(()) => {
                self.bytes = bytes;
                self.txs.push(Arc::clone(tx));
                false
            }
            Err(Refusal::NotYet(_)) => true,
            Err(refusal @ Refusal::Never { .. }) => {
                self.refused.push((Arc::clone(tx), refusal));
                false
            }
        }
    }
}

fn length(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

/// One of each author in turn, each author's in its own order, authors in the order of their first.
fn take_turns(candidates: &[Arc<Tx>]) -> Vec<Arc<Tx>> {
    let mut places: HashMap<Kid, usize> = HashMap::new();
    let mut queues: Vec<VecDeque<&Arc<Tx>>> = Vec::new();
    for tx in candidates {
        let place = *places.entry(tx.kid()).or_insert(queues.len());
        match queues.get_mut(place) {
            Some(queue) => queue.push_back(tx),
            None => queues.push(VecDeque::from([tx])),
        }
    }
    let mut turns = Vec::with_capacity(candidates.len());
    while !queues.is_empty() {
        turns.extend(queues.iter_mut().filter_map(VecDeque::pop_front).cloned());
        queues.retain(|queue| !queue.is_empty());
    }
    turns
}

/// "The log's first leaf of block h ≥ 1 is the parent's header, then come the block's transactions."
fn next_log(state: &State, txids: &[Digest]) -> Frontier {
    let mut log = state.log().clone();
    log.push(state.header().leaf_hash());
    for txid in txids {
        log.push(*txid);
    }
    log
}

/// How long until a block with this header is no more than 30 s ahead of the clock; zero if it is not now. No rule of
/// [`check_block`], on which all members agree: their clocks need not.
#[must_use]
pub fn early_by_ms(header: &Header, now: Timestamp) -> u64 {
    header.time_ms.saturating_sub(now.unsigned_ms().saturating_add(MAX_AHEAD_MS))
}

/// Checks a proposed block whole, save its time against the clock ([`early_by_ms`]): what every member does before it
/// votes for one. `known` answers transactions whose signatures were checked before.
///
/// # Errors
/// The first thing that is wrong.
pub fn check_block(
    state: &State,
    block: &Block,
    known: &dyn Fn(&Digest) -> Option<Arc<Tx>>,
) -> Result<Checked, BlockError> {
    let header = &block.header;
    check_header(state, header)?;
    check_limits(state, block)?;
    let txids = block.txids();
    let log = check_roots(state, header, &txids)?;
    let txs = verified(state, block, &txids, known)?;
    let work = check_rules(state, header, &txs)?;
    Ok(Checked { header: *header, hash: header.hash(), txs, log, work })
}

/// Applies a block that the members decided and whose bytes are verified: the form and signatures of its transactions are
/// not looked at again, all else is.
///
/// Answers the transactions.
///
/// # Errors
/// The first thing that is wrong; the state is unchanged then.
pub fn replay_block(state: &mut State, block: &Block) -> Result<Vec<Arc<Tx>>, BlockError> {
    let header = &block.header;
    check_header(state, header)?;
    check_limits(state, block)?;
    let txids = block.txids();
    let log = check_roots(state, header, &txids)?;
    let all: Vec<usize> = (0..block.transactions.len()).collect();
    let txs: Vec<Arc<Tx>> = parse(block, &all, Tx::read_final)?.into_iter().map(Arc::new).collect();
    let work = check_rules(state, header, &txs)?;
    let checked = Checked { header: *header, hash: header.hash(), txs: txs.clone(), log, work };
    state.commit(checked).map_err(|_another_tip| BlockError::PrevHash)?;
    Ok(txs)
}

fn check_header(state: &State, header: &Header) -> Result<(), BlockError> {
    if header.height != state.height().saturating_add(1) {
        return Err(BlockError::Height { tip: state.height(), found: header.height });
    }
    if header.prev_hash != state.tip() {
        return Err(BlockError::PrevHash);
    }
    let earliest = earliest_ms(state);
    if header.time_ms < earliest {
        return Err(BlockError::TooEarly { earliest, found: header.time_ms });
    }
    if u64::from(header.target.compact()) != state.parameters().target {
        return Err(BlockError::Target);
    }
    if !state.members().iter().any(|member| miner_id(&member.kid()) == header.miner) {
        return Err(BlockError::Miner);
    }
    header.check_work().map_err(|_above: HeaderError| BlockError::Work)
}

fn check_limits(state: &State, block: &Block) -> Result<(), BlockError> {
    let (limit, found) = (state.parameters().max_block_bytes, length(block.encoded_len()));
    if found > limit {
        return Err(BlockError::TooLarge { limit, found });
    }
    let count = block.transactions.len();
    if count > MAX_TRANSACTIONS { Err(BlockError::TooMany(count)) } else { Ok(()) }
}

/// Answers the log with this block.
fn check_roots(state: &State, header: &Header, txids: &[Digest]) -> Result<Frontier, BlockError> {
    if merkle::root(txids) != header.tx_root {
        return Err(BlockError::TxRoot);
    }
    let log = next_log(state, txids);
    if log.size() != header.log_size {
        return Err(BlockError::LogSize { expected: log.size(), found: header.log_size });
    }
    if log.root() == header.log_root { Ok(log) } else { Err(BlockError::LogRoot) }
}

/// The block's transactions with their form and signatures checked, those that are known excepted.
fn verified(
    state: &State,
    block: &Block,
    txids: &[Digest],
    known: &dyn Fn(&Digest) -> Option<Arc<Tx>>,
) -> Result<Vec<Arc<Tx>>, BlockError> {
    let known: Vec<Option<Arc<Tx>>> =
        txids.iter().map(|txid| known(txid).filter(|tx| tx.txid() == *txid)).collect();
    let places: Vec<usize> =
        known.iter().enumerate().filter(|(_, tx)| tx.is_none()).map(|(index, _)| index).collect();
    let parsed = parse(block, &places, Tx::parse)?;
    let introduced: HashMap<Kid, PublicKey> = known
        .iter()
        .flatten()
        .filter_map(|tx| tx.payload().introduces())
        .map(|key| (key.kid(), key))
        .collect();
    verify_signatures(&parsed, &|kid| state.public_key(kid).or_else(|| introduced.get(kid).copied()))
        .map_err(|error: SignatureError| BlockError::Signature {
            index: places.get(error.index()).copied().unwrap_or_default(),
        })?;
    let mut parsed = parsed.into_iter().map(Arc::new);
    Ok(known.into_iter().filter_map(|tx| tx.or_else(|| parsed.next())).collect())
}

/// Parses the transactions at these places, on all cores when they are many.
fn parse(
    block: &Block,
    places: &[usize],
    read: fn(&[u8]) -> Result<Tx, TxError>,
) -> Result<Vec<Tx>, BlockError> {
    let one = |index: &usize| {
        let bytes = block.transactions.get(*index).map(Vec::as_slice).unwrap_or_default();
        read(bytes).map_err(|error| BlockError::Form { index: *index, error })
    };
    // Into a list first, so that the error is the first in the block and not the first in time.
    parallel::map(places, PART, one).into_iter().collect()
}

/// "Transactions apply in block order, each on the state the last one left."
fn check_rules(state: &State, header: &Header, txs: &[Arc<Tx>]) -> Result<Work, BlockError> {
    let mut draft = state.draft(header.time_ms);
    for (index, tx) in txs.iter().enumerate() {
        draft.apply(tx).map_err(|refusal| BlockError::Refused { index, refusal })?;
    }
    if draft.state_root() == header.state_root { Ok(draft.work) } else { Err(BlockError::StateRoot) }
}
