//! Receipts, their chain heads, batches, and the folding of equal denials.

use hbc_db::row::{self, Reader};
use hbc_db::{DbError, Tx};
use hbc_types::ids::{PatientId, ReceiptId};
use hbc_types::purpose::Purpose;
use hbc_types::{Digest, Timestamp};
use sqlx::any::AnyRow;

use crate::domain::receipts::{Batch, Fold, Head, Occurrence, Receipt, Span};
use crate::error::Error;

/// The end of a patient's chain of receipts.
pub async fn head(tx: &mut Tx, patient: &PatientId) -> Result<Head, Error> {
    let row = sqlx::query("SELECT n, leaf FROM receipt_heads WHERE patient = $1")
        .bind(patient.as_str().to_owned())
        .fetch_optional(tx)
        .await?
        .ok_or(Error::NotFound)?;
    Ok(Head { n: Reader(&row).number("n")?, leaf: Reader(&row).parsed_opt("leaf")? })
}

/// Appends a receipt and moves the head; a conflicting write that was faster makes it fail.
pub async fn append(tx: &mut Tx, receipt: &Receipt) -> Result<(), Error> {
    let body = &receipt.body;
    let n = row::stored(body.n, "n")?;
    sqlx::query(
        "INSERT INTO receipts (patient, n, id, actor, body, salt, leaf, at_ms)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(body.patient.as_str().to_owned())
    .bind(n)
    .bind(body.id.as_str().to_owned())
    .bind(body.actor.as_str().to_owned())
    .bind(receipt.text.clone())
    .bind(receipt.salt.to_vec())
    .bind(receipt.leaf.to_string())
    .bind(body.at.ms())
    .execute(&mut *tx)
    .await?;
    let done = sqlx::query("UPDATE receipt_heads SET n = $2, leaf = $3 WHERE patient = $1 AND n = $2 - 1")
        .bind(body.patient.as_str().to_owned())
        .bind(n)
        .bind(receipt.leaf.to_string())
        .execute(tx)
        .await?;
    Ok(DbError::one_row(done.rows_affected())?)
}

/// The receipt that stands for an equal denial of the last minute; counts this one to it.
pub async fn folded(tx: &mut Tx, fingerprint: Digest, now: Timestamp) -> Result<Option<ReceiptId>, Error> {
    let row = sqlx::query(
        "UPDATE denial_folds SET count = count + 1 WHERE fingerprint = $1 AND until_ms > $2 RETURNING receipt",
    )
    .bind(fingerprint.to_string())
    .bind(now.ms())
    .fetch_optional(tx)
    .await?;
    Ok(row.map(|row| Reader(&row).parsed("receipt")).transpose()?)
}

/// Lets `receipt` stand for denials equal to this one until `until`.
pub async fn begin_fold(
    tx: &mut Tx,
    fingerprint: Digest,
    receipt: &ReceiptId,
    denied: &Occurrence,
    until: Timestamp,
) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO denial_folds (fingerprint, receipt, until_ms, count, patient, actor, organisation, purpose, rule)
         VALUES ($1, $2, $3, 1, $4, $5, $6, $7, $8)",
    )
    .bind(fingerprint.to_string())
    .bind(receipt.as_str().to_owned())
    .bind(until.ms())
    .bind(denied.patient.as_str().to_owned())
    .bind(denied.actor.as_str().to_owned())
    .bind(denied.organisation.as_ref().map(|id| id.as_str().to_owned()))
    .bind(denied.purpose.code())
    .bind(denied.rule.clone())
    .execute(tx)
    .await?;
    Ok(())
}

/// Takes a fold out and says what was counted.
pub async fn take_fold(tx: &mut Tx, fingerprint: Digest) -> Result<Option<Fold>, Error> {
    let row = sqlx::query(
        "DELETE FROM denial_folds WHERE fingerprint = $1
         RETURNING patient, actor, organisation, purpose, rule, count",
    )
    .bind(fingerprint.to_string())
    .fetch_optional(tx)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let row = Reader(&row);
    let counted: u64 = row.number("count")?;
    Ok(Some(Fold {
        patient: row.parsed("patient")?,
        actor: row.parsed("actor")?,
        organisation: row.parsed_opt("organisation")?,
        purpose: row.code("purpose", Purpose::parse)?,
        rule: row.text("rule")?,
        more: counted.saturating_sub(1),
    }))
}

/// Folds that are over, with their patients.
pub async fn folds_over(tx: &mut Tx, now: Timestamp) -> Result<Vec<(Digest, PatientId)>, Error> {
    let rows = sqlx::query(
        "SELECT fingerprint, patient FROM denial_folds WHERE until_ms <= $1 ORDER BY until_ms LIMIT 500",
    )
    .bind(now.ms())
    .fetch_all(tx)
    .await?;
    let read = |row: &AnyRow| Ok((Reader(row).parsed("fingerprint")?, Reader(row).parsed("patient")?));
    rows.iter().map(read).collect()
}

/// Up to `limit` leaves that are in no batch yet, in the order of (patient, n).
pub async fn waiting(tx: &mut Tx, limit: u32) -> Result<Vec<(PatientId, u64, Digest)>, Error> {
    let rows = sqlx::query(
        "SELECT r.patient, r.n, r.leaf
         FROM receipt_heads AS h JOIN receipts AS r ON r.patient = h.patient AND r.n > h.batched_n
         WHERE h.n > h.batched_n ORDER BY r.patient, r.n LIMIT $1",
    )
    .bind(i64::from(limit))
    .fetch_all(tx)
    .await?;
    let read = |row: &AnyRow| {
        Ok((Reader(row).parsed("patient")?, Reader(row).number("n")?, Reader(row).parsed("leaf")?))
    };
    rows.iter().map(read).collect()
}

/// Stores a batch and moves its patients' marks.
pub async fn insert_batch(tx: &mut Tx, batch: &Batch, txid: Digest, now: Timestamp) -> Result<(), Error> {
    let id = txid.to_string();
    sqlx::query(
        "INSERT INTO receipt_batches (id, root, count, txid, created_at_ms) VALUES ($1, $2, $3, $4, $5)",
    )
    .bind(id.clone())
    .bind(batch.root.to_string())
    .bind(row::stored(batch.count, "count")?)
    .bind(id.clone())
    .bind(now.ms())
    .execute(&mut *tx)
    .await?;
    for span in &batch.spans {
        insert_span(tx, span, &id).await?;
    }
    Ok(())
}

async fn insert_span(tx: &mut Tx, span: &Span, batch: &str) -> Result<(), Error> {
    let (first, last) = (row::stored(span.first, "first_n")?, row::stored(span.last, "last_n")?);
    sqlx::query(
        "INSERT INTO receipt_spans (patient, first_n, last_n, batch, place) VALUES ($1, $2, $3, $4, $5)",
    )
    .bind(span.patient.as_str().to_owned())
    .bind(first)
    .bind(last)
    .bind(batch.to_owned())
    .bind(row::stored(span.place, "place")?)
    .execute(&mut *tx)
    .await?;
    let done =
        sqlx::query("UPDATE receipt_heads SET batched_n = $2 WHERE patient = $1 AND batched_n = $3 - 1")
            .bind(span.patient.as_str().to_owned())
            .bind(last)
            .bind(first)
            .execute(tx)
            .await?;
    Ok(DbError::one_row(done.rows_affected())?)
}

/// A batch's transaction is final.
pub async fn batch_final(tx: &mut Tx, txid: Digest, height: u64) -> Result<(), Error> {
    sqlx::query("UPDATE receipt_batches SET height = $2 WHERE txid = $1 AND height IS NULL")
        .bind(txid.to_string())
        .bind(row::stored(height, "height")?)
        .execute(tx)
        .await?;
    Ok(())
}

/// A receipt with its place in a batch.
#[derive(Clone, Debug)]
pub struct Placed {
    /// The body's JCS text.
    pub text: String,
    /// The salt.
    pub salt: Vec<u8>,
    /// The leaf hash.
    pub leaf: Digest,
    /// Its batch, if it is in one.
    pub batch: Option<PlacedBatch>,
}

/// Where a receipt stands in a batch.
#[derive(Clone, Debug)]
pub struct PlacedBatch {
    /// Place of the leaf.
    pub place: u64,
    /// Root of the batch.
    pub root: Digest,
    /// How many leaves it has.
    pub count: u64,
    /// Its transaction.
    pub txid: Digest,
    /// Height of its block, once final.
    pub height: Option<u64>,
}

fn placed(row: &AnyRow) -> Result<Placed, DbError> {
    let row = Reader(row);
    let n: u64 = row.number("n")?;
    let batch = match row.number_opt::<u64>("place")? {
        None => None,
        Some(place) => Some(PlacedBatch {
            place: place + n.saturating_sub(row.number("first_n")?),
            root: row.parsed("root")?,
            count: row.number("count")?,
            txid: row.parsed("txid")?,
            height: row.number_opt("height")?,
        }),
    };
    Ok(Placed { text: row.text("body")?, salt: row.bytes("salt")?, leaf: row.parsed("leaf")?, batch })
}

/// One receipt of this patient.
pub async fn find(tx: &mut Tx, patient: &PatientId, id: &ReceiptId) -> Result<Option<Placed>, Error> {
    let row = sqlx::query(
        "SELECT r.n, r.body, r.salt, r.leaf, s.first_n, s.place, b.root, b.count, b.txid, b.height
         FROM receipts AS r
         LEFT JOIN receipt_spans AS s ON s.patient = r.patient AND s.first_n <= r.n AND s.last_n >= r.n
         LEFT JOIN receipt_batches AS b ON b.id = s.batch
         WHERE r.id = $1 AND r.patient = $2",
    )
    .bind(id.as_str().to_owned())
    .bind(patient.as_str().to_owned())
    .fetch_optional(tx)
    .await?;
    Ok(row.map(|row| placed(&row)).transpose()?)
}

/// A page of this patient's receipts, newest first, below number `before`.
pub async fn page(tx: &mut Tx, patient: &PatientId, before: u64, limit: u32) -> Result<Vec<Placed>, Error> {
    let rows = sqlx::query(
        "SELECT r.n, r.body, r.salt, r.leaf, s.first_n, s.place, b.root, b.count, b.txid, b.height
         FROM receipts AS r
         LEFT JOIN receipt_spans AS s ON s.patient = r.patient AND s.first_n <= r.n AND s.last_n >= r.n
         LEFT JOIN receipt_batches AS b ON b.id = s.batch
         WHERE r.patient = $1 AND r.n < $2 ORDER BY r.n DESC LIMIT $3",
    )
    .bind(patient.as_str().to_owned())
    .bind(i64::try_from(before).unwrap_or(i64::MAX))
    .bind(i64::from(limit))
    .fetch_all(tx)
    .await?;
    Ok(rows.iter().map(placed).collect::<Result<_, _>>()?)
}

/// All leaves of a batch in their order.
pub async fn batch_leaves(tx: &mut Tx, txid: Digest) -> Result<Vec<Digest>, Error> {
    let rows = sqlx::query(
        "SELECT r.leaf FROM receipt_spans AS s
         JOIN receipts AS r ON r.patient = s.patient AND r.n >= s.first_n AND r.n <= s.last_n
         WHERE s.batch = $1 ORDER BY s.place, r.n",
    )
    .bind(txid.to_string())
    .fetch_all(tx)
    .await?;
    Ok(rows.iter().map(|row| Reader(row).parsed("leaf")).collect::<Result<_, _>>()?)
}

/// Since when the oldest receipt of this patient waits for a final block.
pub async fn unanchored_since(tx: &mut Tx, patient: &PatientId) -> Result<Option<Timestamp>, Error> {
    let row = sqlx::query(
        "SELECT CAST(min(r.at_ms) AS BIGINT) AS since
         FROM receipts AS r
         WHERE r.patient = $1 AND r.n > (
             SELECT COALESCE(max(s.last_n), 0) FROM receipt_spans AS s JOIN receipt_batches AS b ON b.id = s.batch
             WHERE s.patient = $1 AND b.height IS NOT NULL)",
    )
    .bind(patient.as_str().to_owned())
    .fetch_one(tx)
    .await?;
    Ok(Reader(&row).time_opt("since")?)
}
