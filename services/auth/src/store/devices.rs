//! Devices that made themselves known. A row gives no right: what does is its pairings ([`super::pairings`]).

use hbc_client::assertion::ClientKeys;
use hbc_db::row::Reader;
use hbc_db::{Column, DbError, Tx};
use hbc_types::ids::DeviceId;
use hbc_types::{Digest, Timestamp};
use sqlx::any::AnyRow;

use super::{Rows, StoreError};

const TABLE: &str = "devices";

/// A device as stored.
#[derive(Clone, Debug)]
pub struct Device {
    /// Its id.
    pub id: DeviceId,
    /// What it calls itself.
    pub name: String,
    /// Make and model.
    pub model: String,
    /// Its public key, a JWK Set of one.
    pub jwks: String,
    /// Thumbprint of that key.
    pub fingerprint: Digest,
    /// When it made itself known.
    pub created_at: Timestamp,
    /// When a patient paired it first.
    pub paired_at: Option<Timestamp>,
    /// When it got a token last.
    pub last_used_at: Option<Timestamp>,
    /// How far its clock was ahead then.
    pub clock_offset_ms: Option<i64>,
}

impl Device {
    /// Its key.
    pub fn keys(&self) -> Result<ClientKeys, StoreError> {
        let corrupt = || DbError::Configuration("a device's key set cannot be read".to_owned());
        let set = serde_json::from_str(&self.jwks).map_err(|_not_json| corrupt())?;
        Ok(ClientKeys::parse(&set).map_err(|_not_keys| corrupt())?)
    }

    fn with_columns<T>(&self, work: impl FnOnce(&[Column<'_>]) -> T) -> T {
        let Self { id, name, model, jwks, fingerprint, created_at, paired_at, last_used_at, clock_offset_ms } =
            self;
        let fingerprint = fingerprint.to_string();
        work(&[
            id.as_str().into(),
            name.into(),
            model.into(),
            jwks.into(),
            (&fingerprint).into(),
            created_at.ms().into(),
            paired_at.map(Timestamp::ms).into(),
            last_used_at.map(Timestamp::ms).into(),
            (*clock_offset_ms).into(),
        ])
    }

    fn read(row: &AnyRow, rows: &Rows) -> Result<Self, StoreError> {
        let row = Reader(row);
        let device = Self {
            id: row.parsed("id")?,
            name: row.text("name")?,
            model: row.text("model")?,
            jwks: row.text("jwks")?,
            fingerprint: row.parsed("fingerprint")?,
            created_at: row.time("created_at_ms")?,
            paired_at: row.time_opt("paired_at_ms")?,
            last_used_at: row.time_opt("last_used_at_ms")?,
            clock_offset_ms: row.number_opt("clock_offset_ms")?,
        };
        let mac = row.bytes("mac")?;
        device.with_columns(|columns| rows.check(TABLE, columns, &mac))?;
        Ok(device)
    }
}

impl Rows {
    /// Adds a device.
    pub async fn insert_device(&self, tx: &mut Tx, device: &Device) -> Result<(), StoreError> {
        let mac = device.with_columns(|columns| self.mac_of(TABLE, columns));
        let Device {
            id,
            name,
            model,
            jwks,
            fingerprint,
            created_at,
            paired_at,
            last_used_at,
            clock_offset_ms,
        } = device;
        sqlx::query(
            "INSERT INTO devices (id, name, model, jwks, fingerprint, created_at_ms, paired_at_ms, last_used_at_ms,
                 clock_offset_ms, mac)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        )
        .bind(id.as_str().to_owned())
        .bind(name.clone())
        .bind(model.clone())
        .bind(jwks.clone())
        .bind(fingerprint.to_string())
        .bind(created_at.ms())
        .bind(paired_at.map(Timestamp::ms))
        .bind(last_used_at.map(Timestamp::ms))
        .bind(*clock_offset_ms)
        .bind(mac)
        .execute(tx)
        .await?;
        Ok(())
    }

    /// Writes a device back after it was paired or got a token.
    pub async fn update_device(&self, tx: &mut Tx, device: &Device) -> Result<(), StoreError> {
        let done = sqlx::query(
            "UPDATE devices SET paired_at_ms = $2, last_used_at_ms = $3, clock_offset_ms = $4, mac = $5 WHERE id = $1",
        )
        .bind(device.id.as_str().to_owned())
        .bind(device.paired_at.map(Timestamp::ms))
        .bind(device.last_used_at.map(Timestamp::ms))
        .bind(device.clock_offset_ms)
        .bind(device.with_columns(|columns| self.mac_of(TABLE, columns)))
        .execute(tx)
        .await?;
        Ok(DbError::one_row(done.rows_affected())?)
    }

    /// The device with this id.
    pub async fn device<'e, E>(&self, executor: E, id: &DeviceId) -> Result<Option<Device>, StoreError>
    where
        E: sqlx::Executor<'e, Database = sqlx::Any>,
    {
        let row = sqlx::query("SELECT * FROM devices WHERE id = $1")
            .bind(id.as_str().to_owned())
            .fetch_optional(executor)
            .await?;
        row.map(|row| Device::read(&row, self)).transpose()
    }

    /// The device with this key.
    pub async fn device_by_key(
        &self,
        tx: &mut Tx,
        fingerprint: Digest,
    ) -> Result<Option<Device>, StoreError> {
        let row = sqlx::query("SELECT * FROM devices WHERE fingerprint = $1")
            .bind(fingerprint.to_string())
            .fetch_optional(tx)
            .await?;
        row.map(|row| Device::read(&row, self)).transpose()
    }

    /// Forgets devices that made themselves known before `before` and that nobody has paired.
    pub async fn prune_devices(&self, tx: &mut Tx, before: Timestamp) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM devices WHERE paired_at_ms IS NULL AND created_at_ms < $1")
            .bind(before.ms())
            .execute(tx)
            .await?;
        Ok(())
    }
}
