//! How failed logins slow down the next ones.
//!
//! Counters: per (account, address), which bites first and hardest; per account, softer; per address, against one machine
//! that tries many accounts; and per account the codes of a second factor that were wrong after a right password. From an
//! address that the owner has logged in from before, and within a session, only the first counts (and the codes there), so
//! that no stranger can lock an owner out. The numbers here are pure; the store keeps the counters so that they survive a
//! restart.
//!
//! Why: decision 0041.

use std::time::Duration;

use hbc_types::Timestamp;

/// What a counter counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    /// One account from one address.
    Pair,
    /// One account from addresses that never succeeded.
    Account,
    /// One address against any account.
    Address,
    /// Codes of one account's second factor.
    Factor,
    /// Pairing codes that one device claims.
    Claim,
    /// Pairing codes that devices claim from one address.
    ClaimAddress,
}

impl Scope {
    /// The code in the database.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Pair => "pair",
            Self::Account => "account",
            Self::Address => "address",
            Self::Factor => "factor",
            Self::Claim => "claim",
            Self::ClaimAddress => "claim-address",
        }
    }

    /// Failures before the first wait.
    const fn free(self) -> u32 {
        match self {
            Self::Pair => 0,
            Self::Account => 20,
            Self::Address => 50,
            // Closed before it waits.
            Self::Factor | Self::Claim => 5,
            Self::ClaimAddress => 30,
        }
    }

    /// Failures after which the scope is closed for [`Scope::closed`].
    const fn limit(self) -> u32 {
        match self {
            Self::Pair => 10,
            Self::Account => u32::MAX,
            Self::Address => 300,
            Self::Factor | Self::Claim => 5,
            Self::ClaimAddress => 30,
        }
    }

    const fn closed(self) -> Duration {
        match self {
            Self::Pair | Self::Account | Self::Address | Self::Factor => Duration::from_secs(15 * 60),
            Self::Claim | Self::ClaimAddress => MEMORY,
        }
    }
}

/// The waits after the first, second, third and every later failure.
const WAITS_S: [u64; 4] = [1, 3, 5, 10];
/// Failures are forgotten after this long without a new one.
pub const MEMORY: Duration = Duration::from_secs(60 * 60);

/// A counter as stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counter {
    /// Failures in a row.
    pub failures: u32,
    /// Milliseconds: the last failure.
    pub last_ms: i64,
}

impl Counter {
    /// How long a new attempt still has to wait at `now`.
    #[must_use]
    pub fn wait(self, scope: Scope, now: Timestamp) -> Option<Duration> {
        let penalty = self.penalty(scope)?;
        let until = Timestamp::from_ms(self.last_ms).plus(penalty);
        let left = until.since(now);
        (left > Duration::ZERO).then_some(left)
    }

    fn penalty(self, scope: Scope) -> Option<Duration> {
        if self.failures >= scope.limit() {
            return Some(scope.closed());
        }
        let step = self.failures.checked_sub(scope.free())?.checked_sub(1)?;
        let place = usize::try_from(step).unwrap_or(usize::MAX).min(WAITS_S.len() - 1);
        WAITS_S.get(place).map(|seconds| Duration::from_secs(*seconds))
    }

    /// The counter after one more failure at `now`.
    #[must_use]
    pub fn failed(self, scope: Scope, now: Timestamp) -> Self {
        let since = now.since(Timestamp::from_ms(self.last_ms));
        let over = self.failures >= scope.limit() && since >= scope.closed();
        let failures = if over || since >= MEMORY { 1 } else { self.failures.saturating_add(1) };
        Self { failures, last_ms: now.ms() }
    }
}

/// Whole seconds for `Retry-After`, rounded up.
#[must_use]
pub fn retry_after_s(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_ms(1_000_000 + seconds * 1000)
    }

    #[test]
    fn waits_grow_and_ten_failures_close_the_pair() {
        let mut counter = Counter::default();
        let mut now = at(0);
        let mut waits = Vec::new();
        for _attempt in 0..10 {
            counter = counter.failed(Scope::Pair, now);
            let wait = counter.wait(Scope::Pair, now).unwrap();
            waits.push(wait.as_secs());
            now = now.plus(wait);
            assert_eq!(counter.wait(Scope::Pair, now), None);
        }
        assert_eq!(waits, [1, 3, 5, 10, 10, 10, 10, 10, 10, 900]);
        assert_eq!(counter.failed(Scope::Pair, now).failures, 1);
    }

    #[test]
    fn the_account_slows_strangers_softly_and_never_closes() {
        let mut counter = Counter::default();
        for _attempt in 0..20 {
            counter = counter.failed(Scope::Account, at(0));
        }
        assert_eq!(counter.wait(Scope::Account, at(0)), None);
        for _attempt in 0..5_000 {
            counter = counter.failed(Scope::Account, at(0));
        }
        assert_eq!(counter.wait(Scope::Account, at(0)), Some(Duration::from_secs(10)));
    }

    #[test]
    fn wrong_pairing_codes_close_for_an_hour_and_wait_for_nothing_before() {
        for (scope, most) in [(Scope::Claim, 5), (Scope::ClaimAddress, 30)] {
            let mut counter = Counter::default();
            for _claim in 0..most {
                assert_eq!(counter.wait(scope, at(10)), None);
                counter = counter.failed(scope, at(10));
            }
            assert_eq!(counter.wait(scope, at(10)), Some(MEMORY));
            assert_eq!(
                (counter.wait(scope, at(3609)).is_some(), counter.wait(scope, at(3610))),
                (true, None)
            );
            assert_eq!(counter.failed(scope, at(3610)).failures, 1);
        }
    }

    #[test]
    fn failures_are_forgotten() {
        let counter = Counter { failures: 5, last_ms: at(0).ms() };
        assert_eq!(counter.failed(Scope::Pair, at(3600)).failures, 1);
        assert_eq!(counter.failed(Scope::Pair, at(3599)).failures, 6);
    }

    proptest! {
        #[test]
        fn waits_are_bounded(failures in any::<u32>(), last in any::<i64>(), now in any::<i64>()) {
            let counter = Counter { failures, last_ms: last };
            for scope in [Scope::Pair, Scope::Account, Scope::Address, Scope::Factor, Scope::Claim, Scope::ClaimAddress] {
                if let Some(wait) = counter.wait(scope, Timestamp::from_ms(now)) {
                    // A clock that was set back must not lock anybody out for longer than the penalty says.
                    prop_assert!(Timestamp::from_ms(last) > Timestamp::from_ms(now) || wait <= MEMORY);
                }
            }
        }
    }
}
