//! Reading typed values out of rows: a value that does not parse is an error of its own, never a default.

use std::str::FromStr;

use hbc_db::DbError;
use hbc_types::{Digest, Timestamp};
use sqlx::Row;
use sqlx::any::AnyRow;

/// A column's text, parsed.
pub fn parsed<T: FromStr>(row: &AnyRow, column: &'static str) -> Result<T, DbError> {
    let text: String = row.try_get(column)?;
    text.parse().map_err(|_other| DbError::BadValue { column })
}

/// A nullable column's text, parsed.
pub fn parsed_option<T: FromStr>(row: &AnyRow, column: &'static str) -> Result<Option<T>, DbError> {
    let text: Option<String> = row.try_get(column)?;
    text.map(|text| text.parse().map_err(|_other| DbError::BadValue { column })).transpose()
}

/// A column's code.
pub fn code<T>(row: &AnyRow, column: &'static str, parse: impl Fn(&str) -> Option<T>) -> Result<T, DbError> {
    let text: String = row.try_get(column)?;
    parse(&text).ok_or(DbError::BadValue { column })
}

/// A nullable column's code.
pub fn code_option<T>(
    row: &AnyRow,
    column: &'static str,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<Option<T>, DbError> {
    let text: Option<String> = row.try_get(column)?;
    text.map(|text| parse(&text).ok_or(DbError::BadValue { column })).transpose()
}

/// A column's instant.
pub fn time(row: &AnyRow, column: &'static str) -> Result<Timestamp, DbError> {
    Ok(Timestamp::from_ms(row.try_get(column)?))
}

/// A nullable column's instant.
pub fn time_option(row: &AnyRow, column: &'static str) -> Result<Option<Timestamp>, DbError> {
    Ok(row.try_get::<Option<i64>, _>(column)?.map(Timestamp::from_ms))
}

/// A column's number.
pub fn number(row: &AnyRow, column: &'static str) -> Result<u64, DbError> {
    let value: i64 = row.try_get(column)?;
    u64::try_from(value).map_err(|_negative| DbError::BadValue { column })
}

/// A nullable column's number.
pub fn number_option(row: &AnyRow, column: &'static str) -> Result<Option<u64>, DbError> {
    let value: Option<i64> = row.try_get(column)?;
    value.map(|value| u64::try_from(value).map_err(|_negative| DbError::BadValue { column })).transpose()
}

/// A number for a column.
pub fn stored(value: u64, column: &'static str) -> Result<i64, DbError> {
    i64::try_from(value).map_err(|_range| DbError::BadValue { column })
}

/// A digest for a nullable column.
pub fn digest_text(digest: Option<&Digest>) -> Option<String> {
    digest.map(ToString::to_string)
}

/// An instant for a nullable column.
pub fn ms(at: Option<Timestamp>) -> Option<i64> {
    at.map(Timestamp::ms)
}
