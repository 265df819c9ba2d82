//! Segments after their commit: their way to finality, to access-policy's numbers, and out of the spool.

use hbc_db::{DbError, Tx};
use hbc_types::ids::IntentId;
use hbc_types::{Digest, Timestamp};
use sqlx::Row as _;
use sqlx::any::AnyRow;

use crate::error::Error;
use crate::store::record::stored_record;
use crate::store::{RecordRow, Store, StoredRecord, digest, height, number, stored};

/// A segment's row.
#[derive(Clone, Debug)]
pub struct SegmentRow {
    /// The IPFS object.
    pub cid: String,
    /// The upload it came with.
    pub intent: IntentId,
    /// Its place among the upload's segments.
    pub position: u32,
    /// SHA-256 of the object.
    pub digest: Digest,
    /// Its root.
    pub root: Digest,
    /// The anchor's transaction.
    pub txid: Digest,
    /// Height of the anchor's block, once final.
    pub height: Option<u64>,
}

impl Store {
    /// A segment.
    pub async fn segment(&self, cid: &str) -> Result<Option<SegmentRow>, Error> {
        let row = sqlx::query(
            "SELECT cid, intent, position, digest, root, txid, height FROM segments WHERE cid = $1",
        )
        .bind(cid.to_owned())
        .fetch_optional(self.db.reads())
        .await?;
        Ok(row.map(|row| segment_row(&row)).transpose()?)
    }

    /// The commitments of a segment's records, in order.
    pub async fn commitments(&self, cid: &str) -> Result<Vec<Digest>, Error> {
        let rows = sqlx::query("SELECT commitment FROM records WHERE cid = $1 ORDER BY position")
            .bind(cid.to_owned())
            .fetch_all(self.db.reads())
            .await?;
        Ok(rows.iter().map(|row| digest(row, "commitment")).collect::<Result<_, DbError>>()?)
    }

    /// The segments of a transaction, in their order in it.
    pub async fn anchored_segments(&self, txid: Digest) -> Result<Vec<SegmentRow>, Error> {
        let rows = sqlx::query(
            "SELECT cid, intent, position, digest, root, txid, height FROM segments
             WHERE txid = $1 ORDER BY position",
        )
        .bind(txid.to_string())
        .fetch_all(self.db.reads())
        .await?;
        Ok(rows.iter().map(segment_row).collect::<Result<_, DbError>>()?)
    }

    /// Intents whose anchor is final and whose numbers access-policy has not heard of: at most `limit`.
    pub async fn unreported(&self, limit: u32) -> Result<Vec<(IntentId, Digest)>, Error> {
        let rows = sqlx::query(
            "SELECT DISTINCT intent, txid FROM segments
             WHERE reported_at_ms IS NULL AND height IS NOT NULL LIMIT $1",
        )
        .bind(i64::from(limit))
        .fetch_all(self.db.reads())
        .await?;
        rows.iter().map(|row| Ok((intent(row)?, digest(row, "txid")?))).collect()
    }

    /// The records of an intent.
    pub async fn intent_records(&self, intent: &IntentId) -> Result<Vec<StoredRecord>, Error> {
        let rows = sqlx::query(RecordRow::select("WHERE s.intent = $1 ORDER BY s.position, r.position"))
            .bind(intent.as_str().to_owned())
            .fetch_all(self.db.reads())
            .await?;
        Ok(rows.iter().map(stored_record).collect::<Result<_, DbError>>()?)
    }

    /// access-policy knows the numbers of an intent.
    pub async fn reported(&self, intent: &IntentId, now: Timestamp) -> Result<(), Error> {
        let id = intent.as_str().to_owned();
        self.db
            .write(move |tx| {
                Box::pin(async move {
                    sqlx::query("UPDATE segments SET reported_at_ms = $2 WHERE intent = $1")
                        .bind(id)
                        .bind(now.ms())
                        .execute(tx)
                        .await?;
                    Ok::<(), Error>(())
                })
            })
            .await
    }

    /// Segments that lie in the spool since before `before`: at most 100.
    pub async fn spooled(&self, before: Timestamp) -> Result<Vec<SegmentRow>, Error> {
        let rows = sqlx::query(
            "SELECT cid, intent, position, digest, root, txid, height FROM segments
             WHERE spooled_at_ms IS NOT NULL AND spooled_at_ms < $1 ORDER BY spooled_at_ms LIMIT 100",
        )
        .bind(before.ms())
        .fetch_all(self.db.reads())
        .await?;
        Ok(rows.iter().map(segment_row).collect::<Result<_, DbError>>()?)
    }

    /// An intent's segments are out of the spool.
    pub async fn unspooled(&self, intent: &IntentId) -> Result<(), Error> {
        let id = intent.as_str().to_owned();
        self.db
            .write(move |tx| {
                Box::pin(async move {
                    sqlx::query("UPDATE segments SET spooled_at_ms = NULL WHERE intent = $1")
                        .bind(id)
                        .execute(tx)
                        .await?;
                    Ok::<(), Error>(())
                })
            })
            .await
    }

    /// A page of committed segments in the order of their CIDs, for the check of pins.
    pub async fn segments_after(&self, cid: &str, limit: u32) -> Result<Vec<SegmentRow>, Error> {
        let rows = sqlx::query(
            "SELECT cid, intent, position, digest, root, txid, height FROM segments
             WHERE cid > $1 ORDER BY cid LIMIT $2",
        )
        .bind(cid.to_owned())
        .bind(i64::from(limit))
        .fetch_all(self.db.reads())
        .await?;
        Ok(rows.iter().map(segment_row).collect::<Result<_, DbError>>()?)
    }
}

/// The anchor `txid` stands in a final block.
pub async fn finalise(
    tx: &mut Tx,
    txid: Digest,
    height: u64,
    log_index: u64,
    now: Timestamp,
) -> Result<(), DbError> {
    sqlx::query("UPDATE segments SET height = $2, log_index = $3, final_at_ms = $4 WHERE txid = $1")
        .bind(txid.to_string())
        .bind(stored(height)?)
        .bind(stored(log_index)?)
        .bind(now.ms())
        .execute(tx)
        .await?;
    Ok(())
}

fn segment_row(row: &AnyRow) -> Result<SegmentRow, DbError> {
    Ok(SegmentRow {
        cid: row.try_get("cid")?,
        intent: intent(row)?,
        position: number(row, "position")?,
        digest: digest(row, "digest")?,
        root: digest(row, "root")?,
        txid: digest(row, "txid")?,
        height: height(row)?,
    })
}

fn intent(row: &AnyRow) -> Result<IntentId, DbError> {
    let text: String = row.try_get("intent")?;
    IntentId::parse(&text).map_err(|_text| DbError::BadValue { column: "intent" })
}
