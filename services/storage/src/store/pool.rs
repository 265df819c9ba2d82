//! Segments that wait for their anchor, and those that one transaction takes.

use std::collections::HashSet;

use hbc_chain::payload::Segment as AnchorSegment;
use hbc_db::row::{self, Reader};
use hbc_db::{DbError, Tx};
use hbc_types::ids::IntentId;
use hbc_types::keys::Tag;
use hbc_types::{Digest, Timestamp};
use sqlx::any::AnyRow;

use super::stored;

/// Segments of one transaction at most.
const MOST: usize = 64;
/// Waiting segments looked at for one transaction.
const LOOKED_AT: i64 = 256;

/// A waiting segment.
#[derive(Clone, Debug)]
pub struct Waiting {
    /// What the anchor will say of it.
    pub segment: AnchorSegment,
    patient: String,
    alone: bool,
}

/// The segments that the next transaction takes, ascending by their roots: due, and no two of one patient. One that was
/// made to wait is taken while no other of its patient is open, and no other while that one is: so they share no block. Once
/// it is due, others of its patient wait for it, however many come.
/// With `intent`, only that upload's.
pub async fn next(
    tx: &mut Tx,
    intent: Option<&IntentId>,
    now: Timestamp,
) -> Result<Vec<AnchorSegment>, DbError> {
    let rows = sqlx::query(
        "SELECT s.cid, s.digest, s.bytes, s.records, s.root, s.tag, s.day0, s.day1, s.patient, s.alone
         FROM segments AS s
         WHERE s.txid IS NULL AND s.due_at_ms <= $1 AND ($2 = '' OR s.intent = $2) AND NOT EXISTS (
             SELECT 1 FROM segments AS o
             WHERE o.patient = s.patient AND o.txid IS NOT NULL AND o.final_at_ms IS NULL
                 AND o.refused_at_ms IS NULL AND (o.delayed = 1 OR s.delayed = 1))
             AND (s.delayed = 1 OR NOT EXISTS (
                 SELECT 1 FROM segments AS w
                 WHERE w.patient = s.patient AND w.txid IS NULL AND w.delayed = 1 AND w.due_at_ms <= $1))
         ORDER BY s.delayed, s.due_at_ms, s.cid LIMIT $3",
    )
    .bind(now.ms())
    .bind(intent.map_or("", IntentId::as_str).to_owned())
    .bind(LOOKED_AT)
    .fetch_all(tx)
    .await?;
    let waiting: Vec<Waiting> = rows.iter().map(waiting).collect::<Result<_, DbError>>()?;
    Ok(taken(waiting))
}

/// Those of one transaction.
fn taken(waiting: Vec<Waiting>) -> Vec<AnchorSegment> {
    let mut patients = HashSet::new();
    let mut segments = Vec::new();
    for Waiting { segment, patient, alone } in waiting {
        if alone && segments.is_empty() {
            return vec![segment];
        }
        if !alone && segments.len() < MOST && patients.insert(patient) {
            segments.push(segment);
        }
    }
    segments.sort_unstable_by_key(|segment| segment.root);
    segments
}

fn waiting(row: &AnyRow) -> Result<Waiting, DbError> {
    let row = Reader(row);
    Ok(Waiting {
        segment: AnchorSegment {
            bytes: row.number("bytes")?,
            cid: row.text("cid")?,
            day0: row.number("day0")?,
            day1: row.number("day1")?,
            digest: row.parsed("digest")?,
            records: row.number("records")?,
            root: row.parsed("root")?,
            tag: row.code("tag", |text| Tag::parse(text).ok())?,
        },
        patient: row.text("patient")?,
        alone: row.number::<i64>("alone")? == 1,
    })
}

/// These segments stand in this transaction, in this order.
pub async fn anchored(tx: &mut Tx, segments: &[AnchorSegment], txid: Digest) -> Result<(), DbError> {
    for (place, segment) in segments.iter().enumerate() {
        let done = sqlx::query(
            "UPDATE segments SET txid = $2, place = $3, due_at_ms = NULL WHERE cid = $1 AND txid IS NULL",
        )
        .bind(segment.cid.clone())
        .bind(txid.to_string())
        .bind(stored(place as u64)?)
        .execute(&mut *tx)
        .await?;
        DbError::one_row(done.rows_affected())?;
    }
    Ok(())
}

/// When the next waiting segment of an upload may be anchored; none if none waits.
pub async fn next_due(tx: &mut Tx, intent: &IntentId) -> Result<Option<Timestamp>, DbError> {
    let found = sqlx::query("SELECT min(due_at_ms) AS due FROM segments WHERE txid IS NULL AND intent = $1")
        .bind(intent.as_str().to_owned())
        .fetch_one(tx)
        .await?;
    Reader(&found).time_opt("due")
}

/// The uploads whose segments a transaction has.
pub async fn intents(tx: &mut Tx, txid: Digest) -> Result<Vec<IntentId>, DbError> {
    let rows = sqlx::query("SELECT DISTINCT intent FROM segments WHERE txid = $1 ORDER BY intent")
        .bind(txid.to_string())
        .fetch_all(tx)
        .await?;
    rows.iter().map(|row| Reader(row).parsed("intent")).collect()
}

/// Of a refused transaction that took several, each waits anew, to stand alone: so the guilty one is told from the others.
/// Says whether that is so.
pub async fn release(tx: &mut Tx, txid: Digest, now: Timestamp) -> Result<bool, DbError> {
    let count = sqlx::query("SELECT CAST(count(*) AS BIGINT) AS count FROM segments WHERE txid = $1")
        .bind(txid.to_string())
        .fetch_one(&mut *tx)
        .await?;
    if Reader(&count).number::<u64>("count")? < 2 {
        return Ok(false);
    }
    sqlx::query("UPDATE segments SET txid = NULL, place = NULL, alone = 1, due_at_ms = $2 WHERE txid = $1")
        .bind(txid.to_string())
        .bind(row::ms(Some(now)))
        .execute(tx)
        .await?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(number: u8, patient: &str, alone: bool) -> Waiting {
        let segment = AnchorSegment {
            bytes: 1,
            cid: String::new(),
            day0: 0,
            day1: 0,
            digest: Digest::ZERO,
            records: 1,
            root: Digest::of(&[number]),
            tag: Tag::from_bytes([0; 16]),
        };
        Waiting { segment, patient: patient.to_owned(), alone }
    }

    fn patients(count: u8) -> Vec<Waiting> {
        (0..count).map(|number| of(number, &number.to_string(), false)).collect()
    }

    #[test]
    fn a_transaction_takes_one_of_each_patient_in_an_order_that_tells_nothing() {
        let mut waiting = patients(3);
        waiting.push(of(9, "1", false));
        let taken = taken(waiting);
        assert_eq!(taken.len(), 3);
        assert!(taken.is_sorted_by_key(|segment| segment.root));
        assert!(taken.iter().all(|segment| segment.root != Digest::of(&[9])));
        assert_eq!(super::taken(patients(100)).len(), MOST);
    }

    #[test]
    fn one_that_must_stand_alone_does() {
        let mut waiting = vec![of(9, "x", true)];
        waiting.extend(patients(3));
        assert_eq!(taken(waiting.clone()).len(), 1);
        waiting.rotate_left(1);
        assert_eq!(taken(waiting).len(), 3, "its turn comes");
    }
}
