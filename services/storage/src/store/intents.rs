//! Intents: what tells a crash between data keys and commit from an upload under way.

use hbc_db::{DbError, Tx};
use hbc_types::Timestamp;
use hbc_types::ids::IntentId;
use sqlx::Row as _;

use crate::error::Error;
use crate::store::Store;

/// An upload begins.
pub async fn begin(tx: &mut Tx, intent: &IntentId, now: Timestamp) -> Result<(), DbError> {
    sqlx::query("INSERT INTO intents (id, state, created_at_ms) VALUES ($1, 'open', $2)")
        .bind(intent.as_str().to_owned())
        .bind(now.ms())
        .execute(tx)
        .await?;
    Ok(())
}

/// An upload will never be committed, unless it is already.
pub async fn kill(tx: &mut Tx, intent: &IntentId) -> Result<(), DbError> {
    sqlx::query("UPDATE intents SET state = 'dead' WHERE id = $1 AND state = 'open'")
        .bind(intent.as_str().to_owned())
        .execute(tx)
        .await?;
    Ok(())
}

impl Store {
    /// access-policy knows that the numbers of a dead intent will not be used, or never gave any.
    pub async fn void_intent(&self, intent: &IntentId, now: Timestamp) -> Result<(), Error> {
        let id = intent.as_str().to_owned();
        self.db
            .write(move |tx| {
                Box::pin(async move {
                    sqlx::query(
                        "UPDATE intents SET state = 'void', settled_at_ms = $2
                         WHERE id = $1 AND state <> 'committed'",
                    )
                    .bind(id)
                    .bind(now.ms())
                    .execute(tx)
                    .await?;
                    Ok::<(), Error>(())
                })
            })
            .await
    }

    /// How an intent stands: `open`, `dead`, `void`, `committed`, or nothing.
    pub async fn intent_state(&self, intent: &IntentId) -> Result<Option<String>, Error> {
        let row = sqlx::query("SELECT state FROM intents WHERE id = $1")
            .bind(intent.as_str().to_owned())
            .fetch_optional(self.db.reads())
            .await?;
        Ok(row.map(|row| row.try_get("state")).transpose()?)
    }
}
