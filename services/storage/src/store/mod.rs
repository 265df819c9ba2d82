//! All SQL of storage. What a record's clear columns say is believed only after its row opened
//! ([`crate::domain::index::IndexKey::open_row`]).

pub mod blob;
mod commit;
pub mod intents;
mod segments;
pub mod spool;

pub use commit::{Commit, NewRecord, NewSegment, commit};
pub use segments::{SegmentRow, finalise};

use std::collections::HashMap;

use hbc_db::{Db, DbError, Migration};
use hbc_service::Problem;
use hbc_service::idempotency::AnswerStore;
use hbc_types::ids::RecordId;
use hbc_types::labels::Category;
use hbc_types::saved::SavedAnswer;
use hbc_types::{Digest, Timestamp};
use sqlx::Row as _;
use sqlx::any::AnyRow;

use crate::domain::index::{RowFacts, Token};
use crate::error::Error;

/// The schema, step by step.
pub const MIGRATIONS: &[Migration] = hbc_db::migrations![
    1 "records" "../../migrations/0001_records.sql",
    2 "jobs" "../../migrations/0002_jobs.sql",
];

/// Tokens looked up by one statement.
const LOOKUP: usize = 32;

/// Storage's database.
#[derive(Clone, Debug)]
pub struct Store {
    db: Db,
}

/// A record version's row.
#[derive(Clone, Debug)]
pub struct RecordRow {
    /// The record.
    pub id: RecordId,
    /// Its version.
    pub version: u32,
    /// FHIR type, or `Document`.
    pub kind: String,
    /// Its category.
    pub category: Category,
    /// The compartment's token.
    pub compartment: Token,
    /// First clinical day.
    pub date0: Option<String>,
    /// Last clinical day.
    pub date1: Option<String>,
    /// Its number.
    pub n: u64,
    /// The epoch of the key-encryption key.
    pub kek_epoch: u32,
    /// The wrapped data key.
    pub wrapped: Vec<u8>,
    /// What the row keeps sealed.
    pub sealed: Vec<u8>,
    /// The IPFS object.
    pub cid: String,
    /// Its place among the segment's records.
    pub position: u32,
    /// Where its slice begins.
    pub offset: u64,
    /// How long its slice is.
    pub length: u64,
    /// Its commitment.
    pub commitment: Digest,
    /// When it was created.
    pub created_at: Timestamp,
    /// The anchor's transaction.
    pub txid: Digest,
    /// Height of the anchor's block, once final.
    pub height: Option<u64>,
}

impl RecordRow {
    /// The clear columns that the row's seal binds.
    #[must_use]
    pub fn facts(&self) -> RowFacts<'_> {
        RowFacts {
            id: &self.id,
            version: self.version,
            kind: &self.kind,
            category: self.category,
            date0: self.date0.as_deref(),
            date1: self.date1.as_deref(),
            n: self.n,
            kek_epoch: self.kek_epoch,
            wrapped: &self.wrapped,
            cid: &self.cid,
            position: self.position,
            offset: self.offset,
            length: self.length,
            commitment: self.commitment,
            created_at: self.created_at,
        }
    }
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
    /// After this record.
    pub after: Option<(Timestamp, String)>,
    /// At most this many.
    pub limit: u32,
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

    /// Records by identifier tokens.
    pub async fn find_identified(&self, tokens: &[Token]) -> Result<HashMap<Token, Vec<RecordId>>, Error> {
        let mut found: HashMap<Token, Vec<RecordId>> = HashMap::new();
        for chunk in tokens.chunks(LOOKUP) {
            let mut query = sqlx::query(
                "SELECT token, record FROM tokens WHERE token IN ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11,
                     $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $26, $27, $28, $29, $30,
                     $31, $32)",
            );
            for index in 0..LOOKUP {
                query = query.bind(chunk.get(index).cloned().unwrap_or_default());
            }
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
        row.map(|row| record_id(&row, "record")).transpose()
    }

    /// A version of a record, or its newest.
    pub async fn record(&self, id: &RecordId, version: Option<u32>) -> Result<Option<RecordRow>, Error> {
        let row = sqlx::query(
            "SELECT r.id, r.version, r.kind, r.category, r.compartment, r.date0, r.date1, r.n, r.kek_epoch,
                    r.wrapped, r.sealed, r.cid, r.position, r.slice_offset, r.slice_length, r.commitment,
                    r.created_at_ms, s.txid, s.height
             FROM records AS r JOIN segments AS s ON s.cid = r.cid
             WHERE r.id = $1 AND ($2 = 0 OR r.version = $2)
             ORDER BY r.version DESC LIMIT 1",
        )
        .bind(id.as_str().to_owned())
        .bind(i64::from(version.unwrap_or(0)))
        .fetch_optional(self.db.reads())
        .await?;
        Ok(row.map(|row| record_row(&row)).transpose()?)
    }

    /// The label sets that a patient has records of: category and the compartment's token.
    pub async fn label_sets(&self, patient: &Token) -> Result<Vec<(Category, Token)>, Error> {
        let rows = sqlx::query("SELECT DISTINCT category, compartment FROM records WHERE patient = $1")
            .bind(patient.clone())
            .fetch_all(self.db.reads())
            .await?;
        rows.iter().map(|row| Ok((category(row)?, row.try_get("compartment")?))).collect()
    }

    /// A page of a patient's records, oldest first, of the label sets in `allowed`.
    pub async fn list(
        &self,
        patient: &Token,
        allowed: &[(Category, Token)],
        filter: &Filter,
    ) -> Result<Vec<RecordRow>, Error> {
        let (after_ms, after_id) = filter.after.clone().unwrap_or((Timestamp::from_ms(0), String::new()));
        let labels: String =
            allowed.iter().map(|(category, token)| format!("|{category}/{token}|")).collect();
        let rows = sqlx::query(
            "SELECT r.id, r.version, r.kind, r.category, r.compartment, r.date0, r.date1, r.n, r.kek_epoch,
                    r.wrapped, r.sealed, r.cid, r.position, r.slice_offset, r.slice_length, r.commitment,
                    r.created_at_ms, s.txid, s.height
             FROM records AS r JOIN segments AS s ON s.cid = r.cid
             WHERE r.patient = $1 AND (r.created_at_ms, r.id) > ($2, $3)
               AND ($4 = '' OR r.category = $4) AND ($5 = '' OR r.kind = $5)
               AND ($6 = '' OR r.date1 >= $6) AND ($7 = '' OR r.date0 <= $7)
               AND $8 LIKE '%|' || r.category || '/' || r.compartment || '|%'
             ORDER BY r.created_at_ms, r.id LIMIT $9",
        )
        .bind(patient.clone())
        .bind(after_ms.ms())
        .bind(after_id)
        .bind(filter.category.map(Category::code).unwrap_or_default())
        .bind(filter.kind.clone().unwrap_or_default())
        .bind(filter.from.clone().unwrap_or_default())
        .bind(filter.to.clone().unwrap_or_default())
        .bind(labels)
        .bind(i64::from(filter.limit))
        .fetch_all(self.db.reads())
        .await?;
        Ok(rows.iter().map(record_row).collect::<Result<_, DbError>>()?)
    }
}

impl AnswerStore for Store {
    async fn saved_answer(&self, id: Digest) -> Result<Option<SavedAnswer>, Problem> {
        hbc_db::idempotency::find(self.db.reads(), id).await.map_err(|error| Problem::internal(&error))
    }
}

fn record_row(row: &AnyRow) -> Result<RecordRow, DbError> {
    Ok(RecordRow {
        id: record_id(row, "id").map_err(|_text| DbError::BadValue { column: "id" })?,
        version: number(row, "version")?,
        kind: row.try_get("kind")?,
        category: category(row)?,
        compartment: row.try_get("compartment")?,
        date0: row.try_get("date0")?,
        date1: row.try_get("date1")?,
        n: number(row, "n")?,
        kek_epoch: number(row, "kek_epoch")?,
        wrapped: row.try_get("wrapped")?,
        sealed: row.try_get("sealed")?,
        cid: row.try_get("cid")?,
        position: number(row, "position")?,
        offset: number(row, "slice_offset")?,
        length: number(row, "slice_length")?,
        commitment: digest(row, "commitment")?,
        created_at: Timestamp::from_ms(row.try_get("created_at_ms")?),
        txid: digest(row, "txid")?,
        height: row
            .try_get::<Option<i64>, _>("height")?
            .map(|height| u64::try_from(height).map_err(|_range| DbError::BadValue { column: "height" }))
            .transpose()?,
    })
}

fn record_id(row: &AnyRow, column: &'static str) -> Result<RecordId, Error> {
    let text: String = row.try_get(column)?;
    Ok(RecordId::parse(&text).map_err(|_text| DbError::BadValue { column })?)
}

fn category(row: &AnyRow) -> Result<Category, DbError> {
    let text: String = row.try_get("category")?;
    Category::parse(&text).ok_or(DbError::BadValue { column: "category" })
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
