//! What every database forgets, and when.

use std::time::Duration;

use hbc_db::{Db, DbError};
use hbc_types::Timestamp;

use crate::Base;

/// How long the answer to a request with an `Idempotency-Key` is kept.
pub const SAVED_ANSWERS: Duration = Duration::from_secs(24 * 60 * 60);
/// How long the signed bytes of a transaction are kept once it is final: the chain has them.
pub const FINAL_BYTES: Duration = Duration::from_secs(24 * 60 * 60);
/// How long the signed bytes of a transaction that the ledger refused are kept, to find out why.
pub const REFUSED_BYTES: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// How often it is looked at.
const LOOK: Duration = Duration::from_secs(10 * 60);
/// Rows changed in one transaction at most: others wait for it.
const AT_ONCE: u32 = 1_000;

/// Forgets, at `now`, what is past its time: saved answers and settled bytes.
pub async fn forget(db: &Db, now: Timestamp) -> Result<(), DbError> {
    loop {
        let (answers, bytes) = db
            .write(move |tx| {
                Box::pin(async move {
                    let answers = hbc_db::idempotency::prune(tx, now.minus(SAVED_ANSWERS), AT_ONCE).await?;
                    let (settled, refused) = (now.minus(FINAL_BYTES), now.minus(REFUSED_BYTES));
                    let bytes = hbc_db::outbox::forget_bytes(tx, settled, refused, AT_ONCE).await?;
                    Ok::<_, DbError>((answers, bytes))
                })
            })
            .await?;
        if answers < u64::from(AT_ONCE) && bytes < u64::from(AT_ONCE) {
            return Ok(());
        }
    }
}

/// The loop.
pub(crate) async fn keep_forgetting(base: Base) {
    loop {
        if let Err(error) = forget(&base.db, base.clock.now()).await {
            let error: &dyn std::error::Error = &error;
            tracing::warn!(error, "What is past its time could not be forgotten; it is tried again");
        }
        tokio::time::sleep(LOOK).await;
    }
}
