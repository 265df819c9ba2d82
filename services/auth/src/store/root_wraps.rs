//! Seeds of root keys as their owners' pages wrapped them.

use hbc_db::row::Reader;
use hbc_db::{Column, Tx};
use hbc_types::ids::{PasskeyId, PatientId};
use hbc_types::{Digest, Timestamp};
use sqlx::any::AnyRow;

use super::{Rows, StoreError};

const TABLE: &str = "root_wraps";

/// A wrapped seed as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RootWrap {
    /// Whose.
    pub account: PatientId,
    /// The passkey whose secret opens it; none: the recovery code.
    pub passkey: Option<PasskeyId>,
    /// Fingerprint of the root key.
    pub root: Digest,
    /// The input of the passkey's PRF, or the salt of the code's derivation.
    pub salt: [u8; 32],
    /// Nonce, encrypted seed, tag.
    pub wrapped: [u8; 60],
    /// When it was made.
    pub created_at: Timestamp,
}

impl RootWrap {
    /// The second half of its name: the recovery code has none.
    fn opener(&self) -> &str {
        self.passkey.as_ref().map_or("", PasskeyId::as_str)
    }

    fn with_columns<T>(&self, work: impl FnOnce(&[Column<'_>]) -> T) -> T {
        let Self { account, passkey: _, root, salt, wrapped, created_at } = self;
        work(&[
            account.as_str().into(),
            self.opener().into(),
            root.as_bytes().as_slice().into(),
            salt.as_slice().into(),
            wrapped.as_slice().into(),
            created_at.ms().into(),
        ])
    }

    fn read(row: &AnyRow, rows: &Rows) -> Result<Self, StoreError> {
        let row = Reader(row);
        let passkey = row.text("passkey")?;
        let wrap = Self {
            account: row.parsed("account")?,
            passkey: if passkey.is_empty() { None } else { Some(row.parsed("passkey")?) },
            root: row.parsed("root")?,
            salt: row.array("salt")?,
            wrapped: row.array("wrapped")?,
            created_at: row.time("created_at_ms")?,
        };
        let mac = row.bytes("mac")?;
        wrap.with_columns(|columns| rows.check(TABLE, columns, &mac))?;
        Ok(wrap)
    }
}

impl Rows {
    /// Adds a wrap, or replaces the one of the same passkey or code.
    pub async fn put_root_wrap(&self, tx: &mut Tx, wrap: &RootWrap) -> Result<(), StoreError> {
        let mac = wrap.with_columns(|columns| self.mac_of(TABLE, columns));
        sqlx::query(
            "INSERT INTO root_wraps (account, passkey, root, salt, wrapped, created_at_ms, mac)
             VALUES ($1, $2, $3, $4, $5, $6, $7)
             ON CONFLICT (account, passkey) DO UPDATE SET root = excluded.root, salt = excluded.salt,
                 wrapped = excluded.wrapped, created_at_ms = excluded.created_at_ms, mac = excluded.mac",
        )
        .bind(wrap.account.as_str().to_owned())
        .bind(wrap.opener().to_owned())
        .bind(wrap.root.to_string())
        .bind(wrap.salt.to_vec())
        .bind(wrap.wrapped.to_vec())
        .bind(wrap.created_at.ms())
        .bind(mac)
        .execute(tx)
        .await?;
        Ok(())
    }

    /// The wraps of a root key that `account` has, the oldest first. A row of another hand is left out (and alarmed about), and so
    /// is one of a root key of before.
    pub async fn root_wraps<'e, E>(
        &self,
        executor: E,
        account: &PatientId,
        root: Digest,
    ) -> Result<Vec<RootWrap>, StoreError>
    where
        E: sqlx::Executor<'e, Database = sqlx::Any>,
    {
        let rows = sqlx::query("SELECT * FROM root_wraps WHERE account = $1 ORDER BY created_at_ms, passkey")
            .bind(account.as_str().to_owned())
            .fetch_all(executor)
            .await?;
        let mut wraps = Vec::with_capacity(rows.len());
        for row in &rows {
            match RootWrap::read(row, self) {
                Ok(wrap) if wrap.root == root => wraps.push(wrap),
                Ok(_of_before) => {}
                Err(StoreError::Tampered(_alarmed)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(wraps)
    }

    /// Forgets all wraps of an account.
    pub async fn delete_root_wraps(&self, tx: &mut Tx, account: &PatientId) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM root_wraps WHERE account = $1")
            .bind(account.as_str().to_owned())
            .execute(tx)
            .await?;
        Ok(())
    }

    /// Forgets the wrap that a passkey opens.
    pub async fn delete_root_wrap(&self, tx: &mut Tx, passkey: &PasskeyId) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM root_wraps WHERE passkey = $1")
            .bind(passkey.as_str().to_owned())
            .execute(tx)
            .await?;
        Ok(())
    }
}
