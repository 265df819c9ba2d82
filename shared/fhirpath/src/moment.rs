//! Dates and times, and what they cover.

use time::{Date, Month};

const MINUTE_MS: i64 = 60_000;
const DAY_MS: i64 = 24 * 60 * MINUTE_MS;

/// The first and the last millisecond that a date or time covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moment {
    first: i64,
    last: i64,
    /// Whether it says its offset from UTC.
    zoned: bool,
}

impl Moment {
    /// A `date`, `dateTime` or `instant`.
    pub fn parse(text: &str) -> Option<Self> {
        let (date, time) = match text.split_once('T') {
            Some((date, time)) => (date, Some(time)),
            None => (text, None),
        };
        let mut parts = date.split('-');
        let year: i32 = digits(parts.next()?, 4)?.try_into().ok()?;
        let month = parts.next().map(|month| digits(month, 2)).map_or(Some(None), |month| month.map(Some))?;
        let day = parts.next().map(|day| digits(day, 2)).map_or(Some(None), |day| day.map(Some))?;
        if parts.next().is_some() {
            return None;
        }
        let first = day_ms(year, month.unwrap_or(1), day.unwrap_or(1))?;
        let next = match (month, day) {
            (_, Some(_)) => first.checked_add(DAY_MS)?,
            // Not by the next year's first day: the year 9999 has no next one.
            (Some(12) | None, None) => day_ms(year, 12, 31)?.checked_add(DAY_MS)?,
            (Some(month), None) => day_ms(year, month.checked_add(1)?, 1)?,
        };
        match (time, day) {
            (None, _) => Some(Self { first, last: next - 1, zoned: false }),
            (Some(time), Some(_)) => Self::of_time(first, time),
            (Some(_), None) => None,
        }
    }

    fn of_time(day: i64, text: &str) -> Option<Self> {
        let end = text.find(['Z', '+', '-'])?;
        let (time, zone) = text.split_at_checked(end)?;
        let (seconds, fraction) = time.split_once('.').unwrap_or((time, ""));
        let mut parts = seconds.split(':');
        let mut part = || parts.next().and_then(|part| digits(part, 2));
        let (hour, minute, second) = (part()?, part()?, part()?);
        let milliseconds: i64 = format!("{fraction:0<3}").get(..3)?.parse().ok()?;
        let offset = match zone.strip_prefix(['+', '-']).and_then(|zone| zone.split_once(':')) {
            Some((hours, minutes)) => digits(hours, 2)? * 60 + digits(minutes, 2)?,
            None if zone == "Z" => 0,
            None => return None,
        };
        let offset = if zone.starts_with('-') { -offset } else { offset };
        let local = (hour * 60 + minute - offset) * MINUTE_MS + second * 1000 + milliseconds;
        let first = day.checked_add(local)?;
        let covered = if fraction.is_empty() { 999 } else { 0 };
        Some(Self { first, last: first + covered, zoned: true })
    }

    /// Whether it may be no later than another: what it covers begins no later than what the other covers ends.
    ///
    /// R4's `start <= end` is empty, so not true, where precisions differ. R5 compares as here, with `lowBoundary` and
    /// `highBoundary`: a day without an offset begins 14 hours before it does in UTC, and ends 12 hours after.
    pub fn may_be_until(self, other: Self) -> bool {
        let (mut first, mut last) = (self.first, other.last);
        if self.zoned != other.zoned {
            first -= if self.zoned { 0 } else { 14 * 60 * MINUTE_MS };
            last += if other.zoned { 0 } else { 12 * 60 * MINUTE_MS };
        }
        first <= last
    }
}

fn digits(text: &str, count: usize) -> Option<i64> {
    let plain = text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}

fn day_ms(year: i32, month: i64, day: i64) -> Option<i64> {
    let month = Month::try_from(u8::try_from(month).ok()?).ok()?;
    let date = Date::from_calendar_date(year, month, u8::try_from(day).ok()?).ok()?;
    Some(i64::from(date.to_julian_day()) * DAY_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shorter_covers_more() {
        let until =
            |one: &str, other: &str| Moment::parse(one).unwrap().may_be_until(Moment::parse(other).unwrap());
        for (one, other, may) in [
            ("2020", "2020-05", true),
            ("2020-05", "2020", true),
            ("2020-05", "2020-04", false),
            ("2020-05-02", "2020-05-01", false),
            ("2020-05-01T23:00:00-05:00", "2020-05-01", true),
            ("2020-05-03T00:00:00Z", "2020-05-01", false),
            ("2020-05-01T10:00:00Z", "2020-05-01T10:00:00+01:00", false),
            ("2020-05-01T10:00:00.5Z", "2020-05-01T10:00:00Z", true),
            ("2020-05-01T10:00:00.5Z", "2020-05-01T10:00:00.49Z", false),
            ("2021-01-01", "2020", false),
            ("2021-01-01", "9999", true),
            ("9999-12-31", "9999-12", true),
            ("2020-12-31", "2020-12", true),
            ("2021-01-01", "2020-12", false),
        ] {
            assert_eq!(until(one, other), may, "{one} {other}");
        }
        for wrong in
            ["", "20", "2020-13", "2020-02-30", "2020-05T10:00:00Z", "2020-05-01T10:00Z", "a-b", "9999-é"]
        {
            assert_eq!(Moment::parse(wrong), None, "{wrong}");
        }
    }
}
