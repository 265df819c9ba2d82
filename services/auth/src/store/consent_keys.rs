//! The index of consent keys: kid → account, and for keys in server custody the grantee and counter they derive from.

use hbc_db::{Column, DbError, Tx};
use hbc_types::ids::{GranteeId, PatientId};
use hbc_types::{Digest, Timestamp};
use sqlx::any::AnyRow;

use super::{Rows, StoreError, trusted};
use hbc_db::row::Reader;

const TABLE: &str = "consent_keys";

/// A consent key as stored.
#[derive(Clone, Debug)]
pub struct ConsentKey {
    /// Its kid.
    pub kid: Digest,
    /// Whose.
    pub account: PatientId,
    /// Server custody: for which grantee, and the counter of the derivation.
    pub derivation: Option<Derivation>,
    /// The raw public key.
    pub public_key: [u8; 32],
    /// The signed `identity.key` transaction: always the same bytes.
    pub registration: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was revoked here, or the chain showed it.
    pub revoked_at: Option<Timestamp>,
}

/// What a consent key in server custody is derived from, beside the root key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Derivation {
    /// The grantee.
    pub grantee: GranteeId,
    /// 0 for the first key, one more for each successor.
    pub counter: u32,
}

impl ConsentKey {
    fn with_columns<T>(&self, work: impl FnOnce(&[Column<'_>]) -> T) -> T {
        let Self { kid, account, derivation, public_key, registration, created_at, revoked_at } = self;
        let (grantee, counter) =
            derivation.as_ref().map(|Derivation { grantee, counter }| (grantee, *counter)).unzip();
        let kid = kid.to_string();
        work(&[
            (&kid).into(),
            account.as_str().into(),
            grantee.map(GranteeId::as_str).into(),
            counter.map(i64::from).into(),
            public_key.as_slice().into(),
            registration.into(),
            created_at.ms().into(),
            revoked_at.map(Timestamp::ms).into(),
        ])
    }

    fn read(row: &AnyRow, rows: &Rows) -> Result<Self, StoreError> {
        let row = Reader(row);
        let grantee = row.parsed_opt("grantee")?;
        let derivation = match grantee {
            Some(grantee) => Some(Derivation { grantee, counter: row.number("counter")? }),
            None => None,
        };
        let key = Self {
            kid: row.parsed("kid")?,
            account: row.parsed("account")?,
            derivation,
            public_key: row.array("public_key")?,
            registration: row.text("registration")?,
            created_at: row.time("created_at_ms")?,
            revoked_at: row.time_opt("revoked_at_ms")?,
        };
        let mac = row.bytes("mac")?;
        key.with_columns(|columns| rows.check(TABLE, columns, &mac))?;
        Ok(key)
    }
}

impl Rows {
    /// Adds a key. [`DbError::UniqueViolation`] means that the key, or the grantee's counter, is there already.
    pub async fn insert_consent_key(&self, tx: &mut Tx, key: &ConsentKey) -> Result<(), StoreError> {
        let mac = key.with_columns(|columns| self.mac_of(TABLE, columns));
        let ConsentKey { kid, account, derivation, public_key, registration, created_at, revoked_at } = key;
        let (grantee, counter) =
            derivation.as_ref().map(|Derivation { grantee, counter }| (grantee, *counter)).unzip();
        sqlx::query(
            "INSERT INTO consent_keys (kid, account, grantee, counter, public_key, registration, created_at_ms,
                 revoked_at_ms, mac)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        )
        .bind(kid.to_string())
        .bind(account.as_str().to_owned())
        .bind(grantee.map(|id| id.as_str().to_owned()))
        .bind(counter.map(i64::from))
        .bind(public_key.to_vec())
        .bind(registration.clone())
        .bind(created_at.ms())
        .bind(revoked_at.map(Timestamp::ms))
        .bind(mac)
        .execute(tx)
        .await?;
        Ok(())
    }

    /// The key with this kid.
    pub async fn consent_key<'e, E>(&self, executor: E, kid: Digest) -> Result<Option<ConsentKey>, StoreError>
    where
        E: sqlx::Executor<'e, Database = sqlx::Any>,
    {
        let row = sqlx::query("SELECT * FROM consent_keys WHERE kid = $1")
            .bind(kid.to_string())
            .fetch_optional(executor)
            .await?;
        row.map(|row| ConsentKey::read(&row, self)).transpose()
    }

    /// The latest key of `account` for `grantee`, revoked or not.
    pub async fn latest_consent_key<'e, E>(
        &self,
        executor: E,
        account: &PatientId,
        grantee: &GranteeId,
    ) -> Result<Option<ConsentKey>, StoreError>
    where
        E: sqlx::Executor<'e, Database = sqlx::Any>,
    {
        let row = sqlx::query(
            "SELECT * FROM consent_keys WHERE account = $1 AND grantee = $2 ORDER BY counter DESC LIMIT 1",
        )
        .bind(account.as_str().to_owned())
        .bind(grantee.as_str().to_owned())
        .fetch_optional(executor)
        .await?;
        row.map(|row| ConsentKey::read(&row, self)).transpose()
    }

    /// The keys of `account` that were not revoked, the oldest first. One that another hand wrote is none: the alarm is in the log.
    pub async fn live_consent_keys(
        &self,
        tx: &mut Tx,
        account: &PatientId,
    ) -> Result<Vec<ConsentKey>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM consent_keys WHERE account = $1 AND revoked_at_ms IS NULL ORDER BY created_at_ms, kid",
        )
        .bind(account.as_str().to_owned())
        .fetch_all(tx)
        .await?;
        trusted(rows.iter().map(|row| ConsentKey::read(row, self)))
    }

    /// When the key was made before which so many of this account's others were made later; none if there are not so many.
    pub async fn key_before_the_last(
        &self,
        tx: &mut Tx,
        account: &PatientId,
        last: u32,
    ) -> Result<Option<Timestamp>, StoreError> {
        let row = sqlx::query(
            "SELECT created_at_ms FROM consent_keys WHERE account = $1 ORDER BY created_at_ms DESC LIMIT 1 OFFSET $2",
        )
        .bind(account.as_str().to_owned())
        .bind(i64::from(last))
        .fetch_optional(tx)
        .await?;
        Ok(row.map(|row| Reader(&row).time("created_at_ms")).transpose()?)
    }

    /// Writes a key back after [`ConsentKey::revoked_at`] was set.
    pub async fn revoke_consent_key(&self, tx: &mut Tx, key: &ConsentKey) -> Result<(), StoreError> {
        let mac = key.with_columns(|columns| self.mac_of(TABLE, columns));
        let done = sqlx::query("UPDATE consent_keys SET revoked_at_ms = $2, mac = $3 WHERE kid = $1")
            .bind(key.kid.to_string())
            .bind(key.revoked_at.map(Timestamp::ms))
            .bind(mac)
            .execute(tx)
            .await?;
        Ok(DbError::one_row(done.rows_affected())?)
    }
}
