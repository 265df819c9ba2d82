//! What every database forgets, and when.

use std::time::Duration;

use hbc_db::{Db, DbError};
use hbc_types::Timestamp;

use crate::Base;

/// How long the answer to a request with an `Idempotency-Key` is kept.
pub const SAVED_ANSWERS: Duration = Duration::from_secs(24 * 60 * 60);
/// How long the signed bytes of a transaction are kept once it is final: the chain has them.
pub const SIGNED_BYTES: Duration = Duration::from_secs(24 * 60 * 60);
/// How often it is looked at.
const LOOK: Duration = Duration::from_secs(10 * 60);

/// Forgets, at `now`, what is past its time.
pub async fn forget(db: &Db, now: Timestamp) -> Result<(), DbError> {
    db.write(move |tx| {
        Box::pin(async move {
            hbc_db::idempotency::prune(tx, now.minus(SAVED_ANSWERS)).await?;
            hbc_db::outbox::forget_bytes(tx, now.minus(SIGNED_BYTES)).await?;
            Ok::<(), DbError>(())
        })
    })
    .await
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
