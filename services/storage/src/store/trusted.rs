//! A record's row after its authentication tag opened: whoever reads labels takes them from here.

use hbc_types::Digest;
use hbc_types::wire::access::Labels;
use hbc_types::wire::storage::AnchorState;

use super::{RecordRow, StoredRecord};
use crate::domain::index::{self, IndexKey, RowSecret};
use crate::error::Error;

/// A row whose encrypted column opened: its labels are what they were when it was written.
#[derive(Clone, Debug)]
pub struct TrustedRow {
    /// The row.
    pub row: RecordRow,
    /// What it keeps encrypted.
    pub secret: RowSecret,
    /// The anchor's transaction, once it is signed.
    pub txid: Option<Digest>,
    /// Height of the anchor's block, once final.
    pub height: Option<u64>,
    /// Whether the ledger excludes the anchor for ever.
    pub refused: bool,
}

impl TrustedRow {
    /// Opens a row's encrypted column and checks that its keyed columns belong to what it says.
    pub fn open(index: &IndexKey, stored: StoredRecord) -> Result<Self, Error> {
        let StoredRecord { row, txid, height, refused } = stored;
        let secret = index
            .open_row(&row.bound(), &row.encrypted)
            .map_err(|_row| Error::integrity("a record's row", row.id.as_str()))?;
        if index.sensitivity(&secret.patient, secret.sensitivity) != row.sensitivity {
            return Err(Error::integrity("a record's sensitivity", row.id.as_str()));
        }
        if secret.deleted != (row.deleted != 0) {
            return Err(Error::integrity("whether a record is deleted", row.id.as_str()));
        }
        Ok(Self { row, secret, txid, height, refused })
    }

    /// Where its anchor stands.
    #[must_use]
    pub const fn anchor(&self) -> AnchorState {
        match (self.height, self.refused) {
            (Some(_), _) => AnchorState::Final,
            (None, true) => AnchorState::Refused,
            (None, false) => AnchorState::Pending,
        }
    }

    /// Whether it was indexed in an earlier way.
    #[must_use]
    pub const fn is_outdated(&self) -> bool {
        self.row.index_version < index::VERSION
    }

    /// Its labels.
    #[must_use]
    pub fn labels(&self) -> Labels {
        Labels { category: self.row.category, sensitivity: self.secret.sensitivity }
    }

    /// The salt of its commitment.
    pub fn salt(&self) -> Result<[u8; 32], Error> {
        self.secret.salt.to_array().ok_or_else(|| Error::integrity("a salt", self.row.id.as_str()))
    }
}
