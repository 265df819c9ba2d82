//! Rate limits, per subject or per address.

use std::collections::HashMap;
use std::hash::Hash;
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota};
use hbc_types::problem::Slug;

use crate::Problem;

/// Keys kept before stale ones are thrown out.
const KEYS: usize = 100_000;

/// So many requests per second and key, with a burst.
pub struct RateLimit<K: Hash + Eq + Clone> {
    limiter: DefaultKeyedRateLimiter<K>,
    burst: NonZeroU32,
}

impl<K: Hash + Eq + Clone> std::fmt::Debug for RateLimit<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RateLimit")
    }
}

impl<K: Hash + Eq + Clone> RateLimit<K> {
    /// `burst` requests at once, then one every `every`.
    #[must_use]
    pub fn new(burst: NonZeroU32, every: Duration) -> Self {
        let quota = Quota::with_period(every).unwrap_or_else(|| Quota::per_second(NonZeroU32::MIN));
        Self { limiter: DefaultKeyedRateLimiter::keyed(quota.allow_burst(burst)), burst }
    }

    /// Counts a request of `key`; `too_many_requests` with `Retry-After` when it is one too many.
    pub fn check(&self, key: &K) -> Result<(), Problem> {
        self.check_many(key, NonZeroU32::MIN)
    }

    /// Counts so many of `key` at once, all or none. More than the burst count as the burst.
    pub fn check_many(&self, key: &K, count: NonZeroU32) -> Result<(), Problem> {
        if self.limiter.len() > KEYS {
            self.limiter.retain_recent();
        }
        let too_many = |wait: Duration| {
            Problem::new(Slug::TooManyRequests).retry_after(Duration::from_secs(wait.as_secs() + 1))
        };
        match self.limiter.check_key_n(key, count.min(self.burst)) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(not_until)) => Err(too_many(not_until.wait_time_from(DefaultClock::default().now()))),
            Err(_never_more_than_the_burst) => Err(too_many(Duration::ZERO)),
        }
    }
}

/// So much a second and key of something whose amount is known only afterwards, as the bytes of an answer are: it is taken
/// on credit, and who owes more than the burst waits.
#[derive(Debug)]
pub struct Allowance<K> {
    per_second: u64,
    burst: Duration,
    /// When each debt is paid.
    debts: Mutex<HashMap<K, Instant>>,
}

impl<K: Hash + Eq + Clone> Allowance<K> {
    /// `per_second` units a second; `burst` of them may be owed.
    #[must_use]
    pub fn new(per_second: NonZeroU32, burst: u64) -> Self {
        let per_second = u64::from(per_second.get());
        Self { per_second, burst: time_of(burst, per_second), debts: Mutex::default() }
    }

    /// How long `key` must wait before it gets something more; none: it need not.
    #[must_use]
    pub fn wait(&self, key: &K, now: Instant) -> Option<Duration> {
        let debts = self.debts.lock().unwrap_or_else(PoisonError::into_inner);
        let owes = debts.get(key)?.saturating_duration_since(now);
        owes.checked_sub(self.burst).filter(|wait| !wait.is_zero())
    }

    /// Counts so many units of `key`.
    pub fn charge(&self, key: K, units: u64, now: Instant) {
        let mut debts = self.debts.lock().unwrap_or_else(PoisonError::into_inner);
        if debts.len() > KEYS {
            debts.retain(|_key, paid| *paid > now);
        }
        let paid = debts.entry(key).or_insert(now);
        *paid = (*paid).max(now) + time_of(units, self.per_second);
    }
}

fn time_of(units: u64, per_second: u64) -> Duration {
    Duration::from_micros(units.saturating_mul(1_000_000) / per_second.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_key_too_many_does_not_stop_another() {
        let limit = RateLimit::new(NonZeroU32::new(2).unwrap(), Duration::from_secs(3600));
        assert!(limit.check(&"a").is_ok());
        assert!(limit.check(&"a").is_ok());
        assert_eq!(limit.check(&"a").unwrap_err().slug(), Slug::TooManyRequests);
        assert!(limit.check(&"b").is_ok());
    }

    #[test]
    fn many_at_once_count_as_many() {
        let limit = RateLimit::new(NonZeroU32::new(5).unwrap(), Duration::from_secs(3600));
        let three = NonZeroU32::new(3).unwrap();
        assert!(limit.check_many(&"a", three).is_ok());
        assert_eq!(limit.check_many(&"a", three).unwrap_err().slug(), Slug::TooManyRequests);
        assert!(limit.check(&"a").is_ok(), "what was refused did not count");
        assert!(limit.check_many(&"b", NonZeroU32::new(9).unwrap()).is_ok());
        assert!(limit.check(&"b").is_err());
    }

    #[test]
    fn what_is_taken_on_credit_is_paid_in_time() {
        let allowance = Allowance::new(NonZeroU32::new(10).unwrap(), 100);
        let now = Instant::now();
        let after = |seconds| now + Duration::from_secs(seconds);
        allowance.charge("a", 100, now);
        assert_eq!(allowance.wait(&"a", now), None, "the burst is owed, and no more");
        allowance.charge("a", 50, now);
        assert_eq!(allowance.wait(&"a", now), Some(Duration::from_secs(5)));
        assert_eq!(allowance.wait(&"b", now), None);
        assert_eq!(allowance.wait(&"a", after(4)), Some(Duration::from_secs(1)));
        assert_eq!(allowance.wait(&"a", after(5)), None);
        // What was not used long ago is no credit.
        allowance.charge("a", 110, after(1_000));
        assert_eq!(allowance.wait(&"a", after(1_000)), Some(Duration::from_secs(1)));
    }
}
