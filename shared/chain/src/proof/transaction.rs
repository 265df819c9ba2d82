//! That a transaction is final: it stands in the log that more than two thirds of the members certified.

use serde::{Deserialize, Serialize};

use super::ProofError;
use super::certified::{Certification, CertifiedBlock, check_follows, time};
use super::founding::{Ground, SetChange};
use crate::genesis::{Genesis, Named};
use crate::header::{Header, leading_zero_bits};
use crate::merkle;
use crate::tx::Tx;
use hbc_types::digest::Digest;
use hbc_types::keys::{Kid, PublicKey};
use hbc_types::time::Timestamp;

/// That a transaction is final, in which block, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TransactionProof {
    /// The raw key that signed the transaction; its fingerprint is the transaction's `kid`.
    pub author: PublicKey,
    /// The block that holds it.
    pub block: BlockEvidence,
    /// A block of any height from that one's on, in whose log the transaction stands.
    pub certified: Certification,
    /// The chain.
    pub chain: Digest,
    /// The founding document; needed when only a chain id is trusted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub genesis: Option<Genesis>,
    /// The transaction's place in the log.
    pub index: u64,
    /// The path from there to the certified block's log root.
    pub path: Vec<Digest>,
    /// Changes of the members up to the certified block, each certified by the set before it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sets: Vec<SetChange>,
    /// The transaction, compact JWS.
    pub transaction: String,
}

/// The block of a transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlockEvidence {
    /// Its header.
    pub header: Header,
    /// Its parent's header: where the parent's leaves end, the block's begin.
    pub parent: Header,
    /// Empty when it is the certified block; otherwise the path of the header's leaf, which is the first leaf
    /// of the next block (place `log_size`).
    pub path: Vec<Digest>,
}

/// Who signed a transaction, as far as genesis.json tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Author {
    /// A service that the founders named.
    Service(&'static str),
    /// A founding member.
    Member(String),
    /// A founding operator.
    Operator(String),
    /// A key that the ledger registered later.
    Registered,
}

/// A transaction that is final.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedTransaction {
    /// Its id.
    pub txid: Digest,
    /// Its `type`.
    pub kind: &'static str,
    /// When its author says it was signed.
    pub signed_at: Timestamp,
    /// Fingerprint of the key that signed it.
    pub kid: Kid,
    /// Whose key that is.
    pub author: Author,
    /// Height of its block.
    pub height: u64,
    /// Hash of its block.
    pub block: Digest,
    /// Time of its block.
    pub time: Timestamp,
    /// Leading zero bits of the block's hash.
    pub zero_bits: u32,
    /// The checkpoint that certifies it, of its block or a later one.
    pub certified: CertifiedBlock,
}

impl TransactionProof {
    /// Checks everything against the founding document, which must be the chain's.
    pub(super) fn verify(&self, ground: &Ground<'_>) -> Result<(VerifiedTransaction, Tx), ProofError> {
        let certified = ground.head(&self.certified, &ground.members(&self.sets)?)?;
        let Self { author, block, certified: _, chain, genesis: _, index, path, sets: _, transaction } = self;
        Placed { author, block, chain: *chain, index: *index, path, transaction }.verify(ground, &certified)
    }

    /// The same proof as C2SP `tlog-proof` text.
    #[must_use]
    pub fn to_tlog_proof(&self) -> String {
        super::tlog::encode(self.index, &self.path, &self.certified.checkpoint)
    }
}

/// A transaction and its place in a log: what a proof has of its own beside the certified block.
pub(super) struct Placed<'a> {
    pub author: &'a PublicKey,
    pub block: &'a BlockEvidence,
    pub chain: Digest,
    pub index: u64,
    pub path: &'a [Digest],
    pub transaction: &'a str,
}

impl Placed<'_> {
    /// That it stands in the log of this block.
    pub(super) fn verify(
        &self,
        ground: &Ground<'_>,
        certified: &CertifiedBlock,
    ) -> Result<(VerifiedTransaction, Tx), ProofError> {
        let tx = Tx::parse(self.transaction.as_bytes())?;
        if tx.payload().chain() != self.chain {
            return Err(ProofError::TransactionChain);
        }
        tx.verify_signature(self.author).map_err(ProofError::Author)?;
        merkle::verify_inclusion(&tx.txid(), self.index, certified.log_size, self.path, &certified.log_root)
            .map_err(ProofError::NotInLog)?;
        self.block.verify(self.index, certified, &self.chain)?;

        let header = &self.block.header;
        let verified = VerifiedTransaction {
            txid: tx.txid(),
            kind: tx.payload().kind(),
            signed_at: time(tx.payload().iat()),
            kid: tx.kid(),
            author: author(ground.genesis, self.author),
            height: header.height,
            block: header.hash(),
            time: time(header.time_ms),
            zero_bits: leading_zero_bits(header.hash().as_bytes()),
            certified: certified.clone(),
        };
        Ok((verified, tx))
    }
}

impl BlockEvidence {
    /// That the block is in the certified log and holds the leaf `index`.
    fn verify(&self, index: u64, certified: &CertifiedBlock, chain: &Digest) -> Result<(), ProofError> {
        let (header, parent) = (&self.header, &self.parent);
        header.check_work()?;
        check_follows(header, parent, chain)?;
        // The block's first leaf is its parent's header; its transactions follow.
        if index <= parent.log_size || index >= header.log_size {
            return Err(ProofError::Block("the transaction is not among the block's leaves"));
        }
        certified.shows(header, &self.path)
    }
}

fn author(genesis: &Genesis, key: &PublicKey) -> Author {
    let named = |list: &[Named]| list.iter().find(|named| named.key == *key).map(|named| named.name.clone());
    if let Some(service) = genesis.services.iter().find(|service| service.key == *key) {
        return Author::Service(service.role.code());
    }
    if let Some(name) = named(&genesis.members) {
        return Author::Member(name);
    }
    named(&genesis.operators).map_or(Author::Registered, Author::Operator)
}

impl VerifiedTransaction {
    pub(super) fn facts(&self, facts: &mut Vec<(&'static str, String)>) {
        let author = match &self.author {
            Author::Service(role) => format!("service {role} (named in genesis.json)"),
            Author::Member(name) => format!("member {name} (named in genesis.json)"),
            Author::Operator(name) => format!("operator {name} (named in genesis.json)"),
            Author::Registered => "a key registered on the ledger".to_owned(),
        };
        facts.push(("transaction", format!("{} {}", self.kind, self.txid)));
        facts.push(("signed by", format!("{author}, fingerprint {}", self.kid)));
        facts.push(("signed at", self.signed_at.to_string()));
        facts.push(("block", format!("height {}, hash {}", self.height, self.block)));
        facts.push(("block time", self.time.to_string()));
        facts.push(("proof of work", format!("{} leading zero bits", self.zero_bits)));
        facts.push(("certified", self.certified.certified_by()));
    }
}
