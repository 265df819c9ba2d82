//! The one transaction of an upload: records, segments, tokens, conditions and saved answer, or nothing.

use hbc_db::{DbError, Tx};
use hbc_types::ids::{IntentId, RecordId};
use hbc_types::keys::Tag;
use hbc_types::{Digest, Timestamp};
use sqlx::{AssertSqlSafe, Row as _};

use crate::domain::index::Token;
use crate::error::Error;
use crate::store::{RecordRow, stored};

/// Rows of one statement: SQLite takes 32,766 parameters, PostgreSQL 65,535.
const RECORDS_AT_ONCE: usize = 250;
const TOKENS_AT_ONCE: usize = 500;

/// Everything that one upload writes.
#[derive(Debug)]
pub struct Commit {
    /// The upload's intent: it must still be open.
    pub intent: IntentId,
    /// When.
    pub now: Timestamp,
    /// The account's token.
    pub patient: Token,
    /// The IPFS objects.
    pub segments: Vec<NewSegment>,
    /// The records.
    pub records: Vec<NewRecord>,
    /// The account's Patient, if it is among the records.
    pub subject: Option<RecordId>,
}

/// A segment's row.
#[derive(Debug)]
pub struct NewSegment {
    /// The IPFS object.
    pub cid: String,
    /// SHA-256 of the object.
    pub digest: Digest,
    /// Its length.
    pub bytes: u64,
    /// Records in it.
    pub records: u64,
    /// RFC 6962 root over their commitments.
    pub root: Digest,
    /// The anchor's tag.
    pub tag: Tag,
    /// The first clinical day that the anchor says.
    pub day0: i32,
    /// The last one.
    pub day1: i32,
    /// When it may be anchored.
    pub due_at: Timestamp,
    /// Whether it is made to wait.
    pub delayed: bool,
}

/// A record's row and what it is found by.
#[derive(Debug)]
pub struct NewRecord {
    /// The row.
    pub row: RecordRow,
    /// Its search tokens.
    pub tokens: Vec<Token>,
    /// The token of the condition it was created under.
    pub condition: Option<Token>,
    /// Tokens of conditions that its record still meets.
    pub meets: Vec<Token>,
}

/// Commits an upload. [`Error::IntentDead`] if it was given up meanwhile; a unique violation if a conflicting request
/// created the same conditional record, or the account's Patient, or answered the same `Idempotency-Key`, first.
pub async fn commit(tx: &mut Tx, commit: &Commit) -> Result<(), Error> {
    let done = sqlx::query(
        "UPDATE intents SET state = 'committed', settled_at_ms = $2 WHERE id = $1 AND state = 'open'",
    )
    .bind(commit.intent.as_str().to_owned())
    .bind(commit.now.ms())
    .execute(&mut *tx)
    .await?;
    if done.rows_affected() != 1 {
        return Err(Error::IntentDead);
    }
    for (position, segment) in commit.segments.iter().enumerate() {
        insert_segment(tx, commit, position, segment).await?;
    }
    for records in commit.records.chunks(RECORDS_AT_ONCE) {
        insert_records(tx, records).await?;
    }
    // Of a record that has two new versions, the last one counts.
    let last = |record: &&NewRecord| {
        let is_later =
            |other: &NewRecord| other.row.id == record.row.id && other.row.version > record.row.version;
        record.row.version > 1 && !commit.records.iter().any(is_later)
    };
    for record in commit.records.iter().filter(last) {
        forget(tx, record).await?;
    }
    let pairs = |of: fn(&NewRecord) -> &[Token]| {
        let rows =
            commit.records.iter().flat_map(move |record| of(record).iter().map(move |t| (t, &record.row.id)));
        rows.collect::<Vec<_>>()
    };
    insert_pairs(tx, "tokens (token, record)", &pairs(|record| &record.tokens)).await?;
    insert_pairs(tx, "conditions (token, record)", &pairs(|record| record.condition.as_slice())).await?;
    if let Some(subject) = &commit.subject {
        insert_pairs(tx, "subjects (patient, record)", &[(&commit.patient, subject)]).await?;
    }
    Ok(())
}

/// What an earlier version was found by finds it no more. What it still meets stays, without a gap: whoever creates under the same
/// condition at the same time is told.
async fn forget(tx: &mut Tx, record: &NewRecord) -> Result<(), DbError> {
    let id = record.row.id.as_str();
    sqlx::query("DELETE FROM tokens WHERE record = $1").bind(id.to_owned()).execute(&mut *tx).await?;
    let rows = sqlx::query("SELECT token FROM conditions WHERE record = $1")
        .bind(id.to_owned())
        .fetch_all(&mut *tx)
        .await?;
    for row in rows {
        let token: Token = row.try_get("token")?;
        if !record.meets.contains(&token) {
            sqlx::query("DELETE FROM conditions WHERE token = $1").bind(token).execute(&mut *tx).await?;
        }
    }
    Ok(())
}

/// Brings a record that was indexed in an earlier way up to date; nothing happens if it is.
pub async fn index_anew(tx: &mut Tx, record: &NewRecord) -> Result<(), Error> {
    let NewRecord { row, tokens, .. } = record;
    let done = sqlx::query(
        "UPDATE records SET date0 = $3, date1 = $4, encrypted = $5, index_version = $6, facts = $7
         WHERE id = $1 AND version = $2 AND index_version < $6",
    )
    .bind(row.id.as_str().to_owned())
    .bind(i64::from(row.version))
    .bind(row.date0.clone())
    .bind(row.date1.clone())
    .bind(row.encrypted.clone())
    .bind(i64::from(row.index_version))
    .bind(row.facts.clone())
    .execute(&mut *tx)
    .await?;
    if done.rows_affected() == 0 {
        return Ok(());
    }
    // Tokens are of the newest version: what an earlier one says finds the record no more.
    let later = sqlx::query("SELECT version FROM records WHERE id = $1 AND version > $2 LIMIT 1")
        .bind(row.id.as_str().to_owned())
        .bind(i64::from(row.version))
        .fetch_optional(&mut *tx)
        .await?;
    if later.is_some() {
        return Ok(());
    }
    for token in tokens {
        sqlx::query(
            "INSERT INTO tokens (token, record) VALUES ($1, $2) ON CONFLICT (token, record) DO NOTHING",
        )
        .bind(token.clone())
        .bind(row.id.as_str().to_owned())
        .execute(&mut *tx)
        .await?;
    }
    Ok(())
}

async fn insert_segment(
    tx: &mut Tx,
    commit: &Commit,
    position: usize,
    segment: &NewSegment,
) -> Result<(), DbError> {
    sqlx::query(
        "INSERT INTO segments (cid, intent, position, digest, bytes, records, root, tag, patient, created_at_ms,
             spooled_at_ms, day0, day1, due_at_ms, delayed)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $10, $11, $12, $13, $14)",
    )
    .bind(segment.cid.clone())
    .bind(commit.intent.as_str().to_owned())
    .bind(stored(position as u64)?)
    .bind(segment.digest.to_string())
    .bind(stored(segment.bytes)?)
    .bind(stored(segment.records)?)
    .bind(segment.root.to_string())
    .bind(segment.tag.to_string())
    .bind(commit.patient.clone())
    .bind(commit.now.ms())
    .bind(i64::from(segment.day0))
    .bind(i64::from(segment.day1))
    .bind(segment.due_at.ms())
    .bind(i64::from(segment.delayed))
    .execute(tx)
    .await?;
    Ok(())
}

async fn insert_records(tx: &mut Tx, records: &[NewRecord]) -> Result<(), DbError> {
    let sql = insert(&RecordRow::table(), records.len(), RecordRow::COLUMNS.len());
    let mut query = sqlx::query(AssertSqlSafe(sql));
    for record in records {
        query = record.row.bind(query)?;
    }
    query.execute(tx).await?;
    Ok(())
}

async fn insert_pairs(
    tx: &mut Tx,
    table: &'static str,
    pairs: &[(&Token, &RecordId)],
) -> Result<(), DbError> {
    for pairs in pairs.chunks(TOKENS_AT_ONCE) {
        let mut query = sqlx::query(AssertSqlSafe(insert(table, pairs.len(), 2)));
        for (token, record) in pairs {
            query = query.bind((*token).clone()).bind(record.as_str().to_owned());
        }
        query.execute(&mut *tx).await?;
    }
    Ok(())
}

/// `INSERT INTO table (…) VALUES ($1, $2), ($3, $4), …`: of constants and numbers only.
fn insert(table: &str, rows: usize, columns: usize) -> String {
    let mut sql = format!("INSERT INTO {table} VALUES ");
    for row in 0..rows {
        sql.push_str(if row == 0 { "(" } else { ", (" });
        for column in 0..columns {
            let comma = if column == 0 { "" } else { ", " };
            sql.push_str(&format!("{comma}${}", row * columns + column + 1));
        }
        sql.push(')');
    }
    sql
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_statement_numbers_its_parameters() {
        assert_eq!(super::insert("t (a, b)", 2, 2), "INSERT INTO t (a, b) VALUES ($1, $2), ($3, $4)");
    }
}
