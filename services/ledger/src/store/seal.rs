//! Rows that no block proves (promises, refusals, evidence) carry a keyed digest over their columns, so that a
//! row written by anybody but this member is told from its own. Each list of columns takes its row apart without `..`: a
//! field that is added does not compile until its seal covers it.

use std::collections::HashSet;

use hbc_types::Digest;
use hbc_types::hash::domain_hash;
use sqlx::sqlite::SqliteConnection;
use sqlx::{QueryBuilder, Sqlite};

use super::stock::{Change, Stock, Table};
use super::{
    Carried, MOST_EVIDENCE, ROWS_PER_STATEMENT, StoreError, StoredEvidence, StoredPromise, StoredRefusal,
    signed,
};

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
        let Self { txid, jws } = self;
        key.seal(Table::Promises, &[txid.as_bytes(), jws, &received_at_ms.to_be_bytes()])
    }
}

impl Sealed for StoredRefusal {
    fn seal(&self, key: &SealKey, refused_at_ms: i64) -> Digest {
        let Self { txid, jws, reason, excluded_by } = self;
        let excluded_by = excluded_by.map(|by| by.as_bytes().to_vec()).unwrap_or_default();
        let columns: [&[u8]; 5] =
            [txid.as_bytes(), jws, reason.as_bytes(), &excluded_by, &refused_at_ms.to_be_bytes()];
        key.seal(Table::Refusals, &columns)
    }
}

impl Sealed for StoredEvidence {
    fn seal(&self, key: &SealKey, seen_at_ms: i64) -> Digest {
        let Self { kind, member, height, detail } = self;
        let member = member.map(|member| member.to_vec()).unwrap_or_default();
        let columns: [&[u8]; 5] =
            [kind.as_bytes(), &member, &height.to_be_bytes(), detail, &seen_at_ms.to_be_bytes()];
        key.seal(Table::Evidence, &columns)
    }
}

/// Where rows are written: the connection, the key of their seals, what is there already, and what comes to it.
pub(super) struct Pen<'a> {
    pub connection: &'a mut SqliteConnection,
    pub key: &'a SealKey,
    pub stock: Option<&'a Stock>,
    pub change: &'a mut Change,
}

impl Pen<'_> {
    fn has(&self, table: Table, id: &Digest) -> bool {
        self.stock.is_some_and(|stock| stock.has(table, id))
    }

    /// One statement for many; what is there stays.
    pub(super) async fn promises(
        &mut self,
        promises: &[StoredPromise],
        received_at_ms: i64,
    ) -> Result<(), StoreError> {
        let mut seen = HashSet::new();
        let fresh: Vec<(&StoredPromise, Digest)> = promises
            .iter()
            .filter(|promise| !self.has(Table::Promises, &promise.txid) && seen.insert(promise.txid))
            .map(|promise| (promise, promise.seal(self.key, received_at_ms)))
            .collect();
        for rows in fresh.chunks(ROWS_PER_STATEMENT) {
            let mut query =
                QueryBuilder::<Sqlite>::new("INSERT INTO promises (txid, jws, received_at_ms, seal) ");
            query.push_values(rows, |mut row, (promise, seal)| {
                row.push_bind(promise.txid.as_bytes().to_vec())
                    .push_bind(promise.jws.clone())
                    .push_bind(received_at_ms)
                    .push_bind(seal.as_bytes().to_vec());
            });
            query.push(" ON CONFLICT (txid) DO NOTHING");
            query.build().execute(&mut *self.connection).await?;
        }
        let added = fresh.into_iter().map(|(promise, seal)| (Table::Promises, promise.txid, seal));
        self.change.added.extend(added);
        Ok(())
    }

    pub(super) async fn refusal(&mut self, refusal: &StoredRefusal, now_ms: i64) -> Result<(), StoreError> {
        let seal = refusal.seal(self.key, now_ms);
        let StoredRefusal { txid, jws, reason, excluded_by } = refusal;
        let done = sqlx::query(
            "INSERT INTO refusals (txid, jws, reason, excluded_by, refused_at_ms, seal)
             VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (txid) DO NOTHING",
        )
        .bind(txid.as_bytes().as_slice())
        .bind(jws.as_slice())
        .bind(reason.as_str())
        .bind(excluded_by.map(|txid| txid.as_bytes().to_vec()))
        .bind(now_ms)
        .bind(seal.as_bytes().as_slice())
        .execute(&mut *self.connection)
        .await?;
        if done.rows_affected() > 0 && !self.has(Table::Refusals, txid) {
            self.change.added.push((Table::Refusals, *txid, seal));
        }
        Ok(())
    }

    pub(super) async fn evidence(
        &mut self,
        evidence: &StoredEvidence,
        now_ms: i64,
    ) -> Result<(), StoreError> {
        let (digest, seal) = (Digest::of(&evidence.detail), evidence.seal(self.key, now_ms));
        let StoredEvidence { kind, member, height, detail } = evidence;
        let done = sqlx::query(
            "INSERT INTO evidence (digest, kind, member, height, detail, seen_at_ms, seal)
             SELECT $1, $2, $3, $4, $5, $6, $7
             WHERE (SELECT count(*) FROM evidence WHERE kind = $2 AND member IS $3) < $8
             ON CONFLICT (digest) DO NOTHING",
        )
        .bind(digest.as_bytes().as_slice())
        .bind(kind.as_ref())
        .bind(member.map(|member| member.to_vec()))
        .bind(signed(*height)?)
        .bind(detail.as_slice())
        .bind(now_ms)
        .bind(seal.as_bytes().as_slice())
        .bind(MOST_EVIDENCE)
        .execute(&mut *self.connection)
        .await?;
        if done.rows_affected() > 0 && !self.has(Table::Evidence, &digest) {
            self.change.added.push((Table::Evidence, digest, seal));
        }
        Ok(())
    }

    /// Removes the oldest refusals beyond so many.
    pub(super) async fn forget_old_refusals(&mut self, kept: usize) -> Result<(), StoreError> {
        let more = self.change.added.iter().filter(|(table, ..)| *table == Table::Refusals).count();
        let surplus = self.stock.map(|stock| stock.surplus_refusals(more, kept).copied().collect::<Vec<_>>());
        self.remove(Table::Refusals, &surplus.unwrap_or_default()).await
    }

    /// Removes rows about these.
    pub(super) async fn remove(&mut self, table: Table, ids: &[Digest]) -> Result<(), StoreError> {
        for some in ids.chunks(ROWS_PER_STATEMENT) {
            let start = match table {
                Table::Promises => "DELETE FROM promises WHERE txid IN (",
                Table::Refusals => "DELETE FROM refusals WHERE txid IN (",
                Table::Evidence => "DELETE FROM evidence WHERE digest IN (",
            };
            let mut query = QueryBuilder::<Sqlite>::new(start);
            let mut list = query.separated(", ");
            for id in some {
                list.push_bind(id.as_bytes().to_vec());
            }
            query.push(")");
            query.build().execute(&mut *self.connection).await?;
        }
        let mut seen = HashSet::new();
        let there = ids.iter().filter(|id| self.has(table, id) && seen.insert(**id));
        let removed: Vec<_> = there.map(|id| (table, *id)).collect();
        self.change.removed.extend(removed);
        Ok(())
    }
}

/// Seals these rows under `key`, in the file too.
pub(super) async fn seal_anew(
    carried: &mut Carried,
    key: &SealKey,
    connection: &mut SqliteConnection,
) -> Result<(), StoreError> {
    for row in &mut carried.promises {
        row.seal = row.row.seal(key, row.at_ms);
        reseal(connection, "UPDATE promises SET seal = $1 WHERE txid = $2", &row.row.txid, &row.seal).await?;
    }
    for row in &mut carried.refusals {
        row.seal = row.row.seal(key, row.at_ms);
        reseal(connection, "UPDATE refusals SET seal = $1 WHERE txid = $2", &row.row.txid, &row.seal).await?;
    }
    for row in &mut carried.evidence {
        row.seal = row.row.seal(key, row.at_ms);
        let digest = Digest::of(&row.row.detail);
        reseal(connection, "UPDATE evidence SET seal = $1 WHERE digest = $2", &digest, &row.seal).await?;
    }
    Ok(())
}

async fn reseal(
    connection: &mut SqliteConnection,
    update: &'static str,
    id: &Digest,
    seal: &Digest,
) -> Result<(), StoreError> {
    let bind = sqlx::query(update).bind(seal.as_bytes().as_slice()).bind(id.as_bytes().as_slice());
    bind.execute(connection).await?;
    Ok(())
}
