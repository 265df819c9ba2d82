//! Searching by date: `date=ge2026-06-10T08:00:00Z&date=lt2026-06-11`, by FHIR's rules about intervals.
//!
//! A value and a target are spans. `eq` means that the value holds the target whole, `gt` that the target reaches beyond
//! the value, `sa` that it begins after it, and so on. A target with an open end says no end that could lie within
//! anything: it equals what it overlaps.
//!
//! Source: <https://hl7.org/fhir/R4/search.html#prefix>. Why: decision 0135.

use time::Date;

use crate::domain::days;
use crate::domain::moment::{Moment, Span};

/// How a value is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prefix {
    /// `eq`
    Eq,
    /// `ne`
    Ne,
    /// `lt`
    Lt,
    /// `gt`
    Gt,
    /// `le`
    Le,
    /// `ge`
    Ge,
    /// `sa`
    Sa,
    /// `eb`
    Eb,
    /// `ap`
    Ap,
}

/// The prefix with which a value begins, and the rest of it.
#[must_use]
pub fn prefix(text: &str) -> (Prefix, &str) {
    const ALL: [(&str, Prefix); 9] = [
        ("eq", Prefix::Eq),
        ("ne", Prefix::Ne),
        ("lt", Prefix::Lt),
        ("gt", Prefix::Gt),
        ("le", Prefix::Le),
        ("ge", Prefix::Ge),
        ("sa", Prefix::Sa),
        ("eb", Prefix::Eb),
        ("ap", Prefix::Ap),
    ];
    let found = ALL.iter().find_map(|(code, prefix)| Some((*prefix, text.strip_prefix(code)?)));
    found.unwrap_or((Prefix::Eq, text))
}

/// One value of a search with its prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Condition {
    prefix: Prefix,
    first: i64,
    last: i64,
}

/// Alternatives of one parameter at most.
const MOST_ALTERNATIVES: usize = 64;

/// The dates of a search: all parameters must hold, each by one of its values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dates(Vec<Vec<Condition>>);

impl Dates {
    /// Adds a parameter's value, `ge2020` or `2020,2021`; `now` is in microseconds. Nothing if it is no date.
    pub fn add(&mut self, value: &str, now: i64) -> Option<()> {
        let alternatives: Vec<Condition> =
            value.split(',').map(|text| Condition::parse(text, now)).collect::<Option<_>>()?;
        (alternatives.len() <= MOST_ALTERNATIVES).then(|| self.0.push(alternatives))
    }

    /// Whether nothing is asked.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a record that happened then is meant. One without a date never is.
    #[must_use]
    pub fn hold(&self, span: Option<Span>) -> bool {
        let meant = |span: Span| {
            self.0.iter().all(|alternatives| alternatives.iter().any(|condition| condition.holds(span)))
        };
        self.is_empty() || span.is_some_and(meant)
    }

    /// The first and last day that a meant record can touch, whatever its offset; nothing where there is no bound.
    #[must_use]
    pub fn days(&self) -> (Option<String>, Option<String>) {
        let (mut from, mut to) = (None, None);
        for alternatives in &self.0 {
            let reach = |condition: &Condition| condition.reach();
            let first = alternatives.iter().map(|one| reach(one).0).reduce(|a, b| Some(a?.min(b?))).flatten();
            let last = alternatives.iter().map(|one| reach(one).1).reduce(|a, b| Some(a?.max(b?))).flatten();
            from = from.max(first);
            to = match (to, last) {
                (Some(known), Some(last)) => Some(last.min(known)),
                (known, last) => known.or(last),
            };
        }
        // A day as it is written is at most one away from the one in UTC.
        (from.and_then(|at| day(at, -1)), to.and_then(|at| day(at, 1)))
    }
}

/// The UTC day of a microsecond, moved by some days.
fn day(at: i64, moved: i32) -> Option<String> {
    let number = i32::try_from(at.div_euclid(24 * 3_600_000_000)).ok()?;
    let epoch = time::OffsetDateTime::UNIX_EPOCH.date().to_julian_day();
    Date::from_julian_day(epoch.checked_add(number)?.checked_add(moved)?).ok().map(days::text)
}

impl Condition {
    fn parse(text: &str, now: i64) -> Option<Self> {
        let (prefix, rest) = prefix(text);
        let Moment { first, last, .. } = Moment::parse(rest)?;
        // "10% of the gap between now and the date".
        let slack = if prefix == Prefix::Ap { (now - first).abs() / 10 } else { 0 };
        Some(Self { prefix, first: first - slack, last: last + slack })
    }

    fn holds(&self, Span(first, last): Span) -> bool {
        let open = first.is_none() || last.is_none();
        let (first, last) = (first.unwrap_or(i64::MIN), last.unwrap_or(i64::MAX));
        let overlaps = first <= self.last && self.first <= last;
        let equal = if open { overlaps } else { self.first <= first && last <= self.last };
        match self.prefix {
            Prefix::Eq => equal,
            Prefix::Ne => !equal,
            Prefix::Gt => last > self.last,
            Prefix::Lt => first < self.first,
            Prefix::Ge => last > self.last || equal,
            Prefix::Le => first < self.first || equal,
            Prefix::Sa => first > self.last,
            Prefix::Eb => last < self.first,
            Prefix::Ap => overlaps,
        }
    }

    /// Whatever holds ends at or after the first, and begins at or before the second.
    const fn reach(&self) -> (Option<i64>, Option<i64>) {
        match self.prefix {
            Prefix::Eq | Prefix::Ap => (Some(self.first), Some(self.last)),
            Prefix::Ne => (None, None),
            Prefix::Gt | Prefix::Ge | Prefix::Sa => (Some(self.first), None),
            Prefix::Lt | Prefix::Le | Prefix::Eb => (None, Some(self.last)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn dates(values: &[&str]) -> Dates {
        let mut dates = Dates::default();
        let now = Moment::parse("2026-12-01").unwrap().first;
        for value in values {
            dates.add(value, now).unwrap_or_else(|| panic!("{value}"));
        }
        dates
    }

    fn found(values: &[&str], target: &Value) -> bool {
        dates(values).hold(Span::of(target))
    }

    #[test]
    fn the_examples_of_the_standard_hold() {
        let open = json!({"start": "2013-01-21"});
        let later = json!({"start": "2013-03-15"});
        for (value, target, meant) in [
            ("eq2013-01-14", json!("2013-01-14T00:00:00Z"), true),
            ("eq2013-01-14", json!("2013-01-14T10:00:00Z"), true),
            ("eq2013-01-14", json!("2013-01-15T00:00:00Z"), false),
            ("ne2013-01-14", json!("2013-01-15T00:00:00Z"), true),
            ("ne2013-01-14", json!("2013-01-14T00:00:00Z"), false),
            ("lt2013-01-14T10:00", json!("2013-01-14"), true),
            ("gt2013-01-14T10:00", json!("2013-01-14"), true),
            ("ge2013-03-14", open.clone(), true),
            ("le2013-03-14", open.clone(), true),
            ("sa2013-03-14", later.clone(), true),
            ("sa2013-03-14", open.clone(), false),
            ("eb2013-03-14", json!({"end": "2013-01-21"}), true),
            ("eb2013-03-14", open.clone(), false),
            ("ap2013-03-14", open.clone(), true),
            ("ap2013-03-14", json!("2013-03-15"), true),
            ("ap2013-03-14", json!("2018-03-15"), false),
            // An open period reaches on, and begins when it begins.
            ("2013-06-01", open.clone(), true),
            ("2013-01-20", open, false),
            ("2013-02", json!({"start": "2013-01-30", "end": "2013-02-02"}), false),
            ("2013", json!({"start": "2013-01-30", "end": "2013-02-02"}), true),
        ] {
            assert_eq!(found(&[value], &target), meant, "{value}: {target}");
        }
    }

    #[test]
    fn the_time_of_day_and_its_offset_count() {
        let window = ["gt2026-06-10T08:00:00Z", "lt2026-06-10T08:10:00Z"];
        assert!(found(&window, &json!("2026-06-10T08:05:00Z")));
        assert!(found(&window, &json!("2026-06-10T10:05:00+02:00")));
        assert!(!found(&window, &json!("2026-06-10T08:05:00+02:00")));
        assert!(!found(&window, &json!("2026-06-10T08:10:00Z")));
        assert!(found(&["2026-06-10T08:05:00.5Z"], &json!("2026-06-10T08:05:00.55Z")));
        assert!(found(&["2020,2026-06-10"], &json!("2026-06-10T08:05:00Z")), "one of two values");
        assert!(!dates(&["ne2020"]).hold(None) && Dates::default().hold(None));
    }

    #[test]
    fn rubbish_is_no_date() {
        for text in ["", "xx2020", "ge", "2026-06-10garbage", "2026-13", "ge ", "2020,", "GE2020", "é"] {
            assert_eq!(Dates::default().add(text, 0), None, "{text}");
        }
        assert_eq!(Dates::default().add(&vec!["2020"; 65].join(","), 0), None);
    }

    proptest! {
        /// Days only narrow: whatever is meant touches them.
        #[test]
        fn the_days_leave_nothing_out(value in 0_i64..4_000, first in 0_i64..4_000, length in 0_i64..50, which in 0_usize..9, open in 0..3) {
            let at = |hours: i64| format!("{}T{:02}:00:00Z", day(hours * 3_600_000_000, 0).unwrap(), hours % 24);
            let prefix = ["eq", "ne", "lt", "gt", "le", "ge", "sa", "eb", "ap"][which];
            let dates = dates(&[&format!("{prefix}{}", at(value))]);
            let mut target = json!({"start": at(first), "end": at(first + length)});
            match open {
                0 => { target.as_object_mut().unwrap().remove("end"); }
                1 => { target.as_object_mut().unwrap().remove("start"); }
                _ => {}
            }
            let span = Span::of(&target).unwrap();
            if dates.hold(Some(span)) {
                let (from, to) = dates.days();
                let touches = |bound: Option<String>, end: Option<i64>, before: bool| {
                    let (Some(bound), Some(end)) = (bound, end) else { return true };
                    let end = day(end, 0).unwrap();
                    if before { end >= bound } else { end <= bound }
                };
                prop_assert!(touches(from, span.1, true) && touches(to, span.0, false));
            }
        }
    }
}
