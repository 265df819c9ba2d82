//! Typed reading of columns; a value that its column may not hold is [`DbError::BadValue`].

use hbc_db::DbError;
use hbc_types::Timestamp;
use sqlx::Row as _;
use sqlx::any::AnyRow;

use crate::store::StoreError;

/// A row being read.
pub struct Reader<'r>(pub &'r AnyRow);

impl Reader<'_> {
    pub fn text(&self, column: &'static str) -> Result<String, StoreError> {
        Ok(self.0.try_get(column)?)
    }

    pub fn text_opt(&self, column: &'static str) -> Result<Option<String>, StoreError> {
        Ok(self.0.try_get(column)?)
    }

    pub fn int(&self, column: &'static str) -> Result<i64, StoreError> {
        Ok(self.0.try_get(column)?)
    }

    pub fn int_opt(&self, column: &'static str) -> Result<Option<i64>, StoreError> {
        Ok(self.0.try_get(column)?)
    }

    pub fn bytes(&self, column: &'static str) -> Result<Vec<u8>, StoreError> {
        Ok(self.0.try_get(column)?)
    }

    pub fn bytes_opt(&self, column: &'static str) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.0.try_get(column)?)
    }

    pub fn array<const N: usize>(&self, column: &'static str) -> Result<[u8; N], StoreError> {
        self.bytes(column)?.try_into().map_err(|_length| bad(column))
    }

    pub fn array_opt<const N: usize>(&self, column: &'static str) -> Result<Option<[u8; N]>, StoreError> {
        self.bytes_opt(column)?.map(|bytes| bytes.try_into().map_err(|_length| bad(column))).transpose()
    }

    pub fn time(&self, column: &'static str) -> Result<Timestamp, StoreError> {
        self.int(column).map(Timestamp::from_ms)
    }

    pub fn time_opt(&self, column: &'static str) -> Result<Option<Timestamp>, StoreError> {
        Ok(self.int_opt(column)?.map(Timestamp::from_ms))
    }

    pub fn parsed<T>(
        &self,
        column: &'static str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, StoreError> {
        parse(&self.text(column)?).ok_or_else(|| bad(column))
    }

    pub fn parsed_opt<T>(
        &self,
        column: &'static str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, StoreError> {
        self.text_opt(column)?.map(|text| parse(&text).ok_or_else(|| bad(column))).transpose()
    }

    pub fn small(&self, column: &'static str) -> Result<u32, StoreError> {
        u32::try_from(self.int(column)?).map_err(|_range| bad(column))
    }
}

pub fn bad(column: &'static str) -> StoreError {
    StoreError::Db(DbError::BadValue { column })
}
