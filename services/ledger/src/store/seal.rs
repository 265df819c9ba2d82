//! Rows that no block proves (promises, refusals, evidence) carry a keyed digest over their columns, so that a
//! row written by anybody but this member is told from its own.

use hbc_types::Digest;
use hbc_types::hash::domain_hash;
use sqlx::sqlite::SqliteConnection;
use sqlx::{QueryBuilder, Sqlite};

use super::{
    MOST_EVIDENCE, ROWS_PER_STATEMENT, StoreError, StoredEvidence, StoredPromise, StoredRefusal, signed,
};

/// The key under which rows that prove nothing by themselves are sealed.
#[derive(Clone)]
pub struct SealKey {
    key: [u8; 32],
    /// The key before, while it is being changed: what it sealed holds.
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

    pub(super) fn seal(&self, table: &str, columns: &[&[u8]]) -> Vec<u8> {
        sealed(&self.key, table, columns)
    }

    /// The key that was used before, by itself.
    pub(super) fn before(&self) -> Option<Self> {
        self.earlier.map(|key| Self { key, earlier: None })
    }
}

fn derived(key: &ed25519_dalek::SigningKey) -> [u8; 32] {
    *domain_hash("hbc/ledger-row-key/v1", &[key.as_bytes()]).as_bytes()
}

fn sealed(key: &[u8; 32], table: &str, columns: &[&[u8]]) -> Vec<u8> {
    let mut parts: Vec<&[u8]> = vec![key, table.as_bytes()];
    parts.extend_from_slice(columns);
    domain_hash("hbc/ledger-row/v1", &parts).as_bytes().to_vec()
}

impl std::fmt::Debug for SealKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SealKey(…)")
    }
}

impl StoredPromise {
    pub(super) fn seal(&self, key: &SealKey, received_at_ms: i64) -> Vec<u8> {
        key.seal("promises", &[self.txid.as_bytes(), &self.jws, &received_at_ms.to_be_bytes()])
    }
}

impl StoredRefusal {
    pub(super) fn seal(&self, key: &SealKey, refused_at_ms: i64) -> Vec<u8> {
        let excluded_by = self.excluded_by.map(|by| by.as_bytes().to_vec()).unwrap_or_default();
        let columns: [&[u8]; 5] = [
            self.txid.as_bytes(),
            &self.jws,
            self.reason.as_bytes(),
            &excluded_by,
            &refused_at_ms.to_be_bytes(),
        ];
        key.seal("refusals", &columns)
    }
}

impl StoredEvidence {
    pub(super) fn seal(&self, key: &SealKey, seen_at_ms: i64) -> Vec<u8> {
        let member = self.member.map(|member| member.to_vec()).unwrap_or_default();
        let columns: [&[u8]; 5] = [
            self.kind.as_bytes(),
            &member,
            &self.height.to_be_bytes(),
            &self.detail,
            &seen_at_ms.to_be_bytes(),
        ];
        key.seal("evidence", &columns)
    }
}

/// One statement for many; what is there stays.
pub(super) async fn insert_promises(
    connection: &mut SqliteConnection,
    key: &SealKey,
    promises: &[StoredPromise],
    received_at_ms: i64,
) -> Result<(), StoreError> {
    for rows in promises.chunks(ROWS_PER_STATEMENT) {
        let mut query =
            QueryBuilder::<Sqlite>::new("INSERT INTO promises (txid, jws, received_at_ms, seal) ");
        query.push_values(rows, |mut row, promise| {
            row.push_bind(promise.txid.as_bytes().to_vec())
                .push_bind(promise.jws.clone())
                .push_bind(received_at_ms)
                .push_bind(promise.seal(key, received_at_ms));
        });
        query.push(" ON CONFLICT (txid) DO NOTHING");
        query.build().execute(&mut *connection).await?;
    }
    Ok(())
}

pub(super) async fn insert_refusal(
    connection: &mut SqliteConnection,
    key: &SealKey,
    refusal: &StoredRefusal,
    now_ms: i64,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO refusals (txid, jws, reason, excluded_by, refused_at_ms, seal)
         VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (txid) DO NOTHING",
    )
    .bind(refusal.txid.as_bytes().as_slice())
    .bind(refusal.jws.as_slice())
    .bind(refusal.reason.as_str())
    .bind(refusal.excluded_by.map(|txid| txid.as_bytes().to_vec()))
    .bind(now_ms)
    .bind(refusal.seal(key, now_ms))
    .execute(connection)
    .await?;
    Ok(())
}

pub(super) async fn insert_evidence(
    connection: &mut SqliteConnection,
    key: &SealKey,
    evidence: &StoredEvidence,
    now_ms: i64,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO evidence (digest, kind, member, height, detail, seen_at_ms, seal)
         SELECT $1, $2, $3, $4, $5, $6, $7
         WHERE (SELECT count(*) FROM evidence WHERE kind = $2 AND member IS $3) < $8
         ON CONFLICT (digest) DO NOTHING",
    )
    .bind(Digest::of(&evidence.detail).as_bytes().as_slice())
    .bind(evidence.kind.as_ref())
    .bind(evidence.member.map(|member| member.to_vec()))
    .bind(signed(evidence.height)?)
    .bind(evidence.detail.as_slice())
    .bind(now_ms)
    .bind(evidence.seal(key, now_ms))
    .bind(MOST_EVIDENCE)
    .execute(connection)
    .await?;
    Ok(())
}
