//! Checkpoints alone and `tlog-proof` texts. Neither carries genesis.json or changes of members: they are checked with a
//! genesis.json, under the members that it names.

use super::founding::{CertifiedBlock, Ground};
use super::tlog::TlogProof;
use super::{ProofError, Trust, chain_line};
use crate::digest::Digest;

/// A checkpoint that counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedNote {
    /// The chain.
    pub chain: Digest,
    /// What the members certified.
    pub certified: CertifiedBlock,
    /// The transaction that its log holds, and at which place; of a `tlog-proof`.
    pub transaction: Option<(Digest, u64)>,
}

fn ground(trust: &Trust) -> Result<(Digest, Ground<'_>), ProofError> {
    let Trust::Genesis(genesis) = trust else { return Err(ProofError::GenesisNeeded) };
    let chain = genesis.chain_id()?;
    Ok((chain, Ground::find(chain, None, trust)?))
}

/// Checks a checkpoint: more than two thirds of the founding members signed it.
///
/// # Errors
/// Why it does not count. After a change of members it does not, and only a consistency proof shows it.
pub fn verify_note(note: &str, trust: &Trust) -> Result<VerifiedNote, ProofError> {
    let (chain, ground) = ground(trust)?;
    let (_, certified) = ground.certify(note, &ground.members(&[])?)?;
    Ok(VerifiedNote { chain, certified, transaction: None })
}

/// Checks that the transaction with this id is in the log of a `tlog-proof`'s checkpoint.
///
/// # Errors
/// Why that is not shown.
pub fn verify_tlog(text: &str, txid: &Digest, trust: &Trust) -> Result<VerifiedNote, ProofError> {
    let proof = TlogProof::parse(text)?;
    let (chain, ground) = ground(trust)?;
    proof.verify_leaf(txid, &ground.origin, &ground.genesis.members)?;
    let certified = CertifiedBlock::of(&proof.certificate, ground.genesis.members.len());
    Ok(VerifiedNote { chain, certified, transaction: Some((*txid, proof.index)) })
}

impl VerifiedNote {
    /// That this checkpoint and another do not contradict each other: not two blocks of one height, not two roots of one
    /// size, no log that shrank. That the later log begins with the earlier one is for a consistency proof.
    ///
    /// # Errors
    /// The contradiction.
    pub fn agrees_with(&self, other: &Self) -> Result<(), ProofError> {
        let (one, two) = (&self.certified, &other.certified);
        let (from, to) = if one.height <= two.height { (one, two) } else { (two, one) };
        super::consistency::compare(from, to)
    }

    /// What is proved, as labels and values to print.
    #[must_use]
    pub fn facts(&self) -> Vec<(&'static str, String)> {
        let certified = &self.certified;
        let proves = match self.transaction {
            Some((txid, index)) => format!("transaction {txid} stands in the log at place {index}"),
            None => "the members certified this block and this log".to_owned(),
        };
        vec![
            ("chain", chain_line(&self.chain, true)),
            ("proves", proves),
            ("block", format!("height {}, hash {}", certified.height, certified.block)),
            ("log", format!("{} leaves, root {}", certified.log_size, certified.log_root)),
            ("certified", certified.certified_by()),
        ]
    }
}
