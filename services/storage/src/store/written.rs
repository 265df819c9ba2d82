//! How much each author wrote.
//!
//! Why: decision 0118.

use hbc_db::row::Reader;
use hbc_db::{DbError, Tx};

use super::stored;
use crate::domain::index::Token;
use crate::domain::quota::Written;

/// What an author wrote, on `day` and ever.
pub async fn of(tx: &mut Tx, author: &Token, day: i64) -> Result<Written, DbError> {
    let row = sqlx::query("SELECT total, day, of_day FROM written WHERE author = $1")
        .bind(author.clone())
        .fetch_optional(tx)
        .await?;
    let Some(row) = row else { return Ok(Written { total: 0, of_day: 0 }) };
    let row = Reader(&row);
    let of_day = if row.number::<i64>("day")? == day { row.number("of_day")? } else { 0 };
    Ok(Written { total: row.number("total")?, of_day })
}

/// Adds to it, and says what it is then.
pub async fn add(tx: &mut Tx, author: &Token, day: i64, bytes: u64) -> Result<Written, DbError> {
    let row = sqlx::query(
        "INSERT INTO written (author, total, day, of_day) VALUES ($1, $2, $3, $2)
         ON CONFLICT (author) DO UPDATE SET
             total = written.total + excluded.total,
             of_day = CASE WHEN written.day = excluded.day THEN written.of_day + excluded.of_day ELSE excluded.of_day END,
             day = excluded.day
         RETURNING total, of_day",
    )
    .bind(author.clone())
    .bind(stored(bytes)?)
    .bind(day)
    .fetch_one(tx)
    .await?;
    let row = Reader(&row);
    Ok(Written { total: row.number("total")?, of_day: row.number("of_day")? })
}
