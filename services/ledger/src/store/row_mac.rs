//! Rows that no block proves (promises, refusals, evidence) carry a keyed digest over their columns, so that a
//! row written by anybody but this member is told from its own. Each list of columns takes its row apart without `..`: a
//! field that is added does not compile until its MAC covers it.

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

    /// Its name in SQL and in the MACs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Promises => "promises",
            Self::Refusals => "refusals",
            Self::Evidence => "evidence",
        }
    }
}

/// The key under which rows that prove nothing by themselves are authenticated.
#[derive(Clone)]
pub struct MacKey {
    key: [u8; 32],
    /// The key before, while it is being changed: what it authenticated holds, and is authenticated anew at the start.
    earlier: Option<[u8; 32]>,
}

impl MacKey {
    /// The member's own.
    #[must_use]
    pub fn of(key: &ed25519_dalek::SigningKey) -> Self {
        Self { key: derived(key), earlier: None }
    }

    /// The same, and rows that `earlier` authenticated hold as well.
    #[must_use]
    pub fn or_by(self, earlier: &ed25519_dalek::SigningKey) -> Self {
        Self { earlier: Some(derived(earlier)), ..self }
    }

    pub(super) fn mac(&self, table: Table, columns: &[&[u8]]) -> Digest {
        let mut parts: Vec<&[u8]> = vec![&self.key, table.name().as_bytes()];
        parts.extend_from_slice(columns);
        domain_hash("hbc/ledger-row/v1", &parts)
    }

    /// A row's share of the multiset hash.
    pub(super) fn multiset_row(&self, mac: &Digest) -> Digest {
        domain_hash("hbc/ledger-multiset-row/v1", &[&self.key, mac.as_bytes()])
    }

    /// What hides the rows' shares in the multiset hash.
    pub(super) fn multiset_mask(&self, entries: u64, nonce: &[u8]) -> Digest {
        domain_hash("hbc/ledger-multiset/v1", &[&self.key, &entries.to_be_bytes(), nonce])
    }

    /// The key that was used before, by itself.
    pub(super) fn before(&self) -> Option<Self> {
        self.earlier.map(|key| Self { key, earlier: None })
    }
}

fn derived(key: &ed25519_dalek::SigningKey) -> [u8; 32] {
    *domain_hash("hbc/ledger-row-key/v1", &[key.as_bytes()]).as_bytes()
}

impl std::fmt::Debug for MacKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MacKey(…)")
    }
}

/// A row that this member MACs.
pub trait Authenticated {
    /// Its MAC under a key, if it was written then.
    fn mac(&self, key: &MacKey, at_ms: i64) -> Digest;
}

impl Authenticated for StoredPromise {
    fn mac(&self, key: &MacKey, received_at_ms: i64) -> Digest {
        let Self { txid, jws } = self;
        key.mac(Table::Promises, &[txid.as_bytes(), jws, &received_at_ms.to_be_bytes()])
    }
}

impl Authenticated for StoredRefusal {
    fn mac(&self, key: &MacKey, refused_at_ms: i64) -> Digest {
        let Self { txid, jws, reason, excluded_by } = self;
        let excluded_by = excluded_by.map(|by| by.as_bytes().to_vec()).unwrap_or_default();
        let columns: [&[u8]; 5] =
            [txid.as_bytes(), jws, reason.as_bytes(), &excluded_by, &refused_at_ms.to_be_bytes()];
        key.mac(Table::Refusals, &columns)
    }
}

impl Authenticated for StoredEvidence {
    fn mac(&self, key: &MacKey, seen_at_ms: i64) -> Digest {
        let Self { kind, member, height, detail } = self;
        let member = member.map(|member| member.to_vec()).unwrap_or_default();
        let columns: [&[u8]; 5] =
            [kind.as_bytes(), &member, &height.to_be_bytes(), detail, &seen_at_ms.to_be_bytes()];
        key.mac(Table::Evidence, &columns)
    }
}
