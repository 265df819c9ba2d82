//! Locks on a key (a patient, mostly) that hold for one whole write.
//!
//! On PostgreSQL they are advisory session locks taken *before* the transaction begins, so that its snapshot
//! already shows what the previous holder committed. On SQLite there is one writer and nothing to do.

use sha2::{Digest as _, Sha256};

/// A lock that [`crate::Db::write_locked`] takes for the time of one job.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Lock {
    key: i64,
    exclusive: bool,
}

impl Lock {
    /// Held together with other shared holders of `key`: reads and key releases.
    #[must_use]
    pub fn shared(key: &str) -> Self {
        Self { key: number(key), exclusive: false }
    }

    /// Held alone: revocations, freezes, denials.
    #[must_use]
    pub fn exclusive(key: &str) -> Self {
        Self { key: number(key), exclusive: true }
    }

    pub(crate) const fn key(self) -> i64 {
        self.key
    }

    pub(crate) const fn statement(self) -> &'static str {
        if self.exclusive {
            "SELECT CAST(pg_advisory_lock($1) AS TEXT)"
        } else {
            "SELECT CAST(pg_advisory_lock_shared($1) AS TEXT)"
        }
    }

    /// One order for everybody, the stronger form of a key named twice: no deadlocks.
    pub(crate) fn in_order(mut locks: Vec<Self>) -> Vec<Self> {
        locks.sort_by(|a, b| a.key.cmp(&b.key).then(b.exclusive.cmp(&a.exclusive)));
        locks.dedup_by_key(|lock| lock.key);
        locks
    }
}

fn number(key: &str) -> i64 {
    let digest = Sha256::new().chain_update(b"hbc/lock/v1\0").chain_update(key).finalize();
    let mut bytes = [0; 8];
    for (to, from) in bytes.iter_mut().zip(digest) {
        *to = from;
    }
    i64::from_be_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stronger_lock_of_a_key_wins_and_the_order_is_total() {
        let (a, b) = (Lock::shared("a"), Lock::exclusive("a"));
        assert_eq!(Lock::in_order(vec![a, b, a]), vec![b]);
        let one = Lock::in_order(vec![Lock::shared("x"), Lock::shared("y")]);
        assert_eq!(one, Lock::in_order(vec![Lock::shared("y"), Lock::shared("x")]));
    }
}
