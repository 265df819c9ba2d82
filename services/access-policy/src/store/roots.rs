//! Root keys that others took the place of.

use hbc_db::Tx;
use hbc_db::row::Reader;
use hbc_types::Timestamp;
use hbc_types::account::Custody;
use hbc_types::ids::PatientId;
use hbc_types::keys::PublicKey;

use crate::domain::rights::{Pin, RowProtection};
use crate::domain::root_claim::Claim;
use crate::error::Error;

/// Keys of a patient that count no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Former {
    /// The root key.
    pub root: PublicKey,
    /// The recovery key beside it.
    pub recovery: Option<PublicKey>,
    /// Who held the root key.
    pub custody: Custody,
    /// Since when they were pinned.
    pub since: Timestamp,
    /// Since when they are not.
    pub until: Timestamp,
    /// What one of them signed of the next ones; none: operators ordered it.
    pub certificate: Option<String>,
}

/// Keeps a claim, in the place of an earlier one.
pub async fn put_claim(tx: &mut Tx, protection: &RowProtection, claim: &Claim) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO root_claims (patient, root_public_key, recovery_public_key, nonce, claimed_at_ms, mac)
         VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (patient) DO UPDATE SET root_public_key = excluded.root_public_key,
             recovery_public_key = excluded.recovery_public_key, nonce = excluded.nonce,
             claimed_at_ms = excluded.claimed_at_ms, mac = excluded.mac",
    )
    .bind(claim.patient.as_str().to_owned())
    .bind(claim.root.as_bytes().to_vec())
    .bind(claim.recovery.map(|key| key.as_bytes().to_vec()))
    .bind(claim.nonce.to_vec())
    .bind(claim.claimed_at.ms())
    .bind(protection.root_claim(claim).to_vec())
    .execute(tx)
    .await?;
    Ok(())
}

/// A patient's claim.
pub async fn claim(
    tx: &mut Tx,
    protection: &RowProtection,
    patient: &PatientId,
) -> Result<Option<Claim>, Error> {
    let row = sqlx::query("SELECT * FROM root_claims WHERE patient = $1")
        .bind(patient.as_str().to_owned())
        .fetch_optional(tx)
        .await?;
    let Some(row) = row else { return Ok(None) };
    let row = Reader(&row);
    let claim = Claim {
        patient: row.parsed("patient")?,
        root: PublicKey::from_bytes(row.array("root_public_key")?),
        recovery: row.array_opt("recovery_public_key")?.map(PublicKey::from_bytes),
        nonce: row.array("nonce")?,
        claimed_at: row.time("claimed_at_ms")?,
    };
    let mac = row.bytes("mac")?;
    protection.check_root_claim(&claim, &mac)?;
    Ok(Some(claim))
}

/// Forgets a patient's claim.
pub async fn remove_claim(tx: &mut Tx, patient: &PatientId) -> Result<(), Error> {
    sqlx::query("DELETE FROM root_claims WHERE patient = $1")
        .bind(patient.as_str().to_owned())
        .execute(tx)
        .await?;
    Ok(())
}

/// Keeps the keys of a pin that counts until now, and what names the next ones.
pub async fn keep(
    tx: &mut Tx,
    before: &Pin,
    certificate: Option<String>,
    now: Timestamp,
) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO former_roots (patient, n, root_public_key, recovery_public_key, custody, since_ms, until_ms, certificate)
         SELECT $1, COALESCE(MAX(n), 0) + 1, $2, $3, $4, $5, $6, $7 FROM former_roots WHERE patient = $1",
    )
    .bind(before.patient.as_str().to_owned())
    .bind(before.root_public_key.clone())
    .bind(before.recovery.map(|key| key.as_bytes().to_vec()))
    .bind(before.custody.code())
    .bind(before.pinned_at.ms())
    .bind(now.ms())
    .bind(certificate)
    .execute(tx)
    .await?;
    Ok(())
}

/// A patient's keys of before, the first of all first.
pub async fn former(tx: &mut Tx, patient: &PatientId) -> Result<Vec<Former>, Error> {
    let rows = sqlx::query("SELECT * FROM former_roots WHERE patient = $1 ORDER BY n")
        .bind(patient.as_str().to_owned())
        .fetch_all(tx)
        .await?;
    let read = |row| {
        let row = Reader(row);
        Ok(Former {
            root: PublicKey::from_bytes(row.array("root_public_key")?),
            recovery: row.array_opt("recovery_public_key")?.map(PublicKey::from_bytes),
            custody: row.code("custody", Custody::parse)?,
            since: row.time("since_ms")?,
            until: row.time("until_ms")?,
            certificate: row.text_opt("certificate")?,
        })
    };
    rows.iter().map(read).collect()
}
