//! The row of a record version, declared once: from [`RecordRow`]'s declaration come the struct, the names of the columns,
//! how they are written and read, and what the row's tag binds.

use std::borrow::Cow;

use hbc_db::DbError;
use hbc_types::ids::RecordId;
use hbc_types::labels::Category;
use hbc_types::{Digest, Timestamp};
use sqlx::any::{AnyArguments, AnyRow};
use sqlx::{Any, AssertSqlSafe, Row as _};

use crate::domain::index::Token;
use crate::store::{StoredRecord, number, stored};

type Query<'q> = sqlx::query::Query<'q, Any, AnyArguments>;

/// Declares the row: its columns that the authentication tag binds, in the order in which it binds them, and those
/// beside them.
macro_rules! row {
    (
        $(#[$doc:meta])*
        $name:ident in $table:literal, encrypted as $domain:literal
        bound { $($(#[$bound_doc:meta])* $bound:ident: $bound_type:ty = $bound_column:literal,)+ }
        beside { $($(#[$doc_beside:meta])* $beside:ident: $beside_type:ty = $beside_column:literal,)+ }
    ) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $name {
            $($(#[$bound_doc])* pub $bound: $bound_type,)+
            $($(#[$doc_beside])* pub $beside: $beside_type,)+
        }

        impl $name {
            /// Its table.
            const TABLE: &'static str = $table;
            /// Its columns, in the order in which [`Self::bind`] binds them.
            pub(super) const COLUMNS: &'static [&'static str] =
                &[$($bound_column,)+ $($beside_column),+];

            /// What its authentication tag binds: every column but those that are derived from what the authentication
            /// tag holds, and itself.
            #[must_use]
            pub fn bound(&self) -> Vec<u8> {
                let parts = [$(self.$bound.part()),+];
                let parts: Vec<&[u8]> = parts.iter().map(AsRef::as_ref).collect();
                hbc_types::hash::aad($domain, &parts)
            }

            pub(super) fn bind<'q>(&self, query: Query<'q>) -> Result<Query<'q>, DbError> {
                $(let query = self.$bound.bind(query)?;)+
                $(let query = self.$beside.bind(query)?;)+
                Ok(query)
            }

            fn read(row: &AnyRow) -> Result<Self, DbError> {
                Ok(Self {
                    $($bound: Cell::read(row, $bound_column)?,)+
                    $($beside: Cell::read(row, $beside_column)?,)+
                })
            }
        }
    };
}

row! {
    /// A record version's row.
    RecordRow in "records", encrypted as "hbc/storage-row/v1"
    bound {
        /// The record.
        id: RecordId = "id",
        /// Its version.
        version: u32 = "version",
        /// FHIR type, or `Document`.
        kind: String = "kind",
        /// Its category.
        category: Category = "category",
        /// First clinical day.
        date0: Option<String> = "date0",
        /// Last clinical day.
        date1: Option<String> = "date1",
        /// Its number.
        n: u64 = "n",
        /// The epoch of the key-encryption key.
        kek_epoch: u32 = "kek_epoch",
        /// The wrapped data key.
        wrapped: Vec<u8> = "wrapped",
        /// The IPFS object.
        cid: String = "cid",
        /// Its place among the segment's records.
        position: u32 = "position",
        /// Where its slice begins.
        offset: u64 = "slice_offset",
        /// How long its slice is.
        length: u64 = "slice_length",
        /// Its commitment.
        commitment: Digest = "commitment",
        /// When it was created.
        created_at: Timestamp = "created_at_ms",
    }
    beside {
        /// The account's token.
        patient: Token = "patient",
        /// The sensitivity's token.
        sensitivity: Token = "sensitivity",
        /// 1 if this version says that the record is deleted.
        deleted: u32 = "deleted",
        /// In which way it is indexed ([`crate::domain::index::VERSION`]).
        index_version: u32 = "index_version",
        /// What the row keeps encrypted.
        encrypted: Vec<u8> = "encrypted",
        /// What the record says to searches, encrypted; nothing if it was indexed before there were such.
        facts: Option<Vec<u8>> = "facts",
    }
}

impl RecordRow {
    /// `table (column, …)`, for an insertion.
    pub(super) fn table() -> String {
        format!("{} ({})", Self::TABLE, Self::COLUMNS.join(", "))
    }

    /// Selects records `r` with the anchor of their segments `s`: `rest` continues the statement, and is of constants and
    /// numbers only.
    pub(super) fn select(rest: &str) -> AssertSqlSafe<String> {
        let columns: String = Self::COLUMNS.iter().map(|column| format!("r.{column}, ")).collect();
        AssertSqlSafe(format!(
            "SELECT {columns}s.txid, s.height, s.refused_at_ms FROM {} AS r JOIN segments AS s ON s.cid = r.cid {rest}",
            Self::TABLE
        ))
    }
}

/// Reads a row of [`RecordRow::select`].
pub(super) fn stored_record(row: &AnyRow) -> Result<StoredRecord, DbError> {
    Ok(StoredRecord {
        row: RecordRow::read(row)?,
        txid: super::digest_opt(row, "txid")?,
        height: super::height(row)?,
        refused: row.try_get::<Option<i64>, _>("refused_at_ms")?.is_some(),
    })
}

/// What a column of the row can hold.
trait Cell: Sized {
    /// Binds it as the next parameter.
    fn bind<'q>(&self, query: Query<'q>) -> Result<Query<'q>, DbError>;
    /// Reads it; a value that the column may not hold is an error.
    fn read(row: &AnyRow, column: &'static str) -> Result<Self, DbError>;
    /// As the authentication tag binds it: numbers and times big-endian in their width, what is absent like what is
    /// empty.
    fn part(&self) -> Cow<'_, [u8]>;
}

impl Cell for String {
    fn bind<'q>(&self, query: Query<'q>) -> Result<Query<'q>, DbError> {
        Ok(query.bind(self.clone()))
    }
    fn read(row: &AnyRow, column: &'static str) -> Result<Self, DbError> {
        Ok(row.try_get(column)?)
    }
    fn part(&self) -> Cow<'_, [u8]> {
        self.as_bytes().into()
    }
}

impl Cell for Option<String> {
    fn bind<'q>(&self, query: Query<'q>) -> Result<Query<'q>, DbError> {
        Ok(query.bind(self.clone()))
    }
    fn read(row: &AnyRow, column: &'static str) -> Result<Self, DbError> {
        Ok(row.try_get(column)?)
    }
    fn part(&self) -> Cow<'_, [u8]> {
        self.as_deref().unwrap_or_default().as_bytes().into()
    }
}

impl Cell for Vec<u8> {
    fn bind<'q>(&self, query: Query<'q>) -> Result<Query<'q>, DbError> {
        Ok(query.bind(self.clone()))
    }
    fn read(row: &AnyRow, column: &'static str) -> Result<Self, DbError> {
        Ok(row.try_get(column)?)
    }
    fn part(&self) -> Cow<'_, [u8]> {
        self.as_slice().into()
    }
}

impl Cell for Option<Vec<u8>> {
    fn bind<'q>(&self, query: Query<'q>) -> Result<Query<'q>, DbError> {
        Ok(query.bind(self.clone()))
    }
    fn read(row: &AnyRow, column: &'static str) -> Result<Self, DbError> {
        Ok(row.try_get(column)?)
    }
    fn part(&self) -> Cow<'_, [u8]> {
        self.as_deref().unwrap_or_default().into()
    }
}

impl Cell for u32 {
    fn bind<'q>(&self, query: Query<'q>) -> Result<Query<'q>, DbError> {
        Ok(query.bind(i64::from(*self)))
    }
    fn read(row: &AnyRow, column: &'static str) -> Result<Self, DbError> {
        number(row, column)
    }
    fn part(&self) -> Cow<'_, [u8]> {
        self.to_be_bytes().to_vec().into()
    }
}

impl Cell for u64 {
    fn bind<'q>(&self, query: Query<'q>) -> Result<Query<'q>, DbError> {
        Ok(query.bind(stored(*self)?))
    }
    fn read(row: &AnyRow, column: &'static str) -> Result<Self, DbError> {
        number(row, column)
    }
    fn part(&self) -> Cow<'_, [u8]> {
        self.to_be_bytes().to_vec().into()
    }
}

impl Cell for Timestamp {
    fn bind<'q>(&self, query: Query<'q>) -> Result<Query<'q>, DbError> {
        Ok(query.bind(self.ms()))
    }
    fn read(row: &AnyRow, column: &'static str) -> Result<Self, DbError> {
        Ok(Self::from_ms(row.try_get(column)?))
    }
    fn part(&self) -> Cow<'_, [u8]> {
        self.ms().to_be_bytes().to_vec().into()
    }
}

impl Cell for RecordId {
    fn bind<'q>(&self, query: Query<'q>) -> Result<Query<'q>, DbError> {
        Ok(query.bind(self.as_str().to_owned()))
    }
    fn read(row: &AnyRow, column: &'static str) -> Result<Self, DbError> {
        super::record_id(row, column)
    }
    fn part(&self) -> Cow<'_, [u8]> {
        self.as_str().as_bytes().into()
    }
}

impl Cell for Category {
    fn bind<'q>(&self, query: Query<'q>) -> Result<Query<'q>, DbError> {
        Ok(query.bind(self.code()))
    }
    fn read(row: &AnyRow, column: &'static str) -> Result<Self, DbError> {
        super::category(row, column)
    }
    fn part(&self) -> Cow<'_, [u8]> {
        self.code().as_bytes().into()
    }
}

impl Cell for Digest {
    fn bind<'q>(&self, query: Query<'q>) -> Result<Query<'q>, DbError> {
        Ok(query.bind(self.to_string()))
    }
    fn read(row: &AnyRow, column: &'static str) -> Result<Self, DbError> {
        super::digest(row, column)
    }
    fn part(&self) -> Cow<'_, [u8]> {
        self.as_bytes().as_slice().into()
    }
}

#[cfg(test)]
mod tests {
    use hbc_types::Random;
    use hbc_types::ids::{AccountId, PatientId};
    use hbc_types::labels::Sensitivity;
    use hbc_types::secret::{Bytes, Key32};

    use super::*;
    use crate::domain::index::{IndexKey, RowError, RowSecret};
    use crate::domain::moment::Span;

    fn row() -> RecordRow {
        RecordRow {
            id: RecordId::random(&Random::seeded(3)),
            version: 1,
            kind: "Observation".to_owned(),
            category: Category::Laboratory,
            date0: Some("2020-01-01".to_owned()),
            date1: None,
            n: 4,
            kek_epoch: 1,
            wrapped: b"wrap".to_vec(),
            cid: "bafk".to_owned(),
            position: 0,
            offset: 0,
            length: 9,
            commitment: Digest::of(b"c"),
            created_at: Timestamp::from_ms(5),
            patient: "p".to_owned(),
            sensitivity: "c".to_owned(),
            deleted: 0,
            index_version: 1,
            encrypted: Vec::new(),
            facts: None,
        }
    }

    #[test]
    fn every_clear_column_is_bound() {
        let (key, random) = (IndexKey::new(&Key32::new([7; 32])), Random::seeded(3));
        let row = row();
        let secret = RowSecret {
            patient: PatientId::random(&random),
            sensitivity: Sensitivity::Normal,
            author: AccountId::Patient(PatientId::random(&random)),
            salt: Bytes::new(vec![1; 32]),
            received: Digest::of(b"r"),
            encrypted: Digest::of(b"s"),
            bytes: 3,
            media_type: "text/plain".to_owned(),
            when: Some(Span(Some(5), None)),
            deleted: false,
        };
        let encrypted = key.encrypt_row(&row.bound(), &secret, &random).unwrap();
        assert_eq!(key.open_row(&row.bound(), &encrypted), Ok(secret));
        for changed in [
            RecordRow { id: RecordId::random(&random), ..row.clone() },
            RecordRow { version: 2, ..row.clone() },
            RecordRow { kind: "Condition".to_owned(), ..row.clone() },
            RecordRow { category: Category::Condition, ..row.clone() },
            RecordRow { date0: None, date1: Some("2020-01-01".to_owned()), ..row.clone() },
            RecordRow { n: 5, ..row.clone() },
            RecordRow { kek_epoch: 2, ..row.clone() },
            RecordRow { wrapped: b"warp".to_vec(), ..row.clone() },
            RecordRow { cid: "bafy".to_owned(), ..row.clone() },
            RecordRow { position: 1, ..row.clone() },
            RecordRow { offset: 1, ..row.clone() },
            RecordRow { length: 8, ..row.clone() },
            RecordRow { commitment: Digest::of(b"d"), ..row.clone() },
            RecordRow { created_at: Timestamp::from_ms(6), ..row.clone() },
        ] {
            assert_eq!(key.open_row(&changed.bound(), &encrypted), Err(RowError), "{changed:?}");
        }
    }

    /// Rows that were encrypted by an earlier build open: their bytes are these.
    #[test]
    fn the_bound_bytes_are_the_documented_list() {
        let row = row();
        let parts: [&[u8]; 15] = [
            row.id.as_str().as_bytes(),
            &[0, 0, 0, 1],
            b"Observation",
            b"laboratory",
            b"2020-01-01",
            b"",
            &[0, 0, 0, 0, 0, 0, 0, 4],
            &[0, 0, 0, 1],
            b"wrap",
            b"bafk",
            &[0; 4],
            &[0; 8],
            &[0, 0, 0, 0, 0, 0, 0, 9],
            row.commitment.as_bytes(),
            &[0, 0, 0, 0, 0, 0, 0, 5],
        ];
        assert_eq!(row.bound(), hbc_types::hash::aad("hbc/storage-row/v1", &parts));
    }
}
