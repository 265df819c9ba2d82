//! Segments after their commit: their way to finality, to access-policy's numbers, and out of the spool.

use hbc_db::{DbError, Tx};
use hbc_types::ids::IntentId;
use hbc_types::{Digest, Timestamp};
use sqlx::Row as _;
use sqlx::any::AnyRow;

use crate::error::Error;
use crate::store::record::stored_record;
use crate::store::{RecordRow, Store, StoredRecord, digest, digest_opt, height, number, stored};

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
    /// The anchor's transaction, once it is signed.
    pub txid: Option<Digest>,
    /// Its place in the anchor.
    pub place: Option<u32>,
    /// Height of the anchor's block, once final.
    pub height: Option<u64>,
}

impl Store {
    /// A segment.
    pub async fn segment(&self, cid: &str) -> Result<Option<SegmentRow>, Error> {
        let row = sqlx::query(
            "SELECT cid, intent, position, digest, root, txid, place, height FROM segments WHERE cid = $1",
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

    /// The records of an intent.
    pub async fn intent_records(&self, intent: &IntentId) -> Result<Vec<StoredRecord>, Error> {
        let rows = sqlx::query(RecordRow::select("WHERE s.intent = $1 ORDER BY s.position, r.position"))
            .bind(intent.as_str().to_owned())
            .fetch_all(self.db.reads())
            .await?;
        Ok(rows.iter().map(stored_record).collect::<Result<_, DbError>>()?)
    }

    /// access-policy knows the numbers of an upload that stand in these anchors.
    pub async fn reported(&self, intent: &IntentId, txids: Vec<Digest>, now: Timestamp) -> Result<(), Error> {
        let id = intent.as_str().to_owned();
        self.db
            .write(move |tx| {
                Box::pin(async move {
                    for txid in txids {
                        sqlx::query(
                            "UPDATE segments SET reported_at_ms = $3 WHERE intent = $1 AND txid = $2",
                        )
                        .bind(id.clone())
                        .bind(txid.to_string())
                        .bind(now.ms())
                        .execute(&mut *tx)
                        .await?;
                    }
                    Ok::<(), Error>(())
                })
            })
            .await
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

    /// The segments of an intent, in their order in it.
    pub async fn intent_segments(&self, intent: &IntentId) -> Result<Vec<SegmentRow>, Error> {
        let rows = sqlx::query(
            "SELECT cid, intent, position, digest, root, txid, place, height FROM segments
             WHERE intent = $1 ORDER BY position",
        )
        .bind(intent.as_str().to_owned())
        .fetch_all(self.db.reads())
        .await?;
        Ok(rows.iter().map(segment_row).collect::<Result<_, DbError>>()?)
    }

    /// Committed segments whose pins were not looked at since `before`, longest ago first: at most `limit`.
    pub async fn segments_unseen_since(
        &self,
        before: Timestamp,
        limit: u32,
    ) -> Result<Vec<SegmentRow>, Error> {
        let rows = sqlx::query(
            "SELECT cid, intent, position, digest, root, txid, place, height FROM segments
             WHERE pin_seen_at_ms < $1 ORDER BY pin_seen_at_ms, cid LIMIT $2",
        )
        .bind(before.ms())
        .bind(i64::from(limit))
        .fetch_all(self.db.reads())
        .await?;
        Ok(rows.iter().map(segment_row).collect::<Result<_, DbError>>()?)
    }

    /// The pins of these segments were looked at: IPFS holds `pinned`, and has lost `lost`.
    pub async fn pins_seen(
        &self,
        pinned: Vec<String>,
        lost: Vec<String>,
        now: Timestamp,
    ) -> Result<(), Error> {
        if pinned.is_empty() && lost.is_empty() {
            return Ok(());
        }
        self.db
            .write(move |tx| {
                Box::pin(async move {
                    for (cids, missing) in [(pinned, None), (lost, Some(now.ms()))] {
                        for cid in cids {
                            sqlx::query(
                                "UPDATE segments SET pin_seen_at_ms = $2, unpinned_at_ms = $3 WHERE cid = $1",
                            )
                            .bind(cid)
                            .bind(now.ms())
                            .bind(missing)
                            .execute(&mut *tx)
                            .await?;
                        }
                    }
                    Ok::<(), Error>(())
                })
            })
            .await
    }

    /// How many segments lie in the spool, how many IPFS is known to have lost, and of how many the ledger refused the
    /// anchor.
    pub async fn segment_counts(&self) -> Result<(u64, u64, u64), DbError> {
        let row = sqlx::query(
            "SELECT (SELECT CAST(count(*) AS BIGINT) FROM segments WHERE spooled_at_ms IS NOT NULL) AS spooled,
                    (SELECT CAST(count(*) AS BIGINT) FROM segments WHERE unpinned_at_ms IS NOT NULL) AS lost,
                    (SELECT CAST(count(*) AS BIGINT) FROM segments WHERE refused_at_ms IS NOT NULL) AS refused",
        )
        .fetch_one(self.db.reads())
        .await?;
        Ok((number(&row, "spooled")?, number(&row, "lost")?, number(&row, "refused")?))
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
    sqlx::query(
        "UPDATE segments SET height = $2, log_index = $3, final_at_ms = $4, refused_at_ms = NULL, delayed = 0
         WHERE txid = $1",
    )
    .bind(txid.to_string())
    .bind(stored(height)?)
    .bind(stored(log_index)?)
    .bind(now.ms())
    .execute(tx)
    .await?;
    Ok(())
}

/// The ledger excludes the anchor `txid` for ever.
pub async fn refuse(tx: &mut Tx, txid: Digest, now: Timestamp) -> Result<(), DbError> {
    sqlx::query("UPDATE segments SET refused_at_ms = $2 WHERE txid = $1 AND height IS NULL")
        .bind(txid.to_string())
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
        txid: digest_opt(row, "txid")?,
        place: row.try_get::<Option<i64>, _>("place")?.and_then(|place| u32::try_from(place).ok()),
        height: height(row)?,
    })
}

fn intent(row: &AnyRow) -> Result<IntentId, DbError> {
    let text: String = row.try_get("intent")?;
    IntentId::parse(&text).map_err(|_text| DbError::BadValue { column: "intent" })
}
