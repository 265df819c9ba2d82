//! Clinical days: when what a record tells of happened, and how anchors round it.
//!
//! Days come from clinical elements only, never from birth or death. An anchor shows its days on the ledger, so they
//! are rounded outward: a span of more than 31 days to whole months, of more than 3 years to whole years.
//!
//! Why: decision 0062.

use serde_json::Value;
use time::{Date, Duration, Month};

use crate::domain::moment::Span;

/// Elements that tell when something happened, in the order in which they are believed.
const ELEMENTS: [&str; 22] = [
    "effectiveDateTime",
    "effectiveInstant",
    "effectivePeriod",
    "performedDateTime",
    "performedPeriod",
    "occurrenceDateTime",
    "occurrencePeriod",
    "onsetDateTime",
    "onsetPeriod",
    "billablePeriod",
    "servicedDate",
    "servicedPeriod",
    "period",
    "started",
    "whenHandedOver",
    "authoredOn",
    "recordedDate",
    "date",
    "recorded",
    "created",
    "start",
    "sent",
];

/// The days that the ledger takes in an anchor, 1800-01-01 to 9999-12-31. Senders write `0001-01-01` and the like where they
/// do not know a day; the record keeps what they wrote.
const ANCHORED: std::ops::RangeInclusive<i32> = -62_091..=2_932_896;

/// How the index writes that there is no first or last day. (FHIR has no year 0000.)
pub const OPEN: (&str, &str) = ("0000-01-01", "9999-12-31");

/// When what a resource tells of happened, to the instant.
#[must_use]
pub fn span(resource: &Value) -> Option<Span> {
    ELEMENTS.iter().find_map(|name| Span::of(resource.get(*name)?))
}

/// A first and a last day, first ≤ last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Days {
    /// The first.
    pub first: Date,
    /// The last.
    pub last: Date,
}

impl Days {
    /// The days of a FHIR date, dateTime or instant as it is written: `2021`, `2021-04`, `2021-04-03…`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let year: i32 = text.get(..4)?.parse().ok()?;
        let Some(rest) = text.get(4..).filter(|rest| !rest.is_empty()) else {
            return Some(Self { first: day(year, 1, 1)?, last: day(year, 12, 31)? });
        };
        let month: u8 = rest.strip_prefix('-')?.get(..2)?.parse().ok()?;
        let Some(rest) = rest.get(3..).filter(|rest| !rest.is_empty()) else {
            return Some(Self { first: day(year, month, 1)?, last: month_end(year, month)? });
        };
        let number: u8 = rest.strip_prefix('-')?.get(..2)?.parse().ok()?;
        if !rest.get(3..).is_some_and(|rest| rest.is_empty() || rest.starts_with('T')) {
            return None;
        }
        let only = day(year, month, number)?;
        Some(Self { first: only, last: only })
    }

    /// The clinical days of a resource.
    #[must_use]
    pub fn of(resource: &Value) -> Option<Self> {
        ELEMENTS.iter().find_map(|name| match resource.get(*name)? {
            Value::String(text) => Self::parse(text),
            period @ Value::Object(_) => {
                let end = |name: &str| period.get(name).and_then(Value::as_str).and_then(Self::parse);
                let (start, end) = (end("start"), end("end"));
                let (first, last) = (start.or(end)?, end.or(start)?);
                // Some write the end first.
                let backwards = first.first > last.last;
                Some(if backwards { first.and(last) } else { Self { first: first.first, last: last.last } })
            }
            _ => None,
        })
    }

    /// As the index keeps them: a period with an open end reaches to the end of time, one with an open beginning from its
    /// beginning on.
    #[must_use]
    pub fn indexed(self, span: Option<Span>) -> (String, String) {
        match span {
            Some(Span(None, _)) => (OPEN.0.to_owned(), text(self.last)),
            Some(Span(_, None)) => (text(self.first), OPEN.1.to_owned()),
            _ => (text(self.first), text(self.last)),
        }
    }

    /// Both spans in one.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self { first: self.first.min(other.first), last: self.last.max(other.last) }
    }

    /// Rounded outward to whole months, beyond three years to whole years: as an anchor shows it.
    #[must_use]
    pub fn rounded(self) -> Self {
        let span = self.last - self.first;
        let (first, last) = if span > Duration::days(3 * 365) {
            (day(self.first.year(), 1, 1), day(self.last.year(), 12, 31))
        } else {
            let first = day(self.first.year(), u8::from(self.first.month()), 1);
            (first, month_end(self.last.year(), u8::from(self.last.month())))
        };
        Self { first: first.unwrap_or(self.first), last: last.unwrap_or(self.last) }
    }

    /// Days since 1970-01-01 of both ends, as an anchor can say them: what lies outside [`ANCHORED`] is moved to its end.
    #[must_use]
    pub fn numbers(self) -> (i32, i32) {
        let number = |date| number(date).clamp(*ANCHORED.start(), *ANCHORED.end());
        (number(self.first), number(self.last))
    }
}

/// `YYYY-MM-DD`.
#[must_use]
pub fn text(date: Date) -> String {
    format!("{:04}-{:02}-{:02}", date.year(), u8::from(date.month()), date.day())
}

fn number(date: Date) -> i32 {
    let epoch = time::OffsetDateTime::UNIX_EPOCH.date();
    date.to_julian_day() - epoch.to_julian_day()
}

fn day(year: i32, month: u8, day: u8) -> Option<Date> {
    Date::from_calendar_date(year, Month::try_from(month).ok()?, day).ok()
}

fn month_end(year: i32, month: u8) -> Option<Date> {
    day(year, month, Month::try_from(month).ok()?.length(year))
}

#[cfg(test)]
mod tests {
    use hbc_chain::payload::{Anchor, Payload, Segment};
    use hbc_chain::tx;
    use hbc_types::Digest;
    use hbc_types::keys::Tag;
    use serde_json::json;

    use super::*;

    fn shown(days: Days) -> (String, String) {
        (text(days.first), text(days.last))
    }

    fn pair(first: &str, last: &str) -> (String, String) {
        (first.to_owned(), last.to_owned())
    }

    #[test]
    fn partial_dates_span_what_they_leave_open() {
        assert_eq!(shown(Days::parse("2020").unwrap()), pair("2020-01-01", "2020-12-31"));
        assert_eq!(shown(Days::parse("2020-02").unwrap()), pair("2020-02-01", "2020-02-29"));
        assert_eq!(shown(Days::parse("2020-02-03T10:00:00Z").unwrap()), pair("2020-02-03", "2020-02-03"));
        for wrong in ["", "20", "2020-13", "2020-02-30", "2020/01", "x", "2020-02-03garbage"] {
            assert_eq!(Days::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn births_are_no_clinical_days() {
        assert_eq!(Days::of(&json!({"resourceType": "Patient", "birthDate": "1950-01-02"})), None);
        let visit = json!({"period": {"start": "2021-01-02T23:00:00+02:00", "end": "2021-01-03"}});
        assert_eq!(shown(Days::of(&visit).unwrap()), pair("2021-01-02", "2021-01-03"));
        let backwards = json!({"period": {"start": "2021-02-02", "end": "2021-01-03"}});
        assert_eq!(shown(Days::of(&backwards).unwrap()), pair("2021-01-03", "2021-02-02"));
    }

    #[test]
    fn anchors_show_months_and_years() {
        let span = |a: &str, b: &str| shown(Days::parse(a).unwrap().and(Days::parse(b).unwrap()).rounded());
        assert_eq!(span("2021-01-05", "2021-01-05"), pair("2021-01-01", "2021-01-31"));
        assert_eq!(span("2021-01-05", "2021-02-06"), pair("2021-01-01", "2021-02-28"));
        assert_eq!(span("2018-05-05", "2021-06-06"), pair("2018-01-01", "2021-12-31"));
        assert_eq!(Days::parse("1970-01-02").unwrap().numbers(), (1, 1));
    }

    /// Stand-ins for an unknown day are anchored like any other day: the ledger's own rules say so.
    #[test]
    fn days_that_nobody_lived_are_moved_to_where_the_ledger_takes_them() {
        let key = ed25519_dalek::SigningKey::from_bytes(&[7; 32]);
        for (text, moved) in [
            ("0000-01-01", "1800-01-01"),
            ("0001-01-01", "1800-01-01"),
            ("0001", "1800-01-01"),
            ("1583-01-01", "1800-01-01"),
            ("1753-01-01", "1800-01-01"),
            ("1799-12-31", "1800-01-01"),
            ("1800-01-01", "1800-01-01"),
            ("9999-12-31", "9999-12-01"),
        ] {
            let alone = Days::parse(text).unwrap();
            let with_today = alone.and(Days::parse("2026-11-29").unwrap());
            let (day, _) = alone.rounded().numbers();
            assert_eq!(day, Days::parse(moved).unwrap().numbers().0, "{text}");
            for days in [alone, with_today] {
                let (day0, day1) = days.rounded().numbers();
                let segments = vec![Segment { day0, day1, ..segment() }];
                let payload = Payload::Anchor(Anchor { chain: Digest::ZERO, iat: 1, segments });
                let signed = tx::sign(&key, &payload).unwrap();
                assert!(tx::Tx::parse(signed.as_bytes()).is_ok(), "{text}: {day0} to {day1}");
            }
        }
    }

    fn segment() -> Segment {
        Segment {
            bytes: 1,
            cid: "bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy".to_owned(),
            day0: 0,
            day1: 0,
            digest: Digest::ZERO,
            records: 1,
            root: Digest::ZERO,
            tag: Tag::from_bytes([0; 16]),
        }
    }
}
