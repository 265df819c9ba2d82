//! All SQL of storage. What a record's clear columns say is believed only after its row opened
//! ([`crate::domain::index::IndexKey::open_row`]).

pub mod blob;
mod commit;
mod history;
pub mod intents;
pub mod pool;
mod record;
mod segments;
pub mod spool;
mod trusted;
pub mod written;

pub use commit::{Commit, NewRecord, NewSegment, commit, index_anew};
pub use history::Versions;
pub use record::RecordRow;
pub use segments::{SegmentRow, finalise, refuse};
pub use trusted::TrustedRow;

use std::collections::{BTreeMap, HashMap};

use hbc_db::{Db, DbError, Migration};
use hbc_types::classify;
use hbc_types::ids::RecordId;
use hbc_types::labels::Category;
use hbc_types::{Digest, Timestamp};
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Row as _};

use crate::domain::date_search::Dates;
use crate::domain::index::{self, Token};
use crate::error::Error;
use record::stored_record;

/// The schema, step by step.
pub const MIGRATIONS: &[Migration] = hbc_db::migrations![
    1 "records" "../../migrations/0001_records.sql",
    2 "jobs" "../../migrations/0002_jobs.sql",
    3 "refused anchors" "../../migrations/0003_refused_anchors.sql",
    4 "waiting segments" "../../migrations/0004_waiting_segments.sql",
    5 "quotas" "../../migrations/0005_quotas.sql",
    6 "index version" "../../migrations/0006_index_version.sql",
    7 "facts" "../../migrations/0007_facts.sql",
    8 "versions" "../../migrations/0008_versions.sql",
];

/// That a version `r` of a record is its newest, and not deleted.
const CURRENT: &str = "r.deleted = 0
    AND NOT EXISTS (SELECT 1 FROM records AS later WHERE later.id = r.id AND later.version > r.version)";

/// Tokens looked up by one statement.
const LOOKUP: usize = 32;

/// Storage's database.
#[derive(Clone, Debug)]
pub struct Store {
    db: Db,
}

/// A record version's row with the anchor of its segment.
#[derive(Clone, Debug)]
pub struct StoredRecord {
    /// The row.
    pub row: RecordRow,
    /// The anchor's transaction, once it is signed.
    pub txid: Option<Digest>,
    /// Height of the anchor's block, once final.
    pub height: Option<u64>,
    /// Whether the ledger excludes the anchor for ever.
    pub refused: bool,
}

/// Records of one category and sensitivity that were created before an instant.
#[derive(Clone, Debug)]
pub struct LabelSet {
    /// The category.
    pub category: Category,
    /// The sensitivity's token.
    pub sensitivity: Token,
    /// Before when.
    pub before: Timestamp,
}

/// What a listing asks for.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Only this category.
    pub category: Option<Category>,
    /// Only this type.
    pub kind: Option<String>,
    /// Clinical day from.
    pub from: Option<String>,
    /// Clinical day to.
    pub to: Option<String>,
    /// When it happened, to the instant: compared outside the database, which knows days alone.
    pub dates: Dates,
    /// Only FHIR resources.
    pub resources: bool,
    /// Whether records without days are asked for as well.
    pub undated: bool,
    /// Only records that have this token, as far as they are indexed as they are now.
    pub token: Option<Token>,
    /// After this record.
    pub after: Option<(Timestamp, String)>,
    /// Before `after` instead of after it: the last ones, from the last on.
    pub backwards: bool,
    /// At most this many.
    pub limit: u32,
}

impl Filter {
    /// The days that records asked for touch.
    fn days(&self) -> (Option<String>, Option<String>) {
        let (from, to) = self.dates.days();
        let to = match (&self.to, to) {
            (Some(one), Some(other)) => Some(one.clone().min(other)),
            (one, other) => one.clone().or(other),
        };
        (self.from.clone().max(from), to)
    }

    /// Whether a record may be asked for by the days that it is indexed by.
    #[must_use]
    pub fn touches(&self, row: &RecordRow) -> bool {
        let (from, to) = self.days();
        let (date0, date1) = (row.date0.as_deref(), row.date1.as_deref());
        from.is_none_or(|from| date1.is_some_and(|day| day >= from.as_str()))
            && to.is_none_or(|to| date0.is_some_and(|day| day <= to.as_str()))
    }

    /// The categories that records asked for can have, whatever the chart holds.
    #[must_use]
    pub fn categories(&self) -> Vec<Category> {
        let of_kind = self.kind.as_deref().map(classify::type_categories).unwrap_or_default();
        match self.category {
            Some(category) => vec![category],
            None if of_kind.is_empty() => Category::ALL.to_vec(),
            None => of_kind,
        }
    }
}

impl Store {
    /// On an open, migrated database.
    #[must_use]
    pub const fn new(db: Db) -> Self {
        Self { db }
    }

    /// The database, for the parts that share it (outbox, follower).
    #[must_use]
    pub const fn db(&self) -> &Db {
        &self.db
    }

    /// Records by identifier tokens: the oldest of each, `most` of them.
    pub async fn find_identified(
        &self,
        tokens: &[Token],
        most: u32,
    ) -> Result<HashMap<Token, Vec<RecordId>>, Error> {
        let mut found: HashMap<Token, Vec<RecordId>> = HashMap::new();
        for chunk in tokens.chunks(LOOKUP) {
            let mut query = sqlx::query(
                "SELECT token, record FROM (
                     SELECT t.token, t.record,
                         ROW_NUMBER() OVER (PARTITION BY t.token ORDER BY r.created_at_ms, r.id) AS place
                     FROM tokens AS t JOIN records AS r ON r.id = t.record AND r.version = 1
                     WHERE NOT EXISTS (
                         SELECT 1 FROM records AS gone WHERE gone.id = t.record AND gone.deleted = 1 AND NOT EXISTS
                             (SELECT 1 FROM records AS back WHERE back.id = gone.id AND back.version > gone.version))
                       AND t.token IN ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17,
                         $18, $19, $20, $21, $22, $23, $24, $25, $26, $27, $28, $29, $30, $31, $32)
                 ) AS placed
                 WHERE place <= $33",
            );
            for index in 0..LOOKUP {
                query = query.bind(chunk.get(index).cloned().unwrap_or_default());
            }
            query = query.bind(i64::from(most));
            for row in query.fetch_all(self.db.reads()).await? {
                let token: Token = row.try_get("token")?;
                found.entry(token).or_default().push(record_id(&row, "record")?);
            }
        }
        Ok(found)
    }

    /// The Patient resource of an account.
    pub async fn patient_record(&self, patient: &Token) -> Result<Option<RecordId>, Error> {
        let row = sqlx::query("SELECT record FROM subjects WHERE patient = $1")
            .bind(patient.clone())
            .fetch_optional(self.db.reads())
            .await?;
        Ok(row.map(|row| record_id(&row, "record")).transpose()?)
    }

    /// A version of a record, or its newest.
    pub async fn record(&self, id: &RecordId, version: Option<u32>) -> Result<Option<StoredRecord>, Error> {
        let row = sqlx::query(RecordRow::select(
            "WHERE r.id = $1 AND ($2 = 0 OR r.version = $2) ORDER BY r.version DESC LIMIT 1",
        ))
        .bind(id.as_str().to_owned())
        .bind(i64::from(version.unwrap_or(0)))
        .fetch_optional(self.db.reads())
        .await?;
        Ok(row.map(|row| stored_record(&row)).transpose()?)
    }

    /// All versions of a record, the newest first.
    pub async fn versions(&self, id: &RecordId) -> Result<Vec<StoredRecord>, Error> {
        let rows = sqlx::query(RecordRow::select("WHERE r.id = $1 ORDER BY r.version DESC"))
            .bind(id.as_str().to_owned())
            .fetch_all(self.db.reads())
            .await?;
        Ok(rows.iter().map(stored_record).collect::<Result<_, DbError>>()?)
    }

    /// The newest versions of records.
    pub async fn records(&self, ids: &[RecordId]) -> Result<Vec<StoredRecord>, Error> {
        let mut found: Vec<StoredRecord> = Vec::with_capacity(ids.len());
        for chunk in ids.chunks(LOOKUP) {
            let mut query = sqlx::query(RecordRow::select(
                "WHERE r.id IN ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19,
                     $20, $21, $22, $23, $24, $25, $26, $27, $28, $29, $30, $31, $32)
                 ORDER BY r.id, r.version DESC",
            ));
            for index in 0..LOOKUP {
                query = query.bind(chunk.get(index).map(|id| id.as_str().to_owned()).unwrap_or_default());
            }
            for row in query.fetch_all(self.db.reads()).await? {
                let record = stored_record(&row)?;
                if found.last().is_none_or(|newest| newest.row.id != record.row.id) {
                    found.push(record);
                }
            }
        }
        Ok(found)
    }

    /// The label sets that a patient has records of: category and the sensitivity's token.
    pub async fn label_sets(&self, patient: &Token) -> Result<Vec<(Category, Token)>, Error> {
        let rows = sqlx::query("SELECT DISTINCT category, sensitivity FROM records WHERE patient = $1")
            .bind(patient.clone())
            .fetch_all(self.db.reads())
            .await?;
        rows.iter().map(|row| Ok((category(row, "category")?, row.try_get("sensitivity")?))).collect()
    }

    /// A page of a patient's records, oldest first, of the label sets in `allowed`, each as far as it was created before its
    /// instant: what may not be seen is not looked at, so that no page ends at it. Dated records that were indexed before there
    /// were open periods are all among those that a search by date looks at.
    pub async fn list(
        &self,
        patient: &Token,
        allowed: &[LabelSet],
        filter: &Filter,
    ) -> Result<Vec<StoredRecord>, Error> {
        let (after_ms, after_id) = filter.after.clone().unwrap_or((Timestamp::from_ms(0), String::new()));
        let labels = label_groups(allowed);
        let (from, to) = filter.days();
        let earlier = if filter.dates.is_empty() { 0 } else { i64::from(index::DATED) };
        let (beyond, order) = if filter.backwards { ("<", " DESC") } else { (">", "") };
        let mut query = sqlx::query(RecordRow::select(&format!(
            "WHERE r.patient = $1 AND (r.created_at_ms, r.id) {beyond} ($2, $3)
               AND ($4 = '' OR r.category = $4) AND ($5 = '' OR r.kind = $5)
               AND ($6 = '' OR r.date1 >= $6 OR (r.date1 <> '' AND r.index_version < $9)
                    OR ($11 = 1 AND r.date1 IS NULL))
               AND ($7 = '' OR r.date0 <= $7 OR (r.date0 <> '' AND r.index_version < $9)
                    OR ($11 = 1 AND r.date0 IS NULL))
               AND ($10 = 0 OR r.kind <> 'Document')
               AND ($12 = '' OR r.index_version < $13
                    OR EXISTS (SELECT 1 FROM tokens AS t WHERE t.token = $12 AND t.record = r.id))
               AND {CURRENT} AND {}
             ORDER BY r.created_at_ms{order}, r.id{order} LIMIT $8",
            within(labels.len(), 14),
        )))
        .bind(patient.clone())
        .bind(after_ms.ms())
        .bind(after_id)
        .bind(filter.category.map(Category::code).unwrap_or_default())
        .bind(filter.kind.clone().unwrap_or_default())
        .bind(from.unwrap_or_default())
        .bind(to.unwrap_or_default())
        .bind(i64::from(filter.limit))
        .bind(earlier)
        .bind(i64::from(filter.resources))
        .bind(i64::from(filter.undated))
        .bind(filter.token.clone().unwrap_or_default())
        .bind(i64::from(index::VERSION));
        for (before, labels) in labels {
            query = query.bind(before.ms()).bind(labels);
        }
        let rows = query.fetch_all(self.db.reads()).await?;
        Ok(rows.iter().map(stored_record).collect::<Result<_, DbError>>()?)
    }

    /// How many records of a patient have this label set and were created before its instant; dates are not looked at.
    pub async fn count(&self, patient: &Token, set: &LabelSet, filter: &Filter) -> Result<u64, Error> {
        let LabelSet { category, sensitivity, before } = set;
        let row = sqlx::query(AssertSqlSafe(format!(
            "SELECT CAST(count(*) AS BIGINT) AS found FROM records AS r
             WHERE r.patient = $1 AND r.category = $2 AND r.sensitivity = $3 AND r.created_at_ms < $4
               AND ($5 = '' OR r.kind = $5) AND ($6 = 0 OR r.kind <> 'Document') AND {CURRENT}"
        )))
        .bind(patient.clone())
        .bind(category.code())
        .bind(sensitivity.clone())
        .bind(before.ms())
        .bind(filter.kind.clone().unwrap_or_default())
        .bind(i64::from(filter.resources))
        .fetch_one(self.db.reads())
        .await?;
        Ok(number(&row, "found")?)
    }
}

/// Label sets by the instants before which their records must have been created, as [`within`] compares them.
fn label_groups(allowed: &[LabelSet]) -> BTreeMap<Timestamp, String> {
    let mut labels: BTreeMap<Timestamp, String> = BTreeMap::new();
    for LabelSet { category, sensitivity, before } in allowed {
        labels.entry(*before).or_default().push_str(&format!("|{category}/{sensitivity}|"));
    }
    labels
}

/// Whether a record `r` is of one of so many groups of label sets: their instants and labels are the parameters from `first` on.
fn within(groups: usize, first: usize) -> String {
    let groups = (0..groups).map(|index| {
        let (before, labels) = (first + 2 * index, first + 2 * index + 1);
        format!(
            "(r.created_at_ms < ${before} AND ${labels} LIKE '%|' || r.category || '/' || r.sensitivity || '|%')"
        )
    });
    let groups: Vec<String> = groups.collect();
    if groups.is_empty() { "1 = 0".to_owned() } else { format!("({})", groups.join(" OR ")) }
}

/// The height of a segment's anchor.
fn height(row: &AnyRow) -> Result<Option<u64>, DbError> {
    let height: Option<i64> = row.try_get("height")?;
    height
        .map(|height| u64::try_from(height).map_err(|_range| DbError::BadValue { column: "height" }))
        .transpose()
}

fn record_id(row: &AnyRow, column: &'static str) -> Result<RecordId, DbError> {
    let text: String = row.try_get(column)?;
    RecordId::parse(&text).map_err(|_text| DbError::BadValue { column })
}

fn category(row: &AnyRow, column: &'static str) -> Result<Category, DbError> {
    let text: String = row.try_get(column)?;
    Category::parse(&text).ok_or(DbError::BadValue { column })
}

fn digest_opt(row: &AnyRow, column: &'static str) -> Result<Option<Digest>, DbError> {
    let text: Option<String> = row.try_get(column)?;
    text.map(|text| Digest::parse(&text).map_err(|_text| DbError::BadValue { column })).transpose()
}

fn digest(row: &AnyRow, column: &'static str) -> Result<Digest, DbError> {
    let text: String = row.try_get(column)?;
    Digest::parse(&text).map_err(|_text| DbError::BadValue { column })
}

fn number<T: TryFrom<i64>>(row: &AnyRow, column: &'static str) -> Result<T, DbError> {
    let value: i64 = row.try_get(column)?;
    T::try_from(value).map_err(|_range| DbError::BadValue { column })
}

/// An unsigned number as the databases keep it.
fn stored(value: u64) -> Result<i64, DbError> {
    i64::try_from(value).map_err(|_range| DbError::BadValue { column: "number" })
}

#[cfg(test)]
mod tests {
    use hbc_db::testing::databases;
    use hbc_types::Random;

    use super::*;

    #[tokio::test]
    async fn of_what_is_identified_the_oldest_are_found() {
        for database in databases(MIGRATIONS).await {
            let made = database.db.write(|tx| {
                Box::pin(async move {
                    sqlx::query(
                        "INSERT INTO segments (cid, intent, position, digest, bytes, records, root, tag, patient,
                             created_at_ms, day0, day1, due_at_ms, delayed)
                         VALUES ('c', 'i', 0, 'd', 1, 3, 'r', 't', 'p', 0, 0, 0, 0, 0)",
                    )
                    .execute(&mut *tx)
                    .await?;
                    for n in 0..4_i64 {
                        let id = RecordId::random(&Random::seeded(n.unsigned_abs()));
                        sqlx::query(
                            "INSERT INTO records (id, version, patient, sensitivity, category, kind, n, kek_epoch,
                                 wrapped, encrypted, cid, position, slice_offset, slice_length, commitment,
                                 created_at_ms)
                             VALUES ($1, 1, 'p', 's', 'laboratory', 'Location', 1, 1, $2, $2, 'c', $3, 0, 1, 'x', $4)",
                        )
                        .bind(id.as_str().to_owned())
                        .bind(vec![0_u8])
                        .bind(n)
                        .bind(100 - n)
                        .execute(&mut *tx)
                        .await?;
                        let token = if n == 3 { "other" } else { "same" };
                        sqlx::query("INSERT INTO tokens (token, record) VALUES ($1, $2)")
                            .bind(token)
                            .bind(id.as_str().to_owned())
                            .execute(&mut *tx)
                            .await?;
                    }
                    Ok::<(), DbError>(())
                })
            });
            made.await.unwrap();
            let tokens = ["same", "other", "none"].map(str::to_owned);
            let mut found = Store::new(database.db.clone()).find_identified(&tokens, 2).await.unwrap();
            let mut same = found.remove("same").unwrap();
            same.sort();
            let mut oldest = [2, 1].map(|n| RecordId::random(&Random::seeded(n)));
            oldest.sort();
            assert_eq!(same, oldest);
            assert_eq!(found.remove("other").unwrap(), [RecordId::random(&Random::seeded(3))]);
            assert!(found.is_empty());
        }
    }

    #[test]
    fn label_sets_are_of_their_instants() {
        assert_eq!(within(0, 11), "1 = 0");
        let one = |before: usize, labels: usize| {
            format!(
                "(r.created_at_ms < ${before} AND ${labels} LIKE '%|' || r.category || '/' || r.sensitivity || '|%')"
            )
        };
        assert_eq!(within(2, 11), format!("({} OR {})", one(11, 12), one(13, 14)));
    }
}
