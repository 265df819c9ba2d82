//! The one place where rows that no block proves are written: sealed, and told to memory, which knows them all.

use std::collections::HashSet;

use hbc_types::Digest;
use sqlx::sqlite::SqliteConnection;
use sqlx::{QueryBuilder, Sqlite};

use super::stock::{Change, Stock};
use super::{
    MOST_EVIDENCE, ROWS_PER_STATEMENT, SealKey, Sealed as _, StoreError, StoredEvidence, StoredPromise,
    StoredRefusal, Table, signed,
};

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
        let done = sqlx::query(
            "INSERT INTO refusals (txid, jws, reason, excluded_by, refused_at_ms, seal)
             VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (txid) DO NOTHING",
        )
        .bind(refusal.txid.as_bytes().as_slice())
        .bind(refusal.jws.as_slice())
        .bind(refusal.reason.as_str())
        .bind(refusal.excluded_by.map(|txid| txid.as_bytes().to_vec()))
        .bind(now_ms)
        .bind(seal.as_bytes().as_slice())
        .execute(&mut *self.connection)
        .await?;
        if done.rows_affected() > 0 && !self.has(Table::Refusals, &refusal.txid) {
            self.change.added.push((Table::Refusals, refusal.txid, seal));
        }
        Ok(())
    }

    pub(super) async fn evidence(
        &mut self,
        evidence: &StoredEvidence,
        now_ms: i64,
    ) -> Result<(), StoreError> {
        let (digest, seal) = (Digest::of(&evidence.detail), evidence.seal(self.key, now_ms));
        let done = sqlx::query(
            "INSERT INTO evidence (digest, kind, member, height, detail, seen_at_ms, seal)
             SELECT $1, $2, $3, $4, $5, $6, $7
             WHERE (SELECT count(*) FROM evidence WHERE kind = $2 AND member IS $3) < $8
             ON CONFLICT (digest) DO NOTHING",
        )
        .bind(digest.as_bytes().as_slice())
        .bind(evidence.kind.as_ref())
        .bind(evidence.member.map(|member| member.to_vec()))
        .bind(signed(evidence.height)?)
        .bind(evidence.detail.as_slice())
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
