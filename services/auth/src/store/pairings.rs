//! Pairing codes, and the pairings that came of them.

use hbc_db::row::Reader;
use hbc_db::{Column, DbError, Tx};
use hbc_types::ids::{DeviceId, GrantId, PairingId, PatientId};
use hbc_types::{Digest, Timestamp};
use sqlx::any::AnyRow;

use super::{Rows, StoreError};
use crate::domain::floors::{Change, PAIRING};
use crate::domain::pairing::{Code, Progress};

const CODES: &str = "pairing_codes";
const PAIRINGS: &str = "pairings";

/// A pairing code as stored.
#[derive(Clone, Debug)]
pub struct StoredCode {
    /// Its id, and that of the pairing that may come of it.
    pub id: PairingId,
    /// Whose.
    pub patient: PatientId,
    /// A keyed hash of the code ([`Rows::hash_of`]).
    pub code: Digest,
    /// When it was made.
    pub created_at: Timestamp,
    /// What became of it.
    pub progress: Progress,
}

impl StoredCode {
    fn with_columns<T>(&self, work: impl FnOnce(&[Column<'_>]) -> T) -> T {
        let Self { id, patient, code, created_at, progress } = self;
        let Progress { expires_at, device, confirmed_at, ended_at } = progress;
        let code = code.to_string();
        work(&[
            id.as_str().into(),
            patient.as_str().into(),
            (&code).into(),
            created_at.ms().into(),
            expires_at.ms().into(),
            device.as_ref().map(DeviceId::as_str).into(),
            confirmed_at.map(Timestamp::ms).into(),
            ended_at.map(Timestamp::ms).into(),
        ])
    }

    fn read(row: &AnyRow, rows: &Rows) -> Result<Self, StoreError> {
        let row = Reader(row);
        let stored = Self {
            id: row.parsed("id")?,
            patient: row.parsed("patient")?,
            code: row.parsed("code")?,
            created_at: row.time("created_at_ms")?,
            progress: Progress {
                expires_at: row.time("expires_at_ms")?,
                device: row.parsed_opt("device")?,
                confirmed_at: row.time_opt("confirmed_at_ms")?,
                ended_at: row.time_opt("ended_at_ms")?,
            },
        };
        let mac = row.bytes("mac")?;
        stored.with_columns(|columns| rows.check(CODES, columns, &mac))?;
        Ok(stored)
    }
}

/// A pairing as stored.
#[derive(Clone, Debug)]
pub struct Pairing {
    /// Its id.
    pub id: PairingId,
    /// The patient.
    pub patient: PatientId,
    /// The device.
    pub device: DeviceId,
    /// The grant that was signed for it.
    pub grant: GrantId,
    /// Since when.
    pub paired_at: Timestamp,
    /// When the patient ended it.
    pub ended_at: Option<Timestamp>,
    /// How often it changed.
    pub version: i64,
}

impl Pairing {
    fn with_columns<T>(&self, work: impl FnOnce(&[Column<'_>]) -> T) -> T {
        let Self { id, patient, device, grant, paired_at, ended_at, version } = self;
        work(&[
            id.as_str().into(),
            patient.as_str().into(),
            device.as_str().into(),
            grant.as_str().into(),
            paired_at.ms().into(),
            ended_at.map(Timestamp::ms).into(),
            (*version).into(),
        ])
    }

    fn read(row: &AnyRow, rows: &Rows) -> Result<Self, StoreError> {
        let row = Reader(row);
        let pairing = Self {
            id: row.parsed("id")?,
            patient: row.parsed("patient")?,
            device: row.parsed("device")?,
            grant: row.parsed("consent")?,
            paired_at: row.time("paired_at_ms")?,
            ended_at: row.time_opt("ended_at_ms")?,
            version: row.number("version")?,
        };
        let mac = row.bytes("mac")?;
        pairing.with_columns(|columns| rows.check(PAIRINGS, columns, &mac))?;
        Ok(pairing)
    }

    fn last_change(&self) -> Change {
        Change::Pairing(self.id.clone(), self.version)
    }
}

impl Rows {
    /// Under which hash a code is stored: 40 bits could be guessed from a plain one.
    #[must_use]
    pub fn hash_of(&self, code: &Code) -> Digest {
        Digest::from_bytes(self.mac.compute("pairing_code", &[code.bytes().as_slice().into()]))
    }

    /// Adds a code.
    pub async fn insert_pairing_code(&self, tx: &mut Tx, code: &StoredCode) -> Result<(), StoreError> {
        let mac = code.with_columns(|columns| self.mac_of(CODES, columns));
        let StoredCode { id, patient, code, created_at, progress } = code;
        let Progress { expires_at, device, confirmed_at, ended_at } = progress;
        sqlx::query(
            "INSERT INTO pairing_codes (id, patient, code, created_at_ms, expires_at_ms, device, confirmed_at_ms,
                 ended_at_ms, mac)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        )
        .bind(id.as_str().to_owned())
        .bind(patient.as_str().to_owned())
        .bind(code.to_string())
        .bind(created_at.ms())
        .bind(expires_at.ms())
        .bind(device.as_ref().map(ToString::to_string))
        .bind(confirmed_at.map(Timestamp::ms))
        .bind(ended_at.map(Timestamp::ms))
        .bind(mac)
        .execute(tx)
        .await?;
        Ok(())
    }

    /// Writes a code back after it was claimed, confirmed or ended.
    pub async fn update_pairing_code(&self, tx: &mut Tx, code: &StoredCode) -> Result<(), StoreError> {
        let Progress { expires_at, device, confirmed_at, ended_at } = &code.progress;
        let done = sqlx::query(
            "UPDATE pairing_codes SET expires_at_ms = $2, device = $3, confirmed_at_ms = $4, ended_at_ms = $5, mac = $6
             WHERE id = $1",
        )
        .bind(code.id.as_str().to_owned())
        .bind(expires_at.ms())
        .bind(device.as_ref().map(ToString::to_string))
        .bind(confirmed_at.map(Timestamp::ms))
        .bind(ended_at.map(Timestamp::ms))
        .bind(code.with_columns(|columns| self.mac_of(CODES, columns)))
        .execute(tx)
        .await?;
        Ok(DbError::one_row(done.rows_affected())?)
    }

    /// The code with this id.
    pub async fn pairing_code<'e, E>(
        &self,
        executor: E,
        id: &PairingId,
    ) -> Result<Option<StoredCode>, StoreError>
    where
        E: sqlx::Executor<'e, Database = sqlx::Any>,
    {
        let row = sqlx::query("SELECT * FROM pairing_codes WHERE id = $1")
            .bind(id.as_str().to_owned())
            .fetch_optional(executor)
            .await?;
        row.map(|row| StoredCode::read(&row, self)).transpose()
    }

    /// The code with this hash.
    pub async fn pairing_code_by_hash(
        &self,
        tx: &mut Tx,
        code: Digest,
    ) -> Result<Option<StoredCode>, StoreError> {
        let row = sqlx::query("SELECT * FROM pairing_codes WHERE code = $1")
            .bind(code.to_string())
            .fetch_optional(tx)
            .await?;
        row.map(|row| StoredCode::read(&row, self)).transpose()
    }

    /// The codes that a patient made after `since`.
    pub async fn pairing_codes_since(
        &self,
        tx: &mut Tx,
        patient: &PatientId,
        since: Timestamp,
    ) -> Result<Vec<StoredCode>, StoreError> {
        let rows = sqlx::query("SELECT * FROM pairing_codes WHERE patient = $1 AND created_at_ms > $2")
            .bind(patient.as_str().to_owned())
            .bind(since.ms())
            .fetch_all(tx)
            .await?;
        rows.iter().map(|row| StoredCode::read(row, self)).collect()
    }

    /// Forgets codes that were made before `before`.
    pub async fn prune_pairing_codes(&self, tx: &mut Tx, before: Timestamp) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM pairing_codes WHERE created_at_ms < $1")
            .bind(before.ms())
            .execute(tx)
            .await?;
        Ok(())
    }

    /// Adds a pairing.
    pub async fn insert_pairing(&self, tx: &mut Tx, pairing: &Pairing) -> Result<(), StoreError> {
        self.note(pairing.last_change())?;
        let mac = pairing.with_columns(|columns| self.mac_of(PAIRINGS, columns));
        let Pairing { id, patient, device, grant, paired_at, ended_at, version } = pairing;
        sqlx::query(
            "INSERT INTO pairings (id, patient, device, consent, paired_at_ms, ended_at_ms, version, mac)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        )
        .bind(id.as_str().to_owned())
        .bind(patient.as_str().to_owned())
        .bind(device.as_str().to_owned())
        .bind(grant.as_str().to_owned())
        .bind(paired_at.ms())
        .bind(ended_at.map(Timestamp::ms))
        .bind(*version)
        .bind(mac)
        .execute(tx)
        .await?;
        Ok(())
    }

    /// Ends a pairing.
    pub async fn end_pairing(
        &self,
        tx: &mut Tx,
        pairing: &mut Pairing,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        pairing.ended_at = Some(now);
        pairing.version += 1;
        self.note(pairing.last_change())?;
        let done = sqlx::query("UPDATE pairings SET ended_at_ms = $2, version = $3, mac = $4 WHERE id = $1")
            .bind(pairing.id.as_str().to_owned())
            .bind(now.ms())
            .bind(pairing.version)
            .bind(pairing.with_columns(|columns| self.mac_of(PAIRINGS, columns)))
            .execute(tx)
            .await?;
        Ok(DbError::one_row(done.rows_affected())?)
    }

    /// Has the journal learn once more how a pairing stands: the first time may have failed between database and journal.
    pub fn note_pairing(&self, pairing: &Pairing) -> Result<(), StoreError> {
        self.note(pairing.last_change())
    }

    /// The pairing with this id, one that ended too.
    pub async fn pairing<'e, E>(&self, executor: E, id: &PairingId) -> Result<Option<Pairing>, StoreError>
    where
        E: sqlx::Executor<'e, Database = sqlx::Any>,
    {
        let known = self.floors.get(PAIRING, id.as_str());
        let row = sqlx::query("SELECT * FROM pairings WHERE id = $1")
            .bind(id.as_str().to_owned())
            .fetch_optional(executor)
            .await?;
        let Some(row) = row else { return Ok(None) };
        let pairing = Pairing::read(&row, self)?;
        self.check_age(PAIRINGS, &pairing.last_change(), known)?;
        Ok(Some(pairing))
    }

    /// A patient's pairings with devices, the oldest first; those that ended too.
    pub async fn pairings_of_patient<'e, E>(
        &self,
        executor: E,
        patient: &PatientId,
    ) -> Result<Vec<Pairing>, StoreError>
    where
        E: sqlx::Executor<'e, Database = sqlx::Any>,
    {
        let rows = sqlx::query("SELECT * FROM pairings WHERE patient = $1 ORDER BY paired_at_ms, id")
            .bind(patient.as_str().to_owned())
            .fetch_all(executor)
            .await?;
        self.trusted(&rows)
    }

    /// A device's live pairings, the oldest first.
    pub async fn pairings_of_device<'e, E>(
        &self,
        executor: E,
        device: &DeviceId,
    ) -> Result<Vec<Pairing>, StoreError>
    where
        E: sqlx::Executor<'e, Database = sqlx::Any>,
    {
        let rows = sqlx::query(
            "SELECT * FROM pairings WHERE device = $1 AND ended_at_ms IS NULL ORDER BY paired_at_ms, id",
        )
        .bind(device.as_str().to_owned())
        .fetch_all(executor)
        .await?;
        self.trusted(&rows)
    }

    /// The rows that are no older than their last change. One that is, or that another hand wrote, is none: the alarm is in the
    /// log.
    fn trusted(&self, rows: &[AnyRow]) -> Result<Vec<Pairing>, StoreError> {
        let mut pairings = Vec::with_capacity(rows.len());
        for row in rows {
            let read = Pairing::read(row, self).and_then(|pairing| {
                let known = self.floors.get(PAIRING, pairing.id.as_str());
                self.check_age(PAIRINGS, &pairing.last_change(), known).map(|()| pairing)
            });
            match read {
                Ok(pairing) => pairings.push(pairing),
                // A pairing changes once, when it ends: a row below its floor is of one that did.
                Err(StoreError::Tampered(_) | StoreError::SetBack(_)) => {}
                Err(error @ StoreError::Db(_)) => return Err(error),
            }
        }
        Ok(pairings)
    }
}
