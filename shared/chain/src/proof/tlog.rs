//! The C2SP `tlog-proof` text of a final transaction: what generic transparency-log tools read.
//!
//! ```text
//! c2sp.org/tlog-proof@v1
//! index <place in the log>
//! <base64 hash, one line per hash of the path>
//!
//! <the signed note>
//! ```
//! The leaf's data are the transaction's JWS bytes. Extra data are not used, and refused.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::ProofError;
use crate::checkpoint::{Certificate, CheckpointError};
use crate::genesis::Named;
use crate::merkle::{self, MAX_PATH};
use hbc_types::digest::Digest;

pub(super) const FIRST_LINE: &str = "c2sp.org/tlog-proof@v1";

/// Writes the text.
#[must_use]
pub fn encode(index: u64, path: &[Digest], note: &str) -> String {
    let mut text = format!("{FIRST_LINE}\nindex {index}\n");
    for hash in path {
        STANDARD.encode_string(hash.as_bytes(), &mut text);
        text.push('\n');
    }
    text.push('\n');
    text.push_str(note);
    text
}

/// A text taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlogProof {
    /// The leaf's place in the log.
    pub index: u64,
    /// The path from there to the log root.
    pub path: Vec<Digest>,
    /// The checkpoint and its signatures.
    pub certificate: Certificate,
}

impl TlogProof {
    /// Reads a text in its one form.
    ///
    /// # Errors
    /// When anything deviates.
    pub fn parse(text: &str) -> Result<Self, CheckpointError> {
        let (head, note) = text.split_once("\n\n").ok_or(CheckpointError::Form("no empty line"))?;
        let mut lines = head.split('\n');
        if lines.next() != Some(FIRST_LINE) {
            return Err(CheckpointError::Form("not a tlog-proof"));
        }
        let index = lines.next().and_then(|line| line.strip_prefix("index ")).and_then(|n| n.parse().ok());
        let index = index.ok_or(CheckpointError::Form("no index"))?;
        let mut path = Vec::new();
        for line in lines {
            let bytes = STANDARD.decode(line).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
            path.push(Digest::from_bytes(bytes.ok_or(CheckpointError::Form("not a hash"))?));
        }
        if path.len() > MAX_PATH || encode(index, &path, note) != text {
            return Err(CheckpointError::Form("not its one form"));
        }
        Ok(Self { index, path, certificate: Certificate::parse(note)? })
    }

    /// That these members certified a log with this transaction in it.
    ///
    /// # Errors
    /// Why not.
    pub fn verify(&self, transaction: &[u8], origin: &str, members: &[Named]) -> Result<(), ProofError> {
        self.verify_leaf(&merkle::leaf_hash(transaction), origin, members)
    }

    /// The same for whoever knows only the transaction's id, which is its leaf hash.
    pub(super) fn verify_leaf(
        &self,
        txid: &Digest,
        origin: &str,
        members: &[Named],
    ) -> Result<(), ProofError> {
        self.certificate.check(origin, members)?;
        let checkpoint = &self.certificate.checkpoint;
        merkle::verify_inclusion(txid, self.index, checkpoint.log_size, &self.path, &checkpoint.log_root)
            .map_err(ProofError::NotInLog)
    }
}
