//! Versions of a patient's records, the newest first.

use hbc_db::DbError;
use hbc_types::Timestamp;
use hbc_types::ids::RecordId;

use super::record::stored_record;
use super::{LabelSet, RecordRow, Store, StoredRecord, label_groups, within};
use crate::error::Error;

/// Which versions a history shows.
#[derive(Clone, Debug, Default)]
pub struct Versions {
    /// Only those of this record.
    pub record: Option<RecordId>,
    /// Only those of this type.
    pub kind: Option<String>,
    /// Only those written at this instant or later.
    pub since: Option<Timestamp>,
    /// Those that come after this one: when it was written, its record, its version.
    pub after: Option<(Timestamp, String, u32)>,
    /// At most this many.
    pub limit: u32,
}

impl Store {
    /// Versions of a patient's FHIR records, the newest first, of the label sets in `allowed`, each as far as it was written before
    /// its instant.
    pub async fn history(
        &self,
        patient: &str,
        allowed: &[LabelSet],
        versions: &Versions,
    ) -> Result<Vec<StoredRecord>, Error> {
        let labels = label_groups(allowed);
        let end = || (Timestamp::from_ms(i64::MAX), String::new(), 0);
        let (at, id, version) = versions.after.clone().unwrap_or_else(end);
        let mut query = sqlx::query(RecordRow::select(&format!(
            "WHERE r.patient = $1 AND r.kind <> 'Document' AND ($2 = '' OR r.id = $2) AND ($3 = '' OR r.kind = $3)
               AND r.created_at_ms >= $4 AND (r.created_at_ms, r.id, r.version) < ($5, $6, $7) AND {}
             ORDER BY r.created_at_ms DESC, r.id DESC, r.version DESC LIMIT $8",
            within(labels.len(), 9),
        )))
        .bind(patient.to_owned())
        .bind(versions.record.as_ref().map(|id| id.as_str().to_owned()).unwrap_or_default())
        .bind(versions.kind.clone().unwrap_or_default())
        .bind(versions.since.map_or(0, Timestamp::ms))
        .bind(at.ms())
        .bind(id)
        .bind(i64::from(version))
        .bind(i64::from(versions.limit));
        for (before, labels) in labels {
            query = query.bind(before.ms()).bind(labels);
        }
        let rows = query.fetch_all(self.db.reads()).await?;
        Ok(rows.iter().map(stored_record).collect::<Result<_, DbError>>()?)
    }
}
