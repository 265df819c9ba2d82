//! Proof documents: what anybody can check with public keys alone and every server switched off.
//!
//! A document is one canonical JSON object and one line feed, nothing before, between or after, so that a file with any
//! bit changed is either refused as it is read or says something that its hashes and signatures do not. `format` names
//! what it proves: a transaction is final, a receipt or a record is covered by one, a consent was given.
//!
//! Trust begins at a pinned `genesis.json` or chain id. Without a pin a document can only be found consistent in itself.

mod content;
pub mod tlog;
mod transaction;

use serde::{Deserialize, Serialize};

pub use content::{ConsentProof, Opening, ReceiptProof, RecordFacts, RecordProof};
pub use transaction::{Author, BlockEvidence, SetChange, TransactionProof, VerifiedTransaction};

use super::certificate::CertificateError;
use super::checkpoint::CheckpointError;
use super::genesis::{Genesis, GenesisError};
use super::header::HeaderError;
use super::json::{self, JsonError};
use super::keys::{KeyError, Kid};
use super::merkle::MerkleError;
use super::state::MapError;
use super::tx::TxError;
use crate::digest::Digest;

/// Bytes of a document at most.
pub const MAX_DOCUMENT_BYTES: usize = 4 * 1024 * 1024;

/// Why a document proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// Larger than any proof.
    #[error("the file is larger than 4 MiB")]
    TooLarge,
    /// Not one canonical document and one line feed.
    #[error("the file is not a proof in its one form: {0}")]
    Form(#[from] JsonError),
    /// No line feed ends it, or more than one.
    #[error("the file does not end with exactly one line feed")]
    LineFeed,
    /// It is for a chain other than the pinned one.
    #[error("the proof is for the chain {found}, not for {pinned}")]
    OtherChain {
        /// The chain that is trusted.
        pinned: Digest,
        /// The chain that the file names.
        found: Digest,
    },
    /// Checked by chain id alone or unpinned, a proof must carry genesis.json.
    #[error("the proof carries no genesis.json: check it with a genesis.json as trust")]
    GenesisMissing,
    /// The genesis.json inside founds no chain.
    #[error(transparent)]
    Genesis(#[from] GenesisError),
    /// The genesis.json inside is not the chain's.
    #[error("the genesis.json inside founds the chain {founds}, not {named}")]
    GenesisMismatch {
        /// The chain that it founds.
        founds: Digest,
        /// The chain that the file names.
        named: Digest,
    },
    /// The transaction does not parse.
    #[error(transparent)]
    Transaction(#[from] TxError),
    /// The transaction is for another chain.
    #[error("the transaction is for another chain")]
    TransactionChain,
    /// The transaction's signature does not fit.
    #[error("the author of the transaction: {0}")]
    Author(KeyError),
    /// The checkpoint is not certified.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The transaction is not in the log.
    #[error("the transaction is not in the certified log: {0}")]
    NotInLog(MerkleError),
    /// A header lacks its work.
    #[error("block header: {0}")]
    Header(#[from] HeaderError),
    /// The block is not the one it is said to be.
    #[error("block header: {0}")]
    Block(&'static str),
    /// The block's header is not in the log.
    #[error("the block header is not in the certified log: {0}")]
    HeaderNotInLog(MerkleError),
    /// A change of members is not shown.
    #[error("change of members: {0}")]
    Members(&'static str),
    /// A change of members is not in the certified state.
    #[error("change of members: {0}")]
    MembersState(MapError),
    /// The transaction is not of the kind that the document needs.
    #[error("the transaction is a `{found}`, not a `{expected}`")]
    Kind {
        /// What is needed.
        expected: &'static str,
        /// What it is.
        found: &'static str,
    },
    /// The receipt or record is not under the root that the transaction carries.
    #[error("the {what} is not under the root on the ledger: {error}")]
    NotUnderRoot {
        /// What it is.
        what: &'static str,
        /// Why.
        error: MerkleError,
    },
    /// The opened commitment is another than the ledger's.
    #[error("the {0} does not open the commitment on the ledger")]
    Commitment(&'static str),
    /// The certificate of the consent key does not hold.
    #[error("certificate of the consent key: {0}")]
    Certificate(#[from] CertificateError),
    /// Two parts of the document contradict each other.
    #[error("{0}")]
    Contradiction(&'static str),
}

/// A proof document.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "format")]
pub enum Document {
    /// A transaction is final.
    #[serde(rename = "hbc-proof-transaction/v1")]
    Transaction(TransactionProof),
    /// A receipt is covered by a final `access.receipts`.
    #[serde(rename = "hbc-proof-receipt/v1")]
    Receipt(ReceiptProof),
    /// A record is covered by a final `record.anchor`.
    #[serde(rename = "hbc-proof-record/v1")]
    Record(RecordProof),
    /// A consent was given: its body, its key's certificate, its final transaction.
    #[serde(rename = "hbc-proof-consent/v1")]
    Consent(ConsentProof),
}

impl Document {
    /// Reads a file in its one form.
    ///
    /// # Errors
    /// When it is too large, not canonical, or not ended by one line feed.
    pub fn parse(file: &[u8]) -> Result<Self, ProofError> {
        if file.len() > MAX_DOCUMENT_BYTES {
            return Err(ProofError::TooLarge);
        }
        let document = file.strip_suffix(b"\n").ok_or(ProofError::LineFeed)?;
        Ok(json::decode(document)?)
    }

    /// The file's bytes.
    ///
    /// # Errors
    /// When a part has no canonical form.
    pub fn to_bytes(&self) -> Result<Vec<u8>, ProofError> {
        let mut bytes = json::encode(self)?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    const fn transaction(&self) -> &TransactionProof {
        match self {
            Self::Transaction(proof) => proof,
            Self::Receipt(proof) => &proof.anchor,
            Self::Record(proof) => &proof.anchor,
            Self::Consent(proof) => &proof.anchor,
        }
    }
}

/// What the verifier trusts before it reads a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trust {
    /// A `genesis.json`.
    Genesis(Box<Genesis>),
    /// A chain id; the document must carry genesis.json.
    Chain(Digest),
    /// Nothing: the document can be consistent in itself, no more.
    Nothing,
}

/// What a document proves.
#[derive(Debug, Clone, PartialEq)]
pub struct Verified {
    /// Whether the chain is the pinned one; otherwise anybody could have founded it.
    pub pinned: bool,
    /// The chain.
    pub chain: Digest,
    /// The final transaction.
    pub transaction: VerifiedTransaction,
    /// What it covers.
    pub content: Content,
}

/// What the final transaction covers.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// Itself.
    Transaction,
    /// A receipt with this body.
    Receipt(serde_json::Value),
    /// A record.
    Record(RecordFacts),
    /// A consent under this root key.
    Consent {
        /// Fingerprint of the patient's root key: compare it with what the patient shows.
        root: Kid,
        /// The committed body.
        body: serde_json::Value,
    },
}

/// Checks a document against what is trusted.
///
/// # Errors
/// The first reason for which it proves nothing.
pub fn verify(file: &[u8], trust: &Trust) -> Result<Verified, ProofError> {
    let document = Document::parse(file)?;
    let proof = document.transaction();
    let (genesis, pinned) = founding(proof, trust)?;
    let (transaction, tx) = proof.verify(genesis)?;
    let content = match &document {
        Document::Transaction(_) => Content::Transaction,
        Document::Receipt(receipt) => receipt.verify(tx.payload())?,
        Document::Record(record) => record.verify(tx.payload())?,
        Document::Consent(consent) => consent.verify(&tx)?,
    };
    Ok(Verified { pinned, chain: proof.chain, transaction, content })
}

/// The genesis to check with, and whether it is the trusted one.
fn founding<'a>(proof: &'a TransactionProof, trust: &'a Trust) -> Result<(&'a Genesis, bool), ProofError> {
    let pinned_id = match trust {
        Trust::Genesis(genesis) => Some(genesis.chain_id()?),
        Trust::Chain(id) => Some(*id),
        Trust::Nothing => None,
    };
    if let Some(pinned) = pinned_id.filter(|pinned| *pinned != proof.chain) {
        return Err(ProofError::OtherChain { pinned, found: proof.chain });
    }
    if let Some(genesis) = &proof.genesis {
        let founds = genesis.chain_id()?;
        if founds != proof.chain {
            return Err(ProofError::GenesisMismatch { founds, named: proof.chain });
        }
    }
    let genesis = match (trust, &proof.genesis) {
        (Trust::Genesis(genesis), _) => genesis,
        (_, Some(genesis)) => genesis,
        (_, None) => return Err(ProofError::GenesisMissing),
    };
    Ok((genesis, pinned_id.is_some()))
}

impl Verified {
    /// What is proved, as labels and values to print.
    #[must_use]
    pub fn facts(&self) -> Vec<(&'static str, String)> {
        let pinned = if self.pinned { "the pinned one" } else { "NOT PINNED: anybody could have founded it" };
        let mut facts = vec![("chain", format!("{} ({pinned})", self.chain))];
        self.content.facts(&mut facts);
        self.transaction.facts(&mut facts);
        facts
    }
}

#[cfg(test)]
mod tests;
