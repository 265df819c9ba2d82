//! How far the service followed the chain. The position is stored in the transaction that applies the block.

use hbc_types::Timestamp;
use hbc_types::outbox::FollowPosition;

use crate::row::{Reader, stored};
use crate::{DbError, ReadPool, Tx};

/// The position on `chain` (its id), or nothing before the first block.
pub async fn position(reads: &ReadPool, chain: &str) -> Result<Option<FollowPosition>, DbError> {
    let row = sqlx::query("SELECT height, block_hash, state FROM chain_follow WHERE chain = $1")
        .bind(chain)
        .fetch_optional(reads)
        .await?;
    let Some(row) = row else { return Ok(None) };
    let row = Reader(&row);
    Ok(Some(FollowPosition {
        height: row.number("height")?,
        block_hash: row.parsed("block_hash")?,
        state: row.text("state")?,
    }))
}

/// Moves the position on `chain` to `to`. Blocks are applied one after the other: when the stored height is not
/// the one just below, another process was faster and the job fails with [`DbError::RowCount`].
pub async fn advance(tx: &mut Tx, chain: &str, to: &FollowPosition, now: Timestamp) -> Result<(), DbError> {
    let done = sqlx::query(
        "INSERT INTO chain_follow (chain, height, block_hash, state, updated_at_ms)
         VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (chain) DO UPDATE SET height = excluded.height, block_hash = excluded.block_hash,
             state = excluded.state, updated_at_ms = excluded.updated_at_ms
         WHERE chain_follow.height = excluded.height - 1",
    )
    .bind(chain)
    .bind(stored(to.height, "height")?)
    .bind(to.block_hash.to_string())
    .bind(to.state.clone())
    .bind(now.ms())
    .execute(tx)
    .await?;
    DbError::one_row(done.rows_affected())
}
