//! The figures, for people and for programs.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::Serialize;

/// What a figure should reach.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    /// This or more.
    AtLeast(f64),
    /// This or less.
    AtMost(f64),
}

impl Goal {
    fn is_met(self, value: f64) -> bool {
        match self {
            Self::AtLeast(least) => value >= least,
            Self::AtMost(most) => value <= most,
        }
    }

    /// `≥ 15,000`, with a `!` before it if it is missed.
    fn text(self, value: f64) -> String {
        let missed = if self.is_met(value) { "" } else { "! " };
        match self {
            Self::AtLeast(least) => format!("{missed}≥ {}", grouped(least)),
            Self::AtMost(most) => format!("{missed}≤ {}", grouped(most)),
        }
    }
}

/// One figure.
#[derive(Serialize)]
pub struct Figure {
    part: String,
    name: String,
    value: f64,
    unit: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    goal: Option<Goal>,
    #[serde(skip_serializing_if = "String::is_empty")]
    limit: String,
    #[serde(skip)]
    fine: bool,
}

impl Figure {
    /// Rounded to a whole number.
    pub fn new(name: impl Into<String>, value: f64, unit: &'static str) -> Self {
        let (part, limit) = (String::new(), String::new());
        Self { part, name: name.into(), value, unit, goal: None, limit, fine: false }
    }

    /// To two places.
    pub fn fine(name: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self { fine: true, ..Self::new(name, value, unit) }
    }

    /// With what it should reach.
    pub const fn goal(mut self, goal: Goal) -> Self {
        self.goal = Some(goal);
        self
    }

    /// With what limits it, or what it is to be compared with.
    pub fn limit(mut self, limit: impl Into<String>) -> Self {
        self.limit = limit.into();
        self
    }

    fn line(&self) -> String {
        let value = if self.fine { format!("{:.2}", self.value) } else { grouped(self.value) };
        let goal = self.goal.map(|goal| goal.text(self.value)).unwrap_or_default();
        let (name, unit, limit) = (&self.name, self.unit, &self.limit);
        let line = format!("  {name:<42} {value:>12} {unit:<6} {goal:<13} {limit}");
        line.trim_end().to_owned()
    }
}

/// All figures of a run, in order.
#[derive(Default, Serialize)]
pub struct Table {
    figures: Vec<Figure>,
    #[serde(skip)]
    part: String,
}

impl Table {
    /// Without figures.
    pub fn new() -> Self {
        Self::default()
    }

    /// What follows belongs to this part.
    pub fn part(&mut self, name: &str) {
        eprintln!("hbc: {name}");
        name.clone_into(&mut self.part);
    }

    /// Adds a figure.
    pub fn add(&mut self, figure: Figure) {
        self.figures.push(Figure { part: self.part.clone(), ..figure });
    }

    /// Adds median and 99th percentile, the latter with what it should stay below, in milliseconds.
    pub fn latency(&mut self, name: &str, sorted: &[Duration], at_most_ms: Option<f64>) {
        for (label, hundredths) in [("p50", 50), ("p99", 99)] {
            let place = (sorted.len() * hundredths / 100).min(sorted.len().saturating_sub(1));
            let ms = sorted.get(place).map_or(f64::NAN, |duration| duration.as_secs_f64() * 1e3);
            let goal = at_most_ms.filter(|_| hundredths == 99).map(Goal::AtMost);
            self.add(Figure { goal, ..Figure::fine(format!("{name}, {label}"), ms, "ms") });
        }
    }

    /// Prints the table and, where wished, writes it as JSON.
    pub fn print(&self, json: Option<&Path>) -> Result<()> {
        let mut part = "";
        for figure in &self.figures {
            if figure.part != part {
                part = &figure.part;
                crate::say(&format!("\n{part}"))?;
            }
            crate::say(&figure.line())?;
        }
        let Some(path) = json else { return Ok(()) };
        let text = serde_json::to_vec_pretty(self).context("the figures cannot be written")?;
        std::fs::write(path, text).with_context(|| format!("cannot write `{}`", path.display()))
    }
}

/// How often per second.
pub fn per_second(count: usize, took: Duration) -> f64 {
    u32::try_from(count).map_or(f64::NAN, f64::from) / took.as_secs_f64()
}

/// A ratio to two places.
pub fn ratio(value: f64, of: f64) -> String {
    format!("{:.2}", value / of)
}

/// `1234567.8` as `1,234,568`.
fn grouped(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        for (value, text) in [(0.4, "0"), (999.0, "999"), (1_000.0, "1,000"), (1_234_567.8, "1,234,568")] {
            assert_eq!(grouped(value), text);
        }
    }

    #[test]
    fn percentiles_of_few_figures_stay_inside() {
        let mut table = Table::new();
        table.latency("one", &[Duration::from_millis(7)], None);
        assert!(table.figures.iter().all(|figure| (figure.value - 7.0).abs() < 1e-9));
    }

    #[test]
    fn a_goal_that_is_missed_is_marked() {
        assert_eq!(Goal::AtLeast(1_000.0).text(1_000.0), "≥ 1,000");
        assert_eq!(Goal::AtLeast(1_000.0).text(999.0), "! ≥ 1,000");
        assert_eq!(Goal::AtMost(20.0).text(20.5), "! ≤ 20");
    }
}
