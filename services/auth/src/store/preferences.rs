//! How accounts want the portal.

use hbc_db::row::Reader;
use hbc_db::{DbError, Tx};
use hbc_types::ids::AccountId;
use hbc_types::wire::preferences::Preferences;

use super::{Rows, StoreError};

const TABLE: &str = "preferences";

impl Rows {
    /// Replaces an account's preferences.
    pub async fn put_preferences(
        &self,
        tx: &mut Tx,
        account: &AccountId,
        preferences: &Preferences,
    ) -> Result<(), StoreError> {
        let unwritable = |_no_json| DbError::Configuration("preferences have no JSON form".to_owned());
        let body = serde_json::to_string(preferences).map_err(unwritable)?;
        let mac = self.mac_of(TABLE, &[account.as_str().into(), (&body).into()]);
        sqlx::query(
            "INSERT INTO preferences (account, body, mac) VALUES ($1, $2, $3)
             ON CONFLICT (account) DO UPDATE SET body = excluded.body, mac = excluded.mac",
        )
        .bind(account.as_str().to_owned())
        .bind(body)
        .bind(mac)
        .execute(tx)
        .await?;
        Ok(())
    }

    /// Forgets an account's preferences.
    pub async fn delete_preferences(&self, tx: &mut Tx, account: &AccountId) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM preferences WHERE account = $1")
            .bind(account.as_str().to_owned())
            .execute(tx)
            .await?;
        Ok(())
    }

    /// An account's preferences, if it ever said any.
    pub async fn preferences<'e, E>(
        &self,
        executor: E,
        account: &AccountId,
    ) -> Result<Option<Preferences>, StoreError>
    where
        E: sqlx::Executor<'e, Database = sqlx::Any>,
    {
        let row = sqlx::query("SELECT body, mac FROM preferences WHERE account = $1")
            .bind(account.as_str().to_owned())
            .fetch_optional(executor)
            .await?;
        let Some(row) = row else { return Ok(None) };
        let row = Reader(&row);
        let body = row.text("body")?;
        self.check(TABLE, &[account.as_str().into(), (&body).into()], &row.bytes("mac")?)?;
        let corrupt = |_no_preferences| DbError::Configuration("preferences cannot be read".to_owned());
        Ok(Some(serde_json::from_str(&body).map_err(corrupt)?))
    }
}
