//! FHIR's dates and times as the spans that they mean: `2020` is a year long, `2020-02-01T08:00:00Z` a second.
//!
//! Source: <https://hl7.org/fhir/R4/datatypes.html#dateTime>, <https://hl7.org/fhir/R4/search.html#date>.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::{Date, Month};

const SECOND: i64 = 1_000_000;
const MINUTE: i64 = 60 * SECOND;
const DAY: i64 = 24 * 60 * MINUTE;

/// Microseconds since 1970-01-01T00:00:00Z, the first and the last of a span; nothing where it is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span(pub Option<i64>, pub Option<i64>);

/// How exactly a time is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Precision {
    /// `2020`
    Year,
    /// `2020-02`
    Month,
    /// `2020-02-01`
    Day,
    /// `2020-02-01T08:00`: in searches only.
    Minute,
    /// `2020-02-01T08:00:00`, or a part of a second.
    Second,
}

/// A time as it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Its first microsecond. Without an offset, it is taken as UTC.
    pub first: i64,
    /// Its last one.
    pub last: i64,
    /// How exactly it is written.
    pub precision: Precision,
    /// Whether it says its offset.
    pub zoned: bool,
}

impl Moment {
    /// Reads a date, dateTime or instant, or what a search may say instead; nothing for a day that does not exist.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (date, time) = match text.split_once('T') {
            Some((date, time)) => (date, Some(time)),
            None => (text, None),
        };
        let mut parts = date.split('-');
        let year = digits(parts.next()?, 4)?;
        let month = parts.next().map(|part| digits(part, 2)).map_or(Some(None), |part| part.map(Some))?;
        let day = parts.next().map(|part| digits(part, 2)).map_or(Some(None), |part| part.map(Some))?;
        if year == 0 || parts.next().is_some() {
            return None;
        }
        let day_of = |month, day| start_of(year, month, day);
        let (first, next, precision) = match (month, day) {
            (None, _) => (day_of(1, 1)?, day_of(12, 31)? + DAY, Precision::Year),
            (Some(month), None) => {
                let length =
                    Month::try_from(u8::try_from(month).ok()?).ok()?.length(i32::try_from(year).ok()?);
                (day_of(month, 1)?, day_of(month, i64::from(length))? + DAY, Precision::Month)
            }
            (Some(month), Some(day)) => (day_of(month, day)?, day_of(month, day)? + DAY, Precision::Day),
        };
        match time {
            None => Some(Self { first, last: next - 1, precision, zoned: false }),
            Some(time) if precision == Precision::Day => Self::at(first, time),
            Some(_) => None,
        }
    }

    fn at(day: i64, text: &str) -> Option<Self> {
        let (clock, offset) = match text.find(['Z', '+', '-']) {
            Some(at) => (text.get(..at)?, Some(offset(text.get(at..)?)?)),
            None => (text, None),
        };
        let (since_midnight, width, precision) = clock_of(clock)?;
        let first = day + since_midnight - offset.unwrap_or(0);
        Some(Self { first, last: first + width - 1, precision, zoned: offset.is_some() })
    }

    /// Its span.
    #[must_use]
    pub const fn span(self) -> Span {
        Span(Some(self.first), Some(self.last))
    }
}

impl Span {
    /// Of a dateTime, or of a Period, whose missing ends are open.
    #[must_use]
    pub fn of(value: &Value) -> Option<Self> {
        match value {
            Value::String(text) => Moment::parse(text).map(Moment::span),
            Value::Object(period) => {
                let end = |name: &str| match period.get(name) {
                    Some(end) => end.as_str().and_then(Moment::parse).map(Some),
                    None => Some(None),
                };
                let (start, end) = (end("start")?, end("end")?);
                match (start, end) {
                    (None, None) => None,
                    // Some write the end first.
                    (Some(start), Some(end)) if start.first > end.last => {
                        Some(Self(Some(start.first.min(end.first)), Some(start.last.max(end.last))))
                    }
                    _ => Some(Self(start.map(|start| start.first), end.map(|end| end.last))),
                }
            }
            _ => None,
        }
    }
}

/// `hh:mm`, `hh:mm:ss` or `hh:mm:ss.f…`: microseconds since midnight, how many it spans, and how exact it is.
fn clock_of(text: &str) -> Option<(i64, i64, Precision)> {
    let mut parts = text.splitn(3, ':');
    let hour = digits(parts.next()?, 2).filter(|hour| *hour < 24)?;
    let minute = digits(parts.next()?, 2).filter(|minute| *minute < 60)?;
    let at = (hour * 60 + minute) * MINUTE;
    let Some(seconds) = parts.next() else { return Some((at, MINUTE, Precision::Minute)) };
    let (whole, part) = match seconds.split_once('.') {
        Some((whole, part)) => (whole, Some(part)),
        None => (seconds, None),
    };
    // A leap second is the first one of the next minute.
    let second = digits(whole, 2).filter(|second| *second <= 60)?;
    let (mut fraction, mut width) = (0, SECOND);
    if let Some(part) = part {
        if part.is_empty() || !part.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        // What is finer than a microsecond is cut off.
        for digit in part.bytes().take(6) {
            width /= 10;
            fraction += i64::from(digit - b'0') * width;
        }
    }
    Some((at + second * SECOND + fraction, width, Precision::Second))
}

/// Whether a text is FHIR's `time`: `hh:mm:ss`, with or without parts of a second.
#[must_use]
pub fn is_time(text: &str) -> bool {
    clock_of(text).is_some_and(|(_, _, precision)| precision == Precision::Second)
}

/// Microseconds of `Z`, `+02:00`, `-14:00`.
fn offset(text: &str) -> Option<i64> {
    if text == "Z" {
        return Some(0);
    }
    let (sign, rest) = match text.split_at_checked(1)? {
        ("+", rest) => (1, rest),
        ("-", rest) => (-1, rest),
        _ => return None,
    };
    let (hour, minute) = rest.split_once(':')?;
    let minutes = digits(hour, 2)? * 60 + digits(minute, 2).filter(|minute| *minute < 60)?;
    (minutes <= 14 * 60).then_some(sign * minutes * MINUTE)
}

/// A number of exactly so many digits.
fn digits(text: &str, count: usize) -> Option<i64> {
    let is_number = text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().ok()).flatten()
}

/// The first microsecond of a day.
fn start_of(year: i64, month: i64, day: i64) -> Option<i64> {
    let month = Month::try_from(u8::try_from(month).ok()?).ok()?;
    let date = Date::from_calendar_date(i32::try_from(year).ok()?, month, u8::try_from(day).ok()?).ok()?;
    let epoch = time::OffsetDateTime::UNIX_EPOCH.date().to_julian_day();
    Some(i64::from(date.to_julian_day() - epoch) * DAY)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn span(text: &str) -> (i64, i64) {
        let moment = Moment::parse(text).unwrap_or_else(|| panic!("{text}"));
        (moment.first, moment.last)
    }

    #[test]
    fn a_time_spans_what_it_leaves_open() {
        assert_eq!(span("1970"), (0, 365 * DAY - 1));
        assert_eq!(span("1970-02"), (31 * DAY, 59 * DAY - 1));
        assert_eq!(span("1970-01-02"), (DAY, 2 * DAY - 1));
        assert_eq!(span("1970-01-01T01:00"), (60 * MINUTE, 61 * MINUTE - 1));
        assert_eq!(span("1970-01-01T00:00:01Z"), (SECOND, 2 * SECOND - 1));
        assert_eq!(span("1970-01-01T02:00:00.5+02:00"), (SECOND / 2, SECOND / 2 + SECOND / 10 - 1));
        assert_eq!(span("1970-01-01T00:00:00.1234567Z"), (123_456, 123_456));
        assert_eq!(span("1969-12-31T23:59:60Z").0, 0);
        assert_eq!(span("2024-02-29").1 - span("2024-02-29").0, DAY - 1);
    }

    #[test]
    fn what_is_no_time_is_none() {
        for text in [
            "",
            "20",
            "0000",
            "2020-13",
            "2020-00",
            "2020-02-30",
            "2021-02-29",
            "2020/01",
            "2020-1-1",
            "2020-01-01garbage",
            "2020-01-01T",
            "2020-01-01T24:00:00Z",
            "2020-01-01T08:60:00Z",
            "2020-01-01T08:00:61Z",
            "2020-01-01T08:00:00.Z",
            "2020-01-01T08:00:00z",
            "2020T08:00:00Z",
            "2020-01-01T08:00:00+15:00",
            "2020-01-01T08:00:00+2:00",
            "2020-01-01 08:00:00Z",
            "+2020",
            "2020-",
            "2020-01-01-01",
            "２０２０",
        ] {
            assert_eq!(Moment::parse(text), None, "{text}");
        }
        assert!(is_time("08:00:00.25") && !is_time("08:00") && !is_time("08:00:00Z"));
    }

    #[test]
    fn an_open_period_reaches_on() {
        let day = |text: &str| span(text);
        let of = |value: Value| Span::of(&value);
        let (june, july) = (day("2026-06-01"), day("2026-07-01"));
        assert_eq!(of(json!({"start": "2026-06-01"})), Some(Span(Some(june.0), None)));
        assert_eq!(of(json!({"end": "2026-06-01"})), Some(Span(None, Some(june.1))));
        assert_eq!(
            of(json!({"start": "2026-06-01", "end": "2026-07-01"})),
            Some(Span(Some(june.0), Some(july.1)))
        );
        assert_eq!(
            of(json!({"start": "2026-07-01", "end": "2026-06-01"})),
            Some(Span(Some(june.0), Some(july.1)))
        );
        assert_eq!(of(json!({"start": "soon"})), None);
        assert_eq!(of(json!({})), None);
    }
}
