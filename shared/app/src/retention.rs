//! What every database forgets, and when.

use std::time::Duration;

use hbc_db::jobs::listing;
use hbc_db::{Db, DbError};
use hbc_types::{Clock, Timestamp};

use crate::jobs::{JobError, Periodic};

/// How long the answer to a request with an `Idempotency-Key` is kept.
pub const SAVED_ANSWERS: Duration = Duration::from_secs(24 * 60 * 60);
/// How long the signed bytes of a transaction are kept once it is final: the chain has them.
pub const FINAL_BYTES: Duration = Duration::from_secs(24 * 60 * 60);
/// How long the signed bytes of a transaction that the ledger refused are kept, to find out why.
pub const REFUSED_BYTES: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// How long a job that failed for good is kept for an operator to see and repeat.
pub const FAILED_JOBS: Duration = Duration::from_secs(90 * 24 * 60 * 60);
/// How often it is looked at.
const LOOK: Duration = Duration::from_secs(10 * 60);
/// Rows changed in one transaction at most: others wait for it.
const AT_ONCE: u32 = 1_000;

/// Forgets, at `now`, what is past its time: saved answers, settled bytes, jobs that failed for good.
pub async fn forget(db: &Db, now: Timestamp) -> Result<(), DbError> {
    loop {
        let (answers, bytes, failed) = db
            .write(move |tx| {
                Box::pin(async move {
                    let answers = hbc_db::idempotency::prune(tx, now.minus(SAVED_ANSWERS), AT_ONCE).await?;
                    let (settled, refused) = (now.minus(FINAL_BYTES), now.minus(REFUSED_BYTES));
                    let bytes = hbc_db::outbox::forget_bytes(tx, settled, refused, AT_ONCE).await?;
                    let failed = listing::forget_failed(tx, now.minus(FAILED_JOBS), AT_ONCE).await?;
                    Ok::<_, DbError>((answers, bytes, failed))
                })
            })
            .await?;
        if answers.max(bytes).max(failed) < u64::from(AT_ONCE) {
            return Ok(());
        }
    }
}

/// The job.
pub(crate) struct Retention;

impl Periodic for Retention {
    type App = (Db, Clock);
    const KIND: &'static str = "retention";

    fn period(_state: &Self::App) -> Duration {
        LOOK
    }

    async fn run((db, clock): &Self::App) -> Result<(), JobError> {
        Ok(forget(db, clock.now()).await?)
    }
}
