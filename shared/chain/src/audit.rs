//! A whole chain checked from its founding document on, by nobody's word: every certificate under the members of its
//! height, and every block by the rules that members check before they vote, all signatures included.
//!
//! Blocks are taken in groups: what does not depend on their order (form, signatures) is checked on all cores first.

use std::collections::HashMap;
use std::sync::Arc;

use hbc_types::Digest;
use hbc_types::keys::{Kid, PublicKey};

use crate::block::{BlockError, check_block};
use crate::checkpoint::{Certificate, CheckpointError};
use crate::genesis::{Genesis, GenesisError, Named, log_origin};
use crate::header::Block;
use crate::parallel;
use crate::proof::Known;
use crate::state::State;
use crate::tx::Tx;

/// As many transactions at least are looked at on one thread.
const PART: usize = 16;

/// A block and its certificate, a signed note.
pub type AuditedBlock = (Block, String);

/// What is wrong with a block.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuditError {
    /// Its certificate does not count.
    #[error("its certificate: {0}")]
    Certificate(#[from] CheckpointError),
    /// Its certificate is for something else.
    #[error("its certificate is for another block or another log")]
    OtherBlock,
    /// It breaks a rule.
    #[error("{0}")]
    Block(#[from] BlockError),
}

/// A chain checked so far.
#[derive(Debug)]
pub struct Audit {
    state: State,
    origin: String,
    transactions: u64,
    note: String,
    known: Known,
}

impl Audit {
    /// Begins with block 0.
    ///
    /// # Errors
    /// When the document founds no chain.
    pub fn begin(genesis: &Genesis) -> Result<Self, GenesisError> {
        let state = State::genesis(genesis)?;
        let origin = log_origin(&genesis.origin, &state.chain());
        let known = Known::of_chain(state.header(), state.members());
        Ok(Self { state, origin, transactions: 0, note: String::new(), known })
    }

    /// The state after the last block.
    #[must_use]
    pub const fn state(&self) -> &State {
        &self.state
    }

    /// Transactions so far.
    #[must_use]
    pub const fn transactions(&self) -> u64 {
        self.transactions
    }

    /// The last block's certificate; empty at block 0.
    #[must_use]
    pub fn note(&self) -> &str {
        &self.note
    }

    /// Every block and every change of members, to be compared with another file.
    #[must_use]
    pub const fn known(&self) -> &Known {
        &self.known
    }

    /// Takes the blocks that follow, in order.
    ///
    /// # Errors
    /// The first that is wrong, by the height that was due.
    pub fn take(&mut self, blocks: Vec<AuditedBlock>) -> Result<(), (u64, AuditError)> {
        let members = self.state.members().to_vec();
        let counted = parallel::map(&blocks, PART, |(_, note)| self.check_note(note, &members).ok());
        let known = self.verified(&blocks);
        for ((block, note), counted) in blocks.into_iter().zip(counted) {
            let height = self.state.height().saturating_add(1);
            // What counts under the members before the group counts only as long as they are the members.
            let counted = counted.filter(|_| self.state.members() == members);
            self.take_one(&block, note, counted, &known).map_err(|error| (height, error))?;
        }
        Ok(())
    }

    fn take_one(
        &mut self,
        block: &Block,
        note: String,
        counted: Option<Certificate>,
        known: &HashMap<Digest, Arc<Tx>>,
    ) -> Result<(), AuditError> {
        let certificate = match counted {
            Some(certificate) => certificate,
            None => self.check_note(&note, self.state.members())?,
        };
        let (header, checkpoint) = (&block.header, &certificate.checkpoint);
        let said = (checkpoint.height, checkpoint.block, checkpoint.log_size, checkpoint.log_root);
        if said != (header.height, header.hash(), header.log_size, header.log_root) {
            return Err(AuditError::OtherBlock);
        }
        let checked = check_block(&self.state, block, &|txid| known.get(txid).cloned())?;
        self.transactions =
            self.transactions.saturating_add(u64::try_from(checked.txs.len()).unwrap_or(u64::MAX));
        let members = Arc::clone(&self.state.authority().members);
        self.state.commit(checked).map_err(|_another_tip| BlockError::PrevHash)?;
        let others = Some(self.state.members()).filter(|now| *now != members.as_slice());
        self.known.add_next(header, others);
        self.note = note;
        Ok(())
    }

    fn check_note(&self, note: &str, members: &[Named]) -> Result<Certificate, CheckpointError> {
        let certificate = Certificate::parse(note)?;
        certificate.check(&self.origin, members)?;
        Ok(certificate)
    }

    /// The transactions whose signatures fit, by keys of the state before the group or introduced in it. A raw key with the
    /// right fingerprint is the right key wherever it came from; whether it may sign is for the rules. Whatever is not
    /// among them is looked at again in its block.
    fn verified(&self, blocks: &[AuditedBlock]) -> HashMap<Digest, Arc<Tx>> {
        let all: Vec<&[u8]> =
            blocks.iter().flat_map(|(block, _)| block.transactions.iter().map(Vec::as_slice)).collect();
        let parsed: Vec<Option<Tx>> = parallel::map(&all, PART, |bytes| Tx::parse(bytes).ok());
        let introduced: HashMap<Kid, PublicKey> = parsed
            .iter()
            .flatten()
            .filter_map(|tx| tx.payload().introduces())
            .map(|key| (key.kid(), key))
            .collect();
        let fits = parallel::map(&parsed, PART, |tx| {
            let tx = tx.as_ref()?;
            let key = self.state.public_key(&tx.kid()).or_else(|| introduced.get(&tx.kid()).copied())?;
            tx.verify_signature(&key).ok()
        });
        let fitting = parsed.into_iter().zip(fits).filter_map(|(tx, fits)| tx.filter(|_| fits.is_some()));
        fitting.map(|tx| (tx.txid(), Arc::new(tx))).collect()
    }
}

#[cfg(test)]
#[path = "audit/tests.rs"]
mod tests;
