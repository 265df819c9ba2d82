//! The chain as this service verified it: synchronous, no I/O.
//!
//! A block is taken when it follows the last one, does its work, commits to its transactions and to the whole log, and
//! carries a certificate of more than two thirds of the members over exactly it. Members change by the votes that stand in
//! the blocks: the set that a block leaves certifies the next one.

use std::collections::BTreeMap;

use hbc_chain::checkpoint::{Certificate, CheckpointError, quorum};
use hbc_chain::genesis::{Genesis, GenesisError, Named, log_origin};
use hbc_chain::header::{Header, HeaderError};
use hbc_chain::merkle::{self, Frontier};
use hbc_chain::payload::{Change, Payload};
use hbc_chain::tx::{Tx, txid};
use hbc_types::Digest;
use hbc_types::keys::Kid;
use hbc_types::outbox::FollowPosition;
use hbc_types::wire::ledger::BlockView;
use serde::{Deserialize, Serialize};

/// Why a block is not taken.
#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    /// The genesis document founds no chain.
    #[error("{0}")]
    Genesis(#[from] GenesisError),
    /// The stored position cannot be read or is of another chain.
    #[error("the stored position on the chain cannot be used: {0}")]
    Position(&'static str),
    /// Not the next block.
    #[error("block {found} came where {expected} follows")]
    Height {
        /// The height that follows.
        expected: u64,
        /// The height that came.
        found: u64,
    },
    /// The header is not one, or its work is missing.
    #[error("{0}")]
    Header(#[from] HeaderError),
    /// The header does not name the block before.
    #[error("the block does not follow the last one")]
    Previous,
    /// The header commits to something else than what came with it.
    #[error("the block's {0} does not fit its header")]
    Content(&'static str),
    /// The certificate does not certify.
    #[error("{0}")]
    Certificate(#[from] CheckpointError),
    /// The certificate certifies another block.
    #[error("the certificate is of another block")]
    OtherBlock,
}

/// A transaction in a final block.
#[derive(Clone, Debug)]
pub struct FinalTransaction {
    /// Its id.
    pub txid: Digest,
    /// Its place in the block.
    pub index: u32,
    /// Its leaf's place in the log.
    pub log_index: u64,
    /// The signed bytes.
    pub jws: String,
    /// What it says; absent when this program is too old to read it.
    pub tx: Option<Tx>,
}

/// A block that more than two thirds of the members signed, verified.
#[derive(Clone, Debug)]
pub struct FinalBlock {
    /// Its hash.
    pub hash: Digest,
    /// Its header.
    pub header: Header,
    /// Its certificate: a C2SP signed note.
    pub certificate: String,
    /// Its transactions in order.
    pub transactions: Vec<FinalTransaction>,
}

impl FinalBlock {
    /// Its height.
    #[must_use]
    pub const fn height(&self) -> u64 {
        self.header.height
    }
}

/// The end of the chain as far as it was verified.
#[derive(Clone, Debug)]
pub struct ChainView {
    chain: Digest,
    origin: String,
    members: Vec<Named>,
    votes: Votes,
    tip: Header,
    tip_hash: Digest,
    log: Frontier,
}

/// Members' latest votes on changes of the members that did not take effect yet: subject → member → ballot.
type Votes = BTreeMap<String, BTreeMap<Kid, Digest>>;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    header: Header,
    frontier: String,
    members: Vec<Named>,
    votes: Votes,
}

impl ChainView {
    /// The chain at block 0.
    pub fn genesis(genesis: &Genesis) -> Result<Self, ChainError> {
        let tip = genesis.header()?;
        let chain = tip.hash();
        Ok(Self {
            chain,
            origin: log_origin(&genesis.origin, &chain),
            members: genesis.members.clone(),
            votes: Votes::new(),
            tip,
            tip_hash: chain,
            log: Frontier::new(),
        })
    }

    /// The chain at a stored position.
    pub fn at(genesis: &Genesis, position: &FollowPosition) -> Result<Self, ChainError> {
        let stored: Stored =
            serde_json::from_str(&position.state).map_err(|_other| ChainError::Position("not readable"))?;
        let frontier =
            hex::decode(&stored.frontier).map_err(|_other| ChainError::Position("not readable"))?;
        let log = Frontier::from_bytes(&frontier).map_err(|_other| ChainError::Position("not readable"))?;
        let fits = stored.header.hash() == position.block_hash
            && stored.header.height == position.height
            && stored.header.log_size == log.size()
            && stored.header.log_root == log.root();
        if !fits {
            return Err(ChainError::Position("its parts do not fit each other"));
        }
        let first = Self::genesis(genesis)?;
        let (members, votes) = (stored.members, stored.votes);
        Ok(Self { tip: stored.header, tip_hash: position.block_hash, log, members, votes, ..first })
    }

    /// The position to store.
    pub fn position(&self) -> Result<FollowPosition, ChainError> {
        let stored = Stored {
            header: self.tip,
            frontier: hex::encode(self.log.to_bytes()),
            members: self.members.clone(),
            votes: self.votes.clone(),
        };
        let state = serde_json::to_string(&stored).map_err(|_never| ChainError::Position("not writable"))?;
        Ok(FollowPosition { height: self.tip.height, block_hash: self.tip_hash, state })
    }

    /// The chain's id.
    #[must_use]
    pub const fn chain(&self) -> Digest {
        self.chain
    }

    /// The members whose signatures count.
    #[must_use]
    pub fn members(&self) -> &[Named] {
        &self.members
    }

    /// Height of the last block.
    #[must_use]
    pub const fn height(&self) -> u64 {
        self.tip.height
    }

    /// Hash of the last block.
    #[must_use]
    pub const fn tip_hash(&self) -> Digest {
        self.tip_hash
    }

    /// Reads a checkpoint note and checks that it certifies on this chain.
    pub fn certificate(&self, note: &str) -> Result<Certificate, ChainError> {
        let certificate = Certificate::parse(note)?;
        certificate.check(&self.origin, &self.members)?;
        Ok(certificate)
    }

    /// Takes the next block. On an error the view stays where it was.
    pub fn take(&mut self, block: BlockView) -> Result<FinalBlock, ChainError> {
        let header = Header::from_bytes(block.header.as_slice())?;
        let hash = header.hash();
        let expected = self.tip.height.saturating_add(1);
        if header.height != expected {
            return Err(ChainError::Height { expected, found: header.height });
        }
        if header.prev_hash != self.tip_hash {
            return Err(ChainError::Previous);
        }
        header.check_work()?;
        let txids: Vec<Digest> = block.transactions.iter().map(|jws| txid(jws.as_bytes())).collect();
        if merkle::root(&txids) != header.tx_root {
            return Err(ChainError::Content("transactions"));
        }
        let mut log = self.log.clone();
        log.push(self.tip.leaf_hash());
        let first_leaf = log.size();
        for txid in &txids {
            log.push(*txid);
        }
        if log.size() != header.log_size || log.root() != header.log_root {
            return Err(ChainError::Content("log"));
        }
        let certificate = self.certificate(&block.certificate)?;
        let signed = &certificate.checkpoint;
        let same = signed.height == header.height
            && signed.block == hash
            && signed.log_size == header.log_size
            && signed.log_root == header.log_root;
        if !same {
            return Err(ChainError::OtherBlock);
        }
        (self.tip, self.tip_hash, self.log) = (header, hash, log);
        let transactions =
            (0_u32..).zip(txids).zip(block.transactions).map(|((index, txid), jws)| FinalTransaction {
                txid,
                index,
                log_index: first_leaf.saturating_add(u64::from(index)),
                tx: Tx::parse(jws.as_bytes()).ok(),
                jws,
            });
        let transactions: Vec<FinalTransaction> = transactions.collect();
        self.count_votes(&transactions);
        Ok(FinalBlock { hash, header, certificate: block.certificate, transactions })
    }

    /// "member.vote: takes effect at > 2/3 of the members", from the next height on. The members certified that every
    /// vote in the block is valid; here they are only counted.
    fn count_votes(&mut self, transactions: &[FinalTransaction]) {
        let mut next = self.members.clone();
        for tx in transactions.iter().filter_map(|transaction| transaction.tx.as_ref()) {
            let Payload::MemberVote(vote) = tx.payload() else { continue };
            let Ok(Change::Member { name, key }) = vote.change() else { continue };
            let ballot = tx.payload().ballot();
            let votes = self.votes.entry(vote.subject.clone()).or_default();
            votes.insert(tx.kid(), ballot);
            let same = |member: &&Named| votes.get(&member.kid()) == Some(&ballot);
            if self.members.iter().filter(same).count() >= quorum(self.members.len()) {
                self.votes.remove(&vote.subject);
                next.retain(|member| member.name != name);
                next.extend(key.map(|key| Named { key, name }));
                next.sort_by(|one, other| one.name.cmp(&other.name));
            }
        }
        self.members = next;
    }
}
