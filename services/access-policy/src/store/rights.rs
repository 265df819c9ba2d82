//! Pins and live grants of a patient, read and written together under one MAC.

use hbc_db::row::{self, Reader};
use hbc_db::{DbError, Tx};
use hbc_types::Timestamp;
use hbc_types::account::Custody;
use hbc_types::ids::PatientId;
use sqlx::any::AnyRow;

use crate::domain::floors::{self, Change, Changes};
use crate::domain::rights::{Pin, Rights, RowProtection};
use crate::error::Error;
use crate::store::grants;

/// The patient's pin and live grants, checked, and no older than the last change; nothing if no root was pinned.
pub async fn rights(
    tx: &mut Tx,
    protection: &RowProtection,
    patient: &PatientId,
) -> Result<Option<Rights>, Error> {
    let rights = stored_rights(tx, protection, patient).await?;
    if let Some(rights) = &rights {
        protection.check_age(rights)?;
    }
    Ok(rights)
}

/// The same, maybe older: for changes only. [`commit`] freezes what was set back.
pub async fn stored_rights(
    tx: &mut Tx,
    protection: &RowProtection,
    patient: &PatientId,
) -> Result<Option<Rights>, Error> {
    let row = sqlx::query(
        "SELECT id, root_public_key, root_fingerprint, custody, consent_version, kek_epoch, frozen_at_ms,
             pinned_at_ms, mac
         FROM patients WHERE id = $1",
    )
    .bind(patient.as_str().to_owned())
    .fetch_optional(&mut *tx)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let rights = Rights { pin: read_pin(&row)?, grants: grants::live(tx, patient).await? };
    protection.check_rights(&rights, &Reader(&row).bytes("mac")?)?;
    Ok(Some(rights))
}

fn read_pin(row: &AnyRow) -> Result<Pin, DbError> {
    let row = Reader(row);
    Ok(Pin {
        patient: row.parsed("id")?,
        root_public_key: row.bytes("root_public_key")?,
        root_fingerprint: row.parsed("root_fingerprint")?,
        custody: row.code("custody", Custody::parse)?,
        consent_version: row.number("consent_version")?,
        kek_epoch: row.number("kek_epoch")?,
        frozen_at: row.time_opt("frozen_at_ms")?,
        pinned_at: row.time("pinned_at_ms")?,
    })
}

/// Pins a patient who was not pinned before.
pub async fn insert_pin(tx: &mut Tx, protection: &RowProtection, pin: &Pin) -> Result<(), Error> {
    let rights = Rights { pin: pin.clone(), grants: Vec::new() };
    let Pin {
        patient,
        root_public_key,
        root_fingerprint,
        custody,
        consent_version,
        kek_epoch,
        frozen_at,
        pinned_at,
    } = pin;
    sqlx::query(
        "INSERT INTO patients (id, root_public_key, root_fingerprint, custody, consent_version, kek_epoch,
             frozen_at_ms, pinned_at_ms, mac)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    )
    .bind(patient.as_str().to_owned())
    .bind(root_public_key.clone())
    .bind(root_fingerprint.to_string())
    .bind(custody.code())
    .bind(row::stored(*consent_version, "consent_version")?)
    .bind(i64::from(*kek_epoch))
    .bind(row::ms(*frozen_at))
    .bind(pinned_at.ms())
    .bind(protection.rights(&rights).to_vec())
    .execute(&mut *tx)
    .await?;
    sqlx::query("INSERT INTO receipt_heads (patient, n, leaf, batched_n) VALUES ($1, 0, NULL, 0)")
        .bind(patient.as_str().to_owned())
        .execute(tx)
        .await?;
    Ok(())
}

/// Stores changed rights: the next consent version, and a MAC over the grants that are still live. The changed grants
/// themselves have been written by [`grants::update`] in the same transaction.
///
/// Rights that are older than the last change were set back, by a restored backup or by another hand: nobody knows what is
/// missing in them, so everything is frozen until the root key lifts it.
pub async fn commit(
    tx: &mut Tx,
    protection: &RowProtection,
    mut rights: Rights,
    (changes, now): (&Changes, Timestamp),
) -> Result<u64, Error> {
    let floor = floors::rights(protection.floors(), &rights.pin.patient);
    if rights.pin.consent_version < floor {
        tracing::error!(
            alarm = "restored_state",
            patient.version = rights.pin.consent_version,
            patient.floor = floor,
            "Rights of a patient were set back: everything of theirs is frozen"
        );
        rights.pin.frozen_at.get_or_insert(now);
    }
    rights.pin.consent_version = rights.pin.consent_version.max(floor) + 1;
    rights.grants.retain(crate::domain::grant::Grant::is_live);
    rights.grants.sort_by(|a, b| a.id.cmp(&b.id));
    let Pin {
        patient,
        consent_version,
        kek_epoch,
        frozen_at,
        // Pinned for ever.
        root_public_key: _,
        root_fingerprint: _,
        custody: _,
        pinned_at: _,
    } = &rights.pin;
    let done = sqlx::query(
        "UPDATE patients SET consent_version = $2, kek_epoch = $3, frozen_at_ms = $4, mac = $5 WHERE id = $1",
    )
    .bind(patient.as_str().to_owned())
    .bind(row::stored(*consent_version, "consent_version")?)
    .bind(i64::from(*kek_epoch))
    .bind(row::ms(*frozen_at))
    .bind(protection.rights(&rights).to_vec())
    .execute(tx)
    .await?;
    DbError::one_row(done.rows_affected())?;
    changes.push(Change::Rights(patient.clone(), *consent_version));
    Ok(*consent_version)
}
