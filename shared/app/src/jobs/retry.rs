//! How long a job that failed waits, and when it has failed for good.

use std::time::Duration;

use hbc_types::Random;

/// When a job is tried again, and how often.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Retry {
    /// After so many faults it has failed for good. What is tried later because something outside it will pass does not
    /// count.
    pub tries: u32,
    /// The pause after the first try.
    pub first: Duration,
    /// The longest pause.
    pub longest: Duration,
}

impl Retry {
    /// Pauses from one second to five minutes, twenty faults: something over an hour.
    pub const STANDARD: Self =
        Self { tries: 20, first: Duration::from_secs(1), longest: Duration::from_secs(300) };

    /// The pause after try number `attempts`, counted from one: twice the one before up to the longest, less up to half
    /// of it by chance, so that jobs that failed together do not come back together.
    #[must_use]
    pub fn pause(&self, attempts: u32, random: &Random) -> Duration {
        let doublings = attempts.saturating_sub(1).min(30);
        let full = self.first.saturating_mul(1 << doublings).min(self.longest);
        let chance = f64::from(u32::from_be_bytes(random.bytes())) / f64::from(u32::MAX);
        full.mul_f64(chance.mul_add(-0.5, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_longest_and_differ_by_chance() {
        let retry = Retry { tries: 5, first: Duration::from_secs(1), longest: Duration::from_secs(30) };
        let random = Random::seeded(7);
        let pauses: Vec<Duration> = (1..=9).map(|attempt| retry.pause(attempt, &random)).collect();
        for (attempt, pause) in pauses.iter().enumerate() {
            let full = Duration::from_secs((1 << attempt).min(30));
            assert!(*pause >= full / 2 && *pause <= full, "{pause:?} after try {}", attempt + 1);
        }
        let others: Vec<Duration> = (1..=9).map(|attempt| retry.pause(attempt, &random)).collect();
        assert_ne!(pauses, others);
        assert!(retry.pause(u32::MAX, &random) <= Duration::from_secs(30));
        assert!(retry.pause(0, &random) <= Duration::from_secs(1));
    }
}
