//! Instants as Unix milliseconds, and the clock as a parameter.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// An instant: milliseconds since the Unix epoch. On the wire RFC 3339 in UTC with milliseconds; in
/// databases, signed texts and blocks the number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

/// The text is not an RFC 3339 instant between the years 0000 and 9999.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an RFC 3339 instant")]
pub struct ParseTimestampError;

/// The largest instant that RFC 3339 can write: 9999-12-31T23:59:59.999Z.
const MAX_MS: i64 = 253_402_300_799_999;

impl Timestamp {
    /// From Unix milliseconds; out-of-range values are clamped to years 1970–9999.
    #[must_use]
    pub const fn from_ms(ms: i64) -> Self {
        if ms < 0 {
            Self(0)
        } else if ms > MAX_MS {
            Self(MAX_MS)
        } else {
            Self(ms)
        }
    }

    /// Unix milliseconds.
    #[must_use]
    pub const fn ms(self) -> i64 {
        self.0
    }

    /// Unix milliseconds as the unsigned number that blocks and signed payloads carry.
    #[must_use]
    pub const fn unsigned_ms(self) -> u64 {
        self.0.unsigned_abs()
    }

    /// Unix seconds, rounded down: what JWT claims carry.
    #[must_use]
    pub const fn seconds(self) -> i64 {
        self.0 / 1000
    }

    /// This instant and `duration` after it.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        let ms = i64::try_from(duration.as_millis()).unwrap_or(MAX_MS);
        Self::from_ms(self.0.saturating_add(ms))
    }

    /// This instant and `duration` before it.
    #[must_use]
    pub fn minus(self, duration: Duration) -> Self {
        let ms = i64::try_from(duration.as_millis()).unwrap_or(MAX_MS);
        Self::from_ms(self.0.saturating_sub(ms))
    }

    /// Time from `earlier` to this instant; zero if `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// Parses RFC 3339; finer parts than a millisecond are cut.
    pub fn parse(text: &str) -> Result<Self, ParseTimestampError> {
        let instant = OffsetDateTime::parse(text, &Rfc3339).map_err(|_not_rfc3339| ParseTimestampError)?;
        let ms = i64::try_from(instant.unix_timestamp_nanos().div_euclid(1_000_000));
        match ms {
            Ok(ms) if (0..=MAX_MS).contains(&ms) => Ok(Self(ms)),
            _ => Err(ParseTimestampError),
        }
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let instant =
            OffsetDateTime::from_unix_timestamp(self.seconds()).unwrap_or(OffsetDateTime::UNIX_EPOCH);
        write!(
            f,
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
            instant.year(),
            u8::from(instant.month()),
            instant.day(),
            instant.hour(),
            instant.minute(),
            instant.second(),
            self.0 % 1000
        )
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

impl utoipa::PartialSchema for Timestamp {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        crate::schema::text("^[0-9]{4}-[0-9]{2}-[0-9]{2}T.*$", "RFC 3339 instant, UTC").into()
    }
}
impl utoipa::ToSchema for Timestamp {}

/// Where the time comes from: the machine, or a test that moves it by hand.
#[derive(Clone)]
pub struct Clock(ClockSource);

#[derive(Clone)]
enum ClockSource {
    System,
    Fixed(Arc<AtomicI64>),
}

impl Clock {
    /// The machine's wall clock.
    #[must_use]
    pub const fn system() -> Self {
        Self(ClockSource::System)
    }

    /// A clock that stands at `start` until [`Clock::advance`] moves it.
    #[must_use]
    pub fn fixed(start: Timestamp) -> Self {
        Self(ClockSource::Fixed(Arc::new(AtomicI64::new(start.ms()))))
    }

    /// The present instant.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            #[expect(clippy::disallowed_methods, reason = "this is the one home of the wall clock")]
            ClockSource::System => {
                let since =
                    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
                Timestamp::from_ms(i64::try_from(since.as_millis()).unwrap_or(MAX_MS))
            }
            ClockSource::Fixed(ms) => Timestamp::from_ms(ms.load(Ordering::SeqCst)),
        }
    }

    /// Moves a fixed clock forward; the system clock takes no orders.
    pub fn advance(&self, by: Duration) {
        if let ClockSource::Fixed(ms) = &self.0 {
            ms.fetch_add(i64::try_from(by.as_millis()).unwrap_or(0), Ordering::SeqCst);
        }
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            ClockSource::System => "Clock(system)",
            ClockSource::Fixed(_) => "Clock(fixed)",
        })
    }
}

/// The Julian day of 1970-01-01.
const JULIAN_EPOCH: i32 = 2_440_588;

/// A day written `YYYY-MM-DD`, as days since 1970-01-01. None for any other text.
#[must_use]
pub fn parse_day(text: &str) -> Option<i32> {
    let mut parts = text.split('-');
    let (Some(year), Some(month), Some(day), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return None;
    };
    let digits = |part: &str, length: usize| {
        let plain = part.len() == length && part.bytes().all(|byte| byte.is_ascii_digit());
        plain.then(|| part.parse::<u16>().ok()).flatten()
    };
    let month = time::Month::try_from(u8::try_from(digits(month, 2)?).ok()?).ok()?;
    let day = u8::try_from(digits(day, 2)?).ok()?;
    let date = time::Date::from_calendar_date(i32::from(digits(year, 4)?), month, day).ok()?;
    Some(date.to_julian_day() - JULIAN_EPOCH)
}

/// Days since 1970-01-01, written `YYYY-MM-DD`; outside the years 0 to 9999, the number.
#[must_use]
pub fn day_text(day: i32) -> String {
    let date = day.checked_add(JULIAN_EPOCH).and_then(|day| time::Date::from_julian_day(day).ok());
    let date = date.filter(|date| (0..=9999).contains(&date.year()));
    date.map_or_else(|| format!("day {day}"), |date| date.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_numbered_from_1970() {
        for (text, number) in
            [("1970-01-01", 0), ("1969-12-31", -1), ("2026-11-24", 20_781), ("2024-02-29", 19_782)]
        {
            assert_eq!(parse_day(text), Some(number));
            assert_eq!(day_text(number), text);
        }
        for text in
            ["", "2026", "2026-11", "2026-1-2", "2023-02-29", "2026-13-01", "2026-11-24Z", "+026-01-01"]
        {
            assert_eq!(parse_day(text), None, "{text}");
        }
        assert_eq!(day_text(i32::MAX), "day 2147483647");
        assert_eq!(day_text(i32::MIN), "day -2147483648");
    }

    #[test]
    fn text_and_number_agree() {
        let instant = Timestamp::from_ms(1_795_404_630_007);
        assert_eq!(Timestamp::parse(&instant.to_string()), Ok(instant));
        assert_eq!(
            Timestamp::parse("2026-11-23T04:30:30.0079+01:00"),
            Ok(Timestamp::from_ms(1_795_404_630_007))
        );
        assert_eq!(Timestamp::parse("yesterday"), Err(ParseTimestampError));
    }

    #[test]
    fn a_fixed_clock_moves_only_by_hand() {
        let clock = Clock::fixed(Timestamp::from_ms(1_000));
        clock.advance(Duration::from_secs(2));
        assert_eq!(clock.now().ms(), 3_000);
        assert_eq!(clock.now().since(Timestamp::from_ms(4_000)), Duration::ZERO);
    }
}
