//! Intents: what tells a crash between data keys and commit from an upload under way.

use hbc_db::DbError;
use hbc_types::Timestamp;
use hbc_types::ids::IntentId;
use sqlx::Row as _;

use crate::error::Error;
use crate::store::Store;

impl Store {
    /// An upload begins.
    pub async fn begin_intent(&self, intent: &IntentId, now: Timestamp) -> Result<(), Error> {
        let id = intent.as_str().to_owned();
        self.db
            .write(move |tx| {
                Box::pin(async move {
                    sqlx::query("INSERT INTO intents (id, state, created_at_ms) VALUES ($1, 'open', $2)")
                        .bind(id)
                        .bind(now.ms())
                        .execute(tx)
                        .await?;
                    Ok::<(), Error>(())
                })
            })
            .await
    }

    /// An upload will never be committed. Says whether it was open until now.
    pub async fn kill_intent(&self, intent: &IntentId) -> Result<bool, Error> {
        let id = intent.as_str().to_owned();
        self.db
            .write(move |tx| {
                Box::pin(async move {
                    let done =
                        sqlx::query("UPDATE intents SET state = 'dead' WHERE id = $1 AND state = 'open'")
                            .bind(id)
                            .execute(tx)
                            .await?;
                    Ok::<bool, Error>(done.rows_affected() == 1)
                })
            })
            .await
    }

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

    /// Dead intents, and open ones that began before `before`: at most 100.
    pub async fn unsettled_intents(&self, before: Timestamp) -> Result<Vec<IntentId>, Error> {
        let rows = sqlx::query(
            "SELECT id FROM intents
             WHERE state <> 'committed' AND state <> 'void' AND (state = 'dead' OR created_at_ms < $1)
             ORDER BY created_at_ms LIMIT 100",
        )
        .bind(before.ms())
        .fetch_all(self.db.reads())
        .await?;
        rows.iter()
            .map(|row| {
                let text: String = row.try_get("id")?;
                Ok(IntentId::parse(&text).map_err(|_text| DbError::BadValue { column: "id" })?)
            })
            .collect()
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
