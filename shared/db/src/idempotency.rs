//! Saved answers of creating POSTs. Looking up is a read; saving happens in the transaction that does the work,
//! so that either both are stored or neither.

use hbc_types::saved::SavedAnswer;
use hbc_types::{Digest, Timestamp};
use sqlx::Row;

use crate::{DbError, ReadPool, Tx};

/// The answer saved under `id`, if there is one.
pub async fn find(reads: &ReadPool, id: Digest) -> Result<Option<SavedAnswer>, DbError> {
    let row = sqlx::query(
        "SELECT fingerprint, status, location, body, saved_at_ms FROM saved_answers WHERE id = $1",
    )
    .bind(id.to_string())
    .fetch_optional(reads)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let fingerprint: String = row.try_get("fingerprint")?;
    let status: i64 = row.try_get("status")?;
    Ok(Some(SavedAnswer {
        id,
        fingerprint: Digest::parse(&fingerprint)
            .map_err(|_text| DbError::BadValue { column: "fingerprint" })?,
        status: u16::try_from(status).map_err(|_range| DbError::BadValue { column: "status" })?,
        location: row.try_get("location")?,
        body: row.try_get("body")?,
        saved_at: Timestamp::from_ms(row.try_get("saved_at_ms")?),
    }))
}

/// Saves `answer`. A [`DbError::UniqueViolation`] means that a rival request with the same key was first: let the
/// job fail with it, then answer with what [`find`] finds.
pub async fn save(tx: &mut Tx, answer: &SavedAnswer) -> Result<(), DbError> {
    sqlx::query(
        "INSERT INTO saved_answers (id, fingerprint, status, location, body, saved_at_ms)
         VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(answer.id.to_string())
    .bind(answer.fingerprint.to_string())
    .bind(i64::from(answer.status))
    .bind(answer.location.clone())
    .bind(answer.body.clone())
    .bind(answer.saved_at.ms())
    .execute(tx)
    .await?;
    Ok(())
}

/// Forgets the answers saved before `before` and says how many they were.
pub async fn prune(tx: &mut Tx, before: Timestamp) -> Result<u64, DbError> {
    let done =
        sqlx::query("DELETE FROM saved_answers WHERE saved_at_ms < $1").bind(before.ms()).execute(tx).await?;
    Ok(done.rows_affected())
}
