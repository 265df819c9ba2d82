//! Second factors: one TOTP secret an account, encrypted under a server key and bound to the account.

use hbc_db::{Column, Tx};
use hbc_types::Timestamp;

use super::{Rows, StoreError};
use hbc_db::row::Reader;

const TABLE: &str = "factors";

/// A second factor as stored.
#[derive(Clone, Debug)]
pub struct Factor {
    /// Whose.
    pub account: String,
    /// Nonce of the encrypted secret.
    pub nonce: [u8; 12],
    /// The encrypted secret.
    pub encrypted: Vec<u8>,
    /// Since when it counts; absent while prepared.
    pub confirmed_at: Option<Timestamp>,
    /// The last step whose code was used.
    pub last_step: i64,
    /// When it was made.
    pub created_at: Timestamp,
}

impl Factor {
    fn columns(&self) -> [Column<'_>; 6] {
        let Self { account, nonce, encrypted, confirmed_at, last_step, created_at } = self;
        [
            account.into(),
            nonce.as_slice().into(),
            encrypted.as_slice().into(),
            confirmed_at.map(Timestamp::ms).into(),
            (*last_step).into(),
            created_at.ms().into(),
        ]
    }
}

impl Rows {
    /// Adds or replaces the factor of its account.
    pub async fn put_factor(&self, tx: &mut Tx, factor: &Factor) -> Result<(), StoreError> {
        let Factor { account, nonce, encrypted, confirmed_at, last_step, created_at } = factor;
        sqlx::query(
            "INSERT INTO factors (account, nonce, encrypted, confirmed_at_ms, last_step, created_at_ms, mac)
             VALUES ($1, $2, $3, $4, $5, $6, $7)
             ON CONFLICT (account) DO UPDATE SET nonce = excluded.nonce, encrypted = excluded.encrypted,
                 confirmed_at_ms = excluded.confirmed_at_ms, last_step = excluded.last_step,
                 created_at_ms = excluded.created_at_ms, mac = excluded.mac",
        )
        .bind(account.clone())
        .bind(nonce.to_vec())
        .bind(encrypted.clone())
        .bind(confirmed_at.map(Timestamp::ms))
        .bind(*last_step)
        .bind(created_at.ms())
        .bind(self.mac_of(TABLE, &factor.columns()))
        .execute(tx)
        .await?;
        Ok(())
    }

    /// Removes the factor of `account`, if there is one.
    pub async fn delete_factor(&self, tx: &mut Tx, account: &str) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM factors WHERE account = $1").bind(account.to_owned()).execute(tx).await?;
        Ok(())
    }

    /// The factor of `account`.
    pub async fn factor<'e, E>(&self, executor: E, account: &str) -> Result<Option<Factor>, StoreError>
    where
        E: sqlx::Executor<'e, Database = sqlx::Any>,
    {
        let row = sqlx::query("SELECT * FROM factors WHERE account = $1")
            .bind(account.to_owned())
            .fetch_optional(executor)
            .await?;
        let Some(row) = row else { return Ok(None) };
        let row = Reader(&row);
        let factor = Factor {
            account: row.text("account")?,
            nonce: row.array("nonce")?,
            encrypted: row.bytes("encrypted")?,
            confirmed_at: row.time_opt("confirmed_at_ms")?,
            last_step: row.number("last_step")?,
            created_at: row.time("created_at_ms")?,
        };
        self.check(TABLE, &factor.columns(), &row.bytes("mac")?)?;
        Ok(Some(factor))
    }
}
