//! How much an author may write. It is the author who is charged, whosever account it is for: so nobody learns from a refusal
//! how much there is of a patient, and nobody fills a patient's account at the patient's cost.
//!
//! Why: decision 0118.

use std::time::Duration;

use hbc_types::Timestamp;
use hbc_types::ids::AccountId;

use crate::config::RoomSettings;

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// Bytes that an author wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// Ever.
    pub total: u64,
    /// On the day.
    pub of_day: u64,
}

impl Written {
    /// With so many more.
    #[must_use]
    pub const fn and(self, bytes: u64) -> Self {
        Self { total: self.total.saturating_add(bytes), of_day: self.of_day.saturating_add(bytes) }
    }
}

/// What does not fit any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuotaError {
    /// Today's: tomorrow begins after this.
    #[error("the account has written as much as it may on one day")]
    Day(Duration),
    /// All of it.
    #[error("the account has written as much as it may")]
    Total,
}

/// The UTC day, counted from 1970-01-01.
#[must_use]
pub const fn day(now: Timestamp) -> i64 {
    now.ms().div_euclid(DAY_MS)
}

/// Checks what an author will have written.
pub fn check(
    limits: &RoomSettings,
    author: &AccountId,
    written: Written,
    now: Timestamp,
) -> Result<(), QuotaError> {
    if matches!(author, AccountId::Patient(_)) && written.total > limits.patient_bytes {
        return Err(QuotaError::Total);
    }
    if written.of_day > limits.author_day_bytes {
        let left = DAY_MS - now.ms().rem_euclid(DAY_MS);
        return Err(QuotaError::Day(Duration::from_millis(left.unsigned_abs())));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use hbc_types::Random;
    use hbc_types::ids::{AgencyId, PatientId};

    use super::*;

    #[test]
    fn a_day_has_its_limit_and_a_patient_one_in_all() {
        let random = Random::seeded(7);
        let (patient, agency) =
            (AccountId::Patient(PatientId::random(&random)), AccountId::Agency(AgencyId::random(&random)));
        let limits = RoomSettings { free_bytes: 0, author_day_bytes: 10, patient_bytes: 20 };
        let now = Timestamp::parse("2026-03-04T23:00:00.000Z").unwrap();
        let of = |account: &AccountId, total, of_day| check(&limits, account, Written { total, of_day }, now);
        assert_eq!(of(&patient, 20, 10), Ok(()));
        assert_eq!(of(&patient, 21, 10), Err(QuotaError::Total));
        assert_eq!(of(&agency, 1 << 50, 10), Ok(()));
        assert_eq!(of(&agency, 11, 11), Err(QuotaError::Day(Duration::from_secs(3600))));
        assert_eq!(day(now) + 1, day(now.plus(Duration::from_secs(3600))));
    }
}
