//! Many proofs under one certified block, with each transaction once: what somebody takes along of a whole log.
//!
//! Why: decision 0115.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use super::certified::{Certification, CertifiedBlock};
use super::founding::{Ground, SetChange};
use super::transaction::{BlockEvidence, Placed, VerifiedTransaction};
use super::{ConsentProof, Content, OpeningProof, ProofError, ReceiptProof, RecordProof};
use crate::genesis::Genesis;
use crate::json;
use crate::tx::Tx;
use hbc_types::digest::Digest;
use hbc_types::keys::PublicKey;

/// Many proofs that share each transaction once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BundleProof {
    /// The transactions, ascending by their place in the log.
    pub anchors: Vec<BundledTransaction>,
    /// The block in whose log they all stand.
    pub certified: Certification,
    /// The chain.
    pub chain: Digest,
    /// The founding document; needed when only a chain id is trusted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub genesis: Option<Genesis>,
    /// What is proved.
    pub proofs: Vec<BundledProof>,
    /// Changes of the members up to the certified block, each certified by the set before it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sets: Vec<SetChange>,
}

/// A transaction proof without what all of a bundle share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BundledTransaction {
    /// The raw key that signed it.
    pub author: PublicKey,
    /// The block that holds it.
    pub block: BlockEvidence,
    /// Its place in the log.
    pub index: u64,
    /// The path from there to the certified block's log root.
    pub path: Vec<Digest>,
    /// The transaction, compact JWS.
    pub transaction: String,
}

/// A proof with the place of its transaction among the bundle's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "format")]
pub enum BundledProof {
    /// A receipt.
    #[serde(rename = "hbc-proof-receipt/v1")]
    Receipt(ReceiptProof<u64>),
    /// A record.
    #[serde(rename = "hbc-proof-record/v1")]
    Record(RecordProof<u64>),
    /// A consent.
    #[serde(rename = "hbc-proof-consent/v1")]
    Consent(ConsentProof<u64>),
    /// What a transaction commits to.
    #[serde(rename = "hbc-proof-opening/v1")]
    Opening(OpeningProof<u64>),
}

/// What a bundle proves.
#[derive(Debug, Clone, PartialEq)]
pub struct BundleFacts {
    /// The block in whose log all transactions stand.
    pub certified: CertifiedBlock,
    /// The transactions.
    pub transactions: Vec<VerifiedTransaction>,
    /// What is proved, each with the place of its transaction.
    pub proofs: Vec<(usize, Content)>,
}

impl BundleProof {
    pub(super) fn verify(&self, ground: &Ground<'_>) -> Result<Content, ProofError> {
        let certified = ground.head(&self.certified, &ground.members(&self.sets)?)?;
        if self.anchors.is_empty() || self.proofs.is_empty() {
            return Err(ProofError::Contradiction("the bundle is empty"));
        }
        if !self.anchors.is_sorted_by(|one, next| one.index < next.index) {
            return Err(ProofError::Contradiction("the bundle's transactions do not ascend"));
        }
        let placed = self.anchors.iter().map(|anchor| anchor.placed(self.chain).verify(ground, &certified));
        let (transactions, txs): (Vec<VerifiedTransaction>, Vec<Tx>) =
            placed.collect::<Result<Vec<_>, _>>()?.into_iter().unzip();
        let (mut used, mut seen) = (HashSet::new(), HashSet::new());
        let mut proofs = Vec::with_capacity(self.proofs.len());
        for proof in &self.proofs {
            let place = usize::try_from(proof.anchor()).unwrap_or(usize::MAX);
            let (Some(tx), Some(transaction)) = (txs.get(place), transactions.get(place)) else {
                return Err(ProofError::Contradiction("the bundle has no such transaction"));
            };
            if !seen.insert(Digest::of(&json::encode(proof)?)) {
                return Err(ProofError::Contradiction("the bundle has a proof twice"));
            }
            used.insert(place);
            proofs.push((place, proof.verify(tx, transaction)?));
        }
        if used.len() != txs.len() {
            return Err(ProofError::Contradiction("the bundle has a transaction without a proof"));
        }
        Ok(Content::Bundle(Box::new(BundleFacts { certified, transactions, proofs })))
    }
}

impl BundledTransaction {
    const fn placed(&self, chain: Digest) -> Placed<'_> {
        let Self { author, block, index, path, transaction } = self;
        Placed {
            author,
            block,
            chain,
            index: *index,
            path: path.as_slice(),
            transaction: transaction.as_str(),
        }
    }
}

impl BundledProof {
    const fn anchor(&self) -> u64 {
        match self {
            Self::Receipt(proof) => proof.anchor,
            Self::Record(proof) => proof.anchor,
            Self::Consent(proof) => proof.anchor,
            Self::Opening(proof) => proof.anchor,
        }
    }

    fn verify(&self, tx: &Tx, transaction: &VerifiedTransaction) -> Result<Content, ProofError> {
        match self {
            Self::Receipt(proof) => proof.verify(tx.payload()),
            Self::Record(proof) => proof.verify(tx.payload()),
            Self::Consent(proof) => proof.verify(tx, transaction.time),
            Self::Opening(proof) => proof.verify(tx.payload()),
        }
    }
}

impl BundleFacts {
    /// How much is proved, in one sentence without its end.
    pub(super) fn statement(&self) -> String {
        format!("{} proofs about {} transactions hold", self.proofs.len(), self.transactions.len())
    }

    pub(super) fn facts(&self, facts: &mut Vec<(&'static str, String)>) {
        for (place, content) in &self.proofs {
            if let Some(transaction) = self.transactions.get(*place) {
                let (said, height, time) = (content.statement(), transaction.height, transaction.time);
                facts.push(("proved", format!("{said}; final in block {height} of {time}")));
            }
        }
        facts.push(("certified", self.certified.certified_by()));
    }
}
