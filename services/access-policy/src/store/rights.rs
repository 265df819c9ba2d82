//! Pins and live grants of a patient, read and written together under one MAC.

use hbc_db::row::{self, Reader};
use hbc_db::{DbError, Tx};
use hbc_types::Timestamp;
use hbc_types::account::Custody;
use hbc_types::ids::PatientId;
use hbc_types::keys::PublicKey;
use sqlx::any::AnyRow;

use crate::domain::floors::{self, Change, Changes};
use crate::domain::rights::{Pin, Rights, RootChange, RowProtection};
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

/// The same, maybe older: for changes only. [`commit`] freezes what was set back. Under keys that others took the place of
/// nothing is changed either.
pub async fn stored_rights(
    tx: &mut Tx,
    protection: &RowProtection,
    patient: &PatientId,
) -> Result<Option<Rights>, Error> {
    let rights = rights_under_any_root(tx, protection, patient).await?;
    if let Some(rights) = &rights {
        protection.check_root_age(&rights.pin)?;
    }
    Ok(rights)
}

/// The same, maybe under keys that others took the place of: for what brings later ones.
pub async fn rights_under_any_root(
    tx: &mut Tx,
    protection: &RowProtection,
    patient: &PatientId,
) -> Result<Option<Rights>, Error> {
    let row = sqlx::query(
        "SELECT id, root_public_key, root_fingerprint, custody, consent_version, kek_epoch, frozen_at_ms,
             pinned_at_ms, recovery_public_key, root_certificate, root_signed_at_ms, mac
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
    let certificate = row.text_opt("root_certificate")?;
    let signed_at = row.time_opt("root_signed_at_ms")?;
    Ok(Pin {
        patient: row.parsed("id")?,
        root_public_key: row.bytes("root_public_key")?,
        root_fingerprint: row.parsed("root_fingerprint")?,
        custody: row.code("custody", Custody::parse)?,
        consent_version: row.number("consent_version")?,
        kek_epoch: row.number("kek_epoch")?,
        frozen_at: row.time_opt("frozen_at_ms")?,
        pinned_at: row.time("pinned_at_ms")?,
        recovery: row.array_opt("recovery_public_key")?.map(PublicKey::from_bytes),
        change: signed_at.map(|signed_at| RootChange { certificate, signed_at }),
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
        recovery,
        // The first keys took nobody's place.
        change: _,
    } = pin;
    sqlx::query(
        "INSERT INTO patients (id, root_public_key, root_fingerprint, custody, consent_version, kek_epoch,
             frozen_at_ms, pinned_at_ms, recovery_public_key, mac)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
    )
    .bind(patient.as_str().to_owned())
    .bind(root_public_key.clone())
    .bind(root_fingerprint.to_string())
    .bind(custody.code())
    .bind(row::stored(*consent_version, "consent_version")?)
    .bind(i64::from(*kek_epoch))
    .bind(row::ms(*frozen_at))
    .bind(pinned_at.ms())
    .bind(recovery.map(|key| key.as_bytes().to_vec()))
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
        root_public_key,
        root_fingerprint,
        custody,
        pinned_at,
        recovery,
        change,
    } = &rights.pin;
    let certificate = change.as_ref().and_then(|change| change.certificate.clone());
    let signed_at = change.as_ref().map(|change| change.signed_at);
    let done = sqlx::query(
        "UPDATE patients SET consent_version = $2, kek_epoch = $3, frozen_at_ms = $4, root_public_key = $5,
             root_fingerprint = $6, custody = $7, pinned_at_ms = $8, recovery_public_key = $9, root_certificate = $10,
             root_signed_at_ms = $11, mac = $12
         WHERE id = $1",
    )
    .bind(patient.as_str().to_owned())
    .bind(row::stored(*consent_version, "consent_version")?)
    .bind(i64::from(*kek_epoch))
    .bind(row::ms(*frozen_at))
    .bind(root_public_key.clone())
    .bind(root_fingerprint.to_string())
    .bind(custody.code())
    .bind(pinned_at.ms())
    .bind(recovery.map(|key| key.as_bytes().to_vec()))
    .bind(certificate)
    .bind(row::ms(signed_at))
    .bind(protection.rights(&rights).to_vec())
    .execute(tx)
    .await?;
    DbError::one_row(done.rows_affected())?;
    let root_signed_ms = rights.pin.root_signed_ms();
    if root_signed_ms > floors::root(protection.floors(), &rights.pin.patient) {
        changes.push(Change::Root(rights.pin.patient.clone(), root_signed_ms));
    }
    changes.push(Change::Rights(rights.pin.patient.clone(), rights.pin.consent_version));
    Ok(rights.pin.consent_version)
}
