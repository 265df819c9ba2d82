//! How much each author wrote.
//!
//! Why: decision 0118.

use hbc_db::{DbError, Tx};
use sqlx::Row as _;

use crate::domain::index::Token;
use crate::domain::quota::Written;

/// What an author wrote, on `day` and ever.
pub async fn of(tx: &mut Tx, author: &Token, day: i64) -> Result<Written, DbError> {
    let row = sqlx::query("SELECT total, day, of_day FROM written WHERE author = $1")
        .bind(author.clone())
        .fetch_optional(tx)
        .await?;
    let Some(row) = row else { return Ok(Written { total: 0, of_day: 0 }) };
    let number = |column| -> Result<u64, DbError> {
        u64::try_from(row.try_get::<i64, _>(column)?).map_err(|_negative| DbError::BadValue { column })
    };
    let of_day = if row.try_get::<i64, _>("day")? == day { number("of_day")? } else { 0 };
    Ok(Written { total: number("total")?, of_day })
}

/// Adds to it.
pub async fn add(tx: &mut Tx, author: &Token, day: i64, bytes: u64) -> Result<(), DbError> {
    sqlx::query(
        "INSERT INTO written (author, total, day, of_day) VALUES ($1, $2, $3, $2)
         ON CONFLICT (author) DO UPDATE SET
             total = written.total + excluded.total,
             of_day = CASE WHEN written.day = excluded.day THEN written.of_day + excluded.of_day ELSE excluded.of_day END,
             day = excluded.day",
    )
    .bind(author.clone())
    .bind(super::stored(bytes)?)
    .bind(day)
    .execute(tx)
    .await?;
    Ok(())
}
