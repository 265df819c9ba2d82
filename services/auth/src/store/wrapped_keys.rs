//! Wrapped signing keys: one an account under its password, and a patient's root key once per recovery code.

use std::time::Duration;

use hbc_db::{Column, DbError, Tx};
use hbc_types::Timestamp;

use super::{Rows, StoreError, alarm};
use crate::domain::custody::{Cost, KeyUse, Wrapped};
use crate::domain::floors::{self, CODE, CODES, Change};
use hbc_db::row::{Reader, bad};

const KEYS: &str = "wrapped_keys";
const TABLE_OF_CODES: &str = "recovery_codes";

/// A key wrapped under its account's password.
#[derive(Clone, Debug)]
pub struct WrappedKey {
    /// Whose.
    pub account: String,
    /// What it is for.
    pub key_use: KeyUse,
    /// Cost of the password hash.
    pub cost: Cost,
    /// The wrap.
    pub wrapped: Wrapped,
    /// When it was made.
    pub created_at: Timestamp,
}

impl WrappedKey {
    fn columns(&self) -> [Column<'_>; 9] {
        let Self { account, key_use, cost, wrapped, created_at } = self;
        let (Cost { m_kib, t, p }, Wrapped { salt, nonce, ciphertext }) = (cost, wrapped);
        [
            account.into(),
            key_use.domain().into(),
            i64::from(*m_kib).into(),
            i64::from(*t).into(),
            i64::from(*p).into(),
            salt.as_slice().into(),
            nonce.as_slice().into(),
            ciphertext.as_slice().into(),
            created_at.ms().into(),
        ]
    }
}

/// A root key wrapped under a recovery code.
#[derive(Clone, Debug)]
pub struct CodeWrap {
    /// Whose.
    pub account: String,
    /// Its place among the account's codes.
    pub n: i64,
    /// The wrap.
    pub wrapped: Wrapped,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was used.
    pub used_at: Option<Timestamp>,
}

impl CodeWrap {
    fn columns(&self) -> [Column<'_>; 7] {
        let Self { account, n, wrapped: Wrapped { salt, nonce, ciphertext }, created_at, used_at } = self;
        [
            account.into(),
            (*n).into(),
            salt.as_slice().into(),
            nonce.as_slice().into(),
            ciphertext.as_slice().into(),
            created_at.ms().into(),
            used_at.map(Timestamp::ms).into(),
        ]
    }
}

impl Rows {
    /// Adds or replaces the wrapped key of its account.
    pub async fn put_wrapped_key(&self, tx: &mut Tx, key: &WrappedKey) -> Result<(), StoreError> {
        let WrappedKey { account, key_use, cost, wrapped, created_at } = key;
        let (Cost { m_kib, t, p }, Wrapped { salt, nonce, ciphertext }) = (cost, wrapped);
        sqlx::query(
            "INSERT INTO wrapped_keys (account, key_use, m_kib, t, p, salt, nonce, ciphertext, created_at_ms, mac)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
             ON CONFLICT (account) DO UPDATE SET key_use = excluded.key_use, m_kib = excluded.m_kib, t = excluded.t,
                 p = excluded.p, salt = excluded.salt, nonce = excluded.nonce, ciphertext = excluded.ciphertext,
                 created_at_ms = excluded.created_at_ms, mac = excluded.mac",
        )
        .bind(account.clone())
        .bind(key_use.domain())
        .bind(i64::from(*m_kib))
        .bind(i64::from(*t))
        .bind(i64::from(*p))
        .bind(salt.to_vec())
        .bind(nonce.to_vec())
        .bind(ciphertext.clone())
        .bind(created_at.ms())
        .bind(self.mac_of(KEYS, &key.columns()))
        .execute(tx)
        .await?;
        Ok(())
    }

    /// The wrapped key of `account`.
    pub async fn wrapped_key<'e, E>(
        &self,
        executor: E,
        account: &str,
    ) -> Result<Option<WrappedKey>, StoreError>
    where
        E: sqlx::Executor<'e, Database = sqlx::Any>,
    {
        let row = sqlx::query("SELECT * FROM wrapped_keys WHERE account = $1")
            .bind(account.to_owned())
            .fetch_optional(executor)
            .await?;
        let Some(row) = row else { return Ok(None) };
        let row = Reader(&row);
        let key_use = row.text("key_use")?;
        let key = WrappedKey {
            account: row.text("account")?,
            key_use: [KeyUse::Root, KeyUse::Staff, KeyUse::Operator]
                .into_iter()
                .find(|known| known.domain() == key_use)
                .ok_or_else(|| bad("key_use"))?,
            cost: Cost { m_kib: row.number("m_kib")?, t: row.number("t")?, p: row.number("p")? },
            wrapped: wrapped(&row)?,
            created_at: row.time("created_at_ms")?,
        };
        self.check(KEYS, &key.columns(), &row.bytes("mac")?)?;
        Ok(Some(key))
    }

    /// Removes the wrapped key of `account`, if there is one.
    pub async fn delete_wrapped_key(&self, tx: &mut Tx, account: &str) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM wrapped_keys WHERE account = $1")
            .bind(account.to_owned())
            .execute(tx)
            .await?;
        Ok(())
    }

    /// Adds recovery codes' wraps.
    pub async fn insert_codes(&self, tx: &mut Tx, codes: &[CodeWrap]) -> Result<(), StoreError> {
        for code in codes {
            self.insert_code(tx, code).await?;
        }
        Ok(())
    }

    async fn insert_code(&self, tx: &mut Tx, code: &CodeWrap) -> Result<(), StoreError> {
        let CodeWrap { account, n, wrapped: Wrapped { salt, nonce, ciphertext }, created_at, used_at } = code;
        sqlx::query(
            "INSERT INTO recovery_codes (account, n, salt, nonce, ciphertext, created_at_ms, used_at_ms, mac)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        )
        .bind(account.clone())
        .bind(*n)
        .bind(salt.to_vec())
        .bind(nonce.to_vec())
        .bind(ciphertext.clone())
        .bind(created_at.ms())
        .bind(used_at.map(Timestamp::ms))
        .bind(self.mac_of(TABLE_OF_CODES, &code.columns()))
        .execute(tx)
        .await?;
        Ok(())
    }

    /// Puts codes in the place of every earlier one of `account`; no earlier one ever counts again. The new ones count as made
    /// after those, whatever the clock says.
    pub async fn replace_codes(
        &self,
        tx: &mut Tx,
        account: &str,
        codes: &[CodeWrap],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let floor = self.floors.get(CODES, account).map(Timestamp::from_ms);
        let made = floor.map_or(now, |floor| now.max(floor.plus(Duration::from_millis(1))));
        self.note(Change::Codes(account.to_owned(), made))?;
        sqlx::query("DELETE FROM recovery_codes WHERE account = $1")
            .bind(account.to_owned())
            .execute(&mut *tx)
            .await?;
        let codes = codes.iter().map(|code| CodeWrap { created_at: made, ..code.clone() });
        self.insert_codes(tx, &codes.collect::<Vec<_>>()).await
    }

    /// The unused codes' wraps of `account`. One that was used, or that later codes took the place of, is left out, whatever
    /// its row says.
    pub async fn unused_codes<'e, E>(&self, executor: E, account: &str) -> Result<Vec<CodeWrap>, StoreError>
    where
        E: sqlx::Executor<'e, Database = sqlx::Any>,
    {
        let since = self.floors.get(CODES, account).unwrap_or(i64::MIN);
        let rows =
            sqlx::query("SELECT * FROM recovery_codes WHERE account = $1 AND used_at_ms IS NULL ORDER BY n")
                .bind(account.to_owned())
                .fetch_all(executor)
                .await?;
        let codes = rows
            .iter()
            .map(|row| {
                let row = Reader(row);
                let code = CodeWrap {
                    account: row.text("account")?,
                    n: row.number("n")?,
                    wrapped: wrapped(&row)?,
                    created_at: row.time("created_at_ms")?,
                    used_at: row.time_opt("used_at_ms")?,
                };
                self.check(TABLE_OF_CODES, &code.columns(), &row.bytes("mac")?)?;
                Ok(code)
            })
            .collect::<Result<Vec<CodeWrap>, StoreError>>()?;
        let counts = |code: &CodeWrap| {
            let id = floors::code(&code.account, &code.wrapped.salt);
            code.created_at.ms() >= since && self.floors.get(CODE, &id).is_none()
        };
        let (counting, older): (Vec<_>, Vec<_>) = codes.into_iter().partition(counts);
        if !older.is_empty() {
            alarm(TABLE_OF_CODES);
        }
        Ok(counting)
    }

    /// Writes a code back after [`CodeWrap::used_at`] was set; of two conflicting requests one gets
    /// [`DbError::RowCount`].
    pub async fn use_code(&self, tx: &mut Tx, code: &CodeWrap) -> Result<(), StoreError> {
        self.note(Change::Code(code.account.clone(), code.wrapped.salt))?;
        let done = sqlx::query(
            "UPDATE recovery_codes SET used_at_ms = $3, mac = $4
             WHERE account = $1 AND n = $2 AND salt = $5 AND used_at_ms IS NULL",
        )
        .bind(code.account.clone())
        .bind(code.n)
        .bind(code.used_at.map(Timestamp::ms))
        .bind(self.mac_of(TABLE_OF_CODES, &code.columns()))
        .bind(code.wrapped.salt.to_vec())
        .execute(tx)
        .await?;
        Ok(DbError::one_row(done.rows_affected())?)
    }
}

fn wrapped(row: &Reader<'_>) -> Result<Wrapped, StoreError> {
    Ok(Wrapped { salt: row.array("salt")?, nonce: row.array("nonce")?, ciphertext: row.bytes("ciphertext")? })
}
