//! The one place where rows that no block proves are written: authenticated, and told to memory, which knows them all.

use std::collections::HashSet;

use hbc_types::Digest;
use sqlx::sqlite::SqliteConnection;
use sqlx::{QueryBuilder, Sqlite};

use super::inventory::{Change, Inventory};
use super::{
    Authenticated as _, MOST_EVIDENCE, MacKey, ROWS_PER_STATEMENT, StoreError, StoredEvidence, StoredPromise,
    StoredRefusal, Table, signed,
};

/// Where rows are written: the connection, the key of their MACs, what is there already, and what comes to it.
pub(super) struct RowWriter<'a> {
    pub connection: &'a mut SqliteConnection,
    pub key: &'a MacKey,
    pub inventory: Option<&'a Inventory>,
    pub change: &'a mut Change,
}

impl RowWriter<'_> {
    fn has(&self, table: Table, id: &Digest) -> bool {
        self.inventory.is_some_and(|inventory| inventory.has(table, id))
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
            .map(|promise| (promise, promise.mac(self.key, received_at_ms)))
            .collect();
        for rows in fresh.chunks(ROWS_PER_STATEMENT) {
            let mut query =
                QueryBuilder::<Sqlite>::new("INSERT INTO promises (txid, jws, received_at_ms, mac) ");
            query.push_values(rows, |mut row, (promise, mac)| {
                row.push_bind(promise.txid.as_bytes().to_vec())
                    .push_bind(promise.jws.clone())
                    .push_bind(received_at_ms)
                    .push_bind(mac.as_bytes().to_vec());
            });
            query.push(" ON CONFLICT (txid) DO NOTHING");
            query.build().execute(&mut *self.connection).await?;
        }
        let added = fresh.into_iter().map(|(promise, mac)| (Table::Promises, promise.txid, mac));
        self.change.added.extend(added);
        Ok(())
    }

    pub(super) async fn refusal(&mut self, refusal: &StoredRefusal, now_ms: i64) -> Result<(), StoreError> {
        let mac = refusal.mac(self.key, now_ms);
        let StoredRefusal { txid, jws, reason, excluded_by } = refusal;
        let done = sqlx::query(
            "INSERT INTO refusals (txid, jws, reason, excluded_by, refused_at_ms, mac)
             VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (txid) DO NOTHING",
        )
        .bind(txid.as_bytes().as_slice())
        .bind(jws.as_slice())
        .bind(reason.as_str())
        .bind(excluded_by.map(|txid| txid.as_bytes().to_vec()))
        .bind(now_ms)
        .bind(mac.as_bytes().as_slice())
        .execute(&mut *self.connection)
        .await?;
        if done.rows_affected() > 0 && !self.has(Table::Refusals, txid) {
            self.change.added.push((Table::Refusals, *txid, mac));
        }
        Ok(())
    }

    pub(super) async fn evidence(
        &mut self,
        evidence: &StoredEvidence,
        now_ms: i64,
    ) -> Result<(), StoreError> {
        let (digest, mac) = (Digest::of(&evidence.detail), evidence.mac(self.key, now_ms));
        let StoredEvidence { kind, member, height, detail } = evidence;
        let done = sqlx::query(
            "INSERT INTO evidence (digest, kind, member, height, detail, seen_at_ms, mac)
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
        .bind(mac.as_bytes().as_slice())
        .bind(MOST_EVIDENCE)
        .execute(&mut *self.connection)
        .await?;
        if done.rows_affected() > 0 && !self.has(Table::Evidence, &digest) {
            self.change.added.push((Table::Evidence, digest, mac));
        }
        Ok(())
    }

    /// Removes the oldest refusals beyond so many.
    pub(super) async fn forget_old_refusals(&mut self, kept: usize) -> Result<(), StoreError> {
        let more = self.change.added.iter().filter(|(table, ..)| *table == Table::Refusals).count();
        let surplus = self
            .inventory
            .map(|inventory| inventory.surplus_refusals(more, kept).copied().collect::<Vec<_>>());
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
