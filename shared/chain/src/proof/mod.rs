//! Proof documents: what anybody can check with public keys alone and every server switched off.
//!
//! A document is one canonical JSON object and one line feed, nothing before, between or after, so that a file with any
//! bit changed is either refused as it is read or says something that its hashes and signatures do not. `format` names
//! what it proves: a transaction is final, a receipt or a record is covered by one, a consent was given; the log only grew
//! between two checkpoints; what the state said about an entry after a block; which anchors some days have.
//!
//! Each has one certified block, whose members cannot be chosen ([`Certification`]), and shows the rest in its log or state.
//! Trust begins at a pinned `genesis.json` or chain id. Without a pin a document can only be found consistent in itself.
//!
//! Why: decision 0010.

mod anchors;
mod bundle;
mod certified;
mod consistency;
mod content;
mod founding;
mod known;
mod membership;
mod note;
mod numbers;
mod opening;
mod state;
pub mod tlog;
mod transaction;

use serde::{Deserialize, Serialize};

pub use anchors::{AnchorsFacts, AnchorsProof};
pub use bundle::{BundleFacts, BundleProof, BundledProof, BundledTransaction};
pub use certified::{Certification, CertifiedBlock, CertifiedState, MembersProof, StateEvidence};
pub use consistency::{ConsistencyProof, PastCheckpoint};
pub use content::{ConsentProof, Delegation, Opening, ReceiptProof, RecordFacts, RecordProof};
use founding::Ground;
pub use founding::SetChange;
pub use known::Known;
pub use membership::{MembershipFacts, MembershipProof};
pub use note::{Leaf, VerifiedLeaf, VerifiedNote, verify_note, verify_tlog};
pub use numbers::{NumbersFacts, NumbersProof};
pub use opening::{Opened, OpenedBody, OpeningProof};
pub use state::{EntryProof, StateFacts, StateProof, Verdict};
pub use transaction::{Author, BlockEvidence, TransactionProof, VerifiedTransaction};

use super::certificate::{CertificateError, LimitError, Limits};
use super::checkpoint::CheckpointError;
use super::genesis::{Genesis, GenesisError};
use super::header::HeaderError;
use super::json::{self, JsonError};
use super::merkle::MerkleError;
use super::rtree::RtreeError;
use super::tx::TxError;
use crate::consent::ConsentBody;
use crate::map::MapError;
use hbc_types::digest::Digest;
use hbc_types::keys::{KeyError, Kid};
use hbc_types::wire::access::ReceiptBody;

/// The first bytes of an exported chain.
pub const CHAIN_MAGIC: &[u8; 8] = b"HBCCHAIN";
/// Bytes of a document at most. Nearly all of a large one are changes of members: this many bytes hold more than a thousand
/// changes among a hundred members.
pub const MAX_DOCUMENT_BYTES: usize = 32 * 1024 * 1024;

/// Why a document proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// Larger than any proof.
    #[error("the file is larger than 32 MiB")]
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
    /// A text that carries no genesis.json needs one.
    #[error("this text names no members: check it with a genesis.json as trust")]
    GenesisNeeded,
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
    /// Who the members of a height are is not shown.
    #[error("members: {0}")]
    Members(&'static str),
    /// The state names other members than genesis.json and the changes lead to.
    #[error("members: the state does not name these: {0}")]
    MembersState(MapError),
    /// The later log does not begin with the earlier one.
    #[error("the later log does not begin with the earlier one: {0}")]
    NotConsistent(MerkleError),
    /// Two blocks of one height were certified: more than a third of the members signed both.
    #[error(
        "two different blocks of height {height} are certified: keep both files, they convict who signed both"
    )]
    Fork {
        /// The height.
        height: u64,
    },
    /// No entry of this kind can have such an id, so that its absence says nothing.
    #[error("no entry `{kind}` has an id like this")]
    Id {
        /// The kind.
        kind: &'static str,
    },
    /// By two files, other members certify a height, and no block of that height or above is in both.
    #[error(
        "one of the files has other members at height {height} than the other: it leaves out changes of members, or one of them is of a made-up past. Which, a file tells that has blocks of both"
    )]
    OtherMembers {
        /// The height.
        height: u64,
    },
    /// An entry is not what the certified state says.
    #[error("the entry `{kind}` is not what the certified state says: {error}")]
    NotInState {
        /// Its kind.
        kind: &'static str,
        /// Why.
        error: MapError,
    },
    /// The state holds something else there than the format has.
    #[error("what the state holds is no entry `{kind}`")]
    Value {
        /// The kind that was asked for.
        kind: &'static str,
    },
    /// The anchors are not all.
    #[error("the anchors are not shown to be all: {0}")]
    Anchors(#[from] RtreeError),
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
    /// The consent key signed more than it was certified for, or too late.
    #[error("certificate of the consent key: {0}")]
    Limits(LimitError),
    /// Two parts of the document contradict each other.
    #[error("{0}")]
    Contradiction(&'static str),
}

impl ProofError {
    /// Whether this is no word against the file: it cannot be read as a proof, or what it is checked with is missing.
    #[must_use]
    pub const fn tells_nothing(&self) -> bool {
        match self {
            Self::TooLarge
            | Self::Form(_)
            | Self::LineFeed
            | Self::GenesisMissing
            | Self::GenesisNeeded
            | Self::OtherMembers { .. } => true,
            Self::OtherChain { .. }
            | Self::Genesis(_)
            | Self::GenesisMismatch { .. }
            | Self::Transaction(_)
            | Self::TransactionChain
            | Self::Author(_)
            | Self::Checkpoint(_)
            | Self::NotInLog(_)
            | Self::Header(_)
            | Self::Block(_)
            | Self::HeaderNotInLog(_)
            | Self::Members(_)
            | Self::MembersState(_)
            | Self::NotConsistent(_)
            | Self::Fork { .. }
            | Self::Id { .. }
            | Self::NotInState { .. }
            | Self::Value { .. }
            | Self::Anchors(_)
            | Self::Kind { .. }
            | Self::NotUnderRoot { .. }
            | Self::Commitment(_)
            | Self::Certificate(_)
            | Self::Limits(_)
            | Self::Contradiction(_) => false,
        }
    }
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
    /// What a transaction commits to.
    #[serde(rename = "hbc-proof-opening/v1")]
    Opening(OpeningProof),
    /// Many proofs that share each transaction once.
    #[serde(rename = "hbc-proof-bundle/v1")]
    Bundle(BundleProof),
    /// The log only grew between two checkpoints.
    #[serde(rename = "hbc-proof-consistency/v1")]
    Consistency(ConsistencyProof),
    /// What the state says about an entry after a block.
    #[serde(rename = "hbc-proof-state/v1")]
    State(StateProof),
    /// Somebody acts for an organisation.
    #[serde(rename = "hbc-proof-membership/v1")]
    Membership(MembershipProof),
    /// Which numbers a patient's records have.
    #[serde(rename = "hbc-proof-numbers/v1")]
    Numbers(NumbersProof),
    /// All anchors of some days.
    #[serde(rename = "hbc-proof-anchors/v1")]
    Anchors(AnchorsProof),
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

    /// The `format` of a proof that somebody laid out anew: with spaces, line breaks or a byte-order mark that its form does
    /// not have, or with its fields in another order. None if the file says something else than a proof.
    #[must_use]
    pub fn laid_out_anew(file: &[u8]) -> Option<String> {
        let text = file.strip_prefix(BYTE_ORDER_MARK).unwrap_or(file);
        let value: serde_json::Value = serde_json::from_slice(text).ok()?;
        let _document: Self = json::decode(&json::encode(&value).ok()?).ok()?;
        value.get("format")?.as_str().map(str::to_owned)
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

    /// The chain that it names, and the genesis.json that it carries.
    const fn founding(&self) -> (Digest, Option<&Genesis>) {
        let (chain, genesis) = match self {
            Self::Transaction(proof) => (proof.chain, &proof.genesis),
            Self::Receipt(ReceiptProof { anchor, .. })
            | Self::Record(RecordProof { anchor, .. })
            | Self::Consent(ConsentProof { anchor, .. })
            | Self::Opening(OpeningProof { anchor, .. }) => (anchor.chain, &anchor.genesis),
            Self::Bundle(proof) => (proof.chain, &proof.genesis),
            Self::Membership(proof) => (proof.chain, &proof.genesis),
            Self::Numbers(proof) => (proof.chain, &proof.genesis),
            Self::Consistency(proof) => (proof.chain, &proof.genesis),
            Self::State(proof) => (proof.chain, &proof.genesis),
            Self::Anchors(proof) => (proof.chain, &proof.genesis),
        };
        (chain, genesis.as_ref())
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
    /// The final transaction, where the document is about one.
    pub transaction: Option<VerifiedTransaction>,
    /// What is proved.
    pub content: Content,
    /// What else the document says about the chain.
    pub known: Known,
}

/// What a document proves.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// The transaction itself.
    Transaction,
    /// A receipt with this body.
    Receipt(Box<ReceiptBody>),
    /// A record.
    Record(RecordFacts),
    /// A consent under this root key.
    Consent {
        /// Fingerprint of the patient's root key: compare it with what the patient shows.
        root: Kid,
        /// Fingerprint of the delegate's root key, if a delegate acted.
        delegate: Option<Kid>,
        /// What the root certified the consent key for; the consent is within them.
        limits: Limits,
        /// The committed body.
        body: Box<ConsentBody>,
    },
    /// What a transaction commits to.
    Opening(Box<OpenedBody>),
    /// Much at once.
    Bundle(Box<BundleFacts>),
    /// Whether somebody acts for an organisation.
    Membership(Box<MembershipFacts>),
    /// Which numbers records have, and which are missing.
    Numbers(Box<NumbersFacts>),
    /// The log only grew.
    Consistency {
        /// The earlier checkpoint.
        from: CertifiedBlock,
        /// The later one.
        to: CertifiedBlock,
    },
    /// What the state says.
    State(Box<StateFacts>),
    /// All anchors of some days.
    Anchors(Box<AnchorsFacts>),
}

/// Checks a document against what is trusted.
///
/// # Errors
/// The first reason for which it proves nothing.
pub fn verify(file: &[u8], trust: &Trust) -> Result<Verified, ProofError> {
    let document = Document::parse(file)?;
    let (chain, carried) = document.founding();
    let ground = Ground::find(chain, carried, trust)?;
    let about = |anchor: &TransactionProof| anchor.verify(&ground);
    let (transaction, content) = match &document {
        Document::Transaction(proof) => (Some(about(proof)?.0), Content::Transaction),
        Document::Receipt(receipt) => {
            let (transaction, tx) = about(&receipt.anchor)?;
            (Some(transaction), receipt.verify(tx.payload())?)
        }
        Document::Record(record) => {
            let (transaction, tx) = about(&record.anchor)?;
            (Some(transaction), record.verify(tx.payload())?)
        }
        Document::Consent(consent) => {
            let (transaction, tx) = about(&consent.anchor)?;
            let content = consent.verify(&tx, transaction.time)?;
            (Some(transaction), content)
        }
        Document::Opening(opening) => {
            let (transaction, tx) = about(&opening.anchor)?;
            (Some(transaction), opening.verify(tx.payload())?)
        }
        Document::Bundle(proof) => (None, proof.verify(&ground)?),
        Document::Membership(proof) => (None, proof.verify(&ground)?),
        Document::Numbers(proof) => (None, proof.verify(&ground)?),
        Document::Consistency(proof) => (None, proof.verify(&ground)?),
        Document::State(proof) => (None, proof.verify(&ground)?),
        Document::Anchors(proof) => (None, proof.verify(&ground)?),
    };
    let known = Known::of_document(&document, &ground.genesis.members)?;
    Ok(Verified { pinned: ground.pinned, chain, transaction, content, known })
}

/// What some editors put before a text.
pub const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// What a file is, by how it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// A proof document, JSON.
    Document,
    /// A C2SP `tlog-proof`.
    TlogProof,
    /// An exported chain.
    Chain,
    /// Anything else can only be a checkpoint.
    Checkpoint,
}

impl FileKind {
    /// Told by the first bytes; 32 are enough. What an editor puts before them hides nothing: such a file is read as what it
    /// is, and then refused for its form.
    #[must_use]
    pub fn of(start: &[u8]) -> Self {
        if start.starts_with(CHAIN_MAGIC) {
            return Self::Chain;
        }
        let start = start.strip_prefix(BYTE_ORDER_MARK).unwrap_or(start).trim_ascii_start();
        if start.starts_with(b"{") {
            Self::Document
        } else if start.starts_with(tlog::FIRST_LINE.as_bytes()) {
            Self::TlogProof
        } else {
            Self::Checkpoint
        }
    }
}

impl Verified {
    /// What was proved, about what, and as of when: one sentence.
    #[must_use]
    pub fn statement(&self) -> String {
        let said = self.content.statement();
        let as_of = match (&self.content, &self.transaction) {
            (_, Some(transaction)) => {
                format!("final in block {} of {}", transaction.height, transaction.time)
            }
            (Content::State(facts), None) => format!("as of {}", facts.at.time),
            (Content::Anchors(facts), None) => format!("as of {}", facts.at.time),
            (Content::Membership(facts), None) => format!("as of {}", facts.at.time),
            (Content::Numbers(facts), None) => {
                format!("as stated at {}", certified::time(facts.claims.iat))
            }
            (Content::Bundle(facts), None) => format!("as of height {}", facts.certified.height),
            (Content::Consistency { to, .. }, None) => format!("as of height {}", to.height),
            // The others are about a transaction.
            (
                Content::Transaction
                | Content::Receipt(_)
                | Content::Record(_)
                | Content::Consent { .. }
                | Content::Opening(_),
                None,
            ) => String::new(),
        };
        format!("{said}; {as_of}.")
    }

    /// What else is proved, as labels and values to print.
    #[must_use]
    pub fn facts(&self) -> Vec<(&'static str, String)> {
        let mut facts = vec![("chain", chain_line(&self.chain, self.pinned))];
        self.content.facts(&mut facts);
        if let Some(transaction) = &self.transaction {
            transaction.facts(&mut facts);
        }
        facts
    }
}

/// The chain's id and whether it is the pinned one, in words.
#[must_use]
pub fn chain_line(chain: &Digest, pinned: bool) -> String {
    let words = if pinned { "the pinned one" } else { "NOT PINNED: anybody could have founded it" };
    format!("{chain} ({words})")
}

#[cfg(test)]
mod tests;
