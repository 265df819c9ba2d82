//! Rows that no block proves (promises, refusals, evidence) carry a keyed digest over their columns, so that a
//! row written by anybody but this member is told from its own.

use hbc_types::Digest;
use hbc_types::hash::domain_hash;

use super::{StoredEvidence, StoredPromise, StoredRefusal};

/// A table whose rows no block proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Table {
    /// Transactions that this node promised.
    Promises,
    /// Promised transactions that became impossible.
    Refusals,
    /// What members were caught at.
    Evidence,
}

impl Table {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Promises, Self::Refusals, Self::Evidence];

    /// Its name in SQL and in the seals.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Promises => "promises",
            Self::Refusals => "refusals",
            Self::Evidence => "evidence",
        }
    }
}

/// The key under which rows that prove nothing by themselves are sealed.
#[derive(Clone)]
pub struct SealKey {
    key: [u8; 32],
    /// The key before, while it is being changed: what it sealed holds, and is sealed anew at the start.
    earlier: Option<[u8; 32]>,
}

impl SealKey {
    /// The member's own.
    #[must_use]
    pub fn of(key: &ed25519_dalek::SigningKey) -> Self {
        Self { key: derived(key), earlier: None }
    }

    /// The same, and rows that `earlier` sealed hold as well.
    #[must_use]
    pub fn or_by(self, earlier: &ed25519_dalek::SigningKey) -> Self {
        Self { earlier: Some(derived(earlier)), ..self }
    }

    pub(super) fn seal(&self, table: Table, columns: &[&[u8]]) -> Digest {
        let mut parts: Vec<&[u8]> = vec![&self.key, table.name().as_bytes()];
        parts.extend_from_slice(columns);
        domain_hash("hbc/ledger-row/v1", &parts)
    }

    /// A row's share of the tally.
    pub(super) fn tally_row(&self, seal: &Digest) -> Digest {
        domain_hash("hbc/ledger-tally-row/v1", &[&self.key, seal.as_bytes()])
    }

    /// What hides the rows' shares in the tally.
    pub(super) fn tally_mask(&self, entries: u64, nonce: &[u8]) -> Digest {
        domain_hash("hbc/ledger-tally/v1", &[&self.key, &entries.to_be_bytes(), nonce])
    }

    /// The key that was used before, by itself.
    pub(super) fn before(&self) -> Option<Self> {
        self.earlier.map(|key| Self { key, earlier: None })
    }
}

fn derived(key: &ed25519_dalek::SigningKey) -> [u8; 32] {
    *domain_hash("hbc/ledger-row-key/v1", &[key.as_bytes()]).as_bytes()
}

impl std::fmt::Debug for SealKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SealKey(…)")
    }
}

/// A row that this member seals.
pub trait Sealed {
    /// Its seal under a key, if it was written then.
    fn seal(&self, key: &SealKey, at_ms: i64) -> Digest;
}

impl Sealed for StoredPromise {
    fn seal(&self, key: &SealKey, received_at_ms: i64) -> Digest {
        key.seal(Table::Promises, &[self.txid.as_bytes(), &self.jws, &received_at_ms.to_be_bytes()])
    }
}

impl Sealed for StoredRefusal {
    fn seal(&self, key: &SealKey, refused_at_ms: i64) -> Digest {
        let excluded_by = self.excluded_by.map(|by| by.as_bytes().to_vec()).unwrap_or_default();
        let columns: [&[u8]; 5] = [
            self.txid.as_bytes(),
            &self.jws,
            self.reason.as_bytes(),
            &excluded_by,
            &refused_at_ms.to_be_bytes(),
        ];
        key.seal(Table::Refusals, &columns)
    }
}

impl Sealed for StoredEvidence {
    fn seal(&self, key: &SealKey, seen_at_ms: i64) -> Digest {
        let member = self.member.map(|member| member.to_vec()).unwrap_or_default();
        let columns: [&[u8]; 5] = [
            self.kind.as_bytes(),
            &member,
            &self.height.to_be_bytes(),
            &self.detail,
            &seen_at_ms.to_be_bytes(),
        ];
        key.seal(Table::Evidence, &columns)
    }
}
