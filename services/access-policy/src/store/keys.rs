//! Key-encryption keys, record numbers and write intents.
//!
//! Why: decision 0130.

use std::collections::{BTreeMap, BTreeSet};

use hbc_db::row::{self, Reader};
use hbc_db::{DbError, Tx};
use hbc_types::ids::{AccountId, IntentId, PatientId, ReceiptId};
use hbc_types::labels::{Category, Sensitivity};
use hbc_types::purpose::Purpose;
use hbc_types::ranges::Ranges;
use hbc_types::wire::access::Labels;
use hbc_types::{Digest, Timestamp};
use sqlx::any::AnyRow;

use crate::domain::keys::KekId;
use crate::domain::numbers::{NumberRange, Piece, RangeState, SetState};
use crate::error::Error;

/// The wrap of a KEK, if that one was made.
pub async fn kek(tx: &mut Tx, id: &KekId) -> Result<Option<Vec<u8>>, Error> {
    let row =
        sqlx::query("SELECT wrapped FROM keks WHERE patient = $1 AND sensitivity = $2 AND kek_epoch = $3")
            .bind(id.patient.as_str().to_owned())
            .bind(id.sensitivity.code())
            .bind(i64::from(id.epoch))
            .fetch_optional(tx)
            .await?;
    Ok(row.map(|row| Reader(&row).bytes("wrapped")).transpose()?)
}

/// Stores the wrap of a new KEK.
pub async fn insert_kek(tx: &mut Tx, id: &KekId, wrapped: &[u8], now: Timestamp) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO keks (patient, sensitivity, kek_epoch, wrapped, created_at_ms) VALUES ($1, $2, $3, $4, $5)",
    )
    .bind(id.patient.as_str().to_owned())
    .bind(id.sensitivity.code())
    .bind(i64::from(id.epoch))
    .bind(wrapped.to_vec())
    .bind(now.ms())
    .execute(tx)
    .await?;
    Ok(())
}

/// All KEKs of a patient, wrapped.
pub async fn keks_of(tx: &mut Tx, patient: &PatientId) -> Result<Vec<(KekId, Vec<u8>)>, Error> {
    let rows = sqlx::query("SELECT sensitivity, kek_epoch, wrapped FROM keks WHERE patient = $1")
        .bind(patient.as_str().to_owned())
        .fetch_all(tx)
        .await?;
    let read = |row| {
        let row = Reader(row);
        let sensitivity = row.code("sensitivity", Sensitivity::parse)?;
        let id = KekId { patient: patient.clone(), sensitivity, epoch: row.number("kek_epoch")? };
        Ok((id, row.bytes("wrapped")?))
    };
    rows.iter().map(read).collect()
}

/// Replaces the wrap of a KEK.
pub async fn rewrap_kek(tx: &mut Tx, id: &KekId, wrapped: &[u8]) -> Result<(), Error> {
    let done = sqlx::query(
        "UPDATE keks SET wrapped = $4 WHERE patient = $1 AND sensitivity = $2 AND kek_epoch = $3",
    )
    .bind(id.patient.as_str().to_owned())
    .bind(id.sensitivity.code())
    .bind(i64::from(id.epoch))
    .bind(wrapped.to_vec())
    .execute(tx)
    .await?;
    Ok(DbError::one_row(done.rows_affected())?)
}

fn labels(row: &AnyRow) -> Result<Labels, DbError> {
    let row = Reader(row);
    Ok(Labels {
        category: row.code("category", Category::parse)?,
        sensitivity: row.code("sensitivity", Sensitivity::parse)?,
    })
}

/// Takes the next `count` numbers of a label set for an intent.
pub async fn take_numbers(
    tx: &mut Tx,
    patient: &PatientId,
    labels: Labels,
    count: u64,
    intent: &IntentId,
) -> Result<NumberRange, Error> {
    let row = sqlx::query(
        "INSERT INTO number_sets (patient, sensitivity, category, n_max) VALUES ($1, $2, $3, $4)
         ON CONFLICT (patient, sensitivity, category)
         DO UPDATE SET n_max = number_sets.n_max + excluded.n_max
         RETURNING n_max",
    )
    .bind(patient.as_str().to_owned())
    .bind(labels.sensitivity.code())
    .bind(labels.category.code())
    .bind(row::stored(count, "n_max")?)
    .fetch_one(&mut *tx)
    .await?;
    let last: u64 = Reader(&row).number("n_max")?;
    let first = last.saturating_sub(count) + 1;
    let range = NumberRange { labels, first, last, intent: intent.clone(), state: RangeState::Open };
    insert_range(tx, patient, &range, None).await?;
    Ok(range)
}

async fn insert_range(
    tx: &mut Tx,
    patient: &PatientId,
    range: &NumberRange,
    settled: Option<(Digest, Vec<u8>)>,
) -> Result<(), Error> {
    let (txid, commitments) = settled.unzip();
    sqlx::query(
        "INSERT INTO number_ranges (patient, sensitivity, category, first_n, last_n, intent, state, txid,
             commitments)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    )
    .bind(patient.as_str().to_owned())
    .bind(range.labels.sensitivity.code())
    .bind(range.labels.category.code())
    .bind(row::stored(range.first, "first_n")?)
    .bind(row::stored(range.last, "last_n")?)
    .bind(range.intent.as_str().to_owned())
    .bind(range.state.code())
    .bind(txid.map(|txid| txid.to_string()))
    .bind(commitments)
    .execute(tx)
    .await?;
    Ok(())
}

/// All ranges of an intent.
pub async fn ranges(tx: &mut Tx, intent: &IntentId) -> Result<Vec<NumberRange>, Error> {
    let rows = sqlx::query(
        "SELECT sensitivity, category, first_n, last_n, intent, state FROM number_ranges WHERE intent = $1
         ORDER BY sensitivity, category, first_n",
    )
    .bind(intent.as_str().to_owned())
    .fetch_all(tx)
    .await?;
    let read = |row: &AnyRow| {
        Ok(NumberRange {
            labels: labels(row)?,
            first: Reader(row).number("first_n")?,
            last: Reader(row).number("last_n")?,
            intent: Reader(row).parsed("intent")?,
            state: Reader(row).code("state", RangeState::parse)?,
        })
    };
    rows.iter().map(read).collect()
}

/// Replaces an open range by its pieces after some of its numbers became final.
pub async fn settle_range(
    tx: &mut Tx,
    patient: &PatientId,
    range: &NumberRange,
    pieces: Vec<Piece>,
    txid: Digest,
) -> Result<(), Error> {
    let done = sqlx::query(
        "DELETE FROM number_ranges
         WHERE patient = $1 AND sensitivity = $2 AND category = $3 AND first_n = $4 AND state = 'open'",
    )
    .bind(patient.as_str().to_owned())
    .bind(range.labels.sensitivity.code())
    .bind(range.labels.category.code())
    .bind(row::stored(range.first, "first_n")?)
    .execute(&mut *tx)
    .await?;
    DbError::one_row(done.rows_affected())?;
    for piece in pieces {
        let state = if piece.commitments.is_some() { RangeState::Final } else { RangeState::Open };
        let part = NumberRange { first: piece.first, last: piece.last, state, ..range.clone() };
        insert_range(tx, patient, &part, piece.commitments.map(|bytes| (txid, bytes))).await?;
    }
    Ok(())
}

/// Voids an open range. Void ranges that it touches become one with it: however many uploads fail, readers meet one row.
pub async fn void_range(tx: &mut Tx, patient: &PatientId, range: &NumberRange) -> Result<(), Error> {
    let neighbours = sqlx::query(
        "DELETE FROM number_ranges
         WHERE patient = $1 AND sensitivity = $2 AND category = $3 AND state = 'void' AND (
             (last_n = $4 - 1 AND first_n = (SELECT max(first_n) FROM number_ranges
                 WHERE patient = $1 AND sensitivity = $2 AND category = $3 AND first_n < $4))
             OR first_n = $5 + 1)
         RETURNING first_n, last_n",
    )
    .bind(patient.as_str().to_owned())
    .bind(range.labels.sensitivity.code())
    .bind(range.labels.category.code())
    .bind(row::stored(range.first, "first_n")?)
    .bind(row::stored(range.last, "last_n")?)
    .fetch_all(&mut *tx)
    .await?;
    let (mut first, mut last) = (range.first, range.last);
    for neighbour in &neighbours {
        first = first.min(Reader(neighbour).number("first_n")?);
        last = last.max(Reader(neighbour).number("last_n")?);
    }
    let done = sqlx::query(
        "UPDATE number_ranges SET state = 'void', first_n = $5, last_n = $6
         WHERE patient = $1 AND sensitivity = $2 AND category = $3 AND first_n = $4 AND state = 'open'",
    )
    .bind(patient.as_str().to_owned())
    .bind(range.labels.sensitivity.code())
    .bind(range.labels.category.code())
    .bind(row::stored(range.first, "first_n")?)
    .bind(row::stored(first, "first_n")?)
    .bind(row::stored(last, "last_n")?)
    .execute(tx)
    .await?;
    Ok(DbError::one_row(done.rows_affected())?)
}

/// Void pieces that are read at once where several numbers are asked about.
const PIECES: i64 = 1_000;

/// Of these numbers of one label set, those that were handed out and are not void. What it costs depends on how many are asked
/// about, not on what happened to the set.
pub async fn kept(
    tx: &mut Tx,
    patient: &PatientId,
    labels: Labels,
    numbers: &BTreeSet<u64>,
) -> Result<BTreeSet<u64>, Error> {
    let row = sqlx::query(
        "SELECT n_max FROM number_sets WHERE patient = $1 AND sensitivity = $2 AND category = $3",
    )
    .bind(patient.as_str().to_owned())
    .bind(labels.sensitivity.code())
    .bind(labels.category.code())
    .fetch_optional(&mut *tx)
    .await?;
    let Some(row) = row else { return Ok(BTreeSet::new()) };
    let n_max: u64 = Reader(&row).number("n_max")?;
    let given: Vec<u64> = numbers.iter().copied().filter(|n| (1..=n_max).contains(n)).collect();
    let (Some(least), Some(most)) = (given.first(), given.last()) else { return Ok(BTreeSet::new()) };
    let pieces = void_pieces(tx, patient, labels, (*least, *most)).await?;
    let few = i64::try_from(pieces.len()).is_ok_and(|count| count < PIECES);
    let voided = Ranges::of(pieces);
    let mut kept = BTreeSet::new();
    for n in given {
        let is_void = if few {
            voided.contains(n)
        } else {
            Ranges::of(void_pieces(tx, patient, labels, (n, n)).await?).contains(n)
        };
        if !is_void {
            kept.insert(n);
        }
    }
    Ok(kept)
}

/// The first void pieces between two numbers, and the last one that begins before them.
async fn void_pieces(
    tx: &mut Tx,
    patient: &PatientId,
    labels: Labels,
    (least, most): (u64, u64),
) -> Result<Vec<[u64; 2]>, Error> {
    let rows = sqlx::query(
        "SELECT first_n, last_n FROM number_ranges
         WHERE patient = $1 AND sensitivity = $2 AND category = $3 AND state = 'void' AND first_n <= $5
             AND first_n >= coalesce((SELECT max(first_n) FROM number_ranges
                 WHERE patient = $1 AND sensitivity = $2 AND category = $3 AND state = 'void' AND first_n <= $4), 0)
         ORDER BY first_n LIMIT $6",
    )
    .bind(patient.as_str().to_owned())
    .bind(labels.sensitivity.code())
    .bind(labels.category.code())
    .bind(row::stored(least, "n")?)
    .bind(row::stored(most, "n")?)
    .bind(PIECES)
    .fetch_all(tx)
    .await?;
    let piece = |row: &AnyRow| Ok([Reader(row).number("first_n")?, Reader(row).number("last_n")?]);
    rows.iter().map(piece).collect()
}

/// The number states of all label sets of a patient.
pub async fn sets(tx: &mut Tx, patient: &PatientId) -> Result<BTreeMap<Labels, SetState>, Error> {
    let rows = sqlx::query(
        "SELECT s.sensitivity, s.category, s.n_max, r.first_n, r.last_n, r.state
         FROM number_sets AS s
         LEFT JOIN number_ranges AS r ON r.patient = s.patient AND r.sensitivity = s.sensitivity
             AND r.category = s.category AND r.state <> 'final'
         WHERE s.patient = $1",
    )
    .bind(patient.as_str().to_owned())
    .fetch_all(tx)
    .await?;
    Ok(sets_of(&rows)?)
}

/// A set as its rows are read.
#[derive(Default)]
struct FoundSet {
    n_max: u64,
    open: Vec<[u64; 2]>,
    voided: Vec<[u64; 2]>,
}

fn sets_of(rows: &[AnyRow]) -> Result<BTreeMap<Labels, SetState>, DbError> {
    let mut sets: BTreeMap<Labels, FoundSet> = BTreeMap::new();
    for row in rows {
        let set = sets.entry(labels(row)?).or_default();
        let row = Reader(row);
        set.n_max = row.number("n_max")?;
        if let Some(first) = row.number_opt("first_n")? {
            let of_state = match row.code("state", RangeState::parse)? {
                RangeState::Void => &mut set.voided,
                RangeState::Open | RangeState::Final => &mut set.open,
            };
            of_state.push([first, row.number("last_n")?]);
        }
    }
    let states = sets.into_iter().map(|(labels, FoundSet { n_max, open, voided })| {
        (labels, SetState { n_max, open: Ranges::of(open), voided: Ranges::of(voided) })
    });
    Ok(states.collect())
}

/// A write intent that got numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Intent {
    /// Its id.
    pub id: IntentId,
    /// Whose records.
    pub patient: PatientId,
    /// Who writes.
    pub actor: AccountId,
    /// Why.
    pub purpose: Purpose,
    /// Digest of the request.
    pub fingerprint: Digest,
    /// Sensitivity of the KEK that wraps the seed.
    pub sensitivity: Sensitivity,
    /// Epoch of all its KEKs.
    pub kek_epoch: u32,
    /// The wrapped seed; gone when the intent is closed.
    pub seed: Option<Vec<u8>>,
    /// The receipt of the write.
    pub receipt: Option<ReceiptId>,
}

/// What is known of an intent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IntentState {
    /// It got numbers and is not settled.
    Open(Box<Intent>),
    /// All its numbers are final.
    Anchored,
    /// It is dead, possibly before it ever asked.
    Void,
}

/// An intent by its id.
pub async fn intent(tx: &mut Tx, id: &IntentId) -> Result<Option<IntentState>, Error> {
    let row = sqlx::query("SELECT * FROM intents WHERE id = $1")
        .bind(id.as_str().to_owned())
        .fetch_optional(tx)
        .await?;
    let Some(row) = row else { return Ok(None) };
    let state = Reader(&row).text("state")?;
    Ok(Some(match state.as_str() {
        "void" => IntentState::Void,
        "anchored" => IntentState::Anchored,
        "open" => IntentState::Open(Box::new(read_intent(&row)?)),
        _ => return Err(DbError::BadValue { column: "state" }.into()),
    }))
}

fn read_intent(row: &AnyRow) -> Result<Intent, DbError> {
    let row = Reader(row);
    Ok(Intent {
        id: row.parsed("id")?,
        patient: row.parsed("patient")?,
        actor: row.parsed("actor")?,
        purpose: row.code("purpose", Purpose::parse)?,
        fingerprint: row.parsed("fingerprint")?,
        sensitivity: row.code("sensitivity", Sensitivity::parse)?,
        kek_epoch: row.number("kek_epoch")?,
        seed: row.bytes_opt("seed")?,
        receipt: row.parsed_opt("receipt")?,
    })
}

/// Stores an intent that got numbers.
pub async fn insert_intent(tx: &mut Tx, intent: &Intent, now: Timestamp) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO intents (id, state, patient, actor, purpose, fingerprint, sensitivity, kek_epoch, seed,
             receipt, created_at_ms)
         VALUES ($1, 'open', $2, $3, $4, $5, $6, $7, $8, $9, $10)",
    )
    .bind(intent.id.as_str().to_owned())
    .bind(intent.patient.as_str().to_owned())
    .bind(intent.actor.as_str().to_owned())
    .bind(intent.purpose.code())
    .bind(intent.fingerprint.to_string())
    .bind(intent.sensitivity.code())
    .bind(i64::from(intent.kek_epoch))
    .bind(intent.seed.clone())
    .bind(intent.receipt.as_ref().map(|id| id.as_str().to_owned()))
    .bind(now.ms())
    .execute(tx)
    .await?;
    Ok(())
}

/// Remembers an intent that died before it ever asked.
pub async fn insert_dead_intent(tx: &mut Tx, id: &IntentId, now: Timestamp) -> Result<(), Error> {
    sqlx::query("INSERT INTO intents (id, state, created_at_ms, closed_at_ms) VALUES ($1, 'void', $2, $2)")
        .bind(id.as_str().to_owned())
        .bind(now.ms())
        .execute(tx)
        .await?;
    Ok(())
}

/// Closes an open intent as `anchored` or `void`, and forgets its seed.
pub async fn close_intent(
    tx: &mut Tx,
    id: &IntentId,
    state: &'static str,
    now: Timestamp,
) -> Result<(), Error> {
    let done = sqlx::query(
        "UPDATE intents SET state = $2, seed = NULL, closed_at_ms = $3 WHERE id = $1 AND state = 'open'",
    )
    .bind(id.as_str().to_owned())
    .bind(state)
    .bind(now.ms())
    .execute(tx)
    .await?;
    Ok(DbError::one_row(done.rows_affected())?)
}
