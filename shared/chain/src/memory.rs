//! The chain as this node has it in memory: verified, and what everything on disk is compared with. The rules
//! are [`crate::state`] and [`crate::block`]; here stands what a node needs beside them: hashes by height, the
//! log's tree, the tip's certificate. Proofs out of it are in `chain/proofs.rs`.

mod proofs;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use hbc_types::keys::Kid;
use hbc_types::{Digest, Timestamp};

use crate::block::{BlockError, Built, build_block, check_block, replay_block};
use crate::checkpoint::{BlockId, Certificate};
use crate::comparison::Known;
use crate::events::Events;
use crate::genesis::{Genesis, GenesisError, Named, log_origin};
use crate::header::{Block, Header};
use crate::merkle::Tree;
use crate::payload::Payload;
use crate::proof::SetChange;
use crate::read_set;
use crate::secondary_index::{Added, SecondaryIndex};
use crate::state::{Checked, State};
use crate::tx::Tx;
pub use proofs::{AnchorsView, Before, CertifiedHeader, EntryName};

/// A block that keeps all rules, with what it leads to.
#[derive(Debug)]
pub struct NextBlock {
    /// The block.
    pub block: Block,
    /// What is agreed upon.
    pub value: BlockId,
    /// Heights of the blocks that its transactions rely on.
    pub read_set: BTreeSet<u64>,
    checked: Checked,
}

impl NextBlock {
    /// Its transactions, in order.
    pub fn txs(&self) -> impl Iterator<Item = &Tx> {
        self.checked.txs.iter().map(AsRef::as_ref)
    }

    /// Its transactions' ids, in order.
    pub fn txids(&self) -> impl Iterator<Item = Digest> {
        self.checked.txs.iter().map(|tx| tx.txid())
    }
}

/// A block whose work is still to be found.
#[derive(Debug)]
pub struct BlockDraft {
    built: Built,
    read_set: BTreeSet<u64>,
}

impl BlockDraft {
    /// True without transactions.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.built.txs.is_empty()
    }

    /// Finds the work; none if `stop` is set meanwhile.
    #[must_use]
    pub fn mine(self, stop: &AtomicBool) -> Option<NextBlock> {
        let header = self.built.header.mine(stop)?;
        let (block, checked) = self.built.finish(header);
        Some(NextBlock { value: BlockId::of(&block.header), block, read_set: self.read_set, checked })
    }
}

/// The chain in memory.
#[derive(Debug)]
pub struct Chain {
    genesis: Arc<Genesis>,
    origin: String,
    state: State,
    hashes: Vec<Digest>,
    /// SHA-256 of each block's certificate, by height.
    certificates: Vec<Digest>,
    /// The log's size after each block.
    sizes: Vec<u64>,
    log: Tree,
    certificate: String,
    /// The block before the tip; none at block 0.
    before_tip: Option<Before>,
    events: Events,
    /// Every change of members so far, certified by the set before it.
    sets: Vec<SetChange>,
    secondary_index: SecondaryIndex,
}

impl Chain {
    /// The chain of only block 0.
    pub fn found(genesis: Genesis) -> Result<Self, GenesisError> {
        let state = State::genesis(&genesis)?;
        let id = state.chain();
        let first = Block { header: *state.header(), transactions: Vec::new() };
        let secondary_index = SecondaryIndex::begin(&genesis, &first.header, first.encoded_len());
        Ok(Self {
            origin: log_origin(&genesis.origin, &id),
            genesis: Arc::new(genesis),
            state,
            hashes: vec![id],
            sizes: vec![0],
            log: Tree::default(),
            certificate: String::new(),
            before_tip: None,
            events: Events::default(),
            certificates: vec![Digest::of(b"")],
            sets: Vec::new(),
            secondary_index,
        })
    }

    /// The founding document.
    #[must_use]
    pub const fn genesis(&self) -> &Arc<Genesis> {
        &self.genesis
    }

    /// SHA-256 of header 0.
    #[must_use]
    pub fn id(&self) -> Digest {
        self.state.chain()
    }

    /// First line of every checkpoint.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Header of the last block.
    #[must_use]
    pub fn tip(&self) -> &Header {
        self.state.header()
    }

    /// Its height.
    #[must_use]
    pub fn height(&self) -> u64 {
        self.state.height()
    }

    /// Its hash.
    #[must_use]
    pub fn tip_hash(&self) -> Digest {
        self.state.tip()
    }

    /// Hashes of all blocks, by height.
    #[must_use]
    pub fn hashes(&self) -> &[Digest] {
        &self.hashes
    }

    /// What any stored row of this height must be.
    #[must_use]
    pub fn known(&self, height: u64) -> Option<Known> {
        let index = usize::try_from(height).ok()?;
        Some(Known { hash: *self.hashes.get(index)?, certificate: *self.certificates.get(index)? })
    }

    /// The last block's certificate: a signed note; empty at block 0.
    #[must_use]
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// What members told about nodes.
    #[must_use]
    pub const fn events(&self) -> &Events {
        &self.events
    }

    /// The state after the last block.
    #[must_use]
    pub const fn state(&self) -> &State {
        &self.state
    }

    /// The log.
    #[must_use]
    pub const fn log(&self) -> &Tree {
        &self.log
    }

    /// What the blocks say beyond the state.
    #[must_use]
    pub const fn secondary_index(&self) -> &SecondaryIndex {
        &self.secondary_index
    }

    /// Height and place in its block of the transaction at this place in the log.
    #[must_use]
    pub fn at_leaf(&self, leaf: u64) -> Option<(u64, u32)> {
        let height = self.sizes.partition_point(|size| *size <= leaf);
        let before = self.sizes.get(height.checked_sub(1)?)?;
        let index = leaf.checked_sub(*before)?.checked_sub(1)?;
        Some((u64::try_from(height).ok()?, u32::try_from(index).ok()?)).filter(|_| height < self.sizes.len())
    }

    /// How many transactions a block has.
    #[must_use]
    pub fn transactions_at(&self, height: u64) -> Option<u64> {
        let Some(before) = height.checked_sub(1) else { return self.log_size_at(0) };
        self.log_size_at(height)?.checked_sub(self.log_size_at(before)?)?.checked_sub(1)
    }

    /// The log's size after a block.
    #[must_use]
    pub fn log_size_at(&self, height: u64) -> Option<u64> {
        self.sizes.get(usize::try_from(height).ok()?).copied()
    }

    /// Picks from `candidates`, whose signatures were checked, what can be in the next block.
    #[must_use]
    pub fn draft(&self, candidates: &[Arc<Tx>], now: Timestamp, miner: &Kid) -> BlockDraft {
        let built = build_block(&self.state, candidates, now, miner);
        let read_set = read_set::heights(&self.state, built.txs.iter().map(AsRef::as_ref));
        BlockDraft { built, read_set }
    }

    /// Checks a block against every rule; of the clock nothing is asked. `known` answers a transaction whose signature
    /// was verified before.
    pub fn examine(
        &self,
        block: Block,
        known: &dyn Fn(&Digest) -> Option<Arc<Tx>>,
    ) -> Result<NextBlock, BlockError> {
        let checked = check_block(&self.state, &block, known)?;
        let read_set = read_set::heights(&self.state, checked.txs.iter().map(AsRef::as_ref));
        Ok(NextBlock { value: BlockId::of(&block.header), block, read_set, checked })
    }

    /// Makes an examined block the tip; false if it does not follow on this very tip.
    #[must_use]
    pub fn extend(&mut self, next: NextBlock, certificate: String) -> bool {
        let (before, members) = (Before::of(&self.state), self.state.members().to_vec());
        let (txs, bytes) = (next.checked.txs.clone(), next.block.encoded_len());
        if self.state.commit(next.checked).is_err() {
            return false;
        }
        self.grow(before, &txs, certificate);
        self.note(&members, &txs, bytes);
        true
    }

    /// Takes a stored block up again: its hashes were verified and lead to a certified tip, so that only the
    /// state has to be made anew.
    pub fn replay(&mut self, block: &Block, certificate: String) -> Result<(), BlockError> {
        let (before, members) = (Before::of(&self.state), self.state.members().to_vec());
        let txs = replay_block(&mut self.state, block)?;
        self.grow(before, &txs, certificate);
        self.note(&members, &txs, block.encoded_len());
        Ok(())
    }

    fn note(&mut self, before: &[Named], txs: &[Arc<Tx>], bytes: usize) {
        self.note_events(txs);
        self.note_members(before);
        let height = self.height();
        let start = height.checked_sub(1).and_then(|parent| self.log_size_at(parent)).unwrap_or_default();
        let round = Certificate::parse(&self.certificate).map_or(0, |note| note.checkpoint.round);
        let header = *self.state.header();
        let first_leaf = start.saturating_add(1);
        let added = Added { header: &header, txs, bytes, round, first_leaf, members: before };
        self.secondary_index.note(&self.state, &added);
    }

    fn note_events(&mut self, txs: &[Arc<Tx>]) {
        for tx in txs {
            if let Payload::NodeEvent(event) = tx.payload() {
                let ballot = tx.payload().ballot();
                let took_effect = self.state.took_effect(&ballot).map(|_by| self.state.height());
                self.events.note(event, ballot, tx.kid(), took_effect);
            }
        }
    }

    /// Remembers a change of members with its proof, while the state that proves it is at hand.
    fn note_members(&mut self, before: &[Named]) {
        if self.state.members() == before {
            return;
        }
        self.sets.extend(self.certified_tip().map(|certified| SetChange {
            certified,
            members: self.state.members().to_vec(),
            named: proofs::named(&self.state),
        }));
    }

    fn grow(&mut self, before: Before, txs: &[Arc<Tx>], certificate: String) {
        self.log.push(before.leaf_hash());
        self.before_tip = Some(before);
        for tx in txs {
            self.log.push(tx.txid());
        }
        self.hashes.push(self.state.tip());
        self.sizes.push(self.log.size());
        self.certificates.push(Digest::of(certificate.as_bytes()));
        self.certificate = certificate;
    }
}

#[cfg(test)]
mod tests;
