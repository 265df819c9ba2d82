//! Saved answers of creating POSTs. Looking up is a read; saving happens in the transaction that does the work,
//! so that either both are stored or neither.

use hbc_types::saved::SavedAnswer;
use hbc_types::{Digest, Timestamp};

use crate::row::{Reader, bad};
use crate::{DbError, ReadPool, Tx};

/// The answer saved under `id`, if there is one.
pub async fn find(reads: &ReadPool, id: Digest) -> Result<Option<SavedAnswer>, DbError> {
    let row = sqlx::query(
        "SELECT fingerprint, status, headers, body, saved_at_ms FROM saved_answers WHERE id = $1",
    )
    .bind(id.to_string())
    .fetch_optional(reads)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let row = Reader(&row);
    Ok(Some(SavedAnswer {
        id,
        fingerprint: row.parsed("fingerprint")?,
        status: row.number("status")?,
        headers: serde_json::from_str(&row.text("headers")?).map_err(|_json| bad("headers"))?,
        body: row.text("body")?,
        saved_at: row.time("saved_at_ms")?,
    }))
}

/// Saves `answer`. A [`DbError::UniqueViolation`] means that a conflicting request with the same key was first: let the
/// job fail with it, then answer with what [`find`] finds.
pub async fn save(tx: &mut Tx, answer: &SavedAnswer) -> Result<(), DbError> {
    sqlx::query(
        "INSERT INTO saved_answers (id, fingerprint, status, headers, body, saved_at_ms)
         VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(answer.id.to_string())
    .bind(answer.fingerprint.to_string())
    .bind(i64::from(answer.status))
    .bind(serde_json::to_string(&answer.headers).map_err(|_json| bad("headers"))?)
    .bind(answer.body.clone())
    .bind(answer.saved_at.ms())
    .execute(tx)
    .await?;
    Ok(())
}

/// Forgets at most `limit` answers saved before `before` and says how many they were.
pub async fn prune(tx: &mut Tx, before: Timestamp, limit: u32) -> Result<u64, DbError> {
    let done = sqlx::query(
        "DELETE FROM saved_answers WHERE id IN (
             SELECT id FROM saved_answers WHERE saved_at_ms < $1 ORDER BY saved_at_ms LIMIT $2)",
    )
    .bind(before.ms())
    .bind(i64::from(limit))
    .execute(tx)
    .await?;
    Ok(done.rows_affected())
}
