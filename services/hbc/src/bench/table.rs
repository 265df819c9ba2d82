//! The figures, for people and for programs.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::Serialize;

/// How many places of a figure mean something.
#[derive(Clone, Copy, Debug, Default)]
pub enum Detail {
    /// Whole numbers.
    #[default]
    Rounded,
    /// Two places.
    Fine,
}

/// All figures of a run, in order.
#[derive(Default, Serialize)]
pub struct Table {
    figures: Vec<Figure>,
    #[serde(skip)]
    part: String,
}

#[derive(Serialize)]
struct Figure {
    part: String,
    name: String,
    value: f64,
    unit: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    limit: String,
    #[serde(skip)]
    detail: Detail,
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

    /// A whole number per second.
    pub fn rate(&mut self, name: &str, value: f64, unit: &str, limit: &str) {
        self.value(name, value, unit, Detail::Rounded, limit);
    }

    /// Median and 99th percentile.
    pub fn latency(&mut self, name: &str, sorted: &[Duration]) {
        for (label, hundredths) in [("p50", 50), ("p99", 99)] {
            let place = (sorted.len() * hundredths / 100).min(sorted.len().saturating_sub(1));
            let ms = sorted.get(place).map_or(f64::NAN, |duration| duration.as_secs_f64() * 1e3);
            self.value(&format!("{name}, {label}"), ms, "ms", Detail::Fine, "");
        }
    }

    /// Any figure.
    pub fn value(&mut self, name: &str, value: f64, unit: &str, detail: Detail, limit: &str) {
        self.figures.push(Figure {
            part: self.part.clone(),
            name: name.to_owned(),
            value,
            unit: unit.to_owned(),
            limit: limit.to_owned(),
            detail,
        });
    }

    /// Prints the table and, where wished, writes it as JSON.
    pub fn print(&self, json: Option<&Path>) -> Result<()> {
        let mut part = "";
        for figure in &self.figures {
            if figure.part != part {
                part = &figure.part;
                crate::say(&format!("\n{part}"))?;
            }
            let value = match figure.detail {
                Detail::Rounded => grouped(figure.value),
                Detail::Fine => format!("{:.2}", figure.value),
            };
            crate::say(
                format!("  {:<42} {value:>14} {:<6}  {}", figure.name, figure.unit, figure.limit).trim_end(),
            )?;
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
        table.latency("one", &[Duration::from_millis(7)]);
        assert!(table.figures.iter().all(|figure| (figure.value - 7.0).abs() < 1e-9));
    }
}
