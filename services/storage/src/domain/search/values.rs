//! Values of a query: tokens, numbers, quantities and texts, with alternatives after commas.
//!
//! Source: <https://hl7.org/fhir/R4/search.html#escaping>.

use crate::domain::criteria::{split, unescape};
use crate::domain::date_search::prefix;
use crate::domain::search::decimal::Decimal;
use crate::domain::search::matching::{Amount, Token};
use crate::domain::search::text::plain;

/// Parameters of one query, and alternatives of one parameter, at most.
pub const MOST: usize = 64;
/// Resources on a page unless the client says otherwise.
pub const DEFAULT_COUNT: u32 = 50;
/// Resources on a page at most.
pub const MOST_COUNT: u32 = 500;

/// A query is not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` {message}")]
pub struct QueryError {
    /// The parameter.
    pub name: String,
    /// What is wrong with it.
    pub message: String,
}

/// What is wrong with a parameter.
pub fn wrong(name: &str, message: impl Into<String>) -> QueryError {
    QueryError { name: name.to_owned(), message: message.into() }
}

/// How many on a page.
pub fn count(value: &str) -> Result<u32, QueryError> {
    let is_number = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    // More than there is on a page is as much as there is on a page.
    let count = is_number.then(|| value.parse().unwrap_or(MOST_COUNT));
    let count = count.ok_or_else(|| wrong("_count", "must be a whole number from 0 on"))?;
    Ok(count.min(MOST_COUNT))
}

/// The alternatives of a value, each read.
pub fn alternatives<T>(
    name: &str,
    value: &str,
    read: impl Fn(&str) -> Option<T>,
) -> Result<Vec<T>, QueryError> {
    let all: Option<Vec<T>> = split(value, ',').map(read).collect();
    let all = all.ok_or_else(|| wrong(name, "is not written as FHIR writes it"))?;
    if all.len() > MOST { Err(wrong(name, "has too many alternatives")) } else { Ok(all) }
}

/// `code`, `system|code`, `|code`, `system|`.
#[must_use]
pub fn token(text: &str) -> Option<Token> {
    let mut parts = split(text, '|');
    let first = unescape(parts.next()?)?;
    // A value may have further bars in it.
    let rest: Vec<&str> = parts.collect();
    if rest.is_empty() {
        return (!first.is_empty()).then_some(Token { system: None, code: Some(first) });
    }
    let code = unescape(&rest.join("|"))?;
    let code = (!code.is_empty()).then_some(code);
    (code.is_some() || !first.is_empty()).then_some(Token { system: Some(first), code })
}

/// A text as it is compared.
#[must_use]
pub fn plain_text(text: &str) -> Option<String> {
    let text = plain(&unescape(text)?);
    (!text.is_empty()).then_some(text)
}

/// `5.4`, `ge5`.
#[must_use]
pub fn number(text: &str) -> Option<Amount> {
    let (prefix, rest) = prefix(text);
    Some(Amount { prefix, number: Decimal::parse(rest)?, system: None, unit: None })
}

/// `5.4`, `5.4|system|code`, `5.4||unit`.
#[must_use]
pub fn quantity(text: &str) -> Option<Amount> {
    let mut parts = split(text, '|');
    let amount = number(parts.next()?)?;
    let rest: Vec<String> = parts.map(unescape).collect::<Option<_>>()?;
    let some = |text: &String| (!text.is_empty()).then(|| text.clone());
    match rest.as_slice() {
        [] => Some(amount),
        [system, unit] => Some(Amount { system: some(system), unit: some(unit), ..amount }),
        _ => None,
    }
}
