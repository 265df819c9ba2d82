//! Checkpoints alone and `tlog-proof` texts. Neither carries genesis.json or changes of members: they are checked with a
//! genesis.json, under the members that it names. What others signed below the same text, such as witnesses, is passed over.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::certified::CertifiedBlock;
use super::founding::Ground;
use super::tlog::TlogProof;
use super::{Known, ProofError, Trust, chain_line};
use crate::checkpoint::{CheckpointError, MAX_NOTE_BYTES, key_id};
use crate::genesis::Named;
use crate::tx::Tx;
use hbc_types::digest::Digest;

/// A checkpoint that counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedNote {
    /// The chain.
    pub chain: Digest,
    /// What the founding members certified.
    pub certified: CertifiedBlock,
    /// What its log holds; of a `tlog-proof`.
    pub leaf: Option<VerifiedLeaf>,
}

/// A leaf of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VerifiedLeaf {
    /// Its hash: of a transaction, the id.
    pub hash: Digest,
    /// Its place.
    pub index: u64,
    /// The type of the transaction, when its text was at hand.
    pub transaction: Option<&'static str>,
}

/// What a `tlog-proof`, which does not hold it, is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leaf<'a> {
    /// A hash. Headers are leaves too, so that this alone tells no transaction.
    Hash(Digest),
    /// A transaction's text.
    Transaction(&'a [u8]),
}

fn ground(trust: &Trust) -> Result<Ground<'_>, ProofError> {
    let Trust::Genesis(genesis) = trust else { return Err(ProofError::GenesisNeeded) };
    Ground::find(genesis.chain_id()?, None, trust)
}

/// Checks a checkpoint: more than two thirds of the founding members signed it.
///
/// # Errors
/// Why it does not count. Who the members of its height are it does not show; for that there are documents.
pub fn verify_note(note: &str, trust: &Trust) -> Result<VerifiedNote, ProofError> {
    let ground = ground(trust)?;
    let members = &ground.genesis.members;
    let certified = ground.count(&by_known_keys(note, &ground.origin, members)?, members)?;
    Ok(VerifiedNote { chain: ground.chain, certified, leaf: None })
}

/// Checks that a leaf is in the log of a `tlog-proof`'s checkpoint.
///
/// # Errors
/// Why that is not shown.
pub fn verify_tlog(text: &str, leaf: Leaf<'_>, trust: &Trust) -> Result<VerifiedNote, ProofError> {
    let ground = ground(trust)?;
    let members = &ground.genesis.members;
    let (hash, transaction) = match leaf {
        Leaf::Hash(hash) => (hash, None),
        Leaf::Transaction(text) => {
            let tx = Tx::parse(text)?;
            (tx.txid(), Some(tx.payload().kind()))
        }
    };
    let (head, note) = text.split_once("\n\n").ok_or(CheckpointError::Form("no empty line"))?;
    let note = by_known_keys(note, &ground.origin, members)?;
    let proof = TlogProof::parse(&format!("{head}\n\n{note}"))?;
    proof.verify_leaf(&hash, &ground.origin, members)?;
    let certified = CertifiedBlock::of(&proof.certificate, members.len());
    let leaf = Some(VerifiedLeaf { hash, index: proof.index, transaction });
    Ok(VerifiedNote { chain: ground.chain, certified, leaf })
}

/// A name as C2SP signed-note has them: "non-empty, and not contain any Unicode spaces or plus (U+002B)".
fn is_key_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || c == '+')
}

/// A note with the lines of these members' keys only. "Verifiers MUST ignore signatures from unknown keys": C2SP signed-note;
/// a key is known by its name and its id.
fn by_known_keys(note: &str, origin: &str, members: &[Named]) -> Result<String, CheckpointError> {
    if note.len() > MAX_NOTE_BYTES {
        return Err(CheckpointError::Form("too long"));
    }
    // "MUST NOT contain any ASCII control characters (those below U+0020) other than newline": C2SP signed-note.
    if note.contains(|c: char| c < ' ' && c != '\n') {
        return Err(CheckpointError::Form("a control character"));
    }
    let (body, lines) = note.split_once("\n\n").ok_or(CheckpointError::Form("no empty line"))?;
    let lines = lines.strip_suffix('\n').ok_or(CheckpointError::Form("no line feed at the end"))?;
    let mut known = format!("{body}\n\n");
    let mut count = 0_usize;
    for line in lines.split('\n') {
        let rest = line.strip_prefix("— ").ok_or(CheckpointError::Form("not a signature line"))?;
        let (name, base64) = rest.split_once(' ').ok_or(CheckpointError::Form("not a signature line"))?;
        if !is_key_name(name) {
            return Err(CheckpointError::Form("a signer has no name of a key"));
        }
        let bytes = STANDARD.decode(base64).map_err(|_other| CheckpointError::Form("not a signature"))?;
        let (id, signature) =
            bytes.split_first_chunk::<4>().ok_or(CheckpointError::Form("not a signature"))?;
        if signature.is_empty() {
            return Err(CheckpointError::Form("a key id without a signature"));
        }
        let member = name.strip_prefix(origin).and_then(|rest| rest.strip_prefix('/'));
        if members.iter().any(|of| member == Some(&of.name) && key_id(name, &of.key) == *id) {
            known.push_str(line);
            known.push('\n');
            count = count.saturating_add(1);
        }
    }
    if count == 0 {
        return Err(CheckpointError::TooFew { signed: 0, members: members.len() });
    }
    Ok(known)
}

impl VerifiedNote {
    /// What it says about the chain, to be compared with another file.
    #[must_use]
    pub fn known(&self) -> Known {
        Known::of_note(&self.certified)
    }

    /// What was proved, about what, and as of when: one sentence.
    #[must_use]
    pub fn statement(&self) -> String {
        let CertifiedBlock { height, log_size, .. } = self.certified;
        match self.leaf {
            Some(VerifiedLeaf { hash, index, transaction: Some(kind) }) => {
                format!(
                    "transaction {kind} {hash} stands in the log at place {index}; as of height {height}."
                )
            }
            Some(VerifiedLeaf { hash, index, transaction: None }) => format!(
                "leaf {hash} stands in the log at place {index}, be it a transaction or a header; as of height {height}."
            ),
            None => format!(
                "founding members certified this block and this log of {log_size} leaves; as of height {height}."
            ),
        }
    }

    /// What else is proved, as labels and values to print.
    #[must_use]
    pub fn facts(&self) -> Vec<(&'static str, String)> {
        let certified = &self.certified;
        vec![
            ("chain", chain_line(&self.chain, true)),
            ("block", format!("height {}, hash {}", certified.height, certified.block)),
            ("log", format!("{} leaves, root {}", certified.log_size, certified.log_root)),
            ("certified", certified.by_founders()),
        ]
    }
}
