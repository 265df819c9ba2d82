//! Reading typed values out of rows, and writing them as columns keep them. A value that its column may not hold is
//! [`DbError::BadValue`], never a default.

use std::str::FromStr;

use hbc_types::{Digest, Timestamp};
use sqlx::Row as _;
use sqlx::any::AnyRow;

use crate::DbError;

/// A row being read. `…_opt` reads a nullable column.
#[derive(Clone, Copy)]
pub struct Reader<'r>(pub &'r AnyRow);

impl std::fmt::Debug for Reader<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reader(…)")
    }
}

impl Reader<'_> {
    /// A text.
    pub fn text(&self, column: &'static str) -> Result<String, DbError> {
        Ok(self.0.try_get(column)?)
    }

    /// A text, if there is one.
    pub fn text_opt(&self, column: &'static str) -> Result<Option<String>, DbError> {
        Ok(self.0.try_get(column)?)
    }

    /// A text that parses.
    pub fn parsed<T: FromStr>(&self, column: &'static str) -> Result<T, DbError> {
        self.text(column)?.parse().map_err(|_other| bad(column))
    }

    /// A text that parses, if there is one.
    pub fn parsed_opt<T: FromStr>(&self, column: &'static str) -> Result<Option<T>, DbError> {
        self.text_opt(column)?.map(|text| text.parse().map_err(|_other| bad(column))).transpose()
    }

    /// A code out of a fixed list, as `parse` knows them.
    pub fn code<T>(&self, column: &'static str, parse: impl FnOnce(&str) -> Option<T>) -> Result<T, DbError> {
        parse(&self.text(column)?).ok_or_else(|| bad(column))
    }

    /// A code out of a fixed list, if there is one.
    pub fn code_opt<T>(
        &self,
        column: &'static str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, DbError> {
        self.text_opt(column)?.map(|text| parse(&text).ok_or_else(|| bad(column))).transpose()
    }

    /// Bytes.
    pub fn bytes(&self, column: &'static str) -> Result<Vec<u8>, DbError> {
        Ok(self.0.try_get(column)?)
    }

    /// Bytes, if there are any.
    pub fn bytes_opt(&self, column: &'static str) -> Result<Option<Vec<u8>>, DbError> {
        Ok(self.0.try_get(column)?)
    }

    /// Exactly `N` bytes.
    pub fn array<const N: usize>(&self, column: &'static str) -> Result<[u8; N], DbError> {
        self.bytes(column)?.try_into().map_err(|_length| bad(column))
    }

    /// Exactly `N` bytes, if there are any.
    pub fn array_opt<const N: usize>(&self, column: &'static str) -> Result<Option<[u8; N]>, DbError> {
        self.bytes_opt(column)?.map(|bytes| bytes.try_into().map_err(|_length| bad(column))).transpose()
    }

    /// A number of whatever width.
    pub fn number<T: TryFrom<i64>>(&self, column: &'static str) -> Result<T, DbError> {
        let value: i64 = self.0.try_get(column)?;
        T::try_from(value).map_err(|_range| bad(column))
    }

    /// A number of whatever width, if there is one.
    pub fn number_opt<T: TryFrom<i64>>(&self, column: &'static str) -> Result<Option<T>, DbError> {
        let value: Option<i64> = self.0.try_get(column)?;
        value.map(|value| T::try_from(value).map_err(|_range| bad(column))).transpose()
    }

    /// An instant.
    pub fn time(&self, column: &'static str) -> Result<Timestamp, DbError> {
        self.number(column).map(Timestamp::from_ms)
    }

    /// An instant, if there is one.
    pub fn time_opt(&self, column: &'static str) -> Result<Option<Timestamp>, DbError> {
        Ok(self.number_opt(column)?.map(Timestamp::from_ms))
    }
}

/// The error of a value that its column may not hold.
#[must_use]
pub const fn bad(column: &'static str) -> DbError {
    DbError::BadValue { column }
}

/// An unsigned number as the databases keep it.
pub fn stored(value: u64, column: &'static str) -> Result<i64, DbError> {
    i64::try_from(value).map_err(|_range| bad(column))
}

/// A digest for a nullable column.
#[must_use]
pub fn digest_text(digest: Option<&Digest>) -> Option<String> {
    digest.map(ToString::to_string)
}

/// An instant for a nullable column.
#[must_use]
pub fn ms(at: Option<Timestamp>) -> Option<i64> {
    at.map(Timestamp::ms)
}
