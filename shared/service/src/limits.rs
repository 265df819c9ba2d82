//! Rate limits, per subject or per address.

use std::hash::Hash;
use std::num::NonZeroU32;
use std::time::Duration;

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
}
