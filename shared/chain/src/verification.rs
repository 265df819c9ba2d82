//! Whether stored blocks are the chain: every header hash, link, proof of work, transaction root and log root
//! recomputed from the bytes, in order, without I/O. What a node has in memory (the hash of every block) is
//! compared too, so that the first bad height is named exactly.

use std::fmt;

use hbc_types::Digest;

use crate::header::{Header, HeaderError, MAX_TRANSACTIONS};
use crate::merkle::{Frontier, leaf_hash};

/// What is wrong at a height.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Wrong {
    /// The row is not there.
    #[error("the block is missing")]
    Missing,
    /// There is a row above the tip.
    #[error("there is a block above the tip")]
    Spare,
    /// The header cannot be read.
    #[error("the header cannot be read: {0}")]
    Header(HeaderError),
    /// The header's own height is another one.
    #[error("the header is that of another height")]
    Height,
    /// Not the block that this node had.
    #[error("the header's hash is not the one this node agreed to")]
    Hash,
    /// Does not follow on the block before.
    #[error("the header does not name the block before it")]
    Link,
    /// The hash is above the target.
    #[error("the header has no proof of work")]
    Work,
    /// The transactions' lengths do not add up.
    #[error("the transactions cannot be told apart")]
    Body,
    /// The transactions are not those of the header.
    #[error("the transactions do not hash to the header's root")]
    Transactions,
    /// The log is not that of the header.
    #[error("the log does not hash to the header's root")]
    Log,
    /// The certificate is not the one this node had.
    #[error("the certificate is not the one this node had")]
    Certificate,
    /// A table, an index or a trigger is not the ledger's.
    #[error("the tables and triggers are not those of the ledger")]
    Schema,
    /// The pages of the database do not fit together, or the file at its path is another one.
    #[error("the database's header, pages and indices do not fit together")]
    Pages,
    /// The database's journal is not what this node wrote.
    #[error("the database's journal was changed")]
    Journal,
    /// A row that no block proves was not written by this node, or one of its own is missing.
    #[error("a row of `{0}` is not as this node wrote it")]
    Row(&'static str),
    /// The database could not be read there.
    #[error("the row cannot be read")]
    Unreadable,
}

/// The first height that is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// Where.
    pub height: u64,
    /// What.
    pub wrong: Wrong,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "block {}: {}", self.height, self.wrong)
    }
}

impl std::error::Error for Fault {}

/// Goes over a chain from block 0 on.
#[derive(Debug, Clone)]
pub struct Verifier<'a> {
    known: &'a [Digest],
    previous: Option<Header>,
    next: u64,
    log: Frontier,
    transactions: u64,
}

impl<'a> Verifier<'a> {
    /// Begins before block 0. `known` are the hashes of the blocks that the node has in memory, by height;
    /// blocks beyond them are checked by themselves.
    #[must_use]
    pub const fn new(known: &'a [Digest]) -> Self {
        Self { known, previous: None, next: 0, log: Frontier::new(), transactions: 0 }
    }

    /// The height that comes next.
    #[must_use]
    pub const fn next_height(&self) -> u64 {
        self.next
    }

    /// Transactions seen so far.
    #[must_use]
    pub const fn transactions(&self) -> u64 {
        self.transactions
    }

    /// Checks the next block; `leaves` is called with every leaf that it adds to the log, in order.
    pub fn check(
        &mut self,
        height: u64,
        header: &[u8],
        body: &[u8],
        leaves: &mut impl FnMut(Digest),
    ) -> Result<Header, Fault> {
        let expected = self.next;
        let fault = |wrong| Fault { height: expected, wrong };
        if height != expected {
            return Err(fault(Wrong::Missing));
        }
        let parsed = Header::from_bytes(header).map_err(|error| fault(Wrong::Header(error)))?;
        let hash = parsed.hash();
        let known = usize::try_from(expected).ok().and_then(|index| self.known.get(index));
        if known.is_some_and(|known| *known != hash) {
            return Err(fault(Wrong::Hash));
        }
        if parsed.height != expected {
            return Err(fault(Wrong::Height));
        }
        self.check_link(&parsed, known.is_some()).map_err(fault)?;
        let mut block = Frontier::new();
        if let Some(previous) = &self.previous {
            let leaf = previous.leaf_hash();
            self.log.push(leaf);
            leaves(leaf);
        }
        for transaction in transactions(body) {
            let leaf = leaf_hash(transaction.ok_or(fault(Wrong::Body))?);
            block.push(leaf);
            self.log.push(leaf);
            leaves(leaf);
        }
        if block.root() != parsed.tx_root {
            return Err(fault(Wrong::Transactions));
        }
        if self.log.size() != parsed.log_size || self.log.root() != parsed.log_root {
            return Err(fault(Wrong::Log));
        }
        self.transactions += block.size();
        self.previous = Some(parsed);
        self.next += 1;
        Ok(parsed)
    }

    /// Block 0 is checked against genesis.json by whoever begins; a known hash proves the work as well.
    fn check_link(&self, header: &Header, known: bool) -> Result<(), Wrong> {
        let Some(previous) = &self.previous else { return Ok(()) };
        if header.prev_hash != previous.hash() {
            return Err(Wrong::Link);
        }
        if !known && header.check_work().is_err() {
            return Err(Wrong::Work);
        }
        Ok(())
    }

    /// Says that there are no more blocks: all that are known must have come.
    pub fn finish(&self) -> Result<(), Fault> {
        let known = u64::try_from(self.known.len()).unwrap_or(u64::MAX);
        match self.next.cmp(&known) {
            std::cmp::Ordering::Less => Err(Fault { height: self.next, wrong: Wrong::Missing }),
            std::cmp::Ordering::Greater if known > 0 => Err(Fault { height: known, wrong: Wrong::Spare }),
            _ => Ok(()),
        }
    }
}

/// True if a stored body hashes to its header's transaction root.
#[must_use]
pub fn body_fits(header: &Header, body: &[u8]) -> bool {
    let mut root = Frontier::new();
    for transaction in transactions(body) {
        let Some(bytes) = transaction else { return false };
        root.push(leaf_hash(bytes));
    }
    root.root() == header.tx_root
}

/// The transactions of a stored body: `u32 count`, then `u32 length ‖ bytes` each; a `None` ends a body that
/// is not so.
pub fn transactions(body: &[u8]) -> impl Iterator<Item = Option<&[u8]>> {
    let mut rest = body;
    let mut left = take_u32(&mut rest).filter(|count| *count <= MAX_TRANSACTIONS);
    let mut broken = left.is_none();
    std::iter::from_fn(move || {
        if broken {
            broken = false;
            left = Some(0);
            rest = &[];
            return Some(None);
        }
        match left {
            Some(0) | None => (!rest.is_empty()).then(|| {
                rest = &[];
                None
            }),
            Some(count) => {
                left = Some(count - 1);
                let piece = take_u32(&mut rest).and_then(|length| rest.split_at_checked(length));
                let Some((transaction, after)) = piece else {
                    left = Some(0);
                    rest = &[];
                    return Some(None);
                };
                rest = after;
                Some(Some(transaction))
            }
        }
    })
}

fn take_u32(rest: &mut &[u8]) -> Option<usize> {
    let (number, after) = rest.split_first_chunk::<4>()?;
    *rest = after;
    usize::try_from(u32::from_be_bytes(*number)).ok()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use crate::header::{Block, HEADER_BYTES, Target};
    use crate::merkle::{empty_root, root};

    use super::*;

    fn chain(length: u64) -> Vec<Block> {
        let target = Target::from_zero_bits(4).unwrap();
        let mut log = Frontier::new();
        let mut blocks: Vec<Block> = Vec::new();
        for height in 0..length {
            let previous = blocks.last().map(|block| block.header);
            let transactions: Vec<Vec<u8>> =
                (0..height % 4).map(|number| format!("{height} {number}").into_bytes()).collect();
            if let Some(previous) = &previous {
                log.push(previous.leaf_hash());
            }
            let txids: Vec<Digest> = transactions.iter().map(|bytes| leaf_hash(bytes)).collect();
            txids.iter().for_each(|txid| log.push(*txid));
            let header = Header {
                height,
                prev_hash: previous.map_or(Digest::ZERO, |header| header.hash()),
                tx_root: if txids.is_empty() { empty_root() } else { root(&txids) },
                log_root: log.root(),
                log_size: log.size(),
                state_root: Digest::ZERO,
                time_ms: height,
                target,
                miner: [0; 8],
                nonce: 0,
            };
            let header = if height == 0 { header } else { header.mine(&AtomicBool::new(false)).unwrap() };
            blocks.push(Block { header, transactions });
        }
        blocks
    }

    fn run(stored: &[(u64, Vec<u8>)], known: &[Digest]) -> Result<u64, Fault> {
        let mut verifier = Verifier::new(known);
        for (height, bytes) in stored {
            let (header, body) = bytes.split_at(HEADER_BYTES);
            verifier.check(*height, header, body, &mut |_| {})?;
        }
        verifier.finish()?;
        Ok(verifier.transactions())
    }

    fn stored(blocks: &[Block]) -> Vec<(u64, Vec<u8>)> {
        blocks.iter().map(|block| (block.header.height, block.to_bytes())).collect()
    }

    #[test]
    fn an_untouched_chain_verifies() {
        let blocks = chain(9);
        let known: Vec<_> = blocks.iter().map(|block| block.header.hash()).collect();
        assert_eq!(run(&stored(&blocks), &known), Ok(12));
        assert_eq!(run(&stored(&blocks), &[]), Ok(12));
    }

    #[test]
    fn every_flipped_bit_is_found_at_its_height() {
        let blocks = chain(6);
        let known: Vec<_> = blocks.iter().map(|block| block.header.hash()).collect();
        for (height, block) in blocks.iter().enumerate() {
            for bit in 0..block.to_bytes().len() * 8 {
                let mut bytes = stored(&blocks);
                bytes[height].1[bit / 8] ^= 1 << (bit % 8);
                let fault = run(&bytes, &known).unwrap_err();
                assert_eq!(fault.height, height as u64, "bit {bit} of block {height}: {fault}");
            }
        }
    }

    #[test]
    fn a_missing_a_spare_and_a_forged_block_are_found() {
        let blocks = chain(6);
        let known: Vec<_> = blocks.iter().map(|block| block.header.hash()).collect();
        let mut short = stored(&blocks);
        short.pop();
        assert_eq!(run(&short, &known), Err(Fault { height: 5, wrong: Wrong::Missing }));
        let mut gap = stored(&blocks);
        gap.remove(2);
        assert_eq!(run(&gap, &known), Err(Fault { height: 2, wrong: Wrong::Missing }));
        assert_eq!(run(&stored(&blocks), &known[..5]), Err(Fault { height: 5, wrong: Wrong::Spare }));
        let mut forged = blocks.clone();
        forged[5].header.miner = [9; 8];
        forged[5].header.nonce = 0;
        let lazy = stored(&forged);
        assert!(run(&lazy, &known).is_err());
    }

    #[test]
    fn broken_bodies_are_never_whole() {
        let body = &Block { transactions: vec![b"one".to_vec(), b"two".to_vec()], ..chain(1).remove(0) }
            .to_bytes()[HEADER_BYTES..];
        assert!(transactions(body).all(|transaction| transaction.is_some()));
        for cut in 0..body.len() {
            assert!(transactions(&body[..cut]).any(|transaction| transaction.is_none()), "cut at {cut}");
        }
        let mut longer = body.to_vec();
        longer.push(0);
        assert!(transactions(&longer).any(|transaction| transaction.is_none()));
        assert_eq!(transactions(&[0xff; 4]).collect::<Vec<_>>(), [None]);
    }
}
