//! When a segment is anchored, so that its time tells nothing of what it came with.
//!
//! Why: decision 0117.

use std::time::Duration;

use hbc_types::{Random, Timestamp};

/// When a segment may be anchored that is made to wait: uniformly up to `longest` from now on.
#[must_use]
pub fn later(now: Timestamp, longest: Duration, random: &Random) -> Timestamp {
    let longest = u64::try_from(longest.as_millis()).unwrap_or(u64::MAX);
    now.plus(Duration::from_millis(u64::from_be_bytes(random.bytes()) % longest.max(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Uploads at one a minute, half of them with something sensitive, whose anchor comes up to half an hour later. Who
    /// sees when uploads happen and when anchors come guesses, as well as can be, which they were.
    #[test]
    fn times_tell_hardly_more_than_a_coin_which_uploads_were_sensitive() {
        const UPLOADS: usize = 1_000;
        let (minute, window) = (60_000_i64, Duration::from_secs(30 * 60));
        let (mut right, mut all) = (0, 0);
        for seed in 0..20 {
            let random = Random::seeded(seed);
            let sensitive: Vec<bool> =
                (0..UPLOADS).map(|_| random.bytes::<1>()[0].is_multiple_of(2)).collect();
            let at = |upload: usize| Timestamp::from_ms(i64::try_from(upload).unwrap() * minute);
            let mut anchors: Vec<i64> = (0..UPLOADS)
                .filter(|upload| sensitive[*upload])
                .map(|upload| later(at(upload), window, &random).ms())
                .collect();
            anchors.sort_unstable();
            // Each anchor is one of the uploads of the half hour before it, each as likely: an upload is as suspect as
            // the anchors that may be its own, each divided among those whose it may be.
            let suspicion = |upload: usize| -> f64 {
                let (from, to) = (at(upload).ms(), at(upload).plus(window).ms());
                let own = anchors.iter().filter(|time| (from..to).contains(*time));
                own.map(|time| 1.0 / f64::from(u32::try_from((time / minute).min(29) + 1).unwrap())).sum()
            };
            let suspicions: Vec<f64> = (0..UPLOADS).map(suspicion).collect();
            let mut sorted = suspicions.clone();
            sorted.sort_unstable_by(f64::total_cmp);
            let median = sorted[UPLOADS / 2];
            right +=
                (0..UPLOADS).filter(|upload| (suspicions[*upload] > median) == sensitive[*upload]).count();
            all += UPLOADS;
        }
        let share = 100 * right / all;
        assert!((45..=60).contains(&share), "right in {share} % of cases");
    }
}
